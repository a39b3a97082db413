#include "server/supervisor/managed_worker.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <fstream>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/steady_clock.h"
#include "server/base/process_usage.h"
#include "server/base/proto_time.h"
#include "server/supervisor/run_directory.h"
#include "server/supervisor/worker_log.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;

constexpr char kResting[] = "hibernating";
constexpr char kWaiting[] = "waiting";
constexpr char kNotStarted[] = "down";
constexpr char kSuspended[] = "suspended";
constexpr absl::Duration kHurryInterval = absl::Milliseconds(25);
// Whether the socket is there, and whether it has taken on its first assignment.
constexpr absl::Duration kSocketLook = absl::Milliseconds(2);
constexpr absl::Duration kAssignedLook = absl::Milliseconds(5);
constexpr absl::Duration kHurryAfterConfigured = absl::Seconds(1);
constexpr absl::Duration kConfigureTimeout = absl::Seconds(10);
constexpr absl::Duration kFlightRecordKept = absl::Seconds(10);
constexpr absl::Duration kConfigureRetry = absl::Seconds(1);

int64_t NextIncarnation() {
  // Differs also from those of an earlier daemon, whose etags clients may still hold.
  static std::atomic<int64_t> last{absl::ToUnixMicros(absl::Now())};
  return ++last;
}

std::function<double()> RandomShare() {
  return [engine = std::make_shared<std::minstd_rand>(std::random_device{}())] {
    return std::uniform_real_distribution<double>(0, 1)(*engine);
  };
}

// Where the suspension of this worker is kept; empty: nowhere. Only a live one stays suspended for
// long.
std::string SuspensionPath(const WorkerSettings& settings, const std::string& domain,
                           const std::string& role) {
  if (role != "live" || settings.suspended_directory.empty()) return "";
  return absl::StrCat(settings.suspended_directory, "/", domain);
}

}  // namespace

bool HasSaved(const wv1::SliceReport& slice) {
  const bool has_rows = slice.snapshot().content_version() >= slice.content_version();
  if (has_rows && slice.snapshot().position() >= slice.applied_position()) return true;
  // A record that it has left out changes its counts alone.
  const bool has_left_out = slice.counts().filtered() > 0 || slice.counts().quarantined() > 0;
  return !has_left_out && HasSavedRows(slice);
}

bool HasSavedRows(const wv1::SliceReport& slice) {
  return !slice.snapshot().path().empty() &&
         slice.snapshot().content_version() >= slice.content_version();
}

bool HasSavedSince(const wv1::SliceReport& before, const wv1::SliceReport& slice) {
  if (slice.generation() != before.generation()) return true;
  if (slice.snapshot().position() > before.snapshot().position()) return true;
  if (slice.snapshot().content_version() < slice.content_version()) return false;
  // One that is frozen, or has a schedule, goes no further before its time.
  return slice.applied_position() >= before.applied_position() || slice.state() == v1::FROZEN ||
         slice.has_next_refresh_time();
}

bool IsResting(const WorkerView& worker) {
  return worker.status.state() == kResting || AwaitsTurn(worker);
}

bool AwaitsTurn(const WorkerView& worker) { return worker.status.state() == kWaiting; }

bool AwaitsFirstStart(const WorkerView& worker) { return worker.status.state() == kNotStarted; }

DomainLimits LimitsOf(const WorkerSettings& settings, const wv1::Assignment& assignment) {
  const auto or_default = [](int64_t own, int64_t given) { return own > 0 ? own : given; };
  return {or_default(assignment.memory_limit_bytes(), settings.memory_bytes),
          or_default(assignment.disk_limit_bytes(), settings.disk_bytes)};
}

