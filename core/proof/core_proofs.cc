#include "core/proof/core_proofs.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/append/catalog_changes.h"
#include "core/base/field_errors.h"
#include "core/base/status.h"
#include "core/byte_order.h"
#include "core/proof/tree_check.h"
#include "core/proof/tree_store.h"
#include "core/read/block_reader.h"
#include "core/verify/verification.h"

namespace icepie {
namespace {

// The path or root is not what stored records say: names the record that was asked for.
absl::Status DamagedAt(int64_t position, const absl::Status& status) {
  if (!absl::IsDataLoss(status)) return status;
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("position ", position, " cannot be proven: ", status.message()),
                   "PROOF_DAMAGED", {{"position", absl::StrCat(position)}});
}

absl::Status Parameter(absl::string_view field, absl::string_view message) {
  return WithField(MakeError(absl::StatusCode::kInvalidArgument, message, "PARAMETER_INVALID"),
                   field);
}

absl::Status DamagedTile(int level, int64_t tile, absl::string_view what) {
  const int64_t position = (tile * kTileWidth) << (kTileHeight * level);
  return MakeError(
      absl::StatusCode::kDataLoss,
      absl::StrCat("tile ", tile, " of level ", level, ", from position ", position, " on, ", what),
      "PROOF_DAMAGED", {{"position", absl::StrCat(position)}});
}

}  // namespace

absl::Status CoreProofs::CheckSize(absl::string_view field, int64_t size) const {
  if (parts_.store == nullptr) return parts_.guard->Check();
  if (size < 0) {
    return Parameter(field, absl::StrCat(field, " ", size, " is negative; sizes begin at 0"));
  }
  const int64_t head = parts_.head->position();
  if (size <= head) return absl::OkStatus();
  return MakeError(absl::StatusCode::kOutOfRange,
                   absl::StrCat("the core has ", head, " records, fewer than ", size),
                   "POSITION_AHEAD_OF_CORE", {{"head", absl::StrCat(head)}});
}

absl::StatusOr<std::string> CoreProofs::EntryAt(int64_t position) const {
  std::string found;
  const int64_t end = position + 1;
  ICEPIE_ASSIGN_OR_RETURN(
      const BlockRange range,
      ReadBlockRange(parts_.records(), parts_.head->position(), {{}, position, end, 1}));
  ICEPIE_RETURN_IF_ERROR(VisitEntries(range, *parts_.streams, position, end,
                                      [&found](int64_t, const std::string& entry) {
                                        found = entry;
                                        return absl::OkStatus();
                                      }));
  if (found.empty()) return absl::DataLossError("there is no such record");
  return found;
}

absl::StatusOr<InclusionAnswer> CoreProofs::ProveInclusion(int64_t position, int64_t tree_size) {
  ICEPIE_RETURN_IF_ERROR(CheckSize("tree_size", tree_size));
  if (position < 0 || position >= tree_size) {
    return Parameter("position", absl::StrCat("position ", position, " is not in a tree of ",
                                              tree_size, " records"));
  }
  InclusionAnswer answer;
  answer.tree_size = tree_size;
  absl::StatusOr<std::string> entry = EntryAt(position);
  if (!entry.ok()) return DamagedAt(position, entry.status());
  answer.leaf_entry = std::move(entry).value();
  TiledNodes nodes(TreeReader(*parts_.store));
  const absl::StatusOr<Digest> root = RootOf(tree_size, nodes);
  if (!root.ok()) return DamagedAt(position, root.status());
  answer.root = *root;
  const std::optional<SignedCheckpoint> last = signer_.Last();
  if (last && last->checkpoint.size == tree_size) {
    answer.note = last->note;
    answer.root = last->checkpoint.root;
  }
  absl::StatusOr<std::vector<Digest>> hashes = InclusionProof(position, tree_size, nodes);
  if (!hashes.ok()) return DamagedAt(position, hashes.status());
  answer.hashes = std::move(hashes).value();
  ICEPIE_RETURN_IF_ERROR(
      DamagedAt(position, CheckInclusion(LeafHash(answer.leaf_entry), position, tree_size,
                                         answer.hashes, answer.root)));
  return answer;
}

