#include "server/domain/desired_change.h"

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/proto_time.h"
#include "server/domain/catalog.h"
#include "server/domain/live_report.h"

namespace icepie::server {
namespace {

using icepie::v1::DesiredState;

constexpr absl::Duration kRemindMax = absl::Hours(24 * 366);

DesiredState::Mode ModeAfter(SliceAction action, const DesiredState& before) {
  const bool suspended = before.mode() == DesiredState::SUSPEND;
  switch (action) {
    case SliceAction::kFreeze:
      return suspended ? DesiredState::SUSPEND : DesiredState::FREEZE;
    case SliceAction::kThaw:
      return suspended ? DesiredState::SUSPEND : DesiredState::RUN;
    case SliceAction::kSuspend:
      return DesiredState::SUSPEND;
    case SliceAction::kResume:
      return suspended ? before.resume_to() : before.mode();
    default:
      return before.mode();
  }
}

DesiredState::Mode ResumeToAfter(SliceAction action, const DesiredState& before) {
  if (before.mode() != DesiredState::SUSPEND) return before.mode();
  if (action == SliceAction::kFreeze) return DesiredState::FREEZE;
  return action == SliceAction::kThaw ? DesiredState::RUN : before.resume_to();
}

// Suspended, and frozen once that has ended.
bool IsFrozenUnderneath(const DesiredState& desired) {
  return desired.mode() == DesiredState::SUSPEND && desired.resume_to() == DesiredState::FREEZE;
}

using Word = DesiredState::Freeze;  // who wanted it, why and since when

Word WordOf(const DesiredState& desired) {
  Word word;
  word.set_actor(desired.actor());
  word.set_reason(desired.reason());
  *word.mutable_since() = desired.since();
  return word;
}

Word WordOf(const SliceVerb& verb, absl::Time now) {
  Word word;
  word.set_actor(ActorOr(verb.actor));
  word.set_reason(verb.reason);
  *word.mutable_since() = ToProto(now);
  return word;
}

}  // namespace

absl::StatusOr<absl::Duration> RemindAfter(const google::protobuf::Duration& asked) {
  const absl::Duration after = FromProto(asked);
  if (after > absl::ZeroDuration() && after <= kRemindMax) return after;
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat("remind_after: ", absl::FormatDuration(after),
                                " is not between 0 and 366 days; say for how long the freeze is "
                                "meant, as in 2h"),
                   "PARAMETER_INVALID", {{"field", "remind_after"}});
}

bool EndsSuspension(SliceAction action) {
  return action == SliceAction::kThaw || action == SliceAction::kResume ||
         action == SliceAction::kRestart;
}

DesiredState DesiredAfter(const SliceVerb& verb, const icepie::catalog::v1::SliceEntry& slice,
                          absl::Time now) {
  const DesiredState& before = slice.desired();
  DesiredState after = before;
  const bool ends = EndsSuspension(verb.action) && SuspensionInForce(slice) != nullptr;
  if (verb.action == SliceAction::kRestart || ends) after.set_restarts(before.restarts() + 1);
  after.set_mode(ModeAfter(verb.action, before));
  const bool suspended = after.mode() == DesiredState::SUSPEND;
  after.set_resume_to(suspended ? ResumeToAfter(verb.action, before) : DesiredState::RUN);
  const bool frozen = IsFrozenUnderneath(after) || after.mode() == DesiredState::FREEZE;
  if (!frozen) after.clear_remind_time();
  if (frozen && verb.remind_after) *after.mutable_remind_time() = ToProto(now + *verb.remind_after);
  if (!IsFrozenUnderneath(after)) {
    after.clear_freeze();
  } else if (!IsFrozenUnderneath(before)) {
    *after.mutable_freeze() =
        before.mode() == DesiredState::FREEZE ? WordOf(before) : WordOf(verb, now);
  }
  if (after.mode() == before.mode()) return after;
  const bool returns =
      after.mode() == DesiredState::FREEZE && IsFrozenUnderneath(before) && before.has_freeze();
  const Word word = returns ? before.freeze() : WordOf(verb, now);
  after.set_actor(word.actor());
  after.set_reason(word.reason());
  *after.mutable_since() = word.since();
  return after;
}

bool IsFreezeOverdue(const DesiredState& desired, absl::Time now) {
  return desired.mode() == DesiredState::FREEZE && desired.has_remind_time() &&
         FromProto(desired.remind_time()) <= now;
}

std::string OverdueMessage(const std::string& slice, const DesiredState& desired) {
  const std::string until =
      absl::FormatTime(absl::RFC3339_sec, FromProto(desired.remind_time()), absl::UTCTimeZone());
  return absl::StrCat("frozen by ", desired.actor(), ", meant to last until ", until, ": ",
                      desired.reason(), "; icepie slice thaw ", slice,
                      ", or say for how much longer: icepie slice freeze ", slice,
                      " --reason WHY --for 2h");
}

}  // namespace icepie::server
