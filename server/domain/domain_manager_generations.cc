// Generations of slices: built again, compared, promoted, rolled back, ended.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "google/protobuf/struct.pb.h"
#include "server/admin/request_replay.h"
#include "server/base/proto_time.h"
#include "server/domain/definition_changes.h"
#include "server/domain/desired_change.h"
#include "server/domain/domain_manager.h"
#include "server/domain/live_report.h"
#include "server/domain/promotion.h"
#include "server/domain/slice_facts.h"
#include "server/domain/snapshot_files.h"
#include "server/domain/unwanted_files.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace cv1 = icepie::catalog::v1;
namespace wv1 = icepie::worker::v1;
using v1::Generation;
using Operations = std::vector<Catalog::Operation>;

constexpr absl::Duration kSwapTimeout = absl::Seconds(30);
// A caller waits no longer for a generation to catch up; it goes on without him.
constexpr absl::Duration kCatchUpTimeout = absl::Seconds(15);
constexpr absl::Duration kWarmForPromotion = absl::Minutes(10);
constexpr absl::Duration kSweepInterval = absl::Seconds(1);
// So many sweeps after one another promotions are looked for, and as many cleanings unwanted files
// of all domains.
constexpr int64_t kSweepsPerLook = 20;
constexpr int64_t kCleaningsPerLook = 20;

bool IsStopped(const wv1::SliceReport& report) {
  return report.state() == v1::FAULTED || report.state() == v1::HELD;
}

// A promotion was refused for that alone.
bool IsCatchingUp(const absl::Status& refusal) {
  const auto detail = GetErrorDetail(refusal);
  return detail && detail->metadata.count("gate") > 0 && detail->metadata.at("gate") == "catch_up";
}

absl::Status SliceGone() { return ChangedMeanwhile("the slice was deleted meanwhile"); }

// This very request was carried out, and the daemon ended before it had kept the answer.
bool IsServedBy(const cv1::SliceEntry& slice, const std::string& request_id) {
  const auto* serving = FindGeneration(slice, slice.serving_generation());
  return !request_id.empty() && slice.served_by_request() == request_id && serving != nullptr &&
         absl::Now() - FromProto(serving->generation().promote_time()) < kReplayAge;
}

std::string FullName(const SliceName& slice) {
  return absl::StrCat(slice.domain, ".", slice.slice);
}

}  // namespace

absl::Status DomainManager::CheckNoBuild(const std::string& domain,
                                         const std::string& slice) const {
  for (const auto& operation : catalog_.Operations()) {
    if (operation.done() || operation.domain() != domain || operation.slice() != slice) continue;
    return MakeError(
        absl::StatusCode::kAborted,
        absl::StrCat(OperationName(operation.number()), " of ", ActorOr(operation.actor()),
                     " is building ", domain, ".", slice, "; wait for it or cancel it"),
        "OPERATION_IN_PROGRESS",
        {{"operation", OperationName(operation.number())}, {"actor", operation.actor()}});
  }
  return absl::OkStatus();
}

std::optional<Catalog::Operation> DomainManager::BuildFor(const SliceName& slice,
                                                          const std::string& request_id) const {
  if (request_id.empty()) return std::nullopt;
  for (const auto& operation : catalog_.Operations()) {
    const bool is_of_slice = operation.domain() == slice.domain && operation.slice() == slice.slice;
    const bool is_asked_again = operation.request_id() == request_id &&
                                absl::Now() - FromProto(operation.create_time()) < kReplayAge;
    if (is_of_slice && is_asked_again) return operation;
  }
  return std::nullopt;
}

