#include "slices/duckdb/statement_watch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/steady_clock.h"

namespace icepie::slices {
namespace {

constexpr absl::Duration kRepeatInterval = absl::Milliseconds(50);

}  // namespace

StatementWatch::StatementWatch(std::function<void()> interrupt, absl::Duration limit,
                               absl::Duration grace, std::string what,
                               std::function<void(const std::string& why)> on_stuck)
    : interrupt_(std::move(interrupt)),
      limit_(limit),
      grace_(grace),
      what_(std::move(what)),
      on_stuck_(std::move(on_stuck)),
      end_by_(SteadyNow() + limit),
      thread_([this] { Loop(); }) {}

StatementWatch::~StatementWatch() {
  {
    MutexLock lock(mutex_);
    done_ = true;
  }
  changed_.SignalAll();
  thread_.join();
}

void StatementWatch::Restart() {
  MutexLock lock(mutex_);
  end_by_ = SteadyNow() + limit_;
  overdue_.reset();
}

void StatementWatch::Loop() {
  MutexLock lock(mutex_);
  while (!done_) {
    const absl::Time now = SteadyNow();
    if (now < end_by_) {
      changed_.WaitFor(mutex_, end_by_ - now);
      continue;
    }
    // Again and again: a statement that begins just now has a fresh flag.
    interrupt_();
    if (!overdue_) overdue_.emplace(grace_);
    if (overdue_->IsOver(now, watched_) && on_stuck_) {
      on_stuck_(absl::StrCat(what_, " does not listen to its interrupt"));
    }
    changed_.WaitFor(mutex_, kRepeatInterval);
  }
}

}  // namespace icepie::slices
