#include "server/supervisor/resting_start.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "server/domain/catalog.h"
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
  RestingStart Start() {
    const std::string folder = directory_.path() + "/snapshots/volume";
    EXPECT_TRUE(MakeDirectories(folder).ok());
    const std::string name = folder + "/g7-p00000000000000000100";
    EXPECT_TRUE(WriteFileAtomically(name + ".duckdb", "").ok());
    EXPECT_TRUE(WriteFileAtomically(name + ".json", manifest_.dump()).ok());
    DomainFacts facts;
    facts.domain = &domain_;
    facts.head_position = head_position_;
    facts.now = absl::Now();
    return ReadRestingStart(facts, directory_.path());
  }

  const TempDirectory directory_;
  int64_t head_position_ = 100;
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
  const auto [report, has_work] = Start();
  ASSERT_NE(report, nullptr);
  EXPECT_FALSE(has_work);
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
  ASSERT_EQ(Start().report->slices_size(), 1);
  EXPECT_FALSE(Start().report->slices(0).has_event_time_max());
}

// It rests until its turn, and a standby may answer from the snapshot meanwhile.
TEST_F(RestingStartTest, HasWorkWhereRecordsAreBeyondTheSnapshot) {
  EXPECT_FALSE(Start().has_work);
  head_position_ = 101;
  EXPECT_TRUE(Start().has_work);
  ASSERT_EQ(Start().report->slices_size(), 1);
  EXPECT_EQ(Start().report->slices(0).applied_position(), 100);
  domain_.slices["volume"].mutable_desired()->set_mode(v1::DesiredState::FREEZE);
  EXPECT_FALSE(Start().has_work);
}

TEST_F(RestingStartTest, HasWorkWhereRecordsMayBeUnacknowledged) {
  manifest_["progress"]["quarantined"] = 2;
  EXPECT_TRUE(Start().has_work);
  ASSERT_EQ(Start().report->slices_size(), 1);
  EXPECT_FALSE(Start().report->slices(0).has_counts());
}

TEST_F(RestingStartTest, HasWorkWhereASliceIsHeldByAnExpectation) {
  ASSERT_FALSE(Start().has_work);
  ASSERT_TRUE(WriteFileAtomically(directory_.path() + "/snapshots/volume/g7-held.json", "{}").ok());
  EXPECT_TRUE(Start().has_work);
}

TEST_F(RestingStartTest, ASnapshotOfAnotherFormatOrDefinitionIsNone) {
  manifest_["format"] = 2;
  EXPECT_TRUE(Start().has_work);
  EXPECT_EQ(Start().report->slices_size(), 0);
  manifest_["format"] = 1;
  manifest_["definition_hash"] = "abd";
  EXPECT_TRUE(Start().has_work);
  EXPECT_EQ(Start().report->slices_size(), 0);
}

}  // namespace
}  // namespace icepie::server
