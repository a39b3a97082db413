#include "server/admin/roll_call.h"

#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/delimited_message_util.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/rpc_status.h"
#include "server/base/unary_on.h"

namespace icepie::server {

RollCall* RollCall::Start(SliceControl& control, AdminLog& log, RequestReplay& replay,
                          Executor& executor, const icepie::v1::RollWorkersRequest& request) {
  auto* call = new RollCall(control, log, replay, executor, request);
  if (call->IsFirst()) call->Post(true);
  return call;
}

bool RollCall::IsFirst() {
  if (request_.request_id().empty()) return true;
  return replay_.Begin(request_.request_id(),
                       absl::StrCat("RollWorkers ", request_.SerializeAsString()),
                       [this](const RequestReplay::Answer& answer) { SendAgain(answer); });
}

void RollCall::SendAgain(const RequestReplay::Answer& answer) {
  if (!answer.ok()) return Finish(ToGrpcStatus(answer.status()));
  replays_ = true;
  google::protobuf::io::ArrayInputStream input(answer->data(), static_cast<int>(answer->size()));
  bool ended = false;
  while (google::protobuf::util::ParseDelimitedFromZeroCopyStream(&again_.emplace_back(), &input,
                                                                  &ended)) {
  }
  again_.pop_back();
  SendNextAgain();
}

void RollCall::SendNextAgain() {
  if (again_.empty()) return Finish(grpc::Status::OK);
  response_ = std::move(again_.front());
  again_.pop_front();
  StartWrite(&response_);
}

void RollCall::Post(bool begins) {
  const bool taken = executor_.Run([this, begins] { RunNext(begins); });
  if (taken) return;
  if (!begins) action_.End(NotTaken(executor_));
  Answer(NotTaken(executor_));
}

void RollCall::End(const absl::Status& outcome) {
  action_.End(outcome);
  Answer(outcome);
}

void RollCall::Answer(const absl::Status& outcome) {
  if (!request_.request_id().empty()) {
    replay_.Finish(request_.request_id(),
                   outcome.ok() ? RequestReplay::Answer(sent_) : RequestReplay::Answer(outcome));
  }
  Finish(ToGrpcStatus(outcome));
}

void RollCall::RunNext(bool begins) {
  if (begins) {
    auto domains = control_.BeginRoll(request_, action_);
    if (!domains.ok()) return End(domains.status());
    domains_.assign(domains->begin(), domains->end());
  }
  if (IsCancelled()) return End(absl::CancelledError("the client has gone"));
  if (domains_.empty()) return End(absl::OkStatus());
  auto rolled = control_.RollDomain(domains_.front());
  if (!rolled.ok()) return End(rolled.status());
  domains_.pop_front();
  response_ = *std::move(rolled);
  response_.set_domains_left(static_cast<int32_t>(domains_.size()));
  {
    google::protobuf::io::StringOutputStream output(&sent_);
    google::protobuf::util::SerializeDelimitedToZeroCopyStream(response_, &output);
  }
  StartWrite(&response_);
}

bool RollCall::IsCancelled() {
  const MutexLock lock(mutex_);
  return cancelled_;
}

void RollCall::OnWriteDone(bool ok) {
  if (!ok) OnCancel();
  if (!replays_) return Post(false);
  SendNextAgain();
}

// The step under way goes on; the next one ends the call.
void RollCall::OnCancel() {
  const MutexLock lock(mutex_);
  cancelled_ = true;
}

}  // namespace icepie::server
