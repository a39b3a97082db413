// What an operator sees and does when a slice's rows or records are bad, on real processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kShop = R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  by_item:
    sql: SELECT item, count(*) AS sales, sum(amount) AS total FROM sales GROUP BY ALL
    key: [item]
    expect:
      - {not_null: [item], severity: warn}
      - {name: total_small, sql: "SELECT item, total FROM slice WHERE total > 100"}
  best: {sql: SELECT max(total) AS most FROM by_item}
  counted: {sql: SELECT count(*) AS sales FROM sales}
)";

std::string Sale(const std::string& item, int amount) {
  return absl::StrCat(R"({"item":")", item, R"(","amount":)", amount, "}");
}

std::string Reason(const grpc::Status& status) {
  return ErrorReason(server::FromGrpcStatus(status));
}

class RemediesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
  }

  v1::ApplyDomainResponse Apply(const std::string& file) {
    v1::ApplyDomainResponse response;
    const auto status = daemon_.Apply(file, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  int64_t Append(const std::vector<std::string>& payloads) {
    const auto end = daemon_.Append("sales", payloads);
    EXPECT_TRUE(end.ok()) << end.status();
    return end.value_or(-1);
  }

  v1::Slice WaitForState(const std::string& slice, v1::SliceState state) {
    v1::Slice last;
    EXPECT_TRUE(Eventually(
        [&] {
          last = daemon_.GetSlice(slice);
          return last.state() == state;
        },
        absl::Seconds(60)))
        << last.ShortDebugString();
    return last;
  }

  v1::QueryResponse Ask(const std::string& sql, int64_t min_position = -1) {
    v1::QueryResponse response;
    const auto status = daemon_.Query("shop", sql, min_position, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  grpc::Status Waive(const std::string& expectation, const std::string& reason, bool end,
                     v1::Slice* slice) {
    v1::WaiveExpectationRequest request;
    request.set_name("shop.by_item");
    request.set_expectation(expectation);
    request.set_reason(reason);
    request.set_actor("ann");
    request.set_end(end);
    return daemon_.Admin()->WaiveExpectation(Within(absl::Seconds(60)).get(), request, slice);
  }

  // A good snapshot of everything below `position`.
  void WaitForSnapshot(int64_t position) {
    ASSERT_TRUE(
        Eventually([&] { return daemon_.GetSlice("shop.by_item").snapshot_position() >= position; },
                   absl::Seconds(60)));
  }

  google::longrunning::Operation WaitForOperation(const std::string& name) {
    google::longrunning::WaitOperationRequest request;
    google::longrunning::Operation operation;
    request.set_name(name);
    Eventually(
        [&] {
          const auto status = daemon_.Operations()->WaitOperation(Within(absl::Seconds(60)).get(),
                                                                  request, &operation);
          return operation.done() || !status.ok();
        },
        absl::Seconds(60));
    return operation;
  }

  DaemonFixture daemon_;
};

constexpr const char* kTotals = "SELECT item, total FROM by_item ORDER BY item";

TEST_F(RemediesTest, AFailedExpectationHoldsTheSliceUntilItIsWaived) {
  const int64_t good = Append({Sale("pear", 3)});
  Apply(kShop);
  WaitForSnapshot(good);
  const int64_t bad = Append({Sale("pear", 500)});

  const v1::Slice held = WaitForState("shop.by_item", v1::HELD);
  EXPECT_EQ(held.last_error().reason(), "EXPECTATION_FAILED");
  EXPECT_THAT(held.last_error().message(), HasSubstr("total_small"));
  ASSERT_EQ(held.expectations_size(), 2);
  EXPECT_EQ(held.expectations(1).status(), v1::ExpectationResult::FAILED);
  EXPECT_EQ(held.expectations(1).failing_rows(), 1);
  EXPECT_EQ(held.expectations(1).position(), bad);
  EXPECT_EQ(held.expectations(0).status(), v1::ExpectationResult::PASSED);

  // Its answers go on from the last good state, and say so.
  const v1::QueryResponse stale = Ask(kTotals);
  EXPECT_EQ(stale.body(), R"([{"item":"pear","total":3}])");
  EXPECT_EQ(stale.meta().slices(0).stale_reason(), v1::SLICE_HELD);
  EXPECT_LT(stale.meta().slices(0).applied_position(), bad);
  // Who reads it is blocked; who does not, is not.
  EXPECT_THAT(WaitForState("shop.best", v1::BLOCKED).last_error().message(), HasSubstr("by_item"));
  EXPECT_EQ(Ask("SELECT sales FROM counted", bad).body(), R"([{"sales":2}])");

  // The hold is kept over a restart.
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.Start();
  WaitForState("shop.by_item", v1::HELD);
  EXPECT_EQ(Ask(kTotals).body(), R"([{"item":"pear","total":3}])");

  v1::Slice slice;
  EXPECT_EQ(Reason(Waive("total_smal", "known", false, &slice)), "EXPECTATION_NOT_FOUND");
  EXPECT_EQ(Reason(Waive("total_small", "", false, &slice)), "PARAMETER_INVALID");
  ASSERT_TRUE(Waive("total_small", "INC-1: a real order", false, &slice).ok());
  const v1::Slice running = WaitForState("shop.by_item", v1::RUNNING);
  EXPECT_EQ(running.expectations(1).waiver().actor(), "ann");
  // Once the rows that break it are in a state that is checked.
  EXPECT_TRUE(Eventually(
      [&] {
        return FindCondition(daemon_.GetSlice("shop.by_item"), "EXPECTATION_WAIVED") != nullptr;
      },
      absl::Seconds(60)));
  EXPECT_EQ(Ask(kTotals, bad).body(), R"([{"item":"pear","total":503}])");
  WaitForState("shop.best", v1::RUNNING);
  EXPECT_EQ(Ask("SELECT most FROM best", bad).body(), R"([{"most":503}])");

  // The waiver is kept, too, and ends when it is ended.
  WaitForSnapshot(bad);
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.Start();
  WaitForState("shop.by_item", v1::RUNNING);
  ASSERT_TRUE(Waive("total_small", "", true, &slice).ok());
  WaitForState("shop.by_item", v1::HELD);
  EXPECT_EQ(Reason(Waive("total_small", "", true, &slice)), "EXPECTATION_NOT_FOUND");
}

TEST_F(RemediesTest, AFailedWarningHoldsNothingAndIsInTheAnswers) {
  Apply(kShop);
  const int64_t bad = Append({Sale("pear", 3), R"({"amount":1})"});
  WaitForSnapshot(bad);
  v1::SliceMeta meta;
  EXPECT_TRUE(Eventually(
      [&] {
        meta = Ask(kTotals).meta().slices(0);
        return meta.failed_expectations_size() > 0;
      },
      absl::Seconds(60)))
      << meta.ShortDebugString();
  EXPECT_THAT(meta.failed_expectations(), ElementsAre("not_null_item"));
  EXPECT_EQ(meta.source(), v1::LIVE);
  EXPECT_EQ(meta.state(), v1::RUNNING);
  EXPECT_FALSE(meta.stale());
}

TEST_F(RemediesTest, AChangedDefinitionIsTheOtherWayOut) {
  const int64_t good = Append({Sale("pear", 3)});
  Apply(kShop);
  WaitForSnapshot(good);
  const int64_t bad = Append({Sale("pear", 500)});
  WaitForState("shop.by_item", v1::HELD);
  const auto response = Apply(absl::StrReplaceAll(kShop, {{"total > 100", "total > 1000"}}));
  for (const auto& change : response.changes()) {
    EXPECT_NE(change.kind(), v1::SliceChange::REBUILD) << change.slice();
  }
  WaitForState("shop.by_item", v1::RUNNING);
  EXPECT_EQ(Ask(kTotals, bad).body(), R"([{"item":"pear","total":503}])");
}

TEST_F(RemediesTest, AGenerationThatFailsIsNotPromoted) {
  const int64_t good = Append({Sale("pear", 3)});
  Apply(kShop);
  WaitForSnapshot(good);
  const auto response =
      Apply(absl::StrReplaceAll(kShop, {{"sum(amount) AS", "sum(amount * 100) AS"}}));
  for (const auto& change : response.changes()) {
    if (change.slice() == "by_item") WaitForOperation(change.operation());
  }
  v1::PromoteGenerationRequest promote;
  promote.set_name("shop.by_item");
  promote.set_generation(2);
  v1::Slice slice;
  const auto refused =
      daemon_.Admin()->PromoteGeneration(Within(absl::Seconds(60)).get(), promote, &slice);
  EXPECT_EQ(Reason(refused), "PROMOTE_GATE_FAILED") << refused.error_message();
  EXPECT_THAT(refused.error_message(), HasSubstr("total_small"));
  EXPECT_EQ(Ask(kTotals).body(), R"([{"item":"pear","total":3}])");
  ASSERT_TRUE(Waive("total_small", "cents from now on", false, &slice).ok());
  const auto promoted =
      daemon_.Admin()->PromoteGeneration(Within(absl::Seconds(60)).get(), promote, &slice);
  EXPECT_TRUE(promoted.ok()) << promoted.error_message();
  EXPECT_EQ(Ask(kTotals, good).body(), R"([{"item":"pear","total":300}])");
}

// ---- Quarantine ---------------------------------------------------------------------------------

constexpr const char* kStrict = R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: {type: INTEGER, required: true}, note: VARCHAR}}
slices:
  by_item:
    sql: SELECT item, count(*) AS sales, sum(amount) AS total FROM sales GROUP BY ALL
    key: [item]
    on_bad_record: {budget: {records: 1}}
  newest:
    sql: |
      SELECT item, CAST(note AS INTEGER) AS n FROM sales
      QUALIFY row_number() OVER (PARTITION BY item ORDER BY _position DESC) = 1
    key: [item]
)";

