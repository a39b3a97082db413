#include "server/record/backup_call.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"

namespace icepie::server {
namespace {

constexpr absl::Duration kBackupProgressInterval = absl::Milliseconds(200);

}  // namespace

absl::Status BackupCall::CheckDirectory() const {
  const std::filesystem::path directory = request_.directory();
  if (!directory.is_absolute()) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat("directory: \"", request_.directory(),
                                  "\" is not an absolute path on the daemon's machine"),
                     ErrorDetail{"", {}, {{"directory", "must be an absolute path"}}, {}});
  }
  std::error_code error;
  if (!std::filesystem::exists(directory, error)) return absl::OkStatus();
  if (std::filesystem::is_directory(directory, error) &&
      std::filesystem::is_empty(directory, error)) {
    return absl::OkStatus();
  }
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat(request_.directory(),
                                " is not an empty directory; name one that is empty or new"),
                   "BACKUP_DIRECTORY_NOT_EMPTY", {{"path", request_.directory()}});
}

absl::Status BackupCall::Run() {
  AdminAction action(log_, "BackUpCore", request_.actor(), request_);
  const auto last = BackUp(action);
  action.End(last.status(), last.ok() ? &last->report() : nullptr);
  ICEPIE_RETURN_IF_ERROR(last.status());
  return Send(*last);
}

absl::StatusOr<icepie::v1::BackUpCoreResponse> BackupCall::BackUp(AdminAction& action) {
  ICEPIE_RETURN_IF_ERROR(CheckDirectory());
  // Before the copy, so that the backup itself says who made it.
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  icepie::v1::BackUpCoreResponse message;
  absl::Time next = absl::InfinitePast();
  const auto progress = [&](int64_t done, int64_t total) {
    message.set_done_bytes(done);
    message.set_total_bytes(total);
    if (SteadyNow() < next) return !IsCancelled();
    next = SteadyNow() + kBackupProgressInterval;
    return Send(message).ok();
  };
  ICEPIE_ASSIGN_OR_RETURN(const BackupResult result,
                          core_->BackUpTo(absl::StrCat(request_.directory(), "/core"), progress));
  message.set_done_bytes(result.bytes);
  message.set_total_bytes(result.bytes);
  message.mutable_report()->set_head_position(result.head_position);
  message.mutable_report()->set_root(result.root.data(), result.root.size());
  return message;
}

}  // namespace icepie::server
