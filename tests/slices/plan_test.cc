#include "slices/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "slices/duckdb.h"
#include "slices/sql_binding.h"

namespace icepie::slices {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kSources[] = R"yaml(domain: lab
sources:
  r:
    columns: {k: VARCHAR, j: INTEGER, i: INTEGER, b: BIGINT, n: "DECIMAL(18,4)", x: DOUBLE, s: VARCHAR,
              t: TIMESTAMP, z: TIMESTAMPTZ, d: DATE, f: BOOLEAN}
  other: {columns: {key: VARCHAR, v: JSON}}
  dim: {columns: {key: VARCHAR, v: INTEGER, unread: INTEGER}, latest_by: [key]}
slices:
  counts: {sql: "SELECT k, count(*) AS n FROM r GROUP BY k"}
)yaml";

absl::StatusOr<DomainPlan> PlanText(const std::string& yaml) {
  ICEPIE_ASSIGN_OR_RETURN(const DomainDef definition, ParseDomain(yaml, "lab.yaml"));
  return PlanDomain(definition);
}

std::string Indented(const std::string& sql) {
  return absl::StrCat("  it:\n    sql: |\n      ", sql, "\n");
}

absl::StatusOr<SlicePlan> PlanSql(const std::string& sql) {
  ICEPIE_ASSIGN_OR_RETURN(const DomainPlan plan, PlanText(kSources + Indented(sql)));
  return *plan.Find("it");
}

std::vector<std::string> DataLines(const std::string& name) {
  const char* root = std::getenv("ICEPIE_SOURCE");
  const std::string path = absl::StrCat(root == nullptr ? "." : root, "/tests/slices/data/", name);
  std::vector<std::string> lines;
  for (const absl::string_view line : absl::StrSplit(ReadFile(path).value(), '\n')) {
    if (!line.empty() && !absl::StartsWith(line, "--")) lines.emplace_back(line);
  }
  return lines;
}

std::string ReasonAndText(const absl::Status& status) {
  return absl::StrCat(ErrorReason(status), " ", status.message());
}

// Sums of DOUBLE depend on their order in the last digits; everything else is equal.
bool SameCell(const Cell& a, const Cell& b) {
  const double* x = std::get_if<double>(&a);
  const double* y = std::get_if<double>(&b);
  if (x == nullptr || y == nullptr) return a == b;
  return *x == *y || std::abs(*x - *y) <= 1e-12 * std::abs(*y);
}

std::string CellText(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  if (const auto* number = std::get_if<double>(&cell)) return absl::StrCat(*number);
  return "NULL";
}

// One generation, fed by batches as the engine feeds it, beside the same rows in one table.
class Generation {
 public:
  explicit Generation(const SlicePlan& plan) : plan_(plan) {
    database_ = DuckDatabase::OpenInMemory({{"threads", "1"}, {"errors_as_json", "true"}}).value();
    connection_ = DuckConnection::Connect(*database_).value();
    Run("SET TimeZone = 'UTC'; ATTACH ':memory:' AS g1; USE g1");
    const std::string columns =
        "(k VARCHAR, j INTEGER, i INTEGER, b BIGINT, n DECIMAL(18,4), x DOUBLE, s VARCHAR, t "
        "TIMESTAMP, z TIMESTAMPTZ, d DATE, f BOOLEAN, _position BIGINT, _offset BIGINT, _time "
        "TIMESTAMPTZ, _event_time TIMESTAMPTZ, _key VARCHAR, _payload VARCHAR)";
    Run("CREATE TEMP MACRO h(p, salt) AS hash(p * 64 + salt) >> 3");  // a number for each
    Run("CREATE TEMP TABLE r " + columns);
    Run("CREATE TEMP TABLE all_rows " + columns);
    for (const std::string& sql : plan.create) Run(sql);
  }

