#include "server/domain/definition_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "core/base/status.h"
#include "server/admin/request_replay.h"
#include "server/base/proto_time.h"
#include "server/domain/plan_estimate.h"

namespace icepie::server {
namespace {

using icepie::v1::Generation;
using icepie::v1::SliceChange;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

icepie::worker::v1::PlannedSlice Planned(const std::string& name, const std::string& hash) {
  icepie::worker::v1::PlannedSlice planned;
  planned.set_name(name);
  planned.set_definition_hash(hash);
  auto& column = *planned.add_columns();
  column.set_name("total");
  column.set_type("BIGINT");
  return planned;
}

class DefinitionChangesTest : public ::testing::Test {
 protected:
  DefinitionChangesTest() {
    current_.entry.set_file("old file");
    AddServing("volume", "hash-1");
    *plan_.add_slices() = Planned("volume", "hash-1");
  }

  void AddServing(const std::string& name, const std::string& hash) {
    auto& slice = current_.slices[name];
    slice.set_name(name);
    slice.set_serving_generation(1);
    auto& entry = *slice.add_generations();
    entry.mutable_generation()->set_number(1);
    entry.mutable_generation()->set_state(Generation::SERVING);
    entry.mutable_generation()->set_definition_hash(hash);
    *entry.mutable_definition() = ToDefinition(Planned(name, hash));
  }

  SliceChange Only(const std::string& file) {
    const auto changes = CompareDefinitions(current_, plan_, file);
    EXPECT_EQ(changes.size(), 1u);
    return changes.front();
  }

  CatalogDomain current_;
  icepie::worker::v1::PlanDomainResponse plan_;
};

TEST_F(DefinitionChangesTest, ADamagedSliceIsCreatedAgainOrDeleted) {
  current_.slices.clear();
  current_.damaged_slices["volume"].why = "its entry in the catalog is damaged";
  current_.damaged_slices["fees"].why = "its entry in the catalog is damaged";
  const auto changes = CompareDefinitions(current_, plan_, "new file");
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].slice(), "volume");
  EXPECT_EQ(changes[0].kind(), SliceChange::CREATE);
  EXPECT_EQ(changes[1].slice(), "fees");
  EXPECT_EQ(changes[1].kind(), SliceChange::DELETE);
}

TEST_F(DefinitionChangesTest, TheSameFileChangesNothing) {
  EXPECT_EQ(Only("old file").kind(), SliceChange::UNCHANGED);
}

TEST_F(DefinitionChangesTest, AnotherFileWithTheSameHashIsAnUpdate) {
  EXPECT_EQ(Only("new file").kind(), SliceChange::UPDATE);
}

TEST_F(DefinitionChangesTest, AnotherHashIsARebuild) {
  plan_.mutable_slices(0)->set_definition_hash("hash-2");
  EXPECT_EQ(Only("new file").kind(), SliceChange::REBUILD);
}

// Another version of the planner gives every definition another hash.
class OtherPlannerTest : public DefinitionChangesTest {
 protected:
  OtherPlannerTest() {
    current_.entry.set_revision(3);
    auto& serving = *current_.slices["volume"].mutable_generations(0)->mutable_generation();
    serving.set_revision(2);
    plan_.mutable_slices(0)->set_definition_hash("hash-1-anew");
    *earlier_.add_slices() = Planned("volume", "hash-1-anew");
  }

  icepie::worker::v1::PlanDomainResponse earlier_;
};

TEST_F(OtherPlannerTest, WhatTheFileSaysDecides) {
  EXPECT_THAT(RevisionsThatTell(current_, plan_), ElementsAre(2));
  KeepHashes(current_, 2, earlier_, plan_);
  EXPECT_EQ(plan_.slices(0).definition_hash(), "hash-1");
  EXPECT_EQ(Only("new file").kind(), SliceChange::UPDATE);
  EXPECT_THAT(RevisionsThatTell(current_, plan_), IsEmpty());
}

TEST_F(OtherPlannerTest, WhatHasChangedIsRebuilt) {
  earlier_.mutable_slices(0)->set_definition_hash("its source was another one");
  KeepHashes(current_, 2, earlier_, plan_);
  EXPECT_EQ(Only("new file").kind(), SliceChange::REBUILD);
}

TEST_F(OtherPlannerTest, OtherSqlIsNotAskedFor) {
  plan_.mutable_slices(0)->set_sql("SELECT 2 AS total");
  auto& reader = *plan_.add_slices();
  reader = Planned("fees", "hash-3-anew");
  reader.add_reads("volume");
  AddServing("fees", "hash-3");
  EXPECT_THAT(RevisionsThatTell(current_, plan_), IsEmpty());
}

