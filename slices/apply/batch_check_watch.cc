#include "slices/apply/batch_check_watch.h"

#include <utility>

#include "core/base/steady_clock.h"

namespace icepie::slices {

BatchCheckWatch::Check::Check(BatchCheckWatch& watch, DuckConnection& connection,
                              const std::string& subject, absl::Duration limit,
                              std::function<void()> on_stuck)
    : watch_(watch),
      connection_(connection),
      flight_(Activity::kCheck, subject),
      end_by_(SteadyNow() + limit),
      thread_(ThisThread()),
      on_stuck_(std::move(on_stuck)),
      grace_(watch.grace_) {
  const MutexLock lock(watch_.mutex_);
  watch_.present_ = this;
}

BatchCheckWatch::Check::~Check() {
  const MutexLock lock(watch_.mutex_);
  watch_.present_ = nullptr;
}

void BatchCheckWatch::Look() {
  const MutexLock lock(mutex_);
  const absl::Time now = SteadyNow();
  if (present_ == nullptr || now < present_->end_by_) return;
  // Again and again: a statement that begins just now has a fresh flag.
  present_->connection_.Interrupt();
  if (!present_->grace_.IsOver(now, present_->thread_)) return;
  present_->flight_.Blame();
  present_->on_stuck_();
}

}  // namespace icepie::slices
