#include "slices/reading/source_scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/duckdb/duckdb.h"
#include "tests/slices/source_column.h"

namespace icepie::slices {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

SourceDef Flights() {
  SourceDef source;
  source.name = "flights";
  source.stream = "flights";
  source.columns = {Column("date", "TIMESTAMP"), Column("delay", "INTEGER"),
                    Column("origin", "VARCHAR")};
  source.columns[2].required = true;
  return source;
}

// Records of one stream in memory, at consecutive positions from 0.
class Records {
 public:
  explicit Records(std::vector<std::string> payloads) : payloads_(std::move(payloads)) {
    for (size_t i = 0; i < payloads_.size(); ++i) {
      RecordView view;
      view.position = static_cast<int64_t>(i);
      view.offset = static_cast<int64_t>(i) + 100;
      view.ingest_time_us = 1'000'000;
      view.payload = payloads_[i];
      views_.push_back(view);
    }
  }
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;

  RecordView& operator[](size_t i) { return views_[i]; }
  SourceInput::OpenSupply Open() {
    return [this]() -> absl::StatusOr<std::unique_ptr<RecordSupply>> {
      return MakeSpanSupply(views_);
    };
  }

 private:
  std::vector<std::string> payloads_;
  std::vector<RecordView> views_;
};

class BrokenSupply : public RecordSupply {
 public:
  explicit BrokenSupply(absl::Span<const RecordView> records) : records_(records) {}
  absl::StatusOr<absl::Span<const RecordView>> Next() override {
    if (!given_) {
      given_ = true;
      return records_;
    }
    return absl::UnavailableError("the daemon has gone");
  }

 private:
  absl::Span<const RecordView> records_;
  bool given_ = false;
};

class SourceScanTest : public ::testing::Test {
 protected:
  void SetUp() override {
    database_ = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
    connection_ = DuckConnection::Connect(*database_).value();
  }

  std::unique_ptr<SourceInput> Input(const SourceDef& source, std::vector<std::string> columns) {
    auto input = SourceInput::Create(*connection_, source, std::move(columns));
    EXPECT_TRUE(input.ok()) << input.status();
    return std::move(input).value();
  }

  static std::string Text(const Cell& cell) {
    if (const auto* integer = std::get_if<int64_t>(&cell)) return absl::StrCat(*integer);
    if (const auto* real = std::get_if<double>(&cell)) return absl::StrCat(*real);
    if (const auto* text = std::get_if<std::string>(&cell)) return *text;
    return "NULL";
  }