TEST_F(OtherPlannerTest, ARenamedSliceIsKnownByItsNameInThatFile) {
  plan_.mutable_slices(0)->set_name("turnover");
  plan_.mutable_slices(0)->set_renamed_from("volume");
  KeepHashes(current_, 2, earlier_, plan_);
  EXPECT_EQ(plan_.slices(0).definition_hash(), "hash-1");
  EXPECT_TRUE(CheckRenames(current_, plan_).ok());
}

// What serves is another definition than the file's.
TEST_F(OtherPlannerTest, ARolledBackSliceStaysSo) {
  auto& slice = current_.slices["volume"];
  slice.mutable_generations(0)->mutable_definition()->set_sql("SELECT 2 AS total");
  slice.mutable_rolled_back()->set_refused_hash("hash-2");
  *current_.entry.add_definitions() = ToDefinition(Planned("volume", "hash-2"));
  EXPECT_THAT(RevisionsThatTell(current_, plan_), ElementsAre(3));
  KeepHashes(current_, 3, earlier_, plan_);
  EXPECT_EQ(Only("new file").kind(), SliceChange::ROLLED_BACK);
}

class KnownHashesTest : public OtherPlannerTest {
 protected:
  KnownHashesTest() {
    current_.revisions[2].set_file("the second");
    current_.revisions[3].set_file("the third");
  }

  // The first plannings fail so.
  absl::Status Keep(std::vector<absl::Status> failures = {}) {
    planned_.clear();
    const auto plan_file =
        [&](const std::string& file,
            const std::string&) -> absl::StatusOr<icepie::worker::v1::PlanDomainResponse> {
      planned_.push_back(file);
      if (planned_.size() <= failures.size()) return failures[planned_.size() - 1];
      return earlier_;
    };
    return KeepKnownHashes(current_, plan_file, plan_);
  }

  const absl::Status killed_ =
      MakeError(absl::StatusCode::kInvalidArgument, "signal 9", "SQL_TOO_COMPLEX");
  std::vector<std::string> planned_;
};

TEST_F(KnownHashesTest, AKilledPlannerIsTriedOnceMore) {
  EXPECT_TRUE(Keep({killed_}).ok());
  EXPECT_THAT(planned_, ElementsAre("the second", "the second"));
  EXPECT_EQ(plan_.slices(0).definition_hash(), "hash-1");
}

TEST_F(KnownHashesTest, WhatCannotBePlannedAnyMoreTellsNothing) {
  EXPECT_TRUE(Keep({killed_, killed_}).ok());
  EXPECT_THAT(planned_, ElementsAre("the second", "the second"));
  EXPECT_TRUE(Keep({absl::InvalidArgumentError("a function that is not there any more")}).ok());
  EXPECT_THAT(planned_, ElementsAre("the second"));
  EXPECT_EQ(plan_.slices(0).definition_hash(), "hash-1-anew");
  EXPECT_TRUE(absl::IsResourceExhausted(Keep({absl::ResourceExhaustedError("no time")})));
}

TEST_F(KnownHashesTest, WhatIsSettledIsNotPlannedAgain) {
  // The file says the same of the slice as what serves.
  *current_.entry.add_definitions() = ToDefinition(Planned("volume", "hash-1"));
  EXPECT_THAT(RevisionsThatTell(current_, plan_), ElementsAre(2, 3));
  EXPECT_TRUE(Keep().ok());
  EXPECT_THAT(planned_, ElementsAre("the second"));
}

TEST_F(DefinitionChangesTest, SlicesBesideAChangedOneAreUnchanged) {
  *plan_.add_slices() = Planned("fees", "hash-3");
  const auto changes = CompareDefinitions(current_, plan_, "new file");
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].kind(), SliceChange::UNCHANGED);
  EXPECT_EQ(changes[1].kind(), SliceChange::CREATE);
}

TEST_F(DefinitionChangesTest, WhatLeftTheFileIsDeleted) {
  AddServing("fees", "hash-3");
  const auto changes = CompareDefinitions(current_, plan_, "new file");
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[1].slice(), "fees");
  EXPECT_EQ(changes[1].kind(), SliceChange::DELETE);
}

TEST_F(DefinitionChangesTest, NamesDroppedAndRetypedColumns) {
  plan_.mutable_slices(0)->set_definition_hash("hash-2");
  plan_.mutable_slices(0)->mutable_columns(0)->set_type("DOUBLE");
  EXPECT_THAT(Only("new file").breaking(0), HasSubstr("becomes DOUBLE (was BIGINT)"));
  plan_.mutable_slices(0)->mutable_columns(0)->set_name("sum");
  EXPECT_THAT(Only("new file").breaking(0), HasSubstr("total is dropped"));
}

