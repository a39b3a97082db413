#include "slices/query/query_service.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/base/thread_priority.h"
#include "slices/apply/flight_record.h"
#include "slices/apply/generation.h"
#include "slices/apply/slice_fault.h"
#include "slices/duckdb/transaction.h"
#include "slices/plan/sql_gate.h"
#include "slices/query/query_text.h"
#include "slices/role/engine.h"

namespace icepie::slices {
namespace {

constexpr absl::Duration kWatchInterval = absl::Milliseconds(20);
constexpr size_t kWaitingMax = 256;
// So many graces end a question also when it had no processor: others wait for its place.
constexpr int kGracesMax = 10;
// Of the processor's time; then it is no quick one.
constexpr absl::Duration kPutOffAfter = absl::Milliseconds(200);
// Likewise: what has not ended by then does not listen to its interrupt.
constexpr absl::Duration kDeafAfter = absl::Milliseconds(300);
// A question that lacked memory is tried so often, and waits so long for others to end.
constexpr int kMemoryRetriesMax = 2;
constexpr absl::Duration kCalmMax = absl::Seconds(2);
// What it asks itself takes no larger part of a core, unless it would be asked too seldom.
constexpr int kHeartbeatRestPerWork = 200;
constexpr int kHeartbeatRestMax = 2;   // of its interval
constexpr int64_t kRowsMax = 1000000;  // of questions that read no slice with a limit of its own

std::string Relation(const std::string& alias) {
  return absl::StrCat(QuoteIdentifier(alias), ".main.__result");
}

// How messages call a query.
std::string QueryOver(const std::string& slices) {
  return slices.empty() ? "query that reads no slice" : absl::StrCat("query over ", slices);
}

absl::Status TimeLimit(const std::string& slices, absl::Duration limit) {
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat(QueryOver(slices), " took longer than its limit of ",
                   absl::FormatDuration(limit), "; ask for less or raise limits.query_timeout"),
      "QUERY_TIME_LIMIT", {{"slices", slices}});
}

absl::Status TooManyLong(const std::string& domain) {
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("domain ", domain,
                                ": other long queries ran all the time that this one had; try "
                                "again later"),
                   ErrorDetail{"TOO_MANY_QUERIES", {}, {}, 1000});
}

absl::Status ShuttingDown() {
  return MakeError(absl::StatusCode::kUnavailable, "the worker is stopping", "WORKER_LOST");
}

absl::Duration ProcessorTimeOfProcess() {
  timespec time = {};
  if (::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) != 0) return absl::ZeroDuration();
  return absl::DurationFromTimespec(time);
}

// Whether the answer, good or not, shows that questions are answered. A hungry neighbour, or a
// slice that is being replaced, makes some fail; that the place of a slice cannot be read is
// something else.
bool IsSignOfLife(const absl::Status& status) {
  return !absl::IsDataLoss(status) && !absl::IsInvalidArgument(status) && !absl::IsUnknown(status);
}

// The slice that this error says has no state yet, but is on its way to one; empty for others.
std::string BuildingSlice(const absl::Status& error) {
  const auto detail = GetErrorDetail(error);
  if (!detail || detail->reason != "NO_SNAPSHOT_YET" || !detail->retry_after_ms) return "";
  const auto slice = detail->metadata.find("slice");
  return slice == detail->metadata.end() ? "" : slice->second;
}

}  // namespace

struct QueryService::Task {
  Question question;
  Done done;
  absl::Time end_by;      // the caller's deadline, as all of these of SteadyNow()
  absl::Time wait_until;  // for a position, which the limit does not count
  absl::Duration limit;   // of the work
  absl::Time deadline;
  absl::Time begun;                          // by a runner
  std::atomic<bool> answered{false};         // by its runner or, at its limit, by the watch
  std::function<bool()> over;                // while it waits: whether it need not any more
  std::shared_ptr<const Prepared> prepared;  // before it waited
  bool bulk = false;                         // it was put off as such
  int lacked_memory = 0;                     // so often
  absl::Time calm_by;                        // until then others may end, whose memory it lacks

  void StartClock(absl::Duration timeout) {
    const absl::Time now = SteadyNow();
    // The caller's deadline is met a little early, so that the reason arrives and not its own. What
    // came too late has no time, but is not one that has been deaf to interrupts since then.
    limit =
        std::max(absl::ZeroDuration(), std::min(timeout, end_by - now - absl::Milliseconds(50)));
    deadline = now + limit;
  }
};

