#include "server/domain/promotion.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "server/base/proto_time.h"
#include "server/domain/definition_changes.h"
#include "server/domain/slice_facts.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace cv1 = icepie::catalog::v1;
using v1::Generation;

// Ended generations that are still listed.
constexpr int kHistoryKept = 20;
constexpr absl::Duration kKeepReplacedDefault = absl::Hours(1);
// Two generations that follow the same track differ by no more than a batch.
constexpr int64_t kCaughtUpRecords = 4096;

absl::Status Refused(absl::string_view reason, const std::string& why) {
  return MakeError(absl::StatusCode::kFailedPrecondition, why, std::string(reason));
}

absl::Duration KeepReplaced(const v1::PromotePolicy& policy) {
  return policy.has_keep_replaced_ms() ? absl::Milliseconds(policy.keep_replaced_ms())
                                       : kKeepReplacedDefault;
}

}  // namespace

absl::Status GateError(const std::string& slice, int64_t generation, const std::string& gate,
                       const std::string& why) {
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat(slice, " generation ", generation, " cannot be promoted: ", why),
                   "PROMOTE_GATE_FAILED",
                   {{"gate", gate}, {"generation", absl::StrCat(generation)}});
}

absl::Status GenerationNotFound(const std::string& slice, int64_t generation) {
  return MakeError(absl::StatusCode::kNotFound,
                   absl::StrCat("slice ", slice, " has no generation ", generation,
                                "; `icepie slice history ", slice, "` lists them"),
                   "GENERATION_NOT_FOUND", {{"generation", absl::StrCat(generation)}});
}

const cv1::SliceDefinition* FindDefinition(const CatalogDomain& domain, const std::string& slice) {
  for (const auto& definition : domain.entry.definitions()) {
    if (definition.name() == slice) return &definition;
  }
  return nullptr;
}

bool IsWarm(const Generation& generation, absl::Time now) {
  return generation.has_warm_until() && FromProto(generation.warm_until()) > now;
}

bool HasPromotion(const CatalogDomain& domain, absl::Time now) {
  const auto catches_up = [now](const cv1::GenerationEntry& entry) {
    return entry.generation().state() == Generation::READY && IsWarm(entry.generation(), now);
  };
  return std::any_of(domain.slices.begin(), domain.slices.end(), [&](const auto& slice) {
    const auto& generations = slice.second.generations();
    return std::any_of(generations.begin(), generations.end(), catches_up);
  });
}

std::set<int64_t> GenerationsWithState(const cv1::SliceEntry& slice, absl::Time now) {
  std::set<int64_t> wanted = {slice.serving_generation()};
  for (const auto& entry : slice.generations()) {
    const Generation& generation = entry.generation();
    const bool pending =
        generation.state() == Generation::BUILDING || generation.state() == Generation::READY;
    if (pending || IsWarm(generation, now)) wanted.insert(generation.number());
  }
  return wanted;
}

void DropHistory(cv1::SliceEntry& slice, absl::Time now) {
  const std::set<int64_t> wanted = GenerationsWithState(slice, now);
  int ended = 0;
  auto& entries = *slice.mutable_generations();
  for (int i = entries.size() - 1; i >= 0; --i) {
    if (wanted.count(entries[i].generation().number()) > 0) continue;
    if (++ended > kHistoryKept) entries.erase(entries.begin() + i);
  }
}

bool HasLimits(const v1::PromotePolicy& policy) {
  return policy.has_changed_rows_percent() || policy.has_changed_rows() ||
         policy.has_added_rows() || policy.has_removed_rows();
}

