#include "server/domain/definition_changes.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/admin/request_replay.h"
#include "server/base/proto_time.h"
#include "slices/definition/shown_type.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace cv1 = icepie::catalog::v1;
using v1::SliceChange;

// Columns that readers may miss: dropped or of another type. The catalog may have types from before
// they were written as they are shown.
void AddBreaking(const cv1::SliceDefinition& old, SliceChange& change) {
  for (const auto& column : old.columns()) {
    const auto& now = change.columns();
    const std::string was = slices::ShownType(column.type());
    auto found = std::find_if(now.begin(), now.end(),
                              [&](const v1::Column& c) { return c.name() == column.name(); });
    if (found == now.end()) {
      change.add_breaking(absl::StrCat("column ", column.name(), " is dropped"));
    } else if (found->type() != was) {
      change.add_breaking(
          absl::StrCat("column ", column.name(), " becomes ", found->type(), " (was ", was, ")"));
    }
  }
}

SliceChange FromPlan(const icepie::worker::v1::PlannedSlice& planned) {
  SliceChange change;
  change.set_slice(planned.name());
  change.set_kind(SliceChange::CREATE);
  *change.mutable_columns() = planned.columns();
  *change.mutable_reads() = planned.reads();
  Explain(planned, change);
  return change;
}

// A file goes on saying so when it is long done.
bool IsRenamed(const CatalogDomain& current, const icepie::worker::v1::PlannedSlice& planned) {
  return !planned.renamed_from().empty() && current.slices.count(planned.name()) == 0 &&
         current.slices.count(planned.renamed_from()) > 0;
}

// A definition that the domain has of a slice.
struct KnownDefinition {
  int64_t revision = 0;  // of the file that it is in …
  std::string name;      // … under this name
  std::string hash;
  std::string sql;
};

// What serves, then what the domain's file says: that may be what the slice was rolled back from,
// and is all that is known of one whose entry is damaged.
std::vector<KnownDefinition> KnownDefinitions(const CatalogDomain& current,
                                              const icepie::worker::v1::PlannedSlice& planned) {
  const std::string& name = IsRenamed(current, planned) ? planned.renamed_from() : planned.name();
  std::vector<KnownDefinition> known;
  if (const auto slice = current.slices.find(name); slice != current.slices.end()) {
    const auto* serving = FindGeneration(slice->second, slice->second.serving_generation());
    known.push_back({serving->generation().revision(),
                     serving->name_in_file().empty() ? name : serving->name_in_file(),
                     serving->generation().definition_hash(), serving->definition().sql()});
  }
  for (const auto& definition : current.entry.definitions()) {
    if (definition.name() != name) continue;
    known.push_back(
        {current.entry.revision(), name, definition.definition_hash(), definition.sql()});
  }
  return known;
}

bool HasHash(const std::vector<KnownDefinition>& known, const std::string& hash) {
  return std::any_of(known.begin(), known.end(),
                     [&](const KnownDefinition& each) { return each.hash == hash; });
}

SliceChange Compare(const CatalogDomain& current, const icepie::worker::v1::PlannedSlice& planned) {
  SliceChange change = FromPlan(planned);
  auto found = current.slices.find(planned.name());
  if (found == current.slices.end() && IsRenamed(current, planned)) {
    change.set_kind(SliceChange::RENAME);
    change.set_renamed_from(planned.renamed_from());
    change.set_note(absl::StrCat("was ", planned.renamed_from()));
    return change;
  }
  if (found == current.slices.end()) return change;
  const auto* serving = FindGeneration(found->second, found->second.serving_generation());
  const bool same = serving->generation().definition_hash() == planned.definition_hash();
  change.set_kind(same ? SliceChange::UNCHANGED : SliceChange::REBUILD);
  AddBreaking(serving->definition(), change);
  NoteRolledBack(found->second, ToDefinition(planned), change);
  return change;
}

}  // namespace

const cv1::GenerationEntry* PendingGeneration(const cv1::SliceEntry& slice) {
  const cv1::GenerationEntry* pending = nullptr;
  for (const auto& entry : slice.generations()) {
    const auto state = entry.generation().state();
    if (state == v1::Generation::BUILDING || state == v1::Generation::READY) pending = &entry;
  }
  return pending;
}