// A slice as resolved: the database is held so that it stays attached while the query runs.
struct ResolvedSlice {
  std::shared_ptr<ServedSlice> served;
  std::shared_ptr<AttachedDatabase> database;
};

struct QueryService::Prepared {
  std::string sql;
  bool varies = false;  // with what is not in the slices
  std::map<std::string, QueryValue> parameters;
  std::vector<ResolvedSlice> slices;
  std::string Names() const {
    return absl::StrJoin(slices, ", ", [](std::string* out, const ResolvedSlice& slice) {
      out->append(slice.served->info().slice);
    });
  }
};

// One thread's connection and what it is running now.
struct QueryService::Runner {
  std::unique_ptr<DuckConnection> connection;  // changed by its thread under the mutex
  // A transaction could not be rolled back: whatever is asked next would fail for it.
  bool unclean = false;
  // Guarded by the service's mutex.
  ThreadName thread;
  bool bulk = false;       // its thread ends with this question
  bool abandoned = false;  // it has ended, and needs another one
  bool running = false;
  bool interrupted = false;
  bool put_off = false;                  // its question is being ended, to be begun again later
  absl::Duration processor_time_before;  // when it began
  absl::Duration processor_time;         // when it was interrupted
  std::shared_ptr<Task> task;
  std::string slices;  // known once the question is resolved
  const FlightEntry* flight = nullptr;
};

QueryService::QueryService(DuckDatabase& instance, const ServingSet& slices, QueryOptions options)
    : instance_(instance),
      slices_(slices),
      options_(std::move(options)),
      timeout_(options_.timeout) {}

absl::StatusOr<std::unique_ptr<QueryService>> QueryService::Start(DuckDatabase& instance,
                                                                  const ServingSet& slices,
                                                                  QueryOptions options) {
  std::unique_ptr<QueryService> service(new QueryService(instance, slices, std::move(options)));
  for (int i = 0; i < service->options_.threads; ++i) {
    auto runner = std::make_unique<Runner>();
    ICEPIE_ASSIGN_OR_RETURN(runner->connection, DuckConnection::Connect(instance));
    service->runners_.push_back(std::move(runner));
  }
  if (service->options_.heartbeat_interval < absl::InfiniteDuration()) {
    service->own_runner_ = std::make_unique<Runner>();
    ICEPIE_ASSIGN_OR_RETURN(service->own_runner_->connection, DuckConnection::Connect(instance));
  }
  service->StartThreads();
  return service;
}

QueryService::~QueryService() {
  std::vector<std::shared_ptr<Task>> left;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    left.assign(queue_.begin(), queue_.end());
    left.insert(left.end(), waiting_.begin(), waiting_.end());
    left.insert(left.end(), hungry_.begin(), hungry_.end());
    left.insert(left.end(), put_off_.begin(), put_off_.end());
    queue_.clear();
    waiting_.clear();
    hungry_.clear();
    put_off_.clear();
  }
  changed_.SignalAll();
  watch_changed_.SignalAll();
  heartbeat_changed_.SignalAll();
  for (const auto& task : left) Finish(*task, ShuttingDown());
  if (watch_.joinable()) watch_.join();
  EndRunners();
  if (heartbeat_thread_.joinable()) heartbeat_thread_.join();
}

void QueryService::EndRunners() {
  MutexLock lock(mutex_);
  while (running_threads_ > 0) {
    // Again and again: a statement that begins just now has a fresh flag.
    for (auto& runner : runners_) {
      if (runner->running) runner->connection->Interrupt();
    }
    changed_.WaitFor(mutex_, kWatchInterval);
  }
}

void QueryService::SetTimeout(absl::Duration timeout) {
  MutexLock lock(mutex_);
  timeout_ = timeout;
}

void QueryService::Ask(Question question, Done done) {
  auto task = std::make_shared<Task>();
  const absl::Time now = SteadyNow();
  const absl::Duration left = question.deadline - absl::Now();
  task->end_by = now + left;
  // After the wait there is still time to say why it was in vain.
  task->wait_until =
      now + std::min(question.max_wait, left - std::min(left / 4, absl::Milliseconds(250)));
  task->question = std::move(question);
  task->done = std::move(done);
  absl::Status refused;
  {
    MutexLock lock(mutex_);
    task->StartClock(timeout_);
    if (stopping_) {
      refused = ShuttingDown();
    } else if (queue_.size() >= options_.queue_max) {
      refused = MakeError(absl::StatusCode::kResourceExhausted,
                          absl::StrCat("domain ", options_.domain, ": ", queue_.size(),
                                       " queries are waiting already; try again later"),
                          ErrorDetail{"TOO_MANY_QUERIES", {}, {}, 200});
    } else {
      queue_.push_back(task);
    }
  }
  changed_.Signal();
  if (!refused.ok()) Finish(*task, refused);
}

