#include "server/domain/builds.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "server/base/process_usage.h"
#include "server/base/proto_time.h"
#include "server/domain/domain_assignment.h"
#include "server/domain/promotion.h"
#include "server/domain/slice_facts.h"
#include "server/domain/snapshot_files.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace wv1 = icepie::worker::v1;
namespace v1 = icepie::v1;
using v1::Generation;

constexpr int64_t kAttemptsMax = 3;
constexpr int kListPageSize = 200;
constexpr int kListPageSizeMax = 1000;
// For the serving generation's first snapshot: of a build that somebody will judge, and of one that
// is promoted by itself within limits, which it cannot be without.
constexpr absl::Duration kBaseWaitMax = absl::Seconds(30);
constexpr absl::Duration kBaseWaitMaxByItself = absl::Minutes(15);
constexpr absl::Duration kStoreAgain = absl::Seconds(1);
constexpr absl::Duration kBaseLookInterval = absl::Milliseconds(200);

v1::SliceError MakeSliceError(absl::string_view reason, absl::string_view message) {
  v1::SliceError error;
  error.set_reason(std::string(reason));
  error.set_message(std::string(message));
  *error.mutable_time() = ToProto(absl::Now());
  return error;
}

absl::Status OperationNotFound(int64_t number) {
  return MakeError(absl::StatusCode::kNotFound,
                   absl::StrCat("there is no operation ", OperationName(number)),
                   "OPERATION_NOT_FOUND", {{"operation", OperationName(number)}});
}

// The newest snapshot of the serving generation: the one that a worker reported, else on disk.
std::string BaseSnapshot(const DomainView& workers, const std::string& directory,
                         const icepie::catalog::v1::SliceEntry& slice) {
  const auto* report = FindServingReport(workers.live.report.get(), slice.name());
  if (report != nullptr && report->generation() == slice.serving_generation() &&
      workers.live.client && !report->snapshot().path().empty()) {
    return report->snapshot().path();
  }
  return NewestSnapshot(directory, slice.name(), slice.serving_generation());
}

std::string PinName(int64_t number) { return absl::StrCat("op-", number); }

// What the build is compared with. The live worker goes on and removes old snapshots: this one is
// kept until the build ends.
void SetBase(const DomainView& workers, const std::string& directory,
             const icepie::catalog::v1::SliceEntry& slice, int64_t operation, wv1::BuildJob& job) {
  std::string pinned =
      PinSnapshot(directory, BaseSnapshot(workers, directory, slice), PinName(operation));
  if (pinned.empty()) {
    // Removed between the report and now: a newer one is there.
    pinned =
        PinSnapshot(directory, NewestSnapshot(directory, slice.name(), slice.serving_generation()),
                    PinName(operation));
  }
  job.set_base_generation(slice.serving_generation());
  job.set_base_snapshot(pinned);
  job.set_base_position(std::max<int64_t>(0, SnapshotPosition(pinned)));
}

// Whether the serving generation is well, so that its first snapshot is only a matter of time.
bool IsSnapshotToCome(const DomainView& workers, const icepie::catalog::v1::SliceEntry& slice) {
  if (slice.desired().mode() != v1::DesiredState::RUN) return false;
  if (!workers.live.client || !workers.live.report) return !workers.live.suspended;  // starting
  const auto* report = FindServingReport(workers.live.report.get(), slice.name());
  if (report == nullptr) return true;  // not told yet
  if (report->has_not_saved()) return false;
  return report->state() == v1::STARTING || report->state() == v1::BACKFILLING ||
         report->state() == v1::RUNNING || report->state() == v1::LAGGING;
}

// A build of this very definition was.
bool WasTooSlow(const icepie::catalog::v1::SliceEntry& slice,
                const icepie::catalog::v1::GenerationEntry& build) {
  const auto& all = slice.generations();
  return std::any_of(all.begin(), all.end(), [&](const auto& entry) {
    return entry.generation().error().reason() == "BUILD_TOO_SLOW" &&
           entry.generation().definition_hash() == build.generation().definition_hash();
  });
}

