#include "slices/reading/result_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "slices/duckdb/duckdb.h"
#include "tests/core/temp_directory.h"

namespace icepie::slices {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kRowsMax = 1'000'000;
constexpr int64_t kBytesMax = 64 << 20;

class ResultJsonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    database_ = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
    connection_ = DuckConnection::Connect(*database_).value();
    ASSERT_TRUE(connection_->Run("SET TimeZone = 'UTC'").ok());
  }

  absl::StatusOr<JsonRows> Write(const std::string& sql, int64_t rows_max = kRowsMax,
                                 int64_t bytes_max = kBytesMax) {
    ICEPIE_ASSIGN_OR_RETURN(DuckResult result, connection_->Query(sql));
    return WriteJsonRows(result, rows_max, bytes_max);
  }

  // The JSON of one expression.
  std::string Value(const std::string& expression) {
    const auto rows = Write(absl::StrCat("SELECT ", expression, " AS v"));
    if (!rows.ok()) return rows.status().ToString();
    EXPECT_TRUE(nlohmann::json::accept(rows->body)) << rows->body;
    const std::string begin = "[{\"v\":";
    return rows->body.substr(begin.size(), rows->body.size() - begin.size() - 2);
  }

  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
};

struct ValueCase {
  const char* expression;
  const char* json;
};

