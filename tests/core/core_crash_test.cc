// Kills a process that appends in every way there is, at random moments, and looks for what it had
// acknowledged. ICEPIE_CRASH_ROUNDS sets how often (20 without it).
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "core/core.h"
#include "tests/core/append_batches.h"
#include "tests/core/child_process.h"
#include "tests/core/core_testing.h"
#include "tests/core/stored_tree.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

constexpr int kThreads = 4;
constexpr absl::Duration kRestartMax = absl::Seconds(5);

using EndOffsets = std::map<int, int64_t>;

// What was announced, whole lines only; the core's own log is in between.
EndOffsets Parse(const std::string& output) {
  EndOffsets ends;
  std::istringstream lines(output.substr(0, output.rfind('\n') + 1));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    int thread = 0;
    int64_t end_offset = 0;
    if (words >> thread >> end_offset) ends[thread] = end_offset;
  }
  return ends;
}

// Lets a child append until it has acknowledged something and `delay` has passed, then kills it.
std::string AppendAndKill(const std::string& directory, absl::Duration delay) {
  ChildProcess child("append_child", {directory, std::to_string(kThreads)});
  std::string output = child.ReadSome();
  EXPECT_FALSE(output.empty());
  std::thread killer([&] {
    absl::SleepFor(delay);
    child.Kill();
  });
  output += child.ReadToEnd();
  killer.join();
  EXPECT_EQ(child.Wait(), -1) << output;
  return output;
}

// Lets a child append until it ends itself where the further arguments say.
std::string AppendUntil(const std::string& directory, const std::vector<std::string>& where,
                        int threads = kThreads) {
  std::vector<std::string> arguments = {directory, std::to_string(threads)};
  arguments.insert(arguments.end(), where.begin(), where.end());
  ChildProcess child("append_child", arguments);
  const std::string output = child.ReadToEnd();
  EXPECT_EQ(child.Wait(), -1) << output;
  return output;
}

void ExpectWhole(const Core& core, const EndOffsets& acknowledged) {
  std::map<std::string, int64_t> counts;
  std::map<std::string, int64_t> shared_of_thread;
  int64_t position = 0;
  for (const ReadRecord& record : ReadAll(core)) {
    ASSERT_EQ(record.position, position++);
    const int64_t offset = counts[record.stream]++;
    ASSERT_EQ(record.offset, offset);
    if (record.stream == "shared") {
      ++shared_of_thread[record.payload.substr(5, 1)];
    } else {
      ASSERT_EQ(record.payload, "{\"n\":" + std::to_string(offset) + "}");
    }
  }
  ASSERT_EQ(position, core.head_position());
  for (int t = 0; t < kThreads; ++t) {
    const int64_t count = counts["own" + std::to_string(t)];
    EXPECT_EQ(count % kCrashBatchRecords, 0) << "half a batch";
    EXPECT_EQ(shared_of_thread[std::to_string(t)], count / kCrashBatchRecords) << "half a batch";
    const auto acked = acknowledged.find(t);
    if (acked != acknowledged.end()) EXPECT_GE(count, acked->second) << "acknowledged, now lost";
  }
}

// The core continues each of the checkpoints that were ever seen; its newest is added to them.
void ExpectContinued(Core& core, std::map<int64_t, Digest>& seen) {
  for (const auto& [size, root] : seen) {
    const auto proof = core.proofs()->ProveConsistency(size, core.head_position());
    ASSERT_TRUE(proof.ok()) << proof.status();
    EXPECT_EQ(proof->old_root, root) << "of " << size << " records";
  }
  const auto newest = core.proofs()->GetCheckpoint(core.head_position(), absl::Seconds(60));
  ASSERT_TRUE(newest.ok()) << newest.status();
  seen[newest->checkpoint.size] = newest->checkpoint.root;
}

