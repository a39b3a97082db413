#include "slices/plan/sql_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/components.h"
#include "slices/plan/function_list.h"

namespace icepie::slices {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class SqlGateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    database_ = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
    connection_ = DuckConnection::Connect(*database_).value();
    ASSERT_TRUE(RegisterComponents(*connection_, int64_t{64} << 20).ok());
    options_.domain = "ops";
    options_.known = {"flights", "routes"};
    options_.resolve = [this](absl::string_view name) -> std::optional<RelationTarget> {
      if (name != "flights" && name != "routes") return std::nullopt;
      if (options_.reproducible) return RelationTarget{"", "", std::string(name)};
      return RelationTarget{"g7", "main", "__result"};
    };
  }

  std::string Sql(const std::string& sql) {
    const absl::StatusOr<GatedQuery> query = GateQuery(*connection_, sql, options_);
    return query.ok() ? query->sql : ErrorText(query.status());
  }
  static std::string ErrorText(const absl::Status& status) {
    return absl::StrCat(ErrorReason(status), " ", status.message());
  }

  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
  GateOptions options_;
};

// An interrupt, say, which comes while the changed text is parsed.
TEST_F(SqlGateTest, WhatKeepsItFromLookingIsNoFaultOfTheSql) {
  ASSERT_TRUE(connection_
                  ->Run("CREATE MACRO json_serialize_sql(text) AS CASE WHEN contains(text, 'g7') "
                        "THEN error('stopped') ELSE system.main.json_serialize_sql(text) END")
                  .ok());
  EXPECT_EQ(Sql("SELECT 1"), "SELECT 1");
  const absl::Status stopped = GateQuery(*connection_, "SELECT a FROM flights", options_).status();
  EXPECT_EQ(ErrorReason(stopped), "") << stopped;
  EXPECT_THAT(stopped.message(), HasSubstr("stopped"));
}

TEST_F(SqlGateTest, RelationsAreReplacedAndTheRestStaysAsWritten) {
  EXPECT_EQ(
      Sql("SELECT a,  1e3 * b -- c\nFROM flights WHERE x = ';'"),
      "SELECT a,  1e3 * b -- c\nFROM \"g7\".\"main\".\"__result\" AS \"flights\" WHERE x = ';'");
  EXPECT_EQ(Sql("select f.a from Flights f, ops.routes as r"),
            "select f.a from \"g7\".\"main\".\"__result\" f, \"g7\".\"main\".\"__result\" as r");
  EXPECT_EQ(Sql("FROM \"flights\" t SELECT INTERVAL 1 HOUR;  -- end"),
            "FROM \"g7\".\"main\".\"__result\" t SELECT INTERVAL 1 HOUR         ");
  EXPECT_EQ(Sql("FROM x: flights"), "FROM x: \"g7\".\"main\".\"__result\"");
  EXPECT_THAT(Sql("TABLE flights"), HasSubstr("SQL_FORBIDDEN the relations of this SQL"));
}

TEST_F(SqlGateTest, RelationsAreListedOnceAndSorted) {
  const absl::StatusOr<GatedQuery> query = GateQuery(
      *connection_, "SELECT * FROM routes JOIN flights ON true JOIN ROUTES r ON true", options_);
  ASSERT_TRUE(query.ok()) << query.status();
  EXPECT_THAT(query->relations, ElementsAre("flights", "routes"));
}

TEST_F(SqlGateTest, CteHidesAPublishedNameOnlyWhereItIsInSight) {
  const auto relations = [&](const std::string& sql) {
    const absl::StatusOr<GatedQuery> query = GateQuery(*connection_, sql, options_);
    EXPECT_TRUE(query.ok()) << query.status();
    return query.ok() ? query->relations : std::vector<std::string>{"refused"};
  };
  EXPECT_THAT(relations("WITH flights AS (SELECT 1) SELECT * FROM flights"), IsEmpty());
  EXPECT_THAT(relations("WITH flights AS (SELECT * FROM flights) SELECT * FROM flights"),
              ElementsAre("flights"));
  EXPECT_THAT(relations("SELECT * FROM (WITH routes AS (SELECT 1) SELECT * FROM routes), routes"),
              ElementsAre("routes"));
  EXPECT_THAT(
      relations("WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c WHERE n < 9) "
                "SELECT * FROM c"),
      IsEmpty());
  EXPECT_THAT(
      relations("WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT (SELECT count(*) FROM b)"),
      IsEmpty());
  EXPECT_THAT(Sql("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a"),
              HasSubstr("SLICE_NOT_FOUND"));
  EXPECT_THAT(
      Sql("WITH RECURSIVE sqlite_master AS (SELECT * FROM sqlite_master) TABLE sqlite_master"),
      HasSubstr("SLICE_NOT_FOUND"));
}

