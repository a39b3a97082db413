#include "core/core.h"

#include <gmock/gmock.h>

#include <atomic>
#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class CoreTest : public testing::Test {
 protected:
  CoreTest() : core_(OpenCore(directory_.path())) {}

  void Create(const std::string& name, PayloadFormat format = PayloadFormat::kJson) {
    ASSERT_TRUE(core_->CreateStream(name, format).ok());
  }

  AppendResult Append(AppendBatch batch) {
    auto result = core_->AppendAndWait(std::move(batch));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.value_or(AppendResult{});
  }

  // The batch is refused with `code` and `reason`, and nothing is stored.
  void ExpectRefused(AppendBatch batch, absl::StatusCode code, const std::string& reason) {
    const int64_t head = core_->head_position();
    const auto ends = EndOffsets();
    const auto result = core_->AppendAndWait(std::move(batch));
    EXPECT_EQ(result.status().code(), code) << result.status();
    EXPECT_EQ(ErrorReason(result.status()), reason) << result.status();
    EXPECT_EQ(core_->head_position(), head);
    EXPECT_EQ(EndOffsets(), ends);
    refusal_ = result.status();
  }

  std::map<std::string, int64_t> EndOffsets() const {
    std::map<std::string, int64_t> ends;
    for (const StreamInfo& stream : core_->ListStreams("", 100))
      ends[stream.name] = stream.end_offset;
    return ends;
  }

  void Reopen() {
    core_.reset();
    core_ = OpenCore(directory_.path());
  }

  TempDirectory directory_;
  std::unique_ptr<Core> core_;
  absl::Status refusal_;
};

TEST_F(CoreTest, AppendedRecordsHavePositionsAndOffsetsWithoutGaps) {
  Create("a");
  Create("b");
  EXPECT_EQ(Append(NumberedBatch("a", 0, 3)).end_position, 3);
  const AppendResult second = Append(NumberedBatch("b", 0, 2));
  EXPECT_EQ(second.first_position, 3);
  EXPECT_EQ(second.end_position, 5);
  ASSERT_EQ(second.streams.size(), 1u);
  EXPECT_EQ(second.streams[0].first_offset, 0);
  EXPECT_EQ(Append(NumberedBatch("a", 3, 1)).streams[0].first_offset, 3);

  const std::vector<ReadRecord> records = ReadAll(*core_);
  ASSERT_EQ(records.size(), 6u);
  for (size_t i = 0; i < records.size(); ++i) EXPECT_EQ(records[i].position, int64_t(i));
  EXPECT_EQ(records[4].stream, "b");
  EXPECT_EQ(records[5].stream, "a");
  EXPECT_EQ(records[5].offset, 3);
  EXPECT_EQ(records[5].payload, "{\"n\":3}");
}

TEST_F(CoreTest, EverythingOfARecordComesBack) {
  Create("raw", PayloadFormat::kBytes);
  AppendBatch batch;
  NewRecord record = MakeRecord("raw", std::string("\0\xff binary", 9));
  record.key = "";
  record.event_time_us = -62135596800000000;  // year 1
  record.headers = {{"producer", "w-1"}, {"", std::string("\0", 1)}};
  batch.records.push_back(record);
  batch.records.push_back(MakeRecord("raw", ""));
  const AppendResult result = Append(batch);

  const auto range = core_->ReadBlocks({"raw"}, 0, 2, 1 << 20);
  ASSERT_TRUE(range.ok());
  ASSERT_EQ(range->blocks.size(), 1u);
  const auto block = DecodedBlock::Decode(range->blocks[0].data);
  ASSERT_TRUE(block.ok()) << block.status();
  const RecordView& first = block->records()[0];
  EXPECT_EQ(first.payload, record.payload);
  EXPECT_EQ(first.key, absl::string_view(""));
  EXPECT_EQ(first.event_time_us, record.event_time_us);
  EXPECT_EQ(first.ingest_time_us, result.ingest_time_us);
  const auto headers = DecodeHeaders(first.headers);
  ASSERT_TRUE(headers.ok());
  ASSERT_EQ(headers->size(), 2u);
  EXPECT_EQ((*headers)[0].value, "w-1");
  EXPECT_EQ((*headers)[1].value, std::string("\0", 1));
  EXPECT_FALSE(block->records()[1].key.has_value());
  EXPECT_FALSE(block->records()[1].event_time_us.has_value());
}