  // `count` rows that depend on their numbers only.
  void Apply(int first, int count) {
    Run("DELETE FROM r");
    Run(absl::StrCat(R"(INSERT INTO r
      SELECT CASE WHEN h(p, 1) % 11 = 0 THEN NULL WHEN h(p, 1) % 11 = 1 THEN 'void'
                  ELSE chr(97 + (h(p, 1) % 5)::INTEGER) END AS key,
             CASE WHEN h(p, 2) % 6 <> 0 THEN (h(p, 2) % 4)::INTEGER END,
             CASE WHEN key <> 'void' AND h(p, 3) % 5 <> 0 THEN (h(p, 3) % 401)::INTEGER - 200 END,
             CASE WHEN key <> 'void' AND h(p, 4) % 5 <> 0 THEN (h(p, 4) % 4000000000000)::BIGINT - 2000000000000 END,
             CASE WHEN key <> 'void' AND h(p, 5) % 5 <> 0 THEN ((h(p, 5) % 2000000000)::BIGINT / 10000 - 90000)::DECIMAL(18,4) END,
             CASE WHEN key <> 'void' AND h(p, 6) % 5 <> 0 THEN (h(p, 6) % 4001)::DOUBLE / 4 - 500 END,
             CASE WHEN key <> 'void' AND h(p, 7) % 5 <> 0 THEN 's' || (h(p, 7) % 97)::VARCHAR END,
             CASE WHEN key <> 'void' AND h(p, 8) % 5 <> 0 THEN TIMESTAMP '2001-01-01' + to_minutes((h(p, 8) % 9000)::BIGINT) END,
             CASE WHEN key <> 'void' AND h(p, 9) % 5 <> 0 THEN TIMESTAMPTZ '2001-01-01 00:00:00Z' + to_minutes((h(p, 9) % 9000)::BIGINT) END,
             CASE WHEN key <> 'void' AND h(p, 10) % 5 <> 0 THEN DATE '2001-01-01' + (h(p, 10) % 30)::INTEGER END,
             CASE WHEN key <> 'void' AND h(p, 11) % 5 <> 0 THEN h(p, 11) % 2 = 0 END,
             p, p, TIMESTAMPTZ '2026-01-01 00:00:00Z' + to_seconds(p), NULL, 'key' || p, '{"a":"' || p % 3 || '"}'
      FROM range()",
                     first, ", ", first + count, ") AS rows(p)"));
    Run("INSERT INTO all_rows SELECT * FROM r");
    for (const auto& [sql, only_if] : plan_.apply) {
      const auto wanted = only_if.empty() ? "SELECT 1" : only_if;
      const auto rows = connection_->QueryCells(wanted);
      ASSERT_TRUE(rows.ok()) << rows.status();
      if (!rows->empty()) Run(sql);
    }
  }

  // The first difference of the generation from one run of `sql` over all rows; "" when equal.
  std::string Differences(const std::string& sql) {
    Run("DELETE FROM r; INSERT INTO r SELECT * FROM all_rows");
    Run("CREATE OR REPLACE TEMP TABLE expected AS " + sql);
    const std::vector<CellRow> got = Rows("__result");
    const std::vector<CellRow> want = Rows("expected");
    if (got.size() != want.size()) {
      return absl::StrCat(got.size(), " rows instead of ", want.size());
    }
    for (size_t row = 0; row < got.size(); ++row) {
      for (size_t i = 0; i < got[row].size(); ++i) {
        if (SameCell(got[row][i], want[row][i])) continue;
        return absl::StrCat(CellText(got[row][i]), " instead of ", CellText(want[row][i]));
      }
    }
    return "";
  }

  std::vector<OutputColumn> Columns(const std::string& sql) {
    return BindSelect(*connection_, sql).value();
  }
  void Run(const std::string& sql) {
    const absl::Status status = connection_->Run(sql);
    EXPECT_TRUE(status.ok()) << status << "\n" << sql;
  }