  // Rows as "a|b|c".
  std::vector<std::string> Rows(const std::string& sql) {
    const auto rows = connection_->QueryCells(sql);
    EXPECT_TRUE(rows.ok()) << rows.status();
    std::vector<std::string> texts;
    if (!rows.ok()) return texts;
    for (const CellRow& row : *rows) {
      texts.push_back(absl::StrJoin(
          row, "|", [](std::string* out, const Cell& cell) { absl::StrAppend(out, Text(cell)); }));
    }
    return texts;
  }

  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
};

TEST_F(SourceScanTest, ShowsTheColumnsAndTheHiddenOnes) {
  Records records({R"({"date":"2001-01-01 00:01:00","delay":33,"origin":"LAS"})",
                   R"({"origin":"a long name of an airport","delay":null})"});
  records[0].key = "k";
  records[0].event_time_us = 5;
  records[1].key = absl::string_view("\xFF", 1);
  auto input = Input(Flights(), {"date", "delay", "origin"});
  input->SetRecords(records.Open(), {});
  EXPECT_THAT(Rows("SELECT origin, delay, CAST(date AS VARCHAR) FROM flights"),
              ElementsAre("LAS|33|2001-01-01 00:01:00", "a long name of an airport|NULL|NULL"));
  EXPECT_THAT(Rows("SELECT _position, _offset, epoch_us(_time), epoch_us(_event_time), _key "
                   "FROM flights"),
              ElementsAre("0|100|1000000|5|k", "1|101|1000000|NULL|\\xff"));
  EXPECT_THAT(Rows("SELECT _payload FROM flights WHERE _position = 1"),
              ElementsAre(R"({"origin":"a long name of an airport","delay":null})"));
  EXPECT_THAT(Rows("SELECT count(*) FROM flights"), ElementsAre("2"));
  EXPECT_EQ(input->counts().event_time_max_us, 5);
}

TEST_F(SourceScanTest, AnotherConnectionCannotScanIt) {
  Records records({R"({"origin":"LAS"})"});
  auto input = Input(Flights(), {"origin"});
  input->SetRecords(records.Open(), {});
  const auto number = connection_->QueryText(
      "SELECT regexp_extract(sql, 'icepie_records\\((\\d+)\\)', 1) FROM duckdb_views() WHERE "
      "view_name = 'flights'");
  ASSERT_TRUE(number.ok()) << number.status();
  const std::string sql = absl::StrCat("SELECT max(_payload) FROM icepie_records(", *number, ")");
  EXPECT_THAT(Rows(sql), ElementsAre(R"({"origin":"LAS"})"));
  const auto other = DuckConnection::Connect(*database_).value();
  EXPECT_THAT(other->QueryCells(sql).status().message(), HasSubstr("there is no record source"));
}

TEST_F(SourceScanTest, ListsAndStructsBecomeVectors) {
  SourceDef source;
  source.name = "transfers";
  source.stream = "transfers";
  source.columns = {Column("fees", "STRUCT(kind VARCHAR, value DECIMAL(38,18))[]"),
                    Column("tags", "VARCHAR[][]"), Column("w", "STRUCT(day DATE, n UBIGINT[])"),
                    Column("last", "INTEGER[]")};
  const std::string big =
      absl::StrCat(R"({"fees":[)", absl::StrJoin(std::vector<std::string>(3000, "null"), ","),
                   R"(,{"kind":"a kind that is longer than twelve","value":0.12}],"last":[9]})");
  Records records({R"({"fees":[{"kind":"gas","value":"0.000000000000000001"},null,{}],)"
                   R"("tags":[["a","b"],[],null,["c"]],"w":{"day":"2001-01-31","n":[1,null]}})",
                   R"({"fees":[{"value":1}],"tags":[["bad"]],"last":["x"]})",
                   R"({"fees":null,"tags":[],"w":null,"last":[]})", big,
                   R"({"fees":[{"kind":"x"}],"w":{}})"});
  auto input = Input(source, {"fees", "tags", "w", "last"});
  input->SetRecords(records.Open(), {});
  EXPECT_THAT(
      Rows("SELECT CAST(fees AS VARCHAR), CAST(tags AS VARCHAR), CAST(w AS VARCHAR) FROM "
           "transfers WHERE _position <> 3"),
      ElementsAre("[{'kind': gas, 'value': 0.000000000000000001}, NULL, {'kind': NULL, 'value': "
                  "NULL}]|[[a, b], [], NULL, [c]]|{'day': 2001-01-31, 'n': [1, NULL]}",
                  "NULL|[]|NULL", "[{'kind': x, 'value': NULL}]|NULL|{'day': NULL, 'n': NULL}"));
  EXPECT_THAT(Rows("SELECT len(fees), fees[3001].kind, CAST(fees[3001].value AS VARCHAR), "
                   "len(list_filter(fees, lambda f: f IS NULL)), CAST(last AS VARCHAR) FROM "
                   "transfers WHERE _position = 3"),
              ElementsAre("3001|a kind that is longer than twelve|0.120000000000000000|3000|[9]"));
  EXPECT_THAT(Rows("SELECT _position, f.kind FROM (SELECT _position, unnest(fees) AS f FROM "
                   "transfers) WHERE f.kind IS NOT NULL ORDER BY ALL"),
              ElementsAre("0|gas", "3|a kind that is longer than twelve", "4|x"));
  ASSERT_EQ(input->counts().bad_count, 1);
  EXPECT_EQ(input->counts().bad[0].path, "$.last[0]");
  EXPECT_EQ(input->counts().bad[0].value, "\"x\"");
  EXPECT_THAT(input->counts().bad[0].message,
              HasSubstr("column last: $.last[0]: \"x\" is a string"));
}

// Bad records write into the row that a good one then takes, in every vector.
TEST_F(SourceScanTest, ManyChunksOfListsAmongBadRecords) {
  SourceDef source;
  source.name = "transfers";
  source.stream = "transfers";
  source.columns = {Column("a", "STRUCT(n INTEGER, s VARCHAR[])[]"), Column("b", "INTEGER")};
  std::vector<std::string> payloads;
  for (int i = 0; i < 10'000; ++i) {
    std::vector<std::string> parts;
    for (int k = 0; k < i % 5; ++k)
      parts.push_back(absl::StrCat(R"({"n":)", i, R"(,"s":["t)", i, "\"]}"));
    const std::string list =
        i % 7 == 0 ? "null" : absl::StrCat("[", absl::StrJoin(parts, ","), "]");
    payloads.push_back(
        absl::StrCat(R"({"a":)", list, R"(,"b":)", i % 3 == 0 ? "\"bad\"" : "1", "}"));
  }
  Records records(payloads);
  auto input = Input(source, {"a", "b"});
  input->SetRecords(records.Open(), {});
  // For every record that is left, its list is as long as its position says and of its own number.
  EXPECT_THAT(Rows("SELECT count(*), count(a), sum(len(a)) FROM transfers WHERE "
                   "_position % 7 = 0 OR (len(a) = _position % 5 AND len(list_filter(a, lambda p: "
                   "p.n = _position AND p.s = ['t' || _position])) = len(a))"),
              ElementsAre("6666|5714|11426"));
  EXPECT_EQ(input->counts().bad_count, 3334);
}

