#include "server/supervisor/supervisor.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "server/supervisor/run_directory.h"
#include "server/supervisor/suspension_file.h"
#include "server/supervisor/worker_process.h"
#include "server/worker/process_limits.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace wv1 = icepie::worker::v1;

// Workers of a starting daemon do not all start in the same instant.
constexpr absl::Duration kStagger = absl::Milliseconds(20);
constexpr absl::Duration kHurryFor = absl::Seconds(2);
// For a worker's last snapshots.
constexpr absl::Duration kRestGrace = absl::Seconds(30);
constexpr absl::Duration kGroupLook = absl::Milliseconds(500);
constexpr absl::Duration kGroupLookMax = absl::Minutes(1);

bool HoldsNothing(const wv1::Assignment& assignment) {
  return std::all_of(assignment.generations().begin(), assignment.generations().end(),
                     [](const wv1::GenerationSpec& spec) { return spec.suspended(); });
}

// What planners of a daemon that was killed left: directories named by their numbers.
void RemovePlannersLeft(const std::string& directory) {
  std::error_code error;
  std::vector<std::filesystem::path> left;
  for (const auto& entry : DirectoryEntries(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (std::all_of(name.begin(), name.end(), absl::ascii_isdigit)) left.push_back(entry.path());
  }
  for (const auto& path : left) std::filesystem::remove_all(path, error);
}

}  // namespace

// A planner process from its start to its end.
struct Supervisor::Planner {
  int64_t number = 0;
  std::string directory;
  std::string socket;
  wv1::PlanDomainRequest request;
  PlanDone done;  // empty once it is told
  // What its end is the explanation of.
  absl::Status error = absl::AbortedError("it ended");
  std::unique_ptr<WorkerProcess> process;
  std::unique_ptr<WorkerClient> client;
};

Supervisor::Supervisor(WorkerSettings settings, std::string domains_directory,
                       std::string planner_directory)
    : settings_(std::move(settings)),
      domains_directory_(std::move(domains_directory)),
      planner_directory_(std::move(planner_directory)) {
  if (!settings_.pacer) settings_.pacer = std::make_shared<RestartPacer>();
  settings_.lives = std::make_shared<LifeWatch>();
  static_cast<void>(MakeDirectories(planner_directory_));  // for its log
  settings_.ahead = std::make_shared<WorkerAhead>(loop_, AheadOptions());
  RemovePlannersLeft(planner_directory_);
  if (settings_.groups) loop_.Post([this] { RemoveGroupsLeft(kGroupLook); });
}

Supervisor::~Supervisor() {
  StopAll(absl::ZeroDuration());
  loop_.Stop();
  settings_.ahead.reset();
  settings_.lives.reset();  // its threads post to the loop
}

// As little of the machine as a process takes that nobody waits for. Its nice stays: without
// privileges it could not be taken back.
WorkerProcessOptions Supervisor::AheadOptions() const {
  constexpr size_t kRoom = 4000;  // for what it will show as its arguments
  WorkerProcessOptions options;
  options.program = settings_.program;
  options.arguments = {absl::StrCat("--parent-pid=", getpid())};
  if (const std::string group = settings_.groups ? settings_.groups->ForPlanner() : "";
      !group.empty()) {
    options.arguments.push_back(absl::StrCat("--waits-in=", group));
    options.arguments.push_back(absl::StrCat("--else-in=", settings_.groups->OfDaemon()));
  }
  options.arguments.push_back(absl::StrCat("--room=", std::string(kRoom, ' ')));
  options.log_file = absl::StrCat(planner_directory_, "/ahead.log");
  options.batch = true;
  options.oom_score_adj = 800;
  return options;
}

std::string Supervisor::DomainDirectory(const std::string& domain) const {
  return absl::StrCat(domains_directory_, "/", domain);
}

absl::Duration Supervisor::NextStagger(absl::Time& last) {
  const absl::Time now = SteadyNow();
  last = std::max(now, last + kStagger);
  return last - now;
}

