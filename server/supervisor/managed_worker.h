// One worker that is kept running: started, configured, watched, killed when it hangs, and started
// again as the restart policy says.
#ifndef ICEPIE_SERVER_SUPERVISOR_MANAGED_WORKER_H_
#define ICEPIE_SERVER_SUPERVISOR_MANAGED_WORKER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "icepie/v1/admin.pb.h"
#include "icepie/worker/v1/worker.pb.h"
#include "server/base/event_loop.h"
#include "server/supervisor/domain_groups.h"
#include "server/supervisor/heartbeat_silence.h"
#include "server/supervisor/life_watch.h"
#include "server/supervisor/restart_policy.h"
#include "server/supervisor/suspension_file.h"
#include "server/supervisor/worker_ahead.h"
#include "server/supervisor/worker_client.h"
#include "server/supervisor/worker_process.h"
#include "slices/apply/flight_record.h"

namespace icepie::server {

// What all workers are started with.
struct WorkerSettings {
  std::string program;
  std::string socket_directory;
  std::string host_socket;
  std::string core_directory;
  std::string suspended_directory;  // of suspension files, by domain; empty: none are kept
  int64_t memory_bytes = int64_t{1} << 30;
  int64_t query_timeout_ms = 5000;
  int64_t apply_timeout_ms = 600000;
  int64_t snapshot_interval_ms = 10000;
  int64_t snapshots_kept = 2;
  int64_t snapshots_kept_ms = 0;
  int64_t snapshot_bytes_max = 0;
  int64_t disk_bytes = 0;     // 0: no limit
  int64_t idle_after_ms = 0;  // of domains that state none (Hibernation); 0: never
  int64_t write_bytes_per_second = int64_t{64} << 20;
  bool require_sandbox = false;
  bool standby_on_demand = false;  // standbys rest until they are wanted
  std::string log_level = "info";
  absl::Duration heartbeat_interval = absl::Seconds(1);
  absl::Duration heartbeat_timeout = absl::Seconds(10);
  absl::Duration start_timeout = absl::Seconds(60);
  absl::Duration stop_grace = absl::Seconds(10);  // of one that is paused or restarted
  RestartPolicyOptions restart;
  std::shared_ptr<RestartPacer> pacer;   // of all workers together; null: the supervisor's own
  std::shared_ptr<LifeWatch> lives;      // tells of deaths early; null: nobody does
  std::shared_ptr<DomainGroups> groups;  // that workers run in; null: none are delegated
  std::shared_ptr<WorkerAhead> ahead;    // for standbys that are woken; null: none is started ahead
};

// Of one domain.
struct DomainLimits {
  int64_t memory_bytes = 0;
  int64_t disk_bytes = 0;
};
// The domain's own, else the settings'.
DomainLimits LimitsOf(const WorkerSettings& settings,
                      const icepie::worker::v1::Assignment& assignment);

// What others may know of a worker; a copy.
struct WorkerView {
  std::shared_ptr<WorkerClient> client;  // null unless it runs and holds an assignment
  icepie::v1::WorkerStatus status;
  std::shared_ptr<const icepie::worker::v1::WorkerReport> report;  // the last, kept after its end
  absl::Time report_time = absl::InfinitePast();
  absl::Time lost_since = absl::InfiniteFuture();  // when `client` became null
  int64_t incarnation = 0;                         // differs for every process
  std::string flight_record;                       // of that process
  bool suspended = false;                          // it does not start by itself soon
  // When it went to rest last it did not save all that it held, and has not since either: it may
  // not rest.
  bool rest_lost = false;
};

// An end of its process that nobody asked for.
struct WorkerDeath {
  std::string domain;
  std::string role;
  int64_t incarnation = 0;
  std::string how;                        // "signal 11 (Segmentation fault)"
  std::vector<slices::FlightNote> notes;  // what it was doing
};

// Nothing that the slice has applied is missing from its snapshot, by what is known of it. Records
// of others it has passed over beyond that: no snapshot is made for them.
bool HasSaved(const icepie::worker::v1::SliceReport& slice);
// Its rows, if perhaps not its counts of records that it has left out.
bool HasSavedRows(const icepie::worker::v1::SliceReport& slice);
// Nor is what a worker `before` had not saved, by the report of a later one: it has saved since, or
// has come as far without anything to save.
bool HasSavedSince(const icepie::worker::v1::SliceReport& before,
                   const icepie::worker::v1::SliceReport& slice);

// It was stopped because nobody needs it now.
bool IsResting(const WorkerView& worker);
// It rests and has something to do, but others have their turn first (Hibernation).
bool AwaitsTurn(const WorkerView& worker);
// It is about to start; others of the daemon are started before it.
bool AwaitsFirstStart(const WorkerView& worker);

// The arguments that every worker gets.
std::vector<std::string> WorkerArguments(const WorkerSettings& settings, const DomainLimits& limits,
                                         const std::string& role, const std::string& domain,
                                         const std::string& directory, const std::string& socket);

// Threads: the loop's only.
// Lifetime: held by shared_ptr, since answers of the worker arrive late; Stop before dropping it.
class ManagedWorker : public std::enable_shared_from_this<ManagedWorker> {
 public:
  // `directory` is the domain's; `on_change` is called after every change of the view.
  ManagedWorker(EventLoop& loop, const WorkerSettings& settings, std::string domain,
                std::string role, std::string directory, std::function<void()> on_change);
  ~ManagedWorker();

  // Is called at every death, before the next start is decided. True: something is done about it,
  // so the deaths before do not count any more.
  using DeathListener = std::function<bool(const WorkerDeath& death)>;
  void SetDeathListener(DeathListener listener) { on_death_ = std::move(listener); }