// What an ended build had done, for those who ask later.
void KeepProgress(const wv1::BuildReport& report, absl::Time start_time,
                  Catalog::Operation& operation) {
  *operation.mutable_start_time() = ToProto(start_time);
  operation.set_done_records(report.done_records());
  operation.set_total_records(report.total_records());
  operation.set_quarantined(report.quarantined());
  operation.set_done_before(report.done_before());
}

// Rate and time left follow from what is done since the build began, or was started again.
void SetRate(absl::Duration elapsed, v1::ResliceMetadata& metadata) {
  metadata.set_elapsed_ms(absl::ToInt64Milliseconds(elapsed));
  const double seconds = absl::ToDoubleSeconds(elapsed);
  const int64_t done = metadata.done_records() - metadata.done_before();
  if (seconds <= 0 || done <= 0) return;
  metadata.set_records_per_second(static_cast<double>(done) / seconds);
  const int64_t left = std::max<int64_t>(0, metadata.total_records() - metadata.done_records());
  metadata.set_eta_ms(
      static_cast<int64_t>(static_cast<double>(left) / metadata.records_per_second() * 1000));
}

// A domain's copy that is newer than what is left of the log (Catalog::Load) knows of ends that the
// log has lost.
bool HasEnded(const Catalog& catalog, const Catalog::Operation& operation) {
  const auto domain = catalog.Find(operation.domain());
  if (domain == nullptr) return false;
  const auto slice = domain->slices.find(operation.slice());
  if (slice == domain->slices.end()) return false;
  const auto* entry = FindGeneration(slice->second, operation.generation());
  return entry != nullptr && entry->generation().state() != v1::Generation::BUILDING;
}

void StoreEnd(Catalog& catalog, Catalog::Operation operation) {
  const absl::Status stored =
      catalog.Change(operation.domain(),
                     [&](CatalogDomain& /*domain*/, std::vector<Catalog::Operation>& operations) {
                       operation.set_done(true);
                       *operation.mutable_end_time() = ToProto(absl::Now());
                       operations.push_back(operation);
                       return absl::OkStatus();
                     });
  if (stored.ok()) return;
  spdlog::warn("{}: its end was not stored: {}", OperationName(operation.number()),
               stored.ToString());
}

}  // namespace

std::string OperationName(int64_t number) { return absl::StrCat("operations/op-", number); }

int64_t OperationNumber(const std::string& name) {
  absl::string_view text = name;
  absl::ConsumePrefix(&text, "operations/");
  int64_t number = 0;
  if (!absl::ConsumePrefix(&text, "op-") || !absl::SimpleAtoi(text, &number)) return 0;
  return number;
}

Builds::Builds(Catalog& catalog, Supervisor& supervisor, int running_max,
               absl::Duration pace_judged_after)
    : catalog_(catalog),
      supervisor_(supervisor),
      running_max_(static_cast<size_t>(running_max)),
      pace_judged_after_(pace_judged_after) {}

Builds::~Builds() { Stop(); }

void Builds::Stop() {
  std::map<int64_t, Waiter> waiters;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    waiters.swap(waiters_);
  }
  for (const auto& [id, waiter] : waiters) waiter.done();
  loop_.Stop();
}

void Builds::Resume() {
  auto operations = catalog_.Operations();
  std::reverse(operations.begin(), operations.end());
  for (const auto& operation : operations) {
    if (operation.done()) continue;
    if (HasEnded(catalog_, operation)) {
      StoreEnd(catalog_, operation);
    } else {
      Enqueue(operation.number());
    }
  }
}

void Builds::Enqueue(int64_t number) {
  loop_.Post([this, number] {
    waiting_.push_back(number);
    StartNext();
  });
}

void Builds::SetHeld(bool held) {
  loop_.Post([this, held] {
    held_ = held;
    StartNext();
  });
}

