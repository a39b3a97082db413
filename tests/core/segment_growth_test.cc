// A small last segment is taken into the next one, and its file goes when nobody holds it any more.
#include <gmock/gmock.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "core/base/file.h"
#include "core/core.h"
#include "core/segment/segment_reader.h"
#include "core/verify/verification.h"
#include "tests/core/core_testing.h"
#include "tests/core/sealing_gate.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

namespace fs = std::filesystem;

class SegmentGrowthTest : public testing::Test {
 protected:
  SegmentGrowthTest() : path_(directory_.path() + "/core") {
    options_.directory = path_;
    options_.sealing = SmallSegments();
    options_.sealing.segment_bytes = 16 << 10;
    options_.sealing.grows_segments = true;
    options_.sealing.retry_delay = absl::Milliseconds(10);
    options_.sealing.on_step = [this](SealStep step) { return gate_.Pass(step); };
  }

  std::unique_ptr<Core> Open() {
    auto core = Core::Open(options_);
    EXPECT_TRUE(core.ok()) << core.status();
    return *std::move(core);
  }

  // A hundred digits, so that a joined block is about a third of its records' own.
  static std::string Payload(int64_t n) {
    std::mt19937_64 random(static_cast<uint64_t>(n));
    std::string digits;
    while (digits.size() < 100) digits += std::to_string(random());
    return "{\"n\":" + std::to_string(n) + ",\"text\":\"" + digits + "\"}";
  }

  // One by one, by turns to a and b, until there were `sealings` more. There are no others.
  void AppendUntilSealed(Core& core, int sealings) {
    for (const char* stream : {"a", "b"}) {
      ASSERT_TRUE(core.CreateStream(stream, PayloadFormat::kJson).ok());
    }
    gate_.Allow(sealings);
    for (int64_t i = 0; !gate_.spent(); ++i) {
      ASSERT_LT(i, 60000) << "nothing is sealed any more";
      // More than is needed: now it is the sealer that needs time.
      if (i > 500 * sealings) absl::SleepFor(absl::Milliseconds(1));
      AppendBatch batch;
      const std::string stream = i % 300 == 0 ? "b" : "a";
      batch.records.push_back(MakeRecord(stream, Payload(core.GetStream(stream)->end_offset)));
      ASSERT_TRUE(core.AppendAndWait(std::move(batch)).ok());
    }
  }

  static void ExpectAllReadable(const Core& core) {
    const std::vector<ReadRecord> records = ReadAll(core);
    ASSERT_EQ(static_cast<int64_t>(records.size()), core.head_position());
    std::map<std::string, int64_t> next;
    for (size_t i = 0; i < records.size(); ++i) {
      ASSERT_EQ(records[i].position, static_cast<int64_t>(i));
      ASSERT_EQ(records[i].offset, next[records[i].stream]++);
      ASSERT_EQ(records[i].payload, Payload(records[i].offset));
      if (i % 100 != 0) continue;
      ASSERT_EQ(*core.PositionOf(records[i].stream, records[i].offset), records[i].position);
    }
  }

  std::set<std::string> Files() const {
    std::set<std::string> files;
    for (const auto& file : fs::directory_iterator(path_ + "/segments")) {
      files.insert("segments/" + file.path().filename().string());
    }
    return files;
  }

  static std::set<std::string> Leased(const SegmentLease& lease) {
    std::set<std::string> files;
    for (const SealedSegment& segment : lease.segments()) files.insert(segment.path);
    return files;
  }

  // The files that the core names are there, and no others.
  void ExpectNoOtherFiles(const Core& core) {
    EXPECT_TRUE(EventuallyInCore(
        [&] { return Files() == Leased(*core.LeaseSegments(0, core.head_position(), 1000)); }));
  }

  VerificationReport Verify() const {
    return *VerifyDirectory(path_, "", [](int64_t, int64_t, int64_t) {});
  }

  TempDirectory directory_;
  const std::string path_;
  CoreOptions options_;
  SealingGate gate_;
};

TEST_F(SegmentGrowthTest, SegmentsGrowToHalfTheirSizeAtLeast) {
  {
    const std::unique_ptr<Core> core = Open();
    AppendUntilSealed(*core, 12);
    EXPECT_LE(core->Storage().segment_count, 8);
    EXPECT_GE(core->Storage().segment_count, 2);
    ExpectAllReadable(*core);
    ExpectNoOtherFiles(*core);
    int64_t bytes = 0;
    int64_t small = 0;
    for (const std::string& file : Files()) {
      const auto size = static_cast<int64_t>(fs::file_size(path_ + "/" + file));
      bytes += size;
      small += static_cast<int64_t>(size < options_.sealing.segment_bytes / 2);
      EXPECT_LE(size, 2 * options_.sealing.segment_bytes);
    }
    EXPECT_LE(small, 1) << "the last one grows";
    EXPECT_EQ(core->Storage().segment_bytes, bytes);
    ASSERT_TRUE(core->proofs()->GetCheckpoint(core->head_position(), absl::Seconds(60)).ok());
  }
  EXPECT_TRUE(Verify().ok()) << Verify().bytes_rehashed.detail;
  const std::unique_ptr<Core> core = Open();
  ASSERT_EQ(core->ReadOnlyCause(), "");
  AppendUntilSealed(*core, 3);
  ExpectAllReadable(*core);
  ExpectNoOtherFiles(*core);
}

