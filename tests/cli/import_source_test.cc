#include "cli/import_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::cli {
namespace {

using icepie::v1::AppendRecordsRequest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ImportSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "import_source_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& content) {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  // All payloads of the file, batch after batch.
  absl::StatusOr<std::vector<std::string>> ReadAll(const ImportFile& file,
                                                   const BatchLimits& limits = {}) {
    auto source = ImportSource::Open(file);
    if (!source.ok()) return source.status();
    std::vector<std::string> payloads;
    while (true) {
      AppendRecordsRequest batch;
      const absl::Status status = (*source)->Fill(limits, &batch);
      for (const auto& record : batch.records()) payloads.push_back(record.payload());
      batches_ += batch.records_size() > 0 ? 1 : 0;
      int64_t bytes = 0;
      for (const auto& record : batch.records())
        bytes += static_cast<int64_t>(record.payload().size());
      EXPECT_LE(batch.records_size(), limits.records_max);
      EXPECT_TRUE(bytes <= limits.bytes_max || batch.records_size() == 1) << bytes;
      total_ = (*source)->TotalRecords();
      if (!status.ok()) return status;
      if (batch.records_size() == 0) return payloads;
    }
  }

  absl::StatusOr<std::vector<std::string>> ReadAll(const std::string& path) {
    ImportFile file;
    file.path = path;
    return ReadAll(file);
  }

  std::string directory_;
  int batches_ = 0;
  int64_t total_ = 0;
};

TEST_F(ImportSourceTest, LinesAreKeptAsTheyAre) {
  const auto read = ReadAll(Write("a.jsonl", "{\"a\": 1}\r\n\n  \n [2]\n\"last\""));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(*read, ElementsAre("{\"a\": 1}", " [2]", "\"last\""));
}

TEST_F(ImportSourceTest, BadLineIsNamedAndGoodOnesBeforeItAreGiven) {
  ImportFile file;
  file.path = Write("a.jsonl", "{\"a\":1}\n\n{\"a\":2}\n{\"a\":}\n{\"a\":4}\n");
  auto source = ImportSource::Open(file);
  ASSERT_TRUE(source.ok());
  AppendRecordsRequest batch;
  const absl::Status status = (*source)->Fill(BatchLimits(), &batch);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a.jsonl:4: not well-formed JSON"));
  ASSERT_EQ(batch.records_size(), 2);
  EXPECT_EQ(batch.records(0).payload(), "{\"a\":1}");
  EXPECT_EQ(batch.records(1).payload(), "{\"a\":2}");
}

TEST_F(ImportSourceTest, AnythingGoesIntoStreamsOfBytes) {
  ImportFile file;
  file.path = Write("a.jsonl", "no json\n{\n");
  file.check_json = false;
  const auto read = ReadAll(file);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(*read, ElementsAre("no json", "{"));
}

TEST_F(ImportSourceTest, SkipsAndLimits) {
  ImportFile file;
  file.path = Write("a.jsonl", "0\n1\n\n2\n3\n4\n");
  file.skip = 2;
  file.limit = 4;
  EXPECT_THAT(*ReadAll(file), ElementsAre("2", "3"));
  file.skip = 9;
  EXPECT_THAT(*ReadAll(file), ElementsAre());
}

TEST_F(ImportSourceTest, BatchesKeepTheirLimits) {
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += "\"" + std::string(98, 'x') + "\"\n";
  ImportFile file;
  file.path = Write("a.jsonl", lines);
  EXPECT_EQ(ReadAll(file, {7, 1 << 20})->size(), 100U);
  EXPECT_EQ(batches_, 15);
  batches_ = 0;
  EXPECT_EQ(ReadAll(file, {1000, 1000})->size(), 100U);
  EXPECT_EQ(batches_, 10);
  batches_ = 0;
  EXPECT_EQ(ReadAll(file, {1000, 10})->size(), 100U);  // each larger than a batch: one by one
  EXPECT_EQ(batches_, 100);
}

TEST_F(ImportSourceTest, LinesLongerThanTheReadBuffer) {
  const std::string large = "\"" + std::string(3 << 20, 'x') + "\"";
  const auto read = ReadAll(Write("a.jsonl", "1\n" + large + "\n2\n"));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(*read, ElementsAre("1", large, "2"));
}

TEST_F(ImportSourceTest, FilesWithoutLineEndsAreRefused) {
  const auto read = ReadAll(Write("a.jsonl", std::string(20 << 20, 'x')));
  EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(read.status().message()), HasSubstr("a.jsonl:1: longer than"));
}

