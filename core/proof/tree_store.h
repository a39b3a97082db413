// The Merkle tree as the log stores it: opening it, building that of a log from before there was a
// tree, and reading its nodes for proofs.
#ifndef ICEPIE_CORE_PROOF_TREE_STORE_H_
#define ICEPIE_CORE_PROOF_TREE_STORE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "core/log/log_store.h"
#include "core/merkle/tiles.h"
#include "core/read/block_reader.h"

namespace icepie {

// The tree of a log with `head` records, to go on with. A log whose tree was never built, or not to
// its end, gives a tree that is smaller. DATA_LOSS/PROOF_DAMAGED when the stored tree is of another
// size than the log for any other reason, or damaged.
absl::StatusOr<TileWriter> LoadTree(const LogStore& store, int64_t head);

// Appends the leaves of the stored records from the tree's end to `head`, and says in the daemon's
// log how far it is.
absl::Status BuildTree(LogStore& store, const BlockSources& records, int64_t head,
                       TileWriter& tree);

// Reads nodes of the stored tree. DATA_LOSS/PROOF_DAMAGED. `store` outlives it.
HashReader TreeReader(const LogStore& store);

}  // namespace icepie

#endif  // ICEPIE_CORE_PROOF_TREE_STORE_H_