class QuarantineTest : public RemediesTest {
 protected:
  // With the header that all of them have.
  int64_t AppendFrom(const std::string& producer, const std::vector<std::string>& payloads) {
    v1::AppendRecordsRequest request;
    v1::AppendRecordsResponse response;
    for (const std::string& payload : payloads) {
      v1::Record& record = *request.add_records();
      record.set_stream("sales");
      record.set_payload(payload);
      v1::Header& header = *record.add_headers();
      header.set_name("producer");
      header.set_value(producer);
    }
    const auto status =
        daemon_.Core()->AppendRecords(Within(absl::Seconds(60)).get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.end_position();
  }

  v1::GetQuarantinedRecordResponse Show(int64_t position, const std::string& refused = "") {
    v1::GetQuarantinedRecordRequest request;
    v1::GetQuarantinedRecordResponse response;
    request.set_name("shop.by_item");
    request.set_position(position);
    const auto status =
        daemon_.Admin()->GetQuarantinedRecord(Within(absl::Seconds(60)).get(), request, &response);
    EXPECT_EQ(Reason(status), refused) << status.error_message();
    return response;
  }

  grpc::Status Acknowledge(int64_t first, int64_t end, const std::string& reason,
                           v1::Slice* slice) {
    v1::AcknowledgeQuarantineRequest request;
    request.set_name("shop.by_item");
    request.set_first_position(first);
    request.set_end_position(end);
    request.set_reason(reason);
    request.set_actor("ann");
    return daemon_.Admin()->AcknowledgeQuarantine(Within(absl::Seconds(60)).get(), request, slice);
  }

  v1::RetryQuarantinedRecordsResponse Retry(const std::string& slice, bool validate_only) {
    v1::RetryQuarantinedRecordsRequest request;
    v1::RetryQuarantinedRecordsResponse response;
    request.set_name(slice);
    request.set_validate_only(validate_only);
    request.set_promote(v1::ApplyDomainRequest::AUTO);
    request.set_reason("INC-3");
    const auto status = daemon_.Admin()->RetryQuarantinedRecords(Within(absl::Seconds(30)).get(),
                                                                 request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
};

TEST_F(QuarantineTest, AcknowledgementsAreWithdrawn) {
  Apply(kStrict);
  const std::string bad = R"({"item":"pear","amount":"1,204"})";
  const int64_t end = Append({Sale("pear", 3), bad, bad});
  WaitForState("shop.by_item", v1::FAULTED);
  v1::Slice slice;
  ASSERT_TRUE(Acknowledge(0, 0, "INC-1", &slice).ok());
  WaitForState("shop.by_item", v1::RUNNING);
  const auto withdraw = [&](int64_t first, int64_t behind) {
    v1::WithdrawAcknowledgementRequest request;
    request.set_name("shop.by_item");
    request.set_first_position(first);
    request.set_end_position(behind);
    request.set_reason("INC-2");
    return daemon_.Admin()->WithdrawAcknowledgement(Within(absl::Seconds(60)).get(), request,
                                                    &slice);
  };
  ASSERT_TRUE(withdraw(end - 1, end).ok());
  EXPECT_TRUE(Show(end - 2).has_acknowledgement());
  EXPECT_FALSE(Show(end - 1).has_acknowledgement());
  EXPECT_EQ(Reason(withdraw(end - 1, end)), "ACKNOWLEDGEMENT_NOT_FOUND");
  EXPECT_TRUE(Eventually(
      [&] {
        const v1::QueryResponse answer = Ask("SELECT total FROM by_item", end);
        return answer.meta().slices(0).unacknowledged_count() == 1;
      },
      absl::Seconds(60)));
  // The budget of one is spent again.
  Append({bad});
  WaitForState("shop.by_item", v1::FAULTED);
}

// FAULTS 53: a request that is sent again gets the first answer and is not carried out again.
TEST_F(QuarantineTest, AChangeWithARequestIdIsMadeOnce) {
  Apply(kStrict);
  v1::FreezeSliceRequest request;
  request.set_name("shop.by_item");
  request.set_reason("INC-1");
  request.set_request_id("r-1");
  v1::Slice first;
  ASSERT_TRUE(daemon_.Admin()->FreezeSlice(Within(absl::Seconds(60)).get(), request, &first).ok());
  v1::ThawSliceRequest thaw;
  thaw.set_name("shop.by_item");
  v1::Slice thawed;
  ASSERT_TRUE(daemon_.Admin()->ThawSlice(Within(absl::Seconds(60)).get(), thaw, &thawed).ok());
  v1::Slice again;
  ASSERT_TRUE(daemon_.Admin()->FreezeSlice(Within(absl::Seconds(60)).get(), request, &again).ok());
  EXPECT_EQ(again.SerializeAsString(), first.SerializeAsString());
  EXPECT_EQ(daemon_.GetSlice("shop.by_item").desired().mode(), v1::DesiredState::RUN);
  request.set_reason("INC-2");
  EXPECT_EQ(Reason(daemon_.Admin()->FreezeSlice(Within(absl::Seconds(60)).get(), request, &again)),
            "REQUEST_ID_REUSED");
}

// What is in front of the first bad record answers, and workers are rolled with it.
TEST_F(QuarantineTest, ASliceThatStopsBeforeItsFirstSnapshotAnswersAndIsRolled) {
  const std::string bad = R"({"item":"pear","amount":"1,204"})";
  Append({Sale("pear", 4), bad, bad, bad});
  const int64_t end = Append({Sale("pear", 3)});
  Apply(kStrict);
  const v1::Slice faulted = WaitForState("shop.by_item", v1::FAULTED);
  const v1::SliceCondition* answers = FindCondition(faulted, "ANSWERS");
  ASSERT_NE(answers, nullptr);
  EXPECT_EQ(answers->status(), v1::SliceCondition::TRUE);
  const v1::QueryResponse stale = Ask("SELECT total FROM by_item");
  EXPECT_EQ(stale.body(), R"([{"total":4}])");
  EXPECT_EQ(stale.meta().slices(0).stale_reason(), v1::SLICE_FAULTED);

  v1::RollWorkersRequest roll;
  v1::RollWorkersResponse rolled;
  const auto context = Within(absl::Minutes(3));
  const auto call = daemon_.Admin()->RollWorkers(context.get(), roll);
  while (call->Read(&rolled)) {
  }
  const grpc::Status done = call->Finish();
  EXPECT_TRUE(done.ok()) << done.error_message();

  v1::Slice slice;
  ASSERT_TRUE(Acknowledge(0, end, "INC-1", &slice).ok());
  WaitForState("shop.by_item", v1::RUNNING);
  EXPECT_EQ(Ask("SELECT total FROM by_item", end).body(), R"([{"total":7}])");
}

TEST_F(QuarantineTest, BadRecordsAreShownFromRawAndAcknowledged) {
  Apply(kStrict);
  const int64_t good = Append({Sale("pear", 3)});
  const std::string bad = R"({"item":"pear","amount":"1,204"})";
  const int64_t end = AppendFrom("wallet-2.14", {bad, bad, bad});
  const v1::Slice faulted = WaitForState("shop.by_item", v1::FAULTED);
  EXPECT_EQ(faulted.last_error().reason(), "QUARANTINE_OVER_BUDGET");
  EXPECT_THAT(faulted.last_error().message(), HasSubstr("--acknowledge"));

  v1::ListQuarantineGroupsRequest request;
  v1::ListQuarantineGroupsResponse groups;
  request.set_name("shop.by_item");
  ASSERT_TRUE(daemon_.Admin()
                  ->ListQuarantineGroups(Within(absl::Seconds(60)).get(), request, &groups)
                  .ok());
  EXPECT_EQ(groups.total(), 3);
  EXPECT_EQ(groups.unacknowledged(), 3);
  ASSERT_EQ(groups.groups_size(), 1);
  EXPECT_EQ(groups.groups(0).code(), "WRONG_TYPE");
  EXPECT_EQ(groups.groups(0).path(), "$.amount");
  EXPECT_EQ(groups.groups(0).sample(), "\"1,204\"");
  EXPECT_EQ(groups.groups(0).first_position(), end - 3);
  EXPECT_EQ(groups.groups(0).last_position(), end - 1);
  ASSERT_EQ(groups.groups(0).common_headers_size(), 1);
  EXPECT_EQ(groups.groups(0).common_headers(0), "producer=wallet-2.14");

  const auto shown = Show(end - 2);
  EXPECT_EQ(shown.record().payload(), bad);
  EXPECT_EQ(shown.judgement().verdict(), v1::RecordJudgement::BAD);
  EXPECT_EQ(bad.substr(static_cast<size_t>(shown.judgement().byte_offset()),
                       static_cast<size_t>(shown.judgement().byte_count())),
            "\"1,204\"");
  EXPECT_FALSE(shown.has_acknowledgement());
  Show(good - 1, "RECORD_NOT_QUARANTINED");

  v1::Slice slice;
  EXPECT_EQ(Reason(Acknowledge(0, 0, "", &slice)), "PARAMETER_INVALID");
  EXPECT_EQ(Reason(Acknowledge(end, end + 100, "INC-1", &slice)), "PARAMETER_INVALID");
  const auto acknowledged = Acknowledge(end - 3, end, "INC-1", &slice);
  ASSERT_TRUE(acknowledged.ok()) << acknowledged.error_message();
  WaitForState("shop.by_item", v1::RUNNING);
  const v1::QueryResponse answer = Ask("SELECT total FROM by_item", end);
  EXPECT_EQ(answer.body(), R"([{"total":3}])");
  EXPECT_EQ(answer.meta().slices(0).quarantined_count(), 3);
  EXPECT_EQ(answer.meta().slices(0).unacknowledged_count(), 0);
  EXPECT_EQ(Show(end - 2).acknowledgement().actor(), "ann");
  // It was written down before it was done; the two that were malformed were not.
  v1::GetRecordRequest written;
  v1::Record record;
  written.set_position(end);
  ASSERT_TRUE(daemon_.Core()->GetRecord(Within(absl::Seconds(60)).get(), written, &record).ok());
  EXPECT_EQ(record.stream(), "_admin");
  EXPECT_THAT(record.payload(), HasSubstr("AcknowledgeQuarantine"));
  EXPECT_THAT(record.payload(), HasSubstr("INC-1"));
  EXPECT_THAT(record.payload(), Not(HasSubstr("result")));

  // It holds over a restart, for a new generation, and not for what comes later.
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.Start();
  WaitForState("shop.by_item", v1::RUNNING);
  v1::ResliceSliceRequest reslice;
  google::longrunning::Operation operation;
  reslice.set_name("shop.by_item");
  ASSERT_TRUE(
      daemon_.Admin()->ResliceSlice(Within(absl::Seconds(60)).get(), reslice, &operation).ok());
  operation = WaitForOperation(operation.name());
  EXPECT_FALSE(operation.has_error()) << operation.error().message();
  const int64_t later = Append({bad});
  ASSERT_TRUE(Eventually(
      [&] {
        slice = daemon_.GetSlice("shop.by_item");
        return slice.meta().applied_position() >= later;
      },
      absl::Seconds(60)))
      << slice.ShortDebugString();
  EXPECT_EQ(slice.counts().quarantined(), 4);
  EXPECT_EQ(slice.counts().unacknowledged(), 1);
  EXPECT_NE(FindCondition(slice, "QUARANTINE"), nullptr);
  EXPECT_EQ(slice.counts().input(),
            slice.counts().applied() + slice.counts().filtered() + slice.counts().quarantined());
}

TEST_F(QuarantineTest, RecordsAreTriedAgainWhenSomeCanBeTaken) {
  Apply(absl::StrCat(kStrict, R"(  last_note:
    sql: SELECT CAST(arg_max(note, _position) AS INTEGER) AS n FROM sales
    strategy: recompute
)"));
  Append({R"({"item":"pear","amount":"no"})"});
  Append({R"({"item":"pear","amount":1,"note":"x"})"});
  // While it is the newest, the SQL fails on it; `by_item` takes it.
  for (const std::string slice : {"shop.newest", "shop.last_note"}) {
    ASSERT_TRUE(Eventually([&] { return daemon_.GetSlice(slice).counts().quarantined() == 1; },
                           absl::Seconds(60)))
        << slice;
  }
  const int64_t end = Append({R"({"item":"pear","amount":1,"note":"5"})"});
  EXPECT_EQ(Ask("SELECT n FROM newest", end).body(), R"([{"n":5}])");
  const auto nothing = Retry("shop.by_item", false);
  EXPECT_EQ(nothing.method(), v1::RetryQuarantinedRecordsResponse::NOTHING_TO_DO);
  EXPECT_EQ(nothing.looked_at(), 1);
  EXPECT_EQ(nothing.readable(), 0);

  // The build stops where the snapshot stands that it is compared with.
  ASSERT_TRUE(Eventually([&] { return daemon_.GetSlice("shop.newest").snapshot_position() >= end; },
                         absl::Seconds(60)));
  const auto asked = Retry("shop.newest", true);
  EXPECT_EQ(asked.method(), v1::RetryQuarantinedRecordsResponse::NEW_GENERATION);
  EXPECT_EQ(asked.operation(), "");
  const auto retried = Retry("shop.newest", false);
  EXPECT_EQ(retried.readable(), 1);
  EXPECT_FALSE(WaitForOperation(retried.operation()).has_error());
  v1::Slice slice;
  ASSERT_TRUE(Eventually(
      [&] {
        slice = daemon_.GetSlice("shop.newest");
        return slice.meta().generation() == 2 && slice.state() == v1::RUNNING;
      },
      absl::Seconds(60)))
      << slice.ShortDebugString();
  EXPECT_EQ(slice.counts().quarantined(), 0);
  EXPECT_EQ(slice.counts().applied(), slice.counts().input());
  EXPECT_EQ(Ask("SELECT n FROM newest", end).body(), R"([{"n":5}])");
  // It was not built from raw: only the record was applied.
  const auto& built = *slice.generations().rbegin();
  EXPECT_EQ(built.number(), 2);
  EXPECT_EQ(built.continues_generation(), 1) << built.ShortDebugString();
  EXPECT_EQ(built.diff().from_quarantine().records(), 1);

  // One that is recomputed leaves out what it has in quarantine: it is built anew, too.
  ASSERT_TRUE(
      Eventually([&] { return daemon_.GetSlice("shop.last_note").snapshot_position() >= end; },
                 absl::Seconds(60)));
  const auto again = Retry("shop.last_note", false);
  EXPECT_EQ(again.method(), v1::RetryQuarantinedRecordsResponse::NEW_GENERATION);
  EXPECT_EQ(again.readable(), 1);
  EXPECT_FALSE(WaitForOperation(again.operation()).has_error());
  ASSERT_TRUE(Eventually(
      [&] {
        slice = daemon_.GetSlice("shop.last_note");
        return slice.meta().generation() == 2 && slice.state() == v1::RUNNING;
      },
      absl::Seconds(60)))
      << slice.ShortDebugString();
  EXPECT_EQ(slice.counts().quarantined(), 0);
  EXPECT_EQ(Ask("SELECT n FROM last_note", end).body(), R"([{"n":5}])");
}

// The one that can be taken stands behind a thousand that never can.
TEST_F(QuarantineTest, ARetryLooksBeyondThoseThatCannotBeTaken) {
  Apply(R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: {type: INTEGER, required: true}, note: VARCHAR}}
slices:
  newest:
    sql: |
      SELECT item, amount, CAST(note AS INTEGER) AS n FROM sales
      QUALIFY row_number() OVER (PARTITION BY item ORDER BY _position DESC) = 1
    key: [item]
    on_bad_record: {budget: {records: 2000}}
)");
  constexpr int kNever = 1000;
  Append(std::vector<std::string>(kNever, R"({"item":"pear","amount":"no"})"));
  Append({R"({"item":"pear","amount":1,"note":"x"})"});
  ASSERT_TRUE(Eventually(
      [&] { return daemon_.GetSlice("shop.newest").counts().quarantined() == kNever + 1; },
      absl::Seconds(60)));
  const auto asked = Retry("shop.newest", true);
  EXPECT_EQ(asked.total(), kNever + 1);
  EXPECT_EQ(asked.looked_at(), kNever + 1);
  EXPECT_EQ(asked.readable(), 1);
  EXPECT_EQ(asked.method(), v1::RetryQuarantinedRecordsResponse::NEW_GENERATION);
}

}  // namespace
}  // namespace icepie::testing
