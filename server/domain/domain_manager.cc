#include "server/domain/domain_manager.h"

#include <algorithm>
#include <future>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "server/base/proto_time.h"
#include "server/domain/definition_changes.h"
#include "server/domain/domain_limits.h"
#include "server/domain/live_report.h"
#include "server/domain/plan_estimate.h"
#include "server/domain/promotion.h"
#include "server/domain/slice_facts.h"
#include "server/domain/snapshot_files.h"
#include "server/domain/snapshot_list.h"
#include "server/domain/unwanted_files.h"
#include "server/record/schema_check.h"
#include "server/supervisor/resting_start.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace cv1 = icepie::catalog::v1;
namespace wv1 = icepie::worker::v1;
using v1::Generation;
using v1::SliceChange;
using Operations = std::vector<Catalog::Operation>;

std::string FileNameOf(const v1::ApplyDomainRequest& request) {
  return request.file_name().empty() ? "domain.yaml" : request.file_name();
}

constexpr absl::Duration kPlanTimeout = absl::Seconds(60);  // on a busy machine
constexpr absl::Duration kQuarantineTimeout = absl::Seconds(10);
constexpr size_t kFileBytesMax = 1 << 20;

// Whether a planner may use this as a name of files and keys: it comes from a process that read a
// definition nobody has checked.
bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= 63 && absl::ascii_islower(name.front()) &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_';
         });
}

Generation MakeGeneration(int64_t number, Generation::State state, const std::string& hash,
                          int64_t revision) {
  Generation generation;
  generation.set_number(number);
  generation.set_state(state);
  generation.set_definition_hash(hash);
  generation.set_revision(revision);
  *generation.mutable_create_time() = ToProto(absl::Now());
  return generation;
}

}  // namespace

// One ApplyDomain call under way.
struct DomainManager::ApplyWork {
  const v1::ApplyDomainRequest& request;
  const wv1::PlanDomainResponse& plan;
  int64_t seen_revision = 0;  // the plan was made beside this one
  v1::ApplyDomainResponse response;
  Operations started;
  Operations cancelled;
};

DomainManager::DomainManager(Core& core, Catalog& catalog, Supervisor& supervisor, Builds& builds,
                             EventLog& events, SliceMemory& memory, StreamEnds& ends)
    : core_(core),
      catalog_(catalog),
      supervisor_(supervisor),
      builds_(builds),
      log_(core, &events),
      reader_(core, catalog, supervisor, memory, ends),
      background_(1, 1024),
      promotions_(8, 1024),
      cleaner_(1, 1) {
  supervisor_.SetVerdictListener([this](const std::string& domain, const PoisonVerdict& verdict) {
    LineUpVerdict(domain, verdict);
  });
  builds_.SetEndListener([this](const Catalog::Operation& operation, const absl::Status& outcome) {
    RecordEnd(operation, outcome);
  });
  builds_.SetReadyListener(
      [this](const std::string& domain, const std::string& slice, int64_t generation) {
        LineUpPromotion({domain, slice}, generation);
      });
}

DomainManager::~DomainManager() {
  clock_.Stop();
  background_.Stop();
  promotions_.Stop();
  cleaner_.Stop();
}

void DomainManager::Start() {
  for (const auto& domain : catalog_.Domains()) {
    Configure(domain->entry.name(), domain->held.empty() ? AtRest(*domain) : RestingStart());
  }
  if (!supervisor_.safe_mode()) ResumePromotions();
  builds_.Resume();
  ScheduleSweep();
  ScheduleCleaning();
}

void DomainManager::LeaveSafeMode() {
  supervisor_.SetSafeMode(false);
  builds_.SetHeld(false);
  ResumePromotions();
}

absl::Status DomainManager::CheckNotSafeMode() const {
  if (!supervisor_.safe_mode()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   "the daemon is in safe mode, in which no slice applies records; end it first "
                   "(icepie leave-safe-mode)",
                   "SAFE_MODE");
}