TEST_F(CoreTest, ABatchOverSeveralStreamsKeepsItsOrder) {
  Create("a");
  Create("b");
  AppendBatch batch;
  for (const char* stream : {"a", "b", "a", "a", "b"}) {
    batch.records.push_back(MakeRecord(stream, "1"));
  }
  const AppendResult result = Append(batch);
  EXPECT_EQ(result.end_position, 5);
  ASSERT_EQ(result.streams.size(), 2u);
  EXPECT_EQ(result.streams[0].end_offset, 3);
  EXPECT_EQ(result.streams[1].end_offset, 2);
  std::vector<std::string> streams;
  for (const ReadRecord& record : ReadAll(*core_)) streams.push_back(record.stream);
  EXPECT_THAT(streams, ElementsAre("a", "b", "a", "a", "b"));
}

TEST_F(CoreTest, ABatchWithOneBadRecordStoresNothing) {
  Create("a");
  AppendBatch batch = NumberedBatch("a", 0, 3);
  batch.records[1].payload = R"({"a":1,"b":nope})";
  ExpectRefused(batch, absl::StatusCode::kInvalidArgument, "PAYLOAD_INVALID");
  EXPECT_EQ(GetErrorDetail(refusal_)->violations.at(0).field, "records[1].payload");
  EXPECT_THAT(std::string(refusal_.message()), HasSubstr("byte 11"));
  EXPECT_EQ(core_->GetStream("a")->end_offset, 0);
}

// Whoever repairs them sends the batch once more, not once for each.
TEST_F(CoreTest, AllBadRecordsOfABatchAreNamedAtOnce) {
  ASSERT_TRUE(core_->CreateStream("a", PayloadFormat::kJson, {"$.n", ""}).ok());
  AppendBatch batch = NumberedBatch("a", 0, 8);
  batch.records[1].payload = "nope";
  batch.records[2].stream = "none";
  batch.records[3].stream = "none";  // said of the one before
  batch.records[4].payload = "{}";
  batch.records[6].payload = "\"" + std::string(1 << 20, 'x') + "\"";
  ExpectRefused(batch, absl::StatusCode::kInvalidArgument, "PAYLOAD_INVALID");
  const auto fields = [this] {
    std::vector<std::string> names;
    const ErrorDetail detail = GetErrorDetail(refusal_).value_or(ErrorDetail());
    for (const auto& violation : detail.violations) names.push_back(violation.field);
    return names;
  };
  EXPECT_THAT(fields(), ElementsAre("records[1].payload", "records[2].stream", "records[4].payload",
                                    "records[6]"));
  EXPECT_THAT(std::string(refusal_.message()),
              testing::AllOf(testing::StartsWith("record 1 of the batch: "),
                             testing::EndsWith("(and 3 more)")));
  // Only the stream's paths find fault, and there are more than are told.
  for (NewRecord& record : batch.records) record = MakeRecord("a", "{}");
  ExpectRefused(batch, absl::StatusCode::kInvalidArgument, "PAYLOAD_INVALID");
  EXPECT_EQ(fields().size(), batch.records.size());
  batch.records.resize(60000, MakeRecord("a", "[1"));
  ExpectRefused(batch, absl::StatusCode::kInvalidArgument, "PAYLOAD_INVALID");
  EXPECT_LT(fields().size(), 100u);
  EXPECT_THAT(std::string(refusal_.message()), HasSubstr("(and at least "));
  // Streams of conditions, too.
  batch.records = {MakeRecord("a", R"({"n":1})")};
  batch.conditions = {{"x", 0}, {"a", 0}, {"y", 0}};
  ExpectRefused(batch, absl::StatusCode::kNotFound, "STREAM_NOT_FOUND");
  EXPECT_THAT(fields(), ElementsAre("conditions[0].stream", "conditions[2].stream"));
  EXPECT_EQ(core_->GetStream("a")->end_offset, 0);
}

// All defects are looked for when the first has been found, and that one may be gone by then.
TEST_F(CoreTest, AStreamMayBeCreatedWhileItIsFoundToBeMissing) {
  Create("a");
  int number = 0;
  for (const int records : {500, 1000, 2000, 4000, 8000, 16000, 32000}) {
    for (int round = 0; round < 10; ++round) {
      const std::string created = absl::StrCat("s", ++number);
      AppendBatch batch;
      batch.records.resize(records, MakeRecord("a", "1"));
      batch.records.push_back(MakeRecord(created, "1"));
      std::thread creator([&] { Create(created); });
      const auto appended = core_->AppendAndWait(std::move(batch));
      creator.join();
      if (!appended.ok()) EXPECT_EQ(ErrorReason(appended.status()), "STREAM_NOT_FOUND");
    }
  }
}