TEST_F(SourceScanTest, EveryTypeKeepsEveryDigit) {
  SourceDef source;
  source.name = "t";
  source.stream = "t";
  source.columns = {Column("u1", "UTINYINT"), Column("u2", "USMALLINT"), Column("u4", "UINTEGER"),
                    Column("u8", "UBIGINT"),  Column("h", "HUGEINT"),    Column("uh", "UHUGEINT"),
                    Column("f", "FLOAT"),     Column("t", "TIME"),       Column("u", "UUID"),
                    Column("b", "BLOB")};
  Records records({R"({"u1":255,"u2":65535,"u4":4294967295,"u8":18446744073709551615,)"
                   R"("h":-170141183460469231731687303715884105728,)"
                   R"("uh":340282366920938463463374607431768211455,"f":0.1,"t":"23:59:59.000001",)"
                   R"("u":"e7f0a1c2-0000-4000-8000-0123456789ab","b":"AP8="})"});
  std::vector<std::string> names;
  std::vector<std::string> texts;
  for (const ColumnDef& column : source.columns) {
    names.push_back(column.name);
    texts.push_back(absl::StrCat("CAST(", column.name, " AS VARCHAR)"));
  }
  auto input = Input(source, names);
  input->SetRecords(records.Open(), {});
  EXPECT_THAT(Rows(absl::StrCat("SELECT ", absl::StrJoin(texts, ", "), " FROM t")),
              ElementsAre("255|65535|4294967295|18446744073709551615|"
                          "-170141183460469231731687303715884105728|"
                          "340282366920938463463374607431768211455|0.1|23:59:59.000001|"
                          "e7f0a1c2-0000-4000-8000-0123456789ab|\\x00\\xFF"));
}

