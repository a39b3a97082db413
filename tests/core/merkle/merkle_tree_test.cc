#include "core/merkle/merkle_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "core/base/status.h"
#include "tests/core/merkle/tree_testing.h"

namespace icepie {
namespace {

// The eight entries and the roots over the first n of them with which implementations of RFC 6962
// are compared.
const std::vector<std::string> kVectorEntries = {"",
                                                 "00",
                                                 "10",
                                                 "2021",
                                                 "3031",
                                                 "40414243",
                                                 "5051525354555657",
                                                 "606162636465666768696a6b6c6d6e6f"};
const std::vector<std::string> kVectorRoots = {
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};

std::string Hex(const Digest& digest) { return absl::BytesToHexString(ViewOf(digest)); }

// 0, 1, 2^k - 1, 2^k, 2^k + 1, and all small ones.
std::vector<int64_t> InterestingSizes() {
  std::vector<int64_t> sizes;
  for (int64_t size = 0; size <= 17; ++size) sizes.push_back(size);
  for (int64_t power = 32; power <= 256; power *= 2) {
    for (const int64_t size : {power - 1, power, power + 1}) sizes.push_back(size);
  }
  return sizes;
}

class MerkleTreeTest : public testing::Test {
 protected:
  static constexpr size_t kLeaves = 257;
  const std::vector<std::string> leaves_ = NumberedLeaves(kLeaves);
  LeavesInMemory source_{leaves_};

