#include "server/supervisor/worker_client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"

namespace icepie::server {

// The calls of one client that would wait for a worker that has died.
// Threads: any. Calls are cancelled outside of the lock: their ends come in the thread that does.
class QueriesUnderWay {
 public:
  using Context = std::shared_ptr<grpc::ClientContext>;

  void Add(const Context& context) {
    {
      const MutexLock lock(mutex_);
      contexts_.insert(context);
      if (!abandoned_) return;
    }
    context->TryCancel();
  }
  void Remove(const Context& context) {
    const MutexLock lock(mutex_);
    contexts_.erase(context);
  }
  void Abandon() {
    std::set<Context> contexts;
    {
      const MutexLock lock(mutex_);
      abandoned_ = true;
      contexts = contexts_;
    }
    for (const Context& context : contexts) context->TryCancel();
  }
  bool abandoned() const {
    const MutexLock lock(mutex_);
    return abandoned_;
  }

 private:
  mutable Mutex mutex_;
  bool abandoned_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<Context> contexts_ ABSL_GUARDED_BY(mutex_);
};

namespace {

namespace wv1 = icepie::worker::v1;

// A worker is of our own build, but it ran users' SQL: what it sends is bounded.
constexpr int kMessageBytesMax = 16 << 20;

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& socket_path) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetMaxSendMessageSize(-1);
  // The socket appears a moment after the process: look for it often.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(absl::StrCat("unix:", socket_path),
                                   grpc::InsecureChannelCredentials(), arguments);
}

// What a unary call needs until its answer is there.
template <typename Request, typename Response>
struct UnaryCall {
  std::shared_ptr<wv1::Worker::Stub> stub;
  grpc::ClientContext context;
  Request request;
  Response response;
  WorkerClient::Done<Response> done;
};

using Async = wv1::Worker::StubInterface::async_interface;

template <typename Request, typename Response>
void StartUnary(const std::shared_ptr<wv1::Worker::Stub>& stub,
                void (Async::*method)(grpc::ClientContext*, const Request*, Response*,
                                      std::function<void(grpc::Status)>),
                const Request& request, absl::Duration timeout, bool wait_for_start,
                WorkerClient::Done<Response> done) {
  auto call = std::make_shared<UnaryCall<Request, Response>>();
  call->stub = stub;
  call->request = request;
  call->done = std::move(done);
  call->context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  call->context.set_wait_for_ready(wait_for_start);
  Async* async = call->stub->async();
  (async->*method)(&call->context, &call->request, &call->response,
                   [call](const grpc::Status& status) {
                     if (!status.ok()) {
                       call->done(FromGrpcStatus(status));
                       return;
                     }
                     call->done(std::move(call->response));
                   });
}

// gRPC 1.51 ends the threads that run callbacks together with the last channel that uses them, and
// when one of these threads itself holds that channel, it aborts the process ("prior > 0", once in
// about a hundred channels). One stub that has made a call and is never closed keeps them.
void KeepCallbackThreads() {
  static const auto* const kept = [] {
    auto* stub = new std::shared_ptr<wv1::Worker::Stub>(
        wv1::Worker::NewStub(MakeChannel("/nonexistent/icepie.sock")));
    StartUnary<wv1::GetStatusRequest, wv1::WorkerReport>(
        *stub, &Async::GetStatus, {}, absl::ZeroDuration(), false, [](const auto&) {});
    return stub;
  }();
  static_cast<void>(kept);
}

// Collects a query's stream; deletes itself when the call is over.
class QueryCall final : public grpc::ClientReadReactor<wv1::WorkerQueryResponse> {
 public:
  QueryCall(std::shared_ptr<wv1::Worker::Stub> stub, std::shared_ptr<QueriesUnderWay> others,
            wv1::WorkerQueryRequest request, absl::Time deadline, AnswerRoom room,
            WorkerClient::Done<WorkerAnswer> done, QueriesUnderWay::Context context)
      : stub_(std::move(stub)),
        others_(std::move(others)),
        request_(std::move(request)),
        context_(context ? std::move(context) : std::make_shared<grpc::ClientContext>()),
        bytes_max_(room.bytes_max),
        done_(std::move(done)) {
    answer_.share = std::move(room.share);
    context_->set_deadline(absl::ToChronoTime(deadline));
    stub_->async()->Query(context_.get(), &request_, this);
    others_->Add(context_);
    StartRead(&part_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (part_.has_header()) {
      answer_.header.Swap(part_.mutable_header());
      has_header_ = true;
    } else if (part_.has_body()) {
      AddBody(part_.body());
    } else if (part_.has_end()) {
      answer_.row_count = part_.end().row_count();
      has_end_ = true;
    }
    StartRead(&part_);
  }

  void OnDone(const grpc::Status& status) override {
    others_->Remove(context_);
    done_(Result(status));
    delete this;
  }

 private:
  void AddBody(const std::string& piece) {
    if (!error_.ok()) return;
    error_ = MakeRoom(static_cast<int64_t>(answer_.body.size() + piece.size()));
    if (error_.ok()) {
      answer_.body.append(piece);
      return;
    }
    answer_.body = std::string();
    answer_.share.reset();
    context_->TryCancel();
  }

  // The body grows by more than is needed now, so that it is seldom copied, but only by what is
  // accounted for.
  absl::Status MakeRoom(int64_t bytes) {
    if (bytes > bytes_max_) {
      return MakeError(absl::StatusCode::kResourceExhausted,
                       absl::StrCat("the answer is larger than ", bytes_max_ >> 20,
                                    " MiB; select fewer rows or columns"),
                       "RESULT_TOO_LARGE");
    }
    if (bytes <= static_cast<int64_t>(answer_.body.capacity())) return absl::OkStatus();
    const int64_t roomy = std::min(bytes_max_, bytes + bytes / 4);
    ICEPIE_ASSIGN_OR_RETURN(const int64_t room, answer_.share->Grow(bytes, roomy));
    answer_.body.reserve(static_cast<size_t>(room));
    return absl::OkStatus();
  }

  absl::StatusOr<WorkerAnswer> Result(const grpc::Status& status) {
    if (!error_.ok()) return error_;
    if (status.error_code() == grpc::StatusCode::CANCELLED && others_->abandoned()) {
      return absl::UnavailableError("the worker has died");
    }
    if (!status.ok()) return FromGrpcStatus(status);
    // An answer without its end was cut: never hand out a part as the whole.
    if (!has_header_ || (!has_end_ && !answer_.header.not_modified())) {
      return absl::UnavailableError("the worker's answer ended early");
    }
    return std::move(answer_);
  }

  std::shared_ptr<wv1::Worker::Stub> stub_;
  std::shared_ptr<QueriesUnderWay> others_;
  wv1::WorkerQueryRequest request_;
  const QueriesUnderWay::Context context_;
  wv1::WorkerQueryResponse part_;
  int64_t bytes_max_;
  WorkerAnswer answer_;
  absl::Status error_;
  bool has_header_ = false;
  bool has_end_ = false;
  WorkerClient::Done<WorkerAnswer> done_;
};

}  // namespace