// The first one of a domain with the fewest builds under way: one that makes all of its slices anew
// does not keep the others' waiting until it is done.
int64_t Builds::TakeNextInLine() {
  std::map<std::string, int> under_way;
  {
    MutexLock lock(mutex_);
    for (const auto& [number, progress] : running_) {
      const auto operation = catalog_.FindOperation(number);
      if (operation) ++under_way[operation->domain()];
    }
  }
  const auto under_way_of = [&](int64_t number) {
    const auto operation = catalog_.FindOperation(number);
    return operation ? under_way[operation->domain()] : 0;
  };
  const auto next = std::min_element(
      waiting_.begin(), waiting_.end(),
      [&](int64_t left, int64_t right) { return under_way_of(left) < under_way_of(right); });
  const int64_t number = *next;
  waiting_.erase(next);
  return number;
}

void Builds::StartNext() {
  if (held_) return;
  while (!waiting_.empty()) {
    {
      MutexLock lock(mutex_);
      if (running_.size() >= running_max_) return;
    }
    const int64_t number = TakeNextInLine();
    const auto operation = catalog_.FindOperation(number);
    const bool waits = operation && !operation->done() && AwaitsBase(*operation);
    {
      MutexLock lock(mutex_);
      if (!waits) awaiting_base_.erase(number);
      if (operation && !operation->done() && !waits) running_[number].start_time = absl::Now();
    }
    if (!operation || operation->done()) continue;
    if (waits) {
      loop_.RunAfter(kBaseLookInterval, [this, number] { Enqueue(number); });
      continue;
    }
    const absl::Status started = Start(*operation);
    if (!started.ok()) {
      Finish(number, nullptr, MakeSliceError("BUILD_NOT_STARTED", started.message()));
    }
  }
}

// There is nothing to compare the build with, and there will be in a while.
bool Builds::AwaitsBase(const Catalog::Operation& operation) {
  const auto domain = catalog_.Find(operation.domain());
  if (!domain) return false;
  const auto slice = domain->slices.find(operation.slice());
  if (slice == domain->slices.end()) return false;
  const auto* entry = FindGeneration(slice->second, operation.generation());
  if (entry == nullptr || entry->promote_past_limits()) return false;
  const DomainView workers = supervisor_.View(operation.domain());
  if (!BaseSnapshot(workers, supervisor_.DomainDirectory(operation.domain()), slice->second)
           .empty() ||
      !IsSnapshotToCome(workers, slice->second)) {
    return false;
  }
  const bool by_itself =
      entry->generation().promote_when_ready() && HasLimits(entry->definition().promote());
  MutexLock lock(mutex_);
  const auto [since, first] = awaiting_base_.try_emplace(operation.number(), absl::Now());
  if (first) {
    spdlog::info("{}: waits for the first snapshot of {}.{}, to compare with",
                 OperationName(operation.number()), operation.domain(), operation.slice());
  }
  return absl::Now() - since->second < (by_itself ? kBaseWaitMaxByItself : kBaseWaitMax);
}

