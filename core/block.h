// The stored form of consecutive records of one stream: a header, then records framed one after the
// other and compressed with zstd, then a checksum. core/README.md describes every byte. Blocks are
// what the log stores, what the daemon hands to workers unchanged, and what a worker decodes.
#ifndef ICEPIE_CORE_BLOCK_H_
#define ICEPIE_CORE_BLOCK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/record.h"

namespace icepie {

// What a block says without being decompressed.
struct BlockHeader {
  uint32_t stream_id = 0;
  int64_t first_position = 0;  // the block's records are at consecutive positions …
  int64_t first_offset = 0;    // … and at consecutive offsets
  uint32_t record_count = 0;
  int64_t ingest_time_us = 0;  // of all its records
  int64_t end_position() const { return first_position + record_count; }
};

// Encodes `records`, which are of one stream and one commit.
std::string EncodeBlock(const BlockHeader& header, absl::Span<const NewRecord* const> records);

// Reads the header. DATA_LOSS when the bytes are not a block's beginning.
absl::StatusOr<BlockHeader> ReadBlockHeader(absl::string_view block);

// A decompressed block; `records()` point into it and live as long as it does (moves keep them).
class DecodedBlock {
 public:
  // DATA_LOSS when checksum, framing or counts do not agree; hostile bytes are safe.
  static absl::StatusOr<DecodedBlock> Decode(absl::string_view block);

  const BlockHeader& header() const { return header_; }
  absl::Span<const RecordView> records() const { return records_; }

 private:
  BlockHeader header_;
  std::vector<char> data_;  // never reallocated after decoding; a move keeps its address
  std::vector<RecordView> records_;
};

// The headers of a record view.
absl::StatusOr<std::vector<RecordHeader>> DecodeHeaders(absl::string_view encoded);

}  // namespace icepie

#endif  // ICEPIE_CORE_BLOCK_H_
