// The core while its oldest blocks become segments: what readers see, what a restart finds, and
// what happens when a step fails or a file is damaged.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/core.h"
#include "core/segment/segment_reader.h"
#include "core/verify/verification.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class SealingTest : public testing::Test {
 protected:
  SealingTest() : path_(directory_.path() + "/core") {
    options_.directory = path_;
    options_.sealing = SmallSegments();
    options_.sealing.retry_delay = absl::Milliseconds(1);
  }

  std::unique_ptr<Core> Open() {
    auto core = Core::Open(options_);
    EXPECT_TRUE(core.ok()) << core.status();
    return std::move(core).value();
  }

  // Batches of one to three records, by turns to a and b.
  void Append(Core& core, int64_t batches) {
    for (const char* stream : {"a", "b"}) {
      ASSERT_TRUE(core.CreateStream(stream, PayloadFormat::kJson).ok());
    }
    for (int64_t i = 0; i < batches; ++i) {
      const std::string stream = i % 5 == 0 ? "b" : "a";
      const int64_t next = core.GetStream(stream)->end_offset;
      ASSERT_TRUE(core.AppendAndWait(NumberedBatch(stream, next, 1 + i % 3)).ok());
    }
  }

  // A closed core with several segments and a hot part.
  void FillAndClose() {
    const std::unique_ptr<Core> core = Open();
    Append(*core, 150);
    ASSERT_TRUE(EventuallyInCore([&] { return core->Storage().segment_count >= 3; }));
    ASSERT_LT(core->Storage().sealed_position, core->head_position());
  }

  // Every record once, in order, with its bytes; read in pieces of several sizes.
  static void ExpectAllReadable(const Core& core) {
    for (const int64_t bytes : {int64_t{1}, int64_t{3000}, int64_t{1} << 20}) {
      const int64_t head = core.head_position();  // somebody may be appending
      const std::vector<ReadRecord> records = ReadAll(core, {}, 0, bytes);
      ASSERT_GE(static_cast<int64_t>(records.size()), head);
      std::map<std::string, int64_t> next;
      for (size_t i = 0; i < records.size(); ++i) {
        ASSERT_EQ(records[i].position, static_cast<int64_t>(i));
        const int64_t offset = next[records[i].stream]++;
        ASSERT_EQ(records[i].offset, offset);
        ASSERT_EQ(records[i].payload, "{\"n\":" + std::to_string(offset) + "}");
      }
    }
  }

  std::vector<fs::path> Files() const {
    std::vector<fs::path> files;
    for (const auto& file : fs::directory_iterator(path_ + "/segments")) {
      files.push_back(file.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  static void FlipBit(const fs::path& file, int64_t place) {
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekg(place);
    const auto byte = static_cast<char>(stream.get() ^ 4);
    stream.seekp(place);
    stream.put(byte);
  }

  TempDirectory directory_;
  const std::string path_;
  CoreOptions options_;
};

TEST_F(SealingTest, SealedAndHotAreOneSequence) {
  const std::unique_ptr<Core> core = Open();
  Append(*core, 150);
  ASSERT_TRUE(EventuallyInCore([&] { return core->Storage().segment_count >= 3; }));
  ExpectAllReadable(*core);
  // Of one stream, from a position in the middle of a joined block.
  const std::vector<ReadRecord> all = ReadAll(*core);
  std::vector<int64_t> expected;
  for (const ReadRecord& record : all) {
    if (record.stream == "b" && record.position >= 31) expected.push_back(record.position);
  }
  std::vector<int64_t> read;
  for (const ReadRecord& record : ReadAll(*core, {"b"}, 31)) read.push_back(record.position);
  EXPECT_EQ(read, expected);
  for (const ReadRecord& record : all) {
    ASSERT_EQ(*core->PositionOf(record.stream, record.offset), record.position);
  }
  // The log has dropped what is sealed: the hot part alone is much smaller.
  ASSERT_TRUE(EventuallyInCore([&] { return *core->Storage().hot_bytes < 512 + (2 << 10); }));
}

TEST_F(SealingTest, ARestartFindsSegmentsAndGoesOn) {
  FillAndClose();
  for (int i = 0; i < 3; ++i) {
    const std::unique_ptr<Core> core = Open();
    ASSERT_EQ(core->ReadOnlyCause(), "");
    ExpectAllReadable(*core);
    Append(*core, 50);
    ExpectAllReadable(*core);
  }
}

TEST_F(SealingTest, ACoreThatIsSealedToItsEndOpensAndTakesAppends) {
  options_.sealing.hot_bytes_min = 0;
  options_.sealing.segment_bytes = 1;  // every block becomes a segment
  int64_t head = 0;
  {
    const std::unique_ptr<Core> core = Open();
    Append(*core, 20);
    head = core->head_position();
    ASSERT_TRUE(EventuallyInCore([&] { return core->Storage().sealed_position == head; }));
  }
  const std::unique_ptr<Core> core = Open();
  ASSERT_EQ(core->ReadOnlyCause(), "");
  EXPECT_EQ(core->head_position(), head);
  Append(*core, 20);
  ExpectAllReadable(*core);
}

TEST_F(SealingTest, ReadersAndFollowersNoticeNothing) {
  const std::unique_ptr<Core> core = Open();
  Append(*core, 10);
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    // One reads everything again and again, one follows in small pieces.
    readers.emplace_back([&, i] {
      int64_t next = 0;
      while (!done || next < core->head_position()) {
        if (i == 0) {
          ExpectAllReadable(*core);
          next = core->head_position();
          continue;
        }
        for (const ReadRecord& record : ReadAll(*core, {}, next, 200)) {
          ASSERT_EQ(record.position, next);
          ++next;
        }
      }
    });
  }
  Append(*core, 800);
  EXPECT_TRUE(EventuallyInCore([&] { return core->Storage().segment_count >= 10; }));
  done = true;
  for (std::thread& reader : readers) reader.join();
}

TEST_F(SealingTest, AFailedStepIsTriedAgainAndLeavesNothing) {
  std::atomic<int> failures{0};
  std::set<SealStep> failed;  // the sealing thread's
  options_.sealing.on_step = [&](SealStep step) {
    if (step == SealStep::kRegistered || !failed.insert(step).second) return absl::OkStatus();
    ++failures;
    return absl::ResourceExhaustedError("no space left");
  };
  const std::unique_ptr<Core> core = Open();
  Append(*core, 150);
  ASSERT_TRUE(EventuallyInCore([&] { return core->Storage().segment_count >= 3; }));
  EXPECT_EQ(failures, 5);
  EXPECT_EQ(core->ReadOnlyCause(), "");
  ExpectAllReadable(*core);
}

TEST_F(SealingTest, ItsThreadComesLastAtProcessorAndDisk) {
  const int own = ::getpriority(PRIO_PROCESS, 0);
  std::atomic<int> nice{-100};
  std::atomic<int64_t> disk{-1};
  options_.sealing.on_step = [&](SealStep) {
    nice = ::getpriority(PRIO_PROCESS, 0);
    disk = ::syscall(SYS_ioprio_get, /*process*/ 1, 0) >> 13;
    return absl::OkStatus();
  };
  const std::unique_ptr<Core> core = Open();
  Append(*core, 150);
  ASSERT_TRUE(EventuallyInCore([&] { return core->Storage().segment_count >= 1; }));
  EXPECT_EQ(nice, 19);
  EXPECT_EQ(disk, 3) << "the idle class";
  EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), own) << "nobody else's";
}