TEST_F(SegmentGrowthTest, WhatIsLeasedStaysUntilTheLeaseEnds) {
  const std::unique_ptr<Core> core = Open();
  AppendUntilSealed(*core, 1);
  auto lease = core->LeaseSegments(0, core->head_position(), 1000);
  ASSERT_EQ(lease->segments().size(), 1U);
  const std::string file = path_ + "/" + lease->segments()[0].path;
  const std::string content = *ReadFile(file);
  AppendUntilSealed(*core, 1);
  ASSERT_EQ(core->Storage().segment_count, 1) << "it was taken into the next one";
  EXPECT_NE(Leased(*core->LeaseSegments(0, core->head_position(), 1000)), Leased(*lease));
  EXPECT_EQ(*ReadFile(file), content);
  ExpectAllReadable(*core);
  lease.reset();
  EXPECT_FALSE(fs::exists(file));
  ExpectNoOtherFiles(*core);
  ExpectAllReadable(*core);
}

TEST_F(SegmentGrowthTest, ALeaseThatOutlivesTheCoreRemovesNothingThatIsRegistered) {
  std::unique_ptr<Core> core = Open();
  AppendUntilSealed(*core, 1);
  const auto early = core->LeaseSegments(0, core->head_position(), 1000);
  AppendUntilSealed(*core, 1);
  ASSERT_NE(Leased(*early), Leased(*core->LeaseSegments(0, core->head_position(), 1000)));
  auto late = core->LeaseSegments(0, core->head_position(), 1000);
  core.reset();
  late.reset();
  core = Open();  // removes what is not registered
  ASSERT_EQ(core->ReadOnlyCause(), "");
  ExpectNoOtherFiles(*core);
  ExpectAllReadable(*core);
}

// A step fails, each once, while there is a small segment to take in: that stays.
TEST_F(SegmentGrowthTest, AFailedStepLeavesTheSmallSegment) {
  std::set<SealStep> failed;  // the sealing thread's
  std::atomic<int> failures{0};
  options_.sealing.on_step = [&](SealStep step) {
    absl::Status passed = gate_.Pass(step);
    if (!passed.ok() || gate_.made() == 0 || step == SealStep::kRegistered ||
        !failed.insert(step).second) {
      return passed;
    }
    ++failures;
    return absl::ResourceExhaustedError("no space left");
  };
  const std::unique_ptr<Core> core = Open();
  AppendUntilSealed(*core, 2);
  EXPECT_EQ(failures, 5);
  EXPECT_EQ(core->ReadOnlyCause(), "");
  EXPECT_EQ(core->Storage().segment_count, 1);
  ExpectAllReadable(*core);
  ExpectNoOtherFiles(*core);
}

// A copy of the catalog may name files that were replaced since; they stay while it is made.
TEST_F(SegmentGrowthTest, ABackupHasTheSegmentsThatItsCatalogNames) {
  const std::unique_ptr<Core> core = Open();
  AppendUntilSealed(*core, 1);
  const std::set<std::string> before = Files();
  bool replaced = false;
  // First told when the log is copied, before the first segment is.
  const auto backup = core->BackUpTo(directory_.path() + "2/core", [&](int64_t, int64_t) {
    if (!std::exchange(replaced, true)) AppendUntilSealed(*core, 1);
    return true;
  });
  ASSERT_TRUE(backup.ok()) << backup.status();
  ExpectNoOtherFiles(*core);
  EXPECT_NE(Files(), before);
  std::set<std::string> copied;
  for (const auto& file : fs::directory_iterator(directory_.path() + "2/core/segments")) {
    copied.insert("segments/" + file.path().filename().string());
  }
  EXPECT_EQ(copied, before);
  const auto report =
      VerifyDirectory(directory_.path() + "2/core", "", [](int64_t, int64_t, int64_t) {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->finding_count, 0) << report->bytes_rehashed.detail;
  fs::remove_all(directory_.path() + "2");
}

// What cannot be read again stays as it is, and sealing goes on behind it.
TEST_F(SegmentGrowthTest, ADamagedSegmentIsNotTakenIntoAnother) {
  const std::unique_ptr<Core> core = Open();
  AppendUntilSealed(*core, 1);
  const std::string file = path_ + "/" + *Files().begin();
  const SegmentBlock block = (*SegmentReader::Open(file))->blocks()[0];
  {
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(static_cast<int64_t>(block.place) + 60);
    stream.put('\x7f');
  }
  const std::string damaged = *ReadFile(file);
  AppendUntilSealed(*core, 2);
  EXPECT_EQ(core->Storage().segment_count, 2);
  EXPECT_EQ(*ReadFile(file), damaged);
  const int64_t end = (*SegmentReader::Open(file))->footer().end_position;
  EXPECT_FALSE(ReadAll(*core, {}, end).empty());
}

}  // namespace
}  // namespace icepie
