// Expectations from the YAML key to what the live and build engines do with them.
#include "slices/expectation/expectation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "slices/definition/definition.h"
#include "slices/expectation/expectation_gate.h"
#include "slices/expectation/expectation_store.h"
#include "slices/plan/plan.h"
#include "slices/role/build_engine.h"
#include "slices/role/standby_engine.h"
#include "tests/slices/engine_fixture.h"
#include "tests/slices/failing_duckdb.h"

namespace icepie::slices {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Status = ExpectationResult::Status;

constexpr char kSources[] = R"(domain: shop
sources:
  orders:
    columns:
      city: VARCHAR
      amount: {type: BIGINT, required: true}
slices:
)";

// A slice `lines` with these expectations (a flow list), another by city and one that reads both.
std::string File(const std::string& expect) {
  return absl::StrCat(kSources,
                      "  lines:\n    sql: SELECT _position AS nr, city, amount FROM orders\n"
                      "    key: [nr]\n    expect: ",
                      expect,
                      "\n  cities:\n    sql: SELECT city, count(*) AS n FROM orders GROUP BY ALL\n"
                      "  top:\n    sql: SELECT max(amount) AS most FROM lines\n");
}

absl::StatusOr<DomainPlan> PlanOf(const std::string& expect) {
  const auto definition = ParseDomain(File(expect), "shop.yaml");
  if (!definition.ok()) return definition.status();
  return PlanDomain(*definition);
}

std::string ErrorOf(const std::string& expect) {
  return std::string(PlanOf(expect).status().message());
}

// ------------------------------------------------------------------------------ the definition

TEST(ExpectationReadingTest, EveryCheckWithItsNames) {
  const auto plan = PlanOf(
      "[{not_null: [nr, city]}, {not_null: amount, name: has_amount}, {unique: [nr]}, "
      "{accepted_values: {column: city, values: [rome, \"7\", bern]}, severity: warn}, "
      "{relationships: {column: city, to: cities, field: city}}, {row_count: {min: 1, max: 9}}, "
      "{name: small, sql: \"SELECT * FROM slice WHERE amount > 100\", severity: error}]");
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::vector<std::string> checks;
  for (const auto& each : plan->Find("lines")->expectations) {
    checks.push_back(absl::StrCat(each.name, " ", each.check, " ",
                                  each.severity == ExpectationSeverity::kWarn ? "warn" : "error"));
  }
  EXPECT_THAT(checks, ElementsAre("not_null_nr_city not_null(nr, city) error",
                                  "has_amount not_null(amount) error", "unique_nr unique(nr) error",
                                  "accepted_values_city accepted_values(city: 3 values) warn",
                                  "relationships_city relationships(city → cities.city) error",
                                  "row_count row_count(1…9) error", "small sql error"));
}

TEST(ExpectationReadingTest, DoesNotRebuildTheSlice) {
  EXPECT_EQ(PlanOf("[{row_count: {min: 1}}]")->Find("lines")->definition_hash,
            PlanOf("[{unique: nr}]")->Find("lines")->definition_hash);
}

TEST(ExpectationReadingTest, ErrorsNameThePlaceAndTheRemedy) {
  EXPECT_THAT(ErrorOf("{unique: nr}"), HasSubstr("must be a list"));
  EXPECT_THAT(ErrorOf("[{uniqe: at}]"), HasSubstr("shop.yaml:11:15: unknown key `uniqe`"));
  EXPECT_THAT(ErrorOf("[{uniqe: at}]"), HasSubstr("did you mean \"unique\"?"));
  EXPECT_THAT(ErrorOf("[{name: a}]"), HasSubstr("needs a check"));
  EXPECT_THAT(ErrorOf("[{unique: nr, not_null: nr}]"), HasSubstr("one check"));
  EXPECT_THAT(ErrorOf("[{unique: nr, severity: fatal}]"), HasSubstr("warn or error, not `fatal`"));
  EXPECT_THAT(ErrorOf("[{sql: SELECT 1 FROM slice}]"), HasSubstr("needs a name"));
  EXPECT_THAT(ErrorOf("[{unique: nr}, {unique: nr}]"), HasSubstr("give one another name"));
  EXPECT_THAT(ErrorOf("[{row_count: {min: 3, max: 2}}]"), HasSubstr("min is more than max"));
  EXPECT_THAT(ErrorOf("[{row_count: {min: many}}]"), HasSubstr("number of rows"));
  EXPECT_THAT(ErrorOf("[{accepted_values: {column: city}}]"), HasSubstr("column and values"));
  EXPECT_THAT(ErrorOf("[{unique: nr, unique: nr}]"), HasSubstr("twice"));
}

