// Keeps every domain's workers running: one live and one standby each, build workers while a new
// generation is made, and a short-lived planner for a definition that nobody has checked yet.
//
// All processes are started by one thread that lives as long as the daemon, so that they end with
// it (PR_SET_PDEATHSIG goes by thread).
#ifndef ICEPIE_SERVER_SUPERVISOR_SUPERVISOR_H_
#define ICEPIE_SERVER_SUPERVISOR_SUPERVISOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/mutex.h"
#include "server/base/event_loop.h"
#include "server/supervisor/managed_worker.h"
#include "server/supervisor/poison_finder.h"

namespace icepie::server {

// Both workers that answer for a domain.
// For the live worker of a hibernating domain to come up, for somebody who waits for it.
constexpr absl::Duration kAwakeTimeout = absl::Seconds(10);

struct DomainView {
  WorkerView live;
  WorkerView standby;
  bool safe_mode = false;
  WorkerView spare;  // a second standby, while the workers are rolled
};

// Threads: any.
class Supervisor {
 public:
  // `domains_directory` holds one directory for each domain; `planner_directory` is scratch.
  Supervisor(WorkerSettings settings, std::string domains_directory, std::string planner_directory);
  ~Supervisor();

  // The domain's workers shall run and hold this; starts them when there are none. Those of a new
  // domain are at rest at first when `last_report` is given, which then is the live worker's;
  // `awaits_turn`: it has something to do.
  using LastReport = std::shared_ptr<const icepie::worker::v1::WorkerReport>;
  void SetDomain(icepie::worker::v1::Assignment assignment, LastReport last_report = nullptr,
                 bool awaits_turn = false);
  // The domain is gone: its workers get a while for their last snapshots and end. Until HasWorkers
  // says no, they may still write; then, and not before, the domain may be set again.
  void RemoveDomain(const std::string& domain);
  // Also builds.
  bool HasWorkers(const std::string& domain) const;
  // What was found about slices that end the live worker, from the loop's thread: it is in force at
  // once, and shall be kept and come back with an assignment, which StoredVerdict says. Set before
  // the first domain.
  using VerdictListener =
      std::function<void(const std::string& domain, const PoisonVerdict& verdict)>;
  void SetVerdictListener(VerdictListener listener) { on_verdict_ = std::move(listener); }
  void StoredVerdict(const std::string& domain, const PoisonVerdict& verdict);
  // The listener is told again of those that are in force and not stored.
  void TellVerdictsAgain();
  // Every death of a worker that answers questions, from the loop's thread. Likewise.
  void SetDeathListener(std::function<void(const WorkerDeath&)> listener) {
    on_death_ = std::move(listener);
  }
  absl::Duration suspension() const { return settings_.restart.suspension; }

  // Ends suspensions and waits of the domain's workers, and what was found about `slices` (empty:
  // all of the domain's) is void.
  void Resume(const std::string& domain, const std::vector<std::string>& slices = {});
  // How often that was for this slice, at once from the call on.
  int64_t Resumes(const std::string& domain, const std::string& slice) const;
  // Ends the domain's worker in this role ("live" or "standby") and starts another at once.
  void Restart(const std::string& domain, const std::string& role);
  // Ends this process of the domain, which answers no question at all. A failure of its own: it is
  // started again as one that died.
  void EndBroken(const std::string& domain, int64_t incarnation);

  // From the call on, none is started from a process that was started before it.
  void RenewAhead();

  // A second standby, so that two workers stand while one is replaced. StartSpare starts it with
  // the program that is there now; TakeSpare makes it the standby, and that one the spare.
  void StartSpare(const std::string& domain);
  void TakeSpare(const std::string& domain);
  void StopSpare(const std::string& domain);

  // In safe mode no live worker runs. Set before the first domain; its end starts them.
  void SetSafeMode(bool safe_mode);
  bool safe_mode() const;

  // Stops the domain's workers in order until they are woken, or the domain is set again. Not when
  // the live worker has been lost meanwhile: then nobody knows what it has saved. One that ends
  // without saving all that it held is started again.
  void Rest(const std::string& domain);
  void RestLive(const std::string& domain);
  void RestStandby(const std::string& domain);
  // Its live worker rests, and is not woken before others have had their turn.
  void AwaitTurn(const std::string& domain);
  void WakeLive(const std::string& domain);
  void WakeStandby(const std::string& domain);
  // As View, of a domain whose live worker has been woken, if it rested, and answers, or does not
  // within `timeout`.
  DomainView AwakeView(const std::string& domain, absl::Duration timeout);

  DomainView View(const std::string& domain) const;
  // Every worker, of one domain or (empty) of all.
  std::vector<icepie::v1::WorkerStatus> Statuses(const std::string& domain) const;

  // For how long calls wait until a worker has taken on what they changed.
  static constexpr absl::Duration kTakenOnTimeout = absl::Seconds(5);

  // Waits until `holds`, for `timeout` at most; returns whether it held. Reports come often
  // meanwhile. Of what the caller has asked for before, it is shown views from after that only,
  // and queries see no earlier one either once it returns.
  bool WaitFor(const std::string& domain, absl::Duration timeout,
               const std::function<bool(const DomainView&)>& holds);