cv1::SliceDefinition ToDefinition(const icepie::worker::v1::PlannedSlice& planned) {
  cv1::SliceDefinition out;
  out.set_name(planned.name());
  out.set_definition_hash(planned.definition_hash());
  out.set_strategy(planned.strategy());
  out.set_sql(planned.sql());
  *out.mutable_columns() = planned.columns();
  *out.mutable_key() = planned.key();
  *out.mutable_reads() = planned.reads();
  *out.mutable_expectations() = planned.expectations();
  if (planned.has_promote()) *out.mutable_promote() = planned.promote();
  if (planned.has_max_stale()) *out.mutable_max_stale() = planned.max_stale();
  return out;
}

void Explain(const icepie::worker::v1::PlannedSlice& planned, SliceChange& change) {
  change.set_strategy(planned.strategy());
  change.set_why(planned.why());
  *change.mutable_why_not() = planned.why_not();
  *change.mutable_statements() = planned.statements();
}

void NoteRolledBack(const cv1::SliceEntry& slice, const cv1::SliceDefinition& definition,
                    SliceChange& change) {
  const v1::RolledBack& rolled_back = slice.rolled_back();
  if (!slice.has_rolled_back() || rolled_back.refused_hash() != definition.definition_hash()) {
    return;
  }
  change.set_kind(SliceChange::ROLLED_BACK);
  change.clear_breaking();
  change.set_note(absl::StrCat("rolled back from g", rolled_back.from_generation(), " to g",
                               rolled_back.to_generation(), " by ", rolled_back.actor(),
                               rolled_back.reason().empty() ? "" : ": ", rolled_back.reason(),
                               "; it stays there until the file has another definition for it"));
}

absl::Status CheckRenames(const CatalogDomain& current,
                          const icepie::worker::v1::PlanDomainResponse& plan) {
  for (const auto& planned : plan.slices()) {
    if (!IsRenamed(current, planned)) continue;
    const cv1::SliceEntry& slice = current.slices.at(planned.renamed_from());
    const auto* serving = FindGeneration(slice, slice.serving_generation());
    if (serving->generation().definition_hash() == planned.definition_hash()) continue;
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        absl::StrCat("slice ", planned.name(), " is renamed from ", planned.renamed_from(),
                     " and has another definition than the one that serves; rename it first, and "
                     "change it when that is applied"),
        "RENAME_REFUSED", {{"slice", planned.name()}});
  }
  return absl::OkStatus();
}

void Rename(const std::string& to, cv1::SliceEntry& slice) {
  for (auto& entry : *slice.mutable_generations()) {
    if (entry.name_in_file().empty()) entry.set_name_in_file(slice.name());
    if (entry.generation().number() == slice.serving_generation()) {
      entry.clear_name_in_file();
    } else {
      entry.mutable_generation()->clear_warm_until();
    }
    entry.set_start_snapshot("");
  }
  slice.set_renamed_from(slice.name());
  slice.set_name(to);
}

bool IsAppliedBy(const CatalogDomain& domain, const std::string& request_id, absl::Time now) {
  const auto current = domain.revisions.find(domain.entry.revision());
  return !request_id.empty() && current != domain.revisions.end() &&
         current->second.request_id() == request_id &&
         now - FromProto(current->second.apply_time()) < kReplayAge;
}

absl::Status CheckNotApplied(const CatalogDomain& domain, const std::string& request_id,
                             absl::Time now) {
  if (request_id.empty()) return absl::OkStatus();
  for (const auto& [number, revision] : domain.revisions) {
    if (revision.request_id() != request_id) continue;
    if (now - FromProto(revision.apply_time()) >= kReplayAge) continue;  // used again
    return ChangedMeanwhile(absl::StrCat("revision ", number, " of domain ", domain.entry.name(),
                                         " was applied under this request_id, and ",
                                         domain.entry.actor(), " has applied revision ",
                                         domain.entry.revision(), " since"));
  }
  return absl::OkStatus();
}

