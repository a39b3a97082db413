// What the core can prove of itself: signed checkpoints of its Merkle tree, that a record is in it,
// and that it only ever grew.
#ifndef ICEPIE_CORE_PROOF_PROOFS_H_
#define ICEPIE_CORE_PROOF_PROOFS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/merkle/checkpoint.h"
#include "core/merkle/merkle_tree.h"

namespace icepie {

class Verification;  // core/verify/verification.h

struct SignedCheckpoint {
  Checkpoint checkpoint;
  std::string note;  // with its signature (core/merkle/checkpoint.h)
};

struct InclusionAnswer {
  int64_t tree_size = 0;
  Digest root{};
  std::string leaf_entry;      // made from the stored record (core/merkle/leaf_entry.h)
  std::vector<Digest> hashes;  // leads from the leaf to the root; checked before it is given
  std::string note;            // the signed checkpoint of that size; empty when there is none
};

struct ConsistencyAnswer {
  Digest old_root{};
  Digest root{};
  std::vector<Digest> hashes;  // checked before it is given
};

// Threads: any.
// Errors: DATA_LOSS/PROOF_DAMAGED, naming the position where that is known, when stored records,
//   tree and signed checkpoint do not fit together; INVALID_ARGUMENT/PARAMETER_INVALID and OUT_OF_
//   RANGE/POSITION_AHEAD_OF_CORE for what is not in the tree; CORE_READ_ONLY when nothing of the
//   core can be read. A core that is read-only proves what it still can and signs nothing.
class Proofs {
 public:
  virtual ~Proofs() = default;

  // With what the checkpoints can be checked (VerifierKey::ToString). Empty: the core has no key.
  virtual std::string verifier_key() const = 0;

  // The newest checkpoint, once it has at least `min_size` records; 0: as many as the core has now.
  // Signs a new one when it must, waiting up to `max_wait` for it; when that was too short, the
  // newest there is, or DEADLINE_EXCEEDED when it has fewer than `min_size`.
  virtual absl::StatusOr<SignedCheckpoint> GetCheckpoint(int64_t min_size,
                                                         absl::Duration max_wait) = 0;

  // That the record at `position` is in the tree of the first `tree_size` records.
  virtual absl::StatusOr<InclusionAnswer> ProveInclusion(int64_t position, int64_t tree_size) = 0;

  // That the tree of `size` records continues the one of `old_size`.
  virtual absl::StatusOr<ConsistencyAnswer> ProveConsistency(int64_t old_size, int64_t size) = 0;

  // Of the records that there are now, with the newest signed checkpoint and the older one in
  // `older_note` ("" for none).
  virtual absl::StatusOr<std::unique_ptr<Verification>> StartVerification(
      const std::string& older_note) = 0;

  // What is wrong with the files beside the log and the segments: the signing key, the last
  // checkpoint, and the high-water mark of a core that takes appends (of another, ReadOnlyCause
  // has judged it). Nothing else reads them before the next start.
  virtual std::vector<absl::Status> CheckFiles() = 0;

  // C2SP tlog-tiles: the first `width` hashes of a tile, and the leaf entries below a tile of level
  // 0, each with its length before it as u16 BE. NOT_FOUND/TILE_NOT_FOUND beyond the head.
  // Checked before it is answered: hashes with the tiles above them up to the signed root, as far
  // as it reaches, and entries with the hashes. DATA_LOSS/PROOF_DAMAGED.
  virtual absl::StatusOr<std::string> ReadTile(int level, int64_t tile, int width) = 0;
  virtual absl::StatusOr<std::string> ReadEntries(int64_t tile, int width) = 0;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_PROOF_PROOFS_H_
