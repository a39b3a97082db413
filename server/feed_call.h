// One server-streaming call that reads the core forwards, as a sequence of short steps.
#ifndef ICEPIE_SERVER_FEED_CALL_H_
#define ICEPIE_SERVER_FEED_CALL_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "core/base/mutex.h"
#include "server/feed_scheduler.h"
#include "server/rpc_status.h"

namespace icepie::server {

// What a step leads to.
struct FeedStep {
  enum class Kind { kWrite, kWait, kFinish };
  Kind kind = Kind::kFinish;
  absl::Status status;                  // kFinish
  std::optional<int64_t> beyond;        // kWait: until the head is beyond it …
  std::optional<SteadyTime> wake_time;  // … or until then, whatever comes first

  static FeedStep Write() { return {Kind::kWrite, {}, {}, {}}; }
  static FeedStep Finish(absl::Status status) { return {Kind::kFinish, std::move(status), {}, {}}; }
  static FeedStep Wait(std::optional<int64_t> beyond, std::optional<SteadyTime> wake_time) {
    return {Kind::kWait, {}, beyond, wake_time};
  }
};

// Threads: gRPC's and the scheduler's.
// Lifetime: keeps itself alive until gRPC is done with it.
template <typename Response>
class FeedCall : public grpc::ServerWriteReactor<Response>,
                 public FeedTask,
                 public std::enable_shared_from_this<FeedCall<Response>> {
 public:
  explicit FeedCall(FeedScheduler* scheduler) : scheduler_(scheduler) {}

  // Makes the call run; `call` is what the service returns to gRPC.
  static grpc::ServerWriteReactor<Response>* Start(const std::shared_ptr<FeedCall>& call) {
    call->self_ = call;
    call->scheduler_->WakeSoon(call);
    return call.get();
  }

  void Wake() final {
    {
      const MutexLock lock(mutex_);
      if (state_ != State::kWaiting) return;
      state_ = State::kBusy;
    }
    if (cancelled_) return this->Finish(grpc::Status(grpc::StatusCode::CANCELLED, "cancelled"));
    const FeedStep step = Step(response_);
    switch (step.kind) {
      case FeedStep::Kind::kWrite:
        return this->StartWrite(&response_);
      case FeedStep::Kind::kFinish:
        return this->Finish(ToGrpcStatus(step.status));
      case FeedStep::Kind::kWait:
        return Wait(step);
    }
  }

  void OnWriteDone(bool ok) final {
    if (!ok) cancelled_ = true;
    BecomeWaiting();
    scheduler_->WakeSoon(this->shared_from_this());
  }

  void OnCancel() final {
    cancelled_ = true;
    scheduler_->WakeSoon(this->shared_from_this());
  }

  void OnDone() final {
    scheduler_->Forget(this);
    self_.reset();
  }

 protected:
  // Never called twice at a time, nor while a write is under way. Fills `response`, which holds the
  // one before, when it returns Write.
  virtual FeedStep Step(Response& response) = 0;

 private:
  // kBusy: a step, a write or the end is under way.
  enum class State { kWaiting, kBusy };

  void BecomeWaiting() {
    const MutexLock lock(mutex_);
    state_ = State::kWaiting;
  }

  void Wait(const FeedStep& step) {
    const auto self = this->shared_from_this();
    BecomeWaiting();
    if (cancelled_) return scheduler_->WakeSoon(self);  // OnCancel may have come during the step
    if (step.beyond) scheduler_->WakeBeyond(self, *step.beyond);
    if (step.wake_time) scheduler_->WakeAt(self, *step.wake_time);
  }

  FeedScheduler* const scheduler_;
  std::shared_ptr<FeedCall> self_;
  std::atomic<bool> cancelled_{false};
  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kWaiting;
  Response response_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_FEED_CALL_H_