std::shared_ptr<ManagedWorker> Supervisor::MakeWorker(const std::string& domain,
                                                      const std::string& role) {
  auto worker = std::make_shared<ManagedWorker>(
      loop_, settings_, domain, role, DomainDirectory(domain), [this, domain] { Publish(domain); });
  worker->SetDeathListener([this](const WorkerDeath& death) { return OnDeath(death); });
  return worker;
}

// Standbys answer, from what is on disk; live workers have the whole state to read and records to
// catch up with. Of a daemon that starts with many domains each has its standby first.
void Supervisor::StartAfterStandbys(const std::shared_ptr<ManagedWorker>& live) {
  const absl::Duration before = next_standby_ + kStagger - SteadyNow();
  if (before <= absl::ZeroDuration()) return live->BringForward(NextStagger(next_start_));
  loop_.RunAfter(before, [this, weak = std::weak_ptr(live)] {
    if (const auto waiting = weak.lock()) StartAfterStandbys(waiting);
  });
}

Supervisor::Domain& Supervisor::Workers(const std::string& domain, const LastReport& last_report,
                                        bool awaits_turn) {
  Domain& workers = domains_[domain];
  if (workers.live) return workers;
  workers.live = MakeWorker(domain, "live");
  workers.standby = MakeWorker(domain, "standby");
  const bool suspended = workers.live->StaySuspended();
  const bool rests = last_report != nullptr && !suspended;
  if (rests || settings_.standby_on_demand) {
    workers.standby->Rest(kRestGrace);
  } else {
    workers.standby->Start(NextStagger(next_standby_));
  }
  if (rests) {
    workers.live->RestWith(last_report, awaits_turn);
  } else if (!suspended) {
    StartAfterStandbys(workers.live);
  }
  return workers;
}

void Supervisor::Publish(const std::string& domain) {
  auto found = domains_.find(domain);
  if (found == domains_.end() || !found->second.live || !found->second.standby) return;
  {
    MutexLock lock(mutex_);
    DomainView& view = views_[domain];
    view.live = found->second.live->view();
    view.standby = found->second.standby->view();
    view.spare = found->second.spare ? found->second.spare->view() : WorkerView();
    if (!view.standby.client && view.spare.client) view.standby = view.spare;
    view.safe_mode = safe_mode_;
    changed_.SignalAll();
  }
  if (listener_) listener_(domain);
  if (!found->second.live->limits_changed() && !found->second.standby->limits_changed()) return;
  OnDomain(domain, [](Domain& workers) { StepLimits(workers); });  // not within their own change
}

// Workers whose domain has other limits now are started anew, one after the other.
void Supervisor::StepLimits(Domain& workers) {
  const WorkerView& live = workers.live->view();
  const WorkerView& standby = workers.standby->view();
  if (workers.standby->limits_changed()) {
    if (live.client) workers.standby->Restart();
  } else if (workers.live->limits_changed() && (standby.client || IsResting(standby))) {
    workers.live->Restart();
  }
}

void Supervisor::SetListener(std::function<void(const std::string& domain)> listener) {
  listener_ = std::move(listener);
}

void Supervisor::SetDomain(wv1::Assignment assignment, LastReport last_report, bool awaits_turn) {
  loop_.Post([this, assignment = std::move(assignment), last_report = std::move(last_report),
              awaits_turn] {
    if (stopping_) return;
    Domain& workers = Workers(assignment.domain(), last_report, awaits_turn);
    workers.idle = HoldsNothing(assignment);
    PauseIdle(workers);
    workers.assignment = assignment;
    workers.live->SetAssignment(LiveAssignment(workers));
    workers.standby->SetAssignment(assignment);
    if (workers.spare) workers.spare->SetAssignment(assignment);
    if (!last_report) workers.live->WakeUp(absl::ZeroDuration());
    if (!last_report && !settings_.standby_on_demand) {
      workers.standby->WakeUp(absl::ZeroDuration());
    }
    Publish(assignment.domain());
  });
}