std::set<int64_t> RevisionsThatTell(const CatalogDomain& current,
                                    const icepie::worker::v1::PlanDomainResponse& plan) {
  std::set<int64_t> revisions;
  std::set<std::string> changed;
  for (const auto& planned : plan.slices()) {  // upstream first
    const std::vector<KnownDefinition> known = KnownDefinitions(current, planned);
    if (HasHash(known, planned.definition_hash())) continue;
    const bool reads_changed =
        std::any_of(planned.reads().begin(), planned.reads().end(),
                    [&](const std::string& read) { return changed.count(read) > 0; });
    bool same_sql = false;
    for (const KnownDefinition& each : known) {
      if (reads_changed || each.sql != planned.sql()) continue;
      same_sql = true;
      revisions.insert(each.revision);
    }
    if (!same_sql) changed.insert(planned.name());
  }
  return revisions;
}

void KeepHashes(const CatalogDomain& current, int64_t revision,
                const icepie::worker::v1::PlanDomainResponse& earlier,
                icepie::worker::v1::PlanDomainResponse& plan) {
  for (auto& planned : *plan.mutable_slices()) {
    const std::vector<KnownDefinition> known = KnownDefinitions(current, planned);
    if (HasHash(known, planned.definition_hash())) continue;
    for (const KnownDefinition& each : known) {
      const auto then = std::find_if(earlier.slices().begin(), earlier.slices().end(),
                                     [&](const auto& slice) { return slice.name() == each.name; });
      if (each.revision != revision || then == earlier.slices().end()) continue;
      if (then->definition_hash() != planned.definition_hash()) continue;
      planned.set_definition_hash(each.hash);
      break;
    }
  }
}

absl::Status KeepKnownHashes(const CatalogDomain& current, const FilePlanner& plan_file,
                             icepie::worker::v1::PlanDomainResponse& plan) {
  for (const int64_t revision : RevisionsThatTell(current, plan)) {
    const auto kept = current.revisions.find(revision);
    // One before may have told all.
    if (kept == current.revisions.end() || RevisionsThatTell(current, plan).count(revision) == 0) {
      continue;
    }
    const std::string name = absl::StrCat("revision ", revision);
    auto earlier = plan_file(kept->second.file(), name);
    if (ErrorReason(earlier.status()) == "SQL_TOO_COMPLEX") {
      earlier = plan_file(kept->second.file(), name);
    }
    if (earlier.ok()) {
      KeepHashes(current, revision, *earlier, plan);
    } else if (absl::IsInvalidArgument(earlier.status())) {
      spdlog::warn("domain {}: whether a slice's definition is still that of {} is not known: {}",
                   current.entry.name(), name, earlier.status().ToString());
    } else {
      return earlier.status();
    }
  }
  return absl::OkStatus();
}

std::vector<SliceChange> CompareDefinitions(const CatalogDomain& current,
                                            const icepie::worker::v1::PlanDomainResponse& plan,
                                            const std::string& file) {
  std::vector<SliceChange> changes;
  std::set<std::string> kept;
  for (const auto& planned : plan.slices()) {
    kept.insert(planned.name());
    if (IsRenamed(current, planned)) kept.insert(planned.renamed_from());
    changes.push_back(Compare(current, planned));
  }
  std::set<std::string> present;
  for (const auto& [name, slice] : current.slices) present.insert(name);
  for (const auto& [name, damaged] : current.damaged_slices) present.insert(name);
  for (const std::string& name : present) {
    if (kept.count(name) > 0) continue;
    SliceChange change;
    change.set_slice(name);
    change.set_kind(SliceChange::DELETE);
    changes.push_back(change);
  }
  const bool settings_only = std::all_of(changes.begin(), changes.end(), [](const auto& change) {
    return change.kind() == SliceChange::UNCHANGED || change.kind() == SliceChange::ROLLED_BACK;
  });
  if (!settings_only || file == current.entry.file()) return changes;
  for (SliceChange& change : changes) {
    if (change.kind() == SliceChange::UNCHANGED) change.set_kind(SliceChange::UPDATE);
  }
  return changes;
}

}  // namespace icepie::server
