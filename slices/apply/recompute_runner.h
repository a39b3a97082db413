// Runs recomputes in a thread of its own, one run at a time. A run is some slices at one position,
// upstream first: the apply thread begins their transactions, so that they all see their inputs at
// that position, and goes on applying while the runner finishes them.
#ifndef ICEPIE_SLICES_APPLY_RECOMPUTE_RUNNER_H_
#define ICEPIE_SLICES_APPLY_RECOMPUTE_RUNNER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/apply/feed.h"
#include "slices/apply/generation.h"
#include "slices/definition/built_in_limits.h"
#include "slices/duckdb/interrupt_grace.h"

namespace icepie::slices {

struct RecomputeRun {
  struct Step {
    std::shared_ptr<Generation> generation;  // begun
    bool anew = false;                       // it has had rows at this position
    int64_t applied_time_us = 0;             // of the slices below that are not in this run
    std::vector<size_t> after;               // steps of this run that it reads
    absl::Status status;                     // result
    absl::Duration took;
  };
  int64_t position = 0;
  std::vector<Step> steps;
  absl::Duration took;
};

// Threads: the methods one; `on_finished` and `on_stuck` are called from the runner's own. Steps
// that take longer than the limit fail with RECOMPUTE_TIME_LIMIT, interrupted ones with CANCELLED.
class RecomputeRunner {
 public:
  // `on_stuck`: a statement does not listen to its interrupt for `grace`; the process must end.
  RecomputeRunner(Feed& feed, absl::Duration limit, absl::Duration grace,
                  std::function<void()> on_finished,
                  std::function<void(const std::string& why)> on_stuck);
  // Interrupts the run under way.
  ~RecomputeRunner();

  // Of the steps that begin from now on.
  void SetLimit(absl::Duration limit);
  // Ends this generation's step of the present run, also one that has not begun.
  void Interrupt(const Generation* generation);

  // A run is waiting, going on or not collected yet.
  bool busy() const;
  void Start(RecomputeRun run);
  // The finished run, once.
  std::optional<RecomputeRun> Collect();

 private:
  void Loop();
  void Watch();
  void Execute(RecomputeRun& run);
  static void Abandon(const RecomputeRun& run);
  void GrantTime(absl::Duration limit);
  absl::Status Finish(RecomputeRun::Step& step, int64_t position);

  Feed& feed_;
  const absl::Duration grace_;
  const std::function<void()> on_finished_;
  const std::function<void(const std::string& why)> on_stuck_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<RecomputeRun> waiting_ ABSL_GUARDED_BY(mutex_);
  std::optional<RecomputeRun> finished_ ABSL_GUARDED_BY(mutex_);
  absl::Duration limit_ ABSL_GUARDED_BY(mutex_);
  Generation* current_ ABSL_GUARDED_BY(mutex_) = nullptr;
  ThreadName runner_ ABSL_GUARDED_BY(mutex_);                      // that computes it
  std::optional<InterruptGrace> overdue_ ABSL_GUARDED_BY(mutex_);  // of the current step
  absl::Time end_by_ ABSL_GUARDED_BY(mutex_);                      // of the current step
  bool unwanted_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<const Generation*> interrupted_ ABSL_GUARDED_BY(mutex_);  // in the present run
  std::thread thread_;
  std::thread watch_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_RECOMPUTE_RUNNER_H_