absl::StatusOr<google::longrunning::Operation> DomainManager::Reslice(
    const v1::ResliceSliceRequest& request, AdminAction& action,
    v1::ApplyDomainRequest::Promote promote, bool retry) {
  ICEPIE_RETURN_IF_ERROR(CheckNotSafeMode());
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.name()));
  ICEPIE_ASSIGN_OR_RETURN(const auto current, reader_.Find(parts.domain));
  ICEPIE_RETURN_IF_ERROR(reader_.FindSlice(*current, parts.slice).status());
  if (const auto begun = BuildFor(parts, request.request_id())) {
    return builds_.Describe(begun->number());
  }
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  int64_t number = 0;
  ICEPIE_RETURN_IF_ERROR(
      catalog_.Change(parts.domain, [&](CatalogDomain& domain, Operations& operations) {
        auto slice = domain.slices.find(parts.slice);
        const auto* definition = FindDefinition(domain, parts.slice);
        if (slice == domain.slices.end() || definition == nullptr) return SliceGone();
        ICEPIE_RETURN_IF_ERROR(CheckNoBuild(parts.domain, parts.slice));
        CancelPending(slice->second, "replaced by a newer build", operations);
        number = AddBuild(slice->second, *definition, domain.entry.revision(), request.actor(),
                          request.reason(), operations);
        operations.back().set_retry(retry);
        operations.back().set_request_id(request.request_id());
        slice->second.mutable_generations()->rbegin()->mutable_generation()->set_promote_when_ready(
            PromotesByItself(promote, *definition));
        return absl::OkStatus();
      }));
  Configure(parts.domain);
  builds_.Enqueue(number);
  return builds_.Describe(number);
}

absl::StatusOr<v1::GenerationDiff> DomainManager::Diff(
    const v1::DiffGenerationsRequest& request) const {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.name()));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, reader_.Find(parts.domain));
  ICEPIE_ASSIGN_OR_RETURN(const auto* slice, reader_.FindSlice(*domain, parts.slice));
  const int64_t number =
      request.generation() == 0 ? slice->last_generation() : request.generation();
  const auto* entry = FindGeneration(*slice, number);
  if (entry == nullptr) return GenerationNotFound(request.name(), number);
  if (entry->generation().has_diff()) return entry->generation().diff();
  const bool building = entry->generation().state() == Generation::BUILDING;
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat(request.name(), " generation ", number, " has no row diff",
                   building ? " yet: it is being built" : ": it was not built beside another one"),
      "DIFF_NOT_READY", {{"generation", absl::StrCat(number)}});
}

// What an action has begun and this one now knows the end of.
void DomainManager::RecordEnd(const Catalog::Operation& operation, const absl::Status& outcome) {
  google::protobuf::Struct request;
  auto& fields = *request.mutable_fields();
  fields["operation"].set_string_value(OperationName(operation.number()));
  fields["name"].set_string_value(absl::StrCat(operation.domain(), ".", operation.slice()));
  fields["generation"].set_number_value(static_cast<double>(operation.generation()));
  const std::string action = "EndOperation";
  const std::string actor = "icepied";
  const absl::Status recorded = log_.EndAtOnce({action, actor, request, ""}, outcome);
  if (!recorded.ok()) spdlog::warn("admin log: {}", recorded.ToString());
}

// ---- Promoting ----------------------------------------------------------------------------------

absl::Status DomainManager::CheckSnapshot(const std::string& domain, const std::string& slice_name,
                                          const cv1::GenerationEntry& entry) const {
  const std::string snapshot =
      absl::StrCat(supervisor_.DomainDirectory(domain), "/", entry.start_snapshot());
  if (!entry.start_snapshot().empty() && access(snapshot.c_str(), R_OK) == 0) {
    return absl::OkStatus();
  }
  // It may have newer ones, of the live worker.
  const std::string slice = slice_name.substr(slice_name.find('.') + 1);
  if (!NewestSnapshot(supervisor_.DomainDirectory(domain), slice, entry.generation().number())
           .empty()) {
    return absl::OkStatus();
  }
  return GateError(slice_name, entry.generation().number(), "snapshot",
                   "its snapshot is missing from the disk; reslice it");
}

