#include "slices/plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie::slices {
namespace {

using ::testing::ElementsAre;
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

std::string ReasonAndText(const absl::Status& status) {
  return absl::StrCat(ErrorReason(status), " ", status.message());
}

class PlanTest : public ::testing::Test {};

std::vector<std::string> UsedColumns(const std::string& sql) {
  const absl::StatusOr<SlicePlan> plan = PlanSql(sql);
  EXPECT_TRUE(plan.ok()) << plan.status();
  std::vector<std::string> used;
  for (const SourceUse& use : plan->sources) {
    for (const std::string& column : use.columns) used.push_back(use.source + "." + column);
  }
  return used;
}

TEST_F(PlanTest, AColumnThatIsAWordOfSqlIsToBeQuoted) {
  const std::string file =
      "domain: lab\nsources: {r: {columns: {at: TIMESTAMP, k: VARCHAR}}}\nslices:\n";
  for (const char* sql : {"SELECT max(at) AS m FROM r", "SELECT k, at, k AS l FROM r"}) {
    EXPECT_THAT(std::string(PlanText(file + Indented(sql)).status().message()),
                HasSubstr("at is a word of SQL: as a column write \"at\""))
        << sql;
  }
  EXPECT_TRUE(PlanText(file + Indented("SELECT max(\"at\") AS m FROM r")).ok());
  EXPECT_THAT(std::string(PlanText(file + Indented("SELECT k k k FROM r")).status().message()),
              ::testing::Not(HasSubstr("word of SQL")));
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
  EXPECT_THAT(UsedColumns("SELECT COLUMNS('k.*') FROM other"), ElementsAre("other.key"));
  EXPECT_THAT(UsedColumns("SELECT COLUMNS(v -> v LIKE 'k%') FROM other"), ElementsAre("other.key"));
  EXPECT_THAT(UsedColumns("SELECT COLUMNS(['i', 'j']) FROM r WHERE f"),
              ElementsAre("r.j", "r.i", "r.f"));
  EXPECT_THAT(UsedColumns("SELECT k, sum(COLUMNS(c -> c IN ('i', 'b'))) FROM r GROUP BY k"),
              ElementsAre("r.k", "r.i", "r.b"));
  EXPECT_THAT(UsedColumns("SELECT q.* EXCLUDE (key), COLUMNS('k.*') FROM other AS q"),
              ElementsAre("other.key", "other.v"));
  EXPECT_THAT(
      UsedColumns("SELECT COLUMNS(c -> c IN ('i', 'key')) FROM r JOIN dim ON r.k = dim.key"),
      ElementsAre("r.k", "r.i", "dim.key"));
  EXPECT_THAT(UsedColumns("FROM (PIVOT (SELECT k, i FROM r) ON k IN ('a') USING sum(i))"),
              ElementsAre("r.k", "r.i"));
  EXPECT_THAT(UsedColumns("FROM (PIVOT r ON k IN ('a') USING sum(i) GROUP BY j)"),
              ElementsAre("r.k", "r.j", "r.i"));
  EXPECT_THAT(UsedColumns("FROM (PIVOT other ON key IN ('a') USING count(*))"),
              ElementsAre("other.key", "other.v"));
  EXPECT_THAT(UsedColumns("SELECT i FROM r, (SELECT o.key FROM other NATURAL JOIN other AS o)"),
              ElementsAre("r.i", "other.key", "other.v"));
  EXPECT_THAT(UsedColumns("SELECT x.a FROM other AS x(a, b)"), ElementsAre("other.key", "other.v"));
  EXPECT_THAT(UsedColumns("SELECT count(*) AS n FROM other JOIN dim USING (key)"),
              ElementsAre("other.key", "dim.key"));
  EXPECT_THAT(UsedColumns("SELECT max(v) AS v FROM (SELECT * FROM other)"),
              ElementsAre("other.key", "other.v"));
  EXPECT_THAT(UsedColumns("SELECT (SELECT max(i) FROM r) AS m, dim.v FROM dim"),
              ElementsAre("r.i", "dim.key", "dim.v"));
}

// Whether each batch evaluates the rows that it touches, for errors above the aggregates.
bool IsChecked(const std::string& sql) {
  const absl::StatusOr<SlicePlan> plan = PlanSql(sql);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return std::any_of(plan->apply.begin(), plan->apply.end(), [](const ApplyStatement& statement) {
    return absl::StrContains(statement.sql, "max(hash(");
  });
}

TEST_F(PlanTest, WhatMayFailAboveAggregatesIsEvaluatedWithEachBatch) {
  EXPECT_TRUE(IsChecked("SELECT k, [sum(n), count(*)] AS v FROM r GROUP BY k"));
  EXPECT_FALSE(IsChecked("SELECT k, [count(*), count(i)] AS v FROM r GROUP BY k"));
  EXPECT_TRUE(IsChecked("SELECT k, count(*) + 9223372036854775807 AS v FROM r GROUP BY k"));
  EXPECT_FALSE(IsChecked("SELECT k, count(*) + 2147483647 AS v FROM r GROUP BY k"));
  EXPECT_FALSE(IsChecked("SELECT k, sum(n) AS total FROM counts GROUP BY k"));
}

// Whatever keeps it fresh: DuckDB may compute it, and fail, or not.
TEST_F(PlanTest, WhatIsOnlyCountedIsNotComputed) {
  const auto computes = [](const std::string& sql) {
    const absl::StatusOr<SlicePlan> plan = PlanSql(sql);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return std::any_of(plan->apply.begin(), plan->apply.end(), [](const ApplyStatement& statement) {
      return absl::StrContains(statement.sql, "77");
    });
  };
  EXPECT_FALSE(computes("SELECT k, count(i + 77) AS c FROM r GROUP BY k"));
  EXPECT_FALSE(computes("SELECT k, count(i + 77) AS c, median(i) AS m FROM r GROUP BY k"));
  EXPECT_FALSE(computes("SELECT k, count(i + 77) AS c FROM r GROUP BY k ORDER BY c LIMIT 3"));
  EXPECT_TRUE(computes("SELECT k, sum(i + 77) AS c FROM r GROUP BY k"));
  EXPECT_TRUE(computes("SELECT k, count([i] + [77]) AS c FROM r GROUP BY k")) << "no numbers";
  EXPECT_TRUE(computes("SELECT k, count(i + 1), count(d + 77) AS c FROM r GROUP BY k")) << "dates";
  EXPECT_TRUE(computes("SELECT k, count(i // 77) AS c FROM r GROUP BY k")) << "of 0, it is NULL";
  const absl::StatusOr<SlicePlan> unnamed = PlanSql("SELECT k, count(i + 77) FROM r GROUP BY k");
  ASSERT_TRUE(unnamed.ok()) << unnamed.status();
  EXPECT_EQ(unnamed->columns[1].name, "count((i + 77))");
  EXPECT_EQ(unnamed->strategy, Strategy::kAggregate);
}

TEST_F(PlanTest, OnlyStatesWithALastOfEqualsAreOthersThanThoseOfEarlierVersions) {
  const auto kept_as = [](const std::string& sql) {
    const absl::StatusOr<SlicePlan> plan = PlanSql(sql);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan->kept_as;
  };
  const std::string last = "SELECT k, last(i ORDER BY t) AS v FROM r GROUP BY k";
  EXPECT_NE(kept_as(last), "");
  EXPECT_NE(kept_as("SELECT k, median(v) AS m FROM (SELECT k, j, Last(i ORDER BY t) AS v FROM r "
                    "GROUP BY k, j) GROUP BY k"),
            "");
  EXPECT_EQ(kept_as("SELECT k, last(i ORDER BY t, _position) AS v FROM r GROUP BY k"), "");
  EXPECT_EQ(kept_as("SELECT k, first(i ORDER BY t) AS v FROM r GROUP BY k"), "");
  EXPECT_EQ(kept_as(last + "\n    strategy: recompute"), "") << "it is DuckDB's own";
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
  EXPECT_THAT(plan->Find("c")->why, HasSubstr("(b.k = a.k)"));
  EXPECT_EQ(plan->Find("nix"), nullptr);
}

absl::StatusOr<SlicePlan> PlanWith(const std::string& options, const std::string& sql) {
  ICEPIE_ASSIGN_OR_RETURN(const DomainPlan plan, PlanText(absl::StrCat(kSources, "  it: {", options,
                                                                       ", sql: \"", sql, "\"}\n")));
  return *plan.Find("it");
}

TEST_F(PlanTest, TheFileMayAskForAStrategy) {
  const std::string sql = "SELECT k, count(*) AS n FROM r GROUP BY k";
  const absl::StatusOr<SlicePlan> chosen = PlanSql(sql);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->strategy, Strategy::kAggregate);
  ASSERT_EQ(chosen->why_not.size(), 1U);
  EXPECT_EQ(chosen->why_not[0].strategy, Strategy::kAppend);
  const absl::StatusOr<SlicePlan> asked = PlanWith("strategy: recompute", sql);
  ASSERT_TRUE(asked.ok()) << asked.status();
  EXPECT_EQ(asked->strategy, Strategy::kRecompute);
  EXPECT_EQ(asked->why, "recompute: the file asks for recompute");
  ASSERT_EQ(asked->why_not.size(), 3U);
  EXPECT_EQ(asked->why_not[1].why, "the file asks for recompute");
  EXPECT_EQ(asked->overridden, "");
  // It is another generation's tables: a change of it is built beside the old one.
  EXPECT_NE(asked->definition_hash, chosen->definition_hash);
  EXPECT_EQ(PlanWith("strategy: aggregate", sql)->strategy, Strategy::kAggregate);
}

