#include "core/merkle/sha256.h"

// OpenSSL's low-level functions are deprecated in favour of EVP, whose set-up costs several times
// what hashing a leaf costs, and which cannot stop and go on in the middle of a message. The code
// that hashes is the same.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>

#include "core/base/check.h"

namespace icepie {
namespace {

Digest Finish(SHA256_CTX* context) {
  Digest digest;
  SHA256_Final(reinterpret_cast<unsigned char*>(digest.data()), context);
  return digest;
}

}  // namespace

Digest DigestFrom(absl::string_view bytes) {
  Digest digest;
  ICEPIE_CHECK(bytes.size() == digest.size());
  std::memcpy(digest.data(), bytes.data(), digest.size());
  return digest;
}

Digest Sha256(absl::string_view bytes) {
  SHA256_CTX context;
  SHA256_Init(&context);
  SHA256_Update(&context, bytes.data(), bytes.size());
  return Finish(&context);
}

Sha256State Sha256OfBlocks(absl::string_view blocks) {
  ICEPIE_CHECK(blocks.size() % kSha256BlockBytes == 0);
  SHA256_CTX context;
  SHA256_Init(&context);
  SHA256_Update(&context, blocks.data(), blocks.size());
  Sha256State state;
  std::copy(std::begin(context.h), std::end(context.h), state.words.begin());
  return state;
}

Digest FinishSha256(const Sha256State& state, size_t block_bytes, absl::string_view rest) {
  SHA256_CTX context;
  SHA256_Init(&context);
  std::copy(state.words.begin(), state.words.end(), std::begin(context.h));
  const auto bits = static_cast<uint64_t>(block_bytes) * 8;
  context.Nl = static_cast<SHA_LONG>(bits);
  context.Nh = static_cast<SHA_LONG>(bits >> 32);
  SHA256_Update(&context, rest.data(), rest.size());
  return Finish(&context);
}

}  // namespace icepie
