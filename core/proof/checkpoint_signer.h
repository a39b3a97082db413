// Signs checkpoints in a thread of its own. What is signed was hashed again from the stored
// records, compared with the stored tree, and grown from the tree that was signed before: so no
// signature contradicts an earlier one, and none covers damaged bytes.
#ifndef ICEPIE_CORE_PROOF_CHECKPOINT_SIGNER_H_
#define ICEPIE_CORE_PROOF_CHECKPOINT_SIGNER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/append/committed_head.h"
#include "core/append/stream_registry.h"
#include "core/base/mutex.h"
#include "core/core.h"
#include "core/log/log_store.h"
#include "core/log/read_only_guard.h"
#include "core/merkle/merkle_tree.h"
#include "core/proof/proofs.h"
#include "core/proof/signing_files.h"
#include "core/read/block_reader.h"

namespace icepie {

// Threads: any.
// Lifetime: what Parts names outlives it.
class CheckpointSigner {
 public:
  struct Parts {
    const LogStore* store = nullptr;
    SegmentSet* segments = nullptr;
    const StreamRegistry* streams = nullptr;
    const CommittedHead* head = nullptr;
    const ReadOnlyGuard* guard = nullptr;
    std::function<void(WriteStep)> on_step = nullptr;

    BlockSources records() const { return {store, segments, streams}; }
  };
  // Between two signatures lies at least `interval`. Unasked, it signs when the head has moved and
  // ten intervals have passed, at a tenth of a core.
  CheckpointSigner(const Parts& parts, std::string directory, SigningState state,
                   absl::Duration interval);
  ~CheckpointSigner();

  std::string verifier_key() const;

  // As Proofs::GetCheckpoint.
  absl::StatusOr<SignedCheckpoint> Get(int64_t min_size, absl::Duration max_wait);

  // The newest one, without asking for another; nullopt when there is none.
  std::optional<SignedCheckpoint> Last() const;

  // What is wrong with the files of the key and of the newest checkpoint. Of one that a start did
  // not find nothing: Get says so.
  std::vector<absl::Status> CheckFiles() const;

 private:
  void Run();
  bool WaitForWork();
  bool IsAsked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Pace(absl::Duration work_time);
  absl::Status SignUpTo(int64_t target);
  absl::Status Grow(int64_t target);
  absl::Status CompareMark();
  absl::Status Sign();
  void Reached(WriteStep step) const;

  const Parts parts_;
  const std::string directory_;
  const std::optional<SigningKey> key_;
  const absl::Duration interval_;
  // The thread's own: the tree over the records that were hashed again.
  std::optional<CompactRange> edge_;
  std::optional<HighWater> mark_;  // until it is compared

  mutable Mutex mutex_;
  CondVar changed_;
  std::optional<SignedCheckpoint> last_ ABSL_GUARDED_BY(mutex_);
  absl::Status damage_ ABSL_GUARDED_BY(mutex_);  // not OK: nothing is signed any more
  int64_t wanted_size_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time sign_time_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace icepie

#endif  // ICEPIE_CORE_PROOF_CHECKPOINT_SIGNER_H_
