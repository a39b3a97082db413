#include "slices/role/build_engine.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/slices/engine_fixture.h"
#include "tests/slices/failing_duckdb.h"

namespace icepie::slices {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kSources[] = R"(
domain: shop
sources:
  orders: {columns: {city: VARCHAR, amount: {type: VARCHAR, required: true}, note: VARCHAR}}
  cities: {columns: {name: VARCHAR, land: VARCHAR}, latest_by: [name]}
slices:
)";

// $AMOUNT: what becomes of the text. $WHERE: a further change of the SQL.
const std::map<std::string, std::string>& Slices() {
  static const auto* const slices = new std::map<std::string, std::string>{{"by_city", R"(
  by_city:
    sql: SELECT city, sum($AMOUNT) AS total FROM orders$WHERE GROUP BY ALL
    key: [city]
)"},
                                                                           {"lines", R"(
  lines: {sql: "SELECT city, $AMOUNT AS n FROM orders$WHERE"}
)"},
                                                                           {"least", R"(
  least: {sql: "SELECT city, $AMOUNT AS n FROM orders$WHERE ORDER BY n LIMIT 100"}
)"},
                                                                           {"medians", R"(
  medians:
    sql: SELECT city, median($AMOUNT) AS m FROM orders$WHERE GROUP BY ALL
    key: [city]
)"},
                                                                           {"ranked", R"(
  ranked:
    sql: SELECT city, total, rank() OVER (ORDER BY total DESC, city) AS place FROM by_city
    key: [city]
)"},
                                                                           {"by_land", R"(
  by_land:
    sql: SELECT land, sum($AMOUNT) AS total FROM orders JOIN cities ON name = city$WHERE GROUP BY ALL
    key: [land]
)"},
                                                                           {"kept", R"(
  kept:
    sql: SELECT city, DATE '2000-01-01' AS day, sum($AMOUNT) AS total FROM orders$WHERE GROUP BY ALL
    key: [city, day]
    retain: {column: day, for: 400d}
)"},
                                                                           {"earliest", R"(
  earliest:
    sql: SELECT city, arg_max(note, $AMOUNT) AS top, last(note ORDER BY $AMOUNT) AS final FROM orders$WHERE GROUP BY ALL
    key: [city]
)"},
                                                                           {"noted", R"(
  noted:
    sql: SELECT city, string_agg(note, ',' ORDER BY _position DESC) AS notes, sum($AMOUNT / 3) AS thirds, stddev($AMOUNT) AS spread FROM orders$WHERE GROUP BY ALL
    key: [city]
)"},
                                                                           {"newest", R"(
  newest:
    sql: SELECT city, CAST(note AS INTEGER) AS n FROM orders QUALIFY row_number() OVER (PARTITION BY city ORDER BY _position DESC) = 1
    key: [city]
)"}};
  return *slices;
}

// The first fails on "1,204".
constexpr char kNumber[] = "CAST(amount AS BIGINT)";
constexpr char kWithCommas[] = "CAST(replace(amount, ',', '') AS BIGINT)";

std::string File(const std::string& slice, const std::string& amount,
                 const std::string& where = "") {
  const std::string upstream = slice == "ranked" ? Slices().at("by_city") : "";
  return absl::StrReplaceAll(absl::StrCat(kSources, upstream, Slices().at(slice)),
                             {{"$AMOUNT", amount}, {"$WHERE", where}});
}

class BuildEngineTest : public EngineFixture {
 protected:
  void StartBuild(const std::string& slice, const std::string& file, BuildJob job) {
    StartBuild(slice, file, std::move(job), feed_);
  }
  void StartBuild(const std::string& slice, const std::string& file, BuildJob job, Feed& feed) {
    build_.reset();
    EngineOptions options = Options();
    options.recompute_limit = recompute_limit_;
    if (apply_timeout_) options.apply_timeout = *apply_timeout_;
    options.write_bytes_per_second = write_bytes_per_second_;
    if (query_timeout_) options.query_timeout = *query_timeout_;
    if (interrupt_grace_) options.interrupt_grace = *interrupt_grace_;
    if (on_fatal_) options.on_fatal = on_fatal_;
    if (saves_on_the_way_) {
      options.snapshot_interval = absl::ZeroDuration();
      options.snapshot_share = saved_share_;
    }
    auto build = BuildEngine::Start(options, feed);
    EXPECT_TRUE(build.ok()) << build.status();
    build_ = *std::move(build);
    Assignment assignment;
    assignment.domain = "shop";
    assignment.generations = {Spec(slice, job.number)};
    assignment.generations.front().file = file;
    assignment.generations.front().deadly_positions = deadly_positions_;
    const auto plan = PlanDomain(ParseDomain(file, "shop.yaml").value());
    EXPECT_TRUE(plan.ok()) << plan.status();
    assignment.generations.front().definition_hash =
        kept_hash_.empty() ? plan->Find(slice)->definition_hash : kept_hash_;
    job.slice = slice;
    assignment.build = std::move(job);
    build_->Configure(assignment);
  }

  // Builds generation `number` of the slice until it is ready or has failed.
  BuildReport Build(const std::string& slice, const std::string& file, const BuildJob& job) {
    StartBuild(slice, file, job);
    return WaitUntilReady();
  }
  BuildReport WaitUntilReady() {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (absl::Now() < deadline) {
      const auto report = build_->Report().build;
      if (report && (report->phase == "ready" || report->phase == "failed")) return *report;
      absl::SleepFor(absl::Milliseconds(2));
    }
    ADD_FAILURE() << "the build did not end";
    return {};
  }

  static BuildJob Job(int64_t number, const std::string& base = "") {
    BuildJob job;
    job.number = number;
    job.base_snapshot = base;
    job.base_generation = base.empty() ? 0 : number - 1;
    return job;
  }

  // The snapshot of generation 1, which does not know of commas.
  std::string First(const std::string& slice) {
    const BuildReport built = Build(slice, File(slice, kNumber), Job(1));
    EXPECT_EQ(built.phase, "ready") << (built.error ? built.error->message : "");
    return built.snapshot ? built.snapshot->path : "";
  }

  std::string BuiltRows(const std::string& slice) {
    Question question;
    question.text = absl::StrCat("SELECT * FROM ", slice, " ORDER BY ALL");
    const auto answer = EngineFixture::Ask(*build_, std::move(question));
    return answer.ok() ? answer->rows.body : answer.status().ToString();
  }

  static std::string Sale(const std::string& city, const std::string& amount) {
    return absl::StrCat(R"({"city":")", city, R"(","amount":")", amount, R"("})");
  }

  void AppendOrders() {
    feed_.Append("cities", {R"({"name":"oslo","land":"no"})", R"({"name":"rome","land":"it"})",
                            R"({"name":"bonn","land":"de"})", R"({"name":"nice","land":"fr"})"});
    feed_.Append("orders",
                 {Sale("oslo", "1"), Sale("oslo", "1,204"), Sale("rome", "7"), Sale("bonn", "2")});
    feed_.Append("orders", {Sale("bern", "3"), Sale("rome", "y"), Sale("oslo", "5"),
                            Sale("rome", "2,000"), Sale("nice", "1,000"), R"({"city":"bern"})"});
  }

  std::unique_ptr<BuildEngine> build_;
  std::string kept_hash_;  // what the catalog has instead of the planner's
  std::optional<absl::Duration> recompute_limit_;
  std::optional<absl::Duration> apply_timeout_;
  int64_t write_bytes_per_second_ = 0;
  std::optional<absl::Duration> query_timeout_;
  std::optional<absl::Duration> interrupt_grace_;
  std::function<void(const std::string& why)> on_fatal_;
  bool saves_on_the_way_ = false;
  double saved_share_ = 1e9;  // whatever it costs: after each batch
  std::vector<int64_t> deadly_positions_;
};

std::string Counts(const RowChanges& changes) {
  return absl::StrCat("+", changes.added, " -", changes.removed, " ~", changes.changed);
}

std::string Counts(const GenerationDiff& diff) {
  return Counts(RowChanges{diff.added, diff.removed, diff.changed});
}

struct Explained {
  const char* slice;
  const char* all;
  const char* from_quarantine;
};

class ExplainedTest : public BuildEngineTest, public testing::WithParamInterface<Explained> {};

// Commas are known now, and Bonn is left out: what comes of the first is told apart, with every
// strategy. "y" goes on being none.
TEST_P(ExplainedTest, WhatComesOfQuarantinedRecordsIsCountedApart) {
  const std::string slice = GetParam().slice;
  AppendOrders();
  const std::string file = File(slice, kWithCommas, " WHERE city <> 'bonn'");
  const std::string base = First(slice);
  const std::string other = slice == "ranked" ? First("by_city") : "";
  BuildJob job = Job(2, base);
  if (!other.empty()) job.other_snapshots["by_city"] = other;
  const BuildReport built = Build(slice, file, job);
  ASSERT_EQ(built.phase, "ready") << built.error->message;
  const std::string rows = BuiltRows(slice);
  ASSERT_TRUE(built.diff.has_value());
  EXPECT_EQ(built.diff->unavailable, "");
  EXPECT_EQ(Counts(*built.diff), GetParam().all);
  ASSERT_TRUE(built.diff->from_quarantine.has_value());
  EXPECT_EQ(built.diff->from_quarantine->records, 3);
  EXPECT_EQ(Counts(built.diff->from_quarantine->rows), GetParam().from_quarantine);
  EXPECT_THAT(built.diff->samples.front(), HasSubstr(R"("from_quarantine":false)"));
  EXPECT_EQ(built.quarantined, 2);
  EXPECT_FALSE(built.continues_base);

  // The rows are those of a build that compares nothing.
  const BuildReport plain = Build(slice, file, Job(3));
  ASSERT_EQ(plain.phase, "ready") << plain.error->message;
  EXPECT_EQ(BuiltRows(slice), rows);
  EXPECT_EQ(plain.quarantined, 2);
}

INSTANTIATE_TEST_SUITE_P(
    Strategies, ExplainedTest,
    testing::Values(Explained{"by_city", "+1 -1 ~2", "+1 -0 ~2"},  // aggregate
                    Explained{"lines", "+3 -1 ~0", "+3 -0 ~0"},    // append, whole rows
                    Explained{"least", "+3 -1 ~0", "+3 -0 ~0"},    // recompute
                    Explained{"medians", "+1 -1 ~2", "+1 -0 ~2"},  // keys
                    Explained{"ranked", "+1 -1 ~3", "+1 -0 ~3"},   // over a slice
                    Explained{"by_land", "+1 -1 ~2", "+1 -0 ~2"},  // with a dimension
                    Explained{"kept", "+1 -1 ~2", "+1 -0 ~2"}),    // with `retain`
    [](const auto& info) { return std::string(info.param.slice); });

class RebuiltTest : public BuildEngineTest, public testing::WithParamInterface<const char*> {};

// Fault 36: a definition that is not reproducible shows when it is built again.
TEST_P(RebuiltTest, TheSameDefinitionGivesTheSameRows) {
  const std::string slice = GetParam();
  AppendOrders();
  std::vector<std::string> orders;
  for (int i = 0; i < 300; ++i) {
    orders.push_back(
        absl::StrCat(R"({"city":"c)", i % 7, R"(","amount":")", i % 5, R"(","note":")", i, "\"}"));
  }
  feed_.Append("orders", orders);
  const std::string base = First(slice);
  const std::string rows = BuiltRows(slice);
  EXPECT_THAT(rows, HasSubstr(R"("city":"c6")"));
  const BuildReport again = Build(slice, File(slice, kNumber), Job(2, base));
  ASSERT_EQ(again.phase, "ready") << again.error->message;
  ASSERT_TRUE(again.diff.has_value());
  EXPECT_EQ(again.diff->unavailable, "");
  EXPECT_EQ(Counts(*again.diff), "+0 -0 ~0");
  EXPECT_EQ(BuiltRows(slice), rows);
}

