// A few threads for work that comes from many, of whom none may keep the others waiting: what waits
// stands in lines that take turns, and a line that floods is told so alone.
#ifndef ICEPIE_SERVER_FAIR_EXECUTOR_H_
#define ICEPIE_SERVER_FAIR_EXECUTOR_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

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

  // Those of a line begin in their order. False when there is no room, of which an eighth is kept
  // for lines that have less than that: `task` then never runs.
  bool Run(const std::string& line, int64_t bytes, std::function<void()> task);

 private:
  struct Task {
    int64_t bytes = 0;
    std::function<void()> run;
  };
  struct Line {
    std::deque<Task> tasks;
    int64_t bytes = 0;
  };

  void Work();
  Task Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t bytes_max_;
  Mutex mutex_;
  CondVar changed_;
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, Line> lines_ ABSL_GUARDED_BY(mutex_);  // those that have tasks
  std::deque<std::string> turns_ ABSL_GUARDED_BY(mutex_);      // the same, whose turn it is first
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_FAIR_EXECUTOR_H_
