// Slices that a bad record stopped.
#include <string>

#include "absl/time/clock.h"
#include "core/base/status.h"
#include "slices/role/live_engine.h"
#include "spdlog/spdlog.h"

namespace icepie::slices {

// It would stop there again: another definition, a larger budget, or an acknowledgement lets it go
// on.
void LiveEngine::StopAtRecord(Held& held, const absl::Status& status) {
  const std::string reason = ErrorReason(status);
  // It gets no further by itself, also when it was on its way to where it had been before a
  // restart: what is in front of the record answers.
  if (!held.complete && !held.recompute() && !held.over_slices()) Complete(held);
  held.stopped_for_good = true;
  held.stopped_at_record = true;
  held.stopped_state = reason == "POISON" ? SliceState::kHeld : SliceState::kFaulted;
  held.served->SetFault(held.stopped_state, {reason, std::string(status.message()), absl::Now()},
                        std::nullopt);
}

void LiveEngine::TakeAcknowledged(Held& held) {
  absl::Status status = held.generation->SetAcknowledged(held.spec.acknowledged);
  if (status.ok() && held.served != held.generation->served_ptr()) {
    status = SetAcknowledged(*instance_, held.spec.acknowledged, *held.served);
  }
  if (!status.ok()) spdlog::warn("{}: {}", held.spec.slice, status.ToString());
}

void LiveEngine::TryRecordAgain(Held& held) {
  held.stopped_at_record = false;
  held.stopped_for_good = false;
  held.dirty = true;
  held.next_retry = absl::InfinitePast();
  held.generation->served().SetOverflow({});
  held.served->SetState(held.spec.frozen ? SliceState::kFrozen : SliceState::kStarting);
}

}  // namespace icepie::slices