TEST_F(SealingTest, WhatAnInterruptedSealingLeftIsRemoved) {
  FillAndClose();
  const std::vector<fs::path> files = Files();
  std::ofstream(path_ + "/segments/77.temporary") << "half a segment";
  fs::copy_file(files[0], path_ + "/segments/" + SegmentFileName(1, 2));
  options_.sealing.enabled = false;
  ExpectAllReadable(*Open());
  EXPECT_EQ(Files(), files);
}

// A stream with few records among many others' does not cost what those do: the files that have
// none of it need not even be there.
TEST_F(SealingTest, SegmentsWithoutAStreamAreNotOpenedForIt) {
  const std::unique_ptr<Core> core = Open();
  const auto seal_more = [&core] {
    const int64_t before = core->Storage().segment_count;
    for (int64_t n = 0; core->Storage().segment_count < before + 3; ++n) {
      const int64_t next = core->GetStream("a")->end_offset;
      ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", next, 10)).ok());
    }
  };
  for (const char* stream : {"a", "b"}) {
    ASSERT_TRUE(core->CreateStream(stream, PayloadFormat::kJson).ok());
  }
  for (int64_t n = 0; n < 2; ++n) {
    ASSERT_TRUE(core->AppendAndWait(NumberedBatch("b", n, 1)).ok());
    seal_more();
    seal_more();
  }
  int64_t without = 0;
  for (const fs::path& file : Files()) {
    const auto reader = SegmentReader::Open(file.string());
    ASSERT_TRUE(reader.ok()) << reader.status();
    if ((*reader)->streams().size() == 2) continue;
    fs::rename(file, file.string() + ".away");
    ++without;
  }
  ASSERT_GE(without, 4);
  const std::vector<ReadRecord> records = ReadAll(*core, {"b"});
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].position, 0);
  EXPECT_EQ(records[1].payload, R"({"n":1})");
  const int64_t head = core->head_position();
  const auto before = core->ReadBlocks({}, 0, head, INT64_MAX);
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_LT(before->complete_position, head);
  EXPECT_EQ(ErrorReason(core->ReadBlocks({}, before->complete_position, head, 1).status()),
            "RECORD_DAMAGED");
}

