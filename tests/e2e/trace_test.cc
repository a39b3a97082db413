// What became of a record in every slice, as the real workers know it: before and after applying,
// from snapshots, and when a domain's workers do not answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <map>

#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;

constexpr const char* kPayments = R"(domain: payments
sources:
  transfers: {stream: ledger, where: {$.type: transfer}, columns: {amount: INTEGER}}
  rates: {columns: {rate: INTEGER}}
slices:
  volume: {sql: "SELECT count(*) AS n, sum(amount) AS volume FROM transfers"}
  doubled: {sql: "SELECT volume * 2 AS twice FROM volume"}
  counted: {sql: "SELECT count(*) AS n FROM transfers"}
  best: {sql: "SELECT max(rate) AS best FROM rates"}
)";
constexpr const char* kAudit = R"(domain: audit
sources:
  ledger: {columns: {type: VARCHAR}}
slices:
  kinds: {sql: "SELECT type, count(*) AS n FROM ledger GROUP BY ALL"}
)";

class TraceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    daemon_.Start();
    for (const char* stream : {"ledger", "rates"}) {
      ASSERT_TRUE(daemon_.CreateStream(stream).ok());
    }
    for (const char* file : {kPayments, kAudit}) {
      v1::ApplyDomainResponse response;
      const auto status = daemon_.Apply(file, &response);
      ASSERT_TRUE(status.ok()) << status.error_message();
    }
  }

  int64_t Append(const std::string& payload) {
    const auto end = daemon_.Append("ledger", {payload});
    EXPECT_TRUE(end.ok()) << end.status();
    return end.value_or(1) - 1;
  }

  std::map<std::string, v1::SliceTrace> Trace(int64_t position) {
    v1::TraceRecordRequest request;
    request.set_position(position);
    v1::TraceRecordResponse response;
    const auto status =
        daemon_.Core()->TraceRecord(Within(absl::Seconds(30)).get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.record().position(), position);
    std::map<std::string, v1::SliceTrace> slices;
    for (const auto& slice : response.slices()) slices[slice.slice()] = slice;
    EXPECT_EQ(slices.size(), 5u);
    return slices;
  }

  // Waits until every slice stands beyond the position, and traces it.
  std::map<std::string, v1::SliceTrace> TraceApplied(int64_t position) {
    std::map<std::string, v1::SliceTrace> slices;
    EXPECT_TRUE(Eventually([&] {
      slices = Trace(position);
      for (const auto& [name, slice] : slices) {
        if (slice.fate() == v1::PENDING || slice.fate() == v1::UNKNOWN) return false;
      }
      return true;
    }));
    return slices;
  }

  DaemonFixture daemon_;
};

TEST_F(TraceTest, EveryFateIsNamed) {
  const int64_t taken = Append(R"({"type":"transfer","amount":5})");
  auto slices = TraceApplied(taken);
  EXPECT_EQ(slices["payments.volume"].fate(), v1::APPLIED);
  EXPECT_EQ(slices["payments.volume"].source(), v1::LIVE);
  EXPECT_GT(slices["payments.volume"].applied_position(), taken);
  EXPECT_EQ(slices["payments.doubled"].fate(), v1::APPLIED);
  EXPECT_EQ(slices["payments.doubled"].via(), "volume");
  EXPECT_EQ(slices["payments.best"].fate(), v1::NOT_READ);
  EXPECT_EQ(slices["audit.kinds"].fate(), v1::APPLIED);

  slices = TraceApplied(Append(R"({"type":"fee","amount":"none"})"));
  EXPECT_EQ(slices["payments.volume"].fate(), v1::FILTERED);
  EXPECT_EQ(slices["payments.doubled"].fate(), v1::FILTERED);
  EXPECT_EQ(slices["audit.kinds"].fate(), v1::APPLIED);

  slices = TraceApplied(Append(R"({"type":"transfer","amount":"five"})"));
  EXPECT_EQ(slices["payments.volume"].fate(), v1::QUARANTINED);
  EXPECT_EQ(slices["payments.volume"].error().code(), "WRONG_TYPE");
  EXPECT_EQ(slices["payments.volume"].error().column(), "amount");
  EXPECT_EQ(slices["payments.counted"].fate(), v1::APPLIED) << "it does not read the amount";
}

