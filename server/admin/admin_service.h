// icepie.v1.Admin over gRPC.
#ifndef ICEPIE_SERVER_ADMIN_ADMIN_SERVICE_H_
#define ICEPIE_SERVER_ADMIN_ADMIN_SERVICE_H_

#include <array>
#include <functional>

#include "icepie/v1/admin.grpc.pb.h"
#include "server/admin/admin_action.h"
#include "server/admin/change_on.h"
#include "server/admin/event_calls.h"
#include "server/admin/log_calls.h"
#include "server/admin/quarantine_calls.h"
#include "server/admin/request_replay.h"
#include "server/admin/roll_call.h"
#include "server/admin/slice_control.h"
#include "server/admin/slice_remedies.h"
#include "server/base/executor.h"
#include "server/domain/domain_manager.h"

namespace icepie::server {

// Threads: gRPC's. Calls that wait run on executors of their kind, so that a freeze never queues
//   behind promotions and plans. Nor does it behind other freezes: each keeps its thread until its
//   worker has saved what is frozen, and what is not begun is not even stored. Promotions do not
//   queue behind plans. And what only asks a worker for something, which may not answer, keeps no
//   change waiting, nor other domains' calls; nor does what may take minutes, as a refresh, keep a
//   look at the quarantine waiting.
class AdminService final : public icepie::v1::Admin::CallbackService {
 public:
  using StatusSource = std::function<icepie::v1::ServerStatus(bool with_domains)>;

  AdminService(DomainManager& manager, SliceControl& control, SliceRemedies& remedies,
               QuarantineCalls& quarantine, AdminLog& log, RequestReplay& replay, EventLog& events,
               LogTails& logs, StatusSource status)
      : manager_(manager),
        control_(control),
        remedies_(remedies),
        quarantine_(quarantine),
        log_(log),
        replay_(replay),
        events_(events),
        logs_(logs),
        status_(std::move(status)),
        quick_(64, 256),
        slow_(8, 64),
        applying_(8, 64),
        asking_(16, 256),
        looking_(32, 128, /*at_once_max=*/1) {}

  // Refuses what is not under way yet, with SERVER_DRAINING.
  void Drain() {
    for (Executor* executor : Executors()) executor->Drain();
    events_.EndWatches();
    logs_.Drain();
  }
  bool WaitEmpty(absl::Time deadline) {
    bool empty = true;
    for (Executor* executor : Executors()) empty = empty && executor->WaitEmpty(deadline);
    return empty;
  }