// Without a report it starts at once.
RestingStart DomainManager::AtRest(const CatalogDomain& domain) const {
  const int64_t idle_after_ms = domain.entry.has_idle_after_ms()
                                    ? domain.entry.idle_after_ms()
                                    : supervisor_.settings().idle_after_ms;
  if (idle_after_ms <= 0) return {};
  const std::string& name = domain.entry.name();
  const auto operations = catalog_.Operations();
  const bool has_build = std::any_of(
      operations.begin(), operations.end(),
      [&](const auto& operation) { return !operation.done() && operation.domain() == name; });
  if (has_build) return {};
  return ReadRestingStart(reader_.FactsOf(domain), supervisor_.DomainDirectory(name));
}

wv1::Assignment DomainManager::AssignmentOf(const CatalogDomain& domain) const {
  wv1::Assignment assignment = MakeAssignment(domain, absl::Now());
  AddHeld(domain, supervisor_.DomainDirectory(domain.entry.name()), assignment);
  return assignment;
}

bool DomainManager::HasStates(const CatalogDomain& domain) const {
  return !AssignmentOf(domain).generations().empty();
}

int64_t DomainManager::Configure(const std::string& name) { return Configure(name, {}); }

int64_t DomainManager::Configure(const std::string& name, RestingStart at_rest) {
  MutexLock lock(mutex_);
  const auto domain = catalog_.Find(name);
  if (!domain) return 0;
  AdoptRenamed(*domain, supervisor_.DomainDirectory(name));
  wv1::Assignment assignment = AssignmentOf(*domain);
  const bool nothing_to_ask = !domain->held.empty() && assignment.generations().empty();
  if (nothing_to_ask) return domain->entry.epoch();
  supervisor_.SetDomain(std::move(assignment), std::move(at_rest.report), at_rest.has_work);
  unswept_.insert(name);
  told_[name] = domain->entry.epoch();
  return domain->entry.epoch();
}

void DomainManager::WaitForEpoch(const std::string& domain, int64_t epoch) {
  const auto taken_on = [epoch](const WorkerView& worker) {
    return worker.client && worker.report && worker.report->epoch() >= epoch;
  };
  // Who applies a file to a domain whose worker fails again and again would wait for nothing, and
  // keep a thread from those of other domains.
  const int64_t failures = supervisor_.View(domain).live.status.restarts();
  const auto waits_to_start = [failures](const WorkerView& worker) {
    return !worker.client && worker.status.restarts() > failures &&
           FromProto(worker.status.next_start_time()) > absl::Now();
  };
  supervisor_.WaitFor(domain, Supervisor::kTakenOnTimeout, [&](const DomainView& view) {
    return taken_on(view.live) || view.live.suspended || waits_to_start(view.live);
  });
}

// ---- Applying -----------------------------------------------------------------------------------

absl::StatusOr<wv1::PlanDomainResponse> DomainManager::Plan(const std::string& file,
                                                            const std::string& file_name) {
  wv1::PlanDomainRequest plan;
  plan.set_file(file);
  plan.set_file_name(file_name);
  auto planned = std::make_shared<std::promise<absl::StatusOr<wv1::PlanDomainResponse>>>();
  auto result = planned->get_future();
  supervisor_.Plan(plan, kPlanTimeout,
                   [planned](auto response) { planned->set_value(std::move(response)); });
  auto response = result.get();
  if (!response.ok()) return response;
  bool names_ok = IsName(response->domain());
  for (const auto& slice : response->slices()) names_ok = names_ok && IsName(slice.name());
  if (names_ok) return response;
  return MakeError(absl::StatusCode::kInvalidArgument,
                   "names of domains and slices are [a-z][a-z0-9_]{0,62}", "DEFINITION_INVALID");
}

