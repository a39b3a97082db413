// Core.BackUpCore: a backup of the running core, with its progress, as a stream of messages.
#ifndef ICEPIE_SERVER_RECORD_BACKUP_CALL_H_
#define ICEPIE_SERVER_RECORD_BACKUP_CALL_H_

#include <utility>

#include "core/core.h"
#include "icepie/v1/core.pb.h"
#include "server/admin/admin_action.h"
#include "server/base/progress_call.h"

namespace icepie::server {

// Lifetime: the core and the log outlive it; there may be no log.
class BackupCall final : public ProgressCall<icepie::v1::BackUpCoreResponse> {
 public:
  BackupCall(Core* core, AdminLog* log, icepie::v1::BackUpCoreRequest request)
      : core_(core), log_(log), request_(std::move(request)) {}

 private:
  absl::Status Run() override;
  absl::StatusOr<icepie::v1::BackUpCoreResponse> BackUp(AdminAction& action);
  absl::Status CheckDirectory() const;

  Core* const core_;
  AdminLog* const log_;
  const icepie::v1::BackUpCoreRequest request_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_BACKUP_CALL_H_