absl::Status DomainManager::WarmUp(const SliceName& slice, int64_t generation) {
  const absl::Time now = absl::Now();
  const auto current = catalog_.Find(slice.domain);
  if (!current) return SliceGone();
  auto found = current->slices.find(slice.slice);
  if (found == current->slices.end()) return SliceGone();
  const auto* known = FindGeneration(found->second, generation);
  if (known != nullptr && IsWarm(known->generation(), now + 2 * kCatchUpTimeout)) {
    return absl::OkStatus();
  }
  ICEPIE_RETURN_IF_ERROR(catalog_.Change(slice.domain, [&](CatalogDomain& domain, Operations&) {
    auto changed = domain.slices.find(slice.slice);
    if (changed == domain.slices.end()) return SliceGone();
    auto* entry = FindGeneration(changed->second, generation);
    if (entry == nullptr) return GenerationNotFound(FullName(slice), generation);
    *entry->mutable_generation()->mutable_warm_until() = ToProto(now + kWarmForPromotion);
    return absl::OkStatus();
  }));
  Configure(slice.domain);
  return absl::OkStatus();
}

// Where the live worker cannot run, which the new generation may be there to repair: what answers
// does not go back.
absl::Status DomainManager::CheckSaved(const SliceName& slice, int64_t generation,
                                       int64_t serving_position) const {
  const std::string directory = supervisor_.DomainDirectory(slice.domain);
  const int64_t own = SnapshotPosition(NewestSnapshot(directory, slice.slice, generation));
  if (IsCaughtUp(own, serving_position)) return absl::OkStatus();
  const bool may_come = !supervisor_.View(slice.domain).live.suspended;
  return GateError(FullName(slice), generation, "catch_up",
                   absl::StrCat("the live worker does not run, and its snapshot is of position ",
                                own, ", that of the serving one of position ", serving_position,
                                may_come ? "; promote it again in a while, " : "; ",
                                "reslice it, or --force it"));
}

absl::Status DomainManager::CatchUp(const SliceName& slice, int64_t generation, bool judge) {
  const auto current = catalog_.Find(slice.domain);
  if (!current) return SliceGone();
  auto found = current->slices.find(slice.slice);
  if (found == current->slices.end()) return SliceGone();
  // Frozen, it is promoted where it stands.
  if (found->second.desired().mode() == v1::DesiredState::FREEZE) return absl::OkStatus();
  const std::string directory = supervisor_.DomainDirectory(slice.domain);
  const int64_t serving = found->second.serving_generation();
  const int64_t saved = SnapshotPosition(NewestSnapshot(directory, slice.slice, serving));
  // One that rests, or is being started, is waited for: the standby would go back to what the
  // generation held when it was built.
  if (!supervisor_.View(slice.domain).live.suspended) {
    ICEPIE_RETURN_IF_ERROR(WarmUp(slice, generation));
    supervisor_.WakeLive(slice.domain);
  }
  const bool settled =
      supervisor_.WaitFor(slice.domain, kCatchUpTimeout, [&](const DomainView& view) {
        // It may have been on its way to rest when it was woken.
        if (IsResting(view.live)) supervisor_.WakeLive(slice.domain);
        if (!view.live.client) return view.live.suspended;
        const auto* report = FindGenerationReport(view.live.report.get(), slice.slice, generation);
        if (report == nullptr) return false;
        if (IsStopped(*report)) return true;
        // One that has just been started may not have read yet how far the serving one is.
        const bool as_saved =
            report->strategy() == "recompute" || IsCaughtUp(report->applied_position(), saved);
        return as_saved && HasCaughtUp(view, slice.slice, generation);
      });
  if (!judge) return absl::OkStatus();
  const DomainView view = supervisor_.View(slice.domain);
  if (!view.live.client) return CheckSaved(slice, generation, saved);
  const auto* report = FindGenerationReport(view.live.report.get(), slice.slice, generation);
  if (report != nullptr && IsStopped(*report)) {
    return GateError(FullName(slice), generation, "state",
                     absl::StrCat("it is ", v1::SliceState_Name(report->state()), ": ",
                                  report->last_error().message()));
  }
  if (settled) return absl::OkStatus();
  return GateError(
      FullName(slice), generation, "catch_up",
      absl::StrCat("it is at position ", report == nullptr ? 0 : report->applied_position(),
                   " and still catching up; promote it again in a while"));
}

