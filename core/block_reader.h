// Reading forwards: which blocks hold the positions that a reader wants.
#ifndef ICEPIE_CORE_BLOCK_READER_H_
#define ICEPIE_CORE_BLOCK_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/core.h"
#include "core/log_store.h"
#include "core/stream_registry.h"

namespace icepie {

struct BlockQuery {
  std::vector<std::string> streams;  // empty: all
  int64_t from = 0;
  int64_t end = 0;
  int64_t bytes_max = 0;
};

// Core::ReadBlocks on a core of `head` records.
absl::StatusOr<BlockRange> ReadBlockRange(const LogStore& store, const StreamRegistry& streams,
                                          int64_t head, const BlockQuery& query);

}  // namespace icepie

#endif  // ICEPIE_CORE_BLOCK_READER_H_
