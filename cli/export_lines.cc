#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "cli/export_file.h"
#include "cli/record_envelope.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::Record;

// A line that icepie import would take as exactly this record.
absl::Status CheckLine(const Record& record) {
  const absl::string_view payload = record.payload();
  const char* what = nullptr;
  if (payload.find('\n') != absl::string_view::npos) what = "has a line end inside";
  if (!payload.empty() && payload.back() == '\r') what = "ends with a carriage return";
  if (absl::StripAsciiWhitespace(payload).empty()) what = "is empty or blank";
  if (what == nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the payload at offset ", record.offset(), " (position ", record.position(), ") of stream ",
      record.stream(), " ", what,
      ", so a plain line cannot hold it; use --envelope, where it is base64, or --format parquet"));
}

}  // namespace

absl::Status WriteLines(RecordFeed& feed, const LineForm& form, std::ostream& out) {
  while (true) {
    ICEPIE_ASSIGN_OR_RETURN(const Record* record, feed.Next());
    if (record == nullptr) break;
    if (form.envelope) {
      out << EnvelopeLine(*record, form.json_payload) << '\n';
    } else {
      ICEPIE_RETURN_IF_ERROR(CheckLine(*record));
      out << record->payload() << '\n';
    }
    if (!out) break;
  }
  out.flush();
  if (!out) return absl::UnavailableError("writing failed; is the disk full?");
  return absl::OkStatus();
}

}  // namespace icepie::cli