void QueryService::Finish(Task& task, absl::StatusOr<Answer> answer) {
  if (answer.status().code() == absl::StatusCode::kInternal && options_.on_broken) {
    options_.on_broken(answer.status());
  }
  if (task.answered.exchange(true)) return;
  task.done(std::move(answer));
}

void QueryService::PositionsMoved() {
  {
    MutexLock lock(mutex_);
    const size_t before = queue_.size();
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      const bool over = (*it)->over();
      if (over) {
        (*it)->StartClock(timeout_);
        queue_.push_back(*it);
      }
      it = over ? waiting_.erase(it) : std::next(it);
    }
    if (queue_.size() == before) return;
  }
  changed_.SignalAll();
}

void QueryService::StartThreads() {
  MutexLock lock(mutex_);
  for (auto& runner : runners_) StartRunner(*runner);
  watch_ = std::thread([this] { WatchLoop(); });
  if (own_runner_ != nullptr) heartbeat_thread_ = std::thread([this] { HeartbeatLoop(); });
}

// One that does bulk work cannot be joined in time: it may not run for long.
void QueryService::StartRunner(Runner& runner) {
  runner.bulk = false;
  runner.abandoned = false;
  ++running_threads_;
  std::thread([this, &runner] { RunnerLoop(runner); }).detach();
}

void QueryService::RunnerLoop(Runner& runner) {
  while (const std::shared_ptr<Task> task = NextTask(runner)) {
    RunNoted(runner, task);
    if (!EndTask(runner)) return;
  }
}

// Null, and the thread's end, when the service stops.
std::shared_ptr<QueryService::Task> QueryService::NextTask(Runner& runner) {
  MutexLock lock(mutex_);
  runner.thread = ThisThread();
  while (queue_.empty() && !stopping_) changed_.Wait(mutex_);
  if (stopping_) {
    --running_threads_;
    changed_.SignalAll();  // under the lock: the service may be gone afterwards
    return nullptr;
  }
  const std::shared_ptr<Task> task = std::move(queue_.front());
  queue_.pop_front();
  task->begun = SteadyNow();
  runner.running = true;
  runner.interrupted = false;
  runner.put_off = false;
  runner.processor_time_before = ProcessorTime(runner.thread);
  runner.task = task;
  runner.slices.clear();
  return task;
}

// False: the thread ends, since it cannot become quick again. Only the watch makes another one,
// which must not inherit that.
bool QueryService::EndTask(Runner& runner) {
  MutexLock lock(mutex_);
  runner.flight = nullptr;
  runner.running = false;
  if (SteadyNow() - runner.task->begun >= options_.bulk_after) last_bulk_end_ = SteadyNow();
  runner.task.reset();
  if (!runner.bulk) return true;
  runner.abandoned = true;
  --running_threads_;
  watch_changed_.SignalAll();
  changed_.SignalAll();
  return false;
}

// The watch may have to say that this question is why the process ends.
void QueryService::RunNoted(Runner& runner, const std::shared_ptr<Task>& task) {
  const FlightEntry flight(Activity::kQuery, task->question.fingerprint);
  {
    MutexLock lock(mutex_);
    runner.flight = &flight;
  }
  CleanUp(runner);
  Process(runner, task);
  MutexLock lock(mutex_);
  runner.flight = nullptr;
}

// The end of a connection is the end of its transaction. Without memory for another one the old one
// is tried again with the next question.
void QueryService::CleanUp(Runner& runner) {
  if (!runner.unclean) return;
  auto connection = DuckConnection::Connect(instance_);
  if (!connection.ok()) return;
  {
    MutexLock lock(mutex_);
    std::swap(runner.connection, *connection);
  }
  runner.unclean = false;
}

void QueryService::YieldWhenLong(Runner& runner, absl::Time now) {
  if (!runner.running || now - runner.task->begun < options_.bulk_after) return;
  if (!runner.put_off && !runner.bulk && (runner.task->bulk || HasBulkPlace(&runner, now))) {
    runner.bulk = MakeBulk(runner.thread);
  }
  if (runner.bulk && !runner.put_off) return;
  // On a busy machine also a small one may take a while, of which it gets little.
  const absl::Duration worked = ProcessorTime(runner.thread) - runner.processor_time_before;
  runner.put_off = runner.put_off || (worked >= kPutOffAfter && put_off_.size() < kWaitingMax);
  if (!runner.put_off) return;
  // Again and again: a statement that begins just now has a fresh flag.
  runner.connection->Interrupt();
  // One that does not listen cannot be put off, but gives way.
  if (!runner.bulk && worked >= kDeafAfter) runner.bulk = MakeBulk(runner.thread);
}

