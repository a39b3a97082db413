#include "slices/role/build_engine.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "slices/apply/batches_ahead.h"
#include "slices/apply/record_batch.h"
#include "slices/apply/slice_fault.h"
#include "slices/apply/slice_log.h"
#include "slices/duckdb/statement_watch.h"
#include "slices/expectation/expectation_check.h"
#include "slices/expectation/expectation_gate.h"
#include "slices/expectation/expectation_store.h"
#include "slices/plan/row_order.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {
namespace {

constexpr int64_t kBatchRecordsMax = 65536;
constexpr int64_t kSmallestBatch = 256;
constexpr int kAttemptsMax = 20;
constexpr int kThreads = 2;
constexpr absl::Duration kLookInterval = absl::Milliseconds(20);
constexpr absl::Duration kInterruptInterval = absl::Milliseconds(20);
constexpr absl::Duration kRetryDelay = absl::Milliseconds(250);
// Nearer than this to the head the rest is left to the live worker's tail.
constexpr int64_t kNearHead = 65536;
constexpr int kRoundsMax = 20;

// Quarantined records, whose blocks are in memory together.
constexpr size_t kTakenTogether = 64;

// Upstream slices come first in a plan, so one pass backwards finds everything that is read.
std::set<std::string> Closure(const DomainPlan& plan, const std::string& slice) {
  std::set<std::string> wanted = {slice};
  for (auto it = plan.slices.rbegin(); it != plan.slices.rend(); ++it) {
    if (wanted.count(it->slice) > 0) wanted.insert(it->upstream.begin(), it->upstream.end());
  }
  return wanted;
}

// Whether a second thread of DuckDB's is of no use: the scan of a batch has one, so that records
// are seen in the order of their positions, and another would only look for work meanwhile, without
// a pause. What keeps its records may turn out to be recomputed.
bool TakesRecordsOnly(const SlicePlan& slice) {
  const bool folds = slice.strategy == Strategy::kAppend || slice.strategy == Strategy::kAggregate;
  return folds && slice.upstream.empty() && !slice.keeps_rows;
}

// Whether the slice would show in which order two threads come to rows that are equal; P5 speaks of
// one.
absl::StatusOr<bool> ShowsOrderOfThreads(DuckConnection& connection, const DomainPlan& plan,
                                         const SlicePlan& slice) {
  ICEPIE_ASSIGN_OR_RETURN(const Json statement,
                          ParseSelect(connection, plan.definition.FindSlice(slice.slice)->sql));
  return ShowsOrder(statement, slice.upstream.empty());
}

}  // namespace

BuildEngine::Interruptible::Interruptible(const BuildEngine& engine,
                                          std::function<void()> interrupt)
    : engine_(engine) {
  MutexLock lock(engine_.mutex_);
  before_ = std::exchange(engine_.interrupt_, std::move(interrupt));
}

BuildEngine::Interruptible::~Interruptible() {
  MutexLock lock(engine_.mutex_);
  engine_.interrupt_ = std::move(before_);
}

BuildEngine::BuildEngine(const EngineOptions& options, Feed& feed)
    : options_(options), feed_(feed), store_(OpenStore(options)) {}

absl::StatusOr<std::unique_ptr<BuildEngine>> BuildEngine::Start(const EngineOptions& options,
                                                                Feed& feed) {
  std::unique_ptr<BuildEngine> engine(new BuildEngine(options, feed));
  ICEPIE_ASSIGN_OR_RETURN(engine->instance_, OpenUnlockedInstance(options, kThreads));
  QueryOptions queries = MakeQueryOptions(options, nullptr);
  queries.heartbeat_interval = absl::InfiniteDuration();  // nobody depends on its answers
  ICEPIE_ASSIGN_OR_RETURN(engine->queries_,
                          QueryService::Start(*engine->instance_, engine->serving_, queries));
  engine->recomputes_ = std::make_unique<RecomputeRunner>(
      feed, RecomputeTimeLimit(options.query_timeout), options.interrupt_grace,
      [&engine = *engine] { engine.recomputed_.SignalAll(); }, options.on_fatal);
  return engine;
}

