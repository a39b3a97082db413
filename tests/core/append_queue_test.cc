#include "core/append_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "core/base/status.h"

namespace icepie {
namespace {

constexpr int64_t kBytesMax = int64_t{64} << 20;

class AppendQueueTest : public testing::Test {
 protected:
  // The line is known again by its stream.
  absl::Status Add(Stream& stream, int64_t bytes, std::shared_ptr<AppendChain> chain = nullptr) {
    PreparedAppend append;
    append.runs.emplace_back().stream = &stream;
    append.memory_bytes = bytes;
    append.chain = std::move(chain);
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

TEST_F(AppendQueueTest, AnEighthIsKeptForThoseWhoDoNotFlood) {
  absl::Status refused;
  while (refused.ok()) refused = Add(flood_, 1 << 20);
  EXPECT_EQ(ErrorReason(refused), "APPEND_QUEUE_FULL");
  EXPECT_GT(GetErrorDetail(refused)->retry_after_ms.value_or(0), 0);
  for (int i = 0; i < 7; ++i) EXPECT_TRUE(Add(quiet_, 1 << 20).ok());
  // By number of appends likewise.
  while (!queue_.empty()) Take();
  for (size_t i = 0; i < AppendQueue::kAppendsMax; ++i) ASSERT_TRUE(Add(flood_, 1).ok());
  EXPECT_FALSE(Add(flood_, 1).ok());
  EXPECT_TRUE(Add(quiet_, 1).ok());
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
