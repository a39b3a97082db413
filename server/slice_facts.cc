#include "server/slice_facts.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/proto_time.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;

constexpr int kGenerationsShown = 6;

bool IsPreparing(v1::SliceState state) {
  return state == v1::STARTING || state == v1::BACKFILLING || state == v1::SLICE_STATE_UNSPECIFIED;
}

const icepie::catalog::v1::SliceEntry* FindSlice(const DomainFacts& facts,
                                                 const std::string& slice) {
  auto found = facts.domain->slices.find(slice);
  return found == facts.domain->slices.end() ? nullptr : &found->second;
}

v1::DesiredState::Mode DesiredMode(const DomainFacts& facts, const std::string& slice) {
  const auto* entry = FindSlice(facts, slice);
  return entry == nullptr ? v1::DesiredState::RUN : entry->desired().mode();
}

// The state of a slice that its live worker does not answer for.
v1::SliceState StateWithoutLive(const DomainFacts& facts, const std::string& slice) {
  const auto desired = DesiredMode(facts, slice);
  const auto* entry = FindSlice(facts, slice);
  const bool kept_out = entry != nullptr && SuspensionInForce(*entry) != nullptr;
  if (kept_out || desired == v1::DesiredState::SUSPEND) return v1::SUSPENDED;
  if (desired == v1::DesiredState::FREEZE || facts.workers.safe_mode) return v1::FROZEN;
  const WorkerView& live = facts.workers.live;
  if (live.suspended) return v1::SUSPENDED;
  const auto* last = FindServingReport(live.report.get(), slice);
  if (last == nullptr) return v1::STARTING;
  switch (last->state()) {
    case v1::FAULTED:
    case v1::HELD:
    case v1::BLOCKED:
      return last->state();
    case v1::BACKFILLING:
      return live.client ? v1::BACKFILLING : v1::STARTING;
    default:
      return v1::STARTING;
  }
}

v1::StaleReason ReasonOf(v1::SliceState state) {
  switch (state) {
    case v1::FROZEN:
      return v1::SLICE_FROZEN;
    case v1::FAULTED:
      return v1::SLICE_FAULTED;
    case v1::HELD:
      return v1::SLICE_HELD;
    case v1::BLOCKED:
      return v1::SLICE_BLOCKED;
    case v1::LAGGING:
      return v1::SLICE_LAGGING;
    case v1::SUSPENDED:
      return v1::SLICE_SUSPENDED;
    case v1::STARTING:
    case v1::BACKFILLING:
      return v1::SLICE_BACKFILLING;
    default:
      return v1::STALE_REASON_UNSPECIFIED;
  }
}

// Nothing that the slice would show by now is missing from the snapshot: it is of the generation
// that serves and stands at the head, or the slice has a schedule that is not due yet and its rows
// are those of the live worker.
bool IsComplete(const DomainFacts& facts, const wv1::SliceReport& answered) {
  const auto* entry = FindSlice(facts, answered.slice());
  const int64_t serving = entry != nullptr ? entry->serving_generation() : 0;
  if (serving > 0 && serving != answered.generation()) return false;
  if (answered.applied_position() >= facts.head_position) return true;
  const auto* last = FindServingReport(facts.workers.live.report.get(), answered.slice());
  return last != nullptr && last->has_next_refresh_time() &&
         FromProto(last->next_refresh_time()) > facts.now &&
         last->generation() == answered.generation() &&
         last->content_version() == answered.content_version();
}

v1::StaleReason StandbyReason(const DomainFacts& facts, const wv1::SliceReport& answered,
                              v1::SliceState state) {
  if (state == v1::STARTING || state == v1::BACKFILLING) {
    return IsComplete(facts, answered) ? v1::STALE_REASON_UNSPECIFIED : v1::WORKER_DOWN;
  }
  return ReasonOf(state);
}