BuildEngine::~BuildEngine() {
  Shutdown();
  queries_.reset();
  recomputes_.reset();
  serving_.Replace({});
  generations_.clear();
  base_.reset();
}

void BuildEngine::Shutdown() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    if (reader_ != nullptr) reader_->Cancel();
    // First, or what is saved slowly would be saved quickly instead of ended.
    if (interrupt_) interrupt_();
    store_.Hurry();
    // Again and again: a statement that begins just now has a fresh flag.
    while (started_ && !ended_) {
      if (interrupt_) interrupt_();
      ended_changed_.WaitFor(mutex_, kInterruptInterval);
    }
  }
  if (thread_.joinable()) thread_.join();
}

void BuildEngine::Configure(Assignment assignment) {
  MutexLock lock(mutex_);
  epoch_ = std::max(epoch_, assignment.epoch);
  if (started_ || stopping_ || !assignment.build) return;
  started_ = true;
  job_ = *assignment.build;
  assignment_ = std::move(assignment);
  report_.slice = job_.slice;
  report_.number = job_.number;
  report_.phase = "building";
  thread_ = std::thread([this] { Run(); });
}

EngineReport BuildEngine::Report() const {
  EngineReport report;
  MutexLock lock(mutex_);
  report.epoch = epoch_;
  report.head_position = head_;
  if (started_) report.build = report_;
  return report;
}

void BuildEngine::Ask(Question question, QueryService::Done done) {
  queries_->Ask(std::move(question), std::move(done));
}

void BuildEngine::NameSnapshot(const std::string& slice, SnapshotName /*name*/, NameDone done) {
  done(absl::FailedPreconditionError("slice " + slice + ": a build serves nothing"));
}

void BuildEngine::Refresh(const std::string& slice, int64_t /*min_position*/,
                          absl::Time /*deadline*/, RefreshDone done) {
  done(absl::FailedPreconditionError(absl::StrCat("slice ", slice, ": this is a build")));
}

absl::StatusOr<QuarantinePage> BuildEngine::ListQuarantined(const std::string& slice, int64_t after,
                                                            int64_t page_size) {
  return ReadQuarantine(*instance_, serving_, options_.domain, slice, after, page_size);
}

bool BuildEngine::stopping() const {
  MutexLock lock(mutex_);
  return stopping_;
}

void BuildEngine::SetPhase(const std::string& phase) {
  MutexLock lock(mutex_);
  report_.phase = phase;
}

void BuildEngine::Progressed(int64_t position, int64_t target) {
  int64_t quarantined = 0;
  for (const auto& generation : generations_) quarantined += generation->progress().quarantined;
  MutexLock lock(mutex_);
  report_.done_records = position;
  report_.total_records = target;
  report_.quarantined = quarantined;
}

void BuildEngine::Fail(const absl::Status& status) {
  SliceError(job_.slice, "build of generation {}: {}", job_.number, status.ToString());
  if (status.code() == absl::StatusCode::kInternal) options_.on_fatal(status.ToString());
  MutexLock lock(mutex_);
  report_.phase = "failed";
  report_.error = MakeFault(status, "BUILD_FAILED");
}

void BuildEngine::Run() {
  const absl::Status status = BuildOrRecompute();
  if (!status.ok() && !stopping()) Fail(status);
  MutexLock lock(mutex_);
  ended_ = true;
  ended_changed_.SignalAll();
}

absl::Status BuildEngine::BuildOrRecompute() {
  absl::Status status = Build();
  // A slice that would keep too many records is recomputed: once more from the start.
  while (ErrorReason(status) == "KEPT_ROWS_OVER_BUDGET" && !stopping()) {
    const std::string slice = GetErrorDetail(status)->metadata.at("slice");
    if (!overrides_.emplace(slice, status.message()).second) break;
    serving_.Replace({});
    generations_.clear();
    status = Build();
  }
  return status;
}

