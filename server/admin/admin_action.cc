#include "server/admin/admin_action.h"

#include <google/protobuf/descriptor.h>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

// It asks what would happen, no more.
bool IsOnlyChecked(const google::protobuf::Message& request) {
  const auto* field = request.GetDescriptor()->FindFieldByName("validate_only");
  return field != nullptr && field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_BOOL &&
         request.GetReflection()->GetBool(request, field);
}

// Nothing ran, and there is nothing to say of it.
bool IsNoAction(const absl::Status& outcome, const google::protobuf::Message& request) {
  return outcome.ok() || absl::IsInvalidArgument(outcome) || IsOnlyChecked(request);
}

}  // namespace

AdminAction::AdminAction(AdminLog* log, std::string name, std::string actor,
                         const google::protobuf::Message& request)
    : log_(log), name_(std::move(name)), actor_(std::move(actor)), request_(request) {}

absl::Status AdminAction::Begin(const std::string& domain) {
  if (log_ == nullptr || phase_ != Phase::kAsked) return absl::OkStatus();
  const absl::StatusOr<int64_t> begun = log_->Begin({name_, actor_, request_, domain});
  phase_ = begun.ok() ? Phase::kBegun : Phase::kUnrecorded;
  position_ = begun.value_or(-1);
  return begun.status();
}

void AdminAction::BeginAnyhow(const std::string& domain) {
  const absl::Status begun = Begin(domain);
  if (!begun.ok()) spdlog::warn("admin log: {}", begun.ToString());
}

std::string AdminAction::RequestDigest() const {
  using Field = google::protobuf::FieldDescriptor;
  const Field* id = request_.GetDescriptor()->FindFieldByName("request_id");
  const bool has_id = id != nullptr && id->cpp_type() == Field::CPPTYPE_STRING &&
                      !request_.GetReflection()->GetString(request_, id).empty();
  return has_id ? Sha256Hex(absl::StrCat(name_, " ", request_.SerializeAsString())) : "";
}

void AdminAction::End(const absl::Status& outcome, const google::protobuf::Message* response) {
  const Phase phase = std::exchange(phase_, Phase::kEnded);
  if (log_ == nullptr || phase == Phase::kEnded) return;
  if (phase == Phase::kAsked && IsNoAction(outcome, request_)) return;
  const AdminRequest asked{name_, actor_, request_, ""};
  const absl::Status ended = phase == Phase::kBegun ? log_->End(asked, position_, outcome, response)
                             : phase == Phase::kAsked ? log_->Refuse(asked, outcome)
                                                      : log_->EndAtOnce(asked, outcome, response);
  if (!ended.ok()) {
    spdlog::warn("admin log: how {} of {} ended is not recorded: {}", name_, actor_,
                 ended.ToString());
  }
}

}  // namespace icepie::server