// Whatever is wrong, and with whichever of the streams.
TEST_F(CoreTest, ABatchOverSeveralStreamsIsStoredAsAWholeOrNotAtAll) {
  for (const char* stream : {"a", "b", "c"}) Create(stream);
  Append(NumberedBatch("b", 0, 2));
  AppendBatch whole;
  for (const char* stream : {"a", "b", "a", "c"}) whole.records.push_back(MakeRecord(stream, "1"));
  for (size_t i = 0; i < whole.records.size(); ++i) {
    AppendBatch batch = whole;
    batch.records[i].payload = "nope";
    ExpectRefused(batch, absl::StatusCode::kInvalidArgument, "PAYLOAD_INVALID");
    batch = whole;
    batch.records[i].stream = "none";
    ExpectRefused(batch, absl::StatusCode::kNotFound, "STREAM_NOT_FOUND");
  }
  // What is known only at the commit, of each stream.
  for (const auto& condition :
       {AppendCondition{"a", 1}, AppendCondition{"b", 1}, AppendCondition{"c", 1}}) {
    AppendBatch batch = whole;
    batch.conditions = {{"a", 0}, {"b", 2}, {"c", 0}};
    for (AppendCondition& each : batch.conditions) {
      if (each.stream == condition.stream) each = condition;
    }
    ExpectRefused(batch, absl::StatusCode::kAborted, "APPEND_CONDITION_FAILED");
  }
  Reopen();
  EXPECT_EQ(ReadAll(*core_).size(), 2u);
  Append(whole);
  const std::map<std::string, int64_t> ends = {{"a", 2}, {"b", 3}, {"c", 1}};
  EXPECT_EQ(EndOffsets(), ends);
  Reopen();
  EXPECT_EQ(EndOffsets(), ends);
  EXPECT_EQ(ReadAll(*core_).size(), 6u);
}

TEST_F(CoreTest, StreamsOfBytesTakeAnything) {
  Create("raw", PayloadFormat::kBytes);
  AppendBatch batch;
  batch.records.push_back(MakeRecord("raw", "{nope"));
  EXPECT_EQ(Append(batch).end_position, 1);
}

TEST_F(CoreTest, UnknownStreamsAreNamedWithTheRemedy) {
  Create("a");
  AppendBatch batch = NumberedBatch("a", 0, 1);
  batch.records.push_back(MakeRecord("nope", "1"));
  ExpectRefused(batch, absl::StatusCode::kNotFound, "STREAM_NOT_FOUND");
  EXPECT_THAT(std::string(refusal_.message()), HasSubstr("icepie stream create nope"));
}

TEST_F(CoreTest, SizesAreBounded) {
  Create("raw", PayloadFormat::kBytes);
  ExpectRefused({}, absl::StatusCode::kInvalidArgument, "BATCH_EMPTY");

  AppendBatch large;
  large.records.push_back(MakeRecord("raw", std::string((1 << 20) + 1, 'x')));
  ExpectRefused(large, absl::StatusCode::kInvalidArgument, "RECORD_TOO_LARGE");
  large.records[0].payload.pop_back();
  EXPECT_EQ(Append(large).end_position, 1);

  AppendBatch heavy;
  for (int i = 0; i < 4; ++i) {
    heavy.records.push_back(MakeRecord("raw", std::string(3 << 18, 'x')));
  }
  EXPECT_EQ(Append(heavy).end_position, 5) << "3 MiB";
  heavy.records[0].payload.push_back('x');
  ExpectRefused(heavy, absl::StatusCode::kInvalidArgument, "BATCH_TOO_LARGE");

  AppendBatch many;
  many.records.assign(65537, MakeRecord("raw", ""));
  ExpectRefused(many, absl::StatusCode::kInvalidArgument, "BATCH_TOO_LARGE");
  many.records.pop_back();
  EXPECT_EQ(Append(many).end_position, 5 + 65536);
}

TEST_F(CoreTest, AppendsUnderAConditionCompareTheStreamsEnd) {
  Create("a");
  Create("b");
  Append(NumberedBatch("a", 0, 2));
  AppendBatch batch = NumberedBatch("a", 2, 1);
  batch.conditions = {{"a", 1}, {"b", 0}};
  ExpectRefused(batch, absl::StatusCode::kAborted, "APPEND_CONDITION_FAILED");
  EXPECT_EQ(GetErrorDetail(refusal_)->metadata.at("a"), "2");
  EXPECT_EQ(GetErrorDetail(refusal_)->metadata.at("b"), "0");
  batch.conditions = {{"a", 2}, {"b", 0}};
  EXPECT_EQ(Append(batch).end_position, 3);
  batch.conditions = {{"nope", 0}};
  ExpectRefused(batch, absl::StatusCode::kNotFound, "STREAM_NOT_FOUND");
}

