// A few threads for calls that wait: admin changes wait for the disk, a planner or a worker.
#ifndef ICEPIE_SERVER_EXECUTOR_H_
#define ICEPIE_SERVER_EXECUTOR_H_

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "core/base/mutex.h"

namespace icepie::server {

// Threads: any.
// Lifetime: Stop and the destructor wait for the tasks that run and drop those that wait.
class Executor {
 public:
  Executor(int threads, size_t queue_max);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // False when the queue is full or the executor has stopped; `task` then never runs.
  bool Run(std::function<void()> task);

  void Stop();

 private:
  void Work();

  const size_t queue_max_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_EXECUTOR_H_
