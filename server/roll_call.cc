#include "server/roll_call.h"

#include <utility>

#include "server/rpc_status.h"
#include "server/unary_on.h"

namespace icepie::server {

RollCall* RollCall::Start(SliceControl& control, Executor& executor,
                          const icepie::v1::RollWorkersRequest& request) {
  auto* call = new RollCall(control, executor);
  call->Post(true, request);
  return call;
}

void RollCall::Post(bool begins, const icepie::v1::RollWorkersRequest& request) {
  const bool taken = executor_.Run([this, begins, request] { RunNext(begins, request); });
  if (!taken) Finish(ToGrpcStatus(NotTaken(executor_)));
}

void RollCall::RunNext(bool begins, const icepie::v1::RollWorkersRequest& request) {
  if (begins) {
    auto domains = control_.BeginRoll(request);
    if (!domains.ok()) return Finish(ToGrpcStatus(domains.status()));
    domains_.assign(domains->begin(), domains->end());
  }
  if (domains_.empty()) return Finish(grpc::Status::OK);
  auto rolled = control_.RollDomain(domains_.front());
  if (!rolled.ok()) return Finish(ToGrpcStatus(rolled.status()));
  domains_.pop_front();
  response_ = *std::move(rolled);
  response_.set_domains_left(static_cast<int32_t>(domains_.size()));
  StartWrite(&response_);
}

void RollCall::OnWriteDone(bool ok) {
  {
    const MutexLock lock(mutex_);
    ok = ok && !cancelled_;
  }
  if (!ok) return Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the client has gone"));
  Post(false, {});
}

// The step under way goes on; its write then finds the call broken.
void RollCall::OnCancel() {
  const MutexLock lock(mutex_);
  cancelled_ = true;
}

}  // namespace icepie::server
