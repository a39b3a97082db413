#include "slices/plan/components.h"

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/component_set.h"
#include "tests/slices/slice_run.h"

namespace icepie::slices {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ComponentsTest : public testing::Test {
 protected:
  void SetUp() override { Open("1", int64_t{64} << 20); }

  void Open(const std::string& threads, int64_t bytes_max) {
    connection_.reset();
    database_ = DuckDatabase::OpenInMemory({{"threads", threads}}).value();
    connection_ = DuckConnection::Connect(*database_).value();
    ASSERT_TRUE(RegisterComponents(*connection_, bytes_max).ok());
  }

  std::vector<std::string> Column(const std::string& sql) {
    const auto rows = connection_->QueryCells(sql);
    EXPECT_TRUE(rows.ok()) << rows.status();
    std::vector<std::string> column;
    if (!rows.ok()) return column;
    for (const CellRow& row : *rows) {
      const auto* text = std::get_if<std::string>(&row.front());
      column.push_back(text == nullptr ? "NULL" : *text);
    }
    return column;
  }

  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
};

TEST_F(ComponentsTest, NamesEachComponentByItsSmallestNode) {
  EXPECT_THAT(Column("SELECT c.node || '>' || c.cluster FROM (SELECT unnest(components(a, b)) AS c "
                     "FROM (VALUES ('d', 'c'), ('x', 'y'), ('b', 'd'), ('z', 'z')) AS e(a, b))"),
              ElementsAre("b>b", "c>b", "d>b", "x>x", "y>x", "z>z"));
  EXPECT_THAT(Column("SELECT CAST(unnest(components(a, b)) AS VARCHAR) FROM (VALUES (10, -3), "
                     "(9, 10), (9223372036854775807, 5)) AS e(a, b)"),
              ElementsAre("{'node': -3, 'cluster': -3}", "{'node': 5, 'cluster': 5}",
                          "{'node': 9, 'cluster': -3}", "{'node': 10, 'cluster': -3}",
                          "{'node': 9223372036854775807, 'cluster': 5}"));
}

TEST_F(ComponentsTest, PassesOverNullsAndGivesNullForNoEdges) {
  EXPECT_THAT(Column("SELECT CAST(components(a, b) AS VARCHAR) FROM (VALUES ('a', NULL), (NULL, "
                     "'b'), (NULL, NULL)) AS e(a, b)"),
              ElementsAre("NULL"));
  EXPECT_THAT(Column("SELECT unnest(components('a', 'b')).node FROM range(0)"), IsEmpty());
  EXPECT_THAT(Column("SELECT k || CAST(components(a, b) FILTER (WHERE a <> 'q') AS VARCHAR) FROM "
                     "(VALUES ('1', 'a', 'b'), ('2', 'q', 'r'), ('1', 'c', NULL)) AS e(k, a, b) "
                     "GROUP BY k ORDER BY k"),
              ElementsAre("1[{'node': a, 'cluster': a}, {'node': b, 'cluster': a}]", "NULL"));
}

TEST_F(ComponentsTest, TextsAreComparedByAllTheirBytes) {
  const std::string sql =
      "SELECT c.node || '>' || c.cluster FROM (SELECT unnest(components(a, b)) AS c FROM (VALUES "
      "('wallet-0002', 'wallet-0001'), ('', 'ü'), ('wallet-', 'wallet-0001x')) AS e(a, b))";
  EXPECT_THAT(Column(sql), ElementsAre(">", "wallet->wallet-", "wallet-0001>wallet-0001",
                                       "wallet-0001x>wallet-", "wallet-0002>wallet-0001", "ü>"));
}

// Partial states of two threads are combined, and many groups have states of their own.
TEST_F(ComponentsTest, MergedStatesEqualOneState) {
  Open("4", int64_t{256} << 20);
  const std::string edges =
      "(SELECT i % 7 AS k, 'n' || (i * 7919 % 40000) AS a, 'n' || (i * 104729 % 40000) AS b FROM "
      "range(100000) AS t(i))";
  const std::string digest =
      "SELECT CAST(count(*) AS VARCHAR) || ' ' || CAST(count(DISTINCT cluster) AS VARCHAR) || ' ' "
      "|| CAST(bit_xor(hash(k, node, cluster)) AS VARCHAR) FROM (SELECT k, c.node, c.cluster FROM "
      "(SELECT k, unnest(components(a, b)) AS c FROM " +
      edges + " GROUP BY k))";
  const std::vector<std::string> parallel = Column(digest);
  Open("1", int64_t{256} << 20);
  EXPECT_EQ(Column(digest), parallel);
}

TEST_F(ComponentsTest, TooManyNodesAreAnErrorOfMemoryAndNotOfData) {
  Open("1", int64_t{1} << 20);
  const std::string sql = "SELECT len(components(i, i + 1)) FROM range(1000000) AS t(i)";
  const absl::Status status = connection_->Run(sql);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the nodes of components() take more than 1 MiB"));
  // What the failed statement held is given back.
  EXPECT_TRUE(connection_->Run("SELECT components(i, i + 1) FROM range(1000) AS t(i)").ok());
}

TEST_F(ComponentsTest, AnErrorLeavesNoState) {
  for (int round = 0; round < 3; ++round) {
    EXPECT_FALSE(
        connection_
            ->Run("SELECT components(i, CASE WHEN i = 9999 THEN error('x') ELSE i END) FROM "
                  "range(10000) AS t(i)")
            .ok());
  }
  EXPECT_TRUE(
      connection_->Run("SELECT components(DISTINCT i % 3, i % 5) FROM range(1000) AS t(i)").ok());
}

// ------------------------------------------------------------------------- as maintained slices

constexpr char kClusters[] = R"(
domain: compliance
sources:
  transfers:
    columns:
      sender: VARCHAR
      receiver: VARCHAR
      block: {type: INTEGER, required: true}
slices:
  wallet_clusters:
    sql: >
      SELECT c.node AS wallet, c.cluster FROM (SELECT unnest(components(sender, receiver)) AS c
      FROM transfers WHERE sender <> receiver)
    key: [wallet]
  sizes:
    sql: >
      SELECT t.c.cluster AS cluster, count(*) AS wallets FROM (SELECT unnest(components(
      upper(sender), upper(receiver))) AS c FROM transfers) AS t GROUP BY ALL HAVING count(*) > 1
  direct: {sql: "SELECT unnest(components(block, block % 10)) AS pair FROM transfers"}
  per_block: {sql: "SELECT block % 3 AS k, unnest(components(sender, receiver)) AS c FROM transfers GROUP BY ALL"}
)";

