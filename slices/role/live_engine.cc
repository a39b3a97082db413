#include "slices/role/live_engine.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/base/thread_priority.h"
#include "slices/apply/flight_record.h"
#include "slices/apply/slice_fault.h"
#include "slices/apply/slice_log.h"
#include "slices/apply/turn_rest.h"
#include "slices/plan/partial_plan.h"
#include "slices/plan/sql_binding.h"

namespace icepie::slices {
namespace {

constexpr int kFailuresBeforeFault = 4;
constexpr size_t kPlansAtOnce = 2;
constexpr absl::Duration kPlanAgain = absl::Milliseconds(500);
constexpr absl::Duration kLagAllowed = absl::Seconds(2);
constexpr absl::Duration kIdleSleep = absl::Milliseconds(100);
// Shorter than a worker waits before it gives back what it has freed.
constexpr absl::Duration kBatchKept = absl::Milliseconds(300);
constexpr int kLateHeartbeats = 3;
// For records on which SQL fails, or that end the process, and no more than so much of a turn.
constexpr absl::Duration kSearchTime = absl::Seconds(10);
constexpr int kTurnParts = 4;

absl::StatusOr<DomainPlan> PlanFile(const std::string& file, const std::string& domain,
                                    const PlanOverrides& overrides) {
  ICEPIE_ASSIGN_OR_RETURN(const DomainDef definition, ParseDomain(file, domain + ".yaml"));
  return PlanWhatCanBe(definition, overrides);
}

}  // namespace

LiveEngine::LiveEngine(EngineOptions options, Feed& feed)
    : options_(std::move(options)),
      feed_(feed),
      store_(OpenStore(options_)),
      named_(store_),
      query_timeout_(options_.query_timeout),
      batch_checks_(options_.interrupt_grace) {}

absl::StatusOr<std::unique_ptr<LiveEngine>> LiveEngine::Start(const EngineOptions& options,
                                                              Feed& feed) {
  std::unique_ptr<LiveEngine> engine(new LiveEngine(options, feed));
  ICEPIE_RETURN_IF_ERROR(engine->store_.Prepare());
  ICEPIE_ASSIGN_OR_RETURN(engine->instance_, OpenInstance(options, 1));
  engine->past_ = std::make_unique<PastSnapshots>(*engine->instance_, engine->store_,
                                                  PastSnapshots::kAttachedMax);
  ICEPIE_ASSIGN_OR_RETURN(engine->queries_,
                          QueryService::Start(*engine->instance_, engine->serving_,
                                              MakeQueryOptions(options, engine->past_.get())));
  engine->snapshots_ = std::make_unique<SnapshotWriter>(
      *engine->instance_, engine->store_, options.snapshot_share,
      [&engine = *engine] { engine.Wake(); }, options.on_fatal);
  engine->recomputes_ = std::make_unique<RecomputeRunner>(
      feed, options.recompute_limit.value_or(RecomputeTimeLimit(options.query_timeout)),
      options.interrupt_grace, [&engine = *engine] { engine.Wake(); }, options.on_fatal);
  engine->thread_ = std::thread([&engine = *engine] { engine.Loop(); });
  return engine;
}

LiveEngine::~LiveEngine() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  work_.SignalAll();
  if (thread_.joinable()) thread_.join();
  queries_.reset();
  past_.reset();
  recomputes_.reset();
  snapshots_.reset();
  tracks_.clear();
  held_.clear();
  serving_.Replace({});
  MutexLock lock(mutex_);
  reported_.clear();
}

void LiveEngine::Shutdown() {
  store_.Hurry();
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  work_.SignalAll();
  if (thread_.joinable()) thread_.join();
  tracks_.clear();
  recomputes_.reset();
  std::vector<PendingName> unnamed = std::exchange(names_, {});
  {
    MutexLock lock(mutex_);
    for (PendingName& name : new_names_) unnamed.push_back(std::move(name));
    new_names_.clear();
  }
  for (const PendingName& name : unnamed) {
    name.done(absl::UnavailableError("the worker is stopping"));
  }
  for (auto& held : held_) {
    const bool changed = held->generation != nullptr && held->complete && !held->held_back &&
                         !held->generation->HasSavedAll();
    if (!changed) continue;
    const absl::Status written = held->generation->WritePosition();
    if (!written.ok()) SliceWarn(held->spec.slice, "{}", written.ToString());
    RequestSnapshot(*held, true);
  }
  snapshots_->Flush();
  StepScheduled();
}

void LiveEngine::Configure(Assignment assignment) {
  {
    MutexLock lock(mutex_);
    if (assignment.epoch < epoch_asked_) return;
    epoch_asked_ = assignment.epoch;
    assignment_ = std::move(assignment);
    awake_ = true;
  }
  work_.SignalAll();
}

// A statement that never ends hangs the apply thread alone: everything else goes on, and nobody
// else would notice. What does so is looked for (server/supervisor/poison_finder.h).
void LiveEngine::EndWhenStuck() const {
  batch_checks_.Look();
  const int64_t began_us = turn_began_us_;
  if (began_us == 0) return;
  const absl::Duration took = SteadyNow() - absl::FromUnixMicros(began_us);
  if (took < options_.apply_timeout) return;
  BlameThread(apply_thread_);
  options_.on_fatal(absl::StrCat("applying records does not end after ",
                                 absl::FormatDuration(options_.apply_timeout)));
}

EngineReport LiveEngine::Report() const {
  EndWhenStuck();
  EngineReport report;
  std::vector<std::shared_ptr<ServedSlice>> slices;
  {
    MutexLock lock(mutex_);
    report.epoch = epoch_;
    report.head_position = head_;
    slices = reported_;
  }
  for (const auto& slice : slices) report.slices.push_back(slice->Report());
  const absl::Duration age = queries_->HeartbeatAge();
  report.hangs = age >= options_.heartbeat_timeout;
  if (age < options_.heartbeat_timeout / kLateHeartbeats) return report;
  for (SliceReport& slice : report.slices) {
    if (slice.state != SliceState::kRunning) continue;
    slice.state = SliceState::kLagging;
    slice.state_since = absl::Now() - age;
  }
  return report;
}

