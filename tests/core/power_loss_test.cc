// The power goes at any moment: whatever was not synced is lost, names and renames too, but for
// some pages of the log. What was acknowledged is there afterwards, sealed or not, and so is every
// checkpoint that somebody saw. ICEPIE_POWER_LOSS_ROUNDS sets how often (20 without it).
#include "tests/core/power_loss.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/steady_clock.h"
#include "core/log/high_water_mark.h"
#include "core/verify/verification.h"
#include "tests/core/core_testing.h"
#include "tests/core/small_disk.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

class PowerLossTest : public testing::Test {
 protected:
  PowerLossTest() : root_(directory_.path() + "/root"), vault_(directory_.path() + "/vault") {
    std::filesystem::create_directory(root_);
    std::filesystem::create_directory(vault_);
    machine_.emplace(root_, vault_);
  }

  std::string core_path() const { return root_ + "/data/core"; }

  std::unique_ptr<Core> Open() const { return OpenCore(core_path(), SmallSegments()); }

  // Tries again at once what has failed.
  std::unique_ptr<Core> OpenImpatient() const {
    CoreOptions options;
    options.directory = core_path();
    options.sealing = SmallSegments();
    options.sealing.retry_delay = absl::Milliseconds(1);
    options.checkpoint_interval = absl::Milliseconds(1);
    auto core = Core::Open(options);
    EXPECT_TRUE(core.ok()) << core.status();
    ICEPIE_CHECK(core.ok());
    return std::move(core).value();
  }

  // Appends without waiting, so that the end comes in the middle of commits and sealings.
  void AppendAndStop() {
    const std::unique_ptr<Core> core = Open();
    ASSERT_EQ(core->ReadOnlyCause(), "");
    ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
    int64_t next = core->GetStream("a")->end_offset;
    ASSERT_GE(next, acknowledged_.load());
    const auto done = [this](const absl::StatusOr<AppendResult>& result) {
      if (!result.ok()) return;
      acknowledged_ = result->streams[0].end_offset;
      last_answer_ = *result;
    };
    asked_.clear();
    done(core->AppendAndWait(NextBatch(next++, 1)));
    const auto seen = core->proofs()->GetCheckpoint(0, absl::ZeroDuration());
    ASSERT_TRUE(seen.ok()) << seen.status();
    ASSERT_GE(seen->checkpoint.size, seen_size_);
    seen_size_ = seen->checkpoint.size;
    seen_note_ = seen->note;
    const int appends = 20 + static_cast<int>(random_() % 200);
    const int stop_at = static_cast<int>(random_() % static_cast<unsigned>(appends));
    for (int i = 0; i < appends; ++i) {
      if (i == stop_at) machine_->Stop();
      const bool is_large = random_() % 8 == 0;  // of many pages
      const auto count = static_cast<int64_t>(1 + random_() % (is_large ? 3000 : 20));
      core->Append(NextBatch(next, count), done);
      next += count;
    }
  }

  // That follows the one before.
  AppendBatch NextBatch(int64_t first, int64_t count) {
    AppendBatch batch = NumberedBatch("a", first, count);
    batch.identity = AppendIdentity{absl::StrCat("batch-", first), "", 0, 0};
    asked_.emplace_back(first, batch);
    return batch;
  }

  // What a client does that got no more answers: it sends the last batch that was answered again,
  // and some of those behind it.
  void ExpectRetriesStoreNothingTwice(Core& core) {
    const int64_t answered = acknowledged_;
    int unanswered = 0;
    for (auto& [first, batch] : asked_) {
      if (first < last_answer_.streams.at(0).first_offset) continue;
      const bool is_answered = first < answered;
      if (!is_answered && ++unanswered > 3) break;
      const int64_t end = core.GetStream("a")->end_offset;
      for (const bool again : {false, true}) {
        const auto retried = core.AppendAndWait(batch);
        ASSERT_TRUE(retried.ok()) << retried.status();
        EXPECT_EQ(retried->streams.at(0).first_offset, first);
        EXPECT_EQ(retried->replayed, again || first < end);
        if (is_answered) EXPECT_EQ(retried->first_position, last_answer_.first_position);
      }
      acknowledged_ = std::max(end, first + static_cast<int64_t>(batch.records.size()));
      EXPECT_EQ(core.GetStream("a")->end_offset, acknowledged_);
    }
    asked_.clear();
  }

  void ExpectWhole() {
    {
      const absl::Time start = SteadyNow();
      const std::unique_ptr<Core> core = Open();
      // The long run has the machine to itself.
      EXPECT_LT(SteadyNow() - start, absl::Seconds(is_long_ ? 5 : 60));
      ASSERT_EQ(core->ReadOnlyCause(), "");
      const std::vector<ReadRecord> records = ReadAll(*core, {"a"});
      ASSERT_GE(static_cast<int64_t>(records.size()), acknowledged_.load());
      for (size_t i = 0; i < records.size(); ++i) {
        ASSERT_EQ(records[i].offset, static_cast<int64_t>(i));
        ASSERT_EQ(records[i].payload, "{\"n\":" + std::to_string(i) + "}");
      }
      key_ = core->proofs()->verifier_key();
      ASSERT_NO_FATAL_FAILURE(ExpectRetriesStoreNothingTwice(*core));
    }
    const auto report = VerifyDirectory(core_path(), seen_note_, [](int64_t, int64_t, int64_t) {});
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_TRUE(report->ok()) << report->bytes_rehashed.detail << "; "
                              << report->tree_recomputed.detail << "; "
                              << report->consistent.detail;
  }

