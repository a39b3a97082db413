// Every kind of failure that real processes can have, done to the daemon and its workers.
#ifndef ICEPIE_TESTS_FAULT_FAULT_KINDS_H_
#define ICEPIE_TESTS_FAULT_FAULT_KINDS_H_

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "icepie/v1/admin.grpc.pb.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/fault/call_record.h"
#include "tests/fault/load.h"

namespace icepie::fault {

// Does faults to the daemon, one at a time.
//
// Threads: one.
// Errors: of admin calls that should have worked, with what they said. What a fault itself breaks
// is no error.
class FaultInjector {
 public:
  // `program_link` is the worker program as the daemon starts it, a link to icepie-worker in the
  // directory `programs`.
  FaultInjector(testing::DaemonFixture& daemon, Whereabouts& where, Load& load,
                std::string program_link, const std::string& programs, uint32_t seed);

  // Names, in a fixed order.
  static std::vector<std::string> Kinds();
  // Kinds that are the daemon's own, whose spans have no domain, or of a domain that they make.
  static bool IsOfDaemon(const std::string& kind);

  // Injects it, holds it as long as it takes, and takes the hand off. Fills the span's detail,
  // released and injected, and its error.
  void Inject(FaultSpan* span);

  // The workers that faults ended are gone, and every slice of the domain (empty: of all) answers
  // fresh, by the live worker, with all that was acknowledged by now. Suspended workers are resumed
  // by thawing, as an operator would.
  absl::Status AwaitRecovery(const std::string& domain, absl::Duration timeout);

  // Every slice of every domain can be answered by a standby again.
  absl::Status AwaitStandbys(absl::Duration timeout);

  // The live and standby workers that there are now; an error while one of them is not running.
  absl::StatusOr<std::vector<WorkerSight>> LookAtWorkers();

  // Makes the supervisor forget the failures of the domain's workers (empty: of all), as an
  // operator does by thawing once a cause is gone: ten of them within ten minutes suspend a worker.
  absl::Status ResumeWorkers(const std::string& domain);

  const std::vector<FrozenSpan>& frozen() const { return frozen_; }
  const std::vector<DownSpan>& downs() const { return downs_; }

 private:
  using Method = absl::Status (FaultInjector::*)(FaultSpan* span);
  struct Kind {
    const char* name;
    Method inject;
    bool of_daemon;
  };
  static const std::vector<Kind>& Table();

  absl::Status KillLive(FaultSpan* span);
  absl::Status KillStandby(FaultSpan* span);
  absl::Status KillBoth(FaultSpan* span);
  absl::Status StopLive(FaultSpan* span);
  absl::Status StopStandby(FaultSpan* span);
  absl::Status StandbyBehind(FaultSpan* span);
  absl::Status KillDaemon(FaultSpan* span);
  absl::Status DamagedCatalog(FaultSpan* span);
  absl::Status StopDaemon(FaultSpan* span);
  absl::Status EndlessQuery(FaultSpan* span);
  absl::Status DeafQuery(FaultSpan* span);
  absl::Status HungryQuery(FaultSpan* span);
  absl::Status PoisonRecords(FaultSpan* span);
  absl::Status FlippedSnapshot(FaultSpan* span);
  absl::Status TruncatedSnapshot(FaultSpan* span);
  absl::Status BrokenProgram(FaultSpan* span);
  absl::Status NoSpace(FaultSpan* span);
  absl::Status NotWritable(FaultSpan* span);
  absl::Status PulseLive(FaultSpan* span);
  absl::Status DeadlyQuery(FaultSpan* span);
  absl::Status CrashLoop(FaultSpan* span);
  absl::Status Drain(FaultSpan* span);
  absl::Status Roll(FaultSpan* span);
  absl::Status KillAndRestart(FaultSpan* span);
  absl::Status SuspendAndKill(FaultSpan* span);
  absl::Status EditAndKillDaemon(FaultSpan* span);
  absl::Status DeleteAndKillDaemon(FaultSpan* span);
  absl::Status FailedExpectation(FaultSpan* span);
  absl::Status DiskBudget(FaultSpan* span);
  absl::Status OutgrownDefinition(FaultSpan* span);
  absl::Status FreezeAndKill(FaultSpan* span);
  absl::Status FreezeAndKillDaemon(FaultSpan* span);
  absl::Status Reslice(FaultSpan* span);
  absl::Status KillBuild(FaultSpan* span);
  absl::Status HibernatingDomain(FaultSpan* span);
  absl::Status FullQueue(FaultSpan* span);
  absl::Status LostCatalogEntry(FaultSpan* span);