TEST_F(ImportSourceTest, EmptyFile) { EXPECT_EQ(ReadAll(Write("a.jsonl", ""))->size(), 0U); }

TEST_F(ImportSourceTest, CsvRowsWithQuotesAndTypes) {
  const auto read = ReadAll(Write("a.csv",
                                  "iata,name,lat,opened\n"
                                  "00M,\"Thigpen, \"\"Jr\"\"\",31.95,2001-01-01 00:05:00\n"
                                  "ZRH,,-47.5,\n"));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(
      *read,
      ElementsAre(
          R"({"iata":"00M","name":"Thigpen, \"Jr\"","lat":31.95,"opened":"2001-01-01 00:05:00"})",
          R"({"iata":"ZRH","name":null,"lat":-47.5,"opened":null})"));
}

// Of several of DuckDB's chunks, and wherever an import goes on.
TEST_F(ImportSourceTest, CsvRowsStayInOrder) {
  std::string rows = "i\n";
  std::vector<std::string> expected;
  for (int i = 0; i < 20'000; ++i) {
    rows += std::to_string(i) + "\n";
    expected.push_back("{\"i\":" + std::to_string(i) + "}");
  }
  ImportFile file;
  file.path = Write("a.csv", rows);
  for (const int64_t skip : {0, 1, 12'345, 20'000}) {
    file.skip = skip;
    const auto read = ReadAll(file);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_TRUE(*read == std::vector<std::string>(expected.begin() + skip, expected.end())) << skip;
  }
  file.skip = 10;
  file.limit = 12;
  EXPECT_THAT(*ReadAll(file), ElementsAre("{\"i\":10}", "{\"i\":11}"));
}

TEST_F(ImportSourceTest, CsvTypesComeFromTheWholeFile) {
  std::string rows = "a\n";
  for (int i = 0; i < 50'000; ++i) rows += "1\n";
  const auto read = ReadAll(Write("a.csv", rows + "late text\n"));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->front(), R"({"a":"1"})");
  EXPECT_EQ(read->back(), R"({"a":"late text"})");
  EXPECT_EQ(total_, 50'001);
}

TEST_F(ImportSourceTest, ParquetRowsInOrder) {
  const std::string path = directory_ + "/a.parquet";
  auto database = slices::DuckDatabase::OpenInMemory({});
  auto connection = slices::DuckConnection::Connect(**database);
  ASSERT_TRUE((*connection)
                  ->Run("COPY (SELECT i, i * 1.50 AS price, TIMESTAMP '2001-01-01' + to_seconds(i) "
                        "AS at FROM range(300000) t(i)) TO " +
                        slices::QuoteLiteral(path) + " (FORMAT parquet)")
                  .ok());
  ImportFile file;
  file.path = path;
  file.event_time = "at";
  auto source = ImportSource::Open(file);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->TotalRecords(), 300'000);
  AppendRecordsRequest batch;
  ASSERT_TRUE((*source)->Fill({5000, 1 << 20}, &batch).ok());
  ASSERT_EQ(batch.records_size(), 5000);
  EXPECT_EQ(batch.records(1).payload(), R"({"i":1,"price":1.50,"at":"2001-01-01 00:00:01"})");
  EXPECT_EQ(batch.records(1).event_time().seconds(), 978307201);

  file.skip = 99'999;
  const auto later = ReadAll(file);
  ASSERT_TRUE(later.ok()) << later.status();
  ASSERT_EQ(later->size(), 200'001U);
  size_t in_order = 0;
  while (in_order < later->size() &&
         absl::StartsWith((*later)[in_order], absl::StrCat("{\"i\":", 99'999 + in_order, ","))) {
    ++in_order;
  }
  EXPECT_EQ(in_order, later->size());

  file.skip = 299'998;
  const auto rest = ReadAll(file);
  ASSERT_TRUE(rest.ok()) << rest.status();
  ASSERT_EQ(rest->size(), 2U);
  EXPECT_THAT(rest->back(), HasSubstr("\"i\":299999,"));
  file.skip = 300'000;
  EXPECT_EQ(ReadAll(file)->size(), 0U);
  file.skip = 0;
  file.limit = 3;
  EXPECT_EQ(ReadAll(file)->size(), 3U);
  EXPECT_EQ(total_, 3);
}

TEST_F(ImportSourceTest, NumbersThatJsonCannotHold) {
  const std::string path = directory_ + "/a.parquet";
  auto database = slices::DuckDatabase::OpenInMemory({});
  auto connection = slices::DuckConnection::Connect(**database);
  const auto write = [&](const std::string& rows) {
    return (*connection)
        ->Run("COPY (" + rows + ") TO " + slices::QuoteLiteral(path) + " (FORMAT parquet)");
  };
  ASSERT_TRUE(write("SELECT i, (['1.5', 'nan', 'inf', '-inf'])[i]::DOUBLE AS \"a \"\"b\", "
                    "(['1.5', 'nan', 'inf', '-inf'])[i]::FLOAT AS f FROM range(1, 5) t(i)")
                  .ok());
  EXPECT_THAT(*ReadAll(path), ::testing::ElementsAre(R"({"i":1,"a \"b":1.5,"f":1.5})",
                                                     R"({"i":2,"a \"b":null,"f":null})",
                                                     R"({"i":3,"a \"b":null,"f":null})",
                                                     R"({"i":4,"a \"b":null,"f":null})"));

  ASSERT_TRUE(write("SELECT [1.5, (['2.5', 'nan'])[i]::DOUBLE] AS l FROM range(1, 3) t(i)").ok());
  ImportFile file;
  file.path = path;
  auto source = ImportSource::Open(file);
  ASSERT_TRUE(source.ok()) << source.status();
  AppendRecordsRequest batch;
  const absl::Status status = (*source)->Fill({}, &batch);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a.parquet: row 2 has a NaN"));
  ASSERT_EQ(batch.records_size(), 1);
  EXPECT_EQ(batch.records(0).payload(), R"({"l":[1.5,2.5]})");
}