// Once, before anything of the plan runs: from then on no setting can be changed.
absl::Status BuildEngine::SettleThreads(const DomainPlan& plan, const std::string& slice) {
  if (threads_settled_) return absl::OkStatus();
  const std::set<std::string> wanted = Closure(plan, slice);
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(*instance_));
  bool useful = false;
  bool seen = false;
  for (const SlicePlan& each : plan.slices) {
    if (wanted.count(each.slice) == 0) continue;
    useful = useful || !TakesRecordsOnly(each);
    ICEPIE_ASSIGN_OR_RETURN(const bool shows, ShowsOrderOfThreads(*connection, plan, each));
    seen = seen || shows;
  }
  if (seen || !useful) ICEPIE_RETURN_IF_ERROR(connection->Run("SET GLOBAL threads = 1"));
  ICEPIE_RETURN_IF_ERROR(LockSettings(*instance_));
  threads_settled_ = true;
  return absl::OkStatus();
}

absl::Status BuildEngine::OpenGenerations(const GenerationSpec& spec) {
  ICEPIE_ASSIGN_OR_RETURN(const DomainDef definition,
                          ParseDomain(spec.file, options_.domain + ".yaml"));
  ICEPIE_ASSIGN_OR_RETURN(DomainPlan planned, PlanDomain(definition, overrides_));
  const auto plan = std::make_shared<const DomainPlan>(std::move(planned));
  ICEPIE_RETURN_IF_ERROR(SettleThreads(*plan, spec.slice));
  recomputes_->SetLimit(
      options_.recompute_limit.value_or(RecomputeTimeLimit(definition.limits.query_timeout)));
  const std::set<std::string> wanted = Closure(*plan, spec.slice);
  for (const SlicePlan& slice : plan->slices) {
    if (wanted.count(slice.slice) == 0) continue;
    ICEPIE_ASSIGN_OR_RETURN(
        auto opened, Generation::Open(*instance_, plan, slice.slice, spec.number, "",
                                      slice.slice == spec.slice ? spec.definition_hash : ""));
    ICEPIE_RETURN_IF_ERROR(Equip(*opened));
    generations_.push_back(std::move(opened));
    if (slice.slice == spec.slice) break;
  }
  if (generations_.empty() || generations_.back()->plan().slice != spec.slice) {
    return absl::FailedPreconditionError(absl::StrCat("slice ", spec.slice, " is not in the file"));
  }
  {
    MutexLock lock(mutex_);
    report_.done_before = 0;
  }
  return ConnectUpstream();
}

// What a generation is told, however it was opened.
absl::Status BuildEngine::Equip(Generation& generation) {
  const std::string& slice = generation.plan().slice;
  const auto acknowledged = job_.acknowledged.find(slice);
  if (acknowledged != job_.acknowledged.end()) {
    ICEPIE_RETURN_IF_ERROR(generation.SetAcknowledged(acknowledged->second));
  }
  if (slice == job_.slice) generation.SetSuspects({deadly_, 0, 0, 0});
  const auto held = held_.find(slice);
  return held == held_.end() ? absl::OkStatus() : generation.HoldBack(held->second);
}

absl::Status BuildEngine::ConnectUpstream() {
  std::map<std::string, Generation::Upstream> opened;
  for (const auto& generation : generations_) {
    std::map<std::string, Generation::Upstream> upstream;
    for (const std::string& name : generation->plan().upstream) upstream[name] = opened.at(name);
    ICEPIE_RETURN_IF_ERROR(generation->SetUpstream(upstream));
    opened[generation->plan().slice] = generation->AsUpstream();
  }
  serving_.Replace({{job_.slice, generations_.back()->served_ptr()}});
  return absl::OkStatus();
}