void Supervisor::RemoveDomain(const std::string& domain) {
  {
    MutexLock lock(mutex_);
    ++ending_[domain];  // from now on, and not only once the loop has come to it
  }
  loop_.Post([this, domain] {
    auto found = domains_.find(domain);
    const auto removed = found == domains_.end() ? Domain{} : std::move(found->second);
    domains_.erase(domain);
    if (removed.live) removed.live->ForgetSuspension();
    for (const auto& worker : {removed.live, removed.standby, removed.spare}) {
      if (!worker) continue;
      leaving_.emplace(domain, worker);
      MutexLock lock(mutex_);
      ++ending_[domain];
    }
    for (const auto& worker : {removed.live, removed.standby, removed.spare}) {
      if (!worker) continue;
      worker->Stop(kRestGrace, [this, domain, worker] { EndLeaving(domain, worker); });
    }
    {
      MutexLock lock(mutex_);
      views_.erase(domain);
      changed_.SignalAll();
    }
    if (listener_) listener_(domain);
    EndLeaving(domain, nullptr);
  });
}

void Supervisor::EndLeaving(const std::string& domain,
                            const std::shared_ptr<ManagedWorker>& worker) {
  const auto [begin, end] = leaving_.equal_range(domain);
  const auto found =
      std::find_if(begin, end, [&](const auto& each) { return each.second == worker; });
  if (found != end) leaving_.erase(found);
  if (worker) loop_.Post([worker] {});  // ends its life outside its own callback
  {
    MutexLock lock(mutex_);
    changed_.SignalAll();
    if (--ending_[domain] > 0) return;
    ending_.erase(domain);
  }
  RemoveGroup(domain);
  if (listener_) listener_(domain);
}

// Unless it is there again, or one of its builds still is.
void Supervisor::RemoveGroup(const std::string& domain) {
  const bool has_build = std::any_of(builds_.begin(), builds_.end(), [&](const auto& build) {
    return build.second->view().status.domain() == domain;
  });
  if (!settings_.groups || has_build || domains_.count(domain) > 0) return;
  if (settings_.groups->Remove(domain)) return;
  loop_.RunAfter(kGroupLook, [this, domain] { RemoveGroup(domain); });
}

// Of an earlier daemon, whose processes may be ending still, or are somebody else's.
void Supervisor::RemoveGroupsLeft(absl::Duration next_look) {
  if (settings_.groups->RemoveLeft()) return;
  loop_.RunAfter(next_look,
                 [this, next_look] { RemoveGroupsLeft(std::min(2 * next_look, kGroupLookMax)); });
}

bool Supervisor::HasWorkers(const std::string& domain) const {
  MutexLock lock(mutex_);
  if (ending_.count(domain) > 0 || views_.count(domain) > 0) return true;
  return std::any_of(build_statuses_.begin(), build_statuses_.end(),
                     [&](const auto& build) { return build.second.domain() == domain; });
}

void Supervisor::Resume(const std::string& domain, const std::vector<std::string>& slices) {
  {
    MutexLock lock(mutex_);
    if (slices.empty()) ++resumes_[domain];
    for (const std::string& slice : slices) ++resumes_[absl::StrCat(domain, ".", slice)];
  }
  // Here and not when the loop comes to it: the caller answers, and the daemon may be killed then.
  if (!settings_.suspended_directory.empty()) {
    SuspensionFile(absl::StrCat(settings_.suspended_directory, "/", domain)).Remove();
  }
  loop_.Post([this, domain, slices] {
    auto found = domains_.find(domain);
    if (stopping_ || found == domains_.end()) return;
    if (slices.empty()) {
      found->second.finder.Forget();
      found->second.verdicts.clear();
    }
    for (const std::string& slice : slices) {
      found->second.finder.Forget(slice);
      EraseGenerationsOf(slice, found->second.verdicts);
    }
    found->second.live->SetAssignment(LiveAssignment(found->second));
    found->second.live->Resume();
    found->second.standby->Resume();
  });
}

void Supervisor::Restart(const std::string& domain, const std::string& role) {
  loop_.Post([this, domain, role] {
    auto found = domains_.find(domain);
    if (stopping_ || found == domains_.end()) return;
    (role == "live" ? found->second.live : found->second.standby)->Restart();
  });
}