TEST_F(SourceScanTest, BadRecordsDoNotAppearWhateverIsSelected) {
  Records records({R"({"delay":"late","origin":"LAS"})", R"({"delay":1})",
                   R"({"delay":2,"origin":)", R"({"delay":3,"origin":"PHL"})",
                   R"({"date":"x","origin":"PHL"})"});
  auto input = Input(Flights(), {"delay", "origin"});
  for (const std::string sql :
       {"SELECT count(*) FROM flights", "SELECT sum(delay) - 1 FROM flights",
        "SELECT count(origin) FROM flights"}) {
    input->SetRecords(records.Open(), {});
    EXPECT_THAT(Rows(sql), ElementsAre("2")) << sql;
    const ScanCounts& counts = input->counts();
    EXPECT_EQ(counts.input, 5);
    EXPECT_EQ(counts.rows, 2);
    ASSERT_EQ(counts.bad.size(), 3);
    EXPECT_EQ(counts.bad_count, 3);
    EXPECT_EQ(counts.bad[0].code, "WRONG_TYPE");
    EXPECT_EQ(counts.bad[0].column, "delay");
    EXPECT_EQ(counts.bad[0].path, "$.delay");
    EXPECT_EQ(counts.bad[0].value, "\"late\"");
    EXPECT_EQ(counts.bad[0].position, 0);
    EXPECT_EQ(counts.bad[0].offset, 100);
    EXPECT_EQ(counts.bad[1].code, "MISSING");
    EXPECT_EQ(counts.bad[1].column, "origin");
    EXPECT_EQ(counts.bad[2].code, "INVALID_JSON");
    EXPECT_EQ(counts.bad[2].column, "");
    EXPECT_THAT(counts.bad[2].message, HasSubstr("byte 20"));
  }
}

TEST_F(SourceScanTest, FiltersBeforeItReads) {
  SourceDef source = Flights();
  source.where = {{{"kind", "name"}, "\"flight\""}, {{"version"}, "2"}};
  Records records({R"({"kind":{"name":"flight"},"version":2.0,"origin":"A"})",
                   R"({"kind":{"name":"fl\u0069ght"},"version":2,"origin":"B"})",
                   R"({"kind":{"name":"other"},"version":2,"origin":7})",
                   R"({"kind":5,"version":2})", R"({"kind":{"name":"flight"},"version":3})",
                   R"({"kind":{"name":"flight"},"kind":{"name":"flight"},"version":2})", "[]"});
  auto input = Input(source, {"origin"});
  input->SetRecords(records.Open(), {});
  EXPECT_THAT(Rows("SELECT origin FROM flights"), ElementsAre("A", "B"));
  EXPECT_EQ(input->counts().filtered, 4);
  ASSERT_EQ(input->counts().bad_count, 1);
  EXPECT_EQ(input->counts().bad[0].code, "DUPLICATE_KEY");
  EXPECT_EQ(input->counts().bad[0].path, "$.kind.name");
}

TEST_F(SourceScanTest, ExcludedPositionsAreBad) {
  Records records({R"({"origin":"A"})", R"({"origin":"B"})", R"({"origin":"C"})"});
  auto input = Input(Flights(), {"origin"});
  input->SetRecords(records.Open(), {0, 2});
  EXPECT_THAT(Rows("SELECT origin FROM flights"), ElementsAre("B"));
  ASSERT_EQ(input->counts().bad.size(), 2);
  EXPECT_EQ(input->counts().bad[1].position, 2);
  EXPECT_EQ(input->counts().bad[1].code, "STATEMENT_FAILED");
}

TEST_F(SourceScanTest, PreparedStatementsSeeNewRecords) {
  Records first({R"({"origin":"A"})"});
  Records second({R"({"origin":"B"})", R"({"origin":"C"})"});
  auto input = Input(Flights(), {"origin"});
  ASSERT_TRUE(connection_->Run("CREATE TABLE seen(origin VARCHAR)").ok());
  auto statement = connection_->Prepare("INSERT INTO seen SELECT origin FROM flights").value();
  for (Records* records : {&first, &second, &first}) {
    input->SetRecords(records->Open(), {});
    ASSERT_TRUE(statement->Execute().ok());
  }
  EXPECT_THAT(Rows("SELECT origin FROM seen"), ElementsAre("A", "B", "C", "A"));
}

TEST_F(SourceScanTest, StatementsOutliveTheInput) {
  Records records({R"({"origin":"A"})"});
  auto input = Input(Flights(), {"origin"});
  input->SetRecords(records.Open(), {});
  auto statement = connection_->Prepare("SELECT origin FROM flights").value();
  ASSERT_TRUE(statement->Execute().ok());
  input.reset();
  EXPECT_FALSE(statement->Execute().ok());
  EXPECT_THAT(connection_->Run("SELECT origin FROM flights").ToString(),
              HasSubstr("no record source"));
}

