#include "server/supervisor/heartbeat_silence.h"

#include <gtest/gtest.h>

namespace icepie::server {
namespace {

constexpr absl::Duration kInterval = absl::Seconds(1);
constexpr absl::Duration kTimeout = absl::Seconds(10);

class HeartbeatSilenceTest : public ::testing::Test {
 protected:
  HeartbeatSilenceTest() { silence_.OnAnswer(now_); }

  // A heartbeat that fails, and of which the daemon hears late; whether the worker has been silent
  // too long.
  bool FailOne(absl::Duration asked_late, absl::Duration heard_late) {
    silence_.Expect(now_ + kInterval);
    now_ += kInterval + asked_late;
    silence_.OnAsk(now_);
    now_ += kTimeout + heard_late;
    return silence_.OnFailure(now_);
  }

  HeartbeatSilence silence_{kInterval, kTimeout};
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

TEST_F(HeartbeatSilenceTest, WhoDoesNotAnswerIsSilent) {
  EXPECT_TRUE(FailOne(absl::ZeroDuration(), absl::ZeroDuration()));
}

TEST_F(HeartbeatSilenceTest, ACallThatFailsAtOnceIsNoSilence) {
  silence_.Expect(now_ + kInterval);
  now_ += kInterval;
  silence_.OnAsk(now_);
  EXPECT_FALSE(silence_.OnFailure(now_));
  now_ += kTimeout;
  EXPECT_TRUE(silence_.OnFailure(now_));
}

TEST_F(HeartbeatSilenceTest, ADaemonThatIsLateExcuses) {
  EXPECT_FALSE(FailOne(absl::ZeroDuration(), absl::Seconds(2)));
  EXPECT_EQ(silence_.last_answer(), now_);
  EXPECT_TRUE(FailOne(absl::ZeroDuration(), absl::ZeroDuration()));
}

TEST_F(HeartbeatSilenceTest, AtMostASecondLateIsNotLate) {
  EXPECT_TRUE(FailOne(absl::ZeroDuration(), absl::Seconds(1)));
}

// Only the time until it is asked is excused.
TEST_F(HeartbeatSilenceTest, WhoIsAskedLateHasTheTimeoutToAnswer) {
  silence_.Expect(now_ + kInterval);
  now_ += absl::Minutes(1);
  silence_.OnAsk(now_);
  EXPECT_FALSE(silence_.OnFailure(now_));
  now_ += kTimeout;
  EXPECT_TRUE(silence_.OnFailure(now_));
}

TEST_F(HeartbeatSilenceTest, ADaemonThatIsAlwaysLateExcusesTenTimes) {
  for (int i = 0; i < HeartbeatSilence::kExcusesMax; ++i) {
    EXPECT_FALSE(FailOne(absl::ZeroDuration(), absl::Seconds(2))) << i;
  }
  EXPECT_TRUE(FailOne(absl::ZeroDuration(), absl::Seconds(2)));
  EXPECT_TRUE(FailOne(absl::ZeroDuration(), absl::Seconds(2)));
}

// The two of one pause are bounded together.
TEST_F(HeartbeatSilenceTest, AskingLateAndHearingLateAreTwoExcuses) {
  for (int i = 0; i < HeartbeatSilence::kExcusesMax / 2; ++i) {
    EXPECT_FALSE(FailOne(absl::Seconds(2), absl::Seconds(2))) << i;
  }
  EXPECT_TRUE(FailOne(absl::Seconds(2), absl::Seconds(2)));
}

TEST_F(HeartbeatSilenceTest, AnAnswerIsWorthTenNewExcuses) {
  for (int i = 0; i < HeartbeatSilence::kExcusesMax; ++i) {
    EXPECT_FALSE(FailOne(absl::ZeroDuration(), absl::Seconds(2))) << i;
  }
  silence_.OnAnswer(now_);
  for (int i = 0; i < HeartbeatSilence::kExcusesMax; ++i) {
    EXPECT_FALSE(FailOne(absl::ZeroDuration(), absl::Seconds(2))) << i;
  }
  EXPECT_TRUE(FailOne(absl::ZeroDuration(), absl::Seconds(2)));
}

}  // namespace
}  // namespace icepie::server