void LiveEngine::Ask(Question question, QueryService::Done done) {
  queries_->Ask(std::move(question), std::move(done));
}

void LiveEngine::Refresh(const std::string& slice, int64_t min_position, absl::Time deadline,
                         RefreshDone done) {
  absl::string_view name = slice;
  absl::ConsumePrefix(&name, absl::StrCat(options_.domain, "."));
  {
    MutexLock lock(mutex_);
    new_refreshes_.push_back({std::string(name), min_position, deadline, std::move(done)});
    awake_ = true;
  }
  work_.SignalAll();
}

absl::StatusOr<QuarantinePage> LiveEngine::ListQuarantined(const std::string& slice, int64_t after,
                                                           int64_t page_size) {
  return ReadQuarantine(*instance_, serving_, options_.domain, slice, after, page_size);
}

void LiveEngine::Wake() {
  {
    MutexLock lock(mutex_);
    awake_ = true;
  }
  work_.Signal();
}

// ---------------------------------------------------------------------------------- the thread

absl::Duration LiveEngine::SleepTime() const {
  const absl::Time now = SteadyNow();
  absl::Time until = now + kIdleSleep;
  for (const auto& track : tracks_) {
    if (track->HasArrived()) until = std::min(until, next_batch_);
  }
  return std::max(absl::ZeroDuration(), until - now);
}

// False when the engine stops.
bool LiveEngine::WaitForWork() {
  const absl::Time earliest = next_batch_;
  std::optional<Assignment> assignment;
  {
    const absl::Duration sleep = SleepTime();
    MutexLock lock(mutex_);
    if (!awake_ && !stopping_ && sleep > absl::ZeroDuration()) work_.WaitFor(mutex_, sleep);
    // New records are left alone until the pause after the last batch is over.
    while (!stopping_ && !assignment_ && new_refreshes_.empty() && new_names_.empty() &&
           SteadyNow() < earliest) {
      work_.WaitFor(mutex_, earliest - SteadyNow());
    }
    if (stopping_) return false;
    turn_began_us_ = absl::ToUnixMicros(SteadyNow());
    awake_ = false;
    assignment = std::exchange(assignment_, std::nullopt);
    for (PendingRefresh& refresh : new_refreshes_) refreshes_.push_back(std::move(refresh));
    new_refreshes_.clear();
    for (PendingName& name : new_names_) names_.push_back(std::move(name));
    new_names_.clear();
  }
  if (assignment) Reconcile(*assignment);
  return true;
}

void LiveEngine::Loop() {
  AskForNormalSlices();
  apply_thread_ = ThisThread().id;
  while (WaitForWork()) {
    Turn();
    turn_began_us_ = 0;
  }
}

void LiveEngine::Turn() {
  LookAtClock();
  searched_ = absl::ZeroDuration();
  RetryFailed();
  bool more = false;
  const absl::Duration had = ProcessorTime(ThisThread());
  // The track at the head comes first, then one batch of each that is behind.
  if (main_ != nullptr) more = ApplyTrack(*main_, kBatchRecordsMax);
  more = ApplyBehind() || more;
  next_batch_ = SteadyNow();
  if (!more) next_batch_ += RestAfter(ProcessorTime(ThisThread()) - had);
  LetGoOfBatches();
  StepOverrides();
  StepOpen();
  StepSuspended();
  MergeTracks();
  FollowUpstream(nullptr);
  StepRecompute();
  StepExpectations();
  UpdateStates();
  StepSnapshots();
  StepNames();
  past_->DetachIdle(SteadyNow());
  PublishReport();
  queries_->PositionsMoved();
  AnswerRefreshes();
}

// Also while others are behind, but not of those that are: they go on at once.
void LiveEngine::LetGoOfBatches() {
  const absl::Time before = next_batch_ - kBatchKept;
  for (auto& held : held_) {
    if (held->generation == nullptr || held->recompute()) continue;
    const Track* track = held->track;
    if (track != nullptr && track->head() - track->position() >= kBehindRecords) continue;
    held->generation->LetGoOfBatch(before);
  }
}

void LiveEngine::PublishReport() {
  int64_t head = 0;
  for (const auto& track : tracks_) head = std::max(head, track->head());
  MutexLock lock(mutex_);
  head_ = std::max(head_, head);
}

// --------------------------------------------------------------------------------- assignments

LiveEngine::Held* LiveEngine::FindHeld(const GenerationSpec& spec) {
  for (auto& held : held_) {
    if (held->spec.Id() == spec.Id()) return held.get();
  }
  return nullptr;
}

LiveEngine::Held* LiveEngine::Serving(const std::string& slice) {
  for (auto& held : held_) {
    if (held->spec.slice == slice && held->spec.serving) return held.get();
  }
  return nullptr;
}

// Planning and reading snapshots each take a core some ten milliseconds, and after a death somebody
// waits for both.
void LiveEngine::BeginPlans(const Assignment& assignment) {
  for (const GenerationSpec& spec : assignment.generations) {
    const bool known = plans_.count(spec.file) > 0 || planning_.count(spec.file) > 0;
    if (known || spec.suspended || planning_.size() >= kPlansAtOnce) continue;
    // In the apply thread when there is no memory for another.
    planning_[spec.file] = std::async(std::launch::async | std::launch::deferred,
                                      [file = spec.file, id = spec.Id(), this] {
                                        const FlightEntry flight(Activity::kOpen, id);
                                        return PlanFile(file, options_.domain, {});
                                      });
  }
}