absl::Status DomainManager::CheckStreams(const wv1::PlanDomainResponse& plan) const {
  std::vector<std::string> missing;
  absl::Status first;  // says how such a stream comes to be
  for (const std::string& stream : plan.streams()) {
    const absl::Status status = core_.GetStream(stream).status();
    if (status.ok()) continue;
    first.Update(status);
    missing.push_back(stream);
  }
  if (missing.empty()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kNotFound,
                   absl::StrCat("domain ", plan.domain(), " reads streams that do not exist (",
                                absl::StrJoin(missing, ", "), "): ", first.message()),
                   "STREAM_NOT_FOUND", {{"streams", absl::StrJoin(missing, ",")}});
}

void DomainManager::Estimate(const wv1::PlanDomainResponse& plan, const CatalogDomain& domain,
                             std::vector<SliceChange>& changes) const {
  EstimateFacts facts;
  facts.head_position = core_.head_position();
  facts.memory_limit_bytes = supervisor_.settings().memory_bytes;
  for (const std::string& stream : plan.streams()) {
    const auto info = core_.GetStream(stream);
    if (info.ok()) facts.stream_records[stream] = info->end_offset;
  }
  const auto operations = catalog_.Operations();
  for (SliceChange& change : changes) {
    if (change.kind() != SliceChange::CREATE && change.kind() != SliceChange::REBUILD) continue;
    const auto planned =
        std::find_if(plan.slices().begin(), plan.slices().end(),
                     [&](const auto& slice) { return slice.name() == change.slice(); });
    if (planned == plan.slices().end()) continue;
    facts.positions_per_second = MeasuredRate(operations, plan.domain(), change.slice());
    facts.state_bytes = 0;
    const auto slice = domain.slices.find(change.slice());
    if (slice != domain.slices.end()) {
      int64_t newest = -1;
      for (const auto& snapshot :
           server::ListSnapshots(supervisor_.DomainDirectory(plan.domain()), change.slice(),
                                 slice->second.serving_generation())) {
        if (!snapshot.name().empty() || snapshot.position() <= newest) continue;
        newest = snapshot.position();
        facts.state_bytes = snapshot.byte_count();
      }
    }
    *change.mutable_estimate() = EstimateBuild(*planned, facts);
  }
}

v1::ApplyDomainResponse DomainManager::Unchanged(const CatalogDomain& domain,
                                                 const wv1::PlanDomainResponse& plan) const {
  v1::ApplyDomainResponse response;
  response.set_domain(domain.entry.name());
  response.set_revision(domain.entry.revision());
  response.set_hash(domain.entry.hash());
  response.set_base_hash(domain.entry.hash());
  for (const auto& definition : domain.entry.definitions()) {
    SliceChange& change = *response.add_changes();
    change.set_slice(definition.name());
    change.set_kind(SliceChange::UNCHANGED);
    auto slice = domain.slices.find(definition.name());
    if (slice != domain.slices.end()) NoteRolledBack(slice->second, definition, change);
    change.set_strategy(definition.strategy());
    *change.mutable_columns() = definition.columns();
    *change.mutable_reads() = definition.reads();
    for (const auto& planned : plan.slices()) {
      if (planned.name() == change.slice()) Explain(planned, change);
    }
  }
  return response;
}

// What the request has changed when it was carried out, of which nobody was told: the daemon ended.
void DomainManager::TellAgain(const CatalogDomain& domain,
                              v1::ApplyDomainResponse& response) const {
  response.set_changed(true);
  const auto before = domain.revisions.lower_bound(domain.entry.revision());
  response.set_base_hash(before == domain.revisions.begin() ? ""
                                                            : std::prev(before)->second.hash());
  for (SliceChange& change : *response.mutable_changes()) {
    const auto slice = domain.slices.find(change.slice());
    if (slice == domain.slices.end()) continue;
    for (const auto& operation : catalog_.Operations()) {
      if (operation.domain() != domain.entry.name() || operation.slice() != change.slice() ||
          operation.number() < slice->second.first_operation()) {
        continue;
      }
      const auto* built = FindGeneration(slice->second, operation.generation());
      if (built == nullptr || built->generation().revision() != domain.entry.revision()) continue;
      change.set_kind(SliceChange::REBUILD);
      change.set_operation(OperationName(operation.number()));
    }
  }
}