INSTANTIATE_TEST_SUITE_P(Strategies, RebuiltTest, testing::Values("earliest", "least", "noted"),
                         [](const auto& info) { return std::string(info.param); });

TEST_F(BuildEngineTest, OfWhatIsStillBadNothingComes) {
  feed_.Append("orders", {Sale("oslo", "1"), Sale("oslo", "y")});
  // That the SQL fails on it is known when it is tried.
  BuildReport built = Build("by_city", File("by_city", kWithCommas), Job(2, First("by_city")));
  ASSERT_EQ(built.phase, "ready") << built.error->message;
  ASSERT_TRUE(built.diff->from_quarantine.has_value());
  EXPECT_EQ(built.diff->from_quarantine->records, 0);
  EXPECT_EQ(Counts(*built.diff), "+0 -0 ~0");
}

TEST_F(BuildEngineTest, WhatCannotBeReadIsNotTried) {
  feed_.Append("orders", {Sale("oslo", "1"), R"({"city":"oslo"})"});
  const BuildReport built =
      Build("by_city", File("by_city", kWithCommas), Job(2, First("by_city")));
  ASSERT_EQ(built.phase, "ready") << built.error->message;
  EXPECT_FALSE(built.diff->from_quarantine.has_value());
  EXPECT_EQ(Counts(*built.diff), "+0 -0 ~0");
}

