#include "cli/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace icepie::cli {
namespace {

using ::testing::HasSubstr;

std::string Printed(const Table& table, int width) {
  std::ostringstream out;
  table.Print(out, width);
  return out.str();
}

TEST(TableTest, AlignsTextLeftAndNumbersRight) {
  Table table({{"origin"}, {"flights", true}});
  table.AddRow({"ATL", "17,875"});
  table.AddRow({"ORD ", "9"});
  EXPECT_EQ(Printed(table, 0),
            "origin  flights\n"
            "──────  ───────\n"
            "ATL      17,875\n"
            "ORD           9\n");
}

TEST(TableTest, CountsCharactersAndNotBytes) {
  Table table({{"city"}, {"n", true}});
  table.AddRow({"Zürich", "1"});
  table.AddRow({"Bern", "22"});
  EXPECT_EQ(Printed(table, 0),
            "city     n\n"
            "──────  ──\n"
            "Zürich   1\n"
            "Bern    22\n");
}

TEST(TableTest, CutsTheWidestColumnToTheTerminal) {
  Table table({{"slice"}, {"why"}});
  table.AddRow({"a.b", "a long explanation of it"});
  EXPECT_EQ(Printed(table, 15),
            "slice  why\n"
            "─────  ────────\n"
            "a.b    a long …\n");
  Table many({{"aaaa"}, {"bbbb"}, {"cccc"}});
  many.AddRow({"1", "2", "3"});
  EXPECT_THAT(Printed(many, 11), HasSubstr("(1 more columns"));
}

TEST(TableTest, ControlCharactersDoNotReachTheTerminal) {
  Table table({{"a"}});
  table.AddRow({"x\x1b[31m\ny"});
  EXPECT_THAT(Printed(table, 0), HasSubstr("x [31m y\n"));
}

TEST(TableTest, CutToWidthKeepsWholeCharacters) {
  EXPECT_EQ(CutToWidth("Zürich", 6), "Zürich");
  EXPECT_EQ(CutToWidth("Zürich", 3), "Zü…");
  EXPECT_EQ(CutToWidth("Zürich", 1), "…");
  EXPECT_EQ(CutToWidth("Zürich", 0), "");
}

TEST(TableTest, JsonRowsKeepEveryDigit) {
  Table table({{"a"}, {"b", true}, {"c"}});
  ASSERT_TRUE(AddJsonRows(R"([{"a":"x\"y","b":123456789012345678.90,"c":null},)"
                          R"( {"a":"","b":-0.10,"c":{"k":[1, 2]}}])",
                          {"a", "b", "c"}, &table)
                  .ok());
  EXPECT_EQ(Printed(table, 0),
            "a                        b  c\n"
            "───  ─────────────────────  ────────────\n"
            "x\"y  123456789012345678.90  NULL\n"
            "                     -0.10  {\"k\":[1, 2]}\n");
}

TEST(TableTest, JsonRowsWithAColumnTwice) {
  Table table({{"a"}, {"a"}});
  ASSERT_TRUE(AddJsonRows(R"([{"a":1,"a":2}])", {"a", "a"}, &table).ok());
  EXPECT_THAT(Printed(table, 0), HasSubstr("1  2\n"));
}

TEST(TableTest, RowsThatAreNoJsonAreAnError) {
  Table table({{"a"}});
  EXPECT_EQ(AddJsonRows("[{\"a\":", {"a"}, &table).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(AddJsonRows("", {"a"}, &table).code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(AddJsonRows("[]", {"a"}, &table).ok());
}

TEST(TableTest, NumericTypes) {
  for (const char* type : {"INTEGER", "BIGINT", "DECIMAL(38,2)", "DOUBLE", "UTINYINT"}) {
    EXPECT_TRUE(IsNumericType(type)) << type;
  }
  for (const char* type : {"VARCHAR", "INTEGER[]", "TIMESTAMP", "STRUCT(a INTEGER)", "BOOLEAN"}) {
    EXPECT_FALSE(IsNumericType(type)) << type;
  }
}

}  // namespace
}  // namespace icepie::cli