TEST_F(ResultJsonTest, WritesEveryType) {
  const ValueCase cases[] = {
      {"NULL", "null"},
      {"CAST(NULL AS INTEGER)", "null"},
      {"true", "true"},
      {"false", "false"},
      {"CAST(-128 AS TINYINT)", "-128"},
      {"CAST(255 AS UTINYINT)", "255"},
      {"CAST(-32768 AS SMALLINT)", "-32768"},
      {"CAST(65535 AS USMALLINT)", "65535"},
      {"CAST(-2147483648 AS INTEGER)", "-2147483648"},
      {"CAST(4294967295 AS UINTEGER)", "4294967295"},
      {"CAST(-9223372036854775808 AS BIGINT)", "-9223372036854775808"},
      {"CAST(18446744073709551615 AS UBIGINT)", "18446744073709551615"},
      {"CAST(0 AS HUGEINT)", "0"},
      {"CAST('-170141183460469231731687303715884105728' AS HUGEINT)",
       "-170141183460469231731687303715884105728"},
      {"CAST('10000000000000000000' AS HUGEINT)", "10000000000000000000"},
      {"CAST('100000000000000000001' AS HUGEINT)", "100000000000000000001"},
      {"CAST('340282366920938463463374607431768211455' AS UHUGEINT)",
       "340282366920938463463374607431768211455"},
      {"CAST('12345678901234567890123456789012345678901234567890' AS BIGNUM)",
       "12345678901234567890123456789012345678901234567890"},
      {"CAST('-1000000000' AS BIGNUM)", "-1000000000"},
      {"CAST('0' AS BIGNUM)", "0"},
      {"CAST(0.05 AS DECIMAL(4,2))", "0.05"},
      {"CAST(-0.05 AS DECIMAL(4,2))", "-0.05"},
      {"CAST(0 AS DECIMAL(4,2))", "0.00"},
      {"CAST(120.55 AS DECIMAL(9,2))", "120.55"},
      {"CAST(-7 AS DECIMAL(9,0))", "-7"},
      {"CAST(0.1 AS DECIMAL(4,4))", "0.1000"},
      {"CAST('123456789012.345678' AS DECIMAL(18,6))", "123456789012.345678"},
      {"CAST('12345678901234567890.123456789012345678' AS DECIMAL(38,18))",
       "12345678901234567890.123456789012345678"},
      {"CAST('-0.00000000000000000000000000000000000001' AS DECIMAL(38,38))",
       "-0.00000000000000000000000000000000000001"},
      {"CAST(0.1 AS DOUBLE)", "0.1"},
      {"CAST(1 AS DOUBLE) / 3", "0.3333333333333333"},
      {"CAST(100000 AS DOUBLE)", "100000.0"},
      {"CAST('-0' AS DOUBLE)", "-0.0"},
      {"CAST(1e300 AS DOUBLE)", "1e+300"},
      {"CAST(5e-324 AS DOUBLE)", "5e-324"},
      {"CAST(0.1 AS FLOAT)", "0.1"},
      {"CAST(16777216 AS FLOAT)", "16777216.0"},
      {"CAST('nan' AS DOUBLE)", "null"},
      {"CAST('-inf' AS DOUBLE)", "null"},
      {"CAST('inf' AS FLOAT)", "null"},
      {"''", "\"\""},
      {"'a\"b\\c/d'", R"("a\"b\\c/d")"},
      {"'tab' || chr(9) || 'line' || chr(10) || chr(1) || chr(31)", R"("tab\tline\n\u0001\u001f")"},
      {"'Zürich 東京 🍰 and more'", "\"Zürich 東京 🍰 and more\""},
      {"'exactly 12 b'", "\"exactly 12 b\""},
      {"'exactly 13 by'", "\"exactly 13 by\""},
      {"'\\xAA\\x00\\x01'::BLOB", "\"qgAB\""},
      {"''::BLOB", "\"\""},
      {"DATE '2001-02-03'", "\"2001-02-03\""},
      {"DATE '0044-03-15 (BC)'", "\"-0043-03-15\""},
      {"DATE '12001-02-03'", "\"+12001-02-03\""},
      {"DATE 'infinity'", "\"infinity\""},
      {"TIME '00:05:00'", "\"00:05:00\""},
      {"TIME '23:59:59.000001'", "\"23:59:59.000001\""},
      {"TIMETZ '10:20:30+05:30'", "\"10:20:30+05:30\""},
      {"TIMETZ '10:20:30-08'", "\"10:20:30-08:00\""},
      {"TIMESTAMP '2001-01-01 00:05:00'", "\"2001-01-01T00:05:00\""},
      {"TIMESTAMP '2001-01-01 00:05:00.125'", "\"2001-01-01T00:05:00.125\""},
      {"TIMESTAMP '1969-12-31 23:59:59.999999'", "\"1969-12-31T23:59:59.999999\""},
      {"TIMESTAMP '-infinity'", "\"-infinity\""},
      {"TIMESTAMP_S '2001-01-01 00:05:00'", "\"2001-01-01T00:05:00\""},
      {"TIMESTAMP_MS '2001-01-01 00:05:00.5'", "\"2001-01-01T00:05:00.500\""},
      {"TIMESTAMP_NS '2001-01-01 00:05:00.123456789'", "\"2001-01-01T00:05:00.123456789\""},
      {"TIMESTAMPTZ '2001-01-01 00:05:00+01'", "\"2000-12-31T23:05:00Z\""},
      {"INTERVAL '1 year 2 months 3 days 4 hours 5 minutes 6.5 seconds'",
       "\"1 year 2 months 3 days 04:05:06.5\""},
      {"INTERVAL '-1 day'", "\"-1 day\""},
      {"INTERVAL '0 days'", "\"00:00:00\""},
      {"UUID '00112233-4455-6677-8899-aabbccddeeff'", "\"00112233-4455-6677-8899-aabbccddeeff\""},
      {"UUID 'ffffffff-ffff-ffff-ffff-ffffffffffff'", "\"ffffffff-ffff-ffff-ffff-ffffffffffff\""},
      {"'101100111'::BIT", "\"101100111\""},
      {"'10110011'::BIT", "\"10110011\""},
      {"CAST('b' AS ENUM ('a', 'b', 'c\"d'))", "\"b\""},
      {"CAST('c\"d' AS ENUM ('a', 'b', 'c\"d'))", R"("c\"d")"},
      {"CAST([] AS INTEGER[])", "[]"},
      {"[1, NULL, 3]", "[1,null,3]"},
      {"[[1], [], NULL, [2, 3]]", "[[1],[],null,[2,3]]"},
      {"CAST([1, 2, 3] AS INTEGER[3])", "[1,2,3]"},
      {"{'a': 1, 'b\"': NULL, 'c': {'d': 'x'}}", R"({"a":1,"b\"":null,"c":{"d":"x"}})"},
      {"[{'kind': 'gas', 'value': CAST(0.12 AS DECIMAL(38,18))}]",
       R"([{"kind":"gas","value":0.120000000000000000}])"},
      {"MAP {'a': 1, 'b': NULL}", R"({"a":1,"b":null})"},
      {"MAP {1: [true], 2: []}", R"({"1":[true],"2":[]})"},
      {"MAP {DATE '2001-01-01': 1}", R"({"2001-01-01":1})"},
      {"CAST(union_value(num := 7) AS UNION(num INTEGER, str VARCHAR))", "7"},
      {"CAST('seven' AS UNION(num INTEGER, str VARCHAR))", "\"seven\""},
  };
  for (const ValueCase& test : cases) {
    EXPECT_EQ(Value(test.expression), test.json) << test.expression;
  }
}

