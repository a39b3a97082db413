// The core's signing key and the last checkpoint that it signed, as files beside the log: they say
// what was promised to others, whatever happens to RocksDB.
#ifndef ICEPIE_CORE_PROOF_SIGNING_FILES_H_
#define ICEPIE_CORE_PROOF_SIGNING_FILES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/log/high_water_mark.h"
#include "core/merkle/signed_note.h"
#include "core/proof/proofs.h"

namespace icepie {

struct SigningState {
  std::optional<SigningKey> key;
  std::optional<SignedCheckpoint> last;  // verified with `key`
  // Of the start: what was acknowledged before must lead to its root before anything is signed.
  std::optional<HighWater> mark;
  std::string damage;  // why nothing may be signed; with the remedy
};

// Reads both; on the first start makes them (when `may_create`), the key with mode 0600 and, as
// long as nothing else is asked for by `origin`, a name of its own. A key without a checkpoint, or
// a checkpoint without a key, is damage: a signature could contradict an earlier one.
// FAILED_PRECONDITION when `origin` is not empty and not the key's name.
absl::StatusOr<SigningState> LoadSigning(const std::string& directory, const std::string& origin,
                                         bool may_create);

// Whether the files are still what a core at work knows: the key that it signs with, for no other
// account to read, and its checkpoint `last` or a newer one, which is on disk before anybody sees
// it. DATA_LOSS/PROOF_DAMAGED naming the file.
absl::Status CheckKeyFile(const std::string& directory, const SigningKey& key);
absl::Status CheckCheckpointFile(const std::string& directory, const VerifierKey& key,
                                 const SignedCheckpoint& last);

// Puts key and checkpoint aside, with ".retired-" and the size that was signed behind their names:
// the next LoadSigning makes a new key.
absl::Status RetireSigning(const std::string& directory, int64_t signed_size);

// Durable before it returns.
absl::Status SaveCheckpoint(const std::string& directory, const std::string& note);

}  // namespace icepie

#endif  // ICEPIE_CORE_PROOF_SIGNING_FILES_H_