TEST_F(PlanTest, AStrategyThatCannotKeepTheSqlRightIsRefused) {
  const absl::Status status =
      PlanWith("strategy: aggregate", "SELECT k, median(i) AS m FROM r GROUP BY k").status();
  EXPECT_THAT(ReasonAndText(status),
              HasSubstr("DEFINITION_INVALID lab.yaml:10:18: slice it: strategy aggregate cannot "
                        "keep this SQL right: "));
  EXPECT_THAT(status.message(), HasSubstr("median"));
  EXPECT_EQ(GetErrorDetail(status)->metadata.at("field"), "slices.it.strategy");
  EXPECT_THAT(PlanWith("strategy: append", "SELECT count(*) AS n FROM r").status().message(),
              HasSubstr("groups records"));
  EXPECT_THAT(PlanWith("strategy: fast", "SELECT k FROM r").status().message(),
              HasSubstr("slices.it.strategy must be append or aggregate or keys or recompute"));
  // What runs it late wins: with too many records kept it is recomputed all the same.
  const absl::StatusOr<DomainDef> definition = ParseDomain(
      absl::StrCat(kSources,
                   "  it: {strategy: keys, sql: \"SELECT k, median(i) AS m FROM r GROUP BY k\"}"),
      "lab.yaml");
  ASSERT_TRUE(definition.ok()) << definition.status();
  EXPECT_EQ(PlanDomain(*definition)->Find("it")->strategy, Strategy::kKeys);
  const absl::StatusOr<DomainPlan> overridden = PlanDomain(*definition, {{"it", "too many"}});
  ASSERT_TRUE(overridden.ok()) << overridden.status();
  EXPECT_EQ(overridden->Find("it")->strategy, Strategy::kRecompute);
  EXPECT_EQ(overridden->Find("it")->definition_hash,
            PlanDomain(*definition)->Find("it")->definition_hash);
}