 private:
  // All rows in an order of their own; DOUBLE as such, everything else as text.
  std::vector<CellRow> Rows(const std::string& relation) {
    std::vector<std::string> exact;
    std::vector<std::string> real;
    for (const OutputColumn& column : plan_.columns) {
      const std::string name = QuoteIdentifier(column.name);
      column.type == "DOUBLE" ? real.push_back(name) : exact.push_back(name + "::VARCHAR");
    }
    exact.insert(exact.end(), real.begin(), real.end());
    const std::string cells = absl::StrJoin(exact, ", ");
    return connection_
        ->QueryCells(absl::StrCat("SELECT ", cells, " FROM ", relation, " ORDER BY ", cells))
        .value();
  }

  const SlicePlan& plan_;
  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
};

class PlanTest : public ::testing::Test {};

TEST_F(PlanTest, FoldedBatchesEqualOneRunOverAllRows) {
  for (const std::string& sql : DataLines("aggregates.sql")) {
    SCOPED_TRACE(sql);
    const absl::StatusOr<SlicePlan> plan = PlanSql(sql);
    ASSERT_TRUE(plan.ok()) << plan.status();
    ASSERT_EQ(plan->strategy, Strategy::kAggregate) << plan->why;
    Generation generation(*plan);
    EXPECT_EQ(generation.Differences(sql), "") << "before any record";
    int first = 0;
    for (const int count : {1, 0, 2, 40, 7, 300, 0, 1500}) {
      generation.Apply(first, count);
      first += count;
      ASSERT_EQ(generation.Differences(sql), "") << "after " << first << " rows\n"
                                                 << plan->create[1] << "\n"
                                                 << plan->apply[0].sql;
    }
    EXPECT_TRUE(SameColumns(generation.Columns(sql), generation.Columns("SELECT * FROM __result")));
    EXPECT_TRUE(SameColumns(generation.Columns(sql), plan->columns));
  }
}

TEST_F(PlanTest, WhatCannotBeMergedIsRecomputedAndSaysWhy) {
  for (const std::string& line : DataLines("recomputed.sql")) {
    SCOPED_TRACE(line);
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(" | ", 1));
    const absl::StatusOr<SlicePlan> plan = PlanSql(parts[1]);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->strategy, Strategy::kRecompute);
    EXPECT_THAT(plan->why, HasSubstr(parts[0]));
    EXPECT_THAT(plan->apply,
                ElementsAre(Field(&ApplyStatement::sql, "DELETE FROM __data"),
                            Field(&ApplyStatement::sql, "INSERT INTO __data\n" + parts[1] + "\n")));
  }
}

TEST_F(PlanTest, RecomputeReplacesAllRows) {
  const std::string sql = "SELECT k, median(i) AS m FROM r GROUP BY k";
  const SlicePlan plan = PlanSql(sql).value();
  Generation generation(plan);
  generation.Apply(0, 100);
  generation.Apply(0, 100);
  EXPECT_EQ(
      generation.Differences("SELECT k, median(i) AS m FROM r WHERE _position < 100 GROUP BY k"),
      "");
}

TEST_F(PlanTest, RowsThatStandForThemselvesAreAppended) {
  for (const std::string sql :
       {"SELECT k, upper(s) AS u, i * 1e3 AS thousand FROM r WHERE i > 0", "SELECT * FROM r",
        "SELECT q.k, unnest([i, j]) AS v FROM r AS q", "SELECT k, INTERVAL 1 HOUR, 1.5 AS d FROM r",
        "SELECT NULL AS nothing, k FROM r WHERE f",
        "SELECT k, list_sum([i, j]) AS ij FROM r -- done",
        "SELECT k, {'a': i} AS st, [s] AS li FROM r;"}) {
    SCOPED_TRACE(sql);
    const absl::StatusOr<SlicePlan> plan = PlanSql(sql);
    ASSERT_TRUE(plan.ok()) << plan.status();
    ASSERT_EQ(plan->strategy, Strategy::kAppend) << plan->why;
    Generation generation(*plan);
    generation.Apply(0, 50);
    generation.Apply(50, 70);
    EXPECT_EQ(generation.Differences(sql), "");
    EXPECT_TRUE(SameColumns(generation.Columns("SELECT * FROM __result"), plan->columns));
  }
}