std::vector<std::string> WorkerArguments(const WorkerSettings& settings, const DomainLimits& limits,
                                         const std::string& role, const std::string& domain,
                                         const std::string& directory, const std::string& socket) {
  std::vector<std::string> arguments = {
      absl::StrCat("--role=", role),
      absl::StrCat("--domain=", domain),
      absl::StrCat("--directory=", directory),
      absl::StrCat("--socket=", socket),
      absl::StrCat("--host-socket=", settings.host_socket),
      absl::StrCat("--core-directory=", settings.core_directory),
      absl::StrCat("--parent-pid=", getpid()),
      absl::StrCat("--memory-bytes=", limits.memory_bytes),
      absl::StrCat("--disk-bytes=", limits.disk_bytes),
      absl::StrCat("--write-bytes-per-second=", settings.write_bytes_per_second),
      absl::StrCat("--query-timeout-ms=", settings.query_timeout_ms),
      absl::StrCat("--apply-timeout-ms=", settings.apply_timeout_ms),
      absl::StrCat("--snapshot-interval-ms=", settings.snapshot_interval_ms),
      absl::StrCat("--snapshots-kept=", settings.snapshots_kept),
      absl::StrCat("--snapshots-kept-ms=", settings.snapshots_kept_ms),
      absl::StrCat("--snapshot-bytes-max=", settings.snapshot_bytes_max),
      absl::StrCat("--log-level=", settings.log_level)};
  if (settings.require_sandbox) arguments.emplace_back("--require-sandbox");
  return arguments;
}

ManagedWorker::ManagedWorker(EventLoop& loop, const WorkerSettings& settings, std::string domain,
                             std::string role, std::string directory,
                             std::function<void()> on_change)
    : loop_(loop),
      settings_(settings),
      directory_(std::move(directory)),
      on_change_(std::move(on_change)),
      suspension_file_(SuspensionPath(settings, domain, role)),
      starts_ahead_(role == "standby" && settings.ahead != nullptr),
      policy_(role == "standby" ? StandbyRestart(settings.restart) : settings.restart,
              RandomShare()),
      silence_(settings.heartbeat_interval, settings.heartbeat_timeout) {
  view_.status.set_domain(std::move(domain));
  view_.status.set_role(std::move(role));
  SetState(kNotStarted);
}

ManagedWorker::~ManagedWorker() {
  if (process_) loop_.Unwatch(process_->pidfd());
  if (settings_.lives) settings_.lives->Remove(life_id_);
  if (!socket_.empty()) RemoveWorkerSocket(socket_);
}

template <typename Result>
std::function<void(absl::StatusOr<Result>)> ManagedWorker::ForThisProcess(
    void (ManagedWorker::*handler)(absl::StatusOr<Result>)) {
  return [weak = weak_from_this(), loop = &loop_, incarnation = view_.incarnation,
          handler](absl::StatusOr<Result> result) {
    loop->Post([weak, incarnation, handler, result = std::move(result)]() mutable {
      auto self = weak.lock();
      if (!self || self->view_.incarnation != incarnation || !self->process_) return;
      (self.get()->*handler)(std::move(result));
    });
  };
}

void ManagedWorker::SetState(const std::string& state) {
  view_.status.set_state(state);
  *view_.status.mutable_since() = ToProto(absl::Now());
  if (starts_ahead_ && state == kResting) settings_.ahead->Prepare();
}

void ManagedWorker::Start(absl::Duration delay) {
  loop_.Cancel(start_timer_);
  start_timer_ = loop_.RunAfter(delay, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self && !self->stopping_ && !self->paused_ && !self->process_) self->Spawn();
  });
}

bool ManagedWorker::StaySuspended() {
  const auto kept = suspension_file_.Read();
  if (!kept) return false;
  // No longer than a suspension lasts, also when the clock was set back.
  const absl::Time now = absl::Now();
  const absl::Time end =
      std::min(FromProto(kept->next_start_time()), now + settings_.restart.suspension);
  if (end <= now) return false;
  policy_.SetFailures(kept->restarts());
  view_.status.set_restarts(kept->restarts());
  view_.status.set_last_error(kept->last_error());
  view_.suspended = true;
  SetState(kSuspended);
  *view_.status.mutable_since() = kept->since();
  *view_.status.mutable_next_start_time() = ToProto(end);
  Start(end - now);
  return true;
}

