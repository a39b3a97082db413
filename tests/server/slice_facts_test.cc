#include "server/slice_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "server/proto_time.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(10000);
absl::Time Ago(int64_t seconds) { return kNow - absl::Seconds(seconds); }

class SliceFactsTest : public ::testing::Test {
 protected:
  SliceFactsTest() {
    domain_.entry.set_name("payments");
    domain_.slices["volume"].set_domain("payments");
    domain_.slices["volume"].set_name("volume");
    domain_.load_time = Ago(30);
    facts_.domain = &domain_;
    facts_.head_position = 100;
    facts_.now = kNow;
  }

  // At position 90, with a snapshot of that, RUNNING for a thousand seconds.
  static std::shared_ptr<const wv1::WorkerReport> Running() {
    auto report = std::make_shared<wv1::WorkerReport>();
    wv1::SliceReport& slice = *report->add_slices();
    slice.set_slice("volume");
    slice.set_generation(7);
    slice.set_serving(true);
    slice.set_state(v1::RUNNING);
    *slice.mutable_state_since() = ToProto(Ago(1000));
    slice.set_applied_position(90);
    slice.mutable_counts()->set_input(90);
    slice.mutable_snapshot()->set_path("snapshots/volume/g7.duckdb");
    slice.mutable_snapshot()->set_position(90);
    *slice.mutable_snapshot()->mutable_time() = ToProto(Ago(60));
    return report;
  }

  v1::Slice Describe() const { return DescribeSlice(facts_, domain_.slices.at("volume")); }

  CatalogDomain domain_;
  DomainFacts facts_;
};

TEST_F(SliceFactsTest, ASliceWhoseWorkerIsDownStartsSinceItWasLostAndSaysWhenItIsTriedAgain) {
  WorkerView& live = facts_.workers.live;
  live.report = Running();
  live.lost_since = Ago(20);
  live.status.set_state("backoff");
  *live.status.mutable_since() = ToProto(Ago(5));
  *live.status.mutable_next_start_time() = ToProto(kNow + absl::Seconds(3));
  const v1::Slice down = Describe();
  EXPECT_EQ(down.state(), v1::STARTING);
  EXPECT_EQ(FromProto(down.state_since()), Ago(20));
  EXPECT_EQ(FromProto(down.next_retry_time()), kNow + absl::Seconds(3));
  EXPECT_EQ(down.counts().input(), 90);
  live.status.set_state("starting");
  live.status.set_pid(4711);
  EXPECT_FALSE(Describe().has_next_retry_time()) << "it is being tried";
  live.report = nullptr;
  live.lost_since = absl::InfiniteFuture();
  EXPECT_EQ(FromProto(Describe().state_since()), Ago(5)) << "of its first start";
}

TEST_F(SliceFactsTest, AHeldSliceSaysSinceWhenAndWhatItStillAnswersFrom) {
  domain_.slices.clear();
  domain_.damaged_slices["volume"] = {"its entry in the catalog is damaged", {}};
  domain_.damaged_slices["volume"].desired.set_mode(v1::DesiredState::FREEZE);
  v1::Slice held = DescribeHeldSlice(facts_, "volume");
  EXPECT_EQ(held.name(), "payments.volume");
  EXPECT_EQ(held.state(), v1::HELD);
  EXPECT_EQ(held.snapshot_position(), -1);
  EXPECT_EQ(FromProto(held.state_since()), Ago(30));
  EXPECT_EQ(held.last_error().reason(), "CATALOG_DAMAGED");
  EXPECT_THAT(held.last_error().message(), HasSubstr("apply the domain's file again"));
  EXPECT_EQ(FromProto(held.last_error().time()), Ago(30));
  EXPECT_TRUE(held.last_error().permanent());
  EXPECT_EQ(held.desired().mode(), v1::DesiredState::FREEZE);
  facts_.workers.standby.report = Running();
  held = DescribeHeldSlice(facts_, "volume");
  EXPECT_EQ(held.state(), v1::HELD);
  EXPECT_EQ(FromProto(held.state_since()), Ago(30));
  EXPECT_EQ(held.counts().input(), 90);
  EXPECT_EQ(held.snapshot_position(), 90);
  EXPECT_EQ(held.standby_position(), -1) << "it is not there at present";
  EXPECT_EQ(held.meta().applied_position(), 90);
  EXPECT_EQ(held.meta().stale_reason(), v1::SLICE_HELD);
  EXPECT_EQ(FromProto(held.meta().stale_since()), Ago(30));
}

}  // namespace
}  // namespace icepie::server
