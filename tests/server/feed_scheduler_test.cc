#include "server/record/feed_scheduler.h"

#include <gtest/gtest.h>

#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

// Counts how often it is woken.
class Counter final : public FeedTask {
 public:
  void Wake() override {
    const MutexLock lock(mutex_);
    ++wakes_;
    changed_.SignalAll();
  }

  bool WaitFor(int wakes) {
    const MutexLock lock(mutex_);
    while (wakes_ < wakes) {
      if (!changed_.WaitFor(mutex_, absl::Seconds(30))) return false;
    }
    return true;
  }

  int wakes() {
    const MutexLock lock(mutex_);
    return wakes_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int wakes_ ABSL_GUARDED_BY(mutex_) = 0;
};

class FeedSchedulerTest : public testing::Test {
 protected:
  FeedSchedulerTest() : core_(OpenCore(directory_.path())), scheduler_(core_.get(), 2) {
    EXPECT_TRUE(core_->CreateStream("a", PayloadFormat::kJson).ok());
  }

  void Append() { ASSERT_TRUE(core_->AppendAndWait(NumberedBatch("a", 0, 1)).ok()); }

  // What was scheduled before has been run by then.
  void Settle() {
    for (int i = 0; i < 2; ++i) {
      const auto last = std::make_shared<Counter>();
      scheduler_.WakeSoon(last);
      ASSERT_TRUE(last->WaitFor(1));
    }
  }

  TempDirectory directory_;
  std::unique_ptr<Core> core_;
  FeedScheduler scheduler_;
};

TEST_F(FeedSchedulerTest, WakesSoonAndAtATime) {
  const auto task = std::make_shared<Counter>();
  scheduler_.WakeSoon(task);
  EXPECT_TRUE(task->WaitFor(1));
  const SteadyTime time = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  scheduler_.WakeAt(task, time);
  EXPECT_TRUE(task->WaitFor(2));
  EXPECT_GE(std::chrono::steady_clock::now(), time);
}

TEST_F(FeedSchedulerTest, WakesOnceTheHeadIsBeyondAPosition) {
  const auto near = std::make_shared<Counter>();
  const auto far = std::make_shared<Counter>();
  scheduler_.WakeBeyond(near, 0);
  scheduler_.WakeBeyond(far, 1);
  Append();
  EXPECT_TRUE(near->WaitFor(1));
  Settle();
  EXPECT_EQ(far->wakes(), 0);
  Append();
  EXPECT_TRUE(far->WaitFor(1));
  Settle();
  EXPECT_EQ(near->wakes(), 1);
  scheduler_.WakeBeyond(near, 0);  // it already is
  EXPECT_TRUE(near->WaitFor(2));
}

TEST_F(FeedSchedulerTest, ForgottenAndDestroyedTasksAreLeftAlone) {
  const auto forgotten = std::make_shared<Counter>();
  scheduler_.WakeBeyond(forgotten, 0);
  scheduler_.Forget(forgotten.get());
  auto destroyed = std::make_shared<Counter>();
  const std::weak_ptr<Counter> watch = destroyed;
  scheduler_.WakeBeyond(destroyed, 0);
  scheduler_.WakeAt(destroyed, std::chrono::steady_clock::now() + std::chrono::milliseconds(1));
  destroyed.reset();
  EXPECT_TRUE(watch.expired());
  Append();
  Settle();
  EXPECT_EQ(forgotten->wakes(), 0);
}

}  // namespace
}  // namespace icepie::server