void ManagedWorker::Spawn() {
  const std::string& role = view_.status.role();
  view_.incarnation = NextIncarnation();
  view_.suspended = false;
  resting_ = false;
  view_.status.clear_next_start_time();
  suspension_file_.Remove();
  policy_.OnStart(SteadyNow());
  auto socket =
      PrepareWorkerSocket(settings_.socket_directory, absl::StrCat("w", view_.incarnation));
  if (!socket.ok()) {
    OnFailure(std::string(socket.status().message()));
    return;
  }
  socket_ = *std::move(socket);
  view_.flight_record = FlightRecordOf(socket_);
  const std::string logs = absl::StrCat(directory_, "/logs");
  const absl::Status made = MakeDirectories(logs);
  if (!made.ok()) spdlog::warn("{}", made.ToString());  // then it has no log
  WorkerProcessOptions options;
  options.program = settings_.program;
  limits_ = LimitsOf(settings_, assignment_);
  options.arguments =
      WorkerArguments(settings_, limits_, role, view_.status.domain(), directory_, socket_);
  options.arguments.push_back(absl::StrCat("--flight-record=", view_.flight_record));
  assignment_given_ = GiveAssignment();
  if (assignment_given_) {
    options.arguments.push_back(absl::StrCat("--assignment=", AssignmentFileOf(socket_)));
  }
  options.log_file = absl::StrCat(logs, "/", role, ".log");
  options.nice = role == "live" ? 5 : role == "build" ? 10 : 0;
  options.batch = role == "build";
  // Whoever builds goes first, whoever answers from what is saved last.
  options.oom_score_adj = role == "standby" ? 300 : role == "build" ? 700 : 600;
  if (settings_.groups) {
    const std::string group =
        settings_.groups->ForWorker(view_.status.domain(), role, limits_.memory_bytes);
    if (!group.empty()) options.arguments.push_back(absl::StrCat("--cgroup=", group));
  }
  options.arguments.push_back(absl::StrCat("--log-file=", options.log_file));
  GiveLife(options);
  // Somebody may wait for it.
  auto process = starts_ahead_ ? settings_.ahead->Start(options) : WorkerProcess::Spawn(options);
  if (!process.ok()) {
    OnNotSpawned(process.status());
    return;
  }
  const absl::Status watched = loop_.Watch((*process)->pidfd(), [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->OnExit();
  });
  if (!watched.ok()) {
    process->reset();  // ends it
    OnNotSpawned(watched);
    return;
  }
  process_ = std::move(*process);
  WatchLife();
  OnSpawned(socket_);
}

// The next attempt has files of its own.
void ManagedWorker::OnNotSpawned(const absl::Status& why) {
  RemoveWorkerSocket(socket_);
  unlink(view_.flight_record.c_str());
  OnFailure(std::string(why.message()));
}

// Without it its death is told by its pidfd alone.
void ManagedWorker::GiveLife(WorkerProcessOptions& options) {
  life_.reset();
  if (!settings_.lives) return;
  auto page = LifePage::Make();
  if (!page.ok()) {
    spdlog::debug("{}", page.status().ToString());
    return;
  }
  life_ = std::move(*page);
  options.life_fd = life_->fd();
  options.arguments.push_back(absl::StrCat("--life-fd=", kLifeFd));
}

void ManagedWorker::WatchLife() {
  if (!life_) return;
  life_id_ = settings_.lives->Add(
      life_, [weak = weak_from_this(), loop = &loop_, incarnation = view_.incarnation] {
        loop->Post([weak, incarnation] {
          auto self = weak.lock();
          if (self && self->process_ && self->view_.incarnation == incarnation) self->OnLifeLost();
        });
      });
}

// It has died, or says so, which is the same from here on: its memory may take long to go, and
// those who wait for its answer, and for the next process, need not wait for that.
void ManagedWorker::OnLifeLost() {
  process_->Signal(SIGKILL);
  client_->Abandon();
  if (stopping_ || ending_) return;  // it was asked to; OnExit follows
  const std::string how = process_->Cause();
  if (how.empty()) {  // its exit code will say
    if (view_.client) view_.lost_since = absl::Now();
    view_.client.reset();
    on_change_();
    return;
  }
  loop_.Unwatch(process_->pidfd());
  LeaveToEnd(std::move(process_));
  OnCause(how);
}

// Reaps it when it is gone.
void ManagedWorker::LeaveToEnd(std::unique_ptr<WorkerProcess> process) {
  const int pidfd = process->pidfd();
  const auto left = std::shared_ptr(std::move(process));
  const absl::Status watched = loop_.Watch(pidfd, [loop = &loop_, pidfd, left] {
    left->Reap();
    loop->Unwatch(pidfd);
  });
  if (!watched.ok()) left->Reap();  // which waits
}

// What it will hold, in a file: it opens its state while its server starts, and is not asked first
// whether it is there. False: it is told when it answers.
bool ManagedWorker::GiveAssignment() {
  if (assignment_.domain().empty()) return false;
  std::ofstream file(AssignmentFileOf(socket_), std::ios::binary | std::ios::trunc);
  return assignment_.SerializeToOstream(&file) && file.flush().good();
}

