// Whether the machine has time for anybody: a thread of low priority that wants to run twenty times
// a second, and notes when it could not.
#ifndef ICEPIE_TESTS_FAULT_PACER_H_
#define ICEPIE_TESTS_FAULT_PACER_H_

#include <atomic>
#include <thread>
#include <vector>

#include "tests/fault/call_record.h"

namespace icepie::fault {

// Threads: one.
class Pacer {
 public:
  Pacer();
  ~Pacer() { Stop(); }
  Pacer(const Pacer&) = delete;
  Pacer& operator=(const Pacer&) = delete;

  // Ends it; what it noted, in the order of time.
  std::vector<StallSpan> Stop();

 private:
  void Run();

  std::atomic<bool> stopping_{false};
  std::vector<StallSpan> stalls_;  // the thread's until it has ended
  std::thread thread_;
};

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_PACER_H_
