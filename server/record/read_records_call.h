// One call of Core.ReadRecords: sends records in messages made of blocks that all readers share.
#ifndef ICEPIE_SERVER_RECORD_READ_RECORDS_CALL_H_
#define ICEPIE_SERVER_RECORD_READ_RECORDS_CALL_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/core.h"
#include "icepie/v1/core.pb.h"
#include "server/record/feed_call.h"
#include "server/record/read_bounds.h"
#include "server/record/shared_blocks.h"

namespace icepie::server {

// How readers of the core are held to their share (settings readers.*).
struct ReaderLimits {
  StallLimits stall{std::chrono::seconds(30), std::chrono::seconds(30)};
  int64_t message_bytes_max = int64_t{1} << 20;  // a larger record is a message by itself
  int64_t shared_bytes_max = int64_t{32} << 20;  // of blocks kept for the next reader
};

// What all readers have in common.
struct Readers {
  Readers(const Core* core, const ReaderLimits& reader_limits)
      : limits(reader_limits), blocks(core, reader_limits.shared_bytes_max) {}

  const ReaderLimits limits;
  SharedBlocks blocks;
  std::atomic<int64_t> too_slow_count{0};  // that were told to stop
};

// Holds one message and the few blocks that it is made of; both are shared with whoever reads the
// same records. A reader that does not take its message in time is told ABORTED/READER_TOO_SLOW and
// where to go on (server/record/feed_call.h). ABORTED and not RESOURCE_EXHAUSTED: nothing has to be
// waited for, and the same call repeated would begin at its old position. Threads: those of
// FeedCall.
class ReadRecordsCall final : public FeedCall<grpc::ByteBuffer> {
 public:
  ReadRecordsCall(Core* core, Readers* readers, FeedScheduler* scheduler,
                  grpc::CallbackServerContext* context, const grpc::ByteBuffer& request);

 protected:
  FeedStep Step(grpc::ByteBuffer& message) override;
  absl::Status Stalled() override;
  absl::Status Cut() override;

 private:
  // A part of a block as it stands in the message.
  struct Piece {
    std::shared_ptr<const EncodedBlock> block;
    size_t begin = 0;
    size_t end = 0;
  };

  absl::Status Begin(SteadyTime now);
  // Adds records until the message is full, the step long enough, `target` reached or enough read.
  absl::Status Fill(int64_t target);
  // Those of one block. False when the message is full.
  bool AddRecords(const std::shared_ptr<const EncodedBlock>& block);
  bool Wanted(const EncodedBlock& block, size_t i) const;
  void AddPiece(const std::shared_ptr<const EncodedBlock>& block, size_t i);
  absl::Status NextRange(int64_t target);
  bool AtEnd() const { return next_ >= bounds_.end_position || left_ == 0; }
  // Whether a message is due that brings no record.
  bool ControlDue(SteadyTime now, bool caught_up) const;
  FeedStep WaitForMore(SteadyTime now, int64_t head);
  FeedStep Send(SteadyTime now, int64_t head, grpc::ByteBuffer& message);
  grpc::ByteBuffer MakeMessage(const icepie::v1::ReadRecordsResponse& control);

  Core* const core_;
  Readers* const readers_;
  icepie::v1::ReadRecordsRequest request_;
  bool is_request_ = false;  // what came could be parsed
  bool begun_ = false;
  ReadBounds bounds_;
  int64_t next_ = 0;
  int64_t next_offset_ = 0;    // of the one stream, when it is read by offset
  int64_t left_ = 0;           // records that may still be sent
  std::vector<Piece> pieces_;  // of the message
  int64_t message_bytes_ = 0;
  int64_t step_bytes_ = 0;  // of ranges opened in this step
  bool sent_any_ = false;
  bool sent_caught_up_ = false;          // in the last message
  SteadyTime not_before_;                // of the next reading
  SteadyTime control_time_;              // when silence ends with a message
  std::optional<SteadyTime> next_wake_;  // the timer that is set, one at most

  std::shared_ptr<const SharedBlocks::Range> range_;
  size_t block_index_ = 0;  // in range_
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_READ_RECORDS_CALL_H_
