#include "core/merkle/merkle_tree.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status.h"

namespace icepie {
namespace {

constexpr char kLeafTag = 0;
constexpr char kNodeTag = 1;

absl::Status BadProof(absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, what, "PROOF_DAMAGED");
}

absl::Status BadArguments(absl::string_view what, int64_t value, int64_t size) {
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat(what, " ", value, " is not in a tree of ", size, " records"),
                   "PARAMETER_INVALID");
}

// The height of the largest complete subtree that a tree of `size` >= 2 leaves has at its left when
// it is split in two.
int SplitHeight(int64_t size) {
  return 63 - __builtin_clzll(static_cast<unsigned long long>(size - 1));
}

Digest FoldRight(const std::vector<Digest>& nodes) {
  Digest root = nodes.back();
  for (size_t i = nodes.size() - 1; i-- > 0;) root = NodeHash(nodes[i], root);
  return root;
}

// The largest complete subtrees of the leaves [first, first + size), from left to right. `first` is
// a multiple of the largest one's width.
absl::StatusOr<std::vector<Digest>> SubtreeRoots(int64_t first, int64_t size, NodeSource& source) {
  std::vector<Digest> roots;
  for (int height = 62; height >= 0; --height) {
    if (((size >> height) & 1) == 0) continue;
    ICEPIE_ASSIGN_OR_RETURN(const Digest root, source.Node(height, first >> height));
    roots.push_back(root);
    first += int64_t{1} << height;
  }
  return roots;
}

// MTH(D[first:first + size]) for size >= 1.
absl::StatusOr<Digest> RangeRoot(int64_t first, int64_t size, NodeSource& source) {
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<Digest> roots, SubtreeRoots(first, size, source));
  return FoldRight(roots);
}

// Takes the hashes off a proof; nullptr behind the last.
class ProofReader {
 public:
  explicit ProofReader(const std::vector<Digest>& proof) : proof_(proof) {}
  const Digest* Next() { return next_ < proof_.size() ? &proof_[next_++] : nullptr; }

 private:
  const std::vector<Digest>& proof_;
  size_t next_ = 0;
};

// What the walk up a consistency proof has found so far (RFC 9162, 2.1.4.2).
struct Roots {
  Digest old_root;
  Digest new_root;
};

// Walks from the node at (old_index, last_index) of some height to the root.
absl::Status WalkUp(uint64_t old_index, uint64_t last_index, ProofReader& proof, Roots& roots) {
  while (const Digest* hash = proof.Next()) {
    if (last_index == 0) return BadProof("the consistency proof is too long");
    if ((old_index & 1) != 0 || old_index == last_index) {
      roots.old_root = NodeHash(*hash, roots.old_root);
      roots.new_root = NodeHash(*hash, roots.new_root);
      while (old_index != 0 && (old_index & 1) == 0) {
        old_index >>= 1;
        last_index >>= 1;
      }
    } else {
      roots.new_root = NodeHash(roots.new_root, *hash);
    }
    old_index >>= 1;
    last_index >>= 1;
  }
  if (last_index != 0) return BadProof("the consistency proof is too short");
  return absl::OkStatus();
}

}  // namespace

Digest LeafHash(absl::string_view entry) {
  return Sha256(absl::StrCat(absl::string_view(&kLeafTag, 1), entry));
}

Digest NodeHash(const Digest& left, const Digest& right) {
  std::array<char, 1 + 2 * sizeof(Digest)> message;
  message[0] = kNodeTag;
  std::copy(left.begin(), left.end(), message.begin() + 1);
  std::copy(right.begin(), right.end(), message.begin() + 1 + sizeof(Digest));
  return Sha256({message.data(), message.size()});
}

CompactRange::CompactRange(int64_t size, std::vector<Digest> nodes)
    : size_(size), nodes_(std::move(nodes)) {
  ICEPIE_CHECK(static_cast<int>(nodes_.size()) ==
               __builtin_popcountll(static_cast<unsigned long long>(size)));
}

Digest CompactRange::Root() const { return nodes_.empty() ? Sha256({}) : FoldRight(nodes_); }

absl::StatusOr<CompactRange> RightEdge(int64_t size, NodeSource& source) {
  ICEPIE_ASSIGN_OR_RETURN(std::vector<Digest> nodes, SubtreeRoots(0, size, source));
  return CompactRange(size, std::move(nodes));
}

absl::StatusOr<Digest> RootOf(int64_t size, NodeSource& source) {
  ICEPIE_ASSIGN_OR_RETURN(const CompactRange edge, RightEdge(size, source));
  return edge.Root();
}