struct Refused {
  const char* sql;
  const char* error;
};

TEST_F(SqlGateTest, OnlyOneSelectPasses) {
  for (const Refused& refused :
       std::vector<Refused>{{"SELECT 1; SELECT 2", "SQL_NOT_A_SELECT 2 statements"},
                            {"SELECT ';DROP'; DELETE FROM flights", "DELETE is not allowed"},
                            {"WITH d AS (SELECT 1) DELETE FROM flights", "DELETE is not allowed"},
                            {"/* a */ ; -- SELECT\n drop TABLE flights", "DROP is not allowed"},
                            {"", "SQL_NOT_A_SELECT there is no statement"},
                            {"-- nothing", "SQL_NOT_A_SELECT there is no statement"},
                            {"PIVOT flights ON a USING sum(b)",
                             "SQL_NOT_A_SELECT PIVOT is not allowed without its values"},
                            {"SELECT * FROM (PIVOT flights ON a USING sum(b))",
                             "SQL_NOT_A_SELECT PIVOT is not allowed without its values"}}) {
    EXPECT_THAT(Sql(refused.sql), HasSubstr(refused.error)) << refused.sql;
  }
}

// The first word is what the refusal names.
TEST_F(SqlGateTest, OtherStatementsAreNamedAndNotRun) {
  const std::string directory = testing::TempDir() + "/sql_gate_other";
  std::filesystem::remove_all(directory);
  const auto state = [&] {
    const auto rows = connection_->QueryText(
        "SELECT CAST({'settings': (SELECT list((name, value) ORDER BY name) FROM "
        "duckdb_settings()), 'databases': (SELECT list(database_name ORDER BY database_name) FROM "
        "duckdb_databases()), 'tables': (SELECT list(table_name ORDER BY table_name) FROM "
        "duckdb_tables()), 'views': (SELECT count(*) FROM duckdb_views()), 'functions': (SELECT "
        "count(*) FROM duckdb_functions()), 'schema': current_schema()} AS VARCHAR)");
    return rows.ok() ? *rows : rows.status().ToString();
  };
  const std::string before = state();
  EXPECT_THAT(before, HasSubstr("memory_limit"));
  for (const std::string sql : {"ATTACH ':memory:' AS m",
                                "DETACH memory",
                                "USE temp",
                                "SET threads = 3",
                                "RESET threads",
                                "PRAGMA threads=3",
                                "PRAGMA database_list",
                                "INSTALL json",
                                "LOAD json",
                                "COPY (SELECT 1) TO '$DIR/x.csv'",
                                "COPY flights FROM '$DIR/x.csv'",
                                "EXPORT DATABASE '$DIR'",
                                "IMPORT DATABASE '$DIR'",
                                "CHECKPOINT",
                                "FORCE CHECKPOINT",
                                "VACUUM",
                                "ANALYZE",
                                "CREATE TABLE x AS SELECT 1",
                                "CREATE OR REPLACE VIEW x AS SELECT 1",
                                "CREATE MACRO x() AS 1",
                                "CREATE SCHEMA x",
                                "CREATE TYPE x AS INTEGER",
                                "CREATE SEQUENCE x",
                                "CREATE INDEX x ON flights(a)",
                                "CREATE SECRET x (TYPE s3)",
                                "ALTER TABLE flights ADD COLUMN x INTEGER",
                                "DROP TABLE flights",
                                "TRUNCATE flights",
                                "INSERT INTO flights VALUES (1)",
                                "UPDATE flights SET a = 1",
                                "DELETE FROM flights",
                                "MERGE INTO flights USING routes ON true WHEN MATCHED THEN DELETE",
                                "COMMENT ON TABLE flights IS 'x'",
                                "CALL checkpoint()",
                                "EXPLAIN ANALYZE SELECT 1",
                                "BEGIN",
                                "COMMIT",
                                "ROLLBACK",
                                "PREPARE x AS SELECT 1",
                                "EXECUTE x",
                                "DEALLOCATE x"}) {
    const std::string word = sql.substr(0, sql.find(' '));
    EXPECT_THAT(Sql(absl::StrReplaceAll(sql, {{"$DIR", directory}})),
                HasSubstr(absl::StrCat("SQL_NOT_A_SELECT ", word,
                                       " is not allowed: only one SELECT is allowed here")))
        << sql;
  }
  EXPECT_EQ(state(), before);
  EXPECT_FALSE(std::filesystem::exists(directory));
}