google::protobuf::Timestamp StaleSince(const DomainFacts& facts, const wv1::SliceReport& answered,
                                       v1::StaleReason reason) {
  const auto* entry = FindSlice(facts, answered.slice());
  const auto desired = DesiredMode(facts, answered.slice());
  const bool as_desired = (reason == v1::SLICE_FROZEN && desired == v1::DesiredState::FREEZE) ||
                          (reason == v1::SLICE_SUSPENDED && desired == v1::DesiredState::SUSPEND);
  if (as_desired && entry->desired().has_since()) return entry->desired().since();
  const WorkerView& live = facts.workers.live;
  if (reason == v1::SLICE_FROZEN && facts.workers.safe_mode) return live.status.since();
  const auto* kept_out = entry == nullptr ? nullptr : SuspensionInForce(*entry);
  if (reason == v1::SLICE_SUSPENDED && kept_out != nullptr) return kept_out->time();
  // Its death was seen first by the question that it ended.
  if (reason == v1::WORKER_DOWN && LiveAnswers(live, answered.slice())) return ToProto(facts.now);
  if (reason == v1::WORKER_DOWN && live.lost_since < absl::InfiniteFuture()) {
    return ToProto(live.lost_since);
  }
  if (reason == v1::WORKER_DOWN && answered.snapshot().has_time()) {
    return answered.snapshot().time();
  }
  if (reason == v1::SLICE_SUSPENDED) return live.status.since();
  const auto* last = FindServingReport(live.report.get(), answered.slice());
  if (last != nullptr && last->has_state_since()) return last->state_since();
  return answered.has_state_since() ? answered.state_since() : ToProto(facts.now);
}

void FillPosition(const DomainFacts& facts, const wv1::SliceReport& report, v1::SliceMeta& meta) {
  meta.set_generation(report.generation());
  meta.set_definition_hash(report.definition_hash());
  meta.set_applied_position(report.applied_position());
  if (report.has_applied_time()) *meta.mutable_applied_time() = report.applied_time();
  if (report.has_event_time_max()) *meta.mutable_event_time_max() = report.event_time_max();
  meta.set_lag_records(std::max<int64_t>(0, facts.head_position - report.applied_position()));
  meta.set_quarantined_count(report.counts().quarantined());
  meta.set_unacknowledged_count(report.counts().unacknowledged());
  if (report.has_next_refresh_time()) {
    *meta.mutable_next_refresh_time() = report.next_refresh_time();
  }
  meta.set_content_version(report.content_version());
}

// Facts that stay true while the worker is down.
void FillLastKnown(const wv1::SliceReport& report, v1::Slice& out) {
  if (report.has_state_since()) *out.mutable_state_since() = report.state_since();
  if (report.has_last_error()) *out.mutable_last_error() = report.last_error();
  if (report.has_next_retry_time()) *out.mutable_next_retry_time() = report.next_retry_time();
  *out.mutable_counts() = report.counts();
  *out.mutable_expectations() = report.expectations();
  if (!report.snapshot().path().empty()) {
    out.set_snapshot_position(report.snapshot().position());
    *out.mutable_snapshot_time() = report.snapshot().time();
  }
}

void FillFromCatalog(const icepie::catalog::v1::SliceEntry& slice, v1::Slice& out) {
  out.set_name(absl::StrCat(slice.domain(), ".", slice.name()));
  *out.mutable_desired() = slice.desired();
  if (const auto* serving = FindGeneration(slice, slice.serving_generation())) {
    const auto& definition = serving->definition();
    *out.mutable_columns() = definition.columns();
    *out.mutable_key() = definition.key();
    out.set_strategy(definition.strategy());
    out.set_sql(definition.sql());
    *out.mutable_reads() = definition.reads();
  }
  if (slice.has_rolled_back()) *out.mutable_rolled_back() = slice.rolled_back();
  // The newest; ListGenerations has all.
  const int first = std::max(0, slice.generations_size() - kGenerationsShown);
  for (int i = 0; i < slice.generations_size(); ++i) {
    const auto& generation = slice.generations(i).generation();
    if (i >= first || generation.number() == slice.serving_generation()) {
      *out.add_generations() = generation;
    }
  }
}

