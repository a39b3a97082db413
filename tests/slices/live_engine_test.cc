#include "slices/role/live_engine.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "slices/apply/generation.h"
#include "slices/definition/definition.h"
#include "slices/plan/plan.h"
#include "slices/plan/sql_binding.h"
#include "tests/slices/engine_fixture.h"
#include "tests/slices/failing_duckdb.h"

namespace icepie::slices {
namespace {

using testing::HasSubstr;

class LiveEngineTest : public EngineFixture {
 protected:
  // by_city, with a snapshot that is named each year.
  static GenerationSpec SavedEachYear() {
    GenerationSpec spec = Spec("by_city");
    spec.file = absl::StrReplaceAll(
        kShopDomain,
        {{"  by_city:\n",
          "  by_city:\n    snapshots: {name: year-%Y, cron: \"0 2 1 1 *\", keep: forever}\n"}});
    return spec;
  }

  // Between a good record and another, more than the budget of by_city.
  void AppendEightBad() {
    std::vector<std::string> orders(10, "{}");
    orders.front() = Order("Bern", 1);
    orders.back() = Order("Bern", 2);
    feed_.Append("orders", orders);
  }

  void ReplaceInManifests(const std::string& slice, const std::string& from,
                          const std::string& to) {
    for (const auto& entry :
         std::filesystem::directory_iterator(absl::StrCat(directory_, "/snapshots/", slice))) {
      if (entry.path().extension() != ".json") continue;
      const std::string manifest = ReadFile(entry.path()).value();
      ASSERT_THAT(manifest, HasSubstr(from));
      std::ofstream(entry.path()) << absl::StrReplaceAll(manifest, {{from, to}});
    }
  }
};

TEST_F(LiveEngineTest, AppliesAnAggregateAndAnswers) {
  feed_.Append("orders", {Order("Bern", 10), Order("Basel", 5), Order("Bern", 1)});
  StartLive();
  Configure({Spec("by_city")});
  const SliceReport report = WaitForPosition("by_city", 3);
  EXPECT_EQ(report.progress.input, 3);
  EXPECT_EQ(report.progress.applied, 3);
  EXPECT_EQ(report.progress.content_version, 3);
  EXPECT_EQ(Rows("SELECT city, orders, total FROM by_city ORDER BY city"),
            R"([{"city":"Basel","orders":1,"total":5},{"city":"Bern","orders":2,"total":11}])");

  feed_.Append("orders", {Order("Chur", 7)});
  WaitForPosition("by_city", 4);
  EXPECT_EQ(Rows("SELECT count(*) AS n FROM shop.by_city"), R"([{"n":3}])");
}

TEST_F(LiveEngineTest, RecordsThatCannotBeReadStopTheSliceByNameUntilTheyCan) {
  feed_.Append("orders", {Order("Bern", 10)});
  StartLive();
  Configure({Spec("by_city")});
  WaitForPosition("by_city", 1);
  feed_.SetDamage(
      MakeError(absl::StatusCode::kDataLoss, "segment x: the file is missing", "RECORD_DAMAGED"));
  feed_.Append("orders", {Order("Chur", 7)});
  const SliceReport report = WaitForState("by_city", SliceState::kFaulted);
  ASSERT_TRUE(report.last_error.has_value());
  EXPECT_EQ(report.last_error->reason, "RECORD_DAMAGED");
  EXPECT_THAT(report.last_error->message, HasSubstr("segment x"));
  EXPECT_TRUE(report.next_retry_time.has_value()) << "nobody has to change anything";
  EXPECT_EQ(Rows("SELECT city FROM by_city"), R"([{"city":"Bern"}])");
  feed_.SetDamage(absl::OkStatus());
  WaitForPosition("by_city", 2);
}

TEST_F(LiveEngineTest, RecordsOfOtherStreamsArePassedOver) {
  feed_.Append("orders", {Order("Bern", 10)});
  StartLive();
  Configure({Spec("by_city")});
  WaitForPosition("by_city", 1);
  feed_.Append("clicks", {"{}", "{}"});
  const SliceReport report = WaitForPosition("by_city", 3);
  EXPECT_EQ(report.progress.content_version, 1);
  const auto answer = Ask("SELECT * FROM by_city");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->slices.at(0).progress.applied_position, 3);
}

TEST_F(LiveEngineTest, BadRecordsAreQuarantinedAndCounted) {
  feed_.Append("orders",
               {Order("Bern", 10), R"({"city":"Bern","amount":"many"})", "{}", Order("Bern", 2)});
  StartLive();
  Configure({Spec("by_city"), Spec("lines")});
  const SliceReport report = WaitForPosition("by_city", 4);
  EXPECT_EQ(report.progress.quarantined, 2);
  EXPECT_EQ(report.progress.input, 4);
  EXPECT_EQ(report.progress.applied, 2);
  const auto page = engine_->ListQuarantined("by_city", 0, 10);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->records.size(), 2u);
  EXPECT_EQ(page->records[0].position, 1);
  EXPECT_EQ(page->records[0].code, "WRONG_TYPE");
  EXPECT_EQ(page->records[0].column, "amount");
  EXPECT_EQ(page->records[1].position, 2);
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":12}])");
}

TEST_F(LiveEngineTest, APoisonRecordOfTheSqlIsFoundByHalving) {
  std::vector<std::string> orders;
  for (int i = 0; i < 100; ++i) {
    orders.push_back(absl::StrCat(R"({"city":"Bern","amount":1,"note":")",
                                  i == 37 || i == 80 ? "x" : "7", "\"}"));
  }
  feed_.Append("orders", orders);
  StartLive();
  Configure({Spec("notes"), Spec("by_city")});
  const SliceReport report = WaitForPosition("notes", 100);
  EXPECT_EQ(report.progress.quarantined, 2);
  EXPECT_EQ(report.progress.applied, 98);
  const auto page = engine_->ListQuarantined("notes", 0, 10);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->records.size(), 2u);
  EXPECT_EQ(page->records[0].position, 37);
  EXPECT_EQ(page->records[0].code, "SQL_ERROR");
  EXPECT_EQ(page->records[1].position, 80);
  EXPECT_EQ(Rows("SELECT count(*) AS n, sum(number) AS s FROM notes"), R"([{"n":98,"s":686}])");
  EXPECT_EQ(WaitForPosition("by_city", 100).progress.quarantined, 0);
}

// Of a slice that is run again over everything, too.
class RecomputedTest : public LiveEngineTest {
 protected:
  static GenerationSpec Least(const std::string& on_bad_record) {
    GenerationSpec spec = Spec("least");
    spec.file = absl::StrCat(R"(
domain: shop
sources:
  orders: {columns: {note: VARCHAR}}
slices:
  least:
    sql: SELECT CAST(note AS INTEGER) AS n FROM orders ORDER BY n LIMIT 3
    on_bad_record: )",
                             on_bad_record, "\n");
    return spec;
  }

  void AppendNotes(const std::vector<std::string>& notes) {
    std::vector<std::string> payloads;
    for (const std::string& note : notes) {
      payloads.push_back(absl::StrCat(R"({"note":")", note, "\"}"));
    }
    feed_.Append("orders", payloads);
  }

  std::string Quarantined() {
    const auto page = engine_->ListQuarantined("least", -1, 10);
    if (!page.ok()) return page.status().ToString();
    std::string text;
    for (const QuarantinedRecord& record : page->records) {
      absl::StrAppend(&text, record.position, " ", record.code, "; ");
    }
    return text;
  }
};

TEST_F(RecomputedTest, RecordsOfTheSqlAreQuarantinedAsFarAsTheBudgetGoes) {
  AppendNotes({"9", "x", "5", "7", "y", "1"});
  StartLive();
  GenerationSpec spec = Least("{budget: {records: 3}}");
  spec.deadly_positions = {2};
  Configure({spec});
  EXPECT_EQ(WaitForPosition("least", 6).progress.quarantined, 3);
  EXPECT_EQ(Quarantined(), "1 SQL_ERROR; 2 WORKER_KILLED; 4 SQL_ERROR; ");
  const std::string rows = R"([{"n":1},{"n":7},{"n":9}])";
  EXPECT_EQ(Rows("SELECT * FROM least"), rows);
  engine_->Shutdown();

  StartLive();
  Configure({spec});
  AppendNotes({"8"});
  EXPECT_EQ(WaitForPosition("least", 7).progress.quarantined, 3);
  EXPECT_EQ(Rows("SELECT * FROM least"), R"([{"n":1},{"n":7},{"n":8}])");

  AppendNotes({"2", "z"});
  const SliceReport faulted = WaitForState("least", SliceState::kFaulted);
  EXPECT_EQ(faulted.last_error->reason, "QUARANTINE_OVER_BUDGET");
  EXPECT_THAT(faulted.last_error->message, HasSubstr("position 8"));
  EXPECT_EQ(Rows("SELECT * FROM least"), R"([{"n":1},{"n":7},{"n":8}])");
  spec = Least("{budget: {records: 4}}");
  spec.deadly_positions = {2};
  Configure({spec});
  EXPECT_EQ(WaitForPosition("least", 9).progress.quarantined, 4);
  EXPECT_EQ(Rows("SELECT * FROM least"), R"([{"n":1},{"n":2},{"n":7}])");
}

TEST_F(RecomputedTest, APoisonRecordOfTheSqlStopsIt) {
  AppendNotes({"9", "5"});
  StartLive();
  Configure({Least("{action: fault}")});
  WaitForPosition("least", 2);
  AppendNotes({"2", "x", "y"});
  const SliceReport held = WaitForState("least", SliceState::kHeld);
  EXPECT_EQ(held.last_error->reason, "POISON");
  EXPECT_THAT(held.last_error->message, HasSubstr("position 3"));
  EXPECT_EQ(Rows("SELECT * FROM least"), R"([{"n":5},{"n":9}])");
}

TEST_F(LiveEngineTest, BeyondTheBudgetASliceStopsInFrontOfTheRecord) {
  AppendEightBad();
  StartLive();
  Configure({Spec("by_city"), Spec("notes")});
  const SliceReport report = WaitForState("by_city", SliceState::kFaulted);
  EXPECT_EQ(report.progress.applied_position, 6);  // one good, five bad
  EXPECT_EQ(report.progress.quarantined, 5);
  ASSERT_TRUE(report.last_error.has_value());
  EXPECT_EQ(report.last_error->reason, "QUARANTINE_OVER_BUDGET");
  EXPECT_THAT(report.last_error->message, HasSubstr("position 6"));
  EXPECT_FALSE(report.next_retry_time.has_value());
  const auto page = engine_->ListQuarantined("by_city", 0, 100);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->total, 8);
  // The neighbour does not read the columns that are missing.
  EXPECT_EQ(WaitForPosition("notes", 10).progress.quarantined, 0);
  // What is in front of the record answers, though there was no snapshot of it yet, and is saved.
  const std::string rows = R"([{"city":"Bern","orders":1}])";
  EXPECT_EQ(Rows("SELECT city, orders FROM by_city"), rows);
  engine_->Shutdown();
  EXPECT_TRUE(Find("by_city")->snapshot.has_value());
  StartLive();
  Configure({Spec("by_city")});
  WaitForState("by_city", SliceState::kFaulted);
  EXPECT_EQ(Rows("SELECT city, orders FROM by_city"), rows);
}

