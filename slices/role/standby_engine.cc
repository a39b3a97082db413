#include "slices/role/standby_engine.h"

#include <utility>

#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "slices/apply/slice_log.h"

namespace icepie::slices {
namespace {

constexpr absl::Duration kSnapshotLookInterval = absl::Milliseconds(500);
// Hashing them all takes a while.
constexpr absl::Duration kDamagedInterval = absl::Minutes(10);
constexpr absl::Duration kRetryInterval = absl::Seconds(5);  // after what may pass

std::shared_ptr<ServedSlice> NothingYet(const GenerationSpec& spec) {
  GenerationInfo info;
  info.slice = spec.slice;
  info.number = spec.number;
  info.definition_hash = spec.definition_hash;
  return std::make_shared<ServedSlice>(info, 0);
}

}  // namespace

StandbyEngine::StandbyEngine(const EngineOptions& options)
    : options_(options), store_(options.directory, options.snapshots), named_(store_) {}

absl::StatusOr<std::unique_ptr<StandbyEngine>> StandbyEngine::Start(const EngineOptions& options) {
  std::unique_ptr<StandbyEngine> engine(new StandbyEngine(options));
  ICEPIE_ASSIGN_OR_RETURN(engine->instance_, OpenInstance(options, 1));
  engine->past_ = std::make_unique<PastSnapshots>(*engine->instance_, engine->store_,
                                                  PastSnapshots::kAttachedMax);
  ICEPIE_ASSIGN_OR_RETURN(engine->queries_,
                          QueryService::Start(*engine->instance_, engine->serving_,
                                              MakeQueryOptions(options, engine->past_.get())));
  engine->thread_ = std::thread([&engine = *engine] { engine.Loop(); });
  return engine;
}

StandbyEngine::~StandbyEngine() {
  Shutdown();
  queries_.reset();
  past_.reset();
  serving_.Replace({});
}

void StandbyEngine::Shutdown() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.SignalAll();
  if (thread_.joinable()) thread_.join();
}

void StandbyEngine::Configure(Assignment assignment) {
  {
    MutexLock lock(mutex_);
    if (assignment.epoch < assignment_.epoch) return;
    assignment_ = std::move(assignment);
    look_now_ = true;
  }
  changed_.SignalAll();
}

EngineReport StandbyEngine::Report() const {
  EngineReport report;
  {
    MutexLock lock(mutex_);
    report.epoch = epoch_;
  }
  for (const auto& [name, slice] : serving_.All()) report.slices.push_back(slice->Report());
  report.hangs = queries_->HeartbeatAge() >= options_.heartbeat_timeout;
  return report;
}

void StandbyEngine::Ask(Question question, QueryService::Done done) {
  queries_->Ask(std::move(question), std::move(done));
}

void StandbyEngine::Refresh(const std::string& slice, int64_t /*min_position*/,
                            absl::Time /*deadline*/, RefreshDone done) {
  done(absl::FailedPreconditionError("slice " + slice + ": a standby computes nothing"));
}

void StandbyEngine::NameSnapshot(const std::string& slice, SnapshotName name, NameDone done) {
  const std::shared_ptr<ServedSlice> served = serving_.Find(slice);
  if (served == nullptr) return done(NoSuchSlice(options_.domain, slice));
  const std::optional<SnapshotInfo> snapshot = served->Report().snapshot;
  if (!snapshot) return done(NoSnapshotYet(*served));
  const auto manifest = store_.Check(snapshot->path);
  done(manifest.ok() ? named_.Add(*manifest, name) : manifest.status());
}

absl::StatusOr<QuarantinePage> StandbyEngine::ListQuarantined(const std::string& slice,
                                                              int64_t after, int64_t page_size) {
  return ReadQuarantine(*instance_, serving_, options_.domain, slice, after, page_size);
}

