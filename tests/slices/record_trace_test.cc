#include "slices/apply/record_trace.h"

#include <gtest/gtest.h>

#include <map>

#include "slices/apply/record_judge.h"
#include "slices/definition/definition.h"

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

constexpr const char* kJudgedDomain = R"yaml(
domain: payments
sources:
  transfers:
    stream: ledger
    where: {$.type: transfer}
    columns:
      amount: {type: "DECIMAL(18,2)", path: $.amount.value, required: true}
      fees: {type: "STRUCT(kind VARCHAR, value INTEGER)[]"}
      note: INTEGER
  entries: {stream: ledger, columns: {type: VARCHAR}}
slices:
  volume: {sql: "SELECT sum(amount) AS volume FROM transfers"}
  fees: {sql: "SELECT fees FROM transfers"}
  both: {sql: "SELECT t.amount, e.type FROM transfers AS t JOIN entries AS e ON true"}
)yaml";

// What a definition says of a record, and the part of the payload that it says it of.
class RecordJudgeTest : public ::testing::Test {
 protected:
  RecordJudgeTest() {
    const auto definition = ParseDomain(kJudgedDomain, "payments.yaml");
    EXPECT_TRUE(definition.ok()) << definition.status();
    auto plan = PlanDomain(*definition);
    EXPECT_TRUE(plan.ok()) << plan.status();
    if (plan.ok()) plan_ = *std::move(plan);
  }

  // "CODE column part" of a bad one.
  std::string Judged(const std::string& slice, const std::string& payload) {
    const RecordJudgement judged = JudgeRecord(plan_, *plan_.Find(slice), "ledger", payload);
    if (judged.verdict == RecordJudgement::Verdict::kReadable) return "readable";
    if (judged.verdict == RecordJudgement::Verdict::kFiltered) return "filtered";
    const std::string part =
        judged.offset ? payload.substr(*judged.offset, judged.size) : std::string("nowhere");
    EXPECT_FALSE(judged.message.empty());
    return judged.code + " " + judged.column + " " + part;
  }

  DomainPlan plan_;
};

TEST_F(RecordJudgeTest, NamesThePartThatIsBad) {
  const std::string good = R"({"type":"transfer","amount":{"value":"120.55"},"note":"no number"})";
  EXPECT_EQ(Judged("volume", good), "readable");  // it does not read the note
  EXPECT_EQ(Judged("volume", R"({"type":"refund","amount":7})"), "filtered");
  EXPECT_EQ(Judged("volume", R"({"type":"transfer","amount":{"value":"1,204.50"}})"),
            R"(BAD_FORMAT amount "1,204.50")");
  EXPECT_EQ(Judged("volume", R"({"type":"transfer","amount":{"value":[1]}})"),
            "WRONG_TYPE amount [1]");
  EXPECT_EQ(Judged("volume", R"({"type":"transfer"})"), "MISSING amount nowhere");
  EXPECT_EQ(Judged("volume", R"({"type":"transfer","type":"refund"})"), "DUPLICATE_KEY  refund");
  EXPECT_EQ(Judged("fees", R"({"type":"transfer","fees":[{"kind":"a"},{"value":"x"}]})"),
            R"(WRONG_TYPE fees "x")");
}

TEST_F(RecordJudgeTest, NamesThePlaceWhereJsonEnds) {
  const std::string payload = R"({"type":"transfer" "amount":1})";
  const RecordJudgement judged = JudgeRecord(plan_, *plan_.Find("volume"), "ledger", payload);
  EXPECT_EQ(judged.code, "INVALID_JSON");
  ASSERT_TRUE(judged.offset.has_value());
  EXPECT_EQ(*judged.offset, payload.find(" \"amount") + 1);
  EXPECT_EQ(JudgeRecord(plan_, *plan_.Find("volume"), "ledger", "").offset, 0u);
}

TEST_F(RecordJudgeTest, OneSourceThatCannotReadItDecides) {
  EXPECT_EQ(Judged("both", R"({"type":"transfer","amount":{"value":"x"}})"),
            R"(BAD_FORMAT amount "x")");
  EXPECT_EQ(Judged("both", R"({"type":"other"})"), "readable");
  const RecordJudgement other = JudgeRecord(plan_, *plan_.Find("both"), "rates", "nope");
  EXPECT_EQ(other.verdict, RecordJudgement::Verdict::kFiltered);
}

}  // namespace
}  // namespace icepie::slices
