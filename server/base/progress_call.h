// A call that works for long in a thread of an executor and streams its progress.
#ifndef ICEPIE_SERVER_BASE_PROGRESS_CALL_H_
#define ICEPIE_SERVER_BASE_PROGRESS_CALL_H_

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "server/base/executor.h"
#include "server/base/rpc_status.h"

namespace icepie::server {

// Threads: gRPC's, and one of the executor's while it works.
// Lifetime: deletes itself when the call has ended.
template <typename Response>
class ProgressCall : public grpc::ServerWriteReactor<Response> {
 public:
  // RESOURCE_EXHAUSTED/TOO_MANY_CALLS, naming `what`, when the executor has no room.
  void Start(Executor& executor, absl::string_view what) {
    // Nothing of the call is touched behind Finish: OnDone may delete it at once.
    const bool taken = executor.Run([this] { this->Finish(ToGrpcStatus(Run())); });
    if (taken) return;
    this->Finish(
        ToGrpcStatus(MakeError(absl::StatusCode::kResourceExhausted,
                               absl::StrCat("a ", what, " is running already; wait for its end"),
                               ErrorDetail{"TOO_MANY_CALLS", {}, {}, 1000})));
  }

  void OnWriteDone(bool ok) final {
    const MutexLock lock(mutex_);
    writing_ = false;
    cancelled_ = cancelled_ || !ok;
    changed_.SignalAll();
  }
  void OnCancel() final {
    const MutexLock lock(mutex_);
    cancelled_ = true;
  }
  void OnDone() final { delete this; }

 protected:
  // The work, in the executor's thread: sends messages and returns how the call ends.
  virtual absl::Status Run() = 0;

  bool IsCancelled() {
    const MutexLock lock(mutex_);
    return cancelled_;
  }

  // Sends `response`, which must not change meanwhile. CANCELLED when nobody listens any more.
  absl::Status Send(const Response& response) {
    {
      const MutexLock lock(mutex_);
      writing_ = true;
    }
    this->StartWrite(&response);
    const MutexLock lock(mutex_);
    while (writing_) changed_.Wait(mutex_);
    return cancelled_ ? absl::CancelledError("the call was cancelled") : absl::OkStatus();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_PROGRESS_CALL_H_