bool QueryService::HasBulkPlace(const Runner* except, absl::Time now) const {
  const auto has = std::count_if(runners_.begin(), runners_.end(), [&](const auto& runner) {
    return runner.get() != except && runner->running && !runner->put_off &&
           (runner->task->bulk || now - runner->task->begun >= options_.bulk_after);
  });
  return has < std::max(1, options_.threads - 1);
}

// True when this error is the end that it was given for that.
bool QueryService::PutOff(Runner& runner, const std::shared_ptr<Task>& task) {
  MutexLock lock(mutex_);
  if (!runner.put_off || stopping_ || task->answered || task->question.GivenUp()) return false;
  if (SteadyNow() >= task->deadline) return false;
  task->bulk = true;
  put_off_.push_back(task);
  return true;
}

std::vector<std::shared_ptr<QueryService::Task>> QueryService::WakePutOff(absl::Time now) {
  std::vector<std::shared_ptr<Task>> late;
  const auto is_over = [&](const auto& task) {
    return now >= task->deadline || task->question.GivenUp();
  };
  const auto left = std::stable_partition(put_off_.begin(), put_off_.end(), is_over);
  std::move(put_off_.begin(), left, std::back_inserter(late));
  put_off_.erase(put_off_.begin(), left);
  const bool on_its_way =
      std::any_of(queue_.begin(), queue_.end(), [](const auto& task) { return task->bulk; });
  if (put_off_.empty() || on_its_way || !HasBulkPlace(nullptr, now)) return late;
  queue_.push_front(std::move(put_off_.front()));
  put_off_.pop_front();
  changed_.SignalAll();
  return late;
}

// Planning folds constants and some functions compute for long without looking at the interrupt:
// the caller is answered at the limit all the same, and on_stuck follows after the grace.
QueryService::Late QueryService::InterruptLate(Runner& runner, absl::Time now) {
  if (!runner.running || now < runner.task->deadline) return Late::kNo;
  const absl::Duration had = ProcessorTime(runner.thread);
  const bool again = std::exchange(runner.interrupted, true);
  if (!again) runner.processor_time = had;
  // Again and again: a statement that begins just now has a fresh flag.
  runner.connection->Interrupt();
  const absl::Duration late = now - runner.task->deadline;
  const bool has_run = had - runner.processor_time >= options_.grace / 2;
  if (late >= options_.grace && (has_run || late >= options_.grace * kGracesMax)) {
    return Late::kStuck;
  }
  return again ? Late::kUnanswered : Late::kNo;
}

void QueryService::WakeWaiting(absl::Time now) {
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const bool late = now >= (*it)->wait_until || (*it)->question.GivenUp();
    if (late) {
      (*it)->StartClock(timeout_);
      queue_.push_back(*it);
    }
    it = late ? waiting_.erase(it) : std::next(it);
  }
  if (!queue_.empty()) changed_.SignalAll();
}

bool QueryService::AnyBulk(const Runner* except, absl::Time now) const {
  return std::any_of(runners_.begin(), runners_.end(), [&](const auto& runner) {
    return runner.get() != except && runner->running &&
           now - runner->task->begun >= options_.bulk_after;
  });
}

// The memory is everybody's: a question that lacked some while others worked, or just before, may
// be a small one that met a hungry one. It is run again when those have ended.
bool QueryService::LackedMemoryOfOthers(Runner& runner, const std::shared_ptr<Task>& task) {
  const absl::Time now = SteadyNow();
  MutexLock lock(mutex_);
  const bool in_company = AnyBulk(&runner, now) || last_bulk_end_ >= task->begun;
  const bool may_wait = task->lacked_memory < kMemoryRetriesMax && hungry_.size() < kWaitingMax &&
                        now < task->deadline && !task->answered;
  if (!in_company || !may_wait || stopping_) return false;
  ++task->lacked_memory;
  task->calm_by = std::min(now + kCalmMax, task->deadline - (task->deadline - now) / 4);
  hungry_.push_back(task);
  return true;
}

