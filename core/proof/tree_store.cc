#include "core/proof/tree_store.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/block/block.h"
#include "core/log/catalog_keys.h"
#include "core/merkle/leaf_entry.h"

namespace icepie {
namespace {

constexpr absl::string_view kBuilding = "building";  // a catalog key, while the tree is built
constexpr int64_t kReadChunkBytes = int64_t{4} << 20;
constexpr absl::Duration kProgressInterval = absl::Seconds(5);

std::string BuildingKey() { return absl::StrCat(kTreeKeyPrefix, kBuilding); }

absl::StatusOr<int64_t> StoredSize(const LogStore& store) {
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<TileRun> last, store.LastTreeRun(0));
  return last ? last->end() : 0;
}

absl::StatusOr<bool> IsUnfinished(const LogStore& store, int64_t size) {
  if (size == 0) return true;
  ICEPIE_ASSIGN_OR_RETURN(const auto marks, store.ScanCatalog(BuildingKey()));
  return !marks.empty();
}

absl::Status AppendLeaves(const BlockRange& range, const StreamRegistry& streams,
                          TileWriter& tree) {
  for (const StoredBlock& stored : range.blocks) {
    ICEPIE_ASSIGN_OR_RETURN(const Stream* stream, streams.Find(stored.stream));
    ICEPIE_ASSIGN_OR_RETURN(const DecodedBlock block, DecodedBlock::Decode(stored.data));
    for (const RecordView& record : block.records()) {
      if (record.position < tree.size()) continue;
      tree.Append(LeafHash(EncodeLeafEntry(LeafEntryOf(stream->id, stream->name_digest, record))));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TileWriter> LoadTree(const LogStore& store, int64_t head) {
  ICEPIE_ASSIGN_OR_RETURN(const int64_t size, StoredSize(store));
  ICEPIE_ASSIGN_OR_RETURN(const bool unfinished, IsUnfinished(store, size));
  if (size > head || (size < head && !unfinished)) {
    return MakeError(
        absl::StatusCode::kDataLoss,
        absl::StrCat("the Merkle tree has ", size, " leaves, the log has ", head, " records"),
        "PROOF_DAMAGED");
  }
  std::vector<TileRun> runs;
  for (int level = 0; level < kTileLevelsMax; ++level) {
    const int64_t first = NodesOfLevel(level, size) / kTileWidth * kTileWidth;
    ICEPIE_ASSIGN_OR_RETURN(std::vector<TileRun> growing,
                            store.ReadTreeRuns(level, first, std::numeric_limits<int64_t>::max()));
    std::move(growing.begin(), growing.end(), std::back_inserter(runs));
  }
  return TileWriter::Resume(size, runs);
}

absl::Status BuildTree(LogStore& store, const BlockSources& records, int64_t head,
                       TileWriter& tree) {
  if (tree.size() == head) return absl::OkStatus();
  spdlog::info("core: building the Merkle tree of {} records, from {} on", head, tree.size());
  absl::Time told = SteadyNow();
  while (tree.size() < head) {
    ICEPIE_ASSIGN_OR_RETURN(
        const BlockRange range,
        ReadBlockRange(records, head, {{}, tree.size(), head, kReadChunkBytes}));
    ICEPIE_RETURN_IF_ERROR(AppendLeaves(range, *records.streams, tree));
    const bool done = tree.size() >= head;
    const LogStore::CatalogChange mark{BuildingKey(),
                                       done ? std::nullopt : std::optional<std::string>("1")};
    ICEPIE_RETURN_IF_ERROR(store.ChangeTree(tree.TakeChanges(), {&mark, 1}));
    if (done || SteadyNow() - told >= kProgressInterval) {
      told = SteadyNow();
      spdlog::info("core: Merkle tree has {} of {} records", tree.size(), head);
    }
  }
  return absl::OkStatus();
}

HashReader TreeReader(const LogStore& store) {
  return [&store](int level, int64_t first, int count) -> absl::StatusOr<std::string> {
    const int64_t tile = first / kTileWidth * kTileWidth;  // where the runs of this tile begin
    ICEPIE_ASSIGN_OR_RETURN(const std::vector<TileRun> runs,
                            store.ReadTreeRuns(level, tile, first + count));
    std::string hashes;
    for (const TileRun& run : runs) {
      if (run.first != tile + static_cast<int64_t>(hashes.size() / kDigestBytes)) break;
      hashes += run.hashes;
    }
    const size_t begin = std::min((first - tile) * kDigestBytes, hashes.size());
    return hashes.substr(begin, count * kDigestBytes);
  };
}

}  // namespace icepie
