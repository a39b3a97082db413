#include "server/domain/slice_facts.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/proto_time.h"
#include "server/domain/desired_change.h"
#include "server/query/staleness.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;

constexpr int kGenerationsShown = 6;
// A live worker that can say so calls a slice LAGGING a second earlier (LiveEngine::Late).
constexpr absl::Duration kUnseenAllowed = absl::Seconds(3);

bool IsPreparing(v1::SliceState state) {
  return state == v1::STARTING || state == v1::BACKFILLING || state == v1::SLICE_STATE_UNSPECIFIED;
}

// It will not get further by itself.
bool StandsStill(v1::SliceState state) {
  return state == v1::FROZEN || state == v1::FAULTED || state == v1::HELD || state == v1::BLOCKED ||
         state == v1::SUSPENDED;
}

const icepie::catalog::v1::SliceEntry* FindSlice(const DomainFacts& facts,
                                                 const std::string& slice) {
  auto found = facts.domain->slices.find(slice);
  return found == facts.domain->slices.end() ? nullptr : &found->second;
}

// Its entry in the catalog, or its domain's, is damaged.
bool IsHeld(const DomainFacts& facts, const std::string& slice) {
  return !facts.domain->held.empty() || facts.domain->damaged_slices.count(slice) > 0;
}

v1::DesiredState::Mode DesiredMode(const DomainFacts& facts, const std::string& slice) {
  const auto* entry = FindSlice(facts, slice);
  return entry == nullptr ? v1::DesiredState::RUN : entry->desired().mode();
}

bool IsComplete(const DomainFacts& facts, const wv1::SliceReport& answered);

// Of a hibernating domain: as long as nothing is missing from what was saved, it does what it
// promises; else its live worker is about to be woken, or waits for its turn.
v1::SliceState RestingState(const DomainFacts& facts, const std::string& slice) {
  const WorkerView& live = facts.workers.live;
  const auto* last = FindServingReport(live.report.get(), slice);
  if (last == nullptr) return v1::STARTING;
  if (IsComplete(facts, *last)) return v1::RUNNING;
  const bool late = AwaitsTurn(live) && facts.now - FromProto(live.status.since()) > kUnseenAllowed;
  return late ? v1::LAGGING : v1::STARTING;
}

