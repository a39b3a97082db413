// A few threads for calls that wait: admin changes wait for the disk, a planner or a worker. What
// waits for one domain may be told to be of its line, which never has all of them.
#ifndef ICEPIE_SERVER_BASE_EXECUTOR_H_
#define ICEPIE_SERVER_BASE_EXECUTOR_H_

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/base/drain_gate.h"

namespace icepie::server {

// Threads: any.
// Lifetime: Stop and the destructor wait for the tasks that run and drop those that wait.
class Executor {
 public:
  // Of one line at most `at_once_max` run at a time, and at most a quarter of the queue waits.
  Executor(int threads, size_t queue_max, int at_once_max = 2);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // False when the queue or the line is full, or the executor has stopped or drains; `task` then
  // never runs. Those of one line begin in their order; those of none ("") have no bound.
  bool Run(std::function<void()> task, const std::string& line = "");
  bool IsFull(const std::string& line);

  // Takes no new tasks; those that it has go on.
  void Drain() { gate_.Close(); }
  bool draining() const { return gate_.closed(); }
  // False: some were still waiting or running at the deadline.
  bool WaitEmpty(absl::Time deadline) { return gate_.WaitEmpty(deadline); }

  void Stop();

 private:
  struct Task {
    std::string line;
    std::function<void()> run;
  };
  struct Line {
    size_t waiting = 0;
    int running = 0;
  };
  using Queue = std::deque<Task>;

  void Work();
  bool HasRoom(const std::string& line) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first whose line may run one more; end(): none.
  Queue::iterator Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Task Take(Queue::iterator next) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LeaveLine(const std::string& line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t queue_max_;
  const int at_once_max_;
  DrainGate gate_;
  Mutex mutex_;
  CondVar changed_;
  Queue queue_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Line> lines_ ABSL_GUARDED_BY(mutex_);  // those of which any waits or runs
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// Where a call waits.
struct ExecutorLine {
  // NOLINTNEXTLINE(google-explicit-constructor): an executor alone is the place of most calls
  ExecutorLine(Executor& executor, std::string line = "")
      : executor(executor), line(std::move(line)) {}

  Executor& executor;
  std::string line;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_EXECUTOR_H_
