#include "server/worker/idle_watch.h"

#include <gtest/gtest.h>

namespace icepie::server {
namespace {

class IdleWatchTest : public testing::Test {
 protected:
  // An interval in which the process had the processor for so long.
  bool After(absl::Duration processor) {
    used_ += processor;
    return watch_.CameToRest(used_);
  }

 private:
  IdleWatch watch_;
  absl::Duration used_ = absl::ZeroDuration();
};

TEST_F(IdleWatchTest, TheStartIsTheFirstPieceOfWork) {
  EXPECT_FALSE(After(absl::Milliseconds(300)));
  EXPECT_TRUE(After(absl::Milliseconds(10)));
}

TEST_F(IdleWatchTest, RestsOnceAfterEachPieceOfWork) {
  EXPECT_TRUE(After(absl::ZeroDuration()));
  EXPECT_FALSE(After(absl::Milliseconds(10)));
  EXPECT_FALSE(After(absl::Milliseconds(900)));
  EXPECT_FALSE(After(absl::Milliseconds(60)));
  EXPECT_TRUE(After(absl::Milliseconds(10)));
  EXPECT_FALSE(After(absl::Milliseconds(10)));
}

}  // namespace
}  // namespace icepie::server