void ManagedWorker::OnSpawned(const std::string& socket) {
  spdlog::debug("{} {}: process {} is started", view_.status.domain(), view_.status.role(),
                process_->pid());
  view_.status.set_pid(process_->pid());
  SetState("starting");
  kill_cause_.clear();
  broken_ = false;
  configured_epoch_ = -1;
  configuring_ = false;
  ending_ = false;
  heard_ = false;
  heartbeat_under_way_ = false;
  silence_.OnAnswer(SteadyNow());
  client_ = std::make_shared<WorkerClient>(socket);
  AwaitSocket(SteadyNow() + settings_.start_timeout);
  WatchStart(absl::ZeroDuration());
  on_change_();
}

// A start may take long on a busy machine, but one that stands still never ends.
void ManagedWorker::WatchStart(absl::Duration cpu_time_before) {
  loop_.RunAfter(settings_.heartbeat_timeout, [weak = weak_from_this(), cpu_time_before,
                                               incarnation = view_.incarnation] {
    auto self = weak.lock();
    if (!self || !self->process_ || self->view_.incarnation != incarnation) return;
    if (self->heard_) return;
    const auto cpu_time = CpuTimeOf(self->process_->pid());
    if (!cpu_time) return;  // it has ended, which the loop will be told
    if (*cpu_time > cpu_time_before) {
      self->WatchStart(*cpu_time);
    } else {
      self->KillBecause(absl::StrCat("it did not start to answer, and did nothing for ",
                                     absl::FormatDuration(self->settings_.heartbeat_timeout)));
    }
  });
}

// The socket appears a moment after the process. A call before that would wait for gRPC's next
// attempt to connect, which is longer than the worker takes.
void ManagedWorker::AwaitSocket(absl::Time deadline) {
  const absl::Duration left = deadline - SteadyNow();
  if (left <= absl::ZeroDuration() || ::access(socket_.c_str(), F_OK) == 0) {
    client_->GetStatus(std::max(left, kSocketLook), true,
                       ForThisProcess<wv1::WorkerReport>(&ManagedWorker::OnFirstReport));
    return;
  }
  loop_.RunAfter(kSocketLook, [weak = weak_from_this(), deadline, incarnation = view_.incarnation] {
    auto self = weak.lock();
    if (self && self->process_ && self->view_.incarnation == incarnation) {
      self->AwaitSocket(deadline);
    }
  });
}

void ManagedWorker::OnFirstReport(absl::StatusOr<wv1::WorkerReport> report) {
  if (!report.ok()) {
    KillBecause(absl::StrCat("it did not start to answer: ", report.status().message()));
    return;
  }
  unlink(AssignmentFileOf(socket_).c_str());  // it has read it
  if (assignment_given_) configured_epoch_ = assignment_.epoch();
  TakeReport(*std::move(report));
  ScheduleHeartbeat(settings_.heartbeat_interval);
  if (assignment_given_) {
    Hurry(kHurryAfterConfigured);
  } else {
    Configure();
  }
}

void ManagedWorker::SetAssignment(wv1::Assignment assignment) {
  assignment_ = std::move(assignment);
  assignment_given_ = false;
  // A process that has not answered yet is configured after its first report.
  if (view_.client || configured_epoch_ >= 0) Configure();
}

bool ManagedWorker::limits_changed() const {
  const DomainLimits wanted = LimitsOf(settings_, assignment_);
  return process_ != nullptr && !ending_ &&
         (wanted.memory_bytes != limits_.memory_bytes || wanted.disk_bytes != limits_.disk_bytes);
}

void ManagedWorker::Configure() {
  if (!process_ || configuring_ || stopping_) return;
  configuring_ = true;
  const int64_t epoch = assignment_.epoch();
  client_->Configure(assignment_, kConfigureTimeout,
                     [weak = weak_from_this(), loop = &loop_, incarnation = view_.incarnation,
                      epoch](const absl::StatusOr<wv1::ConfigureResponse>& response) {
                       loop->Post([weak, incarnation, epoch, status = response.status()] {
                         auto self = weak.lock();
                         if (self && self->view_.incarnation == incarnation && self->process_) {
                           self->OnConfigured(epoch, status);
                         }
                       });
                     });
}

