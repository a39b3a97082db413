// Segment files, the sealed form of the core: an immutable file with the blocks of consecutive
// positions, an index of them and checksums over every byte. core/README.md describes the bytes.
// This header has what writer and reader agree on.
//
//   header | block, block, … in position order | index: streams, blocks | footer
#ifndef ICEPIE_CORE_SEGMENT_SEGMENT_H_
#define ICEPIE_CORE_SEGMENT_SEGMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/block/block.h"

namespace icepie {

// Bounds of a segment. Readers refuse more, so that damaged or hostile bytes cannot make them
// allocate without limit.
inline constexpr size_t kSegmentBlocksMax = 65536;
inline constexpr int64_t kSegmentBytesMax = int64_t{4} << 30;

inline constexpr size_t kSegmentHeaderBytes = 32;
inline constexpr size_t kSegmentFooterBytes = 72;

// One stream's part of a segment.
struct SegmentStream {
  uint32_t id = 0;
  std::string name;
  int64_t first_offset = 0;
  int64_t record_count = 0;
  int64_t end_offset() const { return first_offset + record_count; }
};

// Where a block is in the file. `header` says what is in it.
struct SegmentBlock {
  BlockHeader header;
  uint64_t place = 0;
  uint32_t bytes = 0;
};

struct SegmentIndex {
  std::vector<SegmentStream> streams;  // by id
  std::vector<SegmentBlock> blocks;    // by position, without gaps
};

struct SegmentFooter {
  int64_t first_position = 0;
  int64_t end_position = 0;
  uint64_t index_place = 0;
  uint64_t index_bytes = 0;
  uint64_t index_checksum = 0;
  int64_t last_ingest_time_us = 0;
  uint64_t checksum = 0;  // of the footer before it; stands for the whole file
};

// The file's name, from the positions that it holds: "…-….segment" of 20 digits each.
std::string SegmentFileName(int64_t first_position, int64_t end_position);

std::string EncodeSegmentHeader(int64_t first_position);
std::string EncodeSegmentIndex(const SegmentIndex& index);
// Sets footer.checksum.
std::string EncodeSegmentFooter(SegmentFooter& footer);

// DATA_LOSS/RECORD_DAMAGED when the bytes are not what they should be: wrong checksums, gaps or
// overlaps of blocks, positions or offsets, more than the bounds above.
absl::Status CheckSegmentHeader(absl::string_view bytes, int64_t first_position);
absl::StatusOr<SegmentFooter> DecodeSegmentFooter(absl::string_view bytes, uint64_t file_bytes);
absl::StatusOr<SegmentIndex> DecodeSegmentIndex(absl::string_view bytes,
                                                const SegmentFooter& footer);

}  // namespace icepie

#endif  // ICEPIE_CORE_SEGMENT_SEGMENT_H_
