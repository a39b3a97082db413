// A tree in memory, whose nodes are computed by the RFC's recursion, for tests.
#ifndef ICEPIE_TESTS_CORE_MERKLE_TREE_TESTING_H_
#define ICEPIE_TESTS_CORE_MERKLE_TREE_TESTING_H_

#include <string>
#include <vector>

#include "core/merkle/merkle_tree.h"
#include "tests/core/merkle/rfc_verifier.h"

namespace icepie {

inline std::string BytesOf(const Digest& digest) { return std::string(ViewOf(digest)); }

inline rfc::Proof BytesOf(const std::vector<Digest>& proof) {
  rfc::Proof bytes;
  for (const Digest& digest : proof) bytes.push_back(BytesOf(digest));
  return bytes;
}

inline std::vector<std::string> NumberedLeaves(size_t count) {
  std::vector<std::string> leaves;
  for (size_t i = 0; i < count; ++i) leaves.push_back(rfc::Leaf("entry " + std::to_string(i)));
  return leaves;
}

class LeavesInMemory final : public NodeSource {
 public:
  explicit LeavesInMemory(std::vector<std::string> leaves) : leaves_(std::move(leaves)) {}

  absl::StatusOr<Digest> Node(int height, int64_t index) override {
    const size_t width = size_t{1} << height;
    const size_t first = static_cast<size_t>(index) * width;
    if (first + width > leaves_.size()) return absl::InternalError("not a complete node");
    return DigestFrom(rfc::Root(leaves_, first, width));
  }

 private:
  const std::vector<std::string> leaves_;
};

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_MERKLE_TREE_TESTING_H_
