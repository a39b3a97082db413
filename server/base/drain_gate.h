// Lets work in until the daemon is about to stop, and knows what is still under way.
#ifndef ICEPIE_SERVER_BASE_DRAIN_GATE_H_
#define ICEPIE_SERVER_BASE_DRAIN_GATE_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"

namespace icepie::server {

// What new work is told.
inline absl::Status Draining() {
  return MakeError(absl::StatusCode::kUnavailable, "the daemon is stopping; try again",
                   ErrorDetail{"SERVER_DRAINING", {}, {}, 1000});
}

// Threads: any. Enter and Leave take no lock before the gate is closed.
class DrainGate {
 public:
  // False: it is closed. Otherwise Leave() must follow.
  bool Enter() {
    inside_.fetch_add(1);
    if (!closed_.load()) return true;
    Leave();
    return false;
  }
  void Leave() {
    if (inside_.fetch_sub(1) > 1 || !closed_.load()) return;
    const MutexLock lock(mutex_);
    left_.SignalAll();
  }
  void Close() { closed_ = true; }
  bool closed() const { return closed_; }

  // Waits until nobody is inside any more; false: the time (of SteadyNow()) was over first.
  bool WaitEmpty(absl::Time deadline) {
    MutexLock lock(mutex_);
    while (inside_.load() > 0) {
      const absl::Duration left = deadline - SteadyNow();
      if (left <= absl::ZeroDuration()) return false;
      left_.WaitFor(mutex_, left);
    }
    return true;
  }

 private:
  std::atomic<int64_t> inside_{0};
  std::atomic<bool> closed_{false};
  Mutex mutex_;
  CondVar left_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_DRAIN_GATE_H_