void Supervisor::EndBroken(const std::string& domain, int64_t incarnation) {
  OnDomain(domain, [incarnation](Domain& workers) {
    for (const auto& worker : {workers.live, workers.standby, workers.spare}) {
      if (worker && worker->view().incarnation == incarnation) worker->EndBroken();
    }
  });
}

void Supervisor::RenewAhead() {
  loop_.Post([this] { settings_.ahead->Renew(); });
}

void Supervisor::StartSpare(const std::string& domain) {
  OnDomain(domain, [this, domain](Domain& workers) {
    if (workers.spare) return;
    workers.spare = MakeWorker(domain, "standby");
    workers.spare->Start(absl::ZeroDuration());
    workers.spare->SetAssignment(workers.assignment);
  });
}

void Supervisor::TakeSpare(const std::string& domain) {
  OnDomain(domain, [this, domain](Domain& workers) {
    if (!workers.spare) return;
    std::swap(workers.standby, workers.spare);
    Publish(domain);
  });
}

void Supervisor::StopSpare(const std::string& domain) {
  OnDomain(domain, [this, domain](Domain& workers) {
    const auto spare = std::exchange(workers.spare, nullptr);
    if (!spare) return;
    spare->Stop(settings_.stop_grace, [this, spare] {
      loop_.Post([spare] {});  // ends its life outside its own callback
    });
    Publish(domain);
  });
}

bool Supervisor::safe_mode() const {
  MutexLock lock(mutex_);
  return safe_mode_;
}

void Supervisor::SetSafeMode(bool safe_mode) {
  {
    MutexLock lock(mutex_);
    safe_mode_ = safe_mode;
  }
  loop_.Post([this] {
    for (auto& [name, workers] : domains_) {
      PauseIdle(workers);
      Publish(name);
    }
  });
}

int64_t Supervisor::Resumes(const std::string& domain, const std::string& slice) const {
  MutexLock lock(mutex_);
  int64_t count = 0;
  for (const std::string& name : {domain, absl::StrCat(domain, ".", slice)}) {
    const auto found = resumes_.find(name);
    if (found != resumes_.end()) count += found->second;
  }
  return count;
}

// What the catalog wants, with what was found since.
wv1::Assignment Supervisor::LiveAssignment(const Domain& workers) {
  wv1::Assignment assignment = workers.assignment;
  for (wv1::GenerationSpec& spec : *assignment.mutable_generations()) {
    auto found = workers.verdicts.find(absl::StrCat(spec.slice(), "/", spec.number()));
    if (found == workers.verdicts.end()) continue;
    for (const auto& [position, record] : found->second.records) {
      spec.add_deadly_positions(position);
    }
    const PoisonVerdict& verdict = found->second.other;
    if (verdict.kind == PoisonVerdict::kSlice) spec.set_suspended(true);
    if (verdict.kind != PoisonVerdict::kProbe) continue;
    spec.set_probe_begin(verdict.begin);
    spec.set_probe_end(verdict.end);
    spec.set_probe_records(verdict.records);
  }
  return assignment;
}

bool Supervisor::OnDeath(const WorkerDeath& death) {
  if (on_death_) on_death_(death);
  auto found = domains_.find(death.domain);
  if (death.role != "live" || found == domains_.end()) return false;
  Domain& workers = found->second;
  for (const wv1::GenerationSpec& spec : workers.assignment.generations()) {
    for (const int64_t position : spec.deadly_positions()) {
      workers.finder.Know(absl::StrCat(spec.slice(), "/", spec.number()), position);
    }
  }
  PoisonVerdict verdict = workers.finder.OnDeath(SteadyNow(), death.notes);
  if (verdict.kind == PoisonVerdict::kNothing) return false;
  verdict.resumes =
      Resumes(death.domain, verdict.generation.substr(0, verdict.generation.find('/')));
  spdlog::warn(
      "{}: {} ends the live worker; {}", death.domain, verdict.generation,
      verdict.kind == PoisonVerdict::kProbe
          ? absl::StrCat("looking for the record from ", verdict.begin, " to ", verdict.end)
      : verdict.kind == PoisonVerdict::kRecord
          ? absl::StrCat("the record at position ", verdict.position, " is left out")
          : absl::StrCat("it is suspended: ", verdict.why));
  Verdicts& verdicts = workers.verdicts[verdict.generation];
  const bool is_record = verdict.kind == PoisonVerdict::kRecord;
  if (is_record) verdicts.records[verdict.position] = verdict;
  verdicts.other = is_record ? PoisonVerdict() : verdict;  // the record ends its probe
  workers.live->SetAssignment(LiveAssignment(workers));
  if (verdict.kind != PoisonVerdict::kProbe && on_verdict_) on_verdict_(death.domain, verdict);
  return true;
}