TEST_F(LiveEngineTest, AcknowledgedRecordsDoNotCountAgainstTheBudget) {
  AppendEightBad();
  StartLive();
  Configure({Spec("by_city")});
  EXPECT_EQ(WaitForState("by_city", SliceState::kFaulted).unacknowledged, 5);
  // The first four, of which three are bad: they leave room for three more.
  GenerationSpec spec = Spec("by_city");
  spec.acknowledged = PositionRanges({{0, 4}});
  Configure({spec});
  SliceReport report = WaitForPosition("by_city", 10);
  EXPECT_EQ(report.progress.quarantined, 8);
  EXPECT_EQ(report.unacknowledged, 5);
  const auto page = engine_->ListQuarantined("by_city", 0, 100);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->groups.size(), 1u);
  EXPECT_EQ(page->groups.front().unacknowledged, 5);
  EXPECT_TRUE(page->records[2].acknowledged);
  EXPECT_FALSE(page->records[3].acknowledged);
  // One more is one too many, also after a restart from a snapshot and by replay.
  const int64_t end = feed_.Append("orders", {"{}"});
  WaitForState("by_city", SliceState::kFaulted);
  engine_->Shutdown();
  StartLive();
  Configure({spec});
  report = WaitForState("by_city", SliceState::kFaulted);
  EXPECT_EQ(report.unacknowledged, 5);
  spec.acknowledged = PositionRanges({{0, 4}, {end - 1, end}});
  Configure({spec});
  report = WaitForPosition("by_city", end);
  EXPECT_EQ(report.progress.quarantined, 9);
  EXPECT_EQ(report.unacknowledged, 5);
  EXPECT_EQ(report.progress.input,
            report.progress.applied + report.progress.filtered + report.progress.quarantined);
}

TEST_F(LiveEngineTest, ASliceOverASliceIsRecomputedWhereItStands) {
  feed_.Append("orders", {Order("Bern", 10), Order("Basel", 50)});
  StartLive();
  Configure({Spec("ranked"), Spec("by_city")});
  WaitForPosition("ranked", 2);
  EXPECT_EQ(Rows("SELECT city, place FROM ranked ORDER BY place"),
            R"([{"city":"Basel","place":1},{"city":"Bern","place":2}])");
  feed_.Append("orders", {Order("Bern", 100)});
  WaitForPosition("ranked", 3);
  EXPECT_EQ(Rows("SELECT city, place FROM ranked ORDER BY place"),
            R"([{"city":"Bern","place":1},{"city":"Basel","place":2}])");
  feed_.Append("clicks", {"{}"});
  EXPECT_EQ(WaitForPosition("ranked", 4).progress.content_version, 3);
}

constexpr char kNestedDomain[] = R"(
domain: shop
sources:
  transfers:
    columns:
      chain: VARCHAR
      id: UUID
      fees: {type: "STRUCT(kind VARCHAR NOT NULL, value DECIMAL(38,18))[]", path: $.details.fees, default: "[]"}
slices:
  fees_by_kind:
    sql: SELECT chain, f.kind, sum(f.value) AS fees FROM (SELECT chain, unnest(fees) AS f FROM transfers) GROUP BY ALL
    key: [chain, kind]
  transfer_fees:
    sql: SELECT _position AS n, id, fees, [f.kind FOR f IN fees] AS kinds FROM transfers
    key: [n]
  fee_lists:
    sql: SELECT chain, list(fees ORDER BY _position) AS lists FROM transfers GROUP BY ALL
    key: [chain]
)";

TEST_F(LiveEngineTest, ListsAndStructsOfRecordsAreKeptSavedAndAnswered) {
  feed_.Append("transfers",
               {R"({"chain":"eth","id":"e7f0a1c2-0000-4000-8000-0123456789ab","details":{"fees":)"
                R"([{"kind":"gas","value":"0.000000000000000001"},{"kind":"tip","value":2}]}})",
                R"({"chain":"eth","details":{"fees":[{"kind":"gas","value":1.5},{"value":9}]}})",
                R"({"chain":"eth"})",
                R"({"chain":"sol","details":{"fees":[{"kind":"gas","value":null}]}})"});
  std::vector<GenerationSpec> specs = {Spec("fees_by_kind"), Spec("transfer_fees"),
                                       Spec("fee_lists")};
  for (GenerationSpec& spec : specs) spec.file = kNestedDomain;
  for (int run = 0; run < 2; ++run) {
    StartLive();
    Configure(specs);
    for (const GenerationSpec& spec : specs) {
      EXPECT_EQ(WaitForPosition(spec.slice, 4).progress.quarantined, 1) << spec.slice;
    }
    EXPECT_EQ(Rows("SELECT * FROM fees_by_kind ORDER BY ALL"),
              R"([{"chain":"eth","kind":"gas","fees":0.000000000000000001},)"
              R"({"chain":"eth","kind":"tip","fees":2.000000000000000000},)"
              R"({"chain":"sol","kind":"gas","fees":null}])");
    EXPECT_EQ(Rows("SELECT * FROM transfer_fees WHERE n <> 2 ORDER BY n"),
              R"([{"n":0,"id":"e7f0a1c2-0000-4000-8000-0123456789ab","fees":)"
              R"([{"kind":"gas","value":0.000000000000000001},{"kind":"tip","value":)"
              R"(2.000000000000000000}],"kinds":["gas","tip"]},)"
              R"({"n":3,"id":null,"fees":[{"kind":"gas","value":null}],"kinds":["gas"]}])");
    EXPECT_EQ(Rows("SELECT fees, kinds FROM transfer_fees WHERE n = 2"),
              R"([{"fees":[],"kinds":[]}])");
    EXPECT_EQ(Rows("SELECT lists[2:] AS lists FROM fee_lists ORDER BY chain"),
              R"([{"lists":[[]]},{"lists":[]}])");
    const auto page = engine_->ListQuarantined("transfer_fees", 0, 10);
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_EQ(page->records.at(0).path, "$.details.fees[1].kind");
    EXPECT_EQ(page->records.at(0).code, "MISSING");
    engine_->Shutdown();  // saves; the second run starts from that
    EXPECT_TRUE(Find("transfer_fees")->snapshot.has_value());
  }
}

TEST_F(LiveEngineTest, FreezeKeepsTheAnswerAndThawCatchesUp) {
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  Configure({Spec("by_city"), Spec("ranked")});
  WaitForPosition("ranked", 1);
  GenerationSpec frozen = Spec("by_city");
  frozen.frozen = true;
  Configure({frozen, Spec("ranked")});
  WaitForState("by_city", SliceState::kFrozen);
  WaitForState("ranked", SliceState::kBlocked);
  WaitFor("by_city", [](const SliceReport& report) { return report.snapshot.has_value(); });
  feed_.Append("orders", {Order("Bern", 2)});
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":1}])");
  Configure({Spec("by_city"), Spec("ranked")});
  WaitForPosition("by_city", 2);
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":3}])");
  WaitForPosition("ranked", 2);
}

TEST_F(LiveEngineTest, ARestartGoesOnFromTheSnapshotExactlyOnce) {
  feed_.set_blocks_per_piece(1);
  for (int i = 0; i < 10; ++i) feed_.Append("orders", {Order("Bern", 1), Order("Chur", i)});
  StartLive();
  Configure({Spec("by_city"), Spec("lines"), Spec("ranked")});
  WaitForPosition("ranked", 20);
  for (int round = 0; round < 3; ++round) {
    const int64_t head = feed_.Append("orders", {Order("Bern", 1)});
    WaitForPosition("by_city", head);
    WaitForPosition("lines", head);
    engine_->Shutdown();
    const int64_t later = feed_.Append("orders", {Order("Chur", 100)});
    StartLive();
    Configure({Spec("by_city"), Spec("lines"), Spec("ranked")});
    EXPECT_EQ(WaitForPosition("by_city", later).progress.input, later);
    EXPECT_EQ(WaitForPosition("lines", later).progress.input, later);
    WaitForPosition("ranked", later);
  }
  EXPECT_EQ(Rows("SELECT city, orders, total FROM by_city ORDER BY city"),
            R"([{"city":"Bern","orders":13,"total":13},{"city":"Chur","orders":13,"total":345}])");
  EXPECT_EQ(Rows("SELECT count(*) AS n, count(DISTINCT \"at\") AS d FROM lines"),
            R"([{"n":26,"d":26}])");
}

// What came after the snapshot, or while it was frozen, has not arrived yet: the state is not
// fresh.
TEST_F(LiveEngineTest, ARestoredOrThawedSliceLagsUntilItHasWhatWasThere) {
  const absl::Status silent = absl::UnavailableError("the feed is slow");
  const auto settled = [](const SliceReport& report) {
    return report.state != SliceState::kStarting && report.state != SliceState::kFrozen;
  };
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  Configure({Spec("by_city"), Spec("lines"), Spec("ranked")});
  WaitForPosition("ranked", 1);
  WaitForPosition("lines", 1);
  engine_->Shutdown();
  feed_.Append("orders", {Order("Bern", 1)});
  feed_.SetDamage(silent);
  StartLive();
  Configure({Spec("by_city"), Spec("lines"), Spec("ranked")});
  for (const char* slice : {"by_city", "ranked"}) {
    const SliceReport restored = WaitFor(slice, settled);
    EXPECT_EQ(restored.progress.applied_position, 1);
    EXPECT_EQ(restored.state, SliceState::kLagging) << slice;
  }
  feed_.SetDamage(absl::OkStatus());
  WaitForPosition("by_city", 2);
  WaitForPosition("ranked", 2);

  // `lines` goes on while `by_city` is frozen, which must then catch up by itself: the track that
  // both have followed since the start is beyond the record by then.
  GenerationSpec frozen = Spec("by_city");
  frozen.frozen = true;
  Configure({frozen, Spec("lines")});
  WaitForState("by_city", SliceState::kFrozen);
  const int64_t head = feed_.Append("orders", {Order("Bern", 1)});
  WaitForPosition("lines", head);
  feed_.SetDamage(silent);
  Configure({Spec("by_city"), Spec("lines")});
  const SliceReport thawed = WaitFor("by_city", settled);
  EXPECT_EQ(thawed.progress.applied_position, 2);
  EXPECT_EQ(thawed.state, SliceState::kLagging);
  feed_.SetDamage(absl::OkStatus());
  WaitForPosition("by_city", head);
}

TEST_F(LiveEngineTest, DamagedSnapshotsOfAFrozenSliceAreReported) {
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  Configure({Spec("by_city")});
  WaitForPosition("by_city", 1);
  engine_->Shutdown();
  for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/snapshots/by_city")) {
    if (entry.path().extension() == ".duckdb") std::filesystem::resize_file(entry.path(), 4096);
  }
  StartLive();
  GenerationSpec frozen = Spec("by_city");
  frozen.frozen = true;
  Configure({frozen});
  const SliceReport report = WaitForState("by_city", SliceState::kFrozen);
  ASSERT_TRUE(report.last_error.has_value());
  EXPECT_EQ(report.last_error->reason, "SNAPSHOT_DAMAGED");
  EXPECT_THAT(report.last_error->message, HasSubstr("snapshots/by_city/g1-p"));
  EXPECT_THAT(report.last_error->message, HasSubstr("icepie slice thaw shop.by_city"));
}

