// One thread that runs what is posted to it, what its timers fire and what its file descriptors
// report: state that only this thread touches needs no lock.
#ifndef ICEPIE_SERVER_BASE_EVENT_LOOP_H_
#define ICEPIE_SERVER_BASE_EVENT_LOOP_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace icepie::server {

// Threads: Post, RunAfter and Cancel from any thread; Watch and Unwatch from the loop's own.
// Lifetime: after Stop nothing runs any more; closures that wait are dropped. The thread lives
// until
//   Stop, which makes it a fit parent for children with PR_SET_PDEATHSIG.
class EventLoop {
 public:
  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  void Post(std::function<void()> task);

  // Runs `task` once after `delay` of monotonic time.
  using TimerId = uint64_t;
  TimerId RunAfter(absl::Duration delay, std::function<void()> task);
  // A timer that is already running or done is left alone.
  void Cancel(TimerId id);

  // Calls `on_readable` whenever `fd` is readable, until Unwatch. The operating system's error when
  // it has no room for one more.
  absl::Status Watch(int fd, std::function<void()> on_readable);
  void Unwatch(int fd);

  bool OnLoop() const { return std::this_thread::get_id() == thread_.get_id(); }

  // Ends the thread after the closure that runs. Idempotent; not from the loop itself.
  void Stop();

 private:
  using Clock = std::chrono::steady_clock;
  using TimerKey = std::pair<Clock::time_point, TimerId>;

  void Run();
  int WaitMilliseconds();
  void Wake();
  // Takes what is due: posted closures first, then timers in the order of their time.
  std::vector<std::function<void()>> TakeDue();

  int epoll_ = -1;
  int wake_ = -1;
  // By an id that is never given again: an event that was fetched before an Unwatch must not reach
  // whoever watches the next file of that number. The loop's own.
  using WatchId = uint64_t;
  static constexpr WatchId kWakeId = 0;
  WatchId last_watch_ = kWakeId;
  std::map<WatchId, std::function<void()>> watches_;
  std::map<int, WatchId> watch_ids_;  // by file descriptor
  Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  TimerId last_timer_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::function<void()>> posted_ ABSL_GUARDED_BY(mutex_);
  std::map<TimerKey, std::function<void()>> timers_ ABSL_GUARDED_BY(mutex_);
  std::map<TimerId, Clock::time_point> timer_times_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_EVENT_LOOP_H_