// The catalog keeps types as they were written when the definition was applied.
TEST_F(DefinitionChangesTest, ATypeThatIsWrittenOtherwiseIsTheSame) {
  auto& serving = current_.slices["volume"];
  for (auto& generation : *serving.mutable_generations()) {
    generation.mutable_definition()->mutable_columns(0)->set_type("STRUCT(\"city\" VARCHAR)[]");
  }
  plan_.mutable_slices(0)->set_definition_hash("hash-2");
  plan_.mutable_slices(0)->mutable_columns(0)->set_type("STRUCT(city VARCHAR)[]");
  EXPECT_EQ(Only("new file").breaking_size(), 0);
  plan_.mutable_slices(0)->mutable_columns(0)->set_type("STRUCT(city INTEGER)[]");
  EXPECT_THAT(Only("new file").breaking(0),
              HasSubstr("becomes STRUCT(city INTEGER)[] (was STRUCT(city VARCHAR)[])"));
}

TEST_F(DefinitionChangesTest, ThePendingGenerationIsTheNewestThatIsBuiltOrReady) {
  auto& slice = current_.slices["volume"];
  EXPECT_EQ(PendingGeneration(slice), nullptr);
  for (const auto& [number, state] :
       {std::pair{2, Generation::READY}, std::pair{3, Generation::BUILDING},
        std::pair{4, Generation::CANCELLED}}) {
    auto& generation = *slice.add_generations()->mutable_generation();
    generation.set_number(number);
    generation.set_state(state);
  }
  ASSERT_NE(PendingGeneration(slice), nullptr);
  EXPECT_EQ(PendingGeneration(slice)->generation().number(), 3);
}

TEST_F(DefinitionChangesTest, AChangeSaysHowAndWhyNotCheaper) {
  auto& planned = *plan_.mutable_slices(0);
  planned.set_definition_hash("hash-2");
  planned.set_strategy("keys");
  planned.add_statements("CREATE TABLE …");
  auto& why_not = *planned.add_why_not();
  why_not.set_strategy("aggregate");
  why_not.set_why("median() has no partial state");
  const SliceChange change = Only("new file");
  EXPECT_EQ(change.strategy(), "keys");
  ASSERT_EQ(change.why_not_size(), 1);
  EXPECT_EQ(change.why_not(0).why(), "median() has no partial state");
  EXPECT_EQ(change.statements_size(), 1);
}

TEST(PlanEstimateTest, AnEarlierBuildTellsHowLongItTakes) {
  icepie::worker::v1::PlannedSlice planned = Planned("volume", "hash-1");
  planned.add_streams("ledger");
  planned.add_streams("rates");
  EstimateFacts facts;
  facts.stream_records = {{"ledger", 600}, {"rates", 200}, {"clicks", 3200}};
  facts.head_position = 4000;
  facts.memory_limit_bytes = 1 << 30;
  icepie::v1::SliceEstimate estimate = EstimateBuild(planned, facts);
  EXPECT_EQ(estimate.records_to_read(), 800);
  EXPECT_EQ(estimate.duration_ms(), 0);
  EXPECT_EQ(estimate.memory_limit_bytes(), 1 << 30);
  EXPECT_EQ(estimate.kept_records_max(), 0);

  planned.set_keeps_records(true);
  planned.set_kept_records_limit(500);
  planned.set_memory_limit_bytes(64'000'000);
  facts.positions_per_second = 2000;
  estimate = EstimateBuild(planned, facts);
  EXPECT_EQ(estimate.duration_ms(), 2000);
  EXPECT_DOUBLE_EQ(estimate.records_per_second(), 400);
  EXPECT_EQ(estimate.kept_records_max(), 800);
  EXPECT_EQ(estimate.kept_records_limit(), 500);
  EXPECT_EQ(estimate.memory_limit_bytes(), 64'000'000);
}

TEST(PlanEstimateTest, TheSlicesOwnBuildCountsMoreThanANewerOneOfTheDomain) {
  const auto build = [](const std::string& slice, int64_t records, int64_t seconds) {
    Catalog::Operation operation;
    operation.set_domain("pay");
    operation.set_slice(slice);
    operation.set_done(true);
    operation.set_done_records(records);
    operation.mutable_start_time()->set_seconds(1000);
    operation.mutable_end_time()->set_seconds(1000 + seconds);
    return operation;
  };
  Catalog::Operation failed = build("volume", 9000, 1);
  failed.set_error_code(13);
  EXPECT_EQ(MeasuredRate({}, "pay", "volume"), 0);
  EXPECT_EQ(MeasuredRate({failed, build("fees", 500, 5)}, "pay", "volume"), 100);
  EXPECT_EQ(MeasuredRate({failed, build("fees", 500, 5), build("volume", 900, 3)}, "pay", "volume"),
            300);
  EXPECT_EQ(MeasuredRate({build("fees", 500, 5)}, "ops", "volume"), 0);
  Catalog::Operation resumed = build("volume", 900, 3);
  resumed.set_done_before(300);
  EXPECT_EQ(MeasuredRate({resumed}, "pay", "volume"), 200) << "of its own";
  resumed.set_done_before(890);
  EXPECT_EQ(MeasuredRate({resumed, build("fees", 500, 5)}, "pay", "volume"), 100)
      << "it read too little to tell";
}

