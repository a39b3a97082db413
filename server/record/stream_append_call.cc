#include "server/record/stream_append_call.h"

#include <utility>

#include "server/base/rpc_status.h"

namespace icepie::server {
namespace {

// When so much is in flight nothing more is read, and gRPC's flow control holds the client back.
// The bytes are a small part of the core's queue, so that several clients do not fill it.
constexpr size_t kInFlightMax = 16;
constexpr int64_t kInFlightBytesMax = int64_t{4} << 20;

}  // namespace

StreamAppendCall* StreamAppendCall::Start(Core* core, DrainGate* gate, AppendPreparer* preparer,
                                          uint64_t peer) {
  auto call = std::make_shared<StreamAppendCall>(core, gate, preparer, peer);
  call->self_ = call;
  call->Proceed();
  return call.get();
}

void StreamAppendCall::OnReadDone(bool ok) {
  bool take = false;
  {
    const MutexLock lock(mutex_);
    reading_ = false;
    input_ended_ = !ok;
    take = ok && !failed_ && !cancelled_;
    submitting_ = take;
  }
  if (take) Submit();
  Proceed();
}

void StreamAppendCall::Submit() {
  Slot* slot = nullptr;
  const auto bytes = static_cast<int64_t>(request_.Length());
  {
    const MutexLock lock(mutex_);
    ++waiting_;
    in_flight_bytes_ += bytes;
    slot = &in_flight_.emplace_back();
    slot->bytes = bytes;
  }
  const absl::Status taken = preparer_->Run(
      request_, peer_, [self = shared_from_this(), slot](absl::StatusOr<AppendBatch> batch) {
        self->Append(slot, std::move(batch));
        self->Proceed();
      });
  if (taken.ok()) return;
  OnAnswer(slot, taken);
  const MutexLock lock(mutex_);
  submitting_ = false;
}

// The next message is read afterwards, so that batches keep their order.
void StreamAppendCall::Append(Slot* slot, absl::StatusOr<AppendBatch> batch) {
  if (batch.ok() && !gate_->Enter()) batch = Draining();
  if (batch.ok()) {
    batch->chain = chain_;
    core_->Append(std::move(batch).value(),
                  [self = shared_from_this(), slot](absl::StatusOr<AppendResult> answer) {
                    self->OnAnswer(slot, std::move(answer));
                    self->gate_->Leave();
                  });
  } else {
    OnAnswer(slot, batch.status());
  }
  const MutexLock lock(mutex_);
  submitting_ = false;
}

void StreamAppendCall::OnAnswer(Slot* slot, absl::StatusOr<AppendResult> answer) {
  {
    const MutexLock lock(mutex_);
    --waiting_;
    failed_ = failed_ || !answer.ok();
    slot->answer.emplace(std::move(answer));
  }
  Proceed();
}

void StreamAppendCall::OnWriteDone(bool ok) {
  {
    const MutexLock lock(mutex_);
    writing_ = false;
    cancelled_ = cancelled_ || !ok;
    in_flight_bytes_ -= in_flight_.front().bytes;
    in_flight_.pop_front();
  }
  Proceed();
}

void StreamAppendCall::OnCancel() {
  {
    const MutexLock lock(mutex_);
    cancelled_ = true;
  }
  Proceed();
}

bool StreamAppendCall::MayRead() const {
  return !reading_ && !submitting_ && !failed_ && !cancelled_ && !input_ended_ &&
         in_flight_.size() < kInFlightMax && in_flight_bytes_ < kInFlightBytesMax;
}

bool StreamAppendCall::AtEnd(grpc::Status& status) const {
  if (waiting_ > 0 || writing_ || submitting_ || starting_reads_ > 0) return false;
  if (cancelled_) {
    status = grpc::Status(grpc::StatusCode::CANCELLED, "cancelled");
    return true;
  }
  if (in_flight_.empty()) return input_ended_;
  status = ToGrpcStatus(in_flight_.front().answer->status());  // an OK one would have been written
  return true;
}

bool StreamAppendCall::IsStored(size_t place) const {
  return place < in_flight_.size() && in_flight_[place].answer && in_flight_[place].answer->ok();
}

StreamAppendCall::Next StreamAppendCall::Decide(grpc::Status& status) {
  if (finished_) return Next::kNothing;
  if (!writing_ && !cancelled_ && IsStored(0)) {
    response_ = ResponseBytes(**in_flight_.front().answer);
    // The answers of one commit go out together.
    write_options_ = grpc::WriteOptions();
    if (IsStored(1)) write_options_.set_buffer_hint();
    writing_ = true;
    return Next::kWrite;
  }
  if (MayRead()) {
    reading_ = true;
    ++starting_reads_;
    return Next::kRead;
  }
  finished_ = AtEnd(status);
  return finished_ ? Next::kFinish : Next::kNothing;
}

void StreamAppendCall::Proceed() {
  const auto self = shared_from_this();  // gRPC may be done with the call before this returns
  while (true) {
    Next next = Next::kNothing;
    grpc::Status status;
    {
      const MutexLock lock(mutex_);
      next = Decide(status);
    }
    switch (next) {
      case Next::kNothing:
        return;
      case Next::kWrite:
        StartWrite(&response_, write_options_);
        break;
      case Next::kRead: {
        StartRead(&request_);
        const MutexLock lock(mutex_);
        --starting_reads_;
        break;
      }
      case Next::kFinish:
        return Finish(status);
    }
  }
}

}  // namespace icepie::server
