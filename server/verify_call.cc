#include "server/verify_call.h"

#include <memory>
#include <utility>

#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "server/rpc_status.h"

namespace icepie::server {
namespace {

using icepie::v1::VerificationAnswer;
using State = icepie::VerificationAnswer::State;

constexpr absl::Duration kProgressInterval = absl::Milliseconds(200);

void SetAnswer(const icepie::VerificationAnswer& answer, VerificationAnswer& message) {
  message.set_state(answer.state == State::kHolds   ? VerificationAnswer::STATE_HOLDS
                    : answer.state == State::kFails ? VerificationAnswer::STATE_FAILS
                                                    : VerificationAnswer::STATE_NOT_CHECKED);
  message.set_detail(answer.detail);
}

void SetReport(const VerificationReport& report, icepie::v1::VerificationReport& message) {
  SetAnswer(report.bytes_rehashed, *message.mutable_bytes_rehashed());
  SetAnswer(report.tree_recomputed, *message.mutable_tree_recomputed());
  SetAnswer(report.consistent, *message.mutable_consistent());
  message.set_finding_count(report.finding_count);
  for (const VerificationFinding& finding : report.findings) {
    auto* added = message.add_findings();
    added->set_position(finding.position);
    added->set_end_position(finding.end_position);
    added->set_what(finding.what);
  }
}

}  // namespace

VerifyCall* VerifyCall::Start(Core* core, Executor& executor,
                              const icepie::v1::VerifyCoreRequest& request) {
  auto* call = new VerifyCall(core, request.older_checkpoint());
  // Nothing of the call is touched behind Finish: OnDone may delete it at once.
  const bool taken = executor.Run([call] { call->Finish(ToGrpcStatus(call->Run())); });
  if (!taken) {
    call->Finish(ToGrpcStatus(MakeError(absl::StatusCode::kResourceExhausted,
                                        "a verification is running already; wait for its end",
                                        ErrorDetail{"TOO_MANY_CALLS", {}, {}, 1000})));
  }
  return call;
}

bool VerifyCall::IsCancelled() {
  const MutexLock lock(mutex_);
  return cancelled_;
}

absl::Status VerifyCall::Run() {
  if (core_->proofs() == nullptr) return absl::FailedPreconditionError("the core keeps no tree");
  ICEPIE_ASSIGN_OR_RETURN(const std::unique_ptr<Verification> verification,
                          core_->proofs()->StartVerification(older_note_));
  absl::Time next = SteadyNow();
  bool more = true;
  while (more) {
    more = verification->Step();
    if (IsCancelled()) return absl::CancelledError("the verification was cancelled");
    if (more && SteadyNow() < next) continue;
    next = SteadyNow() + kProgressInterval;
    response_.set_position(verification->position());
    response_.set_end_position(verification->end_position());
    response_.set_bytes(verification->bytes());
    if (!more) SetReport(verification->Finish(), *response_.mutable_report());
    ICEPIE_RETURN_IF_ERROR(Send());
  }
  return absl::OkStatus();
}

absl::Status VerifyCall::Send() {
  {
    const MutexLock lock(mutex_);
    writing_ = true;
  }
  StartWrite(&response_);
  const MutexLock lock(mutex_);
  while (writing_) changed_.Wait(mutex_);
  return cancelled_ ? absl::CancelledError("the verification was cancelled") : absl::OkStatus();
}

void VerifyCall::OnWriteDone(bool ok) {
  const MutexLock lock(mutex_);
  writing_ = false;
  cancelled_ = cancelled_ || !ok;
  changed_.SignalAll();
}

void VerifyCall::OnCancel() {
  const MutexLock lock(mutex_);
  cancelled_ = true;
}

}  // namespace icepie::server