absl::StatusOr<std::vector<Digest>> InclusionProof(int64_t index, int64_t size,
                                                   NodeSource& source) {
  if (index < 0 || index >= size) return BadArguments("position", index, size);
  std::vector<Digest> proof;
  int64_t first = 0;
  while (size > 1) {
    const int64_t left = int64_t{1} << SplitHeight(size);
    const bool goes_left = index < left;
    ICEPIE_ASSIGN_OR_RETURN(const Digest sibling, goes_left
                                                      ? RangeRoot(first + left, size - left, source)
                                                      : RangeRoot(first, left, source));
    proof.push_back(sibling);
    if (!goes_left) {
      first += left;
      index -= left;
    }
    size = goes_left ? left : size - left;
  }
  std::reverse(proof.begin(), proof.end());
  return proof;
}

absl::StatusOr<std::vector<Digest>> ConsistencyProof(int64_t old_size, int64_t size,
                                                     NodeSource& source) {
  if (old_size < 0 || old_size > size) return BadArguments("size", old_size, size);
  std::vector<Digest> proof;
  if (old_size == 0) return proof;
  int64_t first = 0;
  bool known = true;  // the subtree is the whole old tree, whose root the verifier has
  while (old_size < size) {
    const int64_t left = int64_t{1} << SplitHeight(size);
    const bool goes_left = old_size <= left;
    ICEPIE_ASSIGN_OR_RETURN(const Digest sibling, goes_left
                                                      ? RangeRoot(first + left, size - left, source)
                                                      : RangeRoot(first, left, source));
    proof.push_back(sibling);
    if (!goes_left) {
      first += left;
      old_size -= left;
      known = false;
    }
    size = goes_left ? left : size - left;
  }
  if (!known) {
    ICEPIE_ASSIGN_OR_RETURN(const Digest subtree, RangeRoot(first, size, source));
    proof.push_back(subtree);
  }
  std::reverse(proof.begin(), proof.end());
  return proof;
}

absl::Status CheckInclusion(const Digest& leaf, int64_t index, int64_t size,
                            const std::vector<Digest>& proof, const Digest& root) {
  if (index < 0 || index >= size) {
    return BadProof(absl::StrCat("position ", index, " is not in a tree of ", size, " records"));
  }
  auto node_index = static_cast<uint64_t>(index);
  auto last_index = static_cast<uint64_t>(size - 1);
  Digest hash = leaf;
  for (const Digest& sibling : proof) {
    if (last_index == 0) return BadProof("the inclusion proof is too long");
    if ((node_index & 1) != 0 || node_index == last_index) {
      hash = NodeHash(sibling, hash);
      while (node_index != 0 && (node_index & 1) == 0) {
        node_index >>= 1;
        last_index >>= 1;
      }
    } else {
      hash = NodeHash(hash, sibling);
    }
    node_index >>= 1;
    last_index >>= 1;
  }
  if (last_index != 0) return BadProof("the inclusion proof is too short");
  if (hash != root) return BadProof("the inclusion proof does not lead to the signed root");
  return absl::OkStatus();
}

absl::Status CheckConsistency(int64_t old_size, const Digest& old_root, int64_t size,
                              const Digest& root, const std::vector<Digest>& proof) {
  if (old_size < 0 || old_size > size) {
    return BadProof(absl::StrCat("the older tree has ", old_size, " records, the newer ", size));
  }
  if (old_size == 0 || old_size == size) {
    if (!proof.empty()) return BadProof("the consistency proof is too long");
    if (old_root == (old_size == 0 ? Sha256({}) : root)) return absl::OkStatus();
    return BadProof("two different trees of the same size");
  }
  ProofReader reader(proof);
  auto old_index = static_cast<uint64_t>(old_size - 1);
  auto last_index = static_cast<uint64_t>(size - 1);
  while ((old_index & 1) != 0) {
    old_index >>= 1;
    last_index >>= 1;
  }
  // An old tree that is one complete subtree is its own first node.
  const bool complete = (old_size & (old_size - 1)) == 0;
  const Digest* first = complete ? &old_root : reader.Next();
  if (first == nullptr) return BadProof("the consistency proof is too short");
  Roots roots{*first, *first};
  ICEPIE_RETURN_IF_ERROR(WalkUp(old_index, last_index, reader, roots));
  if (roots.old_root != old_root) {
    return BadProof("the consistency proof does not lead to the older root");
  }
  if (roots.new_root != root) {
    return BadProof("the consistency proof does not lead to the newer root");
  }
  return absl::OkStatus();
}

}  // namespace icepie
