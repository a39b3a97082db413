// Changes of domains and slices: what is wanted is stored first, then the workers are told; a
// change holds even when no worker is there to hear of it.
#ifndef ICEPIE_SERVER_DOMAIN_MANAGER_H_
#define ICEPIE_SERVER_DOMAIN_MANAGER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "core/core.h"
#include "google/longrunning/operations.pb.h"
#include "icepie/v1/admin.pb.h"
#include "server/admin_log.h"
#include "server/builds.h"
#include "server/catalog.h"
#include "server/domain_assignment.h"
#include "server/domain_reader.h"
#include "server/executor.h"
#include "server/supervisor.h"

namespace icepie::server {

// Threads: any; every method blocks its caller until the change is stored and (for a bounded time)
//   until the live worker has taken it on.
// Errors: those of Admin. What fails has changed nothing.
class DomainManager {
 public:
  DomainManager(Core& core, Catalog& catalog, Supervisor& supervisor, Builds& builds,
                EventLog& events);
  ~DomainManager();

  // Tells the supervisor of every domain that is not held, and resumes unfinished builds.
  void Start();

  absl::StatusOr<icepie::v1::ApplyDomainResponse> Apply(
      const icepie::v1::ApplyDomainRequest& request);
  absl::StatusOr<icepie::v1::Slice> Freeze(const icepie::v1::FreezeSliceRequest& request);
  absl::StatusOr<icepie::v1::Slice> Thaw(const icepie::v1::ThawSliceRequest& request);
  absl::StatusOr<icepie::v1::Slice> Refresh(const icepie::v1::RefreshSliceRequest& request,
                                            absl::Duration timeout);
  absl::StatusOr<google::longrunning::Operation> Reslice(
      const icepie::v1::ResliceSliceRequest& request);
  absl::StatusOr<icepie::v1::GenerationDiff> Diff(
      const icepie::v1::DiffGenerationsRequest& request) const;
  absl::StatusOr<icepie::v1::Slice> Promote(const icepie::v1::PromoteGenerationRequest& request);
  absl::StatusOr<icepie::v1::ListQuarantinedRecordsResponse> Quarantined(
      const icepie::v1::ListQuarantinedRecordsRequest& request) const;
  absl::Status CancelOperation(int64_t number);

  const DomainReader& reader() const { return reader_; }

  // Tells the workers what the catalog now wants; the epoch that they will report.
  int64_t Configure(const std::string& domain);

  // From the supervisor: a view of the domain has changed.
  void OnWorkerChange(const std::string& domain);

 private:
  struct ApplyWork;

  absl::Status CheckStreams(const icepie::worker::v1::PlanDomainResponse& plan) const;
  absl::StatusOr<icepie::worker::v1::PlanDomainResponse> Plan(
      const icepie::v1::ApplyDomainRequest& request);
  icepie::v1::ApplyDomainResponse Unchanged(const CatalogDomain& domain) const;
  absl::Status EditForApply(ApplyWork& work, CatalogDomain& domain,
                            std::vector<Catalog::Operation>& operations);
  void ApplyChange(ApplyWork& work, icepie::v1::SliceChange& change, CatalogDomain& domain,
                   std::vector<Catalog::Operation>& operations);
  void CancelPending(icepie::catalog::v1::SliceEntry& slice, const std::string& why,
                     std::vector<Catalog::Operation>& operations);
  int64_t AddBuild(icepie::catalog::v1::SliceEntry& slice,
                   const icepie::catalog::v1::SliceDefinition& definition, int64_t revision,
                   const std::string& actor, const std::string& reason,
                   std::vector<Catalog::Operation>& operations);
  void ResumeBuilds(const std::vector<Catalog::Operation>& operations);

  absl::StatusOr<icepie::v1::Slice> SetMode(const std::string& name,
                                            icepie::v1::DesiredState::Mode mode,
                                            const std::string& actor, const std::string& reason);
  absl::Status EditForPromote(const icepie::v1::PromoteGenerationRequest& request,
                              const std::string& slice, CatalogDomain& domain,
                              int64_t& replaced_generation);
  void WaitForEpoch(const std::string& domain, int64_t epoch);
  void FinishSwap(const std::string& domain, const std::string& slice);

  Core& core_;
  Catalog& catalog_;
  Supervisor& supervisor_;
  Builds& builds_;
  AdminLog log_;
  DomainReader reader_;
  mutable Mutex mutex_;
  std::map<std::string, Replaced> replaced_ ABSL_GUARDED_BY(mutex_);  // by domain
  Executor background_;  // finishes swaps; last: its thread ends first
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_MANAGER_H_
