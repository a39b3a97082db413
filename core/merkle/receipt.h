// Receipts: that a record is in the core, provable offline with nothing but the core's public key.
// The file is a proof of C2SP (c2sp.org/tlog-proof) whose extra data is the leaf entry.
#ifndef ICEPIE_CORE_MERKLE_RECEIPT_H_
#define ICEPIE_CORE_MERKLE_RECEIPT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/merkle/checkpoint.h"
#include "core/merkle/leaf_entry.h"
#include "core/merkle/merkle_tree.h"

namespace icepie {

// A tlog-proof as it is written; nothing of it is checked but its form.
struct TlogProof {
  std::string extra;  // empty: none
  int64_t index = 0;
  std::vector<Digest> hashes;  // from the leaf's sibling to the root's child
  std::string checkpoint;      // a signed note
};

std::string EncodeTlogProof(const TlogProof& proof);
absl::StatusOr<TlogProof> DecodeTlogProof(absl::string_view text);  // DATA_LOSS/PROOF_DAMAGED

struct Receipt {
  LeafEntry entry;
  Checkpoint checkpoint;
};

// What the receipt proves. DATA_LOSS/PROOF_DAMAGED with the first thing that does not hold: its
// form, the checkpoint's signature by `key`, the entry's position, the path to the signed root.
absl::StatusOr<Receipt> CheckReceipt(absl::string_view text, const VerifierKey& key);

}  // namespace icepie

#endif  // ICEPIE_CORE_MERKLE_RECEIPT_H_
