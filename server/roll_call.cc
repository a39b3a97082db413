#include "server/roll_call.h"

#include <utility>

#include "server/rpc_status.h"
#include "server/unary_on.h"

namespace icepie::server {

RollCall* RollCall::Start(SliceControl& control, AdminLog& log, Executor& executor,
                          const icepie::v1::RollWorkersRequest& request) {
  auto* call = new RollCall(control, log, executor, request);
  call->Post(true);
  return call;
}

void RollCall::Post(bool begins) {
  const bool taken = executor_.Run([this, begins] { RunNext(begins); });
  if (taken) return;
  if (!begins) action_.End(NotTaken(executor_));
  Finish(ToGrpcStatus(NotTaken(executor_)));
}

void RollCall::End(const absl::Status& outcome) {
  action_.End(outcome);
  Finish(ToGrpcStatus(outcome));
}

void RollCall::RunNext(bool begins) {
  if (begins) {
    auto domains = control_.BeginRoll(request_, action_);
    if (!domains.ok()) return End(domains.status());
    domains_.assign(domains->begin(), domains->end());
  }
  if (IsCancelled()) return End(absl::CancelledError("the client has gone"));
  if (domains_.empty()) return End(absl::OkStatus());
  auto rolled = control_.RollDomain(domains_.front());
  if (!rolled.ok()) return End(rolled.status());
  domains_.pop_front();
  response_ = *std::move(rolled);
  response_.set_domains_left(static_cast<int32_t>(domains_.size()));
  StartWrite(&response_);
}

bool RollCall::IsCancelled() {
  const MutexLock lock(mutex_);
  return cancelled_;
}

void RollCall::OnWriteDone(bool ok) {
  if (!ok) OnCancel();
  Post(false);
}

// The step under way goes on; the next one ends the call.
void RollCall::OnCancel() {
  const MutexLock lock(mutex_);
  cancelled_ = true;
}

}  // namespace icepie::server