void LiveEngine::Reconcile(const Assignment& assignment) {
  BeginPlans(assignment);
  query_timeout_ = QueryTimeout(options_, assignment);
  queries_->SetTimeout(query_timeout_);
  if (!options_.recompute_limit) recomputes_->SetLimit(RecomputeTimeLimit(query_timeout_));
  std::vector<std::unique_ptr<Held>> next;
  for (const GenerationSpec& spec : assignment.generations) {
    Held* present = FindHeld(spec);
    if (present == nullptr || OpensAnew(*present, spec)) {
      next.push_back(OpenHeld(spec));
      continue;
    }
    Adopt(*present, spec);
    const auto at = std::find_if(held_.begin(), held_.end(),
                                 [&](const auto& held) { return held.get() == present; });
    next.push_back(std::move(*at));
    held_.erase(at);
  }
  // What is left is not wanted any more; its database goes when its last reader does.
  for (const auto& held : held_) recomputes_->Interrupt(held->generation.get());
  held_ = std::move(next);
  PublishServing();
  ConnectUpstream();
  PlaceOnTracks();
  UpdateStates();
  planning_.clear();  // waits for those that nobody wanted
  MutexLock lock(mutex_);
  epoch_ = assignment.epoch;
}

void LiveEngine::Adopt(Held& held, const GenerationSpec& spec) {
  const bool was_frozen = held.spec.frozen;
  const bool redefined = held.spec.file != spec.file;
  const bool reacknowledged = held.spec.acknowledged != spec.acknowledged;
  const bool rewaived = held.spec.waivers != spec.waivers;
  const bool other_schedule = redefined || held.spec.serving != spec.serving;
  held.spec = spec;
  if (other_schedule) SetSnapshotSchedule(held);
  held.served->SetServing(spec.serving);
  SetSuspects(held);
  if (spec.suspended) Suspend(held);
  if (spec.frozen && !was_frozen) Freeze(held);
  if (!spec.frozen && was_frozen) {
    held.took_too_long = false;
    held.heard_head = false;
    HearHead(held);
    if (held.unopened) {
      held.next_retry = absl::InfinitePast();
    } else {
      held.served->SetState(held.stopped_for_good ? held.stopped_state : SliceState::kStarting);
    }
  }
  if (held.gate != nullptr) held.gate->SetWaivers(spec.waivers);
  if (rewaived) CheckAtOnce(held);
  if (redefined || reacknowledged) Redefine(held);
  ReleaseIfAllowed(held);
}

void LiveEngine::Freeze(Held& held) {
  held.track = nullptr;
  recomputes_->Interrupt(held.generation.get());
  held.served->SetState(SliceState::kFrozen);
  if (held.generation == nullptr || !held.complete || held.in_run || held.held_back) return;
  const absl::Status written = held.generation->WritePosition();
  if (!written.ok()) SliceWarn(held.spec.slice, "{}", written.ToString());
  if (held.generation->HasSavedAll()) return;
  RequestSnapshot(held, true);
}

absl::StatusOr<std::shared_ptr<const DomainPlan>> LiveEngine::PlanOf(const std::string& file) {
  const auto known = plans_.find(file);
  if (known != plans_.end()) return known->second;
  // Every slice of the file asks for it.
  const auto failed = failed_plans_.find(file);
  if (failed != failed_plans_.end() && SteadyNow() < failed->second.until) {
    return failed->second.why;
  }
  const auto begun = planning_.find(file);
  absl::StatusOr<DomainPlan> made = begun != planning_.end() && overrides_[file].empty()
                                        ? begun->second.get()
                                        : PlanFile(file, options_.domain, overrides_[file]);
  if (begun != planning_.end()) planning_.erase(begun);
  failed_plans_.erase(file);
  if (IsPassing(made.status())) {
    if (failed_plans_.size() > 16) failed_plans_.clear();
    failed_plans_[file] = {made.status(), SteadyNow() + kPlanAgain};
  }
  ICEPIE_ASSIGN_OR_RETURN(DomainPlan plan, std::move(made));
  auto shared = std::make_shared<const DomainPlan>(std::move(plan));
  if (plans_.size() > 16) plans_.clear();
  plans_[file] = shared;
  return shared;
}

// The plan of the held slice's file, with the overrides that are known.
absl::StatusOr<std::shared_ptr<const DomainPlan>> LiveEngine::PlanFor(
    const GenerationSpec& spec, const absl::StatusOr<SnapshotManifest>& snapshot) {
  // What its snapshot was built with goes on, whatever the planner chooses now.
  if (snapshot.ok() && !snapshot->info.overridden.empty()) {
    Override(spec, snapshot->info.overridden);
  }
  ICEPIE_ASSIGN_OR_RETURN(const auto plan, PlanOf(spec.file));
  const SlicePlan* slice = plan->Find(spec.slice);
  if (slice == nullptr) {
    ICEPIE_ASSIGN_OR_RETURN(const DomainDef definition,
                            ParseDomain(spec.file, options_.domain + ".yaml"));
    ICEPIE_RETURN_IF_ERROR(WhyNotPlanned(definition, spec.slice, overrides_[spec.file]));
    // It can be planned: what failed when the file was, a lack of memory, has passed.
    plans_.erase(spec.file);
    return PlanOf(spec.file);
  }
  return plan;
}