absl::Status Builds::Start(const Catalog::Operation& operation) {
  const auto domain = catalog_.Find(operation.domain());
  if (!domain) return absl::NotFoundError("its domain is gone");
  auto slice = domain->slices.find(operation.slice());
  if (slice == domain->slices.end()) return absl::NotFoundError("its slice is gone");
  const auto* generation = FindGeneration(slice->second, operation.generation());
  if (generation == nullptr) return absl::NotFoundError("its generation is gone");
  auto file = domain->revisions.find(generation->generation().revision());
  if (file == domain->revisions.end()) return absl::NotFoundError("its file is gone");

  const std::string directory = supervisor_.DomainDirectory(operation.domain());
  // Snapshots of an earlier attempt are of no use: it ended before they were told of. What it saved
  // on its way stays.
  RemoveGenerations(directory, operation.slice(),
                    [&](int64_t number) { return number == operation.generation(); });
  wv1::Assignment assignment;
  assignment.set_domain(operation.domain());
  assignment.set_epoch(domain->entry.epoch());
  assignment.set_memory_limit_bytes(domain->entry.memory_limit_bytes());
  assignment.set_disk_limit_bytes(domain->entry.disk_limit_bytes());
  auto& spec = *assignment.add_generations();
  spec.set_slice(operation.slice());
  spec.set_number(operation.generation());
  spec.set_file(file->second.file());
  spec.set_definition_hash(generation->generation().definition_hash());
  for (const auto& record : generation->deadly_records()) {
    spec.add_deadly_positions(record.position());
  }
  auto& job = *assignment.mutable_build();
  job.set_slice(operation.slice());
  job.set_number(operation.generation());
  for (const auto& [name, each] : domain->slices) {
    if (each.acknowledgements_size() == 0) continue;
    (*job.mutable_acknowledged())[name] = AcknowledgedOf(each);
  }
  const DomainView workers = supervisor_.View(operation.domain());
  SetBase(workers, directory, slice->second, operation.number(), job);
  for (const auto& [name, each] : domain->slices) {
    if (name == operation.slice()) continue;
    const std::string snapshot = BaseSnapshot(workers, directory, each);
    if (!snapshot.empty()) (*job.mutable_other_snapshots())[name] = snapshot;
  }
  job.set_continue_base(operation.retry());
  spdlog::info("{}: building {}.{} generation {}", OperationName(operation.number()),
               operation.domain(), operation.slice(), operation.generation());
  supervisor_.StartBuild(operation.number(), std::move(assignment),
                         [this, number = operation.number()](const WorkerView& view) {
                           loop_.Post([this, number, view] { OnView(number, view); });
                         });
  return absl::OkStatus();
}

void Builds::OnView(int64_t number, const WorkerView& view) {
  {
    MutexLock lock(mutex_);
    const auto found = running_.find(number);
    if (found == running_.end()) return;  // it has ended
    Progress& progress = found->second;
    // Its end waits to be stored, with what it had done, whatever its process comes to.
    if (progress.store_again != absl::InfinitePast()) return;
    const int64_t before = std::exchange(progress.incarnation, view.incarnation);
    if (before != 0 && before != view.incarnation) {
      progress.start_time = absl::Now();
      progress.report.Clear();
    }
    if (before != view.incarnation) progress.process_start = SteadyNow();
  }
  if (view.status.restarts() >= kAttemptsMax || view.suspended) {
    Finish(number, nullptr,
           MakeSliceError("WORKER_LOST",
                          absl::StrCat("the build's process failed ", view.status.restarts(),
                                       " times; last: ", view.status.last_error())));
    return;
  }
  if (view.client && view.report && view.report->has_build()) OnReport(number, view);
}

void Builds::OnReport(int64_t number, const WorkerView& view) {
  const wv1::BuildReport& report = view.report->build();
  const auto operation = catalog_.FindOperation(number);
  if (!operation || operation->generation() != report.number()) return;
  {
    MutexLock lock(mutex_);
    running_[number].report = report;
  }
  if (report.phase() == "failed") {
    Finish(number, nullptr, report.error());
  } else if (report.phase() == "ready" && !report.snapshot().path().empty()) {
    Finish(number, &report, {});
  } else if (const std::string why = WhyTooSlow(*operation, view); !why.empty()) {
    Finish(number, nullptr,
           MakeSliceError("BUILD_TOO_SLOW",
                          absl::StrCat(why,
                                       "; make its SQL cheaper, or build it however slow it "
                                       "is: icepie slice reslice ",
                                       operation->domain(), ".", operation->slice())));
  }
}