void DomainManager::KeepLastState(const std::string& domain, cv1::SliceEntry& slice) const {
  const auto view = supervisor_.View(domain);
  const auto* report = FindServingReport(view.live.report.get(), slice.name());
  auto* entry = FindGeneration(slice, slice.serving_generation());
  if (report == nullptr || entry == nullptr || report->generation() != slice.serving_generation()) {
    return;
  }
  entry->mutable_generation()->set_applied_position(report->applied_position());
  *entry->mutable_generation()->mutable_applied_time() = report->applied_time();
  entry->mutable_generation()->set_quarantined_count(report->counts().quarantined());
}

// It is not promoted now: nobody needs it fresh, nor its domain awake for it. One that only has not
// caught up yet goes on with that.
void DomainManager::CoolDown(const SliceName& slice, int64_t generation) {
  const auto current = catalog_.Find(slice.domain);
  if (!current || current->slices.count(slice.slice) == 0) return;
  const cv1::SliceEntry& known = current->slices.at(slice.slice);
  const auto* warm = generation == 0 ? PendingGeneration(known) : FindGeneration(known, generation);
  if (warm == nullptr || warm->generation().state() != Generation::READY) return;
  if (!warm->generation().has_warm_until()) return;
  const int64_t number = warm->generation().number();
  const absl::Status changed =
      catalog_.Change(slice.domain, [&](CatalogDomain& domain, Operations&) {
        auto found = domain.slices.find(slice.slice);
        auto* entry =
            found == domain.slices.end() ? nullptr : FindGeneration(found->second, number);
        if (entry == nullptr) return SliceGone();
        if (entry->generation().state() != Generation::READY)
          return absl::AbortedError("it serves");
        entry->mutable_generation()->clear_warm_until();
        return absl::OkStatus();
      });
  if (changed.ok()) Configure(slice.domain);  // else its time ends it
}

absl::Status DomainManager::EditForPromote(const v1::PromoteGenerationRequest& request,
                                           const SliceName& name, CatalogDomain& domain) {
  auto found = domain.slices.find(name.slice);
  if (found == domain.slices.end()) return SliceGone();
  cv1::SliceEntry& slice = found->second;
  ICEPIE_RETURN_IF_ERROR(CheckServing(request.name(), slice, request.serving_generation()));
  ICEPIE_ASSIGN_OR_RETURN(
      const int64_t number,
      CheckPromotable(request.name(), slice, request.generation(), request.force()));
  const auto& entry = *FindGeneration(slice, number);
  ICEPIE_RETURN_IF_ERROR(CheckSnapshot(name.domain, request.name(), entry));
  KeepLastState(name.domain, slice);
  const ServeChange change{ActorOr(request.actor()), request.reason(), absl::Now(),
                           entry.generation().copy_of() > 0, request.request_id()};
  Serve(domain, change, number, slice);
  if (request.thaw()) {
    *slice.mutable_desired() = DesiredAfter(
        {SliceAction::kThaw, request.actor(), request.reason(), {}}, slice, absl::Now());
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Slice> DomainManager::Promote(const v1::PromoteGenerationRequest& request,
                                                 AdminAction& action) {
  ICEPIE_RETURN_IF_ERROR(CheckNotSafeMode());
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.name()));
  ICEPIE_ASSIGN_OR_RETURN(const auto current, reader_.Find(parts.domain));
  ICEPIE_ASSIGN_OR_RETURN(const auto* slice, reader_.FindSlice(*current, parts.slice));
  if (request.force() && request.reason().empty()) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     "promoting past the gates needs a reason (--reason), which is written down",
                     "PARAMETER_INVALID", {{"field", "reason"}});
  }
  if (IsServedBy(*slice, request.request_id())) return Swap(parts);
  ICEPIE_RETURN_IF_ERROR(CheckServing(request.name(), *slice, request.serving_generation()));
  const absl::Status promoted = PromoteReady(request, parts, *slice, action);
  if (promoted.ok()) return Swap(parts);
  const bool goes_on = IsCatchingUp(promoted) && !supervisor_.View(parts.domain).live.suspended;
  if (!goes_on && !IsPassing(promoted)) CoolDown(parts, request.generation());
  return promoted;
}

