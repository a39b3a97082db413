#include "server/base/fair_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <vector>

namespace icepie::server {
namespace {

class FairExecutorTest : public testing::Test {
 protected:
  FairExecutorTest() {
    // Its only thread waits, so that what is added stands in line.
    executor_.Run({0, 0}, 1, [this] {
      began_.set_value();
      go_on_.get_future().wait();
    });
    began_.get_future().wait();
  }
  ~FairExecutorTest() override { EXPECT_TRUE(went_on_); }

  bool Add(const std::string& line, int64_t bytes) {
    return executor_.Run({0, std::hash<std::string>()(line)}, bytes, [this, line] {
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
  FairExecutor executor_{1, 1, 8'000'000};
};

TEST_F(FairExecutorTest, LinesTakeTurns) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Add("flood", 50'000));
  ASSERT_TRUE(Add("quiet", 50'000));
  std::promise<void> done;
  ASSERT_TRUE(executor_.Run({0, std::hash<std::string>()("flood")}, 1, [&] { done.set_value(); }));
  GoOn();
  done.get_future().wait();
  EXPECT_THAT(order_, testing::ElementsAre("flood", "quiet", "flood", "flood"));
}

TEST_F(FairExecutorTest, APartIsKeptForThoseWhoDoNotFlood) {
  int taken = 0;
  while (Add("flood", 500'000)) ++taken;
  EXPECT_EQ(taken, 13);  // 6.5 of 7 MB
  // Half of what is kept is for those who do not flood elsewhere either.
  EXPECT_TRUE(Add("quiet", 500'000));
  EXPECT_FALSE(Add("quiet", 500'000));
  EXPECT_TRUE(executor_.Run({1, 0}, 500'000, [] {}));
  GoOn();
}

}  // namespace
}  // namespace icepie::server