absl::StatusOr<LiveEngine::Opened> LiveEngine::OpenFrom(const GenerationSpec& spec,
                                                        absl::StatusOr<SnapshotManifest> snapshot) {
  Opened opened{std::move(snapshot), false, nullptr, absl::OkStatus()};
  ICEPIE_ASSIGN_OR_RETURN(const auto plan, PlanFor(spec, opened.snapshot));
  const SlicePlan* slice = plan->Find(spec.slice);
  // Rows that were kept in other tables, by another strategy or another version of the planner, can
  // be shown but not gone on from.
  opened.fits =
      opened.snapshot.ok() && slice != nullptr && opened.snapshot->info.layout == LayoutOf(*slice);
  if (opened.fits) {
    const std::string file = store_.AbsolutePath(opened.snapshot->path);
    auto restored =
        Generation::Open(*instance_, plan, spec.slice, spec.number, file, spec.definition_hash);
    if (IsUnusableSnapshot(restored.status())) return restored.status();
    // From raw it would take as much and longer.
    if (IsPassing(restored.status())) return restored.status();
    opened.restored = restored.status();
    if (restored.ok()) opened.generation = *std::move(restored);
  }
  if (opened.generation == nullptr) {
    ICEPIE_ASSIGN_OR_RETURN(
        opened.generation,
        Generation::Open(*instance_, plan, spec.slice, spec.number, "", spec.definition_hash));
    if (opened.snapshot.ok()) {
      const int64_t version = opened.snapshot->progress.content_version;
      ICEPIE_RETURN_IF_ERROR(opened.generation->StartBeyond(version));
    }
  }
  return opened;
}

// `opened` is of a snapshot whose bytes are as written: one that DuckDB cannot read all the same is
// passed over from now on, and where that cannot be noted all is made from raw. It stays where it
// is: what DuckDB breaks over may be DuckDB's fault, and the standby can ask it even so.
absl::StatusOr<LiveEngine::Opened> LiveEngine::NoteUnusable(
    const GenerationSpec& spec, const absl::StatusOr<SnapshotManifest>& snapshot,
    absl::StatusOr<Opened> opened) {
  const absl::Status& why = opened.status();
  if (!IsUnusableSnapshot(why)) return opened;
  SliceError(spec.slice, "{}", why.ToString());
  const SnapshotUse use = absl::IsInternal(why) ? SnapshotUse::kRestore : SnapshotUse::kServe;
  const absl::Status noted = store_.NoteUnusable(snapshot->path, use, why);
  if (noted.ok()) return opened;
  SliceError(spec.slice, "{}", noted.ToString());
  return OpenFrom(spec, absl::NotFoundError("none can be read"));
}

// The newest snapshot is read into a state of its own while its bytes are hashed beside: what was
// read of a damaged one is dropped before anybody has seen it.
absl::StatusOr<LiveEngine::Opened> LiveEngine::OpenNewest(const GenerationSpec& spec) {
  const std::vector<std::string> paths = store_.List(spec.slice, spec.number);
  const auto newest = paths.empty() ? absl::StatusOr<SnapshotManifest>(absl::NotFoundError("none"))
                                    : store_.ReadManifest(paths.front());
  if (newest.ok() && newest->info.definition_hash == spec.definition_hash &&
      store_.IsUsable(newest->path, SnapshotUse::kRestore)) {
    // In this thread afterwards when there is no memory for another.
    auto hashed = std::async(std::launch::async | std::launch::deferred, [&] {
      return store_.CheckDigest(store_.AbsolutePath(newest->path), *newest, absl::InfiniteFuture());
    });
    auto opened = OpenFrom(spec, newest);
    // One over which DuckDB breaks must not meet the next process, damaged or not.
    const bool broken = IsUnusableSnapshot(opened.status()) && absl::IsInternal(opened.status());
    if (hashed.get().ok() || broken) return NoteUnusable(spec, newest, std::move(opened));
  }
  const auto found = FindSnapshot(store_, spec, SnapshotUse::kRestore);
  return NoteUnusable(spec, found, OpenFrom(spec, found));
}

absl::Status LiveEngine::OpenGeneration(Held& held) {
  const GenerationSpec& spec = held.spec;
  const FlightEntry flight(Activity::kOpen, spec.Id());
  absl::StatusOr<Opened> newest = OpenNewest(spec);
  while (IsUnusableSnapshot(newest.status()) && !absl::IsInternal(newest.status())) {
    newest = OpenNewest(spec);  // of those that are left
  }
  ICEPIE_ASSIGN_OR_RETURN(Opened opened, std::move(newest));
  const absl::StatusOr<SnapshotManifest>& snapshot = opened.snapshot;
  const bool fits = opened.fits;
  if (!opened.restored.ok()) {
    SliceError(spec.slice, "{}; rebuilding from raw", opened.restored.ToString());
  } else if (fits) {
    held.complete = true;
    held.saved_time = std::min(absl::FromUnixMicros(snapshot->time_us), absl::Now());
  }
  held.generation = std::move(opened.generation);
  held.served = held.generation->served_ptr();
  held.generation->SetSearchTimeMin(SearchTime());
  ICEPIE_RETURN_IF_ERROR(held.generation->SetAcknowledged(spec.acknowledged));
  SetSuspects(held);
  held.gate = std::make_shared<ExpectationGate>(held.generation->plan().expectations);
  CheckBatches(held);
  held.gate->SetWaivers(spec.waivers);
  if (held.complete) held.gate->Restore(snapshot->expectations);
  held.rounds_seen = 0;
  held.rounds_asked = -1;
  held.rebuild = held.over_slices() && !held.complete;
  held.upstream.clear();
  NoteDamage(held, snapshot);
  if (held.complete) {
    held.served->SetSnapshot(snapshot->Info());
    held.served->SetDatabase(held.generation->database());
  } else if (snapshot.ok() && !fits) {
    const auto served = OpenNewestSnapshot(*instance_, store_, spec);
    if (absl::IsInternal(served.status())) return served.status();
    if (served.ok()) held.served->SetDatabase((*served)->database());
  }
  return absl::OkStatus();
}

void LiveEngine::Override(const GenerationSpec& spec, const std::string& why) {
  if (overrides_[spec.file].emplace(spec.slice, why).second) plans_.erase(spec.file);
}