absl::Status DomainManager::PromoteReady(const v1::PromoteGenerationRequest& request,
                                         const SliceName& name, const cv1::SliceEntry& slice,
                                         AdminAction& action) {
  v1::PromoteGenerationRequest settled = request;
  ICEPIE_ASSIGN_OR_RETURN(
      const int64_t number,
      CheckPromotable(request.name(), slice, request.generation(), request.force()));
  settled.set_generation(number);
  ICEPIE_RETURN_IF_ERROR(
      CheckSnapshot(name.domain, request.name(), *FindGeneration(slice, number)));
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  ICEPIE_RETURN_IF_ERROR(CatchUp(name, number, !request.force()));
  return catalog_.Change(name.domain, [&](CatalogDomain& domain, Operations&) {
    return EditForPromote(settled, name, domain);
  });
}

absl::StatusOr<v1::Slice> DomainManager::Swap(const SliceName& slice) {
  const auto domain = catalog_.Find(slice.domain);
  if (!domain || domain->slices.count(slice.slice) == 0) return SliceGone();
  const int64_t serving = domain->slices.at(slice.slice).serving_generation();
  spdlog::info("{}: generation {} serves", FullName(slice), serving);
  const int64_t epoch = Configure(slice.domain);
  supervisor_.Resume(slice.domain);
  supervisor_.WaitFor(slice.domain, kSwapTimeout, [&](const DomainView& view) {
    return LiveHas(view, epoch, slice.slice,
                   [&](const wv1::SliceReport& report) { return report.generation() == serving; });
  });
  return reader_.GetSlice(FullName(slice));
}

// ---- Rolling back -------------------------------------------------------------------------------

absl::StatusOr<int64_t> DomainManager::RebuildForRollback(const v1::RollbackSliceRequest& request,
                                                          const SliceName& name, int64_t target) {
  int64_t operation = 0;
  ICEPIE_RETURN_IF_ERROR(
      catalog_.Change(name.domain, [&](CatalogDomain& domain, Operations& operations) {
        auto slice = domain.slices.find(name.slice);
        if (slice == domain.slices.end()) return SliceGone();
        ICEPIE_RETURN_IF_ERROR(CheckNoBuild(name.domain, name.slice));
        const auto* entry = FindGeneration(slice->second, target);
        if (entry == nullptr) return GenerationNotFound(request.name(), target);
        const cv1::GenerationEntry old = *entry;
        CancelPending(slice->second, "replaced by a roll back", operations);
        operation = AddBuild(slice->second, old.definition(), old.generation().revision(),
                             request.actor(), request.reason(), operations);
        operations.back().set_request_id(request.request_id());
        auto& build = *slice->second.mutable_generations()->rbegin();
        build.set_promote_past_limits(true);
        build.mutable_generation()->set_copy_of(target);
        build.mutable_generation()->set_promote_when_ready(true);
        return absl::OkStatus();
      }));
  Configure(name.domain);
  builds_.Enqueue(operation);
  return operation;
}