TEST_F(CoreTest, ABrokenChainRefusesWhatComesBehind) {
  Create("a");
  const auto chain = std::make_shared<AppendChain>();
  std::vector<std::string> reasons;
  std::atomic<int> answers{0};
  for (int i = 0; i < 4; ++i) {
    AppendBatch batch = NumberedBatch("a", i, 1);
    batch.chain = chain;
    if (i == 2) batch.conditions = {{"a", 77}};
    core_->Append(std::move(batch), [&](const absl::StatusOr<AppendResult>& result) {
      reasons.push_back(ErrorReason(result.status()));
      ++answers;
      answers.notify_all();
    });
  }
  for (int seen = answers; seen < 4; seen = answers) answers.wait(seen);
  EXPECT_THAT(reasons, ElementsAre("", "", "APPEND_CONDITION_FAILED", "APPEND_CHAIN_BROKEN"));
  EXPECT_EQ(core_->head_position(), 2);
}

TEST_F(CoreTest, StreamNamesAreChecked) {
  for (const char* name : {"", "A", "1a", "a-b", "_admin", "a b", "ä"}) {
    const auto stream = core_->CreateStream(name, PayloadFormat::kJson);
    EXPECT_EQ(ErrorReason(stream.status()), "STREAM_NAME_INVALID") << name;
  }
  EXPECT_FALSE(core_->CreateStream(std::string(64, 'a'), PayloadFormat::kJson).ok());
  EXPECT_TRUE(core_->CreateStream(std::string(63, 'a'), PayloadFormat::kJson).ok());
  EXPECT_TRUE(core_->CreateInternalStream("_admin", PayloadFormat::kJson).ok());
  Append(NumberedBatch("_admin", 0, 1));
}

// Nobody is told to create a stream that cannot be created.
TEST_F(CoreTest, TheAdviceForAMissingStreamCanBeFollowed) {
  const auto advice = [this](absl::string_view name) {
    const absl::Status status = core_->GetStream(name).status();
    EXPECT_EQ(ErrorReason(status), "STREAM_NOT_FOUND") << name;
    return std::string(status.message());
  };
  EXPECT_THAT(advice("sales"), HasSubstr("`icepie stream create sales`"));
  EXPECT_THAT(advice(""), HasSubstr("`icepie stream create NAME`"));
  EXPECT_THAT(advice("_admin"), HasSubstr("with the first change that somebody asks for"));
  for (const char* name : {"_admin", "_other", "Sales", "a b"}) {
    EXPECT_FALSE(core_->CreateStream(name, PayloadFormat::kJson).ok());
    EXPECT_THAT(advice(name), Not(HasSubstr("create it"))) << name;
  }
}

TEST_F(CoreTest, CreatingAStreamAgainReturnsIt) {
  Create("a");
  Append(NumberedBatch("a", 0, 2));
  const auto again = core_->CreateStream("a", PayloadFormat::kJson);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->end_offset, 2);
  const auto other = core_->CreateStream("a", PayloadFormat::kBytes);
  EXPECT_EQ(other.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ErrorReason(other.status()), "STREAM_EXISTS");
}

TEST_F(CoreTest, EverythingIsThereAfterReopening) {
  Create("a");
  Create("b", PayloadFormat::kBytes);
  const AppendResult before = Append(NumberedBatch("a", 0, 1000));
  Append(NumberedBatch("b", 0, 10));
  ASSERT_TRUE(core_->ChangeCatalog({{"k1", "v1"}, {"k2", "v2"}}).ok());
  Reopen();
  EXPECT_EQ(core_->ReadOnlyCause(), "");
  EXPECT_EQ(core_->head_position(), 1010);
  EXPECT_EQ(core_->GetStream("b")->end_offset, 10);
  EXPECT_EQ(core_->GetStream("b")->format, PayloadFormat::kBytes);
  EXPECT_EQ(ReadAll(*core_).size(), 1010u);
  const AppendResult after = Append(NumberedBatch("a", 1000, 1));
  EXPECT_EQ(after.first_position, 1010);
  EXPECT_EQ(after.streams[0].first_offset, 1000);
  EXPECT_GE(after.ingest_time_us, before.ingest_time_us);
  EXPECT_EQ(core_->ListStreams("", 100).size(), 2u);
  EXPECT_EQ(core_->CreateStream("c", PayloadFormat::kJson)->id, 3u);
}