// One after the other: two hungry ones would only meet again.
void QueryService::WakeHungry(absl::Time now) {
  if (hungry_.empty()) return;
  const auto is_retry = [](const std::shared_ptr<Task>& task) { return task->lacked_memory > 0; };
  const bool calm =
      !AnyBulk(nullptr, now) && std::none_of(queue_.begin(), queue_.end(), is_retry) &&
      std::none_of(runners_.begin(), runners_.end(),
                   [&](const auto& runner) { return runner->running && is_retry(runner->task); });
  // One that came later may have less time.
  const auto late = std::find_if(hungry_.begin(), hungry_.end(), [&](const auto& task) {
    return now >= task->calm_by || task->question.GivenUp();
  });
  if (!calm && late == hungry_.end()) return;
  const auto next = late == hungry_.end() ? hungry_.begin() : late;
  queue_.push_front(std::move(*next));
  hungry_.erase(next);
  changed_.SignalAll();
}

void QueryService::WatchLoop() {
  while (true) {
    heartbeat_.Tick(SteadyNow(), ProcessorTimeOfProcess());
    std::optional<std::string> stuck;
    std::vector<std::pair<std::shared_ptr<Task>, std::string>> unanswered;  // with its slices
    std::vector<std::shared_ptr<Task>> crowded_out;
    {
      MutexLock lock(mutex_);
      watch_changed_.WaitFor(mutex_, kWatchInterval);
      if (stopping_) return;
      const absl::Time now = SteadyNow();
      for (auto& runner : runners_) {
        if (runner->abandoned) StartRunner(*runner);
        YieldWhenLong(*runner, now);
        // Again and again: a statement that begins just now has a fresh flag.
        if (runner->running && runner->task->question.GivenUp()) runner->connection->Interrupt();
        const Late late = InterruptLate(*runner, now);
        if (late != Late::kNo) unanswered.emplace_back(runner->task, runner->slices);
        if (late == Late::kStuck) {
          stuck = runner->slices;
          if (runner->flight != nullptr) runner->flight->Blame();
        }
      }
      WakeWaiting(now);
      WakeHungry(now);
      crowded_out = WakePutOff(now);
    }
    for (const auto& task : crowded_out) Finish(*task, TooManyLong(options_.domain));
    for (const auto& [task, slices] : unanswered) Finish(*task, TimeLimit(slices, task->limit));
    if (stuck && options_.on_stuck) options_.on_stuck(QueryOver(*stuck));
  }
}

absl::Duration QueryService::HeartbeatAge() {
  heartbeat_.Tick(SteadyNow(), ProcessorTimeOfProcess());  // also when the watch hangs
  return heartbeat_.age();
}

void QueryService::HeartbeatLoop() {
  const ThreadName thread = ThisThread();
  const absl::Duration interval = options_.heartbeat_interval;
  absl::Duration rest = interval;
  std::string slice;
  while (WaitForHeartbeat(rest)) {
    const absl::Duration had = ProcessorTime(thread);
    AskItself(slice);
    rest = std::clamp((ProcessorTime(thread) - had) * kHeartbeatRestPerWork, interval,
                      interval * kHeartbeatRestMax);
  }
}

// False when the service stops.
bool QueryService::WaitForHeartbeat(absl::Duration rest) {
  const absl::Time end = SteadyNow() + rest;
  MutexLock lock(mutex_);
  while (!stopping_ && SteadyNow() < end) heartbeat_changed_.WaitFor(mutex_, end - SteadyNow());
  return !stopping_;
}

// About the slice after `slice` that has something to show.
void QueryService::AskItself(std::string& slice) {
  std::string first;
  std::string next;
  for (const auto& [name, served] : slices_.All()) {
    if (served->database() == nullptr) continue;
    if (first.empty()) first = name;
    if (next.empty() && name > slice) next = name;
  }
  slice = next.empty() ? first : next;
  if (slice.empty()) return heartbeat_.Answered();
  auto task = std::make_shared<Task>();
  SelectQuestion select;
  select.slice = slice;
  task->question.text = std::move(select);
  task->question.heartbeat = true;
  task->end_by = task->wait_until = task->deadline = absl::InfiniteFuture();
  task->limit = absl::InfiniteDuration();
  task->lacked_memory = kMemoryRetriesMax;  // it is not put off until others have ended
  task->done = [this](const absl::StatusOr<Answer>& answer) {
    if (IsSignOfLife(answer.status())) heartbeat_.Answered();
  };
  CleanUp(*own_runner_);
  Process(*own_runner_, task);
}