TEST(CoreCrashTest, WhatWasAcknowledgedSurvivesKills) {
  const TempDirectory directory;
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::printf("seed %u\n", seed);
  const char* rounds = std::getenv("ICEPIE_CRASH_ROUNDS");
  std::mt19937 random(seed);
  EndOffsets acknowledged;
  std::map<int64_t, Digest> seen;
  for (int round = 0; round < (rounds != nullptr ? std::atoi(rounds) : 20); ++round) {
    const absl::Duration delay = absl::Microseconds(random() % 60000);
    for (const auto& [thread, end] : Parse(AppendAndKill(directory.path(), delay))) {
      acknowledged[thread] = end;
    }
    const absl::Time start = absl::Now();
    std::unique_ptr<Core> core = OpenCore(directory.path());
    // The long run has the machine to itself.
    if (rounds != nullptr) EXPECT_LT(absl::Now() - start, kRestartMax);
    ASSERT_EQ(core->ReadOnlyCause(), "");
    ExpectWhole(*core, acknowledged);
    ExpectContinued(*core, seen);
    ExpectStoredTreeOf(std::move(core), directory.path());
    if (HasFailure()) return;
  }
  EXPECT_EQ(acknowledged.size(), size_t{kThreads});
  EXPECT_GT(seen.size(), 2u) << "nothing was signed";
  // On a busy machine no life may have been long enough for the sealer, which others come before.
  const std::unique_ptr<Core> core = OpenCore(directory.path());
  EXPECT_TRUE(EventuallyInCore([&] {
    const auto own = core->GetStream("own0");
    return own.ok() && core->AppendAndWait(CrashBatch(0, own->end_offset)).ok() &&
           core->Storage().segment_count > 0;
  }));
  ExpectWhole(*core, acknowledged);
}

TEST(CoreCrashTest, ASealingThatEndsAtAnyStepLosesNothing) {
  const TempDirectory directory;
  EndOffsets acknowledged;
  for (const SealStep step :
       {SealStep::kBegin, SealStep::kFilled, SealStep::kSynced, SealStep::kRenamed,
        SealStep::kDirectorySynced, SealStep::kRegistered}) {
    SCOPED_TRACE("step " + std::to_string(static_cast<int>(step)));
    int64_t before = 0;
    {
      const std::unique_ptr<Core> core = OpenCore(directory.path());
      before = core->Storage().sealed_position;
    }
    for (const auto& [thread, end] :
         Parse(AppendUntil(directory.path(), {std::to_string(static_cast<int>(step))}))) {
      acknowledged[thread] = end;
    }
    const std::unique_ptr<Core> core = OpenCore(directory.path());
    ASSERT_EQ(core->ReadOnlyCause(), "");
    // Old or new: the first sealing of each run is the one that ended.
    const int64_t after = core->Storage().sealed_position;
    EXPECT_TRUE(step == SealStep::kRegistered ? after > before : after == before);
    const auto files = std::filesystem::directory_iterator(directory.path() + "/segments");
    EXPECT_EQ(std::distance(begin(files), end(files)), core->Storage().segment_count)
        << "leftovers are removed";
    ExpectWhole(*core, acknowledged);
    if (HasFailure()) return;
  }
}