// Both begin in one run, of which only the first step fails on the data, without a record to blame.
TEST_F(LiveEngineTest, ASliceIsBlockedByAnUpstreamThatNeverHadRows) {
  GenerationSpec numbers = Spec("numbers");
  numbers.file = R"(
domain: shop
sources:
  orders: {columns: {note: VARCHAR}}
slices:
  numbers:
    sql: SELECT CAST(CASE WHEN count(note) < 9 THEN 'few' END AS INTEGER) AS number FROM orders ORDER BY number LIMIT 3
  least: {sql: "SELECT number FROM numbers ORDER BY number LIMIT 1"}
)";
  GenerationSpec least = Spec("least");
  least.file = numbers.file;
  feed_.Append("orders", {R"({"note":"many"})"});
  StartLive();
  Configure({numbers, least});
  WaitForState("numbers", SliceState::kFaulted);
  const SliceReport blocked = WaitForState("least", SliceState::kBlocked);
  ASSERT_TRUE(blocked.last_error.has_value());
  EXPECT_THAT(blocked.last_error->message, HasSubstr("numbers, which is FAULTED"));
}

TEST_F(LiveEngineTest, ASliceOverAStoppedOneSaysWhatItWaitsFor) {
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  Configure({Spec("by_city"), Spec("ranked")});
  WaitForPosition("ranked", 1);
  GenerationSpec frozen = Spec("by_city");
  frozen.frozen = true;
  Configure({frozen, Spec("ranked")});
  const SliceReport blocked = WaitForState("ranked", SliceState::kBlocked);
  ASSERT_TRUE(blocked.last_error.has_value());
  EXPECT_EQ(blocked.last_error->reason, "BLOCKED_BY");
  EXPECT_EQ(blocked.last_error->message, "reads by_city, which is FROZEN");
}

TEST_F(LiveEngineTest, ADefinitionThatDoesNotPlanIsHeldAndItsSnapshotAnswers) {
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  Configure({Spec("by_city"), Spec("lines")});
  WaitForPosition("by_city", 1);
  engine_->Shutdown();
  StartLive();
  GenerationSpec broken = Spec("by_city");
  broken.file = "domain: shop\nslices: {by_city: {sql: SELEC}}\n";
  Configure({broken, Spec("lines")});
  const SliceReport report = WaitForState("by_city", SliceState::kHeld);
  ASSERT_TRUE(report.last_error.has_value());
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":1}])");
  feed_.Append("orders", {Order("Bern", 1)});
  WaitForPosition("lines", 2);
}

// A star once gave a source's hidden columns, too, and a slice may have named one of another
// slice's.
TEST_F(LiveEngineTest, ASliceThatNamesAHiddenColumnOfAStarIsHeldAndAnswers) {
  const auto specs = [](const std::string& items) {
    std::vector<GenerationSpec> all = {Spec("raw"), Spec("below"), Spec("by_city")};
    for (GenerationSpec& spec : all) {
      absl::StrAppend(&spec.file, "  raw: {sql: \"SELECT ", items, " FROM orders\"}\n",
                      "  below: {sql: SELECT max(_offset) AS newest FROM raw}\n");
    }
    return all;
  };
  feed_.Append("orders", {Order("Bern", 1), Order("Chur", 2)});
  StartLive();
  Configure(specs("city, amount, note, _offset"));
  WaitForPosition("below", 2);
  EXPECT_EQ(Rows("SELECT newest FROM below"), R"([{"newest":1}])");
  engine_->Shutdown();
  StartLive();
  Configure(specs("*"));
  const SliceReport report = WaitForState("below", SliceState::kHeld);
  ASSERT_TRUE(report.last_error.has_value());
  EXPECT_EQ(report.last_error->reason, "SQL_UNKNOWN_COLUMN");
  EXPECT_THAT(report.last_error->message,
              testing::HasSubstr("where raw has *, write its columns and _offset"));
  EXPECT_EQ(Rows("SELECT newest FROM below"), R"([{"newest":1}])") << "as it was saved";
  feed_.Append("orders", {Order("Bern", 1)});
  WaitForPosition("by_city", 3);
  WaitForPosition("raw", 3);
  EXPECT_EQ(Rows("SELECT count(*) AS n FROM raw"), R"([{"n":3}])");
}

// All slices of a domain come with its whole file.
TEST_F(LiveEngineTest, ASliceThatDoesNotPlanHoldsNeitherItsNeighboursNorThoseThatTheyRead) {
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  std::vector<GenerationSpec> specs = {Spec("by_city"), Spec("ranked"), Spec("lines"),
                                       Spec("broken"), Spec("below")};
  for (GenerationSpec& spec : specs) {
    absl::StrAppend(&spec.file, "  broken: {sql: SELECT missing FROM orders}\n",
                    "  below: {sql: SELECT count(*) AS n FROM broken}\n");
  }
  Configure(specs);
  WaitForPosition("ranked", 1);
  WaitForPosition("lines", 1);
  EXPECT_EQ(Rows("SELECT city, place FROM ranked"), R"([{"city":"Bern","place":1}])");
  for (const char* slice : {"broken", "below"}) {
    const SliceReport report = WaitForState(slice, SliceState::kHeld);
    ASSERT_TRUE(report.last_error.has_value()) << slice;
    EXPECT_EQ(report.last_error->reason, "SQL_UNKNOWN_COLUMN") << slice;
    EXPECT_THAT(report.last_error->message, testing::HasSubstr("missing")) << slice;
  }
  feed_.Append("orders", {Order("Bern", 2)});
  WaitForPosition("ranked", 2);
  EXPECT_EQ(Rows("SELECT total FROM ranked"), R"([{"total":3}])");
}

TEST_F(LiveEngineTest, MinPositionWaitsAndAFrozenSliceSaysNoAtOnce) {
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  GenerationSpec spec = Spec("by_city");
  spec.file += "limits: {query_timeout: 2s}\n";
  Configure({spec});
  WaitForPosition("by_city", 1);
  Question question;
  question.text = std::string("SELECT orders FROM by_city");
  question.min_position = 2;
  question.max_wait = absl::Seconds(20);
  std::promise<absl::StatusOr<Answer>> promise;
  engine_->Ask(question,
               [&](absl::StatusOr<Answer> answer) { promise.set_value(std::move(answer)); });
  feed_.Append("orders", {Order("Bern", 1)});
  const auto answer = promise.get_future().get();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->rows.body, R"([{"orders":2}])");

  // The wait is no work: it is over at its own end and not at the limit of the query's time.
  question.min_position = 3;
  question.max_wait = absl::Milliseconds(2500);
  EXPECT_EQ(ErrorReason(Ask(*engine_, question).status()), "POSITION_UNREACHABLE");

  spec.frozen = true;
  Configure({spec});
  WaitForState("by_city", SliceState::kFrozen);
  question.max_wait = absl::Seconds(20);
  EXPECT_EQ(ErrorReason(Ask(*engine_, question).status()), "POSITION_UNREACHABLE");
}

// A worker that has lost its snapshots is soon where the question wants it.
TEST_F(LiveEngineTest, MinPositionWaitsForTheFirstStateToo) {
  constexpr int64_t kOrders = 50000;
  feed_.Append("orders", std::vector<std::string>(kOrders, Order("Bern", 1)));
  StartLive();
  Configure({Spec("by_city")});
  WaitFor("by_city", [](const SliceReport& /*report*/) { return true; });
  Question question;
  question.text = std::string("SELECT orders FROM by_city");
  question.min_position = kOrders;
  question.max_wait = absl::Seconds(60);
  const auto answer = Ask(*engine_, question);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->rows.body, R"([{"orders":50000}])");
}

constexpr char kScheduled[] = R"(
domain: shop
sources:
  orders:
    columns:
      city: {type: VARCHAR, required: true}
      amount: {type: BIGINT, required: true}
slices:
  median:
    sql: SELECT city, median(amount) AS middle FROM orders GROUP BY ALL
    key: [city]
    refresh: {every: 1h}
)";

TEST_F(LiveEngineTest, AScheduledSliceRefreshesWhenAskedTo) {
  feed_.Append("orders", {Order("Bern", 1), Order("Bern", 3)});
  StartLive();
  GenerationSpec spec = Spec("median");
  spec.file = kScheduled;
  Configure({spec});
  EXPECT_TRUE(WaitForPosition("median", 2).next_refresh_time.has_value());
  const int64_t end = feed_.Append("orders", {Order("Bern", 100)});
  EXPECT_EQ(Rows("SELECT middle FROM median"), R"([{"middle":2.0}])");
  std::promise<absl::StatusOr<int64_t>> promise;
  engine_->Refresh("shop.median", end, absl::Now() + absl::Seconds(60),
                   [&](const absl::StatusOr<int64_t>& at) { promise.set_value(at); });
  const auto at = promise.get_future().get();
  ASSERT_TRUE(at.ok()) << at.status();
  EXPECT_EQ(*at, end);
  EXPECT_EQ(Rows("SELECT middle FROM median"), R"([{"middle":3.0}])");
  promise = {};
  engine_->Refresh("nothing", 0, absl::Now() + absl::Seconds(60),
                   [&](const absl::StatusOr<int64_t>& at) { promise.set_value(at); });
  EXPECT_EQ(ErrorReason(promise.get_future().get().status()), "SLICE_NOT_FOUND");
}

// Whoever asked hears it from the call, and not when the time is over that it may take.
TEST_F(LiveEngineTest, ARefreshThatFaultsTheSliceEndsWithItsError) {
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  GenerationSpec spec = Spec("median");
  spec.file = absl::StrCat(kScheduled, "    on_bad_record: {budget: {records: 1}}\n");
  Configure({spec});
  WaitForPosition("median", 1);
  const int64_t end = feed_.Append("orders", {R"({"city":"Bern"})", R"({"city":"Bern"})"});
  const auto told = std::make_shared<std::promise<absl::Status>>();
  engine_->Refresh("median", end, absl::Now() + absl::Minutes(10),
                   [told](const auto& at) { told->set_value(at.status()); });
  std::future<absl::Status> answer = told->get_future();
  ASSERT_EQ(answer.wait_for(std::chrono::minutes(1)), std::future_status::ready);
  const absl::Status refused = answer.get();
  EXPECT_EQ(ErrorReason(refused), "BLOCKED_BY") << refused;
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("slice median is FAULTED and is not refreshed: QUARANTINE_OVER_BUDGET: "));
  EXPECT_EQ(Find("median")->state, SliceState::kFaulted);
}

// Some of them come while a run is under way that began before what they ask for.
TEST_F(LiveEngineTest, RefreshesThatComeOneUponTheOtherAllEnd) {
  StartLive();
  GenerationSpec spec = Spec("median");
  spec.file = kScheduled;
  Configure({spec});
  std::vector<std::pair<int64_t, std::future<absl::StatusOr<int64_t>>>> asked;
  for (int i = 0; i < 100; ++i) {
    const int64_t end = feed_.Append("orders", {Order("Bern", i)});
    const auto told = std::make_shared<std::promise<absl::StatusOr<int64_t>>>();
    asked.emplace_back(end, told->get_future());
    engine_->Refresh("median", end, absl::Now() + absl::Minutes(10),
                     [told](const auto& at) { told->set_value(at); });
    if (i % 10 == 0) asked.back().second.wait_for(std::chrono::minutes(1));
  }
  for (auto& [end, answer] : asked) {
    ASSERT_EQ(answer.wait_for(std::chrono::minutes(1)), std::future_status::ready) << end;
    const absl::StatusOr<int64_t> at = answer.get();
    ASSERT_TRUE(at.ok()) << at.status();
    EXPECT_GE(*at, end);
  }
}