void QueryService::Process(Runner& runner, const std::shared_ptr<Task>& task) {
  const Question& question = task->question;
  if (question.GivenUp()) return Finish(*task, absl::CancelledError("the caller has gone"));
  std::shared_ptr<const Prepared> prepared = std::exchange(task->prepared, nullptr);
  if (prepared == nullptr || !IsCurrent(*prepared)) {
    absl::StatusOr<Prepared> resolved = Resolve(runner, *task);
    if (absl::IsDeadlineExceeded(resolved.status()) && PutOff(runner, task)) return;
    if (!resolved.ok()) return NotResolved(runner, task, resolved.status());
    prepared = std::make_shared<const Prepared>(*std::move(resolved));
  }
  {
    MutexLock lock(mutex_);
    runner.slices = prepared->Names();
  }
  const absl::Status reached = CheckPosition(*prepared, question);
  if (reached.code() == absl::StatusCode::kUnavailable) {
    task->prepared = prepared;
    const auto moved = [this, prepared, &question] {
      return !IsCurrent(*prepared) ||
             CheckPosition(*prepared, question).code() != absl::StatusCode::kUnavailable;
    };
    if (Wait(task, moved)) return;
  }
  if (!reached.ok()) {
    return Finish(*task, MakeError(absl::StatusCode::kFailedPrecondition, reached.message(),
                                   "POSITION_UNREACHABLE"));
  }
  absl::StatusOr<Answer> answer = Execute(runner, *prepared, question);
  if (absl::IsDeadlineExceeded(answer.status())) {
    if (PutOff(runner, task)) return;
    answer = TimeLimit(prepared->Names(), task->limit);
  }
  const bool lacked_memory = ErrorReason(answer.status()) == "QUERY_MEMORY_LIMIT";
  if (lacked_memory && LackedMemoryOfOthers(runner, task)) return;
  Finish(*task, std::move(answer));
}

// Answers, or waits for the first state of a slice that has none yet.
void QueryService::NotResolved(Runner& runner, const std::shared_ptr<Task>& task,
                               const absl::Status& why) {
  if (why.code() == absl::StatusCode::kDeadlineExceeded) {
    return Finish(*task, TimeLimit("", task->limit));
  }
  if (why.code() == absl::StatusCode::kResourceExhausted && ErrorReason(why).empty()) {
    if (LackedMemoryOfOthers(runner, task)) return;
    return Finish(*task, MakeError(absl::StatusCode::kResourceExhausted,
                                   absl::StrCat("planning the query: ", why.message(),
                                                "; ask for less or raise limits.memory"),
                                   "QUERY_MEMORY_LIMIT"));
  }
  const std::string building = BuildingSlice(why);
  const auto ready = [this, building] {
    const std::shared_ptr<ServedSlice> served = slices_.Find(building);
    return served == nullptr || served->database() != nullptr;
  };
  if (task->question.min_position && !building.empty() && Wait(task, ready)) return;
  Finish(*task, why);
}

// Whether the question would be resolved to the same states again.
bool QueryService::IsCurrent(const Prepared& prepared) const {
  return std::all_of(prepared.slices.begin(), prepared.slices.end(),
                     [&](const ResolvedSlice& slice) {
                       return slices_.Find(slice.served->info().slice) == slice.served &&
                              slice.served->database() == slice.database;
                     });
}

// Until the positions move, or it has waited enough: then false. `over`: it need not wait any more.
bool QueryService::Wait(const std::shared_ptr<Task>& task, std::function<bool()> over) {
  if (SteadyNow() >= task->wait_until) return false;
  MutexLock lock(mutex_);
  if (stopping_ || waiting_.size() >= kWaitingMax) return false;
  task->over = std::move(over);
  waiting_.push_back(task);
  // They may have moved between the check and now.
  if (task->over()) {
    waiting_.pop_back();
    queue_.push_back(task);
  }
  return true;
}

absl::Status QueryService::NotFound(absl::string_view name) const {
  const std::string have = absl::StrJoin(
      slices_.All(), ", ", [](std::string* out, const auto& slice) { out->append(slice.first); });
  return MakeError(absl::StatusCode::kNotFound,
                   absl::StrCat("domain ", options_.domain, " has no slice ", name,
                                " (have: ", have.empty() ? "none" : have, ")"),
                   "SLICE_NOT_FOUND", {{"slice", std::string(name)}, {"have", have}});
}

// What the question reads of the slice: as it is now, or as it was.
absl::StatusOr<ResolvedSlice> QueryService::StateFor(const std::shared_ptr<ServedSlice>& served,
                                                     const Task& task) const {
  ResolvedSlice resolved{served, nullptr};
  if (task.question.as_of) {
    if (!options_.state_at) return absl::UnimplementedError("this worker has no snapshots");
    ICEPIE_ASSIGN_OR_RETURN(resolved.served,
                            options_.state_at(served->info(), *task.question.as_of, task.deadline));
  }
  resolved.database = resolved.served->database();
  if (resolved.database == nullptr) return NoSnapshotYet(*served);
  return resolved;
}

