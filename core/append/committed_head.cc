#include "core/append/committed_head.h"

#include <utility>

#include "core/base/steady_clock.h"

namespace icepie {

void CommittedHead::Advance(int64_t position) {
  {
    const MutexLock lock(wait_mutex_);
    position_.store(position);
  }
  moved_.SignalAll();
  const MutexLock lock(listeners_mutex_);
  for (const auto& [id, listener] : listeners_) listener(position);
}

int64_t CommittedHead::WaitBeyond(int64_t position, absl::Duration timeout) const {
  const absl::Time deadline = SteadyNow() + timeout;
  const MutexLock lock(wait_mutex_);
  while (position_.load() <= position) {
    const absl::Duration left = deadline - SteadyNow();
    if (left <= absl::ZeroDuration()) break;
    moved_.WaitFor(wait_mutex_, left);
  }
  return position_.load();
}

int64_t CommittedHead::AddListener(Listener listener) {
  const MutexLock lock(listeners_mutex_);
  const int64_t id = next_listener_++;
  listeners_.emplace(id, std::move(listener));
  return id;
}

void CommittedHead::RemoveListener(int64_t id) {
  const MutexLock lock(listeners_mutex_);
  listeners_.erase(id);
}

}  // namespace icepie