absl::Status BuildEngine::Build() {
  ICEPIE_RETURN_IF_ERROR(store_.Prepare());
  const auto spec = std::find_if(
      assignment_.generations.begin(), assignment_.generations.end(),
      [&](const auto& each) { return each.slice == job_.slice && each.number == job_.number; });
  if (spec == assignment_.generations.end()) {
    return absl::InvalidArgumentError("the assignment lacks the generation to build");
  }
  base_.reset();
  records_max_ = kBatchRecordsMax;
  auto base = job_.base_snapshot.empty()
                  ? absl::NotFoundError("the serving generation has no snapshot yet")
                  : BuildBase::Open(*instance_, store_, job_.base_snapshot, given_up());
  if (stopping()) return absl::CancelledError("stopping");
  no_base_ = base.status();
  if (base.ok()) base_ = *std::move(base);
  deadly_ = {spec->deadly_positions.begin(), spec->deadly_positions.end()};
  held_.clear();
  stage_ = kToBase;
  PutOffSaving(absl::ZeroDuration());
  ICEPIE_ASSIGN_OR_RETURN(continued_, ContinueBase(*spec));
  {
    MutexLock lock(mutex_);
    report_.continues_base = continued_;
  }
  if (!continued_) {
    ICEPIE_RETURN_IF_ERROR(OpenGenerations(*spec));
    ForgetWhatEndedOne();
  }
  ICEPIE_RETURN_IF_ERROR(ReachBase(*spec));
  stage_ = kToHead;
  SetPhase("catching_up");
  for (int round = 0; round < kRoundsMax; ++round) {
    ICEPIE_ASSIGN_OR_RETURN(const int64_t head, Head());
    ICEPIE_RETURN_IF_ERROR(AdvanceTo(job_.end_position.value_or(head)));
    ICEPIE_ASSIGN_OR_RETURN(const int64_t now, Head());
    if (job_.end_position || now - head < kNearHead) break;
  }
  return Save();
}

// Opens the base's state as the new generation's, if applying its quarantined records to it now is
// as good as building all anew.
absl::StatusOr<bool> BuildEngine::ContinueBase(const GenerationSpec& spec) {
  if (!job_.continue_base || base_ == nullptr || !overrides_.empty() ||
      base_->manifest().info.definition_hash != spec.definition_hash) {
    return false;
  }
  ICEPIE_ASSIGN_OR_RETURN(const DomainDef definition,
                          ParseDomain(spec.file, options_.domain + ".yaml"));
  ICEPIE_ASSIGN_OR_RETURN(DomainPlan planned, PlanDomain(definition));
  // Its hash may be another one here: the catalog keeps those that another version's planner made.
  if (planned.Find(spec.slice) == nullptr) return false;
  ICEPIE_RETURN_IF_ERROR(SettleThreads(planned, spec.slice));
  ICEPIE_ASSIGN_OR_RETURN(const SnapshotLink file, store_.Link(base_->manifest()));
  auto opened = Generation::Open(
      *instance_, std::make_shared<const DomainPlan>(std::move(planned)), spec.slice, spec.number,
      file.path(), spec.definition_hash, [this](DuckConnection& connection) {
        return std::make_shared<Interruptible>(*this, [&connection] { connection.Interrupt(); });
      });
  // Its tables are others: so this version's planner, or overrides, would have it.
  if (absl::IsFailedPrecondition(opened.status())) return false;
  if (!opened.ok()) return opened.status();
  ICEPIE_ASSIGN_OR_RETURN(const bool any_order, (*opened)->TakesAnyOrder());
  if (!any_order) return false;
  ICEPIE_RETURN_IF_ERROR(Equip(**opened));
  generations_.clear();
  generations_.push_back(*std::move(opened));
  serving_.Replace({{spec.slice, generations_.back()->served_ptr()}});
  return true;
}

