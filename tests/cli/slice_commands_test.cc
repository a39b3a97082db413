// slice, query, domain, plan, apply, operation and status against services that say what a test
// wants.
#include <gmock/gmock.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/answer.h"
#include "cli/slice_wait.h"
#include "core/base/status.h"
#include "google/longrunning/operations.grpc.pb.h"
#include "icepie/v1/admin.grpc.pb.h"
#include "icepie/v1/core.grpc.pb.h"
#include "icepie/v1/slices.grpc.pb.h"
#include "server/base/rpc_status.h"
#include "tests/cli/program_fixture.h"

namespace icepie::cli {
namespace {

using google::longrunning::Operation;
using icepie::v1::QueryRequest;
using icepie::v1::Slice;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kDomainFile =
    "domain: operations  # as written\nowner: {team: ops-data, contact: \"#ops-data\"}\n";

Slice OnTime() {
  Slice slice;
  slice.set_name("operations.on_time");
  slice.set_state(icepie::v1::RUNNING);
  slice.set_strategy("aggregate");
  slice.add_reads("flights");
  slice.add_key("origin");
  auto* column = slice.add_columns();
  column->set_name("origin");
  column->set_type("VARCHAR");
  column = slice.add_columns();
  column->set_name("delay");
  column->set_type("BIGINT");
  auto* meta = slice.mutable_meta();
  meta->set_slice(slice.name());
  meta->set_generation(1);
  meta->set_applied_position(3'000'000);
  meta->set_source(icepie::v1::LIVE);
  return slice;
}

void Freeze(Slice* slice) {
  slice->set_state(icepie::v1::FROZEN);
  slice->mutable_desired()->set_mode(icepie::v1::DesiredState::FREEZE);
  slice->mutable_desired()->set_reason("INC-4711");
  slice->mutable_desired()->set_actor("tester");
  slice->mutable_meta()->set_stale(true);
  slice->mutable_meta()->set_stale_reason(icepie::v1::SLICE_FROZEN);
  slice->mutable_meta()->mutable_stale_since()->set_seconds(1'795'316'321);
}

class FakeSlices : public icepie::v1::Slices::Service {
 public:
  grpc::Status StreamQuery(grpc::ServerContext*, const QueryRequest* request,
                           grpc::ServerWriter<icepie::v1::StreamQueryResponse>* writer) override {
    asked = *request;
    icepie::v1::StreamQueryResponse part;
    *part.mutable_header()->mutable_meta()->add_slices() = slice.meta();
    part.mutable_header()->mutable_meta()->set_stale(slice.meta().stale());
    for (const auto& column : slice.columns()) *part.mutable_header()->add_columns() = column;
    writer->Write(part);
    for (const char* piece :
         {R"([{"origin":"ATL","delay":12},)", R"({"origin":null,"delay":-3}])"}) {
      part.set_body(piece);
      writer->Write(part);
    }
    part.mutable_end()->set_row_count(2);
    if (complete) writer->Write(part);
    return grpc::Status::OK;
  }
  grpc::Status GetSlice(grpc::ServerContext*, const icepie::v1::GetSliceRequest* request,
                        Slice* response) override {
    if (request->name() != slice.name()) {
      return server::ToGrpcStatus(
          MakeError(absl::StatusCode::kNotFound,
                    "there is no slice " + request->name() + " (have: operations.on_time)",
                    "SLICE_NOT_FOUND"));
    }
    *response = slice;
    return grpc::Status::OK;
  }
  grpc::Status ListSlices(grpc::ServerContext*, const icepie::v1::ListSlicesRequest*,
                          icepie::v1::ListSlicesResponse* response) override {
    Slice* listed = response->add_slices();
    *listed = slice;
    if (builds_left > 0) {
      --builds_left;
      listed->set_state(icepie::v1::BACKFILLING);
      listed->mutable_meta()->set_applied_position(1'500'000);
    }
    response->set_head_position(3'000'000);
    return grpc::Status::OK;
  }

  Slice slice = OnTime();
  QueryRequest asked;
  bool complete = true;
  int builds_left = 0;  // so often the slice is still at its first build
};

class FakeAdmin : public icepie::v1::Admin::Service {
 public:
  explicit FakeAdmin(FakeSlices& slices) : slices_(slices) {}

  grpc::Status ListEvents(grpc::ServerContext*, const icepie::v1::ListEventsRequest* request,
                          icepie::v1::ListEventsResponse* response) override {
    auto& event = *response->add_events();
    event.set_slice(request->name());
    event.set_reason("QUARANTINE_OVER_BUDGET");
    return grpc::Status::OK;
  }
  grpc::Status ApplyDomain(grpc::ServerContext*, const icepie::v1::ApplyDomainRequest* request,
                           icepie::v1::ApplyDomainResponse* response) override {
    applied.push_back(*request);
    if (!apply_error.ok()) return server::ToGrpcStatus(apply_error);
    *response = plan;
    return grpc::Status::OK;
  }
  grpc::Status ListSnapshots(grpc::ServerContext*, const icepie::v1::ListSnapshotsRequest* request,
                             icepie::v1::ListSnapshotsResponse* response) override {
    icepie::v1::Snapshot* named = response->add_snapshots();
    named->set_slice(request->slice());
    named->set_name("close");
    named->set_position(81'204'113);
    named->set_generation(7);
    named->set_actor("ann");
    named->set_reason("audit");
    response->add_snapshots()->set_position(81'204'990);
    return grpc::Status::OK;
  }
  grpc::Status CreateSnapshot(grpc::ServerContext*,
                              const icepie::v1::CreateSnapshotRequest* request,
                              icepie::v1::Snapshot* response) override {
    snapshot_request = request->ShortDebugString();
    response->set_name(request->name());
    response->set_position(5);
    return grpc::Status::OK;
  }
  grpc::Status DeleteSnapshot(grpc::ServerContext*,
                              const icepie::v1::DeleteSnapshotRequest* request,
                              icepie::v1::DeleteSnapshotResponse*) override {
    snapshot_request = request->ShortDebugString();
    return grpc::Status::OK;
  }
  grpc::Status GetDomain(grpc::ServerContext*, const icepie::v1::GetDomainRequest* request,
                         icepie::v1::Domain* response) override {
    response->set_name(request->name());
    response->set_file(kDomainFile);
    return grpc::Status::OK;
  }
  grpc::Status ListDomains(grpc::ServerContext*, const icepie::v1::ListDomainsRequest*,
                           icepie::v1::ListDomainsResponse* response) override {
    auto* domain = response->add_domains();
    domain->set_name("operations");
    auto* worker = domain->add_workers();
    worker->set_domain("operations");
    worker->set_role("live");
    worker->set_state("running");
    worker->set_pid(1234);
    return grpc::Status::OK;
  }
  grpc::Status FreezeSlice(grpc::ServerContext*, const icepie::v1::FreezeSliceRequest* request,
                           Slice* response) override {
    EXPECT_EQ(request->actor(), "tester");
    EXPECT_EQ(request->reason(), "INC-4711");
    Freeze(&slices_.slice);
    if (request->has_remind_after()) remind_after = request->remind_after().seconds();
    *response = slices_.slice;
    return grpc::Status::OK;
  }
  grpc::Status ListExpectationResults(
      grpc::ServerContext*, const icepie::v1::ListExpectationResultsRequest* /*request*/,
      icepie::v1::ListExpectationResultsResponse* response) override {
    auto* result = response->add_results();
    result->set_name("late_le_all");
    result->set_check("sql");
    result->set_severity(icepie::v1::ExpectationResult::ERROR);
    result->set_status(icepie::v1::ExpectationResult::FAILED);
    result->set_failing_rows(12);
    result->add_samples(R"({"origin":"ATL"})");
    result->mutable_waiver()->set_actor("ann");
    result->mutable_waiver()->set_reason("INC-1");
    return grpc::Status::OK;
  }
  grpc::Status WaiveExpectation(grpc::ServerContext*,
                                const icepie::v1::WaiveExpectationRequest* request,
                                Slice* response) override {
    waived = *request;
    *response = slices_.slice;
    return grpc::Status::OK;
  }
  grpc::Status PromoteGeneration(grpc::ServerContext*,
                                 const icepie::v1::PromoteGenerationRequest* request,
                                 Slice* response) override {
    promoted = *request;
    if (request->generation() == 9) {
      return server::ToGrpcStatus(MakeError(absl::StatusCode::kFailedPrecondition,
                                            "generation 9 is building", "PROMOTE_GATE_FAILED"));
    }
    *response = slices_.slice;
    return grpc::Status::OK;
  }
  grpc::Status RollbackSlice(grpc::ServerContext*, const icepie::v1::RollbackSliceRequest* request,
                             icepie::v1::RollbackSliceResponse* response) override {
    rollbacks.push_back(*request);
    response->set_generation(7);
    response->set_instant(true);
    response->set_quarantined_count(1001);
    *response->mutable_slice() = slices_.slice;
    return grpc::Status::OK;
  }
  grpc::Status ListGenerations(grpc::ServerContext*, const icepie::v1::ListGenerationsRequest*,
                               icepie::v1::ListGenerationsResponse* response) override {
    *response = generations;
    return grpc::Status::OK;
  }
  grpc::Status ListDomainRevisions(grpc::ServerContext*,
                                   const icepie::v1::ListDomainRevisionsRequest* request,
                                   icepie::v1::ListDomainRevisionsResponse* response) override {
    auto* revision = response->add_revisions();
    revision->set_name(request->name());
    revision->set_revision(12);
    revision->set_actor("ann");
    revision->set_hash("abc123");
    return grpc::Status::OK;
  }
  grpc::Status ResliceSlice(grpc::ServerContext*, const icepie::v1::ResliceSliceRequest*,
                            Operation* response) override {
    response->set_name("operations/op-71");
    return grpc::Status::OK;
  }
  grpc::Status DiffGenerations(grpc::ServerContext*,
                               const icepie::v1::DiffGenerationsRequest* request,
                               icepie::v1::GenerationDiff* response) override {
    response->set_base_generation(1);
    response->set_base_rows(226);
    response->set_rows(226);
    response->set_changed(request->generation() == 8 ? 2 : request->generation() == 10 ? 102 : 0);
    if (request->generation() == 9) {
      response->set_not_by_key("the slice has no key");
      auto* column = response->add_columns();
      column->set_name("delay");
      column->set_base_type("INTEGER");
      column->set_new_type("BIGINT");
    }
    for (int i = 1; i <= 7; ++i) response->add_samples("sample " + std::to_string(i));
    return grpc::Status::OK;
  }
  grpc::Status ListQuarantineGroups(grpc::ServerContext*,
                                    const icepie::v1::ListQuarantineGroupsRequest*,
                                    icepie::v1::ListQuarantineGroupsResponse* response) override {
    auto* group = response->add_groups();
    group->set_code("WRONG_TYPE");
    group->set_column("delay");
    group->set_path("$.delay");
    group->set_sample("\"12\"");
    group->set_count(1001);
    group->set_first_position(3'000'017);
    group->set_last_position(3'004'711);
    group->set_unacknowledged(900);
    group->add_common_headers("producer=wallet-2.14");
    response->set_total(1001);
    response->set_unacknowledged(900);
    return grpc::Status::OK;
  }
  grpc::Status GetQuarantinedRecord(grpc::ServerContext*,
                                    const icepie::v1::GetQuarantinedRecordRequest* request,
                                    icepie::v1::GetQuarantinedRecordResponse* response) override {
    response->mutable_quarantined()->set_position(request->position());
    response->mutable_quarantined()->set_stream("flights");
    response->mutable_quarantined()->set_code("WRONG_TYPE");
    response->mutable_record()->set_payload("{\"origin\":\"Zürich\",\"delay\":\"12\",\"x\":\"" +
                                            std::string(200, 'y') + "\"}");
    auto* judgement = response->mutable_judgement();
    judgement->set_verdict(icepie::v1::RecordJudgement::BAD);
    judgement->set_code("WRONG_TYPE");
    judgement->set_column("delay");
    judgement->set_message("a string is not an INTEGER");
    judgement->set_byte_offset(static_cast<int64_t>(response->record().payload().find("\"12\"")));
    judgement->set_byte_count(4);
    response->mutable_acknowledgement()->set_actor("ann");
    response->mutable_acknowledgement()->set_reason("INC-1");
    return grpc::Status::OK;
  }
  grpc::Status RetryQuarantinedRecords(
      grpc::ServerContext*, const icepie::v1::RetryQuarantinedRecordsRequest* request,
      icepie::v1::RetryQuarantinedRecordsResponse* response) override {
    retried = *request;
    response->set_looked_at(1000);
    response->set_readable(990);
    response->set_method(icepie::v1::RetryQuarantinedRecordsResponse::NEW_GENERATION);
    if (!request->validate_only()) response->set_operation("operations/op-71");
    return grpc::Status::OK;
  }
  grpc::Status AcknowledgeQuarantine(grpc::ServerContext*,
                                     const icepie::v1::AcknowledgeQuarantineRequest* request,
                                     Slice* response) override {
    acknowledged = *request;
    *response = slices_.slice;
    return grpc::Status::OK;
  }
  grpc::Status ListQuarantinedRecords(
      grpc::ServerContext*, const icepie::v1::ListQuarantinedRecordsRequest* request,
      icepie::v1::ListQuarantinedRecordsResponse* response) override {
    records_asked = request->page_size();
    auto* group = response->add_groups();
    group->set_code("WRONG_TYPE");
    group->set_column("delay");
    group->set_sample("\"12\"");
    group->set_count(1001);
    auto* record = response->add_records();
    record->set_position(3'000'017);
    record->set_stream("flights");
    response->set_total(1001);
    response->set_more(true);
    return grpc::Status::OK;
  }
  grpc::Status GetServerStatus(grpc::ServerContext*, const icepie::v1::GetServerStatusRequest*,
                               icepie::v1::ServerStatus* response) override {
    response->set_head_position(3'001'200);
    if (scrub) *response->mutable_core_scrub() = *scrub;
    *response->add_slices() = slices_.slice;
    Slice healthy = OnTime();
    healthy.set_name("network.routes");
    *response->add_slices() = healthy;
    for (int i = 0; i < lagging; ++i) {
      Slice& slice = *response->add_slices();
      slice.set_name("lagging.s" + std::to_string(i));
      slice.set_state(icepie::v1::LAGGING);
      response->add_workers()->set_domain("d" + std::to_string(i));
      response->mutable_workers()->rbegin()->set_state("backoff");
    }
    for (const char* role : {"live", "standby"}) {
      if (live_state.empty()) break;
      auto* worker = response->add_workers();
      worker->set_domain("operations");
      worker->set_role(role);
      worker->set_state(role == std::string("live") ? live_state : "hibernating");
    }
    return grpc::Status::OK;
  }

  std::optional<icepie::v1::CoreScrub> scrub;
  std::string live_state;  // "": no worker is told of
  int lagging = 0;         // so many slices and workers are not well, too
  std::vector<icepie::v1::ApplyDomainRequest> applied;
  std::string snapshot_request;
  icepie::v1::ApplyDomainResponse plan;
  icepie::v1::PromoteGenerationRequest promoted;
  std::vector<icepie::v1::RollbackSliceRequest> rollbacks;
  icepie::v1::ListGenerationsResponse generations;
  int64_t records_asked = 0;
  absl::Status apply_error;
  icepie::v1::WaiveExpectationRequest waived;
  icepie::v1::RetryQuarantinedRecordsRequest retried;
  icepie::v1::AcknowledgeQuarantineRequest acknowledged;
  std::optional<int64_t> remind_after;  // seconds

 private:
  FakeSlices& slices_;
};

class FakeOperations : public google::longrunning::Operations::Service {
 public:
  grpc::Status WaitOperation(grpc::ServerContext*,
                             const google::longrunning::WaitOperationRequest* request,
                             Operation* response) override {
    EXPECT_EQ(request->name(), "operations/op-71");
    icepie::v1::ResliceMetadata metadata;
    metadata.set_slice("operations.on_time");
    metadata.set_generation(8);
    metadata.set_total_records(3'000'000);
    metadata.set_done_records(++waits >= 3 ? 3'000'000 : 1'000'000);
    metadata.set_phase(waits >= 3 ? "ready" : "building");
    metadata.set_done_before(done_before);
    metadata.set_elapsed_ms(4000);
    metadata.set_records_per_second(750'000);
    if (waits < 3) metadata.set_eta_ms(3000);
    response->set_name(request->name());
    response->mutable_metadata()->PackFrom(metadata);
    response->set_done(waits >= 3);
    if (fails && waits >= 3) {
      response->mutable_error()->set_code(3);
      response->mutable_error()->set_message("division by zero");
    }
    return grpc::Status::OK;
  }

  grpc::Status GetOperation(grpc::ServerContext* context,
                            const google::longrunning::GetOperationRequest* request,
                            Operation* response) override {
    google::longrunning::WaitOperationRequest wait;
    wait.set_name(request->name());
    return WaitOperation(context, &wait, response);
  }

  int waits = 0;
  bool fails = false;
  int64_t done_before = 0;
};

class FakeCore : public icepie::v1::Core::Service {
 public:
  grpc::Status ListStreams(grpc::ServerContext*, const icepie::v1::ListStreamsRequest*,
                           icepie::v1::ListStreamsResponse* response) override {
    response->set_head_position(head);
    return grpc::Status::OK;
  }
  int64_t head = 3'000'000;
};

class SliceCommandsTest : public ProgramFixture {
 protected:
  void SetUp() override {
    ProgramFixture::SetUp();
    Serve({&slices_, &admin_, &operations_, &core_});
  }
  void TearDown() override { ProgramFixture::TearDown(); }

  FakeSlices slices_;
  FakeAdmin admin_{slices_};
  FakeOperations operations_;
  FakeCore core_;
};

TEST_F(SliceCommandsTest, QueryShowsRowsAndWhereTheyStand) {
  const Outcome outcome = Run({"query", "operations", "SELECT $a", "--param", "a=1", "--param",
                               "b=x y", "--param", "c=1.50", "--param", "d=null"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("origin  delay\n"
                                      "──────  ─────\n"
                                      "ATL        12\n"
                                      "NULL       -3\n"
                                      "2 rows · as of position 3,000,000 (0 behind) · generation 1"
                                      " · "));
  EXPECT_THAT(outcome.out, Not(HasSubstr("STALE")));
  EXPECT_EQ(slices_.asked.parameters().at("a").integer(), 1);
  EXPECT_EQ(slices_.asked.parameters().at("b").text(), "x y");
  EXPECT_EQ(slices_.asked.parameters().at("c").decimal(), "1.50");
  EXPECT_TRUE(slices_.asked.parameters().at("d").null());
  EXPECT_EQ(Run({"query", "operations", "SELECT 1", "--param", "a"}).code, 1);
}

TEST_F(SliceCommandsTest, StaleAnswersSayWhy) {
  Freeze(&slices_.slice);
  const Outcome outcome = Run({"query", "operations", "SELECT 1"});
  EXPECT_THAT(outcome.out, HasSubstr("STALE since 2026-11-22 02:58:41Z  operations.on_time "
                                     "(SLICE_FROZEN: INC-4711)\n"));
  // What was wrong before is not why.
  slices_.slice.mutable_last_error()->set_reason("QUARANTINE_OVER_BUDGET");
  slices_.slice.clear_desired();
  slices_.slice.add_conditions()->set_type("SAFE_MODE");
  EXPECT_THAT(Run({"query", "operations", "SELECT 1"}).out,
              HasSubstr("(SLICE_FROZEN: safe mode)\n"));
  EXPECT_THAT(Run({"status"}).out, HasSubstr("operations.on_time  FROZEN  safe mode"));
  slices_.slice.set_state(icepie::v1::FAULTED);
  slices_.slice.mutable_meta()->set_stale_reason(icepie::v1::SLICE_FAULTED);
  EXPECT_THAT(Run({"query", "operations", "SELECT 1"}).out,
              HasSubstr("(SLICE_FAULTED: QUARANTINE_OVER_BUDGET)\n"));
}

TEST_F(SliceCommandsTest, AnswersNameFailedExpectations) {
  slices_.slice.mutable_meta()->add_failed_expectations("not_null_origin");
  slices_.slice.mutable_meta()->add_failed_expectations("late_le_all");
  EXPECT_THAT(Run({"query", "operations", "SELECT 1"}).out,
              HasSubstr("FAILED expectations of operations.on_time: not_null_origin, late_le_all "
                        "(icepie slice expect operations.on_time)\n"));
}

TEST_F(SliceCommandsTest, QueryAsJsonKeepsTheRows) {
  const Outcome outcome = Run({"--json", "query", "operations", "SELECT 1"});
  EXPECT_THAT(outcome.out, HasSubstr(R"("rows": [{"origin":"ATL","delay":12},{"origin":null)"));
  EXPECT_THAT(outcome.out, HasSubstr("\"source\": \"LIVE\""));
}

TEST_F(SliceCommandsTest, IncompleteAnswersAreErrors) {
  slices_.complete = false;
  const Outcome outcome = Run({"query", "operations", "SELECT 1"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("incomplete"));
  EXPECT_EQ(outcome.out, "");
}

TEST_F(SliceCommandsTest, SliceQuery) {
  const Outcome outcome = Run({"slice", "query", "operations.on_time", "--select", "origin,delay",
                               "--where", "delay=gt.15", "--where", "origin=in.(ATL,ORD)",
                               "--order", "delay.desc", "--limit", "5"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(slices_.asked.domain(), "operations");
  EXPECT_EQ(slices_.asked.select().slice(), "on_time");
  EXPECT_EQ(slices_.asked.select().filters(0).values(0).integer(), 15);
  EXPECT_EQ(slices_.asked.select().filters(1).values_size(), 2);
  EXPECT_TRUE(slices_.asked.select().order_by(0).descending());
  EXPECT_EQ(slices_.asked.select().limit(), 5);
  const Outcome wrong = Run({"slice", "query", "operations.on_time", "--where", "dely=gt.1"});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("no column dely (have: origin, delay)"));
}

TEST_F(SliceCommandsTest, HowStaleAnAnswerMayBe) {
  const std::vector<std::string> by_sql = {"query", "operations", "SELECT 1"};
  for (const auto& query : {by_sql, {"slice", "query", "operations.on_time"}}) {
    SCOPED_TRACE(query[0]);
    const auto with = [&](const std::vector<std::string>& more) {
      std::vector<std::string> all = query;
      all.insert(all.end(), more.begin(), more.end());
      return Run(all);
    };
    EXPECT_EQ(with({"--max-staleness", "1m30s"}).code, 0);
    EXPECT_EQ(slices_.asked.consistency().max_staleness().seconds(), 90);
    EXPECT_EQ(slices_.asked.consistency().on_stale(), icepie::v1::Consistency::FAIL);
    EXPECT_EQ(with({"--max-staleness", "0", "--on-stale", "wait"}).code, 0);
    EXPECT_TRUE(slices_.asked.consistency().has_max_staleness());
    EXPECT_EQ(slices_.asked.consistency().on_stale(), icepie::v1::Consistency::WAIT);
    EXPECT_EQ(with({"--min-position", "7"}).code, 0);
    EXPECT_EQ(slices_.asked.consistency().min_position(), 7);
    EXPECT_EQ(with({}).code, 0);
    EXPECT_FALSE(slices_.asked.has_consistency());
    EXPECT_EQ(with({"--on-stale", "wait"}).code, 1);
    EXPECT_EQ(with({"--max-staleness", "30"}).code, 1);
    EXPECT_EQ(with({"--max-staleness", "30s", "--on-stale", "cry"}).code, 1);
  }
}

TEST_F(SliceCommandsTest, QueriesAskForThePast) {
  EXPECT_EQ(Run({"query", "operations", "SELECT 1", "--as-of", "81204113"}).code, 0);
  EXPECT_EQ(slices_.asked.consistency().as_of_position(), 81204113);
  EXPECT_EQ(Run({"query", "operations", "SELECT 1", "--as-of", "2026-11-22T03:58:41+01:00"}).code,
            0);
  EXPECT_EQ(slices_.asked.consistency().as_of_time().seconds(), 1795316321);
  EXPECT_EQ(Run({"slice", "query", "operations.on_time", "--as-of", "close-2026"}).code, 0);
  EXPECT_EQ(slices_.asked.consistency().as_of_snapshot(), "close-2026");
  const Outcome bad = Run({"query", "operations", "SELECT 1", "--as-of", "2026-11-22"});
  EXPECT_EQ(bad.code, 1);
  EXPECT_THAT(bad.err, HasSubstr("as_of \"2026-11-22\" is neither a position"));
}

TEST_F(SliceCommandsTest, SnapshotsAreListedKeptAndDeleted) {
  const Outcome list = Run({"slice", "snapshots", "operations.on_time"});
  EXPECT_EQ(list.code, 0);
  EXPECT_THAT(list.out, HasSubstr("close"));
  EXPECT_THAT(list.out, HasSubstr("81,204,113"));
  EXPECT_THAT(list.out, HasSubstr("ann: audit"));
  EXPECT_THAT(Run({"--json", "slice", "snapshots", "operations.on_time"}).out,
              HasSubstr("\"name\": \"close\""));
  const Outcome made =
      Run({"slice", "snapshots", "operations.on_time", "--create", "close", "--reason", "audit"});
  EXPECT_EQ(made.code, 0);
  EXPECT_THAT(made.out, HasSubstr("operations.on_time at position 5 is kept as close"));
  EXPECT_EQ(admin_.snapshot_request,
            R"(slice: "operations.on_time" name: "close" reason: "audit" actor: "tester")");
  EXPECT_EQ(Run({"slice", "snapshots", "operations.on_time", "--delete", "close"}).code, 0);
  EXPECT_EQ(admin_.snapshot_request,
            R"(slice: "operations.on_time" name: "close" actor: "tester")");
}

TEST_F(SliceCommandsTest, SliceNamesAreChecked) {
  EXPECT_THAT(Run({"slice", "describe", "on_time"}).err, HasSubstr("give domain.slice"));
  const Outcome unknown = Run({"slice", "describe", "operations.nope"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_EQ(unknown.err, "icepie: there is no slice operations.nope (have: operations.on_time)\n");
}

TEST_F(SliceCommandsTest, DescribeAndList) {
  slices_.slice.mutable_last_error()->set_reason("QUARANTINE_OVER_BUDGET");
  EXPECT_THAT(Run({"slice", "describe", "operations.on_time"}).out,
              testing::Not(HasSubstr("newest event")));
  slices_.slice.mutable_meta()->mutable_event_time_max()->set_seconds(1'900'000'000);
  const Outcome described = Run({"slice", "describe", "operations.on_time"});
  EXPECT_THAT(described.out, HasSubstr("newest event  2030-03-17 17:46:40Z"));
  EXPECT_THAT(described.out, HasSubstr("state         RUNNING since"));
  EXPECT_THAT(described.out, HasSubstr("origin VARCHAR, delay BIGINT"));
  EXPECT_THAT(described.out, HasSubstr("QUARANTINE_OVER_BUDGET"));
  EXPECT_THAT(described.out, HasSubstr("last events"));
  EXPECT_THAT(described.out, HasSubstr("owner         team ops-data, contact #ops-data\n"));
  EXPECT_THAT(Run({"slice", "list"}).out, HasSubstr("operations.on_time  RUNNING  fresh"));
  EXPECT_THAT(Run({"slice", "list", "operations", "--json"}).out,
              HasSubstr("\"applied_position\": \"3000000\""));
}

TEST_F(SliceCommandsTest, FreezeNeedsAReason) {
  EXPECT_EQ(Run({"slice", "freeze", "operations.on_time"}).code, 1);
  EXPECT_EQ(slices_.slice.state(), icepie::v1::RUNNING);
  const Outcome frozen = Run({"slice", "freeze", "operations.on_time", "--reason", "INC-4711"});
  EXPECT_THAT(frozen.out, StartsWith("operations.on_time FROZEN (stale: SLICE_FROZEN)"));
  EXPECT_FALSE(admin_.remind_after);
}

TEST_F(SliceCommandsTest, AFreezeCanSayForHowLongItIsMeant) {
  const std::vector<std::string> freeze = {"slice",    "freeze",   "operations.on_time",
                                           "--reason", "INC-4711", "--for"};
  for (const auto& [text, seconds] :
       std::vector<std::pair<std::string, int64_t>>{{"90m", 5400}, {"2h", 7200}, {"3d", 259200}}) {
    std::vector<std::string> command = freeze;
    command.push_back(text);
    EXPECT_EQ(Run(command).code, 0);
    EXPECT_EQ(admin_.remind_after, seconds);
  }
  admin_.remind_after.reset();
  for (const std::string bad : {"0s", "-1h", "soon", "inf"}) {
    std::vector<std::string> command = freeze;
    command.back() += "=" + bad;
    const Outcome refused = Run(command);
    EXPECT_EQ(refused.code, 1);
    EXPECT_THAT(refused.err, HasSubstr("a time such as 90m, 2h or 3d, not " + bad));
  }
  EXPECT_FALSE(admin_.remind_after);

  auto& desired = *slices_.slice.mutable_desired();
  const int64_t now = absl::ToUnixSeconds(absl::Now());
  desired.mutable_remind_time()->set_seconds(now + 7290);
  EXPECT_THAT(Run({"status"}).out, HasSubstr("meant to last 2h 1m more; thaw: icepie slice thaw"));
  desired.mutable_remind_time()->set_seconds(now - 7230);
  EXPECT_THAT(Run({"status"}).out, HasSubstr("2h longer than meant; thaw: icepie slice thaw"));
  EXPECT_THAT(Run({"slice", "describe", "operations.on_time"}).out,
              HasSubstr("INC-4711; 2h longer than meant"));
}

TEST_F(SliceCommandsTest, DiffExitsWithTwoWhenRowsDiffer) {
  EXPECT_EQ(Run({"slice", "diff", "operations.on_time"}).code, 0);
  const Outcome changed = Run({"slice", "diff", "operations.on_time", "g8"});
  EXPECT_EQ(changed.code, 2);
  EXPECT_THAT(changed.out, HasSubstr("rows 226 → 226  added 0  removed 0  changed 2"));
  EXPECT_EQ(Run({"slice", "diff", "operations.on_time", "eight"}).code, 1);
  const Outcome columns = Run({"slice", "diff", "operations.on_time", "g9"});
  EXPECT_EQ(columns.code, 2);
  EXPECT_THAT(columns.out, HasSubstr("column delay: INTEGER → BIGINT\n"));
  EXPECT_THAT(columns.out, HasSubstr("compared as whole rows: the slice has no key\n"));
}

TEST_F(SliceCommandsTest, PromoteIsRefusedByItsGate) {
  EXPECT_EQ(Run({"slice", "promote", "operations.on_time", "g8", "--thaw"}).code, 0);
  EXPECT_EQ(admin_.promoted.generation(), 8);
  EXPECT_TRUE(admin_.promoted.thaw());
  const Outcome refused = Run({"slice", "promote", "operations.on_time", "9"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_EQ(refused.err, "icepie: generation 9 is building\n");
}

TEST_F(SliceCommandsTest, ResliceFollowsTheBuild) {
  const Outcome outcome = Run({"slice", "reslice", "operations.on_time"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("op-71 operations.on_time g8 building"));
  EXPECT_THAT(outcome.err, HasSubstr("1.0 M/3.0 M  750 k/s  ETA 3 s"));
  EXPECT_THAT(outcome.err,
              HasSubstr("op-71 operations.on_time g8 ready  3,000,000 records in 4 s  750 k/s"));
  EXPECT_EQ(Run({"slice", "reslice", "operations.on_time", "--no-wait"}).out, "op-71 started\n");
}

TEST_F(SliceCommandsTest, ABuildThatWasStartedAgainSaysWhereItWentOn) {
  operations_.done_before = 900'000;
  EXPECT_THAT(Run({"operation", "watch", "op-71"}).err,
              HasSubstr("quarantined 0, 900,000 saved before"));
}

TEST_F(SliceCommandsTest, FailedBuildsAreErrors) {
  operations_.fails = true;
  const Outcome outcome = Run({"operation", "watch", "op-71"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("icepie: operations.on_time g8: division by zero"));
}

TEST_F(SliceCommandsTest, Quarantine) {
  const Outcome outcome = Run({"slice", "quarantine", "operations.on_time"});
  EXPECT_THAT(outcome.out, HasSubstr("1,001  WRONG_TYPE  delay   $.delay  \"12\"    3,000,017 … "
                                     "3,004,711               900  producer=wallet-2.14\n"));
  EXPECT_THAT(outcome.out, HasSubstr("1,001 quarantined records, 900 not acknowledged ("));
  const Outcome listed = Run({"slice", "quarantine", "operations.on_time", "--records", "1"});
  EXPECT_EQ(admin_.records_asked, 1);
  EXPECT_THAT(listed.out, HasSubstr("3,000,017"));
  EXPECT_THAT(listed.out, HasSubstr("1,001 quarantined records, 1 listed"));
  EXPECT_THAT(Run({"--json", "slice", "quarantine", "operations.on_time"}).out,
              HasSubstr("3000017"));
}

TEST_F(SliceCommandsTest, OneQuarantinedRecordIsShownWithThePlaceOfItsError) {
  const Outcome outcome = Run({"slice", "quarantine", "operations.on_time", "--show", "3000017"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("\n  {\"origin\":\"Zürich\",\"delay\":\"12\",\"x\":\"yyy"));
  EXPECT_THAT(outcome.out, HasSubstr(" …\n                             ^^^^ a string is not an "
                                     "INTEGER\n"));
  EXPECT_THAT(outcome.out, HasSubstr("now: WRONG_TYPE in column delay\n"));
  EXPECT_THAT(outcome.out, HasSubstr("acknowledged by ann, -: INC-1\n"));
}

TEST_F(SliceCommandsTest, QuarantinedRecordsAreRetriedAndAcknowledged) {
  const Outcome asked = Run({"slice", "quarantine", "operations.on_time", "--retry", "--dry-run"});
  EXPECT_EQ(asked.out,
            "990 of 1,000 records can be read now: a new generation would be built, which tells "
            "whether the SQL takes them\n");
  EXPECT_TRUE(admin_.retried.validate_only());
  const Outcome retried = Run({"slice", "quarantine", "operations.on_time", "--retry", "--promote",
                               "auto", "--reason", "INC-2"});
  EXPECT_EQ(retried.code, 0) << retried.err;
  EXPECT_THAT(retried.out, HasSubstr("then icepie slice promote operations.on_time"));
  EXPECT_EQ(admin_.retried.promote(), icepie::v1::ApplyDomainRequest::AUTO);
  EXPECT_EQ(admin_.retried.actor(), "tester");

  const auto acknowledge = [&](const std::string& range) {
    return Run(
        {"slice", "quarantine", "operations.on_time", "--acknowledge", range, "--reason", "INC-1"});
  };
  EXPECT_EQ(acknowledge("3000017-3004711").code, 0);
  EXPECT_EQ(admin_.acknowledged.first_position(), 3'000'017);
  EXPECT_EQ(admin_.acknowledged.end_position(), 3'004'712);
  EXPECT_EQ(admin_.acknowledged.reason(), "INC-1");
  EXPECT_EQ(acknowledge("0").code, 0);
  EXPECT_EQ(admin_.acknowledged.end_position(), 1);
  EXPECT_EQ(acknowledge("all").code, 0);
  EXPECT_EQ(admin_.acknowledged.end_position(), 0);
  for (const std::string& bad : {"7-3", "x", "-1", "3-", "all-3"}) {
    EXPECT_EQ(acknowledge(bad).code, 1) << bad;
  }
  EXPECT_EQ(Run({"slice", "quarantine", "a.b", "--retry", "--acknowledge", "all"}).code, 1);
}

TEST_F(SliceCommandsTest, PlanSaysWhatItCostsAndVerboselyWhy) {
  admin_.plan.set_domain("operations");
  admin_.plan.set_changed(true);
  auto* change = admin_.plan.add_changes();
  change->set_slice("on_time");
  change->set_kind(icepie::v1::SliceChange::REBUILD);
  change->set_strategy("keys");
  change->set_why("keys: replaces rows");
  change->add_breaking("column delay is dropped");
  change->add_statements("CREATE TABLE __data (\n  a INTEGER)");
  auto* why_not = change->add_why_not();
  why_not->set_strategy("aggregate");
  why_not->set_why("median() has no partial state");
  auto* estimate = change->mutable_estimate();
  estimate->set_records_to_read(81'200'000);
  estimate->set_records_per_second(740'000);
  estimate->set_duration_ms(110'000);
  estimate->set_kept_records_max(81'200'000);
  estimate->set_kept_records_limit(5'000'000);
  estimate->set_state_bytes(912'000'000);
  estimate->set_memory_limit_bytes(4'000'000'000);
  const std::string file = Write("operations.yaml", "domain: operations\n");
  const Outcome plain = Run({"plan", "-f", file});
  EXPECT_EQ(plain.code, 2);
  EXPECT_THAT(plain.out, HasSubstr("BREAKING: column delay is dropped\n"));
  EXPECT_THAT(plain.out,
              HasSubstr("      81,200,000 records to read ≈ 1m 50s at 740 k/s, keeps at most "
                        "81,200,000 of 5,000,000 records, state now 912.0 MB, memory 4.0 GB\n"));
  EXPECT_THAT(plain.out, Not(HasSubstr("CREATE TABLE")));
  const Outcome verbose = Run({"plan", "-f", file, "--verbose"});
  EXPECT_THAT(verbose.out, HasSubstr("      not aggregate: median() has no partial state\n"
                                     "      | CREATE TABLE __data (\n      |   a INTEGER)\n"));
  EXPECT_THAT(Run({"--json", "plan", "-f", file}).out, HasSubstr("\"why_not\""));
}

TEST_F(SliceCommandsTest, DiffShowsFewSamplesOnATerminal) {
  std::ostringstream out;
  const Terminal terminal{&std::cin, &out, &out, true};
  EXPECT_EQ(
      RunProgram({"--address", address_, "slice", "diff", "operations.on_time", "g8"}, terminal),
      2);
  EXPECT_THAT(out.str(), HasSubstr("  sample 5\n  … 2 more (--json shows all)\n"));
  EXPECT_THAT(Run({"slice", "diff", "operations.on_time", "g8"}).out, HasSubstr("sample 7\n"));
  EXPECT_THAT(Run({"--json", "slice", "diff", "operations.on_time", "g8"}).out,
              HasSubstr("sample 7"));
}

TEST_F(SliceCommandsTest, DiffSaysHowManySamplesItLeavesOut) {
  const Outcome piped = Run({"slice", "diff", "operations.on_time", "g10"});
  EXPECT_THAT(piped.out, HasSubstr("  sample 7\n  … 95 more\n"));
  std::ostringstream out;
  const Terminal terminal{&std::cin, &out, &out, true};
  RunProgram({"--address", address_, "slice", "diff", "operations.on_time", "g10"}, terminal);
  EXPECT_THAT(out.str(), HasSubstr("  sample 5\n  … 97 more (--json shows 7)\n"));
}

TEST_F(SliceCommandsTest, TextThatIsNotUtf8IsRefused) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"query", "operations", "SELECT '\xff'"},
           {"query", "operations", "SELECT $a", "--param", "a=\xff"},
           {"query", "operations", "SELECT $a", "--param=a=\xff"}}) {
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr("\\xff"));
    EXPECT_THAT(outcome.err, HasSubstr("is not UTF-8\n"));
  }
  const Outcome latin = Run({"plan", "-f", Write("latin.yaml", "domain: caf\xe9\n")});
  EXPECT_EQ(latin.code, 1);
  EXPECT_THAT(latin.err, HasSubstr("latin.yaml: the file's text is not UTF-8"));
  EXPECT_TRUE(admin_.applied.empty());
  // The name of a file may be any bytes.
  const std::string file = Write("op\xffs.yaml", "domain: operations\n");
  EXPECT_EQ(Run({"plan", "-f", file}).code, 0);
  EXPECT_EQ(Run({"plan", "--file=" + file}).code, 0);
}

TEST_F(SliceCommandsTest, ErrorsWithoutAMessageSayTheirCode) {
  admin_.apply_error = absl::InternalError("");
  const Outcome outcome = Run({"plan", "-f", Write("operations.yaml", "domain: operations\n")});
  EXPECT_EQ(outcome.err, "icepie: INTERNAL\n");
}

TEST_F(SliceCommandsTest, TheActorIsTheUserElseTheLoginName) {
  const std::string file = Write("operations.yaml", "domain: operations\n");
  const Terminal terminal{&std::cin, &std::cout, &std::cerr};
  const char* user = std::getenv("USER");
  const std::string before = user == nullptr ? "" : user;
  setenv("USER", "ada", 1);
  EXPECT_EQ(RunProgram({"--address", address_, "plan", "-f", file}, terminal), 0);
  unsetenv("USER");
  EXPECT_EQ(RunProgram({"--address", address_, "plan", "-f", file}, terminal), 0);
  if (user != nullptr) setenv("USER", before.c_str(), 1);
  ASSERT_EQ(admin_.applied.size(), 2U);
  EXPECT_EQ(admin_.applied[0].actor(), "ada");
  EXPECT_NE(admin_.applied[1].actor(), "");
  EXPECT_NE(admin_.applied[1].actor(), "unknown");
}

TEST_F(SliceCommandsTest, PlanExitsWithTwoWhenItWouldChange) {
  const std::string file = Write("operations.yaml", "domain: operations\n");
  EXPECT_EQ(Run({"plan", "-f", file}).code, 0);
  admin_.plan.set_domain("operations");
  admin_.plan.set_changed(true);
  auto* change = admin_.plan.add_changes();
  change->set_slice("on_time");
  change->set_kind(icepie::v1::SliceChange::REBUILD);
  change->set_strategy("aggregate");
  change->add_breaking("column late is gone");
  const Outcome outcome = Run({"plan", "-f", file});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.out, HasSubstr("~ rebuild   operations.on_time  aggregate"));
  EXPECT_THAT(outcome.out, HasSubstr("BREAKING: column late is gone"));
  EXPECT_TRUE(admin_.applied.back().validate_only());
}

TEST_F(SliceCommandsTest, ApplyOfADirectoryInOrder) {
  Write("b.yaml", "b");
  Write("a.yaml", "a");
  Write("notes.txt", "c");
  EXPECT_EQ(Run({"apply", "-f", directory_, "--prune", "--reason", "r"}).code, 0);
  ASSERT_EQ(admin_.applied.size(), 2U);
  EXPECT_EQ(admin_.applied[0].file(), "a");
  EXPECT_EQ(admin_.applied[1].file(), "b");
  EXPECT_TRUE(admin_.applied[0].prune());
  EXPECT_FALSE(admin_.applied[0].validate_only());
  EXPECT_EQ(admin_.applied[0].actor(), "tester");
  EXPECT_EQ(Run({"apply", "-f", directory_ + "/none.yaml"}).code, 1);
}

TEST_F(SliceCommandsTest, ApplyFollowsBuildsAndPromotes) {
  admin_.plan.set_domain("operations");
  admin_.plan.set_changed(true);
  auto* change = admin_.plan.add_changes();
  change->set_slice("on_time");
  change->set_kind(icepie::v1::SliceChange::REBUILD);
  change->set_operation("operations/op-71");
  const std::string file = Write("operations.yaml", "domain: operations\n");
  const Outcome waited = Run({"apply", "-f", file});
  EXPECT_THAT(waited.out, HasSubstr("then icepie slice promote operations.on_time"));
  EXPECT_EQ(admin_.applied.back().promote(), icepie::v1::ApplyDomainRequest::BY_FILE);
  auto* generation = admin_.generations.add_generations();
  generation->set_number(8);
  generation->set_state(icepie::v1::Generation::SERVING);
  const Outcome promoted = Run({"apply", "-f", file, "--promote=auto", "--base", "abc"});
  EXPECT_EQ(promoted.code, 0) << promoted.err;
  EXPECT_EQ(admin_.applied.back().promote(), icepie::v1::ApplyDomainRequest::AUTO);
  EXPECT_EQ(admin_.applied.back().base_hash(), "abc");
  EXPECT_THAT(promoted.out, HasSubstr("operations.on_time promoted: generation 8"));

  generation->set_state(icepie::v1::Generation::READY);
  generation->mutable_not_promoted()->set_message("changed_rows is 2, and the file allows 0");
  const Outcome kept = Run({"apply", "-f", file, "--promote=auto", "--base", "abc", "--overwrite"});
  EXPECT_EQ(kept.code, 3);
  EXPECT_THAT(kept.err, HasSubstr("changed_rows is 2"));
  EXPECT_EQ(admin_.applied.back().base_hash(), "");
  EXPECT_EQ(Run({"apply", "-f", file, "--promote=always"}).code, 1);
}

TEST_F(SliceCommandsTest, RollbackSaysWhereItLeadsAndAsks) {
  const Outcome refused = Run({"slice", "rollback", "operations.on_time"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("g7 is at the head, 1,001 records quarantined"));
  ASSERT_EQ(admin_.rollbacks.size(), 1U);
  EXPECT_TRUE(admin_.rollbacks[0].validate_only());
  const Outcome done =
      Run({"slice", "rollback", "operations.on_time", "g7", "--yes", "--reason", "INC-1"});
  EXPECT_EQ(done.code, 0) << done.err;
  ASSERT_EQ(admin_.rollbacks.size(), 3U);
  EXPECT_FALSE(admin_.rollbacks[2].validate_only());
  EXPECT_EQ(admin_.rollbacks[2].generation(), 7);
  EXPECT_EQ(admin_.rollbacks[2].serving_generation(), 1) << "what was shown is what is done";
  EXPECT_EQ(admin_.rollbacks[2].reason(), "INC-1");
}

TEST_F(SliceCommandsTest, HistoriesNameWhoAndWhy) {
  auto* generation = admin_.generations.add_generations();
  generation->set_number(8);
  generation->set_state(icepie::v1::Generation::FAILED);
  generation->set_actor("ann");
  generation->set_reason("INC-4711");
  generation->mutable_error()->set_message("division by zero");
  const Outcome slice = Run({"slice", "history", "operations.on_time"});
  EXPECT_EQ(slice.code, 0) << slice.err;
  EXPECT_THAT(slice.out, HasSubstr("g8"));
  EXPECT_THAT(slice.out, HasSubstr("INC-4711"));
  EXPECT_THAT(slice.out, HasSubstr("division by zero"));
  const Outcome domain = Run({"domain", "history", "operations"});
  EXPECT_THAT(domain.out, HasSubstr("abc123"));
  EXPECT_EQ(Run({"domain", "history", "operations", "--show", "12"}).out, kDomainFile);
}

TEST_F(SliceCommandsTest, ApplyWaitsForNewSlices) {
  admin_.plan.set_domain("operations");
  admin_.plan.set_changed(true);
  auto* change = admin_.plan.add_changes();
  change->set_slice("on_time");
  change->set_kind(icepie::v1::SliceChange::CREATE);
  change->set_strategy("aggregate");
  change->set_why("aggregate: folds records of flights");
  const std::string file = Write("operations.yaml", "domain: operations\n");
  slices_.builds_left = 3;
  const Outcome waited = Run({"apply", "-f", file});
  EXPECT_EQ(waited.code, 0) << waited.err;
  EXPECT_EQ(slices_.builds_left, 0);
  EXPECT_THAT(waited.err, HasSubstr("operations.on_time BACKFILLING  █████░░░░░  50 %"));
  EXPECT_THAT(waited.err, HasSubstr("0 of 1 new slice built"));
  EXPECT_THAT(waited.out, HasSubstr("on_time  aggregate: folds records of flights\n"));
  EXPECT_THAT(waited.out, HasSubstr("operations.on_time RUNNING"));

  slices_.builds_left = 3;
  EXPECT_EQ(Run({"apply", "-f", file, "--no-wait"}).code, 0);
  EXPECT_EQ(slices_.builds_left, 3);

  slices_.slice.set_state(icepie::v1::FAULTED);
  slices_.slice.mutable_last_error()->set_message("too many bad records");
  const Outcome failed = Run({"apply", "-f", file});
  EXPECT_EQ(failed.code, 1);
  EXPECT_THAT(failed.err, HasSubstr("operations.on_time is FAULTED: too many bad records"));
}

TEST_F(SliceCommandsTest, RefusedDefinitionsNameEveryLine) {
  ErrorDetail detail{"DEFINITION_INVALID", {}, {}, {}};
  detail.violations.push_back({"slices.a.sql", "o.yaml:3:5: no column dely"});
  detail.violations.push_back({"slices.b.sql", "o.yaml:9:5: no column orign"});
  admin_.apply_error =
      MakeError(absl::StatusCode::kInvalidArgument, "o.yaml:3:5: no column dely", detail);
  const Outcome outcome = Run({"apply", "-f", Write("o.yaml", "x")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err,
            "icepie: o.yaml:3:5: no column dely\n"
            "  slices.b.sql: o.yaml:9:5: no column orign\n");
  admin_.apply_error = MakeError(absl::StatusCode::kFailedPrecondition,
                                 "b would be deleted; --prune", "REMOVES_SLICES");
  EXPECT_EQ(Run({"apply", "-f", Write("o.yaml", "x")}).code, 3);
}

TEST_F(SliceCommandsTest, Domains) {
  EXPECT_EQ(Run({"domain", "get", "operations"}).out, kDomainFile);
  EXPECT_THAT(Run({"domain", "list"}).out, HasSubstr("live running pid 1234"));
  EXPECT_THAT(Run({"--json", "domain", "list"}).out, HasSubstr("\"pid\": \"1234\""));
}

TEST_F(SliceCommandsTest, StatusNamesTheUnhealthyAndFoldsTheRest) {
  EXPECT_THAT(Run({"status"}).out,
              StartsWith("core OK  head 3,001,200    2 domains, 2 slices: 2 fresh\n"));
  Freeze(&slices_.slice);
  const Outcome outcome = Run({"status"});
  EXPECT_THAT(outcome.out, HasSubstr("1 fresh, 1 FROZEN"));
  EXPECT_THAT(outcome.out, HasSubstr("operations.on_time  FROZEN  INC-4711 by tester"));
  EXPECT_THAT(outcome.out, HasSubstr("thaw: icepie slice thaw operations.on_time\n"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("network.routes")));
  slices_.slice.mutable_desired()->clear_reason();
  EXPECT_THAT(Run({"status"}).out, HasSubstr("operations.on_time  FROZEN  by tester"));
  slices_.slice.clear_desired();
  slices_.slice.set_state(icepie::v1::BLOCKED);
  slices_.slice.mutable_last_error()->set_reason("UPSTREAM_BLOCKED");
  slices_.slice.mutable_last_error()->set_message("reads routes, which is FROZEN");
  EXPECT_THAT(Run({"status"}).out,
              HasSubstr("operations.on_time  BLOCKED  reads routes, which is FROZEN"));
}

// The last error stays, also when it is over: then it is no reason for what comes after it.
TEST_F(SliceCommandsTest, AnErrorThatIsOverIsNotTheReasonForAnotherState) {
  Slice& slice = slices_.slice;
  slice.mutable_last_error()->set_reason("QUARANTINE_OVER_BUDGET");
  slice.set_state(icepie::v1::STARTING);
  EXPECT_THAT(Run({"status"}).out, Not(HasSubstr("QUARANTINE_OVER_BUDGET")));
  auto& answers = *slice.add_conditions();
  answers.set_type("ANSWERS");
  answers.set_message("ended with signal 9 (Killed)");
  EXPECT_THAT(Run({"status"}).out,
              HasSubstr("operations.on_time  STARTING  ended with signal 9 (Killed)"));
  slice.set_state(icepie::v1::LAGGING);
  slice.mutable_meta()->mutable_lag_time()->set_seconds(7);
  EXPECT_THAT(Run({"status"}).out, HasSubstr("operations.on_time  LAGGING  a record waits 7 s"));

  slice.set_state(icepie::v1::SUSPENDED);
  slice.mutable_last_error()->set_reason("WORKER_FAILED_TOO_OFTEN");
  EXPECT_THAT(Run({"status"}).out, HasSubstr("WORKER_FAILED_TOO_OFTEN"));
  const std::vector<std::string> describe = {"slice", "describe", "operations.on_time"};
  EXPECT_THAT(Run(describe).out, Not(HasSubstr("; over")));
  slice.mutable_desired()->set_mode(icepie::v1::DesiredState::SUSPEND);
  EXPECT_THAT(Run(describe).out, HasSubstr("; over")) << "somebody wants it suspended";
}

TEST_F(SliceCommandsTest, ASuspensionIsDescribedWithTheFreezeUnderIt) {
  auto& desired = *slices_.slice.mutable_desired();
  desired.set_mode(icepie::v1::DesiredState::SUSPEND);
  desired.set_actor("bob");
  desired.set_reason("too much memory");
  desired.set_resume_to(icepie::v1::DesiredState::FREEZE);
  desired.mutable_freeze()->set_actor("ann");
  desired.mutable_freeze()->set_reason("INC-1");
  const Outcome described = Run({"slice", "describe", "operations.on_time"});
  EXPECT_THAT(described.out, ::testing::ContainsRegex(
                                 "SUSPEND since .* by bob: too much memory; then FREEZE since .* "
                                 "by ann: INC-1"));
}

TEST_F(SliceCommandsTest, StatusShowsSomeOfManyAndCountsTheOthers) {
  Freeze(&slices_.slice);
  admin_.lagging = 1000;
  const std::string out = Run({"status"}).out;
  EXPECT_THAT(out, HasSubstr("operations.on_time"));
  EXPECT_THAT(out, HasSubstr("lagging.s38 "));
  EXPECT_THAT(out, Not(HasSubstr("lagging.s39 ")));
  EXPECT_THAT(out, HasSubstr("and 961 LAGGING more: icepie slice list\n"));
  EXPECT_THAT(out, HasSubstr("worker d39 "));
  EXPECT_THAT(out, HasSubstr("and workers: 960 backoff more: icepie status --json\n"));
  EXPECT_THAT(out, Not(HasSubstr("worker d40 ")));
  EXPECT_THAT(Run({"--json", "status"}).out, HasSubstr("lagging.s999"));
}

TEST_F(SliceCommandsTest, StatusSaysWhoHibernatesAndWhoWaitsForItsTurn) {
  admin_.live_state = "hibernating";
  EXPECT_THAT(Run({"status"}).out,
              HasSubstr("\n1 domain hibernating: a question or a record wakes it\n"));
  admin_.live_state = "waiting";
  slices_.slice.set_state(icepie::v1::LAGGING);
  auto* condition = slices_.slice.add_conditions();
  condition->set_type("HIBERNATING");
  condition->set_reason("AWAITS_TURN");
  const std::string out = Run({"status"}).out;
  EXPECT_THAT(out, HasSubstr("operations.on_time  LAGGING  waits for its turn"));
  EXPECT_THAT(out, HasSubstr("\n1 domain waiting: they have records to apply"));
  EXPECT_THAT(out, Not(HasSubstr("worker operations")));
}

TEST_F(SliceCommandsTest, StatusSaysWhenTheCoreWasFoundWholeOrWhatIsDamaged) {
  admin_.scrub.emplace();
  EXPECT_THAT(Run({"status"}).out, StartsWith("core OK  head 3,001,200  not verified yet    2 "));
  admin_.scrub->mutable_verified_time()->set_seconds(1700000000);
  EXPECT_THAT(Run({"status"}).out,
              StartsWith("core OK  head 3,001,200  verified 2023-11-14 22:13Z    2 domains"));
  auto* finding = admin_.scrub->add_findings();
  finding->set_position(1350);
  finding->set_what("/data/core/segments/7.segment: a wrong checksum");
  admin_.scrub->set_finding_count(2);
  const std::string out = Run({"status"}).out;
  EXPECT_THAT(out, StartsWith("core DAMAGED (2 places)  head 3,001,200"));
  EXPECT_THAT(out, HasSubstr("core damaged at position 1,350: /data/core/segments/7.segment: a "));
  EXPECT_THAT(Run({"--json", "status"}).out, HasSubstr("\"finding_count\": \"2\""));
}

TEST_F(SliceCommandsTest, WaitReturnsOrSaysWhereItStands) {
  EXPECT_EQ(Run({"slice", "wait", "operations.on_time", "--state", "RUNNING", "--fresh"}).code, 0);
  core_.head = 3'000'001;
  const Outcome late =
      Run({"slice", "wait", "operations.on_time", "--fresh", "--timeout", "120ms"});
  EXPECT_EQ(late.code, 1);
  EXPECT_THAT(late.err, HasSubstr("in vain: operations.on_time RUNNING"));
  EXPECT_EQ(Run({"slice", "wait", "operations.on_time", "--state", "SLEEPING"}).code, 1);
  EXPECT_EQ(Run({"slice", "wait", "operations.nope"}).code, 1);
}

TEST_F(SliceCommandsTest, WhatWaitWaitsFor) {
  Slice slice = OnTime();
  SliceWait wait;
  EXPECT_TRUE(Holds(wait, slice, 9'000'000));
  wait.fresh = true;
  EXPECT_FALSE(Holds(wait, slice, 9'000'000));
  slice.mutable_meta()->mutable_next_refresh_time()->set_seconds(1);
  EXPECT_TRUE(Holds(wait, slice, 9'000'000));  // scheduled: behind by its own promise
  slice.mutable_meta()->set_stale(true);
  EXPECT_FALSE(Holds(wait, slice, 0));
  wait = SliceWait();
  wait.min_position = 3'000'001;
  EXPECT_FALSE(Holds(wait, slice, 0));
  wait.min_position = 3'000'000;
  EXPECT_TRUE(Holds(wait, slice, 0));
  wait.generation_ready = true;
  EXPECT_FALSE(Holds(wait, slice, 0));
  slice.add_generations()->set_state(icepie::v1::Generation::READY);
  EXPECT_TRUE(Holds(wait, slice, 0));
}

TEST_F(SliceCommandsTest, UnreachableDaemonGetsTheRemedy) {
  address_ = "127.0.0.1:1";
  const Outcome outcome = Run({"status"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, StartsWith("icepie: cannot reach the daemon at 127.0.0.1:1: start it"));
}

TEST_F(SliceCommandsTest, ExpectShowsResultsAndWaives) {
  const Outcome shown = Run({"slice", "expect", "operations.on_time"});
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("late_le_all  sql    ERROR     FAILED"));
  EXPECT_THAT(shown.out, HasSubstr(R"(e.g. {"origin":"ATL"})"));
  EXPECT_THAT(shown.out, HasSubstr("ann: INC-1"));
  EXPECT_THAT(shown.out, HasSubstr("1 expectation, 1 failed"));
  const Outcome waived = Run({"slice", "expect", "operations.on_time", "--waive", "late_le_all",
                              "--reason", "INC-1", "--until", "2h"});
  EXPECT_EQ(waived.code, 0) << waived.err;
  EXPECT_EQ(admin_.waived.expectation(), "late_le_all");
  EXPECT_EQ(admin_.waived.actor(), "tester");
  EXPECT_EQ(admin_.waived.reason(), "INC-1");
  EXPECT_GT(admin_.waived.until().seconds(), 0);
  EXPECT_FALSE(admin_.waived.end());
  EXPECT_EQ(Run({"slice", "expect", "operations.on_time", "--end-waiver", "late_le_all"}).code, 0);
  EXPECT_TRUE(admin_.waived.end());
  EXPECT_THAT(
      Run({"slice", "expect", "operations.on_time", "--waive", "late_le_all", "--until", "soon"})
          .err,
      HasSubstr("a duration or a time"));
}

TEST_F(SliceCommandsTest, ErrorsAreJsonForPrograms) {
  const Outcome unknown = Run({"--json", "slice", "describe", "operations.nope"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_EQ(unknown.out, "");
  EXPECT_EQ(std::count(unknown.err.begin(), unknown.err.end(), '\n'), 1) << unknown.err;
  const auto error = nlohmann::json::parse(unknown.err);
  EXPECT_EQ(error["code"], "NOT_FOUND");
  EXPECT_EQ(error["reason"], "SLICE_NOT_FOUND");
  EXPECT_EQ(error["detail"], "there is no slice operations.nope (have: operations.on_time)");
}

TEST_F(SliceCommandsTest, UsageErrorsAreOneLine) {
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"frob"},
                                             {"slice"},
                                             {"slice", "frob"},
                                             {"query", "operations"},
                                             {"status", "--frob"},
                                             {"status", "--timeout"},
                                             {"status", "--timeout", "soon"},
                                             {"stream", "list", "\xff"},
                                             {"import", "a", "b", "--batch-records", "0"}}) {
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, StartsWith("icepie: "));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    // For a program the same, as every error, wherever it asks for that.
    for (const size_t at : {size_t{0}, arguments.size()}) {
      std::vector<std::string> for_programs = arguments;
      for_programs.insert(for_programs.begin() + static_cast<ptrdiff_t>(at), "--json");
      const Outcome as_json = Run(for_programs);
      EXPECT_EQ(as_json.code, 1);
      EXPECT_EQ(as_json.out, "");
      const auto error = nlohmann::json::parse(as_json.err, nullptr, false);
      ASSERT_TRUE(error.is_object()) << as_json.err;
      EXPECT_EQ(error["code"], "INVALID_ARGUMENT");
      // Behind an option without its value it is taken for that.
      if (at == 0) EXPECT_EQ("icepie: " + error["detail"].get<std::string>() + "\n", outcome.err);
    }
  }
  for (const std::string& bad : {"0", "-1", "x", "99999999999999999999"}) {
    EXPECT_THAT(Run({"read", "a", "--limit=" + bad}).err,
                HasSubstr("--limit: \"" + bad + "\" is not a whole number from 1; "));
  }
  EXPECT_THAT(Run({"slce"}).err, StartsWith("icepie: unknown command 'slce' (have: stream, "));
  EXPECT_THAT(Run({"slice", "frob"}).err,
              StartsWith("icepie: unknown command 'slice frob' (have: list, "));
  EXPECT_THAT(Run({"--version"}).out, StartsWith("icepie 0."));
  const Outcome help = Run({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("Usage: icepie"));
  EXPECT_EQ(Run({"slice", "--help"}).code, 0);
}

}  // namespace
}  // namespace icepie::cli
