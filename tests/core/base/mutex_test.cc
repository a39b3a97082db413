#include "core/base/mutex.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace icepie {
namespace {

struct Counter {
  Mutex mutex;
  CondVar changed;
  int value ABSL_GUARDED_BY(mutex) = 0;
};

TEST(MutexTest, ThreadsCountWithoutLosingOne) {
  Counter counter;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&counter] {
      for (int i = 0; i < 10000; ++i) {
        const MutexLock lock(counter.mutex);
        ++counter.value;
        counter.changed.SignalAll();
      }
    });
  }
  {
    const MutexLock lock(counter.mutex);
    while (counter.value < 40000) counter.changed.Wait(counter.mutex);
  }
  for (std::thread& thread : threads) thread.join();
  const MutexLock lock(counter.mutex);
  EXPECT_EQ(counter.value, 40000);
}

TEST(MutexTest, WaitForReturnsFalseWhenTheTimeHasPassed) {
  Counter counter;
  const MutexLock lock(counter.mutex);
  EXPECT_FALSE(counter.changed.WaitFor(counter.mutex, absl::Milliseconds(1)));
}

TEST(MutexTest, InfiniteTimeoutStillHearsASignal) {
  Counter counter;
  std::thread other([&counter] {
    const MutexLock lock(counter.mutex);
    counter.value = 1;
    counter.changed.Signal();
  });
  {
    const MutexLock lock(counter.mutex);
    while (counter.value == 0) {
      counter.changed.WaitFor(counter.mutex, absl::InfiniteDuration());
    }
  }
  other.join();
}

}  // namespace
}  // namespace icepie
