#include "server/record/core_service.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "core/base/field_errors.h"
#include "core/base/status.h"
#include "server/admin/change_on.h"
#include "server/base/rpc_status.h"
#include "server/base/unary_on.h"
#include "server/record/backup_call.h"
#include "server/record/proof_calls.h"
#include "server/record/read_record.h"
#include "server/record/record_convert.h"
#include "server/record/stream_append_call.h"
#include "server/record/verify_call.h"
#include "slices/reading/payload_schema.h"

namespace icepie::server {
namespace {

constexpr int kReaderThreads = 2;
constexpr size_t kWaitingReadsMax = 1024;
constexpr size_t kWaitingTracesMax = 64;
constexpr int32_t kStreamsPageSize = 100;
constexpr int32_t kStreamsPageSizeMax = 1000;
constexpr size_t kStreamsPageBytes = size_t{1} << 20;  // then a page is full: names may be long
constexpr uint64_t kOtherProtocols = 2;  // as a peer: those who append by them wait in one line

icepie::v1::Stream ToMessage(const StreamInfo& stream) {
  icepie::v1::Stream message;
  SetStream(stream, message);
  return message;
}

// nullptr: none is given. What is no schema would make every record of the stream a bad one.
absl::StatusOr<std::shared_ptr<const StreamSchema>> SchemaOf(
    const icepie::v1::CreateStreamRequest& request) {
  if (!request.has_schema()) return nullptr;
  const auto& given = request.schema();
  ICEPIE_RETURN_IF_ERROR(
      slices::PayloadSchema::Make(given.descriptor_set(), given.message()).status());
  return std::make_shared<StreamSchema>(StreamSchema{given.descriptor_set(), given.message()});
}

}  // namespace

CoreService::CoreService(icepie::Core* core, TraceSource trace, const ReaderLimits& reader_limits,
                         AdminLog* log, RequestReplay* replay)
    : core_(core),
      trace_(std::move(trace)),
      log_(log),
      replay_(replay),
      readers_(core, reader_limits),
      scheduler_(core, kReaderThreads),
      executor_(kReaderThreads, kWaitingReadsMax),
      traces_(kReaderThreads, kWaitingTracesMax),
      proofs_executor_(kReaderThreads, kWaitingReadsMax) {}

template <typename Request, typename Work>
grpc::ServerUnaryReactor* CoreService::Act(const char* name, grpc::CallbackServerContext* context,
                                           const Request* request, icepie::v1::Stream* response,
                                           Work work) {
  const auto run = [this, name, request, work] {
    return RunAction(log_, name, request->actor(), *request, work);
  };
  if (replay_ == nullptr) return UnaryOn(executor_, context, response, run);
  return ChangeOn(executor_, *replay_, context, name, request, response, run);
}

grpc::ServerUnaryReactor* CoreService::CreateStream(grpc::CallbackServerContext* context,
                                                    const icepie::v1::CreateStreamRequest* request,
                                                    icepie::v1::Stream* response) {
  return Act("CreateStream", context, request, response,
             [this, request](AdminAction& action) { return Create(*request, action); });
}

grpc::ServerUnaryReactor* CoreService::UpdateStream(grpc::CallbackServerContext* context,
                                                    const icepie::v1::UpdateStreamRequest* request,
                                                    icepie::v1::Stream* response) {
  return Act("UpdateStream", context, request, response,
             [this, request](AdminAction& action) { return Update(*request, action); });
}

absl::StatusOr<icepie::v1::Stream> CoreService::Create(
    const icepie::v1::CreateStreamRequest& request, AdminAction& action) {
  const absl::StatusOr<PayloadFormat> format = FormatOf(request.format());
  const StreamPaths paths{request.key_path(), request.event_time_path()};
  const auto schema = SchemaOf(request);
  // Of what is none the core may say more, which counts only for other fields.
  const absl::StatusOr<bool> changes =
      core_->CheckCreate(request.name(), format.value_or(PayloadFormat::kJson), paths,
                         schema.value_or(std::shared_ptr<const StreamSchema>()));
  FieldErrors errors;
  errors.Add(format.status());
  errors.Add(schema.status());
  errors.Add(changes.status());
  if (!errors.empty()) return errors.ToStatus();
  if (*changes) ICEPIE_RETURN_IF_ERROR(action.Begin());
  ICEPIE_ASSIGN_OR_RETURN(const StreamInfo stream,
                          core_->CreateStream(request.name(), *format, paths, *schema));
  return ToMessage(stream);
}

absl::StatusOr<icepie::v1::Stream> CoreService::Update(
    const icepie::v1::UpdateStreamRequest& request, AdminAction& action) {
  icepie::Core::StreamChange change;
  if (request.has_key_path()) change.key_path = request.key_path();
  if (request.has_event_time_path()) change.event_time_path = request.event_time_path();
  ICEPIE_RETURN_IF_ERROR(core_->CheckUpdate(request.name(), change));
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  ICEPIE_ASSIGN_OR_RETURN(const StreamInfo stream, core_->UpdateStream(request.name(), change));
  return ToMessage(stream);
}

grpc::ServerUnaryReactor* CoreService::GetStream(grpc::CallbackServerContext* context,
                                                 const icepie::v1::GetStreamRequest* request,
                                                 icepie::v1::Stream* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<StreamInfo> stream = core_->GetStream(request->name());
  if (stream.ok()) SetStream(*stream, *response);
  reactor->Finish(ToGrpcStatus(stream.status()));
  return reactor;
}

grpc::ServerUnaryReactor* CoreService::ListStreams(grpc::CallbackServerContext* context,
                                                   const icepie::v1::ListStreamsRequest* request,
                                                   icepie::v1::ListStreamsResponse* response) {
  const int32_t asked = request->page_size() > 0 ? request->page_size() : kStreamsPageSize;
  const auto size = static_cast<size_t>(std::min(asked, kStreamsPageSizeMax));
  size_t bytes = 0;
  for (const StreamInfo& stream : core_->ListStreams(request->after_name(), size + 1)) {
    const auto count = static_cast<size_t>(response->streams_size());
    response->set_more(count == size || bytes > kStreamsPageBytes);
    if (response->more()) break;
    icepie::v1::Stream* out = response->add_streams();
    SetStream(stream, *out);
    if (out->has_schema()) out->mutable_schema()->clear_descriptor_set();
    bytes += out->ByteSizeLong();
  }
  response->set_head_position(core_->head_position());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

void CoreService::Drain() {
  appends_.Close();
  scheduler_.Drain();  // followers end at the head; others go on as long as they may
  for (Executor* executor : {&executor_, &traces_, &verify_executor_, &proofs_executor_}) {
    executor->Drain();
  }
}

bool CoreService::WaitEmpty(absl::Time deadline) {
  return appends_.WaitEmpty(deadline) && executor_.WaitEmpty(deadline) &&
         traces_.WaitEmpty(deadline) && proofs_executor_.WaitEmpty(deadline);
}

grpc::ServerUnaryReactor* CoreService::AppendRecords(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto answer = [reactor, response](const absl::StatusOr<AppendResult>& result) {
    if (result.ok()) *response = ResponseBytes(*result);
    reactor->Finish(ToGrpcStatus(result.status()));
  };
  const absl::Status taken = preparer_.Run(
      *request, PeerOf(*context),
      [this, answer](absl::StatusOr<AppendBatch> batch) { AppendNow(std::move(batch), answer); });
  if (!taken.ok()) reactor->Finish(ToGrpcStatus(taken));
  return reactor;
}

void CoreService::Append(icepie::v1::AppendRecordsRequest request, const AppendDone& done) {
  const auto answer = [done](const absl::StatusOr<AppendResult>& result) {
    if (!result.ok()) return done(result.status());
    icepie::v1::AppendRecordsResponse response;
    SetResponse(*result, response);
    done(std::move(response));
  };
  const absl::Status taken = preparer_.Run(
      std::move(request), kOtherProtocols,
      [this, answer](absl::StatusOr<AppendBatch> batch) { AppendNow(std::move(batch), answer); });
  if (!taken.ok()) done(taken);
}

void CoreService::AppendNow(absl::StatusOr<AppendBatch> batch, const Core::AppendDone& answer) {
  if (!batch.ok()) return answer(batch.status());
  if (!appends_.Enter()) return answer(Draining());
  core_->Append(std::move(batch).value(),
                [this, answer](const absl::StatusOr<AppendResult>& result) {
                  answer(result);
                  appends_.Leave();
                });
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* CoreService::StreamAppendRecords(
    grpc::CallbackServerContext* context) {
  return StreamAppendCall::Start(core_, &appends_, &preparer_, PeerOf(*context));
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* CoreService::ReadRecords(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return ReadRecordsCall::Start(
      std::make_shared<ReadRecordsCall>(core_, &readers_, &scheduler_, context, *request));
}

grpc::ServerUnaryReactor* CoreService::GetRecord(grpc::CallbackServerContext* context,
                                                 const icepie::v1::GetRecordRequest* request,
                                                 icepie::v1::Record* response) {
  return UnaryOn(executor_, context, response,
                 [this, request] { return ReadRecord(*core_, *request); });
}

absl::StatusOr<icepie::v1::TraceRecordResponse> CoreService::Trace(
    const icepie::v1::TraceRecordRequest& request) const {
  icepie::v1::GetRecordRequest get;
  get.set_position(request.position());
  icepie::v1::TraceRecordResponse response;
  ICEPIE_ASSIGN_OR_RETURN(*response.mutable_record(), ReadRecord(*core_, get));
  if (trace_) trace_(response);
  response.set_head_position(core_->head_position());
  return response;
}

grpc::ServerUnaryReactor* CoreService::TraceRecord(grpc::CallbackServerContext* context,
                                                   const icepie::v1::TraceRecordRequest* request,
                                                   icepie::v1::TraceRecordResponse* response) {
  return UnaryOn(traces_, context, response, [this, request] { return Trace(*request); });
}

grpc::ServerUnaryReactor* CoreService::GetCheckpoint(
    grpc::CallbackServerContext* context, const icepie::v1::GetCheckpointRequest* request,
    icepie::v1::Checkpoint* response) {
  const absl::Duration wait = ProofWait(*context);
  return UnaryOn(proofs_executor_, context, response,
                 [this, request, wait] { return ReadCheckpoint(*core_, *request, wait); });
}

grpc::ServerUnaryReactor* CoreService::GetInclusionProof(
    grpc::CallbackServerContext* context, const icepie::v1::GetInclusionProofRequest* request,
    icepie::v1::InclusionProof* response) {
  const absl::Duration wait = ProofWait(*context);
  return UnaryOn(proofs_executor_, context, response,
                 [this, request, wait] { return ProveInclusion(*core_, *request, wait); });
}

grpc::ServerUnaryReactor* CoreService::GetConsistencyProof(
    grpc::CallbackServerContext* context, const icepie::v1::GetConsistencyProofRequest* request,
    icepie::v1::ConsistencyProof* response) {
  return UnaryOn(proofs_executor_, context, response,
                 [this, request] { return ProveConsistency(*core_, *request); });
}

grpc::ServerWriteReactor<icepie::v1::VerifyCoreResponse>* CoreService::VerifyCore(
    grpc::CallbackServerContext* /*context*/, const icepie::v1::VerifyCoreRequest* request) {
  auto* call = new VerifyCall(core_, request->older_checkpoint());
  call->Start(verify_executor_, "verification");
  return call;
}

grpc::ServerWriteReactor<icepie::v1::BackUpCoreResponse>* CoreService::BackUpCore(
    grpc::CallbackServerContext* /*context*/, const icepie::v1::BackUpCoreRequest* request) {
  auto* call = new BackupCall(core_, log_, *request);
  call->Start(backup_executor_, "backup");
  return call;
}

}  // namespace icepie::server
