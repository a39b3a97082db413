#include "core/append/payload_paths.h"

#include <gmock/gmock.h>

#include <utility>

#include "core/base/status.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

using testing::HasSubstr;

PayloadPaths Paths(const std::string& key, const std::string& event_time) {
  return {*ParsePayloadPath("key_path", key), *ParsePayloadPath("event_time_path", event_time)};
}

TEST(PayloadPathsTest, PathsAreMembersAndDots) {
  EXPECT_THAT(ParsePayloadPath("key_path", "$.from.wallet_1-x")->members,
              testing::ElementsAre("from", "wallet_1-x"));
  EXPECT_TRUE(ParsePayloadPath("key_path", "")->text.empty());
  for (const std::string& bad :
       {std::string("from"), std::string("$"), std::string("$."), std::string("$.a."),
        std::string("$..a"), std::string("$.a[0]"), std::string("$.a b"), std::string("$.*"),
        "$." + std::string(300, 'a'), std::string("$.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a")}) {
    const absl::Status status = ParsePayloadPath("key_path", bad).status();
    EXPECT_EQ(ErrorReason(status), "PARAMETER_INVALID") << bad;
    EXPECT_EQ(GetErrorDetail(status)->violations.at(0).field, "key_path");
  }
}

std::string KeyOf(const std::string& payload) {
  NewRecord record = MakeRecord("a", payload);
  const absl::Status status = FillFromPayload(Paths("$.from.wallet", ""), 0, record);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_FALSE(record.event_time_us.has_value());
  return record.key.value_or("no key");
}

// Why the payload has none.
std::string KeyFault(const std::string& payload) {
  NewRecord record = MakeRecord("a", payload);
  const absl::Status status = FillFromPayload(Paths("$.from.wallet", ""), 7, record);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << payload;
  EXPECT_EQ(ErrorReason(status), "PAYLOAD_INVALID") << payload;
  EXPECT_EQ(GetErrorDetail(status)->metadata.at("record"), "7");
  EXPECT_EQ(GetErrorDetail(status)->metadata.at("path"), "$.from.wallet");
  EXPECT_FALSE(record.key.has_value()) << payload;
  return std::string(status.message());
}

TEST(PayloadPathsTest, KeysAreTextsAndWholeNumbers) {
  EXPECT_EQ(KeyOf(R"({"from":{"wallet":"0xa"}})"), "0xa");
  EXPECT_EQ(KeyOf(R"({"x":[{"from":1}],"from":{"y":null,"wallet":"\u00e9\n"},"z":1e999})"),
            "\xc3\xa9\n");
  EXPECT_EQ(KeyOf(R"({"from":{"wallet": 123456789012345678901234567890 }})"),
            "123456789012345678901234567890");
  EXPECT_EQ(KeyOf(R"({"from":{"wallet":-7}})"), "-7");
  EXPECT_EQ(KeyOf(R"({"from":{"wallet":""}})"), "");
  EXPECT_EQ(KeyOf(R"({"\u0066rom":{"wallet":"escaped name"}})"), "escaped name");
}

TEST(PayloadPathsTest, WhatIsNotAKeyIsNamed) {
  EXPECT_THAT(KeyFault(R"({"from":{}})"), HasSubstr("$.from.wallet of the payload is missing"));
  EXPECT_THAT(KeyFault(R"({"from":"0xa"})"), HasSubstr("is missing"));
  EXPECT_THAT(KeyFault(R"({"from":null})"), HasSubstr("is missing"));
  EXPECT_THAT(KeyFault(R"([1])"), HasSubstr("the payload is not an object"));
  EXPECT_THAT(KeyFault(R"("text")"), HasSubstr("the payload is not an object"));
  EXPECT_THAT(KeyFault(R"({"from":{"wallet":null}})"), HasSubstr("is null"));
  EXPECT_THAT(KeyFault(R"({"from":{"wallet":7.5}})"),
              HasSubstr("neither a text nor a whole number"));
  EXPECT_THAT(KeyFault(R"({"from":{"wallet":1e3}})"),
              HasSubstr("neither a text nor a whole number"));
  EXPECT_THAT(KeyFault(R"({"from":{"wallet":true}})"), HasSubstr("neither"));
  EXPECT_THAT(KeyFault(R"({"from":{"wallet":["a"]}})"), HasSubstr("neither"));
  EXPECT_THAT(KeyFault(R"({"from":{"wallet":"a","wallet":"b"}})"),
              HasSubstr("wallet occurs twice"));
  EXPECT_THAT(KeyFault(R"({"from":{"wallet":"a"},"from":1})"), HasSubstr("from occurs twice"));
}