TEST(ExpectationReadingTest, ColumnsAndSqlAreCheckedAtRegistration) {
  EXPECT_THAT(ErrorOf("[{not_null: amuont}]"),
              HasSubstr("there is no output column \"amuont\" (did you mean \"amount\"?"));
  EXPECT_THAT(ErrorOf("[{relationships: {column: city, to: towns, field: city}}]"),
              HasSubstr("there is no slice \"towns\""));
  EXPECT_THAT(ErrorOf("[{relationships: {column: city, to: cities, field: town}}]"),
              HasSubstr("there is no output column \"town\""));
  EXPECT_THAT(ErrorOf("[{accepted_values: {column: amount, values: [1, many]}}]"),
              HasSubstr("Could not convert string 'many'"));
  EXPECT_THAT(ErrorOf("[{name: a, sql: SELECT * FROM slice WHERE amuont > 1}]"),
              HasSubstr("no column \"amuont\" (did you mean \"amount\"?"));
  EXPECT_THAT(ErrorOf("[{name: a, sql: SELECT * FROM orders}]"), HasSubstr("relation `slice`"));
  const absl::Status drop = PlanOf("[{name: a, sql: DROP TABLE slice}]").status();
  EXPECT_EQ(ErrorReason(drop), "SQL_NOT_A_SELECT") << drop;
  const absl::Status file =
      PlanOf("[{name: a, sql: SELECT * FROM read_text('/etc/hostname')}]").status();
  EXPECT_EQ(ErrorReason(file), "SQL_FORBIDDEN") << file;
  const absl::Status syntax = PlanOf("[{name: a, sql: SELEC 1}]").status();
  EXPECT_EQ(ErrorReason(syntax), "SQL_SYNTAX") << syntax;
  EXPECT_THAT(std::string(syntax.message()), HasSubstr("shop.yaml:11:29")) << syntax;
}

// ------------------------------------------------------------------------------------ the engine

class ExpectationTest : public EngineFixture {
 protected:
  EngineOptions OptionsWithSnapshots() const {
    EngineOptions options = Options();
    options.snapshot_interval = absl::ZeroDuration();
    options.snapshot_share = 1;
    return options;
  }

  void Start() { StartLive(OptionsWithSnapshots(), feed_); }

  void ConfigureAll(const std::string& expect, std::vector<ExpectationWaiver> waivers = {}) {
    std::vector<GenerationSpec> specs;
    for (const char* slice : {"lines", "cities", "top"}) {
      specs.push_back(Spec(slice));
      specs.back().file = File(expect) + limits_;
    }
    specs.front().waivers = std::move(waivers);
    Configure(specs);
  }

  SliceReport WaitForResult(const std::string& name, Status status, int64_t position) const {
    return WaitFor("lines", [&](const SliceReport& report) {
      for (const auto& result : report.expectations) {
        if (result.name != name) continue;
        if (result.status != status || result.position < position) return false;
        // What has passed is about to be a snapshot.
        return status != Status::kPassed || report.snapshot.has_value();
      }
      return false;
    });
  }

  static const ExpectationResult& Result(const SliceReport& report, const std::string& name) {
    for (const auto& result : report.expectations) {
      if (result.name == name) return result;
    }
    static const ExpectationResult none;
    ADD_FAILURE() << "no result of " << name;
    return none;
  }

  std::string Lines() { return Rows("SELECT city, amount FROM lines ORDER BY nr"); }

  std::string limits_;  // of the definition that ConfigureAll gives
};

constexpr char kSmall[] =
    "[{name: small, sql: \"SELECT nr, amount FROM slice WHERE amount > 100\"}]";