TEST_F(ResultJsonTest, WritesRowsOfSeveralChunks) {
  const auto rows = Write(
      "SELECT i AS n, CASE WHEN i % 3 = 0 THEN NULL ELSE 'value ' || i END AS t, [i, i + 1] AS l "
      "FROM range(5000) AS r(i)");
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ(rows->row_count, 5000);
  const nlohmann::json json = nlohmann::json::parse(rows->body);
  ASSERT_EQ(json.size(), 5000);
  for (int i = 0; i < 5000; ++i) {
    EXPECT_EQ(json[i]["n"], i);
    EXPECT_EQ(json[i]["l"][1], i + 1);
    if (i % 3 == 0) {
      EXPECT_TRUE(json[i]["t"].is_null());
    } else {
      EXPECT_EQ(json[i]["t"], absl::StrCat("value ", i));
    }
  }
}

TEST_F(ResultJsonTest, EscapesAtEveryPlaceOfAString) {
  for (int before = 0; before < 20; ++before) {
    for (int after = 0; after < 20; ++after) {
      const std::string text = std::string(before, 'a') + "\"" + std::string(after, 'b');
      const auto rows = Write(absl::StrCat("SELECT ", QuoteLiteral(text), " AS v"));
      ASSERT_TRUE(rows.ok());
      EXPECT_EQ(nlohmann::json::parse(rows->body)[0]["v"], text);
    }
  }
}

TEST_F(ResultJsonTest, AnEmptyResultIsAnEmptyArray) {
  const auto rows = Write("SELECT 1 AS v WHERE false");
  ASSERT_TRUE(rows.ok());
  EXPECT_EQ(rows->body, "[]");
  EXPECT_EQ(rows->row_count, 0);
}

TEST_F(ResultJsonTest, NamesAreEscapedAndUnique) {
  DuckResult result =
      connection_->Query("SELECT 1 AS \"a\"\"b\", 2 AS x, 3 AS x, 4 AS x_1").value();
  EXPECT_THAT(JsonColumnNames(result), ElementsAre("a\"b", "x", "x_1", "x_1_1"));
  EXPECT_EQ(WriteJsonRows(result, kRowsMax, kBytesMax)->body,
            R"([{"a\"b":1,"x":2,"x_1":3,"x_1_1":4}])");
}

TEST_F(ResultJsonTest, ExactNumbersAsText) {
  RowStyle style;
  style.exact_as_text = true;
  DuckResult result =
      connection_
          ->Query(
              "SELECT 9007199254740993::BIGINT AS b, 1::UBIGINT AS u, (-2)::HUGEINT AS h, "
              "3::UHUGEINT AS uh, 120.50::DECIMAL(38,2) AS d, NULL::BIGINT AS n, "
              "7::INTEGER AS i, 0.5::DOUBLE AS r, [1::BIGINT, NULL] AS l, "
              "{'x': 1.5::DECIMAL(3,1), 'y': 2::SMALLINT} AS s, MAP {4::BIGINT: 5::BIGINT} AS m")
          .value();
  EXPECT_EQ(WriteJsonRows(result, kRowsMax, kBytesMax, style)->body,
            R"([{"b":"9007199254740993","u":"1","h":"-2","uh":"3","d":"120.50","n":null,"i":7,)"
            R"("r":0.5,"l":["1",null],"s":{"x":"1.5","y":2},"m":{"4":"5"}}])");
}

