// A few threads for calls that wait: admin changes wait for the disk, a planner or a worker.
#ifndef ICEPIE_SERVER_EXECUTOR_H_
#define ICEPIE_SERVER_EXECUTOR_H_

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/drain_gate.h"

namespace icepie::server {

// Threads: any.
// Lifetime: Stop and the destructor wait for the tasks that run and drop those that wait.
class Executor {
 public:
  Executor(int threads, size_t queue_max);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // False when the queue is full, or the executor has stopped or drains; `task` then never runs.
  bool Run(std::function<void()> task);

  // Takes no new tasks; those that it has go on.
  void Drain() { gate_.Close(); }
  bool draining() const { return gate_.closed(); }
  // False: some were still waiting or running at the deadline.
  bool WaitEmpty(absl::Time deadline) { return gate_.WaitEmpty(deadline); }

  void Stop();

 private:
  void Work();

  const size_t queue_max_;
  DrainGate gate_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_EXECUTOR_H_