absl::Status QueryService::AddSlice(const std::string& name, const Task& task,
                                    Prepared& prepared) const {
  const std::shared_ptr<ServedSlice> served = slices_.Find(name);
  if (served == nullptr) return NotFound(name);
  ICEPIE_ASSIGN_OR_RETURN(ResolvedSlice resolved, StateFor(served, task));
  prepared.slices.push_back(std::move(resolved));
  return absl::OkStatus();
}

absl::StatusOr<QueryService::Prepared> QueryService::Resolve(Runner& runner,
                                                             const Task& task) const {
  if (const auto* select = std::get_if<SelectQuestion>(&task.question.text)) {
    return ResolveSelect(*select, task);
  }
  ICEPIE_ASSIGN_OR_RETURN(Prepared prepared, ResolveSql(runner, task));
  prepared.parameters = task.question.parameters;
  return prepared;
}

absl::StatusOr<QueryService::Prepared> QueryService::ResolveSelect(const SelectQuestion& select,
                                                                   const Task& task) const {
  Prepared prepared;
  absl::string_view name = select.slice;
  absl::ConsumePrefix(&name, absl::StrCat(options_.domain, "."));
  ICEPIE_RETURN_IF_ERROR(AddSlice(std::string(name), task, prepared));
  const ResolvedSlice& slice = prepared.slices.front();
  ICEPIE_ASSIGN_OR_RETURN(SelectText text, SelectToSql(select, slice.served->info(),
                                                       Relation(slice.database->alias())));
  prepared.sql = std::move(text.sql);
  prepared.parameters = std::move(text.parameters);
  return prepared;
}

absl::StatusOr<QueryService::Prepared> QueryService::ResolveSql(Runner& runner,
                                                                const Task& task) const {
  const auto& sql = std::get<std::string>(task.question.text);
  // What the gate resolved is what is read: one look at the set for both.
  const ServingSet::Slices all = slices_.All();
  std::map<std::string, ResolvedSlice> resolved;
  absl::Status not_ready;
  GateOptions gate;
  gate.domain = options_.domain;
  for (const auto& [name, slice] : all) gate.known.push_back(name);
  gate.resolve = [&](absl::string_view name) -> std::optional<RelationTarget> {
    const auto found = all.find(std::string(name));
    if (found == all.end()) return std::nullopt;
    ResolvedSlice& slice = resolved[found->first];
    if (slice.database == nullptr && not_ready.ok()) {
      auto state = StateFor(found->second, task);
      not_ready = state.status();
      if (state.ok()) slice = *std::move(state);
    }
    if (slice.database == nullptr) return RelationTarget{"memory", "main", "__not_ready"};
    return RelationTarget{slice.database->alias(), "main", "__result"};
  };
  ICEPIE_ASSIGN_OR_RETURN(GatedQuery gated, GateQuery(*runner.connection, sql, gate));
  ICEPIE_RETURN_IF_ERROR(not_ready);
  Prepared prepared;
  prepared.sql = std::move(gated.sql);
  prepared.varies = gated.varies;
  for (const std::string& name : gated.relations) prepared.slices.push_back(resolved.at(name));
  return prepared;
}

absl::Status QueryService::CheckPosition(const Prepared& prepared, const Question& question) {
  if (!question.min_position) return absl::OkStatus();
  for (const ResolvedSlice& slice : prepared.slices) {
    const int64_t position = slice.served->applied_position();
    if (position >= *question.min_position) continue;
    const bool stopped = slice.served->stopped();
    const std::string message =
        absl::StrCat("slice ", slice.served->info().slice, " stands at position ", position,
                     ", min_position is ", *question.min_position,
                     stopped ? "; it is stopped (frozen, faulted, held, blocked or suspended)"
                             : "; wait longer");
    return stopped ? absl::FailedPreconditionError(message) : absl::UnavailableError(message);
  }
  return absl::OkStatus();
}

