// One call of Core.ReadRecords: decodes blocks and sends their records.
#ifndef ICEPIE_SERVER_READ_RECORDS_CALL_H_
#define ICEPIE_SERVER_READ_RECORDS_CALL_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "core/block.h"
#include "core/core.h"
#include "icepie/v1/core.pb.h"
#include "server/feed_call.h"
#include "server/read_bounds.h"

namespace icepie::server {

// Holds one message and the few blocks that it is made of, however slowly its client reads.
// Threads: those of FeedCall.
class ReadRecordsCall final : public FeedCall<icepie::v1::ReadRecordsResponse> {
 public:
  ReadRecordsCall(Core* core, FeedScheduler* scheduler,
                  const icepie::v1::ReadRecordsRequest& request);

 protected:
  FeedStep Step(icepie::v1::ReadRecordsResponse& response) override;

 private:
  absl::Status Begin(SteadyTime now);
  // Adds records until the message is full, the step long enough, `target` reached or enough read.
  absl::Status Fill(int64_t target, icepie::v1::ReadRecordsResponse& response);
  absl::StatusOr<bool> AddRecord(icepie::v1::ReadRecordsResponse& response);
  bool Wanted(const RecordView& view) const;
  absl::Status FetchBlocks(int64_t target);
  absl::Status OpenBlock();
  bool AtEnd() const { return next_ >= bounds_.end_position || left_ == 0; }
  // Whether a message is due that brings no record.
  bool ControlDue(SteadyTime now, bool caught_up) const;
  FeedStep WaitForMore(SteadyTime now, int64_t head);
  FeedStep Send(SteadyTime now, int64_t head, icepie::v1::ReadRecordsResponse& response);

  Core* const core_;
  const icepie::v1::ReadRecordsRequest request_;
  bool begun_ = false;
  ReadBounds bounds_;
  int64_t next_ = 0;
  int64_t left_ = 0;  // records that may still be sent
  int64_t message_bytes_ = 0;
  int64_t step_bytes_ = 0;  // of blocks opened in this step
  bool sent_any_ = false;
  bool sent_caught_up_ = false;          // in the last message
  SteadyTime not_before_;                // of the next reading
  SteadyTime control_time_;              // when silence ends with a message
  std::optional<SteadyTime> next_wake_;  // the timer that is set, one at most

  std::deque<StoredBlock> blocks_;  // fetched, not yet opened
  int64_t fetched_position_ = 0;    // everything wanted below it is in blocks_, or sent
  std::string block_stream_;
  std::optional<DecodedBlock> block_;
  size_t block_index_ = 0;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_READ_RECORDS_CALL_H_