TEST_F(ImportSourceTest, EventTimesOfLines) {
  ImportFile file;
  file.path = Write("a.jsonl", R"({"at":"2001-01-01T00:00:01Z"}
{"at":"2001-01-01 01:00:01.5+01:00"}
{"at":"2001-01-01"}
{"at":null}
{"n":1}
[1]
{"at":978307201}
)");
  file.event_time = "at";
  auto source = ImportSource::Open(file);
  AppendRecordsRequest batch;
  const absl::Status status = (*source)->Fill({}, &batch);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a.jsonl:7: --event-time at is no time"));
  ASSERT_EQ(batch.records_size(), 6);
  EXPECT_EQ(batch.records(0).event_time().seconds(), 978307201);
  EXPECT_EQ(batch.records(1).event_time().seconds(), 978307201);
  EXPECT_EQ(batch.records(1).event_time().nanos(), 500'000'000);
  EXPECT_EQ(batch.records(2).event_time().seconds(), 978307200);
  for (int i = 3; i < 6; ++i) EXPECT_FALSE(batch.records(i).has_event_time()) << i;
}

TEST_F(ImportSourceTest, RowsThatFailHalfWayAreAnErrorAndNoEnd) {
  std::string rows = "at,n\n";
  for (int i = 0; i < 60'000; ++i) rows += "2001-01-01 00:05:00,1\n";
  rows += "2001-01-01 00:05:00x,1\n";
  ImportFile file;
  file.path = Write("a.csv", rows);
  file.event_time = "at";
  auto source = ImportSource::Open(file);
  ASSERT_TRUE(source.ok()) << source.status();
  absl::Status status;
  int64_t given = 0;
  for (int before = 1; status.ok() && before > 0;) {
    AppendRecordsRequest batch;
    status = (*source)->Fill({1000, 1 << 20}, &batch);
    before = batch.records_size();
    given += before;
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_GT(given, 0) << "not half-way";
  EXPECT_LE(given, 60'000);
}

TEST_F(ImportSourceTest, WrongFilesAreNamed) {
  const auto code = [this](const std::string& path) { return ReadAll(path).status(); };
  EXPECT_EQ(code(directory_ + "/none.jsonl").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(code(directory_ + "/none.parquet").code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(code(Write("a.xlsx", "")).message()), HasSubstr("--format"));
  EXPECT_THAT(std::string(code(Write("a.parquet", "not parquet")).message()),
              HasSubstr("a.parquet: "));
  std::filesystem::create_directory(directory_ + "/dir.jsonl");
  EXPECT_EQ(code(directory_ + "/dir.jsonl").code(), absl::StatusCode::kInvalidArgument);
  ImportFile file;
  file.path = Write("b.csv", "a\n1\n");
  file.event_time = "nope";
  EXPECT_THAT(std::string(ReadAll(file).status().message()), HasSubstr("nope"));
}

}  // namespace
}  // namespace icepie::cli
