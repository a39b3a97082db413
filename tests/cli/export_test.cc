// icepie export and its way back, against the real core and its service.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>

#include <fstream>

#include "cli/record_envelope.h"
#include "slices/duckdb/duckdb.h"
#include "tests/cli/core_program_fixture.h"

namespace icepie::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class ExportTest : public CoreProgramFixture {
 protected:
  void Append(const std::string& stream, PayloadFormat format,
              const std::vector<NewRecord>& records) {
    ASSERT_TRUE(core_->CreateStream(stream, format).ok());
    AppendBatch batch;
    batch.records = records;
    for (NewRecord& record : batch.records) record.stream = stream;
    const auto appended = core_->AppendAndWait(std::move(batch));
    ASSERT_TRUE(appended.ok()) << appended.status();
  }

  // Every record of a stream as the core has it, without what the core itself sets.
  std::vector<std::string> Stored(const std::string& stream) {
    const auto stub = icepie::v1::Core::NewStub(
        grpc::CreateChannel(address_, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    icepie::v1::ReadRecordsRequest request;
    request.add_streams(stream);
    const auto reader = stub->ReadRecords(&context, request);
    icepie::v1::ReadRecordsResponse part;
    std::vector<std::string> records;
    while (reader->Read(&part)) {
      for (icepie::v1::Record record : part.records()) {
        record.clear_stream();
        record.clear_position();
        record.clear_offset();
        record.clear_ingest_time();
        records.push_back(record.SerializeAsString());
      }
    }
    EXPECT_TRUE(reader->Finish().ok());
    return records;
  }

  static std::string Content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  std::vector<std::string> Files() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      if (entry.is_regular_file()) names.push_back(entry.path().filename().string());
    }
    return names;
  }

  static NewRecord Make(std::string payload) {
    NewRecord record;
    record.payload = std::move(payload);
    return record;
  }

  // Payloads, keys and headers that no line of text can hold as they are.
  static std::vector<NewRecord> Awkward(bool json) {
    std::vector<NewRecord> records;
    const std::vector<std::string> payloads =
        json ? std::vector<std::string>{"{\"a\":1.50}", " [1,\n2]\r\n", "\"z\\u00fc \xc3\xbc\"",
                                        "1e400", "{\"a\":1,\"a\":2}"}
             : std::vector<std::string>{std::string("\0\n\r", 3), "", "\xff\xfe", "plain",
                                        "{\"a\":1}"};
    for (const std::string& payload : payloads) records.push_back(Make(payload));
    records[0].key = std::string("k\0\xff", 3);
    records[1].key = "";
    records[2].key = "schl\xc3\xbcssel\n\"";
    records[1].event_time_us = -1;
    records[2].event_time_us = 1700000000123456;
    records[3].headers = {{"producer", "w-1"}, {"bin", std::string("\0\x80", 2)}};
    return records;
  }
};

TEST_F(ExportTest, PlainLinesAreThePayloads) {
  std::string lines;
  std::vector<NewRecord> records;
  for (int i = 0; i < 3000; ++i) {
    records.push_back(Make("{ \"n\" : " + std::to_string(i) + " }"));
    lines += records.back().payload + "\n";
  }
  Append("a", PayloadFormat::kJson, records);
  const std::string file = directory_ + "/a.jsonl";
  const Outcome exported = Run({"export", "a", file});
  EXPECT_EQ(exported.code, 0) << exported.err;
  EXPECT_THAT(exported.out, StartsWith("3,000 records of a into "));
  EXPECT_THAT(exported.err, HasSubstr("export a"));
  EXPECT_EQ(Content(file), lines);
  EXPECT_THAT(Files(), testing::ElementsAre("a.jsonl"));

  EXPECT_EQ(Run({"import", "b", file, "--create"}).code, 0);
  EXPECT_EQ(Stored("b"), Stored("a"));

  const Outcome again = Run({"export", "a", file, "--offset", "2998"});
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.err, HasSubstr("--overwrite"));
  EXPECT_EQ(Content(file), lines);
  const Outcome part = Run({"export", "a", file, "--offset", "2990", "--end-offset", "2999",
                            "--limit", "5", "--overwrite", "--json"});
  EXPECT_EQ(Content(file), lines.substr(lines.find("{ \"n\" : 2990"), 5 * 15));
  EXPECT_THAT(part.out, HasSubstr("\"records\": 5, \"payload_bytes\": 70, \"from_offset\": 2990, "
                                  "\"end_offset\": 2995"));
}