void ManagedWorker::OnConfigured(int64_t epoch, const absl::Status& status) {
  configuring_ = false;
  if (!status.ok()) {
    view_.status.set_last_error(absl::StrCat("configuring it failed: ", status.message()));
    spdlog::warn("{} {}: {}", view_.status.domain(), view_.status.role(),
                 view_.status.last_error());
    on_change_();
    loop_.RunAfter(kConfigureRetry, [weak = weak_from_this()] {
      if (auto self = weak.lock()) self->Configure();
    });
    return;
  }
  configured_epoch_ = epoch;
  if (assignment_.epoch() != epoch) Configure();
  Hurry(kHurryAfterConfigured);
}

void ManagedWorker::Hurry(absl::Duration how_long) {
  hurry_until_ = std::max(hurry_until_, SteadyNow() + how_long);
  ScheduleHeartbeat(absl::ZeroDuration());
}

void ManagedWorker::ScheduleHeartbeat(absl::Duration delay) {
  if (heartbeat_under_way_) return;  // its answer schedules the next one
  loop_.Cancel(heartbeat_timer_);
  silence_.Expect(SteadyNow() + delay);
  heartbeat_timer_ = loop_.RunAfter(delay, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->Heartbeat();
  });
}

void ManagedWorker::Heartbeat() {
  if (!process_ || heartbeat_under_way_) return;
  heartbeat_under_way_ = true;
  silence_.OnAsk(SteadyNow());
  client_->GetStatus(settings_.heartbeat_timeout, false,
                     ForThisProcess<wv1::WorkerReport>(&ManagedWorker::OnReport));
}

void ManagedWorker::OnReport(absl::StatusOr<wv1::WorkerReport> report) {
  heartbeat_under_way_ = false;
  if (report.ok()) {
    TakeReport(*std::move(report));
  } else if (silence_.OnFailure(SteadyNow()) && heard_) {
    KillBecause(absl::StrCat("no answer for ", absl::FormatDuration(settings_.heartbeat_timeout),
                             ": ", report.status().message()));
    return;
  }
  const bool hurry = SteadyNow() < hurry_until_;
  const absl::Duration soon = view_.client ? kHurryInterval : kAssignedLook;
  ScheduleHeartbeat(hurry ? std::min(soon, settings_.heartbeat_interval)
                          : settings_.heartbeat_interval);
}

void ManagedWorker::TakeReport(wv1::WorkerReport report) {
  heard_ = true;
  silence_.OnAnswer(SteadyNow());
  view_.report = std::make_shared<const wv1::WorkerReport>(std::move(report));
  view_.report_time = absl::Now();
  view_.status.set_sandbox(view_.report->sandbox());
  // It can be asked once it holds an assignment; before, it knows of no slice.
  const bool lost = life_ && life_->lost();  // what it said before it died
  if (!view_.client && !ending_ && !lost && configured_epoch_ >= 0 &&
      view_.report->epoch() >= configured_epoch_) {
    view_.client = client_;
    SetState("running");
    spdlog::debug("{} {}: it can be asked", view_.status.domain(), view_.status.role());
  }
  LookAtLost();
  on_change_();
}

void ManagedWorker::KillBecause(const std::string& why) {
  kill_cause_ = why;
  process_->Signal(SIGKILL);  // OnExit follows
}

void ManagedWorker::Lose() {
  if (settings_.lives) settings_.lives->Remove(life_id_);
  client_->Abandon();
  if (view_.client) view_.lost_since = absl::Now();
  view_.client.reset();
  client_.reset();
  view_.status.set_pid(0);
  loop_.Cancel(heartbeat_timer_);
  RemoveWorkerSocket(socket_);
  // Questions that have just lost it may still look there.
  loop_.RunAfter(kFlightRecordKept, [path = view_.flight_record] { unlink(path.c_str()); });
}

void ManagedWorker::OnExit() {
  loop_.Unwatch(process_->pidfd());
  const std::string how = process_->Reap();
  const bool in_order = process_->ended_in_order();
  if (stopping_ && !in_order && unsaved_.empty()) unsaved_ = how;
  process_.reset();
  const bool rests = ending_ && resting_ && !stopping_;
  if (rests) view_.rest_lost = !in_order && !HasSavedAll();
  if (rests && view_.rest_lost) {
    was_lost_ = true;
    lost_ = view_.report;
    OnUnsavedRest(how);
    return;
  }
  OnCause(how);
}