TEST(AppliedRequestTest, AFileIsNotAppliedAgainForTheSameRequestOverThatOfSomebodyElse) {
  CatalogDomain domain;
  domain.entry.set_name("shop");
  domain.entry.set_revision(3);
  domain.entry.set_actor("bob");
  const absl::Time applied = absl::FromUnixSeconds(1'000'000);
  domain.revisions[2].set_request_id("r");
  *domain.revisions[2].mutable_apply_time() = ToProto(applied);
  domain.revisions[3];
  const absl::Time last = applied + kReplayAge - absl::Seconds(1);
  const absl::Status refused = CheckNotApplied(domain, "r", last);
  EXPECT_EQ(ErrorReason(refused), "ETAG_MISMATCH");
  EXPECT_EQ(refused.message(),
            "revision 2 of domain shop was applied under this request_id, and bob has applied "
            "revision 3 since");
  EXPECT_TRUE(CheckNotApplied(domain, "s", last).ok());
  EXPECT_TRUE(CheckNotApplied(domain, "", last).ok());
  EXPECT_TRUE(CheckNotApplied(domain, "r", applied + kReplayAge).ok())
      << "answers are kept no longer, and a weekly job may use one id";
}

TEST(PlanEstimateTest, ABuildThatTakesTenTimesWhatIsExpectedIsTooSlow) {
  const absl::Duration minute = absl::Minutes(1);
  EXPECT_EQ(TooSlow(11 * minute, minute),
            "it has worked for 11m, where by the last build of this slice all of it takes 1m");
  EXPECT_EQ(TooSlow(10 * minute, minute), "");
  EXPECT_EQ(TooSlow(11 * minute, 2 * minute), "");
  EXPECT_EQ(TooSlow(absl::Hours(99), absl::ZeroDuration()), "") << "nobody knows";
  EXPECT_EQ(TooSlow(9 * minute, absl::Seconds(1)), "") << "too early";
  EXPECT_NE(TooSlow(10 * minute, absl::Seconds(1)), "");
}

TEST(PlanEstimateTest, WhatIsExpectedIsWhatTheLastBuildFromTheFirstRecordTook) {
  const auto build = [](int64_t records, int64_t milliseconds) {
    Catalog::Operation operation;
    operation.set_domain("pay");
    operation.set_slice("volume");
    operation.set_done(true);
    operation.set_done_records(records);
    *operation.mutable_start_time() = ToProto(absl::FromUnixSeconds(1000));
    *operation.mutable_end_time() =
        ToProto(absl::FromUnixSeconds(1000) + absl::Milliseconds(milliseconds));
    return operation;
  };
  Catalog::Operation retried = build(900000, 2000);
  retried.set_retry(true);
  Catalog::Operation resumed = build(1000, 10);
  resumed.set_done_before(1);
  Catalog::Operation failed = build(1000, 10);
  failed.set_error_code(9);
  const std::vector<Catalog::Operation> builds = {retried, resumed, failed, build(600, 2000),
                                                  build(800, 9000)};
  icepie::catalog::v1::SliceEntry slice;
  slice.set_domain("pay");
  slice.set_name("volume");
  EXPECT_EQ(ExpectedTime(builds, slice, 600), absl::Seconds(2));
  EXPECT_EQ(ExpectedTime(builds, slice, 1800), absl::Seconds(6)) << "there are more now";
  EXPECT_EQ(ExpectedTime(builds, slice, 6), absl::Seconds(2));
  // The name was another's before: only what was built since tells.
  slice.set_first_operation(8);
  EXPECT_EQ(ExpectedTime(builds, slice, 600), absl::ZeroDuration());
  Catalog::Operation own = build(600, 4000);
  own.set_number(9);
  EXPECT_EQ(ExpectedTime({own, build(600, 2000)}, slice, 600), absl::Seconds(4));
  slice.set_first_operation(0);
  slice.set_name("fees");
  EXPECT_EQ(ExpectedTime(builds, slice, 600), absl::ZeroDuration());
  EXPECT_EQ(MeasuredRate({retried, build(600, 2000)}, "pay", "volume"), 300);
}

}  // namespace
}  // namespace icepie::server
