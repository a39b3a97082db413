// Folds whose statements were prepared while the state was small: afterwards NULLs appear, ranges
// grow, text gets longer, groups multiply. What the optimizer concluded from the statistics of then
// must not stay in the statements (slices/apply/apply_statements.h).
//
// ICEPIE_FOLD_SEEDS=500 runs so many seeds instead of a few.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/slices/slice_run.h"

namespace icepie::slices {
namespace {

constexpr int kBatches = 40;
constexpr char kDomain[] = R"yaml(
domain: test
sources:
  r: {columns: {k: BIGINT, s: VARCHAR, v: BIGINT, n: "DECIMAL(18,2)", x: DOUBLE, t: TIMESTAMP, f: BOOLEAN}}
slices:
  by_number: {sql: "SELECT k, count(*) AS c, count(v) AS cv, sum(v) AS sv, min(v) AS lo, max(s) AS hi, avg(n) AS mean FROM r GROUP BY k"}
  by_text: {sql: "SELECT s, k, sum(n) AS sn, sum(x) AS sx, max(t) AS latest, count(*) FILTER (WHERE f) AS yes FROM r GROUP BY ALL HAVING count(*) > 1"}
  by_day: {sql: "SELECT time_bucket(INTERVAL 1 DAY, t) AS day, min(k) AS lo, max(k) AS hi, sum(v) AS sv FROM r WHERE f IS NOT FALSE GROUP BY ALL"}
  totals: {sql: "SELECT count(*) AS c, sum(v) AS sv, min(s) AS lo, max(t) AS latest FROM r"}
  lines: {sql: "SELECT _position AS p, k, s, v FROM r WHERE v IS NOT NULL"}
)yaml";

int Seeds() {
  const char* text = std::getenv("ICEPIE_FOLD_SEEDS");
  int seeds = 0;
  return text != nullptr && absl::SimpleAtoi(text, &seeds) ? seeds : 2;
}

// Records of one run, which become wilder at batches that the seed says.
class Records {
 public:
  explicit Records(unsigned int seed)
      : random_(seed), nulls_from_(Random(kBatches)), growth_from_(Random(kBatches)) {}

  std::vector<std::string> Batch(int number) {
    const bool nulls = number >= nulls_from_;
    const bool grown = number >= growth_from_;
    if (grown && Random(3) == 0) range_ = std::min<int64_t>(range_ * (1 + Random(50)), 1'000'000);
    std::vector<std::string> payloads(static_cast<size_t>(Random(4) == 0 ? 1 : 1 + Random(30)));
    for (std::string& payload : payloads) payload = Record(nulls, grown);
    return payloads;
  }
  int64_t Random(int64_t below) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(below));
  }

 private:
  std::string Record(bool nulls, bool grown) {
    const int64_t scale = grown ? 1'000'000'007 : 1;
    const std::string text(static_cast<size_t>(1 + Random(grown ? 30 : 1)),
                           static_cast<char>('a' + Random(3)));
    const std::string day = absl::StrCat(grown ? 1600 + Random(800) : 2026, "-01-0", 1 + Random(9));
    std::string json = "{";
    const auto add = [&](const char* name, const std::string& value) {
      if (nulls && Random(4) == 0) return;
      absl::StrAppend(&json, json.size() > 1 ? "," : "", "\"", name, "\":", value);
    };
    add("k", absl::StrCat(Random(range_) - (grown ? range_ / 2 : 0)));
    add("s", absl::StrCat("\"", text, "\""));
    add("v", absl::StrCat(Random(1000) * scale));
    add("n", absl::StrCat(Random(100) * scale, ".25"));
    add("x", absl::StrCat(Random(100), ".5"));
    add("t", absl::StrCat("\"", day, "T00:00:00\""));
    add("f", Random(2) == 0 ? "true" : "false");
    return json + "}";
  }

  std::mt19937_64 random_;
  const int64_t nulls_from_;
  const int64_t growth_from_;
  int64_t range_ = 2;
};

TEST(FoldTest, StatementsPreparedOverLittleStayRightOverMuch) {
  for (int seed = 1; seed <= Seeds(); ++seed) {
    Records records(static_cast<unsigned int>(seed));
    auto run = SliceRun::Start(kDomain);
    ASSERT_TRUE(run.ok()) << run.status();
    for (int batch = 0; batch < kBatches; ++batch) {
      (*run)->Append("r", records.Batch(batch));
      const absl::Status applied = (*run)->Apply(1 + records.Random(40));
      ASSERT_TRUE(applied.ok()) << applied;
      if (records.Random(20) == 0) ASSERT_TRUE((*run)->Restart().ok());
      if (batch % 5 != 4) continue;
      for (const SlicePlan& slice : (*run)->plan().slices) {
        const auto difference = (*run)->Difference(slice.slice);
        ASSERT_TRUE(difference.ok()) << difference.status();
        ASSERT_EQ(*difference, "") << slice.slice << ", seed " << seed << ", batch " << batch;
      }
    }
  }
}

