#include "server/record/record_convert.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/base/field_errors.h"
#include "core/base/status.h"
#include "core/block/block.h"

namespace icepie::server {
namespace {

// What google.protobuf.Timestamp allows: the years 1 to 9999.
constexpr int64_t kSecondsMin = -62135596800;
constexpr int64_t kSecondsMax = 253402300799;

absl::Status FieldError(int record, absl::string_view field, absl::string_view reason,
                        absl::string_view what) {
  const std::string name = absl::StrCat("records[", record, "].", field);
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(name, " ", what),
                   ErrorDetail{std::string(reason),
                               {{"record", absl::StrCat(record)}},
                               {{name, std::string(what)}},
                               std::nullopt});
}

void SetTime(int64_t micros, google::protobuf::Timestamp& time) {
  int64_t seconds = micros / 1000000;
  int64_t rest = micros % 1000000;
  if (rest < 0) {
    rest += 1000000;
    --seconds;
  }
  time.set_seconds(seconds);
  time.set_nanos(static_cast<int32_t>(rest * 1000));
}

bool InRange(const google::protobuf::Timestamp& time) {
  return time.seconds() >= kSecondsMin && time.seconds() <= kSecondsMax && time.nanos() >= 0 &&
         time.nanos() <= 999999999;
}

absl::Status CheckRecord(int i, const icepie::v1::Record& record) {
  constexpr absl::string_view kSetByCore = "is set by the core; leave it out";
  if (record.has_position()) return FieldError(i, "position", "PARAMETER_INVALID", kSetByCore);
  if (record.has_offset()) return FieldError(i, "offset", "PARAMETER_INVALID", kSetByCore);
  if (record.has_ingest_time())
    return FieldError(i, "ingest_time", "PARAMETER_INVALID", kSetByCore);
  if (record.has_event_time() && !InRange(record.event_time())) {
    return FieldError(i, "event_time", "PARAMETER_INVALID",
                      "is not between the years 1 and 9999 with 0 to 999,999,999 nanoseconds");
  }
  if (!record.stream().empty() && record.stream().front() == '_') {
    return FieldError(i, "stream", "STREAM_NAME_RESERVED",
                      absl::StrCat("is ", record.stream().substr(0, 64),
                                   ": streams that begin with _ are written by the core only"));
  }
  return absl::OkStatus();
}

NewRecord TakeRecord(icepie::v1::Record& record) {
  NewRecord out;
  out.stream = std::move(*record.mutable_stream());
  if (record.has_key()) out.key = std::move(*record.mutable_key());
  out.payload = std::move(*record.mutable_payload());
  if (record.has_event_time()) {
    out.event_time_us =
        record.event_time().seconds() * 1000000 + record.event_time().nanos() / 1000;
  }
  for (icepie::v1::Header& header : *record.mutable_headers()) {
    out.headers.push_back({std::move(*header.mutable_name()), std::move(*header.mutable_value())});
  }
  return out;
}

absl::StatusOr<AppendCondition> TakeCondition(int i, const icepie::v1::AppendCondition& condition) {
  using Kind = AppendCondition::Kind;
  const std::string name = absl::StrCat("conditions[", i, "]");
  const auto refuse = [&](absl::string_view what) {
    return MakeError(
        absl::StatusCode::kInvalidArgument, absl::StrCat(name, " ", what),
        ErrorDetail{"PARAMETER_INVALID", {}, {{name, std::string(what)}}, std::nullopt});
  };
  switch (condition.what_case()) {
    case icepie::v1::AppendCondition::kEndOffset:
      return AppendCondition{condition.stream(), condition.end_offset(), Kind::kEndOffset};
    case icepie::v1::AppendCondition::kAbsent:
      if (!condition.absent()) return refuse("has absent: false; use present: true");
      return AppendCondition{condition.stream(), 0, Kind::kAbsent};
    case icepie::v1::AppendCondition::kPresent:
      if (!condition.present()) return refuse("has present: false; use absent: true");
      return AppendCondition{condition.stream(), 0, Kind::kPresent};
    default:
      return refuse("asks for nothing: set end_offset, absent or present");
  }
}

std::optional<AppendIdentity> TakeIdentity(const icepie::v1::AppendRecordsRequest& request) {
  switch (request.identity_case()) {
    case icepie::v1::AppendRecordsRequest::kRequestId:
      return AppendIdentity{request.request_id(), "", 0, 0};
    case icepie::v1::AppendRecordsRequest::kProducer: {
      const auto& producer = request.producer();
      return AppendIdentity{"", producer.producer_id(), producer.epoch(), producer.sequence()};
    }
    default:
      return std::nullopt;
  }
}

icepie::v1::PayloadFormat ToProto(PayloadFormat format) {
  switch (format) {
    case PayloadFormat::kJson:
      return icepie::v1::PAYLOAD_FORMAT_JSON;
    case PayloadFormat::kBytes:
      return icepie::v1::PAYLOAD_FORMAT_BYTES;
    case PayloadFormat::kProtobuf:
      return icepie::v1::PAYLOAD_FORMAT_PROTOBUF;
  }
  return icepie::v1::PAYLOAD_FORMAT_UNSPECIFIED;
}

}  // namespace

