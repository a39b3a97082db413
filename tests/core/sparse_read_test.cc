// Reading streams with few records among many others' does not cost what those do, and finds the
// same.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/base/status.h"
#include "tests/core/core_testing.h"
#include "tests/core/index_hole.h"
#include "tests/core/stored_tree.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

class SparseReadTest : public testing::Test {
 protected:
  static void Append(Core& core, const std::string& stream, int64_t count) {
    const int64_t next = core.GetStream(stream)->end_offset;
    ASSERT_TRUE(core.AppendAndWait(NumberedBatch(stream, next, count)).ok());
  }

  void CreateStreams(Core& core) const {
    for (const std::string& stream : kStreams) {
      ASSERT_TRUE(core.CreateStream(stream, PayloadFormat::kJson).ok());
    }
  }

  // A read begins with whole blocks; only what is at `from` or behind it counts.
  static std::vector<int64_t> PositionsOf(const std::vector<ReadRecord>& records,
                                          const std::vector<std::string>& streams, int64_t from) {
    std::vector<int64_t> positions;
    for (const ReadRecord& record : records) {
      const bool wanted = std::count(streams.begin(), streams.end(), record.stream) > 0;
      if (wanted && record.position >= from) positions.push_back(record.position);
    }
    return positions;
  }

  // Some choices of streams, from anywhere, in large and small pieces: what a read of all has.
  void ExpectSame(const Core& core, std::mt19937& random) const {
    const std::vector<ReadRecord> all = ReadAll(core);
    for (int i = 0; i < 60; ++i) {
      std::vector<std::string> streams;
      for (const std::string& stream : kStreams) {
        if (random() % 2 == 0) streams.push_back(stream);
      }
      if (streams.empty()) streams = {"b"};
      const auto from = static_cast<int64_t>(random() % (core.head_position() + 1));
      const int64_t bytes = random() % 2 == 0 ? 1 : 1 << 20;
      const std::vector<ReadRecord> read = ReadAll(core, streams, from, bytes);
      ASSERT_EQ(PositionsOf(read, kStreams, 0), PositionsOf(all, streams, from)) << from;
    }
  }

  const std::vector<std::string> kStreams = {"a", "b", "c", "d"};
  TempDirectory directory_;
  const std::string path_ = directory_.path() + "/core";
};

TEST_F(SparseReadTest, FindsWhatAReadOfAllFinds) {
  std::mt19937 random(11);
  for (const bool seals : {false, true}) {
    SealingOptions sealing = SmallSegments();
    sealing.enabled = seals;
    const auto core = OpenCore(path_ + (seals ? "1" : "0"), sealing);
    CreateStreams(*core);
    ExpectSame(*core, random);
    for (int i = 0; i < 150; ++i) {
      Append(*core, "a", 1 + static_cast<int64_t>(random() % 3));
      if (i % 30 == 7) Append(*core, "b", 2);
      if (i == 40) Append(*core, "c", 1);
      if (i % 50 == 49) ExpectSame(*core, random);
    }
  }
}

TEST_F(SparseReadTest, MissesNothingWhileTheCoreSeals) {
  const auto core = OpenCore(path_, SmallSegments());
  CreateStreams(*core);
  std::atomic<bool> stopping{false};
  std::thread writer([&] {
    for (int i = 0; i < 400; ++i) Append(*core, i % 10 == 0 ? "b" : "a", 2);
    stopping = true;
  });
  while (!stopping) {
    // A stream's end is known a moment before the head is, so the head's records count.
    const std::vector<ReadRecord> all = ReadAll(*core);
    const std::vector<ReadRecord> records = ReadAll(*core, {"b"});
    EXPECT_GE(records.size(), PositionsOf(all, {"b"}, 0).size());
    for (size_t i = 0; i < records.size(); ++i) {
      EXPECT_EQ(records[i].offset, static_cast<int64_t>(i));
    }
  }
  writer.join();
  // The sealer goes on in the background; on a busy machine it may only begin now.
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (core->Storage().segment_count <= 2 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_GT(core->Storage().segment_count, 2);
}

TEST_F(SparseReadTest, TheIndexOfOtherStreamsIsNotPassedOver) {
  int64_t sparse = 0;
  {
    const auto core = OpenCore(path_);
    CreateStreams(*core);
    for (int i = 0; i < 20; ++i) Append(*core, "a", 2);
    sparse = core->head_position();
    Append(*core, "b", 1);
    Append(*core, "a", 2);
  }
  // Without the index entries between the first block and it.
  MakeIndexHole(path_ + "/rocksdb", 2, sparse);
  const auto core = OpenCore(path_);
  ASSERT_THAT(core->ReadOnlyCause(), testing::HasSubstr("behind position 2 the index goes on"));
  EXPECT_EQ(ErrorReason(core->ReadBlocks({}, 2, core->head_position(), 1 << 20).status()),
            "RECORD_DAMAGED");
  const std::vector<ReadRecord> records = ReadAll(*core, {"b"});
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].position, sparse);
}

}  // namespace
}  // namespace icepie
