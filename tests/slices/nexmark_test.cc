// The Nexmark queries as slices: after every checkpoint each equals one run over all events.
// ICEPIE_NEXMARK_EVENTS takes more of them (1000000 for a long run).
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/slices/nexmark_events.h"
#include "tests/slices/slice_run.h"

namespace icepie::slices {
namespace {

constexpr int kCheckpoints = 4;

std::string ReadDomain() {
  const char* root = std::getenv("ICEPIE_SOURCE");
  const std::string path =
      absl::StrCat(root == nullptr ? "." : root, "/tests/slices/nexmark/nexmark.yaml");
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

int64_t EventCount() {
  const char* text = std::getenv("ICEPIE_NEXMARK_EVENTS");
  int64_t count = 0;
  return text != nullptr && absl::SimpleAtoi(text, &count) ? count : 3000;
}

void AppendSideInput(SliceRun& run, int round) {
  std::vector<std::string> rows;
  for (int key = round; key < 100; key += 3) {
    rows.push_back(absl::StrCat(R"({"key":)", key, R"(,"value":"v)", key, "-", round, R"("})"));
  }
  run.Append("side_input", rows);
}

// In blocks of a few events, so that positions of the streams lie among one another.
void AppendEvents(SliceRun& run, NexmarkGenerator& generator, int64_t count) {
  constexpr int64_t kBlock = 500;
  for (int64_t done = 0; done < count; done += kBlock) {
    for (const auto& [stream, payloads] : generator.Next(std::min(kBlock, count - done))) {
      run.Append(stream, payloads);
    }
  }
}

// As tests/slices/nexmark/README.md has them.
Strategy StrategyOf(const std::string& query) {
  static const auto* const kAppend =
      new std::set<std::string>{"q0", "q1", "q2", "q10", "q14", "q21", "q22"};
  static const auto* const kAggregate =
      new std::set<std::string>{"q4", "q5_counts", "q12", "q15", "q16", "q17"};
  if (kAppend->count(query) > 0) return Strategy::kAppend;
  return kAggregate->count(query) > 0 ? Strategy::kAggregate : Strategy::kKeys;
}

TEST(NexmarkTest, EveryQueryEqualsBatchAtEveryCheckpoint) {
  const auto started = SliceRun::Start(ReadDomain());
  ASSERT_TRUE(started.ok()) << started.status();
  SliceRun& run = **started;
  for (const SlicePlan& slice : run.plan().slices) {
    std::cout << std::left << std::setw(10) << slice.slice << slice.why << "\n";
    EXPECT_EQ(slice.strategy, StrategyOf(slice.slice)) << slice.slice;
  }
  EXPECT_EQ(run.plan().slices.size(), 25U) << "q0 to q22, of which q4 and q5 are two slices each";
  NexmarkGenerator generator(20261126);
  for (int checkpoint = 0; checkpoint < kCheckpoints; ++checkpoint) {
    AppendSideInput(run, checkpoint);
    AppendEvents(run, generator, EventCount() / kCheckpoints);
    const absl::Status applied = run.Apply(checkpoint % 2 == 0 ? 65536 : 300);
    ASSERT_TRUE(applied.ok()) << applied;
    if (checkpoint == 1) ASSERT_TRUE(run.Restart().ok());
    for (const SlicePlan& slice : run.plan().slices) {
      const auto difference = run.Difference(slice.slice);
      ASSERT_TRUE(difference.ok()) << slice.slice << ": " << difference.status();
      EXPECT_EQ(*difference, "") << slice.slice << " at checkpoint " << checkpoint;
      EXPECT_EQ(run.progress(slice.slice).quarantined, 0) << slice.slice;
    }
  }
  for (const SlicePlan& slice : run.plan().slices) {
    const auto rows = run.Rows(slice.slice);
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_FALSE(rows->empty()) << slice.slice << " tests nothing: it has no rows";
  }
}

}  // namespace
}  // namespace icepie::slices