  const TempDirectory directory_;
  const std::string root_;
  const std::string vault_;
  std::optional<PowerLoss> machine_;
  std::mt19937 random_;
  const bool is_long_ = std::getenv("ICEPIE_POWER_LOSS_ROUNDS") != nullptr;
  std::vector<std::pair<int64_t, AppendBatch>> asked_;  // in this life, by first offset
  AppendResult last_answer_;
  std::atomic<int64_t> acknowledged_{0};
  int64_t seen_size_ = 0;
  std::string seen_note_;  // what an auditor keeps; later ones must continue it
  std::string key_;
};

TEST_F(PowerLossTest, WhatWasSyncedIsThereAfterIt) {
  const char* rounds = std::getenv("ICEPIE_POWER_LOSS_ROUNDS");
  const unsigned seed = std::random_device()();
  std::printf("seed %u\n", seed);
  random_.seed(seed);
  std::string first_key;
  for (int round = 0; round < (rounds != nullptr ? std::atoi(rounds) : 20); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    AppendAndStop();
    machine_->Lose(&random_);
    if (acknowledged_ > 0) ExpectWhole();
    if (HasFailure()) return;
    if (first_key.empty()) first_key = key_;
    EXPECT_EQ(key_, first_key);
  }
  EXPECT_GT(acknowledged_.load(), 0);
  // On a busy machine no life may have been long enough for the sealer, which others come before.
  {
    const std::unique_ptr<Core> core = Open();
    EXPECT_TRUE(EventuallyInCore([&] {
      const auto stream = core->GetStream("a");
      if (!stream.ok()) return false;
      const auto appended = core->AppendAndWait(NumberedBatch("a", stream->end_offset, 20));
      if (appended.ok()) acknowledged_ = appended->streams[0].end_offset;
      return appended.ok() && core->Storage().segment_count > 0;
    }));
    machine_->Stop();
  }
  machine_->Lose();
  ExpectWhole();
}

// The very first acknowledged record: its directories are new as well.
TEST_F(PowerLossTest, ANewDataDirectoryIsNotLostWithItsFirstRecords) {
  {
    const std::unique_ptr<Core> core = Open();
    ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
    const auto appended = core->AppendAndWait(NumberedBatch("a", 0, 3));
    ASSERT_TRUE(appended.ok()) << appended.status();
    acknowledged_ = 3;
    machine_->Stop();
  }
  machine_->Lose();
  ExpectWhole();
}

// About once a second, while appends go on without a pause and when they have ended: of what was
// acknowledged before that, a loss would be noticed even after a power loss.
TEST_F(PowerLossTest, TheHighWaterMarkIsSyncedAgainAndAgain) {
  const std::unique_ptr<Core> core = OpenCore(core_path());
  ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
  const auto durable_mark = [&] {
    const std::string copy = directory_.path() + "/mark";
    std::ofstream(copy, std::ios::binary)
        << machine_->Durable(absl::StrCat(core_path(), "/", kHighWaterMarkFile));
    const absl::StatusOr<HighWater> mark = HighWaterMark::Read(copy);
    return mark.ok() ? mark->position : -1;
  };
  ASSERT_EQ(durable_mark(), 0) << "made durable with the core";
  const absl::Time begin = SteadyNow();
  int64_t next = 0;
  while (durable_mark() == 0) {
    ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", next++, 1)).ok());
    ASSERT_LT(SteadyNow() - begin, absl::Seconds(60)) << "after " << next << " appends";
  }
  EXPECT_LE(durable_mark(), next);
  EXPECT_TRUE(EventuallyInCore([&] { return durable_mark() == next; }));
}

// Of one sealing: the file's sync and the directory's. It is tried again, and what was registered
// is there.
TEST_F(PowerLossTest, ASegmentWhoseSyncFailsIsNotRegistered) {
  const auto of_segments = [](const std::string& path) {
    return absl::StrContains(path, "/segments");
  };
  for (const int n : {1, 2}) {
    SCOPED_TRACE(n);
    {
      const std::unique_ptr<Core> core = OpenImpatient();
      for (const char* stream : {"a", "b"}) {
        ASSERT_TRUE(core->CreateStream(stream, PayloadFormat::kBytes).ok());
      }
      const int64_t sealed = core->Storage().sealed_position;
      machine_->FailSync(of_segments, n);
      ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", acknowledged_, 3)).ok());
      acknowledged_ += 3;
      // As much as makes one segment, and no more: another one would sync the directory again.
      AppendBatch large;
      std::string bytes(4 << 10, '\0');
      for (char& byte : bytes) byte = static_cast<char>(random_());
      large.records.push_back(MakeRecord("b", bytes));
      ASSERT_TRUE(core->AppendAndWait(std::move(large)).ok());
      ASSERT_TRUE(EventuallyInCore([&] { return core->Storage().sealed_position > sealed; }));
      EXPECT_NE(machine_->failed_path(), "");
      machine_->Stop();
    }
    machine_->Lose();
    ExpectWhole();
    if (HasFailure()) return;
  }
}

