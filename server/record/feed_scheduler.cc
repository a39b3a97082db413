#include "server/record/feed_scheduler.h"

#include <utility>

#include "absl/time/time.h"

namespace icepie::server {

FeedScheduler::FeedScheduler(Core* core, int threads) : core_(core) {
  listener_ = core_->AddHeadListener([this](int64_t head) { OnHead(head); });
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

FeedScheduler::~FeedScheduler() {
  core_->RemoveHeadListener(listener_);
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.SignalAll();
  for (std::thread& thread : threads_) thread.join();
}

void FeedScheduler::WakeSoon(const std::shared_ptr<FeedTask>& task) {
  {
    const MutexLock lock(mutex_);
    ready_.push_back(task);
  }
  changed_.Signal();
}

void FeedScheduler::WakeAt(const std::shared_ptr<FeedTask>& task, SteadyTime time) {
  {
    const MutexLock lock(mutex_);
    timers_.emplace(time, task);
  }
  changed_.Signal();  // the waiting thread's own time may be later
}

void FeedScheduler::WakeBeyond(const std::shared_ptr<FeedTask>& task, int64_t position) {
  {
    const MutexLock lock(mutex_);
    head_waits_[task.get()] = {position, task};
  }
  if (draining_) return Drain();
  // The head may have moved before the wait was known to OnHead.
  const int64_t head = core_->head_position();
  if (head > position) OnHead(head);
}

void FeedScheduler::Drain() {
  {
    const MutexLock lock(mutex_);
    draining_ = true;
    for (auto& [key, wait] : head_waits_) {
      if (auto task = wait.task.lock()) ready_.push_back(std::move(task));
    }
    head_waits_.clear();
  }
  changed_.SignalAll();
}

void FeedScheduler::Forget(const FeedTask* task) {
  const MutexLock lock(mutex_);
  head_waits_.erase(task);
}

void FeedScheduler::OnHead(int64_t head) {
  bool any = false;
  {
    const MutexLock lock(mutex_);
    for (auto wait = head_waits_.begin(); wait != head_waits_.end();) {
      if (wait->second.position >= head) {
        ++wait;
        continue;
      }
      if (auto task = wait->second.task.lock()) ready_.push_back(std::move(task));
      wait = head_waits_.erase(wait);
      any = true;
    }
  }
  if (any) changed_.SignalAll();
}

void FeedScheduler::TakeDueTimers() {
  const SteadyTime now = std::chrono::steady_clock::now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    if (auto task = timers_.begin()->second.lock()) ready_.push_back(std::move(task));
    timers_.erase(timers_.begin());
  }
}

std::shared_ptr<FeedTask> FeedScheduler::Next() {
  const MutexLock lock(mutex_);
  while (!stopping_) {
    TakeDueTimers();
    if (!ready_.empty()) {
      std::shared_ptr<FeedTask> task = std::move(ready_.front());
      ready_.pop_front();
      return task;
    }
    if (timers_.empty()) {
      changed_.Wait(mutex_);
    } else {
      const auto left = timers_.begin()->first - std::chrono::steady_clock::now();
      changed_.WaitFor(mutex_, absl::FromChrono(left));
    }
  }
  return nullptr;
}

void FeedScheduler::Run() {
  while (const std::shared_ptr<FeedTask> task = Next()) task->Wake();
}

}  // namespace icepie::server