// It cannot be kept fresh in the way that was planned: it goes on as a slice that is recomputed,
// and answers from what it had until it has been. So do those that read its changes.
void LiveEngine::RecomputeFromNow(Held& held, const absl::Status& why) {
  Override(held.spec, std::string(why.message()));
  Reopen(held, why);
  const auto plan = PlanOf(held.spec.file);
  for (auto& each : held_) {
    if (!plan.ok() || each->spec.file != held.spec.file || each->generation == nullptr) continue;
    const SlicePlan* slice = (*plan)->Find(each->spec.slice);
    if (slice != nullptr && slice->strategy != each->generation->plan().strategy) {
      Reopen(*each, why);
    }
  }
  PublishServing();
  ConnectUpstream();
  MutexLock lock(mutex_);
  ReportHeld();
}

void LiveEngine::Reopen(Held& held, const absl::Status& why) {
  const std::shared_ptr<ServedSlice> before = held.served;
  recomputes_->Interrupt(held.generation.get());
  held.complete = false;
  held.dirty = true;
  held.in_run = false;
  held.track = nullptr;
  const absl::Status opened = OpenGeneration(held);
  if (!opened.ok()) {
    held.served = before;
    return HoldOrOpenLater(held, opened);
  }
  held.served->SetServing(held.spec.serving);
  if (before->database() != nullptr) held.served->SetDatabase(before->database());
  held.served->SetFault(SliceState::kStarting, MakeFault(why, ""), std::nullopt);
}

void LiveEngine::StepOverrides() {
  std::vector<Held*> over;
  for (const auto& held : held_) {
    if (held->over_budget) over.push_back(held.get());
  }
  for (Held* held : over) RecomputeFromNow(*held, *std::exchange(held->over_budget, std::nullopt));
}

void LiveEngine::ReportHeld() {
  reported_.clear();
  for (const auto& held : held_) reported_.push_back(held->served);
}

// Says in the slice's report that its newest snapshot could not be used, and what is instead.
void LiveEngine::NoteDamage(const Held& held, const absl::StatusOr<SnapshotManifest>& used) const {
  const GenerationSpec& spec = held.spec;
  const std::vector<std::string> paths = store_.List(spec.slice, spec.number);
  if (paths.empty() || (used.ok() && used->path == paths.front())) return;
  const absl::Status damage = store_.Check(paths.front()).status();
  if (damage.ok()) return;  // of another definition
  std::string instead = "it is rebuilt from raw";
  if (held.complete) {
    instead =
        absl::StrCat("an older one at position ", used->progress.applied_position, " is used");
  } else if (spec.frozen) {
    instead = absl::StrCat("there is nothing to answer from; thaw it to rebuild from raw: icepie ",
                           "slice thaw ", options_.domain, ".", spec.slice);
  }
  held.served->SetFault(
      SliceState::kStarting,
      {"SNAPSHOT_DAMAGED", absl::StrCat(damage.message(), "; ", instead), absl::Now()},
      std::nullopt);
}

void LiveEngine::SetSchedule(Held& held) {
  const RefreshDef& refresh = held.generation->definition().refresh;
  held.cron.reset();
  held.next_refresh = absl::InfiniteFuture();
  held.served->SetNextRefresh(std::nullopt);
  if (refresh.kind == RefreshDef::Kind::kCron) {
    auto cron = CronSchedule::Parse(refresh.cron, refresh.time_zone);
    if (!cron.ok()) return Hold(held, cron.status());
    held.cron = *cron;
  }
  // A refresh that was missed while nobody ran is made up for at once, unless it is to be skipped.
  if (held.complete) ScheduleNext(held, refresh.skip_missed ? absl::Now() : held.saved_time);
}

// `before`: what could not be opened the last time.
std::unique_ptr<LiveEngine::Held> LiveEngine::OpenHeld(const GenerationSpec& spec,
                                                       const Held* before) {
  auto held = std::make_unique<Held>();
  held->spec = spec;
  held->records_max = kBatchRecordsMax;
  if (spec.suspended) {
    KeepSnapshotOnly(*held);
    return held;
  }
  const absl::Status opened = OpenGeneration(*held);
  if (!opened.ok()) {
    held->served = before == nullptr ? nullptr : before->served;
    held->failures = before == nullptr ? 0 : before->failures;
    HoldOrOpenLater(*held, opened);
  } else if (held->recompute()) {
    SetSchedule(*held);
  }
  if (held->gate != nullptr) OpenExpectations(*held);
  SetSnapshotSchedule(*held);
  held->served->SetServing(spec.serving);
  if (spec.frozen || (!held->stopped_for_good && !held->unopened)) {
    held->served->SetState(spec.frozen ? SliceState::kFrozen : SliceState::kStarting);
  }
  return held;
}

// A definition that no longer plans must not take its answers away: the last snapshot goes on.
void LiveEngine::Hold(Held& held, const absl::Status& why) {
  SliceError(held.spec.slice, "generation {} is held: {}", held.spec.number, why.ToString());
  if (why.code() == absl::StatusCode::kInternal) {
    options_.on_fatal(absl::StrCat(held.spec.slice, ": ", why.ToString()));
  }
  held.stopped_for_good = true;
  held.stopped_state = SliceState::kHeld;
  held.track = nullptr;
  if (held.served == nullptr) ServeSnapshot(held);
  held.served->SetServing(held.spec.serving);
  held.served->SetFault(SliceState::kHeld, MakeFault(why, "DEFINITION_INVALID"), std::nullopt);
}

void LiveEngine::HoldOrOpenLater(Held& held, const absl::Status& why) {
  IsPassing(why) ? OpenLater(held, why) : Hold(held, why);
}

