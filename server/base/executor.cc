#include "server/base/executor.h"

#include <algorithm>
#include <utility>

namespace icepie::server {

Executor::Executor(int threads, size_t queue_max, int at_once_max)
    : queue_max_(queue_max), at_once_max_(at_once_max) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

Executor::~Executor() { Stop(); }

bool Executor::HasRoom(const std::string& line) const {
  const auto found = lines_.find(line);
  return found == lines_.end() || found->second.waiting < std::max(queue_max_ / 4, size_t{1});
}

bool Executor::IsFull(const std::string& line) {
  const MutexLock lock(mutex_);
  return !HasRoom(line);
}

bool Executor::Run(std::function<void()> task, const std::string& line) {
  if (!gate_.Enter()) return false;
  MutexLock lock(mutex_);
  if (stopped_ || queue_.size() >= queue_max_ || !HasRoom(line)) {
    gate_.Leave();
    return false;
  }
  queue_.push_back({line, std::move(task)});
  if (!line.empty()) ++lines_[line].waiting;
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
  Queue dropped;
  MutexLock lock(mutex_);
  dropped.swap(queue_);
}

Executor::Queue::iterator Executor::Next() {
  auto next = queue_.begin();
  while (next != queue_.end() && !next->line.empty() &&
         lines_.at(next->line).running >= at_once_max_) {
    ++next;
  }
  return next;
}

Executor::Task Executor::Take(Queue::iterator next) {
  Task task = std::move(*next);
  queue_.erase(next);
  if (!task.line.empty()) {
    Line& line = lines_.at(task.line);
    --line.waiting;
    ++line.running;
  }
  return task;
}

void Executor::LeaveLine(const std::string& line) {
  if (line.empty()) return;
  const auto found = lines_.find(line);
  --found->second.running;
  if (found->second.waiting > 0) {
    changed_.Signal();
  } else if (found->second.running == 0) {
    lines_.erase(found);
  }
}

void Executor::Work() {
  while (true) {
    Task task;
    {
      MutexLock lock(mutex_);
      auto next = Next();
      while (next == queue_.end() && !stopped_) {
        changed_.Wait(mutex_);
        next = Next();
      }
      if (stopped_) return;
      task = Take(next);
    }
    task.run();
    task.run = nullptr;  // what it holds goes before it counts as done
    {
      MutexLock lock(mutex_);
      LeaveLine(task.line);
    }
    gate_.Leave();
  }
}

}  // namespace icepie::server