void DomainManager::CancelPending(cv1::SliceEntry& slice, const std::string& why,
                                  Operations& operations) {
  const auto* pending = PendingGeneration(slice);
  if (pending == nullptr) return;
  const int64_t number = pending->generation().number();
  FindGeneration(slice, number)->mutable_generation()->set_state(Generation::CANCELLED);
  for (auto& operation : catalog_.Operations()) {
    if (operation.done() || operation.domain() != slice.domain() ||
        operation.slice() != slice.name() || operation.generation() != number) {
      continue;
    }
    EndCancelled(operation, why);
    operations.push_back(operation);
  }
}

int64_t DomainManager::AddBuild(cv1::SliceEntry& slice, const cv1::SliceDefinition& definition,
                                int64_t revision, const std::string& actor,
                                const std::string& reason, Operations& operations) {
  const int64_t on_disk =
      HighestGenerationOnDisk(supervisor_.DomainDirectory(slice.domain()), slice.name());
  const int64_t number = std::max(slice.last_generation(), on_disk) + 1;
  slice.set_last_generation(number);
  auto& entry = *slice.add_generations();
  *entry.mutable_generation() =
      MakeGeneration(number, Generation::BUILDING, definition.definition_hash(), revision);
  entry.mutable_generation()->set_actor(ActorOr(actor));
  entry.mutable_generation()->set_reason(reason);
  *entry.mutable_definition() = definition;
  // What ended the worker under this definition would end the build.
  if (const auto* serving = FindGeneration(slice, slice.serving_generation());
      serving != nullptr &&
      serving->definition().definition_hash() == definition.definition_hash()) {
    *entry.mutable_deadly_records() = serving->deadly_records();
  }
  Catalog::Operation operation;
  operation.set_number(catalog_.NextOperationNumber());
  operation.set_domain(slice.domain());
  operation.set_slice(slice.name());
  operation.set_generation(number);
  operation.set_actor(actor);
  operation.set_reason(reason);
  *operation.mutable_create_time() = ToProto(absl::Now());
  operations.push_back(operation);
  return operation.number();
}

namespace {

cv1::SliceEntry NewSlice(const CatalogDomain& domain, const cv1::SliceDefinition& definition,
                         int64_t number) {
  cv1::SliceEntry slice;
  slice.set_domain(domain.entry.name());
  slice.set_name(definition.name());
  slice.mutable_desired()->set_mode(v1::DesiredState::RUN);
  *slice.mutable_desired()->mutable_since() = ToProto(absl::Now());
  slice.set_serving_generation(number);
  slice.set_last_generation(number);
  auto& entry = *slice.add_generations();
  *entry.mutable_generation() = MakeGeneration(
      number, Generation::SERVING, definition.definition_hash(), domain.entry.revision());
  Generation& generation = *entry.mutable_generation();
  generation.set_actor(domain.entry.actor());
  generation.set_reason(domain.entry.reason());
  generation.set_promote_actor(domain.entry.actor());
  generation.set_promote_reason(domain.entry.reason());
  *generation.mutable_promote_time() = generation.create_time();
  *entry.mutable_definition() = definition;
  return slice;
}

// The client's file was made from another one than the daemon has.
absl::Status CheckBase(const CatalogDomain& domain, const v1::ApplyDomainRequest& request) {
  const auto& entry = domain.entry;
  if (request.base_hash().empty() || request.base_hash() == entry.hash()) return absl::OkStatus();
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat("domain ", entry.name(),
                   " has another file than the one that yours was made "
                   "from: revision ",
                   entry.revision(), " of ", entry.actor(), " (hash ", entry.hash().substr(0, 12),
                   ", yours ", request.base_hash().substr(0, 12), "); merge it (icepie domain get ",
                   entry.name(), ") or apply with --overwrite"),
      "DEFINITION_DRIFTED", {{"hash", entry.hash()}, {"revision", absl::StrCat(entry.revision())}});
}

