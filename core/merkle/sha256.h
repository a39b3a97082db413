// SHA-256, also of messages whose beginning is known before their end.
#ifndef ICEPIE_CORE_MERKLE_SHA256_H_
#define ICEPIE_CORE_MERKLE_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace icepie {

using Digest = std::array<char, 32>;

inline absl::string_view ViewOf(const Digest& digest) { return {digest.data(), digest.size()}; }

// The caller has checked that `bytes` are 32.
Digest DigestFrom(absl::string_view bytes);

Digest Sha256(absl::string_view bytes);

// A hash that has taken in the first whole blocks of a message.
struct Sha256State {
  std::array<uint32_t, 8> words{};
};

inline constexpr size_t kSha256BlockBytes = 64;

// `blocks` is a whole number of blocks.
Sha256State Sha256OfBlocks(absl::string_view blocks);

// The hash of the message whose first `block_bytes` bytes are in `state` and whose rest is `rest`.
Digest FinishSha256(const Sha256State& state, size_t block_bytes, absl::string_view rest);

}  // namespace icepie

#endif  // ICEPIE_CORE_MERKLE_SHA256_H_
