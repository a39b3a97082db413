#include "slices/recompute_runner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/check.h"

namespace icepie::slices {

RecomputeRunner::RecomputeRunner(Feed& feed, std::function<void()> on_finished)
    : feed_(feed), on_finished_(std::move(on_finished)), thread_([this] { Loop(); }) {}

RecomputeRunner::~RecomputeRunner() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.SignalAll();
  thread_.join();
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
      step.status = absl::UnavailableError("a slice that it reads could not be recomputed");
      continue;
    }
    step.status = step.generation->FinishRecompute(feed_, run.position, step.applied_time_us);
  }
}

void RecomputeRunner::Loop() {
  while (true) {
    RecomputeRun run;
    {
      MutexLock lock(mutex_);
      while (!waiting_ && !stopping_) changed_.Wait(mutex_);
      if (stopping_) return;
      run = *std::exchange(waiting_, std::nullopt);
      running_ = true;
    }
    const absl::Time begin = absl::Now();
    Execute(run);
    run.took = absl::Now() - begin;
    {
      MutexLock lock(mutex_);
      running_ = false;
      finished_ = std::move(run);
    }
    on_finished_();
  }
}

}  // namespace icepie::slices