constexpr char kAfter[] = R"(
domain: shop
sources:
  orders:
    columns:
      city: {type: VARCHAR, required: true}
      amount: {type: BIGINT, required: true}
  cities: {columns: {name: VARCHAR}}
slices:
  middle:
    sql: SELECT city, median(amount) AS middle FROM orders GROUP BY ALL
    key: [city]
    refresh: {every: 1h, on_missed: skip}
  known:
    sql: SELECT count(*) AS n, (SELECT sum(middle) FROM middle) AS middles FROM cities
    refresh: {after: middle}
  counted: {sql: SELECT count(*) AS n FROM cities}
)";

TEST_F(LiveEngineTest, ASliceThatIsRefreshedAfterAnotherWaitsForItAndShowsTheSameCut) {
  feed_.Append("orders", {Order("Bern", 1), Order("Bern", 3)});
  feed_.Append("cities", {R"({"name":"Bern"})"});
  StartLive();
  GenerationSpec middle = Spec("middle");
  middle.file = kAfter;
  GenerationSpec known = Spec("known");
  known.file = kAfter;
  GenerationSpec counted = Spec("counted");
  counted.file = kAfter;
  Configure({middle, known, counted});
  EXPECT_EQ(WaitForPosition("known", 3).next_refresh_time,
            WaitForPosition("middle", 3).next_refresh_time);
  EXPECT_EQ(Rows("SELECT * FROM known"), R"([{"n":1,"middles":2.0}])");
  feed_.Append("cities", {R"({"name":"Genf"})"});
  feed_.Append("orders", {Order("Bern", 100)});
  std::promise<absl::StatusOr<int64_t>> promise;
  engine_->Refresh("shop.middle", 5, absl::Now() + absl::Seconds(60),
                   [&](const absl::StatusOr<int64_t>& at) { promise.set_value(at); });
  const auto at = promise.get_future().get();
  ASSERT_TRUE(at.ok()) << at.status();
  WaitForPosition("known", 5);
  EXPECT_EQ(Rows("SELECT * FROM known"), R"([{"n":2,"middles":3.0}])");
  // Its other source alone does not refresh it.
  feed_.Append("cities", {R"({"name":"Chur"})"});
  WaitForPosition("counted", 6);
  EXPECT_EQ(Rows("SELECT k.n, c.n AS now FROM known AS k, counted AS c"), R"([{"n":2,"now":3}])");
}

constexpr char kKept[] = R"(
domain: shop
sources:
  orders:
    columns:
      city: {type: VARCHAR, required: true}
      amount: {type: BIGINT, required: true}
limits: {kept_rows: 3}
slices:
  median:
    sql: SELECT city, median(amount) AS middle FROM orders GROUP BY ALL
    key: [city]
)";

TEST_F(LiveEngineTest, ASliceThatWouldKeepTooManyRecordsIsRecomputedAndSaysSo) {
  feed_.Append("orders", {Order("Bern", 1), Order("Bern", 3)});
  StartLive();
  GenerationSpec spec = Spec("median");
  spec.file = kKept;
  Configure({spec});
  EXPECT_EQ(WaitForPosition("median", 2).info.strategy, "keys");
  feed_.Append("orders", {Order("Bern", 5), Order("Bern", 7)});
  const SliceReport report = WaitForPosition("median", 4);
  EXPECT_EQ(report.info.strategy, "recompute");
  ASSERT_TRUE(report.last_error.has_value());
  EXPECT_EQ(report.last_error->reason, "KEPT_ROWS_OVER_BUDGET");
  EXPECT_THAT(report.last_error->message, HasSubstr("limits.kept_rows (3)"));
  EXPECT_EQ(Rows("SELECT middle FROM median"), R"([{"middle":4.0}])");
  // It stays so after a restart, and goes on from its snapshot.
  engine_->Shutdown();
  StartLive();
  feed_.Append("orders", {Order("Chur", 5)});
  Configure({spec});
  EXPECT_EQ(WaitForPosition("median", 5).info.strategy, "recompute");
  EXPECT_EQ(Rows("SELECT middle FROM median ORDER BY 1"), R"([{"middle":4.0},{"middle":5.0}])");
}

// As the planner of another version has left it.
TEST_F(LiveEngineTest, ASnapshotWithOtherTablesAnswersUntilTheSliceIsBuiltAnew) {
  feed_.Append("orders", {Order("Bern", 1), Order("Bern", 3)});
  StartLive();
  GenerationSpec spec = Spec("median");
  spec.file = kKept;
  Configure({spec});
  WaitForPosition("median", 2);
  engine_->Shutdown();
  ReplaceInManifests("median", R"("layout": ")", R"("layout": "other)");
  const size_t opened_before = feed_.opened().size();
  StartLive();
  feed_.Append("orders", {Order("Bern", 100)});
  Configure({spec});
  EXPECT_EQ(WaitForPosition("median", 3).progress.input, 3);
  const std::vector<int64_t> opened = feed_.opened();
  EXPECT_EQ(std::count(opened.begin() + static_cast<int64_t>(opened_before), opened.end(), 0), 1);
  EXPECT_EQ(Rows("SELECT middle FROM median"), R"([{"middle":3.0}])");
}

struct KeptOtherwise {
  const char* name;
  const char* sql;
  const char* rows;
};

class KeptOtherwiseTest : public LiveEngineTest,
                          public testing::WithParamInterface<KeptOtherwise> {};

// In the same tables. Who knows the version of the former rows learns that these may be others.
TEST_P(KeptOtherwiseTest, AStateOfAnEarlierVersionIsBuiltAnew) {
  const std::string file = absl::StrReplaceAll(kKept, {{"median(amount)", GetParam().sql}});
  const absl::StatusOr<DomainDef> definition = ParseDomain(file, "shop.yaml");
  ASSERT_TRUE(definition.ok()) << definition.status();
  const absl::StatusOr<DomainPlan> plan = PlanDomain(*definition);
  ASSERT_TRUE(plan.ok()) << plan.status();
  SlicePlan earlier = *plan->Find("median");
  earlier.kept_as = "";
  feed_.Append("orders", {Order("Bern", 1), Order("Bern", 3)});
  StartLive();
  GenerationSpec spec = Spec("median");
  spec.file = file;
  Configure({spec});
  EXPECT_EQ(WaitForPosition("median", 2).progress.content_version, 2);
  engine_->Shutdown();
  ReplaceInManifests("median", LayoutOf(*plan->Find("median")), LayoutOf(earlier));
  const auto opened_from_start = [&] {
    const std::vector<int64_t> opened = feed_.opened();
    return std::count(opened.begin(), opened.end(), 0);
  };
  const auto before = opened_from_start();
  StartLive();
  Configure({spec});
  EXPECT_GT(WaitForPosition("median", 2).progress.content_version, 2);
  EXPECT_EQ(opened_from_start(), before + 1);
  WaitForPosition("median", feed_.Append("orders", {Order("Bern", 100)}));
  EXPECT_EQ(Rows("SELECT middle FROM median"), GetParam().rows);
}

INSTANTIATE_TEST_SUITE_P(
    Statements, KeptOtherwiseTest,
    testing::Values(KeptOtherwise{"Last", "last(amount ORDER BY length(city))",
                                  R"([{"middle":1}])"},
                    KeptOtherwise{"CountOfNumbers", "count(amount + 1)", R"([{"middle":3}])"},
                    KeptOtherwise{"CountOfLists", "count([amount] + [1])", R"([{"middle":3}])"}),
    [](const auto& info) { return info.param.name; });

constexpr char kLatest[] = R"(
domain: shop
sources:
  orders:
    latest_by: [city]
    columns:
      city: {type: VARCHAR, required: true}
      note: VARCHAR
slices:
  latest:
    sql: SELECT city, CAST(note AS INTEGER) AS number FROM orders
    key: [city]
)";

// It fails without any record, too.
TEST_F(LiveEngineTest, ARecomputeThatFailsOnDataWaitsForItsInputsToChange) {
  feed_.Append("orders", {R"({"city":"Bern","note":"7"})"});
  StartLive();
  GenerationSpec spec = Spec("latest");
  spec.file = absl::StrReplaceAll(
      kLatest, {{"SELECT city, CAST(note AS INTEGER)",
                 "SELECT max(city) AS city, CAST(CASE WHEN count(*) < 2 THEN 'few' ELSE max(note) "
                 "END AS INTEGER)"}});
  Configure({spec});
  const SliceReport failed = WaitForState("latest", SliceState::kFaulted);
  ASSERT_TRUE(failed.last_error.has_value());
  EXPECT_EQ(failed.last_error->reason, "SQL_ERROR");
  EXPECT_THAT(failed.last_error->message, HasSubstr("few"));
  EXPECT_FALSE(failed.next_retry_time.has_value());
  EXPECT_EQ(failed.progress.quarantined, 0);
  feed_.Append("orders", {R"({"city":"Chur","note":"7"})"});
  WaitForPosition("latest", 2);
  EXPECT_EQ(Rows("SELECT number FROM latest"), R"([{"number":7}])");
}

constexpr char kEndless[] = R"(
domain: shop
sources:
  orders:
    latest_by: [city]
    columns:
      city: {type: VARCHAR, required: true}
slices:
  endless:
    sql: SELECT count(*) AS n FROM range(10000000) a, range(10000000) b, orders
    key: [n]
  latest:
    sql: SELECT city FROM orders
    key: [city]
)";

TEST_F(LiveEngineTest, AnEndlessRecomputeIsFaultedAndNotTriedAgainUntilAsked) {
  feed_.Append("orders", {R"({"city":"Bern"})"});
  EngineOptions options = Options();
  options.recompute_limit = absl::Milliseconds(300);
  StartLive(options, feed_);
  GenerationSpec endless = Spec("endless");
  GenerationSpec latest = Spec("latest");
  endless.file = latest.file = kEndless;
  Configure({endless, latest});
  const SliceReport failed = WaitForState("endless", SliceState::kFaulted);
  ASSERT_TRUE(failed.last_error.has_value());
  EXPECT_EQ(failed.last_error->reason, "RECOMPUTE_TIME_LIMIT");
  EXPECT_THAT(failed.last_error->message, HasSubstr("slice endless took longer than its limit"));
  EXPECT_FALSE(failed.next_retry_time.has_value());
  feed_.Append("orders", {R"({"city":"Chur"})"});
  WaitForPosition("latest", 2);
  EXPECT_EQ(Find("endless")->last_error->time, failed.last_error->time);
  std::promise<absl::StatusOr<int64_t>> promise;
  engine_->Refresh("endless", 0, absl::Now() + absl::Seconds(60),
                   [&](const absl::StatusOr<int64_t>& at) { promise.set_value(at); });
  EXPECT_FALSE(promise.get_future().get().ok());
  EXPECT_GT(Find("endless")->last_error->time, failed.last_error->time);
}

// From a disk that takes its time.
class SlowFeed : public MemoryFeed {
 public:
  explicit SlowFeed(absl::Duration delay) : delay_(delay) {}
  std::unique_ptr<FeedReader> Open(const std::vector<std::string>& streams, int64_t from,
                                   std::optional<int64_t> end) override {
    absl::SleepFor(delay_);
    return MemoryFeed::Open(streams, from, end);
  }

