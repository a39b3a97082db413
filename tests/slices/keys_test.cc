// Slices kept by key beyond what single cases show: space, budgets, many batches.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "tests/slices/slice_run.h"

namespace icepie::slices {
namespace {

constexpr int64_t kUnlimited = 65536;

constexpr char kAccounts[] = R"(domain: bank
sources:
  moves: {columns: {account: VARCHAR, amount: INTEGER}}
limits: {kept_rows: 1000}
slices:
  latest:
    sql: SELECT account, amount FROM moves QUALIFY row_number() OVER (PARTITION BY account ORDER BY _position DESC) = 1
  middle:
    sql: SELECT account, median(amount) AS m FROM moves GROUP BY account
)";

std::vector<std::string> Moves(int count, int accounts) {
  std::vector<std::string> payloads;
  for (int i = 0; i < count; ++i) {
    payloads.push_back(
        absl::StrCat(R"({"account":"a)", i % accounts, R"(","amount":)", i % 97, "}"));
  }
  return payloads;
}

int64_t NumberIn(SliceRun& run, const std::string& sql) {
  const auto rows = run.Cells(sql);
  EXPECT_TRUE(rows.ok()) << rows.status();
  return rows.ok() ? std::get<int64_t>((*rows)[0][0]) : -1;
}

TEST(KeysTest, DeletedRowsDoNotPileUp) {
  const auto run = SliceRun::Start(kAccounts).value();
  for (int batch = 0; batch < 30; ++batch) {
    run->Append("moves", Moves(8000, 800));
    ASSERT_TRUE(run->ApplyOne("latest", kUnlimited).ok());
  }
  EXPECT_EQ(run->Difference("latest").value(), "");
  const std::string database = run->Alias("latest");
  for (const char* table : {"__rows", "__data"}) {
    const std::string name = absl::StrCat(database, ".main.", table);
    EXPECT_EQ(NumberIn(*run, "SELECT count(*) FROM " + name), 800);
    EXPECT_LT(NumberIn(*run, "SELECT max(rowid) FROM " + name), 100000) << name;
  }
}

// Rows that the transaction itself has added have numbers beyond all others.
TEST(KeysTest, ABatchThatDeletesLittleWritesNoTableAnew) {
  const auto run = SliceRun::Start(kAccounts).value();
  for (const std::string slice : {"latest", "middle"}) {
    int64_t table = 0;
    for (int batch = 0; batch < 5; ++batch) {
      run->Append("moves", Moves(40, 40));
      ASSERT_TRUE(run->ApplyOne(slice, kUnlimited).ok());
      const int64_t now = NumberIn(
          *run,
          absl::StrCat("SELECT table_oid FROM duckdb_tables() WHERE table_name = '__data' AND ",
                       "database_name = '", absl::StrReplaceAll(run->Alias(slice), {{"\"", ""}}),
                       "'"));
      if (batch > 0) EXPECT_EQ(now, table) << slice << " batch " << batch;
      table = now;
    }
  }
}

TEST(KeysTest, MoreRowsThanTheBudgetAreSaidSoAndChangeNothing) {
  const auto run = SliceRun::Start(kAccounts).value();
  run->Append("moves", Moves(900, 10));
  ASSERT_TRUE(run->ApplyOne("middle", kUnlimited).ok());
  run->Append("moves", Moves(200, 10));
  const absl::Status status = run->ApplyOne("middle", kUnlimited);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_EQ(ErrorReason(status), "KEPT_ROWS_OVER_BUDGET");
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("limits.kept_rows"));
  EXPECT_EQ(run->progress("middle").applied_position, 900);
  EXPECT_EQ(
      NumberIn(*run, absl::StrCat("SELECT count(*) FROM ", run->Alias("middle"), ".main.__rows")),
      900);
}

TEST(KeysTest, WhatTheFiltersDropIsNotKept) {
  const auto run = SliceRun::Start(R"(domain: bank
sources:
  moves: {columns: {account: VARCHAR, amount: INTEGER}}
slices:
  direct:
    sql: SELECT account, median(amount) AS m FROM moves WHERE amount > 10 GROUP BY account
  above:
    sql: WITH more AS (SELECT * FROM moves WHERE amount > 5) SELECT account, median(amount) AS m FROM more WHERE amount > 10 GROUP BY account
  of_what_may_fail:
    sql: SELECT account, median(more) AS m FROM (SELECT account, amount + 1 AS more FROM moves) WHERE more > 11 GROUP BY account
  above_a_window:
    sql: SELECT account, n FROM (SELECT *, count(*) OVER (PARTITION BY account) AS n FROM moves WHERE amount > 10) WHERE amount > 20
)")
                       .value();
  run->Append("moves", Moves(97, 10));
  for (const char* slice : {"direct", "above", "of_what_may_fail", "above_a_window"}) {
    ASSERT_TRUE(run->ApplyOne(slice, kUnlimited).ok());
    EXPECT_EQ(run->Difference(slice).value(), "") << slice;
    EXPECT_EQ(
        NumberIn(*run, absl::StrCat("SELECT count(*) FROM ", run->Alias(slice), ".main.__rows")),
        86)
        << slice;
  }
}

