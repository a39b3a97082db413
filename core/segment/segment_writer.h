// Writes one segment file: takes blocks in position order, joins small neighbours, and ends the
// file with its index and footer.
#ifndef ICEPIE_CORE_SEGMENT_SEGMENT_WRITER_H_
#define ICEPIE_CORE_SEGMENT_SEGMENT_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/block/block.h"
#include "core/segment/segment.h"

namespace icepie {

// Small blocks share one with their neighbours of the same stream, up to the target: a record that
// was appended alone packs badly. Larger ones pack well enough as they are. Before compression.
inline constexpr int64_t kSmallBlockBytes = int64_t{64} << 10;
inline constexpr int64_t kSegmentBlockTargetBytes = int64_t{1} << 20;

// Threads: one.
// Errors: the operating system's, with the path; DATA_LOSS/RECORD_DAMAGED for a damaged block: what
//   does not read back as it was written is never sealed. After an error only the destructor is
//   called.
class SegmentWriter {
 public:
  // Creates the file `path`, which must not exist.
  static absl::StatusOr<std::unique_ptr<SegmentWriter>> Create(const std::string& path,
                                                               int64_t first_position);
  // Closes the file, and removes it when it is not finished.
  ~SegmentWriter();
  SegmentWriter(const SegmentWriter&) = delete;
  SegmentWriter& operator=(const SegmentWriter&) = delete;

  // Adds the block that follows; its records are of `stream`.
  absl::Status Add(absl::string_view stream, std::string block);

  int64_t end_position() const { return end_position_; }
  int64_t bytes() const { return written_ + static_cast<int64_t>(buffer_.size()); }
  bool full() const { return index_.blocks.size() + 2 > kSegmentBlocksMax; }

  const std::vector<SegmentStream>& streams() const { return index_.streams; }

  // Writes index and footer, syncs the file, and reads all of it back. There is a block at least.
  absl::StatusOr<SegmentFooter> Finish();

 private:
  SegmentWriter(std::string path, int fd, int64_t first_position);
  bool Joins(const BlockHeader& header, int64_t raw_bytes) const;
  absl::Status CloseJoined();
  absl::Status Put(const BlockHeader& header, absl::string_view block);
  absl::Status Flush();
  absl::Status ReadBack() const;
  void CountRecords(absl::string_view stream, const BlockHeader& header);

  const std::string path_;
  const int fd_;
  const int64_t first_position_;
  int64_t end_position_;
  int64_t last_ingest_time_us_ = 0;
  int64_t written_ = 0;
  std::string buffer_;  // what follows `written_`
  SegmentIndex index_;
  std::vector<std::string> joined_;  // small neighbours of one stream, not yet written
  BlockHeader joined_header_;        // of all of them
  int64_t joined_raw_bytes_ = 0;
  bool finished_ = false;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_SEGMENT_SEGMENT_WRITER_H_