// Brings the new generation to the base's position and compares them.
absl::Status BuildEngine::ReachBase(const GenerationSpec& spec) {
  if (base_ == nullptr) {
    Compare(0);
    return absl::OkStatus();
  }
  ICEPIE_ASSIGN_OR_RETURN(const QuarantinedPositions held, FindHeldBack(spec));
  if (!continued_) {
    held_ = held;
    for (const auto& generation : generations_) ICEPIE_RETURN_IF_ERROR(Equip(*generation));
    ICEPIE_RETURN_IF_ERROR(AdvanceTo(base_->position()));
  }
  int64_t taken = 0;
  if (!held.empty()) {
    const absl::Status noted = [&] {
      const Interruptible noting(*this, [this] { base_->Interrupt(); });
      return base_->NoteDifferences(*generations_.back());
    }();
    if (!noted.ok()) SliceWarn(job_.slice, "row diff: {}", noted.ToString());
    ICEPIE_RETURN_IF_ERROR(TakeHeldBack(spec, held));
    ICEPIE_ASSIGN_OR_RETURN(taken, CountTaken(held));
  }
  SetPhase("comparing");
  Compare(taken);
  return absl::OkStatus();
}

// The records that the serving generations have in quarantine below the base's position, and that
// the new definitions can read.
absl::StatusOr<QuarantinedPositions> BuildEngine::FindHeldBack(const GenerationSpec& spec) {
  QuarantinedPositions held;
  size_t count = 0;
  for (const auto& generation : generations_) {
    if (generation->streams().empty()) continue;
    const std::string& slice = generation->plan().slice;
    auto positions = QuarantinedBefore(slice);
    if (!positions.ok()) {
      SliceWarn(job_.slice, "row diff: the quarantine of {}: {}", slice,
                positions.status().ToString());
      continue;
    }
    positions->erase(std::remove_if(positions->begin(), positions->end(),
                                    [&](int64_t position) {
                                      const bool deadly =
                                          slice == spec.slice &&
                                          std::count(spec.deadly_positions.begin(),
                                                     spec.deadly_positions.end(), position) > 0;
                                      return deadly || position >= base_->position();
                                    }),
                     positions->end());
    count += positions->size();
    if (count > kHeldBackMax) return QuarantinedPositions();
    ICEPIE_ASSIGN_OR_RETURN(
        std::vector<int64_t> readable,
        ReadableNow(Reader(), *generation->domain_plan(), generation->plan(), *positions));
    if (!readable.empty()) held[slice] = std::move(readable);
  }
  return held;
}

absl::StatusOr<std::vector<int64_t>> BuildEngine::QuarantinedBefore(const std::string& slice) {
  if (slice == job_.slice) return base_->Quarantined();
  const auto other = job_.other_snapshots.find(slice);
  if (other == job_.other_snapshots.end()) return std::vector<int64_t>();
  ICEPIE_ASSIGN_OR_RETURN(const auto snapshot,
                          BuildBase::Open(*instance_, store_, other->second, given_up()));
  return snapshot->Quarantined();
}

// Where a generation does not take records in any order, all are built once more, with them.
absl::Status BuildEngine::TakeHeldBack(const GenerationSpec& spec,
                                       const QuarantinedPositions& held) {
  bool in_any_order = true;
  for (const auto& generation : generations_) {
    if (held.count(generation->plan().slice) == 0 || !FollowsRecords(*generation)) continue;
    ICEPIE_ASSIGN_OR_RETURN(const bool takes_any, generation->TakesAnyOrder());
    in_any_order = in_any_order && takes_any;
  }
  held_.clear();
  stage_ = kAgain;
  if (!in_any_order) {
    serving_.Replace({});
    generations_.clear();
    ICEPIE_RETURN_IF_ERROR(OpenGenerations(spec));
    return AdvanceTo(base_->position());
  }
  for (const auto& generation : generations_) {
    const auto of_slice = held.find(generation->plan().slice);
    if (of_slice == held.end()) continue;
    ICEPIE_RETURN_IF_ERROR(generation->HoldBack({}));
    if (!FollowsRecords(*generation)) continue;
    ICEPIE_RETURN_IF_ERROR(TakeQuarantined(*generation, of_slice->second));
  }
  return Recompute(base_->position());
}