constexpr char kPayments[] = R"yaml(domain: payments
sources:
  transfers: {columns: {tx: INTEGER, chain: VARCHAR, currency: VARCHAR, amount: "DECIMAL(18,2)",
               status : VARCHAR
}
}
slices:
  transfer_state:
    sql: SELECT tx, chain, currency, amount, status FROM transfers QUALIFY row_number() OVER (PARTITION BY tx ORDER BY _position DESC) = 1
    key: [tx]
  volume_by_chain:
    sql: SELECT chain, currency, count(*) AS transfers, sum(amount) AS volume, avg(amount) AS mean FROM transfer_state WHERE status = 'settled' GROUP BY ALL
    key: [chain, currency]
  largest:
    sql: SELECT chain, max(volume) AS volume, list(currency ORDER BY currency) AS currencies FROM volume_by_chain GROUP BY chain
    key: [chain]
  big:
    sql: SELECT chain, volume FROM largest WHERE volume > 5000
)yaml";

// A transfer appears, changes its status, amount and even its chain.
std::vector<std::string> RandomTransfers(std::mt19937& random, int count) {
  std::vector<std::string> payloads;
  for (int i = 0; i < count; ++i) {
    const auto one_of = [&](const std::vector<std::string>& values) {
      return values[random() % values.size()];
    };
    payloads.push_back(absl::StrCat(
        R"({"tx":)", random() % 150, R"(,"chain":)", one_of({R"("eth")", R"("sol")", "null"}),
        R"(,"currency":")", one_of({"EUR", "USD", "CHF"}), R"(","amount":")", random() % 1000, ".",
        10 + random() % 90, R"(","status":")", one_of({"pending", "settled", "failed"}), "\"}"));
  }
  return payloads;
}

TEST(KeysTest, ChainsOfSlicesEqualTheirSqlAfterEachBatchAndRestart) {
  for (const unsigned seed : {1U, 20261126U}) {
    std::mt19937 random(seed);
    const auto run = SliceRun::Start(kPayments).value();
    EXPECT_EQ(run->plan().Find("transfer_state")->strategy, Strategy::kKeys);
    EXPECT_EQ(run->plan().Find("volume_by_chain")->strategy, Strategy::kAggregate);
    EXPECT_EQ(run->plan().Find("largest")->strategy, Strategy::kKeys);
    EXPECT_EQ(run->plan().Find("big")->strategy, Strategy::kKeys);
    for (int round = 0; round < 12; ++round) {
      run->Append("transfers", RandomTransfers(random, 1 + static_cast<int>(random() % 60)));
      ASSERT_TRUE(run->Apply(1 + static_cast<int64_t>(random() % 40)).ok());
      for (const SlicePlan& slice : run->plan().slices) {
        ASSERT_EQ(run->Difference(slice.slice).value(), "")
            << slice.slice << " seed " << seed << " round " << round;
      }
      if (round % 4 == 3) ASSERT_TRUE(run->Restart().ok());
    }
    // Only at the very beginning; afterwards changes were enough, also over restarts.
    EXPECT_EQ(run->rebuilds(), 3);
    EXPECT_EQ(NumberIn(*run, absl::StrCat("SELECT count(*) FROM ", run->Alias("volume_by_chain"),
                                          ".main.__state WHERE a0 IS NULL")),
              0);
  }
}

TEST(KeysTest, ChangesAreHandedOutOnlyWhereTheyAreRead) {
  const auto run = SliceRun::Start(kPayments).value();
  EXPECT_TRUE(run->plan().Find("transfer_state")->hands_out_changes);
  EXPECT_TRUE(run->plan().Find("largest")->hands_out_changes);
  EXPECT_FALSE(run->plan().Find("big")->hands_out_changes);
  EXPECT_FALSE(SliceRun::Start(kAccounts).value()->plan().Find("latest")->hands_out_changes);
}

}  // namespace
}  // namespace icepie::slices
