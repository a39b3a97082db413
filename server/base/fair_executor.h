// A few threads for work that comes from many, of whom none may keep the others waiting: what waits
// stands in fair lines, and who floods is told so alone.
#ifndef ICEPIE_SERVER_BASE_FAIR_EXECUTOR_H_
#define ICEPIE_SERVER_BASE_FAIR_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "core/base/fair_lines.h"
#include "core/base/mutex.h"

namespace icepie::server {

// Threads: any.
// Lifetime: the destructor runs what waits.
class FairExecutor {
 public:
  // `bytes_max` of all that waits or runs. The threads give way to the process's others: their
  // priority is lower by `nice`.
  FairExecutor(int threads, int nice, int64_t bytes_max);
  ~FairExecutor();
  FairExecutor(const FairExecutor&) = delete;
  FairExecutor& operator=(const FairExecutor&) = delete;

  // Those of one sender for one place begin in their order. False when there is no room, of which
  // an eighth is kept for those of whom less than that waits: `task` then never runs.
  bool Run(const LinePlace& at, int64_t bytes, std::function<void()> task);

 private:
  struct Task {
    int64_t bytes = 0;
    std::function<void()> run;
  };

  void Work();

  const int64_t bytes_max_;
  Mutex mutex_;
  CondVar changed_;
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  FairLines<Task> lines_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_FAIR_EXECUTOR_H_