 private:
  const absl::Duration delay_;
};

constexpr char kLargest[] = R"(
domain: shop
sources:
  orders: {columns: {amount: INTEGER}}
slices:
  largest:
    sql: SELECT max(CAST(amount AS TINYINT)) AS most FROM orders
    key: [most]
    strategy: recompute
)";

// A dozen runs over some of the records, a quarter of the limit each.
TEST_F(LiveEngineTest, BadRecordsAreFoundThoughThatTakesLongerThanARecomputeMay) {
  bool found = false;
  // On a machine on which nothing gets its time a single run takes longer, too.
  for (absl::Duration limit = absl::Milliseconds(500); !found && limit < absl::Seconds(10);
       limit *= 2) {
    SlowFeed feed(limit / 4);
    feed.Append("orders",
                {R"({"amount":1})", R"({"amount":300})", R"({"amount":301})", R"({"amount":302})"});
    EngineOptions options = Options();
    options.recompute_limit = limit;
    StartLive(options, feed);
    GenerationSpec largest = Spec("largest");
    largest.file = kLargest;
    Configure({largest});
    const SliceReport report = WaitFor("largest", [](const SliceReport& at) {
      return at.state == SliceState::kRunning || at.state == SliceState::kFaulted;
    });
    found = report.state == SliceState::kRunning;
    if (!found) {
      ASSERT_TRUE(report.last_error.has_value());
      EXPECT_EQ(report.last_error->reason, "RECOMPUTE_TIME_LIMIT");
    } else {
      EXPECT_EQ(WaitForPosition("largest", 4).progress.quarantined, 3);
      EXPECT_EQ(Rows("SELECT most FROM largest"), R"([{"most":1}])");
    }
    engine_.reset();
  }
  EXPECT_TRUE(found);
}

// What hangs there is the slice's own work, of which no record is suspected.
TEST_F(LiveEngineTest, ASliceOverASliceThatListensToNoInterruptIsBlamed) {
  const std::string file = absl::StrCat(
      kShopDomain,
      "  follows:\n    sql: SELECT city, sum(levenshtein(repeat(city, CAST(total AS BIGINT)), "
      "repeat('b', CAST(total AS BIGINT)))) AS x FROM by_city GROUP BY ALL\n");
  feed_.Append("orders", {Order("rome", 1)});
  const FlightNote blamed = BlamedForItsEnd(absl::Seconds(5), [&] {
    std::vector<GenerationSpec> specs = {Spec("by_city"), Spec("follows")};
    for (GenerationSpec& spec : specs) spec.file = file;
    Configure(specs);
    WaitForPosition("follows", 1);
    feed_.Append("orders", {Order("oslo", 300000)});
  });
  EXPECT_EQ(blamed.activity, Activity::kRecompute);
  EXPECT_EQ(blamed.subject, "follows/1");
}

TEST_F(LiveEngineTest, FreezingEndsARecomputeAndStoppingDoesNotWaitForIt) {
  feed_.Append("orders", {R"({"city":"Bern"})"});
  StartLive();
  GenerationSpec endless = Spec("endless");
  GenerationSpec latest = Spec("latest");
  endless.file = latest.file = kEndless;
  Configure({endless, latest});
  WaitForState("latest", SliceState::kBackfilling);
  endless.frozen = true;
  Configure({endless, latest});
  WaitForPosition("latest", 1);  // behind the endless one in the same thread
  WaitForState("endless", SliceState::kFrozen);
  endless.frozen = false;
  Configure({endless, latest});
  WaitForState("endless", SliceState::kBackfilling);
  const absl::Time begin = absl::Now();
  engine_->Shutdown();
  EXPECT_LT(absl::Now() - begin, kRecomputeTimeLimit / 2);
}

// Readings that have an end, which are those of recomputes, wait while it is held.
class HeldFeed : public Feed {
 public:
  explicit HeldFeed(Feed& feed) : feed_(feed) {}
  std::unique_ptr<FeedReader> Open(const std::vector<std::string>& streams, int64_t from,
                                   std::optional<int64_t> end) override {
    MutexLock lock(mutex_);
    while (end && held_) {
      waiting_ = true;
      changed_.SignalAll();
      changed_.Wait(mutex_);
    }
    return feed_.Open(streams, from, end);
  }
  void Hold(bool held) {
    {
      MutexLock lock(mutex_);
      held_ = held;
    }
    changed_.SignalAll();
  }
  void WaitForAReader() {
    MutexLock lock(mutex_);
    while (!waiting_) changed_.Wait(mutex_);
  }

 private:
  Feed& feed_;
  Mutex mutex_;
  CondVar changed_;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
};

TEST_F(LiveEngineTest, ARecomputeThatIsLaterThanItsShareOfTimeLags) {
  feed_.Append("orders", {R"({"city":"Bern","note":"1"})"});
  HeldFeed feed(feed_);
  StartLive(Options(), feed);
  GenerationSpec spec = Spec("latest");
  spec.file = kLatest;
  Configure({spec});
  WaitForPosition("latest", 1);
  feed.Hold(true);
  feed_.Append("orders", {R"({"city":"Bern","note":"2"})"});
  WaitForState("latest", SliceState::kLagging);
  EXPECT_EQ(Rows("SELECT number FROM latest"), R"([{"number":1}])");
  feed.Hold(false);
  WaitForPosition("latest", 2);
  engine_.reset();
}

// What is frozen behind another slice's step of a run must not begin when its turn comes.
TEST_F(LiveEngineTest, FreezingEndsARecomputeThatHasNotBegun) {
  feed_.Append("orders", {R"({"city":"Bern"})"});
  HeldFeed feed(feed_);
  feed.Hold(true);
  StartLive(Options(), feed);
  GenerationSpec endless = Spec("endless");
  GenerationSpec latest = Spec("latest");
  endless.file = latest.file = kEndless;
  Configure({latest, endless});
  feed.WaitForAReader();
  endless.frozen = true;
  Configure({latest, endless});
  WaitForState("endless", SliceState::kFrozen);
  feed.Hold(false);
  WaitForPosition("latest", 1);
  engine_.reset();
}

// Whatever the batches and restarts, a slice is its SQL over the records that could be read.
TEST_F(LiveEngineTest, EqualsItsSqlOverRandomRecordsAndRestarts) {
  feed_.set_blocks_per_piece(1);
  unsigned int seed = 20261122;
  RecordProperty("seed", static_cast<int>(seed));
  std::map<std::string, std::pair<int64_t, int64_t>> expected;
  int64_t good = 0;
  int64_t bad = 0;
  const std::vector<GenerationSpec> specs = {Spec("by_city"), Spec("lines"), Spec("ranked")};
  for (int round = 0; round < 8; ++round) {
    if (round % 2 == 0) {
      if (engine_ != nullptr) engine_->Shutdown();
      StartLive();
      Configure(specs);
    }
    for (int batch = 0; batch < 5; ++batch) {
      std::vector<std::string> payloads;
      for (int i = ::rand_r(&seed) % 200; i >= 0; --i) {
        const std::string city = absl::StrCat("c", ::rand_r(&seed) % 20);
        const int64_t amount = ::rand_r(&seed) % 1000 - 500;
        if (bad < 4 && ::rand_r(&seed) % 300 == 0) {
          payloads.push_back("{}");
          ++bad;
          continue;
        }
        payloads.push_back(Order(city, amount));
        expected[city].first += 1;
        expected[city].second += amount;
        ++good;
      }
      feed_.Append("orders", payloads);
      feed_.Append("clicks", {"{}"});
    }
    const int64_t head = feed_.head();
    WaitForPosition("by_city", head);
    WaitForPosition("lines", head);
    WaitForPosition("ranked", head);
  }
  std::string rows = "[";
  for (const auto& [city, sums] : expected) {
    absl::StrAppend(&rows, rows.size() == 1 ? "" : ",", "{\"city\":\"", city,
                    "\",\"orders\":", sums.first, ",\"total\":", sums.second, "}");
  }
  EXPECT_EQ(Rows("SELECT city, orders, total FROM by_city ORDER BY city"), rows + "]");
  EXPECT_EQ(Rows("SELECT count(*) AS n FROM lines"), absl::StrCat("[{\"n\":", good, "}]"));
  EXPECT_EQ(Rows("SELECT count(*) AS n FROM (SELECT city, rank() OVER (ORDER BY total DESC, city) "
                 "AS place FROM by_city) AS a JOIN ranked AS b ON a.city = b.city AND "
                 "a.place = b.place"),
            absl::StrCat("[{\"n\":", expected.size(), "}]"));
  const SliceReport report = *Find("by_city");
  EXPECT_EQ(report.progress.quarantined, bad);
  EXPECT_EQ(report.progress.input, good + bad);
}

// ------------------------------------------------------------------------------- bad records

std::string ShopWith(const std::string& on_bad_record) {
  return absl::StrReplaceAll(kShopDomain,
                             {{"{action: quarantine, budget: {records: 5}}", on_bad_record}});
}

GenerationSpec ByCity(const std::string& on_bad_record) {
  GenerationSpec spec;
  spec.slice = "by_city";
  spec.number = 1;
  spec.serving = true;
  spec.file = ShopWith(on_bad_record);
  return spec;
}

TEST_F(LiveEngineTest, OnBadRecordFaultStopsInFrontOfIt) {
  feed_.Append("orders", {Order("rome", 1), R"({"city":"oslo","amount":"x"})", Order("bern", 2)});
  StartLive();
  Configure({ByCity("{action: fault}")});
  const SliceReport held = WaitForState("by_city", SliceState::kHeld);
  EXPECT_EQ(held.last_error->reason, "POISON");
  EXPECT_NE(held.last_error->message.find("orders[1] at position 1 (WRONG_TYPE in column amount)"),
            std::string::npos)
      << held.last_error->message;
  EXPECT_EQ(held.progress.applied_position, 1);
  EXPECT_EQ(held.progress.quarantined, 0);
  const auto page = engine_->ListQuarantined("by_city", 0, 10);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->records.size(), 1U);  // the one that it stands in front of
  EXPECT_EQ(page->records.front().position, 1);
  // Acknowledged, it is passed over, and the next one stops the slice again.
  GenerationSpec known = ByCity("{action: fault}");
  known.acknowledged = PositionRanges({{1, 2}});
  Configure({known});
  const int64_t next = feed_.Append("orders", {"{}"}) - 1;
  const SliceReport again = WaitFor("by_city", [&](const SliceReport& report) {
    return report.state == SliceState::kHeld && report.progress.applied_position == next;
  });
  EXPECT_EQ(again.progress.quarantined, 1);
  EXPECT_EQ(again.unacknowledged, 0);
  // With another action, and no rebuild, it goes on.
  Configure({ByCity("{action: quarantine}")});
  const SliceReport running = WaitForPosition("by_city", 4);
  EXPECT_EQ(running.progress.quarantined, 2);
  EXPECT_EQ(running.unacknowledged, 2);
  EXPECT_EQ(running.progress.applied, 2);
  EXPECT_EQ(Rows("SELECT city FROM by_city ORDER BY city"), R"([{"city":"bern"},{"city":"rome"}])");
}