// Empty: it is not, or it is built whatever it costs: it was ended for that before and somebody
// wants it still, or a roll back returns to it.
std::string Builds::WhyTooSlow(const Catalog::Operation& operation, const WorkerView& view) {
  const wv1::BuildReport& report = view.report->build();
  absl::Duration elapsed;
  {
    MutexLock lock(mutex_);
    elapsed = SteadyNow() - running_[operation.number()].process_start;
  }
  // All else is looked up when it can matter.
  const bool counts = report.phase() == "building" || report.phase() == "catching_up";
  if (!counts || elapsed < pace_judged_after_ || operation.retry()) return "";
  // Time in which it did not get the processor does not count: a busy machine is nobody's SQL.
  const absl::Duration worked =
      std::min(elapsed, CpuTimeOf(view.status.pid()).value_or(absl::ZeroDuration()));
  const auto domain = catalog_.Find(operation.domain());
  if (!domain || domain->slices.count(operation.slice()) == 0) return "";
  const auto& slice = domain->slices.at(operation.slice());
  const auto* entry = FindGeneration(slice, operation.generation());
  if (entry == nullptr || entry->promote_past_limits() || WasTooSlow(slice, *entry)) return "";
  return TooSlow(worked, ExpectedTime(catalog_.Operations(), slice, report.total_records()),
                 pace_judged_after_);
}

void Builds::Finish(int64_t number, const wv1::BuildReport* ready, const v1::SliceError& error) {
  auto operation = catalog_.FindOperation(number);
  if (!operation) return;
  const std::string name = operation->domain();
  Progress progress;
  {
    MutexLock lock(mutex_);
    auto found = running_.find(number);
    if (found == running_.end()) return;  // it has ended
    progress = found->second;
  }
  if (SteadyNow() < progress.store_again) return;
  const absl::Status changed =
      catalog_.Change(name, [&](CatalogDomain& domain, std::vector<Catalog::Operation>& changes) {
        operation = catalog_.FindOperation(number);
        if (!operation || operation->done()) return absl::AbortedError("it has ended");
        operation->set_done(true);
        *operation->mutable_end_time() = ToProto(absl::Now());
        KeepProgress(progress.report, progress.start_time, *operation);
        if (ready == nullptr) {
          operation->set_error_code(static_cast<int>(absl::StatusCode::kFailedPrecondition));
          operation->set_error_reason(error.reason());
          operation->set_error_message(error.message());
        }
        changes.push_back(*operation);
        auto slice = domain.slices.find(operation->slice());
        if (slice == domain.slices.end()) return absl::OkStatus();
        auto* entry = FindGeneration(slice->second, operation->generation());
        if (entry == nullptr) return absl::OkStatus();
        Generation& generation = *entry->mutable_generation();
        generation.set_state(ready != nullptr ? Generation::READY : Generation::FAILED);
        if (ready == nullptr) {
          *generation.mutable_error() = error;
          return absl::OkStatus();
        }
        *generation.mutable_ready_time() = operation->end_time();
        generation.set_rows(ready->snapshot().rows());
        if (ready->continues_base()) {
          generation.set_continues_generation(ready->diff().base_generation());
        }
        generation.set_quarantined_count(ready->quarantined());
        generation.set_applied_position(ready->snapshot().position());
        if (ready->has_diff()) *generation.mutable_diff() = ready->diff();
        *generation.mutable_expectations() = ready->expectations();
        entry->set_start_snapshot(ready->snapshot().path());
        return absl::OkStatus();
      });
  if (!changed.ok() && !absl::IsAborted(changed)) {
    if (progress.store_again == absl::InfinitePast()) {
      spdlog::error("{}: its end is not stored yet: {}", OperationName(number), changed.ToString());
    }
    {
      MutexLock lock(mutex_);
      auto found = running_.find(number);
      if (found == running_.end()) return;  // it was cancelled meanwhile
      found->second.store_again = SteadyNow() + kStoreAgain;
    }
    loop_.RunAfter(kStoreAgain, [this, number, error, is_ready = ready != nullptr,
                                 report = ready != nullptr ? *ready : wv1::BuildReport()] {
      Finish(number, is_ready ? &report : nullptr, error);
    });
    return;
  }
  if (!changed.ok()) {  // it was cancelled meanwhile, which whoever did that tells of
    Remove(number);
    return;
  }
  if (on_end_) {
    on_end_(*operation, ready != nullptr ? absl::OkStatus()
                                         : MakeError(absl::StatusCode::kFailedPrecondition,
                                                     error.message(), error.reason()));
  }
  spdlog::info("{}: {}", OperationName(number),
               ready != nullptr ? "ready" : absl::StrCat("failed: ", error.message()));
  Remove(number);
  if (ready != nullptr && on_ready_) {
    on_ready_(name, operation->slice(), operation->generation());
  }
}

