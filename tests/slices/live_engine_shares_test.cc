// One expensive slice does not starve the others of its domain.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "slices/apply/batch_size.h"
#include "slices/apply/turn_rest.h"
#include "slices/plan/function_list.h"
#include "tests/slices/engine_fixture.h"

namespace icepie::slices {
namespace {

// sleep_ms() waits for each row that it is called on, at no cost for anybody else. Users may not
// call it.
const bool kMaySleep = [] {
  AllowForTests({"sleep_ms", FunctionKind::kScalar, FunctionUse::kStable});
  return true;
}();

constexpr char kSlowDomain[] = R"(
domain: shop
sources:
  orders: {columns: {city: {type: VARCHAR, required: true}, amount: {type: BIGINT, required: true}}}
slices:
  slow:
    sql: SELECT _position AS at, sleep_ms(1) IS NULL AS slept FROM orders
    key: [at]
  over_slow:
    sql: SELECT slept, count(*) AS n FROM slow GROUP BY ALL
    key: [slept]
  quick:
    sql: SELECT city, count(*) AS n FROM orders GROUP BY ALL
    key: [city]
  slow_ranks:
    sql: SELECT _position AS at, rank() OVER (ORDER BY amount) AS place, sleep_ms(50) IS NULL AS slept FROM orders
    key: [at]
  quick_ranks:
    sql: SELECT _position AS at, rank() OVER (ORDER BY amount) AS place FROM orders
    key: [at]
)";

class LiveEngineSharesTest : public EngineFixture {
 protected:
  // The slow ones first: what comes after them in a turn waits for them.
  void ConfigureThese(const std::vector<std::string>& slices) {
    std::vector<GenerationSpec> specs;
    for (const std::string& slice : slices) {
      specs.push_back(Spec(slice));
      specs.back().file = kSlowDomain;
    }
    Configure(specs);
  }
};

// The size after twenty transactions, each as large as it says.
int64_t SizeFor(absl::Duration each_transaction, absl::Duration each_record) {
  BatchSize size;
  for (int i = 0; i < 20; ++i) {
    const int64_t records = size.records();
    size.Note(records, each_transaction + each_record * records);
  }
  return size.records();
}

TEST(BatchSizeTest, FollowsWhatRecordsCost) {
  EXPECT_EQ(SizeFor(absl::Milliseconds(1), absl::Microseconds(2)), BatchSize::kMost);
  const int64_t slow = SizeFor(absl::Milliseconds(1), absl::Milliseconds(2));
  EXPECT_GE(slow, 32);
  EXPECT_LE(slow, 125);
  EXPECT_LE(SizeFor(absl::Milliseconds(1), absl::Milliseconds(200)), 2);
}

// Many small transactions would only pay more often.
TEST(BatchSizeTest, WhatATransactionCostsIsPaidSeldom) {
  EXPECT_GE(SizeFor(absl::Milliseconds(400), absl::Microseconds(1)), BatchSize::kMost / 4);
  EXPECT_GE(SizeFor(absl::Seconds(3), absl::Microseconds(1)), BatchSize::kMost / 4);
}

TEST(BatchSizeTest, SmallBatchesTellNothingUnlessTheyAreSlow) {
  BatchSize size;
  for (int i = 0; i < 5; ++i) size.Note(3, absl::Milliseconds(2));
  EXPECT_EQ(size.records(), 256);
  size.Note(100, absl::Seconds(1));
  EXPECT_EQ(size.records(), 50);
}

// However many slices a turn is of, half of a core is left free, and most of one by long turns; a
// short one keeps nobody waiting.
TEST(TurnRestTest, TurnsAreFollowedByARestOfTheirOwnLength) {
  EXPECT_EQ(RestAfter(absl::ZeroDuration()), absl::ZeroDuration());
  absl::Duration before;
  for (absl::Duration worked = absl::Microseconds(1); worked < absl::Minutes(1); worked *= 1.5) {
    const absl::Duration rest = RestAfter(worked);
    EXPECT_GE(rest, worked);
    EXPECT_LE(rest, worked * 3);
    EXPECT_GT(rest, before);
    if (worked >= absl::Milliseconds(12)) EXPECT_EQ(rest, worked * 3);
    if (worked <= absl::Milliseconds(4)) EXPECT_EQ(rest, worked);
    before = rest;
  }
}

TEST_F(LiveEngineSharesTest, ASliceWhoseRecordsTakeLongDoesNotHoldUpTheOthers) {
  ASSERT_TRUE(kMaySleep);
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  ConfigureThese({"slow", "over_slow", "quick"});
  for (const char* slice : {"quick", "slow", "over_slow"}) WaitForPosition(slice, 1);
  // Applied by `slow` in some seconds.
  const int64_t head = feed_.Append("orders", std::vector<std::string>(1499, Order("Bern", 1)));
  WaitForPosition("quick", head);
  EXPECT_LT(Find("slow")->progress.applied_position, head);
  EXPECT_EQ(Rows("SELECT n FROM quick"), R"([{"n":1500}])");
  // It goes on beside them, is there in the end, and whoever reads it follows.
  for (const char* slice : {"slow", "over_slow"}) {
    WaitFor(slice,
            [&](const SliceReport& report) { return report.progress.applied_position == head; });
  }
  EXPECT_EQ(Find("slow")->progress.input, head);
  EXPECT_EQ(Rows("SELECT count(*) AS n, count(DISTINCT \"at\") AS d FROM slow"),
            R"([{"n":1500,"d":1500}])");
  EXPECT_EQ(Rows("SELECT n FROM over_slow"), R"([{"n":1500}])");
  // Together again, they follow the same records.
  const int64_t later = feed_.Append("orders", {Order("Bern", 1)});
  for (const char* slice : {"quick", "slow", "over_slow"}) WaitForPosition(slice, later);
}

TEST_F(LiveEngineSharesTest, ARecomputeRestsForItsOwnTimeOnly) {
  feed_.Append("orders", {Order("Bern", 1), Order("Chur", 2), Order("Basel", 3)});
  StartLive();
  ConfigureThese({"slow_ranks", "quick_ranks"});
  ASSERT_EQ(WaitForPosition("slow_ranks", 3).info.strategy, "recompute");
  WaitForPosition("quick_ranks", 3);
  const int64_t head = feed_.Append("orders", {Order("Bern", 4)});
  WaitForPosition("quick_ranks", head);
  EXPECT_LT(Find("slow_ranks")->progress.applied_position, head);
  WaitForPosition("slow_ranks", head);
}

}  // namespace
}  // namespace icepie::slices