TEST_F(ExpectationTest, EveryCheckFindsWhatBreaksIt) {
  feed_.Append("orders", {Order("rome", 1), R"({"amount":2})", Order("oslo", 200)});
  Start();
  ConfigureAll(
      "[{not_null: [city], severity: warn}, {unique: [amount], severity: warn}, "
      "{accepted_values: {column: city, values: [rome]}, severity: warn}, "
      "{relationships: {column: city, to: cities, field: city}, severity: warn}, "
      "{row_count: {max: 2}, severity: warn}, "
      "{name: small, severity: warn, sql: \"SELECT nr FROM slice WHERE amount > 100\"}, "
      "{name: fails, severity: warn, sql: \"SELECT CAST(city AS INTEGER) FROM slice\"}]");
  const SliceReport report = WaitForResult("small", Status::kFailed, 3);
  EXPECT_EQ(report.state, SliceState::kRunning);  // warnings do not hold
  EXPECT_EQ(Result(report, "not_null_city").failing_rows, 1);
  EXPECT_THAT(Result(report, "not_null_city").samples,
              ElementsAre(R"({"nr":1,"city":null,"amount":2})"));
  EXPECT_EQ(Result(report, "unique_amount").status, Status::kPassed);
  EXPECT_THAT(Result(report, "accepted_values_city").samples,
              ElementsAre(R"({"nr":2,"city":"oslo","amount":200})"));
  EXPECT_THAT(Result(report, "row_count").samples, ElementsAre(R"({"rows":3})"));
  EXPECT_THAT(Result(report, "small").samples, ElementsAre(R"({"nr":2})"));
  EXPECT_EQ(Result(report, "fails").status, Status::kFailed);
  EXPECT_THAT(Result(report, "fails").message, HasSubstr("Could not convert"));
  // The check comes before the copy that it looked at is on disk.
  WaitFor("lines", [](const SliceReport& later) { return later.snapshot.has_value(); });
}

TEST_F(ExpectationTest, RelationshipsLookIntoTheOtherSlice) {
  feed_.Append("orders", {Order("rome", 1)});
  Start();
  const std::string file =
      absl::StrReplaceAll(File("[{relationships: {column: city, to: cities, field: city}}]"),
                          {{"AS n FROM orders GROUP", "AS n FROM orders WHERE amount < 50 GROUP"}});
  std::vector<GenerationSpec> specs = {Spec("cities"), Spec("lines")};
  for (auto& spec : specs) spec.file = file;
  Configure(specs);
  WaitForResult("relationships_city", Status::kPassed, 1);
  feed_.Append("orders", {Order("oslo", 70)});
  const SliceReport held = WaitForState("lines", SliceState::kHeld);
  EXPECT_THAT(held.last_error->message, HasSubstr("oslo"));
}

TEST_F(ExpectationTest, AFailureHoldsTheSliceOnItsLastGoodSnapshot) {
  feed_.Append("orders", {Order("rome", 1)});
  Start();
  ConfigureAll(kSmall);
  WaitForResult("small", Status::kPassed, 1);
  WaitForPosition("top", 1);
  feed_.Append("orders", {Order("oslo", 500)});
  const SliceReport held = WaitForState("lines", SliceState::kHeld);
  ASSERT_TRUE(held.last_error.has_value());
  EXPECT_EQ(held.last_error->reason, "EXPECTATION_FAILED");
  EXPECT_THAT(held.last_error->message, HasSubstr("expectation small failed at position 2: 1 row"));
  EXPECT_THAT(held.last_error->message, HasSubstr("--waive small"));
  EXPECT_EQ(held.progress.applied_position, 1);  // of what is shown
  EXPECT_EQ(Result(held, "small").position, 2);
  EXPECT_EQ(Lines(), R"([{"city":"rome","amount":1}])");
  // Not retried: what comes is not applied. The neighbour goes on, the reader is blocked.
  feed_.Append("orders", {Order("bern", 2)});
  WaitForPosition("cities", 3);
  EXPECT_EQ(Find("lines")->state, SliceState::kHeld);
  EXPECT_EQ(Lines(), R"([{"city":"rome","amount":1}])");
  const SliceReport blocked = WaitForState("top", SliceState::kBlocked);
  EXPECT_THAT(blocked.last_error->message, HasSubstr("lines, which is HELD"));
}

// No further snapshot is made in this time: what a batch changes is checked with it, and a batch
// that breaks something is not shown and not kept.
TEST_F(ExpectationTest, WhatHoldsRowByRowIsCheckedInEveryBatch) {
  feed_.Append("orders", {Order("rome", 1)});
  StartLive();
  ConfigureAll(
      "[{name: small, sql: \"SELECT * FROM slice WHERE amount > 100\"}, "
      "{accepted_values: {column: city, values: [rome, oslo]}, severity: warn}]");
  WaitForResult("small", Status::kPassed, 1);
  const int64_t warned = feed_.Append("orders", {Order("bern", 2)});
  const SliceReport noted = WaitForResult("accepted_values_city", Status::kFailed, warned);
  EXPECT_THAT(Result(noted, "accepted_values_city").samples,
              ElementsAre(R"({"nr":1,"city":"bern","amount":2})"));
  WaitForPosition("lines", warned);
  WaitFor("lines", [](const SliceReport& report) { return report.snapshot.has_value(); });
  feed_.Append("orders", {Order("oslo", 3), Order("oslo", 500)});
  const SliceReport held = WaitForState("lines", SliceState::kHeld);
  EXPECT_THAT(held.last_error->message, HasSubstr("small failed at position 4: 1 row"));
  EXPECT_EQ(held.progress.applied_position, 1) << "the last good snapshot";
  // With a waiver it goes on, and nothing is lost or there twice.
  ConfigureAll(
      "[{name: small, sql: \"SELECT * FROM slice WHERE amount > 100\"}, "
      "{accepted_values: {column: city, values: [rome, oslo]}, severity: warn}]",
      {{"small"}});
  WaitForPosition("lines", 4);
  EXPECT_EQ(Rows("SELECT count(*) AS n, sum(amount) AS t FROM lines"), R"([{"n":4,"t":506}])");
}

