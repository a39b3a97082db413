#include "slices/live_engine.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "spdlog/spdlog.h"

namespace icepie::slices {
namespace {

constexpr int64_t kBatchRecordsMax = 65536;
// While something is behind, its batches are smaller so that those at the head need not wait long.
constexpr int64_t kBehindRecordsMax = 16384;
// Generations that stand further apart do not share a track.
constexpr int64_t kTrackSpread = 262144;
constexpr int64_t kSmallestBatch = 256;
constexpr int kFailuresBeforeFault = 4;
constexpr int kRestPerWork = 4;  // batches and recomputes take at most a fifth of the time
constexpr absl::Duration kLagAllowed = absl::Seconds(2);
constexpr absl::Duration kIdleSleep = absl::Milliseconds(100);

SliceFault MakeFault(const absl::Status& status, absl::string_view fallback) {
  const std::string reason = ErrorReason(status);
  return {reason.empty() ? std::string(fallback) : reason, std::string(status.message()),
          absl::Now()};
}

absl::Duration RetryDelay(int failures) {
  return std::min(absl::Seconds(60), absl::Milliseconds(100) * (1 << std::min(failures, 10)));
}

}  // namespace

LiveEngine::LiveEngine(EngineOptions options, Feed& feed)
    : options_(std::move(options)),
      feed_(feed),
      store_(options_.directory, options_.snapshots_kept) {}

absl::StatusOr<std::unique_ptr<LiveEngine>> LiveEngine::Start(const EngineOptions& options,
                                                              Feed& feed) {
  std::unique_ptr<LiveEngine> engine(new LiveEngine(options, feed));
  ICEPIE_RETURN_IF_ERROR(engine->store_.Prepare());
  ICEPIE_ASSIGN_OR_RETURN(engine->instance_, OpenInstance(options, 1));
  ICEPIE_ASSIGN_OR_RETURN(
      engine->queries_,
      QueryService::Start(*engine->instance_, engine->serving_, MakeQueryOptions(options)));
  engine->snapshots_ = std::make_unique<SnapshotWriter>(*engine->instance_, engine->store_);
  engine->recomputes_ =
      std::make_unique<RecomputeRunner>(feed, [&engine = *engine] { engine.Wake(); });
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
  recomputes_.reset();
  snapshots_.reset();
  tracks_.clear();
  held_.clear();
  serving_.Replace({});
  MutexLock lock(mutex_);
  reported_.clear();
}

void LiveEngine::Shutdown() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  work_.SignalAll();
  if (thread_.joinable()) thread_.join();
  tracks_.clear();
  recomputes_.reset();
  for (auto& held : held_) {
    const bool changed = held->generation != nullptr && held->complete &&
                         held->generation->position() > held->served->snapshot_position();
    if (!changed) continue;
    const absl::Status written = held->generation->WritePosition();
    if (!written.ok()) spdlog::warn("{}: {}", held->spec.slice, written.ToString());
    snapshots_->Request(held->served, held->generation->database(), true);
  }
  snapshots_->Flush();
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

EngineReport LiveEngine::Report() const {
  EngineReport report;
  std::vector<std::shared_ptr<ServedSlice>> slices;
  {
    MutexLock lock(mutex_);
    report.epoch = epoch_;
    report.head_position = head_;
    slices = reported_;
  }
  for (const auto& slice : slices) report.slices.push_back(slice->Report());
  return report;
}

void LiveEngine::Ask(Question question, QueryService::Done done) {
  queries_->Ask(std::move(question), std::move(done));
}

void LiveEngine::Refresh(const std::string& slice, absl::Time deadline, RefreshDone done) {
  absl::string_view name = slice;
  absl::ConsumePrefix(&name, absl::StrCat(options_.domain, "."));
  {
    MutexLock lock(mutex_);
    new_refreshes_.push_back({std::string(name), -1, deadline, std::move(done)});
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
  const absl::Time now = absl::Now();
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
    while (!stopping_ && !assignment_ && new_refreshes_.empty() && absl::Now() < earliest) {
      work_.WaitFor(mutex_, earliest - absl::Now());
    }
    if (stopping_) return false;
    awake_ = false;
    assignment = std::exchange(assignment_, std::nullopt);
    for (PendingRefresh& refresh : new_refreshes_) refreshes_.push_back(std::move(refresh));
    new_refreshes_.clear();
  }
  if (assignment) Reconcile(*assignment);
  return true;
}

void LiveEngine::Loop() {
  while (WaitForWork()) Turn();
}

void LiveEngine::Turn() {
  RetryFailed();
  bool more = false;
  const absl::Time begin = absl::Now();
  // The track at the head comes first, then one batch of each that is behind.
  if (main_ != nullptr) more = ApplyTrack(*main_, kBatchRecordsMax);
  for (size_t i = 0; i < tracks_.size(); ++i) {
    if (tracks_[i].get() == main_) continue;
    const bool alone = main_ == nullptr || !main_->HasArrived();
    more = ApplyTrack(*tracks_[i], alone ? kBatchRecordsMax : kBehindRecordsMax) || more;
  }
  // Full batches follow one another; small ones wait so long that more comes together.
  const absl::Time now = absl::Now();
  next_batch_ = more ? now : now + (now - begin) * (kRestPerWork - 1);
  MergeTracks();
  StepRecompute();
  UpdateStates();
  StepSnapshots();
  PublishReport();
  queries_->PositionsMoved();
  AnswerRefreshes();
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

void LiveEngine::Reconcile(const Assignment& assignment) {
  queries_->SetTimeout(QueryTimeout(options_, assignment));
  std::vector<std::unique_ptr<Held>> next;
  for (const GenerationSpec& spec : assignment.generations) {
    Held* present = FindHeld(spec);
    if (present == nullptr) {
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
  held_ = std::move(next);
  PublishServing();
  ConnectUpstream();
  PlaceOnTracks();
  UpdateStates();
  MutexLock lock(mutex_);
  epoch_ = assignment.epoch;
  reported_.clear();
  for (const auto& held : held_) reported_.push_back(held->served);
}

void LiveEngine::Adopt(Held& held, const GenerationSpec& spec) {
  const bool was_frozen = held.spec.frozen;
  held.spec = spec;
  held.served->SetServing(spec.serving);
  if (spec.frozen && !was_frozen) Freeze(held);
  if (!spec.frozen && was_frozen) held.served->SetState(SliceState::kStarting);
}

void LiveEngine::Freeze(Held& held) {
  held.track = nullptr;
  held.served->SetState(SliceState::kFrozen);
  if (held.generation == nullptr || !held.complete || held.in_run) return;
  const absl::Status written = held.generation->WritePosition();
  if (!written.ok()) spdlog::warn("{}: {}", held.spec.slice, written.ToString());
  if (held.generation->position() <= held.served->snapshot_position()) return;
  snapshots_->Request(held.served, held.generation->database(), true);
}

absl::StatusOr<std::shared_ptr<const DomainPlan>> LiveEngine::PlanOf(const std::string& file) {
  const auto known = plans_.find(file);
  if (known != plans_.end()) return known->second;
  ICEPIE_ASSIGN_OR_RETURN(const DomainDef definition, ParseDomain(file, options_.domain + ".yaml"));
  ICEPIE_ASSIGN_OR_RETURN(DomainPlan plan, PlanDomain(definition));
  auto shared = std::make_shared<const DomainPlan>(std::move(plan));
  if (plans_.size() > 16) plans_.clear();
  plans_[file] = shared;
  return shared;
}

absl::StatusOr<SnapshotManifest> LiveEngine::FindSnapshot(const GenerationSpec& spec) const {
  auto newest = store_.NewestGood(spec.slice, spec.number, spec.definition_hash);
  if (newest.ok() || spec.start_snapshot.empty()) return newest;
  return store_.Check(spec.start_snapshot);
}

absl::Status LiveEngine::OpenGeneration(Held& held) {
  const GenerationSpec& spec = held.spec;
  ICEPIE_ASSIGN_OR_RETURN(const auto plan, PlanOf(spec.file));
  const SlicePlan* slice = plan->Find(spec.slice);
  if (slice != nullptr && !spec.definition_hash.empty() &&
      slice->definition_hash != spec.definition_hash) {
    spdlog::warn("{}: definition hash {} differs from the catalog's {}", spec.slice,
                 slice->definition_hash, spec.definition_hash);
  }
  const auto snapshot = FindSnapshot(spec);
  const std::string file = snapshot.ok() ? store_.AbsolutePath(snapshot->path) : "";
  auto opened = Generation::Open(*instance_, plan, spec.slice, spec.number, file);
  if (!opened.ok() && !file.empty()) {
    spdlog::error("{}: {}; rebuilding from raw", spec.slice, opened.status().ToString());
    opened = Generation::Open(*instance_, plan, spec.slice, spec.number, "");
  } else if (snapshot.ok()) {
    held.complete = true;
    held.saved_time = absl::FromUnixMicros(snapshot->time_us);
  }
  ICEPIE_RETURN_IF_ERROR(opened.status());
  held.generation = std::move(*opened);
  held.served = held.generation->served_ptr();
  if (held.complete) {
    held.served->SetSnapshot(snapshot->Info());
    held.served->SetDatabase(held.generation->database());
  }
  return absl::OkStatus();
}

std::unique_ptr<LiveEngine::Held> LiveEngine::OpenHeld(const GenerationSpec& spec) {
  auto held = std::make_unique<Held>();
  held->spec = spec;
  held->records_max = kBatchRecordsMax;
  const absl::Status opened = OpenGeneration(*held);
  if (!opened.ok()) {
    Hold(*held, opened);
  } else if (held->recompute()) {
    const RefreshDef& refresh = held->generation->definition().refresh;
    if (refresh.kind == RefreshDef::Kind::kCron) {
      auto cron = CronSchedule::Parse(refresh.cron, refresh.time_zone);
      if (cron.ok()) held->cron = *cron;
      if (!cron.ok()) Hold(*held, cron.status());
    }
    // A refresh that was missed while nobody ran is made up for at once.
    if (held->complete) ScheduleNext(*held, held->saved_time);
  }
  held->served->SetServing(spec.serving);
  if (!held->stopped_for_good) {
    held->served->SetState(spec.frozen ? SliceState::kFrozen : SliceState::kStarting);
  }
  return held;
}

// A definition that no longer plans must not take its answers away: the last snapshot goes on.
void LiveEngine::Hold(Held& held, const absl::Status& why) {
  spdlog::error("{} generation {} is held: {}", held.spec.slice, held.spec.number, why.ToString());
  if (why.code() == absl::StatusCode::kInternal) {
    options_.on_fatal(absl::StrCat(held.spec.slice, ": ", why.ToString()));
  }
  held.stopped_for_good = true;
  held.track = nullptr;
  if (held.served == nullptr) {
    const auto snapshot = FindSnapshot(held.spec);
    if (snapshot.ok()) {
      auto served = OpenSnapshot(*instance_, store_, *snapshot);
      if (served.ok()) held.served = *served;
    }
  }
  if (held.served == nullptr) {
    GenerationInfo info;
    info.slice = held.spec.slice;
    info.number = held.spec.number;
    info.definition_hash = held.spec.definition_hash;
    held.served = std::make_shared<ServedSlice>(info, 0);
  }
  held.served->SetServing(held.spec.serving);
  held.served->SetFault(SliceState::kHeld, MakeFault(why, "DEFINITION_INVALID"), std::nullopt);
}

void LiveEngine::PublishServing() {
  ServingSet::Slices slices;
  for (const auto& held : held_) {
    if (held->spec.serving) slices[held->spec.slice] = held->served;
  }
  serving_.Replace(std::move(slices));
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
    std::map<std::string, std::string> aliases;
    for (const std::string& name : held->generation->plan().upstream) {
      const Held* upstream = Serving(name);
      if (upstream != nullptr && upstream->generation != nullptr) {
        aliases[name] = upstream->generation->alias();
      }
    }
    if (aliases == held->upstream) continue;
    held->upstream = aliases;
    held->dirty = true;
    const absl::Status status = held->generation->SetUpstream(aliases);
    if (!status.ok()) Hold(*held, status);
  }
}

// -------------------------------------------------------------------------------------- tracks

TrackStreams LiveEngine::StreamsOf(const Held& held) {
  TrackStreams streams;
  streams.followed = held.generation->streams();
  // Recomputes read raw records again; here it is enough to know that there are new ones.
  if (held.generation->incremental()) streams.decoded = streams.followed;
  return streams;
}

Track* LiveEngine::AddTrack(const TrackStreams& streams, int64_t position) {
  tracks_.push_back(std::make_unique<Track>(feed_, streams, position, [this] { Wake(); }));
  return tracks_.back().get();
}

void LiveEngine::RemoveTrack(Track* track) {
  tracks_.erase(std::remove_if(tracks_.begin(), tracks_.end(),
                               [&](const auto& each) { return each.get() == track; }),
                tracks_.end());
}

// Puts every active generation without a track on one: on the main track when it stands there or
// further, else on one that starts where it stands.
void LiveEngine::PlaceOnTracks() {
  std::vector<Held*> waiting;
  for (auto& held : held_) {
    if (held->active() && held->track == nullptr && absl::Now() >= held->next_retry) {
      waiting.push_back(held.get());
    }
  }
  if (main_ == nullptr) StartMainTrack(waiting);
  std::vector<Held*> behind;
  for (Held* held : waiting) {
    if (held->track != nullptr) continue;
    const int64_t position = held->generation->position();
    if (held->recompute()) {
      held->dirty = true;  // records may have passed while it was not looking
      JoinMain(*held);
    } else if (position > main_->position() + kTrackSpread) {
      LeadWith(*held);
    } else if (position >= main_->position()) {
      JoinMain(*held);
    } else {
      behind.push_back(held);
    }
  }
  if (behind.empty()) return;
  TrackStreams streams;
  int64_t from = INT64_MAX;
  for (Held* held : behind) {
    streams.Add(StreamsOf(*held));
    from = std::min(from, held->generation->position());
  }
  Track* track = AddTrack(streams, from);
  for (Held* held : behind) held->track = track;
}

// The first main track begins at the last of those that stand near the furthest one.
void LiveEngine::StartMainTrack(std::vector<Held*>& waiting) {
  int64_t furthest = 0;
  for (Held* held : waiting) furthest = std::max(furthest, held->generation->position());
  int64_t from = furthest;
  TrackStreams streams;
  std::vector<Held*> near;
  for (Held* held : waiting) {
    const int64_t position = held->generation->position();
    if (position + kTrackSpread < furthest) continue;
    near.push_back(held);
    streams.Add(StreamsOf(*held));
    from = std::min(from, position);
  }
  main_ = AddTrack(streams, from);
  for (Held* held : near) {
    held->track = main_;
    // Everything from its position on will be seen, so only its upstream may have changed unseen.
    if (held->complete && held->upstream.empty()) held->dirty = false;
  }
}

// Follows the main track's streams and the generation's; a wider track takes the old one's place.
void LiveEngine::JoinMain(Held& held) {
  const TrackStreams wanted = StreamsOf(held);
  if (!main_->streams().Includes(wanted)) {
    TrackStreams streams = main_->streams();
    streams.Add(wanted);
    Track* old = main_;
    main_ = AddTrack(streams, old->position());
    for (auto& each : held_) {
      if (each->track == old) each->track = main_;
    }
    RemoveTrack(old);
  }
  held.track = main_;
}

// One that is far ahead does not wait for the main track: it leads a new one, and what was the main
// track follows until it has caught up.
void LiveEngine::LeadWith(Held& held) {
  TrackStreams streams = main_->streams();
  streams.Add(StreamsOf(held));
  main_ = AddTrack(streams, held.generation->position());
  held.track = main_;
  for (auto& each : held_) {
    if (!each->recompute() || each->track == nullptr) continue;
    each->track = main_;
    each->dirty = true;
  }
}

void LiveEngine::MergeTracks() {
  std::set<Track*> done;
  for (const auto& track : tracks_) {
    if (track.get() != main_ && track->position() >= main_->position()) done.insert(track.get());
  }
  std::set<Track*> used;
  for (auto& held : held_) {
    // A generation ahead of the main track passes over what it has already.
    if (held->track != nullptr && done.count(held->track) > 0) JoinMain(*held);
    used.insert(held->track);
  }
  for (size_t i = tracks_.size(); i-- > 0;) {
    Track* track = tracks_[i].get();
    if (track != main_ && used.count(track) == 0) RemoveTrack(track);
  }
}

void LiveEngine::NoteRecords(const RecordBatch& batch) {
  for (const auto& [stream, blocks] : batch.streams) {
    const std::set<std::string> one = {stream};
    int64_t& end = stream_end_[stream];
    end = std::max(end, batch.LastEnd(one, batch.begin, batch.end));
    int64_t& time = stream_time_[stream];
    time = std::max(time, batch.LastIngestTime(one, batch.begin, batch.end));
  }
}

// ------------------------------------------------------------------------------------ applying

// True when more is waiting already.
bool LiveEngine::ApplyTrack(Track& track, int64_t records_max) {
  const std::optional<RecordBatch> batch = track.Take(records_max);
  if (!batch) return false;
  if (&track == main_) NoteRecords(*batch);
  for (auto& held : held_) {
    if (held->track == &track && !held->recompute()) ApplyTo(*held, *batch);
  }
  return track.HasArrived();
}

void LiveEngine::ApplyTo(Held& held, const RecordBatch& batch) {
  const absl::Status status = held.generation->Apply(batch, held.records_max);
  if (!status.ok()) return Failed(held, status);
  Succeeded(held);
  if (held.complete) return;
  if (!held.backfill_target && held.track->first_head()) {
    held.backfill_target = held.track->first_head();
    held.served->SetBackfillTarget(*held.backfill_target);
  }
  if (held.backfill_target && held.generation->position() >= *held.backfill_target) Complete(held);
}

void LiveEngine::Complete(Held& held) {
  held.complete = true;
  held.served->SetDatabase(held.generation->database());
}

void LiveEngine::Succeeded(Held& held) {
  if (held.failures == 0 && !held.failed_on_data) return;
  held.failures = 0;
  held.failed_on_data = false;
  held.records_max = kBatchRecordsMax;
  held.served->SetState(SliceState::kRunning);
}

void LiveEngine::Failed(Held& held, const absl::Status& status) {
  spdlog::warn("{} generation {} at {}: {}", held.spec.slice, held.spec.number,
               held.generation->position(), status.ToString());
  if (status.code() == absl::StatusCode::kInternal) {
    options_.on_fatal(absl::StrCat(held.spec.slice, ": ", status.ToString()));
  }
  const bool data_error = status.code() == absl::StatusCode::kInvalidArgument;
  if (data_error && held.recompute()) return FailedOnData(held, status);
  held.track = nullptr;
  if (ErrorReason(status) == "QUARANTINE_OVER_BUDGET") {
    held.stopped_for_good = true;
    held.served->SetFault(SliceState::kFaulted, MakeFault(status, ""), std::nullopt);
    return;
  }
  if (status.code() == absl::StatusCode::kFailedPrecondition) return Hold(held, status);
  ++held.failures;
  held.records_max = std::max(kSmallestBatch, held.records_max / 4);
  held.next_retry = absl::Now() + RetryDelay(held.failures);
  if (data_error || held.failures >= kFailuresBeforeFault) {
    held.served->SetFault(SliceState::kFaulted,
                          MakeFault(status, data_error ? "SQL_ERROR" : "ENGINE_ERROR"),
                          held.next_retry);
  }
}

// The SQL of a recompute fails on what it reads and would do so again: it waits for its inputs to
// change, or for another definition.
void LiveEngine::FailedOnData(Held& held, const absl::Status& status) {
  held.failed_on_data = true;
  held.dirty = false;
  held.forced = false;
  ScheduleNext(held, absl::Now());
  held.served->SetFault(SliceState::kFaulted, MakeFault(status, "SQL_ERROR"), std::nullopt);
}

void LiveEngine::RetryFailed() {
  const absl::Time now = absl::Now();
  const bool due = std::any_of(held_.begin(), held_.end(), [&](const auto& held) {
    return held->active() && held->track == nullptr && now >= held->next_retry;
  });
  if (due) PlaceOnTracks();
}

// Later than it promises: a batch waits too long; or a recompute is later than its schedule, or
// than its share of the time explains.
bool LiveEngine::Late(Held& held) {
  const absl::Time now = absl::Now();
  if (!held.recompute()) {
    return held.track != nullptr && held.track->oldest_waiting() < now - kLagAllowed;
  }
  // What a run changes belongs to the runner until it is collected.
  if (!recomputes_->busy()) {
    held.behind_since =
        Unchanged(held, {}) ? absl::InfiniteFuture() : std::min(held.behind_since, now);
  }
  const bool continuous =
      held.generation->definition().refresh.kind == RefreshDef::Kind::kContinuous;
  const absl::Time promised =
      continuous ? held.behind_since : std::max(held.behind_since, held.next_refresh);
  return now > promised + std::max(kLagAllowed, held.took * (1 + kRestPerWork));
}

SliceState LiveEngine::StateOf(Held& held) {
  if (held.complete) return Late(held) ? SliceState::kLagging : SliceState::kRunning;
  const bool heard = held.track != nullptr && held.track->first_head().has_value();
  return heard ? SliceState::kBackfilling : SliceState::kStarting;
}

void LiveEngine::UpdateStates() {
  for (auto& held : held_) {
    if (!held->active() || held->failures > 0 || held->failed_on_data) continue;
    if (held->recompute() && UpstreamStopped(*held)) {
      held->served->SetState(SliceState::kBlocked);
    } else {
      held->served->SetState(StateOf(*held));
    }
  }
}

// --------------------------------------------------------------------------------- recomputing

void LiveEngine::StepRecompute() {
  CollectRun();
  if (main_ != nullptr) PlanRun();
}

void LiveEngine::CollectRun() {
  std::optional<RecomputeRun> run = recomputes_->Collect();
  if (!run) return;
  const absl::Time now = absl::Now();
  next_run_ = now + run->took * kRestPerWork;
  for (RecomputeRun::Step& step : run->steps) {
    const auto found = std::find_if(held_.begin(), held_.end(), [&](const auto& held) {
      return held->generation == step.generation;
    });
    if (found == held_.end()) continue;  // not wanted any more
    Held& held = **found;
    held.in_run = false;
    held.next_start = next_run_;
    held.tried = run->position;
    held.took = run->took;
    if (!step.status.ok()) {
      held.dirty = true;
      Failed(held, step.status);
      continue;
    }
    held.forced = false;
    Succeeded(held);
    Complete(held);
    ScheduleNext(held, now);
    if (held.spec.frozen) Freeze(held);
  }
  ConnectUpstream();
}

void LiveEngine::ScheduleNext(Held& held, absl::Time after) {
  const RefreshDef& refresh = held.generation->definition().refresh;
  if (refresh.kind == RefreshDef::Kind::kContinuous) return;
  held.next_refresh =
      refresh.kind == RefreshDef::Kind::kEvery ? after + refresh.every : held.cron->Next(after);
  held.served->SetNextRefresh(held.next_refresh);
}

bool LiveEngine::UpstreamStopped(const Held& held) {
  const auto& names = held.generation->plan().upstream;
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    const Held* upstream = Serving(name);
    return upstream == nullptr || upstream->served->stopped();
  });
}

bool LiveEngine::Due(const Held& held, absl::Time now) const {
  if (held.failures > 0) return now >= held.next_retry;
  if (held.forced || !held.complete) return true;
  if (held.generation->definition().refresh.kind == RefreshDef::Kind::kContinuous) {
    return now >= held.next_start;
  }
  return now >= held.next_refresh;
}

// Nothing that it reads has changed since it was computed.
bool LiveEngine::Unchanged(const Held& held, const std::vector<Held*>& run) {
  if (held.dirty || held.failures > 0) return false;
  if (!held.complete && !held.failed_on_data) return false;
  const int64_t computed =
      held.failed_on_data ? held.tried : held.generation->progress().applied_position;
  for (const std::string& stream : held.generation->streams()) {
    const auto end = stream_end_.find(stream);
    if (end != stream_end_.end() && end->second > computed) return false;
  }
  for (const std::string& name : held.generation->plan().upstream) {
    const Held* upstream = Serving(name);
    if (upstream == nullptr || std::find(run.begin(), run.end(), upstream) != run.end()) {
      return false;
    }
    if (upstream->generation->progress().content_version > computed) return false;
  }
  return true;
}

// Where all inputs stand; nullopt when they do not stand together.
std::optional<int64_t> LiveEngine::InputPosition(const Held& held, const std::vector<Held*>& run,
                                                 int64_t run_position) {
  std::optional<int64_t> position;
  if (held.generation->plan().upstream.empty()) position = main_->position();
  for (const std::string& name : held.generation->plan().upstream) {
    Held* upstream = Serving(name);
    if (upstream == nullptr || upstream->generation == nullptr || upstream->in_run) {
      return std::nullopt;
    }
    const bool in_run = std::find(run.begin(), run.end(), upstream) != run.end();
    if (!in_run && !upstream->complete) return std::nullopt;
    const int64_t at = in_run ? run_position : upstream->generation->position();
    if (position && *position != at) return std::nullopt;
    position = at;
  }
  return position;
}

void LiveEngine::PlanRun() {
  // A track that is still behind where the head was at its start would make it compute twice.
  const bool caught_up = main_->first_head() && main_->position() >= *main_->first_head();
  if (!caught_up || recomputes_->busy()) return;
  const absl::Time now = absl::Now();
  std::vector<Held*> run;
  const int64_t position = main_->position();
  for (auto& each : held_) {
    Held& held = *each;
    if (!held.active() || !held.recompute() || UpstreamStopped(held)) continue;
    const std::optional<int64_t> target = InputPosition(held, run, position);
    if (!target) continue;
    if (Unchanged(held, run)) {
      if (held.failed_on_data) continue;
      held.generation->PassTo(*target);
      if (held.forced || now >= held.next_refresh) ScheduleNext(held, now);
      held.forced = false;
      continue;
    }
    const bool reads_run =
        std::any_of(held.generation->plan().upstream.begin(),
                    held.generation->plan().upstream.end(), [&](const std::string& name) {
                      return std::find(run.begin(), run.end(), Serving(name)) != run.end();
                    });
    const bool paced = now < next_run_ && !held.forced && (held.complete || held.failed_on_data);
    if (*target == position && !paced && (Due(held, now) || (reads_run && !held.cron))) {
      run.push_back(&held);
    }
  }
  if (!run.empty()) StartRun(run, position);
}

absl::Status LiveEngine::BeginStep(Held& held, const std::vector<Held*>& run, RecomputeRun& out) {
  RecomputeRun::Step step;
  step.generation = held.generation;
  std::vector<std::string> upstream_now;
  for (const std::string& stream : held.generation->streams()) {
    step.applied_time_us = std::max(step.applied_time_us, stream_time_[stream]);
  }
  for (const std::string& name : held.generation->plan().upstream) {
    Held* upstream = Serving(name);
    const auto in_run = std::find(run.begin(), run.end(), upstream);
    if (in_run == run.end()) {
      upstream_now.push_back(upstream->generation->alias());
      step.applied_time_us =
          std::max(step.applied_time_us, upstream->generation->progress().applied_time_us);
    } else {
      step.after.push_back(static_cast<size_t>(in_run - run.begin()));
      step.applied_time_us =
          std::max(step.applied_time_us, out.steps[step.after.back()].applied_time_us);
    }
  }
  step.status = held.generation->BeginRecompute(upstream_now);
  out.steps.push_back(std::move(step));
  return out.steps.back().status;
}

void LiveEngine::StartRun(const std::vector<Held*>& run, int64_t position) {
  RecomputeRun started;
  started.position = position;
  for (Held* held : run) {
    const absl::Status begun = BeginStep(*held, run, started);
    if (begun.ok()) {
      held->in_run = true;
      held->dirty = false;
      continue;
    }
    for (RecomputeRun::Step& step : started.steps) {
      if (step.status.ok()) step.generation->AbandonRecompute();
    }
    for (Held* each : run) each->in_run = false;
    return Failed(*held, begun);
  }
  recomputes_->Start(std::move(started));
}

bool LiveEngine::Refreshed(const Held& held, int64_t position) {
  return !held.forced && !held.in_run && held.complete && held.generation->position() >= position;
}

void LiveEngine::AnswerRefreshes() {
  std::vector<PendingRefresh> left;
  for (PendingRefresh& refresh : refreshes_) {
    Held* held = Serving(refresh.slice);
    if (held == nullptr) {
      refresh.done(MakeError(absl::StatusCode::kNotFound, absl::StrCat("no slice ", refresh.slice),
                             "SLICE_NOT_FOUND"));
    } else if (held->served->stopped() && !held->in_run) {
      refresh.done(MakeError(
          absl::StatusCode::kFailedPrecondition,
          absl::StrCat("slice ", refresh.slice, " is stopped: frozen, faulted, held or blocked"),
          "BLOCKED_BY"));
    } else if (held->recompute() && refresh.position < 0) {
      refresh.position = main_ == nullptr ? 0 : main_->position();
      held->forced = true;
      left.push_back(std::move(refresh));
      Wake();
    } else if (!held->recompute() || Refreshed(*held, refresh.position)) {
      refresh.done(held->generation->position());
    } else if (absl::Now() >= refresh.deadline) {
      refresh.done(absl::DeadlineExceededError(
          absl::StrCat("slice ", refresh.slice, ": the recompute goes on")));
    } else {
      left.push_back(std::move(refresh));
    }
  }
  refreshes_ = std::move(left);
}

// ----------------------------------------------------------------------------------- snapshots

void LiveEngine::StepSnapshots() {
  const absl::Time now = absl::Now();
  for (auto& held : held_) {
    if (held->generation == nullptr || !held->complete || held->in_run) continue;
    const int64_t row = held->generation->progress().applied_position;
    if (row <= held->served->snapshot_position()) continue;
    const bool first = held->saved_time == absl::InfinitePast();
    if (!first && now < held->saved_time + options_.snapshot_interval) continue;
    // The first one is what the standby waits for.
    if (!snapshots_->Request(held->served, held->generation->database(), first)) continue;
    held->saved_time = now;
  }
}

}  // namespace icepie::slices
