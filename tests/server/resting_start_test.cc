#include "server/resting_start.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "server/catalog.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
using Json = nlohmann::json;

class RestingStartTest : public ::testing::Test {
 protected:
  RestingStartTest() {
    domain_.entry.set_name("payments");
    domain_.revisions[1].set_file("the file");
    auto& slice = domain_.slices["volume"];
    slice.set_name("volume");
    slice.set_serving_generation(7);
    auto& generation = *slice.add_generations()->mutable_generation();
    generation.set_number(7);
    generation.set_revision(1);
    generation.set_definition_hash("abc");
  }

  // What the worker reported last, had it gone to rest with this manifest.
  std::shared_ptr<const icepie::worker::v1::WorkerReport> Report() {
    const std::string folder = directory_.path() + "/snapshots/volume";
    EXPECT_TRUE(MakeDirectories(folder).ok());
    const std::string name = folder + "/g7-p00000000000000000100";
    EXPECT_TRUE(WriteFileAtomically(name + ".duckdb", "").ok());
    EXPECT_TRUE(WriteFileAtomically(name + ".json", manifest_.dump()).ok());
    DomainFacts facts;
    facts.domain = &domain_;
    facts.head_position = 100;
    facts.now = absl::Now();
    return ReportFromSnapshots(facts, directory_.path());
  }

  const TempDirectory directory_;
  CatalogDomain domain_;
  Json manifest_ = {{"format", 1},
                    {"slice", "volume"},
                    {"generation", 7},
                    {"definition_hash", "abc"},
                    {"strategy", "append"},
                    {"rows", 3},
                    {"sha256", "00"},
                    {"time_us", 1000000},
                    {"progress",
                     {{"applied_position", 100},
                      {"applied_time_us", 2000000},
                      {"event_time_max_us", 3000000},
                      {"input", 100},
                      {"applied", 100},
                      {"filtered", 0},
                      {"quarantined", 0},
                      {"content_version", 5}}}};
};

TEST_F(RestingStartTest, SaysOfASliceWhatItsWorkerWould) {
  manifest_["expectations"] = {{{"name", "positive"},
                                {"check", "amount > 0"},
                                {"severity", "warn"},
                                {"status", v1::ExpectationResult::FAILED},
                                {"failing_rows", 2},
                                {"samples", {"{\"amount\":-1}"}},
                                {"position", 90},
                                {"time_us", 4000000},
                                {"message", "2 rows"}}};
  const auto report = Report();
  ASSERT_NE(report, nullptr);
  ASSERT_EQ(report->slices_size(), 1);
  const auto& slice = report->slices(0);
  EXPECT_EQ(slice.state(), v1::RUNNING);
  EXPECT_EQ(slice.applied_position(), 100);
  EXPECT_EQ(slice.applied_time().seconds(), 2);
  EXPECT_EQ(slice.event_time_max().seconds(), 3);
  EXPECT_EQ(slice.snapshot().path(), "snapshots/volume/g7-p00000000000000000100.duckdb");
  ASSERT_EQ(slice.expectations_size(), 1);
  const v1::ExpectationResult& expectation = slice.expectations(0);
  EXPECT_EQ(expectation.name(), "positive");
  EXPECT_EQ(expectation.check(), "amount > 0");
  EXPECT_EQ(expectation.severity(), v1::ExpectationResult::WARN);
  EXPECT_EQ(expectation.status(), v1::ExpectationResult::FAILED);
  EXPECT_EQ(expectation.failing_rows(), 2);
  EXPECT_EQ(expectation.samples(0), "{\"amount\":-1}");
  EXPECT_EQ(expectation.position(), 90);
  EXPECT_EQ(expectation.time().seconds(), 4);
  EXPECT_EQ(expectation.message(), "2 rows");
}

TEST_F(RestingStartTest, NoEventTimeIsNone) {
  manifest_["progress"]["event_time_max_us"] = INT64_MIN;
  ASSERT_NE(Report(), nullptr);
  EXPECT_FALSE(Report()->slices(0).has_event_time_max());
}

TEST_F(RestingStartTest, RunsWhereRecordsMayBeUnacknowledged) {
  manifest_["progress"]["quarantined"] = 2;
  EXPECT_EQ(Report(), nullptr);
}

TEST_F(RestingStartTest, RunsWhereASliceIsHeldByAnExpectation) {
  ASSERT_NE(Report(), nullptr);
  ASSERT_TRUE(WriteFileAtomically(directory_.path() + "/snapshots/volume/g7-held.json", "{}").ok());
  EXPECT_EQ(Report(), nullptr);
}

TEST_F(RestingStartTest, RunsWhereTheSnapshotIsOfAnotherFormat) {
  manifest_["format"] = 2;
  EXPECT_EQ(Report(), nullptr);
}

}  // namespace
}  // namespace icepie::server
