#include "server/supervisor/wake_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace icepie::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Work = WakeQueue::Work;

constexpr absl::Duration kTurn = absl::Seconds(30);

class WakeQueueTest : public ::testing::Test {
 protected:
  static absl::Time At(int seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

  // A round at `now` in which `busy` domains more are awake that have just come.
  static WakeQueue::Turns Round(WakeQueue& queue, int now, int busy,
                                const std::vector<std::string>& wanted) {
    queue.Begin(At(now));
    for (int i = 0; i < busy; ++i) queue.Awake(absl::StrCat("busy", i), Work::kRecords, At(now));
    for (const std::string& domain : wanted) queue.Want(domain);
    return queue.End();
  }
};

TEST_F(WakeQueueTest, WakesAsManyAsThereIsRoomForTheLongestWaitingFirst) {
  WakeQueue queue(2, kTurn);
  const auto first = Round(queue, 0, 1, {"m", "z"});
  EXPECT_THAT(first.wake, ElementsAre("m"));
  EXPECT_THAT(first.wait, ElementsAre("z"));
  EXPECT_TRUE(first.crowded);
  // `a` comes later and is before `z` by its name alone.
  const auto second = Round(queue, 1, 2, {"a", "z"});
  EXPECT_THAT(second.wake, IsEmpty());
  EXPECT_THAT(second.wait, ElementsAre("a"));
  EXPECT_THAT(Round(queue, 2, 1, {"a", "z"}).wake, ElementsAre("z"));
  const auto last = Round(queue, 3, 0, {"a"});
  EXPECT_THAT(last.wake, ElementsAre("a"));
  EXPECT_FALSE(last.crowded);
}

TEST_F(WakeQueueTest, WhoIsWantedNoMoreLosesItsPlace) {
  WakeQueue queue(1, kTurn);
  Round(queue, 0, 1, {"z"});
  Round(queue, 1, 1, {"a"});
  Round(queue, 2, 1, {"a", "z"});
  EXPECT_THAT(Round(queue, 3, 0, {"a", "z"}).wake, ElementsAre("a"));
}

TEST_F(WakeQueueTest, OneThatIsEndingKeepsItsPlaceUntilItHasEnded) {
  WakeQueue queue(1, kTurn);
  queue.Begin(At(0));
  queue.Leaves();
  queue.Want("a");
  EXPECT_THAT(queue.End().wake, IsEmpty());
  EXPECT_THAT(Round(queue, 1, 0, {"a"}).wake, ElementsAre("a"));
}

TEST_F(WakeQueueTest, AsManyRestAsAreNeededTheIdleFirst) {
  WakeQueue queue(4, kTurn);
  const auto round = [&](const std::vector<std::string>& wanted) {
    queue.Begin(At(100));
    queue.Awake("old", Work::kRecords, At(10));
    queue.Awake("young", Work::kRecords, At(71));
    queue.Awake("older", Work::kRecords, At(5));
    queue.Awake("idle", Work::kNothing, At(99));
    for (const std::string& domain : wanted) queue.Want(domain);
    return queue.End().rest;
  };
  EXPECT_THAT(round({}), IsEmpty());
  EXPECT_THAT(round({"a"}), ElementsAre("idle"));
  EXPECT_THAT(round({"a", "b"}), ElementsAre("idle", "older"));
  // `young` has its turn, however many wait.
  EXPECT_THAT(round({"a", "b", "c", "d", "e"}), ElementsAre("idle", "older", "old"));
}

TEST_F(WakeQueueTest, WhoIsLeavingAlreadyIsEnough) {
  WakeQueue queue(2, kTurn);
  queue.Begin(At(100));
  queue.Leaves();
  queue.Awake("old", Work::kRecords, At(0));
  queue.Want("a");
  EXPECT_THAT(queue.End().rest, IsEmpty());
}

TEST_F(WakeQueueTest, MoreThanMayBeAwakeRestAlthoughNobodyWaits) {
  WakeQueue queue(1, kTurn);  // questions or an admin woke the others
  queue.Begin(At(0));
  for (const char* domain : {"a", "b", "c"}) queue.Awake(domain, Work::kNothing, At(0));
  EXPECT_THAT(queue.End().rest, ElementsAre("a", "b"));
}

TEST_F(WakeQueueTest, AQuarterIsKeptFromThoseThatCannotRest) {
  WakeQueue queue(8, kTurn);
  std::vector<std::string> many;
  for (int i = 0; i < 20; ++i) many.push_back(absl::StrCat("domain_", i));
  const auto round = [&](int now) {
    queue.Begin(At(now));
    for (int i = 0; i < 8; ++i) queue.Awake("faulted", Work::kCannotRest, At(0));
    for (const std::string& domain : many) queue.Want(domain);
    return queue.End();
  };
  EXPECT_THAT(round(29).wake, IsEmpty());  // they may only be starting
  EXPECT_THAT(round(30).wake, SizeIs(2));
}

TEST_F(WakeQueueTest, WithoutALimitAllAreWokenAndNobodyRests) {
  WakeQueue queue(0, kTurn);
  std::vector<std::string> many;
  for (int i = 0; i < 1000; ++i) many.push_back(absl::StrCat("domain_", i));
  queue.Begin(At(100));
  queue.Awake("idle", Work::kNothing, At(0));
  for (const std::string& domain : many) queue.Want(domain);
  const auto turns = queue.End();
  EXPECT_THAT(turns.wake, SizeIs(1000));
  EXPECT_THAT(turns.rest, IsEmpty());
  EXPECT_FALSE(turns.crowded);
}

// A hundred that always have records: so many at a time, for a turn each, all about as often. Whose
// waiting begins at once come by name, so one may be a turn ahead at either end.
TEST_F(WakeQueueTest, EverybodyHasItsTurn) {
  constexpr int kDomains = 100;
  constexpr int kAwakeMax = 8;
  WakeQueue queue(kAwakeMax, kTurn);
  std::map<std::string, absl::Time> awake;
  std::map<std::string, int> turns_of;
  for (int i = 0; i < kDomains; ++i) turns_of[absl::StrCat("domain_", i)] = 0;
  for (int now = 0; now < 13 * 4 * 40; now += 10) {
    queue.Begin(At(now));
    for (const auto& [domain, turns] : turns_of) {
      const auto found = awake.find(domain);
      if (found == awake.end()) {
        queue.Want(domain);
      } else {
        queue.Awake(domain, Work::kRecords, found->second);
      }
    }
    const auto turns = queue.End();
    for (const std::string& domain : turns.rest) awake.erase(domain);
    for (const std::string& domain : turns.wake) {
      awake[domain] = At(now);
      ++turns_of[domain];
    }
    ASSERT_LE(awake.size(), kAwakeMax);
  }
  const auto [least, most] =
      std::minmax_element(turns_of.begin(), turns_of.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; });
  EXPECT_GE(least->second, 3);
  EXPECT_LE(most->second, least->second + 2);
}

TEST_F(WakeQueueTest, TheLimitGoesByTheMachinesMemory) {
  EXPECT_EQ(AwakeMaxByMemory(int64_t{16} << 30), 64);
  EXPECT_EQ(AwakeMaxByMemory(int64_t{1} << 30), 8);
  EXPECT_EQ(AwakeMaxByMemory(0), 8);
}

}  // namespace
}  // namespace icepie::server
