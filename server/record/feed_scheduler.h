// Runs the steps of many server-streaming calls that read the core forwards (Host.Tail,
// Core.ReadRecords) on a few threads: a call that waits for new records holds no thread.
#ifndef ICEPIE_SERVER_RECORD_FEED_SCHEDULER_H_
#define ICEPIE_SERVER_RECORD_FEED_SCHEDULER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/base/mutex.h"
#include "core/core.h"

namespace icepie::server {

using SteadyTime = std::chrono::steady_clock::time_point;

class FeedTask {
 public:
  virtual ~FeedTask() = default;
  // Called from one of the scheduler's threads, at any time and also for no reason.
  virtual void Wake() = 0;
};

// Threads: any.
// Lifetime: tasks are not kept alive while they wait; a task that runs is. The core outlives the
//   scheduler.
class FeedScheduler {
 public:
  FeedScheduler(Core* core, int threads);
  ~FeedScheduler();
  FeedScheduler(const FeedScheduler&) = delete;
  FeedScheduler& operator=(const FeedScheduler&) = delete;

  // Wakes the task soon, at `time`, or once the head is beyond `position` (the latest call counts).
  void WakeSoon(const std::shared_ptr<FeedTask>& task);
  void WakeAt(const std::shared_ptr<FeedTask>& task, SteadyTime time);
  void WakeBeyond(const std::shared_ptr<FeedTask>& task, int64_t position);

  // Wakes every task that waits for the head, now and later: the daemon stops, and whoever has
  // nothing left to send but news of the head ends.
  void Drain();
  bool draining() const { return draining_; }

  // Drops what WakeBeyond remembers.
  void Forget(const FeedTask* task);

 private:
  struct HeadWait {
    int64_t position;
    std::weak_ptr<FeedTask> task;
  };

  void Run();
  std::shared_ptr<FeedTask> Next();  // nullptr: stop
  void TakeDueTimers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnHead(int64_t head);

  Core* const core_;
  int64_t listener_ = 0;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> draining_{false};
  std::deque<std::shared_ptr<FeedTask>> ready_ ABSL_GUARDED_BY(mutex_);
  std::multimap<SteadyTime, std::weak_ptr<FeedTask>> timers_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<const FeedTask*, HeadWait> head_waits_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_FEED_SCHEDULER_H_