// No fault of its definition, nor of its snapshots: they answer meanwhile.
void LiveEngine::OpenLater(Held& held, const absl::Status& why) {
  SliceWarn(held.spec.slice, "generation {} cannot be opened now: {}", held.spec.number,
            why.ToString());
  recomputes_->Interrupt(held.generation.get());
  held.generation.reset();
  held.gate.reset();
  held.upstream.clear();
  held.track = nullptr;
  held.complete = false;
  held.unopened = true;
  const absl::Duration delay = RetryDelay(++held.failures);
  held.next_retry = SteadyNow() + delay;
  if (held.served == nullptr) ServeSnapshot(held);
  held.served->SetServing(held.spec.serving);
  held.served->SetFault(held.spec.frozen ? SliceState::kFrozen : SliceState::kFaulted,
                        MakeFault(why, "ENGINE_ERROR"), absl::Now() + delay);
}

void LiveEngine::StepOpen() {
  bool tried = false;
  for (auto& held : held_) {
    if (!held->unopened || held->spec.suspended || SteadyNow() < held->next_retry) continue;
    held = OpenHeld(held->spec, held.get());
    tried = true;
  }
  if (!tried) return;
  PublishServing();
  ConnectUpstream();
  PlaceOnTracks();
}

void LiveEngine::PublishServing() {
  ServingSet::Slices slices;
  for (const auto& held : held_) {
    if (held->spec.serving) slices[held->spec.slice] = held->served;
  }
  serving_.Replace(std::move(slices));
  MutexLock lock(mutex_);
  ReportHeld();
}

// Lets recomputed slices read the generations that serve now. A changed one makes them dirty.
void LiveEngine::ConnectUpstream() {
  for (size_t round = 0; round < held_.size(); ++round) {
    for (auto& held : held_) {
      if (held->generation == nullptr) continue;
      for (const std::string& name : held->generation->plan().upstream) {
        const Held* upstream = Serving(name);
        if (upstream != nullptr) held->depth = std::max(held->depth, upstream->depth + 1);
      }
      held->depth = std::min<int>(held->depth, static_cast<int>(held_.size()));
    }
  }
  std::stable_sort(held_.begin(), held_.end(),
                   [](const auto& a, const auto& b) { return a->depth < b->depth; });
  for (auto& held : held_) {
    if (held->generation == nullptr || held->in_run) continue;
    std::map<std::string, Generation::Upstream> found;
    for (const std::string& name : held->generation->plan().upstream) {
      const Held* upstream = Serving(name);
      if (upstream != nullptr && upstream->generation != nullptr) {
        found[name] = upstream->generation->AsUpstream();
      }
    }
    if (found == held->upstream) continue;
    const absl::Status status = Connect(*held, found);
    if (!status.ok()) HoldOrOpenLater(*held, status);
  }
}

absl::Status LiveEngine::Connect(Held& held,
                                 const std::map<std::string, Generation::Upstream>& found) {
  for (const auto& [name, unused] : found) {
    Held& upstream = *Serving(name);
    if (!held.over_slices() || upstream.generation->plan().hands_out_changes) continue;
    if (upstream.in_run) return absl::OkStatus();  // once more when that is over
    // It was opened when nobody read it.
    const absl::Status taken = upstream.generation->TakeOn(held.generation->domain_plan());
    if (taken.ok()) continue;
    held.over_budget =
        MakeError(absl::StatusCode::kFailedPrecondition, taken.message(), "UPSTREAM_RECOMPUTED");
    return absl::OkStatus();
  }
  ICEPIE_RETURN_IF_ERROR(held.generation->SetUpstream(found));
  held.upstream = found;
  held.dirty = true;
  if (held.rebuild) return absl::OkStatus();
  const bool has_read_all =
      held.complete && found.size() == held.generation->plan().upstream.size();
  if (!held.over_slices() && !has_read_all) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(const bool fits, held.generation->FitsUpstream());
  held.rebuild = held.over_slices() && !fits;
  if (!fits) held.generation->NoteOtherRowsBelow();
  return absl::OkStatus();
}

// ------------------------------------------------------------------------------------ applying

// True when so much is waiting already that it should not wait for more.
bool LiveEngine::ApplyTrack(Track& track, int64_t records_max) {
  const std::optional<RecordBatch> batch = track.Take(records_max);
  if (!batch) return false;
  if (&track == main_) NoteRecords(*batch);
  for (auto& held : held_) {
    const bool follows = held->track == &track && !held->recompute() && !held->over_slices();
    if (!follows) continue;
    RestartChanges(*held);
    ApplyTo(*held, *batch);
    queries_->PositionsMoved();  // who waits for this one need not wait for the others
  }
  FollowUpstream(&track == main_ ? &*batch : nullptr);
  const bool behind = &track != main_ || track.head() - track.position() >= kBehindRecords;
  return behind && track.HasArrived();
}

void LiveEngine::ApplyTo(Held& held, const RecordBatch& batch) {
  HearHead(held);
  const absl::Status status = ApplyShare(held, batch);
  if (!status.ok()) return Failed(held, status);
  Succeeded(held);
  if (held.complete) return;
  if (!held.backfill_target && held.track->first_head()) {
    held.backfill_target = held.track->first_head();
    held.served->SetBackfillTarget(*held.backfill_target);
  }
  if (held.backfill_target && held.generation->position() >= *held.backfill_target) Complete(held);
}

// Whether another slice stands at a state of this one from which on it needs what changes.
bool LiveEngine::IsLogNeeded(const Held& upstream) {
  return std::any_of(held_.begin(), held_.end(), [&](const auto& held) {
    if (!held->over_slices() || held->upstream.count(upstream.spec.slice) == 0) return false;
    if (held->in_run) return true;
    return !held->rebuild && held->active() &&
           held->generation->position() < upstream.generation->position();
  });
}

void LiveEngine::RestartChanges(Held& held) {
  if (!held.generation->plan().hands_out_changes || IsLogNeeded(held)) return;
  // Those that are built anew need no log before they have begun.
  const bool wanted = std::any_of(held_.begin(), held_.end(), [&](const auto& reader) {
    return reader->over_slices() && reader->active() && !reader->rebuild &&
           reader->upstream.count(held.spec.slice) > 0;
  });
  held.generation->RestartChanges(wanted);
}

