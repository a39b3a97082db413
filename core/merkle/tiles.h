// How a tree's hashes are stored and served: the tiles of C2SP tlog-tiles. A tile holds 256
// consecutive nodes of one level; level 0 are leaves, a node of level n + 1 is the root of a full
// tile of level n. All nodes in between are computed from them.
#ifndef ICEPIE_CORE_MERKLE_TILES_H_
#define ICEPIE_CORE_MERKLE_TILES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/merkle/merkle_tree.h"

namespace icepie {

inline constexpr int kTileHeight = 8;
inline constexpr int64_t kTileWidth = int64_t{1} << kTileHeight;
inline constexpr int kTileLevelsMax = 8;  // of 2^63 leaves
inline constexpr size_t kDigestBytes = 32;

// How many nodes of `level` a tree of `size` leaves has.
constexpr int64_t NodesOfLevel(int level, int64_t size) { return size >> (kTileHeight * level); }

// Consecutive nodes of one level and one tile: a full tile begins at a multiple of 256 and has 256,
// a tile that still grows consists of one run for each commit.
struct TileRun {
  int level = 0;
  int64_t first = 0;  // index of the first node in its level
  std::string hashes;
  int64_t end() const { return first + static_cast<int64_t>(hashes.size() / kDigestBytes); }
};

// What a commit changes in the stored tiles. A run replaces one with the same beginning.
struct TileChanges {
  std::vector<TileRun> put;
  std::vector<std::pair<int, int64_t>> erase;  // level and first node of runs that a tile replaced
};

// Nodes [first, first + count) of a level, which lie in one tile. Errors are the store's.
using HashReader = std::function<absl::StatusOr<std::string>(int level, int64_t first, int count)>;

// Makes tiles out of leaves as they are committed.
// Threads: one.
class TileWriter {
 public:
  TileWriter() = default;  // an empty tree
  // Goes on behind the `size` leaves whose runs are stored: `runs` are those of the tiles that are
  // not full, by level and beginning. DATA_LOSS/PROOF_DAMAGED when they do not hold what belongs to
  // a tree of that size.
  static absl::StatusOr<TileWriter> Resume(int64_t size, const std::vector<TileRun>& runs);

  void Append(const Digest& leaf);
  int64_t size() const { return edge_.size(); }
  Digest Root() const { return edge_.Root(); }

  // What has come since the last call.
  TileChanges TakeChanges();

 private:
  struct Level {
    int64_t first = 0;            // of the growing tile
    std::string hashes;           // of the growing tile
    size_t saved_bytes = 0;       // of them, in runs that are stored
    std::vector<int64_t> stored;  // where those runs begin
  };

  void Add(int level, const Digest& node);

  CompactRange edge_;
  std::vector<Level> levels_;
  TileChanges changes_;
};

// The nodes of a tree that is stored in tiles. Remembers the tiles it has read: for the length of
// one proof.
class TiledNodes final : public NodeSource {
 public:
  explicit TiledNodes(HashReader reader) : reader_(std::move(reader)) {}
  absl::StatusOr<Digest> Node(int height, int64_t index) override;

 private:
  const HashReader reader_;
  std::map<std::pair<int, int64_t>, Digest> known_;  // by height and index
};

}  // namespace icepie

#endif  // ICEPIE_CORE_MERKLE_TILES_H_