TEST_F(SqlGateTest, SyntaxErrorsHaveLineAndColumn) {
  const absl::StatusOr<GatedQuery> query =
      GateQuery(*connection_, "SELECT a\nFROM flights\n  WHRE a = 1", options_);
  EXPECT_THAT(ErrorText(query.status()),
              HasSubstr("SQL_SYNTAX line 3 column 8: syntax error at or near \"a\""));
  const ErrorDetail detail = GetErrorDetail(query.status()).value();
  EXPECT_EQ(detail.metadata.at("line"), "3");
  EXPECT_EQ(detail.metadata.at("column"), "8");
}

TEST_F(SqlGateTest, ForbiddenThingsAreNamedWithTheirPlace) {
  for (const Refused& refused : std::vector<Refused>{
           {"SELECT *\nFROM read_csv('/etc/passwd')",
            "SQL_FORBIDDEN line 2 column 6: table function read_csv() is not allowed: reads files"},
           {"SELECT * FROM '/etc/passwd'",
            "SQL_FORBIDDEN line 1 column 15: \"/etc/passwd\" is not a published"},
           {"SELECT * FROM \"data.parquet\"", "SQL_FORBIDDEN line 1 column 15"},
           {"FROM 'https://example.com/a.csv'",
            "SQL_FORBIDDEN line 1 column 6: \"https://example.com/a.csv\" is not a published"},
           {"FROM 's3://bucket/a.parquet'",
            "SQL_FORBIDDEN line 1 column 6: \"s3://bucket/a.parquet\" is not a published"},
           {"SELECT * FROM duckdb_settings()", "SQL_FORBIDDEN"},
           {"SELECT * FROM query('DROP TABLE x')", "SQL_FORBIDDEN"},
           {"SELECT * FROM pragma_database_size()", "SQL_FORBIDDEN"},
           {"SELECT * FROM range((SELECT count(*) FROM glob('*')))", "SQL_FORBIDDEN"},
           {"SELECT * FROM g7.main.__state",
            "SQL_FORBIDDEN line 1 column 15: relation g7.main.__state is not in domain ops"},
           {"SELECT * FROM other.flights", "SQL_FORBIDDEN"},
           {"SELECT * FROM main.flights", "SQL_FORBIDDEN"},
           {"SELECT * FROM information_schema.tables", "SQL_FORBIDDEN"},
           {"SELECT a, getvariable('x') FROM flights",
            "SQL_FORBIDDEN line 1 column 11: function getvariable() is not allowed: system state"},
           {"SELECT nextval('s')", "function nextval() is not allowed: sequences"},
           {"SELECT generate_subscripts([1], 1)",
            "function generate_subscripts() is not allowed: of a list l write "
            "unnest(generate_series(1, len(l)))"},
           {"SELECT sleep_ms(1000)", "function sleep_ms() is not allowed: side effects"},
           {"SELECT current_setting('threads')", "SQL_FORBIDDEN"},
           {"SELECT a FROM flights WHERE EXISTS (SELECT txid_current())", "SQL_FORBIDDEN"},
           {"SELECT sum(a) FILTER (WHERE pg_typeof(a) = 'x') FROM flights", "SQL_FORBIDDEN"},
           {"SELECT a FROM flights ORDER BY write_log('x')", "SQL_FORBIDDEN"},
           {"SELECT a FROM flights LIMIT (SELECT setseed(1))", "SQL_FORBIDDEN"},
           {"SELECT list_transform([1], lambda v: currval('s'))", "SQL_FORBIDDEN"},
           {"SELECT main.current_setting('threads')", "SQL_FORBIDDEN"},
           {"SELECT system.main.abs(1)", "SQL_FORBIDDEN"},
           {"SELECT city.starts_with('Be') FROM flights",
            "function starts_with() is not allowed: before the dot stands a schema; of a column "
            "write starts_with(city, …)"},
           {"SELECT * REPLACE (getvariable('x') AS a) FROM flights",
            "SQL_FORBIDDEN line 1 column 19: function getvariable() is not allowed"},
           {"SELECT flights.* REPLACE ((SELECT content FROM read_text('/etc/passwd')) AS a) "
            "FROM flights",
            "SQL_FORBIDDEN line 1 column 48: table function read_text() is not allowed"},
           {"SELECT * REPLACE ((SELECT max(_payload) FROM icepie_records(1)) AS a) FROM flights",
            "SQL_FORBIDDEN"},
           {"SELECT * REPLACE ((SELECT components(a, b ORDER BY a) FROM flights) AS a) FROM "
            "flights",
            "SQL_FORBIDDEN line 1 column 27: components() is the same in every order"},
           {"SELECT * REPLACE ((SELECT max(a) FROM g7.main.__quarantine) AS a) FROM flights",
            "SQL_FORBIDDEN"},
           {"SELECT COLUMNS(* REPLACE (currval('s') AS a)) FROM flights", "SQL_FORBIDDEN"},
           {"SELECT list_aggregate([1], 'components')", "SQL_FORBIDDEN"},
           {"SELECT list_aggr([1], 'txid_current')",
            "SQL_FORBIDDEN line 1 column 8: list_aggr() may not call txid_current()"},
           {"SELECT list_aggregate([1], a) FROM flights",
            "list_aggregate() must be given its aggregate's name as a text"},
           {"SELECT summ(a) FROM flights",
            "SQL_FORBIDDEN line 1 column 8: unknown function summ(), did you mean sum()?"},
           {"DESCRIBE flights", "SQL_FORBIDDEN DESCRIBE, SHOW and SUMMARIZE"},
           {"SHOW TABLES", "SQL_FORBIDDEN"},
           {"SUMMARIZE flights", "SQL_FORBIDDEN"},
           {"SELECT * FROM (DESCRIBE flights)", "SQL_FORBIDDEN"},
           {"SELECT * FROM flights AT (VERSION => 1)", "SQL_FORBIDDEN"},
           {"SELECT a FROM fligths",
            "SLICE_NOT_FOUND line 1 column 15: there is no \"fligths\" in domain ops (did you mean "
            "\"flights\"? have: flights, routes)"},
           {"SELECT * FROM __progress", "SLICE_NOT_FOUND"}}) {
    EXPECT_THAT(Sql(refused.sql), HasSubstr(refused.error)) << refused.sql;
  }
}