TEST_F(TraceTest, AFrozenSliceHasNewRecordsPending) {
  const int64_t before = Append(R"({"type":"transfer","amount":5})");
  TraceApplied(before);
  v1::FreezeSliceRequest request;
  request.set_name("payments.volume");
  request.set_actor("test");
  v1::Slice frozen;
  ASSERT_TRUE(daemon_.Admin()->FreezeSlice(Within(absl::Seconds(60)).get(), request, &frozen).ok());
  ASSERT_TRUE(
      Eventually([&] { return daemon_.GetSlice("payments.volume").state() == v1::FROZEN; }));
  const int64_t after = Append(R"({"type":"transfer","amount":5})");
  ASSERT_TRUE(Eventually([&] { return Trace(after)["audit.kinds"].fate() == v1::APPLIED; }));
  EXPECT_EQ(Trace(after)["payments.volume"].fate(), v1::PENDING);
  EXPECT_EQ(Trace(before)["payments.volume"].fate(), v1::APPLIED);
}

TEST_F(TraceTest, WorkersThatDoNotAnswerCostTheirOwnSlicesOnly) {
  // They are not replaced meanwhile: the next worker would answer in their place.
  daemon_.Kill();
  daemon_.SetSettings(
      "workers: {heartbeat_timeout_ms: 60000, snapshot_interval_ms: 300, memory_bytes: 268435456}");
  daemon_.Start();
  const int64_t position = Append(R"({"type":"transfer","amount":5})");
  TraceApplied(position);
  for (const char* role : {"live", "standby"}) {
    daemon_.SignalWorker("payments", role, SIGSTOP);
  }
  auto slices = Trace(position);
  EXPECT_EQ(slices["payments.volume"].fate(), v1::UNKNOWN);
  EXPECT_FALSE(slices["payments.volume"].unknown_cause().empty());
  EXPECT_EQ(slices["audit.kinds"].fate(), v1::APPLIED);
  for (const char* role : {"live", "standby"}) {
    daemon_.SignalWorker("payments", role, SIGCONT);
  }
  EXPECT_EQ(TraceApplied(position)["payments.volume"].fate(), v1::APPLIED);
}

TEST_F(TraceTest, TheStandbyKnowsWhatALiveWorkerThatIsGoneHasApplied) {
  daemon_.Kill();
  daemon_.SetSettings("workers: {restart_backoff_ms: 60s, snapshot_interval_ms: 300ms}");
  daemon_.Start();
  const int64_t position = Append(R"({"type":"transfer","amount":5})");
  TraceApplied(position);
  ASSERT_TRUE(Eventually(
      [&] { return daemon_.GetSlice("payments.volume").standby_position() > position; }));
  // After the first death it starts again at once.
  const pid_t first = daemon_.SignalWorker("payments", "live", SIGKILL);
  ASSERT_TRUE(Eventually([&] {
    const int64_t pid = daemon_.Worker("payments", "live").pid();
    return pid > 0 && pid != first;
  }));
  daemon_.SignalWorker("payments", "live", SIGKILL);
  std::map<std::string, v1::SliceTrace> slices;
  EXPECT_TRUE(Eventually([&] {
    slices = Trace(position);
    return slices["payments.volume"].source() == v1::STANDBY;
  }));
  EXPECT_EQ(slices["payments.volume"].fate(), v1::APPLIED);
  EXPECT_GT(slices["payments.volume"].applied_position(), position);
  EXPECT_EQ(slices["audit.kinds"].source(), v1::LIVE);
}

TEST_F(TraceTest, APositionThatIsNotThereIsRefused) {
  v1::TraceRecordRequest request;
  v1::TraceRecordResponse response;
  for (const auto& [position, reason] : std::map<int64_t, std::string>{
           {1'000'000, "POSITION_AHEAD_OF_CORE"}, {-1, "PARAMETER_INVALID"}}) {
    request.set_position(position);
    const auto status =
        daemon_.Core()->TraceRecord(Within(absl::Seconds(30)).get(), request, &response);
    EXPECT_EQ(ErrorReason(server::FromGrpcStatus(status)), reason);
  }
}

}  // namespace
}  // namespace icepie::testing
