#include "server/fair_executor.h"

#include <utility>

#include "core/base/thread_priority.h"

namespace icepie::server {

FairExecutor::FairExecutor(int threads, int nice, int64_t bytes_max) : bytes_max_(bytes_max) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this, nice] {
      BeNicer(nice);
      Work();
    });
  }
}

FairExecutor::~FairExecutor() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

bool FairExecutor::Run(const std::string& line, int64_t bytes, std::function<void()> task) {
  const MutexLock lock(mutex_);
  const auto found = lines_.find(line);
  const int64_t in_line = found == lines_.end() ? 0 : found->second.bytes;
  const int64_t reserve = bytes_max_ / 8;
  const int64_t room = in_line < reserve ? bytes_max_ : bytes_max_ - reserve;
  if (bytes_ > 0 && bytes_ + bytes > room) return false;
  Line& own = lines_[line];
  if (own.tasks.empty()) turns_.push_back(line);
  own.tasks.push_back({bytes, std::move(task)});
  own.bytes += bytes;
  bytes_ += bytes;
  changed_.Signal();
  return true;
}

FairExecutor::Task FairExecutor::Next() {
  std::string name = std::move(turns_.front());
  turns_.pop_front();
  const auto line = lines_.find(name);
  Task task = std::move(line->second.tasks.front());
  line->second.tasks.pop_front();
  line->second.bytes -= task.bytes;
  if (line->second.tasks.empty()) {
    lines_.erase(line);
  } else {
    turns_.push_back(std::move(name));
  }
  return task;
}

void FairExecutor::Work() {
  while (true) {
    Task task;
    {
      const MutexLock lock(mutex_);
      while (turns_.empty() && !stopping_) changed_.Wait(mutex_);
      if (turns_.empty()) return;
      task = Next();
    }
    task.run();
    task.run = nullptr;
    const MutexLock lock(mutex_);
    bytes_ -= task.bytes;
  }
}

}  // namespace icepie::server