std::string Repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

TEST_F(SqlGateTest, TooComplexSqlIsRefusedBeforeItIsBound) {
  EXPECT_THAT(Sql("SELECT 1" + Repeated("+1", 150)), HasSubstr("SQL_TOO_COMPLEX"));
  EXPECT_THAT(Sql("SELECT 1" + Repeated("+1", 20000)), HasSubstr("SQL_"));
  EXPECT_THAT(Sql("SELECT " + Repeated("(", 20000) + "1" + Repeated(")", 20000)),
              HasSubstr("SQL_"));
  EXPECT_THAT(Sql("SELECT 1" + Repeated(" UNION ALL SELECT 1", 3000)), HasSubstr("SQL_"));
  EXPECT_THAT(Sql("SELECT " + Repeated("a, ", 5000) + "b FROM flights"),
              HasSubstr("SQL_TOO_COMPLEX"));
  EXPECT_THAT(Sql("SELECT 1 FROM flights f0" + Repeated(", flights", 70)),
              HasSubstr("SQL_TOO_COMPLEX more than 64 joins"));
  EXPECT_THAT(Sql("SELECT '" + std::string(65536, 'x') + "'"),
              HasSubstr("SQL_TOO_COMPLEX the SQL has 65545 bytes, the limit is 65536"));
  std::string bomb = "WITH c0 AS (SELECT 1 AS a)";
  for (int i = 1; i < 20; ++i) {
    absl::StrAppend(&bomb, ", c", i, " AS (SELECT * FROM c", i - 1, " UNION ALL SELECT * FROM c",
                    i - 1, ")");
  }
  EXPECT_THAT(Sql(bomb + " SELECT * FROM c19"), HasSubstr("SQL_TOO_COMPLEX"));
  EXPECT_THAT(Sql("SELECT 1" + Repeated("+1", 60)), HasSubstr("SELECT 1+1"));
  EXPECT_THAT(Sql("SELECT 1 FROM flights f0" + Repeated(", flights", 60)), HasSubstr("__result"));
}

