#include "server/base/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/base/check.h"
#include "core/base/file.h"

namespace icepie::server {

EventLoop::EventLoop() : epoll_(epoll_create1(EPOLL_CLOEXEC)), wake_(eventfd(0, EFD_CLOEXEC)) {
  ICEPIE_CHECK(epoll_ >= 0 && wake_ >= 0);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeId;
  ICEPIE_CHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) == 0);
  thread_ = std::thread([this] { Run(); });
}

EventLoop::~EventLoop() {
  Stop();
  close(wake_);
  close(epoll_);
}

void EventLoop::Stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
  }
  Wake();
  if (thread_.joinable()) thread_.join();
  // Closures may own what posts to this loop: they are destroyed outside the lock.
  std::vector<std::function<void()>> posted;
  std::map<TimerKey, std::function<void()>> timers;
  MutexLock lock(mutex_);
  posted.swap(posted_);
  timers.swap(timers_);
}

void EventLoop::Wake() {
  const uint64_t one = 1;
  while (write(wake_, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

void EventLoop::Post(std::function<void()> task) {
  {
    MutexLock lock(mutex_);
    if (stopped_) return;
    posted_.push_back(std::move(task));
  }
  Wake();
}

EventLoop::TimerId EventLoop::RunAfter(absl::Duration delay, std::function<void()> task) {
  const absl::Duration bounded =
      std::clamp(delay, absl::ZeroDuration(), absl::Duration(absl::Hours(24 * 365)));
  const auto time = Clock::now() + absl::ToChronoNanoseconds(bounded);
  TimerId id = 0;
  {
    MutexLock lock(mutex_);
    if (stopped_) return 0;
    id = ++last_timer_;
    timers_.emplace(TimerKey{time, id}, std::move(task));
    timer_times_[id] = time;
  }
  Wake();
  return id;
}

void EventLoop::Cancel(TimerId id) {
  std::function<void()> dropped;
  MutexLock lock(mutex_);
  auto time = timer_times_.find(id);
  if (time == timer_times_.end()) return;
  auto timer = timers_.find({time->second, id});
  timer_times_.erase(time);
  if (timer == timers_.end()) return;
  dropped = std::move(timer->second);
  timers_.erase(timer);
}

absl::Status EventLoop::Watch(int fd, std::function<void()> on_readable) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = last_watch_ + 1;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
    return ErrnoError(errno, "watching a file descriptor");
  }
  watch_ids_[fd] = ++last_watch_;
  watches_[last_watch_] = std::move(on_readable);
  return absl::OkStatus();
}

void EventLoop::Unwatch(int fd) {
  epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  const auto found = watch_ids_.find(fd);
  if (found == watch_ids_.end()) return;
  watches_.erase(found->second);
  watch_ids_.erase(found);
}

int EventLoop::WaitMilliseconds() {
  MutexLock lock(mutex_);
  if (stopped_ || !posted_.empty()) return 0;
  if (timers_.empty()) return -1;
  const auto wait = timers_.begin()->first.first - Clock::now();
  // Rounded up, so that the loop does not spin through the last millisecond.
  const auto rounded = std::chrono::ceil<std::chrono::milliseconds>(wait).count();
  return static_cast<int>(std::clamp<int64_t>(rounded, 0, 60000));
}

std::vector<std::function<void()>> EventLoop::TakeDue() {
  MutexLock lock(mutex_);
  std::vector<std::function<void()>> due;
  due.swap(posted_);
  const auto now = Clock::now();
  // A timer stays where it is until its turn: what is due before it may cancel it.
  for (auto at = timers_.begin(); at != timers_.end() && at->first.first <= now; ++at) {
    due.emplace_back([this, key = at->first] {
      std::function<void()> task;
      {
        MutexLock timer_lock(mutex_);
        const auto found = timers_.find(key);
        if (found == timers_.end()) return;
        task = std::move(found->second);
        timers_.erase(found);
        timer_times_.erase(key.second);
      }
      task();
    });
  }
  return due;
}

void EventLoop::Run() {
  constexpr int kEventsMax = 64;
  epoll_event events[kEventsMax];
  while (true) {
    const int count = epoll_wait(epoll_, events, kEventsMax, WaitMilliseconds());
    {
      MutexLock lock(mutex_);
      if (stopped_) return;
    }
    for (int i = 0; i < count; ++i) {
      const WatchId id = events[i].data.u64;
      if (id == kWakeId) {
        uint64_t ignored = 0;
        [[maybe_unused]] const auto bytes = read(wake_, &ignored, sizeof(ignored));
        continue;
      }
      auto watch = watches_.find(id);
      if (watch == watches_.end()) continue;
      const auto on_readable = watch->second;  // it may remove itself
      on_readable();
    }
    for (auto& task : TakeDue()) task();
  }
}

}  // namespace icepie::server