  // Ends every WaitFor, now and later: the daemon stops.
  void Interrupt();

  // Calls `listener` with the domain's name after every change of a view, from the loop's thread.
  // Set before the first domain.
  void SetListener(std::function<void(const std::string& domain)> listener);

  // A build worker for operation `number`; `on_change` gets its view, on the loop's thread.
  void StartBuild(int64_t number, icepie::worker::v1::Assignment assignment,
                  std::function<void(const WorkerView&)> on_change);
  // Kills it; `done` runs when it is gone (at once when there is none).
  void StopBuild(int64_t number, std::function<void()> done);

  // Plans a file in a process of its own, which is killed afterwards. INVALID_ARGUMENT for a bad
  // definition, also for one that the planner did not survive, or that takes too much of the
  // processor; RESOURCE_EXHAUSTED/PLAN_TIME_LIMIT when the planner did not get that much within
  // `timeout`.
  using PlanDone = WorkerClient::Done<icepie::worker::v1::PlanDomainResponse>;
  void Plan(const icepie::worker::v1::PlanDomainRequest& request, absl::Duration timeout,
            PlanDone done);

  struct UnsavedDomain {
    std::string domain;
    std::string why;
  };
  // Stops every worker, giving each `grace` for its final snapshots. Nothing starts afterwards.
  // Returns the domains whose live worker did not save all that it held.
  std::vector<UnsavedDomain> StopAll(absl::Duration grace);

  EventLoop& loop() { return loop_; }
  std::string DomainDirectory(const std::string& domain) const;
  // What holds where a domain's file does not say.
  const WorkerSettings& settings() const { return settings_; }

 private:
  // What was found about a generation and is not in the assignment yet.
  struct Verdicts {
    std::map<int64_t, PoisonVerdict> records;  // by position
    PoisonVerdict other;                       // about the slice, or the probe under way
  };
  struct Domain {
    std::shared_ptr<ManagedWorker> live;
    std::shared_ptr<ManagedWorker> standby;
    std::shared_ptr<ManagedWorker> spare;  // mostly null
    icepie::worker::v1::Assignment assignment;
    PoisonFinder finder;
    std::map<std::string, Verdicts> verdicts;  // by generation
    bool idle = false;  // every slice is suspended: the live worker has nothing to do
  };
  struct Planner;

  // Loop only; starts them, or lets them rest.
  Domain& Workers(const std::string& domain, const LastReport& last_report, bool awaits_turn);
  std::shared_ptr<ManagedWorker> MakeWorker(const std::string& domain, const std::string& role);
  void StartAfterStandbys(const std::shared_ptr<ManagedWorker>& live);
  void Publish(const std::string& domain);
  void EndLeaving(const std::string& domain, const std::shared_ptr<ManagedWorker>& worker);
  void RemoveGroup(const std::string& domain);
  void RemoveGroupsLeft(absl::Duration next_look);
  void PauseIdle(Domain& workers);
  static void StepLimits(Domain& workers);
  bool OnDeath(const WorkerDeath& death);
  static icepie::worker::v1::Assignment LiveAssignment(const Domain& workers);
  void OnDomain(const std::string& domain, const std::function<void(Domain&)>& change);
  static absl::Duration NextStagger(absl::Time& last);
  void StartPlanner(const std::shared_ptr<Planner>& planner, absl::Duration timeout);
  static void OnPlanned(Planner& planner,
                        absl::StatusOr<icepie::worker::v1::PlanDomainResponse> plan);
  WorkerProcessOptions AheadOptions() const;
  void OnPlannerEnd(const std::shared_ptr<Planner>& planner);
  std::vector<std::shared_ptr<ManagedWorker>> AllWorkers();

  WorkerSettings settings_;  // as it is since the constructor
  const std::string domains_directory_;
  const std::string planner_directory_;
  // The loop's own.
  std::map<std::string, Domain> domains_;
  std::map<int64_t, std::shared_ptr<ManagedWorker>> builds_;
  std::multimap<std::string, std::shared_ptr<ManagedWorker>> leaving_;  // of removed domains
  std::map<int64_t, std::shared_ptr<Planner>> planners_;
  int64_t last_planner_ = 0;
  absl::Time next_standby_ = absl::InfinitePast();  // when the last of those in line starts
  absl::Time next_start_ = absl::InfinitePast();    // likewise, of live workers
  bool stopping_ = false;
  std::function<void(const std::string&)> listener_;
  VerdictListener on_verdict_;
  std::function<void(const WorkerDeath&)> on_death_;

  mutable Mutex mutex_;
  CondVar changed_;
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  bool safe_mode_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, int64_t> resumes_ ABSL_GUARDED_BY(mutex_);  // "shop", "shop.by_item"
  std::map<std::string, DomainView> views_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, icepie::v1::WorkerStatus> build_statuses_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> ending_ ABSL_GUARDED_BY(mutex_);  // workers of removed domains

  EventLoop loop_;  // last: its thread ends before what it uses goes
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_SUPERVISOR_H_