TEST_F(SealingTest, AMissingSegmentIsNamedAndTheRestIsServed) {
  FillAndClose();
  const fs::path lost = Files()[1];
  const auto footer = ReadSegmentFooter(lost);
  fs::rename(lost, path_ + "/elsewhere");
  {
    const std::unique_ptr<Core> core = Open();
    EXPECT_THAT(core->ReadOnlyCause(), HasSubstr(lost.string()));
    EXPECT_THAT(core->ReadOnlyCause(), HasSubstr("missing"));
    EXPECT_THAT(core->ReadOnlyCause(), HasSubstr("restore"));
    EXPECT_EQ(ErrorReason(core->AppendAndWait(NumberedBatch("a", 0, 1)).status()),
              "CORE_READ_ONLY");
    // What is before and behind it can be read.
    const auto before = core->ReadBlocks({}, 0, footer->first_position, 1 << 20);
    EXPECT_EQ(before->complete_position, footer->first_position);
    const std::vector<ReadRecord> behind = ReadAll(*core, {}, footer->end_position);
    EXPECT_EQ(static_cast<int64_t>(behind.size()), core->head_position() - footer->end_position);
    const auto within = core->ReadBlocks({}, footer->first_position + 1, INT64_MAX, 1 << 20);
    EXPECT_EQ(ErrorReason(within.status()), "RECORD_DAMAGED");
    EXPECT_EQ(GetErrorDetail(within.status())->metadata.at("position"),
              std::to_string(footer->first_position));
  }
  fs::rename(path_ + "/elsewhere", lost);
  const std::unique_ptr<Core> core = Open();
  EXPECT_EQ(core->ReadOnlyCause(), "");
  ExpectAllReadable(*core);
}

TEST_F(SealingTest, ASegmentThatIsNotTheSealedOneIsFoundAtTheStart) {
  FillAndClose();
  const std::vector<fs::path> files = Files();
  const std::string content = *ReadFile(files[0]);
  fs::resize_file(files[0], content.size() - 1);
  EXPECT_THAT(Open()->ReadOnlyCause(), HasSubstr(files[0].string()));
  std::ofstream(files[0], std::ios::binary | std::ios::trunc) << *ReadFile(files[1]);
  EXPECT_THAT(Open()->ReadOnlyCause(), HasSubstr("not the one that was sealed"));
  std::ofstream(files[0], std::ios::binary | std::ios::trunc) << content;
  fs::remove(files[1]);
  fs::remove(files[2]);
  EXPECT_THAT(Open()->ReadOnlyCause(), HasSubstr("2 segments are missing"));
}

TEST_F(SealingTest, AFlippedBitInASealedBlockIsNamedAndNeverServed) {
  FillAndClose();
  const std::vector<fs::path> files = Files();
  const auto reader = SegmentReader::Open(files[1]);
  const SegmentBlock block = (*reader)->blocks()[2];
  FlipBit(files[1], static_cast<int64_t>(block.place) + 50);
  const std::unique_ptr<Core> core = Open();
  EXPECT_EQ(core->ReadOnlyCause(), "") << "reading finds it, not opening";
  const auto range =
      core->ReadBlocks({}, block.header.first_position, block.header.end_position(), 1 << 20);
  EXPECT_EQ(ErrorReason(range.status()), "RECORD_DAMAGED");
  EXPECT_EQ(GetErrorDetail(range.status())->metadata.at("position"),
            std::to_string(block.header.first_position));
  EXPECT_THAT(std::string(range.status().message()), HasSubstr(files[1].string()));
  EXPECT_TRUE(core->ReadBlocks({}, block.header.end_position(), INT64_MAX, 1 << 20).ok());
  const auto before = core->ReadBlocks({}, 0, INT64_MAX, 1 << 20);
  ASSERT_TRUE(before.ok()) << "what is whole before it can be read: " << before.status();
  EXPECT_EQ(before->complete_position, block.header.first_position);
  EXPECT_FALSE(before->blocks.empty());
}