void Supervisor::StoredVerdict(const std::string& domain, const PoisonVerdict& verdict) {
  OnDomain(domain, [verdict](Domain& workers) {
    const auto found = workers.verdicts.find(verdict.generation);
    if (found == workers.verdicts.end()) return;
    Verdicts& verdicts = found->second;
    if (verdict.kind == PoisonVerdict::kRecord) verdicts.records.erase(verdict.position);
    const PoisonVerdict& other = verdicts.other;
    if (verdict.kind == other.kind && verdict.resumes == other.resumes) {
      verdicts.other = PoisonVerdict();
    }
  });
}

void Supervisor::TellVerdictsAgain() {
  loop_.Post([this] {
    if (!on_verdict_) return;
    for (const auto& [name, workers] : domains_) {
      for (const auto& [generation, verdicts] : workers.verdicts) {
        for (const auto& [position, verdict] : verdicts.records) on_verdict_(name, verdict);
        if (verdicts.other.kind == PoisonVerdict::kSlice) on_verdict_(name, verdicts.other);
      }
    }
  });
}

void Supervisor::PauseIdle(Domain& workers) {
  const bool pause = workers.idle || safe_mode();
  const bool starts = !pause && workers.live->StartsAfterPause();
  workers.live->SetPaused(pause, starts ? NextStagger(next_start_) : absl::ZeroDuration());
}

void Supervisor::OnDomain(const std::string& domain, const std::function<void(Domain&)>& change) {
  loop_.Post([this, domain, change] {
    auto found = domains_.find(domain);
    if (!stopping_ && found != domains_.end()) change(found->second);
  });
}

void Supervisor::Rest(const std::string& domain) {
  OnDomain(domain, [](Domain& workers) {
    if (!workers.live->view().client) return;
    workers.live->Rest(kRestGrace);
    workers.standby->Rest(kRestGrace);
  });
}

void Supervisor::RestLive(const std::string& domain) {
  OnDomain(domain, [](Domain& workers) {
    if (workers.live->view().client) workers.live->Rest(kRestGrace);
  });
}

void Supervisor::AwaitTurn(const std::string& domain) {
  OnDomain(domain, [](Domain& workers) { workers.live->AwaitTurn(); });
}

void Supervisor::RestStandby(const std::string& domain) {
  OnDomain(domain, [](Domain& workers) { workers.standby->Rest(kRestGrace); });
}

void Supervisor::WakeLive(const std::string& domain) {
  OnDomain(domain, [this](Domain& workers) {
    workers.live->BringForward(absl::ZeroDuration());  // somebody waits for it
    const bool starts = workers.live->StartsWhenWoken();
    workers.live->WakeUp(starts ? NextStagger(next_start_) : absl::ZeroDuration());
  });
}

void Supervisor::WakeStandby(const std::string& domain) {
  // Somebody waits for it.
  OnDomain(domain, [](Domain& workers) {
    workers.standby->WakeUp(absl::ZeroDuration());
    workers.standby->BringForward(absl::ZeroDuration());
  });
}

DomainView Supervisor::AwakeView(const std::string& domain, absl::Duration timeout) {
  const DomainView view = View(domain);
  if (!IsResting(view.live)) return view;
  WakeLive(domain);
  WaitFor(domain, timeout, [](const DomainView& now) { return now.live.client != nullptr; });
  return View(domain);
}

