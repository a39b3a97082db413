#include "server/record/verify_call.h"

#include <memory>
#include <utility>

#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/verify/verification.h"
#include "server/base/rpc_status.h"

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

absl::Status VerifyCall::Run() {
  if (core_->proofs() == nullptr) return absl::FailedPreconditionError("the core keeps no tree");
  ICEPIE_ASSIGN_OR_RETURN(const std::unique_ptr<Verification> verification,
                          core_->proofs()->StartVerification(older_note_));
  icepie::v1::VerifyCoreResponse response;
  absl::Time next = SteadyNow();
  bool more = true;
  while (more) {
    more = verification->Step([this] { return !IsCancelled(); });
    if (IsCancelled()) return absl::CancelledError("the verification was cancelled");
    if (more && SteadyNow() < next) continue;
    next = SteadyNow() + kProgressInterval;
    response.set_position(verification->position());
    response.set_end_position(verification->end_position());
    response.set_bytes(verification->bytes());
    if (!more) SetReport(verification->Finish(), *response.mutable_report());
    ICEPIE_RETURN_IF_ERROR(Send(response));
  }
  return absl::OkStatus();
}

}  // namespace icepie::server