absl::Status CheckRemoved(const std::vector<SliceChange>& changes, bool prune) {
  std::vector<std::string> removed;
  for (const auto& change : changes) {
    if (change.kind() == SliceChange::DELETE) removed.push_back(change.slice());
  }
  if (removed.empty() || prune) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("the file no longer has ", absl::StrJoin(removed, ", "),
                                "; apply with --prune to delete what left it"),
                   "REMOVES_SLICES", {{"slices", absl::StrJoin(removed, ",")}});
}

}  // namespace

void DomainManager::ApplyChange(ApplyWork& work, SliceChange& change, CatalogDomain& domain,
                                Operations& operations) {
  const std::string& name = domain.entry.name();
  const int64_t revision = domain.entry.revision();
  if (change.kind() == SliceChange::DELETE) {
    if (domain.damaged_slices.erase(change.slice()) > 0) return;
    CancelPending(domain.slices[change.slice()], "its slice was deleted", work.cancelled);
    domain.slices.erase(change.slice());
    return;
  }
  const cv1::SliceDefinition& definition = *FindDefinition(domain, change.slice());
  if (change.kind() == SliceChange::CREATE) {
    const std::string directory = supervisor_.DomainDirectory(name);
    const int64_t highest = HighestGenerationOnDisk(directory, change.slice());
    cv1::SliceEntry& slice = domain.slices[change.slice()];
    slice = NewSlice(domain, definition, highest + 1);
    slice.set_first_operation(catalog_.FirstOperationFromNow());
    const auto damaged = domain.damaged_slices.find(change.slice());
    if (damaged == domain.damaged_slices.end()) return;
    // It goes on answering from what it has saved, also while it is frozen.
    const int64_t saved =
        FurthestGenerationOnDisk(directory, change.slice(), definition.definition_hash());
    if (saved > 0) {
      slice = NewSlice(domain, definition, saved);
      slice.set_last_generation(highest);
    }  // its earlier builds are still its own
    if (damaged->second.desired.has_since()) *slice.mutable_desired() = damaged->second.desired;
    domain.damaged_slices.erase(damaged);
    return;
  }
  if (change.kind() == SliceChange::RENAME) {
    ApplyRename(work, change, definition, domain);
    return;
  }
  cv1::SliceEntry& slice = domain.slices[change.slice()];
  if (change.kind() == SliceChange::ROLLED_BACK) return;
  slice.clear_rolled_back();
  if (change.kind() != SliceChange::REBUILD) {
    CancelPending(slice, "the serving definition was applied again", work.cancelled);
    auto* serving = FindGeneration(slice, slice.serving_generation());
    serving->mutable_generation()->set_revision(revision);
    *serving->mutable_definition() = definition;
    return;
  }
  const auto* pending = PendingGeneration(slice);
  if (pending != nullptr &&
      pending->generation().definition_hash() == definition.definition_hash()) {
    for (const auto& operation : catalog_.Operations()) {
      if (operation.domain() == name && operation.slice() == change.slice() &&
          operation.generation() == pending->generation().number()) {
        change.set_operation(OperationName(operation.number()));
      }
    }
    return;
  }
  CancelPending(slice, "replaced by a newer definition", work.cancelled);
  change.set_operation(OperationName(AddBuild(slice, definition, revision, work.request.actor(),
                                              work.request.reason(), operations)));
  slice.mutable_generations()->rbegin()->mutable_generation()->set_promote_when_ready(
      PromotesByItself(work.request.promote(), definition));
}

