// Hostile receipts, notes, checkpoints and leaf entries: refused or accepted, never a crash; what
// is accepted is written as it was read, and of proofs exactly those are that the RFC's definitions
// accept.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "core/base/check.h"
#include "core/merkle/receipt.h"
#include "tests/core/merkle/rfc_verifier.h"

namespace {

// Made once; its private half is of no use to anybody.
const icepie::VerifierKey& Key() {
  static const icepie::VerifierKey key = *icepie::VerifierKey::Parse(
      "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
  return key;
}

std::string Text(const icepie::Digest& digest) { return std::string(icepie::ViewOf(digest)); }

icepie::rfc::Proof Texts(const std::vector<icepie::Digest>& digests) {
  icepie::rfc::Proof texts;
  for (const icepie::Digest& digest : digests) texts.push_back(Text(digest));
  return texts;
}

// The one checkpoint that the key is known to have signed is the corpus's, and nobody can make
// another.
bool IsSigned(const icepie::Checkpoint& checkpoint) {
  return checkpoint.size == 3 && absl::Base64Escape(icepie::ViewOf(checkpoint.root)) ==
                                     "Reb9RCcM/8TmRrFji+ldHLxG2f6wXMYzT1CeGNpUjsA=";
}

void CompareReceipt(absl::string_view text) {
  const bool accepted = icepie::CheckReceipt(text, Key()).ok();
  const auto proof = icepie::DecodeTlogProof(text);
  if (!proof.ok()) {
    ICEPIE_CHECK(!accepted);
    return;
  }
  const auto checkpoint = icepie::OpenCheckpoint(proof->checkpoint, Key());
  const auto entry = icepie::DecodeLeafEntry(proof->extra);
  ICEPIE_CHECK(accepted == (checkpoint.ok() && entry.ok() && entry->position == proof->index &&
                            icepie::rfc::Includes(icepie::rfc::Leaf(proof->extra),
                                                  static_cast<size_t>(proof->index),
                                                  static_cast<size_t>(checkpoint->size),
                                                  Texts(proof->hashes), Text(checkpoint->root))));
}

using Digests = std::vector<icepie::Digest>;

Digests WithoutFirst(const Digests& hashes, size_t count) {
  return {hashes.begin() + static_cast<std::ptrdiff_t>(count), hashes.end()};
}

// Of the root that the proof leads to, if it is long enough, and of another; and once more without
// what is too much of it.
void CompareInclusion(const icepie::Digest& leaf, int64_t index, int64_t size,
                      const Digests& hashes) {
  const auto m = static_cast<size_t>(index);
  const auto n = static_cast<size_t>(size);
  icepie::rfc::Proof left = Texts(hashes);
  std::optional<std::string> led;
  if (m < n) led = icepie::rfc::RootFromPath(Text(leaf), m, n, left);
  for (const std::string& root : {led.value_or(Text(leaf)), std::string(32, 'x')}) {
    const auto checked =
        icepie::CheckInclusion(leaf, index, size, hashes, icepie::DigestFrom(root));
    ICEPIE_CHECK(checked.ok() == icepie::rfc::Includes(Text(leaf), m, n, Texts(hashes), root));
  }
  if (led && !left.empty()) CompareInclusion(leaf, index, size, WithoutFirst(hashes, left.size()));
}

void CompareConsistency(const icepie::Digest& some, int64_t old_size, int64_t size,
                        const Digests& hashes) {
  const auto m = static_cast<size_t>(old_size);
  const auto n = static_cast<size_t>(size);
  icepie::rfc::Proof left = Texts(hashes);
  std::optional<std::pair<std::string, std::string>> led;
  if (0 < m && m <= n) led = icepie::rfc::RootsFromSubproof(m, n, true, Text(some), left);
  const std::string old_root = led ? led->first : Text(some);
  const std::string root = led ? led->second : Text(some);
  const std::string other(32, 'x');
  for (const auto& [old_one, one] :
       {std::pair(old_root, root), std::pair(old_root, other), std::pair(other, root)}) {
    const auto checked = icepie::CheckConsistency(old_size, icepie::DigestFrom(old_one), size,
                                                  icepie::DigestFrom(one), hashes);
    ICEPIE_CHECK(checked.ok() == icepie::rfc::Consistent(m, old_one, n, one, Texts(hashes)));
  }
  if (led && !left.empty()) {
    CompareConsistency(some, old_size, size, WithoutFirst(hashes, left.size()));
  }
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
  CompareReceipt(text);
  if (const auto checkpoint = icepie::OpenCheckpoint(text, Key()); checkpoint.ok()) {
    ICEPIE_CHECK(IsSigned(*checkpoint));
  }
  icepie::DecodeCheckpoint(text).IgnoreError();
  if (const auto key = icepie::VerifierKey::Parse(text); key.ok()) {
    ICEPIE_CHECK(icepie::VerifierKey::Parse(key->ToString()).ok());
  }
  // The rest as a proof over sizes that the input chooses.
  if (size < 18) return 0;
  Digests hashes;
  for (size_t at = 18; at + 32 <= size; at += 32) {
    hashes.push_back(icepie::DigestFrom(text.substr(at, 32)));
  }
  int64_t numbers[2] = {0, 0};
  for (int i = 0; i < 16; ++i) numbers[i / 8] = (numbers[i / 8] << 7) | (data[i] & 0x7F);
  const icepie::Digest some = icepie::Sha256(text);
  // Proofs of small trees are short enough for most inputs to have.
  for (const int64_t mask : {INT64_MAX, int64_t{0x3F}}) {
    CompareInclusion(some, numbers[0] & mask, numbers[1] & mask, hashes);
    CompareConsistency(some, numbers[0] & mask, numbers[1] & mask, hashes);
  }
  return 0;
}
