// Random domains, SQL, records, batches and restarts: after each step every slice equals plain
// DuckDB (differential_run.h). ICEPIE_DIFFERENTIAL_CASES (2000 for a long run) and
// ICEPIE_DIFFERENTIAL_SEED choose other cases, ICEPIE_DIFFERENTIAL_JOBS runs so many at once; a
// failure is made small before it is printed, and ends the run unless
// ICEPIE_DIFFERENTIAL_KEEP_GOING is set.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/mutex.h"
#include "gtest/gtest.h"
#include "spdlog/spdlog.h"
#include "tests/slices/differential_grammar.h"
#include "tests/slices/differential_run.h"
#include "tests/slices/differential_shrink.h"

namespace icepie::slices {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr uint64_t kCasesBetweenSigns = 50;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

// The cases of a range of seeds, each by the next thread that is free.
class DifferentialRuns {
 public:
  DifferentialRuns(uint64_t first, uint64_t cases)
      : first_(first),
        end_(first + cases),
        keep_going_(std::getenv("ICEPIE_DIFFERENTIAL_KEEP_GOING") != nullptr),
        next_(first) {}

  void Run(uint64_t jobs) {
    std::cout << "seeds " << first_ << " to " << end_ - 1 << std::endl;
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < std::max<uint64_t>(jobs, 1); ++i)
      threads.emplace_back([this] { Work(); });
    for (std::thread& thread : threads) thread.join();
    MutexLock lock(mutex_);
    std::cout << done_ << " cases, " << comparisons_ << " comparisons, " << errors_
              << " errors shared with the reference, " << blamed_ << " records blamed; slices:";
    for (const auto& [name, count] : strategies_) std::cout << " " << name << " " << count;
    std::cout << std::endl;
  }

 private:
  void Work() {
    while (!stopped_) {
      const uint64_t seed = next_++;
      if (seed >= end_) return;
      DifferentialCase test_case = MakeCase(seed);
      const CaseResult result = RunCase(test_case, kPatience);
      Note(result);
      if (!result.failure) continue;
      std::cout << "seed " << seed << " fails, and is made small: " << result.failure->what
                << std::endl;
      const CaseFailure failure = Shrink(test_case, *result.failure);
      ADD_FAILURE() << "ICEPIE_DIFFERENTIAL_SEED=" << seed << " ICEPIE_DIFFERENTIAL_CASES=1\n"
                    << Describe(test_case) << failure.what;
      if (!keep_going_) stopped_ = true;
    }
  }

  void Note(const CaseResult& result) {
    MutexLock lock(mutex_);
    for (const auto& [name, count] : result.strategies) strategies_[name] += count;
    comparisons_ += result.comparisons;
    errors_ += result.errors_shared;
    blamed_ += result.blamed;
    if (++done_ % kCasesBetweenSigns != 0) return;
    std::cout << done_ << " of " << end_ - first_ << " cases, "
              << absl::FormatDuration(absl::Trunc(absl::Now() - begun_, absl::Seconds(1)))
              << std::endl;
  }

  const uint64_t first_;
  const uint64_t end_;
  const bool keep_going_;
  const absl::Time begun_ = absl::Now();
  std::atomic<uint64_t> next_;
  std::atomic<bool> stopped_ = false;
  Mutex mutex_;
  uint64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t comparisons_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t errors_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t blamed_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, int> strategies_ ABSL_GUARDED_BY(mutex_);
};

TEST(DifferentialTest, SlicesEqualPlainDuckDb) {
  spdlog::set_level(spdlog::level::critical);
  DifferentialRuns runs(FromEnvironment("ICEPIE_DIFFERENTIAL_SEED", 20261126),
                        FromEnvironment("ICEPIE_DIFFERENTIAL_CASES", 30));
  runs.Run(FromEnvironment("ICEPIE_DIFFERENTIAL_JOBS", 1));
}

// One record reaches the engine harmed: what is left of the case is that record, and a slice that
// reads it.
TEST(DifferentialTest, AFailureIsMadeSmall) {
  spdlog::set_level(spdlog::level::critical);
  DifferentialCase test_case = MakeCase(20261126);
  ASSERT_GE(test_case.slices.size(), 2u);
  ASSERT_GE(test_case.steps.size(), 2u);
  test_case.slices.erase(test_case.slices.begin() + 2, test_case.slices.end());  // it takes seconds
  test_case.steps.erase(test_case.steps.begin() + 2, test_case.steps.end());
  const CaseSource* source = test_case.FindSource(test_case.slices.front().reads.front());
  ASSERT_NE(source, nullptr);
  CaseRecord* record = nullptr;  // the last one of that stream
  for (CaseStep& step : test_case.steps) {
    for (CaseBatch& batch : step.batches) {
      if (batch.stream == source->stream && !batch.records.empty()) record = &batch.records.back();
    }
  }
  ASSERT_NE(record, nullptr);
  record->broken = false;
  record->harmed = true;
  const size_t records = test_case.RecordCount();
  const CaseResult result = RunCase(test_case, kPatience);
  ASSERT_TRUE(result.failure.has_value());
  const CaseFailure failure = Shrink(test_case, *result.failure);
  EXPECT_EQ(failure.is, result.failure->is) << failure.what;
  EXPECT_GE(records, 10u);
  EXPECT_EQ(test_case.RecordCount(), 1u) << Describe(test_case);
  EXPECT_EQ(test_case.steps.size(), 1u) << Describe(test_case);
  EXPECT_EQ(test_case.slices.size(), 1u) << Describe(test_case);
  EXPECT_EQ(test_case.steps[0].restart, CaseRestart::kNone);
}

}  // namespace
}  // namespace icepie::slices