TEST_F(PlanTest, AveragesOfDecimalsThatNeed38Digits) {
  const std::string sql =
      "SELECT k, avg((n * 100000000000000)::DECIMAL(38,18)) AS a FROM r GROUP BY k";
  const SlicePlan plan = PlanSql(sql).value();
  ASSERT_EQ(plan.strategy, Strategy::kAggregate) << plan.why;
  Generation generation(plan);
  generation.Apply(0, 20);
  generation.Apply(20, 30);
  EXPECT_EQ(generation.Differences(sql), "");
}

std::vector<std::string> UsedColumns(const std::string& sql) {
  const absl::StatusOr<SlicePlan> plan = PlanSql(sql);
  EXPECT_TRUE(plan.ok()) << plan.status();
  std::vector<std::string> used;
  for (const SourceUse& use : plan->sources) {
    for (const std::string& column : use.columns) used.push_back(use.source + "." + column);
  }
  return used;
}

TEST_F(PlanTest, OnlyColumnsThatTheSqlNamesAreRead) {
  EXPECT_THAT(UsedColumns("SELECT count(*) AS n FROM r"), IsEmpty());
  EXPECT_THAT(UsedColumns("SELECT _position FROM r"), IsEmpty());
  EXPECT_THAT(UsedColumns("SELECT q.I FROM r AS q WHERE K = 'a'"), ElementsAre("r.k", "r.i"));
  EXPECT_THAT(UsedColumns("SELECT c.n FROM counts AS c, other AS o WHERE o.key = c.k"),
              ElementsAre("other.key"));
  EXPECT_THAT(UsedColumns("SELECT c.*, o.key FROM counts AS c, other AS o WHERE o.key = c.k"),
              ElementsAre("other.key"));
  EXPECT_THAT(UsedColumns("SELECT * FROM other"), ElementsAre("other.key", "other.v"));
  EXPECT_THAT(UsedColumns("SELECT o FROM other AS o"), ElementsAre("other.key", "other.v"));
  EXPECT_THAT(UsedColumns("SELECT COLUMNS('k.*') FROM other"), ElementsAre("other.key", "other.v"));
  EXPECT_THAT(UsedColumns("SELECT x.a FROM other AS x(a, b)"), ElementsAre("other.key", "other.v"));
  EXPECT_THAT(UsedColumns("SELECT count(*) AS n FROM other JOIN dim USING (key)"),
              ElementsAre("other.key", "dim.key"));
  EXPECT_THAT(UsedColumns("SELECT max(v) AS v FROM (SELECT * FROM other)"),
              ElementsAre("other.key", "other.v"));
  EXPECT_THAT(UsedColumns("SELECT (SELECT max(i) FROM r) AS m, dim.v FROM dim"),
              ElementsAre("r.i", "dim.key", "dim.v"));
}