// Whether its own streams may have records from `from` on.
bool LiveEngine::MayHaveRecords(const Held& held, int64_t from) const {
  const std::set<std::string>& streams = held.generation->streams();
  if (!streams.empty() && from < held.looks_from) return true;
  return std::any_of(streams.begin(), streams.end(), [&](const std::string& stream) {
    const auto end = stream_end_.find(stream);
    return end != stream_end_.end() && end->second > from;
  });
}

// Slices over slices go where those stand. `batch`: what the main track has just brought, or null.
void LiveEngine::FollowUpstream(const RecordBatch* batch) {
  const absl::Time now = SteadyNow();
  std::vector<Held*> follow;
  for (auto& held : held_) {
    if (!held->over_slices() || !held->active() || held->rebuild || held->in_run) continue;
    if (held->failures > 0 && now < held->next_retry) continue;
    follow.push_back(held.get());
  }
  // Those that look for bad records come last, and all together have the time of one in a turn.
  // Whoever is left follows in the next.
  std::stable_partition(follow.begin(), follow.end(), [](Held* held) { return !held->searches; });
  for (Held* held : follow) {
    if (!StoppedUpstream(*held).empty()) continue;
    if (searched_ >= SearchTime()) return Wake();
    FollowUpstream(*held, batch);
  }
}

// A turn must not end the process by looking for what does.
absl::Duration LiveEngine::SearchTime() const {
  return std::min(kSearchTime, options_.apply_timeout / kTurnParts);
}

// The newest ingest time that the slices below have seen. Those that passed over what another one
// filtered have not noted it.
int64_t LiveEngine::NewestBelow(const Held& held) {
  int64_t newest = 0;
  for (const std::string& name :
       SlicesBelow(*held.generation->domain_plan(), held.generation->plan())) {
    const Held* below = Serving(name);
    if (below == nullptr || below->generation == nullptr || below->in_run) continue;
    newest = std::max(newest, below->generation->progress().applied_time_us);
  }
  return newest;
}

// Whether rows of a slice with `retain` go though nothing else changes.
bool LiveEngine::MovesHorizon(const Held& held, int64_t newest_us) {
  return held.generation->plan().retained.span_us > 0 &&
         newest_us > held.generation->progress().applied_time_us;
}

void LiveEngine::FollowUpstream(Held& held, const RecordBatch* batch) {
  const int64_t from = held.generation->position();
  const std::optional<int64_t> to = InputPosition(held, {}, 0);
  if (!to || *to <= from || held.upstream.empty()) return;
  // Its own records up to there must have been looked at too.
  const bool seen =
      held.generation->streams().empty() ||
      (main_ != nullptr && main_->streams().Includes(StreamsOf(held)) && *to <= main_->position());
  if (!seen) return;
  const int64_t applied_time_us = NewestBelow(held);
  bool changed = MayHaveRecords(held, from) || MovesHorizon(held, applied_time_us);
  for (const auto& [name, unused] : held.upstream) {
    const Generation& upstream = *Serving(name)->generation;
    const Generation::Changes changes = upstream.ChangesSince(from);
    if (changes == Generation::Changes::kLost) {
      held.rebuild = held.dirty = true;
      return;
    }
    changed = changed || changes == Generation::Changes::kLogged;
  }
  if (!changed) return held.generation->PassTo(*to);
  RestartChanges(held);
  const bool covered = batch != nullptr && batch->begin <= from && *to <= batch->end &&
                       main_->streams().Includes(StreamsOf(held));
  held.tried = *to;
  const absl::Time begin = SteadyNow();
  const absl::Status status =
      held.generation->ApplyChanges(feed_, covered ? batch : nullptr, *to, applied_time_us);
  held.searches = absl::IsAborted(status);
  if (held.generation->has_searched()) searched_ += SteadyNow() - begin;
  if (status.ok()) return Succeeded(held);
  Failed(held, status);
}

void LiveEngine::Complete(Held& held) {
  held.complete = true;
  if (!held.unconfirmed) held.generation->served().SetDatabase(held.generation->database());
}

void LiveEngine::Succeeded(Held& held) {
  if (held.failures == 0 && !held.failed_on_data) return;
  held.failures = 0;
  held.failed_on_data = false;
  held.records_max = kBatchRecordsMax;
  held.served->SetState(SliceState::kRunning);
}

void LiveEngine::Failed(Held& held, const absl::Status& status) {
  SliceWarn(held.spec.slice, "generation {} at {}: {}", held.spec.number,
            held.generation->position(), status.ToString());
  if (status.code() == absl::StatusCode::kInternal) {
    options_.on_fatal(absl::StrCat(held.spec.slice, ": ", status.ToString()));
  }
  const bool data_error = status.code() == absl::StatusCode::kInvalidArgument;
  // It goes on without the records that were found.
  if (absl::IsAborted(status)) return Wake();
  // Interrupted by a freeze: it is computed again.
  if (status.code() == absl::StatusCode::kCancelled && held.recompute()) return;
  if (data_error && (held.recompute() || held.over_slices())) return FailedOnData(held, status);
  if (ErrorReason(status) == "RECOMPUTE_TIME_LIMIT") return TookTooLong(held, status);
  held.track = nullptr;
  const std::string reason = ErrorReason(status);
  if (reason == "QUARANTINE_OVER_BUDGET" || reason == "POISON") return StopAtRecord(held, status);
  if (reason == "EXPECTATION_FAILED") return HeldByBatch(held);
  if (reason == "KEPT_ROWS_OVER_BUDGET") {
    held.over_budget = status;
    return;
  }
  if (status.code() == absl::StatusCode::kFailedPrecondition) return Hold(held, status);
  ++held.failures;
  held.records_max = std::max(kSmallestBatch, held.records_max / 4);
  const absl::Duration delay = RetryDelay(held.failures);
  held.next_retry = SteadyNow() + delay;
  if (data_error || held.failures >= kFailuresBeforeFault) {
    held.forced = false;
    held.served->SetFault(SliceState::kFaulted,
                          MakeFault(status, data_error ? "SQL_ERROR" : "ENGINE_ERROR"),
                          absl::Now() + delay);
  }
}

