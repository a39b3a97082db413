#include "server/executor.h"

#include <utility>

namespace icepie::server {

Executor::Executor(int threads, size_t queue_max) : queue_max_(queue_max) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

Executor::~Executor() { Stop(); }

bool Executor::Run(std::function<void()> task) {
  if (!gate_.Enter()) return false;
  MutexLock lock(mutex_);
  if (stopped_ || queue_.size() >= queue_max_) {
    gate_.Leave();
    return false;
  }
  queue_.push_back(std::move(task));
  changed_.Signal();
  return true;
}

void Executor::Stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    changed_.SignalAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  std::deque<std::function<void()>> dropped;
  MutexLock lock(mutex_);
  dropped.swap(queue_);
}

void Executor::Work() {
  while (true) {
    std::function<void()> task;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stopped_) changed_.Wait(mutex_);
      if (stopped_) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
    task = nullptr;  // what it holds goes before it counts as done
    gate_.Leave();
  }
}

}  // namespace icepie::server