TEST_F(PlanTest, RetainNamesATimeOfTheOutput) {
  const std::string sql = "SELECT k, t, count(*) AS n FROM r GROUP BY ALL";
  const absl::StatusOr<SlicePlan> kept = PlanSql(sql);
  const absl::StatusOr<SlicePlan> retained = PlanWith("retain: {column: t, for: 400d}", sql);
  ASSERT_TRUE(kept.ok() && retained.ok()) << retained.status();
  EXPECT_EQ(retained->strategy, Strategy::kAggregate) << retained->why;
  EXPECT_GT(retained->retained.span_us, 0);
  EXPECT_TRUE(retained->retained.counts_late);
  EXPECT_EQ(kept->retained.span_us, 0);
  EXPECT_NE(retained->definition_hash, kept->definition_hash);
  EXPECT_NE(retained->definition_hash,
            PlanWith("retain: {column: t, for: 401d}", sql)->definition_hash);
  EXPECT_THAT(ReasonAndText(PlanWith("retain: {column: tt, for: 1d}", sql).status()),
              HasSubstr("DEFINITION_INVALID lab.yaml:10:16: slice it: retain: there is no output "
                        "column \"tt\" (did you mean \"t\"?"));
  EXPECT_THAT(PlanWith("retain: {column: n, for: 1d}", sql).status().message(),
              HasSubstr("column n is BIGINT; it goes by a DATE, TIMESTAMP or TIMESTAMPTZ"));
  EXPECT_EQ(PlanWith("retain: {column: t, for: 1d}, strategy: recompute", sql)->strategy,
            Strategy::kRecompute);
}

