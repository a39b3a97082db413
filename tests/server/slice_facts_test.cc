#include "server/domain/slice_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "server/admin/event_observer.h"
#include "server/base/proto_time.h"
#include "server/supervisor/worker_client.h"

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

const v1::SliceCondition& Condition(const v1::Slice& slice, const std::string& type) {
  for (const auto& condition : slice.conditions()) {
    if (condition.type() == type) return condition;
  }
  static const v1::SliceCondition none;
  ADD_FAILURE() << "no " << type;
  return none;
}

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
  live.status.set_last_error("ended with signal 9 (Killed)");
  facts_.workers.standby.client = std::make_shared<WorkerClient>("/nowhere");
  facts_.workers.standby.report = live.report;
  EXPECT_EQ(Condition(Describe(), "ANSWERS").reason(), "STANDBY");
  EXPECT_EQ(Condition(Describe(), "ANSWERS").message(), "ended with signal 9 (Killed)");
  facts_.workers.standby = WorkerView();
  EXPECT_EQ(down.counts().input(), 90);
  live.status.set_state("starting");
  live.status.set_pid(4711);
  EXPECT_FALSE(Describe().has_next_retry_time()) << "it is being tried";
  live.report = nullptr;
  live.lost_since = absl::InfiniteFuture();
  EXPECT_EQ(FromProto(Describe().state_since()), Ago(5)) << "of its first start";
}

// One that applies nothing more does not look at what has come since: its newest record may be old
// while the first one that it misses is new.
TEST_F(SliceFactsTest, AFrozenSliceThatReadsAnotherLagsSinceTheFirstRecordThatItMisses) {
  auto& volume = domain_.slices["volume"];
  volume.set_serving_generation(7);
  auto& upstream = *volume.add_generations();
  upstream.mutable_generation()->set_number(7);
  upstream.mutable_definition()->add_reads("transfers");
  auto& top = domain_.slices["top"];
  top = volume;
  top.set_name("top");
  top.mutable_generations(0)->mutable_definition()->set_reads(0, "volume");
  top.mutable_desired()->set_mode(v1::DesiredState::FREEZE);
  auto report = std::make_shared<wv1::WorkerReport>(*Running());
  report->mutable_slices(0)->set_slice("top");
  *report->mutable_slices(0)->mutable_applied_time() = ToProto(Ago(3600));
  facts_.oldest_beyond = [&](const std::string& stream, int64_t position) {
    return stream == "transfers" && position == 90 ? Ago(5) : absl::InfiniteFuture();
  };
  facts_.has_beyond = [&](const std::string& stream, int64_t) { return stream == "transfers"; };
  wv1::SliceReport& answered = *report->mutable_slices(0);
  const auto lag = [&](v1::Source source) {
    const v1::SliceMeta meta = MakeSliceMeta(facts_, answered, source);
    return meta.has_lag_time() ? FromProto(meta.lag_time()) : absl::ZeroDuration();
  };
  answered.set_state(v1::FROZEN);
  EXPECT_EQ(lag(v1::LIVE), absl::Seconds(5));
  EXPECT_EQ(lag(v1::STANDBY), absl::Seconds(5)) << "its worker is down";
  facts_.has_beyond = [](const std::string&, int64_t) { return false; };
  EXPECT_EQ(lag(v1::LIVE), absl::ZeroDuration());
  // Where the core cannot say, no longer than since its newest record.
  facts_.has_beyond = nullptr;
  facts_.oldest_beyond = [](const std::string&, int64_t) { return absl::InfiniteFuture(); };
  EXPECT_EQ(lag(v1::LIVE), absl::Hours(1));
  // Its live worker's word counts.
  answered.set_state(v1::LAGGING);
  *answered.mutable_oldest_unapplied_time() = ToProto(Ago(2));
  EXPECT_EQ(lag(v1::LIVE), absl::Seconds(2));
}

