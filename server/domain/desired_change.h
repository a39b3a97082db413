// What an operator's verb makes of the desired state of a slice: pure, so that every verb can be
// tried in every state.
#ifndef ICEPIE_SERVER_DOMAIN_DESIRED_CHANGE_H_
#define ICEPIE_SERVER_DOMAIN_DESIRED_CHANGE_H_

#include <google/protobuf/duration.pb.h>

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "icepie/catalog/v1/catalog.pb.h"

namespace icepie::server {

enum class SliceAction { kFreeze, kThaw, kSuspend, kResume, kRestart };

struct SliceVerb {
  SliceAction action;
  std::string actor;
  std::string reason;
  std::optional<absl::Duration> remind_after;  // of kFreeze
};

// For how long a freeze is meant. INVALID_ARGUMENT/PARAMETER_INVALID unless it is more than nothing
// and at most 366 days.
absl::StatusOr<absl::Duration> RemindAfter(const google::protobuf::Duration& asked);

// Ends also what the daemon began by itself: a suspension after too many failures.
bool EndsSuspension(SliceAction action);

// Who asks for what is already so changes nothing of it, not even who wanted it and why; a freeze
// may set another reminder. A suspended slice stays suspended until it is resumed: freezing and
// thawing it change what it returns to then. A freeze that it returns to is that of whoever froze
// it, not of who resumed it.
icepie::v1::DesiredState DesiredAfter(const SliceVerb& verb,
                                      const icepie::catalog::v1::SliceEntry& slice, absl::Time now);

// The freeze has lasted longer than it was meant to.
bool IsFreezeOverdue(const icepie::v1::DesiredState& desired, absl::Time now);

// What is said of the overdue freeze of "domain.slice": who wanted it, why, and what to do.
std::string OverdueMessage(const std::string& slice, const icepie::v1::DesiredState& desired);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_DESIRED_CHANGE_H_