WorkerClient::WorkerClient(const std::string& socket_path)
    : stub_(wv1::Worker::NewStub(MakeChannel(socket_path))),
      queries_(std::make_shared<QueriesUnderWay>()) {
  KeepCallbackThreads();
}

void WorkerClient::GetStatus(absl::Duration timeout, bool wait_for_start,
                             Done<wv1::WorkerReport> done) {
  StartUnary<wv1::GetStatusRequest, wv1::WorkerReport>(stub_, &Async::GetStatus, {}, timeout,
                                                       wait_for_start, std::move(done));
}

void WorkerClient::Configure(const wv1::Assignment& request, absl::Duration timeout,
                             Done<wv1::ConfigureResponse> done) {
  StartUnary<wv1::Assignment, wv1::ConfigureResponse>(stub_, &Async::Configure, request, timeout,
                                                      false, std::move(done));
}

void WorkerClient::RefreshSlice(const std::string& slice, int64_t min_position,
                                absl::Duration timeout, Done<wv1::RefreshResponse> done) {
  wv1::RefreshRequest request;
  request.set_slice(slice);
  request.set_min_position(min_position);
  StartUnary<wv1::RefreshRequest, wv1::RefreshResponse>(stub_, &Async::RefreshSlice, request,
                                                        timeout, false, std::move(done));
}

void WorkerClient::ListQuarantinedRecords(const icepie::v1::ListQuarantinedRecordsRequest& request,
                                          absl::Duration timeout,
                                          Done<icepie::v1::ListQuarantinedRecordsResponse> done) {
  StartUnary<icepie::v1::ListQuarantinedRecordsRequest, icepie::v1::ListQuarantinedRecordsResponse>(
      stub_, &Async::ListQuarantinedRecords, request, timeout, false, std::move(done));
}

void WorkerClient::NameSnapshot(const wv1::NameSnapshotRequest& request, absl::Duration timeout,
                                Done<wv1::NameSnapshotResponse> done) {
  StartUnary<wv1::NameSnapshotRequest, wv1::NameSnapshotResponse>(
      stub_, &Async::NameSnapshot, request, timeout, false, std::move(done));
}

void WorkerClient::JudgeRecords(const wv1::JudgeRecordsRequest& request, absl::Duration timeout,
                                Done<wv1::JudgeRecordsResponse> done) {
  StartUnary<wv1::JudgeRecordsRequest, wv1::JudgeRecordsResponse>(
      stub_, &Async::JudgeRecords, request, timeout, false, std::move(done));
}

void WorkerClient::TraceRecord(const wv1::TraceRecordRequest& request, absl::Duration timeout,
                               Done<wv1::TraceRecordResponse> done) {
  StartUnary<wv1::TraceRecordRequest, wv1::TraceRecordResponse>(stub_, &Async::TraceRecord, request,
                                                                timeout, false, std::move(done));
}

void WorkerClient::PlanDomain(const wv1::PlanDomainRequest& request, absl::Duration timeout,
                              Done<wv1::PlanDomainResponse> done) {
  StartUnary<wv1::PlanDomainRequest, wv1::PlanDomainResponse>(stub_, &Async::PlanDomain, request,
                                                              timeout, true, std::move(done));
}

void WorkerClient::Query(const wv1::WorkerQueryRequest& request, absl::Time deadline,
                         AnswerRoom room, Done<WorkerAnswer> done,
                         std::shared_ptr<grpc::ClientContext> context) {
  new QueryCall(stub_, queries_, request, deadline, std::move(room), std::move(done),
                std::move(context));
}

void WorkerClient::Abandon() { queries_->Abandon(); }

}  // namespace icepie::server
