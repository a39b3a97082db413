// Changes of domains and slices: what is wanted is stored first, then the workers are told; a
// change holds even when no worker is there to hear of it.
#ifndef ICEPIE_SERVER_DOMAIN_DOMAIN_MANAGER_H_
#define ICEPIE_SERVER_DOMAIN_DOMAIN_MANAGER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "core/core.h"
#include "google/longrunning/operations.pb.h"
#include "icepie/v1/admin.pb.h"
#include "server/admin/admin_action.h"
#include "server/base/event_loop.h"
#include "server/base/executor.h"
#include "server/domain/builds.h"
#include "server/domain/catalog.h"
#include "server/domain/domain_assignment.h"
#include "server/domain/domain_reader.h"
#include "server/supervisor/resting_start.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

// Threads: any; every method blocks its caller until the change is stored and (for a bounded time)
//   until the live worker has taken it on.
//   Each says of its AdminAction when it begins, after its checks.
// Errors: those of Admin. What fails has changed nothing.
class DomainManager {
 public:
  DomainManager(Core& core, Catalog& catalog, Supervisor& supervisor, Builds& builds,
                EventLog& events, SliceMemory& memory, StreamEnds& ends);
  ~DomainManager();

  // Tells the supervisor of every domain that is not held, and resumes unfinished builds. In safe
  // mode, which the supervisor and the builds are told of before, no live worker and no build
  // starts until LeaveSafeMode.
  void Start();
  void LeaveSafeMode();
  // FAILED_PRECONDITION/SAFE_MODE.
  absl::Status CheckNotSafeMode() const;

  absl::StatusOr<icepie::v1::ApplyDomainResponse> Apply(
      const icepie::v1::ApplyDomainRequest& request, AdminAction& action);
  // `promote`: whether the generation serves by itself when it is ready, within the file's limits.
  // `retry`: it is about the records in quarantine.
  absl::StatusOr<google::longrunning::Operation> Reslice(
      const icepie::v1::ResliceSliceRequest& request, AdminAction& action,
      icepie::v1::ApplyDomainRequest::Promote promote = icepie::v1::ApplyDomainRequest::MANUAL,
      bool retry = false);
  // The build that was begun for this request; nullopt: none.
  std::optional<Catalog::Operation> BuildFor(const SliceName& slice,
                                             const std::string& request_id) const;
  absl::StatusOr<icepie::v1::GenerationDiff> Diff(
      const icepie::v1::DiffGenerationsRequest& request) const;
  absl::StatusOr<icepie::v1::Slice> Promote(const icepie::v1::PromoteGenerationRequest& request,
                                            AdminAction& action);
  absl::StatusOr<icepie::v1::RollbackSliceResponse> Rollback(
      const icepie::v1::RollbackSliceRequest& request, AdminAction& action);
  absl::StatusOr<icepie::v1::ListQuarantinedRecordsResponse> Quarantined(
      const icepie::v1::ListQuarantinedRecordsRequest& request) const;
  absl::StatusOr<icepie::v1::ListSnapshotsResponse> ListSnapshots(
      const icepie::v1::ListSnapshotsRequest& request) const;
  absl::StatusOr<icepie::v1::Snapshot> CreateSnapshot(
      const icepie::v1::CreateSnapshotRequest& request, AdminAction& action,
      absl::Duration timeout);
  absl::StatusOr<icepie::v1::DeleteSnapshotResponse> DeleteSnapshot(
      const icepie::v1::DeleteSnapshotRequest& request, AdminAction& action);
  absl::StatusOr<icepie::v1::Domain> Delete(const icepie::v1::DeleteDomainRequest& request,
                                            AdminAction& action);
  absl::StatusOr<icepie::v1::Domain> Undelete(const icepie::v1::UndeleteDomainRequest& request,
                                              AdminAction& action);

  const DomainReader& reader() const { return reader_; }

  // Tells the workers what the catalog now wants; the epoch that they will report. Nothing, and 0,
  // when the domain was deleted meanwhile.
  int64_t Configure(const std::string& domain);

  // The workers of the domain, which may be held, would have something to answer from, or to build.
  bool HasStates(const CatalogDomain& domain) const;

 private:
  static constexpr int kPromoteAttempts = 30;
  struct ApplyWork;