absl::StatusOr<Answer> QueryService::Execute(Runner& runner, const Prepared& prepared,
                                             const Question& question) const {
  // What the position was checked against; the rows may be replaced before they are read.
  std::vector<ServedSlice::Standing> standings;
  for (const ResolvedSlice& slice : prepared.slices) {
    standings.push_back(slice.served->standing());
  }
  const absl::Status begun = BeginTransaction(*runner.connection, TransactionKind::kReadOnly);
  runner.unclean = !begun.ok();
  if (!begun.ok()) return Explain(begun, prepared);
  absl::StatusOr<Answer> answer = ExecuteInTransaction(runner, prepared, question, standings);
  const absl::Status ended = RollBack(*runner.connection);  // it has only read
  runner.unclean = !ended.ok();
  if (answer.ok() && !ended.ok()) return Explain(ended, prepared);
  if (!answer.ok()) return Explain(answer.status(), prepared);
  return answer;
}

absl::StatusOr<Answer> QueryService::ExecuteInTransaction(
    Runner& runner, const Prepared& prepared, const Question& question,
    const std::vector<ServedSlice::Standing>& standings) const {
  Answer answer;
  int64_t rows_max = question.rows_max > 0 ? question.rows_max : kRowsMax;
  size_t known = 0;
  for (const ResolvedSlice& slice : prepared.slices) {
    ICEPIE_ASSIGN_OR_RETURN(const auto rows,
                            runner.connection->QueryCells(absl::StrCat(
                                "SELECT ", kProgressColumns, " FROM ",
                                QuoteIdentifier(slice.database->alias()), ".main.__progress")));
    if (rows.empty()) return absl::DataLossError("a slice has lost its progress");
    const SliceReport& report = answer.slices.emplace_back(
        slice.served->ReportAt(ReadProgressRow(rows.front()), standings[answer.slices.size()]));
    if (question.rows_max <= 0) rows_max = std::min(rows_max, slice.served->result_rows_max());
    known += static_cast<size_t>(
        std::any_of(question.known.begin(), question.known.end(), [&](const KnownVersion& version) {
          return version.slice == report.info.slice && version.generation == report.info.number &&
                 version.content_version == report.progress.content_version;
        }));
  }
  answer.varies = prepared.varies;
  answer.not_modified = !answer.varies && known == prepared.slices.size() && known > 0;
  if (answer.not_modified || question.heartbeat) return answer;
  ICEPIE_ASSIGN_OR_RETURN(const auto statement, runner.connection->Prepare(prepared.sql));
  ICEPIE_RETURN_IF_ERROR(BindParameters(*statement, prepared.parameters));
  ICEPIE_ASSIGN_OR_RETURN(DuckResult result, statement->Execute());
  const std::vector<std::string> names = JsonColumnNames(result);
  for (idx_t column = 0; column < result.column_count(); ++column) {
    answer.columns.push_back({names[column], result.column_type(column)});
  }
  ICEPIE_ASSIGN_OR_RETURN(
      answer.rows, WriteJsonRows(result, rows_max, options_.result_bytes_max, question.style));
  return answer;
}

// DuckDB's errors in the words of the API.
absl::Status QueryService::Explain(const absl::Status& error, const Prepared& prepared) const {
  if (!ErrorReason(error).empty()) return error;
  const std::string names = prepared.Names();
  if (IsDiskFull(error)) {  // another worker would write to the same disk
    return MakeError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat(QueryOver(names),
                     " needs more than its memory, and the domain's "
                     "disk is full (",
                     error.message(), "); ask for less, raise limits.memory or free space"),
        "DOMAIN_DISK_FULL", {{"slices", names}});
  }
  switch (error.code()) {
    case absl::StatusCode::kResourceExhausted:
      return MakeError(absl::StatusCode::kResourceExhausted,
                       absl::StrCat(QueryOver(names), ": ", error.message(),
                                    "; ask for less or raise limits.memory"),
                       "QUERY_MEMORY_LIMIT", {{"slices", names}});
    case absl::StatusCode::kInvalidArgument:
      return MakeError(absl::StatusCode::kInvalidArgument,
                       absl::StrCat(QueryOver(names), ": ", error.message()), "SQL_ERROR");
    case absl::StatusCode::kFailedPrecondition: {
      std::string columns;
      for (const ResolvedSlice& slice : prepared.slices) {
        for (const OutputColumn& column : slice.served->info().columns) {
          absl::StrAppend(&columns, columns.empty() ? "" : ", ", column.name);
        }
      }
      const bool unknown = absl::StrContains(error.message(), "column");
      return MakeError(
          absl::StatusCode::kInvalidArgument,
          absl::StrCat(QueryOver(names), ": ", error.message(),
                       columns.empty() ? "" : absl::StrCat(" (columns: ", columns, ")")),
          unknown ? "SQL_UNKNOWN_COLUMN" : "SQL_SYNTAX");
    }
    default:
      return error;
  }
}

}  // namespace icepie::slices
