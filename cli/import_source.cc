#include "cli/import_source.h"

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cli/import_jsonl.h"
#include "cli/import_table.h"

namespace icepie::cli {
namespace {

absl::StatusOr<std::string> FormatOf(const ImportFile& file) {
  if (!file.format.empty()) return file.format;
  if (file.path == "-") return std::string("jsonl");
  const std::string path = absl::AsciiStrToLower(file.path);
  for (const char* ending : {".jsonl", ".ndjson", ".json"}) {
    if (absl::EndsWith(path, ending)) return std::string("jsonl");
  }
  if (absl::EndsWith(path, ".csv") || absl::EndsWith(path, ".tsv")) return std::string("csv");
  if (absl::EndsWith(path, ".parquet")) return std::string("parquet");
  return absl::InvalidArgumentError(
      absl::StrCat(file.path, ": the ending names no format; give --format jsonl, csv or parquet"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ImportSource>> ImportSource::Open(const ImportFile& file) {
  absl::StatusOr<std::string> format = FormatOf(file);
  if (!format.ok()) return format.status();
  if (file.envelope && (*format != "jsonl" || !file.event_time.empty())) {
    return absl::InvalidArgumentError(
        "--envelope is for JSONL, and holds event times itself: without --event-time");
  }
  if (*format == "jsonl") return OpenJsonLines(file);
  if (*format == "csv" || *format == "parquet") return OpenTable(file, *format);
  return absl::InvalidArgumentError(
      absl::StrCat("format \"", *format, "\" is not known (have: jsonl, csv, parquet)"));
}

void SetEventTime(int64_t micros, icepie::v1::Record* record) {
  int64_t seconds = micros / 1'000'000;
  int64_t rest = micros % 1'000'000;
  if (rest < 0) {
    rest += 1'000'000;
    --seconds;
  }
  record->mutable_event_time()->set_seconds(seconds);
  record->mutable_event_time()->set_nanos(static_cast<int32_t>(rest * 1000));
}

}  // namespace icepie::cli