TEST_F(PlanTest, ToCountLateRecordsTheSqlIsNotRunAgain) {
  const absl::StatusOr<SlicePlan> plan =
      PlanWith("retain: {column: t, for: 1d}", "SELECT t, upper(k) AS u FROM r");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->strategy, Strategy::kAppend) << plan->why;
  EXPECT_TRUE(plan->retained.counts_late);
  const auto runs_it = [](const ApplyStatement& each) {
    return absl::StrContains(each.sql, "upper(");
  };
  EXPECT_EQ(std::count_if(plan->apply.begin(), plan->apply.end(), runs_it), 1);
}

TEST_F(PlanTest, StreamsAreFoundAlsoBelowOtherSlices) {
  const absl::StatusOr<DomainPlan> plan = PlanText(
      kSources + Indented("SELECT c.n, d.v FROM counts AS c JOIN dim AS d ON d.key = c.k"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(StreamsBelow(*plan, *plan->Find("it")), ElementsAre("dim", "r"));
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
           {"SELECT c._offset FROM counts AS c",
            "there is no column \"_offset\" (have: k, n); of a source's hidden columns a slice has "
            "those that its own SQL names: where counts has *, write its columns and _offset"},
           {"SELECT q.kk FROM r AS q",
            "SQL_UNKNOWN_COLUMN lab.yaml:12:14: slice it: there is no column \"kk\""},
           {"SELECT k, r.rowid AS x FROM r",
            "SQL_UNKNOWN_COLUMN lab.yaml:12:17: slice it: there is no column \"rowid\""},
           {"SELECT k\n      FROM\n      rr",
            "DEFINITION_INVALID lab.yaml:14:7: slice it: there is no \"rr\" in domain lab (did "
            "you mean \"r\"?"},
           {"SELECT k FROM r WHERE", "SQL_SYNTAX lab.yaml:"},
           {"SELECT k\n      FRM r x y",
            "SQL_SYNTAX lab.yaml:13:11: slice it: syntax error at or near \"r\""},
           {"DELETE FROM r", "SQL_NOT_A_SELECT lab.yaml:12:7: slice it: DELETE is not allowed"},
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

// 20,000 columns, 1 MB, a thousand calls within one another.
TEST_F(PlanTest, SqlThatIsTooComplexIsRefusedWithItsPlace) {
  std::string columns = "SELECT i AS c0";
  for (int i = 1; i < 20'000; ++i) absl::StrAppend(&columns, ", i AS c", i);
  std::string deep = "i";
  for (int i = 0; i < 1'000; ++i) deep = absl::StrCat("abs(", deep, ")");
  for (const std::string& sql :
       {columns + " FROM r", absl::StrCat("SELECT '", std::string(1'000'000, 'x'), "' AS t FROM r"),
        absl::StrCat("SELECT k, ", deep, " AS v FROM r")}) {
    SCOPED_TRACE(sql.substr(0, 30));
    const absl::Status status = PlanSql(sql).status();
    EXPECT_THAT(ReasonAndText(status), HasSubstr("SQL_TOO_COMPLEX lab.yaml:12:"));
    EXPECT_THAT(status.message(), HasSubstr("slice it: "));
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
  const auto spelled = PlanText(kSources + sql + "key: [K], diff: {tolerance: {K: 0.5}}}\n");
  ASSERT_TRUE(spelled.ok()) << spelled.status();
  const SliceDef& it = *spelled->definition.FindSlice("it");
  EXPECT_EQ(it.key, std::vector<std::string>{"k"}) << "as the SQL spells it";
  EXPECT_EQ(it.diff_tolerance, (std::map<std::string, double>{{"k", 0.5}}));
}

std::string HashOf(const std::string& yaml, const std::string& slice) {
  const absl::StatusOr<DomainPlan> plan = PlanText(yaml);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan->Find(slice)->definition_hash;
}

TEST_F(PlanTest, HashFollowsTheKeyThatDecidesBetweenEqualRows) {
  const auto hash = [&](const std::string& key, const std::string& sql) {
    return HashOf(absl::StrCat(kSources, "  up: {sql: \"SELECT k, j, i FROM r\"", key,
                               "}\n  it: {sql: \"", sql, "\"}\n"),
                  "it");
  };
  const std::string first = "SELECT k, arg_max(j, i) AS m FROM up GROUP BY k";
  const std::string most = "SELECT k, max(i) AS m FROM up GROUP BY k";
  EXPECT_NE(hash(", key: [k, j]", first), hash("", first));
  EXPECT_EQ(hash(", key: [k, j]", most), hash("", most));
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
  EXPECT_EQ(HashOf(changed("i: INTEGER", "i: BIGINT"), "a"), a) << "not read";
  EXPECT_NE(HashOf(changed("k: VARCHAR", "k: {type: VARCHAR, path: $.kk}"), "a"), a);
  EXPECT_NE(HashOf(changed("k: VARCHAR", "k: {type: VARCHAR, required: true}"), "a"), a);
  EXPECT_NE(HashOf(changed("{r: {", "{r: {stream: other, "), "a"), a);
  EXPECT_NE(HashOf(changed("{r: {", "{r: {where: {$.type: x}, "), "a"), a);
  EXPECT_NE(HashOf(changed("SELECT k FROM r", "SELECT k FROM r WHERE true"), "a"), a);
  EXPECT_NE(HashOf(changed("SELECT k FROM r", "SELECT k FROM r WHERE true"), "b"),
            HashOf(base, "b"));
}

// Other tables are a rebuild; else a schedule is a setting.
TEST_F(PlanTest, HashFollowsAScheduleThatDecidesTheStrategy) {
  const auto hash = [&](const std::string& sql, const std::string& options) {
    return HashOf(absl::StrCat(kSources, "  it: {sql: \"", sql, "\"", options, "}\n"), "it");
  };
  const std::string folded = "SELECT k, count(*) AS n FROM r GROUP BY k";
  const std::string often = hash(folded, ", refresh: {every: 5s}");
  EXPECT_NE(hash(folded, ""), often);
  EXPECT_EQ(hash(folded, ", refresh: {cron: '0 2 * * *'}"), often);
  const std::string whole = "SELECT k, i FROM r ORDER BY i, k LIMIT 3";
  EXPECT_EQ(hash(whole, ", refresh: {every: 5s}"), hash(whole, ""));
  EXPECT_EQ(hash(folded, ", strategy: recompute, refresh: {every: 5s}"),
            hash(folded, ", strategy: recompute"));

  const std::string over = absl::StrCat(
      kSources, "  up: {sql: \"", folded,
      "\"}\n  it: {sql: \"SELECT n, count(*) AS c FROM up GROUP BY n\", refresh: {every: 5s}}\n");
  const absl::StatusOr<DomainDef> definition = ParseDomain(over, "lab.yaml");
  ASSERT_TRUE(definition.ok()) << definition.status();
  const absl::StatusOr<DomainPlan> overridden = PlanDomain(*definition, {{"up", "too large"}});
  ASSERT_TRUE(overridden.ok()) << overridden.status();
  EXPECT_EQ(overridden->Find("it")->definition_hash, HashOf(over, "it"));
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