std::optional<int64_t> TimeOf(const std::string& value) {
  NewRecord record = MakeRecord("a", "{\"at\":" + value + "}");
  const absl::Status status = FillFromPayload(Paths("", "$.at"), 3, record);
  EXPECT_EQ(status.ok(), record.event_time_us.has_value()) << value;
  if (!status.ok()) {
    EXPECT_EQ(ErrorReason(status), "PAYLOAD_INVALID");
    EXPECT_EQ(GetErrorDetail(status)->metadata.at("record"), "3");
    EXPECT_EQ(GetErrorDetail(status)->metadata.at("path"), "$.at");
  }
  return record.event_time_us;
}

TEST(PayloadPathsTest, EventTimesAreIso8601) {
  EXPECT_EQ(TimeOf(R"("1970-01-01T00:00:01Z")"), 1000000);
  EXPECT_EQ(TimeOf(R"("1970-01-01T01:00:00.25+01:00")"), 250000);
  EXPECT_EQ(TimeOf(R"("1970-01-01T00:00:00.000001")"), 1);
  EXPECT_EQ(TimeOf(R"("0001-01-01T00:00:00Z")"), -62135596800000000);
  EXPECT_EQ(TimeOf(R"("9999-12-31T23:59:59.999999Z")"), 253402300799999999);
  for (const char* bad :
       {"1", "null", "true", R"("")", R"("yesterday")", R"("1970-01-01")",
        R"("1970-13-01T00:00:00Z")", R"("infinite-future")", R"(" 1970-01-01T00:00:01Z")",
        R"("1970-01-01T00:00:01Z ")", R"("0000-01-01T00:00:00Z")", R"("99999-01-01T00:00:00Z")"}) {
    EXPECT_EQ(TimeOf(bad), std::nullopt) << bad;
  }
}

class StreamPathsTest : public testing::Test {
 protected:
  StreamPathsTest() : core_(OpenCore(directory_.path())) {}

  TempDirectory directory_;
  std::unique_ptr<Core> core_;
};

TEST_F(StreamPathsTest, RecordsTakeWhatTheyDoNotCarry) {
  ASSERT_TRUE(core_->CreateStream("a", PayloadFormat::kJson, {"$.k", "$.at"}).ok());
  AppendBatch batch;
  batch.records.push_back(MakeRecord("a", R"({"k":"x","at":"1970-01-01T00:00:01Z"})"));
  batch.records.push_back(MakeRecord("a", R"({"other":1})"));
  batch.records[1].key = "own";
  batch.records[1].event_time_us = 5;
  ASSERT_TRUE(core_->AppendAndWait(std::move(batch)).ok());
  core_.reset();
  core_ = OpenCore(directory_.path());
  EXPECT_EQ(core_->GetStream("a")->paths.key, "$.k");
  EXPECT_EQ(core_->GetStream("a")->paths.event_time, "$.at");
  const auto range = core_->ReadBlocks({"a"}, 0, 2, 1 << 20);
  const auto block = DecodedBlock::Decode(range->blocks.at(0).data);
  EXPECT_EQ(block->records()[0].key, "x");
  EXPECT_EQ(block->records()[0].event_time_us, 1000000);
  EXPECT_EQ(block->records()[1].key, "own");
  EXPECT_EQ(block->records()[1].event_time_us, 5);

  AppendBatch bad;
  bad.records.push_back(MakeRecord("a", R"({"k":"x","at":"1970-01-01T00:00:01Z"})"));
  bad.records.push_back(MakeRecord("a", R"({"at":"1970-01-01T00:00:01Z"})"));
  const absl::Status refused = core_->AppendAndWait(std::move(bad)).status();
  EXPECT_EQ(ErrorReason(refused), "PAYLOAD_INVALID");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("record 1 of the batch: $.k"));
  EXPECT_EQ(core_->head_position(), 2);
}

