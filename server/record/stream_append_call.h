// One call of Core.StreamAppendRecords: batches go to the core in the order in which they arrive,
// several in flight, and their answers go back in the same order.
#ifndef ICEPIE_SERVER_RECORD_STREAM_APPEND_CALL_H_
#define ICEPIE_SERVER_RECORD_STREAM_APPEND_CALL_H_

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "core/core.h"
#include "icepie/v1/core.pb.h"
#include "server/base/drain_gate.h"
#include "server/record/append_preparer.h"

namespace icepie::server {

// Threads: gRPC's and the core's sequencer.
// Lifetime: keeps itself alive until gRPC is done with it and the core has answered every batch.
class StreamAppendCall final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                               public std::enable_shared_from_this<StreamAppendCall> {
 public:
  StreamAppendCall(Core* core, DrainGate* gate, AppendPreparer* preparer, uint64_t peer)
      : core_(core), gate_(gate), preparer_(preparer), peer_(peer) {}

  // Begins reading; returns what the service hands to gRPC.
  // `gate` refuses what comes when the daemon is about to stop; all three outlive the call.
  static StreamAppendCall* Start(Core* core, DrainGate* gate, AppendPreparer* preparer,
                                 uint64_t peer);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { self_.reset(); }

 private:
  // A batch in flight: from its arrival until its answer is written.
  struct Slot {
    int64_t bytes = 0;
    std::optional<absl::StatusOr<AppendResult>> answer;
  };
  enum class Next { kNothing, kRead, kWrite, kFinish };

  void Submit();
  void Append(Slot* slot, absl::StatusOr<AppendBatch> batch);
  void OnAnswer(Slot* slot, absl::StatusOr<AppendResult> answer);
  // Does what can be done now, as often as something can.
  void Proceed();
  Next Decide(grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsStored(size_t place) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MayRead() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AtEnd(grpc::Status& status) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Core* const core_;
  DrainGate* const gate_;
  AppendPreparer* const preparer_;
  const uint64_t peer_;
  const std::shared_ptr<AppendChain> chain_ = std::make_shared<AppendChain>();
  std::shared_ptr<StreamAppendCall> self_;
  grpc::ByteBuffer request_;   // of the read under way
  grpc::ByteBuffer response_;  // of the write under way
  grpc::WriteOptions write_options_;

  Mutex mutex_;
  std::deque<Slot> in_flight_ ABSL_GUARDED_BY(mutex_);
  int64_t in_flight_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;         // batches without an answer
  int starting_reads_ ABSL_GUARDED_BY(mutex_) = 0;  // decided on, not yet asked of gRPC
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool submitting_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;       // a batch was refused: no more is taken
  bool input_ended_ ABSL_GUARDED_BY(mutex_) = false;  // the client has sent everything
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_STREAM_APPEND_CALL_H_