// Ends the process; what it saved on its way goes after it, and so do the files of a generation
// that did not become ready.
void Builds::Remove(int64_t number) {
  const auto operation = catalog_.FindOperation(number);
  const bool keep = operation && operation->error_code() == 0;
  // When the process is gone, this may be, too.
  supervisor_.StopBuild(number, [&supervisor = supervisor_, operation, keep, number] {
    if (!operation) return;
    const std::string directory = supervisor.DomainDirectory(operation->domain());
    UnpinSnapshot(directory, PinName(number));
    const auto its = [&](int64_t generation) { return generation == operation->generation(); };
    RemoveUnfinished(directory, operation->slice(), its);
    if (!keep) RemoveGenerations(directory, operation->slice(), its);
  });
  {
    MutexLock lock(mutex_);
    running_.erase(number);
    awaiting_base_.erase(number);
  }
  NotifyDone(number);
  StartNext();
}

void Builds::Drop(int64_t number) {
  loop_.Post([this, number] { Remove(number); });
}

absl::Status Builds::Cancel(int64_t number) {
  const auto operation = catalog_.FindOperation(number);
  if (!operation) return OperationNotFound(number);
  if (operation->done()) return absl::OkStatus();
  const absl::Status changed = catalog_.Change(
      operation->domain(), [&](CatalogDomain& domain, std::vector<Catalog::Operation>& changes) {
        auto current = catalog_.FindOperation(number);
        if (!current || current->done()) return absl::AbortedError("it has ended");
        EndCancelled(*current, "cancelled by an operator");
        changes.push_back(*current);
        auto slice = domain.slices.find(current->slice());
        if (slice == domain.slices.end()) return absl::OkStatus();
        if (auto* entry = FindGeneration(slice->second, current->generation())) {
          entry->mutable_generation()->set_state(Generation::CANCELLED);
        }
        return absl::OkStatus();
      });
  if (absl::IsAborted(changed)) return absl::OkStatus();
  ICEPIE_RETURN_IF_ERROR(changed);
  Drop(number);
  return absl::OkStatus();
}

v1::ResliceMetadata Builds::Metadata(const Catalog::Operation& entry) const {
  v1::ResliceMetadata metadata;
  metadata.set_slice(absl::StrCat(entry.domain(), ".", entry.slice()));
  metadata.set_generation(entry.generation());
  *metadata.mutable_create_time() = entry.create_time();
  metadata.set_phase("starting");
  if (entry.done()) {
    metadata.set_phase(entry.error_code() == 0 ? "ready" : "failed");
    metadata.set_done_records(entry.done_records());
    metadata.set_total_records(entry.total_records());
    metadata.set_quarantined(entry.quarantined());
    metadata.set_done_before(entry.done_before());
    if (entry.has_start_time()) {
      SetRate(FromProto(entry.end_time()) - FromProto(entry.start_time()), metadata);
      metadata.clear_eta_ms();
    }
    return metadata;
  }
  MutexLock lock(mutex_);
  if (awaiting_base_.count(entry.number()) > 0) metadata.set_phase("waiting_for_snapshot");
  auto found = running_.find(entry.number());
  if (found == running_.end() || found->second.report.phase().empty()) return metadata;
  const wv1::BuildReport& report = found->second.report;
  metadata.set_phase(report.phase());
  metadata.set_done_records(report.done_records());
  metadata.set_total_records(report.total_records());
  metadata.set_quarantined(report.quarantined());
  metadata.set_done_before(report.done_before());
  SetRate(absl::Now() - found->second.start_time, metadata);
  return metadata;
}