TEST_F(StreamPathsTest, PathsAreChangedOneByOneAndStay) {
  ASSERT_TRUE(core_->CreateStream("a", PayloadFormat::kJson).ok());
  Core::StreamChange change;
  change.key_path = "$.k";
  EXPECT_EQ(core_->UpdateStream("a", change)->paths.key, "$.k");
  change = {};
  change.event_time_path = "$.at";
  EXPECT_EQ(core_->UpdateStream("a", change)->paths.key, "$.k");
  const auto append = [&](const std::string& payload) {
    AppendBatch batch;
    batch.records.push_back(MakeRecord("a", payload));
    return core_->AppendAndWait(std::move(batch)).status();
  };
  const auto last = [&] {
    const int64_t head = core_->head_position();
    const auto range = core_->ReadBlocks({}, head - 1, head, 1);
    const auto block = DecodedBlock::Decode(range->blocks.at(0).data);
    const RecordView& record = block->records().back();
    return std::pair(std::string(record.key.value_or("none")), record.event_time_us.value_or(-1));
  };
  // They hold from the next append on.
  ASSERT_TRUE(append(R"({"k":"x","at":"1970-01-01T00:00:01Z"})").ok());
  EXPECT_EQ(last(), std::pair(std::string("x"), int64_t{1000000}));
  EXPECT_EQ(ErrorReason(append(R"({"k":"x"})")), "PAYLOAD_INVALID");
  change.event_time_path = "";
  ASSERT_TRUE(core_->UpdateStream("a", change).ok());
  core_.reset();
  core_ = OpenCore(directory_.path());
  EXPECT_EQ(core_->GetStream("a")->paths.key, "$.k");
  EXPECT_EQ(core_->GetStream("a")->paths.event_time, "");
  change.key_path = "k";
  EXPECT_EQ(ErrorReason(core_->UpdateStream("a", change).status()), "PARAMETER_INVALID");
  EXPECT_EQ(ErrorReason(core_->UpdateStream("no", {}).status()), "STREAM_NOT_FOUND");
  change.key_path = "";
  EXPECT_TRUE(append(R"({"k":"y"})").ok());
  EXPECT_EQ(last(), std::pair(std::string("y"), int64_t{-1}));
  ASSERT_TRUE(core_->UpdateStream("a", change).ok());
  EXPECT_TRUE(append(R"({"k":"z"})").ok());
  EXPECT_EQ(last(), std::pair(std::string("none"), int64_t{-1}));
}

TEST_F(StreamPathsTest, AnotherPathIsAnotherStream) {
  ASSERT_TRUE(core_->CreateStream("a", PayloadFormat::kJson, {"$.k", ""}).ok());
  EXPECT_TRUE(core_->CreateStream("a", PayloadFormat::kJson, {"$.k", ""}).ok());
  EXPECT_TRUE(core_->CreateStream("a", PayloadFormat::kJson).ok());
  for (const StreamPaths& paths : {StreamPaths{"$.x", ""}, StreamPaths{"$.k", "$.at"}}) {
    EXPECT_EQ(ErrorReason(core_->CreateStream("a", PayloadFormat::kJson, paths).status()),
              "STREAM_EXISTS");
  }
  EXPECT_EQ(ErrorReason(core_->CreateStream("b", PayloadFormat::kBytes, {"$.k", ""}).status()),
            "PARAMETER_INVALID");
}

TEST_F(StreamPathsTest, ARetryIsKnownThoughThePathsHaveChanged) {
  ASSERT_TRUE(core_->CreateStream("a", PayloadFormat::kJson, {"$.n", ""}).ok());
  AppendBatch batch = NumberedBatch("a", 0, 1);
  batch.identity = AppendIdentity{"x", "", 0, 0};
  ASSERT_TRUE(core_->AppendAndWait(batch).ok());
  Core::StreamChange change;
  change.key_path = "";
  ASSERT_TRUE(core_->UpdateStream("a", change).ok());
  EXPECT_TRUE(core_->AppendAndWait(batch)->replayed);
  // Also where they now ask for what it has not; a new batch must have it.
  change.key_path = "$.other";
  ASSERT_TRUE(core_->UpdateStream("a", change).ok());
  const auto again = core_->AppendAndWait(batch);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->replayed);
  batch.identity->request_id = "y";
  EXPECT_EQ(ErrorReason(core_->AppendAndWait(batch).status()), "PAYLOAD_INVALID");
  EXPECT_EQ(core_->head_position(), 1);
  change.key_path = "$.n";
  ASSERT_TRUE(core_->UpdateStream("a", change).ok());
  EXPECT_FALSE(core_->AppendAndWait(batch)->replayed) << "the refused one did not use it up";
  EXPECT_EQ(core_->head_position(), 2);
}

}  // namespace
}  // namespace icepie