// Nobody takes it for dead yet: what the standby answers meanwhile gets older all the same, which
// whoever gave a max_staleness must be told.
TEST_F(SliceFactsTest, WhileAWorkerStandsStillItsSlicesAreStaleSinceItWasHeardLast) {
  WorkerView& live = facts_.workers.live;
  live.report = Running();
  live.report_time = Ago(7);
  live.client = std::make_shared<WorkerClient>("/nowhere");
  const v1::SliceMeta meta = MakeSliceMeta(facts_, live.report->slices(0), v1::STANDBY);
  EXPECT_EQ(meta.stale_reason(), v1::WORKER_DOWN);
  EXPECT_EQ(FromProto(meta.stale_since()), Ago(7));

  // What the standby answers from may miss more than what has come since then.
  auto& volume = domain_.slices["volume"];
  volume.set_serving_generation(7);
  auto& entry = *volume.add_generations();
  entry.mutable_generation()->set_number(7);
  entry.mutable_definition()->add_reads("transfers");
  facts_.has_beyond = [](const std::string&, int64_t) { return true; };
  facts_.oldest_beyond = [&](const std::string&, int64_t) { return Ago(3600); };
  const auto stale_since = [&] {
    return FromProto(MakeSliceMeta(facts_, live.report->slices(0), v1::STANDBY).stale_since());
  };
  EXPECT_EQ(stale_since(), Ago(3600));
  live.client = nullptr;
  live.lost_since = Ago(2);
  EXPECT_EQ(stale_since(), Ago(3600)) << "it has died";
  facts_.oldest_beyond = nullptr;
  EXPECT_EQ(stale_since(), Ago(2));
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

TEST_F(SliceFactsTest, AHeldSliceHasConditions) {
  domain_.slices.clear();
  domain_.damaged_slices["volume"] = {"its entry in the catalog is damaged", {}};
  v1::Slice held = DescribeHeldSlice(facts_, "volume");
  EXPECT_EQ(Condition(held, "ANSWERS").status(), v1::SliceCondition::FALSE);
  EXPECT_EQ(Condition(held, "ANSWERS").reason(), "NO_SNAPSHOT_YET");
  auto report = std::make_shared<wv1::WorkerReport>(*Running());
  report->mutable_slices(0)->mutable_counts()->set_quarantined(2);
  facts_.workers.standby.report = report;
  facts_.workers.standby.client = std::make_shared<WorkerClient>("/nowhere");
  *facts_.workers.standby.status.mutable_since() = ToProto(Ago(40));
  held = DescribeHeldSlice(facts_, "volume");
  EXPECT_EQ(Condition(held, "ANSWERS").reason(), "STANDBY");
  EXPECT_EQ(FromProto(Condition(held, "ANSWERS").time()), Ago(40));
  EXPECT_EQ(Condition(held, "FRESH").reason(), "SLICE_HELD");
  EXPECT_EQ(FromProto(Condition(held, "FRESH").time()), Ago(30));
  EXPECT_EQ(Condition(held, "STANDBY_READY").status(), v1::SliceCondition::TRUE);
  EXPECT_EQ(Condition(held, "QUARANTINE").status(), v1::SliceCondition::TRUE);
}

TEST_F(SliceFactsTest, SlicesOfADeletedDomainSayWhoDeletedItAndWhatIsUnderWay) {
  v1::DomainDeletion& deletion = *domain_.entry.mutable_deletion();
  deletion.set_actor("ann");
  *deletion.mutable_time() = ToProto(Ago(9));
  *deletion.mutable_purge_time() = ToProto(kNow + absl::Hours(1));
  v1::Slice leaving = DescribeLeavingSlice(facts_, "volume");
  EXPECT_EQ(leaving.name(), "payments.volume");
  EXPECT_EQ(leaving.state(), v1::DELETING);
  EXPECT_EQ(leaving.meta().state(), v1::DELETING);
  EXPECT_EQ(FromProto(leaving.state_since()), Ago(9));
  EXPECT_EQ(Condition(leaving, "ANSWERS").reason(), "DOMAIN_DELETED");
  EXPECT_EQ(Condition(leaving, "ANSWERS").message(),
            "its domain was deleted by ann; its workers are ending");
  EXPECT_EQ(FromProto(Condition(leaving, "FRESH").time()), Ago(9));
  *deletion.mutable_purge_time() = ToProto(Ago(1));
  leaving = DescribeLeavingSlice(facts_, "volume");
  EXPECT_THAT(Condition(leaving, "ANSWERS").message(), HasSubstr("files are being removed"));
}

TEST_F(SliceFactsTest, ASliceThatLeftItsFileIsDeletingWhileAWorkerHasIt) {
  domain_.entry.set_revision(4);
  domain_.entry.set_actor("ann");
  *domain_.entry.mutable_apply_time() = ToProto(Ago(2));
  domain_.slices.clear();
  facts_.workers.live.report = Running();
  EXPECT_TRUE(LeavingSlices(facts_).empty()) << "it has ended";
  facts_.workers.live.client = std::make_shared<WorkerClient>("/nowhere");
  EXPECT_EQ(LeavingSlices(facts_), std::vector<std::string>{"volume"});
  const v1::Slice leaving = DescribeLeavingSlice(facts_, "volume");
  EXPECT_EQ(leaving.state(), v1::DELETING);
  EXPECT_EQ(FromProto(leaving.state_since()), Ago(2));
  EXPECT_EQ(Condition(leaving, "ANSWERS").message(), "revision 4 of ann has it no more");
  domain_.slices["turnover"].set_renamed_from("volume");
  EXPECT_TRUE(LeavingSlices(facts_).empty());
}

TEST_F(SliceFactsTest, EventsSayWhyASliceIsInItsState) {
  v1::Slice slice;
  slice.set_state(v1::FROZEN);
  slice.mutable_desired()->set_mode(v1::DesiredState::FREEZE);
  slice.mutable_desired()->set_reason("INC-1");
  slice.mutable_desired()->set_actor("ann");
  v1::Event event;
  ExplainState(slice, event);
  EXPECT_EQ(event.reason(), "INC-1");
  EXPECT_EQ(event.message(), "asked for by ann");
  // An error that is over is not why somebody suspended it.
  slice.mutable_last_error()->set_reason("BLOCKED_BY");
  slice.set_state(v1::SUSPENDED);
  slice.mutable_desired()->set_mode(v1::DesiredState::SUSPEND);
  event.Clear();
  ExplainState(slice, event);
  EXPECT_EQ(event.reason(), "INC-1");
  EXPECT_EQ(event.message(), "asked for by ann");
  slice.mutable_desired()->set_mode(v1::DesiredState::RUN);
  slice.mutable_last_error()->set_reason("WORKER_FAILED_TOO_OFTEN");
  event.Clear();
  ExplainState(slice, event);
  EXPECT_EQ(event.reason(), "WORKER_FAILED_TOO_OFTEN");
  slice.clear_last_error();
  slice.set_state(v1::FROZEN);
  slice.add_conditions()->set_type("SAFE_MODE");
  event.Clear();
  ExplainState(slice, event);
  EXPECT_EQ(event.reason(), "SAFE_MODE");

  slice.Clear();
  slice.set_state(v1::STARTING);
  slice.add_conditions()->set_type("ANSWERS");
  event.Clear();
  ExplainState(slice, event);
  EXPECT_EQ(event.reason(), "") << "nothing is wrong";
  slice.mutable_conditions(0)->set_message("ended with signal 9 (Killed)");
  ExplainState(slice, event);
  EXPECT_EQ(event.reason(), "WORKER_DOWN");
  EXPECT_EQ(event.message(), "ended with signal 9 (Killed)");

  slice.Clear();
  slice.set_state(v1::LAGGING);
  slice.mutable_meta()->set_applied_position(90);
  slice.mutable_meta()->set_lag_records(10);
  event.Clear();
  ExplainState(slice, event);
  EXPECT_EQ(event.reason(), "NOT_CAUGHT_UP");
  EXPECT_EQ(event.message(), "at position 90, 10 behind the head");
  *slice.mutable_meta()->mutable_lag_time() = ToProto(absl::Seconds(4));
  ExplainState(slice, event);
  EXPECT_EQ(event.reason(), "RECORDS_WAIT");
  EXPECT_THAT(event.message(), HasSubstr("its oldest record has waited for 4s"));
  slice.add_conditions()->set_type("HIBERNATING");
  slice.mutable_conditions(0)->set_reason("AWAITS_TURN");
  ExplainState(slice, event);
  EXPECT_EQ(event.reason(), "AWAITS_TURN");
}

}  // namespace
}  // namespace icepie::server