absl::Status BuildEngine::TakeQuarantined(Generation& generation,
                                          const std::vector<int64_t>& positions) {
  const RecordReading read = Reader();
  for (auto first = positions.begin(); first != positions.end();) {
    const auto count = std::min<ptrdiff_t>(kTakenTogether, std::distance(first, positions.end()));
    const std::vector<int64_t> some(first, first + count);
    ICEPIE_ASSIGN_OR_RETURN(const RecordBatch batch, read(generation.streams(), some));
    ICEPIE_RETURN_IF_ERROR(Within(generation, "applying quarantined records",
                                  [&] { return generation.TakeQuarantined(batch, some); }));
    first += count;
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> BuildEngine::CountTaken(const QuarantinedPositions& held) const {
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(*instance_));
  std::set<int64_t> taken;
  for (const auto& generation : generations_) {
    const auto of_slice = held.find(generation->plan().slice);
    if (of_slice == held.end()) continue;
    ICEPIE_ASSIGN_OR_RETURN(const auto left, QuarantinedIn(*connection, generation->alias()));
    for (const int64_t position : of_slice->second) {
      if (!std::binary_search(left.begin(), left.end(), position)) taken.insert(position);
    }
  }
  return static_cast<int64_t>(taken.size());
}

void BuildEngine::Compare(int64_t taken) {
  GenerationDiff diff;
  if (base_ != nullptr) {
    const Interruptible comparing(*this, [this] { base_->Interrupt(); });
    diff = base_->Compare(*generations_.back(), taken);
  } else {
    diff.unavailable = std::string(no_base_.message());
  }
  diff.base_generation = job_.base_generation;
  MutexLock lock(mutex_);
  report_.diff = std::move(diff);
}

RecordReading BuildEngine::Reader() {
  return [this](const std::set<std::string>& streams, const std::vector<int64_t>& positions) {
    absl::StatusOr<RecordBatch> batch = absl::CancelledError("stopping");
    for (int attempt = 0; attempt < kAttemptsMax && !stopping(); ++attempt) {
      batch = ReadRecordsAt(feed_, streams, positions);
      if (!absl::IsUnavailable(batch.status())) break;
      absl::SleepFor(kRetryDelay);
    }
    return batch;
  };
}

absl::StatusOr<int64_t> BuildEngine::Head() {
  absl::Status last;
  for (int attempt = 0; attempt < kAttemptsMax && !stopping(); ++attempt) {
    const auto reader = feed_.Open({}, 0, std::nullopt);
    auto piece = reader->Next();
    if (piece.ok() && piece->has_value()) {
      MutexLock lock(mutex_);
      head_ = std::max(head_, (*piece)->head_position);
      return (*piece)->head_position;
    }
    last = piece.status();
    absl::SleepFor(kRetryDelay);
  }
  return last.ok() ? absl::CancelledError("stopping") : last;
}

absl::Status BuildEngine::AdvanceTo(int64_t position) {
  if (generations_.back()->position() >= position && position > 0) return absl::OkStatus();
  ICEPIE_RETURN_IF_ERROR(TakeSaved(position));
  absl::Status status;
  for (int attempt = 0; attempt < kAttemptsMax && !stopping(); ++attempt) {
    status = Follow(position);
    if (status.code() != absl::StatusCode::kUnavailable) break;
    SliceWarn(job_.slice, "build of generation {}: {}; trying again", job_.number,
              status.ToString());
    absl::SleepFor(kRetryDelay);
  }
  ICEPIE_RETURN_IF_ERROR(status);
  if (stopping()) return absl::CancelledError("stopping");
  return Recompute(position);
}

// Each transaction may take as long as it could in the live worker, where it has to end, too.
absl::Status BuildEngine::ApplyWithin(Generation& generation, const RecordBatch& batch) {
  const std::string what =
      absl::StrCat("applying ", std::min(records_max_, batch.RecordCount()), " records");
  return Within(generation, what, [&] { return generation.Apply(batch, records_max_); });
}

absl::Status BuildEngine::Within(Generation& generation, const std::string& what,
                                 const std::function<absl::Status()>& apply) {
  const Interruptible applying(*this, [&] { generation.Interrupt(); });
  const std::string& slice = generation.plan().slice;
  StatementWatch watch([&] { generation.Interrupt(); }, options_.apply_timeout,
                       options_.interrupt_grace, absl::StrCat("applying records to slice ", slice),
                       options_.on_fatal);
  generation.SetOnTransaction([&] { watch.Restart(); });
  const absl::Status status = apply();
  generation.SetOnTransaction(nullptr);
  if (!absl::IsDeadlineExceeded(status)) return status;
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat(what, " to slice ", slice, " took longer than ",
                                absl::FormatDuration(options_.apply_timeout),
                                " (workers.apply_timeout_ms); make its SQL do less for each"),
                   "APPLY_TIME_LIMIT", {{"slice", slice}});
}

