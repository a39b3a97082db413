// A valid batch, made ready for the sequencer by the appending thread: cut into runs of one stream,
// large runs already compressed.
#ifndef ICEPIE_CORE_APPEND_PREPARED_APPEND_H_
#define ICEPIE_CORE_APPEND_PREPARED_APPEND_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/append/stream_registry.h"
#include "core/block/block.h"
#include "core/core.h"
#include "core/merkle/leaf_entry.h"

namespace icepie {

// A block holds about so much before compression: large enough to compress well and to be read
// with few seeks, small enough to be passed around in one message.
inline constexpr int64_t kBlockTargetBytes = int64_t{1} << 20;

// Consecutive records of one stream. Either `body` is set and `records` is empty, or the run is
// small and the sequencer puts it into a block together with its neighbours.
struct AppendRun {
  Stream* stream = nullptr;
  uint32_t record_count = 0;
  int64_t framed_bytes = 0;
  std::vector<NewRecord> records;
  std::optional<BlockBody> body;
  std::vector<PreparedLeaf> leaves;  // one for each record, unless the core keeps no tree
};

struct PreparedAppend {
  std::vector<AppendRun> runs;
  std::vector<AppendCondition> conditions;
  const StreamRegistry* registry = nullptr;  // where the streams of the conditions are looked up
  std::optional<AppendIdentity> identity;
  std::string fingerprint;  // of records and conditions, when there is an identity
  bool validate_only = false;
  absl::Status refusal;  // unless it was stored before: the stream's paths now ask for more
  std::shared_ptr<AppendChain> chain;
  uint64_t peer = 0;         // as AppendBatch's
  int64_t memory_bytes = 0;  // what it holds while it waits
  bool internal = false;     // the daemon's own: goes on when the disk is too full for clients
  Core::AppendDone done;
};

// ABORTED/APPEND_CHAIN_BROKEN.
absl::Status ChainBroken();

// `streams` are those of ValidateRecords. NOT_FOUND for an end offset of an unknown stream,
// INVALID_ARGUMENT for too many conditions, a malformed identity or a payload that lacks what the
// stream's paths name; of a batch with an identity the last is its `refusal`.
absl::StatusOr<PreparedAppend> PrepareAppend(AppendBatch batch, const std::vector<Stream*>& streams,
                                             const StreamRegistry& registry, bool with_leaves);

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_PREPARED_APPEND_H_
