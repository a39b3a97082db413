#include "slices/source_scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/duckdb.h"

namespace icepie::slices {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ColumnDef Column(const std::string& name, ColumnKind kind, const std::string& type) {
  ColumnDef column;
  column.name = name;
  column.kind = kind;
  column.type = type;
  column.path = {name};
  return column;
}

SourceDef Flights() {
  SourceDef source;
  source.name = "flights";
  source.stream = "flights";
  source.columns = {Column("date", ColumnKind::kTimestamp, "TIMESTAMP"),
                    Column("delay", ColumnKind::kInteger, "INTEGER"),
                    Column("origin", ColumnKind::kVarchar, "VARCHAR")};
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