DomainView Supervisor::View(const std::string& domain) const {
  MutexLock lock(mutex_);
  auto found = views_.find(domain);
  return found == views_.end() ? DomainView{} : found->second;
}

std::vector<icepie::v1::WorkerStatus> Supervisor::Statuses(const std::string& domain) const {
  std::vector<icepie::v1::WorkerStatus> out;
  MutexLock lock(mutex_);
  for (const auto& [name, view] : views_) {
    if (!domain.empty() && name != domain) continue;
    out.push_back(view.live.status);
    out.push_back(view.standby.status);
    const int64_t spare = view.spare.incarnation;
    if (spare != 0 && spare != view.standby.incarnation) out.push_back(view.spare.status);
  }
  for (const auto& [number, status] : build_statuses_) {
    if (domain.empty() || status.domain() == domain) out.push_back(status);
  }
  return out;
}

bool Supervisor::WaitFor(const std::string& domain, absl::Duration timeout,
                         const std::function<bool(const DomainView&)>& holds) {
  const absl::Time deadline = SteadyNow() + timeout;
  const auto has_come = std::make_shared<bool>(false);  // the loop, to this call; as the views
  absl::Time hurry_at = absl::InfinitePast();
  while (true) {
    if (SteadyNow() >= hurry_at) {
      hurry_at = SteadyNow() + kHurryFor / 2;
      loop_.Post([this, domain, has_come] {
        {
          MutexLock lock(mutex_);
          *has_come = true;
          changed_.SignalAll();
        }
        auto found = domains_.find(domain);
        if (found == domains_.end()) return;
        found->second.live->Hurry(kHurryFor);
        found->second.standby->Hurry(kHurryFor);
      });
    }
    MutexLock lock(mutex_);
    const absl::Duration left = deadline - SteadyNow();
    const bool last_look = interrupted_ || left <= absl::ZeroDuration();
    const auto view = views_.find(domain);
    const bool may_hold = *has_come || last_look;
    if (may_hold && holds(view == views_.end() ? DomainView{} : view->second)) return true;
    if (last_look) return false;
    changed_.WaitFor(mutex_, std::min(left, kHurryFor / 2));
  }
}

void Supervisor::Interrupt() {
  MutexLock lock(mutex_);
  interrupted_ = true;
  changed_.SignalAll();
}

void Supervisor::StartBuild(int64_t number, wv1::Assignment assignment,
                            std::function<void(const WorkerView&)> on_change) {
  loop_.Post([this, number, assignment = std::move(assignment),
              on_change = std::move(on_change)]() mutable {
    if (stopping_) return;
    const std::string domain = assignment.domain();
    auto worker =
        std::make_shared<ManagedWorker>(loop_, settings_, domain, "build", DomainDirectory(domain),
                                        [this, number, on_change = std::move(on_change)] {
                                          auto found = builds_.find(number);
                                          if (found == builds_.end()) return;
                                          const WorkerView view = found->second->view();
                                          {
                                            MutexLock lock(mutex_);
                                            build_statuses_[number] = view.status;
                                          }
                                          on_change(view);
                                        });
    builds_[number] = worker;
    worker->SetAssignment(std::move(assignment));
    worker->Start(absl::ZeroDuration());
  });
}

void Supervisor::StopBuild(int64_t number, std::function<void()> done) {
  loop_.Post([this, number, done = std::move(done)] {
    auto found = builds_.find(number);
    if (found == builds_.end()) {
      done();
      return;
    }
    const auto worker = found->second;
    builds_.erase(found);
    {
      MutexLock lock(mutex_);
      build_statuses_.erase(number);
    }
    // Its final snapshot is on disk or not wanted: nothing to wait for.
    worker->Stop(absl::ZeroDuration(), [this, worker, done] {
      RemoveGroup(worker->view().status.domain());
      done();
      loop_.Post([worker] {});  // ends its life outside its own callback
    });
  });
}

void Supervisor::Plan(const wv1::PlanDomainRequest& request, absl::Duration timeout,
                      PlanDone done) {
  auto planner = std::make_shared<Planner>();
  planner->request = request;
  planner->done = std::move(done);
  loop_.Post([this, planner, timeout] {
    if (stopping_) {
      planner->done(
          MakeError(absl::StatusCode::kUnavailable, "the daemon is stopping", "SERVER_DRAINING"));
      return;
    }
    StartPlanner(planner, timeout);
  });
}

