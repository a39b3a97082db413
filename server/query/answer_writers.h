// How answers of queries go to gRPC clients: whole or in pieces, and not for ever.
#ifndef ICEPIE_SERVER_QUERY_ANSWER_WRITERS_H_
#define ICEPIE_SERVER_QUERY_ANSWER_WRITERS_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "icepie/v1/slices.pb.h"
#include "server/base/event_loop.h"
#include "server/query/query_router.h"

namespace icepie::server {

// Cancels a call whose client takes no message for a time: within the timeout and twice that.
// Threads: any.
// Lifetime: the watch lives on in its timer; the call ends with Done, after which it is not
// touched.
class StallWatch : public std::enable_shared_from_this<StallWatch> {
 public:
  StallWatch(grpc::CallbackServerContext* context, EventLoop& loop, absl::Duration timeout)
      : context_(context), loop_(loop), timeout_(timeout) {}

  // A message has begun to be written. One timer for the call and not one for each message.
  void Begin();
  // All of them have been taken until now.
  void Taken();
  void Done();

 private:
  void SetTimer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Look();

  Mutex mutex_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(mutex_);  // null: the call is over
  EventLoop& loop_;
  const absl::Duration timeout_;
  EventLoop::TimerId timer_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t begun_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t seen_ ABSL_GUARDED_BY(mutex_) = 0;  // that was being written when the timer was set
};

// A whole answer in one message; deletes itself when the call is over.
class WholeAnswer final : public grpc::ServerUnaryReactor {
 public:
  WholeAnswer(std::shared_ptr<StallWatch> watch, icepie::v1::QueryResponse* response)
      : watch_(std::move(watch)), response_(response) {}

  void Send(absl::StatusOr<icepie::v1::QueryResponse> answer, AnswerHold hold);
  // Tells that the client has gone. Before the call begins, which it does when its handler returns.
  void SetCallOff(QueryRouter::CallOff call_off) { call_off_ = std::move(call_off); }
  void OnCancel() override;
  void OnDone() override;

 private:
  const std::shared_ptr<StallWatch> watch_;
  icepie::v1::QueryResponse* const response_;
  QueryRouter::CallOff call_off_;
  AnswerHold hold_;
};

// One answer in pieces; deletes itself when the call is over.
class AnswerInPieces final : public grpc::ServerWriteReactor<icepie::v1::StreamQueryResponse> {
 public:
  explicit AnswerInPieces(std::shared_ptr<StallWatch> watch) : watch_(std::move(watch)) {}

  void Send(absl::StatusOr<icepie::v1::QueryResponse> answer, AnswerHold hold);
  void SetCallOff(QueryRouter::CallOff call_off) { call_off_ = std::move(call_off); }  // as above
  void OnCancel() override;
  void OnWriteDone(bool ok) override;
  void OnDone() override;

 private:
  void Write();

  const std::shared_ptr<StallWatch> watch_;
  QueryRouter::CallOff call_off_;
  icepie::v1::QueryResponse answer_;
  AnswerHold hold_;
  icepie::v1::StreamQueryResponse part_;
  size_t sent_ = 0;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_ANSWER_WRITERS_H_