  Digest RootAt(int64_t size) const { return DigestFrom(rfc::Root(leaves_, size)); }
  Digest LeafAt(int64_t index) const { return DigestFrom(leaves_[index]); }
};

TEST_F(MerkleTreeTest, RootsOfTheKnownVectors) {
  CompactRange tree;
  EXPECT_EQ(Hex(tree.Root()), kVectorRoots[0]);
  for (size_t i = 0; i < kVectorEntries.size(); ++i) {
    tree.Append(LeafHash(absl::HexStringToBytes(kVectorEntries[i])));
    EXPECT_EQ(Hex(tree.Root()), kVectorRoots[i + 1]) << i + 1;
  }
}

TEST_F(MerkleTreeTest, ProofsOfTheKnownVectors) {
  std::vector<std::string> leaves;
  for (const std::string& entry : kVectorEntries) {
    leaves.push_back(rfc::Leaf(absl::HexStringToBytes(entry)));
  }
  LeavesInMemory source(leaves);
  // The sixth of eight entries: its neighbour, the pair before, the left half.
  const auto path = InclusionProof(5, 8, source);
  ASSERT_TRUE(path.ok()) << path.status();
  ASSERT_EQ(path->size(), 3u);
  EXPECT_EQ(Hex((*path)[0]), "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b");
  EXPECT_EQ(Hex((*path)[1]), "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0");
  EXPECT_EQ(Hex((*path)[2]), kVectorRoots[4]);
  const auto proof = ConsistencyProof(6, 8, source);
  ASSERT_TRUE(proof.ok()) << proof.status();
  ASSERT_EQ(proof->size(), 3u);
  EXPECT_EQ(Hex((*proof)[0]), "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a");
  EXPECT_EQ(Hex((*proof)[1]), "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0");
  EXPECT_EQ(Hex((*proof)[2]), kVectorRoots[4]);
}

TEST_F(MerkleTreeTest, GrowsToTheSameRootsAsTheDefinition) {
  CompactRange tree;
  for (size_t size = 0; size <= kLeaves; ++size) {
    EXPECT_EQ(tree.Root(), RootAt(size)) << size;
    const auto edge = RightEdge(size, source_);
    ASSERT_TRUE(edge.ok()) << edge.status();
    EXPECT_EQ(edge->Root(), tree.Root());
    if (size < kLeaves) tree.Append(LeafAt(size));
  }
}

TEST_F(MerkleTreeTest, BothVerifiersAcceptEveryInclusionProof) {
  for (const int64_t size : InterestingSizes()) {
    for (int64_t index = 0; index < size; ++index) {
      const auto proof = InclusionProof(index, size, source_);
      ASSERT_TRUE(proof.ok()) << proof.status();
      EXPECT_TRUE(
          rfc::Includes(leaves_[index], index, size, BytesOf(*proof), rfc::Root(leaves_, size)));
      const absl::Status status = CheckInclusion(LeafAt(index), index, size, *proof, RootAt(size));
      EXPECT_TRUE(status.ok()) << index << " in " << size << ": " << status;
    }
  }
}

TEST_F(MerkleTreeTest, BothVerifiersAcceptEveryConsistencyProof) {
  for (const int64_t size : InterestingSizes()) {
    for (const int64_t old_size : InterestingSizes()) {
      if (old_size > size) continue;
      const auto proof = ConsistencyProof(old_size, size, source_);
      ASSERT_TRUE(proof.ok()) << proof.status();
      EXPECT_TRUE(rfc::Consistent(old_size, rfc::Root(leaves_, old_size), size,
                                  rfc::Root(leaves_, size), BytesOf(*proof)));
      const absl::Status status =
          CheckConsistency(old_size, RootAt(old_size), size, RootAt(size), *proof);
      EXPECT_TRUE(status.ok()) << old_size << " to " << size << ": " << status;
    }
  }
}

// A proof with one hash changed, left out, doubled or added, or all left out.
std::vector<std::vector<Digest>> BrokenProofs(const std::vector<Digest>& proof) {
  std::vector<std::vector<Digest>> broken;
  for (size_t i = 0; i < proof.size(); ++i) {
    broken.push_back(proof);
    broken.back()[i][i % 32] ^= 1;
    broken.push_back(proof);
    broken.back().erase(broken.back().begin() + i);
    broken.push_back(proof);
    broken.back().insert(broken.back().begin() + i, proof[i]);
  }
  broken.push_back(proof);
  broken.back().push_back(Digest{});
  if (proof.size() > 1) broken.emplace_back();
  return broken;
}

TEST_F(MerkleTreeTest, RefusesBrokenInclusionProofs) {
  for (const int64_t size : InterestingSizes()) {
    for (int64_t index = 0; index < size; index += 1 + size / 7) {
      const std::vector<Digest> proof = InclusionProof(index, size, source_).value();
      for (const auto& broken : BrokenProofs(proof)) {
        const absl::Status status =
            CheckInclusion(LeafAt(index), index, size, broken, RootAt(size));
        EXPECT_EQ(ErrorReason(status), "PROOF_DAMAGED") << index << " in " << size;
      }
      EXPECT_FALSE(
          CheckInclusion(LeafAt(kLeaves - 1 - index), index, size, proof, RootAt(size)).ok());
      EXPECT_FALSE(CheckInclusion(LeafAt(index), index, size, proof, RootAt(size - 1)).ok());
    }
  }
}

TEST_F(MerkleTreeTest, RefusesAProofOfAnotherIndexOrSize) {
  for (const int64_t size : {2, 3, 7, 8, 9, 63, 64, 65}) {
    for (int64_t index = 0; index < size; ++index) {
      const std::vector<Digest> proof = InclusionProof(index, size, source_).value();
      for (int64_t other = -1; other <= size; ++other) {
        if (other == index) continue;
        EXPECT_FALSE(CheckInclusion(LeafAt(index), other, size, proof, RootAt(size)).ok());
      }
      // The path of an index is valid for other sizes of the same shape; never for another root.
      for (const int64_t other : {size - 1, size + 1, 2 * size}) {
        EXPECT_FALSE(CheckInclusion(LeafAt(index), index, other, proof, RootAt(other)).ok());
      }
    }
  }
  EXPECT_FALSE(CheckInclusion(LeafAt(0), 0, 0, {}, RootAt(0)).ok());
  EXPECT_FALSE(CheckInclusion(LeafAt(0), 0, -1, {}, LeafAt(0)).ok());
}

TEST_F(MerkleTreeTest, RefusesBrokenConsistencyProofs) {
  for (const int64_t size : InterestingSizes()) {
    for (const int64_t old_size : InterestingSizes()) {
      if (old_size > size) continue;
      const std::vector<Digest> proof = ConsistencyProof(old_size, size, source_).value();
      for (const auto& broken : BrokenProofs(proof)) {
        const absl::Status status =
            CheckConsistency(old_size, RootAt(old_size), size, RootAt(size), broken);
        EXPECT_EQ(ErrorReason(status), "PROOF_DAMAGED") << old_size << " to " << size;
      }
    }
  }
}

TEST_F(MerkleTreeTest, RefusesAForkedHistory) {
  std::vector<std::string> forked = leaves_;
  forked[20] = rfc::Leaf("another history");
  LeavesInMemory fork(forked);
  for (const int64_t size : {21, 32, 33, 100, 257}) {
    const std::vector<Digest> proof = ConsistencyProof(21, size, fork).value();
    const Digest root = DigestFrom(rfc::Root(forked, size));
    EXPECT_FALSE(CheckConsistency(21, RootAt(21), size, root, proof).ok()) << size;
    EXPECT_FALSE(rfc::Consistent(21, rfc::Root(leaves_, 21), size, BytesOf(root), BytesOf(proof)));
  }
  EXPECT_FALSE(CheckConsistency(30, RootAt(30), 20, RootAt(20), {}).ok());
  EXPECT_FALSE(CheckConsistency(-1, RootAt(0), 20, RootAt(20), {}).ok());
}

TEST_F(MerkleTreeTest, NamesWhatIsNotInTheTree) {
  for (const int64_t index : {-1, 10, 11}) {
    const auto proof = InclusionProof(index, 10, source_);
    EXPECT_EQ(ErrorReason(proof.status()), "PARAMETER_INVALID");
    EXPECT_THAT(std::string(proof.status().message()), testing::HasSubstr(std::to_string(index)));
  }
  EXPECT_FALSE(InclusionProof(0, 0, source_).ok());
  EXPECT_FALSE(ConsistencyProof(11, 10, source_).ok());
  EXPECT_FALSE(ConsistencyProof(-1, 10, source_).ok());
}

}  // namespace
}  // namespace icepie
