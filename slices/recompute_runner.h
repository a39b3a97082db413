// Runs recomputes in a thread of its own, one run at a time. A run is some slices at one position,
// upstream first: the apply thread begins their transactions, so that they all see their inputs at
// that position, and goes on applying while the runner finishes them.
#ifndef ICEPIE_SLICES_RECOMPUTE_RUNNER_H_
#define ICEPIE_SLICES_RECOMPUTE_RUNNER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/feed.h"
#include "slices/generation.h"

namespace icepie::slices {

struct RecomputeRun {
  struct Step {
    std::shared_ptr<Generation> generation;  // begun
    int64_t applied_time_us = 0;
    std::vector<size_t> after;  // steps of this run that it reads
    absl::Status status;        // result
  };
  int64_t position = 0;
  std::vector<Step> steps;
  absl::Duration took;
};

// Threads: the methods one; `on_finished` is called from the runner's thread.
class RecomputeRunner {
 public:
  RecomputeRunner(Feed& feed, std::function<void()> on_finished);
  // Waits for the run under way.
  ~RecomputeRunner();

  // A run is waiting, going on or not collected yet.
  bool busy() const;
  void Start(RecomputeRun run);
  // The finished run, once.
  std::optional<RecomputeRun> Collect();

 private:
  void Loop();
  void Execute(RecomputeRun& run);

  Feed& feed_;
  const std::function<void()> on_finished_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<RecomputeRun> waiting_ ABSL_GUARDED_BY(mutex_);
  std::optional<RecomputeRun> finished_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_RECOMPUTE_RUNNER_H_