// Where a generation that the live worker holds stands by now.
void FillGeneration(const WorkerView& live, const std::string& slice, v1::Generation& generation) {
  if (!live.report) return;
  for (const auto& report : live.report->slices()) {
    if (report.slice() != slice || report.generation() != generation.number()) continue;
    generation.set_applied_position(report.applied_position());
    generation.set_quarantined_count(report.counts().quarantined());
  }
}

v1::SliceMeta MetaWithoutReport(const DomainFacts& facts, const std::string& slice) {
  v1::SliceMeta meta;
  meta.set_slice(absl::StrCat(facts.domain->entry.name(), ".", slice));
  meta.set_state(StateWithoutLive(facts, slice));
  meta.set_stale(true);
  meta.set_stale_reason(meta.state() == v1::STARTING ? v1::WORKER_DOWN : ReasonOf(meta.state()));
  meta.set_lag_records(facts.head_position);
  return meta;
}

void AddWaivers(const icepie::catalog::v1::SliceEntry& slice, absl::Time now, v1::Slice& out) {
  for (v1::ExpectationResult& result : *out.mutable_expectations()) {
    const v1::ExpectationWaiver* waiver = FindWaiver(slice, result.name(), now);
    if (waiver != nullptr) *result.mutable_waiver() = *waiver;
  }
}

void AddCondition(const std::string& type, const v1::ExpectationResult& result,
                  const std::string& message, v1::Slice& out) {
  v1::SliceCondition& condition = *out.add_conditions();
  condition.set_type(type);
  condition.set_reason(result.name());
  condition.set_message(message);
  if (result.has_time()) *condition.mutable_time() = result.time();
}

// What wants to be known but does not stop the slice.
void AddConditions(v1::Slice& out) {
  if (out.counts().unacknowledged() > 0) {
    v1::SliceCondition& condition = *out.add_conditions();
    condition.set_type("QUARANTINE");
    condition.set_message(absl::StrCat(out.counts().unacknowledged(),
                                       " quarantined records that nobody has acknowledged"));
  }
  for (const v1::ExpectationResult& result : out.expectations()) {
    if (result.status() == v1::ExpectationResult::FAILED) {
      const std::string what = result.message().empty()
                                   ? absl::StrCat(result.failing_rows(), " failing rows")
                                   : result.message();
      const bool waived = result.has_waiver();
      AddCondition(waived ? "EXPECTATION_WAIVED" : "EXPECTATION_FAILED", result,
                   waived ? absl::StrCat(what, "; waived by ", result.waiver().actor(), ": ",
                                         result.waiver().reason())
                          : what,
                   out);
    } else if (result.status() == v1::ExpectationResult::NOT_CHECKED && !result.message().empty()) {
      AddCondition("EXPECTATION_NOT_CHECKED", result, result.message(), out);
    }
  }
}

// Its worker failed too often and is left alone for a while.
void FillSuspension(const DomainFacts& facts, v1::Slice& out) {
  const auto& live = facts.workers.live.status;
  const std::string& domain = facts.domain->entry.name();
  *out.mutable_state_since() = live.since();
  auto& error = *out.mutable_last_error();
  error.set_reason("WORKER_FAILED_TOO_OFTEN");
  error.set_message(absl::StrCat("the live worker of ", domain, " failed ", live.restarts(),
                                 " times since the daemon's start, last: ", live.last_error(),
                                 "; try at once: icepie domain resume ", domain));
  *error.mutable_time() = live.since();
  out.clear_next_retry_time();
  if (live.has_next_start_time()) *out.mutable_next_retry_time() = live.next_start_time();
}

