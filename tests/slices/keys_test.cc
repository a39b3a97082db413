// Slices kept by key beyond what single cases show: space, budgets, many batches.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
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

}  // namespace
}  // namespace icepie::slices