  absl::Status Signal(FaultSpan* span, const std::string& role, int signal);
  absl::Status Ask(FaultSpan* span, const std::string& sql);
  absl::Status DamageSnapshot(FaultSpan* span, bool truncate);
  absl::Status Freeze(const std::string& slice);
  absl::Status Thaw(const std::string& slice);
  absl::Status ResliceAndPromote(FaultSpan* span, bool kill);
  absl::Status Visit(FaultSpan* span, const std::string& name, const std::string& lines);
  absl::Status AppendQuiet();
  absl::Status CheckQuiet(const std::string& domain);
  absl::Status AwaitRest(const std::string& domain);
  absl::Status WakeAndKill(FaultSpan* span);
  absl::Status FillQueue(FaultSpan* span);
  absl::Status DamageCatalogAndCopy(const std::string& domain);
  // Of the daemon that is down.
  absl::Status DamageCatalog(const std::string& domain);
  absl::Status RestartDaemon(absl::Duration pause);
  // The one that is down; until it has answered a question.
  absl::Status StartDaemon();
  absl::Status RollWorkers(FaultSpan* span);
  absl::Status ResumeDomain(const std::string& domain);
  absl::Status Apply(const std::string& file);
  absl::Status DeleteDomain(const std::string& domain);
  absl::Status AwaitOutgrown(const std::string& domain);
  absl::Status CheckOutgrown(const std::string& domain);
  // The domain's file is the one that was applied.
  absl::Status CheckFile(const std::string& domain);
  // The domain's file with what was changed in it so far.
  std::string FileOf(const std::string& domain) const;
  absl::Status AwaitSlice(const std::string& slice, absl::Time deadline);
  absl::Status AwaitDoomed(absl::Time deadline);
  absl::Status HurtBuild(FaultSpan* span);
  icepie::v1::WorkerStatus Worker(const std::string& domain, const std::string& role);
  // Once there is one, within a moment; 0 otherwise.
  pid_t WorkerPid(const std::string& domain, const std::string& role);
  std::string SomeSlice(const std::string& domain);
  std::string DomainDirectory(const std::string& domain) const;
  absl::Duration Pause(int least_ms, int most_ms);

  testing::DaemonFixture& daemon_;
  Whereabouts& where_;
  Load& load_;
  const std::string program_link_;
  const std::string program_;
  const std::string fragile_program_;
  std::mt19937 random_;
  std::set<ino_t> damaged_;  // snapshots
  // Workers that a fault ends sooner or later: until they are gone it is not over.
  struct Doomed {
    std::string domain;
    std::string role;
    pid_t pid = 0;
  };
  std::vector<Doomed> doomed_;
  int visitors_ = 0;           // domains that came and went
  int64_t quiet_records_ = 0;  // of the visitors' stream
  int64_t quiet_end_ = 0;
  std::map<std::string, int> timeout_;  // of queries, in seconds, by domain whose file was changed
  std::vector<FrozenSpan> frozen_;
  std::vector<DownSpan> downs_;
};

// What `call` was answered, with its name.
absl::Status Named(const std::string& call, const grpc::Status& status);

void Sleep(absl::Duration how_long);

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_FAULT_KINDS_H_