TEST_F(ExportTest, RangesAreChecked) {
  Append("a", PayloadFormat::kJson, {Make("1"), Make("2")});
  const std::string file = directory_ + "/a.jsonl";
  EXPECT_THAT(Run({"export", "a", file, "--offset", "3"}).err, HasSubstr("beyond the end 2"));
  EXPECT_THAT(Run({"export", "a", file, "--offset", "1", "--end-offset", "0"}).err,
              HasSubstr("end_offset is 0, before 1"));
  EXPECT_EQ(Run({"export", "nope", file}).code, 1);
  EXPECT_THAT(Run({"export", "a", directory_ + "/a.txt"}).err, HasSubstr("--format"));
  EXPECT_EQ(Run({"export", "a", directory_ + "/none/a.jsonl"}).code, 1);
  EXPECT_EQ(Run({"export", "a", "-", "--format", "parquet"}).code, 1);
  EXPECT_EQ(Run({"export", "a", directory_ + "/a.parquet", "--envelope"}).code, 1);
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_EQ(Run({"export", "a", file, "--offset", "2"}).code, 0);
  EXPECT_EQ(Content(file), "");
  EXPECT_EQ(Run({"export", "a", "-", "--end-offset", "99"}).out, "1\n2\n");
}

TEST_F(ExportTest, WhatNoLineCanHoldIsRefusedWithTheRemedy) {
  const std::string file = directory_ + "/a.jsonl";
  Append("a", PayloadFormat::kJson, {Make("1"), Make("[1,\n2]")});
  const Outcome refused = Run({"export", "a", file});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("offset 1 (position 1) of stream a has a line end inside"));
  EXPECT_THAT(refused.err, HasSubstr("--envelope"));
  Append("b", PayloadFormat::kBytes, {Make("x\r")});
  EXPECT_EQ(Run({"export", "b", file}).code, 3);
  Append("c", PayloadFormat::kBytes, {Make("")});
  EXPECT_EQ(Run({"export", "c", file}).code, 3);
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(ExportTest, EnvelopesComeBackByteForByte) {
  for (const bool json : {true, false}) {
    const std::string name = json ? "j" : "b";
    const PayloadFormat format = json ? PayloadFormat::kJson : PayloadFormat::kBytes;
    Append(name, format, Awkward(json));
    const std::string file = directory_ + "/" + name + ".jsonl";
    const Outcome exported = Run({"export", name, file, "--envelope"});
    ASSERT_EQ(exported.code, 0) << exported.err;
    ASSERT_TRUE(core_->CreateStream(name + "_back", format).ok());
    const Outcome imported = Run({"import", name + "_back", file, "--envelope"});
    ASSERT_EQ(imported.code, 0) << imported.err;
    EXPECT_EQ(Stored(name + "_back"), Stored(name));
    EXPECT_EQ(Stored(name).size(), 5u);
  }
  EXPECT_THAT(Content(directory_ + "/j.jsonl"), HasSubstr("\"payload\":{\"a\":1.50}}\n"));
  EXPECT_THAT(Content(directory_ + "/j.jsonl"),
              HasSubstr("\"event_time\":\"2023-11-14T22:13:20.123456Z\""));
}

TEST_F(ExportTest, BadEnvelopesNameTheirLineAndMember) {
  ASSERT_TRUE(core_->CreateStream("a", PayloadFormat::kBytes).ok());
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{", "not well-formed JSON"},
      {"[]", "not a JSON object"},
      {"{}", "one of payload and payload_base64"},
      {R"({"payload":1,"payload_base64":"AA=="})", "one of payload and payload_base64"},
      {R"({"payload":1,"payload":2})", "occurs twice"},
      {R"({"payload_base64":"?"})", "payload_base64\" is not base64"},
      {R"({"payload":1,"key":2})", "\"key\" is not a string"},
      {R"({"payload":1,"event_time":"noon"})", "\"event_time\" is no time"},
      {R"({"payload":1,"headers":[{"name":"x"}]})", "\"headers\" must hold"},
      {R"({"payload":1,"headers":{}})", "\"headers\" is not an array"},
  };
  for (const auto& [line, message] : cases) {
    SCOPED_TRACE(line);
    const std::string file = Write("bad.jsonl", "{\"payload\":1}\n" + line + "\n");
    const Outcome outcome = Run({"import", "a", file, "--envelope"});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr("bad.jsonl:2: "));
    EXPECT_THAT(outcome.err, HasSubstr(message));
  }
}