absl::StatusOr<ConsistencyAnswer> CoreProofs::ProveConsistency(int64_t old_size, int64_t size) {
  ICEPIE_RETURN_IF_ERROR(CheckSize("size", size));
  if (old_size < 0 || old_size > size) {
    return Parameter("old_size",
                     absl::StrCat("old size ", old_size, " is not one from 0 to ", size));
  }
  TiledNodes nodes(TreeReader(*parts_.store));
  ConsistencyAnswer answer;
  ICEPIE_ASSIGN_OR_RETURN(answer.old_root, RootOf(old_size, nodes));
  ICEPIE_ASSIGN_OR_RETURN(answer.root, RootOf(size, nodes));
  const std::optional<SignedCheckpoint> last = signer_.Last();
  if (last && last->checkpoint.size == size) answer.root = last->checkpoint.root;
  ICEPIE_ASSIGN_OR_RETURN(answer.hashes, ConsistencyProof(old_size, size, nodes));
  ICEPIE_RETURN_IF_ERROR(
      CheckConsistency(old_size, answer.old_root, size, answer.root, answer.hashes));
  return answer;
}

absl::StatusOr<std::unique_ptr<Verification>> CoreProofs::StartVerification(
    const std::string& older_note) {
  if (parts_.store == nullptr) return parts_.guard->Check();
  VerificationTask task{parts_.records(), 0, {}, "there is no signed checkpoint", {}, {}};
  if (!older_note.empty()) {
    ICEPIE_ASSIGN_OR_RETURN(const VerifierKey key, VerifierKey::Parse(verifier_key()));
    ICEPIE_ASSIGN_OR_RETURN(task.older, OpenCheckpoint(older_note, key));
  }
  if (const auto last = signer_.Last(); last) task.last_signed = last->checkpoint;
  task.head = parts_.head->position();
  std::optional<VerificationFinding> missing;
  if (!parts_.guard->Check().ok()) {  // else the start has found that nothing is, and CheckFiles
    const absl::StatusOr<HighWater> mark = HighWaterMark::Read(mark_path_);
    const absl::StatusOr<int64_t> changes = CountCatalogChanges(*parts_.store);
    missing = CompareWithMark(mark, std::max(task.head, StoredEnd().value_or(0)),
                              changes.ok() ? *changes : INT64_MAX);
    if (mark.ok() && mark->position <= task.head) task.mark = *mark;
  }
  auto verification = std::make_unique<Verification>(task);
  if (missing) verification->Add(*std::move(missing));
  for (const absl::Status& damage : CheckFiles()) {
    verification->Add({task.head, task.head, std::string(damage.message())});
  }
  return verification;
}

std::vector<absl::Status> CoreProofs::CheckFiles() {
  std::vector<absl::Status> damage = signer_.CheckFiles();
  const absl::Status mark = CheckMark();
  // A mark that could not be written has made the core read-only.
  if (!mark.ok() && parts_.guard->Check().ok()) damage.push_back(mark);
  return damage;
}

absl::StatusOr<int64_t> CoreProofs::StoredEnd() const {
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<BlockPlace> last, parts_.store->LastPlace());
  return std::max(last ? last->end_position() : 0, parts_.segments->sealed_position());
}

absl::Status CoreProofs::CheckMark() const {
  ICEPIE_ASSIGN_OR_RETURN(const HighWater mark,
                          HighWaterMark::Check(mark_path_, parts_.head->position()));
  // Records are stored before the mark says so, and before the head moves.
  const absl::StatusOr<int64_t> stored = StoredEnd();
  if (!stored.ok()) return absl::OkStatus();  // a table is damaged, which is found there
  if (mark.position > *stored) {
    return absl::DataLossError(absl::StrCat("the high-water mark ", mark_path_, " says ",
                                            mark.position, ", but there are ", *stored,
                                            " records"));
  }
  const absl::StatusOr<int64_t> changes = CountCatalogChanges(*parts_.store);
  if (!changes.ok() || mark.changes <= *changes) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the high-water mark ", mark_path_, " says that the ",
                                          "catalog was changed ", mark.changes,
                                          " times, but there are ", *changes, " changes"));
}