TEST_F(PlanTest, UpstreamComesFirst) {
  const absl::StatusOr<DomainPlan> plan = PlanText(absl::StrCat(
      "domain: lab\nsources: {r: {columns: {k: VARCHAR}}}\nslices:\n",
      "  c: {sql: SELECT k FROM b JOIN lab.a USING (k)}\n  b: {sql: SELECT k FROM a}\n",
      "  a: {sql: SELECT k FROM r}\n"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::vector<std::string> order;
  for (const SlicePlan& slice : plan->slices) order.push_back(slice.slice);
  EXPECT_THAT(order, ElementsAre("a", "b", "c"));
  EXPECT_THAT(plan->Find("c")->upstream, ElementsAre("a", "b"));
  EXPECT_THAT(plan->Find("c")->apply[1].sql, HasSubstr("JOIN \"a\" USING"));
  EXPECT_EQ(plan->Find("nix"), nullptr);
}

TEST_F(PlanTest, CircleIsRefused) {
  const absl::Status status = PlanText(
                                  "domain: lab\nsources: {r: {columns: {k: VARCHAR}}}\nslices:\n"
                                  "  a: {sql: SELECT k FROM c}\n  b: {sql: SELECT k FROM a}\n  "
                                  "c: {sql: SELECT k FROM b}\n")
                                  .status();
  EXPECT_EQ(ErrorReason(status), "SLICE_CYCLE");
  EXPECT_THAT(status.message(), HasSubstr("a → c → b → a"));
  EXPECT_EQ(ErrorReason(PlanSql("SELECT * FROM it").status()), "SLICE_CYCLE");
}

struct BadSql {
  const char* sql;
  const char* text;  // reason, place and a part of the message
};

// The SQL stands in line 12, from column 7 on.
TEST_F(PlanTest, ErrorsNameLineAndColumnOfTheFile) {
  for (const BadSql& bad : std::vector<BadSql>{
           {"SELECT kk FROM r",
            "SQL_UNKNOWN_COLUMN lab.yaml:12:14: slice it: there is no column \"kk\" (did you "
            "mean \"k\"? have: k, j, i, b, n, x, s, t, z, d, f)"},
           {"SELECT q.kk FROM r AS q",
            "SQL_UNKNOWN_COLUMN lab.yaml:12:14: slice it: there is no column \"kk\""},
           {"SELECT k\n      FROM\n      rr",
            "DEFINITION_INVALID lab.yaml:14:7: slice it: there is no \"rr\" in domain lab (did "
            "you mean \"r\"?"},
           {"SELECT k FROM r WHERE", "SQL_SYNTAX lab.yaml:"},
           {"SELECT k\n      FRM r x y",
            "SQL_SYNTAX lab.yaml:13:11: slice it: syntax error at or near \"r\""},
           {"DELETE FROM r", "SQL_NOT_A_SELECT lab.yaml:12:7: slice it: not a SELECT"},
           {"SELECT sum(s) FROM r",
            "DEFINITION_INVALID lab.yaml:12:14: slice it: No function matches"},
           {"SELECT k, now() FROM r",
            "SQL_NOT_REPRODUCIBLE lab.yaml:12:17: slice it: now() reads the clock"},
           {"SELECT k FROM read_csv('x')",
            "SQL_FORBIDDEN lab.yaml:12:21: slice it: table function read_csv()"},
           {"SELECT k, i AS K FROM r",
            "DEFINITION_INVALID lab.yaml:12:7: slice it: two columns are named \"K\""}}) {
    SCOPED_TRACE(bad.sql);
    EXPECT_THAT(ReasonAndText(PlanSql(bad.sql).status()), HasSubstr(bad.text));
  }
}

TEST_F(PlanTest, ErrorCarriesFileLineColumnAndField) {
  const absl::Status status = PlanSql("SELECT kk FROM r").status();
  const ErrorDetail detail = GetErrorDetail(status).value();
  EXPECT_EQ(detail.metadata.at("file"), "lab.yaml");
  EXPECT_EQ(detail.metadata.at("line"), "12");
  EXPECT_EQ(detail.metadata.at("column"), "14");
  EXPECT_EQ(detail.metadata.at("field"), "slices.it.sql");
  ASSERT_EQ(detail.violations.size(), 1U);
  EXPECT_EQ(detail.violations[0].description, status.message());
}

TEST_F(PlanTest, AllBadSlicesAreNamedAtOnce) {
  const absl::Status status = PlanText(absl::StrCat(kSources, "  one: {sql: SELECT a FROM r}\n",
                                                    "  two: {sql: SELECT c FROM r}\n",
                                                    "  three: {sql: SELECT a FROM one}\n"))
                                  .status();
  const ErrorDetail detail = GetErrorDetail(status).value();
  ASSERT_EQ(detail.violations.size(), 2U);  // three only reads what is broken
  EXPECT_EQ(detail.violations[0].field, "slices.one.sql");
  EXPECT_EQ(detail.violations[1].field, "slices.two.sql");
}

TEST_F(PlanTest, KeyAndToleranceMustBeOutputColumns) {
  const std::string sql = "  it: {sql: SELECT k FROM r, ";
  EXPECT_THAT(
      ReasonAndText(PlanText(kSources + sql + "key: [kk]}\n").status()),
      HasSubstr("DEFINITION_INVALID lab.yaml:10:3: slice it: key: there is no output column "
                "\"kk\" (did you mean \"k\"? have: k)"));
  EXPECT_THAT(ReasonAndText(PlanText(kSources + sql + "diff: {tolerance: {v: 1e-9}}}\n").status()),
              HasSubstr("diff.tolerance: there is no output column \"v\""));
  EXPECT_TRUE(PlanText(kSources + sql + "key: [K]}\n").ok());
}

std::string HashOf(const std::string& yaml, const std::string& slice) {
  const absl::StatusOr<DomainPlan> plan = PlanText(yaml);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan->Find(slice)->definition_hash;
}

TEST_F(PlanTest, HashFollowsContentOnly) {
  const std::string base =
      "domain: lab\nsources: {r: {columns: {k: VARCHAR, i: INTEGER}}}\nslices:\n"
      "  a: {sql: \"SELECT k FROM r\"}\n  b: {sql: SELECT k FROM a}\n";
  const std::string a = HashOf(base, "a");
  EXPECT_EQ(a.size(), 16U);
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = base;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  EXPECT_EQ(HashOf("# comment\nowner: {team: x}\n" + base + "limits: {memory: 1GB}\n", "a"), a);
  EXPECT_EQ(
      HashOf(changed("\"SELECT k FROM r\"}", "'SELECT k FROM r', refresh: {every: 5s}}"), "a"), a);
  EXPECT_EQ(HashOf(changed("i: INTEGER", "i: BIGINT"), "a"), a) << "not read";
  EXPECT_NE(HashOf(changed("k: VARCHAR", "k: {type: VARCHAR, path: $.kk}"), "a"), a);
  EXPECT_NE(HashOf(changed("k: VARCHAR", "k: {type: VARCHAR, required: true}"), "a"), a);
  EXPECT_NE(HashOf(changed("{r: {", "{r: {stream: other, "), "a"), a);
  EXPECT_NE(HashOf(changed("{r: {", "{r: {where: {$.type: x}, "), "a"), a);
  EXPECT_NE(HashOf(changed("SELECT k FROM r", "SELECT k FROM r WHERE true"), "a"), a);
  EXPECT_NE(HashOf(changed("SELECT k FROM r", "SELECT k FROM r WHERE true"), "b"),
            HashOf(base, "b"));
}

TEST_F(PlanTest, NamesThatNeedQuotesWork) {
  const absl::StatusOr<DomainPlan> plan = PlanText(
      "domain: lab\nsources: {order: {columns: {select: INTEGER, from: VARCHAR}}}\nslices:\n"
      "  group: {sql: 'SELECT \"from\" AS \"the key\", sum(\"select\") AS \"a\"\"b\" FROM "
      "\"order\" GROUP BY 1'}\n"
      "  table: {sql: 'SELECT * FROM \"group\"'}\n");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->Find("group")->strategy, Strategy::kAggregate) << plan->Find("group")->why;
  EXPECT_EQ(plan->Find("table")->columns[1].name, "a\"b");
}

}  // namespace
}  // namespace icepie::slices