std::string Transfer(const std::string& sender, const std::string& receiver, int block) {
  return absl::StrCat(R"({"sender":")", sender, R"(","receiver":")", receiver, R"(","block":)",
                      block, "}");
}

TEST(ComponentsSliceTest, IsPlannedAsAFold) {
  const auto run = SliceRun::Start(kClusters);
  ASSERT_TRUE(run.ok()) << run.status();
  for (const char* slice : {"wallet_clusters", "sizes", "direct"}) {
    EXPECT_EQ((*run)->plan().Find(slice)->strategy, Strategy::kAggregate)
        << slice << ": " << (*run)->plan().Find(slice)->why;
  }
  EXPECT_NE((*run)->plan().Find("per_block")->strategy, Strategy::kAggregate);
}

TEST(ComponentsSliceTest, MergesClustersBatchByBatch) {
  const auto started = SliceRun::Start(kClusters);
  ASSERT_TRUE(started.ok()) << started.status();
  SliceRun& run = **started;
  run.Append("transfers", {Transfer("d", "e", 1), Transfer("b", "c", 2), Transfer("f", "f", 3)});
  ASSERT_TRUE(run.Apply(100).ok());
  EXPECT_THAT(*run.Rows("wallet_clusters"), ElementsAre("b | b", "c | b", "d | d", "e | d"));
  run.Append("transfers", {Transfer("e", "c", 4), "{}", R"({"block":5,"sender":"x"})"});
  ASSERT_TRUE(run.Apply(100).ok());
  EXPECT_THAT(*run.Rows("wallet_clusters"), ElementsAre("b | b", "c | b", "d | b", "e | b"));
  ASSERT_TRUE(run.Restart().ok());
  // One node, smaller than all, renames everything.
  run.Append("transfers", {Transfer("e", "a", 6), Transfer("y", "z", 7)});
  ASSERT_TRUE(run.Apply(100).ok());
  EXPECT_THAT(*run.Rows("wallet_clusters"),
              ElementsAre("a | a", "b | a", "c | a", "d | a", "e | a", "y | y", "z | y"));
}

TEST(ComponentsSliceTest, EqualsTheAggregateOverAllRecords) {
  const auto started = SliceRun::Start(kClusters);
  ASSERT_TRUE(started.ok()) << started.status();
  SliceRun& run = **started;
  std::mt19937 random(20261126);
  for (int round = 0; round < 6; ++round) {
    std::vector<std::string> payloads;
    for (int i = 0; i < 40; ++i) {
      payloads.push_back(Transfer(absl::StrCat("w", random() % 700),
                                  absl::StrCat("w", random() % 700),
                                  static_cast<int>(random() % 1000)));
    }
    run.Append("transfers", payloads);
    ASSERT_TRUE(run.Apply(1 + static_cast<int64_t>(random() % 60)).ok());
    if (round % 3 == 2) ASSERT_TRUE(run.Restart().ok());
    for (const SlicePlan& slice : run.plan().slices) {
      const auto difference = run.Difference(slice.slice);
      ASSERT_TRUE(difference.ok()) << difference.status();
      ASSERT_EQ(*difference, "") << slice.slice << ", round " << round;
    }
  }
}

}  // namespace
}  // namespace icepie::slices