absl::Status CoreProofs::CheckTile(int level, int64_t tile, int width) const {
  if (parts_.store == nullptr) return parts_.guard->Check();
  const bool exists = level >= 0 && level < kTileLevelsMax && width >= 1 && width <= kTileWidth &&
                      tile >= 0 && tile < (int64_t{1} << 54) &&
                      tile * kTileWidth + width <= NodesOfLevel(level, parts_.head->position());
  if (exists) return absl::OkStatus();
  return MakeError(
      absl::StatusCode::kNotFound,
      absl::StrCat("the tree has no tile ", tile, " of level ", level, " with ", width, " hashes"),
      "TILE_NOT_FOUND");
}

// A full tile is compared with its node one level up, and that node's tile likewise, up to a tile
// on the tree's right edge, all of which goes into the root.
absl::Status CoreProofs::CheckNodes(int level, int64_t tile, int64_t size,
                                    const std::optional<Digest>& root) const {
  TiledNodes nodes(TreeReader(*parts_.store));
  for (; NodesOfLevel(level, size) >= (tile + 1) * kTileWidth; ++level, tile /= kTileWidth) {
    const int below = kTileHeight * level + kTileHeight - 1;  // two halves, hashed from the tile
    ICEPIE_ASSIGN_OR_RETURN(const Digest left, nodes.Node(below, 2 * tile));
    ICEPIE_ASSIGN_OR_RETURN(const Digest right, nodes.Node(below, 2 * tile + 1));
    ICEPIE_ASSIGN_OR_RETURN(const Digest stored, nodes.Node(below + 1, tile));
    if (NodeHash(left, right) != stored) {
      return DamagedTile(level, tile, "does not have the hash that the stored tree has for it");
    }
  }
  if (!root) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(const Digest found, RootOf(size, nodes));
  return found == *root ? absl::OkStatus()
                        : DamagedTile(level, tile, "does not lead to the root that was signed");
}

absl::StatusOr<std::string> CoreProofs::ReadTile(int level, int64_t tile, int width) {
  ICEPIE_RETURN_IF_ERROR(CheckTile(level, tile, width));
  const int64_t head = parts_.head->position();
  int64_t is_signed = 0;  // of the tile's nodes
  // Where signed records are lost, what is left of the tree is served as it is.
  if (const std::optional<SignedCheckpoint> last = signer_.Last();
      last && last->checkpoint.size <= head) {
    is_signed = NodesOfLevel(level, last->checkpoint.size) - tile * kTileWidth;
    if (is_signed > 0) {
      ICEPIE_RETURN_IF_ERROR(CheckNodes(level, tile, last->checkpoint.size, last->checkpoint.root));
    }
  }
  if (is_signed < width) {
    ICEPIE_RETURN_IF_ERROR(CheckNodes(level, tile, head, std::nullopt));
  }
  ICEPIE_ASSIGN_OR_RETURN(std::string hashes,
                          TreeReader(*parts_.store)(level, tile * kTileWidth, width));
  if (hashes.size() == static_cast<size_t>(width) * kDigestBytes) return hashes;
  return DamagedTile(level, tile, "is incomplete");
}

absl::StatusOr<std::string> CoreProofs::ReadEntries(int64_t tile, int width) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string leaves, ReadTile(0, tile, width));
  const int64_t first = tile * kTileWidth;
  const int64_t end = first + width;
  std::string entries;
  for (int64_t next = first; next < end;) {
    ICEPIE_ASSIGN_OR_RETURN(const BlockRange range,
                            ReadBlockRange(parts_.records(), parts_.head->position(),
                                           {{}, next, end, int64_t{1} << 20}));
    ICEPIE_RETURN_IF_ERROR(VisitEntries(
        range, *parts_.streams, next, end,
        [&entries, &leaves, first](int64_t position, const std::string& entry) {
          const Digest leaf = DigestFrom(
              absl::string_view(leaves).substr((position - first) * kDigestBytes, kDigestBytes));
          if (LeafHash(entry) != leaf) {
            return DamagedAt(position, absl::DataLossError("the stored record is not the tree's"));
          }
          PutBigEndian(entries, static_cast<uint16_t>(entry.size()));
          entries += entry;
          return absl::OkStatus();
        }));
    if (range.complete_position <= next) return absl::DataLossError("records are missing");
    next = range.complete_position;
  }
  return entries;
}

}  // namespace icepie