// What does not fit into memory, or its time, in one transaction may do so in several.
absl::Status BuildEngine::ApplyTo(Generation& generation, const RecordBatch& batch) {
  absl::Status status = ApplyWithin(generation, batch);
  while (absl::IsResourceExhausted(status) && records_max_ > kSmallestBatch && !stopping()) {
    const bool too_long = ErrorReason(status) == "APPLY_TIME_LIMIT";
    records_max_ = too_long ? kSmallestBatch : std::max(kSmallestBatch, records_max_ / 4);
    SliceWarn(job_.slice, "build of generation {} at {}: {}; in pieces of {} records", job_.number,
              generation.position(), status.ToString(), records_max_);
    status = ApplyWithin(generation, batch);
  }
  return status;
}

// Applies records below `position` to the generations that are built batch by batch.
absl::Status BuildEngine::Follow(int64_t position) {
  std::set<std::string> streams;
  int64_t from = position;
  for (const auto& generation : generations_) {
    if (!FollowsRecords(*generation)) continue;
    streams.insert(generation->streams().begin(), generation->streams().end());
    from = std::min(from, generation->position());
  }
  if (streams.empty() || from >= position) return absl::OkStatus();
  const auto reader = feed_.Open({streams.begin(), streams.end()}, from, position);
  {
    MutexLock lock(mutex_);
    reader_ = reader.get();
  }
  const absl::Status status = ApplyAll(*reader, std::move(streams), from, position);
  MutexLock lock(mutex_);
  reader_ = nullptr;
  return status;
}

absl::Status BuildEngine::ApplyAll(FeedReader& reader, std::set<std::string> streams, int64_t from,
                                   int64_t position) {
  BatchesAhead batches(reader, from, position, std::move(streams));
  while (true) {
    if (records_max_ < kBatchRecordsMax) batches.DecodeNoMore();
    ICEPIE_ASSIGN_OR_RETURN(const std::optional<RecordBatch> batch, batches.Next());
    if (!batch) return absl::OkStatus();
    for (const auto& generation : generations_) {
      if (!FollowsRecords(*generation)) continue;
      generation->RestartChanges(/*wanted=*/false);
      ICEPIE_RETURN_IF_ERROR(ApplyTo(*generation, *batch));
    }
    Progressed(batch->end, position);
    ICEPIE_RETURN_IF_ERROR(SaveOnTheWay());
  }
}

absl::Status BuildEngine::Recompute(int64_t position) {
  for (const auto& generation : generations_) {
    if (FollowsRecords(*generation)) {
      generation->PassTo(position);
      continue;
    }
    const std::set<std::string> below = SlicesBelow(*generation->domain_plan(), generation->plan());
    int64_t applied_time_us = 0;
    for (const auto& each : generations_) {
      if (below.count(each->plan().slice) == 0) continue;
      applied_time_us = std::max(applied_time_us, each->progress().applied_time_us);
    }
    // Each time it leaves out more of the records that its SQL fails on.
    absl::Status status;
    do {
      ICEPIE_RETURN_IF_ERROR(generation->BeginRecompute({}));
      status = RunRecompute(generation, position, applied_time_us);
    } while (absl::IsAborted(status) && !stopping());
    ICEPIE_RETURN_IF_ERROR(status);
  }
  Progressed(position, position);
  return absl::OkStatus();
}

