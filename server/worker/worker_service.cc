#include "server/worker/worker_service.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "server/worker/convert.h"
#include "server/worker/process_limits.h"
#include "slices/apply/record_judge.h"
#include "slices/definition/definition.h"
#include "slices/plan/plan.h"

namespace icepie::server {
namespace {

constexpr size_t kPlansKept = 8;

using icepie::worker::v1::WorkerQueryResponse;

constexpr size_t kPieceBytes = size_t{1} << 20;

// Writes an answer as header, pieces of the body and end. Lives until the call is over.
class QueryReactor : public grpc::ServerWriteReactor<WorkerQueryResponse> {
 public:
  // Once, from any thread.
  void Deliver(absl::StatusOr<slices::Answer> answer) {
    if (!answer.ok()) return Finish(ToGrpcStatus(answer.status()));
    answer_ = *std::move(answer);
    ToProto(answer_, response_.mutable_header());
    StartWrite(&response_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the caller has gone"));
    WriteNext();
  }

  void OnCancel() override { *given_up_ = true; }

  void OnDone() override { delete this; }

  // Whether the caller has gone.
  std::shared_ptr<const std::atomic<bool>> given_up() const { return given_up_; }

 private:
  void WriteNext() {
    const std::string& body = answer_.rows.body;
    response_.Clear();
    if (written_ < body.size() && !answer_.not_modified) {
      const size_t size = std::min(kPieceBytes, body.size() - written_);
      response_.set_body(body.data() + written_, size);
      written_ += size;
      return StartWrite(&response_);
    }
    response_.mutable_end()->set_row_count(answer_.rows.row_count);
    response_.mutable_end()->set_byte_count(static_cast<int64_t>(body.size()));
    StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
  }

  const std::shared_ptr<std::atomic<bool>> given_up_ = std::make_shared<std::atomic<bool>>(false);
  slices::Answer answer_;
  WorkerQueryResponse response_;
  size_t written_ = 0;
};

grpc::ServerUnaryReactor* Finished(grpc::CallbackServerContext* context,
                                   const absl::Status& status) {
  auto* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

absl::Status Plan(const icepie::worker::v1::PlanDomainRequest& request,
                  icepie::worker::v1::PlanDomainResponse* response) {
  ICEPIE_ASSIGN_OR_RETURN(const slices::DomainDef definition,
                          slices::ParseDomain(request.file(), request.file_name()));
  ICEPIE_ASSIGN_OR_RETURN(const slices::DomainPlan plan, slices::PlanDomain(definition));
  ToProto(plan, response);
  return absl::OkStatus();
}

}  // namespace

SlowCalls::SlowCalls() : thread_([this] { Loop(); }) {}

SlowCalls::~SlowCalls() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.SignalAll();
  thread_.join();
}

bool SlowCalls::Add(std::function<void()> call) {
  {
    MutexLock lock(mutex_);
    if (calls_.size() >= kWaitingMax) return false;
    calls_.push_back(std::move(call));
  }
  changed_.Signal();
  return true;
}

void SlowCalls::Loop() {
  while (true) {
    std::function<void()> call;
    {
      MutexLock lock(mutex_);
      while (calls_.empty() && !stopping_) changed_.Wait(mutex_);
      if (calls_.empty()) return;
      call = std::move(calls_.front());
      calls_.pop_front();
    }
    call();
  }
}

void WorkerService::TakeOn(const icepie::worker::v1::Assignment& assignment) {
  engine_.Configure(FromProto(assignment));
  const MutexLock lock(mutex_);
  if (assignment.epoch() < epoch_) return;
  epoch_ = assignment.epoch();
  domain_ = assignment.domain();
  files_.clear();
  for (const auto& spec : assignment.generations()) {
    files_[absl::StrCat(spec.slice(), "/", spec.number())] = spec.file();
  }
}

grpc::ServerUnaryReactor* WorkerService::Configure(
    grpc::CallbackServerContext* context, const icepie::worker::v1::Assignment* request,
    icepie::worker::v1::ConfigureResponse* response) {
  TakeOn(*request);
  response->set_epoch(request->epoch());
  return Finished(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* WorkerService::GetStatus(
    grpc::CallbackServerContext* context, const icepie::worker::v1::GetStatusRequest* /*request*/,
    icepie::worker::v1::WorkerReport* response) {
  const slices::EngineReport report = engine_.Report();
  if (report.hangs) {
    return Finished(
        context, MakeError(absl::StatusCode::kUnavailable,
                           "it has not answered a question of its own for long", "QUERIES_HANG"));
  }
  ToProto(report, response);
  response->set_pid(::getpid());
  response->set_role(role_);
  response->set_resident_bytes(ResidentBytes());
  response->set_sandbox(sandbox_);
  return Finished(context, absl::OkStatus());
}

grpc::ServerWriteReactor<WorkerQueryResponse>* WorkerService::Query(
    grpc::CallbackServerContext* context, const icepie::worker::v1::WorkerQueryRequest* request) {
  auto* reactor = new QueryReactor();  // deletes itself in OnDone
  absl::StatusOr<slices::Question> question = FromProto(*request);
  if (!question.ok()) {
    reactor->Deliver(question.status());
    return reactor;
  }
  question->deadline = absl::FromChrono(context->deadline());
  question->given_up = reactor->given_up();
  engine_.Ask(*std::move(question), [reactor](absl::StatusOr<slices::Answer> answer) {
    reactor->Deliver(std::move(answer));
  });
  return reactor;
}

grpc::ServerUnaryReactor* WorkerService::RefreshSlice(
    grpc::CallbackServerContext* context, const icepie::worker::v1::RefreshRequest* request,
    icepie::worker::v1::RefreshResponse* response) {
  auto* reactor = context->DefaultReactor();
  engine_.Refresh(request->slice(), request->min_position(), absl::FromChrono(context->deadline()),
                  [reactor, response](const absl::StatusOr<int64_t>& position) {
                    if (position.ok()) response->set_applied_position(*position);
                    reactor->Finish(ToGrpcStatus(position.status()));
                  });
  return reactor;
}

grpc::ServerUnaryReactor* WorkerService::Later(
    grpc::CallbackServerContext* context, std::function<void(grpc::ServerUnaryReactor*)> call) {
  auto* reactor = context->DefaultReactor();
  const bool taken = slow_calls_.Add([context, reactor, call = std::move(call)] {
    if (context->IsCancelled()) {
      reactor->Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the caller has gone"));
    } else {
      call(reactor);
    }
  });
  if (!taken) {
    reactor->Finish(ToGrpcStatus(MakeError(
        absl::StatusCode::kResourceExhausted,
        absl::StrCat(SlowCalls::kWaitingMax, " such calls wait in the worker already; try again"),
        ErrorDetail{"TOO_MANY_QUERIES", {}, {}, 1000})));
  }
  return reactor;
}

grpc::ServerUnaryReactor* WorkerService::ListQuarantinedRecords(
    grpc::CallbackServerContext* context, const icepie::v1::ListQuarantinedRecordsRequest* request,
    icepie::v1::ListQuarantinedRecordsResponse* response) {
  return Later(context, [this, request, response](grpc::ServerUnaryReactor* reactor) {
    const auto page =
        engine_.ListQuarantined(request->name(), request->after_position(), request->page_size());
    if (page.ok()) ToProto(*page, response);
    reactor->Finish(ToGrpcStatus(page.status()));
  });
}

absl::StatusOr<WorkerService::SharedPlan> WorkerService::PlanOf(const std::string& slice,
                                                                int64_t generation) {
  std::string file;
  std::string name;
  {
    const MutexLock lock(mutex_);
    file = files_[absl::StrCat(slice, "/", generation)];
    name = domain_ + ".yaml";
  }
  const auto known = plans_.find(file);
  if (known != plans_.end()) return known->second;
  ICEPIE_ASSIGN_OR_RETURN(const slices::DomainDef definition, slices::ParseDomain(file, name));
  ICEPIE_ASSIGN_OR_RETURN(slices::DomainPlan plan, slices::PlanDomain(definition));
  if (plans_.size() >= kPlansKept) plans_.clear();
  return plans_[file] = std::make_shared<const slices::DomainPlan>(std::move(plan));
}

absl::Status WorkerService::Judge(const icepie::worker::v1::JudgeRecordsRequest& request,
                                  icepie::worker::v1::JudgeRecordsResponse* response) {
  for (const slices::SliceReport& report : engine_.Report().slices) {
    if (report.info.slice != request.slice() || !report.serving) continue;
    ICEPIE_ASSIGN_OR_RETURN(const SharedPlan plan, PlanOf(report.info.slice, report.info.number));
    const slices::SlicePlan* slice = plan->Find(request.slice());
    if (slice == nullptr) break;
    for (const auto& record : request.records()) {
      ToProto(slices::JudgeRecord(*plan, *slice, record.stream(), record.payload()),
              response->add_judgements());
    }
    return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat("slice ", request.slice(), " is not ready"));
}

grpc::ServerUnaryReactor* WorkerService::JudgeRecords(
    grpc::CallbackServerContext* context, const icepie::worker::v1::JudgeRecordsRequest* request,
    icepie::worker::v1::JudgeRecordsResponse* response) {
  return Later(context, [this, request, response](grpc::ServerUnaryReactor* reactor) {
    reactor->Finish(ToGrpcStatus(Judge(*request, response)));
  });
}

grpc::ServerUnaryReactor* WorkerService::NameSnapshot(
    grpc::CallbackServerContext* context, const icepie::worker::v1::NameSnapshotRequest* request,
    icepie::worker::v1::NameSnapshotResponse* /*response*/) {
  // A standby hashes the file first.
  return Later(context, [this, request](grpc::ServerUnaryReactor* reactor) {
    engine_.NameSnapshot(
        request->slice(), {request->name(), request->actor(), request->reason(), false},
        [reactor](const absl::Status& status) { reactor->Finish(ToGrpcStatus(status)); });
  });
}

grpc::ServerUnaryReactor* WorkerService::TraceRecord(
    grpc::CallbackServerContext* context, const icepie::worker::v1::TraceRecordRequest* request,
    icepie::worker::v1::TraceRecordResponse* response) {
  return Later(context, [this, request, response](grpc::ServerUnaryReactor* reactor) {
    const auto traced = slices::TraceRecord(
        engine_.Locate(request->position()),
        [this](const std::string& slice, int64_t generation) { return PlanOf(slice, generation); },
        {request->stream(), request->position(), request->payload()});
    for (const slices::TracedSlice& slice : traced) ToProto(slice, response->add_slices());
    reactor->Finish(grpc::Status::OK);
  });
}

grpc::ServerUnaryReactor* WorkerService::PlanDomain(
    grpc::CallbackServerContext* context, const icepie::worker::v1::PlanDomainRequest* request,
    icepie::worker::v1::PlanDomainResponse* response) {
  return Later(context, [request, response](grpc::ServerUnaryReactor* reactor) {
    reactor->Finish(ToGrpcStatus(Plan(*request, response)));
  });
}

}  // namespace icepie::server
