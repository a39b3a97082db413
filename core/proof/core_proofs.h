// The core's proofs: signed checkpoints, and paths over the stored tree that were checked against
// the stored records before they are handed out.
#ifndef ICEPIE_CORE_PROOF_CORE_PROOFS_H_
#define ICEPIE_CORE_PROOF_CORE_PROOFS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/log/high_water_mark.h"
#include "core/merkle/tiles.h"
#include "core/proof/checkpoint_signer.h"
#include "core/proof/proofs.h"

namespace icepie {

// Threads: any.
// Errors: as in Proofs.
// Lifetime: what Parts names outlives it; its store may be nullptr (then nothing can be proven).
class CoreProofs final : public Proofs {
 public:
  CoreProofs(const CheckpointSigner::Parts& parts, const std::string& directory, SigningState state,
             absl::Duration checkpoint_interval)
      : parts_(parts),
        mark_path_(absl::StrCat(directory, "/", kHighWaterMarkFile)),
        signer_(parts, directory, std::move(state), checkpoint_interval) {}

  std::string verifier_key() const override { return signer_.verifier_key(); }
  absl::StatusOr<SignedCheckpoint> GetCheckpoint(int64_t min_size,
                                                 absl::Duration max_wait) override {
    return signer_.Get(min_size, max_wait);
  }
  absl::StatusOr<InclusionAnswer> ProveInclusion(int64_t position, int64_t tree_size) override;
  absl::StatusOr<ConsistencyAnswer> ProveConsistency(int64_t old_size, int64_t size) override;
  absl::StatusOr<std::unique_ptr<Verification>> StartVerification(
      const std::string& older_note) override;
  std::vector<absl::Status> CheckFiles() override;
  absl::StatusOr<std::string> ReadTile(int level, int64_t tile, int width) override;
  absl::StatusOr<std::string> ReadEntries(int64_t tile, int width) override;

 private:
  absl::Status CheckSize(absl::string_view field, int64_t size) const;
  absl::Status CheckTile(int level, int64_t tile, int width) const;
  // That the nodes of the tile which a tree of `size` leaves has are those of the tree with `root`;
  // without a root, of that which the stored nodes above them make.
  absl::Status CheckNodes(int level, int64_t tile, int64_t size,
                          const std::optional<Digest>& root) const;
  absl::StatusOr<std::string> EntryAt(int64_t position) const;
  absl::StatusOr<int64_t> StoredEnd() const;
  absl::Status CheckMark() const;

  const CheckpointSigner::Parts parts_;
  const std::string mark_path_;
  CheckpointSigner signer_;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_PROOF_CORE_PROOFS_H_
