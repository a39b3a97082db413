#include "slices/record_trace.h"

#include <gtest/gtest.h>

#include <map>

#include "slices/definition.h"

namespace icepie::slices {
namespace {

constexpr const char* kDomain = R"(
domain: payments
sources:
  transfers: {stream: ledger, where: {$.type: transfer}, columns: {amount: INTEGER}}
  refunds: {stream: ledger, where: {$.type: refund}, columns: {amount: INTEGER}}
  rates: {columns: {rate: INTEGER}}
slices:
  volume: {sql: "SELECT sum(amount) AS volume FROM transfers"}
  both: {sql: "SELECT count(*) AS n FROM transfers, refunds"}
  in_rates: {sql: "SELECT sum(rate) AS r FROM rates"}
  over_volume: {sql: "SELECT volume * 2 AS twice FROM volume"}
  over_both: {sql: "SELECT v.volume, r.r FROM volume AS v, in_rates AS r"}
  own_and_over: {sql: "SELECT v.volume, f.amount FROM volume AS v, refunds AS f"}
)";

class RecordTraceTest : public ::testing::Test {
 protected:
  RecordTraceTest() {
    const auto definition = ParseDomain(kDomain, "payments.yaml");
    EXPECT_TRUE(definition.ok()) << definition.status();
    auto plan = PlanDomain(*definition);
    EXPECT_TRUE(plan.ok()) << plan.status();
    plan_ = std::make_shared<const DomainPlan>(*std::move(plan));
    for (const SlicePlan& slice : plan_->slices) {
      standings_.push_back({slice.slice, 1, 100, std::nullopt, ""});
    }
  }

  RecordStanding& Standing(const std::string& slice) {
    for (RecordStanding& standing : standings_) {
      if (standing.slice == slice) return standing;
    }
    ADD_FAILURE() << slice;
    return standings_.front();
  }

  std::map<std::string, TracedSlice> Trace(const std::string& stream, const std::string& payload,
                                           int64_t position = 7) {
    std::map<std::string, TracedSlice> traced;
    const PlanLookup lookup = [this](const std::string& slice,
                                     int64_t) -> absl::StatusOr<std::shared_ptr<const DomainPlan>> {
      if (slice == no_plan_) return absl::InternalError("does not plan");
      return plan_;
    };
    for (TracedSlice& slice : TraceRecord(standings_, lookup, {stream, position, payload})) {
      traced[slice.standing.slice] = std::move(slice);
    }
    EXPECT_EQ(traced.size(), standings_.size());
    return traced;
  }

  std::shared_ptr<const DomainPlan> plan_;
  std::vector<RecordStanding> standings_;
  std::string no_plan_;
};

TEST_F(RecordTraceTest, WhereDecidesBetweenAppliedAndFiltered) {
  auto traced = Trace("ledger", R"({"type":"transfer","amount":1})");
  EXPECT_EQ(traced["volume"].fate, RecordFate::kApplied);
  EXPECT_EQ(traced["both"].fate, RecordFate::kApplied);
  EXPECT_EQ(traced["in_rates"].fate, RecordFate::kNotRead);
  traced = Trace("ledger", R"({"type":"refund","amount":1})");
  EXPECT_EQ(traced["volume"].fate, RecordFate::kFiltered);
  EXPECT_EQ(traced["both"].fate, RecordFate::kApplied);
  traced = Trace("ledger", R"({"type":"fee"})");
  EXPECT_EQ(traced["both"].fate, RecordFate::kFiltered);
  // A record that is not well-formed is not filtered, whatever its text looks like.
  EXPECT_NE(Trace("ledger", R"({"type":"fee")")["volume"].fate, RecordFate::kFiltered);
  for (const auto& [slice, trace] : Trace("elsewhere", "{}")) {
    EXPECT_EQ(trace.fate, RecordFate::kNotRead) << slice;
  }
}

TEST_F(RecordTraceTest, ASlicesOwnPositionDecidesWhatIsPending) {
  Standing("volume").applied_position = 7;
  auto traced = Trace("ledger", R"({"type":"transfer"})", 7);
  EXPECT_EQ(traced["volume"].fate, RecordFate::kPending);
  EXPECT_EQ(traced["both"].fate, RecordFate::kApplied);
  EXPECT_EQ(Trace("ledger", R"({"type":"transfer"})", 6)["volume"].fate, RecordFate::kApplied);
  EXPECT_EQ(Trace("rates", "{}", 100)["volume"].fate, RecordFate::kNotRead);
  EXPECT_EQ(Trace("rates", "{}", 100)["in_rates"].fate, RecordFate::kPending);
}

TEST_F(RecordTraceTest, SlicesOverSlicesFollowThem) {
  Standing("volume").quarantined = QuarantinedRecord();
  auto traced = Trace("ledger", R"({"type":"transfer"})");
  EXPECT_EQ(traced["volume"].fate, RecordFate::kQuarantined);
  EXPECT_EQ(traced["over_volume"].fate, RecordFate::kQuarantined);
  EXPECT_EQ(traced["over_volume"].via, "volume");
  EXPECT_EQ(traced["over_both"].via, "volume");
  // Its own source drops the record, the slice below could not take it.
  EXPECT_EQ(traced["own_and_over"].fate, RecordFate::kQuarantined);
  EXPECT_EQ(Trace("rates", "{}")["over_both"].fate, RecordFate::kApplied);
  EXPECT_EQ(Trace("rates", "{}")["over_both"].via, "in_rates");
  EXPECT_EQ(Trace("rates", "{}")["over_volume"].fate, RecordFate::kNotRead);

  Standing("volume").quarantined.reset();
  Standing("over_volume").applied_position = 3;
  EXPECT_EQ(Trace("ledger", R"({"type":"transfer"})")["over_volume"].fate, RecordFate::kPending);
  EXPECT_EQ(Trace("ledger", R"({"type":"fee"})")["over_both"].fate, RecordFate::kFiltered);
}

TEST_F(RecordTraceTest, WhatCannotBeKnownSaysWhy) {
  Standing("volume").unknown = "it has no state yet";
  auto traced = Trace("ledger", R"({"type":"transfer"})");
  EXPECT_EQ(traced["volume"].fate, RecordFate::kUnknown);
  EXPECT_EQ(traced["volume"].unknown, "it has no state yet");
  EXPECT_EQ(traced["over_volume"].fate, RecordFate::kUnknown);
  EXPECT_EQ(traced["both"].fate, RecordFate::kApplied);
  no_plan_ = "both";
  EXPECT_EQ(Trace("ledger", "{}")["both"].unknown, "does not plan");
}

}  // namespace
}  // namespace icepie::slices
