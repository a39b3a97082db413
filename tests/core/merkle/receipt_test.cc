#include "core/merkle/receipt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "tests/core/merkle/tree_testing.h"

namespace icepie {
namespace {

using testing::HasSubstr;

class ReceiptTest : public testing::Test {
 protected:
  ReceiptTest() {
    for (int64_t position = 0; position < 100; ++position) {
      RecordView record;
      record.position = position;
      record.offset = position;
      record.payload = "payload";
      entries_.push_back(EncodeLeafEntry(LeafEntryOf(1, Sha256("a"), record)));
      leaves_.push_back(rfc::Leaf(entries_.back()));
    }
  }

  std::string CheckpointAt(int64_t size, const SigningKey& key) {
    return *key.Sign(
        EncodeCheckpoint({key.verifier().name(), size, DigestFrom(rfc::Root(leaves_, size))}));
  }

  TlogProof ProofOf(int64_t index, int64_t size) {
    LeavesInMemory source(leaves_);
    return {entries_[index], index, *InclusionProof(index, size, source), CheckpointAt(size, key_)};
  }

  void ExpectRefused(const std::string& text, const std::string& why) {
    const auto receipt = CheckReceipt(text, key_.verifier());
    EXPECT_EQ(ErrorReason(receipt.status()), "PROOF_DAMAGED") << text;
    EXPECT_THAT(std::string(receipt.status().message()), HasSubstr(why));
  }

  const SigningKey key_ = *SigningKey::Generate("example.com/log");
  std::vector<std::string> entries_;
  std::vector<std::string> leaves_;
};

TEST_F(ReceiptTest, ProvesEveryPosition) {
  for (const int64_t size : {1, 2, 3, 4, 5, 31, 32, 33, 100}) {
    for (int64_t index = 0; index < size; ++index) {
      const auto receipt = CheckReceipt(EncodeTlogProof(ProofOf(index, size)), key_.verifier());
      ASSERT_TRUE(receipt.ok()) << index << " of " << size << ": " << receipt.status();
      EXPECT_EQ(receipt->entry.position, index);
      EXPECT_EQ(receipt->checkpoint.size, size);
    }
  }
}

TEST_F(ReceiptTest, TextIsAsSpecified) {
  const TlogProof proof = ProofOf(1, 3);
  EXPECT_THAT(EncodeTlogProof(proof),
              testing::StartsWith("c2sp.org/tlog-proof@v1\nextra AQAAAAEAAA"));
  EXPECT_THAT(EncodeTlogProof(proof), testing::EndsWith("=\n\n" + proof.checkpoint));
  const auto decoded = DecodeTlogProof(EncodeTlogProof(proof));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->hashes, proof.hashes);
  EXPECT_EQ(decoded->extra, proof.extra);
  TlogProof bare = proof;
  bare.extra.clear();
  bare.hashes.clear();
  EXPECT_EQ(EncodeTlogProof(bare),
            absl::StrCat("c2sp.org/tlog-proof@v1\nindex 1\n\n", proof.checkpoint));
  EXPECT_TRUE(DecodeTlogProof(EncodeTlogProof(bare)).ok());
}

TEST_F(ReceiptTest, RefusesAnotherKeyIndexEntryOrSize) {
  TlogProof proof = ProofOf(10, 100);
  EXPECT_FALSE(
      CheckReceipt(EncodeTlogProof(proof), SigningKey::Generate("example.com/log")->verifier())
          .ok());
  proof.index = 11;
  ExpectRefused(EncodeTlogProof(proof), "its entry is of position 10, its index is 11");
  proof.extra = entries_[11];
  ExpectRefused(EncodeTlogProof(proof), "does not lead to the signed root");
  proof = ProofOf(10, 100);
  proof.checkpoint = CheckpointAt(99, key_);
  ExpectRefused(EncodeTlogProof(proof), "inclusion proof");
  proof.checkpoint = CheckpointAt(10, key_);
  ExpectRefused(EncodeTlogProof(proof), "not in a tree of 10 records");
  proof.checkpoint = *SigningKey::Generate("example.com/log")->Sign("x\n");
  ExpectRefused(EncodeTlogProof(proof), "not signed by key");
  proof.checkpoint = "";
  ExpectRefused(EncodeTlogProof(proof), "no signature");
}

TEST_F(ReceiptTest, RefusesEmptyShortAndLongProofs) {
  const TlogProof proof = ProofOf(10, 100);
  TlogProof changed = proof;
  changed.hashes.clear();
  ExpectRefused(EncodeTlogProof(changed), "too short");
  changed = proof;
  changed.hashes.pop_back();
  ExpectRefused(EncodeTlogProof(changed), "too short");
  changed = proof;
  changed.hashes.push_back(changed.hashes.back());
  ExpectRefused(EncodeTlogProof(changed), "too long");
  changed.hashes.resize(65);
  ExpectRefused(EncodeTlogProof(changed), "too many hashes");
}

TEST_F(ReceiptTest, EveryChangedByteIsNoticed) {
  const std::string text = EncodeTlogProof(ProofOf(10, 100));
  for (size_t at = 0; at < text.size(); ++at) {
    std::string changed = text;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    EXPECT_FALSE(CheckReceipt(changed, key_.verifier()).ok()) << at;
    EXPECT_FALSE(CheckReceipt(text.substr(0, at), key_.verifier()).ok()) << at;
  }
}

TEST_F(ReceiptTest, RefusesOtherForms) {
  const std::string note = CheckpointAt(1, key_);
  for (const std::string& bad :
       {std::string(), std::string("c2sp.org/tlog-proof@v1"),
        std::string("c2sp.org/tlog-proof@v2\n"),
        absl::StrCat("c2sp.org/tlog-proof@v1\nindex 00\n\n", note),
        absl::StrCat("c2sp.org/tlog-proof@v1\nindex -1\n\n", note),
        absl::StrCat("c2sp.org/tlog-proof@v1\nextra \nindex 0\n\n", note),
        absl::StrCat("c2sp.org/tlog-proof@v1\nextra A\nindex 0\n\n", note),
        absl::StrCat("c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\n", note),
        absl::StrCat("c2sp.org/tlog-proof@v1\nindex 0\n", note), std::string(200'000, 'x')}) {
    EXPECT_EQ(ErrorReason(CheckReceipt(bad, key_.verifier()).status()), "PROOF_DAMAGED") << bad;
  }
}

}  // namespace
}  // namespace icepie