void Supervisor::StartPlanner(const std::shared_ptr<Planner>& planner, absl::Duration timeout) {
  planner->number = ++last_planner_;
  planner->directory = absl::StrCat(planner_directory_, "/", planner->number);
  const absl::Status made = MakeDirectories(planner->directory);
  auto socket = PrepareWorkerSocket(settings_.socket_directory, absl::StrCat("p", planner->number));
  if (!made.ok() || !socket.ok()) {
    planner->done(made.ok() ? socket.status() : made);
    return;
  }
  planner->socket = *std::move(socket);
  WorkerProcessOptions options;
  options.program = settings_.program;
  options.arguments = WorkerArguments(settings_, LimitsOf(settings_, {}), "planner", "planner",
                                      planner->directory, planner->socket);
  options.log_file = absl::StrCat(planner_directory_, "/planner.log");
  options.nice = 5;  // as its own word: somebody waits for it
  options.oom_score_adj = 800;
  if (settings_.groups) {
    const std::string group = settings_.groups->ForPlanner();
    if (!group.empty()) options.arguments.push_back(absl::StrCat("--cgroup=", group));
  }
  auto process = WorkerProcess::Spawn(options);
  if (!process.ok()) {
    RemoveWorkerSocket(planner->socket);
    std::error_code ignored;
    std::filesystem::remove_all(planner->directory, ignored);
    planner->done(Annotate(process.status(), "starting the planner"));
    return;
  }
  planner->process = std::move(*process);
  planners_[planner->number] = planner;
  const absl::Status watched =
      loop_.Watch(planner->process->pidfd(), [this, planner] { OnPlannerEnd(planner); });
  if (!watched.ok()) {
    OnPlanned(*planner, MakeError(absl::StatusCode::kUnavailable,
                                  absl::StrCat("the planner cannot be watched: ", watched.message(),
                                               "; try again"),
                                  "WORKER_LOST"));
    OnPlannerEnd(planner);
    return;
  }
  planner->client = std::make_unique<WorkerClient>(planner->socket);
  planner->client->PlanDomain(planner->request, timeout, [this, planner](auto result) {
    loop_.Post([planner, plan = std::move(result)] { OnPlanned(*planner, plan); });
  });
}

namespace {

// Whether a planner's error says enough without how its process ended.
bool ExplainsItself(const absl::Status& status) {
  return absl::IsDeadlineExceeded(status) || absl::IsInvalidArgument(status) ||
         !ErrorReason(status).empty();
}

// What a client is told when the planner did not answer as it should.
absl::Status PlannerError(const absl::Status& status, const std::string& end) {
  if (absl::IsDeadlineExceeded(status)) {
    return MakeError(absl::StatusCode::kResourceExhausted,
                     "the planner got too little of the processor to plan the definition in time; "
                     "try again when the machine is less busy",
                     "PLAN_TIME_LIMIT");
  }
  if (absl::StartsWith(end, absl::StrCat("signal ", SIGXCPU, " "))) {
    return MakeError(
        absl::StatusCode::kInvalidArgument,
        absl::StrCat("planning the definition takes more than ", kPlannerProcessorSeconds,
                     " s of the processor; make its SQL simpler"),
        "SQL_TOO_COMPLEX");
  }
  if (absl::IsResourceExhausted(status) && ErrorReason(status).empty()) {
    return MakeError(
        absl::StatusCode::kInvalidArgument,
        absl::StrCat("planning the definition takes more memory than a worker has (",
                     status.message(), "); make its SQL simpler, or raise workers.memory_bytes"),
        "SQL_TOO_COMPLEX");
  }
  if (ErrorReason(status).empty() && !absl::IsInvalidArgument(status)) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat("the planner did not survive this definition (", end,
                                  "); make its SQL simpler"),
                     "SQL_TOO_COMPLEX");
  }
  return status;
}

}  // namespace

