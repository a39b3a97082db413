// How long ago a query service has answered the question that it asks itself now and then
// (query_service.h), in time that the process could use: while it was stopped, or the machine was,
// nobody could answer, and that is no sign of anything.
#ifndef ICEPIE_SLICES_QUERY_QUERY_HEARTBEAT_H_
#define ICEPIE_SLICES_QUERY_QUERY_HEARTBEAT_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace icepie::slices {

// Threads: any; takes no lock, since whoever holds one may be who hangs.
class QueryHeartbeat {
 public:
  // Time has passed: to be called often. `now` is SteadyNow(), `processor` what the process has
  // had.
  void Tick(absl::Time now, absl::Duration processor) {
    const int64_t now_us = absl::ToUnixMicros(now);
    const int64_t processor_us = absl::ToInt64Microseconds(processor);
    const int64_t before_us = now_us_.exchange(now_us);
    const int64_t worked_us = processor_us - processor_us_.exchange(processor_us);
    if (before_us == 0) return;
    const int64_t took_us = now_us - before_us;
    int64_t passed_us = std::clamp<int64_t>(took_us, 0, kTickMaxUs);
    // Who computes may hold what a question needs, and ends; a deadlock takes no processor.
    // On a busy machine it computes with a small part of a core.
    if (worked_us > took_us / 20) passed_us /= kPatienceAtWork;
    passed_us_ += passed_us;
  }

  // The question has been answered, or there is nothing to ask.
  void Answered() { answered_us_ = passed_us_.load(); }

  absl::Duration age() const { return absl::Microseconds(passed_us_ - answered_us_); }

 private:
  static constexpr int64_t kTickMaxUs = 1'000'000;  // a longer pause was none of ours
  static constexpr int64_t kPatienceAtWork = 4;
  std::atomic<int64_t> now_us_{0};
  std::atomic<int64_t> processor_us_{0};
  std::atomic<int64_t> passed_us_{0};
  std::atomic<int64_t> answered_us_{0};
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_QUERY_QUERY_HEARTBEAT_H_
