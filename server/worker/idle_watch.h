// When a worker has come to rest, by the processor time it takes: what its work has freed is then
// given back to the system, and not while the next piece of work is about to need it.
#ifndef ICEPIE_SERVER_WORKER_IDLE_WATCH_H_
#define ICEPIE_SERVER_WORKER_IDLE_WATCH_H_

#include <utility>

#include "absl/time/time.h"

namespace icepie::server {

// Threads: one.
class IdleWatch {
 public:
  static constexpr absl::Duration kInterval = absl::Seconds(1);

  // Asked every kInterval, with the processor time that the process has taken since its start. True
  // once after each piece of work, the start being one.
  bool CameToRest(absl::Duration processor_time) {
    // Heartbeats and looking for records take a hundredth or two.
    const absl::Duration rest = kInterval / 20;
    const bool rests = processor_time - std::exchange(before_, processor_time) < rest;
    return std::exchange(worked_, !rests) && rests;
  }

 private:
  absl::Duration before_ = absl::ZeroDuration();
  bool worked_ = true;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_IDLE_WATCH_H_
