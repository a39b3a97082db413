// Lets the sealer make so many segments and no more, so that a test knows which ones there are.
#ifndef ICEPIE_TESTS_CORE_SEALING_GATE_H_
#define ICEPIE_TESTS_CORE_SEALING_GATE_H_

#include <atomic>

#include "absl/status/status.h"
#include "core/core.h"

namespace icepie {

// Threads: any.
class SealingGate {
 public:
  void Allow(int more) { allowed_ += more; }
  // Segments made, and whether these are all that were allowed.
  int made() const { return made_; }
  bool spent() const { return made_ >= allowed_; }

  // For SealingOptions::on_step. What is not allowed fails before it begins, to be tried again
  // after SealingOptions::retry_delay: a sealer that waited here could not be ended.
  absl::Status Pass(SealStep step) {
    if (step == SealStep::kRegistered) ++made_;
    if (step == SealStep::kBegin && spent()) return absl::CancelledError("the test allows no more");
    return absl::OkStatus();
  }

 private:
  std::atomic<int> allowed_{0};
  std::atomic<int> made_{0};
};

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_SEALING_GATE_H_
