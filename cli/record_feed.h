// Records of one stream as a command takes them from the daemon, one after the other.
#ifndef ICEPIE_CLI_RECORD_FEED_H_
#define ICEPIE_CLI_RECORD_FEED_H_

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "cli/client.h"
#include "cli/record_messages.h"

namespace icepie::cli {

// Threads: one at a time.
// Errors: the daemon's; CANCELLED after Ctrl-C; DATA_LOSS when an offset is missing, which no
// daemon
//   should ever let happen.
class RecordFeed {
 public:
  // `request` names one stream. `progress` is called with the number of records taken so far, once
  // for each message.
  RecordFeed(Client& client, const icepie::v1::ReadRecordsRequest& request,
             std::function<void(int64_t)> progress);
  RecordFeed(const RecordFeed&) = delete;
  RecordFeed& operator=(const RecordFeed&) = delete;

  // Null at the end. The record stands until the next call.
  absl::StatusOr<const icepie::v1::Record*> Next();

  int64_t records() const { return records_; }
  int64_t payload_bytes() const { return payload_bytes_; }
  // Of the record last taken; the beginning and -1 before.
  int64_t last_offset() const { return last_offset_; }

 private:
  absl::Status CheckOffset(const icepie::v1::Record& record);

  const bool all_keys_;
  const std::function<void(int64_t)> progress_;
  RecordMessages messages_;
  icepie::v1::ReadRecordsResponse message_;
  int next_ = 0;
  bool ended_ = false;
  int64_t records_ = 0;
  int64_t payload_bytes_ = 0;
  int64_t last_offset_;
};

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_RECORD_FEED_H_
