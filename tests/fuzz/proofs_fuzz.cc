// Hostile receipts, notes, checkpoints and leaf entries: refused or accepted, never a crash; and
// what is accepted is written as it was read.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "core/base/check.h"
#include "core/merkle/receipt.h"

namespace {

// Made once; its private half is of no use to anybody.
const icepie::VerifierKey& Key() {
  static const icepie::VerifierKey key = *icepie::VerifierKey::Parse(
      "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
  return key;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto proof = icepie::DecodeTlogProof(text); proof.ok()) {
    ICEPIE_CHECK(icepie::EncodeTlogProof(*proof) == text);
  }
  if (const auto entry = icepie::DecodeLeafEntry(text); entry.ok()) {
    ICEPIE_CHECK(icepie::EncodeLeafEntry(*entry) == text);
  }
  icepie::CheckReceipt(text, Key()).IgnoreError();
  icepie::OpenCheckpoint(text, Key()).IgnoreError();
  icepie::DecodeCheckpoint(text).IgnoreError();
  if (const auto key = icepie::VerifierKey::Parse(text); key.ok()) {
    ICEPIE_CHECK(icepie::VerifierKey::Parse(key->ToString()).ok());
  }
  // The rest as a proof over sizes that the input chooses.
  if (size < 18) return 0;
  std::vector<icepie::Digest> hashes;
  for (size_t at = 18; at + 32 <= size; at += 32) {
    hashes.push_back(icepie::DigestFrom(text.substr(at, 32)));
  }
  int64_t numbers[2] = {0, 0};
  for (int i = 0; i < 16; ++i) numbers[i / 8] = (numbers[i / 8] << 7) | (data[i] & 0x7F);
  const icepie::Digest root = icepie::Sha256(text);
  ICEPIE_CHECK(
      !icepie::CheckInclusion(root, numbers[0], numbers[1], hashes, icepie::Digest{}).ok());
  icepie::CheckConsistency(numbers[0], root, numbers[1], root, hashes).IgnoreError();
  return 0;
}
