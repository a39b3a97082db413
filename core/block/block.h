// The stored form of consecutive records of one stream: a header, then records framed one after the
// other and compressed with zstd, then a checksum. core/README.md describes every byte. Blocks are
// what the log stores, what the daemon hands to workers unchanged, and what a worker decodes.
#ifndef ICEPIE_CORE_BLOCK_BLOCK_H_
#define ICEPIE_CORE_BLOCK_BLOCK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/record.h"

namespace icepie {

// Bounds of a block, before compression. Decoders refuse more, so that damaged or hostile bytes
// cannot make them allocate without limit.
inline constexpr int64_t kBlockRawBytesMax = int64_t{64} << 20;
inline constexpr int64_t kBlockRecordsMax = 65536;

// What a block says without being decompressed.
struct BlockHeader {
  uint32_t stream_id = 0;
  int64_t first_position = 0;  // the block's records are at consecutive positions …
  int64_t first_offset = 0;    // … and at consecutive offsets
  uint32_t record_count = 0;
  int64_t ingest_time_us = 0;       // of the first record; of all in a block of one commit
  int64_t last_ingest_time_us = 0;  // set by readers
  int64_t end_position() const { return first_position + record_count; }
};

// Records framed and compressed, before they have positions: made by the appending threads, so that
// the sequencer only has to put a header before it and a checksum behind it.
struct BlockBody {
  uint32_t record_count = 0;
  uint32_t raw_bytes = 0;
  uint8_t codec = 0;
  std::string stored;
};

class DecodedBlock;

// Encodes `records`: at least one, of one stream, within the bounds above.
BlockBody EncodeBlockBody(absl::Span<const NewRecord* const> records);

// A whole block; header.record_count is taken from `body`.
std::string SealBlock(const BlockHeader& header, const BlockBody& body);

// Both at once: encodes `records`, which are of one stream and one commit.
std::string EncodeBlock(const BlockHeader& header, absl::Span<const NewRecord* const> records);

// Records of neighbouring blocks of one stream (consecutive positions and offsets, times that do
// not go back; together within the bounds above) as one block, each with its own ingest time.
std::string MergeBlocks(absl::Span<const DecodedBlock> blocks);

// An upper bound of the bytes that `record` takes in a block before compression.
int64_t FramedBytesMax(const NewRecord& record);

// Reads the header. DATA_LOSS when the bytes are not a block's beginning.
absl::StatusOr<BlockHeader> ReadBlockHeader(absl::string_view block);

// The same after comparing the checksum; nothing is decompressed. DATA_LOSS naming the position.
absl::StatusOr<BlockHeader> CheckBlock(absl::string_view block);

// Bytes of the framed records before compression, of a block that CheckBlock has passed.
int64_t RawBytesOf(absl::string_view block);

// A decompressed block; `records()` point into it and live as long as it does (moves keep them).
class DecodedBlock {
 public:
  // Columns that are not asked for are left empty. DATA_LOSS when checksum, framing or counts do
  // not agree; hostile bytes are safe.
  static absl::StatusOr<DecodedBlock> Decode(absl::string_view block,
                                             RecordColumns columns = kAllColumns);

  const BlockHeader& header() const { return header_; }
  absl::Span<const RecordView> records() const { return records_; }

 private:
  BlockHeader header_;
  std::unique_ptr<char[]> data_;  // a move keeps its address
  std::vector<RecordView> records_;
};

// Headers as a block stores them, without the length before them; of none: empty.
std::string EncodeHeaders(const std::vector<RecordHeader>& headers);

// The headers of a record view.
absl::StatusOr<std::vector<RecordHeader>> DecodeHeaders(absl::string_view encoded);

}  // namespace icepie

#endif  // ICEPIE_CORE_BLOCK_BLOCK_H_
