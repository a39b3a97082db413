// When slices are recomputed, and which of them together: those that are due and whose inputs stand
// at one position. Refreshes that were asked for are answered here too.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "slices/role/live_engine.h"

namespace icepie::slices {
namespace {

constexpr absl::Duration kClockSetBack = absl::Seconds(10);  // less is what clocks do anyway

absl::Status WhyStopped(const ServedSlice& slice) {
  const SliceReport report = slice.Report();
  std::string text = absl::StrCat("slice ", slice.info().slice, " is ", StateName(report.state),
                                  " and is not refreshed");
  const bool by_hand =
      report.state == SliceState::kFrozen || report.state == SliceState::kSuspended;
  if (report.last_error && !by_hand) {
    absl::StrAppend(&text, ": ", report.last_error->reason, ": ", report.last_error->message);
  }
  return MakeError(absl::StatusCode::kFailedPrecondition, text, "BLOCKED_BY",
                   {{"slice", slice.info().slice}, {"state", StateName(report.state)}});
}

}  // namespace

void LiveEngine::StepRecompute() {
  CollectRun();
  if (main_ != nullptr) PlanRun();
}

void LiveEngine::CollectRun() {
  std::optional<RecomputeRun> run = recomputes_->Collect();
  if (!run) return;
  const absl::Time now = absl::Now();
  const auto recomputed =
      std::count_if(held_.begin(), held_.end(), [](const auto& held) { return held->recompute(); });
  for (RecomputeRun::Step& step : run->steps) {
    const auto found = std::find_if(held_.begin(), held_.end(), [&](const auto& held) {
      return held->generation == step.generation;
    });
    if (found == held_.end()) continue;  // not wanted any more
    Held& held = **found;
    held.in_run = false;
    SetSuspects(held);
    // Each by its own time: a quick one does not wait for what a slow one has taken. All together
    // take no more than a fourth of the time.
    held.rest = step.took * (kRestPerWork * std::max<int64_t>(1, recomputed));
    held.next_start = SteadyNow() + held.rest;
    held.tried = run->position;
    held.took = run->took;
    if (!step.status.ok()) {
      held.dirty = true;
      Failed(held, step.status);
      if (held.spec.frozen) Freeze(held);
      continue;
    }
    held.forced = false;
    held.rebuild = false;
    held.took_too_long = false;
    ++held.refreshes;
    held.behind_since = now - run->took;  // what came during the run is not in it
    held.generation->TakeRun();
    if (step.anew) ReadersAreBehind(held, *run);
    Succeeded(held);
    Complete(held);
    ScheduleNext(held, now);
    if (held.spec.frozen) Freeze(held);
  }
  ConnectUpstream();
}

// Its rows are others at a position that its readers may have come to, and no log says how.
void LiveEngine::ReadersAreBehind(const Held& held, const RecomputeRun& run) {
  for (auto& reader : held_) {
    if (reader->upstream.count(held.spec.slice) == 0 || !held.spec.serving) continue;
    const bool saw = std::any_of(run.steps.begin(), run.steps.end(), [&](const auto& step) {
      return step.generation == reader->generation;
    });
    if (saw) reader->upstream[held.spec.slice] = held.generation->AsUpstream();
    if (saw || reader->generation == nullptr) continue;
    reader->dirty = true;
    reader->rebuild = reader->over_slices();
    reader->generation->NoteOtherRowsBelow();
  }
}

void LiveEngine::ScheduleNext(Held& held, absl::Time after) {
  const RefreshDef& refresh = held.generation->definition().refresh;
  if (refresh.kind == RefreshDef::Kind::kEvery) {
    held.next_refresh = after + refresh.every;
  } else if (refresh.kind == RefreshDef::Kind::kAfter) {
    const Held* first = Serving(refresh.after);
    if (first != nullptr) held.next_refresh = first->next_refresh;
  } else if (held.cron) {
    held.next_refresh = held.cron->Next(after);
  } else {
    return;
  }
  held.served->SetNextRefresh(held.next_refresh);
  for (auto& other : held_) {
    const bool follows = other->recompute() && held.spec.serving &&
                         other->generation->definition().refresh.after == held.spec.slice;
    if (follows) ScheduleNext(*other, after);
  }
}

// Where the wall clock went back, what was planned by it is planned anew: nothing waits for a time
// that comes twice.
void LiveEngine::LookAtClock() {
  const absl::Time now = absl::Now();
  const bool set_back = now < clock_seen_ - kClockSetBack;
  clock_seen_ = now;
  if (!set_back) return;
  for (auto& held : held_) {
    held->saved_time = std::min(held->saved_time, now);
    if (held->next_refresh != absl::InfiniteFuture()) ScheduleNext(*held, now);
    if (!held->schedule_cron) continue;
    held->next_try = absl::InfiniteFuture();
    held->next_named = held->schedule_cron->Next(now);
    named_.KeepNext(held->spec.slice, held->schedule, held->next_named);
  }
}

std::string LiveEngine::StoppedUpstream(const Held& held) {
  for (const std::string& name : held.generation->plan().upstream) {
    const Held* upstream = Serving(name);
    if (upstream == nullptr) return absl::StrCat(name, ", which is not there");
    switch (upstream->served->state()) {
      case SliceState::kFrozen:
        return absl::StrCat(name, ", which is FROZEN");
      case SliceState::kFaulted:
        return absl::StrCat(name, ", which is FAULTED");
      case SliceState::kHeld:
        return absl::StrCat(name, ", which is HELD");
      case SliceState::kBlocked:
        return absl::StrCat(name, ", which is BLOCKED");
      case SliceState::kSuspended:
        return absl::StrCat(name, ", which is SUSPENDED");
      default:
        break;
    }
  }
  return "";
}

bool LiveEngine::Due(const Held& held, absl::Time now) {
  if (held.failures > 0) return SteadyNow() >= held.next_retry;
  if (held.forced || !held.complete) return true;
  const RefreshDef& refresh = held.generation->definition().refresh;
  if (refresh.kind == RefreshDef::Kind::kContinuous) return SteadyNow() >= held.next_start;
  if (refresh.kind == RefreshDef::Kind::kAfter) return FollowsLater(held);
  return now >= held.next_refresh;
}

// Since this one was computed, the slice that it is refreshed after has been refreshed; before a
// restart perhaps, when nobody counted.
bool LiveEngine::FollowsLater(const Held& held) {
  const Held* first = Serving(held.generation->definition().refresh.after);
  if (first == nullptr || first->generation == nullptr || !first->complete) return false;
  return first->refreshes > held.followed ||
         first->generation->progress().changed_to() > held.generation->progress().applied_position;
}

// A slice of the run takes it along, so that both show one cut.
bool LiveEngine::GoesAlong(const Held& held, const std::vector<Held*>& run) {
  const auto runs = [&](const std::string& name) {
    return std::find(run.begin(), run.end(), Serving(name)) != run.end();
  };
  const RefreshDef& refresh = held.generation->definition().refresh;
  if (refresh.kind == RefreshDef::Kind::kAfter) return runs(refresh.after);
  const std::vector<std::string>& upstream = held.generation->plan().upstream;
  return !held.cron && std::any_of(upstream.begin(), upstream.end(), runs);
}

// Nothing that it reads has changed since it was computed.
bool LiveEngine::Unchanged(const Held& held, const std::vector<Held*>& run) {
  if (held.dirty || held.failures > 0) return false;
  if (!held.complete && !held.failed_on_data) return false;
  const int64_t computed =
      held.failed_on_data ? held.tried : held.generation->progress().applied_position;
  for (const std::string& stream : held.generation->streams()) {
    const auto end = stream_end_.find(stream);
    if (end != stream_end_.end() && end->second > computed) return false;
  }
  for (const std::string& name : held.generation->plan().upstream) {
    const Held* upstream = Serving(name);
    if (upstream == nullptr || upstream->generation == nullptr ||  // suspended
        std::find(run.begin(), run.end(), upstream) != run.end()) {
      return false;
    }
    if (upstream->generation->progress().changed_to() > computed) return false;
  }
  return !MovesHorizon(held, NewestBelow(held));
}

// Where all inputs stand; nullopt when they do not stand together.
std::optional<int64_t> LiveEngine::InputPosition(const Held& held, const std::vector<Held*>& run,
                                                 int64_t run_position) {
  std::optional<int64_t> position;
  if (held.generation->plan().upstream.empty()) position = main_->position();
  for (const std::string& name : held.generation->plan().upstream) {
    Held* upstream = Serving(name);
    if (upstream == nullptr || upstream->generation == nullptr || upstream->in_run) {
      return std::nullopt;
    }
    const bool in_run = std::find(run.begin(), run.end(), upstream) != run.end();
    if (!in_run && !upstream->complete) return std::nullopt;
    if (upstream->unconfirmed) return std::nullopt;
    const int64_t at = in_run ? run_position : upstream->generation->position();
    if (position && *position != at) return std::nullopt;
    position = at;
  }
  return position;
}

void LiveEngine::PlanRun() {
  // A track that is still behind where the head was at its start would make it compute twice.
  const bool caught_up = main_->first_head() && main_->position() >= *main_->first_head();
  if (!caught_up || recomputes_->busy()) return;
  const absl::Time now = absl::Now();
  std::vector<Held*> run;
  const int64_t position = main_->position();
  for (auto& each : held_) {
    Held& held = *each;
    if (!held.active() || !held.recompute() || !StoppedUpstream(held).empty()) continue;
    if (held.took_too_long && !held.forced) continue;
    const std::optional<int64_t> target = InputPosition(held, run, position);
    if (!target) continue;
    if (Unchanged(held, run)) {
      if (held.failed_on_data) {
        held.forced = false;  // it would fail as it did
        continue;
      }
      held.generation->PassTo(*target);
      if (Due(held, now) || GoesAlong(held, run)) {
        ++held.refreshes;
        Follow(held, run);
        ScheduleNext(held, now);
      }
      held.forced = false;
      continue;
    }
    const bool paced =
        SteadyNow() < held.next_start && !held.forced && (held.complete || held.failed_on_data);
    if (*target == position && !paced && (Due(held, now) || GoesAlong(held, run))) {
      run.push_back(&held);
    }
  }
  if (!run.empty()) StartRun(run, position);
}

absl::Status LiveEngine::BeginStep(Held& held, const std::vector<Held*>& run, RecomputeRun& out) {
  RecomputeRun::Step step;
  step.generation = held.generation;
  std::vector<std::string> upstream_now;
  step.applied_time_us = NewestBelow(held);
  for (const std::string& name : held.generation->plan().upstream) {
    Held* upstream = Serving(name);
    const auto in_run = std::find(run.begin(), run.end(), upstream);
    if (in_run == run.end()) {
      upstream_now.push_back(upstream->generation->alias());
      // What changes while it is built is taken over afterwards.
      if (held.over_slices()) upstream->generation->KeepChanges();
    } else {
      step.after.push_back(static_cast<size_t>(in_run - run.begin()));
      if (out.steps[step.after.back()].anew) held.generation->NoteOtherRowsBelow();
    }
  }
  step.anew = held.generation->other_rows_below() && out.position <= held.generation->position();
  step.status = held.generation->BeginRecompute(upstream_now);
  out.steps.push_back(std::move(step));
  return out.steps.back().status;
}

// What it is refreshed after is as it will be seen: with the run's refresh if it is in the run.
void LiveEngine::Follow(Held& held, const std::vector<Held*>& run) {
  const RefreshDef& refresh = held.generation->definition().refresh;
  const Held* first = refresh.kind == RefreshDef::Kind::kAfter ? Serving(refresh.after) : nullptr;
  if (first == nullptr) return;
  held.followed =
      first->refreshes + (std::find(run.begin(), run.end(), first) != run.end() ? 1 : 0);
}

void LiveEngine::StartRun(const std::vector<Held*>& run, int64_t position) {
  RecomputeRun started;
  started.position = position;
  for (Held* held : run) {
    const absl::Status begun = BeginStep(*held, run, started);
    if (begun.ok()) {
      held->in_run = true;
      Follow(*held, run);
      held->behind_since = std::min(held->behind_since, absl::Now());
      held->dirty = false;
      continue;
    }
    for (RecomputeRun::Step& step : started.steps) {
      if (step.status.ok()) step.generation->AbandonRecompute();
    }
    for (Held* each : run) each->in_run = false;
    return Failed(*held, begun);
  }
  recomputes_->Start(std::move(started));
}

// It will be computed, now or when its inputs stand together.
bool LiveEngine::ComesToRun(const Held& held) {
  return held.in_run || (held.forced && held.active() && StoppedUpstream(held).empty());
}

bool LiveEngine::Refreshed(const Held& held, int64_t position) {
  return !held.forced && !held.in_run && held.complete && held.generation->position() >= position;
}

void LiveEngine::AnswerRefreshes() {
  std::vector<PendingRefresh> left;
  for (PendingRefresh& refresh : refreshes_) {
    Held* held = Serving(refresh.slice);
    if (held == nullptr) {
      refresh.done(MakeError(absl::StatusCode::kNotFound, absl::StrCat("no slice ", refresh.slice),
                             "SLICE_NOT_FOUND"));
      continue;
    }
    const bool stopped = held->served->stopped() && !ComesToRun(*held);
    // Asked for explicitly, what took too long is tried once more.
    const bool begins = held->recompute() && refresh.position < 0 &&
                        (!stopped || (held->took_too_long && held->active()));
    const bool arrived = main_ != nullptr && main_->position() >= refresh.min_position;
    if (begins && arrived) {
      refresh.position = main_->position();
      held->forced = true;
      left.push_back(std::move(refresh));
      Wake();
    } else if (!begins && (held->generation == nullptr || stopped)) {
      held->forced = false;
      refresh.done(WhyStopped(*held->served));
    } else if (!begins && (!held->recompute() || Refreshed(*held, refresh.position))) {
      refresh.done(held->generation->position());
    } else if (absl::Now() >= refresh.deadline) {
      refresh.done(absl::DeadlineExceededError(
          absl::StrCat("slice ", refresh.slice, ": the recompute goes on")));
    } else {
      // The run that was under way when it was asked has ended before where it has to stand. One
      // whose inputs do not stand there waits for them.
      const bool ready = !begins && !held->in_run && arrived &&
                         InputPosition(*held, {}, main_->position()) >= refresh.position;
      if (ready) held->forced = true;
      left.push_back(std::move(refresh));
    }
  }
  refreshes_ = std::move(left);
}

}  // namespace icepie::slices