  int64_t Configure(const std::string& domain, RestingStart at_rest);
  RestingStart AtRest(const CatalogDomain& domain) const;
  icepie::worker::v1::Assignment AssignmentOf(const CatalogDomain& domain) const;
  absl::Status CheckStreams(const icepie::worker::v1::PlanDomainResponse& plan) const;
  absl::StatusOr<icepie::worker::v1::PlanDomainResponse> Plan(const std::string& file,
                                                              const std::string& file_name);
  // Says of each change that builds something what that is expected to cost.
  void Estimate(const icepie::worker::v1::PlanDomainResponse& plan, const CatalogDomain& domain,
                std::vector<icepie::v1::SliceChange>& changes) const;
  icepie::v1::ApplyDomainResponse Unchanged(
      const CatalogDomain& domain, const icepie::worker::v1::PlanDomainResponse& plan) const;
  void TellAgain(const CatalogDomain& domain, icepie::v1::ApplyDomainResponse& response) const;
  absl::Status EditForApply(ApplyWork& work, CatalogDomain& domain,
                            std::vector<Catalog::Operation>& operations);
  void ApplyChange(ApplyWork& work, icepie::v1::SliceChange& change, CatalogDomain& domain,
                   std::vector<Catalog::Operation>& operations);
  void ApplyRename(ApplyWork& work, const icepie::v1::SliceChange& change,
                   const icepie::catalog::v1::SliceDefinition& definition, CatalogDomain& domain);
  void CancelPending(icepie::catalog::v1::SliceEntry& slice, const std::string& why,
                     std::vector<Catalog::Operation>& operations);
  int64_t AddBuild(icepie::catalog::v1::SliceEntry& slice,
                   const icepie::catalog::v1::SliceDefinition& definition, int64_t revision,
                   const std::string& actor, const std::string& reason,
                   std::vector<Catalog::Operation>& operations);
  void ResumeBuilds(const std::vector<Catalog::Operation>& operations);

  // ABORTED/OPERATION_IN_PROGRESS while one of the slice's builds has not ended.
  absl::Status CheckNoBuild(const std::string& domain, const std::string& slice) const;
  absl::Status CheckSnapshot(const std::string& domain, const std::string& slice_name,
                             const icepie::catalog::v1::GenerationEntry& entry) const;
  // Lets the live worker apply to a generation that does not serve yet, until it is at the head.
  absl::Status CatchUp(const SliceName& slice, int64_t generation, bool judge);
  absl::Status CheckSaved(const SliceName& slice, int64_t generation,
                          int64_t serving_position) const;
  absl::Status WarmUp(const SliceName& slice, int64_t generation);
  void CoolDown(const SliceName& slice, int64_t generation);  // 0: the one that waits
  absl::Status PromoteReady(const icepie::v1::PromoteGenerationRequest& request,
                            const SliceName& name, const icepie::catalog::v1::SliceEntry& slice,
                            AdminAction& action);
  absl::Status EditForPromote(const icepie::v1::PromoteGenerationRequest& request,
                              const SliceName& slice, CatalogDomain& domain);
  // Workers are told, and the caller waits for the live one to answer with what serves now.
  absl::StatusOr<icepie::v1::Slice> Swap(const SliceName& slice);
  absl::StatusOr<int64_t> RebuildForRollback(const icepie::v1::RollbackSliceRequest& request,
                                             const SliceName& slice, int64_t target);
  void LineUpPromotion(const SliceName& slice, int64_t generation);
  void RunPromotion(const SliceName& slice, int64_t generation, int attempts);
  // True: it is still catching up, try again. What the core had no room for is left to a sweep.
  bool PromoteByItself(const SliceName& slice, int64_t generation, bool last);
  absl::Status TryPromoteByItself(const SliceName& slice,
                                  const icepie::catalog::v1::GenerationEntry& entry);
  void ResumePromotions();
  // What a generation that ceases to serve showed last, for the history.
  void KeepLastState(const std::string& domain, icepie::catalog::v1::SliceEntry& slice) const;
  // Ends what is warm or suspended for longer than it should be.
  void ScheduleSweep();
  void Sweep();
  // Removes files that nobody needs.
  void ScheduleCleaning();
  void Clean();
  void EndWarm(const std::string& domain);
  void LineUpVerdict(const std::string& domain, const PoisonVerdict& verdict);
  void KeepVerdict(const std::string& domain, const PoisonVerdict& verdict);
  // Those that the core did not take, once it takes changes again.
  void KeepVerdictsAgain();
  void LiftSuspensions(const std::string& domain);
  bool RemoveUnwanted(const std::string& domain);
  // FAILED_PRECONDITION/DOMAIN_DELETED.
  absl::Status CheckNotDeleted(const std::string& domain) const;
  absl::Status WaitForWorkersToEnd(const std::string& domain) const;
  void PurgeDeleted();
  absl::Status Purge(const std::string& domain);
  void RecordEnd(const Catalog::Operation& operation, const absl::Status& outcome);
  void WaitForEpoch(const std::string& domain, int64_t epoch);

  Core& core_;
  Catalog& catalog_;
  Supervisor& supervisor_;
  Builds& builds_;
  AdminLog log_;
  DomainReader reader_;
  mutable Mutex mutex_;
  std::set<std::string> unswept_ ABSL_GUARDED_BY(mutex_);  // domains that may have unwanted files
  std::map<std::string, int64_t> told_ ABSL_GUARDED_BY(mutex_);  // the last epoch of Configure
  // Generations that promote by themselves, in line or under way: "payments.volume/7".
  std::set<std::string> promoting_ ABSL_GUARDED_BY(mutex_);
  bool unkept_verdicts_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t sweeps_ = 0;     // the background thread's
  int64_t cleanings_ = 0;  // the cleaner's
  Executor background_;    // stores what shall not wait: verdicts, and what sweeps end
  Executor promotions_;    // each waits for workers, up to 45 s
  Executor cleaner_;
  EventLoop clock_;  // of sweeps and cleanings; last: its thread ends first
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_DOMAIN_MANAGER_H_
