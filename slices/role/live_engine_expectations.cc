// When expectations are checked and what follows. Every copy of a slice's state is checked before
// it becomes a snapshot; those that hold row by row are checked in each batch, too, where the rows
// that it changes can be had, and a batch that breaks one of severity error is undone. A failure of
// severity error holds the slice: it applies nothing more and answers from its last good snapshot
// until the expectation is changed or waived and a check of the rows has passed. A slice that has
// no snapshot yet answers nothing before its first check.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "slices/apply/slice_fault.h"
#include "slices/apply/slice_log.h"
#include "slices/expectation/expectation_store.h"
#include "slices/plan/sql_binding.h"
#include "slices/role/live_engine.h"

namespace icepie::slices {
namespace {

// A check that came to nothing is tried again so much later.
constexpr absl::Duration kCheckRetry = absl::Seconds(2);

ExpectationTarget TargetIn(const ServingSet& slices, const std::string& slice, int64_t position) {
  const std::shared_ptr<ServedSlice> served = slices.Find(slice);
  const auto database = served == nullptr ? nullptr : served->database();
  if (database == nullptr) return {"", absl::StrCat("slice ", slice, " has no rows yet"), nullptr};
  if (served->applied_position() < position) {
    return {"",
            absl::StrCat("slice ", slice, " stands at position ", served->applied_position(),
                         ", behind ", position),
            nullptr};
  }
  return {absl::StrCat(QuoteIdentifier(database->alias()), ".main.__result"), "", database};
}

}  // namespace

SnapshotCheck LiveEngine::CheckOf(const Held& held) const {
  if (held.gate == nullptr || held.gate->empty()) return nullptr;
  return [this, spec = held.spec, gate = held.gate, limit = query_timeout_](
             DuckConnection& connection, const std::string& alias, SnapshotManifest& manifest) {
    ExpectationScope scope;
    scope.slice = spec.slice;
    scope.generation = spec.Id();
    scope.relation = absl::StrCat(QuoteIdentifier(alias), ".main.__result");
    scope.position = manifest.progress.applied_position;
    scope.limit = limit;
    scope.grace = options_.interrupt_grace;
    scope.on_stuck = HoldFor(spec, gate, scope.position);
    scope.find_target = [this, position = scope.position](const std::string& to) {
      return TargetIn(serving_, to, position);
    };
    return gate->Check(connection, scope, manifest.expectations);
  };
}

// The process must end, and the next one would do the same: it is told by the hold file. So no
// record is suspected of what the expectation does.
OnStuckCheck LiveEngine::HoldFor(const GenerationSpec& spec,
                                 const std::shared_ptr<ExpectationGate>& gate,
                                 int64_t position) const {
  const std::string path = HoldPath(store_.directory(), spec.slice, spec.number);
  return [this, slice = spec.slice, path, gate, position](const ExpectationPlan& expectation,
                                                          const std::string& why) {
    HoldForEndless(path, slice, *gate, expectation, position);
    options_.on_fatal(why);
  };
}

void LiveEngine::CheckBatches(Held& held) {
  held.generation->SetBatchCheck(
      [this, spec = held.spec, gate = held.gate](DuckConnection& connection,
                                                 const std::string& rows, int64_t position) {
        if (gate->empty()) return absl::OkStatus();
        BatchCheckScope scope;
        scope.slice = spec.slice;
        scope.generation = spec.Id();
        scope.position = position;
        scope.limit = query_timeout_;
        scope.watch = &batch_checks_;
        scope.on_stuck = HoldFor(spec, gate, position);
        return gate->CheckBatch(connection, rows, scope);
      });
}

void LiveEngine::OpenExpectations(Held& held) {
  const auto hold = ReadHold(HoldPath(store_.directory(), held.spec.slice, held.spec.number));
  if (hold) held.gate->Restore(hold->results);
  held.served->SetExpectations(held.gate->results());
  const std::vector<ExpectationResult> failing = held.gate->Failing(absl::Now());
  if (hold && !failing.empty()) return HoldBack(held, failing);
  if (!held.gate->holds() || (held.complete && !hold)) return;
  held.unconfirmed = true;
  if (hold) held.confirm_at = hold->position;
  if (held.complete) AnswerFromSnapshot(held);
}

void LiveEngine::StepExpectations() {
  const absl::Time now = absl::Now();
  for (auto& held : held_) {
    if (held->gate == nullptr) continue;
    if (held->redefine && !held->in_run) Redefine(*held);
    AnswerFromNewer(*held, now);
    if (held->gate->notes() != held->notes_seen) {
      held->notes_seen = held->gate->notes();
      held->served->SetExpectations(held->gate->results());
    }
    if (held->gate->rounds() != held->rounds_seen) {
      TakeResults(*held);
    } else if (held->unconfirmed && !held->held_back && !held->gate->holds()) {
      Confirm(*held);  // its expectations are gone
    } else if (!held->unconfirmed && !held->gate->Failing(now).empty()) {
      held->recheck = true;
    }
  }
}

void LiveEngine::TakeResults(Held& held) {
  held.rounds_seen = held.gate->rounds();
  held.recheck = false;
  held.generation->served().SetExpectations(held.gate->results());
  held.served->SetExpectations(held.gate->results());
  const std::vector<ExpectationResult> failing = held.gate->Failing(absl::Now());
  if (!failing.empty()) {
    if (!held.held_back) HoldBack(held, failing);
    PublishServing();
    return;
  }
  const absl::Status undecided = held.gate->undecided();
  if (!undecided.ok()) return CheckWasStopped(held, undecided);
  held.checks_stopped = 0;
  if (held.unconfirmed && !held.held_back) Confirm(held);
}

void LiveEngine::CheckAtOnce(Held& held) {
  held.checks_stopped = 0;
  held.next_check = absl::InfinitePast();
}

// It would take as much again: others of the domain need the memory and the snapshots' thread, too.
// A slice whose own rows were answered from before goes on; it only is not saved.
void LiveEngine::CheckWasStopped(Held& held, const absl::Status& why) {
  const absl::Duration delay = std::max(kCheckRetry, RetryDelay(++held.checks_stopped));
  held.next_check = absl::Now() + delay;
  if (!held.unconfirmed || held.held_back || held.spec.frozen) return;
  held.served->SetFault(SliceState::kFaulted, MakeFault(why, ""), held.next_check);
}

void LiveEngine::HoldBack(Held& held, const std::vector<ExpectationResult>& failing) {
  const std::string name = absl::StrCat(options_.domain, ".", held.spec.slice);
  const std::string text = FailureText(failing);
  SliceError(held.spec.slice, "generation {} is held: {}", held.spec.number, text);
  held.held_back = true;
  held.unconfirmed = true;
  held.stopped_for_good = true;
  held.stopped_state = SliceState::kHeld;
  held.track = nullptr;
  // A batch that broke it was undone.
  held.confirm_at = std::min(failing.front().position, held.generation->position());
  recomputes_->Interrupt(held.generation.get());
  const std::string path = HoldPath(store_.directory(), held.spec.slice, held.spec.number);
  const absl::Status written =
      WriteHold(path, {held.confirm_at, absl::Now(), held.gate->results()});
  if (!written.ok()) SliceWarn(held.spec.slice, "the hold is not kept: {}", written.ToString());
  AnswerFromSnapshot(held);
  held.served->SetFault(
      held.spec.frozen ? SliceState::kFrozen : SliceState::kHeld,
      {"EXPECTATION_FAILED",
       absl::StrCat(text, "; change the definition, or waive it: icepie slice expect ", name,
                    " --waive ", failing.front().name, " --reason …"),
       absl::Now()},
      std::nullopt);
}

void LiveEngine::HeldByBatch(Held& held) {
  const std::vector<ExpectationResult> failing = held.gate->Failing(absl::Now());
  held.generation->served().SetExpectations(held.gate->results());
  if (failing.empty()) return;  // waived in this moment: the batch is tried again
  HoldBack(held, failing);
  PublishServing();
}

// Its own rows are kept, but not shown. Those of a snapshot that are shown go only when a newer one
// is open.
void LiveEngine::AnswerFromSnapshot(Held& held) {
  held.saved_to = held.generation->served().snapshot_position();
  auto opened = OpenLast(held.spec);
  const bool later = IsPassing(opened.status());
  held.next_look = later ? absl::Now() + kCheckRetry : absl::InfiniteFuture();
  if (opened.ok()) {
    held.served = *std::move(opened);
    SetAcknowledged(*instance_, held.spec.acknowledged, *held.served).IgnoreError();
  } else if (held.served != held.generation->served_ptr() && held.served->database() != nullptr) {
    SliceWarn(held.spec.slice, "it goes on answering from an older snapshot: {}",
              opened.status().ToString());
  } else {
    SliceWarn(held.spec.slice, "nothing to answer from: {}", opened.status().ToString());
    held.served = held.generation->served_ptr();
    held.served->SetDatabase(nullptr);
  }
  held.served->SetServing(held.spec.serving);
  held.served->SetExpectations(held.gate->results());
}

// A snapshot that was being published when the slice was held is there now, or what kept it from
// being opened may have passed.
void LiveEngine::AnswerFromNewer(Held& held, absl::Time now) {
  if (!held.held_back || held.spec.suspended) return;
  const int64_t saved_to = held.generation->served().snapshot_position();
  if (saved_to <= held.saved_to && now < held.next_look) return;
  const SliceReport before = held.served->Report();
  AnswerFromSnapshot(held);
  held.served->SetState(before.state);
  if (before.last_error) {
    held.served->SetFault(before.state, *before.last_error, before.next_retry_time);
  }
  PublishServing();
}

void LiveEngine::ReleaseIfAllowed(Held& held) {
  if (!held.held_back || !held.gate->Failing(absl::Now()).empty()) return;
  SliceInfo(held.spec.slice, "generation {} is held no more", held.spec.number);
  held.held_back = false;
  held.stopped_for_good = false;
  held.rounds_asked = -1;
  held.saved_time = absl::InfinitePast();
  held.served->SetState(held.spec.frozen ? SliceState::kFrozen : SliceState::kStarting);
}

void LiveEngine::Confirm(Held& held) {
  held.unconfirmed = false;
  held.confirm_at = 0;
  RemoveHold(HoldPath(store_.directory(), held.spec.slice, held.spec.number));
  if (!held.complete) return;
  const bool swap = held.served != held.generation->served_ptr();
  held.served = held.generation->served_ptr();
  held.served->SetServing(held.spec.serving);
  held.served->SetExpectations(held.gate->results());
  held.served->SetDatabase(held.generation->database());
  if (held.spec.frozen) held.served->SetState(SliceState::kFrozen);
  if (swap) PublishServing();
}

// Its file has changed, or what is acknowledged of its quarantine.
void LiveEngine::Redefine(Held& held) {
  if (held.generation == nullptr) return;
  held.redefine = held.in_run;  // what a run reads is left alone until it is over
  if (held.in_run) return;
  TakeDefinition(held);
  TakeAcknowledged(held);
  if (held.stopped_at_record) TryRecordAgain(held);
}

void LiveEngine::TakeDefinition(Held& held) {
  const auto plan = PlanOf(held.spec.file);
  if (IsPassing(plan.status())) {
    held.redefine = true;  // once more in the next turn
    return;
  }
  const SlicePlan* slice = plan.ok() ? (*plan)->Find(held.spec.slice) : nullptr;
  if (slice == nullptr || slice->definition_hash != held.generation->plan().definition_hash) {
    SliceWarn(held.spec.slice,
              "its new file does not define this generation; it goes on with the old one");
    return;
  }
  held.generation->SetDefinition(*plan);
  held.gate->SetPlans(slice->expectations);
  CheckAtOnce(held);
  held.served->SetExpectations(held.gate->results());
  if (held.recompute()) SetSchedule(held);
}

bool LiveEngine::AwaitsCheck(const Held& held) const {
  if (held.recheck) return true;
  return held.unconfirmed && held.generation->position() >= held.confirm_at;
}

void LiveEngine::AskForCheck(Held& held, absl::Time now) {
  if (now < held.next_check) return;
  const int64_t rounds = held.gate->rounds();
  if (rounds == held.rounds_asked && now < held.saved_time + kCheckRetry) return;
  if (!RequestSnapshot(held, true)) return;
  held.rounds_asked = rounds;
  held.saved_time = now;
}

}  // namespace icepie::slices