TEST_F(ExportTest, ParquetHoldsEveryByte) {
  for (const bool json : {true, false}) {
    const std::string name = json ? "j" : "b";
    Append(name, json ? PayloadFormat::kJson : PayloadFormat::kBytes, Awkward(json));
    const std::string file = directory_ + "/" + name + ".parquet";
    const Outcome exported = Run({"export", name, file});
    ASSERT_EQ(exported.code, 0) << exported.err;
    auto database = slices::DuckDatabase::OpenInMemory({});
    ASSERT_TRUE(database.ok());
    auto connection = slices::DuckConnection::Connect(**database);
    const auto rows =
        (*connection)
            ->QueryCells(
                "SELECT _offset, hex(_key), hex(_payload), epoch_us(_event_time), _headers, "
                "typeof(_payload), typeof(_time) FROM '" +
                file + "'");
    ASSERT_TRUE(rows.ok()) << rows.status();
    const std::vector<NewRecord> records = Awkward(json);
    ASSERT_EQ(rows->size(), records.size());
    for (size_t i = 0; i < records.size(); ++i) {
      SCOPED_TRACE(i);
      const auto& row = (*rows)[i];
      const auto hex = [](const std::string& bytes) {
        std::string text;
        for (const char c : bytes) {
          char two[3];
          snprintf(two, sizeof two, "%02X", static_cast<unsigned char>(c));
          text += two;
        }
        return slices::Cell(text);
      };
      EXPECT_EQ(row[0], slices::Cell(static_cast<int64_t>(i)));
      EXPECT_EQ(row[1], records[i].key ? hex(*records[i].key) : slices::Cell());
      EXPECT_EQ(row[2], hex(records[i].payload));
      EXPECT_EQ(row[3], records[i].event_time_us ? slices::Cell(*records[i].event_time_us)
                                                 : slices::Cell());
      EXPECT_EQ(row[4].index() == 0, records[i].headers.empty());
      EXPECT_EQ(row[5], slices::Cell(std::string(json ? "VARCHAR" : "BLOB")));
      EXPECT_EQ(row[6], slices::Cell(std::string("TIMESTAMP WITH TIME ZONE")));
    }
  }
}

TEST_F(ExportTest, ParquetOfARangeHoldsThatRange) {
  std::vector<NewRecord> records;
  for (int i = 0; i < 3000; ++i) records.push_back(Make(std::to_string(i)));
  Append("a", PayloadFormat::kJson, records);
  const std::string file = directory_ + "/a.parquet";
  const auto offsets = [&] {
    auto database = slices::DuckDatabase::OpenInMemory({});
    auto connection = slices::DuckConnection::Connect(**database);
    const auto rows = (*connection)->QueryCells("SELECT _offset, _payload FROM '" + file + "'");
    EXPECT_TRUE(rows.ok()) << rows.status();
    std::vector<int64_t> found;
    for (const auto& row : *rows) {
      found.push_back(std::get<int64_t>(row[0]));
      EXPECT_EQ(row[1], slices::Cell(std::to_string(found.back())));
    }
    return found;
  };
  EXPECT_EQ(Run({"export", "a", file, "--offset", "2990", "--end-offset", "2993"}).code, 0);
  EXPECT_THAT(offsets(), testing::ElementsAre(2990, 2991, 2992));
  const Outcome limited =
      Run({"export", "a", file, "--offset", "7", "--limit", "2", "--overwrite", "--json"});
  EXPECT_THAT(limited.out, HasSubstr("\"from_offset\": 7, \"end_offset\": 9"));
  EXPECT_THAT(offsets(), testing::ElementsAre(7, 8));
  EXPECT_EQ(Run({"export", "a", file, "--offset", "3000", "--overwrite"}).code, 0);
  EXPECT_THAT(offsets(), IsEmpty());
}

TEST_F(ExportTest, LargeParquetKeepsTheOrder) {
  constexpr int64_t kRecords = 300000;  // several row groups
  ASSERT_TRUE(core_->CreateStream("a", PayloadFormat::kJson).ok());
  for (int64_t first = 0; first < kRecords; first += 50000) {
    AppendBatch batch;
    for (int64_t n = first; n < first + 50000; ++n) {
      NewRecord record = Make(std::to_string(n));
      record.stream = "a";
      batch.records.push_back(std::move(record));
    }
    ASSERT_TRUE(core_->AppendAndWait(std::move(batch)).ok());
  }
  const std::string file = directory_ + "/a.parquet";
  const Outcome exported = Run({"export", "a", file, "--json"});
  ASSERT_EQ(exported.code, 0) << exported.err;
  EXPECT_THAT(exported.out, HasSubstr("\"records\": 300000"));
  auto database = slices::DuckDatabase::OpenInMemory({});
  auto connection = slices::DuckConnection::Connect(**database);
  const auto rows = (*connection)
                        ->QueryCells(
                            "SELECT count(*), count(DISTINCT _offset), bool_and(_offset = "
                            "file_row_number AND _payload = "
                            "CAST(_offset AS VARCHAR))::INTEGER FROM read_parquet('" +
                            file + "', file_row_number = true)");
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ((*rows)[0][0], slices::Cell(kRecords));
  EXPECT_EQ((*rows)[0][1], slices::Cell(kRecords));
  EXPECT_EQ((*rows)[0][2], slices::Cell(int64_t{1}));
}

TEST_F(ExportTest, AFailedExportLeavesNothing) {
  std::vector<NewRecord> records(1000, Make("1"));
  records.push_back(Make("[\n]"));
  Append("a", PayloadFormat::kJson, records);
  const std::string file = Write("a.jsonl", "old");
  EXPECT_EQ(Run({"export", "a", file, "--overwrite"}).code, 3);
  EXPECT_EQ(Content(file), "old");
  EXPECT_THAT(Files(), testing::ElementsAre("a.jsonl"));
}

}  // namespace
}  // namespace icepie::cli
