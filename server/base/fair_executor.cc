#include "server/base/fair_executor.h"

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

bool FairExecutor::Run(const LinePlace& at, int64_t bytes, std::function<void()> task) {
  const MutexLock lock(mutex_);
  const int64_t room = lines_.RoomAt(at, bytes_max_, &FairLines<Task>::Waiting::bytes);
  if (bytes_ > 0 && bytes_ + bytes > room) return false;
  lines_.Add(at, bytes, {bytes, std::move(task)});
  bytes_ += bytes;
  changed_.Signal();
  return true;
}

void FairExecutor::Work() {
  while (true) {
    Task task;
    {
      const MutexLock lock(mutex_);
      while (lines_.empty() && !stopping_) changed_.Wait(mutex_);
      if (lines_.empty()) return;
      task = lines_.Take();
    }
    task.run();
    task.run = nullptr;
    const MutexLock lock(mutex_);
    bytes_ -= task.bytes;
  }
}

}  // namespace icepie::server
