#include "core/proof/tree_check.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/block/block.h"
#include "core/merkle/leaf_entry.h"

namespace icepie {
namespace {

absl::Status Differs(int level, int64_t node, absl::string_view what) {
  const int64_t position = node << (kTileHeight * level);
  const std::string place =
      level == 0 ? absl::StrCat("position ", position)
                 : absl::StrCat("node ", node, " of level ", level, ", from position ", position);
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("the stored tree ", what, " at ", place), "PROOF_DAMAGED",
                   {{"position", absl::StrCat(position)}, {"level", absl::StrCat(level)}});
}

}  // namespace

absl::Status VisitEntries(const BlockRange& range, const StreamRegistry& streams, int64_t from,
                          int64_t end,
                          const std::function<absl::Status(int64_t, const std::string&)>& visit) {
  for (const StoredBlock& stored : range.blocks) {
    ICEPIE_ASSIGN_OR_RETURN(const Stream* stream, streams.Find(stored.stream));
    ICEPIE_ASSIGN_OR_RETURN(const DecodedBlock block, DecodedBlock::Decode(stored.data));
    for (const RecordView& record : block.records()) {
      if (record.position < from || record.position >= end) continue;
      ICEPIE_RETURN_IF_ERROR(visit(
          record.position, EncodeLeafEntry(LeafEntryOf(stream->id, stream->name_digest, record))));
    }
  }
  return absl::OkStatus();
}

absl::Status StoredNodes::Compare(int level, int64_t node, const Digest& digest) {
  Tile& tile = tiles_[level];
  const int64_t first = node / kTileWidth * kTileWidth;
  if (tile.first != first) {
    const int64_t count = std::min(kTileWidth, NodesOfLevel(level, tree_size_) - first);
    ICEPIE_ASSIGN_OR_RETURN(tile.hashes, reader_(level, first, static_cast<int>(count)));
    tile.first = first;
  }
  const size_t at = static_cast<size_t>(node - first) * kDigestBytes;
  if (at + kDigestBytes > tile.hashes.size()) return Differs(level, node, "has no hash");
  if (tile.hashes.compare(at, kDigestBytes, digest.data(), digest.size()) != 0) {
    return Differs(level, node, "does not fit the stored records");
  }
  return absl::OkStatus();
}

absl::Status GrowAndCompare(const BlockRange& range, const StreamRegistry& streams, int64_t end,
                            StoredNodes& stored, CompactRange& edge) {
  return VisitEntries(range, streams, edge.size(), end,
                      [&](int64_t position, const std::string& entry) -> absl::Status {
                        absl::Status compared;
                        edge.Append(LeafHash(entry), [&](int height, const Digest& node) {
                          if (height % kTileHeight != 0 || !compared.ok()) return;
                          compared = stored.Compare(height / kTileHeight, position >> height, node);
                        });
                        return compared;
                      });
}

}  // namespace icepie
