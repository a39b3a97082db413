#include "server/supervisor/restart_policy.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace icepie::server {
namespace {

class RestartPolicyTest : public ::testing::Test {
 protected:
  // Starts, runs for `run`, fails; returns what the policy says.
  RestartPolicy::Decision Fail(absl::Duration run) {
    policy_.OnStart(now_);
    now_ += run;
    const auto decision = policy_.OnFailure(now_);
    now_ += decision.delay;
    return decision;
  }

  double random_ = 0;
  RestartPolicy policy_{RestartPolicyOptions{}, [this] { return random_; }};
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

TEST_F(RestartPolicyTest, StartsAgainAtOnceAfterTheFirstFailure) {
  const auto decision = Fail(absl::Hours(1));
  EXPECT_EQ(decision.delay, absl::ZeroDuration());
  EXPECT_FALSE(decision.suspended);
}

TEST_F(RestartPolicyTest, DoublesTheWaitOfFailuresInARow) {
  EXPECT_EQ(Fail(absl::ZeroDuration()).delay, absl::ZeroDuration());
  EXPECT_EQ(Fail(absl::ZeroDuration()).delay, absl::Seconds(1));
  EXPECT_EQ(Fail(absl::ZeroDuration()).delay, absl::Seconds(2));
  EXPECT_EQ(Fail(absl::ZeroDuration()).delay, absl::Seconds(4));
}

TEST_F(RestartPolicyTest, NeverWaitsLongerThanAMinuteAndTheJitter) {
  RestartPolicyOptions patient;
  patient.failures_max = 1000;
  random_ = 0.999;
  RestartPolicy policy(patient, [this] { return random_; });
  absl::Duration longest;
  policy.OnStart(now_);
  for (int i = 0; i < 100; ++i) longest = std::max(longest, policy.OnFailure(now_).delay);
  EXPECT_GT(longest, absl::Seconds(60));
  EXPECT_LE(longest, absl::Seconds(72));
}

TEST_F(RestartPolicyTest, ForgetsTheBackoffAfterAHealthyRun) {
  for (int i = 0; i < 4; ++i) Fail(absl::ZeroDuration());
  EXPECT_EQ(Fail(absl::Seconds(60)).delay, absl::ZeroDuration());
}

TEST_F(RestartPolicyTest, KeepsTheBackoffWhenRunsAreShort) {
  for (int i = 0; i < 4; ++i) Fail(absl::Seconds(2));
  EXPECT_EQ(Fail(absl::Seconds(2)).delay, absl::Seconds(8));
}

TEST_F(RestartPolicyTest, SuspendsAtTheTenthFailureInTenMinutes) {
  for (int i = 0; i < 9; ++i) EXPECT_FALSE(Fail(absl::ZeroDuration()).suspended) << i;
  const auto decision = Fail(absl::ZeroDuration());
  EXPECT_TRUE(decision.suspended);
  EXPECT_EQ(decision.delay, absl::Minutes(5));
  EXPECT_EQ(policy_.failures(), 10);
}

// Somebody may be waiting for its answer.
TEST_F(RestartPolicyTest, AStandbyIsTriedEveryFewSecondsHoweverOftenItFails) {
  random_ = 0.999;
  RestartPolicy policy(StandbyRestart({}), [this] { return random_; });
  absl::Duration longest;
  for (int i = 0; i < 200; ++i) {
    policy.OnStart(now_);
    const auto decision = policy.OnFailure(now_);
    EXPECT_FALSE(decision.suspended) << i;
    EXPECT_TRUE(i < 2 || decision.delay >= absl::Seconds(1)) << "a hot loop at failure " << i;
    longest = std::max(longest, decision.delay);
    now_ += decision.delay;
  }
  EXPECT_LE(longest, absl::Seconds(6));
}

TEST_F(RestartPolicyTest, DoesNotSuspendForFailuresFarApart) {
  for (int i = 0; i < 50; ++i) EXPECT_FALSE(Fail(absl::Seconds(70)).suspended) << i;
}

TEST_F(RestartPolicyTest, GetsANewSeriesAfterTheSuspension) {
  for (int i = 0; i < 10; ++i) Fail(absl::ZeroDuration());
  const auto decision = Fail(absl::ZeroDuration());
  EXPECT_FALSE(decision.suspended);
  EXPECT_EQ(decision.delay, absl::ZeroDuration());
}

TEST_F(RestartPolicyTest, ResetForgetsEverythingButTheCount) {
  for (int i = 0; i < 9; ++i) Fail(absl::ZeroDuration());
  policy_.Reset();
  const auto decision = Fail(absl::ZeroDuration());
  EXPECT_FALSE(decision.suspended);
  EXPECT_EQ(decision.delay, absl::ZeroDuration());
  EXPECT_EQ(policy_.failures(), 10);
}

TEST_F(RestartPolicyTest, TheFirstFailureAfterALongRunIsOne) {
  EXPECT_TRUE(Fail(absl::ZeroDuration()).first);
  EXPECT_FALSE(Fail(absl::Seconds(2)).first);
  EXPECT_TRUE(Fail(absl::Seconds(70)).first);
}

TEST(RestartPacerTest, ManyFailuresAtOnceAreSpreadAndFewAreNot) {
  RestartPacer pacer(8, absl::Milliseconds(250));
  absl::Time now = absl::FromUnixSeconds(1'000'000);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(pacer.Next(now, false), absl::ZeroDuration());
  for (int i = 1; i <= 100; ++i) EXPECT_EQ(pacer.Next(now, false), i * absl::Milliseconds(250));
  // Who had run well does not wait for those, but for its like.
  for (int i = 0; i < 8; ++i) EXPECT_EQ(pacer.Next(now, true), absl::ZeroDuration());
  EXPECT_EQ(pacer.Next(now, true), absl::Milliseconds(250));
  now += absl::Minutes(1);
  EXPECT_EQ(pacer.Next(now, false), absl::ZeroDuration());
}

}  // namespace
}  // namespace icepie::server