absl::StatusOr<v1::RollbackSliceResponse> DomainManager::Rollback(
    const v1::RollbackSliceRequest& request, AdminAction& action) {
  if (!request.validate_only()) ICEPIE_RETURN_IF_ERROR(CheckNotSafeMode());
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.name()));
  ICEPIE_ASSIGN_OR_RETURN(const auto current, reader_.Find(parts.domain));
  ICEPIE_ASSIGN_OR_RETURN(const auto* slice, reader_.FindSlice(*current, parts.slice));
  if (IsServedBy(*slice, request.request_id())) {
    v1::RollbackSliceResponse made;
    made.set_generation(slice->serving_generation());
    made.set_instant(true);
    ICEPIE_ASSIGN_OR_RETURN(*made.mutable_slice(), Swap(parts));
    return made;
  }
  if (const auto begun = BuildFor(parts, request.request_id())) {
    v1::RollbackSliceResponse made;
    const auto* build = FindGeneration(*slice, begun->generation());
    if (build != nullptr) made.set_generation(build->generation().copy_of());
    made.set_operation(OperationName(begun->number()));
    ICEPIE_ASSIGN_OR_RETURN(*made.mutable_slice(), reader_.GetSlice(request.name()));
    return made;
  }
  ICEPIE_RETURN_IF_ERROR(CheckServing(request.name(), *slice, request.serving_generation()));
  ICEPIE_ASSIGN_OR_RETURN(const int64_t target,
                          RollbackTarget(request.name(), *slice, request.generation()));
  ICEPIE_RETURN_IF_ERROR(CheckNoBuild(parts.domain, parts.slice));
  const Generation& generation = FindGeneration(*slice, target)->generation();
  v1::RollbackSliceResponse response;
  response.set_generation(target);
  response.set_instant(IsWarm(generation, absl::Now()));
  *response.mutable_replace_time() = generation.replace_time();
  const DomainView view = supervisor_.View(parts.domain);
  const auto* report = FindGenerationReport(view.live.report.get(), parts.slice, target);
  const bool known = response.instant() && report != nullptr;
  const int64_t position = known ? report->applied_position() : generation.applied_position();
  response.set_lag_records(std::max<int64_t>(0, core_.head_position() - position));
  response.set_quarantined_count(known ? report->counts().quarantined()
                                       : generation.quarantined_count());
  if (request.validate_only()) {
    ICEPIE_ASSIGN_OR_RETURN(*response.mutable_slice(), reader_.GetSlice(request.name()));
    return response;
  }
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  if (!response.instant()) {
    ICEPIE_ASSIGN_OR_RETURN(const int64_t operation, RebuildForRollback(request, parts, target));
    response.set_operation(OperationName(operation));
    ICEPIE_ASSIGN_OR_RETURN(*response.mutable_slice(), reader_.GetSlice(request.name()));
    return response;
  }
  ICEPIE_RETURN_IF_ERROR(catalog_.Change(parts.domain, [&](CatalogDomain& domain, Operations&) {
    auto found = domain.slices.find(parts.slice);
    if (found == domain.slices.end()) return SliceGone();
    ICEPIE_RETURN_IF_ERROR(
        CheckServing(request.name(), found->second, slice->serving_generation()));
    ICEPIE_RETURN_IF_ERROR(CheckNoBuild(parts.domain, parts.slice));
    ICEPIE_RETURN_IF_ERROR(RollbackTarget(request.name(), found->second, target).status());
    KeepLastState(parts.domain, found->second);
    const ServeChange change{ActorOr(request.actor()), request.reason(), absl::Now(), true,
                             request.request_id()};
    Serve(domain, change, target, found->second);
    return absl::OkStatus();
  }));
  ICEPIE_ASSIGN_OR_RETURN(*response.mutable_slice(), Swap(parts));
  return response;
}

// ---- Promoting by itself ------------------------------------------------------------------------