struct Failing {
  const char* name;
  const char* sql;   // over note; fails on `bad` and not on "7"
  const char* bad;   // of note
  const char* says;  // a part of the error
};

// Errors of every kind, in SQL that is kept fresh in every way that looks at records.
class FailingSqlTest : public LiveEngineTest, public testing::WithParamInterface<Failing> {
 protected:
  static GenerationSpec SpecOf(const std::string& action, std::vector<std::string> acknowledged) {
    GenerationSpec spec = Spec("failing");
    spec.file = absl::StrCat(std::string(kShopDomain), "  failing:\n    sql: ", GetParam().sql,
                             "\n    on_bad_record: {action: ", action, "}\n");
    if (!acknowledged.empty()) spec.acknowledged = PositionRanges({{1, 2}});
    return spec;
  }
  GenerationSpec Neighbour() const {
    GenerationSpec spec = Spec("by_city");
    spec.file = SpecOf("quarantine", {}).file;
    return spec;
  }
  void AppendThree() {
    for (const std::string& note :
         {std::string("7"), std::string(GetParam().bad), std::string("7")}) {
      feed_.Append("orders", {absl::StrCat(R"({"city":"Bern","amount":1,"note":")", note, "\"}")});
    }
  }
  void ExpectPointer() {
    const auto page = engine_->ListQuarantined("failing", 0, 10);
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_EQ(page->records.size(), 1u);
    EXPECT_EQ(page->records[0].position, 1);
    EXPECT_EQ(page->records[0].code, "SQL_ERROR");
    EXPECT_THAT(page->records[0].message, HasSubstr(GetParam().says));
  }
};

TEST_P(FailingSqlTest, CostsTheRecordInThatSliceAlone) {
  AppendThree();
  StartLive();
  Configure({SpecOf("quarantine", {}), Neighbour()});
  const SliceReport report = WaitForPosition("failing", 3);
  EXPECT_EQ(report.progress.applied, 2);
  EXPECT_EQ(report.progress.quarantined, 1);
  ExpectPointer();
  EXPECT_EQ(WaitForPosition("by_city", 3).progress.quarantined, 0);
}

TEST_P(FailingSqlTest, StopsInFrontOfTheRecordWhenTheFileSaysSo) {
  AppendThree();
  StartLive();
  Configure({SpecOf("fault", {}), Neighbour()});
  const SliceReport held = WaitForState("failing", SliceState::kHeld);
  EXPECT_EQ(held.last_error->reason, "POISON");
  EXPECT_EQ(held.progress.applied_position, 1);
  ExpectPointer();
  EXPECT_EQ(WaitForPosition("by_city", 3).progress.quarantined, 0);
  Configure({SpecOf("fault", {"1"}), Neighbour()});
  EXPECT_EQ(WaitForPosition("failing", 3).progress.quarantined, 1);
}

