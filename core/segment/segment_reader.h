// Reads one segment file with pread: no mapping, which would count against a worker's address space
// and turn a damaged disk into a signal. Needs neither RocksDB nor the daemon.
#ifndef ICEPIE_CORE_SEGMENT_SEGMENT_READER_H_
#define ICEPIE_CORE_SEGMENT_SEGMENT_READER_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/block/record_chunk.h"
#include "core/segment/segment.h"

namespace icepie {

// The file's format version decides which implementation Open returns.
// Threads: any.
// Errors: DATA_LOSS/RECORD_DAMAGED naming the file, and the position where it is known; NOT_FOUND
//   when there is no file.
// Lifetime: an open reader keeps the file's bytes, also when its name is removed. What it hands out
//   keeps it open.
class SegmentReader : public std::enable_shared_from_this<SegmentReader> {
 public:
  // Reads and checks header, index and footer.
  static absl::StatusOr<std::shared_ptr<const SegmentReader>> Open(const std::string& path);
  virtual ~SegmentReader() = default;

  virtual const SegmentFooter& footer() const = 0;
  virtual const std::vector<SegmentStream>& streams() const = 0;  // by id

  // Chunks of the streams named (empty: all) that hold positions in [from, end), by position.
  // Nothing is read until they are decoded.
  struct StreamChunk {
    std::string stream;
    std::shared_ptr<const RecordChunk> chunk;
  };
  virtual std::vector<StreamChunk> Chunks(const std::set<std::string>& streams, int64_t from,
                                          int64_t end) const = 0;

  // The same as blocks, for handing on unchanged: all of them by position, the first that holds
  // positions from `from` on, and one's bytes, with their checksum compared.
  virtual const std::vector<SegmentBlock>& blocks() const = 0;
  size_t FirstBlock(int64_t from) const;
  virtual absl::StatusOr<std::string> ReadBlock(const SegmentBlock& block) const = 0;
};

// Only the footer, for looking whether the file is the one that it should be.
absl::StatusOr<SegmentFooter> ReadSegmentFooter(const std::string& path);

}  // namespace icepie

#endif  // ICEPIE_CORE_SEGMENT_SEGMENT_READER_H_