TEST_F(SourceScanTest, AnInputWithoutRecordsFails) {
  auto input = Input(Flights(), {"origin"});
  EXPECT_FALSE(connection_->Run("SELECT * FROM flights").ok());
  EXPECT_EQ(input->supply_error().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(SourceScanTest, CountsASelfJoinOnce) {
  Records records({R"({"origin":"A"})", R"({"origin":"B"})", R"({"origin":1})"});
  auto input = Input(Flights(), {"origin"});
  input->SetRecords(records.Open(), {});
  EXPECT_THAT(Rows("SELECT count(*) FROM flights AS a JOIN flights AS b USING (origin)"),
              ElementsAre("2"));
  EXPECT_EQ(input->counts().input, 3);
  EXPECT_EQ(input->counts().bad_count, 1);
}

TEST_F(SourceScanTest, CountsAllWhenAScanStopsEarlyOrNeverBegins) {
  std::vector<std::string> payloads(10'000, R"({"origin":"A"})");
  Records records(payloads);
  auto input = Input(Flights(), {"origin"});
  input->SetRecords(records.Open(), {});
  EXPECT_THAT(Rows("SELECT origin FROM flights LIMIT 1"), ElementsAre("A"));
  EXPECT_EQ(input->counts().rows, 10'000);
  input->SetRecords(records.Open(), {});
  EXPECT_EQ(input->counts().rows, 10'000);
  EXPECT_THAT(Rows("SELECT count(*) FROM flights"), ElementsAre("10000"));
  EXPECT_EQ(input->counts().rows, 10'000);
}

TEST_F(SourceScanTest, CountsAgainAfterSetRecords) {
  Records records({R"({"origin":"A"})"});
  Records none({});
  auto input = Input(Flights(), {"origin"});
  input->SetRecords(records.Open(), {});
  ASSERT_TRUE(connection_->Run("SELECT count(*) FROM flights").ok());
  EXPECT_EQ(input->counts().rows, 1);
  input->SetRecords(none.Open(), {});
  EXPECT_EQ(input->counts().rows, 0);
}

TEST_F(SourceScanTest, ErrorsOfTheSupplyAreTheStatements) {
  Records records({R"({"origin":"A"})"});
  auto input = Input(Flights(), {"origin"});
  const RecordView view = records[0];
  input->SetRecords(
      [&]() -> absl::StatusOr<std::unique_ptr<RecordSupply>> {
        return std::make_unique<BrokenSupply>(absl::MakeConstSpan(&view, 1));
      },
      {});
  const absl::Status status = connection_->Run("SELECT count(*) FROM flights");
  EXPECT_THAT(status.ToString(), HasSubstr("the daemon has gone"));
  EXPECT_EQ(input->supply_error().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(input->counts().input, 0);
  input->SetRecords(records.Open(), {});
  EXPECT_TRUE(input->supply_error().ok());
  EXPECT_THAT(Rows("SELECT count(*) FROM flights"), ElementsAre("1"));
}

TEST_F(SourceScanTest, ErrorsOfOpenAreTheStatements) {
  auto input = Input(Flights(), {"origin"});
  input->SetRecords(
      []() -> absl::StatusOr<std::unique_ptr<RecordSupply>> {
        return absl::UnavailableError("no feed");
      },
      {});
  EXPECT_THAT(connection_->Run("SELECT count(*) FROM flights").ToString(), HasSubstr("no feed"));
  EXPECT_EQ(input->supply_error().code(), absl::StatusCode::kUnavailable);
}

TEST_F(SourceScanTest, ADimensionShowsTheNewestRecordPerKey) {
  SourceDef source = Flights();
  source.latest_by = {"origin"};
  Records records({R"({"origin":"A","delay":1})", R"({"origin":"B","delay":2})",
                   R"({"origin":"A","delay":3})", R"({"origin":"A","delay":"x"})"});
  auto input = Input(source, {"delay"});
  input->SetRecords(records.Open(), {});
  EXPECT_THAT(Rows("SELECT origin, delay, _position FROM flights ORDER BY origin"),
              ElementsAre("A|3|2", "B|2|1"));
  EXPECT_EQ(input->counts().input, 4);
}

TEST_F(SourceScanTest, FillsManyChunksWithNullsAmongThem) {
  std::vector<std::string> payloads;
  for (int i = 0; i < 10'000; ++i) {
    payloads.push_back(i % 3 == 0   ? R"({"origin":"a name longer than twelve"})"
                       : i % 3 == 1 ? absl::StrCat(R"({"origin":"A","delay":)", i, "}")
                                    : R"({"origin":null,"delay":null})");
  }
  Records records(payloads);
  auto input = Input(Flights(), {"delay", "origin"});
  input->SetRecords(records.Open(), {});
  EXPECT_THAT(Rows("SELECT count(*), count(delay), sum(delay) = sum(_position) FILTER (WHERE "
                   "delay IS NOT NULL), count(DISTINCT origin) FROM flights"),
              ElementsAre("6667|3333|1|2"));
  EXPECT_EQ(input->counts().bad_count, 3333);
  EXPECT_EQ(input->counts().bad[0].code, "NULL_VALUE");
}

TEST_F(SourceScanTest, ListsABoundedNumberOfBadRecords) {
  const std::vector<std::string> payloads(kBadRecordsListedMax + 5, "nope");
  Records records(payloads);
  auto input = Input(Flights(), {"delay"});
  input->SetRecords(records.Open(), {});
  EXPECT_EQ(input->counts().bad_count, kBadRecordsListedMax + 5);
  EXPECT_EQ(static_cast<int64_t>(input->counts().bad.size()), kBadRecordsListedMax);
}

TEST_F(SourceScanTest, BadBytesAreShownAsText) {
  Records records({"\xFF\xFE{", std::string(500, 'x')});
  auto input = Input(Flights(), {});
  input->SetRecords(records.Open(), {});
  ASSERT_EQ(input->counts().bad.size(), 2);
  EXPECT_EQ(input->counts().bad[0].value, "\\xff\\xfe{");
  EXPECT_EQ(input->counts().bad[1].value.size(), 80);
}

TEST_F(SourceScanTest, RefusesUnknownColumnsAndBadDefaults) {
  const auto unknown = SourceInput::Create(*connection_, Flights(), {"dealy"});
  EXPECT_EQ(ErrorReason(unknown.status()), "DEFINITION_INVALID");
  EXPECT_THAT(unknown.status().ToString(), HasSubstr("have: date, delay, origin"));
  SourceDef source = Flights();
  source.columns[1].default_json = "\"none\"";
  const auto bad = SourceInput::Create(*connection_, source, {"delay"});
  EXPECT_EQ(ErrorReason(bad.status()), "DEFINITION_INVALID");
  EXPECT_THAT(bad.status().ToString(), HasSubstr("column delay: default \"none\""));
}

TEST_F(SourceScanTest, InputsOfSeveralConnectionsAreApart) {
  auto other = DuckConnection::Connect(*database_).value();
  Records here({R"({"origin":"A"})"});
  Records there({R"({"origin":"B"})"});
  auto input = Input(Flights(), {"origin"});
  auto other_input = SourceInput::Create(*other, Flights(), {"origin"}).value();
  input->SetRecords(here.Open(), {});
  other_input->SetRecords(there.Open(), {});
  EXPECT_THAT(Rows("SELECT origin FROM flights"), ElementsAre("A"));
  EXPECT_EQ(other->QueryText("SELECT origin FROM flights").value(), "B");
}

TEST_F(SourceScanTest, WorksBesideAnAttachedDatabaseInUse) {
  ASSERT_TRUE(connection_->Run("ATTACH ':memory:' AS g1; USE g1").ok());
  Records records({R"({"origin":"A"})"});
  auto input = Input(Flights(), {"origin"});
  input->SetRecords(records.Open(), {});
  ASSERT_TRUE(connection_->Run("BEGIN; CREATE TABLE t AS SELECT origin FROM flights; COMMIT").ok());
  EXPECT_THAT(Rows("SELECT origin FROM g1.t"), ElementsAre("A"));
}

}  // namespace
}  // namespace icepie::slices
