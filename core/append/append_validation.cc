#include "core/append/append_validation.h"

#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/append/json_validation.h"
#include "core/append/payload_paths.h"
#include "core/base/field_errors.h"
#include "core/base/status.h"

namespace icepie {
namespace {

constexpr int64_t kHeaderOverheadBytes = 16;

absl::Status RecordError(size_t record, absl::string_view field, absl::string_view reason,
                         const std::string& message, const Stream* stream) {
  ErrorDetail detail;
  detail.reason = std::string(reason);
  detail.metadata["record"] = absl::StrCat(record);
  if (stream != nullptr) detail.metadata["stream"] = stream->name;
  detail.violations.push_back(
      {absl::StrCat("records[", record, "]", field.empty() ? "" : ".", field), message});
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat("record ", record, " of the batch: ", message), detail);
}

absl::Status CheckCount(absl::Span<const NewRecord> records, const CoreOptions& limits) {
  if (records.empty()) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     "the batch has no records; send at least one", "BATCH_EMPTY");
  }
  if (static_cast<int64_t>(records.size()) > limits.batch_records_max) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat("the batch has ", records.size(), " records, ",
                                  limits.batch_records_max, " are allowed; split it"),
                     "BATCH_TOO_LARGE", {{"limit", absl::StrCat(limits.batch_records_max)}});
  }
  return absl::OkStatus();
}

absl::Status CheckRecordBytes(size_t i, int64_t bytes, const CoreOptions& limits) {
  if (bytes <= limits.record_bytes_max) return absl::OkStatus();
  return RecordError(i, "", "RECORD_TOO_LARGE",
                     absl::StrCat("has ", bytes, " bytes, ", limits.record_bytes_max,
                                  " are allowed; store the rest elsewhere and refer to it"),
                     nullptr);
}

absl::Status CheckBytes(absl::Span<const NewRecord> records, const CoreOptions& limits) {
  int64_t total = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    const int64_t bytes = AppendBytes(records[i]);
    ICEPIE_RETURN_IF_ERROR(CheckRecordBytes(i, bytes, limits));
    total += bytes;
  }
  if (total <= limits.batch_bytes_max) return absl::OkStatus();
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat("the batch has ", total, " bytes, ", limits.batch_bytes_max,
                                " are allowed; split it"),
                   "BATCH_TOO_LARGE", {{"limit", absl::StrCat(limits.batch_bytes_max)}});
}

absl::StatusOr<Stream*> FindStream(size_t i, const NewRecord& record,
                                   const StreamRegistry& streams) {
  absl::StatusOr<Stream*> stream = streams.Find(record.stream);
  if (stream.ok()) return stream;
  return WithField(stream.status(), absl::StrCat("records[", i, "].stream"));
}

absl::Status CheckPayload(size_t i, const NewRecord& record, const Stream& stream) {
  if (stream.format != PayloadFormat::kJson) return absl::OkStatus();
  const std::optional<JsonDefect> defect = FindJsonDefect(record.payload);
  if (!defect) return absl::OkStatus();
  return RecordError(i, "payload", "PAYLOAD_INVALID",
                     absl::StrCat("payload is not one well-formed JSON value at byte ",
                                  defect->place, ": ", defect->what, "; stream ", stream.name,
                                  " takes JSON only, nothing of the batch was stored"),
                     &stream);
}

}  // namespace

int64_t AppendBytes(const NewRecord& record) {
  auto bytes = static_cast<int64_t>(record.payload.size());
  if (record.key) bytes += static_cast<int64_t>(record.key->size());
  for (const RecordHeader& header : record.headers) {
    bytes += kHeaderOverheadBytes + static_cast<int64_t>(header.name.size() + header.value.size());
  }
  return bytes;
}

int64_t AppendBytes(absl::Span<const NewRecord> records) {
  int64_t bytes = 0;
  for (const NewRecord& record : records) bytes += AppendBytes(record);
  return bytes;
}

namespace {

// The first defect of a batch of `records`.
absl::StatusOr<std::vector<Stream*>> CheckRecords(absl::Span<const NewRecord> records,
                                                  const CoreOptions& limits,
                                                  const StreamRegistry& streams) {
  ICEPIE_RETURN_IF_ERROR(CheckBytes(records, limits));
  std::vector<Stream*> found;
  found.reserve(records.size());
  for (size_t i = 0; i < records.size(); ++i) {
    const NewRecord& record = records[i];
    if (!found.empty() && found.back()->name == record.stream) {
      found.push_back(found.back());
    } else {
      ICEPIE_ASSIGN_OR_RETURN(Stream * stream, FindStream(i, record, streams));
      found.push_back(stream);
    }
    ICEPIE_RETURN_IF_ERROR(CheckPayload(i, record, *found.back()));
  }
  return found;
}

// Of one record by itself.
absl::Status DefectOf(size_t i, const NewRecord& record, const CoreOptions& limits,
                      const StreamRegistry& streams) {
  ICEPIE_RETURN_IF_ERROR(CheckRecordBytes(i, AppendBytes(record), limits));
  ICEPIE_ASSIGN_OR_RETURN(const Stream* stream, FindStream(i, record, streams));
  ICEPIE_RETURN_IF_ERROR(CheckPayload(i, record, *stream));
  const std::shared_ptr<const PayloadPaths> paths = stream->paths();
  if (!paths) return absl::OkStatus();
  NewRecord filled = record;
  return FillFromPayload(*paths, i, filled);
}

}  // namespace

absl::StatusOr<std::vector<Stream*>> ValidateRecords(absl::Span<const NewRecord> records,
                                                     const CoreOptions& limits,
                                                     const StreamRegistry& streams) {
  ICEPIE_RETURN_IF_ERROR(CheckCount(records, limits));
  absl::StatusOr<std::vector<Stream*>> found = CheckRecords(records, limits, streams);
  const bool is_of_records = !found.ok() && ErrorReason(found.status()) != "BATCH_TOO_LARGE";
  if (!is_of_records) return found;
  FieldErrors errors;
  const std::string* missing = nullptr;  // stream, which has been said
  for (size_t i = 0; i < records.size() && !errors.full(); ++i) {
    if (missing != nullptr && records[i].stream == *missing) continue;
    const absl::Status defect = DefectOf(i, records[i], limits, streams);
    missing = absl::IsNotFound(defect) ? &records[i].stream : nullptr;
    errors.Add(defect);
  }
  // The stream that was missing may have been created meanwhile.
  return errors.empty() ? found.status() : errors.ToStatus();
}

}  // namespace icepie