void DomainManager::ApplyRename(ApplyWork& work, const SliceChange& change,
                                const cv1::SliceDefinition& definition, CatalogDomain& domain) {
  CancelPending(domain.slices[change.renamed_from()], "its slice was renamed", work.cancelled);
  auto node = domain.slices.extract(change.renamed_from());
  node.key() = change.slice();
  cv1::SliceEntry& slice = node.mapped();
  Rename(change.slice(), slice);
  slice.set_first_operation(catalog_.FirstOperationFromNow());
  auto* serving = FindGeneration(slice, slice.serving_generation());
  serving->mutable_generation()->set_revision(domain.entry.revision());
  *serving->mutable_definition() = definition;
  domain.slices.insert(std::move(node));
  domain.damaged_slices.erase(change.slice());
}

absl::Status DomainManager::EditForApply(ApplyWork& work, CatalogDomain& domain,
                                         Operations& operations) {
  if (domain.entry.has_deletion()) {
    return DomainReader::DeletedError(domain, absl::StatusCode::kFailedPrecondition);
  }
  if (domain.entry.revision() != work.seen_revision) {
    return MakeError(absl::StatusCode::kAborted,
                     absl::StrCat("domain ", domain.entry.name(),
                                  " was changed meanwhile: ", domain.entry.actor(),
                                  " applied revision ", domain.entry.revision(), "; plan again"),
                     "ETAG_MISMATCH", {{"revision", absl::StrCat(domain.entry.revision())}});
  }
  ICEPIE_RETURN_IF_ERROR(CheckBase(domain, work.request));
  ICEPIE_RETURN_IF_ERROR(CheckRenames(domain, work.plan));
  auto changes = CompareDefinitions(domain, work.plan, work.request.file());
  ICEPIE_RETURN_IF_ERROR(CheckRemoved(changes, work.request.prune()));
  const int64_t last = domain.revisions.empty() ? 0 : domain.revisions.rbegin()->first;
  auto& entry = domain.entry;
  const int64_t revision = std::max(entry.revision(), last) + 1;
  // A domain whose entry was damaged has lost its epoch: begin above any that a worker has heard.
  if (!domain.held.empty()) entry.set_epoch(absl::ToUnixSeconds(absl::Now()));
  domain.held.clear();
  work.response.set_base_hash(entry.hash());
  entry.set_revision(revision);
  entry.set_file(work.request.file());
  entry.set_hash(Sha256Hex(work.request.file()));
  entry.set_actor(ActorOr(work.request.actor()));
  entry.set_reason(work.request.reason());
  *entry.mutable_apply_time() = ToProto(absl::Now());
  KeepLimits(work.plan, entry);
  entry.clear_definitions();
  for (const auto& planned : work.plan.slices()) *entry.add_definitions() = ToDefinition(planned);
  cv1::RevisionEntry& kept = domain.revisions[revision];
  kept.set_domain(entry.name());
  kept.set_revision(revision);
  kept.set_file(entry.file());
  kept.set_hash(entry.hash());
  kept.set_actor(entry.actor());
  kept.set_reason(entry.reason());
  kept.set_request_id(work.request.request_id());
  *kept.mutable_apply_time() = entry.apply_time();
  for (SliceChange& change : changes) ApplyChange(work, change, domain, work.started);
  work.response.set_domain(entry.name());
  work.response.set_revision(revision);
  work.response.set_changed(true);
  work.response.set_hash(entry.hash());
  work.response.mutable_changes()->Assign(changes.begin(), changes.end());
  operations = work.started;
  operations.insert(operations.end(), work.cancelled.begin(), work.cancelled.end());
  return absl::OkStatus();
}

