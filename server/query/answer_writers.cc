#include "server/query/answer_writers.h"

#include <grpc/grpc.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/rpc_status.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

constexpr size_t kPieceBytes = 1 << 20;

}  // namespace

void StallWatch::Begin() {
  const MutexLock lock(mutex_);
  ++begun_;
  if (timer_ == 0 && context_ != nullptr) SetTimer();
}

void StallWatch::Taken() {
  const MutexLock lock(mutex_);
  taken_ = begun_;
}

void StallWatch::Done() {
  const MutexLock lock(mutex_);
  context_ = nullptr;
  if (timer_ != 0) loop_.Cancel(timer_);
}

void StallWatch::SetTimer() {
  seen_ = begun_ > taken_ ? begun_ : 0;
  timer_ = loop_.RunAfter(timeout_, [self = shared_from_this()] { self->Look(); });
}

void StallWatch::Look() {
  const MutexLock lock(mutex_);
  if (context_ == nullptr) return;
  if (seen_ == 0 || seen_ <= taken_) return SetTimer();
  // The only way to a client whose window is full: this status goes before the message.
  const std::string message = absl::StrCat("READER_TOO_SLOW: no part of the answer was taken for ",
                                           absl::FormatDuration(timeout_), "; ask again");
  grpc_call_cancel_with_status(context_->c_call(), GRPC_STATUS_ABORTED, message.c_str(), nullptr);
}

void WholeAnswer::Send(absl::StatusOr<v1::QueryResponse> answer, AnswerHold hold) {
  if (!answer.ok()) {
    Finish(ToGrpcStatus(answer.status()));
    return;
  }
  hold_ = std::move(hold);
  *response_ = *std::move(answer);
  watch_->Begin();
  Finish(grpc::Status::OK);
}

void WholeAnswer::OnCancel() {
  if (call_off_) call_off_();
}

void WholeAnswer::OnDone() {
  watch_->Done();
  delete this;
}

void AnswerInPieces::Send(absl::StatusOr<v1::QueryResponse> answer, AnswerHold hold) {
  if (!answer.ok()) {
    Finish(ToGrpcStatus(answer.status()));
    return;
  }
  hold_ = std::move(hold);
  answer_ = *std::move(answer);
  *part_.mutable_header()->mutable_meta() = answer_.meta();
  *part_.mutable_header()->mutable_columns() = answer_.columns();
  Write();
}

void AnswerInPieces::Write() {
  watch_->Begin();
  StartWrite(&part_);
}

void AnswerInPieces::OnCancel() {
  if (call_off_) call_off_();
}

void AnswerInPieces::OnWriteDone(bool ok) {
  watch_->Taken();
  if (!ok) {
    Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the client has gone"));
  } else if (sent_ < answer_.body().size()) {
    part_.set_body(answer_.body().substr(sent_, kPieceBytes));
    sent_ += part_.body().size();
    Write();
  } else if (!part_.has_end()) {
    part_.mutable_end()->set_row_count(answer_.row_count());
    part_.mutable_end()->set_byte_count(static_cast<int64_t>(answer_.body().size()));
    Write();
  } else {
    Finish(grpc::Status::OK);
  }
}

void AnswerInPieces::OnDone() {
  watch_->Done();
  delete this;
}

}  // namespace icepie::server
