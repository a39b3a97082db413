#include "server/domain/promotion.h"

#include <gmock/gmock.h>

#include "core/base/status.h"
#include "server/domain/definition_changes.h"

namespace icepie::server {
namespace {

using icepie::v1::Generation;
using icepie::v1::PromotePolicy;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PromotionTest : public ::testing::Test {
 protected:
  PromotionTest() {
    slice_.set_name("volume");
    domain_.entry.add_definitions()->set_name("volume");
    domain_.entry.mutable_definitions(0)->set_definition_hash("hash-2");
    Add(1, Generation::SERVING);
    slice_.set_serving_generation(1);
  }

  Generation& Add(int64_t number, Generation::State state) {
    auto& generation = *slice_.add_generations()->mutable_generation();
    generation.set_number(number);
    generation.set_state(state);
    generation.set_definition_hash("hash-" + std::to_string(number));
    return generation;
  }
  Generation& Get(int64_t number) { return *FindGeneration(slice_, number)->mutable_generation(); }
  void ServeNow(int64_t number, bool rollback = false) {
    Serve(domain_, {"ann", "why", now_, rollback, ""}, number, slice_);
  }

  const absl::Time now_ = absl::FromUnixSeconds(1'800'000'000);
  CatalogDomain domain_;
  icepie::catalog::v1::SliceEntry slice_;
};

Generation WithDiff(int64_t base_rows, int64_t added, int64_t removed, int64_t changed) {
  Generation generation;
  generation.set_number(2);
  generation.mutable_diff()->set_base_rows(base_rows);
  generation.mutable_diff()->set_added(added);
  generation.mutable_diff()->set_removed(removed);
  generation.mutable_diff()->set_changed(changed);
  return generation;
}

TEST_F(PromotionTest, OneReplacedGenerationIsWarmAtATime) {
  Add(2, Generation::READY);
  ServeNow(2);
  EXPECT_TRUE(IsWarm(Get(1), now_ + absl::Minutes(59)));
  EXPECT_FALSE(IsWarm(Get(1), now_ + absl::Minutes(61)));
  Add(3, Generation::READY);
  ServeNow(3);
  EXPECT_FALSE(IsWarm(Get(1), now_));
  EXPECT_TRUE(IsWarm(Get(2), now_));
  EXPECT_THAT(GenerationsWithState(slice_, now_), ElementsAre(2, 3));
  EXPECT_EQ(Get(3).replaced_generation(), 2);
}

TEST_F(PromotionTest, TheFileSaysHowLongTheReplacedOneIsKept) {
  Add(2, Generation::READY);
  FindGeneration(slice_, 2)->mutable_definition()->mutable_promote()->set_keep_replaced_ms(1000);
  ServeNow(2);
  EXPECT_TRUE(IsWarm(Get(1), now_));
  EXPECT_FALSE(IsWarm(Get(1), now_ + absl::Seconds(1)));
}

TEST_F(PromotionTest, ARollBackIsNotedWhileTheFileHasAnotherDefinition) {
  Add(2, Generation::READY);
  ServeNow(2);
  EXPECT_FALSE(slice_.has_rolled_back());
  ASSERT_EQ(RollbackTarget("payments.volume", slice_, 0).value(), 1);
  ServeNow(1, true);
  EXPECT_EQ(slice_.rolled_back().refused_hash(), "hash-2");
  EXPECT_EQ(slice_.rolled_back().from_generation(), 2);
  EXPECT_EQ(ErrorReason(RollbackTarget("payments.volume", slice_, 0).status()),
            "GENERATION_NOT_FOUND");
  ServeNow(2, true);
  EXPECT_FALSE(slice_.has_rolled_back());
}

TEST_F(PromotionTest, OnlyWhatHasServedCanBeReturnedTo) {
  Add(2, Generation::FAILED);
  EXPECT_EQ(ErrorReason(RollbackTarget("payments.volume", slice_, 2).status()), "ROLLBACK_REFUSED");
  EXPECT_EQ(ErrorReason(RollbackTarget("payments.volume", slice_, 1).status()), "ALREADY_SERVING");
  EXPECT_EQ(RollbackTarget("payments.volume", slice_, 9).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(PromotionTest, AnotherBaseIsAGateThatCanBeForced) {
  Add(2, Generation::READY).mutable_diff()->set_base_generation(7);
  const auto judged = CheckPromotable("payments.volume", slice_, 2, false);
  EXPECT_EQ(ErrorReason(judged.status()), "PROMOTE_GATE_FAILED");
  EXPECT_EQ(CheckPromotable("payments.volume", slice_, 0, true).value(), 2);
}

TEST_F(PromotionTest, AFailedExpectationIsAGateThatCanBeForced) {
  auto& result = *Add(2, Generation::READY).add_expectations();
  result.set_name("not_null_chain");
  result.set_status(icepie::v1::ExpectationResult::FAILED);
  result.set_severity(icepie::v1::ExpectationResult::WARN);
  EXPECT_TRUE(CheckPromotable("payments.volume", slice_, 2, false).ok());
  Get(2).mutable_expectations(0)->set_severity(icepie::v1::ExpectationResult::ERROR);
  EXPECT_THAT(CheckPromotable("payments.volume", slice_, 2, false).status().message(),
              HasSubstr("expectation not_null_chain fails"));
  EXPECT_TRUE(CheckPromotable("payments.volume", slice_, 2, true).ok());
}

TEST_F(PromotionTest, LimitsAreBrokenByMoreThanTheirNumber) {
  PromotePolicy policy;
  policy.set_changed_rows_percent(1);
  policy.set_removed_rows(0);
  EXPECT_TRUE(CheckLimits("a.b", policy, WithDiff(1000, 5, 0, 10)).ok());
  EXPECT_THAT(CheckLimits("a.b", policy, WithDiff(1000, 0, 0, 11)).message(),
              HasSubstr("changed_rows_percent is 1.1, and the file allows 1"));
  EXPECT_THAT(CheckLimits("a.b", policy, WithDiff(1000, 0, 1, 0)).message(),
              HasSubstr("removed_rows is 1"));
  Generation bad = WithDiff(10, 0, 0, 0);
  bad.set_quarantined_count(3);
  policy.set_quarantined_records(2);
  EXPECT_THAT(CheckLimits("a.b", policy, bad).message(), HasSubstr("quarantined_records is 3"));
}

TEST_F(PromotionTest, LimitsLeaveOutWhatComesOfQuarantinedRecords) {
  PromotePolicy policy;
  policy.set_changed_rows(0);
  policy.set_added_rows(1);
  policy.set_removed_rows(0);
  policy.set_changed_rows_percent(0);
  Generation repaired = WithDiff(1000, 5, 2, 10);
  EXPECT_FALSE(CheckLimits("a.b", policy, repaired).ok());
  auto& explained = *repaired.mutable_diff()->mutable_from_quarantine();
  explained.set_added(4);
  explained.set_removed(2);
  explained.set_changed(10);
  EXPECT_TRUE(CheckLimits("a.b", policy, repaired).ok());
  explained.set_changed(9);
  EXPECT_THAT(CheckLimits("a.b", policy, repaired).message(),
              HasSubstr("changed_rows_percent is 0.1, and the file allows 0"));
}

TEST_F(PromotionTest, ColumnsThatAreGoneOrOthersNeedAHand) {
  Generation changed = WithDiff(10, 0, 0, 0);
  auto& column = *changed.mutable_diff()->add_columns();
  column.set_name("total");
  column.set_new_type("BIGINT");
  EXPECT_TRUE(CheckLimits("a.b", PromotePolicy(), changed).ok()) << "a new one";
  column.set_base_type("INTEGER");
  EXPECT_THAT(CheckLimits("a.b", PromotePolicy(), changed).message(),
              HasSubstr("column total becomes BIGINT (was INTEGER)"));
  column.clear_new_type();
  EXPECT_THAT(CheckLimits("a.b", PromotePolicy(), changed).message(),
              HasSubstr("column total is gone"));
}

TEST_F(PromotionTest, LimitsWithoutARowDiffAreBroken) {
  PromotePolicy policy;
  Generation blind = WithDiff(0, 0, 0, 0);
  blind.mutable_diff()->set_unavailable("the serving generation has no snapshot yet");
  EXPECT_TRUE(CheckLimits("a.b", policy, blind).ok()) << "nothing is limited";
  policy.set_added_rows(5);
  EXPECT_THAT(CheckLimits("a.b", policy, blind).message(), HasSubstr("no snapshot yet"));
}

TEST_F(PromotionTest, EndedGenerationsAreForgottenBeyondTheNewest) {
  for (int64_t number = 2; number <= 40; ++number) Add(number, Generation::CANCELLED);
  DropHistory(slice_, now_);
  EXPECT_EQ(slice_.generations_size(), 21);
  EXPECT_NE(FindGeneration(slice_, 1), nullptr) << "it serves";
  EXPECT_EQ(FindGeneration(slice_, 20), nullptr);
  EXPECT_NE(FindGeneration(slice_, 21), nullptr);
}

}  // namespace
}  // namespace icepie::server