// Its process is gone, or as good as gone.
void ManagedWorker::OnCause(const std::string& how) {
  Lose();
  if (stopping_) {
    SetState("down");
    on_change_();
    if (auto done = std::exchange(on_stopped_, nullptr)) done();
    return;
  }
  if (std::exchange(ending_, false)) {
    OnEnded();
    return;
  }
  const std::string why = kill_cause_.empty() ? EndedWith(how) : kill_cause_;
  OnDeath(why);
  OnFailure(why);
}

// With what the kernel had against it, if it was the kernel that killed it.
std::string ManagedWorker::EndedWith(const std::string& how) const {
  std::string why = absl::StrCat("ended with ", how);
  if (!settings_.groups || !absl::StartsWith(how, absl::StrCat("signal ", SIGKILL, " "))) {
    return why;
  }
  const std::string memory = settings_.groups->TakeMemoryKill(view_.status.domain());
  if (!memory.empty()) absl::StrAppend(&why, ": ", memory);
  return why;
}

// By its last report; without one it has said of nothing that it held it.
bool ManagedWorker::HasSavedAll() const {
  if (view_.status.role() != "live" || !view_.report) return true;
  const auto& slices = view_.report->slices();
  // One that takes too long to save would be started for its counts again and again.
  return std::all_of(slices.begin(), slices.end(), [this](const wv1::SliceReport& slice) {
    return !slice.serving() || HasSaved(slice) || (was_lost_ && HasSavedRows(slice));
  });
}

void ManagedWorker::LookAtLost() {
  if (!view_.rest_lost || !view_.client || view_.report->slices().empty()) return;
  for (const wv1::SliceReport& before : lost_->slices()) {
    for (const wv1::SliceReport& slice : view_.report->slices()) {
      const bool same = before.serving() && slice.serving() && slice.slice() == before.slice();
      if (same && !HasSavedSince(before, slice)) return;
    }
  }
  view_.rest_lost = false;
  lost_ = nullptr;
}

// At rest nobody would miss what it has lost: it is started again and applies that anew.
void ManagedWorker::OnUnsavedRest(const std::string& how) {
  Lose();
  ending_ = false;
  resting_ = false;
  if (paused_) {
    OnEnded();
    return;
  }
  OnFailure(absl::StrCat("it may not have saved its state when it went to rest: ", how));
}

void ManagedWorker::OnDeath(const std::string& why) {
  if (!on_death_) return;
  WorkerDeath death{
      view_.status.domain(), view_.status.role(), view_.incarnation, why,
      broken_ ? std::vector<slices::FlightNote>{} : slices::ReadFlightRecord(view_.flight_record)};
  if (on_death_(death)) policy_.Reset();
}

void ManagedWorker::OnFailure(const std::string& why) {
  RestartPolicy::Decision decision = policy_.OnFailure(SteadyNow());
  if (settings_.pacer) {
    decision.delay = std::max(decision.delay, settings_.pacer->Next(SteadyNow(), decision.first));
  }
  spdlog::warn("{} {} worker: {}; next start in {}{}", view_.status.domain(), view_.status.role(),
               why, absl::FormatDuration(decision.delay),
               decision.suspended ? " (suspended after too many failures)" : "");
  NoteInWorkerLog(absl::StrCat(directory_, "/logs/", view_.status.role(), ".log"),
                  icepie::v1::LogLine::ERROR,
                  absl::StrCat("the worker: ", why, "; ", decision.suspended ? "suspended, " : "",
                               "next start in ", absl::FormatDuration(decision.delay)));
  view_.status.set_last_error(why);
  view_.status.set_restarts(policy_.failures());
  view_.suspended = decision.suspended;
  SetState(decision.suspended ? kSuspended : "backoff");
  *view_.status.mutable_next_start_time() = ToProto(absl::Now() + decision.delay);
  if (decision.suspended) suspension_file_.Write(view_.status);
  on_change_();
  if (decision.delay > absl::ZeroDuration()) {
    Start(decision.delay);
  } else {
    Spawn();
  }
}

void ManagedWorker::Resume() {
  policy_.Reset();
  suspension_file_.Remove();  // also of one that is paused, whose start would remove it
  if (process_ || stopping_ || paused_) return;
  if (std::exchange(view_.suspended, false)) {
    SetState(kNotStarted);
    view_.status.clear_next_start_time();
  }
  Start(absl::ZeroDuration());
  on_change_();
}

