#include "core/merkle/tiles.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie {
namespace {

absl::Status BadTiles(int level, int64_t node, absl::string_view what) {
  const int64_t position = node << (kTileHeight * level);
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("the stored tree is damaged at level ", level, ", node ", node,
                                " (position ", position, "): ", what),
                   "PROOF_DAMAGED", {{"position", absl::StrCat(position)}});
}

// The root of 2^k nodes that lie side by side.
Digest RootOfNodes(absl::string_view hashes) {
  CompactRange range;
  for (; !hashes.empty(); hashes.remove_prefix(kDigestBytes)) {
    range.Append(DigestFrom(hashes.substr(0, kDigestBytes)));
  }
  return range.Root();
}

// The largest complete subtrees within a growing tile, from left to right.
void AddSubtrees(absl::string_view hashes, std::vector<Digest>& nodes) {
  const size_t count = hashes.size() / kDigestBytes;
  for (int height = kTileHeight - 1; height >= 0; --height) {
    if (((count >> height) & 1) == 0) continue;
    const size_t bytes = kDigestBytes << height;
    nodes.push_back(RootOfNodes(hashes.substr(0, bytes)));
    hashes.remove_prefix(bytes);
  }
}

}  // namespace

absl::StatusOr<TileWriter> TileWriter::Resume(int64_t size, const std::vector<TileRun>& runs) {
  TileWriter writer;
  writer.levels_.resize(kTileLevelsMax);
  for (int level = 0; level < kTileLevelsMax; ++level) {
    writer.levels_[level].first = NodesOfLevel(level, size) / kTileWidth * kTileWidth;
  }
  for (const TileRun& run : runs) {
    if (run.level < 0 || run.level >= kTileLevelsMax) {
      return MakeError(absl::StatusCode::kDataLoss,
                       absl::StrCat("the stored tree has hashes of level ", run.level,
                                    "; its levels end at ", kTileLevelsMax - 1),
                       "PROOF_DAMAGED");
    }
    Level& level = writer.levels_[run.level];
    const int64_t next = level.first + static_cast<int64_t>(level.hashes.size() / kDigestBytes);
    if (run.first != next || run.hashes.empty() || run.hashes.size() % kDigestBytes != 0) {
      return BadTiles(run.level, next, "hashes are missing");
    }
    level.hashes += run.hashes;
    level.stored.push_back(run.first);
  }
  std::vector<Digest> nodes;
  for (int level = kTileLevelsMax - 1; level >= 0; --level) {
    Level& growing = writer.levels_[level];
    growing.saved_bytes = growing.hashes.size();
    const int64_t end = growing.first + static_cast<int64_t>(growing.hashes.size() / kDigestBytes);
    if (end != NodesOfLevel(level, size)) return BadTiles(level, end, "hashes are missing");
    AddSubtrees(growing.hashes, nodes);
  }
  writer.edge_ = CompactRange(size, std::move(nodes));
  return writer;
}

void TileWriter::Append(const Digest& leaf) {
  edge_.Append(leaf, [this](int height, const Digest& node) {
    if (height % kTileHeight == 0) Add(height / kTileHeight, node);
  });
}

void TileWriter::Add(int level, const Digest& node) {
  if (levels_.size() <= static_cast<size_t>(level)) levels_.resize(level + 1);
  Level& growing = levels_[level];
  growing.hashes.append(node.data(), node.size());
  if (growing.hashes.size() < kTileWidth * kDigestBytes) return;
  for (const int64_t first : growing.stored) {
    if (first != growing.first) changes_.erase.emplace_back(level, first);
  }
  changes_.put.push_back({level, growing.first, std::move(growing.hashes)});
  growing = {growing.first + kTileWidth, "", 0, {}};
}

TileChanges TileWriter::TakeChanges() {
  for (size_t level = 0; level < levels_.size(); ++level) {
    Level& growing = levels_[level];
    if (growing.saved_bytes == growing.hashes.size()) continue;
    const int64_t first = growing.first + static_cast<int64_t>(growing.saved_bytes / kDigestBytes);
    changes_.put.push_back(
        {static_cast<int>(level), first, growing.hashes.substr(growing.saved_bytes)});
    growing.stored.push_back(first);
    growing.saved_bytes = growing.hashes.size();
  }
  return std::exchange(changes_, {});
}

absl::StatusOr<Digest> TiledNodes::Node(int height, int64_t index) {
  if (const auto found = known_.find({height, index}); found != known_.end()) return found->second;
  const int level = height / kTileHeight;
  const int below = height % kTileHeight;
  const int64_t first = index << below;
  const int count = 1 << below;
  ICEPIE_ASSIGN_OR_RETURN(const std::string hashes, reader_(level, first, count));
  if (hashes.size() != count * kDigestBytes) return BadTiles(level, first, "hashes are missing");
  const Digest root = RootOfNodes(hashes);
  known_.emplace(std::make_pair(height, index), root);
  return root;
}

}  // namespace icepie