TEST_F(ResultJsonTest, LinesOfJson) {
  RowStyle style;
  style.format = RowStyle::Format::kNdjson;
  const auto write = [&](const std::string& sql) {
    DuckResult result = connection_->Query(sql).value();
    return WriteJsonRows(result, kRowsMax, kBytesMax, style).value();
  };
  const JsonRows rows = write("SELECT i, E'a\nb' AS t FROM range(2) AS r(i)");
  EXPECT_EQ(rows.body, "{\"i\":0,\"t\":\"a\\nb\"}\n{\"i\":1,\"t\":\"a\\nb\"}\n");
  EXPECT_EQ(rows.row_count, 2);
  EXPECT_EQ(write("SELECT 1 AS v WHERE false").body, "");
}

class ResultCsvTest : public ResultJsonTest {
 protected:
  absl::StatusOr<JsonRows> WriteCsv(const std::string& sql, int64_t bytes_max = kBytesMax) {
    ICEPIE_ASSIGN_OR_RETURN(DuckResult result, connection_->Query(sql));
    RowStyle style;
    style.format = RowStyle::Format::kCsv;
    return WriteJsonRows(result, kRowsMax, bytes_max, style);
  }
  // The field of one expression, between two others.
  std::string Field(const std::string& expression) {
    const auto rows = WriteCsv(absl::StrCat("SELECT 1 AS a, ", expression, " AS b, 2 AS c"));
    if (!rows.ok()) return rows.status().ToString();
    const std::string begin = "a,b,c\r\n1,";
    const std::string end = ",2\r\n";
    EXPECT_THAT(rows->body,
                ::testing::AllOf(::testing::StartsWith(begin), ::testing::EndsWith(end)));
    return rows->body.substr(begin.size(), rows->body.size() - begin.size() - end.size());
  }
};

TEST_F(ResultCsvTest, FieldsAreQuotedWhereRfc4180SaysSo) {
  const ValueCase cases[] = {
      {"'plain text'", "plain text"},
      {"'a,b'", "\"a,b\""},
      {"'say \"hi\"'", "\"say \"\"hi\"\"\""},
      {"'\"'", "\"\"\"\""},
      {"E'one\ntwo'", "\"one\ntwo\""},
      {"E'one\rtwo'", "\"one\rtwo\""},
      {"'tab' || chr(9) || chr(7) || '\\'", "tab\t\a\\"},
      {"'zürich €'", "zürich €"},
      {"'null'", "null"},
      {"NULL", ""},
      {"CAST(NULL AS INTEGER)", ""},
      {"''", "\"\""},
      {"true", "true"},
      {"-17", "-17"},
      {"170141183460469231731687303715884105727::HUGEINT",
       "170141183460469231731687303715884105727"},
      {"120.50::DECIMAL(38,2)", "120.50"},
      {"0.1::DOUBLE", "0.1"},
      {"'nan'::DOUBLE", ""},
      {"DATE '2001-01-31'", "2001-01-31"},
      {"TIMESTAMPTZ '2001-01-31 00:05:00.125+00'", "2001-01-31T00:05:00.125Z"},
      {"'ab,c'::BLOB", "YWIsYw=="},
      {"'x\"y'::ENUM('x\"y')", "\"x\"\"y\""},
      {"['a,b', NULL]", "\"[\"\"a,b\"\",null]\""},
      {"[1]", "[1]"},
      {"{'k': 'v'}", "\"{\"\"k\"\":\"\"v\"\"}\""},
  };
  for (const ValueCase& each : cases) {
    EXPECT_EQ(Field(each.expression), each.json) << each.expression;
  }
}

TEST_F(ResultCsvTest, NamesAreFieldsToo) {
  EXPECT_EQ(WriteCsv("SELECT 1 AS \"a,\"\"b\", 2 AS x, 3 AS x WHERE false")->body,
            "\"a,\"\"b\",x,x_1\r\n");
}