void ManagedWorker::EndBroken() {
  // Without a client it ends already, and for another reason.
  if (!process_ || !view_.client || stopping_ || !kill_cause_.empty()) return;
  if (!process_->Cause().empty()) return;  // its own end broke them; the loop will be told of it
  broken_ = true;
  KillBecause("every call that asked it a question broke, though it answered its heartbeat");
}

// One that has been silent lately is not asked: it would not hear.
void ManagedWorker::End(absl::Duration grace) {
  if (std::exchange(ending_, true)) return;
  if (view_.client) view_.lost_since = absl::Now();
  view_.client.reset();             // questions go to the other worker from here on
  view_.status.clear_last_error();  // that is not why it ends
  SetState("stopping");
  const bool silent =
      SteadyNow() - silence_.last_answer() > settings_.heartbeat_interval * 3 + absl::Seconds(1);
  process_->Signal(silent ? SIGKILL : SIGTERM);
  loop_.RunAfter(grace, [weak = weak_from_this(), incarnation = view_.incarnation] {
    auto self = weak.lock();
    if (self && self->process_ && self->view_.incarnation == incarnation) {
      self->process_->Signal(SIGKILL);
    }
  });
  on_change_();
}

void ManagedWorker::OnEnded() {
  policy_.Reset();
  if (!paused_ && !resting_) {
    Spawn();
    return;
  }
  SetState(paused_ ? "paused" : kResting);
  view_.suspended = paused_;
  on_change_();
}

void ManagedWorker::Restart() {
  policy_.Reset();
  if (stopping_) return;
  if (process_) {
    End(settings_.stop_grace);
  } else {
    Resume();
  }
}

void ManagedWorker::SetPaused(bool paused, absl::Duration delay) {
  if (paused_ == paused || stopping_) return;
  paused_ = paused;
  if (process_ && paused) {
    End(settings_.stop_grace);
  } else if (!process_ && paused) {
    loop_.Cancel(start_timer_);
    view_.status.clear_next_start_time();
    OnEnded();
  } else if (!process_ && resting_) {
    OnEnded();
  } else {
    policy_.Reset();
    if (process_) return;  // it is ending, and starts again then
    view_.suspended = false;
    Start(delay);
  }
}

void ManagedWorker::Rest(absl::Duration grace) {
  if (stopping_ || resting_) return;
  resting_ = true;
  loop_.Cancel(start_timer_);
  if (process_) End(grace);
  if (!paused_) SetState(kResting);
  on_change_();
}

void ManagedWorker::RestWith(std::shared_ptr<const wv1::WorkerReport> report, bool awaits_turn) {
  view_.report = std::move(report);
  view_.report_time = absl::Now();
  Rest(absl::ZeroDuration());
  if (awaits_turn) AwaitTurn();
}

void ManagedWorker::AwaitTurn() {
  if (stopping_ || !resting_ || process_ || view_.status.state() != kResting) return;
  SetState(kWaiting);
  on_change_();
}

void ManagedWorker::WakeUp(absl::Duration delay) {
  if (stopping_ || !resting_) return;
  resting_ = false;
  if (process_) return;  // it is ending, and starts again then
  const absl::Time waits_since = FromProto(view_.status.since());
  view_.lost_since = AwaitsTurn(view_) ? waits_since : absl::Now();
  policy_.Reset();
  if (!paused_) SetState(kNotStarted);
  Start(delay);
  on_change_();
}

void ManagedWorker::BringForward(absl::Duration delay) {
  const bool waits = AwaitsFirstStart(view_) && !process_ && !paused_ && !stopping_;
  if (waits) Start(delay);
}

void ManagedWorker::Stop(absl::Duration grace, std::function<void()> done) {
  stopping_ = true;
  loop_.Cancel(start_timer_);
  if (!process_) {
    SetState("down");
    done();
    return;
  }
  on_stopped_ = std::move(done);
  process_->Signal(grace > absl::ZeroDuration() ? SIGTERM : SIGKILL);
  loop_.RunAfter(grace, [weak = weak_from_this(), grace] {
    auto self = weak.lock();
    if (!self || !self->process_) return;
    self->unsaved_ = absl::StrCat("killed when it had not ended after ",
                                  absl::FormatDuration(grace), " (stop_timeout_ms)");
    self->process_->Signal(SIGKILL);
  });
}

}  // namespace icepie::server