void DomainManager::ResumePromotions() {
  // Which none survives: each would only be tried, and told of as failed, at every look.
  if (!core_.ReadOnlyCause().empty()) return;
  for (const auto& domain : catalog_.Domains()) {
    for (const auto& [name, slice] : domain->slices) {
      for (const auto& entry : slice.generations()) {
        if (!entry.generation().promote_when_ready() ||
            entry.generation().state() != Generation::READY) {
          continue;
        }
        LineUpPromotion({domain->entry.name(), name}, entry.generation().number());
      }
    }
  }
}

// One that finds no room is found by a later sweep.
void DomainManager::LineUpPromotion(const SliceName& slice, int64_t generation) {
  {
    MutexLock lock(mutex_);
    if (!promoting_.insert(absl::StrCat(FullName(slice), "/", generation)).second) return;
  }
  RunPromotion(slice, generation, kPromoteAttempts);
}

void DomainManager::RunPromotion(const SliceName& slice, int64_t generation, int attempts) {
  const auto leave = [this, name = absl::StrCat(FullName(slice), "/", generation)] {
    MutexLock lock(mutex_);
    promoting_.erase(name);
  };
  const auto promote = [this, slice, generation, attempts, leave] {
    const absl::Time begun = SteadyNow();
    if (!PromoteByItself(slice, generation, attempts == 1)) return leave();
    // Others have their turn meanwhile. What is refused at once, as the live worker cannot run, is
    // not tried sooner than what waited for it.
    clock_.RunAfter(begun + kCatchUpTimeout - SteadyNow(), [this, slice, generation, attempts] {
      RunPromotion(slice, generation, attempts - 1);
    });
  };
  const bool taken = promotions_.Run(promote, slice.domain);
  if (!taken) leave();
}

absl::Status DomainManager::TryPromoteByItself(const SliceName& slice,
                                               const cv1::GenerationEntry& entry) {
  const Generation& generation = entry.generation();
  if (!entry.promote_past_limits()) {
    ICEPIE_RETURN_IF_ERROR(CheckLimits(FullName(slice), entry.definition().promote(), generation));
  }
  v1::PromoteGenerationRequest request;
  request.set_name(FullName(slice));
  request.set_generation(generation.number());
  request.set_actor(generation.actor());
  request.set_reason(generation.reason().empty() ? "promoted when it was ready"
                                                 : generation.reason());
  return RunAction(&log_, "PromoteGeneration", request.actor(), request,
                   [&](AdminAction& action) { return Promote(request, action); })
      .status();
}

bool DomainManager::PromoteByItself(const SliceName& slice, int64_t generation, bool last) {
  const auto current = catalog_.Find(slice.domain);
  if (!current || current->slices.count(slice.slice) == 0) return false;
  const auto* entry = FindGeneration(current->slices.at(slice.slice), generation);
  if (entry == nullptr || !entry->generation().promote_when_ready()) return false;
  const absl::Status promoted = TryPromoteByItself(slice, *entry);
  if (promoted.ok()) return false;
  if (!last && IsCatchingUp(promoted)) return true;
  if (IsPassing(promoted)) {  // what is lined up by a later sweep finds it as it is
    spdlog::warn("{}: generation {} is not promoted yet: {}", FullName(slice), generation,
                 std::string(promoted.message()));
    return false;
  }
  spdlog::warn("{}: generation {} is not promoted: {}", FullName(slice), generation,
               std::string(promoted.message()));
  bool was_warm = false;
  const auto note = [&](CatalogDomain& changed, Operations&) {
    auto found = changed.slices.find(slice.slice);
    auto* kept =
        found == changed.slices.end() ? nullptr : FindGeneration(found->second, generation);
    if (kept == nullptr) return SliceGone();
    kept->mutable_generation()->set_promote_when_ready(false);
    was_warm = kept->generation().has_warm_until();
    kept->mutable_generation()->clear_warm_until();  // as CoolDown
    auto& error = *kept->mutable_generation()->mutable_not_promoted();
    error.set_reason(ErrorReason(promoted));
    error.set_message(std::string(promoted.message()));
    *error.mutable_time() = ToProto(absl::Now());
    return absl::OkStatus();
  };
  const absl::Status noted = catalog_.Change(slice.domain, note);
  if (!noted.ok()) spdlog::error("{}: {}", FullName(slice), noted.ToString());
  if (noted.ok() && was_warm) Configure(slice.domain);
  return false;
}