TEST_F(CoreTest, TheCatalogIsAnOrderedMapOfItsOwn) {
  Create("a");
  ASSERT_TRUE(core_->ChangeCatalog({{"p/2", "two"}, {"p/1", "one"}, {"q", "other"}}).ok());
  ASSERT_TRUE(core_->ChangeCatalog({{"p/2", std::nullopt}, {"p/3", "three"}}).ok());
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(*core_->ScanCatalog("p/"), (Pairs{{"p/1", "one"}, {"p/3", "three"}}));
  EXPECT_EQ(core_->ScanCatalog("")->size(), 3u);
}

TEST_F(CoreTest, ReadingSelectsStreamsAndRespectsBounds) {
  Create("a");
  Create("b");
  for (int i = 0; i < 10; ++i) {
    Append(NumberedBatch("a", i, 1));
    Append(NumberedBatch("b", i, 2));
  }
  EXPECT_EQ(ReadAll(*core_, {"b"}, 0, 1).size(), 20u);
  EXPECT_EQ(ReadAll(*core_, {"a"}, 15).size(), 5u);
  const auto range = core_->ReadBlocks({"a"}, 4, 5, 1);
  ASSERT_TRUE(range.ok());
  EXPECT_TRUE(range->blocks.empty());
  EXPECT_EQ(range->complete_position, 5);
  EXPECT_EQ(core_->ReadBlocks({}, 30, 1000, 1)->complete_position, 30);
  EXPECT_EQ(ErrorReason(core_->ReadBlocks({}, 31, 1000, 1).status()), "POSITION_AHEAD_OF_CORE");
  EXPECT_EQ(ErrorReason(core_->ReadBlocks({"nope"}, 0, 1, 1).status()), "STREAM_NOT_FOUND");
  EXPECT_FALSE(core_->ReadBlocks({}, -1, 1, 1).ok());
}

TEST_F(CoreTest, ABlockMayBeginBeforeWhereReadingBegins) {
  Create("a");
  Append(NumberedBatch("a", 0, 100));
  const auto range = core_->ReadBlocks({}, 40, 41, 1);
  ASSERT_TRUE(range.ok());
  ASSERT_EQ(range->blocks.size(), 1u);
  EXPECT_EQ(ReadBlockHeader(range->blocks[0].data)->first_position, 0);
  EXPECT_EQ(range->complete_position, 41);
}

TEST_F(CoreTest, ALargeBatchIsCutIntoBlocks) {
  Create("raw", PayloadFormat::kBytes);
  AppendBatch batch;
  for (int i = 0; i < 2800; ++i) batch.records.push_back(MakeRecord("raw", std::string(1024, 'x')));
  Append(batch);
  const auto range = core_->ReadBlocks({}, 0, 2800, 1 << 30);
  ASSERT_TRUE(range.ok());
  EXPECT_EQ(range->blocks.size(), 3u);
  EXPECT_EQ(ReadAll(*core_).size(), 2800u);
}

TEST_F(CoreTest, ConcurrentAppendersKeepTheirOrderAndLeaveNoGaps) {
  constexpr int kThreads = 8;
  constexpr int kBatches = 40;
  Create("shared");
  for (int t = 0; t < kThreads; ++t) Create("own" + std::to_string(t));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kBatches; ++i) {
        AppendBatch batch = NumberedBatch("own" + std::to_string(t), i * 2, 2);
        batch.records.push_back(MakeRecord("shared", std::to_string(t * kBatches + i)));
        Append(std::move(batch));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(core_->head_position(), kThreads * kBatches * 3);
  const std::vector<ReadRecord> records = ReadAll(*core_);
  ASSERT_EQ(records.size(), size_t(kThreads * kBatches * 3));
  std::map<std::string, int64_t> next;
  for (size_t i = 0; i < records.size(); ++i) {
    EXPECT_EQ(records[i].position, int64_t(i));
    const int64_t offset = next[records[i].stream]++;
    EXPECT_EQ(records[i].offset, offset);
    if (records[i].stream != "shared") {
      EXPECT_EQ(records[i].payload, "{\"n\":" + std::to_string(offset) + "}");
    }
  }
}

