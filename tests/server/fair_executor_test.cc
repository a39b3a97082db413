#include "server/fair_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <mutex>

namespace icepie::server {
namespace {

class FairExecutorTest : public testing::Test {
 protected:
  FairExecutorTest() {
    // Its only thread waits, so that what is added stands in line.
    executor_.Run("first", 1, [this] {
      began_.set_value();
      go_on_.get_future().wait();
    });
    began_.get_future().wait();
  }
  ~FairExecutorTest() override { EXPECT_TRUE(went_on_); }

  bool Add(const std::string& line, int64_t bytes) {
    return executor_.Run(line, bytes, [this, line] {
      const std::lock_guard lock(mutex_);
      order_.push_back(line);
    });
  }
  void GoOn() {
    went_on_ = true;
    go_on_.set_value();
  }

  std::promise<void> began_, go_on_;
  bool went_on_ = false;
  std::mutex mutex_;
  std::vector<std::string> order_;
  FairExecutor executor_{1, 1, 800};
};

TEST_F(FairExecutorTest, LinesTakeTurns) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Add("flood", 10));
  ASSERT_TRUE(Add("quiet", 10));
  std::promise<void> done;
  ASSERT_TRUE(executor_.Run("flood", 1, [&] { done.set_value(); }));
  GoOn();
  done.get_future().wait();
  EXPECT_THAT(order_, testing::ElementsAre("flood", "quiet", "flood", "flood"));
}

TEST_F(FairExecutorTest, AnEighthIsKeptForThoseWhoDoNotFlood) {
  int taken = 0;
  while (Add("flood", 50)) ++taken;
  EXPECT_EQ(taken, 13);  // 650 of 700
  EXPECT_TRUE(Add("quiet", 50));
  GoOn();
}

}  // namespace
}  // namespace icepie::server