// Among equals the earliest record counts, also one that the serving generation could not take.
TEST_F(BuildEngineTest, RecordsThatWereHeldBackTieWhereTheyStand) {
  for (const char* order : {R"({"city":"oslo","amount":"1,204","note":"first"})",
                            R"({"city":"oslo","amount":"1204","note":"second"})",
                            R"({"city":"rome","amount":"7","note":"third"})",
                            R"({"city":"rome","amount":"0,007","note":"fourth"})"}) {
    feed_.Append("orders", {order});
  }
  const BuildReport built =
      Build("earliest", File("earliest", kWithCommas), Job(2, First("earliest")));
  ASSERT_EQ(built.phase, "ready") << built.error->message;
  EXPECT_EQ(built.diff->from_quarantine->records, 2);
  EXPECT_EQ(BuiltRows("earliest"), R"([{"city":"oslo","top":"first","final":"first"},)"
                                   R"({"city":"rome","top":"third","final":"third"}])");
}

// More records than one thread of DuckDB's takes at once, all equal in what decides.
TEST_F(BuildEngineTest, EqualRecordsAreSeenInTheirOrder) {
  constexpr char kEquals[] = R"(
domain: shop
sources: {orders: {columns: {n: INTEGER}}}
slices:
  equals: {sql: "SELECT median(n) AS m, arg_max(_position, n) AS first FROM orders GROUP BY n", key: [m]}
)";
  constexpr int kRecords = 250'000;
  for (int i = 0; i < kRecords; i += 10'000) {
    feed_.Append("orders", std::vector<std::string>(10'000, R"({"n":1})"));
  }
  for (int round = 1; round <= 3; ++round) {
    const BuildReport built = Build("equals", kEquals, Job(round));
    ASSERT_EQ(built.phase, "ready") << built.error->message;
    EXPECT_EQ(BuiltRows("equals"), R"([{"m":1.0,"first":0}])");
  }
}

// A feed of which no reader gets beyond a position.
class HeldFeed : public Feed {
 public:
  HeldFeed(Feed& feed, int64_t limit) : feed_(feed), limit_(limit) {}

  std::unique_ptr<FeedReader> Open(const std::vector<std::string>& streams, int64_t from,
                                   std::optional<int64_t> end) override {
    return std::make_unique<Reader>(*this, feed_.Open(streams, from, end), streams.empty());
  }

  bool holds() const {
    const MutexLock lock(mutex_);
    return holding_ > 0;
  }

 private:
  class Reader : public FeedReader {
   public:
    Reader(HeldFeed& feed, std::unique_ptr<FeedReader> reader, bool head_only)
        : feed_(feed), reader_(std::move(reader)), head_only_(head_only) {}

    absl::StatusOr<std::optional<FeedPiece>> Next() override {
      auto piece = reader_->Next();
      const bool passes = head_only_ || !piece.ok() || !piece->has_value() ||
                          (*piece)->complete_position <= feed_.limit_;
      if (passes) return piece;
      const MutexLock lock(feed_.mutex_);
      ++feed_.holding_;
      while (!cancelled_) feed_.cancelled_one_.Wait(feed_.mutex_);
      --feed_.holding_;
      return absl::UnavailableError("cancelled");
    }
    void Cancel() override {
      reader_->Cancel();
      const MutexLock lock(feed_.mutex_);
      cancelled_ = true;
      feed_.cancelled_one_.SignalAll();
    }

   private:
    HeldFeed& feed_;
    const std::unique_ptr<FeedReader> reader_;
    const bool head_only_;
    bool cancelled_ = false;  // of feed_.mutex_
  };

  Feed& feed_;
  const int64_t limit_;
  mutable Mutex mutex_;
  CondVar cancelled_one_;
  int holding_ ABSL_GUARDED_BY(mutex_) = 0;
};

struct Stage {
  const char* phase;
  int64_t held_at;
};

class CancelledBuildTest : public BuildEngineTest, public testing::WithParamInterface<Stage> {};

// The process of a cancelled build is told to stop, and does so from wherever it is.
TEST_P(CancelledBuildTest, EndsFromAnyStageWithoutASnapshot) {
  feed_.Append("orders", {Sale("oslo", "1"), Sale("rome", "2")});
  const std::string base = First("by_city");
  build_.reset();
  for (int i = 0; i < 4; ++i) feed_.Append("orders", {Sale("bern", "3")});
  HeldFeed held(feed_, GetParam().held_at);
  auto build = BuildEngine::Start(Options(), held);
  ASSERT_TRUE(build.ok()) << build.status();
  Assignment assignment;
  assignment.domain = "shop";
  assignment.generations = {Spec("by_city", 2)};
  assignment.generations.front().file = File("by_city", kWithCommas);
  BuildJob job = Job(2, base);
  job.slice = "by_city";
  assignment.build = job;
  (*build)->Configure(assignment);
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (absl::Now() < deadline && !held.holds()) absl::SleepFor(absl::Milliseconds(1));
  ASSERT_TRUE(held.holds());
  EXPECT_EQ((*build)->Report().build->phase, GetParam().phase);
  (*build)->Shutdown();
  EXPECT_NE((*build)->Report().build->phase, "failed") << "nobody is to blame";
  build->reset();
  for (const auto& file : std::filesystem::recursive_directory_iterator(directory_)) {
    EXPECT_THAT(file.path().filename().string(), Not(HasSubstr("g2-")));
    EXPECT_THAT(file.path().string(), Not(HasSubstr(directory_ + "/tmp/snapshot-")));
    EXPECT_THAT(file.path().string(), Not(HasSubstr(directory_ + "/tmp/spill-")));
  }
}

INSTANTIATE_TEST_SUITE_P(Stages, CancelledBuildTest,
                         testing::Values(Stage{"building", 0}, Stage{"catching_up", 2}),
                         [](const auto& info) { return std::string(info.param.phase); });

// Fault 51: ten times slower, or without an end.
TEST_F(BuildEngineTest, AnSqlWithoutEndIsAbortedAtItsTimeLimit) {
  feed_.Append("orders", std::vector<std::string>(2000, Sale("oslo", "1")));
  const std::string file = absl::StrCat(kSources, R"(
  by_city:
    sql: SELECT a.city, count(*) AS total FROM orders AS a, orders AS b, orders AS c, orders AS d WHERE a.note || b.note <> c.note || d.note OR a.amount < b.amount GROUP BY ALL
    key: [city]
)");
  const std::string base = First("by_city");
  recompute_limit_ = absl::Milliseconds(300);
  const BuildReport built = Build("by_city", file, Job(2, base));
  ASSERT_EQ(built.phase, "failed");
  EXPECT_THAT(built.error->message, HasSubstr("by_city"));
  EXPECT_FALSE(built.snapshot.has_value());
}

// Kept fresh record by record, it is aborted when a few records take that long.
TEST_F(BuildEngineTest, AnAggregateWithoutEndIsAbortedAtTheTimeLimit) {
  feed_.Append("orders", std::vector<std::string>(2000, Sale("oslo", "1")));
  const std::string file = absl::StrCat(kSources, R"(
  by_city:
    sql: SELECT city, count(*) AS total FROM orders, range(1000000000) GROUP BY city
    key: [city]
)");
  const std::string base = First("by_city");
  apply_timeout_ = absl::Milliseconds(300);
  const BuildReport built = Build("by_city", file, Job(2, base));
  ASSERT_EQ(built.phase, "failed");
  EXPECT_EQ(built.error->reason, "APPLY_TIME_LIMIT");
  EXPECT_THAT(built.error->message, HasSubstr("applying 256 records to slice by_city took longer"));
  EXPECT_FALSE(built.snapshot.has_value());
}

// The result's rows cost what they cost whenever they are read: the comparison takes seconds here.
TEST_F(BuildEngineTest, AStopWhileItComparesEndsTheComparison) {
  constexpr int kGroups = 12'000;
  std::vector<std::string> orders;
  for (int i = 0; i < kGroups; ++i) orders.push_back(Sale(absl::StrCat("c", i), "1"));
  feed_.Append("orders", orders);
  const std::string base = First("by_city");
  std::string file = File("by_city", kNumber);
  file = absl::StrReplaceAll(
      file, {{"sum(CAST(amount AS BIGINT)) AS total",
              "CAST(list_sum(list_transform(range(3000 + CAST(sum(CAST(amount AS BIGINT)) AS "
              "BIGINT)), x -> x * x % 7)) AS HUGEINT) AS total"}});
  const auto phase = [&] {
    const auto report = build_->Report().build;
    return report ? report->phase : "";
  };
  std::optional<BuildReport> stopped;
  for (int number = 2; number < 22 && !stopped; ++number) {  // a comparison may end before the stop
    BuildJob job = Job(number, base);
    job.base_generation = 1;
    StartBuild("by_city", file, job);
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (phase() != "comparing" && phase() != "ready" && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    build_->Shutdown();
    const BuildReport report = *build_->Report().build;
    ASSERT_FALSE(report.error.has_value()) << report.error->message;
    if (report.diff && !report.diff->unavailable.empty()) stopped = report;
  }
  ASSERT_TRUE(stopped.has_value());
  EXPECT_EQ(stopped->phase, "catching_up");
  EXPECT_THAT(stopped->diff->unavailable, HasSubstr("INTERRUPT"));
  EXPECT_FALSE(stopped->snapshot.has_value());
}

TEST_F(BuildEngineTest, AStopWhileItSavesEndsTheSaving) {
  AppendOrders();
  write_bytes_per_second_ = 8192;  // all of it would take a minute
  StartBuild("by_city", File("by_city", kNumber), Job(1));
  const auto saving = [&] {
    std::error_code error;
    for (const auto& file : std::filesystem::directory_iterator(directory_ + "/tmp", error)) {
      if (absl::StartsWith(file.path().filename().string(), "snapshot-")) return true;
    }
    return false;
  };
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!saving() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  ASSERT_TRUE(saving());
  const absl::Time begin = absl::Now();
  build_->Shutdown();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
  const BuildReport report = *build_->Report().build;
  EXPECT_FALSE(report.error.has_value()) << report.error->message;
  EXPECT_FALSE(report.snapshot.has_value());
  EXPECT_FALSE(saving()) << "what was written is gone";
}

class RetryTest : public BuildEngineTest {
 protected:
  // A live engine's snapshot of `newest`, applied with that hash, which could not take the second
  // record while that was the newest, in front of others.
  std::string Snapshot(const std::string& definition_hash = "") {
    StartLive();
    GenerationSpec spec = Spec("newest");
    spec.definition_hash = definition_hash;
    spec.file = File("newest", kNumber);
    Configure({spec});
    for (const char* note : {"1", "x", "3"}) {
      const int64_t head =
          feed_.Append("orders", {absl::StrCat(R"({"city":"oslo","note":")", note, "\"}")});
      WaitForPosition("newest", head);
    }
    EXPECT_EQ(Find("newest")->progress.quarantined, 1);
    engine_->Shutdown();
    const auto report = Find("newest");
    engine_.reset();
    return report && report->snapshot ? report->snapshot->path : "";
  }
};

TEST_F(RetryTest, GoesOnFromTheServingStateWithTheQuarantinedRecords) {
  const std::string base = Snapshot();
  feed_.Append("orders", {R"({"city":"rome","note":"4"})"});
  BuildJob job = Job(2, base);
  job.continue_base = true;
  const BuildReport built = Build("newest", File("newest", kNumber), job);
  ASSERT_EQ(built.phase, "ready") << built.error->message;
  EXPECT_TRUE(built.continues_base);
  EXPECT_EQ(built.quarantined, 0);
  EXPECT_EQ(BuiltRows("newest"), R"([{"city":"oslo","n":3},{"city":"rome","n":4}])");
  EXPECT_EQ(Counts(*built.diff), "+0 -0 ~0");
  EXPECT_EQ(built.diff->from_quarantine->records, 1);
  EXPECT_EQ(built.snapshot->position, 4);
}

TEST_F(RetryTest, TakingThemHasTheTimeLimitOfApplying) {
  const std::string base = Snapshot();
  BuildJob job = Job(2, base);
  job.continue_base = true;
  apply_timeout_ = absl::Milliseconds(300);
  slow_with_text = "DELETE FROM __quarantine WHERE position IN (";
  const BuildReport built = Build("newest", File("newest", kNumber), job);
  slow_with_text = nullptr;
  ASSERT_EQ(built.phase, "failed");
  EXPECT_EQ(built.error->reason, "APPLY_TIME_LIMIT");
  EXPECT_THAT(built.error->message, HasSubstr("applying quarantined records to slice newest"));
}

// Those are read twice: to see whether they can be taken, and to take them.
class SlowSecondRead : public Feed {
 public:
  explicit SlowSecondRead(Feed& feed) : feed_(feed) {}

  std::unique_ptr<FeedReader> Open(const std::vector<std::string>& streams, int64_t from,
                                   std::optional<int64_t> end) override {
    if (!streams.empty() && ++reads_ == 2) return std::make_unique<Late>();
    return feed_.Open(streams, from, end);
  }

 private:
  class Late : public FeedReader {
   public:
    absl::StatusOr<std::optional<FeedPiece>> Next() override {
      return absl::DeadlineExceededError("the core is slow");
    }
    void Cancel() override {}
  };

  Feed& feed_;
  std::atomic<int> reads_{0};
};

TEST_F(RetryTest, ReadingThemDoesNotCountAsApplying) {
  BuildJob job = Job(2, Snapshot());
  job.continue_base = true;
  SlowSecondRead slow(feed_);
  StartBuild("newest", File("newest", kNumber), job, slow);
  const BuildReport built = WaitUntilReady();
  build_.reset();
  ASSERT_EQ(built.phase, "failed");
  EXPECT_NE(built.error->reason, "APPLY_TIME_LIMIT");
  EXPECT_THAT(built.error->message, HasSubstr("the core is slow"));
}

TEST_F(RetryTest, GoesOnUnderTheHashThatAnotherVersionsPlannerMade) {
  kept_hash_ = std::string(64, 'f');
  BuildJob job = Job(2, Snapshot(kept_hash_));
  job.continue_base = true;
  const BuildReport built = Build("newest", File("newest", kNumber), job);
  ASSERT_EQ(built.phase, "ready") << built.error->message;
  EXPECT_TRUE(built.continues_base);
  // Under which the live worker looks for it.
  const SnapshotStore store(directory_, {});
  const auto manifest = store.NewestGood("newest", 2, kept_hash_);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  // Each record counts once, also the one that was tried again.
  EXPECT_EQ(manifest->progress.input, 3);
  EXPECT_EQ(manifest->progress.applied, 3);
  EXPECT_EQ(manifest->progress.quarantined, 0);
}

TEST_F(RetryTest, AStopWhileTheServingStateIsCopiedEndsTheCopying) {
  BuildJob job = Job(2, Snapshot());
  job.continue_base = true;
  slow_with_text = "COPY FROM DATABASE \"from_";
  interrupted_statements = 0;
  StartBuild("newest", File("newest", kNumber), job);
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (waiting_statements == 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(waiting_statements, 1);
  build_->Shutdown();
  slow_with_text = nullptr;
  EXPECT_EQ(interrupted_statements, 1);
  const BuildReport report = *build_->Report().build;
  EXPECT_FALSE(report.error.has_value()) << report.error->message;
}

TEST_F(RetryTest, BuildsFromRawWhatStandsAtAnotherDefinition) {
  const std::string base = Snapshot();
  BuildJob job = Job(2, base);
  job.continue_base = true;
  std::string file = File("newest", kNumber);
  file = absl::StrReplaceAll(file, {{"CAST(note AS INTEGER)", "CAST(note AS BIGINT)"}});
  const BuildReport built = Build("newest", file, job);
  ASSERT_EQ(built.phase, "ready") << built.error->message;
  EXPECT_FALSE(built.continues_base);
}

TEST_F(RetryTest, TheBudgetHoldsForWhatCannotBeTakenAgain) {
  AppendOrders();
  std::string file = File("by_city", kNumber);
  const std::string base = First("by_city");
  // The same definition, but only one record may be bad.
  file = absl::StrReplaceAll(
      file, {{"AS total FROM orders GROUP BY ALL\n    key: [city]\n",
              "AS total FROM orders GROUP BY ALL\n    key: [city]\n    on_bad_record: {budget: "
              "{records: 1}}\n"}});
  BuildJob job = Job(2, base);
  job.continue_base = true;
  const BuildReport built = Build("by_city", file, job);
  ASSERT_EQ(built.phase, "failed");
  EXPECT_EQ(built.error->reason, "QUARANTINE_OVER_BUDGET");
  job.number = 3;
  job.acknowledged["by_city"] = PositionRanges({{0, 100}});
  const BuildReport acknowledged = Build("by_city", file, job);
  ASSERT_EQ(acknowledged.phase, "ready") << acknowledged.error->message;
  EXPECT_TRUE(acknowledged.continues_base);
  EXPECT_EQ(acknowledged.quarantined, 5);
  EXPECT_EQ(acknowledged.diff->from_quarantine->records, 0);
}

TEST(BuildInstanceTest, ThreadsCanBeSetUntilTheSettingsAreLocked) {
  EngineOptions options;
  options.directory = ::testing::TempDir() + "/build-instance";
  options.memory_bytes = int64_t{256} << 20;
  const auto instance = OpenUnlockedInstance(options, 2).value();
  const auto connection = DuckConnection::Connect(*instance).value();
  EXPECT_FALSE(connection->Run("SET GLOBAL enable_external_access = true").ok());
  EXPECT_TRUE(connection->Run("SET GLOBAL threads = 1").ok());
  ASSERT_TRUE(LockSettings(*instance).ok());
  EXPECT_FALSE(connection->Run("SET GLOBAL threads = 2").ok());
  EXPECT_EQ(connection->QueryText("SELECT CAST(current_setting('threads') AS VARCHAR)").value(),
            "1");
}

// It ends the process. The next one knows it: the build is ready, and says what failed.
TEST_F(BuildEngineTest, AnExpectationThatNeverEndsIsNotCheckedAgain) {
  feed_.Append("orders", {Sale("oslo", "300000")});
  const std::string file = absl::StrCat(kSources, R"(
  lines:
    sql: SELECT city, CAST(amount AS BIGINT) AS n FROM orders
    expect:
      - {name: endless, sql: "SELECT n FROM slice WHERE levenshtein(repeat(city, n), repeat('b', n)) < 0"}
)");
  constexpr int kEnded = 4;
  const pid_t child = ::fork();
  if (child == 0) {
    query_timeout_ = absl::Milliseconds(100);
    interrupt_grace_ = absl::Milliseconds(100);
    on_fatal_ = [](const std::string& /*why*/) { ::_exit(kEnded); };
    Build("lines", file, Job(1));
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kEnded) << status;

  const BuildReport built = Build("lines", file, Job(1));
  EXPECT_EQ(built.phase, "ready") << (built.error ? built.error->message : "");
  ASSERT_EQ(built.expectations.size(), 1U);
  EXPECT_EQ(built.expectations.front().status, ExpectationResult::Status::kFailed);
  EXPECT_THAT(built.expectations.front().message, HasSubstr("listens to no interrupt"));
}

// Builds of generation 2 that save after each batch: one to the end, and then another as if the
// process of the first had ended at a position.
class ResumedBuildTest : public BuildEngineTest {
 protected:
  ResumedBuildTest() {
    saves_on_the_way_ = true;
    feed_.set_blocks_per_piece(1);
  }

  // The base stands at 14; what saves follows records from 4 on. The head is at 18.
  std::string AppendAll(const std::string& slice) {
    AppendOrders();
    const std::string base = First(slice);
    if (slice == "ranked") other_ = First("by_city");
    feed_.Append("orders", {Sale("rome", "11"), Sale("nice", "z")});
    feed_.Append("orders", {Sale("oslo", "3,000"), Sale("bern", "6")});
    return base;
  }

  BuildReport BuildSecond(const std::string& slice, const std::string& base) {
    BuildJob job = Job(2, base);
    if (!other_.empty()) job.other_snapshots["by_city"] = other_;
    return Build(slice, File(slice, amount_), job);
  }

  std::string Accounts(const std::string& slice) {
    const SnapshotStore store(directory_, {});
    const auto manifest = store.NewestGood(slice, 2, "");
    if (!manifest.ok()) return manifest.status().ToString();
    const Progress& progress = manifest->progress;
    std::string accounts =
        absl::StrCat(progress.applied_position, ": ", progress.input, " = ", progress.applied,
                     " + ", progress.filtered, " + ", progress.quarantined, "; ",
                     progress.content_version, " ", progress.applied_time_us);
    const auto page = build_->ListQuarantined(slice, 0, 100);
    if (!page.ok()) return page.status().ToString();
    for (const QuarantinedRecord& record : page->records) {
      absl::StrAppend(&accounts, "; ", record.position, " ", record.code);
    }
    return accounts;
  }

  std::vector<std::string> Saved(const std::string& slice, const std::string& stage = "") const {
    std::vector<std::string> files;
    std::error_code error;
    const std::string folder =
        absl::StrCat(directory_, "/unfinished/", slice, "/g2", stage.empty() ? "" : "/", stage);
    for (const auto& file : std::filesystem::recursive_directory_iterator(folder, error)) {
      if (file.path().extension() == ".duckdb") files.push_back(file.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  static std::string ManifestOf(const std::string& file) {
    return absl::StrReplaceAll(file, {{".duckdb", ".json"}});
  }

  static int64_t PositionOf(const std::string& file) {
    return std::stoll(file.substr(file.rfind("-p") + 2));
  }

  static void Remove(const std::string& file) {
    std::filesystem::remove(file);
    std::filesystem::remove(ManifestOf(file));
  }

  // A build of by_city without a base that waits in front of the copying of a saved state.
  void StartUntilItReads() {
    waits_with_text = "COPY FROM DATABASE \"from_";
    StartBuild("by_city", File("by_city", amount_), Job(2));
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (waiting_statements == 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
    ASSERT_GT(waiting_statements, 0);
  }

  // What would not be there if the process had ended with this as its last saved state.
  void EndAt(const std::string& slice, const std::string& stage, int64_t position) {
    build_.reset();
    bool later = false;
    for (const char* each : {"to_base", "again", "to_head"}) {
      for (const std::string& file : Saved(slice, each)) {
        if (later || (each == stage && PositionOf(file) > position)) Remove(file);
      }
      later = later || each == stage;
    }
    for (const auto& file :
         std::filesystem::directory_iterator(absl::StrCat(directory_, "/snapshots/", slice))) {
      if (absl::StrContains(file.path().string(), "/g2-")) std::filesystem::remove(file);
    }
  }

  std::string other_;
  std::string amount_ = kWithCommas;
};

class ResumedStrategyTest : public ResumedBuildTest,
                            public testing::WithParamInterface<const char*> {};

TEST_P(ResumedStrategyTest, EndsWithTheSameRowsAccountsAndDifferences) {
  const std::string slice = GetParam();
  const std::string base = AppendAll(slice);
  const BuildReport whole = BuildSecond(slice, base);
  ASSERT_EQ(whole.phase, "ready") << whole.error->message;
  EXPECT_EQ(whole.done_before, 0);
  EXPECT_EQ(whole.diff->from_quarantine->records, 3);
  const std::string rows = BuiltRows(slice);
  const std::string accounts = Accounts(slice);
  struct End {
    const char* stage;
    int64_t position;
  };
  // Where the order counts, all is built a second time, with the records that were left out.
  const bool again = slice == "earliest";
  for (const End& end : {End{"to_head", 16}, End{"again", 8}, End{"to_base", 8}}) {
    SCOPED_TRACE(absl::StrCat(end.stage, " ", end.position));
    EndAt(slice, end.stage, end.position);
    if (end.stage == std::string("again") && !again) continue;
    EXPECT_FALSE(Saved(slice, end.stage).empty());
    const BuildReport resumed = BuildSecond(slice, base);
    ASSERT_EQ(resumed.phase, "ready") << resumed.error->message;
    EXPECT_EQ(BuiltRows(slice), rows);
    EXPECT_EQ(Accounts(slice), accounts);
    EXPECT_EQ(Counts(*resumed.diff), Counts(*whole.diff));
    EXPECT_EQ(resumed.diff->position, 14);
    EXPECT_EQ(resumed.diff->from_quarantine->records, 3);
    EXPECT_EQ(Counts(resumed.diff->from_quarantine->rows),
              Counts(whole.diff->from_quarantine->rows));
    EXPECT_EQ(resumed.quarantined, whole.quarantined);
    EXPECT_EQ(resumed.done_before, again && end.stage == std::string("to_base") ? 0 : end.position);
  }
}

INSTANTIATE_TEST_SUITE_P(Strategies, ResumedStrategyTest,
                         testing::Values("by_city", "ranked", "earliest"),
                         [](const auto& info) { return std::string(info.param); });

// Nothing of it is there before all is.
TEST_F(ResumedBuildTest, WhatIsRecomputedSavesNothing) {
  const std::string base = AppendAll("least");
  ASSERT_EQ(BuildSecond("least", base).phase, "ready");
  EXPECT_TRUE(Saved("least").empty());
}

TEST_F(ResumedBuildTest, SavingTakesNoMoreThanItsShare) {
  AppendAll("by_city");
  saved_share_ = 1e-9;
  ASSERT_EQ(BuildSecond("by_city", "").phase, "ready");
  EXPECT_EQ(Saved("by_city").size(), 1U);
}

TEST_F(ResumedBuildTest, DamagedStatesArePassedOver) {
  AppendAll("by_city");
  ASSERT_EQ(BuildSecond("by_city", "").phase, "ready");
  const std::string rows = BuiltRows("by_city");
  const std::string accounts = Accounts("by_city");
  const auto flip = [](const std::string& file) {
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekg(5000);
    const int byte = bytes.get();
    bytes.seekp(5000);
    bytes.put(static_cast<char>(byte ^ 1));
  };
  const auto halve = [](const std::string& file) {
    std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  };
  const std::vector<std::function<void(const std::string& file)>> damages = {
      flip, [&](const std::string& file) { halve(ManifestOf(file)); }};
  for (size_t i = 0; i < damages.size(); ++i) {
    SCOPED_TRACE(i);
    EndAt("by_city", "to_head", 18);
    ASSERT_EQ(Saved("by_city").size(), 2U) << "no more are kept";
    damages[i](Saved("by_city").back());
    BuildReport resumed = BuildSecond("by_city", "");
    ASSERT_EQ(resumed.phase, "ready") << resumed.error->message;
    EXPECT_EQ(resumed.done_before, 16) << "the older one's";
    EXPECT_EQ(BuiltRows("by_city"), rows);
    EXPECT_EQ(Accounts("by_city"), accounts);
  }
  EndAt("by_city", "to_head", 18);
  for (const std::string& file : Saved("by_city")) flip(file);
  const BuildReport anew = BuildSecond("by_city", "");
  ASSERT_EQ(anew.phase, "ready") << anew.error->message;
  EXPECT_EQ(anew.done_before, 0);
  EXPECT_EQ(Accounts("by_city"), accounts);
  EXPECT_EQ(Saved("by_city").size(), 2U) << "good ones in their place";
}

// It waits where it is about to copy the newest state that it can read.
TEST_F(ResumedBuildTest, WhatCannotBeReadNowIsLeftForLater) {
  AppendAll("by_city");
  ASSERT_EQ(BuildSecond("by_city", "").phase, "ready");
  EndAt("by_city", "to_head", 18);
  const std::string newest = Saved("by_city").back();
  std::filesystem::rename(ManifestOf(newest), newest + ".kept");
  std::filesystem::create_symlink(ManifestOf(newest), ManifestOf(newest));  // ELOOP
  StartUntilItReads();
  EXPECT_EQ(Saved("by_city").back(), newest);
  waits_with_text = nullptr;
  EXPECT_EQ(WaitUntilReady().done_before, 16) << "the older one's";
}

// As it was when the process ended just then.
TEST_F(ResumedBuildTest, ABuildThatEndedOverASavedStateBeginsAnew) {
  AppendAll("by_city");
  ASSERT_EQ(BuildSecond("by_city", "").phase, "ready");
  const std::string rows = BuiltRows("by_city");
  const std::string accounts = Accounts("by_city");
  EndAt("by_city", "to_head", 18);
  StartUntilItReads();
  const std::string unfinished = directory_ + "/unfinished";
  std::filesystem::copy(unfinished, directory_ + "/ended",
                        std::filesystem::copy_options::recursive);
  waits_with_text = nullptr;
  EXPECT_EQ(WaitUntilReady().done_before, 18);
  EndAt("by_city", "to_head", 18);
  EXPECT_EQ(BuildSecond("by_city", "").done_before, 18) << "that one it has read";

  EndAt("by_city", "to_head", 18);
  std::filesystem::remove_all(unfinished);
  std::filesystem::rename(directory_ + "/ended", unfinished);
  ASSERT_EQ(Saved("by_city").size(), 2U);
  const BuildReport anew = BuildSecond("by_city", "");
  ASSERT_EQ(anew.phase, "ready") << anew.error->message;
  EXPECT_EQ(anew.done_before, 0);
  EXPECT_EQ(BuiltRows("by_city"), rows);
  EXPECT_EQ(Accounts("by_city"), accounts);
}

// DuckDB breaks over one: its process ends, and the next one does not meet it again.
TEST_F(ResumedBuildTest, OneThatBreaksDuckDbIsNotTakenTwice) {
  AppendAll("by_city");
  ASSERT_EQ(BuildSecond("by_city", "").phase, "ready");
  for (const char* text : {"COPY FROM DATABASE \"from_", "SELECT DISTINCT position, code FROM "}) {
    SCOPED_TRACE(text);
    EndAt("by_city", "to_head", 18);
    std::string fatal;
    on_fatal_ = [&](const std::string& why) { fatal = why; };
    fails_with_text = text;
    EXPECT_EQ(BuildSecond("by_city", "").phase, "failed");
    fails_with_text = nullptr;
    EXPECT_FALSE(fatal.empty());
    build_.reset();
    const BuildReport resumed = BuildSecond("by_city", "");
    ASSERT_EQ(resumed.phase, "ready") << resumed.error->message;
    EXPECT_EQ(resumed.done_before, 16);
  }
}

// As on a full disk: reading a state takes no room.
TEST_F(ResumedBuildTest, AStateThatCannotBeMarkedIsReadAllTheSame) {
  AppendAll("by_city");
  ASSERT_EQ(BuildSecond("by_city", "").phase, "ready");
  EndAt("by_city", "to_head", 18);
  for (const std::string& file : Saved("by_city")) {
    const std::string mark = absl::StrReplaceAll(file, {{".duckdb", ".unrestorable"}});
    ASSERT_TRUE(std::filesystem::create_directory(mark));  // EISDIR
  }
  const BuildReport resumed = BuildSecond("by_city", "");
  ASSERT_EQ(resumed.phase, "ready") << resumed.error->message;
  EXPECT_EQ(resumed.done_before, 18);
}

TEST_F(ResumedBuildTest, StatesWithADeadlyRecordOrOfAnotherDefinitionArePassedOver) {
  AppendAll("by_city");
  ASSERT_EQ(BuildSecond("by_city", "").phase, "ready");
  EndAt("by_city", "to_head", 18);
  deadly_positions_ = {17};  // known since: the older state stands in front of it
  const BuildReport without = BuildSecond("by_city", "");
  ASSERT_EQ(without.phase, "ready") << without.error->message;
  EXPECT_EQ(without.done_before, 16);
  EXPECT_THAT(Accounts("by_city"), HasSubstr("17 WORKER_KILLED"));

  EndAt("by_city", "to_head", 18);
  deadly_positions_.clear();
  amount_ = kNumber;
  const BuildReport other = BuildSecond("by_city", "");
  ASSERT_EQ(other.phase, "ready") << other.error->message;
  EXPECT_EQ(other.done_before, 0);
  EXPECT_EQ(other.quarantined, 7);
}

TEST_F(ResumedBuildTest, TheComparisonIsWithWhatServesNow) {
  const std::string base = AppendAll("by_city");
  const BuildReport whole = BuildSecond("by_city", base);
  const std::string rows = BuiltRows("by_city");
  const std::string accounts = Accounts("by_city");
  EndAt("by_city", "to_head", 18);
  for (const std::string& file : Saved("by_city", "to_base")) Remove(file);
  const BuildReport same = BuildSecond("by_city", base);
  ASSERT_EQ(same.phase, "ready") << same.error->message;
  EXPECT_EQ(same.diff->position, 14);
  EXPECT_EQ(Counts(*same.diff), Counts(*whole.diff));
  EXPECT_EQ(same.done_before, 18 - 14) << "what is saved beyond it waits for the comparison";

  // The serving generation has moved on, and has more in quarantine.
  EndAt("by_city", "to_base", 14);
  const BuildReport later = Build("by_city", File("by_city", kNumber), Job(1));
  ASSERT_EQ(later.phase, "ready") << later.error->message;
  const BuildReport moved = BuildSecond("by_city", later.snapshot->path);
  ASSERT_EQ(moved.phase, "ready") << moved.error->message;
  EXPECT_EQ(moved.done_before, 14);
  EXPECT_EQ(moved.diff->position, 18);
  EXPECT_EQ(moved.diff->from_quarantine->records, 4);

  // There is nothing to compare with, and so nothing to leave out.
  EndAt("by_city", "to_base", 14);
  const BuildReport uncompared = BuildSecond("by_city", "");
  ASSERT_EQ(uncompared.phase, "ready") << uncompared.error->message;
  EXPECT_EQ(uncompared.done_before, 0);
  EXPECT_EQ(BuiltRows("by_city"), rows);
  EXPECT_EQ(Accounts("by_city"), accounts);
}

TEST_F(ResumedBuildTest, ALargerStateIsTheSame) {
  constexpr int kGroups = 20'000;
  for (int block = 0; block < 3; ++block) {
    std::vector<std::string> orders;
    for (int i = 0; i < kGroups; ++i) {
      orders.push_back(Sale(absl::StrCat("c", i * (block + 1)), absl::StrCat(i)));
    }
    feed_.Append("orders", orders);
  }
  const auto sums = [&] {
    Question question;
    question.text =
        std::string("SELECT count(*) AS c, sum(total) AS t, max(city) AS m FROM by_city");
    const auto answer = EngineFixture::Ask(*build_, std::move(question));
    return answer.ok() ? answer->rows.body : answer.status().ToString();
  };
  ASSERT_EQ(BuildSecond("by_city", "").phase, "ready");
  const std::string expected = sums();
  EndAt("by_city", "to_head", 2 * kGroups);
  const BuildReport resumed = BuildSecond("by_city", "");
  ASSERT_EQ(resumed.phase, "ready") << resumed.error->message;
  EXPECT_EQ(resumed.done_before, 2 * kGroups);
  EXPECT_EQ(sums(), expected);
}

}  // namespace
}  // namespace icepie::slices
