// What is said about a slice whose hibernating domain waits for its turn to apply records.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "server/base/proto_time.h"
#include "server/domain/catalog.h"
#include "server/domain/slice_facts.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

class WaitingSliceTest : public ::testing::Test {
 protected:
  WaitingSliceTest() {
    domain_.entry.set_name("payments");
    auto& slice = domain_.slices["volume"];
    slice.set_domain("payments");
    slice.set_name("volume");
    slice.set_serving_generation(7);
    slice.add_generations()->mutable_generation()->set_number(7);
    facts_.domain = &domain_;
    facts_.now = absl::FromUnixSeconds(1000);
    facts_.head_position = 110;  // records beyond what it has
    auto report = std::make_shared<icepie::worker::v1::WorkerReport>();
    auto& known = *report->add_slices();
    known.set_slice("volume");
    known.set_generation(7);
    known.set_serving(true);
    known.set_state(v1::RUNNING);
    known.set_applied_position(100);
    known.mutable_snapshot()->set_path("snapshots/volume/g7-p100.duckdb");
    known.mutable_snapshot()->set_position(100);
    facts_.workers.live.report = report;
    facts_.workers.standby.status.set_state("hibernating");
  }

  v1::Slice Describe(const std::string& state, int seconds_ago) {
    facts_.workers.live.status.set_state(state);
    since_ = facts_.now - absl::Seconds(seconds_ago);
    *facts_.workers.live.status.mutable_since() = ToProto(since_);
    return DescribeSlice(facts_, domain_.slices["volume"]);
  }

  static std::string Hibernating(const v1::Slice& slice) {
    for (const auto& condition : slice.conditions()) {
      if (condition.type() == "HIBERNATING") return condition.reason();
    }
    return "";
  }

  CatalogDomain domain_;
  DomainFacts facts_;
  absl::Time since_;
};

TEST_F(WaitingSliceTest, OneThatIsAboutToBeWokenStarts) {
  const v1::Slice slice = Describe("hibernating", 600);
  EXPECT_EQ(slice.state(), v1::STARTING);
  EXPECT_EQ(Hibernating(slice), "IDLE");
}

// What it saves at its end nobody can answer with yet.
TEST_F(WaitingSliceTest, OneThatStillEndsIsStaleSinceItLeft) {
  facts_.head_position = 100;
  auto report = *facts_.workers.live.report;
  report.mutable_slices(0)->set_content_version(100);
  report.mutable_slices(0)->mutable_snapshot()->set_position(90);
  report.mutable_slices(0)->mutable_snapshot()->set_content_version(90);
  facts_.workers.live.report = std::make_shared<icepie::worker::v1::WorkerReport>(report);
  report.mutable_slices(0)->set_applied_position(90);
  facts_.workers.standby.report = std::make_shared<icepie::worker::v1::WorkerReport>(report);
  facts_.workers.live.lost_since = facts_.now - absl::Seconds(20);
  facts_.workers.live.status.set_pid(1);
  v1::Slice slice = Describe("hibernating", 10);
  EXPECT_EQ(slice.state(), v1::STARTING);
  EXPECT_EQ(slice.meta().applied_position(), 90);
  EXPECT_EQ(slice.meta().stale_reason(), v1::WORKER_DOWN);
  EXPECT_EQ(FromProto(slice.meta().stale_since()), facts_.workers.live.lost_since);
  facts_.workers.live.status.set_pid(0);
  slice = Describe("hibernating", 10);
  EXPECT_EQ(slice.state(), v1::RUNNING);
  EXPECT_EQ(slice.meta().applied_position(), 100);
}

// Nothing that concerns it has come since its snapshot.
TEST_F(WaitingSliceTest, OneThatStillEndsAndHasNothingToSaveRuns) {
  facts_.head_position = 100;
  auto report = *facts_.workers.live.report;
  report.mutable_slices(0)->mutable_snapshot()->set_position(90);
  facts_.workers.live.report = std::make_shared<icepie::worker::v1::WorkerReport>(report);
  facts_.workers.live.status.set_pid(1);
  const v1::Slice slice = Describe("hibernating", 10);
  EXPECT_EQ(slice.state(), v1::RUNNING);
  EXPECT_EQ(slice.meta().applied_position(), 100);
}

TEST_F(WaitingSliceTest, OneThatHasWaitedTooLongLagsSinceThen) {
  v1::Slice slice = Describe("waiting", 1);
  EXPECT_EQ(slice.state(), v1::STARTING);
  EXPECT_EQ(Hibernating(slice), "AWAITS_TURN");
  EXPECT_EQ(FromProto(slice.meta().stale_since()), since_);
  slice = Describe("waiting", 60);
  EXPECT_EQ(slice.state(), v1::LAGGING);
  EXPECT_EQ(Hibernating(slice), "AWAITS_TURN");
  EXPECT_TRUE(slice.meta().stale());
  EXPECT_EQ(slice.meta().stale_reason(), v1::SLICE_LAGGING);
  EXPECT_EQ(FromProto(slice.meta().stale_since()), since_);
  EXPECT_EQ(FromProto(slice.state_since()), since_);
  EXPECT_TRUE(Answers(facts_.workers, "volume"));  // from its snapshot
}

TEST_F(WaitingSliceTest, ASliceOfItThatHasAllIsRunning) {
  facts_.head_position = 100;
  const v1::Slice slice = Describe("waiting", 60);
  EXPECT_EQ(slice.state(), v1::RUNNING);
  EXPECT_FALSE(slice.meta().stale());
}

TEST_F(WaitingSliceTest, AFrozenOneIsFrozen) {
  domain_.slices["volume"].mutable_desired()->set_mode(v1::DesiredState::FREEZE);
  EXPECT_EQ(Describe("waiting", 60).state(), v1::FROZEN);
}

}  // namespace
}  // namespace icepie::server
