#include "slices/duckdb/bound_numbers.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace icepie::slices {
namespace {

class BoundNumbersTest : public testing::Test {
 protected:
  BoundNumbersTest()
      : database_(DuckDatabase::OpenInMemory({{"threads", "1"}}).value()),
        connection_(DuckConnection::Connect(*database_).value()),
        numbers_(BoundNumbers::Create(*connection_, 2).value()) {}

  int64_t Count(DuckStatement& statement) {
    auto result = statement.Execute();
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? std::get<int64_t>(result->Cells().value().at(0).at(0)) : -1;
  }

  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
  std::unique_ptr<BoundNumbers> numbers_;
};

TEST_F(BoundNumbersTest, EachExecutionSeesWhatWasSetBeforeIt) {
  ASSERT_TRUE(connection_->Run("CREATE TABLE row AS SELECT 0::BIGINT AS a, 0::BIGINT AS b").ok());
  const auto write = connection_
                         ->Prepare(absl::StrCat("UPDATE row SET a = ", numbers_->Sql(0),
                                                ", b = ", numbers_->Sql(1)))
                         .value();
  for (const int64_t value : {int64_t{7}, INT64_MIN, INT64_MAX}) {
    numbers_->Set(0, value);
    numbers_->Set(1, -5);
    ASSERT_TRUE(write->Execute().ok());
    EXPECT_EQ(connection_->QueryCells("SELECT a, b FROM row").value(),
              (std::vector<CellRow>{{value, int64_t{-5}}}));
  }
}

TEST_F(BoundNumbersTest, EveryRowOfSeveralChunksHasTheNumber) {
  ASSERT_TRUE(connection_->Run("CREATE TABLE many AS SELECT i FROM range(10000) r(i)").ok());
  const auto count = connection_
                         ->Prepare(absl::StrCat("SELECT count(*) FROM (SELECT ", numbers_->Sql(1),
                                                " AS n, i FROM many) WHERE n + i >= 10000"))
                         .value();
  EXPECT_EQ(Count(*count), 0);
  numbers_->Set(1, 9000);
  EXPECT_EQ(Count(*count), 9000);
}

TEST_F(BoundNumbersTest, NumbersOfOthersAreTheirOwn) {
  const auto others = BoundNumbers::Create(*connection_, 1).value();
  others->Set(0, 3);
  numbers_->Set(0, 4);
  const auto both =
      connection_->Prepare(absl::StrCat("SELECT ", others->Sql(0), " * 10 + ", numbers_->Sql(0)))
          .value();
  EXPECT_EQ(Count(*both), 34);
}

TEST_F(BoundNumbersTest, WithoutTheNumbersTheStatementFails) {
  const auto select = connection_->Prepare(absl::StrCat("SELECT ", numbers_->Sql(0))).value();
  numbers_.reset();
  const absl::Status status = select->Execute().status();
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("are gone"), std::string::npos) << status;
}

}  // namespace
}  // namespace icepie::slices