// The SQL of a recompute fails on what it reads and would do so again: it waits for its inputs to
// change, or for another definition.
void LiveEngine::FailedOnData(Held& held, const absl::Status& status) {
  held.failed_on_data = true;
  held.rebuild = held.over_slices();
  held.dirty = false;
  held.forced = false;
  ScheduleNext(held, absl::Now());
  SliceFault fault = MakeFault(status, "SQL_ERROR");
  const std::string& blame = held.generation->blame();
  if (!blame.empty()) absl::StrAppend(&fault.message, "; it failed first on ", blame);
  held.served->SetFault(SliceState::kFaulted, std::move(fault), std::nullopt);
}

// It would take as long again: it waits for another definition or for being asked to.
void LiveEngine::TookTooLong(Held& held, const absl::Status& status) {
  held.took_too_long = true;
  held.forced = false;
  held.served->SetFault(SliceState::kFaulted, MakeFault(status, ""), std::nullopt);
}

void LiveEngine::RetryFailed() {
  const absl::Time now = SteadyNow();
  const bool due = std::any_of(held_.begin(), held_.end(), [&](const auto& held) {
    return held->active() && held->track == nullptr && now >= held->next_retry;
  });
  if (due) PlaceOnTracks();
}

// How long the oldest record has waited that concerns the slice and is not in its rows.
void LiveEngine::NoteWaiting(Held& held) {
  if (!held.recompute()) {
    const bool follows = held.generation != nullptr && held.track != nullptr;
    held.behind_since =
        follows ? held.track->OldestWaiting(held.generation->streams(), held.generation->position())
                : absl::InfiniteFuture();
  } else if (!recomputes_->busy()) {  // what a run changes is the runner's until it is collected
    held.behind_since =
        Unchanged(held, {}) ? absl::InfiniteFuture() : std::min(held.behind_since, absl::Now());
  }
  held.served->SetOldestWaiting(held.behind_since);
}

// Later than it promises: a batch waits too long; or a recompute is later than its schedule, or
// than its share of the time explains.
bool LiveEngine::Late(Held& held) {
  const absl::Time now = absl::Now();
  if (!held.recompute()) return held.behind_since < now - kLagAllowed;
  const bool continuous =
      held.generation->definition().refresh.kind == RefreshDef::Kind::kContinuous;
  const absl::Time promised =
      continuous ? held.behind_since : std::max(held.behind_since, held.next_refresh);
  return now > promised + kLagAllowed + held.rest + held.took * 2;
}

// A snapshot or a thawed state shows nothing of what came after it, and nothing of that has arrived
// yet: it is not fresh before it stands where the head was when the track first heard of it. What
// has a schedule promises no more than that.
void LiveEngine::HearHead(Held& held) const {
  if (held.generation == nullptr || held.heard_head) return;
  const Track* track = held.recompute() ? main_ : held.track;
  held.heard_head = track != nullptr && track->first_head().has_value();
  int64_t fresh_from = std::numeric_limits<int64_t>::max();
  if (held.heard_head) {
    fresh_from =
        held.recompute() ? std::max(*track->first_head(), track->position()) : *track->first_head();
  }
  const bool scheduled = held.recompute() && held.generation->definition().refresh.kind !=
                                                 RefreshDef::Kind::kContinuous;
  held.generation->served().SetFreshFrom(scheduled ? 0 : fresh_from);
}

SliceState LiveEngine::StateOf(Held& held) {
  if (held.complete && held.unconfirmed) {
    return held.served->database() != nullptr ? SliceState::kLagging : SliceState::kBackfilling;
  }
  if (held.complete) return Late(held) ? SliceState::kLagging : SliceState::kRunning;
  const bool heard = held.track != nullptr && held.track->first_head().has_value();
  return heard ? SliceState::kBackfilling : SliceState::kStarting;
}

void LiveEngine::Block(Held& held, const std::string& upstream) {
  if (held.served->state() == SliceState::kBlocked && held.blocked_by == upstream) return;
  held.blocked_by = upstream;
  held.served->SetFault(SliceState::kBlocked,
                        {"BLOCKED_BY", absl::StrCat("reads ", upstream), absl::Now()},
                        std::nullopt);
}

// What it has applied goes on answering; the track reads on as soon as the records are back.
void LiveEngine::StopAtDamage(const Held& held, const Track::Damage& damage) {
  SliceFault fault = MakeFault(damage.status, "RECORD_DAMAGED");
  fault.time = damage.time;
  held.served->SetFault(SliceState::kFaulted, std::move(fault), damage.next_try);
}

void LiveEngine::UpdateStates() {
  for (auto& held : held_) {
    NoteWaiting(*held);
    if (!held->active()) continue;
    HearHead(*held);
    if (held->failures > 0 || held->failed_on_data) continue;
    if (held->took_too_long || (held->unconfirmed && held->checks_stopped > 0)) continue;
    const Track::Damage damage = held->track == nullptr ? Track::Damage() : held->track->damage();
    if (!damage.status.ok()) {
      StopAtDamage(*held, damage);
      continue;
    }
    const bool reads = held->recompute() || held->over_slices();
    const std::string upstream = reads ? StoppedUpstream(*held) : "";
    if (!upstream.empty()) {
      Block(*held, upstream);
    } else {
      held->served->SetState(StateOf(*held));
    }
  }
}

}  // namespace icepie::slices
