#include "slices/definition/definition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "slices/definition/column_type.h"
#include "slices/definition/yaml_tree.h"
#include "slices/plan/read_paths.h"

namespace icepie::slices {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kOperations[] = R"yaml(domain: operations
owner: {team: ops-data, contact: "#ops-data", runbook: "https://wiki/ops-slices"}
sources:
  flights:
    stream: raw_flights
    where: {$.type: flight, $.version: 2, $.test: false, $.code: "7"}
    columns:
      departure: {type: TIMESTAMP, path: $.leg.date, format: epoch_ms}
      delay: int
      origin: {type: VARCHAR, required: true}
      fare: {type: "numeric(18, 2)", rounding: half_up, default: "0.00"}
      tags: {type: JSON, default: "none"}
  airports: {columns: {iata: TEXT, city: STRING}, latest_by: [iata]}
slices:
  on_time:
    sql: |
      SELECT origin,
        count(*) AS flights FROM flights GROUP BY ALL
    key: [origin]
    on_bad_record: {action: quarantine, budget: {records: 5}}
    diff: {tolerance: {flights: 1e-9}}
  nightly: {sql: "SELECT iata FROM airports", refresh: {cron: "*/15 2-4 1,15 * 0", time_zone: Europe/Zurich}}
  often: {sql: 'SELECT ''it''''s'', city FROM airports', refresh: {every: 1m30s}}
  plain: {sql: SELECT city FROM airports, refresh: continuous}
limits: {memory: 512MB, disk: 20GB, query_timeout: 5s, max_result_rows: 42}
)yaml";

TEST(DefinitionTest, ReadsEveryKey) {
  const absl::StatusOr<DomainDef> domain = ParseDomain(kOperations, "ops.yaml");
  ASSERT_TRUE(domain.ok()) << domain.status();
  EXPECT_EQ(domain->domain, "operations");
  EXPECT_EQ(domain->team, "ops-data");
  EXPECT_EQ(domain->contact, "#ops-data");
  EXPECT_EQ(domain->runbook, "https://wiki/ops-slices");
  EXPECT_EQ(domain->limits.memory_bytes, 512000000);
  EXPECT_EQ(domain->limits.query_timeout, absl::Seconds(5));
  EXPECT_EQ(domain->limits.disk_bytes, 20'000'000'000);
  EXPECT_EQ(domain->limits.max_result_rows, 42);
  EXPECT_EQ(domain->file_name, "ops.yaml");
}

TEST(DefinitionTest, ReadsSources) {
  const DomainDef domain = ParseDomain(kOperations, "ops.yaml").value();
  const SourceDef& flights = *domain.FindSource("flights");
  EXPECT_EQ(flights.stream, "raw_flights");
  ASSERT_EQ(flights.where.size(), 4U);
  EXPECT_THAT(flights.where[0].path, ElementsAre("type"));
  EXPECT_EQ(flights.where[0].json, "\"flight\"");
  EXPECT_EQ(flights.where[1].json, "2");
  EXPECT_EQ(flights.where[2].json, "false");
  EXPECT_EQ(flights.where[3].json, "\"7\"");
  ASSERT_EQ(flights.columns.size(), 5U);
  EXPECT_THAT(flights.columns[0].path, ElementsAre("leg", "date"));
  EXPECT_EQ(flights.columns[0].format, TimeFormat::kEpochMillis);
  EXPECT_EQ(flights.columns[1].type, "INTEGER");
  EXPECT_THAT(flights.columns[1].path, ElementsAre("delay"));
  EXPECT_EQ(flights.columns[1].place.line, 9);
  EXPECT_TRUE(flights.columns[2].required);
  EXPECT_EQ(flights.columns[3].type, "DECIMAL(18,2)");
  EXPECT_EQ(flights.columns[3].decimal_width, 18);
  EXPECT_EQ(flights.columns[3].decimal_scale, 2);
  EXPECT_EQ(flights.columns[3].rounding, Rounding::kHalfUp);
  EXPECT_EQ(flights.columns[3].default_json, "\"0.00\"");
  const SourceDef& airports = *domain.FindSource("airports");
  EXPECT_EQ(airports.stream, "airports");
  EXPECT_THAT(airports.latest_by, ElementsAre("iata"));
  EXPECT_EQ(domain.FindSource("on_time"), nullptr);
}

TEST(DefinitionTest, ReadsSlices) {
  const DomainDef domain = ParseDomain(kOperations, "ops.yaml").value();
  const SliceDef& on_time = *domain.FindSlice("on_time");
  EXPECT_EQ(on_time.sql, "SELECT origin,\n  count(*) AS flights FROM flights GROUP BY ALL\n");
  EXPECT_THAT(on_time.key, ElementsAre("origin"));
  EXPECT_EQ(on_time.budget.records, 5);
  EXPECT_EQ(on_time.budget.window, 0);
  EXPECT_EQ(on_time.diff_tolerance.at("flights"), 1e-9);
  EXPECT_EQ(on_time.refresh.kind, RefreshDef::Kind::kContinuous);
  const SliceDef& nightly = *domain.FindSlice("nightly");
  EXPECT_EQ(nightly.refresh.kind, RefreshDef::Kind::kCron);
  EXPECT_EQ(nightly.refresh.cron, "*/15 2-4 1,15 * 0");
  EXPECT_EQ(nightly.refresh.time_zone, "Europe/Zurich");
  EXPECT_EQ(nightly.budget.records, 1000);
  EXPECT_EQ(nightly.budget.window, 100'000);
  EXPECT_EQ(domain.FindSlice("often")->refresh.every, absl::Seconds(90));
  EXPECT_EQ(domain.FindSlice("plain")->refresh.kind, RefreshDef::Kind::kContinuous);
}

TEST(DefinitionTest, TheActionForBadRecordsMayStandAlone) {
  const absl::StatusOr<DomainDef> domain = ParseDomain(R"(
domain: d
sources: {r: {columns: {k: VARCHAR}}}
slices:
  a: {sql: x, on_bad_record: fault}
  b: {sql: x, on_bad_record: quarantine}
  c: {sql: x, on_bad_record: {action: fault}}
)",
                                                       "x.yaml");
  ASSERT_TRUE(domain.ok()) << domain.status();
  EXPECT_EQ(domain->FindSlice("a")->on_bad_record, BadRecordAction::kFault);
  EXPECT_EQ(domain->FindSlice("b")->on_bad_record, BadRecordAction::kQuarantine);
  EXPECT_EQ(domain->FindSlice("c")->on_bad_record, BadRecordAction::kFault);
}

// The place of the first `word` in a slice's SQL, as line:column of the file.
std::string PlaceOfWord(const std::string& yaml, const std::string& word) {
  const absl::StatusOr<DomainDef> domain = ParseDomain(yaml, "x.yaml");
  if (!domain.ok()) return std::string(domain.status().message());
  const SliceDef& slice = domain->slices.front();
  const FilePlace place = slice.SqlPlaceAt(slice.sql.find(word));
  return absl::StrCat(place.line, ":", place.column);
}

TEST(DefinitionTest, SqlIsMappedToItsPlaceInTheFile) {
  const std::string head = "domain: d\nsources: {r: {columns: {k: TEXT}}}\nslices:\n";
  EXPECT_EQ(PlaceOfWord(head + "  a:\n    sql: |\n\n      SELECT k\n        FROM r\n", "FROM"),
            "8:9");
  EXPECT_EQ(PlaceOfWord(head + "  a:\n    sql: |\n\n      SELECT k\n        FROM r\n", "SELECT"),
            "7:7");
  EXPECT_EQ(PlaceOfWord(head + "  a:\n    sql: >-\n      SELECT k\n      FROM r\n", "FROM"), "7:7");
  EXPECT_EQ(PlaceOfWord(head + "  a: {sql: SELECT k FROM r}\n", "FROM"), "4:21");
  EXPECT_EQ(PlaceOfWord(head + "  a:\n    sql: SELECT k\n       FROM r\n", "FROM"), "6:8");
  EXPECT_EQ(PlaceOfWord(head + "  a: {sql: \"SELECT \\\"k\\\" FROM r\"}\n", "FROM"), "4:26");
  EXPECT_EQ(PlaceOfWord(head + "  a: {sql: 'SELECT ''k'' FROM r'}\n", "FROM"), "4:26");
}

struct Bad {
  const char* yaml;   // lines after `domain: d`
  const char* error;  // begins with line:column
};

constexpr char kGood[] = "sources: {r: {columns: {k: TEXT}}}\nslices: {}\n";

std::string ErrorOf(const std::string& yaml) {
  const absl::Status status = ParseDomain(yaml, "d.yaml").status();
  if (status.ok()) return "accepted";
  EXPECT_EQ(ErrorReason(status), "DEFINITION_INVALID");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(DefinitionTest, FaultsOfSourcesHaveTheirPlace) {
  for (const Bad& bad : std::vector<Bad>{
           {"sources: {r: {colums: {k: TEXT}, columns: {k: TEXT}}}",
            "2:15: unknown key `colums` in source r (did you mean \"columns\"? have: columns, "
            "latest_by, stream, where)"},
           {"sources: {r: {columns: {k: DECIMAL(18,2)}}}",
            "2:28: YAML splits the type of `k` at its comma: quote it, \"DECIMAL(18,…)\""},
           {"sources: {r: {columns: {k: {type: DECIMAL(18,2)}}}}",
            "2:35: YAML splits the type of `k`"},
           {"sources: {r: {columns: {k: TEXT, k: INT}}}",
            "2:34: `k` is there twice in columns of r (first in line 2)"},
           {"sources: {r: {columns: {k: TEXT, K: INT}}}", "2:34: `K` is there twice"},
           {"sources: {r: {columns: {k: TEXT}}, r: {columns: {k: TEXT}}}",
            "2:36: `r` is there twice in sources"},
           {"sources: {r: {columns: {k: TEXT}, columns: {k: TEXT}}}",
            "2:35: `columns` is there twice in source r"},
           {"sources: {R: {columns: {k: TEXT}}}", "2:11: bad name `R`"},
           {"sources: {_r: {columns: {k: TEXT}}}", "2:11: bad name `_r`"},
           {"sources: {r: {stream: Not-A-Stream, columns: {k: TEXT}}}",
            "2:23: bad name `Not-A-Stream`"},
           {"sources: {r: {columns: {_position: BIGINT}}}", "2:25: bad column name `_position`"},
           {"sources: {r: {columns: {k: MONEY(a INT)}}}",
            "2:28: column k: type `MONEY(a INT)` is not supported (have: BOOLEAN, "},
           {"sources: {r: {columns: {k: \"STRUCT(a INT, A INT)\"}}}",
            "2:28: column k: a STRUCT has the field `A` twice"},
           {"sources: {r: {columns: {k: \"STRUCT(a INT, b MONEY)[]\"}}}",
            "2:28: column k: type `MONEY` is not supported"},
           {"sources: {r: {columns: {k: \"STRUCT(a)\"}}}",
            "2:28: column k: a field of a STRUCT is a name, a space and a type"},
           {"sources: {r: {columns: {k: \"STRUCT(a INT))\"}}}",
            "2:28: column k: STRUCT(a INT)): a bracket or a quote is not closed"},
           {"sources: {r: {columns: {k: \"INT[][][][][][][][]\"}}}",
            "2:28: column k: a type has more than 8 levels"},
           {"sources: {r: {columns: {k: \"INT[3]\"}}}",
            "2:28: column k: type `INT[3]` is not supported"},
           {"sources: {r: {columns: {k: {type: \"INT[]\", default: []}}}}",
            "2:53: the default of k must be one INTEGER[], not a list: write it as JSON in quotes, "
            "e.g. \"[]\""},
           {"sources: {r: {columns: {k: {type: \"INT[]\", default: \"[1, 2.5]\"}}}}",
            "2:53: column k: default [1, 2.5]: 2.5 is written with a point"},
           {"sources: {r: {columns: {k: {type: DATE, default: \"1.2.2001\"}}}}",
            "2:50: column k: default \"1.2.2001\": \"1.2.2001\" is not a date"},
           {"sources: {r: {columns: {k: {type: \"INT[]\", format: epoch_s}}}}",
            "2:52: column k: this format is for TIMESTAMP and TIMESTAMPTZ, not INTEGER[]"},
           {"sources: {r: {columns: {k: {type: TEXT, format: hex}}}}",
            "2:49: column k: this format is for BLOB, not VARCHAR"},
           {"sources: {r: {columns: {k: DECIMAL}}}",
            "2:28: column k: DECIMAL needs its width and scale"},
           {"sources: {r: {columns: {k: \"DECIMAL(40,2)\"}}}",
            "2:28: column k: DECIMAL(40,2): the width is 1 to 38"},
           {"sources: {r: {columns: {k: [TEXT]}}}",
            "2:28: sources.r.columns.k must be text, not a list"},
           {"sources: {r: {columns: {k: {path: $.a}}}}", "2:28: column k has no type"},
           {"sources: {r: {columns: {k: {type: TEXT, path: a.b}}}}",
            "2:47: sources.r.columns.k.path: `a.b` is no path"},
           {"sources: {r: {columns: {k: {type: TEXT, path: \"$.a[0]\"}}}}", "`$.a[0]` is no path"},
           {"sources: {r: {columns: {k: {type: TEXT, required: maybe}}}}",
            "2:51: sources.r.columns.k.required must be true or false, not `maybe`"},
           {"sources: {r: {columns: {k: {type: TEXT, format: iso8601}}}}",
            "2:49: column k: this format is for DATE, TIMESTAMP and TIMESTAMPTZ, not VARCHAR"},
           {"sources: {r: {columns: {k: {type: DATE, format: epoch_s}}}}",
            "2:49: column k: this format is for TIMESTAMP and TIMESTAMPTZ, not DATE"},
           {"sources: {r: {columns: {k: {type: TIMESTAMP, format: rfc822}}}}",
            "2:54: sources.r.columns.k.format must be iso8601 or epoch_s or epoch_ms or epoch_us "
            "or base64 or hex, not `rfc822`"},
           {"sources: {r: {columns: {k: {type: INT, rounding: half_up}}}}",
            "2:50: column k: rounding is for DECIMAL, not INTEGER"},
           {"sources: {r: {columns: {k: {type: INT, default: \"x\"}}}}",
            "2:49: column k: default \"x\": \"x\" is a string; INTEGER takes numbers without a "
            "point"},
           {"sources: {r: {columns: {k: {type: INT, default: 0, required: true}}}}",
            "2:49: column k is required and has a default"},
           {"sources: {r: {columns: {k: TEXT}, latest_by: [q]}}",
            "2:46: latest_by: source r has no column `q` (have: k)"},
           {"sources: {r: {columns: {k: TEXT}, latest_by: []}}",
            "2:46: sources.r.latest_by must be a list of columns"},
           {"sources: {r: {columns: {k: TEXT}, where: {type: x}}}",
            "2:43: sources.r.where: `type` is no path"},
           {"sources: {r: {columns: {k: TEXT}, where: {$.a: [1]}}}",
            "2:48: a value of where must be a single value"},
           {"sources: {r: {columns: {}}}", "2:24: source r has no columns"},
           {"sources: {r: {stream: s}}", "2:11: source r has no columns"},
           {"sources: {r: text}",
            "2:14: source r must be a map with columns, latest_by, stream, where, not `text`"},
           {"sources: [r]", "2:10: sources must be a map of names, not a list"}}) {
    EXPECT_THAT(ErrorOf(absl::StrCat("domain: d\n", bad.yaml, "\nslices: {}\n")),
                HasSubstr(absl::StrCat(bad.error[0] == '2' ? "d.yaml:" : "", bad.error)))
        << bad.yaml;
  }
}

TEST(DefinitionTest, RetainNamesAColumnAndAnAge) {
  const auto error = [](const std::string& retain) {
    return ErrorOf(
        absl::StrCat("domain: d\nsources: {}\nslices: {a: {sql: x, retain: ", retain, "}}\n"));
  };
  const auto domain = ParseDomain(
      "domain: d\nsources: {}\nslices: {a: {sql: x, retain: {column: t, for: 400d, relative_to: "
      "ingest_time}}}\n",
      "d.yaml");
  ASSERT_TRUE(domain.ok()) << domain.status();
  EXPECT_EQ(domain->slices[0].retain->column, "t");
  EXPECT_EQ(domain->slices[0].retain->span, absl::Hours(24 * 400));
  EXPECT_THAT(error("{column: t}"), HasSubstr("retain has no `for`"));
  EXPECT_THAT(error("{for: 1d}"), HasSubstr("retain has no `column`"));
  EXPECT_THAT(error("{column: t, for: 500ms}"), HasSubstr("retain.for must be from 1s to 36500d"));
  EXPECT_THAT(
      error("{column: t, for: 1d, relative_to: event_time}"),
      HasSubstr("retain.relative_to must be ingest_time, not `event_time`: one record dated "
                "9999 would empty the slice"));
}

TEST(DefinitionTest, ListsAndStructsOfAnyDepth) {
  const auto domain = ParseDomain(R"(
domain: d
sources:
  transfers:
    columns:
      tags: text[]
      fees:
        type: struct( kind varchar not null,  "Net value"  decimal(38, 18), at TIMESTAMP[] )[]
        path: $.details.fees
        format: epoch_ms
        rounding: half_up
        default: "[]"
slices: {a: {sql: x}}
)",
                                  "d.yaml");
  ASSERT_TRUE(domain.ok()) << domain.status();
  const std::vector<ColumnDef>& columns = domain->sources[0].columns;
  EXPECT_EQ(columns[0].type, "VARCHAR[]");
  const ColumnDef& fees = columns[1];
  EXPECT_EQ(fees.type,
            "STRUCT(kind VARCHAR NOT NULL, \"Net value\" DECIMAL(38,18), at TIMESTAMP[])[]");
  EXPECT_EQ(SqlType(fees),
            "STRUCT(\"kind\" VARCHAR, \"Net value\" DECIMAL(38,18), \"at\" TIMESTAMP[])[]");
  EXPECT_EQ(fees.default_json, "[]");
  const std::vector<ColumnDef>& fields = fees.children.at(0).children;
  ASSERT_EQ(fields.size(), 3);
  EXPECT_TRUE(fields[0].required);
  EXPECT_FALSE(fields[1].required);
  EXPECT_EQ(fields[1].path, std::vector<std::string>{"Net value"});
  EXPECT_EQ(fields[1].rounding, Rounding::kHalfUp);
  EXPECT_EQ(fields[2].children.at(0).format, TimeFormat::kEpochMillis);
}

TEST(DefinitionTest, SnapshotsHaveASchedule) {
  const auto keep = [](const std::string& value) {
    const auto domain = ParseDomain(
        absl::StrCat(
            "domain: d\nsources: {r: {columns: {k: TEXT}}}\nslices: {a: {sql: x, snapshots: "
            "{name: \"m-%Y-%m\", cron: \"0 3 1 * *\", time_zone: Europe/Zurich, keep: ",
            value, "}}}\n"),
        "d.yaml");
    EXPECT_TRUE(domain.ok()) << domain.status();
    return domain->slices[0].snapshots;
  };
  EXPECT_EQ(keep("forever").name, "m-%Y-%m");
  EXPECT_EQ(keep("forever").keep_count, 0);
  EXPECT_EQ(keep("forever").keep_for, absl::InfiniteDuration());
  EXPECT_EQ(keep("12").keep_count, 12);
  EXPECT_EQ(keep("400d").keep_for, absl::Hours(24 * 400));
  EXPECT_EQ(keep("36h").keep_for, absl::Hours(36));
}

// What the parser knows at that place of a file, by its own complaint of an unknown key.
std::set<std::string> KeysKnown(const std::string& file) {
  const std::string message(ParseDomain(file, "d.yaml").status().message());
  const size_t begin = message.find("(have: ");
  EXPECT_THAT(message, HasSubstr("unknown key `zzzzzz`")) << file;
  if (begin == std::string::npos) return {};
  const std::string have = message.substr(begin + 7, message.find(')', begin) - begin - 7);
  return absl::StrSplit(have, ", ");
}

TEST(DefinitionTest, TheSchemaForEditorsKnowsTheSameKeys) {
  const auto text =
      ReadFile(absl::StrCat(std::getenv("ICEPIE_SOURCE"), "/config/domain.schema.json"));
  ASSERT_TRUE(text.ok()) << text.status();
  const nlohmann::json schema = nlohmann::json::parse(*text);
  const std::string begin =
      "domain: d\nsources: {s: {columns: {a: INTEGER}}}\nslices: {x: {sql: y, ";
  for (const auto& [place, file] : std::map<std::string, std::string>{
           {"", "zzzzzz: 1"},
           {"/properties/owner", "owner: {zzzzzz: 1}"},
           {"/definitions/limits", "limits: {zzzzzz: 1}"},
           {"/definitions/overlay", begin + "}}\noverlay: {zzzzzz: 1}"},
           {"/definitions/overlaid_slice", begin + "}}\noverlay: {slices: {x: {zzzzzz: 1}}}"},
           {"/definitions/source", "sources: {s: {zzzzzz: 1}}"},
           {"/definitions/column", "sources: {s: {columns: {a: {zzzzzz: 1}}}}"},
           {"/definitions/slice", begin + "zzzzzz: 1}}"},
           {"/definitions/slice/properties/diff", begin + "diff: {zzzzzz: 1}}}"},
           {"/definitions/slice/properties/max_stale", begin + "max_stale: {zzzzzz: 1}}}"},
           {"/definitions/refresh", begin + "refresh: {zzzzzz: 1}}}"},
           {"/definitions/retain", begin + "retain: {zzzzzz: 1}}}"},
           {"/definitions/on_bad_record", begin + "on_bad_record: {zzzzzz: 1}}}"},
           {"/definitions/on_bad_record/properties/budget",
            begin + "on_bad_record: {budget: {zzzzzz: 1}}}}"},
           {"/definitions/expectation", begin + "expect: [{zzzzzz: 1}]}}"},
           {"/definitions/expectation/properties/accepted_values",
            begin + "expect: [{accepted_values: {zzzzzz: 1}}]}}"},
           {"/definitions/expectation/properties/relationships",
            begin + "expect: [{relationships: {zzzzzz: 1}}]}}"},
           {"/definitions/expectation/properties/row_count",
            begin + "expect: [{row_count: {zzzzzz: 1}}]}}"},
           {"/definitions/snapshots", begin + "snapshots: {zzzzzz: 1}}}"},
           {"/definitions/promote", begin + "promote: {zzzzzz: 1}}}"},
           {"/definitions/promote/properties/unless",
            begin + "promote: {unless: {zzzzzz: 1}}}}"}}) {
    std::set<std::string> keys;
    const nlohmann::json::json_pointer pointer(place + "/properties");
    ASSERT_TRUE(schema.contains(pointer)) << place;
    for (const auto& [key, value] : schema.at(pointer).items()) keys.insert(key);
    keys.erase("sql_file");  // icepie's, which puts the SQL in
    EXPECT_EQ(keys, KeysKnown(file)) << place;
  }
}

constexpr char kVariables[] = R"yaml(domain: d
slices:
  late:
    sql: |
      SELECT $late AS late, '$late' AS text, "$late", $$ $late $$ AS d, a$late, $rate::DOUBLE
        -- $late is a comment, /* $late
        /* so /* is $late */ this */ FROM s
      WHERE a > $late AND note = $note AND b - $low > 0 AND e = E'\' $late' AND $on AND x IS $gone
    expect: [{name: n, sql: "SELECT * FROM slice WHERE late > $late"}]
vars: {late: 15, rate: 0.25, low: -3, note: "it's", on: true, gone: null}
sources: {s: {columns: {a: INTEGER}}}
)yaml";

TEST(DefinitionTest, VariablesStandInTheSql) {
  const absl::StatusOr<DomainDef> domain = ParseDomain(kVariables, "d.yaml");
  ASSERT_TRUE(domain.ok()) << domain.status();
  const SliceDef& late = domain->slices.at(0);
  EXPECT_EQ(late.sql,
            "SELECT 15 AS late, '$late' AS text, \"$late\", $$ $late $$ AS d, a$late, "
            "0.25::DOUBLE\n"
            "  -- $late is a comment, /* $late\n"
            "  /* so /* is $late */ this */ FROM s\n"
            "WHERE a > 15 AND note = 'it''s' AND b - (-3) > 0 AND e = E'\\' $late' AND true AND x "
            "IS null\n");
  EXPECT_EQ(late.expectations.at(0).sql, "SELECT * FROM slice WHERE late > 15");
  // Errors behind a value have their place in the file.
  const std::string file = kVariables;
  for (const char* text : {"AS late", "FROM s\n", "note = ", "0 AND e", "AND $on", "AND x IS "}) {
    const bool variable = absl::StrContains(text, "$on");
    const size_t in_sql = late.sql.find(variable ? "AND true" : text);
    const FilePlace place = late.SqlPlaceAt(in_sql);
    const FilePlace wanted = PlaceOf(file, file.find(text));
    EXPECT_EQ(place.line, wanted.line) << text;
    EXPECT_EQ(place.column, wanted.column) << text;
  }
}

TEST(DefinitionTest, VariablesThatCannotBeMeantAreRefused) {
  const auto error = [](const std::string& vars, const std::string& sql) {
    return std::string(
        ParseDomain(absl::StrCat("domain: d\nsources: {s: {columns: {a: INTEGER}}}\n",
                                 "slices: {x: {sql: \"", sql, "\"}}\nvars: ", vars),
                    "d.yaml")
            .status()
            .message());
  };
  EXPECT_EQ(error("{late: 1}", "SELECT a + $late FROM s"), "");
  EXPECT_THAT(error("{late: 1}", "SELECT a + $lat FROM s"),
              HasSubstr("d.yaml:3:31: there is no variable $lat in vars (did you mean \"late\"?"));
  EXPECT_THAT(error("{late: [1]}", "SELECT a FROM s"),
              HasSubstr("d.yaml:4:14: vars.late must be one value, not a list"));
  EXPECT_THAT(error("{late: 1, late: 2}", "SELECT a FROM s"), HasSubstr("`late` is there twice"));
  EXPECT_THAT(error("{Late-: 1}", "SELECT a FROM s"), HasSubstr("d.yaml:4:8"));
}

TEST(DefinitionTest, FaultsOfSlicesHaveTheirPlace) {
  for (const Bad& bad : std::vector<Bad>{
           {"  a: {sql: x, refesh: continuous}",
            "4:15: unknown key `refesh` in slice a (did you mean \"refresh\"?"},
           {"  a: {sql: x}\n  a: {sql: y}", "5:3: `a` is there twice in slices (first in line 4)"},
           {"  r: {sql: x}", "4:3: slice r has the name of the source in line 2"},
           {"  a: {key: [k]}", "4:3: slice a has no sql"},
           {"  a: {sql: \"\"}", "4:12: slices.a.sql must be text"},
           {"  a: {sql: [x]}", "4:12: slices.a.sql must be text, not a list"},
           {"  a: {sql: x, key: k}", "4:20: slices.a.key must be a list of columns"},
           {"  a: {sql: x, key: [k, k]}", "4:24: `k` is there twice in slices.a.key"},
           {"  a: {sql: x, refresh: sometimes}",
            "4:24: slices.a.refresh must be continuous, {every: 30s}"},
           {"  a: {sql: x, refresh: {every: 30}}",
            "4:32: slices.a.refresh.every: `30` is no duration"},
           {"  a: {sql: x, refresh: {every: -5s}}",
            "4:32: slices.a.refresh.every: `-5s` is no duration"},
           {"  a: {sql: x, refresh: {cron: \"0 2 * *\"}}",
            "4:31: cron `0 2 * *` has 4 fields, not five"},
           {"  a: {sql: x, refresh: {cron: \"0 24 * * *\"}}",
            "4:31: cron `0 24 * * *`: hour `24` must be *, a number from 0 to 23"},
           {"  a: {sql: x, refresh: {cron: \"0 2 * * MON\"}}",
            "4:31: cron `0 2 * * MON`: weekday `MON`"},
           {"  a: {sql: x, refresh: {cron: \"0 2 * * *\", time_zone: Europe/Zuerich}}",
            "4:55: unknown time zone `Europe/Zuerich`"},
           {"  a: {sql: x, refresh: {cron: \"0 2 * * *\", time_zone: localtime}}",
            "4:55: unknown time zone `localtime`"},
           {"  a: {sql: x, refresh: {every: 5s, time_zone: UTC}}",
            "4:24: time_zone belongs to cron"},
           {"  a: {sql: x, refresh: {every: 5s, cron: \"0 2 * * *\"}}",
            "4:24: refresh needs one of every, cron and after"},
           {"  a: {sql: x, refresh: {after: b}}", "4:24: after: the domain has no slice `b`"},
           {"  a: {sql: x, refresh: {after: b}}\n  b: {sql: x}",
            "4:24: after: slice b is refreshed all the time"},
           {"  a: {sql: x, refresh: {after: b}}\n  b: {sql: x, refresh: {after: a}}",
            "4:24: after: a waits for itself"},
           {"  a: {sql: x, refresh: {every: 5s, on_missed: twice}}",
            "4:47: slices.a.refresh.on_missed must be run_once or skip"},
           {"  a: {sql: x, refresh: {after: b, on_missed: skip}}\n"
            "  b: {sql: x, refresh: {every: 5s}}",
            "4:24: on_missed belongs to every and cron"},
           {"  a: {sql: x, on_bad_record: drop}",
            "4:30: slices.a.on_bad_record must be quarantine or fault, not `drop`"},
           {"  a: {sql: x, on_bad_record: {action: drop}}",
            "4:39: slices.a.on_bad_record.action must be quarantine or fault, not `drop`"},
           {"  a: {sql: x, on_bad_record: {budget: {records: -1}}}",
            "4:49: slices.a.on_bad_record.budget.records must be a number from 0"},
           {"  a: {sql: x, on_bad_record: {budget: {percent: 1}}}",
            "4:39: slices.a.on_bad_record.budget: percent needs a window"},
           {"  a: {sql: x, on_bad_record: {budget: {percent: 101, window: 5}}}",
            "4:49: slices.a.on_bad_record.budget.percent must be a number from 0 to 100"},
           {"  a: {sql: x, on_bad_record: {action: fault, budget: {records: 5}}}",
            "4:54: a budget is for action quarantine"},
           {"  a: {sql: x, snapshots: {name: \"month-%Y-%m\", cron: \"0 3 1 * *\"}}",
            "4:26: snapshots has no `keep`"},
           {"  a: {sql: x, snapshots: {name: month, cron: \"0 3 1 * *\", keep: 3}}",
            "4:33: `month` gives the same name every time"},
           {"  a: {sql: x, snapshots: {name: \"%Y\", cron: \"0 3 1 * *\", keep: 3}}",
            "4:33: bad snapshot name `2001`"},
           {"  a: {sql: x, snapshots: {name: \"m-%F\", cron: \"0 3 1 *\", keep: 3}}",
            "4:47: cron `0 3 1 *` has 4 fields"},
           {"  a: {sql: x, snapshots: {name: \"m-%F\", cron: \"0 3 1 * *\", keep: often}}",
            "4:66: slices.a.snapshots.keep must be forever, a number from 1 to 10000 or a time "
            "such "
            "as 400d"},
           {"  a: {sql: x, snapshots: {name: \"m-%F\", cron: \"0 3 1 * *\", keep: 0}}",
            "4:66: slices.a.snapshots.keep must be forever"},
           {"  a: {sql: x, diff: {tolerance: {k: 2}}}",
            "4:37: slices.a.diff.tolerance.k must be a number from 0 to 1"}}) {
    EXPECT_THAT(ErrorOf(absl::StrCat("domain: d\nsources: {r: {columns: {k: TEXT}}}\nslices:\n",
                                     bad.yaml, "\n")),
                HasSubstr(absl::StrCat("d.yaml:", bad.error)))
        << bad.yaml;
  }
}

TEST(DefinitionTest, FaultsOfTheFileHaveTheirPlace) {
  const auto with = [](const std::string& line) {
    return absl::StrCat("domain: d\n", kGood, line);
  };
  EXPECT_THAT(ErrorOf(with("limits: {memory: 5}\n")),
              HasSubstr("d.yaml:4:18: limits.memory: `5` is no size"));
  EXPECT_THAT(ErrorOf(with("limits: {memory: 5MB}\n")),
              HasSubstr("d.yaml:4:18: limits.memory: 5MB is too little"));
  EXPECT_THAT(ErrorOf(with("limits: {max_result_rows: 0}\n")),
              HasSubstr("d.yaml:4:27: limits.max_result_rows must be"));
  EXPECT_THAT(ErrorOf(with("limits: {query_timeout: soon}\n")), HasSubstr("d.yaml:4:25"));
  EXPECT_THAT(ErrorOf(with("limits: {disk: 10KB}\n")), HasSubstr("give 1MB or more"));
  EXPECT_THAT(ErrorOf(with("owner: {taem: x}\n")),
              HasSubstr("d.yaml:4:9: unknown key `taem` in owner (did you mean \"team\"?"));
  EXPECT_THAT(
      ErrorOf(with("slice: {}\n")),
      HasSubstr("d.yaml:4:1: unknown key `slice` in the domain file (did you mean \"slices\"?"));
  EXPECT_THAT(ErrorOf(with("domain: e\n")), HasSubstr("d.yaml:4:1: `domain` is there twice"));
  EXPECT_THAT(ErrorOf(with("---\ndomain: e\n")), HasSubstr("a second document"));
  EXPECT_THAT(ErrorOf(with("owner: &x {team: a}\n")), HasSubstr("d.yaml:4:8: an anchor"));
  EXPECT_THAT(ErrorOf(with("owner: *x\n")), HasSubstr("d.yaml:4:"));
  EXPECT_THAT(ErrorOf(with("owner: !!map {team: a}\n")), HasSubstr("tag"));
  EXPECT_THAT(ErrorOf(with("owner: {team: [a}\n")), HasSubstr("d.yaml:4:"));
  EXPECT_THAT(ErrorOf("domain: Big\n" + std::string(kGood)),
              HasSubstr("d.yaml:1:9: bad name `Big`"));
  EXPECT_THAT(ErrorOf(kGood), HasSubstr("d.yaml:1:1: the domain file has no `domain`"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("d.yaml:1:1: the file is empty"));
  EXPECT_THAT(ErrorOf("[1]"), HasSubstr("d.yaml:1:1: the domain file must be a map"));
  EXPECT_THAT(ErrorOf(std::string(100000, '[')), HasSubstr("nested deeper than 16 levels"));
  EXPECT_THAT(ErrorOf(std::string((1 << 20) + 1, '#')),
              HasSubstr("d.yaml:1:1: the file has 1048577 bytes"));
}

TEST(DefinitionTest, TooManySlicesAreRefused) {
  std::string yaml = "domain: d\nsources: {r: {columns: {k: TEXT}}}\nslices:\n";
  for (int i = 0; i < 1000; ++i) absl::StrAppend(&yaml, "  s", i, ": {sql: x}\n");
  EXPECT_EQ(ErrorOf(yaml), "accepted");
  EXPECT_THAT(ErrorOf(yaml + "  more: {sql: x}\n"),
              HasSubstr("slices: 1001 entries, the limit is 1000"));
}

TEST(DefinitionTest, AllFaultsAreReportedAtOnce) {
  const absl::Status status =
      ParseDomain("domain: D\nsources: {r: {columns: {k: TXT}}}\nslices: {a: {sqll: x}}\n",
                  "d.yaml")
          .status();
  const ErrorDetail detail = GetErrorDetail(status).value();
  ASSERT_EQ(detail.violations.size(), 4U);
  EXPECT_EQ(detail.violations[0].field, "domain");
  EXPECT_EQ(detail.violations[1].field, "sources.r.columns.k");
  EXPECT_EQ(detail.violations[2].field, "slices.a.sqll");
  EXPECT_THAT(detail.violations[3].description, HasSubstr("d.yaml:3:10: slice a has no sql"));
  EXPECT_EQ(detail.metadata.at("file"), "d.yaml");
  EXPECT_EQ(detail.metadata.at("line"), "1");
  EXPECT_EQ(detail.metadata.at("column"), "9");
  EXPECT_THAT(std::string(status.message()), HasSubstr("(and 3 more)"));
}

TEST(DefinitionTest, PromotionAndItsLimits) {
  const auto with = [](const std::string& promote) {
    return absl::StrCat(
        "domain: d\nsources: {r: {columns: {k: TEXT}}}\nslices: {a: {sql: x, promote: ", promote,
        "}}\n");
  };
  const absl::StatusOr<DomainDef> domain = ParseDomain(
      with("{mode: auto, unless: {changed_rows_percent: 1.5, removed_rows: 0}, keep_replaced: 2h}"),
      "d.yaml");
  ASSERT_TRUE(domain.ok()) << domain.status();
  const PromoteDef& promote = domain->slices[0].promote;
  EXPECT_TRUE(promote.automatic);
  EXPECT_EQ(promote.changed_rows_percent, 1.5);
  EXPECT_EQ(promote.removed_rows, 0);
  EXPECT_EQ(promote.added_rows, std::nullopt);
  EXPECT_EQ(promote.keep_replaced, absl::Hours(2));
  EXPECT_THAT(ErrorOf(with("{mode: always}")), HasSubstr("must be manual or auto"));
  EXPECT_THAT(ErrorOf(with("{unless: {changed: 1}}")), HasSubstr("unknown key `changed`"));
  EXPECT_THAT(ErrorOf(with("{unless: {changed_rows_percent: 101}}")),
              HasSubstr("must be a number from 0 to 100"));
  EXPECT_THAT(ErrorOf(with("{keep_replaced: 200h}")), HasSubstr("at most 168h"));
}

TEST(DefinitionTest, ASliceIsRenamedFromOneThatIsGone) {
  const std::string two =
      "domain: d\nsources: {s: {columns: {a: INTEGER}}}\nslices:\n"
      "  x: {sql: SELECT a FROM s, renamed_from: old}\n  y: {sql: SELECT a FROM s";
  EXPECT_EQ(ParseDomain(two + "}\n", "d.yaml")->FindSlice("x")->renamed_from, "old");
  const auto both = ParseDomain(two + ", renamed_from: old}\n", "d.yaml").status();
  EXPECT_THAT(std::string(both.message()), HasSubstr("another slice is renamed from old, too"));
  const auto there = ParseDomain(two + ", renamed_from: x}\n", "d.yaml").status();
  EXPECT_THAT(std::string(there.message()), HasSubstr("slice x is still in the file"));
  EXPECT_FALSE(ParseDomain(two + ", renamed_from: ../x}\n", "d.yaml").ok());
}

TEST(DefinitionTest, AnOverlayTakesThePlaceOfWhatChangesNoRow) {
  const std::string file =
      "domain: d\nsources: {s: {columns: {a: INTEGER}}}\nlimits: {memory: 1GB, query_timeout: 5s}\n"
      "slices:\n  x: {sql: SELECT a FROM s, refresh: {cron: \"0 2 * * *\", time_zone: "
      "Europe/Zurich}}\n"
      "  y: {sql: SELECT a FROM s}\n";
  const auto domain = ParseDomain(
      absl::StrCat(file,
                   "overlay:\n  limits: {memory: 4GB}\n  slices:\n    x: {refresh: {every: "
                   "30s}, snapshots: {name: m-%Y-%m, cron: \"0 3 1 * *\", keep: forever}}\n"),
      "d.yaml");
  ASSERT_TRUE(domain.ok()) << domain.status();
  EXPECT_EQ(domain->limits.memory_bytes, 4'000'000'000);
  EXPECT_EQ(domain->limits.query_timeout, absl::Seconds(5));
  const SliceDef& x = *domain->FindSlice("x");
  EXPECT_EQ(x.refresh.kind, RefreshDef::Kind::kEvery);
  EXPECT_EQ(x.refresh.every, absl::Seconds(30));
  EXPECT_EQ(x.refresh.time_zone, "");
  EXPECT_EQ(x.snapshots.name, "m-%Y-%m");
  EXPECT_EQ(domain->FindSlice("y")->refresh.kind, RefreshDef::Kind::kContinuous);

  const auto error = [&](const std::string& overlay) {
    return std::string(
        ParseDomain(absl::StrCat(file, "overlay: ", overlay, "\n"), "d.yaml").status().message());
  };
  EXPECT_THAT(error("{slices: {z: {refresh: continuous}}}"),
              HasSubstr("d.yaml:7:20: the domain has no slice `z`"));
  EXPECT_THAT(error("{slices: {x: {sql: SELECT 1}}}"), HasSubstr("unknown key `sql`"));
  EXPECT_THAT(error("{sources: {}}"), HasSubstr("unknown key `sources`"));
  EXPECT_THAT(error("{slices: {y: {refresh: {after: x}}}}"), Not(HasSubstr("after")));
  EXPECT_THAT(error("{slices: {x: {refresh: {after: y}}}}"),
              HasSubstr("slice y is refreshed all the time"));
}

TEST(DefinitionTest, SaysWhatItReadsOfPayloads) {
  const auto domain = ParseDomain(
      "domain: d\nsources:\n  s:\n    where: {$.type.name: x}\n    columns:\n"
      "      a: INTEGER\n      b: {type: 'STRUCT(c INTEGER, d STRUCT(e INTEGER)[])[]', path: "
      "$.in.b}\nslices: {}\n",
      "d.yaml");
  ASSERT_TRUE(domain.ok()) << domain.status();
  std::vector<std::string> paths;
  for (const ReadPath& each : ReadPathsOf(*domain->FindSource("s"))) {
    paths.push_back(
        absl::StrCat(each.place.line, " ", each.field, " ", absl::StrJoin(each.path, ".")));
  }
  EXPECT_THAT(paths,
              ElementsAre("6 sources.s.columns.a a", "7 sources.s.columns.b in.b.[].c",
                          "7 sources.s.columns.b in.b.[].d.[].e", "3 sources.s.where type.name"));
}

TEST(DefinitionTest, EmptySlicesAreFine) {
  const absl::StatusOr<DomainDef> domain =
      ParseDomain(absl::StrCat("domain: d\n", kGood), "d.yaml");
  ASSERT_TRUE(domain.ok()) << domain.status();
  EXPECT_THAT(domain->slices, IsEmpty());
}

}  // namespace
}  // namespace icepie::slices