TEST_F(SqlGateTest, DefinitionsMustBeReproducible) {
  options_.reproducible = true;
  for (const Refused& refused : std::vector<Refused>{
           {"SELECT now() FROM flights",
            "SQL_NOT_REPRODUCIBLE line 1 column 8: now() reads the clock"},
           {"SELECT current_timestamp FROM flights", "current_timestamp reads the clock"},
           {"SELECT current_date FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT today() FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT age(t) FROM flights", "age() reads the clock"},
           {"SELECT ago(INTERVAL 1 HOUR)", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT current_localtimestamp()", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT random() FROM flights", "random() differs from call to call"},
           {"SELECT gen_random_uuid() FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT current_schema FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT list(a) FROM flights",
            "list() depends on the order of rows: write list(… ORDER BY _position)"},
           {"SELECT first(a) FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT any_value(a) FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT string_agg(a, ',') FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT array_agg(DISTINCT a) FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT list_sort([list(a)]) FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT row_number() OVER (PARTITION BY a) FROM flights", "give OVER (… ORDER BY …)"},
           {"SELECT first(a) OVER (PARTITION BY b) FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT approx_quantile(a, 0.5) FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT * REPLACE (random() AS a) FROM flights",
            "SQL_NOT_REPRODUCIBLE line 1 column 19: random() differs from call to call"},
           {"SELECT list_aggregate([a], 'reservoir_quantile', 0.5) FROM flights",
            "SQL_NOT_REPRODUCIBLE line 1 column 8: reservoir_quantile()"},
           {"SELECT a FROM flights TABLESAMPLE 10%",
            "SQL_NOT_REPRODUCIBLE line 1 column 15: TABLESAMPLE"},
           {"SELECT a FROM flights USING SAMPLE 10", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT a FROM flights LIMIT 5", "LIMIT and DISTINCT ON without ORDER BY"},
           {"SELECT DISTINCT ON (a) a, b FROM flights", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT (SELECT a FROM flights LIMIT 1)", "SQL_NOT_REPRODUCIBLE"},
           {"SELECT * FROM flights POSITIONAL JOIN (VALUES (1)) AS v(x)",
            "SQL_NOT_REPRODUCIBLE line 1 column 23: POSITIONAL JOIN pairs rows by places"},
           {"SELECT a FROM flights WHERE a = $x",
            "SQL_FORBIDDEN a definition cannot have parameters"},
           {"SELECT a, #2 FROM flights",
            "SQL_FORBIDDEN line 1 column 11: #n, a column by its place, is not allowed"},
           {"SELECT a FROM flights WHERE #1 > 2", "SQL_FORBIDDEN line 1 column 29: #n"},
           {"SELECT count(*) FROM flights GROUP BY (#1)", "SQL_FORBIDDEN line 1 column 40: #n"}}) {
    EXPECT_THAT(Sql(refused.sql), HasSubstr(refused.error)) << refused.sql;
    options_.reproducible = false;
    if (absl::string_view(refused.error).substr(0, 13) != "SQL_FORBIDDEN") {
      EXPECT_THAT(Sql(refused.sql), HasSubstr("SELECT")) << "queries may: " << refused.sql;
    }
    options_.reproducible = true;
  }
}

TEST_F(SqlGateTest, ReproducibleSqlPassesAsWritten) {
  options_.reproducible = true;
  for (
      const std::string sql :
      {"SELECT list(a ORDER BY _position) FROM flights",
       "SELECT list(DISTINCT a ORDER BY a) FROM flights",
       "SELECT array_agg(DISTINCT a ORDER BY a DESC) FROM flights",
       "SELECT age(t, u), arg_max(a, b) FROM flights",
       "SELECT row_number() OVER (ORDER BY a) FROM flights ORDER BY a LIMIT 5",
       "SELECT flights.current_date, \"user\" FROM flights", "SELECT DISTINCT a FROM flights",
       "SELECT DISTINCT ON (a) a, b FROM flights ORDER BY b",
       "SELECT EXTRACT(hour FROM t) FROM flights",
       "SELECT a LIKE 'x%', a || b, -a, a ** 2, a[1], a.b, {'x': 1}, MAP {'k': 1} FROM flights",
       "SELECT unnest([1]), coalesce(a, b), nullif(a, b), a::DATE, TRY_CAST(a AS INT) FROM flights",
       "SELECT * FROM flights, unnest([1, 2]) AS u(x), range(3) AS r, generate_series(1, 2)",
       "SELECT trim(a), position('x' IN a), substring(a FROM 2), a AT TIME ZONE 'UTC' FROM flights",
       "FROM (PIVOT flights ON a IN (1, 2) USING sum(b))", "SELECT COLUMNS('a.*') FROM flights"}) {
    EXPECT_EQ(Sql(sql), sql);
  }
}

// ORDER BY inside of a C API aggregate crashes DuckDB, in queries as in definitions.
TEST_F(SqlGateTest, ComponentsHasNoOrderAndNoWindow) {
  const std::string plain = "SELECT unnest(components(a, b)) FROM routes";
  for (const bool reproducible : {false, true}) {
    options_.reproducible = reproducible;
    EXPECT_THAT(
        Sql("SELECT components(a, b ORDER BY a) FROM routes"),
        HasSubstr("SQL_FORBIDDEN line 1 column 8: components() is the same in every order"));
    EXPECT_THAT(Sql("SELECT Components(DISTINCT a, b ORDER BY b DESC) FROM routes"),
                HasSubstr("SQL_FORBIDDEN"));
    EXPECT_THAT(Sql("SELECT components(a, b) OVER () FROM routes"),
                HasSubstr("SQL_FORBIDDEN line 1 column 8: components() is an aggregate"));
    EXPECT_THAT(Sql(plain), HasSubstr("SELECT unnest(components(a, b)) FROM"));
  }
}

// They end the process on JSON that is nested 100,000 deep, which any record may be.
TEST_F(SqlGateTest, WhatOverflowsTheStackOnDeepJsonIsRefused) {
  for (const char* call : {"json_contains(a, '1')", "json_merge_patch('{}', a)",
                           "JSON_STRUCTURE(a)", "json_group_structure(a)"}) {
    EXPECT_THAT(Sql(absl::StrCat("SELECT ", call, " FROM flights")),
                HasSubstr("is not allowed: overflows the stack on deeply nested JSON"));
  }
  for (const char* cast : {"CAST(a AS VARIANT)", "TRY_CAST(a AS STRUCT(v VARIANT)[])",
                           "a::MAP(VARCHAR, VARIANT)", "[a]::VARIANT[]"}) {
    EXPECT_THAT(Sql(absl::StrCat("SELECT 1, ", cast, " FROM flights")),
                HasSubstr("SQL_FORBIDDEN line 1 column 1"));
  }
}

// What is left takes such JSON: in the worst case this test's process ends.
TEST_F(SqlGateTest, TheOtherFunctionsTakeDeepJson) {
  for (const char* deep : {"repeat('[', 100000) || repeat(']', 100000)",
                           "repeat('{\"a\":', 100000) || '1' || repeat('}', 100000)"}) {
    for (const char* call :
         {"json_array_length(j)", "json_exists(j, '$.a')", "json_extract(j, '$[0]')",
          "json_extract_string(j, '$.a')", "json_keys(j)", "json_object('a', j::JSON)",
          "json_quote(j)", "json_transform(j, '{\"a\":\"VARCHAR\"}')", "json_type(j)",
          "json_valid(j)", "json_value(j, '$.a')", "to_json(j::JSON)", "j::JSON = '1'::JSON",
          "TRY_CAST(j::JSON AS STRUCT(a JSON))", "TRY_CAST(j::JSON AS INTEGER[])",
          "json_group_array(j::JSON)", "json_group_object('a', j::JSON)"}) {
      const std::string sql = absl::StrCat("SELECT ", call, " FROM flights");
      ASSERT_THAT(Sql(sql), Not(HasSubstr("SQL_FORBIDDEN"))) << sql;
      const absl::Status run =
          connection_->Run(absl::StrCat("SELECT ", call, " FROM (SELECT ", deep, " AS j)"));
      EXPECT_NE(run.code(), absl::StatusCode::kInternal) << call << ": " << run;
    }
  }
}

TEST_F(SqlGateTest, QueriesMayHaveParameters) {
  EXPECT_THAT(Sql("SELECT a FROM flights WHERE a = $x AND b = $y"), HasSubstr("= $x AND b = $y"));
  EXPECT_THAT(Sql("SELECT a FROM flights WHERE a = ?"), HasSubstr("a = ?"));
}

TEST_F(SqlGateTest, ListsCoverAllFunctionsOfTheLinkedDuckDb) {
  const std::vector<CellRow> rows =
      connection_
          ->QueryCells(
              "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type <> "
              "'pragma'")
          .value();
  std::set<std::string> linked;
  for (const CellRow& row : rows) linked.insert(std::get<std::string>(row[0]));
  for (const std::string& name : linked) {
    const bool listed = FindFunction(name) != nullptr || FindTableFunction(name) != nullptr ||
                        !WhyLeftOut(name).empty();
    EXPECT_TRUE(listed) << name << " is in neither list of slices/plan/allowed_functions.inc";
  }
  for (const std::string& name : AllowedFunctionNames()) {
    EXPECT_TRUE(linked.count(name) > 0) << name << " is allowed but not there";
  }
}

bool IsReproducible(FunctionUse use) {
  return use != FunctionUse::kClock && use != FunctionUse::kVolatile;
}

TEST_F(SqlGateTest, AllowedFunctionsAreWhatTheLinkedDuckDbSays) {
  const std::vector<CellRow> rows =
      connection_
          ->QueryCells(
              "SELECT DISTINCT function_name, function_type, coalesce(stability, ''), "
              "coalesce(alias_of, '') FROM duckdb_functions() WHERE function_type IN ('scalar', "
              "'aggregate')")
          .value();
  for (const CellRow& row : rows) {
    const auto& name = std::get<std::string>(row[0]);
    const AllowedFunction* function = FindFunction(name);
    if (function == nullptr) continue;
    const bool scalar =
        function->kind == FunctionKind::kScalar || function->kind == FunctionKind::kUnnest;
    EXPECT_EQ(scalar, std::get<std::string>(row[1]) == "scalar") << name;
    // Those of the time are CONSISTENT_WITHIN_QUERY.
    const bool consistent = std::get<std::string>(row[2]) == "CONSISTENT";
    if (!consistent) EXPECT_FALSE(IsReproducible(function->use)) << name;
    const AllowedFunction* original = FindFunction(std::get<std::string>(row[3]));
    if (original != nullptr) EXPECT_EQ(function->use, original->use) << name;
  }
}

}  // namespace
}  // namespace icepie::slices