namespace {

// Who asks for a column that is gone, or is of another type, would get an error or something else.
absl::Status CheckColumns(const std::string& slice, const Generation& generation) {
  for (const auto& column : generation.diff().columns()) {
    if (column.base_type().empty()) continue;  // a new one
    const std::string what =
        column.new_type().empty()
            ? " is gone"
            : absl::StrCat(" becomes ", column.new_type(), " (was ", column.base_type(), ")");
    return GateError(slice, generation.number(), "columns",
                     absl::StrCat("column ", column.name(), what,
                                  ", which may break who asks for it; promote it by hand"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckLimits(const std::string& slice, const v1::PromotePolicy& policy,
                         const Generation& generation) {
  const int64_t number = generation.number();
  const v1::GenerationDiff& diff = generation.diff();
  ICEPIE_RETURN_IF_ERROR(CheckColumns(slice, generation));
  if (HasLimits(policy) && (!generation.has_diff() || !diff.unavailable().empty())) {
    return GateError(slice, number, "limits",
                     absl::StrCat("the file limits what may change, but there is no row diff: ",
                                  diff.unavailable(), "; promote it by hand, or reslice it"));
  }
  const auto over = [&](const char* name, bool has, double limit, double value) {
    if (!has || value <= limit) return absl::OkStatus();
    return GateError(
        slice, number, "limits",
        absl::StrCat(name, " is ", value, ", and the file allows ", limit,
                     "; look at `icepie slice diff ", slice, "` and promote it by hand"));
  };
  // What comes of records that were quarantined is what the rebuild is for.
  const auto& explained = diff.from_quarantine();
  const int64_t changed = diff.changed() - explained.changed();
  const double percent = 100.0 * static_cast<double>(changed) /
                         static_cast<double>(std::max<int64_t>(1, diff.base_rows()));
  ICEPIE_RETURN_IF_ERROR(over("changed_rows_percent", policy.has_changed_rows_percent(),
                              policy.changed_rows_percent(), percent));
  const auto count = [&](const char* name, bool has, int64_t limit, int64_t value) {
    return over(name, has, static_cast<double>(limit), static_cast<double>(value));
  };
  ICEPIE_RETURN_IF_ERROR(
      count("changed_rows", policy.has_changed_rows(), policy.changed_rows(), changed));
  ICEPIE_RETURN_IF_ERROR(count("added_rows", policy.has_added_rows(), policy.added_rows(),
                               diff.added() - explained.added()));
  ICEPIE_RETURN_IF_ERROR(count("removed_rows", policy.has_removed_rows(), policy.removed_rows(),
                               diff.removed() - explained.removed()));
  return count("quarantined_records", policy.has_quarantined_records(),
               policy.quarantined_records(), generation.quarantined_count());
}

namespace {

absl::Status CheckExpectations(const std::string& slice_name, const cv1::SliceEntry& slice,
                               const Generation& generation) {
  for (const auto& result : generation.expectations()) {
    const bool stopped = result.status() == v1::ExpectationResult::STOPPED;
    if ((result.status() != v1::ExpectationResult::FAILED && !stopped) ||
        result.severity() != v1::ExpectationResult::ERROR ||
        FindWaiver(slice, result.name(), absl::Now()) != nullptr) {
      continue;
    }
    const std::string what = stopped
                                 ? absl::StrCat(" could not be checked (", result.message(), ")")
                                 : absl::StrCat(" fails on its rows (", result.failing_rows(), ")");
    return GateError(slice_name, generation.number(), "expectations",
                     absl::StrCat("expectation ", result.name(), what,
                                  "; change the definition, or waive it: icepie slice expect ",
                                  slice_name, " --waive ", result.name(), " --reason …"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int64_t> CheckPromotable(const std::string& slice_name, const cv1::SliceEntry& slice,
                                        int64_t requested, bool force) {
  int64_t number = requested;
  if (number == 0) {
    const auto* pending = PendingGeneration(slice);
    if (pending == nullptr) {
      return GateError(slice_name, slice.last_generation(), "ready",
                       "no generation waits for its promotion; apply a changed definition or run "
                       "`icepie slice reslice`");
    }
    number = pending->generation().number();
  }
  const auto* entry = FindGeneration(slice, number);
  if (entry == nullptr) return GenerationNotFound(slice_name, number);
  const Generation& generation = entry->generation();
  if (generation.state() == Generation::RETIRED) {
    return GateError(slice_name, number, "ready",
                     absl::StrCat("it has served before; `icepie slice rollback ", slice_name, " g",
                                  number, "` returns to it"));
  }
  if (generation.state() != Generation::READY) {
    return GateError(
        slice_name, number, "ready",
        absl::StrCat("it is ", Generation::State_Name(generation.state()), " and not READY"));
  }
  if (!force) ICEPIE_RETURN_IF_ERROR(CheckExpectations(slice_name, slice, generation));
  const bool compared = generation.has_diff() && generation.diff().unavailable().empty();
  if (!force && compared && generation.diff().base_generation() != slice.serving_generation()) {
    return GateError(
        slice_name, number, "base",
        absl::StrCat("it was compared with generation ", generation.diff().base_generation(),
                     ", but ", slice.serving_generation(),
                     " serves now; reslice it, or --force it"));
  }
  return number;
}

absl::Status CheckServing(const std::string& slice_name, const cv1::SliceEntry& slice,
                          int64_t seen) {
  if (seen == 0 || seen == slice.serving_generation()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kAborted,
                   absl::StrCat(slice_name, " is served by generation ", slice.serving_generation(),
                                " and no longer by ", seen,
                                ": somebody else changed it; look "
                                "again, `icepie slice history ",
                                slice_name, "`"),
                   "ETAG_MISMATCH",
                   {{"serving_generation", absl::StrCat(slice.serving_generation())}});
}

absl::StatusOr<int64_t> RollbackTarget(const std::string& slice_name, const cv1::SliceEntry& slice,
                                       int64_t requested) {
  const auto* serving = FindGeneration(slice, slice.serving_generation());
  if (requested == 0) {
    const int64_t before = serving == nullptr ? 0 : serving->generation().replaced_generation();
    const auto* known = before == 0 ? nullptr : FindGeneration(slice, before);
    if (known != nullptr && !known->name_in_file().empty()) {
      return RollbackTarget(slice_name, slice, before);
    }
    if (known == nullptr) {
      return Refused("GENERATION_NOT_FOUND",
                     absl::StrCat(slice_name, " generation ", slice.serving_generation(),
                                  " replaced none that is still known: there is nothing to return "
                                  "to; `icepie slice history ",
                                  slice_name, "` lists the generations that can be named"));
    }
    return before;
  }
  const auto* entry = FindGeneration(slice, requested);
  if (entry == nullptr) return GenerationNotFound(slice_name, requested);
  if (requested == slice.serving_generation()) {
    return Refused("ALREADY_SERVING",
                   absl::StrCat(slice_name, " generation ", requested, " serves already"));
  }
  if (!entry->name_in_file().empty()) {
    return Refused(
        "ROLLBACK_REFUSED",
        absl::StrCat(slice_name, " generation ", requested, " was called ", entry->name_in_file(),
                     " when it served; apply its definition under "
                     "the present name instead (icepie domain history)"));
  }
  if (entry->generation().state() == Generation::RETIRED) return requested;
  return Refused("ROLLBACK_REFUSED",
                 absl::StrCat(slice_name, " generation ", requested, " is ",
                              Generation::State_Name(entry->generation().state()),
                              " and has never served; only one that served can be returned to"));
}

namespace {

void NoteRollback(const CatalogDomain& domain, const ServeChange& change, int64_t from, int64_t to,
                  cv1::SliceEntry& slice) {
  const auto* wanted = FindDefinition(domain, slice.name());
  const auto* now = FindGeneration(slice, to);
  if (wanted == nullptr || wanted->definition_hash() == now->generation().definition_hash()) {
    slice.clear_rolled_back();
    return;
  }
  if (!change.rollback) return;
  v1::RolledBack& note = *slice.mutable_rolled_back();
  note.set_from_generation(from);
  note.set_to_generation(to);
  note.set_refused_hash(wanted->definition_hash());
  note.set_actor(change.actor);
  note.set_reason(change.reason);
  *note.mutable_time() = ToProto(change.now);
}

}  // namespace

void Serve(const CatalogDomain& domain, const ServeChange& change, int64_t number,
           cv1::SliceEntry& slice) {
  auto* entry = FindGeneration(slice, number);
  Generation& generation = *entry->mutable_generation();
  const int64_t before = slice.serving_generation();
  for (auto& other : *slice.mutable_generations()) {
    if (other.generation().state() == Generation::RETIRED) {
      other.mutable_generation()->clear_warm_until();
    }
  }
  if (auto* old = FindGeneration(slice, before); old != nullptr && before != number) {
    Generation& replaced = *old->mutable_generation();
    replaced.set_state(Generation::RETIRED);
    *replaced.mutable_replace_time() = ToProto(change.now);
    *replaced.mutable_warm_until() =
        ToProto(change.now + KeepReplaced(entry->definition().promote()));
  }
  if (generation.state() == Generation::READY) generation.set_replaced_generation(before);
  generation.set_state(Generation::SERVING);
  generation.set_promote_actor(change.actor);
  generation.set_promote_reason(change.reason);
  *generation.mutable_promote_time() = ToProto(change.now);
  generation.clear_replace_time();
  generation.clear_warm_until();
  generation.clear_not_promoted();
  generation.set_promote_when_ready(false);
  slice.set_serving_generation(number);
  slice.set_served_by_request(change.request_id);
  NoteRollback(domain, change, before, number, slice);
  DropHistory(slice, change.now);
}

const icepie::worker::v1::SliceReport* FindGenerationReport(
    const icepie::worker::v1::WorkerReport* report, const std::string& slice, int64_t generation) {
  if (report == nullptr) return nullptr;
  for (const auto& candidate : report->slices()) {
    if (candidate.slice() == slice && candidate.generation() == generation) return &candidate;
  }
  return nullptr;
}

bool IsCaughtUp(int64_t position, int64_t serving) {
  return position + kCaughtUpRecords >= serving;
}

bool HasCaughtUp(const DomainView& view, const std::string& slice, int64_t generation) {
  const auto* own = FindGenerationReport(view.live.report.get(), slice, generation);
  const auto* serving = FindServingReport(view.live.report.get(), slice);
  if (own == nullptr || serving == nullptr) return false;
  if (own->strategy() == "recompute" && own->state() == v1::RUNNING) return true;
  return IsCaughtUp(own->applied_position(), serving->applied_position());
}

bool PromotesByItself(icepie::v1::ApplyDomainRequest::Promote asked,
                      const icepie::catalog::v1::SliceDefinition& definition) {
  using Request = icepie::v1::ApplyDomainRequest;
  const bool by_file = definition.promote().mode() == icepie::v1::PromotePolicy::AUTO;
  return asked == Request::AUTO || (asked == Request::BY_FILE && by_file);
}

}  // namespace icepie::server
