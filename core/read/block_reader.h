// Reading forwards: which blocks, sealed or hot, hold the positions that a reader wants.
#ifndef ICEPIE_CORE_READ_BLOCK_READER_H_
#define ICEPIE_CORE_READ_BLOCK_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/append/stream_registry.h"
#include "core/core.h"
#include "core/log/log_store.h"
#include "core/segment/segment_set.h"

namespace icepie {

struct BlockQuery {
  std::vector<std::string> streams;  // empty: all
  int64_t from = 0;
  int64_t end = 0;
  int64_t bytes_max = 0;
};

// Where the records of a core are.
struct BlockSources {
  const LogStore* store = nullptr;
  SegmentSet* segments = nullptr;
  const StreamRegistry* streams = nullptr;
};

// Core::ReadBlocks on a core of `head` records. Sealed and hot are one sequence, also while blocks
// are being sealed. What is whole before damage comes first, the error with a call that begins
// there.
absl::StatusOr<BlockRange> ReadBlockRange(const BlockSources& sources, int64_t head,
                                          const BlockQuery& query);

}  // namespace icepie

#endif  // ICEPIE_CORE_READ_BLOCK_READER_H_