// It ended its worker again and again and is kept out of it.
void FillSuspension(const icepie::catalog::v1::Suspension& suspension, v1::Slice& out) {
  *out.mutable_state_since() = suspension.time();
  out.mutable_last_error()->set_reason("WORKER_KILLED");
  out.mutable_last_error()->set_message(
      absl::StrCat(suspension.message(),
                   "; change its definition, or try it at once: icepie slice resume ", out.name()));
  *out.mutable_last_error()->mutable_time() = suspension.time();
  *out.mutable_next_retry_time() = suspension.next_try_time();
}

// What the catalog or the daemon wants is not what the last report says.
void FillStopped(const DomainFacts& facts, const icepie::catalog::v1::SliceEntry& slice,
                 v1::Slice& out) {
  const auto desired = slice.desired().mode();
  const auto* kept_out = SuspensionInForce(slice);
  const bool wanted = (out.state() == v1::FROZEN && desired == v1::DesiredState::FREEZE) ||
                      (out.state() == v1::SUSPENDED && desired == v1::DesiredState::SUSPEND);
  if (wanted) {
    if (out.desired().has_since()) *out.mutable_state_since() = out.desired().since();
    out.clear_next_retry_time();
  } else if (out.state() == v1::SUSPENDED && kept_out != nullptr) {
    FillSuspension(*kept_out, out);
  } else if (out.state() == v1::SUSPENDED && facts.workers.live.suspended) {
    FillSuspension(facts, out);
  } else if (out.state() == v1::FROZEN && facts.workers.safe_mode) {
    *out.mutable_state_since() = facts.workers.live.status.since();
    v1::SliceCondition& condition = *out.add_conditions();
    condition.set_type("SAFE_MODE");
    condition.set_message(
        "the daemon was started with --safe-mode; icepie leave-safe-mode ends it");
  }
}

}  // namespace

const v1::ExpectationWaiver* FindWaiver(const icepie::catalog::v1::SliceEntry& slice,
                                        const std::string& expectation, absl::Time now) {
  for (const v1::ExpectationWaiver& waiver : slice.waivers()) {
    const bool ended = waiver.has_until() && FromProto(waiver.until()) <= now;
    if (waiver.expectation() == expectation && !ended) return &waiver;
  }
  return nullptr;
}

const wv1::SliceReport* FindServingReport(const wv1::WorkerReport* report,
                                          const std::string& slice) {
  if (report == nullptr) return nullptr;
  for (const auto& candidate : report->slices()) {
    if (candidate.slice() == slice && candidate.serving()) return &candidate;
  }
  return nullptr;
}

bool LiveAnswers(const WorkerView& live, const std::string& slice) {
  if (!live.client) return false;
  const auto* report = FindServingReport(live.report.get(), slice);
  return report != nullptr && !IsPreparing(report->state());
}

bool Answers(const DomainView& workers, const std::string& slice) {
  if (LiveAnswers(workers.live, slice)) return true;
  return workers.standby.client != nullptr &&
         FindServingReport(workers.standby.report.get(), slice) != nullptr &&
         !FindServingReport(workers.standby.report.get(), slice)->snapshot().path().empty();
}

v1::SliceMeta MakeSliceMeta(const DomainFacts& facts, const wv1::SliceReport& answered,
                            v1::Source source) {
  v1::SliceMeta meta;
  meta.set_slice(absl::StrCat(facts.domain->entry.name(), ".", answered.slice()));
  meta.set_source(source);
  FillPosition(facts, answered, meta);
  if (source == v1::SNAPSHOT) {
    // It is what was asked for, and does not get old.
    const auto* now = FindServingReport(facts.workers.live.report.get(), answered.slice());
    const bool known = facts.workers.live.client != nullptr && now != nullptr;
    meta.set_state(known ? now->state() : StateWithoutLive(facts, answered.slice()));
    *meta.mutable_snapshot_time() = answered.snapshot().time();
    return meta;
  }
  const bool live = source == v1::LIVE;
  meta.set_state(live ? answered.state() : StateWithoutLive(facts, answered.slice()));
  const v1::StaleReason reason =
      live ? ReasonOf(answered.state()) : StandbyReason(facts, answered, meta.state());
  meta.set_stale_reason(reason);
  meta.set_stale(reason != v1::STALE_REASON_UNSPECIFIED);
  if (meta.stale()) *meta.mutable_stale_since() = StaleSince(facts, answered, reason);
  return meta;
}

