// When the live engine saves its generations: because they have changed, because somebody gives
// their state a name, and because a schedule does.
#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "slices/apply/slice_fault.h"
#include "slices/apply/slice_log.h"
#include "slices/role/live_engine.h"

namespace icepie::slices {
namespace {

// What a restart would have to do again is saved before its time once that is so much.
constexpr absl::Duration kUnsavedWorkMax = absl::Seconds(1);

// The last time at or before `now` that the schedule names, given that it names `first` before it.
// Looks back no further than it must: a schedule of minutes may not have run for years.
absl::Time LastDue(const CronSchedule& cron, absl::Time first, absl::Time now) {
  constexpr int kHours[] = {1, 24, 24 * 32, 24 * 400};
  absl::Time due = first;
  for (const int hours : kHours) {
    const absl::Time from = now - absl::Hours(hours);
    absl::Time next = cron.Next(std::max(from, first));
    for (; next <= now; next = cron.Next(next)) due = next;
    if (due != first || from <= first) break;
  }
  return due;
}

}  // namespace

bool LiveEngine::RequestSnapshot(const Held& held, bool urgent) {
  return snapshots_->Request(held.generation->served_ptr(), held.generation->database(), urgent,
                             CheckOf(held));
}

void LiveEngine::StepSnapshots() {
  const absl::Time now = absl::Now();
  StepScheduled();
  for (auto& held : held_) {
    StepSchedule(*held, now);
    if (held->generation == nullptr || !held->complete || held->in_run || held->held_back) continue;
    if (AwaitsCheck(*held)) {
      AskForCheck(*held, now);
      continue;
    }
    if (held->unconfirmed || held->generation->served().HasSaved(held->generation->progress()))
      continue;
    const bool first = held->saved_time == absl::InfinitePast();
    const bool due = now >= held->saved_time + options_.snapshot_interval ||
                     held->unsaved_work >= kUnsavedWorkMax;
    if (!first && !due) continue;
    // The first one is what the standby waits for.
    if (!RequestSnapshot(*held, first)) continue;
    held->saved_time = now;
    held->unsaved_work = absl::ZeroDuration();
  }
}

void LiveEngine::NameSnapshot(const std::string& slice, SnapshotName name, NameDone done) {
  absl::string_view plain = slice;
  absl::ConsumePrefix(&plain, absl::StrCat(options_.domain, "."));
  bool refused = false;
  {
    MutexLock lock(mutex_);
    refused = stopping_;
    if (!refused) new_names_.push_back({std::string(plain), std::move(name), done});
    awake_ = true;
  }
  work_.SignalAll();
  if (refused) done(absl::UnavailableError("the worker is stopping"));
}

// False: later, when its recompute has ended.
bool LiveEngine::StartNaming(const PendingName& pending) {
  const Held* held = Serving(pending.slice);
  if (held == nullptr) {
    pending.done(NoSuchSlice(options_.domain, pending.slice));
    return true;
  }
  if (held->in_run) return false;
  if (held->generation == nullptr || !held->complete || held->held_back || held->unconfirmed) {
    // Its rows are not answered from; perhaps it has a snapshot that is.
    const auto newest = FindSnapshot(store_, held->spec, SnapshotUse::kServe);
    pending.done(newest.ok() ? named_.Add(*newest, pending.name) : NoSnapshotYet(*held->served));
    return true;
  }
  if (const absl::Status written = held->generation->WritePosition(); !written.ok()) {
    pending.done(written);
    return true;
  }
  snapshots_->Request(
      held->generation->served_ptr(), held->generation->database(),
      [this, pending](const absl::StatusOr<SnapshotManifest>& manifest) {
        pending.done(manifest.ok() ? named_.Add(*manifest, pending.name) : manifest.status());
      },
      CheckOf(*held));
  return true;
}

void LiveEngine::StepNames() {
  std::vector<PendingName> left;
  for (PendingName& pending : std::exchange(names_, {})) {
    if (!StartNaming(pending)) left.push_back(std::move(pending));
  }
  for (PendingName& pending : left) names_.push_back(std::move(pending));
}

// The schedule of the file as it is now: it changes without a new generation. One that was missed
// while nobody ran is made up for at once.
void LiveEngine::SetSnapshotSchedule(Held& held) const {
  held.next_named = absl::InfiniteFuture();
  held.next_try = absl::InfiniteFuture();
  held.schedule_cron.reset();
  const auto domain = ParseDomain(held.spec.file, options_.domain + ".yaml");
  const SliceDef* slice = domain.ok() ? domain->FindSlice(held.spec.slice) : nullptr;
  if (slice == nullptr || !held.spec.serving) return;
  if (slice->snapshots.cron.empty()) {
    named_.KeepNext(held.spec.slice, {}, absl::InfiniteFuture());
    return;
  }
  const auto cron = CronSchedule::Parse(slice->snapshots.cron, slice->snapshots.time_zone);
  if (!cron.ok()) {
    SliceError(held.spec.slice, "no scheduled snapshots: {}", cron.status().ToString());
    return;
  }
  held.schedule = slice->snapshots;
  held.schedule_cron = *cron;
  const absl::Time last = named_.LastScheduled(held.spec.slice);
  // Without one before there is nothing to go by but when the first was to come.
  held.next_named =
      last == absl::InfinitePast()
          ? std::min(named_.KeptNext(held.spec.slice, held.schedule), cron->Next(absl::Now()))
          : cron->Next(last);
  named_.KeepNext(held.spec.slice, held.schedule, held.next_named);
}

// What could not be made is made up for, if need be by the next worker: it is tried again, at first
// as soon as any snapshot, until the next is due.
void LiveEngine::StepScheduled() {
  constexpr int kDoublingsMax = 6;
  std::map<std::string, ScheduledEnd> ended;
  {
    MutexLock lock(mutex_);
    ended = std::exchange(new_scheduled_, {});
  }
  for (auto& held : held_) {
    const auto found = ended.find(held->spec.slice);
    // Whose schedule is gone by now has nothing to make up for, nor a next one to keep.
    const bool counts = found != ended.end() && held->schedule_cron;
    if (counts && (found->second.may_pass ||
                   !named_.KeepNext(held->spec.slice, held->schedule, held->next_named))) {
      if (held->missed_named != found->second.due) held->missed_times = 0;
      held->missed_named = found->second.due;
      const int doublings = std::min(held->missed_times++, kDoublingsMax);
      held->next_try = SteadyNow() + options_.snapshot_interval * (1 << doublings);
    }
    if (SteadyNow() < held->next_try) continue;
    held->next_named = std::min(held->next_named, *held->missed_named);
    held->next_try = absl::InfiniteFuture();
  }
}

void LiveEngine::StepSchedule(Held& held, absl::Time now) {
  if (now < held.next_named || !held.complete) return;
  // Several missed ones are one: the state of their times is gone.
  const absl::Time due = LastDue(*held.schedule_cron, held.next_named, now);
  held.next_named = held.schedule_cron->Next(now);
  held.next_try = absl::InfiniteFuture();
  absl::TimeZone zone = absl::UTCTimeZone();
  if (!held.schedule.time_zone.empty()) absl::LoadTimeZone(held.schedule.time_zone, &zone);
  SnapshotName name;
  name.name = absl::FormatTime(held.schedule.name, due, zone);
  name.actor = "schedule";
  name.scheduled = true;
  const std::string slice = held.spec.slice;
  const auto done = [this, slice, name, due, schedule = held.schedule](const absl::Status& status) {
    {
      MutexLock lock(mutex_);
      new_scheduled_[slice] = {due, absl::IsUnavailable(status) || IsDiskFull(status)};
      awake_ = true;
    }
    work_.SignalAll();
    if (status.ok()) {
      SliceInfo(slice, "snapshot {} made by its schedule", name.name);
      named_.Prune(slice, schedule, absl::Now());
    } else {
      SliceWarn(slice, "scheduled snapshot {}: {}", name.name, status.ToString());
    }
  };
  names_.push_back({slice, name, done});
}

}  // namespace icepie::slices