absl::Status BuildEngine::RunRecompute(const std::shared_ptr<Generation>& generation,
                                       int64_t position, int64_t applied_time_us) {
  RecomputeRun run;
  run.position = position;
  run.steps.emplace_back().generation = generation;
  run.steps.back().applied_time_us = applied_time_us;
  recomputes_->Start(std::move(run));
  MutexLock lock(mutex_);
  while (true) {
    if (stopping_) recomputes_->Interrupt(generation.get());
    const std::optional<RecomputeRun> done = recomputes_->Collect();
    if (done) return done->steps.front().status;
    recomputed_.WaitFor(mutex_, kLookInterval);
  }
}

// What fails here does not fail the build: who promotes the generation is told. Nor does an
// expectation whose check never ends: that ends this process, and the next one knows it.
absl::Status BuildEngine::CheckCopy(DuckConnection& connection, const std::string& alias,
                                    SnapshotManifest& copy) const {
  const Interruptible checking(*this, [&] { connection.Interrupt(); });
  ExpectationScope scope;
  scope.slice = job_.slice;
  scope.generation = absl::StrCat(job_.slice, "/", job_.number);
  scope.relation = absl::StrCat(QuoteIdentifier(alias), ".main.__result");
  scope.position = copy.progress.applied_position;
  scope.limit = QueryTimeout(options_, generations_.back()->domain_plan()->definition);
  scope.grace = options_.interrupt_grace;
  const std::string hold = HoldPath(store_.directory(), job_.slice, job_.number);
  ExpectationGate gate(generations_.back()->plan().expectations);
  if (const auto before = ReadHold(hold)) gate.Restore(before->results);
  scope.on_stuck = [&](const ExpectationPlan& expectation, const std::string& why) {
    HoldForEndless(hold, job_.slice, gate, expectation, scope.position);
    options_.on_fatal(why);
  };
  scope.find_target = [this](const std::string& slice) -> ExpectationTarget {
    for (const auto& generation : generations_) {
      if (generation->plan().slice != slice) continue;
      return {absl::StrCat(QuoteIdentifier(generation->alias()), ".main.__result"), "",
              generation->database()};
    }
    return {"", absl::StrCat("slice ", slice, " is not part of this build"), nullptr};
  };
  const absl::Status checked = gate.Check(connection, scope, copy.expectations);
  const std::string reason = ErrorReason(checked);
  const bool told = reason == "EXPECTATION_FAILED" || reason == "EXPECTATION_STOPPED";
  return told ? absl::OkStatus() : checked;
}

absl::Status BuildEngine::Save() {
  Generation& wanted = *generations_.back();
  ICEPIE_RETURN_IF_ERROR(wanted.WritePosition());
  const Interruptible saving(*this, [this] { store_.InterruptCopies(); });
  ICEPIE_ASSIGN_OR_RETURN(
      const SnapshotManifest manifest,
      store_.Save(*instance_, wanted.alias(), wanted.served().info(),
                  wanted.served().result_rows_max(),
                  [this](DuckConnection& connection, const std::string& alias,
                         SnapshotManifest& copy) { return CheckCopy(connection, alias, copy); }));
  wanted.served().SetDatabase(wanted.database());
  wanted.served().SetState(SliceState::kRunning);
  MutexLock lock(mutex_);
  report_.snapshot = manifest.Info();
  report_.expectations = manifest.expectations;
  report_.phase = "ready";
  return absl::OkStatus();
}

}  // namespace icepie::slices