v1::Slice DescribeSlice(const DomainFacts& facts, const icepie::catalog::v1::SliceEntry& slice) {
  v1::Slice out;
  out.set_snapshot_position(-1);
  out.set_standby_position(-1);
  FillFromCatalog(slice, out);
  const WorkerView& live = facts.workers.live;
  const WorkerView& standby = facts.workers.standby;
  const auto* from_live = FindServingReport(live.report.get(), slice.name());
  const auto* from_standby = FindServingReport(standby.report.get(), slice.name());
  if (from_standby != nullptr && from_standby->snapshot().path().empty()) from_standby = nullptr;
  if (from_standby != nullptr) FillLastKnown(*from_standby, out);
  if (from_standby != nullptr && standby.client != nullptr) {
    out.set_standby_position(from_standby->snapshot().position());
    *out.mutable_standby_time() = from_standby->snapshot().time();
  }
  if (from_live != nullptr) FillLastKnown(*from_live, out);
  if (LiveAnswers(live, slice.name()) || (live.client && from_live && !from_standby)) {
    *out.mutable_meta() = MakeSliceMeta(facts, *from_live, v1::LIVE);
  } else if (from_standby != nullptr) {
    *out.mutable_meta() = MakeSliceMeta(facts, *from_standby, v1::STANDBY);
  } else {
    *out.mutable_meta() = MetaWithoutReport(facts, slice.name());
  }
  out.set_state(out.meta().state());
  FillStopped(facts, slice, out);
  AddWaivers(slice, facts.now, out);
  AddConditions(out);
  const absl::Time observed = std::max(live.report_time, standby.report_time);
  if (observed > absl::InfinitePast()) *out.mutable_observed_time() = ToProto(observed);
  for (auto& generation : *out.mutable_generations()) {
    FillGeneration(live, slice.name(), generation);
    if (generation.number() == out.meta().generation()) {
      generation.set_applied_position(out.meta().applied_position());
    }
  }
  return out;
}

v1::ListGenerationsResponse DescribeGenerations(const DomainFacts& facts,
                                                const icepie::catalog::v1::SliceEntry& slice) {
  v1::ListGenerationsResponse out;
  out.set_serving_generation(slice.serving_generation());
  if (slice.has_rolled_back()) *out.mutable_rolled_back() = slice.rolled_back();
  for (auto entry = slice.generations().rbegin(); entry != slice.generations().rend(); ++entry) {
    *out.add_generations() = entry->generation();
    FillGeneration(facts.workers.live, slice.name(), *out.mutable_generations()->rbegin());
  }
  return out;
}

v1::Slice DescribeHeldSlice(const std::string& domain, const std::string& slice,
                            const std::string& why) {
  v1::Slice out;
  out.set_name(absl::StrCat(domain, ".", slice));
  out.set_state(v1::HELD);
  out.set_snapshot_position(-1);
  out.set_standby_position(-1);
  out.mutable_last_error()->set_reason("CATALOG_DAMAGED");
  out.mutable_last_error()->set_message(absl::StrCat(why, "; apply the domain's file again"));
  out.mutable_meta()->set_slice(out.name());
  out.mutable_meta()->set_state(v1::HELD);
  out.mutable_meta()->set_stale(true);
  out.mutable_meta()->set_stale_reason(v1::SLICE_HELD);
  return out;
}

int HealthRank(v1::SliceState state) {
  switch (state) {
    case v1::HELD:
    case v1::FAULTED:
    case v1::SUSPENDED:
      return 0;
    case v1::BLOCKED:
    case v1::FROZEN:
      return 1;
    case v1::STARTING:
    case v1::BACKFILLING:
    case v1::LAGGING:
      return 2;
    default:
      return 3;
  }
}

}  // namespace icepie::server
