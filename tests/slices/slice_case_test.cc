// Runs every case of tests/slices/data/*.sql, each a test of its own named FILE.CASE.
// ICEPIE_SLICE_CASE_ROUNDS: more rounds of random records for each, with restarts between them.
#include "tests/slices/slice_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/file.h"
#include "tests/slices/slice_run.h"

namespace icepie::slices {
namespace {

// One on the state that a restart brought, one on what that made of it.
constexpr int kRandomRounds = 2;
constexpr int64_t kUnlimited = 65536;

int RandomRounds() {
  const char* text = std::getenv("ICEPIE_SLICE_CASE_ROUNDS");
  int rounds = 0;
  return text != nullptr && absl::SimpleAtoi(text, &rounds) ? rounds : kRandomRounds;
}

class SliceCaseTest : public testing::Test {
 public:
  explicit SliceCaseTest(const SliceCase& test_case) : case_(test_case) {}

  void TestBody() override {
    auto started = SliceRun::Start(case_.Yaml());
    ASSERT_TRUE(started.ok()) << started.status() << "\n" << case_.Yaml();
    run_ = *std::move(started);
    run_->CompareWith("it", case_.reference);
    ASSERT_NO_FATAL_FAILURE(CheckPlan());
    ASSERT_NO_FATAL_FAILURE(Apply(kUnlimited));
    ASSERT_NO_FATAL_FAILURE(Compare("before any record"));
    ASSERT_NO_FATAL_FAILURE(ApplyGiven());
    ASSERT_NO_FATAL_FAILURE(CheckRows());
    ASSERT_NO_FATAL_FAILURE(Restart());
    ASSERT_NO_FATAL_FAILURE(CheckRows());
    if (case_.random) ApplyRandom();
  }

 private:
  void CheckPlan() {
    const SlicePlan& plan = *run_->plan().Find("it");
    if (!case_.strategy.empty()) {
      ASSERT_EQ(StrategyName(plan.strategy), case_.strategy) << plan.why;
    }
    EXPECT_THAT(plan.why, testing::HasSubstr(case_.why));
    // A look at DuckDB's catalog is one at every database that is attached: it keeps a snapshot's
    // copy from its checkpoint.
    EXPECT_THAT(Statements(), testing::Not(testing::HasSubstr("duckdb_")));
  }

  void Compare(const std::string& when) {
    const auto difference = run_->Difference("it");
    ASSERT_TRUE(difference.ok()) << when << ": " << difference.status();
    ASSERT_EQ(*difference, "") << when << "\n" << Statements();
    ASSERT_EQ(run_->progress("it").input, run_->RecordCount("it")) << when;
  }

  std::string Statements() const {
    std::string text;
    const SlicePlan& plan = *run_->plan().Find("it");
    for (const std::string& sql : plan.create) absl::StrAppend(&text, sql, "\n");
    for (const auto* statements : {&plan.apply, &plan.clear, &plan.retained.let_go}) {
      for (const ApplyStatement& each : *statements) {
        if (!each.only_if.empty()) absl::StrAppend(&text, "IF ", each.only_if, "\n");
        absl::StrAppend(&text, each.sql, "\n");
      }
    }
    return text;
  }

  void Apply(int64_t records_max) {
    const absl::Status applied = run_->Apply(records_max);
    ASSERT_TRUE(applied.ok()) << applied << "\n" << Statements();
  }

  void ApplyGiven() {
    for (const CaseRecord& record : case_.records) {
      run_->Append(record.source, {record.payload});
      ASSERT_NO_FATAL_FAILURE(Apply(kUnlimited));
      ASSERT_NO_FATAL_FAILURE(Compare(absl::StrCat("after ", run_->head(), " records")));
    }
  }

  void CheckRows() {
    if (case_.rows) {
      std::vector<std::string> wanted = *case_.rows;
      std::sort(wanted.begin(), wanted.end());
      const auto rows = run_->Rows("it");
      ASSERT_TRUE(rows.ok()) << rows.status();
      EXPECT_EQ(*rows, wanted);
    }
    const Progress& progress = run_->progress("it");
    if (case_.quarantined) EXPECT_EQ(progress.quarantined, *case_.quarantined);
    if (case_.filtered) EXPECT_EQ(progress.filtered, *case_.filtered);
    EXPECT_EQ(progress.input, progress.applied + progress.filtered + progress.quarantined);
  }

  void Restart() {
    const absl::Status restarted = run_->Restart();
    ASSERT_TRUE(restarted.ok()) << restarted;
  }

  // Records that are taken out of turn make no difference.
  void TakeHeldBack() {
    const absl::Status taken = run_->TakeHeldBack("it");
    ASSERT_TRUE(taken.ok()) << taken << "\n" << Statements();
  }

  void ApplyRandom() {
    for (int round = 0; round < RandomRounds(); ++round) {
      const auto held = run_->HoldBack("it", 3 + random_() % 5, 100);
      ASSERT_TRUE(held.ok()) << held.status();
      for (const SourceDef& source : run_->plan().definition.sources) {
        std::vector<std::string> payloads(random_() % 60);
        for (std::string& payload : payloads) payload = RandomPayload(source, random_());
        if (!payloads.empty()) run_->Append(source.name, payloads);
      }
      ASSERT_NO_FATAL_FAILURE(Apply(1 + random_() % 100));
      if (*held) ASSERT_NO_FATAL_FAILURE(TakeHeldBack());
      ASSERT_NO_FATAL_FAILURE(Compare(absl::StrCat("after ", run_->head(), " random records")));
      if (round % 2 == 1 && round + 1 < RandomRounds()) ASSERT_NO_FATAL_FAILURE(Restart());
    }
  }

  const SliceCase& case_;
  std::unique_ptr<SliceRun> run_;
  std::mt19937 random_{20261126};
};

void Register(const std::filesystem::path& file) {
  const auto parsed = ParseCases(ReadFile(file).value(), file);
  if (!parsed.ok()) std::cerr << parsed.status() << std::endl;
  ICEPIE_CHECK(parsed.ok());
  auto* const cases = new std::vector<SliceCase>(*parsed);  // for the tests' life
  for (const SliceCase& each : *cases) {
    testing::RegisterTest(file.stem().c_str(), each.name.c_str(), nullptr, nullptr, file.c_str(),
                          each.line,
                          [&each]() -> testing::Test* { return new SliceCaseTest(each); });
  }
}

}  // namespace
}  // namespace icepie::slices

int main(int argc, char** argv) {
  // Snapshots in memory: what waits for the disk is tested elsewhere.
  if (access("/dev/shm", W_OK) == 0) setenv("TEST_TMPDIR", "/dev/shm/", /*overwrite=*/0);
  const char* root = std::getenv("ICEPIE_SOURCE");
  std::vector<std::filesystem::path> files;
  const std::string data = absl::StrCat(root == nullptr ? "." : root, "/tests/slices/data");
  for (const auto& entry : std::filesystem::directory_iterator(data)) {
    if (entry.path().extension() == ".sql") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const auto& file : files) icepie::slices::Register(file);
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