absl::StatusOr<v1::ApplyDomainResponse> DomainManager::Apply(const v1::ApplyDomainRequest& request,
                                                             AdminAction& action) {
  if (request.file().size() > kFileBytesMax) {
    return MakeError(absl::StatusCode::kInvalidArgument, "a domain file has at most 1 MiB",
                     "DEFINITION_INVALID", {{"bytes", absl::StrCat(request.file().size())}});
  }
  ICEPIE_ASSIGN_OR_RETURN(wv1::PlanDomainResponse plan, Plan(request.file(), FileNameOf(request)));
  ICEPIE_RETURN_IF_ERROR(CheckStreams(plan));
  ICEPIE_RETURN_IF_ERROR(CheckReadPaths(core_, plan, FileNameOf(request)));
  const std::string& name = plan.domain();
  ICEPIE_RETURN_IF_ERROR(CheckNotDeleted(name));
  const auto current = catalog_.Find(name);
  const bool sound = current && current->held.empty() && current->damaged_slices.empty();
  if (sound && current->entry.file() == request.file()) {
    if (!request.validate_only()) {
      supervisor_.Resume(name);
      // Whoever asks next sees that a suspension has ended.
      supervisor_.WaitFor(name, Supervisor::kTakenOnTimeout,
                          [](const DomainView&) { return true; });
    }
    v1::ApplyDomainResponse response = Unchanged(*current, plan);
    if (IsAppliedBy(*current, request.request_id(), absl::Now())) TellAgain(*current, response);
    return response;
  }
  if (current) {
    ICEPIE_RETURN_IF_ERROR(CheckNotApplied(*current, request.request_id(), absl::Now()));
    ICEPIE_RETURN_IF_ERROR(CheckBase(*current, request));
    ICEPIE_RETURN_IF_ERROR(KeepKnownHashes(
        *current, [this](const auto& file, const auto& name) { return Plan(file, name); }, plan));
  }
  if (request.validate_only()) {
    v1::ApplyDomainResponse response;
    const CatalogDomain known = current ? *current : CatalogDomain{};
    ICEPIE_RETURN_IF_ERROR(CheckRenames(known, plan));
    auto changes = CompareDefinitions(known, plan, request.file());
    Estimate(plan, known, changes);
    response.set_domain(name);
    response.set_revision(current ? current->entry.revision() : 0);
    response.set_changed(true);
    response.set_hash(Sha256Hex(request.file()));
    if (current) response.set_base_hash(current->entry.hash());
    response.mutable_changes()->Assign(changes.begin(), changes.end());
    return response;
  }
  ICEPIE_RETURN_IF_ERROR(action.Begin(name));
  ApplyWork work{request, plan, current ? current->entry.revision() : 0, {}, {}, {}};
  ICEPIE_RETURN_IF_ERROR(catalog_.Change(name, [&](CatalogDomain& domain, Operations& operations) {
    return EditForApply(work, domain, operations);
  }));
  const int64_t epoch = Configure(name);
  supervisor_.Resume(name);
  for (const auto& operation : work.cancelled) builds_.Drop(operation.number());
  for (const auto& operation : work.started) builds_.Enqueue(operation.number());
  WaitForEpoch(name, epoch);
  return work.response;
}

// ---- Quarantine, operations ---------------------------------------------------------------------

absl::StatusOr<v1::ListQuarantinedRecordsResponse> DomainManager::Quarantined(
    const v1::ListQuarantinedRecordsRequest& request) const {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.name()));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, reader_.Find(parts.domain));
  ICEPIE_RETURN_IF_ERROR(reader_.FindSlice(*domain, parts.slice).status());
  const DomainView view = supervisor_.AwakeView(parts.domain, kAwakeTimeout);
  absl::Status last = MakeError(absl::StatusCode::kUnavailable,
                                absl::StrCat("no worker of domain ", parts.domain,
                                             " is running; they are being restarted, try again"),
                                "WORKER_LOST", {{"domain", parts.domain}});
  for (const WorkerView* worker : {&view.live, &view.standby}) {
    if (!worker->client) continue;
    using Result = absl::StatusOr<v1::ListQuarantinedRecordsResponse>;
    auto listed = std::make_shared<std::promise<Result>>();
    auto result = listed->get_future();
    worker->client->ListQuarantinedRecords(request, kQuarantineTimeout, [listed](Result response) {
      listed->set_value(std::move(response));
    });
    Result response = result.get();
    if (response.ok() || !absl::IsUnavailable(response.status())) return response;
    last = response.status();
  }
  return last;
}

}  // namespace icepie::server