  // Starts it after `delay`, and from then on whenever it ends.
  void Start(absl::Duration delay);
  // Instead, before the first start: an earlier daemon had suspended it, and its time is not over.
  // It starts then. False: nothing of the sort.
  bool StaySuspended();
  // No daemon shall know of its suspension.
  void ForgetSuspension() { suspension_file_.Remove(); }
  // What it shall hold: told at once, and after every start.
  void SetAssignment(icepie::worker::v1::Assignment assignment);
  // Ends a suspension or a wait, and forgets the failures.
  void Resume();
  // Ends its process, if there is one, and starts another at once; that is no failure.
  void Restart();
  // Kills its process, which breaks every question; a failure of none of its slices.
  void EndBroken();
  // While it is paused, no process runs: one that does is ended and may save its state first. After
  // that it starts when `delay` has passed, unless it rests.
  void SetPaused(bool paused, absl::Duration delay);
  // As soon as it is not paused any more, a process is started.
  bool StartsAfterPause() const { return paused_ && !resting_ && !process_ && !stopping_; }
  // Stops it until WakeUp: SIGTERM, and SIGKILL after `grace`. Its state is then "hibernating".
  void Rest(absl::Duration grace);
  // Likewise, of one that has never run in this daemon: `report` is what it had said last.
  void RestWith(std::shared_ptr<const icepie::worker::v1::WorkerReport> report, bool awaits_turn);
  // One that rests has something to do now: its state is "waiting" until WakeUp.
  void AwaitTurn();
  // One whose process is still ending starts when that is gone.
  void WakeUp(absl::Duration delay);
  bool StartsWhenWoken() const { return resting_ && !process_ && !stopping_; }
  // Its first start, if that is still to come, comes after `delay`.
  void BringForward(absl::Duration delay);
  // Asks for reports often for a while: somebody waits for a change.
  void Hurry(absl::Duration how_long);
  // SIGTERM, and SIGKILL after `grace`; never started again. `done` runs when it has ended.
  void Stop(absl::Duration grace, std::function<void()> done);
  // Why the process that Stop ended may not have saved what it held; empty: it has, or there was
  // none.
  const std::string& unsaved() const { return unsaved_; }

  // Its process was started with other limits than the assignment's.
  bool limits_changed() const;

  const WorkerView& view() const { return view_; }

 private:
  void Spawn();
  void OnSpawned(const std::string& socket);
  void AwaitSocket(absl::Time deadline);
  void WatchStart(absl::Duration cpu_time_before);
  void OnFirstReport(absl::StatusOr<icepie::worker::v1::WorkerReport> report);
  bool GiveAssignment();
  void Configure();
  void OnConfigured(int64_t epoch, const absl::Status& status);
  void Heartbeat();
  void OnReport(absl::StatusOr<icepie::worker::v1::WorkerReport> report);
  void TakeReport(icepie::worker::v1::WorkerReport report);
  void ScheduleHeartbeat(absl::Duration delay);
  void KillBecause(const std::string& why);
  void GiveLife(WorkerProcessOptions& options);
  void WatchLife();
  void OnLifeLost();
  void LeaveToEnd(std::unique_ptr<WorkerProcess> process);
  void OnExit();
  void OnCause(const std::string& how);
  std::string EndedWith(const std::string& how) const;
  bool HasSavedAll() const;
  void LookAtLost();
  void OnUnsavedRest(const std::string& how);
  void OnDeath(const std::string& why);
  void OnNotSpawned(const absl::Status& why);
  void OnFailure(const std::string& why);
  void SetState(const std::string& state);
  void Lose();
  void End(absl::Duration grace);
  void OnEnded();
  // `handler` on the loop, unless this process has ended meanwhile.
  template <typename Result>
  std::function<void(absl::StatusOr<Result>)> ForThisProcess(
      void (ManagedWorker::*handler)(absl::StatusOr<Result>));

  EventLoop& loop_;
  const WorkerSettings& settings_;
  const std::string directory_;
  const std::function<void()> on_change_;
  const SuspensionFile suspension_file_;
  const bool starts_ahead_;  // by settings_.ahead
  RestartPolicy policy_;
  WorkerView view_;
  std::shared_ptr<const icepie::worker::v1::WorkerReport> lost_;  // with `rest_lost`: what it held
  icepie::worker::v1::Assignment assignment_;
  std::unique_ptr<WorkerProcess> process_;
  std::shared_ptr<LifePage> life_;  // of the process
  LifeWatch::Id life_id_ = 0;
  std::shared_ptr<WorkerClient> client_;  // from the start of the process on
  std::string socket_;
  std::string kill_cause_;
  bool broken_ = false;  // it was killed for its answers, whatever it was doing
  HeartbeatSilence silence_;
  absl::Time hurry_until_ = absl::InfinitePast();
  DomainLimits limits_;            // of the process
  bool assignment_given_ = false;  // to the process when it started, and not changed since
  int64_t configured_epoch_ = -1;
  bool configuring_ = false;
  bool heard_ = false;  // the process has answered once
  bool heartbeat_under_way_ = false;
  EventLoop::TimerId start_timer_ = 0;
  EventLoop::TimerId heartbeat_timer_ = 0;
  bool paused_ = false;
  bool ending_ = false;  // it was asked to end, but not for ever
  bool stopping_ = false;
  bool resting_ = false;  // nobody needs it now
  std::function<void()> on_stopped_;
  bool was_lost_ = false;  // rest_lost, once
  std::string unsaved_;
  DeathListener on_death_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_MANAGED_WORKER_H_
