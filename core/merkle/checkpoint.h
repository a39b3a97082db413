// Checkpoints of C2SP (c2sp.org/tlog-checkpoint): a signed note that says how large the tree is and
// what its root is.
#ifndef ICEPIE_CORE_MERKLE_CHECKPOINT_H_
#define ICEPIE_CORE_MERKLE_CHECKPOINT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/merkle/sha256.h"
#include "core/merkle/signed_note.h"

namespace icepie {

struct Checkpoint {
  std::string origin;  // which log: the name of its key
  int64_t size = 0;
  Digest root{};
};

// The note's text.
std::string EncodeCheckpoint(const Checkpoint& checkpoint);

// DATA_LOSS/PROOF_DAMAGED. Lines behind the root are passed over.
absl::StatusOr<Checkpoint> DecodeCheckpoint(absl::string_view text);

// The checkpoint in `note`, signed by `key` and of the log of that name.
absl::StatusOr<Checkpoint> OpenCheckpoint(absl::string_view note, const VerifierKey& key);

// A decimal number as C2SP's formats write it: no sign, no leading zeroes, below 2^63.
bool ParseDecimal(absl::string_view text, int64_t& number);

}  // namespace icepie

#endif  // ICEPIE_CORE_MERKLE_CHECKPOINT_H_