INSTANTIATE_TEST_SUITE_P(
    Errors, FailingSqlTest,
    testing::Values(
        Failing{"cast_append", "SELECT _position AS p, CAST(note AS INTEGER) AS n FROM orders", "x",
                "Could not convert string 'x' to INT32"},
        Failing{"overflow_aggregate",
                "SELECT city, sum(CAST(note AS BIGINT) * 1000000000000000000) AS n FROM orders "
                "GROUP BY city",
                "99", "Overflow"},
        Failing{"overflow_over_aggregate",
                "SELECT note, CAST(sum(CAST(note AS BIGINT)) AS TINYINT) AS n FROM orders GROUP BY "
                "note",
                "300", "out of range"},
        Failing{"dividing_keys",
                "SELECT city, median(CAST(-9223372036854775808 AS BIGINT) // CAST(note AS "
                "BIGINT)) AS n FROM orders GROUP BY city",
                "-1", "Overflow"},
        Failing{"domain_window",
                "SELECT _position AS p, sum(sqrt(CAST(note AS INTEGER))) OVER (PARTITION BY city "
                "ORDER BY _position) AS n FROM orders",
                "-4", "cannot take square root of a negative number"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(LiveEngineTest, ABudgetWithAWindowForgetsOldRecords) {
  const std::string bad = "{\"city\":\"oslo\"}";
  StartLive();
  Configure({ByCity("{budget: {percent: 50, window: 4}}")});  // 2 of 4
  int64_t end = 0;
  for (int i = 0; i < 6; ++i) end = feed_.Append("orders", {bad, Order("rome", 1)});
  EXPECT_EQ(WaitForPosition("by_city", end).progress.quarantined, 6);
  // The third within four is too much, also across batches and however they are cut.
  feed_.Append("orders", {Order("rome", 1), bad});
  feed_.Append("orders", {bad});
  const int64_t third = feed_.Append("orders", {bad, Order("rome", 1)}) - 2;
  const SliceReport faulted = WaitForState("by_city", SliceState::kFaulted);
  EXPECT_EQ(faulted.last_error->reason, "QUARANTINE_OVER_BUDGET");
  EXPECT_NE(faulted.last_error->message.find("budget 2 in 4 records"), std::string::npos)
      << faulted.last_error->message;
  EXPECT_EQ(faulted.progress.applied_position, third);
  EXPECT_EQ(faulted.progress.quarantined, 8);
  // A larger budget lets it go on where it stands.
  Configure({ByCity("{budget: {records: 3, window: 4}}")});
  EXPECT_EQ(WaitForPosition("by_city", third + 2).progress.quarantined, 9);
}

// input = applied + filtered + quarantined, whatever is in the records and wherever it is stopped.
TEST_F(LiveEngineTest, TheAccountsBalanceOverBadRecordsAndRestarts) {
  std::mt19937 random(20011);
  const std::vector<std::string> kinds = {
      R"({"city":"rome","amount":1,"note":"7"})",
      R"({"city":"rome","amount":2,"note":"many"})",  // fails in the SQL of notes
      R"({"city":"rome","amount":"3"})",
      R"({"amount":4})",
      R"({"city":"bern","amount":9223372036854775808})",
      "{\"city\":\"\xff\",\"amount\":5}",
      "nope",
      "",
  };
  const std::string file = ShopWith("{budget: {records: 100000}}");
  const std::string notes_file =
      absl::StrReplaceAll(file, {{"FROM orders\n    key: [at]\n  ranked",
                                  "FROM orders\n    key: [at]\n    on_bad_record: {budget: "
                                  "{records: 100000}}\n  ranked"}});
  for (int round = 0; round < 4; ++round) {
    StartLive();
    std::vector<GenerationSpec> specs;
    for (const char* slice : {"by_city", "lines", "notes"}) {
      specs.push_back(Spec(slice));
      specs.back().file = notes_file;
    }
    Configure(specs);
    int64_t end = 0;
    for (int i = 0; i < 5; ++i) {
      std::vector<std::string> payloads(1 + random() % 20);
      for (std::string& payload : payloads) payload = kinds[random() % kinds.size()];
      end = feed_.Append("orders", payloads);
    }
    for (const char* slice : {"by_city", "lines", "notes"}) {
      const Progress progress = WaitForPosition(slice, end).progress;
      EXPECT_EQ(progress.input, end) << slice;
      EXPECT_EQ(progress.input, progress.applied + progress.filtered + progress.quarantined);
      const auto page = engine_->ListQuarantined(slice, 0, 1);
      ASSERT_TRUE(page.ok()) << page.status();
      EXPECT_EQ(page->total, progress.quarantined) << slice;
    }
    EXPECT_EQ(Rows("SELECT count(*) AS n FROM lines"),
              absl::StrCat("[{\"n\":", Find("lines")->progress.applied, "}]"));
  }
}

constexpr char kLedger[] = R"(
domain: shop
sources:
  orders:
    columns:
      id: {type: INTEGER, required: true}
      city: {type: VARCHAR, required: true}
      amount: {type: BIGINT, required: true}
slices:
  latest:
    sql: SELECT id, city, amount FROM orders QUALIFY row_number() OVER (PARTITION BY id ORDER BY _position DESC) = 1
    key: [id]
  totals:
    sql: SELECT city, count(*) AS orders, sum(amount) AS total FROM latest GROUP BY ALL
    key: [city]
  most:
    sql: SELECT orders, max(total) AS total FROM totals GROUP BY ALL
    key: [orders]
)";

std::string Entry(int id, const std::string& city, int64_t amount) {
  return absl::StrCat(R"({"id":)", id, R"(,"city":")", city, R"(","amount":)", amount, "}");
}

class LedgerTest : public LiveEngineTest {
 protected:
  static GenerationSpec LedgerSpec(const std::string& slice, bool frozen = false) {
    GenerationSpec spec = Spec(slice);
    spec.file = kLedger;
    spec.frozen = frozen;
    return spec;
  }
  // Its file has another slice, too.
  static GenerationSpec LedgerWith(const std::string& lines, const std::string& slice) {
    GenerationSpec spec = LedgerSpec(slice);
    spec.file += lines;
    return spec;
  }
  void ConfigureAll(bool frozen_latest = false) {
    Configure({LedgerSpec("most"), LedgerSpec("totals"), LedgerSpec("latest", frozen_latest)});
  }
  void WaitForAll(int64_t position) {
    for (const char* slice : {"latest", "totals", "most"}) WaitForPosition(slice, position);
  }
};

TEST_F(LedgerTest, SlicesOverSlicesFollowTheirChanges) {
  feed_.Append("orders", {Entry(1, "Bern", 10), Entry(2, "Bern", 5), Entry(3, "Chur", 7)});
  StartLive();
  ConfigureAll();
  WaitForAll(3);
  EXPECT_EQ(Find("totals")->info.strategy, "aggregate");
  EXPECT_EQ(Rows("SELECT * FROM totals ORDER BY city"),
            R"([{"city":"Bern","orders":2,"total":15},{"city":"Chur","orders":1,"total":7}])");
  // An order moves to another city, and its old one loses its last.
  feed_.Append("orders", {Entry(3, "Bern", 100)});
  WaitForAll(4);
  EXPECT_EQ(Rows("SELECT * FROM totals"), R"([{"city":"Bern","orders":3,"total":115}])");
  EXPECT_EQ(Rows("SELECT * FROM most"), R"([{"orders":3,"total":115}])");
  feed_.Append("clicks", {"{}"});
  EXPECT_EQ(WaitForPosition("most", 5).progress.content_version, 4);
}

// Changes that have been taken over stay in the log until it is long enough to be replaced, by when
// the statements of all three have run many times as they were prepared.
TEST_F(LedgerTest, ALogThatIsReplacedNowAndThenGivesEachChangeOnce) {
  constexpr int kEntries = 1500;
  StartLive();
  ConfigureAll();
  int64_t head = 0;
  for (int round = 0; round < 12; ++round) {
    std::vector<std::string> entries;
    for (int i = 0; i < kEntries; ++i) {
      const int id = (round * 700 + i) % 2000;
      entries.push_back(Entry(id, absl::StrCat("c", (id + round) % 7), round + i));
    }
    head = feed_.Append("orders", entries);
    WaitForAll(head);
  }
  EXPECT_EQ(Rows("SELECT city, orders, total FROM totals ORDER BY city"),
            Rows("SELECT city, count(*) AS orders, CAST(sum(amount) AS HUGEINT) AS total FROM "
                 "latest GROUP BY city ORDER BY city"));
  EXPECT_EQ(Rows("SELECT orders, total FROM most ORDER BY orders"),
            Rows("SELECT orders, max(total) AS total FROM totals GROUP BY orders ORDER BY 1"));
}

TEST_F(LedgerTest, TheyAreBlockedByAFrozenOneAndCatchUp) {
  feed_.Append("orders", {Entry(1, "Bern", 10)});
  StartLive();
  ConfigureAll();
  WaitForAll(1);
  ConfigureAll(/*frozen_latest=*/true);
  WaitForState("totals", SliceState::kBlocked);
  WaitForState("most", SliceState::kBlocked);
  for (int i = 0; i < 5; ++i) feed_.Append("orders", {Entry(1, "Chur", i), Entry(2, "Bern", i)});
  EXPECT_EQ(Rows("SELECT * FROM totals"), R"([{"city":"Bern","orders":1,"total":10}])");
  ConfigureAll();
  WaitForAll(11);
  EXPECT_EQ(Rows("SELECT * FROM totals ORDER BY city"),
            R"([{"city":"Bern","orders":1,"total":4},{"city":"Chur","orders":1,"total":4}])");
}

TEST_F(LedgerTest, ARestartWithSnapshotsOfDifferentPositionsIsNeverWrong) {
  for (int round = 0; round < 6; ++round) {
    // In every second round the state of the upstream slice is lost and made anew.
    if (round % 2 == 1) std::filesystem::remove_all(directory_ + "/snapshots/latest");
    if (round == 4) std::filesystem::remove_all(directory_ + "/snapshots/totals");
    StartLive();
    ConfigureAll();
    const int64_t head =
        feed_.Append("orders", {Entry(round, "Bern", 1), Entry(round / 2, "Chur", round)});
    WaitForAll(head);
    EXPECT_EQ(Rows("SELECT city, orders, total FROM totals ORDER BY city"),
              Rows("SELECT city, count(*) AS orders, CAST(sum(amount) AS HUGEINT) AS total FROM "
                   "latest GROUP BY city ORDER BY city"));
    EXPECT_EQ(Rows("SELECT orders, total FROM most ORDER BY orders"),
              Rows("SELECT orders, max(total) AS total FROM totals GROUP BY orders ORDER BY 1"));
    engine_->Shutdown();
  }
}

TEST_F(LedgerTest, ANewUpstreamGenerationIsTakenOver) {
  feed_.Append("orders", {Entry(1, "Bern", 10), Entry(2, "Bern", 5)});
  StartLive();
  ConfigureAll();
  WaitForAll(2);
  GenerationSpec next = LedgerSpec("latest");
  next.number = 2;
  GenerationSpec old = LedgerSpec("latest");
  old.serving = false;
  Configure({LedgerSpec("totals"), LedgerSpec("most"), old, next});
  feed_.Append("orders", {Entry(2, "Chur", 6)});
  WaitForAll(3);
  EXPECT_EQ(Rows("SELECT * FROM totals ORDER BY city"),
            R"([{"city":"Bern","orders":1,"total":10},{"city":"Chur","orders":1,"total":6}])");
}

// Slices over slices go by positions, and this one has not moved: who reads what was made anew
// there has other rows too, and whoever knows the old ones by their version learns of it.
TEST_F(LedgerTest, RowsThatAreMadeAnewWhereTheyStoodAreTakenOverToo) {
  const std::string sum =
      "  sums: {sql: SELECT sum(total) AS total FROM totals, key: [total]}\n"
      "  again: {sql: SELECT sum(total) AS total FROM totals, strategy: recompute}\n";
  const std::vector<GenerationSpec> readers = {LedgerWith(sum, "totals"), LedgerWith(sum, "most"),
                                               LedgerWith(sum, "sums"), LedgerWith(sum, "again")};
  feed_.Append("orders", {Entry(1, "Bern", 10), Entry(2, "Bern", 5)});
  EngineOptions options = Options();
  options.snapshot_interval = absl::Milliseconds(10);
  StartLive(options, feed_);
  const auto configure = [&](const GenerationSpec& latest) {
    std::vector<GenerationSpec> specs = readers;
    specs.push_back(latest);
    Configure(specs);
  };
  configure(LedgerWith(sum, "latest"));
  for (const GenerationSpec& reader : readers) WaitForPosition(reader.slice, 2);
  ASSERT_EQ(Find("totals")->progress.content_version, 2);
  const std::vector<std::string> all = {"totals", "most", "sums", "again"};
  for (int number = 2; number < 4; ++number) {
    std::map<std::string, int64_t> versions;
    for (const std::string& slice : all) versions[slice] = Find(slice)->progress.content_version;
    GenerationSpec next = LedgerWith(sum, "latest");
    next.number = number;
    next.file = absl::StrReplaceAll(
        next.file, {{"QUALIFY", absl::StrCat("WHERE amount > ", number + 3, " QUALIFY")}});
    configure(next);
    for (const std::string& slice : all) {
      // What answers when the process is gone is as new.
      const SliceReport report = WaitFor(slice, [&](const SliceReport& each) {
        return each.progress.content_version > versions[slice] && each.snapshot &&
               each.snapshot->content_version == each.progress.content_version;
      });
      EXPECT_EQ(report.progress.applied_position, 2);
    }
  }
  EXPECT_EQ(Rows("SELECT * FROM totals"), R"([{"city":"Bern","orders":1,"total":10}])");
  EXPECT_EQ(Rows("SELECT * FROM most"), R"([{"orders":1,"total":10}])");
  EXPECT_EQ(Rows("SELECT CAST(total AS INTEGER) AS n FROM sums"), R"([{"n":10}])");
  for (int id = 3; id < 6; ++id) {
    const int64_t before = Find("again")->progress.content_version;
    const int64_t position = feed_.Append("orders", {Entry(id, "Bern", id + 5)});
    WaitForAll(position);
    EXPECT_GT(Find("most")->progress.content_version, id);
    WaitForPosition("again", position);
    EXPECT_GT(Find("again")->progress.content_version, before);
  }
  WaitForPosition("sums", 5);
  EXPECT_EQ(Rows("SELECT CAST(total AS INTEGER) AS n FROM sums"), R"([{"n":37}])");
  EXPECT_EQ(Rows("SELECT * FROM totals"), R"([{"city":"Bern","orders":4,"total":37}])");
  EXPECT_EQ(Rows("SELECT * FROM most"), R"([{"orders":4,"total":37}])");
}

// The same where the upstream generation became another while nobody ran.
TEST_F(LiveEngineTest, RowsThatARestartMakesAnewHaveAnotherVersionUnlessTheyAreTheSame) {
  const std::string last =
      "  last: {sql: SELECT max(place) AS place FROM ranked, strategy: recompute}\n";
  const auto spec = [&](const std::string& slice) {
    GenerationSpec made = Spec(slice);
    made.file = kShopDomain + last;
    return made;
  };
  feed_.Append("orders", {Order("Bern", 10), Order("Basel", 5)});
  StartLive();
  Configure({spec("by_city"), spec("ranked"), spec("last")});
  for (const char* slice : {"ranked", "last"}) {
    ASSERT_EQ(WaitForPosition(slice, 2).progress.content_version, 2);
  }
  const auto versions_after_restart = [&](const GenerationSpec& upstream) {
    engine_->Shutdown();
    StartLive();
    Configure({upstream, spec("ranked"), spec("last")});
    std::vector<int64_t> versions;
    for (const char* slice : {"ranked", "last"}) {
      std::promise<absl::StatusOr<int64_t>> refreshed;
      engine_->Refresh(slice, 2, absl::Now() + absl::Seconds(60),
                       [&](const absl::StatusOr<int64_t>& at) { refreshed.set_value(at); });
      EXPECT_EQ(refreshed.get_future().get().value_or(-1), 2);
      versions.push_back(Find(slice)->progress.content_version);
      EXPECT_EQ(Find(slice)->progress.applied_position, 2);
    }
    return versions;
  };
  using testing::ElementsAre;
  EXPECT_THAT(versions_after_restart(spec("by_city")), ElementsAre(2, 2));
  EXPECT_THAT(versions_after_restart(spec("by_city")), ElementsAre(2, 2));
  GenerationSpec next = spec("by_city");
  next.number = 2;
  next.file =
      absl::StrReplaceAll(next.file, {{"FROM orders GROUP", "FROM orders WHERE amount > 5 GROUP"}});
  EXPECT_THAT(versions_after_restart(next), ElementsAre(3, 3));
  EXPECT_EQ(Rows("SELECT city, place FROM ranked"), R"([{"city":"Bern","place":1}])");
  EXPECT_EQ(Rows("SELECT CAST(place AS INTEGER) AS place FROM last"), R"([{"place":1}])");
  EXPECT_THAT(versions_after_restart(next), ElementsAre(3, 3));
}

// No record is to blame for what the rows of a slice make of the SQL over them: that slice alone
// stops, in front of it, until the rows are others.
TEST_F(LedgerTest, SqlThatFailsOnRowsOfASliceStopsThatSliceAlone) {
  const char* numbers = R"(  numbers:
    sql: SELECT id, CAST(city AS INTEGER) AS number FROM latest
    key: [id]
)";
  feed_.Append("orders", {Entry(1, "17", 10)});
  StartLive();
  Configure({LedgerWith(numbers, "latest"), LedgerWith(numbers, "totals"),
             LedgerWith(numbers, "numbers")});
  WaitForPosition("numbers", 1);
  feed_.Append("orders", {Entry(2, "Chur", 6), Entry(3, "4", 1)});
  const SliceReport stopped = WaitForState("numbers", SliceState::kFaulted);
  EXPECT_EQ(stopped.last_error->reason, "SQL_ERROR");
  EXPECT_THAT(stopped.last_error->message, HasSubstr("Chur"));
  const std::string blame = "; it failed first on the row id = 2 of slice latest, which came below";
  EXPECT_THAT(stopped.last_error->message, HasSubstr(blame));
  EXPECT_EQ(stopped.progress.quarantined, 0);
  // Also when it is tried again over all rows.
  feed_.Append("orders", {Entry(4, "5", 1)});
  WaitFor("numbers", [&](const SliceReport& report) {
    return report.last_error && report.last_error->time > stopped.last_error->time &&
           absl::StrContains(report.last_error->message, blame);
  });
  for (const char* other : {"latest", "totals"}) WaitForPosition(other, 4);
  EXPECT_EQ(Rows("SELECT * FROM numbers"), R"([{"id":1,"number":17}])");
  feed_.Append("orders", {Entry(2, "5", 6)});
  WaitForPosition("numbers", 5);
  EXPECT_EQ(Rows("SELECT * FROM numbers WHERE id < 4 ORDER BY id"),
            R"([{"id":1,"number":17},{"id":2,"number":5},{"id":3,"number":4}])");
}

// Each record that fails on the rows of a slice it is joined to is quarantined, the others go on.
TEST_F(LedgerTest, ARecordThatFailsOnTheRowsOfASliceIsQuarantined) {
  const char* numbers = R"(  numbers:
    sql: >
      SELECT o._position AS at, CAST(concat(o.amount, l.city) AS INTEGER) AS number
      FROM orders AS o JOIN latest AS l ON l.id = o.id
    key: [at]
)";
  feed_.Append("orders", {Entry(1, "7", 10)});
  StartLive();
  GenerationSpec spec = LedgerWith(numbers, "numbers");
  spec.deadly_positions = {30};
  Configure({LedgerWith(numbers, "latest"), spec});
  WaitForPosition("numbers", 1);
  std::vector<std::string> entries(40, Entry(1, "7", 10));
  for (const size_t bad : {25, 26, 38}) entries[bad] = Entry(1, "7", 2'000'000'000);
  feed_.Append("orders", entries);
  const SliceReport report = WaitForPosition("numbers", 41);
  EXPECT_EQ(report.progress.quarantined, 4);
  EXPECT_EQ(report.progress.applied, 37);
  EXPECT_EQ(Rows("SELECT count(*) AS n, max(\"at\") AS last FROM numbers"),
            R"([{"n":37,"last":40}])");
  const auto page = engine_->ListQuarantined("numbers", -1, 10);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->records.size(), 4U);
  EXPECT_EQ(page->records[1].position, 27);
  EXPECT_EQ(page->records[1].code, "SQL_ERROR");
  EXPECT_THAT(page->records[1].message, HasSubstr("20000000007"));
  EXPECT_EQ(page->records[2].position, 30);
  EXPECT_EQ(page->records[2].code, "WORKER_KILLED");
}