// ---- Ending -------------------------------------------------------------------------------------

void DomainManager::ScheduleSweep() {
  clock_.RunAfter(kSweepInterval, [this] {
    const bool taken = background_.Run([this] {
      Sweep();
      ScheduleSweep();
    });
    if (!taken) ScheduleSweep();  // so many verdicts wait
  });
}

void DomainManager::Sweep() {
  for (const std::string& domain : catalog_.DomainNames()) {
    EndWarm(domain);
    LiftSuspensions(domain);
  }
  KeepVerdictsAgain();
  // Those that found no room, and those that failed while the core took no change.
  if (++sweeps_ % kSweepsPerLook == 0 && !supervisor_.safe_mode()) ResumePromotions();
}

void DomainManager::ScheduleCleaning() {
  clock_.RunAfter(kSweepInterval, [this] {
    cleaner_.Run([this] {
      Clean();
      ScheduleCleaning();
    });
  });
}

void DomainManager::Clean() {
  PurgeDeleted();
  std::set<std::string> unswept;
  {
    MutexLock lock(mutex_);
    unswept.swap(unswept_);
  }
  // A snapshot that was under way when its slice went is published after that.
  if (++cleanings_ % kCleaningsPerLook == 0) {
    const std::vector<std::string> domains = catalog_.DomainNames();
    unswept.insert(domains.begin(), domains.end());
  }
  for (const std::string& domain : unswept) {
    if (RemoveUnwanted(domain)) continue;
    MutexLock lock(mutex_);
    unswept_.insert(domain);
  }
}

void DomainManager::EndWarm(const std::string& name) {
  const absl::Time now = absl::Now();
  const auto ended = [now](const Generation& generation) {
    return generation.has_warm_until() && !IsWarm(generation, now);
  };
  const auto domain = catalog_.Find(name);
  if (!domain || !domain->held.empty()) return;
  bool any = false;
  for (const auto& [slice, entry] : domain->slices) {
    for (const auto& each : entry.generations()) any = any || ended(each.generation());
  }
  if (!any) return;
  const absl::Status changed = catalog_.Change(name, [&](CatalogDomain& edited, Operations&) {
    for (auto& [slice, entry] : edited.slices) {
      for (auto& each : *entry.mutable_generations()) {
        if (ended(each.generation())) each.mutable_generation()->clear_warm_until();
      }
    }
    return absl::OkStatus();
  });
  // While the core takes no change it stays warm: the next sweep tries again.
  if (changed.ok()) Configure(name);
}

// False while a worker may still hold what is to be removed.
bool DomainManager::RemoveUnwanted(const std::string& name) {
  const auto domain = catalog_.Find(name);
  if (!domain || !IsWhole(catalog_, *domain)) return true;
  int64_t epoch = 0;
  {
    // Not the catalog's: builds end without a word to the other workers.
    MutexLock lock(mutex_);
    epoch = told_[name];
  }
  const DomainView view = supervisor_.View(name);
  for (const WorkerView* worker : {&view.live, &view.standby}) {
    const bool told = worker->report && worker->report->epoch() >= epoch;
    if (worker->client && !told) return false;
    if (!worker->client && worker->status.pid() != 0) return false;  // starting
  }
  RemoveUnwantedFiles(catalog_, *domain, supervisor_.DomainDirectory(name), absl::Now());
  return true;
}

}  // namespace icepie::server