TEST_F(SealingTest, VerifyRehashesSealedRecordsAndNamesWhatIsDamagedOrMissing) {
  using State = VerificationAnswer::State;
  FillAndClose();
  const auto verify = [this] {
    return *VerifyDirectory(path_, "", [](int64_t, int64_t, int64_t) {});
  };
  EXPECT_EQ(verify().bytes_rehashed.state, State::kHolds) << verify().bytes_rehashed.detail;
  const fs::path file = Files()[1];
  const auto footer = ReadSegmentFooter(file);
  const SegmentBlock block = (*SegmentReader::Open(file))->blocks()[2];
  FlipBit(file, static_cast<int64_t>(block.place) + 50);
  const VerificationReport damaged = verify();
  EXPECT_EQ(damaged.bytes_rehashed.state, State::kFails);
  ASSERT_EQ(damaged.finding_count, 1);
  EXPECT_EQ(damaged.findings[0].position, block.header.first_position);
  EXPECT_EQ(damaged.findings[0].end_position, block.header.end_position());
  EXPECT_THAT(damaged.findings[0].what, HasSubstr(file.string()));
  fs::remove(file);
  const VerificationReport missing = verify();
  ASSERT_EQ(missing.finding_count, 1);
  EXPECT_EQ(missing.findings[0].position, footer->first_position);
  EXPECT_EQ(missing.findings[0].end_position, footer->end_position);
  EXPECT_THAT(missing.findings[0].what, HasSubstr(file.string()));
}

TEST_F(SealingTest, WhatCannotBeSealedStaysInTheLog) {
  options_.sealing.enabled = false;
  {
    const std::unique_ptr<Core> core = Open();
    Append(*core, 150);
  }
  options_.sealing.enabled = true;
  std::atomic<int> begun{0};
  options_.sealing.on_step = [&](SealStep step) {
    if (step == SealStep::kBegin) ++begun;
    return step == SealStep::kFilled ? absl::DataLossError("damaged") : absl::OkStatus();
  };
  const std::unique_ptr<Core> core = Open();
  ASSERT_TRUE(EventuallyInCore([&] { return begun >= 2; }));
  EXPECT_EQ(core->Storage().segment_count, 0);
  ExpectAllReadable(*core);
}

TEST_F(SealingTest, IngestTimesOutliveSealing) {
  std::map<int64_t, int64_t> times;
  {
    const std::unique_ptr<Core> core = Open();
    ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
    for (int64_t i = 0; i < 150; ++i) {
      const auto result = core->AppendAndWait(NumberedBatch("a", i, 1));
      times[result->first_position] = result->ingest_time_us;
    }
    ASSERT_TRUE(EventuallyInCore([&] { return core->Storage().segment_count >= 2; }));
  }
  const std::unique_ptr<Core> core = Open();
  const auto range = core->ReadBlocks({}, 0, INT64_MAX, int64_t{1} << 30);
  std::map<int64_t, int64_t> read;
  for (const StoredBlock& stored : range->blocks) {
    const auto block = DecodedBlock::Decode(stored.data);
    for (const RecordView& record : block->records()) {
      read[record.position] = record.ingest_time_us;
    }
  }
  EXPECT_EQ(read, times);
}

TEST_F(SealingTest, TheNewestPartStaysHot) {
  options_.sealing.hot_bytes_min = int64_t{1} << 30;
  const std::unique_ptr<Core> core = Open();
  Append(*core, 150);
  ASSERT_TRUE(EventuallyInCore([&] { return *core->Storage().hot_bytes > 3 * (2 << 10); }));
  EXPECT_EQ(core->Storage().segment_count, 0);
}

TEST_F(SealingTest, WhatIsYoungStaysHot) {
  options_.sealing.age_min = absl::Milliseconds(200);
  const absl::Time begin = absl::Now();
  const std::unique_ptr<Core> core = Open();
  Append(*core, 100);
  ASSERT_TRUE(EventuallyInCore([&] { return core->Storage().segment_count > 0; }));
  EXPECT_GE(absl::Now() - begin, options_.sealing.age_min);
}

}  // namespace
}  // namespace icepie
