#include "core/merkle/signed_note.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "core/merkle/checkpoint.h"
#include "core/merkle/merkle_tree.h"

namespace icepie {
namespace {

using testing::HasSubstr;

// The key pair, text and signature of the package that the format comes from (Ed25519 signatures
// have no random part).
constexpr char kKnownPrivate[] =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
constexpr char kKnownPublic[] =
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
constexpr char kKnownText[] =
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n";
constexpr char kKnownSignature[] =
    "\xE2\x80\x94 PeterNeumann "
    "x08go/ZJkuBS9UG/"
    "SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

TEST(SignedNoteTest, SignsAndOpensTheKnownNote) {
  const auto key = SigningKey::Parse(kKnownPrivate);
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(key->ToString(), kKnownPrivate);
  EXPECT_EQ(key->verifier().ToString(), kKnownPublic);
  const auto note = key->Sign(kKnownText);
  ASSERT_TRUE(note.ok()) << note.status();
  EXPECT_EQ(*note, absl::StrCat(kKnownText, "\n", kKnownSignature));
  const auto verifier = VerifierKey::Parse(kKnownPublic);
  ASSERT_TRUE(verifier.ok()) << verifier.status();
  const auto text = verifier->Open(*note);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, kKnownText);
}

class NoteTest : public testing::Test {
 protected:
  const SigningKey key_ = *SigningKey::Generate("example.com/log");
  const std::string text_ = "first line\n\nthird line\n";
  const std::string note_ = *key_.Sign(text_);

  void ExpectRefused(const std::string& note, const std::string& why) {
    const auto text = key_.verifier().Open(note);
    EXPECT_EQ(ErrorReason(text.status()), "PROOF_DAMAGED") << note;
    EXPECT_THAT(std::string(text.status().message()), HasSubstr(why)) << note;
  }
};

TEST_F(NoteTest, EveryChangedBitIsNoticed) {
  ASSERT_EQ(*key_.verifier().Open(note_), text_);
  for (size_t at = 0; at < note_.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = note_;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      EXPECT_FALSE(key_.verifier().Open(changed).ok()) << "byte " << at << " bit " << bit;
    }
  }
}

TEST_F(NoteTest, EveryCutIsNoticed) {
  for (size_t size = 0; size < note_.size(); ++size) {
    EXPECT_FALSE(key_.verifier().Open(note_.substr(0, size)).ok()) << size;
  }
  ExpectRefused(note_ + "\n", "no signature");
  ExpectRefused(note_ + "x", "no signature");
}

TEST_F(NoteTest, SignaturesOfOtherKeysArePassedOver) {
  const std::string blank = absl::StrCat(text_, "\n");
  const std::string own = note_.substr(blank.size());
  const std::string other =
      SigningKey::Generate("example.com/log")->Sign(text_)->substr(blank.size());
  EXPECT_TRUE(key_.verifier().Open(absl::StrCat(blank, other, own, other)).ok());
  ExpectRefused(absl::StrCat(blank, other), "not signed by key example.com/log+");
  // A wrong signature by the known key spoils the note, even beside a right one.
  const std::string wrong =
      key_.Sign("another text\n")->substr(std::string("another text\n\n").size());
  ExpectRefused(absl::StrCat(blank, wrong, own), "is wrong");
}

TEST_F(NoteTest, BoundsAreKept) {
  ExpectRefused(std::string(kNoteBytesMax + 1, 'x'), "too large");
  std::string many = note_;
  const std::string own = note_.substr(text_.size() + 1);
  for (int i = 0; i < 70; ++i) many += own;
  ExpectRefused(many, "too many signatures");
  ExpectRefused("a\tb\n\n" + own, "plain text");
  ExpectRefused("a\xFF\n\n" + own, "plain text");
}

TEST(KeyTest, NamesAreChecked) {
  for (const std::string name : {"", "with space", "a+b", "a\nb", "\xC3\xA9"}) {
    EXPECT_EQ(ErrorReason(SigningKey::Generate(name).status()), "PARAMETER_INVALID") << name;
  }
  const auto named = SigningKey::GenerateNamed("icepie.local/");
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ(named->verifier().name().size(), std::string("icepie.local/").size() + 16);
  EXPECT_EQ(*named->verifier().Open(*named->Sign("t\n")), "t\n");
}

TEST(KeyTest, BrokenKeysAreRefused) {
  const std::string good = kKnownPublic;
  ASSERT_TRUE(VerifierKey::Parse(good + "\n").ok());
  for (const std::string& bad :
       {std::string(), std::string("name"), std::string("a+b"), good + "A", good.substr(1),
        absl::StrReplaceAll(good, {{"c74f20a3", "c74f20a4"}}),
        absl::StrReplaceAll(good, {{"ARpc", "Bhpc"}}), std::string(kKnownPrivate)}) {
    EXPECT_EQ(ErrorReason(VerifierKey::Parse(bad).status()), "PARAMETER_INVALID") << bad;
    EXPECT_FALSE(SigningKey::Parse(bad == kKnownPrivate ? "" : bad).ok()) << bad;
  }
  EXPECT_FALSE(
      SigningKey::Parse(absl::StrReplaceAll(kKnownPrivate, {{"c74f20a3", "c74f20a4"}})).ok());
}

TEST(CheckpointTest, TextIsAsSpecified) {
  const Checkpoint checkpoint{"example.com/log", 20852163, Sha256("root")};
  const std::string text = EncodeCheckpoint(checkpoint);
  EXPECT_THAT(text, testing::MatchesRegex("example.com/log\n20852163\n[A-Za-z0-9+/]{43}=\n"));
  for (const std::string& accepted : {text, text + "an extension\n"}) {
    const auto decoded = DecodeCheckpoint(accepted);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(decoded->size, 20852163);
    EXPECT_EQ(decoded->root, checkpoint.root);
  }
}

TEST(CheckpointTest, RefusesWhatIsNotOne) {
  const std::string root = "3eKhcT1Xmnbm9a3pYwJ9YYyZS2sn0M8y9xQ2xUnXXXo=";
  for (const std::string& bad :
       {std::string(), std::string("\n"), std::string("o\n5\n"), "o\n5\n" + root,
        "\n5\n" + root + "\n", "o\n05\n" + root + "\n", "o\n-5\n" + root + "\n",
        "o\n+5\n" + root + "\n", "o\n9223372036854775808\n" + root + "\n", "o\n\n" + root + "\n",
        "o\n5\n" + root.substr(4) + "\n", "o\n5\n " + root + "\n", "o\n5\n" + root + "\n\n"}) {
    EXPECT_EQ(ErrorReason(DecodeCheckpoint(bad).status()), "PROOF_DAMAGED") << bad;
  }
}

TEST(CheckpointTest, IsOfTheKeysLog) {
  const SigningKey key = *SigningKey::Generate("example.com/a");
  const std::string own = *key.Sign(EncodeCheckpoint({"example.com/a", 0, Sha256({})}));
  ASSERT_TRUE(OpenCheckpoint(own, key.verifier()).ok());
  const std::string other = *key.Sign(EncodeCheckpoint({"example.com/b", 0, Sha256({})}));
  EXPECT_THAT(std::string(OpenCheckpoint(other, key.verifier()).status().message()),
              HasSubstr("of log example.com/b"));
  EXPECT_FALSE(OpenCheckpoint(own, SigningKey::Generate("example.com/a")->verifier()).ok());
}

}  // namespace
}  // namespace icepie