google::longrunning::Operation Builds::ToOperation(const Catalog::Operation& entry) const {
  google::longrunning::Operation out;
  out.set_name(OperationName(entry.number()));
  out.mutable_metadata()->PackFrom(Metadata(entry));
  out.set_done(entry.done());
  if (!entry.done()) return out;
  if (entry.error_code() != 0) {
    out.mutable_error()->set_code(entry.error_code());
    out.mutable_error()->set_message(
        absl::StrCat(entry.error_reason(), ": ", entry.error_message()));
    return out;
  }
  Generation generation;
  generation.set_number(entry.generation());
  if (const auto domain = catalog_.Find(entry.domain())) {
    auto slice = domain->slices.find(entry.slice());
    const auto* found =
        slice == domain->slices.end() ? nullptr : FindGeneration(slice->second, entry.generation());
    if (found != nullptr) generation = found->generation();
  }
  out.mutable_response()->PackFrom(generation);
  return out;
}

absl::StatusOr<google::longrunning::Operation> Builds::Describe(int64_t number) const {
  const auto operation = catalog_.FindOperation(number);
  if (!operation) return OperationNotFound(number);
  return ToOperation(*operation);
}

absl::StatusOr<google::longrunning::ListOperationsResponse> Builds::List(
    const google::longrunning::ListOperationsRequest& request) const {
  const std::string& token = request.page_token();
  const int64_t before =
      token.empty() ? std::numeric_limits<int64_t>::max() : OperationNumber(token);
  if (before <= 0) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat("page_token \"", absl::CHexEscape(token.substr(0, 100)),
                                  "\": not the next_page_token of a list; start without one"),
                     "PARAMETER_INVALID", {{"parameter", "page_token"}});
  }
  const int asked = request.page_size() > 0 ? request.page_size() : kListPageSize;
  const int size = std::min(asked, kListPageSizeMax);
  google::longrunning::ListOperationsResponse out;
  for (const auto& operation : catalog_.Operations()) {
    if (operation.number() >= before) continue;
    if (out.operations_size() == size) {
      out.set_next_page_token(out.operations().rbegin()->name());
      break;
    }
    *out.add_operations() = ToOperation(operation);
  }
  return out;
}

void Builds::WhenDone(int64_t number, absl::Duration timeout, const std::function<void()>& done) {
  int64_t id = 0;
  {
    MutexLock lock(mutex_);
    if (!stopped_) {
      id = ++last_waiter_;
      waiters_[id] = Waiter{number, done};
    }
  }
  if (id == 0) {
    done();
    return;
  }
  const auto end = [this, id] {
    Waiter waiter;
    {
      MutexLock lock(mutex_);
      auto found = waiters_.find(id);
      if (found == waiters_.end()) return;
      waiter = std::move(found->second);
      waiters_.erase(found);
    }
    waiter.done();
  };
  // Looked up again once it waits: it may have ended in between.
  const auto current = catalog_.FindOperation(number);
  loop_.RunAfter(!current || current->done() ? absl::ZeroDuration() : timeout, end);
}

void Builds::NotifyDone(int64_t number) {
  std::vector<Waiter> ready;
  {
    MutexLock lock(mutex_);
    for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
      if (waiter->second.number != number) {
        ++waiter;
        continue;
      }
      ready.push_back(std::move(waiter->second));
      waiter = waiters_.erase(waiter);
    }
  }
  for (const Waiter& waiter : ready) waiter.done();
}

void EndCancelled(Catalog::Operation& operation, const std::string& why) {
  operation.set_done(true);
  operation.set_error_code(static_cast<int>(absl::StatusCode::kCancelled));
  operation.set_error_reason("CANCELLED");
  operation.set_error_message(why);
  *operation.mutable_end_time() = ToProto(absl::Now());
}

}  // namespace icepie::server