// There is a small segment, whose place the next one takes: old or new, and never neither.
TEST(CoreCrashTest, ASegmentThatGrowsIsWholeAtAnyStep) {
  const TempDirectory directory;
  int64_t acknowledged = 0;
  int64_t sealed = 0;
  for (const SealStep step :
       {SealStep::kRegistered, SealStep::kBegin, SealStep::kFilled, SealStep::kSynced,
        SealStep::kRenamed, SealStep::kDirectorySynced, SealStep::kRegistered}) {
    SCOPED_TRACE("step " + std::to_string(static_cast<int>(step)));
    const std::string number = std::to_string(static_cast<int>(step));
    const EndOffsets ends = Parse(AppendUntil(directory.path(), {number}, /*threads=*/0));
    if (!ends.empty()) acknowledged = ends.at(0);  // or it ended before the first
    const std::unique_ptr<Core> core = OpenCore(directory.path());
    ASSERT_EQ(core->ReadOnlyCause(), "");
    const CoreStorage storage = core->Storage();
    EXPECT_EQ(storage.segment_count, 1);
    EXPECT_TRUE(step == SealStep::kRegistered ? storage.sealed_position > sealed
                                              : storage.sealed_position == sealed);
    sealed = storage.sealed_position;
    EXPECT_GT(acknowledged, 0);
    const auto files = std::filesystem::directory_iterator(directory.path() + "/segments");
    EXPECT_EQ(std::distance(begin(files), end(files)), 1) << "leftovers are removed";
    const std::vector<ReadRecord> records = ReadAll(*core);
    EXPECT_GE(static_cast<int64_t>(records.size()), acknowledged) << "acknowledged, now lost";
    for (size_t i = 0; i < records.size(); ++i) {
      ASSERT_EQ(records[i].position, static_cast<int64_t>(i));
      ASSERT_EQ(records[i].payload, "{\"n\":" + std::to_string(i) + "}");
    }
    if (HasFailure()) return;
  }
}

// What a client does that never got its answer. Thread 1 has request ids, 2 is a producer.
void ExpectRetriesStoreNothingTwice(Core& core) {
  for (const int thread : {1, 2}) {
    const std::string stream = "own" + std::to_string(thread);
    const auto found = core.GetStream(stream);
    if (!found.ok()) continue;  // it ended before the stream was made
    const int64_t end = found->end_offset;
    if (end > 0) {
      const auto last = core.AppendAndWait(CrashBatch(thread, end - kCrashBatchRecords));
      ASSERT_TRUE(last.ok()) << last.status();
      EXPECT_TRUE(last->replayed);
      EXPECT_EQ(last->streams[0].end_offset, end);
    }
    // What was not stored then is stored now, once.
    for (const bool again : {false, true}) {
      const auto next = core.AppendAndWait(CrashBatch(thread, end));
      ASSERT_TRUE(next.ok()) << next.status();
      EXPECT_EQ(next->replayed, again);
      EXPECT_EQ(next->streams[0].end_offset, end + kCrashBatchRecords);
    }
  }
}

TEST(CoreCrashTest, ACommitOrASignatureThatEndsAtAnyStepLosesAndDoublesNothing) {
  const bool is_long = std::getenv("ICEPIE_CRASH_ROUNDS") != nullptr;
  const TempDirectory directory;
  EndOffsets acknowledged;
  std::map<int64_t, Digest> seen;
  for (const WriteStep step : {WriteStep::kPlanned, WriteStep::kLogSynced, WriteStep::kMarked,
                               WriteStep::kAnswered, WriteStep::kHashed, WriteStep::kSigned}) {
    for (const int time : {1, 6}) {
      const auto number = static_cast<int>(step);
      SCOPED_TRACE("step " + std::to_string(number) + ", time " + std::to_string(time));
      const std::string output =
          AppendUntil(directory.path(), {std::to_string(number), std::to_string(time)});
      for (const auto& [thread, end] : Parse(output)) acknowledged[thread] = end;
      const absl::Time start = absl::Now();
      const std::unique_ptr<Core> core = OpenCore(directory.path());
      ASSERT_EQ(core->ReadOnlyCause(), "");
      // The long run has the machine to itself.
      EXPECT_LT(absl::Now() - start, is_long ? kRestartMax : absl::Seconds(60));
      ExpectWhole(*core, acknowledged);
      ExpectRetriesStoreNothingTwice(*core);
      const int64_t head = core->head_position();
      const auto signed_now = core->proofs()->GetCheckpoint(head, absl::Seconds(60));
      EXPECT_TRUE(signed_now.ok()) << signed_now.status();
      ExpectContinued(*core, seen);
      if (HasFailure()) return;
    }
  }
  EXPECT_EQ(acknowledged.size(), size_t{kThreads});
}

}  // namespace
}  // namespace icepie