// A batch holds the slice while its first good state is on its way to the disk.
class HeldWhileSavedTest : public ExpectationTest {
 protected:
  ~HeldWhileSavedTest() override {
    waits_with_text = nullptr;
    fails_with_text = nullptr;
    fails_of = DUCKDB_ERROR_INTERNAL;
  }

  static void WaitUntilSaving() {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (waiting_statements == 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
    ASSERT_EQ(waiting_statements, 1);
  }

  // A turn of the engine that begins after this call has ended.
  void WaitForTurn() {
    std::promise<void> turned;
    engine_->Refresh("lines", 0, absl::Now(), [&](const auto&) { turned.set_value(); });
    turned.get_future().wait();
  }

  void HoldWhileSaved() {
    waits_with_text = "DETACH \"copy_";
    const int64_t good = feed_.Append("orders", {Order("rome", 1)});
    StartLive();
    spec_.file = File(kSmall);
    Configure({spec_});
    WaitForPosition("lines", good);
    ASSERT_NO_FATAL_FAILURE(WaitUntilSaving());
    feed_.Append("orders", {Order("oslo", 500)});
    WaitForState("lines", SliceState::kHeld);
    EXPECT_EQ(ErrorReason(Ask("SELECT * FROM lines").status()), "NO_SNAPSHOT_YET");
    EXPECT_EQ(waiting_statements, 1);
  }

  SliceReport WaitForRows() const {
    return WaitFor("lines", [](const SliceReport& report) { return !report.no_rows; });
  }

  GenerationSpec spec_ = Spec("lines");
};

TEST_F(HeldWhileSavedTest, AnswersAsSoonAsThatIsSaved) {
  ASSERT_NO_FATAL_FAILURE(HoldWhileSaved());
  waits_with_text = nullptr;
  const SliceReport held = WaitForRows();
  EXPECT_EQ(held.state, SliceState::kHeld);
  EXPECT_EQ(held.last_error->reason, "EXPECTATION_FAILED");
  EXPECT_EQ(held.progress.applied_position, 1);
  EXPECT_EQ(Lines(), R"([{"city":"rome","amount":1}])");
}

TEST_F(HeldWhileSavedTest, AnswersFromAnOlderSnapshotWhileANewerOneCannotBeOpened) {
  feed_.Append("orders", {Order("rome", 1)});
  Start();
  spec_.file = File(kSmall);
  Configure({spec_});
  WaitForResult("small", Status::kPassed, 1);
  waits_with_text = "DETACH \"copy_";
  WaitForPosition("lines", feed_.Append("orders", {Order("bern", 2)}));
  ASSERT_NO_FATAL_FAILURE(WaitUntilSaving());
  feed_.Append("orders", {Order("oslo", 500)});
  WaitForState("lines", SliceState::kHeld);
  EXPECT_EQ(Lines(), R"([{"city":"rome","amount":1}])");
  fails_of = DUCKDB_ERROR_OUT_OF_MEMORY;
  failed_statements = 0;
  fails_with_text = " AS \"s1_lines_";
  waits_with_text = nullptr;
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (failed_statements == 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_GE(failed_statements, 1);
  WaitForTurn();
  EXPECT_EQ(Find("lines")->state, SliceState::kHeld);
  EXPECT_EQ(Lines(), R"([{"city":"rome","amount":1}])");
}

TEST_F(HeldWhileSavedTest, AnswersWhenItIsSuspendedMeanwhile) {
  ASSERT_NO_FATAL_FAILURE(HoldWhileSaved());
  spec_.suspended = true;
  Configure({spec_});
  WaitForState("lines", SliceState::kSuspended);
  WaitForTurn();  // one that knows it is suspended
  waits_with_text = nullptr;
  EXPECT_EQ(WaitForRows().state, SliceState::kSuspended);
  EXPECT_EQ(Lines(), R"([{"city":"rome","amount":1}])");
}

TEST_F(ExpectationTest, GroupsThatABatchChangesAreCheckedWithIt) {
  feed_.Append("orders", {Order("rome", 1), Order("oslo", 2)});
  StartLive();
  const std::string file = absl::StrCat(kSources,
                                        "  totals:\n    sql: SELECT city, count(*) AS n, "
                                        "sum(amount) AS total FROM orders GROUP BY ALL\n"
                                        "    expect: [{name: room, sql: \"SELECT city FROM slice "
                                        "WHERE 100 / (100 - total) < 0\"}]\n");
  const auto configure = [&](std::vector<ExpectationWaiver> waivers) {
    std::vector<GenerationSpec> specs = {Spec("totals")};
    specs.front().file = file;
    specs.front().waivers = std::move(waivers);
    Configure(specs);
  };
  configure({});
  WaitForPosition("totals", 2);
  WaitFor("totals", [](const SliceReport& report) { return report.snapshot.has_value(); });
  WaitForPosition("totals", feed_.Append("orders", {Order("oslo", 90)}));
  EXPECT_EQ(Rows("SELECT total FROM totals WHERE city = 'oslo'"), R"([{"total":92}])");
  feed_.Append("orders", {Order("oslo", 20)});
  const SliceReport held = WaitForState("totals", SliceState::kHeld);
  EXPECT_THAT(Result(held, "room").samples, ElementsAre(R"({"city":"oslo"})"));
  configure({{"room"}});
  WaitForPosition("totals", 4);
  EXPECT_EQ(Rows("SELECT city, n, total FROM totals ORDER BY city"),
            R"([{"city":"oslo","n":3,"total":112},{"city":"rome","n":1,"total":1}])");
}

TEST_F(ExpectationTest, TheHoldSurvivesARestart) {
  feed_.Append("orders", {Order("rome", 1)});
  Start();
  ConfigureAll(kSmall);
  WaitForResult("small", Status::kPassed, 1);
  feed_.Append("orders", {Order("oslo", 500)});
  WaitForState("lines", SliceState::kHeld);
  Start();
  ConfigureAll(kSmall);
  const SliceReport held =
      WaitFor("lines", [](const SliceReport& r) { return !r.expectations.empty(); });
  EXPECT_EQ(held.state, SliceState::kHeld);  // from the first report on
  EXPECT_EQ(Result(held, "small").failing_rows, 1);
  EXPECT_EQ(Lines(), R"([{"city":"rome","amount":1}])");
  // A waiver that came while nobody ran holds from the start.
  Start();
  ConfigureAll(kSmall, {{"small"}});
  WaitForPosition("lines", 2);
  EXPECT_EQ(Lines(), R"([{"city":"rome","amount":1},{"city":"oslo","amount":500}])");
}

TEST_F(ExpectationTest, AWaiverLetsItGoOnUntilItEnds) {
  feed_.Append("orders", {Order("rome", 1)});
  Start();
  ConfigureAll(kSmall);
  WaitForResult("small", Status::kPassed, 1);
  feed_.Append("orders", {Order("oslo", 500)});
  WaitForState("lines", SliceState::kHeld);
  ConfigureAll(kSmall, {{"small"}});
  WaitForPosition("lines", 2);
  EXPECT_EQ(Lines(), R"([{"city":"rome","amount":1},{"city":"oslo","amount":500}])");
  WaitForPosition("top", 2);
  // It ends: held again, on the snapshot that the waiver let be.
  ConfigureAll(kSmall);
  const SliceReport held = WaitForState("lines", SliceState::kHeld);
  EXPECT_EQ(held.progress.applied_position, 2);
  // One of another name does not help.
  ConfigureAll(kSmall, {{"large"}});
  feed_.Append("orders", {Order("bern", 2)});
  WaitForPosition("cities", 3);
  EXPECT_EQ(Find("lines")->state, SliceState::kHeld);
}

TEST_F(ExpectationTest, AWaiverMayEndByItself) {
  feed_.Append("orders", {Order("oslo", 500)});
  Start();
  ConfigureAll(kSmall, {{"small", absl::Now() + absl::Hours(1)}});
  WaitForPosition("lines", 1);
  ConfigureAll(kSmall, {{"small", absl::Now() + absl::Seconds(1)}});
  WaitForState("lines", SliceState::kHeld);
}

TEST_F(ExpectationTest, AnotherDefinitionOfItReleasesTheSlice) {
  feed_.Append("orders", {Order("rome", 1)});
  Start();
  ConfigureAll(kSmall);
  WaitForResult("small", Status::kPassed, 1);
  feed_.Append("orders", {Order("oslo", 500)});
  WaitForState("lines", SliceState::kHeld);
  // Still broken: held again.
  ConfigureAll("[{name: small, sql: \"SELECT nr FROM slice WHERE amount > 400\"}]");
  WaitForState("lines", SliceState::kHeld);
  ConfigureAll("[{name: small, sql: \"SELECT nr FROM slice WHERE amount > 999\"}]");
  WaitForPosition("lines", 2);
  EXPECT_THAT(Lines(), HasSubstr("500"));
  WaitForPosition("top", 2);
}

TEST_F(ExpectationTest, AnotherDefinitionThatComesWhileNobodyRunsReleasesTheSliceToo) {
  feed_.Append("orders", {Order("rome", 1)});
  Start();
  ConfigureAll(kSmall);
  WaitForResult("small", Status::kPassed, 1);
  feed_.Append("orders", {Order("oslo", 500)});
  WaitForState("lines", SliceState::kHeld);
  Start();
  ConfigureAll("[{name: small, sql: \"SELECT nr FROM slice WHERE amount > 999\"}]");
  WaitForPosition("lines", 2);
  EXPECT_THAT(Lines(), HasSubstr("500"));
}

TEST_F(ExpectationTest, DroppingItReleasesTheSlice) {
  feed_.Append("orders", {Order("oslo", 500)});
  Start();
  ConfigureAll(kSmall);
  WaitForState("lines", SliceState::kHeld);
  ConfigureAll("[]");
  WaitForPosition("lines", 1);
  EXPECT_THAT(Lines(), HasSubstr("500"));
}

// Without a snapshot there is nothing that it may show.
TEST_F(ExpectationTest, AFirstBuildThatFailsShowsNothing) {
  feed_.Append("orders", {Order("oslo", 500)});
  Start();
  ConfigureAll(kSmall);
  WaitForState("lines", SliceState::kHeld);
  const auto answer = Ask("SELECT * FROM lines");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(ErrorReason(answer.status()), "NO_SNAPSHOT_YET") << answer.status();
  EXPECT_THAT(
      std::string(answer.status().message()),
      HasSubstr("slice lines is HELD (EXPECTATION_FAILED) and has no state to answer from"));
  ConfigureAll(kSmall, {{"small"}});
  WaitForPosition("lines", 1);
  EXPECT_THAT(Lines(), HasSubstr("500"));
}

TEST_F(ExpectationTest, ARecomputedSliceIsHeldToo) {
  feed_.Append("orders", {Order("rome", 1)});
  Start();
  const std::string file = absl::StrReplaceAll(
      File("[]"), {{"FROM lines\n",
                    "FROM lines\n    expect: [{row_count: {max: 1}}, {name: low, "
                    "sql: \"SELECT * FROM slice WHERE most > 100\"}]\n"}});
  std::vector<GenerationSpec> specs = {Spec("lines"), Spec("top")};
  for (auto& spec : specs) spec.file = file;
  Configure(specs);
  WaitForPosition("top", 1);
  EXPECT_EQ(Rows("SELECT most FROM top"), R"([{"most":1}])");
  feed_.Append("orders", {Order("oslo", 500)});
  const SliceReport held = WaitForState("top", SliceState::kHeld);
  EXPECT_THAT(held.last_error->message, HasSubstr("expectation low"));
  EXPECT_EQ(Rows("SELECT most FROM top"), R"([{"most":1}])");
  specs.back().waivers = {{"low"}};
  Configure(specs);
  WaitForPosition("top", 2);
  EXPECT_EQ(Rows("SELECT most FROM top"), R"([{"most":500}])");
}

TEST_F(ExpectationTest, FreezingAHeldSliceAndThawingItLeavesItHeld) {
  feed_.Append("orders", {Order("rome", 1)});
  Start();
  ConfigureAll(kSmall);
  WaitFor("lines", [](const SliceReport& report) { return report.snapshot.has_value(); });
  feed_.Append("orders", {Order("oslo", 500)});
  WaitForState("lines", SliceState::kHeld);
  std::vector<GenerationSpec> specs = {Spec("lines")};
  specs.front().file = File(kSmall);
  specs.front().frozen = true;
  Configure(specs);
  WaitForState("lines", SliceState::kFrozen);
  specs.front().frozen = false;
  Configure(specs);
  WaitForState("lines", SliceState::kHeld);
  EXPECT_EQ(Lines(), R"([{"city":"rome","amount":1}])");
}

// Endless SQL is stopped at the query's limit. It is no failure, but nothing counts as good; the
// slice says so, and when it is tried again.
TEST_F(ExpectationTest, OneThatTakesTooLongFaultsTheSliceAndIsTriedAgainLater) {
  feed_.Append("orders", {Order("rome", 1)});
  EngineOptions options = OptionsWithSnapshots();
  options.query_timeout = absl::Milliseconds(200);
  StartLive(options, feed_);
  ConfigureAll(
      "[{name: slow, sql: \"SELECT 1 FROM slice, range(1000000000) a, range(1000) b WHERE "
      "a.range + b.range + amount < 0\"}]");
  const SliceReport report = WaitForResult("slow", Status::kStopped, 1);
  EXPECT_THAT(Result(report, "slow").message, HasSubstr("limit for queries"));
  EXPECT_FALSE(report.snapshot.has_value());
  const SliceReport faulted = WaitForState("lines", SliceState::kFaulted);
  ASSERT_TRUE(faulted.last_error.has_value());
  EXPECT_EQ(faulted.last_error->reason, "EXPECTATION_STOPPED");
  EXPECT_THAT(faulted.last_error->message, HasSubstr("icepie slice expect"));
  EXPECT_TRUE(faulted.next_retry_time.has_value());
  EXPECT_TRUE(faulted.no_rows);
}

// Of records with a large amount for longer than any test, and without a look at the interrupt.
class EndlessExpectationTest : public ExpectationTest,
                               public ::testing::WithParamInterface<const char*> {
 protected:
  static std::string Expect(const std::string& of) {
    return absl::StrReplaceAll(GetParam(),
                               {{"ENDLESS", absl::StrCat("levenshtein(repeat(city, ", of,
                                                         "), repeat('b', amount)) < 0")}});
  }
};

// It ends the process. The next one knows it, and does neither run it again nor suspect records.
TEST_P(EndlessExpectationTest, HoldsItsSliceAndIsNotCheckedAgain) {
  feed_.Append("orders", {Order("rome", 1)});
  const std::string expect = Expect("amount");
  const auto append = [&] { feed_.Append("orders", {Order("oslo", 300000)}); };
  const FlightNote blamed = BlamedForItsEnd(absl::Minutes(10), [&] {
    ConfigureAll(expect);
    WaitFor("lines", [](const SliceReport& report) { return report.snapshot.has_value(); });
    append();
  });
  EXPECT_EQ(blamed.activity, Activity::kCheck);
  EXPECT_EQ(blamed.subject, "lines/1/endless");

  append();
  Start();
  ConfigureAll(expect);
  const SliceReport held = WaitForState("lines", SliceState::kHeld);
  ASSERT_TRUE(held.last_error.has_value());
  EXPECT_EQ(held.last_error->reason, "EXPECTATION_FAILED");
  EXPECT_THAT(held.last_error->message, HasSubstr("expectation endless failed"));
  EXPECT_THAT(held.last_error->message, HasSubstr("listens to no interrupt"));
  EXPECT_EQ(held.progress.quarantined, 0);
  EXPECT_EQ(Lines(), R"([{"city":"rome","amount":1}])");
  WaitForPosition("cities", 2);
  // Waived, it is not in the way; the snapshot of then remembers it.
  const auto saved = [](const SliceReport& report) {
    return report.snapshot.has_value() && report.snapshot->position == 2;
  };
  for (int restart = 0; restart < 2; ++restart) {
    if (restart > 0) Start();
    ConfigureAll(expect, {{"endless"}});
    WaitForPosition("lines", 2);
    const SliceReport report = WaitFor("lines", saved);
    EXPECT_EQ(Result(report, "endless").status, Status::kFailed);
    EXPECT_EQ(report.progress.quarantined, 0);
  }
  ConfigureAll(expect);
  WaitForState("lines", SliceState::kHeld);
  ConfigureAll(Expect("amount % 7"));
  WaitForResult("endless", Status::kPassed, 2);
  WaitForPosition("lines", 2);
}

INSTANTIATE_TEST_SUITE_P(
    InABatchAndBeforeASnapshot, EndlessExpectationTest,
    ::testing::Values("[{name: endless, sql: \"SELECT nr FROM slice WHERE ENDLESS\"}]",
                      "[{name: endless, sql: \"SELECT count(*) AS n FROM slice WHERE ENDLESS "
                      "HAVING count(*) > 0\"}]"));

TEST(ExpectationGateTest, ACheckThatHasBecomeAnotherIsNotEndless) {
  ExpectationPlan plan;
  plan.name = "sound";
  plan.sql = "SELECT 1";
  ExpectationGate gate({plan});
  ExpectationPlan repaired = plan;
  repaired.sql = "SELECT 2";
  gate.SetPlans({repaired});
  EXPECT_TRUE(gate.SetEndless(plan, 7).empty());
  EXPECT_FALSE(gate.results().front().endless);
  EXPECT_EQ(gate.SetEndless(repaired, 7).size(), 1U);
  EXPECT_TRUE(gate.results().front().endless);
}

TEST_F(ExpectationTest, OneThatTakesTooLongInABatchIsNamed) {
  feed_.Append("orders", {Order("rome", 1)});
  EngineOptions options = OptionsWithSnapshots();
  options.interrupt_grace = absl::Minutes(5);
  StartLive(options, feed_);
  const std::string slow =
      "[{name: slow, sql: \"SELECT nr FROM slice WHERE levenshtein(repeat(city, amount), "
      "repeat('b', amount)) < 0\"}]";
  ConfigureAll(slow);
  WaitFor("lines", [](const SliceReport& report) { return report.snapshot.has_value(); });
  // On a busy machine too short for the good batch above, so it begins behind that.
  limits_ = "limits: {query_timeout: 20ms}\n";
  ConfigureAll(slow);
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (engine_->Report().epoch != epoch_ && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  feed_.Append("orders", {Order("oslo", 3000)});
  const SliceReport faulted = WaitForState("lines", SliceState::kFaulted);
  ASSERT_TRUE(faulted.last_error.has_value());
  EXPECT_EQ(faulted.last_error->reason, "EXPECTATION_STOPPED");
  EXPECT_THAT(faulted.last_error->message, HasSubstr("expectation slow could not be checked"));
  EXPECT_EQ(faulted.progress.quarantined, 0);
  limits_.clear();
  ConfigureAll(slow, {{"slow"}});
  WaitFor("lines", [](const SliceReport& report) { return report.progress.applied_position == 2; });
}

TEST_F(ExpectationTest, TheStandbyKnowsTheResults) {
  feed_.Append("orders", {Order("rome", 1)});
  Start();
  ConfigureAll(kSmall);
  WaitForResult("small", Status::kPassed, 1);
  auto standby = StandbyEngine::Start(Options());
  ASSERT_TRUE(standby.ok()) << standby.status();
  Assignment assignment;
  assignment.domain = "shop";
  assignment.epoch = 1;
  assignment.generations = {Spec("lines")};
  (*standby)->Configure(assignment);
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  std::vector<SliceReport> reports;
  while (absl::Now() < deadline && (reports.empty() || reports.front().expectations.empty())) {
    reports = (*standby)->Report().slices;
    absl::SleepFor(absl::Milliseconds(5));
  }
  ASSERT_FALSE(reports.empty());
  EXPECT_EQ(Result(reports.front(), "small").status, Status::kPassed);
}

TEST_F(ExpectationTest, ABuildReportsThemAndIsReadyAllTheSame) {
  feed_.Append("orders", {Order("oslo", 500)});
  auto build = BuildEngine::Start(Options(), feed_);
  ASSERT_TRUE(build.ok()) << build.status();
  Assignment assignment;
  assignment.domain = "shop";
  assignment.generations = {Spec("lines", 2)};
  assignment.generations.front().file = File(kSmall);
  assignment.build = BuildJob{"lines", 2, "", 0, 0, std::nullopt, {}, {}, false};
  (*build)->Configure(assignment);
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  std::optional<BuildReport> report;
  while (absl::Now() < deadline && (!report || report->phase != "ready")) {
    report = (*build)->Report().build;
    absl::SleepFor(absl::Milliseconds(5));
  }
  ASSERT_EQ(report->phase, "ready") << (report->error ? report->error->message : "");
  ASSERT_EQ(report->expectations.size(), 1U);
  EXPECT_EQ(report->expectations.front().status, Status::kFailed);
  EXPECT_EQ(report->expectations.front().failing_rows, 1);
}

TEST(ExpectationStoreTest, ADamagedHoldFileHasNoResults) {
  const std::string path = testing::TempDir() + "/g1-held.json";
  EXPECT_FALSE(ReadHold(path).has_value());
  std::ofstream(path) << "{\"position\": 3";
  ASSERT_TRUE(ReadHold(path).has_value());
  EXPECT_THAT(ReadHold(path)->results, IsEmpty());
  RemoveHold(path);
  EXPECT_FALSE(ReadHold(path).has_value());
}

}  // namespace
}  // namespace icepie::slices
