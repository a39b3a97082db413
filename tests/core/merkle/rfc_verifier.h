// A second opinion: trees and proofs computed and verified by the recursive definitions of RFC
// 6962, section 2.1, written from its text and without any of the product's code (libcrypto's EVP
// interface included, which the product does not use for this).
#ifndef ICEPIE_TESTS_CORE_MERKLE_RFC_VERIFIER_H_
#define ICEPIE_TESTS_CORE_MERKLE_RFC_VERIFIER_H_

#include <openssl/evp.h>

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace icepie::rfc {

inline std::string Sha256(const std::string& bytes) {
  std::string digest(32, '\0');
  EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()), nullptr,
             EVP_sha256(), nullptr);
  return digest;
}

inline std::string Leaf(const std::string& entry) { return Sha256(std::string(1, '\0') + entry); }
inline std::string Node(const std::string& left, const std::string& right) {
  return Sha256(std::string(1, '\1') + left + right);
}

// "Let k be the largest power of two smaller than n."
inline size_t SplitOf(size_t n) {
  size_t k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

// MTH over leaf hashes.
inline std::string Root(const std::vector<std::string>& leaves, size_t first, size_t n) {
  if (n == 0) return Sha256("");
  if (n == 1) return leaves[first];
  const size_t k = SplitOf(n);
  return Node(Root(leaves, first, k), Root(leaves, first + k, n - k));
}
inline std::string Root(const std::vector<std::string>& leaves, size_t n) {
  return Root(leaves, 0, n);
}

using Proof = std::vector<std::string>;

inline std::optional<std::string> TakeLast(Proof& proof) {
  if (proof.empty()) return std::nullopt;
  std::string last = proof.back();
  proof.pop_back();
  return last;
}

// The root that PATH(m, D[n]) leads to, read from its end; nullopt when it is too short.
inline std::optional<std::string> RootFromPath(const std::string& leaf, size_t m, size_t n,
                                               Proof& path) {
  if (n == 1) return leaf;
  const size_t k = SplitOf(n);
  const auto sibling = TakeLast(path);
  if (!sibling) return std::nullopt;
  const auto below =
      m < k ? RootFromPath(leaf, m, k, path) : RootFromPath(leaf, m - k, n - k, path);
  if (!below) return std::nullopt;
  return m < k ? Node(*below, *sibling) : Node(*sibling, *below);
}

inline bool Includes(const std::string& leaf, size_t m, size_t n, Proof path,
                     const std::string& root) {
  if (m >= n) return false;
  const auto computed = RootFromPath(leaf, m, n, path);
  return computed && path.empty() && *computed == root;
}

// The old and the new root of the subtree that SUBPROOF(m, D[n], b) speaks of.
inline std::optional<std::pair<std::string, std::string>> RootsFromSubproof(
    size_t m, size_t n, bool b, const std::string& old_root, Proof& proof) {
  if (m == n) {
    if (b) return std::make_pair(old_root, old_root);
    const auto root = TakeLast(proof);
    if (!root) return std::nullopt;
    return std::make_pair(*root, *root);
  }
  const size_t k = SplitOf(n);
  const auto sibling = TakeLast(proof);
  if (!sibling) return std::nullopt;
  if (m <= k) {
    const auto left = RootsFromSubproof(m, k, b, old_root, proof);
    if (!left) return std::nullopt;
    return std::make_pair(left->first, Node(left->second, *sibling));
  }
  const auto right = RootsFromSubproof(m - k, n - k, false, old_root, proof);
  if (!right) return std::nullopt;
  return std::make_pair(Node(*sibling, right->first), Node(*sibling, right->second));
}

inline bool Consistent(size_t m, const std::string& old_root, size_t n, const std::string& root,
                       Proof proof) {
  if (m > n) return false;
  if (m == 0) return proof.empty() && old_root == Sha256("");
  const auto roots = RootsFromSubproof(m, n, true, old_root, proof);
  return roots && proof.empty() && roots->first == old_root && roots->second == root;
}

}  // namespace icepie::rfc

#endif  // ICEPIE_TESTS_CORE_MERKLE_RFC_VERIFIER_H_
