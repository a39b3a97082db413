#include "cli/exporter.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/export_file.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/partial_file.h"
#include "cli/progress.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "slices/reading/json_text.h"

namespace icepie::cli {
namespace {

using icepie::v1::Core;
using icepie::v1::Stream;

absl::StatusOr<std::string> FormatOf(const ExportRequest& request) {
  if (!request.format.empty()) return request.format;
  if (request.path == "-") return std::string("jsonl");
  const std::string path = absl::AsciiStrToLower(request.path);
  for (const char* ending : {".jsonl", ".ndjson", ".json"}) {
    if (absl::EndsWith(path, ending)) return std::string("jsonl");
  }
  if (absl::EndsWith(path, ".parquet")) return std::string("parquet");
  return absl::InvalidArgumentError(
      absl::StrCat(request.path, ": the ending names no format; give --format jsonl or parquet"));
}

class Export {
 public:
  Export(Context& context, ExportRequest request)
      : context_(context),
        request_(std::move(request)),
        progress_(context.terminal, context.options.json) {}

  absl::StatusOr<int> Run() {
    ICEPIE_ASSIGN_OR_RETURN(format_, FormatOf(request_));
    ICEPIE_RETURN_IF_ERROR(CheckTarget());
    Client& client = context_.client();
    icepie::v1::GetStreamRequest get;
    get.set_name(request_.stream);
    ICEPIE_ASSIGN_OR_RETURN(const Stream stream,
                            client.Call(client.core(), &Core::StubInterface::GetStream, get));
    json_payload_ = stream.format() == icepie::v1::PAYLOAD_FORMAT_JSON;
    const icepie::v1::ReadRecordsRequest read = Range(stream);
    CatchInterrupts();
    const absl::Time start = absl::Now();
    const RateMeter meter(0, start);
    RecordFeed feed(client, read, [this, &meter](int64_t done) {
      progress_.Show(State(meter, done), absl::Now());
    });
    const absl::Status written = Write(feed);
    if (feed.records() > 0) progress_.Finish(State(meter, feed.records()));
    if (!written.ok()) return Explain(written, feed);
    return Summary(feed, absl::Now() - start);
  }

 private:
  absl::Status CheckTarget() const {
    if (request_.envelope && format_ != "jsonl") {
      return absl::InvalidArgumentError("--envelope is a form of jsonl; parquet has it all anyway");
    }
    if (request_.path == "-") {
      if (format_ == "jsonl") return absl::OkStatus();
      return absl::InvalidArgumentError("parquet cannot go to standard output; name a file");
    }
    return PartialFile(request_.path).CheckTarget(request_.overwrite);
  }

  // What there is now, so that the end does not move while it is written.
  icepie::v1::ReadRecordsRequest Range(const Stream& stream) {
    icepie::v1::ReadRecordsRequest read;
    read.add_streams(request_.stream);
    read.set_from_offset(request_.from_offset);
    end_offset_ = std::min(request_.end_offset.value_or(stream.end_offset()), stream.end_offset());
    // A beginning beyond the stream's end, or beyond the end asked for, is for the daemon to
    // refuse.
    if (request_.end_offset && *request_.end_offset < request_.from_offset) {
      end_offset_ = *request_.end_offset;
    } else {
      end_offset_ = std::max(end_offset_, request_.from_offset);
    }
    read.set_end_offset(end_offset_);
    read.set_max_records(request_.limit);
    read.set_key_prefix(request_.key_prefix);
    if (!request_.key_prefix.empty()) return read;
    total_ = end_offset_ - request_.from_offset;
    if (request_.limit > 0) total_ = std::min(total_, request_.limit);
    return read;
  }

  absl::Status Write(RecordFeed& feed) {
    const LineForm lines{request_.envelope, json_payload_};
    if (request_.path == "-") return WriteLines(feed, lines, context_.out());
    PartialFile partial(request_.path);
    if (format_ == "parquet") {
      ICEPIE_RETURN_IF_ERROR(WriteParquet(feed, json_payload_, partial.path()));
    } else {
      std::ofstream out(partial.path(), std::ios::binary);
      if (!out) return ErrnoError(errno, absl::StrCat("creating ", partial.path()));
      ICEPIE_RETURN_IF_ERROR(WriteLines(feed, lines, out));
      out.close();
      if (!out) return absl::UnavailableError("writing failed; is the disk full?");
    }
    return partial.MoveToTarget();
  }

  absl::Status Explain(const absl::Status& status, const RecordFeed& feed) const {
    if (request_.path != "-") return Annotate(status, "no file was written");
    return Annotate(status, absl::StrCat("after offset ", feed.last_offset()));
  }

  ProgressState State(const RateMeter& meter, int64_t done) const {
    ProgressState state;
    state.label = absl::StrCat("export ", request_.stream);
    state.done = done;
    state.total = total_;
    meter.Fill(&state, absl::Now());
    return state;
  }

  int Summary(const RecordFeed& feed, absl::Duration elapsed) {
    std::ostream& out = request_.path == "-" ? context_.err() : context_.out();
    const bool limited = request_.limit > 0 && feed.records() == request_.limit;
    const int64_t end_offset = limited ? feed.last_offset() + 1 : end_offset_;
    const double seconds = std::max(absl::ToDoubleSeconds(elapsed), 1e-6);
    if (context_.options.json) {
      slices::JsonText text(1 << 20);
      text.Add("{\"stream\": ");
      text.AddString(request_.stream);
      text.Add(", \"file\": ");
      text.AddString(request_.path);
      text.Add(absl::StrCat(", \"format\": \"", format_, "\", \"records\": ", feed.records(),
                            ", \"payload_bytes\": ", feed.payload_bytes(),
                            ", \"from_offset\": ", request_.from_offset,
                            ", \"end_offset\": ", end_offset, ", \"seconds\": ", seconds, "}\n"));
      out << std::move(text).Take();
      return kExitDone;
    }
    out << FormatCounted(feed.records(), "record") << " of " << request_.stream << " into "
        << request_.path << " in " << FormatElapsed(elapsed) << " · "
        << FormatRate(static_cast<double>(feed.records()) / seconds) << " · end offset "
        << FormatCount(end_offset) << '\n';
    return kExitDone;
  }

  Context& context_;
  const ExportRequest request_;
  Progress progress_;
  std::string format_;
  bool json_payload_ = true;
  int64_t end_offset_ = 0;
  int64_t total_ = -1;
};

}  // namespace

absl::StatusOr<int> RunExport(Context& context, ExportRequest request) {
  return Export(context, std::move(request)).Run();
}

}  // namespace icepie::cli
