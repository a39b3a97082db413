// Who comes and goes without a call too often.
#include "server/front/empty_visits.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace icepie::server {
namespace {

class EmptyVisitsTest : public ::testing::Test {
 protected:
  static Peer From(const std::string& address, int port) {
    return PeerOf(absl::StrCat("ipv4:", address, ":", port));
  }

  // Whether one of so many visits is told as one too many.
  bool Visit(const std::string& address, int times, bool calls = false) {
    bool told = false;
    for (int i = 0; i < times; ++i) {
      const Peer peer = From(address, next_port_++);
      visits_.OnCome(peer, now_);
      if (calls) visits_.OnCall(peer.endpoint);
      told = visits_.OnGone(peer, now_ + kStay) || told;
    }
    return told;
  }

  static constexpr absl::Duration kStay = absl::Milliseconds(2);
  static constexpr int kMax = EmptyVisits::kVisitsMax;
  EmptyVisits visits_;
  absl::Time now_ = absl::UnixEpoch();
  int next_port_ = 1024;
};

TEST_F(EmptyVisitsTest, TellsOfAHostThatComesAgainAndAgain) {
  EXPECT_FALSE(Visit("192.0.2.1", kMax - 1));
  EXPECT_FALSE(Visit("192.0.2.2", 1));  // somebody else
  EXPECT_TRUE(Visit("192.0.2.1", 1));
  EXPECT_FALSE(Visit("192.0.2.1", kMax - 1));
  EXPECT_TRUE(Visit("192.0.2.1", 1));
}

TEST_F(EmptyVisitsTest, WhoCallsMayComeAsOftenAsHeLikes) {
  EXPECT_FALSE(Visit("192.0.2.1", 100 * kMax, /*calls=*/true));
}

TEST_F(EmptyVisitsTest, WhoLooksNowAndThenWhetherThePortIsOpenMayDoSo) {
  for (int second = 0; second < 10; ++second, now_ += EmptyVisits::kVisit) {
    EXPECT_FALSE(Visit("192.0.2.1", kMax - 1));
  }
}

TEST_F(EmptyVisitsTest, WhoStaysMayGoWithoutACall) {
  constexpr int kConnections = 2 * kMax;
  for (int port = 1; port <= kConnections; ++port) visits_.OnCome(From("192.0.2.1", port), now_);
  EXPECT_TRUE(visits_.HasNew());
  now_ += EmptyVisits::kVisit + absl::Milliseconds(1);
  visits_.ForgetOld(now_);
  EXPECT_FALSE(visits_.HasNew());
  for (int port = 1; port <= kConnections; ++port) {
    EXPECT_FALSE(visits_.OnGone(From("192.0.2.1", port), now_));
  }
}

// The port of one that is gone may be another's the next moment, before the first is found gone.
TEST_F(EmptyVisitsTest, APortThatIsUsedAgainIsANewVisit) {
  const Peer peer = From("192.0.2.1", 1);
  visits_.OnCome(peer, now_);
  now_ += EmptyVisits::kVisit / 2;
  visits_.OnCome(peer, now_);
  now_ += EmptyVisits::kVisit / 2 + absl::Milliseconds(1);
  visits_.ForgetOld(now_);
  EXPECT_TRUE(visits_.HasNew());
  EXPECT_FALSE(Visit("192.0.2.1", kMax - 1));
  EXPECT_TRUE(visits_.OnGone(peer, now_));
}

TEST_F(EmptyVisitsTest, CallsOfOthersAndPeersWithoutAnAddressAreFine) {
  visits_.OnCall(PeerOf("ipv4:192.0.2.9:9").endpoint);
  for (int i = 0; i < 2 * kMax; ++i) {
    visits_.OnCome(Peer{}, now_);
    EXPECT_FALSE(visits_.OnGone(Peer{}, now_));
  }
  EXPECT_FALSE(visits_.HasNew());
}

}  // namespace
}  // namespace icepie::server
