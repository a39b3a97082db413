// What an operator sees of a slice's bad records and does about them: groups first, then one record
// fetched from raw with the place of its error; trying them again, and acknowledging them.
#ifndef ICEPIE_SERVER_ADMIN_QUARANTINE_CALLS_H_
#define ICEPIE_SERVER_ADMIN_QUARANTINE_CALLS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/core.h"
#include "icepie/v1/admin.pb.h"
#include "server/admin/admin_action.h"
#include "server/admin/event_log.h"
#include "server/domain/catalog.h"
#include "server/domain/domain_manager.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

// Threads: any; every method blocks its caller for the workers, a bounded time.
// Errors: those of Admin. What fails has changed nothing.
class QuarantineCalls {
 public:
  QuarantineCalls(Core& core, Catalog& catalog, Supervisor& supervisor, DomainManager& manager);

  absl::StatusOr<icepie::v1::ListQuarantineGroupsResponse> Groups(
      const icepie::v1::ListQuarantineGroupsRequest& request) const;
  absl::StatusOr<icepie::v1::GetQuarantinedRecordResponse> Get(
      const icepie::v1::GetQuarantinedRecordRequest& request) const;
  absl::StatusOr<icepie::v1::RetryQuarantinedRecordsResponse> Retry(
      const icepie::v1::RetryQuarantinedRecordsRequest& request, AdminAction& action);
  absl::StatusOr<icepie::v1::Slice> Acknowledge(
      const icepie::v1::AcknowledgeQuarantineRequest& request, AdminAction& action);
  absl::StatusOr<icepie::v1::Slice> Withdraw(
      const icepie::v1::WithdrawAcknowledgementRequest& request, AdminAction& action);

 private:
  using Judgements = std::vector<icepie::v1::RecordJudgement>;

  absl::StatusOr<icepie::v1::Record> Read(int64_t position) const;
  std::vector<std::string> CommonHeaders(
      const icepie::v1::QuarantineGroup& group,
      const std::vector<icepie::v1::QuarantinedRecord>& records) const;
  // One for each record, from the live worker or the standby.
  absl::StatusOr<Judgements> Judge(const SliceName& slice,
                                   const std::vector<icepie::v1::Record>& records) const;
  absl::StatusOr<int64_t> CountReadable(
      const SliceName& slice, const icepie::v1::ListQuarantinedRecordsResponse& listed) const;
  absl::StatusOr<icepie::v1::Slice> TellWorkers(const SliceName& slice);
  absl::Status LookForReadable(const std::string& name, const SliceName& slice,
                               icepie::v1::RetryQuarantinedRecordsResponse& response) const;
  absl::Status RunRetry(const icepie::v1::RetryQuarantinedRecordsRequest& request,
                        AdminAction& action, icepie::v1::RetryQuarantinedRecordsResponse& response);

  Core& core_;
  Catalog& catalog_;
  Supervisor& supervisor_;
  DomainManager& manager_;
  const DomainReader& reader_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_QUARANTINE_CALLS_H_
