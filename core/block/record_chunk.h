// Records of one stream at consecutive positions, wherever they are stored: a block that came over
// a socket, or a part of a segment file that is read when it is asked for.
#ifndef ICEPIE_CORE_BLOCK_RECORD_CHUNK_H_
#define ICEPIE_CORE_BLOCK_RECORD_CHUNK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/block/block.h"

namespace icepie {

// Threads: any.
class RecordChunk {
 public:
  virtual ~RecordChunk() = default;

  // Known without reading the records.
  virtual const BlockHeader& header() const = 0;

  // The records with the columns that are asked for. DATA_LOSS/RECORD_DAMAGED naming the position,
  // UNAVAILABLE when the disk fails.
  virtual absl::StatusOr<DecodedBlock> Decode(RecordColumns columns) const = 0;
};

// A chunk of a stored block. DATA_LOSS when its header is damaged.
absl::StatusOr<std::shared_ptr<const RecordChunk>> ChunkOfBlock(std::string block);

}  // namespace icepie

#endif  // ICEPIE_CORE_BLOCK_RECORD_CHUNK_H_
