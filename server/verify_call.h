// Core.VerifyCore: a verification of the running core, with its progress, as a stream of messages.
#ifndef ICEPIE_SERVER_VERIFY_CALL_H_
#define ICEPIE_SERVER_VERIFY_CALL_H_

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/status/status.h"
#include "core/base/mutex.h"
#include "core/core.h"
#include "core/verification.h"
#include "icepie/v1/core.pb.h"
#include "server/executor.h"

namespace icepie::server {

// Threads: gRPC's, and one of the executor's while it works.
// Lifetime: deletes itself when the call has ended; the core outlives it.
class VerifyCall final : public grpc::ServerWriteReactor<icepie::v1::VerifyCoreResponse> {
 public:
  static VerifyCall* Start(Core* core, Executor& executor,
                           const icepie::v1::VerifyCoreRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { delete this; }

 private:
  VerifyCall(Core* core, std::string older_note)
      : core_(core), older_note_(std::move(older_note)) {}

  absl::Status Run();
  absl::Status Send();  // CANCELLED when nobody listens any more
  bool IsCancelled();

  Core* const core_;
  const std::string older_note_;
  icepie::v1::VerifyCoreResponse response_;  // being sent

  Mutex mutex_;
  CondVar changed_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_VERIFY_CALL_H_
