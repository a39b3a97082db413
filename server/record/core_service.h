// icepie.v1.Core over gRPC: streams, appends, reading back.
#ifndef ICEPIE_SERVER_RECORD_CORE_SERVICE_H_
#define ICEPIE_SERVER_RECORD_CORE_SERVICE_H_

#include <functional>

#include "absl/status/statusor.h"
#include "core/core.h"
#include "icepie/v1/core.grpc.pb.h"
#include "server/admin/admin_action.h"
#include "server/admin/request_replay.h"
#include "server/base/drain_gate.h"
#include "server/base/executor.h"
#include "server/record/append_preparer.h"
#include "server/record/feed_scheduler.h"
#include "server/record/read_records_call.h"
#include "server/record/shared_blocks.h"

namespace icepie::server {

// As icepie::v1::Core::CallbackService, with the bytes of appends and of records read left as they
// are. That class cannot be the base: a method cannot be both, when only its result tells them
// apart.
using CookedCoreCalls = icepie::v1::Core::WithCallbackMethod_CreateStream<
    icepie::v1::Core::WithCallbackMethod_UpdateStream<
        icepie::v1::Core::WithCallbackMethod_GetStream<
            icepie::v1::Core::WithCallbackMethod_ListStreams<
                icepie::v1::Core::WithCallbackMethod_GetRecord<
                    icepie::v1::Core::WithCallbackMethod_TraceRecord<
                        icepie::v1::Core::WithCallbackMethod_GetCheckpoint<
                            icepie::v1::Core::WithCallbackMethod_GetInclusionProof<
                                icepie::v1::Core::WithCallbackMethod_GetConsistencyProof<
                                    icepie::v1::Core::WithCallbackMethod_VerifyCore<
                                        icepie::v1::Core::WithCallbackMethod_BackUpCore<
                                            icepie::v1::Core::Service>>>>>>>>>>>;
using CoreCalls = icepie::v1::Core::WithRawCallbackMethod_AppendRecords<
    icepie::v1::Core::WithRawCallbackMethod_StreamAppendRecords<
        icepie::v1::Core::WithRawCallbackMethod_ReadRecords<CookedCoreCalls>>>;

// Threads: gRPC's. Appends are prepared in those or, large ones, in threads of the service's own
//   (append_preparer.h), and answered from the core's sequencer; readers share two threads, single
//   reads two others.
// Errors: the core's, as server/base/rpc_status.h turns them into details.
// Lifetime: the core outlives it; the gRPC server that serves it is shut down before. That server
//   must accept messages of 8 MiB, so that the core and not gRPC refuses a batch that is too large.
class CoreService : public CoreCalls {
 public:
  // Adds to a response, whose record is set, what became of it in every slice; may wait for
  // seconds.
  using TraceSource = std::function<void(icepie::v1::TraceRecordResponse&)>;

  // Without `trace` there are no slices; changes are recorded in `log` if there is one.
  // Without `replay` a request_id is not looked at.
  explicit CoreService(icepie::Core* core, TraceSource trace = nullptr,
                       const ReaderLimits& reader_limits = {}, AdminLog* log = nullptr,
                       RequestReplay* replay = nullptr);

  // Refuses what is not under way yet, with SERVER_DRAINING.
  void Drain();
  bool WaitEmpty(absl::Time deadline);

  grpc::ServerUnaryReactor* CreateStream(grpc::CallbackServerContext* context,
                                         const icepie::v1::CreateStreamRequest* request,
                                         icepie::v1::Stream* response) override;
  grpc::ServerUnaryReactor* UpdateStream(grpc::CallbackServerContext* context,
                                         const icepie::v1::UpdateStreamRequest* request,
                                         icepie::v1::Stream* response) override;
  grpc::ServerUnaryReactor* GetStream(grpc::CallbackServerContext* context,
                                      const icepie::v1::GetStreamRequest* request,
                                      icepie::v1::Stream* response) override;
  grpc::ServerUnaryReactor* ListStreams(grpc::CallbackServerContext* context,
                                        const icepie::v1::ListStreamsRequest* request,
                                        icepie::v1::ListStreamsResponse* response) override;
  // Raw: append_preparer.h decodes them.
  grpc::ServerUnaryReactor* AppendRecords(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StreamAppendRecords(
      grpc::CallbackServerContext* context) override;
  // Raw: its messages are made of bytes that all readers share.
  grpc::ServerWriteReactor<grpc::ByteBuffer>* ReadRecords(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* GetRecord(grpc::CallbackServerContext* context,
                                      const icepie::v1::GetRecordRequest* request,
                                      icepie::v1::Record* response) override;
  grpc::ServerUnaryReactor* GetCheckpoint(grpc::CallbackServerContext* context,
                                          const icepie::v1::GetCheckpointRequest* request,
                                          icepie::v1::Checkpoint* response) override;
  grpc::ServerUnaryReactor* GetInclusionProof(grpc::CallbackServerContext* context,
                                              const icepie::v1::GetInclusionProofRequest* request,
                                              icepie::v1::InclusionProof* response) override;
  grpc::ServerUnaryReactor* GetConsistencyProof(
      grpc::CallbackServerContext* context, const icepie::v1::GetConsistencyProofRequest* request,
      icepie::v1::ConsistencyProof* response) override;
  grpc::ServerWriteReactor<icepie::v1::VerifyCoreResponse>* VerifyCore(
      grpc::CallbackServerContext* context, const icepie::v1::VerifyCoreRequest* request) override;
  grpc::ServerWriteReactor<icepie::v1::BackUpCoreResponse>* BackUpCore(
      grpc::CallbackServerContext* context, const icepie::v1::BackUpCoreRequest* request) override;

  grpc::ServerUnaryReactor* TraceRecord(grpc::CallbackServerContext* context,
                                        const icepie::v1::TraceRecordRequest* request,
                                        icepie::v1::TraceRecordResponse* response) override;

  // AppendRecords for other protocols; `done` is called once, maybe from another thread.
  using AppendDone = std::function<void(absl::StatusOr<icepie::v1::AppendRecordsResponse>)>;
  void Append(icepie::v1::AppendRecordsRequest request, const AppendDone& done);

  const Readers& readers() const { return readers_; }

 private:
  template <typename Request, typename Work>
  grpc::ServerUnaryReactor* Act(const char* name, grpc::CallbackServerContext* context,
                                const Request* request, icepie::v1::Stream* response, Work work);
  absl::StatusOr<icepie::v1::Stream> Create(const icepie::v1::CreateStreamRequest& request,
                                            AdminAction& action);
  absl::StatusOr<icepie::v1::Stream> Update(const icepie::v1::UpdateStreamRequest& request,
                                            AdminAction& action);
  void AppendNow(absl::StatusOr<AppendBatch> batch, const icepie::Core::AppendDone& answer);
  absl::StatusOr<icepie::v1::TraceRecordResponse> Trace(
      const icepie::v1::TraceRecordRequest& request) const;

  icepie::Core* const core_;
  const TraceSource trace_;
  DrainGate appends_;
  AdminLog* const log_;
  RequestReplay* const replay_;
  Readers readers_;
  FeedScheduler scheduler_;
  Executor executor_;
  Executor traces_;                 // apart: they wait for workers
  Executor verify_executor_{1, 2};  // one at a time: each reads the whole core
  Executor backup_executor_{1, 1};
  Executor proofs_executor_;  // its calls may wait for a signature
  AppendPreparer preparer_;   // first to go: what it holds uses the rest
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_CORE_SERVICE_H_