TEST_F(CoreTest, TheHeadIsAnnounced) {
  Create("a");
  std::atomic<int64_t> heard{0};
  const int64_t id = core_->AddHeadListener([&](int64_t head) { heard = head; });
  EXPECT_EQ(core_->WaitForHead(0, absl::Milliseconds(1)), 0);
  std::thread waiter([&] { EXPECT_EQ(core_->WaitForHead(1, absl::Seconds(30)), 2); });
  Append(NumberedBatch("a", 0, 2));
  waiter.join();
  core_->RemoveHeadListener(id);
  EXPECT_EQ(heard, 2);
  Append(NumberedBatch("a", 2, 1));
  EXPECT_EQ(heard, 2);
}

TEST(CoreQueueTest, AFullQueueRefusesAndSaysWhenToRetry) {
  constexpr int64_t kQueueBytes = 1 << 20;
  constexpr int64_t kPayloadBytes = 10'000;
  const TempDirectory directory;
  CoreOptions options;
  options.directory = directory.path();
  options.queue_bytes_max = kQueueBytes;
  auto core = Core::Open(options);
  ASSERT_TRUE(core.ok());
  ASSERT_TRUE((*core)->CreateStream("a", PayloadFormat::kJson).ok());
  // The sequencer is held in the first answer, so that the queue fills behind it.
  std::atomic<bool> entered{false};
  std::atomic<bool> release{false};
  (*core)->Append(NumberedBatch("a", 0, 1), [&](const absl::StatusOr<AppendResult>& result) {
    EXPECT_TRUE(result.ok());
    entered = true;
    entered.notify_all();
    release.wait(false);
  });
  entered.wait(false);
  std::atomic<int> stored{0};
  std::string refused;
  int accepted = 0;
  AppendBatch batch;
  batch.records.push_back(MakeRecord("a", "\"" + std::string(kPayloadBytes, 'x') + "\""));
  while (refused.empty() && accepted < 1000) {
    (*core)->Append(batch, [&](const absl::StatusOr<AppendResult>& result) {
      if (result.ok()) {
        ++stored;
      } else {
        refused = ErrorReason(result.status());
        EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted);
        EXPECT_GT(GetErrorDetail(result.status())->retry_after_ms.value_or(0), 0);
      }
    });
    if (refused.empty()) ++accepted;
  }
  EXPECT_EQ(refused, "APPEND_QUEUE_FULL");
  // An eighth is kept for others, and an append takes more than its payload.
  EXPECT_LE(accepted, kQueueBytes * 7 / 8 / kPayloadBytes);
  EXPECT_GT(accepted, kQueueBytes / 2 / kPayloadBytes);
  release = true;
  release.notify_all();
  // Whoever comes again finds room.
  EXPECT_TRUE(EventuallyInCore([&] { return (*core)->AppendAndWait(batch).ok(); }));
  core->reset();  // answers what is queued
  EXPECT_EQ(stored, accepted);
  EXPECT_EQ(OpenCore(directory.path())->head_position(), 1 + accepted + 1)
      << "what was refused is not there";
}

TEST_F(CoreTest, OffsetsAreFoundAlsoWhileTheCoreGrows) {
  Create("a");
  Create("b");
  EXPECT_EQ(*core_->PositionOf("a", 0), 0);
  EXPECT_EQ(ErrorReason(core_->PositionOf("a", 1).status()), "POSITION_AHEAD_OF_CORE");
  EXPECT_EQ(ErrorReason(core_->PositionOf("a", -1).status()), "PARAMETER_INVALID");
  EXPECT_EQ(ErrorReason(core_->PositionOf("nope", 0).status()), "STREAM_NOT_FOUND");
  std::thread appender([&] {
    for (int i = 0; i < 200; ++i) {
      EXPECT_TRUE(core_->AppendAndWait(NumberedBatch(i % 3 == 0 ? "b" : "a", i, 1 + i % 5)).ok());
    }
  });
  for (int round = 0; round < 2000; ++round) {
    // Whatever the head is meanwhile, no record of the stream from the end on is before it.
    const int64_t end = core_->GetStream("a")->end_offset;
    const auto position = core_->PositionOf("a", end);
    ASSERT_TRUE(position.ok()) << position.status();
    ASSERT_LE(*position, core_->head_position());
  }
  appender.join();
  for (const ReadRecord& record : ReadAll(*core_)) {
    ASSERT_EQ(*core_->PositionOf(record.stream, record.offset), record.position);
  }
  EXPECT_EQ(*core_->PositionOf("a", core_->GetStream("a")->end_offset), core_->head_position());
}

}  // namespace
}  // namespace icepie