// The newest good snapshot when it is another one than what serves now.
std::shared_ptr<ServedSlice> StandbyEngine::Newest(const GenerationSpec& spec) {
  std::vector<std::string> paths = store_.List(spec.slice, spec.number);
  if (paths.empty() && !spec.start_snapshot.empty()) paths.push_back(spec.start_snapshot);
  if (paths.empty()) return nullptr;
  const std::string newest = store_.Edition(paths.front());
  const Damaged& damaged = damaged_[spec.Id()];
  const bool none_good = damaged.newest == newest && SteadyNow() < damaged.until;
  if (looked_at_[spec.Id()] == newest || none_good) return nullptr;
  auto served = OpenNewestSnapshot(*instance_, store_, spec);
  if (served.ok()) {
    // As it is now: it may just have turned out not to be usable.
    looked_at_[spec.Id()] = store_.Edition(paths.front());
    return *std::move(served);
  }
  SliceWarn(spec.slice, "{}", served.status().ToString());
  const absl::Duration rest = absl::IsNotFound(served.status()) ? kDamagedInterval : kRetryInterval;
  damaged_[spec.Id()] = {store_.Edition(paths.front()), SteadyNow() + rest};
  EndIfBroken(served.status());
  return nullptr;
}

void StandbyEngine::EndIfBroken(const absl::Status& status) const {
  if (absl::IsInternal(status)) options_.on_fatal(status.ToString());
}

// A generation that was promoted a moment ago has one snapshot, which may be damaged: then the one
// that it replaced answers, and says which it is.
std::shared_ptr<ServedSlice> StandbyEngine::OfEarlierGeneration(const GenerationSpec& spec) {
  const auto manifest = store_.NewestOfEarlier(spec.slice, spec.number);
  if (!manifest.ok()) return nullptr;
  SliceWarn(spec.slice, "generation {} has no good snapshot, generation {} answers", spec.number,
            manifest->info.number);
  auto served = OpenOrNote(*instance_, store_, *manifest);
  if (served.ok()) return *served;
  SliceWarn(spec.slice, "{}", served.status().ToString());
  EndIfBroken(served.status());
  return nullptr;
}

void StandbyEngine::Look(const Assignment& assignment) {
  const ServingSet::Slices before = serving_.All();
  ServingSet::Slices after;
  bool changed = false;
  for (const GenerationSpec& spec : assignment.generations) {
    if (!spec.serving) continue;
    const auto present = before.find(spec.slice);
    const bool same = present != before.end() && present->second->info().number == spec.number;
    if (!same) looked_at_.erase(spec.Id());
    std::shared_ptr<ServedSlice> newest = Newest(spec);
    changed = changed || newest != nullptr || !same;
    // Until a promoted generation has a snapshot, the one before it goes on answering.
    if (newest == nullptr && present != before.end()) newest = present->second;
    if (newest == nullptr) newest = OfEarlierGeneration(spec);
    if (newest == nullptr) newest = NothingYet(spec);
    if (newest->acknowledged() != spec.acknowledged) {
      const absl::Status counted = SetAcknowledged(*instance_, spec.acknowledged, *newest);
      if (!counted.ok()) spdlog::warn("{}: {}", spec.slice, counted.ToString());
    }
    newest->SetServing(true);
    newest->SetState(spec.frozen ? SliceState::kFrozen : SliceState::kRunning);
    after[spec.slice] = std::move(newest);
  }
  if (changed || after.size() != before.size()) serving_.Replace(std::move(after));
  if (changed) queries_->PositionsMoved();
}

void StandbyEngine::Loop() {
  while (true) {
    Assignment assignment;
    bool assigned = false;
    {
      MutexLock lock(mutex_);
      if (!stopping_ && !look_now_) changed_.WaitFor(mutex_, kSnapshotLookInterval);
      if (stopping_) return;
      assigned = std::exchange(look_now_, false);
      assignment = assignment_;
    }
    if (assigned) queries_->SetTimeout(QueryTimeout(options_, assignment));
    Look(assignment);
    past_->DetachIdle(SteadyNow());
    MutexLock lock(mutex_);
    epoch_ = assignment.epoch;
  }
}

}  // namespace icepie::slices