// The state of a slice that its live worker does not answer for.
v1::SliceState StateWithoutLive(const DomainFacts& facts, const std::string& slice) {
  if (IsHeld(facts, slice)) return v1::HELD;
  const auto desired = DesiredMode(facts, slice);
  const auto* entry = FindSlice(facts, slice);
  const bool kept_out = entry != nullptr && SuspensionInForce(*entry) != nullptr;
  if (kept_out || desired == v1::DesiredState::SUSPEND) return v1::SUSPENDED;
  if (desired == v1::DesiredState::FREEZE || facts.workers.safe_mode) return v1::FROZEN;
  const WorkerView& live = facts.workers.live;
  if (live.suspended) return v1::SUSPENDED;
  if (IsResting(live)) return RestingState(facts, slice);
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

// Streams that the slice reads, directly or through other slices of its domain.
void AddStreams(const DomainFacts& facts, const std::string& slice, std::set<std::string>& seen,
                std::set<std::string>& streams) {
  const auto* entry = FindSlice(facts, slice);
  if (entry == nullptr || !seen.insert(slice).second) return;
  const auto* serving = FindGeneration(*entry, entry->serving_generation());
  if (serving == nullptr) return;
  for (const std::string& read : serving->definition().reads()) {
    streams.insert(read);  // a stream may have the name of a slice
    AddStreams(facts, read, seen, streams);
  }
}

// Applies every record as it comes, by the word of the live worker: it has neither a schedule nor a
// share of the time to keep to, and so have the slices that it reads.
bool KeepsUp(const DomainFacts& facts, const wv1::SliceReport& report,
             std::set<std::string>& seen) {
  if (report.strategy() == "recompute" || report.has_next_refresh_time()) return false;
  const auto& reads = report.reads();
  return std::all_of(reads.begin(), reads.end(), [&](const std::string& read) {
    if (FindSlice(facts, read) == nullptr || !seen.insert(read).second) return true;
    const auto* upstream = FindServingReport(facts.workers.live.report.get(), read);
    return upstream == nullptr || KeepsUp(facts, *upstream, seen);
  });
}

// For how long a record that concerns the slice has waited, although it was RUNNING when it stood
// where `answered` says, `age` ago; zero: for no longer than it may.
absl::Duration UnseenFor(const DomainFacts& facts, const wv1::SliceReport& answered,
                         absl::Duration age) {
  const int64_t position = answered.applied_position();
  if (!facts.beyond_for || position >= facts.head_position) return absl::ZeroDuration();
  std::set<std::string> seen;
  std::set<std::string> streams;
  AddStreams(facts, answered.slice(), seen, streams);
  absl::Duration longest;
  for (const std::string& stream : streams) {
    longest = std::max(longest, facts.beyond_for(stream, position));
  }
  seen = {answered.slice()};
  const bool late = longest - age > kUnseenAllowed && KeepsUp(facts, answered, seen);
  return late ? longest : absl::ZeroDuration();
}

// Nothing that the slice would show by now is missing from the snapshot: it is of the generation
// that serves and there is no record beyond it, or the slice has a schedule that is not due yet and
// its rows are those of the live worker. What a log that has lost its end, or cannot be read, has
// had beyond it nobody knows.
bool IsComplete(const DomainFacts& facts, const wv1::SliceReport& answered) {
  if (facts.head_position < answered.applied_position()) return false;
  const auto* entry = FindSlice(facts, answered.slice());
  const int64_t serving = entry != nullptr ? entry->serving_generation() : 0;
  if (serving > 0 && serving != answered.generation()) return false;
  if (!HasUnseen(facts, answered.slice(), answered.applied_position())) return true;
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

// The ingest time of the oldest record that the slice has not seen, of those of the streams that it
// reads: which of them concern it nobody knows but itself. InfiniteFuture: it has seen all, or that
// would take a look into the core that is not to be, or failed.
absl::Time OldestRead(const DomainFacts& facts, const wv1::SliceReport& answered) {
  const int64_t position = answered.applied_position();
  absl::Time oldest = absl::InfiniteFuture();
  if (!facts.oldest_beyond || !HasUnseen(facts, answered.slice(), position)) return oldest;
  std::set<std::string> seen;
  std::set<std::string> streams;
  AddStreams(facts, answered.slice(), seen, streams);
  for (const std::string& stream : streams) {
    oldest = std::min(oldest, facts.oldest_beyond(stream, position));
  }
  return oldest;
}

google::protobuf::Timestamp StaleSince(const DomainFacts& facts, const wv1::SliceReport& answered,
                                       v1::StaleReason reason) {
  if (IsHeld(facts, answered.slice())) return ToProto(facts.domain->load_time);
  const auto* entry = FindSlice(facts, answered.slice());
  const auto desired = DesiredMode(facts, answered.slice());
  const bool as_desired = (reason == v1::SLICE_FROZEN && desired == v1::DesiredState::FREEZE) ||
                          (reason == v1::SLICE_SUSPENDED && desired == v1::DesiredState::SUSPEND);
  if (as_desired && entry->desired().has_since()) return entry->desired().since();
  const WorkerView& live = facts.workers.live;
  if (reason == v1::SLICE_FROZEN && facts.workers.safe_mode) return live.status.since();
  const auto* kept_out = entry == nullptr ? nullptr : SuspensionInForce(*entry);
  if (reason == v1::SLICE_SUSPENDED && kept_out != nullptr) return kept_out->time();
  // It was heard last then, and its death, or that it stands still, was seen first by the question
  // that it did not answer.
  if (reason == v1::WORKER_DOWN && LiveAnswers(live, answered.slice())) {
    return ToProto(std::min({facts.now, live.report_time, OldestRead(facts, answered)}));
  }
  if (AwaitsTurn(live) && (reason == v1::WORKER_DOWN || reason == v1::SLICE_LAGGING)) {
    return live.status.since();
  }
  const bool still_ends = live.status.pid() != 0;
  if (reason == v1::WORKER_DOWN && IsResting(live) && !still_ends) {
    return ToProto(facts.now);  // it is being woken
  }
  if (reason == v1::WORKER_DOWN && live.lost_since < absl::InfiniteFuture()) {
    return ToProto(std::min(live.lost_since, OldestRead(facts, answered)));
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
  for (const v1::ExpectationResult& result : report.expectations()) {
    const bool stopped = result.status() == v1::ExpectationResult::STOPPED;
    if (stopped || result.status() == v1::ExpectationResult::FAILED) {
      meta.add_failed_expectations(result.name());
    }
  }
  if (report.has_next_refresh_time()) {
    *meta.mutable_next_refresh_time() = report.next_refresh_time();
  }
  meta.set_content_version(report.content_version());
}

// The same, or what it cannot be older than.
// `stands`: its position does not move with every question, so that it is worth a look into the
// core.
absl::Time OldestUnseen(const DomainFacts& facts, const wv1::SliceReport& answered, bool stands) {
  const absl::Time oldest = stands ? OldestRead(facts, answered) : absl::InfiniteFuture();
  if (oldest < absl::InfiniteFuture() || !answered.has_applied_time() ||
      !HasUnseen(facts, answered.slice(), answered.applied_position())) {
    return oldest;
  }
  return FromProto(answered.applied_time());
}

// How long the oldest record waits that concerns the slice. Only its own live worker knows exactly,
// and may not, or is not asked any more: `unseen` is what is known without it.
void FillLag(const DomainFacts& facts, const wv1::SliceReport& answered, absl::Duration unseen,
             v1::SliceMeta& meta) {
  absl::Time waits_since = absl::InfiniteFuture();
  if (answered.has_oldest_unapplied_time()) {
    waits_since = FromProto(answered.oldest_unapplied_time());
  } else if (unseen > absl::ZeroDuration()) {
    waits_since = facts.now - unseen;
  } else if (meta.stale()) {
    const bool stands = meta.source() != v1::LIVE || StandsStill(meta.state());
    waits_since = OldestUnseen(facts, answered, stands);
  }
  if (waits_since >= facts.now) return;
  *meta.mutable_lag_time() = ToProto(facts.now - waits_since);
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
    if (definition.has_max_stale()) *out.mutable_max_stale() = definition.max_stale();
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
    if (report.has_applied_time()) *generation.mutable_applied_time() = report.applied_time();
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
  condition.set_status(v1::SliceCondition::TRUE);
  condition.set_reason(result.name());
  condition.set_message(message);
  if (result.has_time()) *condition.mutable_time() = result.time();
}

// What wants to be known but does not stop the slice.
void AddConditions(v1::Slice& out) {
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
    } else if (result.status() != v1::ExpectationResult::PASSED && !result.message().empty()) {
      AddCondition("EXPECTATION_NOT_CHECKED", result, result.message(), out);
    }
  }
}

void AddCondition(const std::string& type, bool holds, const std::string& reason,
                  const std::string& message, v1::Slice& out) {
  v1::SliceCondition& condition = *out.add_conditions();
  condition.set_type(type);
  condition.set_status(holds ? v1::SliceCondition::TRUE : v1::SliceCondition::FALSE);
  condition.set_reason(reason);
  condition.set_message(message);
}

google::protobuf::Timestamp* LastTime(v1::Slice& out) {
  return out.mutable_conditions()->rbegin()->mutable_time();
}

// Its worker failed too often and is left alone for a while.
void FillSuspension(const DomainFacts& facts, v1::Slice& out) {
  const auto& live = facts.workers.live.status;
  const std::string& domain = facts.domain->entry.name();
  *out.mutable_state_since() = live.since();
  auto& error = *out.mutable_last_error();
  error.set_reason("WORKER_FAILED_TOO_OFTEN");
  error.set_message(absl::StrCat("the live worker of ", domain, " failed ", live.restarts(),
                                 " times, last: ", live.last_error(),
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

// It works again once its worker does.
void FillWaitsForWorker(const WorkerView& live, v1::Slice& out) {
  if (live.lost_since < absl::InfiniteFuture()) {
    *out.mutable_state_since() = ToProto(live.lost_since);
  } else if (live.status.has_since()) {
    *out.mutable_state_since() = live.status.since();
  }
  out.clear_next_retry_time();
  const bool waits = live.status.pid() == 0 && live.status.has_next_start_time();
  if (waits) *out.mutable_next_retry_time() = live.status.next_start_time();
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
    AddCondition("SAFE_MODE", true, "STARTED_SO", "icepie leave-safe-mode ends it", out);
  } else if (const WorkerView& live = facts.workers.live;
             out.state() == v1::STARTING && !live.client && !IsResting(live)) {
    FillWaitsForWorker(live, out);
  }
}

// Whether and from where it answers, whether fresh, and what stands behind it.
void AddAlwaysConditions(const DomainFacts& facts, v1::Slice& out) {
  const auto& [live, standby, safe_mode, spare] = facts.workers;
  const std::string slice = out.name().substr(out.name().find('.') + 1);
  const bool by_live = LiveAnswers(live, slice);
  if (IsResting(live)) {
    const bool waits = AwaitsTurn(live);
    AddCondition("HIBERNATING", true, waits ? "AWAITS_TURN" : "IDLE",
                 absl::StrCat("a question starts its standby, ",
                              waits ? "its live worker starts when others have had their turn"
                                    : "a record that concerns it its live worker"),
                 out);
    *LastTime(out) = live.status.since();
  }
  if (by_live || Answers(facts.workers, slice)) {
    const bool on_demand = !by_live && !standby.client;
    const bool is_lost = !live.client && !IsResting(live);
    AddCondition("ANSWERS", true,
                 by_live     ? "LIVE"
                 : on_demand ? "ON_DEMAND"
                             : "STANDBY",
                 is_lost ? live.status.last_error() : "", out);
    *LastTime(out) = by_live ? live.status.since() : standby.status.since();
  } else {
    AddCondition("ANSWERS", false, out.snapshot_position() < 0 ? "NO_SNAPSHOT_YET" : "WORKER_LOST",
                 live.status.last_error(), out);
    if (live.status.has_since()) *LastTime(out) = live.status.since();
  }
  if (out.meta().stale()) {
    AddCondition("FRESH", false, v1::StaleReason_Name(out.meta().stale_reason()), "", out);
    if (out.meta().has_stale_since()) *LastTime(out) = out.meta().stale_since();
  } else {
    AddCondition("FRESH", true, "UP_TO_DATE", "", out);
    if (out.has_state_since()) *LastTime(out) = out.state_since();
  }
  if (out.standby_position() >= 0) {
    AddCondition("STANDBY_READY", true, "SNAPSHOT_OPEN",
                 absl::StrCat("at position ", out.standby_position()), out);
  } else {
    AddCondition("STANDBY_READY", false,
                 IsResting(standby) ? "RESTS"
                 : standby.client   ? "NO_SNAPSHOT_YET"
                                    : "WORKER_DOWN",
                 standby.status.last_error(), out);
  }
  if (standby.status.has_since()) *LastTime(out) = standby.status.since();
}

void AddNotSaved(const wv1::SliceReport& report, v1::Slice& out) {
  if (!report.has_not_saved()) return;
  AddCondition("NOT_SAVED", true, report.not_saved().reason(), report.not_saved().message(), out);
  *LastTime(out) = report.not_saved().time();
}

void AddOtherConditions(v1::Slice& out) {
  if (const int64_t count = out.counts().quarantined(); count > 0) {
    AddCondition("QUARANTINE", true, "BAD_RECORDS",
                 absl::StrCat(count, count == 1 ? " record" : " records",
                              ", not acknowledged: ", out.counts().unacknowledged(),
                              "; icepie slice quarantine ", out.name()),
                 out);
  }
  if (!out.has_rolled_back()) return;
  AddCondition("ROLLED_BACK", true, "OTHER_THAN_ITS_FILE",
               absl::StrCat("by ", out.rolled_back().actor(), ": ", out.rolled_back().reason()),
               out);
  *LastTime(out) = out.rolled_back().time();
}

// It is there to remind somebody; it thaws nothing.
void AddFreezeOverdue(absl::Time now, v1::Slice& out) {
  if (!IsFreezeOverdue(out.desired(), now)) return;
  AddCondition("FREEZE_OVERDUE", true, "REMIND_TIME_PASSED",
               OverdueMessage(out.name(), out.desired()), out);
  *LastTime(out) = out.desired().remind_time();
}

// What stops it now and is not tried again.
bool IsStoppedForGood(const v1::Slice& slice) {
  return slice.state() == v1::HELD ||
         (slice.state() == v1::FAULTED && !slice.has_next_retry_time());
}

void AddDependants(const CatalogDomain& domain, const std::string& slice, v1::Slice& out) {
  for (const auto& [name, entry] : domain.slices) {
    const auto* serving = FindGeneration(entry, entry.serving_generation());
    if (serving == nullptr) continue;
    const auto& reads = serving->definition().reads();
    if (std::find(reads.begin(), reads.end(), slice) == reads.end()) continue;
    out.add_dependants(absl::StrCat(domain.entry.name(), ".", name));
  }
}

}  // namespace

bool HasUnseen(const DomainFacts& facts, const std::string& slice, int64_t position) {
  if (position >= facts.head_position) return false;
  if (!facts.has_beyond) return true;
  std::set<std::string> seen;
  std::set<std::string> streams;
  AddStreams(facts, slice, seen, streams);
  return std::any_of(streams.begin(), streams.end(),
                     [&](const std::string& stream) { return facts.has_beyond(stream, position); });
}

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
  return report != nullptr && !IsPreparing(report->state()) && !report->no_rows();
}

bool Answers(const DomainView& workers, const std::string& slice) {
  if (LiveAnswers(workers.live, slice)) return true;
  if (IsResting(workers.live)) {
    // A question starts the standby.
    const auto* last = FindServingReport(workers.live.report.get(), slice);
    if (last != nullptr && !last->snapshot().path().empty()) return true;
  }
  return workers.standby.client != nullptr &&
         FindServingReport(workers.standby.report.get(), slice) != nullptr &&
         !FindServingReport(workers.standby.report.get(), slice)->snapshot().path().empty();
}

v1::SliceMeta MakeSliceMeta(const DomainFacts& facts, const wv1::SliceReport& answered,
                            v1::Source source, absl::Duration age) {
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
  if (!live && meta.state() == v1::RUNNING && !IsComplete(facts, answered)) {
    meta.set_state(v1::STARTING);  // its last snapshot is not in this standby yet
  }
  const absl::Duration unseen = live && answered.state() == v1::RUNNING
                                    ? UnseenFor(facts, answered, age)
                                    : absl::ZeroDuration();
  if (unseen > absl::ZeroDuration()) meta.set_state(v1::LAGGING);
  if (IsHeld(facts, answered.slice())) meta.set_state(v1::HELD);
  const v1::StaleReason reason =
      live ? ReasonOf(meta.state()) : StandbyReason(facts, answered, meta.state());
  meta.set_stale_reason(reason);
  meta.set_stale(reason != v1::STALE_REASON_UNSPECIFIED);
  FillLag(facts, answered, unseen, meta);
  if (unseen > absl::ZeroDuration()) {
    *meta.mutable_stale_since() = ToProto(facts.now - unseen);
  } else if (meta.stale()) {
    *meta.mutable_stale_since() = StaleSince(facts, answered, reason);
  }
  return meta;
}

absl::Status CheckMaxStale(const CatalogDomain& domain, const v1::SliceMeta& meta, absl::Time now) {
  if (!meta.stale() || !meta.has_stale_since()) return absl::OkStatus();
  const auto entry = domain.slices.find(meta.slice().substr(meta.slice().find('.') + 1));
  if (entry == domain.slices.end()) return absl::OkStatus();
  const auto* serving = FindGeneration(entry->second, entry->second.serving_generation());
  if (serving == nullptr) return absl::OkStatus();
  const v1::MaxStale& max_stale = serving->definition().max_stale();
  if (max_stale.then() != v1::MaxStale::FAIL) return absl::OkStatus();
  return CheckStaleFor(meta, absl::Milliseconds(max_stale.after_ms()), "its max_stale", now);
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
  if (from_live != nullptr && live.client) AddNotSaved(*from_live, out);
  // Of a resting live worker, what it has saved is what a standby would answer with.
  const bool saved = IsResting(live) && from_live != nullptr &&
                     !from_live->snapshot().path().empty() &&
                     (live.status.pid() == 0 || HasSaved(*from_live));
  const bool saved_later = saved && (from_standby == nullptr || from_standby->applied_position() <
                                                                    from_live->applied_position());
  if (LiveAnswers(live, slice.name()) || (live.client && from_live && !from_standby)) {
    *out.mutable_meta() = MakeSliceMeta(
        facts, *from_live, v1::LIVE, std::max(absl::ZeroDuration(), facts.now - live.report_time));
  } else if (saved_later) {
    *out.mutable_meta() = MakeSliceMeta(facts, *from_live, v1::STANDBY);
  } else if (from_standby != nullptr) {
    *out.mutable_meta() = MakeSliceMeta(facts, *from_standby, v1::STANDBY);
  } else {
    *out.mutable_meta() = MetaWithoutReport(facts, slice.name());
  }
  out.set_state(out.meta().state());
  if (out.state() == v1::LAGGING && from_live != nullptr && from_live->state() == v1::RUNNING) {
    *out.mutable_state_since() = out.meta().stale_since();
  }
  FillStopped(facts, slice, out);
  if (out.has_last_error()) out.mutable_last_error()->set_permanent(IsStoppedForGood(out));
  AddDependants(*facts.domain, slice.name(), out);
  AddWaivers(slice, facts.now, out);
  AddAlwaysConditions(facts, out);
  AddOtherConditions(out);
  AddFreezeOverdue(facts.now, out);
  AddConditions(out);
  const absl::Time observed = std::max(live.report_time, standby.report_time);
  if (observed > absl::InfinitePast()) *out.mutable_observed_time() = ToProto(observed);
  for (auto& generation : *out.mutable_generations()) {
    FillGeneration(live, slice.name(), generation);
    if (generation.number() == out.meta().generation()) {
      generation.set_applied_position(out.meta().applied_position());
      if (out.meta().has_applied_time()) {
        *generation.mutable_applied_time() = out.meta().applied_time();
      }
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

v1::Slice DescribeHeldSlice(const DomainFacts& facts, const std::string& slice) {
  const CatalogDomain& domain = *facts.domain;
  const auto damaged = domain.damaged_slices.find(slice);
  const bool is_damaged = damaged != domain.damaged_slices.end();
  const auto* entry = FindSlice(facts, slice);
  v1::Slice out;
  out.set_name(absl::StrCat(domain.entry.name(), ".", slice));
  if (is_damaged) *out.mutable_desired() = damaged->second.desired;
  if (entry != nullptr) *out.mutable_desired() = entry->desired();
  out.set_state(v1::HELD);
  out.set_snapshot_position(-1);
  out.set_standby_position(-1);
  const WorkerView& standby = facts.workers.standby;
  const auto* report = FindServingReport(standby.report.get(), slice);
  if (report != nullptr && !report->snapshot().path().empty()) {
    FillLastKnown(*report, out);
    *out.mutable_meta() = MakeSliceMeta(facts, *report, v1::STANDBY);
    if (standby.client) {
      out.set_standby_position(out.snapshot_position());
      *out.mutable_standby_time() = out.snapshot_time();
    }
  } else {
    *out.mutable_meta() = MetaWithoutReport(facts, slice);
  }
  *out.mutable_meta()->mutable_stale_since() = ToProto(domain.load_time);
  *out.mutable_state_since() = ToProto(domain.load_time);
  out.clear_next_retry_time();
  v1::SliceError& error = *out.mutable_last_error();
  error.set_reason("CATALOG_DAMAGED");
  error.set_message(absl::StrCat(is_damaged ? damaged->second.why : domain.held,
                                 "; apply the domain's file again"));
  *error.mutable_time() = ToProto(domain.load_time);
  error.set_permanent(true);
  AddAlwaysConditions(facts, out);
  AddOtherConditions(out);
  AddFreezeOverdue(facts.now, out);
  AddConditions(out);
  return out;
}

std::vector<std::string> LeavingSlices(const DomainFacts& facts) {
  std::set<std::string> names;
  if (!facts.domain->held.empty()) return {};
  for (const WorkerView* worker : {&facts.workers.live, &facts.workers.standby}) {
    if (!worker->client || !worker->report) continue;
    for (const auto& report : worker->report->slices()) names.insert(report.slice());
  }
  for (const auto& [name, slice] : facts.domain->slices) {
    names.erase(name);
    names.erase(slice.renamed_from());
  }
  for (const auto& [name, damaged] : facts.domain->damaged_slices) names.erase(name);
  return {names.begin(), names.end()};
}

v1::Slice DescribeLeavingSlice(const DomainFacts& facts, const std::string& slice) {
  const auto& entry = facts.domain->entry;
  v1::Slice out;
  if (const auto* known = FindSlice(facts, slice)) FillFromCatalog(*known, out);
  out.set_name(absl::StrCat(entry.name(), ".", slice));
  out.set_state(v1::DELETING);
  out.set_snapshot_position(-1);
  out.set_standby_position(-1);
  const bool whole = entry.has_deletion();
  const auto& since = whole ? entry.deletion().time() : entry.apply_time();
  const bool over = whole && FromProto(entry.deletion().purge_time()) <= facts.now;
  const std::string message =
      whole ? absl::StrCat("its domain was deleted by ", entry.deletion().actor(), "; its ",
                           over ? "files are being removed" : "workers are ending")
            : absl::StrCat("revision ", entry.revision(), " of ", entry.actor(), " has it no more");
  *out.mutable_state_since() = since;
  v1::SliceMeta& meta = *out.mutable_meta();
  meta.set_slice(out.name());
  meta.set_state(v1::DELETING);
  meta.set_stale(true);
  meta.set_stale_reason(v1::WORKER_DOWN);
  *meta.mutable_stale_since() = since;
  for (const char* type : {"ANSWERS", "FRESH", "STANDBY_READY"}) {
    AddCondition(type, false, whole ? "DOMAIN_DELETED" : "LEFT_ITS_FILE", message, out);
    *LastTime(out) = since;
  }
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
    case v1::DELETING:
      return 2;
    default:
      return 3;
  }
}

}  // namespace icepie::server
