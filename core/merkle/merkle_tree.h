// The Merkle tree of RFC 6962 (section 2.1, the same in RFC 9162): a leaf is SHA-256(0x00 entry), a
// node SHA-256(0x01 left right). Proofs are made from whatever holds the tree's complete nodes, and
// checked with nothing at all.
#ifndef ICEPIE_CORE_MERKLE_MERKLE_TREE_H_
#define ICEPIE_CORE_MERKLE_MERKLE_TREE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/merkle/sha256.h"

namespace icepie {

Digest LeafHash(absl::string_view entry);
Digest NodeHash(const Digest& left, const Digest& right);

// The right edge of a growing tree: the roots of its largest complete subtrees, which is all that
// appending and the root need.
class CompactRange {
 public:
  CompactRange() = default;
  // `nodes` are the subtrees' roots from left to right, one for each bit that is set in `size`.
  CompactRange(int64_t size, std::vector<Digest> nodes);

  // Calls `completed(height, hash)` for the leaf (height 0) and each node that it completes.
  template <typename Completed>
  void Append(const Digest& leaf, const Completed& completed);
  void Append(const Digest& leaf) {
    Append(leaf, [](int, const Digest&) {});
  }

  int64_t size() const { return size_; }
  Digest Root() const;  // of no leaves: SHA-256 of nothing

 private:
  int64_t size_ = 0;
  std::vector<Digest> nodes_;
};

// Holds the complete nodes of a tree. Errors are its own.
class NodeSource {
 public:
  virtual ~NodeSource() = default;
  // The hash over the leaves [index << height, (index + 1) << height).
  virtual absl::StatusOr<Digest> Node(int height, int64_t index) = 0;
};

// Of the tree's first `size` leaves.
absl::StatusOr<CompactRange> RightEdge(int64_t size, NodeSource& source);
absl::StatusOr<Digest> RootOf(int64_t size, NodeSource& source);

// PATH(index, D[size]) and PROOF(old_size, D[size]) of the RFC. INVALID_ARGUMENT unless
// 0 <= index < size, 0 <= old_size <= size. Of the empty tree, and of equal sizes, nothing is to be
// proven and the proof is empty.
absl::StatusOr<std::vector<Digest>> InclusionProof(int64_t index, int64_t size, NodeSource& source);
absl::StatusOr<std::vector<Digest>> ConsistencyProof(int64_t old_size, int64_t size,
                                                     NodeSource& source);

// DATA_LOSS/PROOF_DAMAGED with what does not fit. RFC 9162, sections 2.1.3.2 and 2.1.4.2.
absl::Status CheckInclusion(const Digest& leaf, int64_t index, int64_t size,
                            const std::vector<Digest>& proof, const Digest& root);
absl::Status CheckConsistency(int64_t old_size, const Digest& old_root, int64_t size,
                              const Digest& root, const std::vector<Digest>& proof);

template <typename Completed>
void CompactRange::Append(const Digest& leaf, const Completed& completed) {
  Digest node = leaf;
  int height = 0;
  completed(height, node);
  for (auto rest = static_cast<uint64_t>(size_); (rest & 1) != 0; rest >>= 1) {
    node = NodeHash(nodes_.back(), node);
    nodes_.pop_back();
    completed(++height, node);
  }
  nodes_.push_back(node);
  ++size_;
}

}  // namespace icepie

#endif  // ICEPIE_CORE_MERKLE_MERKLE_TREE_H_
