// One server-streaming call that reads the core forwards, as a sequence of short steps.
//
// A client that does not take a message holds the call back (gRPC's flow control), and with it what
// the call needs for the next step. With a stall timeout that ends: after the timeout the call
// gives up what it holds and ends, once the client takes the message, with the status that
// Stalled() names. A client that goes on taking nothing is cut off after the same time again: it
// gets code and message of Cut() at once, over the message's rest.
#ifndef ICEPIE_SERVER_RECORD_FEED_CALL_H_
#define ICEPIE_SERVER_RECORD_FEED_CALL_H_

#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "core/base/mutex.h"
#include "server/base/drain_gate.h"
#include "server/base/rpc_status.h"
#include "server/record/feed_scheduler.h"

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

struct StallLimits {
  std::chrono::milliseconds stall_timeout{0};  // for a client to take one message
  std::chrono::milliseconds cut_timeout{0};    // beyond that
};

// Threads: gRPC's and the scheduler's.
// Lifetime: keeps itself alive until gRPC is done with it.
template <typename Response>
class FeedCall : public grpc::ServerWriteReactor<Response>,
                 public FeedTask,
                 public std::enable_shared_from_this<FeedCall<Response>> {
 public:
  // Without limits a client may take as long as it likes.
  explicit FeedCall(FeedScheduler* scheduler, grpc::CallbackServerContext* context = nullptr,
                    std::optional<StallLimits> limits = std::nullopt)
      : scheduler_(scheduler), limits_(limits), context_(context) {}

  // Makes the call run; `call` is what the service returns to gRPC.
  static grpc::ServerWriteReactor<Response>* Start(const std::shared_ptr<FeedCall>& call) {
    call->self_ = call;
    call->scheduler_->WakeSoon(call);
    return call.get();
  }

  void Wake() final {
    if (!BeginStep()) return;
    if (cancelled_) return this->Finish(grpc::Status(grpc::StatusCode::CANCELLED, "cancelled"));
    if (stalled_) return this->Finish(ToGrpcStatus(*stalled_));
    const FeedStep step = Step(response_);
    switch (step.kind) {
      case FeedStep::Kind::kWrite:
        BeginWrite();
        return this->StartWrite(&response_);
      case FeedStep::Kind::kFinish:
        return this->Finish(ToGrpcStatus(step.status));
      case FeedStep::Kind::kWait:
        if (step.beyond && scheduler_->draining()) return this->Finish(ToGrpcStatus(Draining()));
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
    {
      const MutexLock lock(mutex_);
      context_ = nullptr;  // gRPC's, and gone after this
    }
    self_.reset();
  }

 protected:
  // Never called twice at a time, nor while a write is under way. Fills `response`, which holds the
  // one before, when it returns Write.
  virtual FeedStep Step(Response& response) = 0;

  // Called while a message waits for longer than the stall timeout: gives up what the next step
  // would need, and says with what the call ends. No step comes after it.
  virtual absl::Status Stalled() { return absl::AbortedError("the client takes no messages"); }

  // With what a client is cut off. It never gets the rest of the message, and perhaps not all of
  // those before it, so that only the client knows what it has. It gets code and text alone, so the
  // reason stands in the text: details are trailers, which gRPC sends only behind the message.
  virtual absl::Status Cut() { return absl::AbortedError("the client takes no messages"); }

 private:
  // kStepping: also the end.
  enum class State { kWaiting, kStepping, kWriting };

  // False when it is not the time for a step.
  bool BeginStep() {
    const MutexLock lock(mutex_);
    if (limits_) CheckStall();
    if (state_ != State::kWaiting) return false;
    state_ = State::kStepping;
    return true;
  }

  void BeginWrite() {
    const MutexLock lock(mutex_);
    state_ = State::kWriting;
    write_begin_ = std::chrono::steady_clock::now();
    // One timer for the call and not one for each message.
    if (limits_ && !stall_check_) CheckStallAt(write_begin_ + limits_->stall_timeout);
  }

  void CheckStallAt(SteadyTime time) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    stall_check_ = time;
    scheduler_->WakeAt(this->shared_from_this(), time);
  }

  void CheckStall() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const SteadyTime now = std::chrono::steady_clock::now();
    if (!stall_check_ || now < *stall_check_) return;
    stall_check_.reset();
    if (state_ != State::kWriting) return;
    const SteadyTime due = write_begin_ + limits_->stall_timeout;
    if (now < due) return CheckStallAt(due);
    if (!stalled_) {
      stalled_ = Stalled();
      CheckStallAt(now + limits_->cut_timeout);
    } else if (context_ != nullptr) {
      // The only way to a client whose window is full: this status goes before the message.
      const absl::Status status = Cut();
      const std::string message(status.message());
      grpc_call_cancel_with_status(context_->c_call(), static_cast<grpc_status_code>(status.code()),
                                   message.c_str(), nullptr);
    }
  }

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
  const std::optional<StallLimits> limits_;
  std::shared_ptr<FeedCall> self_;
  std::atomic<bool> cancelled_{false};
  Mutex mutex_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(mutex_);
  State state_ ABSL_GUARDED_BY(mutex_) = State::kWaiting;
  SteadyTime write_begin_ ABSL_GUARDED_BY(mutex_);
  std::optional<SteadyTime> stall_check_ ABSL_GUARDED_BY(mutex_);  // the timer that is set
  std::optional<absl::Status> stalled_;  // set while a write is under way, then constant
  Response response_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_FEED_CALL_H_