absl::StatusOr<AppendBatch> TakeBatch(icepie::v1::AppendRecordsRequest& request) {
  AppendBatch batch;
  FieldErrors errors;
  batch.records.reserve(static_cast<size_t>(request.records_size()));
  for (int i = 0; i < request.records_size() && !errors.full(); ++i) {
    icepie::v1::Record& record = *request.mutable_records(i);
    const absl::Status defect = CheckRecord(i, record);
    errors.Add(defect);
    if (defect.ok()) batch.records.push_back(TakeRecord(record));
  }
  for (int i = 0; i < request.conditions_size() && !errors.full(); ++i) {
    absl::StatusOr<AppendCondition> condition = TakeCondition(i, request.conditions(i));
    errors.Add(condition.status());
    if (condition.ok()) batch.conditions.push_back(*std::move(condition));
  }
  if (request.has_producer() && request.producer().producer_id().empty()) {
    constexpr absl::string_view kField = "producer.producer_id";
    errors.Add(MakeError(
        absl::StatusCode::kInvalidArgument, absl::StrCat(kField, " is missing"),
        ErrorDetail{"PARAMETER_INVALID", {}, {{std::string(kField), "is missing"}}, std::nullopt}));
  }
  if (!errors.empty()) return errors.ToStatus();
  batch.identity = TakeIdentity(request);
  batch.validate_only = request.validate_only();
  return batch;
}

void SetResponse(const AppendResult& result, icepie::v1::AppendRecordsResponse& response) {
  response.set_first_position(result.first_position);
  response.set_end_position(result.end_position);
  for (const AppendedRange& range : result.streams) {
    auto* out = response.add_streams();
    out->set_stream(range.stream);
    out->set_first_offset(range.first_offset);
    out->set_end_offset(range.end_offset);
  }
  SetTime(result.ingest_time_us, *response.mutable_ingest_time());
  response.set_replayed(result.replayed);
}

absl::Status SetRecord(absl::string_view stream, const RecordView& view,
                       icepie::v1::Record& record) {
  record.set_stream(stream.data(), stream.size());
  if (view.key) record.set_key(view.key->data(), view.key->size());
  record.set_payload(view.payload.data(), view.payload.size());
  if (view.event_time_us) SetTime(*view.event_time_us, *record.mutable_event_time());
  if (!view.headers.empty()) {
    ICEPIE_ASSIGN_OR_RETURN(std::vector<RecordHeader> headers, DecodeHeaders(view.headers));
    for (RecordHeader& header : headers) {
      auto* out = record.add_headers();
      out->set_name(std::move(header.name));
      out->set_value(std::move(header.value));
    }
  }
  record.set_position(view.position);
  record.set_offset(view.offset);
  SetTime(view.ingest_time_us, *record.mutable_ingest_time());
  return absl::OkStatus();
}

void SetStream(const StreamInfo& info, icepie::v1::Stream& stream) {
  stream.set_name(info.name);
  stream.set_format(ToProto(info.format));
  if (info.schema) {
    stream.mutable_schema()->set_descriptor_set(info.schema->descriptor_set);
    stream.mutable_schema()->set_message(info.schema->message);
  }
  stream.set_end_offset(info.end_offset);
  stream.set_key_path(info.paths.key);
  stream.set_event_time_path(info.paths.event_time);
  SetTime(absl::ToUnixMicros(info.create_time), *stream.mutable_create_time());
}

absl::StatusOr<PayloadFormat> FormatOf(icepie::v1::PayloadFormat format) {
  switch (format) {
    case icepie::v1::PAYLOAD_FORMAT_UNSPECIFIED:
    case icepie::v1::PAYLOAD_FORMAT_JSON:
      return PayloadFormat::kJson;
    case icepie::v1::PAYLOAD_FORMAT_BYTES:
      return PayloadFormat::kBytes;
    case icepie::v1::PAYLOAD_FORMAT_PROTOBUF:
      return PayloadFormat::kProtobuf;
    default:
      return MakeError(
          absl::StatusCode::kInvalidArgument,
          absl::StrCat("payload format ", static_cast<int>(format),
                       " is unknown: use JSON, BYTES or PROTOBUF"),
          ErrorDetail{"PARAMETER_INVALID", {}, {{"format", "is unknown"}}, std::nullopt});
  }
}

}  // namespace icepie::server
