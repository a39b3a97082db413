#include "slices/definition/shown_type.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "slices/duckdb/duckdb.h"

namespace icepie::slices {
namespace {

TEST(ShownTypeTest, NamesHaveTheQuotesThatTheyNeed) {
  EXPECT_EQ(ShownType("DECIMAL(38,2)"), "DECIMAL(38,2)");
  EXPECT_EQ(ShownType("STRUCT(\"city\" VARCHAR, \"zip_2\" INTEGER)[]"),
            "STRUCT(city VARCHAR, zip_2 INTEGER)[]");
  EXPECT_EQ(ShownType("MAP(VARCHAR, STRUCT(\"a\" STRUCT(\"b\" DATE)))"),
            "MAP(VARCHAR, STRUCT(a STRUCT(b DATE)))");
  EXPECT_EQ(
      ShownType("STRUCT(\"end\" DATE, \"left\" DATE, \"Net\" DATE, \"a b\" DATE, \"2nd\" DATE)"),
      "STRUCT(\"end\" DATE, \"left\" DATE, \"Net\" DATE, \"a b\" DATE, \"2nd\" DATE)");
  EXPECT_EQ(ShownType("STRUCT(\"a\"\"b\" DATE, \"c\" DATE)"), "STRUCT(\"a\"\"b\" DATE, c DATE)");
  EXPECT_EQ(ShownType("STRUCT(\"e\" ENUM('\"x\"', 'it''s \"y\"'))"),
            "STRUCT(e ENUM('\"x\"', 'it''s \"y\"'))");
  const std::string shown = ShownType("STRUCT(\"city\" VARCHAR, \"end\" DATE)");
  EXPECT_EQ(ShownType(shown), shown);
}

// As the engine's own text, it is SQL, of the same type.
TEST(ShownTypeTest, IsSql) {
  const auto database = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
  const auto connection = DuckConnection::Connect(*database).value();
  const std::string type =
      "STRUCT(\"at\" TIMESTAMP, \"city\" VARCHAR, \"values\" INTEGER[], \"Name\" ENUM('\"x\"'))[]";
  DuckResult result = connection->Query("SELECT CAST(NULL AS " + type + ")").value();
  DuckResult shown = connection->Query("SELECT CAST(NULL AS " + ShownType(type) + ")").value();
  EXPECT_EQ(shown.column_type(0), result.column_type(0));
}

TEST(ShownTypeTest, TheWordsAreThoseOfTheLinkedDuckDb) {
  const auto database = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
  const auto connection = DuckConnection::Connect(*database).value();
  const std::vector<CellRow> rows =
      connection
          ->QueryCells(
              "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category IN "
              "('reserved', 'type_function') ORDER BY 1")
          .value();
  std::vector<std::string> words;
  for (const CellRow& row : rows) words.push_back(std::get<std::string>(row[0]));
  EXPECT_EQ(QuotedWords(), words);
}

}  // namespace
}  // namespace icepie::slices