  grpc::ServerUnaryReactor* ApplyDomain(grpc::CallbackServerContext* context,
                                        const icepie::v1::ApplyDomainRequest* request,
                                        icepie::v1::ApplyDomainResponse* response) override;
  grpc::ServerUnaryReactor* GetDomain(grpc::CallbackServerContext* context,
                                      const icepie::v1::GetDomainRequest* request,
                                      icepie::v1::Domain* response) override;
  grpc::ServerUnaryReactor* ListDomains(grpc::CallbackServerContext* context,
                                        const icepie::v1::ListDomainsRequest* request,
                                        icepie::v1::ListDomainsResponse* response) override;
  grpc::ServerUnaryReactor* DeleteDomain(grpc::CallbackServerContext* context,
                                         const icepie::v1::DeleteDomainRequest* request,
                                         icepie::v1::Domain* response) override;
  grpc::ServerUnaryReactor* UndeleteDomain(grpc::CallbackServerContext* context,
                                           const icepie::v1::UndeleteDomainRequest* request,
                                           icepie::v1::Domain* response) override;
  grpc::ServerUnaryReactor* FreezeSlice(grpc::CallbackServerContext* context,
                                        const icepie::v1::FreezeSliceRequest* request,
                                        icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* ThawSlice(grpc::CallbackServerContext* context,
                                      const icepie::v1::ThawSliceRequest* request,
                                      icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* SuspendSlice(grpc::CallbackServerContext* context,
                                         const icepie::v1::SuspendSliceRequest* request,
                                         icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* ResumeSlice(grpc::CallbackServerContext* context,
                                        const icepie::v1::ResumeSliceRequest* request,
                                        icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* RestartSlice(grpc::CallbackServerContext* context,
                                         const icepie::v1::RestartSliceRequest* request,
                                         icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* FreezeDomain(grpc::CallbackServerContext* context,
                                         const icepie::v1::ChangeDomainRequest* request,
                                         icepie::v1::ListSlicesResponse* response) override;
  grpc::ServerUnaryReactor* ThawDomain(grpc::CallbackServerContext* context,
                                       const icepie::v1::ChangeDomainRequest* request,
                                       icepie::v1::ListSlicesResponse* response) override;
  grpc::ServerUnaryReactor* SuspendDomain(grpc::CallbackServerContext* context,
                                          const icepie::v1::ChangeDomainRequest* request,
                                          icepie::v1::ListSlicesResponse* response) override;
  grpc::ServerUnaryReactor* ResumeDomain(grpc::CallbackServerContext* context,
                                         const icepie::v1::ChangeDomainRequest* request,
                                         icepie::v1::ListSlicesResponse* response) override;
  grpc::ServerUnaryReactor* RestartDomain(grpc::CallbackServerContext* context,
                                          const icepie::v1::ChangeDomainRequest* request,
                                          icepie::v1::ListSlicesResponse* response) override;
  grpc::ServerUnaryReactor* RefreshDomain(grpc::CallbackServerContext* context,
                                          const icepie::v1::ChangeDomainRequest* request,
                                          icepie::v1::ListSlicesResponse* response) override;
  grpc::ServerWriteReactor<icepie::v1::RollWorkersResponse>* RollWorkers(
      grpc::CallbackServerContext* /*context*/,
      const icepie::v1::RollWorkersRequest* request) override {
    return RollCall::Start(control_, log_, replay_, slow_, *request);
  }
  grpc::ServerUnaryReactor* LeaveSafeMode(grpc::CallbackServerContext* context,
                                          const icepie::v1::LeaveSafeModeRequest* request,
                                          icepie::v1::ServerStatus* response) override;
  grpc::ServerUnaryReactor* RefreshSlice(grpc::CallbackServerContext* context,
                                         const icepie::v1::RefreshSliceRequest* request,
                                         icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* ResliceSlice(grpc::CallbackServerContext* context,
                                         const icepie::v1::ResliceSliceRequest* request,
                                         google::longrunning::Operation* response) override;
  grpc::ServerUnaryReactor* DiffGenerations(grpc::CallbackServerContext* context,
                                            const icepie::v1::DiffGenerationsRequest* request,
                                            icepie::v1::GenerationDiff* response) override;
  grpc::ServerUnaryReactor* PromoteGeneration(grpc::CallbackServerContext* context,
                                              const icepie::v1::PromoteGenerationRequest* request,
                                              icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* RollbackSlice(grpc::CallbackServerContext* context,
                                          const icepie::v1::RollbackSliceRequest* request,
                                          icepie::v1::RollbackSliceResponse* response) override;
  grpc::ServerUnaryReactor* ListGenerations(grpc::CallbackServerContext* context,
                                            const icepie::v1::ListGenerationsRequest* request,
                                            icepie::v1::ListGenerationsResponse* response) override;
  grpc::ServerUnaryReactor* ListDomainRevisions(
      grpc::CallbackServerContext* context, const icepie::v1::ListDomainRevisionsRequest* request,
      icepie::v1::ListDomainRevisionsResponse* response) override;
  grpc::ServerUnaryReactor* ListQuarantinedRecords(
      grpc::CallbackServerContext* context,
      const icepie::v1::ListQuarantinedRecordsRequest* request,
      icepie::v1::ListQuarantinedRecordsResponse* response) override;
  grpc::ServerUnaryReactor* ListQuarantineGroups(
      grpc::CallbackServerContext* context, const icepie::v1::ListQuarantineGroupsRequest* request,
      icepie::v1::ListQuarantineGroupsResponse* response) override;
  grpc::ServerUnaryReactor* GetQuarantinedRecord(
      grpc::CallbackServerContext* context, const icepie::v1::GetQuarantinedRecordRequest* request,
      icepie::v1::GetQuarantinedRecordResponse* response) override;
  grpc::ServerUnaryReactor* RetryQuarantinedRecords(
      grpc::CallbackServerContext* context,
      const icepie::v1::RetryQuarantinedRecordsRequest* request,
      icepie::v1::RetryQuarantinedRecordsResponse* response) override;
  grpc::ServerUnaryReactor* WithdrawAcknowledgement(
      grpc::CallbackServerContext* context,
      const icepie::v1::WithdrawAcknowledgementRequest* request,
      icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* AcknowledgeQuarantine(
      grpc::CallbackServerContext* context, const icepie::v1::AcknowledgeQuarantineRequest* request,
      icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* ListEvents(grpc::CallbackServerContext* context,
                                       const icepie::v1::ListEventsRequest* request,
                                       icepie::v1::ListEventsResponse* response) override;
  grpc::ServerWriteReactor<icepie::v1::Event>* WatchEvents(
      grpc::CallbackServerContext* /*context*/,
      const icepie::v1::WatchEventsRequest* request) override {
    return WatchEventsCall::Start(events_, *request);
  }
  grpc::ServerWriteReactor<icepie::v1::LogLine>* TailLogs(
      grpc::CallbackServerContext* /*context*/,
      const icepie::v1::TailLogsRequest* request) override {
    return logs_.Start(*request);
  }
  grpc::ServerUnaryReactor* ClearSliceError(grpc::CallbackServerContext* context,
                                            const icepie::v1::ClearSliceErrorRequest* request,
                                            icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* ListExpectationResults(
      grpc::CallbackServerContext* context,
      const icepie::v1::ListExpectationResultsRequest* request,
      icepie::v1::ListExpectationResultsResponse* response) override;
  grpc::ServerUnaryReactor* WaiveExpectation(grpc::CallbackServerContext* context,
                                             const icepie::v1::WaiveExpectationRequest* request,
                                             icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* ListSnapshots(grpc::CallbackServerContext* context,
                                          const icepie::v1::ListSnapshotsRequest* request,
                                          icepie::v1::ListSnapshotsResponse* response) override;
  grpc::ServerUnaryReactor* CreateSnapshot(grpc::CallbackServerContext* context,
                                           const icepie::v1::CreateSnapshotRequest* request,
                                           icepie::v1::Snapshot* response) override;
  grpc::ServerUnaryReactor* DeleteSnapshot(grpc::CallbackServerContext* context,
                                           const icepie::v1::DeleteSnapshotRequest* request,
                                           icepie::v1::DeleteSnapshotResponse* response) override;
  grpc::ServerUnaryReactor* GetServerStatus(grpc::CallbackServerContext* context,
                                            const icepie::v1::GetServerStatusRequest* request,
                                            icepie::v1::ServerStatus* response) override;

 private:
  std::array<Executor*, 5> Executors() {
    return {&quick_, &slow_, &applying_, &asking_, &looking_};
  }

  // The line of a domain, by its name or a slice's.
  static ExecutorLine LineOf(Executor& executor, const std::string& name) {
    return {executor, name.substr(0, name.find('.'))};
  }
  // UnaryOn for what changes something: who asked for it and how it ended is recorded. `work` takes
  // the AdminAction.
  template <typename Request, typename Response, typename Work>
  grpc::ServerUnaryReactor* Act(const char* name, const ExecutorLine& at,
                                grpc::CallbackServerContext* context, const Request* request,
                                Response* response, Work work) {
    const auto run = [this, name, request, work = std::move(work)] {
      return RunAction(&log_, name, request->actor(), *request, work);
    };
    return ChangeOn(at, replay_, context, name, request, response, run);
  }

  DomainManager& manager_;
  SliceControl& control_;
  SliceRemedies& remedies_;
  QuarantineCalls& quarantine_;
  AdminLog& log_;
  RequestReplay& replay_;
  EventLog& events_;
  LogTails& logs_;
  StatusSource status_;
  Executor quick_;
  Executor slow_;
  Executor applying_;
  Executor asking_;  // what may take minutes
  // What is answered at once, or in vain after 20 s where the worker stands still: one of a domain
  // at a time, so that few domains keep no other's waiting.
  Executor looking_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_ADMIN_SERVICE_H_