TEST_F(PowerLossTest, AnAppendWhoseSyncFailsIsNotAcknowledged) {
  {
    const std::unique_ptr<Core> core = Open();
    ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
    ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", 0, 3)).ok());
    acknowledged_ = 3;
    machine_->FailSync([](const std::string& path) { return absl::EndsWith(path, ".log"); }, 1);
    EXPECT_FALSE(core->AppendAndWait(NumberedBatch("a", 3, 3)).ok());
    EXPECT_FALSE(core->AppendAndWait(NumberedBatch("a", 3, 3)).ok());
    machine_->Stop();
  }
  machine_->Lose();
  ExpectWhole();
}

// The new file's sync, and that of the directory where it takes the old one's name.
TEST_F(PowerLossTest, ACheckpointWhoseSyncFailsIsNotShown) {
  const std::vector<std::function<bool(const std::string&)>> faults = {
      [](const std::string& path) { return absl::StrContains(path, "/core/checkpoint."); },
      [](const std::string& path) { return absl::EndsWith(path, "/core"); }};
  for (size_t i = 0; i < faults.size(); ++i) {
    SCOPED_TRACE(i);
    {
      const std::unique_ptr<Core> core = OpenImpatient();
      ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
      ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", acknowledged_, 3)).ok());
      acknowledged_ += 3;
      machine_->FailSync(faults[i], 1);
      const auto seen = core->proofs()->GetCheckpoint(acknowledged_, absl::Seconds(60));
      ASSERT_TRUE(seen.ok()) << seen.status();
      seen_note_ = seen->note;
      EXPECT_NE(machine_->failed_path(), "");
      machine_->Stop();
    }
    machine_->Lose();
    EXPECT_EQ(*ReadFile(core_path() + "/checkpoint"), seen_note_);
    ExpectWhole();
    if (HasFailure()) return;
  }
}

// On another file system, so that nothing of it is shared with the core. Each of its syncs in turn,
// RocksDB's and the core's: one that succeeds after one that has failed makes nothing durable.
TEST(BackupSyncTest, ABackupOfWhichASyncFailsIsNone) {
  const TempDirectory directory;
  const SmallDisk disk(int64_t{256} << 20);
  const TempDirectory without_disk;
  const std::string other = disk.mounted() ? disk.path() : without_disk.path();
  std::filesystem::create_directory(other + "/root");
  std::filesystem::create_directory(other + "/vault");
  PowerLoss machine(other + "/root", other + "/vault");
  const std::unique_ptr<Core> core = OpenCore(directory.path() + "/core", SmallSegments());
  ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
  for (int64_t n = 0; core->Storage().segment_count == 0; n += 20) {
    ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", n, 20)).ok());
  }
  bool failed = true;
  int n = 0;
  while (failed) {
    machine.FailSync([](const std::string& /*path*/) { return true; }, ++n);
    const auto backup = core->BackUpTo(absl::StrCat(other, "/root/", n, "/core"),
                                       [](int64_t, int64_t) { return true; });
    failed = machine.failed_path() != "";
    ASSERT_EQ(backup.ok(), !failed) << n << ": " << machine.failed_path() << backup.status();
  }
  EXPECT_GT(n, 10) << "there are more files than that";
}

TEST_F(PowerLossTest, AFileIsTheOldOrTheNewOne) {
  const std::string path = root_ + "/file";
  ASSERT_TRUE(WriteFileAtomically(path, "old").ok());
  machine_->Lose();
  EXPECT_EQ(*ReadFile(path), "old");
  machine_->Stop();
  EXPECT_FALSE(WriteFileAtomically(path, "new").ok());
  machine_->Lose();
  EXPECT_EQ(*ReadFile(path), "old");
  ASSERT_TRUE(WriteFileAtomically(path, "new").ok());
  machine_->Lose();
  EXPECT_EQ(*ReadFile(path), "new");
}

// The simulation itself: a rename without a sync of the directory is undone.
TEST_F(PowerLossTest, WhatWasNotSyncedIsLost) {
  const std::string path = root_ + "/file";
  ASSERT_TRUE(WriteFileAtomically(path, "old").ok());
  std::filesystem::rename(path, root_ + "/renamed");
  std::filesystem::create_directory(root_ + "/new");
  machine_->Lose();
  EXPECT_EQ(*ReadFile(path), "old");
  EXPECT_FALSE(std::filesystem::exists(root_ + "/renamed"));
  EXPECT_FALSE(std::filesystem::exists(root_ + "/new"));
}

}  // namespace
}  // namespace icepie