// Together they would take longer than a turn may.
TEST_F(LedgerTest, SlicesThatLookForBadRecordsShareTheTimeOfATurn) {
  constexpr int kSlices = 12;
  std::string lines;
  for (int i = 0; i < kSlices; ++i) {
    absl::StrAppend(&lines, "  numbers", i, R"(:
    sql: >
      SELECT o._position AS at, CAST(concat(o.amount, l.city) AS INTEGER) AS number,
      sleep_ms(2) IS NULL AS slept FROM orders AS o JOIN latest AS l ON l.id = o.id
    key: [at]
)");
  }
  feed_.Append("orders", {Entry(1, "7", 10)});
  EngineOptions options = Options();
  options.apply_timeout = absl::Seconds(6);
  StartLive(options, feed_);
  std::vector<GenerationSpec> specs = {LedgerWith(lines, "latest")};
  for (int i = 0; i < kSlices; ++i) specs.push_back(LedgerWith(lines, absl::StrCat("numbers", i)));
  Configure(specs);
  for (int i = 0; i < kSlices; ++i) WaitForPosition(absl::StrCat("numbers", i), 1);
  std::vector<std::string> entries(40, Entry(1, "7", 10));
  for (const size_t bad : {25, 26, 38}) entries[bad] = Entry(1, "7", 2'000'000'000);
  const int64_t head = feed_.Append("orders", entries);
  for (int i = 0; i < kSlices; ++i) {
    // On a machine that is busy the search of one may find none in its time.
    const SliceReport report = WaitFor(absl::StrCat("numbers", i), [&](const SliceReport& each) {
      return each.progress.applied_position == head || each.state == SliceState::kFaulted;
    });
    const bool found = report.state != SliceState::kFaulted;
    EXPECT_EQ(report.progress.quarantined, found ? 3 : 0);
  }
}

// It was opened by a file in which nobody read it.
TEST_F(LedgerTest, ASliceThatIsAddedOverOneThatRunsFollowsItsChanges) {
  feed_.Append("orders", {Entry(1, "Bern", 10), Entry(2, "Bern", 5)});
  StartLive();
  GenerationSpec alone = LedgerSpec("latest");
  alone.file = std::string(kLedger).substr(0, std::string(kLedger).find("  totals:"));
  Configure({alone});
  WaitForPosition("latest", 2);
  Configure({alone, LedgerSpec("totals")});
  WaitForPosition("totals", 2);
  feed_.Append("orders", {Entry(2, "Chur", 6)});
  EXPECT_EQ(WaitForPosition("totals", 3).info.strategy, "aggregate");
  EXPECT_EQ(Rows("SELECT * FROM totals ORDER BY city"),
            R"([{"city":"Bern","orders":1,"total":10},{"city":"Chur","orders":1,"total":6}])");
}

// Two slices are given what is decoded once, a third looks for the records that it cannot take.
TEST_F(LiveEngineTest, ASliceThatLooksForItsBadRecordsTakesNothingFromTheOthers) {
  const std::string domain = R"(
domain: shop
sources:
  orders:
    columns: {city: VARCHAR, note: VARCHAR}
slices:
  notes:
    sql: SELECT note, count(*) AS n FROM orders GROUP BY ALL
    key: [note]
  orders_of:
    sql: SELECT city, count(*) AS n, max(note) AS note FROM orders GROUP BY ALL
    key: [city]
  numbers:
    sql: SELECT _position AS at, CAST(note AS INTEGER) AS number FROM orders
    key: [at]
    on_bad_record: {action: quarantine, budget: {records: 1000}}
)";
  StartLive();
  std::vector<GenerationSpec> specs;
  for (const char* slice : {"notes", "orders_of", "numbers"}) {
    specs.push_back(Spec(slice));
    specs.back().file = domain;
  }
  const auto order = [](bool bad) {
    return absl::StrCat(R"({"city":"Bern","note":")", bad ? "many" : "7", "\"}");
  };
  int64_t head = feed_.Append("orders", {order(false)});
  Configure(specs);
  const auto wait = [&] {
    for (const GenerationSpec& spec : specs) WaitForPosition(spec.slice, head);
  };
  wait();
  for (int batch = 0; batch < 3; ++batch) {  // from then on they are known to read the same
    head = feed_.Append("orders", std::vector<std::string>(10, order(false)));
    wait();
  }
  constexpr int kBad = 30;
  std::vector<std::string> payloads;
  for (int i = 0; i < 1500; ++i) payloads.push_back(order(i % (1500 / kBad) == 1));
  head = feed_.Append("orders", payloads);
  wait();
  EXPECT_EQ(Find("numbers")->progress.quarantined, kBad);
  EXPECT_EQ(Find("numbers")->progress.applied, head - kBad);
  EXPECT_EQ(Rows("SELECT count(*) AS n FROM numbers"),
            absl::StrCat(R"([{"n":)", head - kBad, "}]"));
  EXPECT_EQ(Rows("SELECT n FROM orders_of"), absl::StrCat(R"([{"n":)", head, "}]"));
  EXPECT_EQ(Rows("SELECT n FROM notes WHERE note = 'many'"), absl::StrCat(R"([{"n":)", kBad, "}]"));
}

struct Lack {
  const char* statement;
  duckdb_error_type type;
  const char* reason;
};

class LackTest : public EngineFixture, public testing::WithParamInterface<Lack> {
 protected:
  ~LackTest() override { fails_with_text = nullptr; }
};

// Nothing is wrong with their definitions, nor with their snapshots.
TEST_P(LackTest, WhenSlicesAreOpenedStopsNoneForGood) {
  const std::vector<GenerationSpec> specs = {Spec("by_city"), Spec("lines")};
  feed_.Append("orders", {Order("Bern", 10)});
  StartLive();
  Configure(specs);
  for (const GenerationSpec& spec : specs) WaitForPosition(spec.slice, 1);
  engine_->Shutdown();
  feed_.Append("orders", {Order("Bern", 5)});

  fails_of = GetParam().type;
  fails_with_text = GetParam().statement;
  StartLive();
  Configure(specs);
  const SliceReport faulted = WaitForState("by_city", SliceState::kFaulted);
  ASSERT_TRUE(faulted.last_error.has_value());
  EXPECT_EQ(faulted.last_error->reason, GetParam().reason) << faulted.last_error->message;
  EXPECT_TRUE(faulted.next_retry_time.has_value());
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":10}])");

  fails_with_text = nullptr;
  for (const GenerationSpec& spec : specs) {
    EXPECT_EQ(WaitForPosition(spec.slice, 2).snapshot->position, 1) << "it is built from raw";
  }
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":15}])");
}

INSTANTIATE_TEST_SUITE_P(
    Of, LackTest,
    testing::Values(Lack{"sum(amount)", DUCKDB_ERROR_OUT_OF_MEMORY, "SLICE_MEMORY_LIMIT"},
                    Lack{"FROM DATABASE \"from_", DUCKDB_ERROR_IO, "ENGINE_ERROR"}));

TEST(SqlBindingTest, ALackOfMemoryIsNotTheSqls) {
  const absl::Status status = BindError(absl::ResourceExhaustedError(
      R"({"exception_type":"Out of Memory","exception_message":"too much"})"));
  EXPECT_EQ(status, absl::ResourceExhaustedError("too much"));
  EXPECT_EQ(ErrorReason(status), "");
}

// Else the daemon would go by the old time until the next one has been made, in a year.
TEST_F(LiveEngineTest, WhatAScheduledSnapshotCouldNotDoIsTriedAgain) {
  EngineOptions options = Options();
  options.snapshot_interval = absl::Milliseconds(10);
  options.snapshot_share = 1;
  StartLive(options, feed_);
  const std::string next = directory_ + "/next_named/by_city";
  std::filesystem::create_directory(directory_ + "/next_named");
  const std::string due = R"({"next_us": 1700000000000000, "cron": "0 2 1 1 *", "time_zone": ""})";
  std::ofstream(next) << due;
  // It can be read, but not replaced.
  const std::string in_the_way = absl::StrCat(next, ".tmp", ::getpid());
  std::filesystem::create_directory(in_the_way);
  feed_.Append("orders", {Order("Bern", 10)});
  GenerationSpec spec = SavedEachYear();
  Configure({spec});
  WaitForPosition("by_city", 1);
  // Those that come later are named after it.
  for (const char* name : {"first", "second"}) {
    std::promise<absl::Status> named;
    engine_->NameSnapshot("by_city", {name, "me", "", false},
                          [&](const absl::Status& status) { named.set_value(status); });
    EXPECT_TRUE(named.get_future().get().ok());
  }
  EXPECT_EQ(ReadFile(next).value_or(""), due);
  std::filesystem::remove(in_the_way);
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (ReadFile(next).value_or("") == due && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(2));
  }
  EXPECT_THAT(ReadFile(next).value_or(""), testing::Not(HasSubstr("1700000000000000")));
}

// The daemon would wake the slice for it.
TEST_F(LiveEngineTest, AScheduleThatIsRemovedWhileItsSnapshotIsMadeKeepsNoNextOne) {
  EngineOptions options = Options();
  options.snapshot_interval = absl::Hours(1);
  StartLive(options, feed_);
  const std::string next = directory_ + "/next_named/by_city";
  std::filesystem::create_directory(directory_ + "/next_named");
  std::ofstream(next) << R"({"next_us": 1700000000000000, "cron": "0 2 1 1 *", "time_zone": ""})";
  feed_.Append("orders", {Order("Bern", 10)});
  GenerationSpec spec = SavedEachYear();
  waits_with_text = "DETACH \"copy_";
  Configure({spec});
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (waiting_statements == 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(waiting_statements, 1);
  Configure({Spec("by_city")});
  std::promise<void> turned;
  engine_->Refresh("by_city", 0, absl::Now(), [&](const auto&) { turned.set_value(); });
  turned.get_future().wait();
  EXPECT_FALSE(std::filesystem::exists(next));
  waits_with_text = nullptr;
  engine_->Shutdown();
  EXPECT_TRUE(std::filesystem::exists(directory_ + "/snapshots/by_city/named"))
      << "it was not made";
  EXPECT_FALSE(std::filesystem::exists(next));
}

}  // namespace
}  // namespace icepie::slices
