// One call of Core.ReadRecords: decodes blocks and sends their records.
#ifndef ICEPIE_SERVER_READ_RECORDS_CALL_H_
#define ICEPIE_SERVER_READ_RECORDS_CALL_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "core/block.h"
#include "core/core.h"
#include "icepie/v1/core.pb.h"
#include "server/feed_call.h"

namespace icepie::server {

// Threads: those of FeedCall.
class ReadRecordsCall final : public FeedCall<icepie::v1::ReadRecordsResponse> {
 public:
  ReadRecordsCall(Core* core, FeedScheduler* scheduler,
                  const icepie::v1::ReadRecordsRequest& request);

 protected:
  FeedStep Step(icepie::v1::ReadRecordsResponse& response) override;

 private:
  absl::Status Check() const;
  // Adds records until the message is full, `target` is reached or enough are read.
  absl::Status Fill(int64_t target, icepie::v1::ReadRecordsResponse& response);
  absl::StatusOr<bool> AddRecord(icepie::v1::ReadRecordsResponse& response);
  absl::Status FetchBlocks(int64_t target);
  absl::Status OpenBlock();
  bool AtEnd() const { return next_ >= end_ || left_ == 0; }

  Core* const core_;
  const std::vector<std::string> streams_;
  const bool follow_;
  int64_t next_;
  int64_t end_;
  int64_t left_;  // records that may still be sent
  int64_t message_bytes_ = 0;
  bool checked_ = false;
  bool sent_any_ = false;
  SteadyTime not_before_;  // of the next reading

  std::deque<StoredBlock> blocks_;  // fetched, not yet opened
  int64_t fetched_position_ = 0;    // everything wanted below it is in blocks_, or sent
  std::string block_stream_;
  std::optional<DecodedBlock> block_;
  size_t block_index_ = 0;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_READ_RECORDS_CALL_H_
