#include "server/admin_log.h"

#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/file.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

constexpr size_t kRequestBytesMax = 256 << 10;

std::string RecordOf(const std::string& action, const std::string& actor,
                     const google::protobuf::Message& request) {
  std::string json;
  const bool written = google::protobuf::util::MessageToJsonString(request, &json).ok();
  nlohmann::json record;
  record["action"] = action;
  record["actor"] = actor;
  record["request_sha256"] = Sha256Hex(request.SerializeAsString());
  if (written && json.size() <= kRequestBytesMax) {
    record["request"] = nlohmann::json::parse(json, nullptr, false);
  }
  return record.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

absl::Status AdminLog::Append(const std::string& action, const std::string& actor,
                              const google::protobuf::Message& request, const std::string& domain) {
  if (events_ != nullptr) events_->AddAction(action, actor, domain, request);
  if (!core_.GetStream(kAdminStream).ok()) {
    auto created = core_.CreateInternalStream(kAdminStream, PayloadFormat::kJson);
    if (!created.ok()) return Annotate(created.status(), "creating stream _admin");
  }
  NewRecord record;
  record.stream = kAdminStream;
  record.payload = RecordOf(action, actor, request);
  AppendBatch batch;
  batch.records.push_back(std::move(record));
  return core_.AppendAndWait(std::move(batch)).status();
}

}  // namespace icepie::server