// An empty line would be no row for many readers.
TEST_F(ResultCsvTest, OfOneColumnNothingIsQuoted) {
  const auto rows = WriteCsv("SELECT unnest(['x', NULL, '']) AS v");
  EXPECT_EQ(rows->body, "v\r\nx\r\n\"\"\r\n\"\"\r\n");
  EXPECT_EQ(rows->row_count, 3);
}

// DuckDB's own reader finds the same rows.
TEST_F(ResultCsvTest, AnotherReaderFindsTheSame) {
  const std::string sql =
      "SELECT i, CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN ',' WHEN 3 THEN '\"' WHEN "
      "4 "
      "THEN E'\r\n' WHEN 5 THEN '\"\",\"' ELSE 'x' || i END AS t, i * 0.25::DECIMAL(9,2) AS d FROM "
      "range(5000) AS r(i)";
  const TempDirectory directory;
  const std::string path = directory.path() + "/rows.csv";
  ASSERT_TRUE(WriteFileAtomically(path, WriteCsv(sql)->body).ok());
  const std::string back =
      absl::StrCat("FROM read_csv(", QuoteLiteral(path),
                   ", columns = {i: 'BIGINT', t: 'VARCHAR', d: 'DECIMAL(18,2)'}, header = true, "
                   "quote = '\"', escape = '\"', allow_quoted_nulls = false)");
  EXPECT_EQ(Write(back).value().body, Write(sql).value().body);
}

TEST_F(ResultCsvTest, RefusesTooManyBytes) {
  const auto size = static_cast<int64_t>(WriteCsv("SELECT 'abc' AS v")->body.size());
  EXPECT_TRUE(WriteCsv("SELECT 'abc' AS v", size).ok());
  for (const std::string sql :
       {"SELECT 'abcd' AS v", "SELECT repeat('\"', 100000) AS v", "SELECT range(100000) AS v",
        "SELECT 'abc' AS a_long_name", "SELECT i AS v FROM range(100000) AS r(i)"}) {
    EXPECT_EQ(ErrorReason(WriteCsv(sql, size).status()), "RESULT_TOO_LARGE") << sql;
  }
}

TEST_F(ResultJsonTest, RefusesTooManyRows) {
  EXPECT_TRUE(Write("SELECT * FROM range(5000)", 5000).ok());
  const absl::Status status = Write("SELECT * FROM range(5001)", 5000).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrorReason(status), "RESULT_TOO_LARGE");
  EXPECT_THAT(status.ToString(), HasSubstr("more than 5000 rows"));
  EXPECT_THAT(status.ToString(), HasSubstr("limits.max_result_rows"));
}

TEST_F(ResultJsonTest, RefusesTooManyBytes) {
  const std::string body = Write("SELECT 'abc' AS v").value().body;
  const auto size = static_cast<int64_t>(body.size());
  EXPECT_TRUE(Write("SELECT 'abc' AS v", kRowsMax, size).ok());
  for (const std::string sql :
       {"SELECT 'abcd' AS v", "SELECT repeat('a', 1000000) AS v", "SELECT range(100000) AS v",
        "SELECT MAP {repeat('a', 100000): 1} AS v", "SELECT repeat('a', 10000)::BLOB AS v",
        "SELECT i AS v FROM range(100000) AS r(i)"}) {
    const absl::Status status = Write(sql, kRowsMax, size).status();
    EXPECT_EQ(ErrorReason(status), "RESULT_TOO_LARGE") << sql;
    EXPECT_THAT(status.ToString(), HasSubstr("max_bytes")) << sql;
  }
}

TEST_F(ResultJsonTest, RealsReadBackTheSame) {
  const auto rows = Write(
      "SELECT hash(i)::DOUBLE / hash(i + 1)::DOUBLE * pow(10.0, i % 40 - 20) AS v, "
      "format('{:.17g}', v) AS t FROM range(2000) AS r(i)");
  ASSERT_TRUE(rows.ok()) << rows.status();
  for (const auto& row : nlohmann::json::parse(rows->body)) {
    EXPECT_EQ(row["v"].get<double>(), std::stod(row["t"].get<std::string>()));
  }
}

}  // namespace
}  // namespace icepie::slices
