// Where a worker's records come from: chunks of streams in position order. The worker program
// implements it over Host.Tail; tests over a vector.
#ifndef ICEPIE_SLICES_APPLY_FEED_H_
#define ICEPIE_SLICES_APPLY_FEED_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/block/record_chunk.h"

namespace icepie::slices {

struct FeedBlock {
  std::string stream;
  std::shared_ptr<const RecordChunk> chunk;
};

struct FeedPiece {
  std::vector<FeedBlock> blocks;
  int64_t complete_position = 0;  // all wanted records below it have been handed out
  int64_t head_position = 0;
};

// One reading. The first block may begin before the position asked for.
class FeedReader {
 public:
  virtual ~FeedReader() = default;
  // Waits for the next piece. nullopt: the end position is reached. UNAVAILABLE when the feed broke
  // or was cancelled; the reader is then of no more use.
  virtual absl::StatusOr<std::optional<FeedPiece>> Next() = 0;
  // Makes Next() return soon; from any thread.
  virtual void Cancel() = 0;
};

// Threads: any.
class Feed {
 public:
  virtual ~Feed() = default;
  // Blocks of `streams` from the one that holds `from` on; up to `end`, or for ever.
  virtual std::unique_ptr<FeedReader> Open(const std::vector<std::string>& streams, int64_t from,
                                           std::optional<int64_t> end) = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_FEED_H_
