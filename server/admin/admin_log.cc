#include "server/admin/admin_log.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/file.h"
#include "core/base/status.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

using nlohmann::json;

constexpr size_t kRequestBytesMax = 256 << 10;
constexpr size_t kFailedRequestBytesMax = 1 << 10;
constexpr size_t kActorBytesMax = 256;
constexpr size_t kMessageBytesMax = 4096;
constexpr size_t kRefusedMessageBytesMax = 512;

json HeadOf(const AdminRequest& asked) {
  return {{"action", asked.action}, {"actor", asked.actor.substr(0, kActorBytesMax)}};
}

json RequestOf(const AdminRequest& asked, size_t request_bytes_max) {
  json record = HeadOf(asked);
  record["request_sha256"] = Sha256Hex(asked.request.SerializeAsString());
  std::string text;
  if (google::protobuf::util::MessageToJsonString(asked.request, &text).ok() &&
      text.size() <= request_bytes_max) {
    record["request"] = json::parse(text, nullptr, false);
  }
  return record;
}

// What a response says was made, by the names that all of them use.
void AddMade(const google::protobuf::Message& response, json& result) {
  using Field = google::protobuf::FieldDescriptor;
  const auto* descriptor = response.GetDescriptor();
  const auto* reflection = response.GetReflection();
  for (const char* name : {"operation", "revision", "generation", "head_position"}) {
    const Field* field = descriptor->FindFieldByName(name);
    if (field == nullptr || field->is_repeated()) continue;
    if (field->cpp_type() == Field::CPPTYPE_STRING) {
      const std::string value = reflection->GetString(response, field);
      if (!value.empty()) result[name] = value;
    } else if (field->cpp_type() == Field::CPPTYPE_INT64) {
      result[name] = reflection->GetInt64(response, field);
    }
  }
  if (descriptor->full_name() == "google.longrunning.Operation") {
    result["operation"] = reflection->GetString(response, descriptor->FindFieldByName("name"));
  }
}

json ResultOf(const absl::Status& outcome, const google::protobuf::Message* response,
              size_t message_bytes_max = kMessageBytesMax) {
  json result = {{"code", absl::StatusCodeToString(outcome.code())}};
  if (outcome.ok()) {
    if (response != nullptr) AddMade(*response, result);
    return result;
  }
  if (const std::string reason = ErrorReason(outcome); !reason.empty()) result["reason"] = reason;
  result["message"] = std::string(outcome.message().substr(0, message_bytes_max));
  return result;
}

}  // namespace

struct AdminLog::Record {
  json fields;
};

absl::StatusOr<int64_t> AdminLog::Begin(const AdminRequest& asked) {
  if (events_ != nullptr) {
    events_->AddAction(asked.action, asked.actor, asked.domain, asked.request);
  }
  return Append({RequestOf(asked, kRequestBytesMax)});
}

absl::Status AdminLog::End(const AdminRequest& asked, int64_t position, const absl::Status& outcome,
                           const google::protobuf::Message* response) {
  json record = HeadOf(asked);
  record["outcome_of"] = position;
  record["result"] = ResultOf(outcome, response);
  return Append({std::move(record)}).status();
}

absl::Status AdminLog::Refuse(const AdminRequest& asked, const absl::Status& outcome) {
  if (!TakeRefusal()) return absl::OkStatus();
  json record = RequestOf(asked, kFailedRequestBytesMax);
  record["result"] = ResultOf(outcome, nullptr, kRefusedMessageBytesMax);
  return Append({std::move(record)}).status();
}

absl::Status AdminLog::EndAtOnce(const AdminRequest& asked, const absl::Status& outcome,
                                 const google::protobuf::Message* response) {
  json record = RequestOf(asked, outcome.ok() ? kRequestBytesMax : kFailedRequestBytesMax);
  record["result"] = ResultOf(outcome, response);
  return Append({std::move(record)}).status();
}

bool AdminLog::TakeRefusal() {
  const MutexLock lock(mutex_);
  // Until when the refusals recorded so far are paid for, at one in each interval.
  const absl::Time now = now_();
  const absl::Time paid = std::max(refusals_paid_, now) + kRefusalInterval;
  if (paid - now > kRefusalsAtOnce * kRefusalInterval) {
    if (unrecorded_++ == 0) {
      spdlog::warn(
          "admin log: so many requests are refused that only one in {} is recorded; the others are "
          "counted",
          absl::FormatDuration(kRefusalInterval));
    }
    return false;
  }
  refusals_paid_ = paid;
  return true;
}

absl::StatusOr<int64_t> AdminLog::Append(Record record) {
  int64_t unrecorded = 0;
  {
    const MutexLock lock(mutex_);
    unrecorded = std::exchange(unrecorded_, 0);
  }
  if (unrecorded > 0) record.fields["unrecorded_refusals"] = unrecorded;
  auto position = AppendText(record.fields.dump(-1, ' ', false, json::error_handler_t::replace));
  if (!position.ok()) {
    const MutexLock lock(mutex_);
    unrecorded_ += unrecorded;
  }
  return position;
}

absl::StatusOr<int64_t> AdminLog::AppendText(std::string payload) {
  if (!core_.GetStream(kAdminStream).ok()) {
    auto created = core_.CreateInternalStream(kAdminStream, PayloadFormat::kJson);
    if (!created.ok()) return Annotate(created.status(), "creating stream _admin");
  }
  NewRecord record;
  record.stream = kAdminStream;
  record.payload = std::move(payload);
  AppendBatch batch;
  batch.records.push_back(std::move(record));
  ICEPIE_ASSIGN_OR_RETURN(const AppendResult appended, core_.AppendAndWait(std::move(batch)));
  return appended.first_position;
}

}  // namespace icepie::server