// The sum of a batch is beyond DOUBLE, its mean and how far the values lie from it are not.
TEST(FoldTest, ValuesNearTheEndOfDoubleHaveASpread) {
  auto run = SliceRun::Start(R"yaml(
domain: test
sources:
  r: {columns: {x: DOUBLE}}
slices:
  spread: {sql: "SELECT stddev(x) AS a, var_pop(x) AS b FROM r"}
)yaml");
  ASSERT_TRUE(run.ok()) << run.status();
  for (const size_t records : {2, 1, 3}) {
    (*run)->Append("r", std::vector<std::string>(records, R"({"x":1.5e308})"));
    const absl::Status applied = (*run)->Apply(65536);
    ASSERT_TRUE(applied.ok()) << applied;
    const auto difference = (*run)->Difference("spread");
    ASSERT_TRUE(difference.ok()) << difference.status();
    EXPECT_EQ(*difference, "");
  }
  EXPECT_EQ((*run)->progress("spread").quarantined, 0);
}

// A snapshot of a plan with other tables (another version of the planner) is refused, so that the
// slice is rebuilt, instead of failing at its first batch.
TEST(FoldTest, SnapshotWithOtherTablesIsRefused) {
  auto run = SliceRun::Start(kDomain);
  ASSERT_TRUE(run.ok()) << run.status();
  (*run)->Append("r", {R"({"k":1})"});
  ASSERT_TRUE((*run)->Apply(1).ok());
  const absl::Status status = (*run)->ReopenAs("by_number", "totals");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
}

constexpr char kRetaining[] = R"yaml(
domain: test
sources:
  r: {where: {$.f: true}, columns: {k: BIGINT}}
slices:
  seconds:
    sql: SELECT date_trunc('second', _time) AS s, count(*) AS n, count(DISTINCT k) AS ks FROM r GROUP BY s
    retain: {column: s, for: 10s}
  medians:
    sql: SELECT date_trunc('second', _time) AS s, median(k) AS m FROM r GROUP BY s
    retain: {column: s, for: 10s}
  newest:
    sql: SELECT _time AS s, k FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY _position DESC) = 1
    retain: {column: s, for: 10s}
  biggest:
    sql: SELECT _time AS s, k FROM r QUALIFY row_number() OVER (PARTITION BY k ORDER BY k % 3 DESC, _position DESC) = 1
    retain: {column: s, for: 10s}
  all_again:
    sql: SELECT _time AS s, k FROM r ORDER BY k, _position LIMIT 50
    retain: {column: s, for: 10s}
  joined:
    sql: SELECT a._time AS s, a.k, b._position AS other FROM r AS a JOIN r AS b ON a.k = b.k
    retain: {column: s, for: 10s}
)yaml";

int64_t CountOf(SliceRun& run, const std::string& table, const std::string& slice = "seconds") {
  const auto rows =
      run.Cells(absl::StrCat("SELECT count(*) FROM ", run.Alias(slice), ".main.", table));
  EXPECT_TRUE(rows.ok()) << rows.status();
  return rows.ok() ? std::get<int64_t>(rows->front().front()) : -1;
}

// Groups behind the horizon are deleted now and then, so that the state stays small; what is shown
// never depends on when.
TEST(RetainTest, TheStateStaysSmallAndTheVersionMovesWithTheHorizon) {
  auto started = SliceRun::Start(kRetaining);
  ASSERT_TRUE(started.ok()) << started.status();
  SliceRun& run = **started;
  for (int i = 0; i < 60; ++i) {
    // Every second key is never seen again.
    run.Append("r", {absl::StrCat(R"({"f":true,"k":)", i % 2 == 0 ? i % 8 : i, "}")});
    const absl::Status applied = run.Apply(10);
    ASSERT_TRUE(applied.ok()) << applied;
    for (const SlicePlan& slice : run.plan().slices) {
      if (i % 3 != 2) break;
      EXPECT_EQ(*run.Difference(slice.slice), "") << slice.slice << " " << i;
    }
    if (i == 30) ASSERT_TRUE(run.Restart().ok());
  }
  EXPECT_EQ(run.Rows("seconds")->size(), 11U);  // from 10 s ago to now
  EXPECT_LE(CountOf(run, "__state"), 13);
  EXPECT_GE(CountOf(run, "__state"), 11);
  EXPECT_LE(CountOf(run, "__values0"), 13);
  for (const char* slice : {"medians", "newest", "biggest", "all_again"}) {
    EXPECT_LE(CountOf(run, "__data", slice), 13) << slice;
  }
  EXPECT_LE(CountOf(run, "__rows", "medians"), 13);
  EXPECT_LE(CountOf(run, "__rows", "newest"), 13);
  EXPECT_LE(CountOf(run, "__rows0", "joined"), 13);
  EXPECT_EQ(CountOf(run, "__rows1", "joined"), 60);  // any later record may be joined to them
  // A record that is filtered changes the rows all the same.
  const int64_t version = run.progress("seconds").content_version;
  run.Append("r", {"{\"f\":false}"});
  ASSERT_TRUE(run.Apply(10).ok());
  EXPECT_EQ(run.progress("seconds").filtered, 1);
  EXPECT_EQ(run.Rows("seconds")->size(), 10U);
  EXPECT_GT(run.progress("seconds").content_version, version);
}

}  // namespace
}  // namespace icepie::slices
