#include "server/admin/admin_service.h"

#include "server/base/call_time.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

constexpr absl::Duration kSnapshotMax = absl::Minutes(10);

}  // namespace

grpc::ServerUnaryReactor* AdminService::ApplyDomain(grpc::CallbackServerContext* context,
                                                    const v1::ApplyDomainRequest* request,
                                                    v1::ApplyDomainResponse* response) {
  return Act("ApplyDomain", applying_, context, request, response,
             [this, request](AdminAction& action) { return manager_.Apply(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::GetDomain(grpc::CallbackServerContext* context,
                                                  const v1::GetDomainRequest* request,
                                                  v1::Domain* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  FinishWith(reactor, manager_.reader().GetDomain(request->name(), request->revision()), response);
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::ListDomains(grpc::CallbackServerContext* context,
                                                    const v1::ListDomainsRequest* request,
                                                    v1::ListDomainsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  *response = manager_.reader().ListDomains(request->show_deleted());
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::DeleteDomain(grpc::CallbackServerContext* context,
                                                     const v1::DeleteDomainRequest* request,
                                                     v1::Domain* response) {
  return Act("DeleteDomain", quick_, context, request, response,
             [this, request](AdminAction& action) { return manager_.Delete(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::UndeleteDomain(grpc::CallbackServerContext* context,
                                                       const v1::UndeleteDomainRequest* request,
                                                       v1::Domain* response) {
  return Act("UndeleteDomain", LineOf(slow_, request->name()), context, request, response,
             [this, request](AdminAction& action) { return manager_.Undelete(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::ResliceSlice(grpc::CallbackServerContext* context,
                                                     const v1::ResliceSliceRequest* request,
                                                     google::longrunning::Operation* response) {
  return Act("ResliceSlice", quick_, context, request, response,
             [this, request](AdminAction& action) { return manager_.Reslice(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::DiffGenerations(grpc::CallbackServerContext* context,
                                                        const v1::DiffGenerationsRequest* request,
                                                        v1::GenerationDiff* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  FinishWith(reactor, manager_.Diff(*request), response);
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::PromoteGeneration(
    grpc::CallbackServerContext* context, const v1::PromoteGenerationRequest* request,
    v1::Slice* response) {
  return Act("PromoteGeneration", LineOf(slow_, request->name()), context, request, response,
             [this, request](AdminAction& action) { return manager_.Promote(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::RollbackSlice(grpc::CallbackServerContext* context,
                                                      const v1::RollbackSliceRequest* request,
                                                      v1::RollbackSliceResponse* response) {
  return Act("RollbackSlice", LineOf(slow_, request->name()), context, request, response,
             [this, request](AdminAction& action) { return manager_.Rollback(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::ListGenerations(grpc::CallbackServerContext* context,
                                                        const v1::ListGenerationsRequest* request,
                                                        v1::ListGenerationsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  FinishWith(reactor, manager_.reader().ListGenerations(request->name()), response);
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::ListDomainRevisions(
    grpc::CallbackServerContext* context, const v1::ListDomainRevisionsRequest* request,
    v1::ListDomainRevisionsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  FinishWith(reactor, manager_.reader().ListRevisions(request->name()), response);
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::ListQuarantinedRecords(
    grpc::CallbackServerContext* context, const v1::ListQuarantinedRecordsRequest* request,
    v1::ListQuarantinedRecordsResponse* response) {
  return UnaryOn(LineOf(looking_, request->name()), context, response,
                 [this, request] { return manager_.Quarantined(*request); });
}

grpc::ServerUnaryReactor* AdminService::ListQuarantineGroups(
    grpc::CallbackServerContext* context, const v1::ListQuarantineGroupsRequest* request,
    v1::ListQuarantineGroupsResponse* response) {
  return UnaryOn(LineOf(looking_, request->name()), context, response,
                 [this, request] { return quarantine_.Groups(*request); });
}

grpc::ServerUnaryReactor* AdminService::GetQuarantinedRecord(
    grpc::CallbackServerContext* context, const v1::GetQuarantinedRecordRequest* request,
    v1::GetQuarantinedRecordResponse* response) {
  return UnaryOn(LineOf(looking_, request->name()), context, response,
                 [this, request] { return quarantine_.Get(*request); });
}

grpc::ServerUnaryReactor* AdminService::RetryQuarantinedRecords(
    grpc::CallbackServerContext* context, const v1::RetryQuarantinedRecordsRequest* request,
    v1::RetryQuarantinedRecordsResponse* response) {
  return Act("RetryQuarantinedRecords", LineOf(slow_, request->name()), context, request, response,
             [this, request](AdminAction& action) { return quarantine_.Retry(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::AcknowledgeQuarantine(
    grpc::CallbackServerContext* context, const v1::AcknowledgeQuarantineRequest* request,
    v1::Slice* response) {
  return Act(
      "AcknowledgeQuarantine", quick_, context, request, response,
      [this, request](AdminAction& action) { return quarantine_.Acknowledge(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::WithdrawAcknowledgement(
    grpc::CallbackServerContext* context, const v1::WithdrawAcknowledgementRequest* request,
    v1::Slice* response) {
  return Act(
      "WithdrawAcknowledgement", quick_, context, request, response,
      [this, request](AdminAction& action) { return quarantine_.Withdraw(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::ListEvents(grpc::CallbackServerContext* context,
                                                   const v1::ListEventsRequest* request,
                                                   v1::ListEventsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  *response = server::ListEvents(events_, *request);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::ListExpectationResults(
    grpc::CallbackServerContext* context, const v1::ListExpectationResultsRequest* request,
    v1::ListExpectationResultsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  FinishWith(reactor, remedies_.ExpectationResults(*request), response);
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::WaiveExpectation(grpc::CallbackServerContext* context,
                                                         const v1::WaiveExpectationRequest* request,
                                                         v1::Slice* response) {
  return Act("WaiveExpectation", quick_, context, request, response,
             [this, request](AdminAction& action) { return remedies_.Waive(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::ClearSliceError(grpc::CallbackServerContext* context,
                                                        const v1::ClearSliceErrorRequest* request,
                                                        v1::Slice* response) {
  return Act(
      "ClearSliceError", quick_, context, request, response,
      [this, request](AdminAction& action) { return remedies_.ClearError(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::ListSnapshots(grpc::CallbackServerContext* context,
                                                      const v1::ListSnapshotsRequest* request,
                                                      v1::ListSnapshotsResponse* response) {
  return UnaryOn(quick_, context, response,
                 [this, request] { return manager_.ListSnapshots(*request); });
}

grpc::ServerUnaryReactor* AdminService::CreateSnapshot(grpc::CallbackServerContext* context,
                                                       const v1::CreateSnapshotRequest* request,
                                                       v1::Snapshot* response) {
  const absl::Duration timeout = TimeLeft(*context, kSnapshotMax);
  return Act("CreateSnapshot", LineOf(asking_, request->slice()), context, request, response,
             [this, request, timeout](AdminAction& action) {
               return manager_.CreateSnapshot(*request, action, timeout);
             });
}

grpc::ServerUnaryReactor* AdminService::DeleteSnapshot(grpc::CallbackServerContext* context,
                                                       const v1::DeleteSnapshotRequest* request,
                                                       v1::DeleteSnapshotResponse* response) {
  return Act(
      "DeleteSnapshot", quick_, context, request, response,
      [this, request](AdminAction& action) { return manager_.DeleteSnapshot(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::GetServerStatus(grpc::CallbackServerContext* context,
                                                        const v1::GetServerStatusRequest* request,
                                                        v1::ServerStatus* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  *response = status_(request->with_domains());
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace icepie::server
