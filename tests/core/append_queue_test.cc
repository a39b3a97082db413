#include "core/append/append_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "core/base/status.h"

namespace icepie {
namespace {

constexpr int64_t kBytesMax = int64_t{64} << 20;
constexpr uint64_t kAnybody = 1;
constexpr uint64_t kFlooder = 2;

class AppendQueueTest : public testing::Test {
 protected:
  // It is known again by its stream.
  absl::Status Add(Stream& stream, int64_t bytes, std::shared_ptr<AppendChain> chain = nullptr) {
    return AddFrom(kAnybody, stream, bytes, std::move(chain));
  }
  absl::Status AddFrom(uint64_t peer, Stream& stream, int64_t bytes,
                       std::shared_ptr<AppendChain> chain = nullptr) {
    PreparedAppend append;
    append.runs.emplace_back().stream = &stream;
    append.memory_bytes = bytes;
    append.chain = std::move(chain);
    append.peer = peer;
    return queue_.Add(append, now_);
  }

  std::vector<const Stream*> Take() {
    std::vector<const Stream*> streams;
    for (const PreparedAppend& append : queue_.TakeGroup(now_)) {
      streams.push_back(append.runs.front().stream);
      queue_.Committed(append.memory_bytes);
    }
    return streams;
  }

  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  AppendQueue queue_{kBytesMax};
  Stream flood_, quiet_;
};

TEST_F(AppendQueueTest, OneStreamAloneIsCommittedInLargeGroups) {
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Add(flood_, 200'000).ok());
  EXPECT_EQ(Take().size(), AppendQueue::kGroupBytesMax / 200'000 + 1);
  while (!queue_.empty()) EXPECT_FALSE(Take().empty());
}

TEST_F(AppendQueueTest, WhoFloodsAStreamDoesNotKeepAnotherOneWaiting) {
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Add(flood_, 200'000).ok());
  ASSERT_TRUE(Add(quiet_, 500).ok());
  EXPECT_THAT(Take(), testing::Contains(&quiet_)) << "in the next commit, whatever waits";
  // The one that comes next waits for no more than a small commit.
  int64_t bytes = 0;
  for (const PreparedAppend& append : queue_.TakeGroup(now_)) bytes += append.memory_bytes;
  EXPECT_LE(bytes, AppendQueue::kSharedGroupBytesMax + 200'000);
}

TEST_F(AppendQueueTest, SmallGroupsEndWhenTheOtherStreamIsQuietForASecond) {
  ASSERT_TRUE(Add(quiet_, 500).ok());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Add(flood_, 200'000).ok());
  EXPECT_LT(Take().size(), 5u);
  now_ += absl::Seconds(2);
  ASSERT_TRUE(Add(flood_, 200'000).ok());
  EXPECT_GT(Take().size(), 30u);
}

TEST_F(AppendQueueTest, LinesShareByBytes) {
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Add(flood_, 60'000).ok());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Add(quiet_, 6'000).ok());
  int64_t flood = 0, quiet = 0;
  for (int i = 0; i < 5; ++i) {
    for (const Stream* stream : Take()) ++(stream == &flood_ ? flood : quiet);
  }
  EXPECT_GT(quiet, flood * 5);
  EXPECT_GT(flood, 0);
}

TEST_F(AppendQueueTest, WhoFloodsAThousandStreamsWaitsForHimselfAlone) {
  std::deque<Stream> streams(1000);
  absl::Status refused;
  for (size_t i = 0; refused.ok(); ++i) {
    refused = AddFrom(kFlooder, streams[i % streams.size()], 50'000);
  }
  EXPECT_EQ(ErrorReason(refused), "APPEND_QUEUE_FULL");
  // What is kept is not for another of his streams.
  EXPECT_FALSE(AddFrom(kFlooder, quiet_, 50'000).ok());
  ASSERT_TRUE(AddFrom(kAnybody, quiet_, 50'000).ok());
  EXPECT_THAT(Take(), testing::Contains(&quiet_)) << "in the next commit";
  // Also into a stream of the flood.
  ASSERT_TRUE(AddFrom(kAnybody, streams[0], 50'000).ok());
  const std::vector<PreparedAppend> next = queue_.TakeGroup(now_);
  EXPECT_TRUE(std::any_of(next.begin(), next.end(),
                          [](const PreparedAppend& append) { return append.peer == kAnybody; }));
}

TEST_F(AppendQueueTest, ManyWhoFloodOneStreamTakeTheTurnsOfOne) {
  for (uint64_t peer = 100; peer < 400; ++peer) {
    ASSERT_TRUE(AddFrom(peer, flood_, 60'000).ok());
    ASSERT_TRUE(AddFrom(peer, flood_, 60'000).ok());
  }
  ASSERT_TRUE(AddFrom(kAnybody, quiet_, 500).ok());
  EXPECT_THAT(Take(), testing::Contains(&quiet_));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(AddFrom(kAnybody, quiet_, 60'000).ok());
  int64_t flood = 0, quiet = 0;
  for (int i = 0; i < 10; ++i) {
    for (const Stream* stream : Take()) ++(stream == &flood_ ? flood : quiet);
  }
  // The first of them has turns of its own: at that time nobody else was there.
  EXPECT_GE(quiet, flood / 3);
}

TEST_F(AppendQueueTest, ALargeOneHasItsTurnBesideManySmallOnes) {
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(Add(quiet_, 6'000).ok());
  ASSERT_TRUE(AddFrom(kFlooder, flood_, 4 << 20).ok());
  int64_t small = 0;
  for (bool found = false; !found && !queue_.empty();) {
    for (const Stream* stream : Take()) {
      found = found || stream == &flood_;
      small += stream == &quiet_ ? 6'000 : 0;
    }
  }
  EXPECT_LE(small, 5 << 20);
}

TEST_F(AppendQueueTest, APartIsKeptForThoseWhoDoNotFlood) {
  absl::Status refused;
  while (refused.ok()) refused = Add(flood_, 1 << 20);
  EXPECT_EQ(ErrorReason(refused), "APPEND_QUEUE_FULL");
  EXPECT_GT(GetErrorDetail(refused)->retry_after_ms.value_or(0), 0);
  EXPECT_TRUE(Add(quiet_, 1 << 20).ok()) << "by the same connection";
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(AddFrom(kFlooder, quiet_, 1 << 20).ok());
  // By number of appends likewise.
  while (!queue_.empty()) Take();
  refused = absl::OkStatus();
  while (refused.ok()) refused = Add(flood_, 1);
  EXPECT_EQ(ErrorReason(refused), "APPEND_QUEUE_FULL");
  EXPECT_TRUE(Add(quiet_, 1).ok());
  EXPECT_TRUE(AddFrom(kFlooder, quiet_, 1).ok());
}

TEST_F(AppendQueueTest, AChainIsNotOvertakenByItself) {
  const auto chain = std::make_shared<AppendChain>();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Add(flood_, 100'000, chain).ok());
  ASSERT_TRUE(Add(quiet_, 100, chain).ok());  // a record of another stream in the same chain
  ASSERT_TRUE(Add(flood_, 100'000, chain).ok());
  std::vector<const Stream*> order;
  while (!queue_.empty()) {
    for (const Stream* stream : Take()) order.push_back(stream);
  }
  ASSERT_EQ(order.size(), 22u);
  EXPECT_EQ(order[20], &quiet_);
}

}  // namespace
}  // namespace icepie