// What it said comes first: one that is killed then is not asked how it ended. Its end may take as
// long as its memory is large, so nobody waits for it here.
void Supervisor::OnPlanned(Planner& planner, absl::StatusOr<wv1::PlanDomainResponse> plan) {
  planner.process->Signal(SIGKILL);
  if (!planner.done) return;
  if (!plan.ok() && !ExplainsItself(plan.status())) {
    planner.error = plan.status();
    return;
  }
  if (!plan.ok()) plan = PlannerError(plan.status(), "");
  std::exchange(planner.done, nullptr)(std::move(plan));
}

void Supervisor::OnPlannerEnd(const std::shared_ptr<Planner>& planner) {
  loop_.Unwatch(planner->process->pidfd());
  const std::string end = planner->process->Reap();
  RemoveWorkerSocket(planner->socket);
  std::error_code ignored;
  std::filesystem::remove_all(planner->directory, ignored);
  planners_.erase(planner->number);
  if (auto done = std::exchange(planner->done, nullptr)) done(PlannerError(planner->error, end));
}

std::vector<std::shared_ptr<ManagedWorker>> Supervisor::AllWorkers() {
  std::vector<std::shared_ptr<ManagedWorker>> all;
  for (const auto& [name, workers] : domains_) {
    all.push_back(workers.live);
    all.push_back(workers.standby);
    if (workers.spare) all.push_back(workers.spare);
  }
  for (const auto& [number, worker] : builds_) all.push_back(worker);
  for (const auto& [domain, worker] : leaving_) all.push_back(worker);
  return all;
}

namespace {

// "live shop"
std::string RoleAndDomain(const ManagedWorker& worker) {
  return absl::StrCat(worker.view().status.role(), " ", worker.view().status.domain());
}

}  // namespace

std::vector<Supervisor::UnsavedDomain> Supervisor::StopAll(absl::Duration grace) {
  struct Stopping {
    Mutex mutex;
    CondVar ended;
    bool posted ABSL_GUARDED_BY(mutex) = false;
    std::multiset<std::string> left ABSL_GUARDED_BY(mutex);  // "live shop"
    std::vector<UnsavedDomain> unsaved ABSL_GUARDED_BY(mutex);
  };
  auto state = std::make_shared<Stopping>();
  loop_.Post([this, state, grace] {
    stopping_ = true;
    settings_.ahead->Stop();
    const auto planners = planners_;
    for (const auto& [number, planner] : planners) {
      OnPlanned(*planner, MakeError(absl::StatusCode::kUnavailable, "the daemon is stopping",
                                    "SERVER_DRAINING"));
      OnPlannerEnd(planner);
    }
    const auto workers = AllWorkers();
    {
      MutexLock lock(state->mutex);
      state->posted = true;
      for (const auto& worker : workers) state->left.insert(RoleAndDomain(*worker));
      state->ended.SignalAll();
    }
    for (const auto& worker : workers) {
      worker->Stop(grace, [state, worker = worker.get()] {
        MutexLock lock(state->mutex);
        const auto& status = worker->view().status;
        if (status.role() == "live" && !worker->unsaved().empty()) {
          state->unsaved.push_back({status.domain(), worker->unsaved()});
        }
        state->left.erase(state->left.find(RoleAndDomain(*worker)));
        state->ended.SignalAll();
      });
    }
  });
  // The kernel may take a moment to end a large process after SIGKILL.
  const absl::Time deadline = SteadyNow() + grace + absl::Seconds(5);
  MutexLock lock(state->mutex);
  while (!state->posted || !state->left.empty()) {
    const absl::Duration left = deadline - SteadyNow();
    if (left <= absl::ZeroDuration()) break;
    state->ended.WaitFor(state->mutex, left);
  }
  std::vector<UnsavedDomain> unsaved = state->unsaved;
  for (absl::string_view name : state->left) {
    if (!absl::ConsumePrefix(&name, "live ")) continue;
    unsaved.push_back({std::string(name), "its process has been killed and has not ended yet"});
  }
  return unsaved;
}

}  // namespace icepie::server
