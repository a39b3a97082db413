// Hashing stored records again and comparing them with the stored tree.
#ifndef ICEPIE_CORE_PROOF_TREE_CHECK_H_
#define ICEPIE_CORE_PROOF_TREE_CHECK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "core/append/stream_registry.h"
#include "core/log/log_store.h"
#include "core/merkle/merkle_tree.h"
#include "core/merkle/tiles.h"
#include "core/read/block_reader.h"

namespace icepie {

// Calls `visit` with the position and leaf entry of every record of `range` from `from` to `end`,
// in order. DATA_LOSS/RECORD_DAMAGED, or the first error of `visit`.
absl::Status VisitEntries(const BlockRange& range, const StreamRegistry& streams, int64_t from,
                          int64_t end,
                          const std::function<absl::Status(int64_t, const std::string&)>& visit);

// Compares nodes with the stored ones, which it reads in order, a tile at a time.
class StoredNodes {
 public:
  StoredNodes(HashReader reader, int64_t tree_size)
      : reader_(std::move(reader)), tree_size_(tree_size) {}

  // DATA_LOSS/PROOF_DAMAGED naming the position when the stored node is missing or another.
  absl::Status Compare(int level, int64_t node, const Digest& digest);

 private:
  struct Tile {
    int64_t first = -1;
    std::string hashes;
  };

  const HashReader reader_;
  const int64_t tree_size_;
  std::map<int, Tile> tiles_;  // by level
};

// Appends to `edge`, which ends at some position, the leaves of the stored records of `range` up to
// `end`, and compares each leaf and each node of a tile with the stored tree.
absl::Status GrowAndCompare(const BlockRange& range, const StreamRegistry& streams, int64_t end,
                            StoredNodes& stored, CompactRange& edge);

}  // namespace icepie

#endif  // ICEPIE_CORE_PROOF_TREE_CHECK_H_
