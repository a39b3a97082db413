#include "slices/apply/recompute_runner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "slices/apply/flight_record.h"

namespace icepie::slices {
namespace {

constexpr absl::Duration kRunWatchInterval = absl::Milliseconds(50);

absl::Status Interrupted() { return absl::CancelledError("the recompute was interrupted"); }

absl::Status TookTooLong(const std::string& slice, absl::Duration limit) {
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("recomputing slice ", slice, " took longer than its limit of ",
                                absl::FormatDuration(limit),
                                "; make its SQL read less, or raise limits.query_timeout (a "
                                "recompute may take ",
                                kRecomputeQueryTimeouts, " times as long)"),
                   "RECOMPUTE_TIME_LIMIT", {{"slice", slice}});
}

}  // namespace

RecomputeRunner::RecomputeRunner(Feed& feed, absl::Duration limit, absl::Duration grace,
                                 std::function<void()> on_finished,
                                 std::function<void(const std::string& why)> on_stuck)
    : feed_(feed),
      grace_(grace),
      on_finished_(std::move(on_finished)),
      on_stuck_(std::move(on_stuck)),
      limit_(limit),
      thread_([this] { Loop(); }),
      watch_([this] { Watch(); }) {}

RecomputeRunner::~RecomputeRunner() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    if (current_ != nullptr) {
      unwanted_ = true;
      end_by_ = std::min(end_by_, SteadyNow());
    }
  }
  changed_.SignalAll();
  thread_.join();
  changed_.SignalAll();
  watch_.join();
}

void RecomputeRunner::SetLimit(absl::Duration limit) {
  MutexLock lock(mutex_);
  limit_ = limit;
}

void RecomputeRunner::Interrupt(const Generation* generation) {
  MutexLock lock(mutex_);
  if (generation == nullptr) return;
  if (running_ || waiting_) interrupted_.insert(generation);
  if (current_ != generation) return;
  unwanted_ = true;
  end_by_ = std::min(end_by_, SteadyNow());
}

bool RecomputeRunner::busy() const {
  MutexLock lock(mutex_);
  return running_ || waiting_.has_value() || finished_.has_value();
}

void RecomputeRunner::Start(RecomputeRun run) {
  MutexLock lock(mutex_);
  ICEPIE_CHECK(!waiting_.has_value());
  waiting_ = std::move(run);
  changed_.SignalAll();
}

std::optional<RecomputeRun> RecomputeRunner::Collect() {
  MutexLock lock(mutex_);
  return std::exchange(finished_, std::nullopt);
}

void RecomputeRunner::Execute(RecomputeRun& run) {
  for (RecomputeRun::Step& step : run.steps) {
    const bool inputs_failed = std::any_of(step.after.begin(), step.after.end(), [&](size_t index) {
      return !run.steps[index].status.ok();
    });
    if (inputs_failed) {
      step.generation->AbandonRecompute();
      // No failure of its own: it is computed again when what it reads has been.
      step.status = absl::CancelledError("a slice that it reads could not be recomputed");
      continue;
    }
    for (const size_t index : step.after) {
      step.applied_time_us =
          std::max(step.applied_time_us, run.steps[index].generation->progress().applied_time_us);
    }
    const absl::Time begin = SteadyNow();
    step.status = Finish(step, run.position);
    step.took = SteadyNow() - begin;
  }
}

// The limit is that of one run over the data: a search for bad records, of many runs, has its own.
void RecomputeRunner::GrantTime(absl::Duration limit) {
  MutexLock lock(mutex_);
  if (unwanted_) return;
  overdue_.emplace(grace_);
  end_by_ = SteadyNow() + limit;
}

absl::Status RecomputeRunner::Finish(RecomputeRun::Step& step, int64_t position) {
  const GenerationInfo& info = step.generation->served().info();
  const FlightEntry flight(Activity::kRecompute, absl::StrCat(info.slice, "/", info.number), 0,
                           position);
  absl::Duration limit;
  {
    MutexLock lock(mutex_);
    if (interrupted_.count(step.generation.get()) > 0) {
      step.generation->AbandonRecompute();
      return Interrupted();
    }
    limit = limit_;
    step.generation->SetOnTrial([this, limit] { GrantTime(limit); });
    current_ = step.generation.get();
    runner_ = ThisThread();
    overdue_.emplace(grace_);
    unwanted_ = stopping_;
    end_by_ = SteadyNow();
  }
  GrantTime(limit);
  const absl::Status status =
      step.generation->FinishRecompute(feed_, position, step.applied_time_us);
  step.generation->SetOnTrial(nullptr);
  MutexLock lock(mutex_);
  current_ = nullptr;
  // What failed on the data would do so again, however much time it had.
  const bool judged = status.ok() || absl::IsAborted(status) || absl::IsInvalidArgument(status);
  if (judged || SteadyNow() < end_by_) return status;
  if (unwanted_) return Interrupted();
  return TookTooLong(step.generation->plan().slice, limit);
}

void RecomputeRunner::Watch() {
  MutexLock lock(mutex_);
  while (!stopping_ || running_) {
    changed_.WaitFor(mutex_, kRunWatchInterval);
    const absl::Time now = SteadyNow();
    if (current_ == nullptr || now < end_by_) continue;
    // Again and again: a statement that begins just now has a fresh flag.
    current_->Interrupt();
    if (!overdue_->IsOver(now, runner_)) continue;
    BlameThread(runner_.id);
    on_stuck_(absl::StrCat("the recompute of slice ", current_->plan().slice,
                           " does not listen to its interrupt"));
  }
}

// A connection that is closed within a transaction over databases that are gone is DuckDB's end.
void RecomputeRunner::Abandon(const RecomputeRun& run) {
  for (const RecomputeRun::Step& step : run.steps) {
    if (step.status.ok()) step.generation->AbandonRecompute();
  }
}

void RecomputeRunner::Loop() {
  while (true) {
    RecomputeRun run;
    {
      MutexLock lock(mutex_);
      while (!waiting_ && !stopping_) changed_.Wait(mutex_);
      if (stopping_) {
        if (waiting_) Abandon(*waiting_);
        return;
      }
      run = *std::exchange(waiting_, std::nullopt);
      running_ = true;
    }
    const absl::Time begin = SteadyNow();
    Execute(run);
    run.took = SteadyNow() - begin;
    {
      MutexLock lock(mutex_);
      running_ = false;
      interrupted_.clear();
      finished_ = std::move(run);
    }
    on_finished_();
  }
}

}  // namespace icepie::slices
