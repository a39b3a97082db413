#include "server/domain/desired_change.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "core/base/status.h"
#include "server/base/proto_time.h"

namespace icepie::server {
namespace {

using icepie::v1::DesiredState;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

icepie::catalog::v1::SliceEntry SliceIn(DesiredState::Mode mode) {
  icepie::catalog::v1::SliceEntry slice;
  slice.mutable_desired()->set_mode(mode);
  slice.mutable_desired()->set_actor("first");
  slice.mutable_desired()->set_reason("before");
  return slice;
}

DesiredState After(SliceAction action, const icepie::catalog::v1::SliceEntry& slice) {
  return DesiredAfter({action, "ann", "INC-1", {}}, slice, kNow);
}

// Applies the verbs one after the other.
DesiredState After(const std::vector<SliceAction>& actions) {
  icepie::catalog::v1::SliceEntry slice;
  for (const SliceAction action : actions) *slice.mutable_desired() = After(action, slice);
  return slice.desired();
}

TEST(DesiredChangeTest, EachVerbLeadsToItsStateAndSaysWhoWantedIt) {
  const DesiredState frozen = After(SliceAction::kFreeze, SliceIn(DesiredState::RUN));
  EXPECT_EQ(frozen.mode(), DesiredState::FREEZE);
  EXPECT_EQ(frozen.actor(), "ann");
  EXPECT_EQ(frozen.reason(), "INC-1");
  EXPECT_EQ(FromProto(frozen.since()), kNow);
  EXPECT_EQ(After(SliceAction::kThaw, SliceIn(DesiredState::FREEZE)).mode(), DesiredState::RUN);
  EXPECT_EQ(After(SliceAction::kSuspend, SliceIn(DesiredState::RUN)).mode(), DesiredState::SUSPEND);
  EXPECT_EQ(After(SliceAction::kResume, SliceIn(DesiredState::RUN)).mode(), DesiredState::RUN);
  EXPECT_EQ(After(SliceAction::kRestart, SliceIn(DesiredState::FREEZE)).mode(),
            DesiredState::FREEZE);
  EXPECT_EQ(After(SliceAction::kRestart, SliceIn(DesiredState::RUN)).restarts(), 1);
}

TEST(DesiredChangeTest, AskingForWhatIsAlreadySoChangesNothing) {
  for (const auto& [action, mode] : {std::pair(SliceAction::kFreeze, DesiredState::FREEZE),
                                     std::pair(SliceAction::kThaw, DesiredState::RUN),
                                     std::pair(SliceAction::kResume, DesiredState::RUN),
                                     std::pair(SliceAction::kResume, DesiredState::FREEZE)}) {
    const auto slice = SliceIn(mode);
    EXPECT_EQ(After(action, slice).SerializeAsString(), slice.desired().SerializeAsString());
  }
  auto suspended = SliceIn(DesiredState::SUSPEND);
  suspended.mutable_desired()->set_resume_to(DesiredState::FREEZE);
  EXPECT_EQ(After(SliceAction::kSuspend, suspended).SerializeAsString(),
            suspended.desired().SerializeAsString());
}

// Somebody suspended it because it harms its worker: the brake must not load it again.
TEST(DesiredChangeTest, FreezingAndThawingASuspendedSliceChangesWhatItReturnsTo) {
  using A = SliceAction;
  const DesiredState frozen = After({A::kSuspend, A::kFreeze});
  EXPECT_EQ(frozen.mode(), DesiredState::SUSPEND);
  EXPECT_EQ(frozen.resume_to(), DesiredState::FREEZE);
  EXPECT_EQ(After({A::kSuspend, A::kFreeze, A::kResume}).mode(), DesiredState::FREEZE);
  EXPECT_EQ(After({A::kSuspend, A::kFreeze, A::kThaw}).mode(), DesiredState::SUSPEND);
  EXPECT_EQ(After({A::kSuspend, A::kFreeze, A::kThaw, A::kResume}).mode(), DesiredState::RUN);
  EXPECT_EQ(After({A::kFreeze, A::kSuspend, A::kThaw, A::kResume}).mode(), DesiredState::RUN);
  EXPECT_EQ(After({A::kFreeze, A::kSuspend, A::kSuspend, A::kResume}).mode(), DesiredState::FREEZE);
}

// Whoever looks at a frozen slice must read who froze it and why, whatever came in between.
TEST(DesiredChangeTest, AFreezeOutlastsASuspensionWithWhoWantedItAndWhy) {
  using A = SliceAction;
  icepie::catalog::v1::SliceEntry slice;
  DesiredState& desired = *slice.mutable_desired();
  absl::Time now = kNow;
  const auto say = [&](A action, const std::string& who, const std::string& why) {
    now += absl::Hours(1);
    desired = DesiredAfter({action, who, why, {}}, slice, now);
  };
  say(A::kFreeze, "ann", "INC-1");
  const DesiredState frozen = desired;
  say(A::kSuspend, "bob", "too much memory");
  EXPECT_EQ(desired.actor(), "bob");
  EXPECT_EQ(desired.reason(), "too much memory");
  EXPECT_EQ(desired.freeze().actor(), "ann");
  EXPECT_EQ(desired.freeze().reason(), "INC-1");
  EXPECT_EQ(FromProto(desired.freeze().since()), FromProto(frozen.since()));
  say(A::kSuspend, "carl", "again");
  say(A::kFreeze, "carl", "again");
  say(A::kRestart, "carl", "again");
  say(A::kResume, "dora", "it has more now");
  EXPECT_EQ(desired.mode(), DesiredState::FREEZE);
  EXPECT_EQ(desired.actor(), "ann");
  EXPECT_EQ(desired.reason(), "INC-1");
  EXPECT_EQ(FromProto(desired.since()), FromProto(frozen.since()));
  EXPECT_FALSE(desired.has_freeze());

  // Frozen while it is suspended.
  say(A::kThaw, "ann", "");
  say(A::kSuspend, "bob", "too much memory");
  EXPECT_FALSE(desired.has_freeze());
  say(A::kFreeze, "ann", "INC-2");
  EXPECT_EQ(desired.reason(), "too much memory");
  const absl::Time second = now;
  say(A::kResume, "dora", "it has more now");
  EXPECT_EQ(desired.actor(), "ann");
  EXPECT_EQ(desired.reason(), "INC-2");
  EXPECT_EQ(FromProto(desired.since()), second);

  // Thawed while it is suspended: nothing is left of it.
  say(A::kSuspend, "bob", "too much memory");
  say(A::kThaw, "ann", "");
  EXPECT_FALSE(desired.has_freeze());
  say(A::kResume, "dora", "it has more now");
  EXPECT_EQ(desired.mode(), DesiredState::RUN);
  EXPECT_EQ(desired.actor(), "dora");
}

// A daemon that did not know of it has resumed and thawed the slice, and left it there.
TEST(DesiredChangeTest, WhatIsLeftOfAnEarlierFreezeIsNotTakenForThisOne) {
  for (const auto before : {DesiredState::RUN, DesiredState::FREEZE, DesiredState::SUSPEND}) {
    auto slice = SliceIn(before);
    DesiredState& desired = *slice.mutable_desired();
    desired.mutable_freeze()->set_actor("ann");
    desired.mutable_freeze()->set_reason("INC-1");
    if (before == DesiredState::SUSPEND) {
      desired = DesiredAfter({SliceAction::kResume, "bob", "", {}}, slice, kNow);
      EXPECT_EQ(desired.mode(), DesiredState::RUN);
      EXPECT_FALSE(desired.has_freeze());
    }
    desired = DesiredAfter({SliceAction::kThaw, "bob", "", {}}, slice, kNow);
    desired.mutable_freeze()->set_actor("ann");
    desired = DesiredAfter({SliceAction::kFreeze, "carl", "INC-2", {}}, slice, kNow);
    EXPECT_EQ(desired.actor(), "carl");
    EXPECT_EQ(desired.reason(), "INC-2");
    EXPECT_EQ(FromProto(desired.since()), kNow);
    EXPECT_FALSE(desired.has_freeze());
  }
}

TEST(DesiredChangeTest, AFreezeRemindsUntilItEnds) {
  auto slice = SliceIn(DesiredState::RUN);
  DesiredState& desired = *slice.mutable_desired();
  const auto freeze = [&](absl::Duration remind_after, absl::Time now) {
    desired = DesiredAfter({SliceAction::kFreeze, "ann", "INC-1", remind_after}, slice, now);
  };
  freeze(absl::Hours(2), kNow);
  EXPECT_EQ(FromProto(desired.remind_time()), kNow + absl::Hours(2));
  EXPECT_FALSE(IsFreezeOverdue(desired, kNow + absl::Minutes(119)));
  EXPECT_TRUE(IsFreezeOverdue(desired, kNow + absl::Hours(2)));
  EXPECT_EQ(desired.mode(), DesiredState::FREEZE) << "nothing thaws by itself";

  // Somebody else's brake, who says nothing of a time, leaves it; another time counts from then.
  desired = After(SliceAction::kFreeze, slice);
  EXPECT_TRUE(IsFreezeOverdue(desired, kNow + absl::Hours(2)));
  freeze(absl::Hours(1), kNow + absl::Hours(2));
  EXPECT_EQ(FromProto(desired.remind_time()), kNow + absl::Hours(3));
  EXPECT_EQ(FromProto(desired.since()), kNow);
  EXPECT_THAT(OverdueMessage("a.b", desired),
              ::testing::HasSubstr("icepie slice freeze a.b --reason WHY --for 2h"));

  // A suspension comes between; what is thawed or runs is never overdue.
  desired = After(SliceAction::kSuspend, slice);
  EXPECT_FALSE(IsFreezeOverdue(desired, kNow + absl::Hours(9)));
  desired = After(SliceAction::kResume, slice);
  EXPECT_TRUE(IsFreezeOverdue(desired, kNow + absl::Hours(9)));
  desired = After(SliceAction::kThaw, slice);
  EXPECT_FALSE(desired.has_remind_time());
  desired = After(SliceAction::kFreeze, slice);
  EXPECT_FALSE(IsFreezeOverdue(desired, kNow + absl::Hours(9)));
}

TEST(DesiredChangeTest, AReminderIsATimeToCome) {
  EXPECT_EQ(*RemindAfter(ToProto(absl::Hours(2))), absl::Hours(2));
  for (const absl::Duration bad :
       {absl::ZeroDuration(), absl::Seconds(-1), absl::Hours(24 * 367), absl::Hours(24 * 99999)}) {
    const auto refused = RemindAfter(ToProto(bad));
    EXPECT_EQ(ErrorReason(refused.status()), "PARAMETER_INVALID") << bad;
  }
}

}  // namespace
}  // namespace icepie::server
