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
#include "tests/core/child_process.h"
#include "tests/core/core_testing.h"
#include "tests/core/stored_tree.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

constexpr int kThreads = 4;
constexpr int64_t kOwnRecords = 5;  // of a batch, as in append_child.cc

using EndOffsets = std::map<int, int64_t>;

// What was announced, whole lines only.
EndOffsets Parse(const std::string& output) {
  EndOffsets ends;
  std::istringstream lines(output.substr(0, output.rfind('\n') + 1));
  int thread = 0;
  int64_t end_offset = 0;
  while (lines >> thread >> end_offset) ends[thread] = end_offset;
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

// Lets a child append until a sealing has reached `step`, where it ends itself.
std::string AppendUntil(const std::string& directory, SealStep step) {
  ChildProcess child("append_child",
                     {directory, std::to_string(kThreads), std::to_string(static_cast<int>(step))});
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
    EXPECT_EQ(count % kOwnRecords, 0) << "half a batch";
    EXPECT_EQ(shared_of_thread[std::to_string(t)], count / kOwnRecords) << "half a batch";
    const auto acked = acknowledged.find(t);
    if (acked != acknowledged.end()) EXPECT_GE(count, acked->second) << "acknowledged, now lost";
  }
}

TEST(CoreCrashTest, WhatWasAcknowledgedSurvivesKills) {
  const TempDirectory directory;
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::printf("seed %u\n", seed);
  const char* rounds = std::getenv("ICEPIE_CRASH_ROUNDS");
  std::mt19937 random(seed);
  EndOffsets acknowledged;
  for (int round = 0; round < (rounds != nullptr ? std::atoi(rounds) : 20); ++round) {
    const absl::Duration delay = absl::Microseconds(random() % 60000);
    for (const auto& [thread, end] : Parse(AppendAndKill(directory.path(), delay))) {
      acknowledged[thread] = end;
    }
    std::unique_ptr<Core> core = OpenCore(directory.path());
    ASSERT_EQ(core->ReadOnlyCause(), "");
    ExpectWhole(*core, acknowledged);
    ExpectStoredTreeOf(std::move(core), directory.path());
    if (HasFailure()) return;
  }
  EXPECT_EQ(acknowledged.size(), size_t{kThreads});
  EXPECT_GT(OpenCore(directory.path())->Storage().segment_count, 0) << "nothing was ever sealed";
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
      before = core->Storage().segment_count;
    }
    for (const auto& [thread, end] : Parse(AppendUntil(directory.path(), step))) {
      acknowledged[thread] = end;
    }
    const std::unique_ptr<Core> core = OpenCore(directory.path());
    ASSERT_EQ(core->ReadOnlyCause(), "");
    // Old or new: the first sealing of each run is the one that ended.
    EXPECT_EQ(core->Storage().segment_count, before + (step == SealStep::kRegistered ? 1 : 0));
    const auto files = std::filesystem::directory_iterator(directory.path() + "/segments");
    EXPECT_EQ(std::distance(begin(files), end(files)), core->Storage().segment_count)
        << "leftovers are removed";
    ExpectWhole(*core, acknowledged);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace icepie
