#include "core/merkle/signed_note.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/status.h"
#include "core/base/utf8.h"
#include "core/byte_order.h"
#include "core/merkle/base64.h"
#include "core/merkle/sha256.h"

namespace icepie {
namespace {

constexpr char kEd25519 = 1;  // C2SP's signature type
constexpr size_t kKeyBytes = 32;
constexpr size_t kSignatureBytes = 64;
constexpr size_t kKeyIdBytes = 4;
constexpr size_t kNameBytesMax = 255;
constexpr size_t kSignaturesMax = 64;
constexpr absl::string_view kPrivatePrefix = "PRIVATE+KEY+";
constexpr absl::string_view kSignaturePrefix = "\xE2\x80\x94 ";  // em dash, space

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Context = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

const unsigned char* Bytes(absl::string_view view) {
  return reinterpret_cast<const unsigned char*>(view.data());
}
unsigned char* Bytes(std::string& string) {
  return reinterpret_cast<unsigned char*>(string.data());
}

absl::Status BadNote(absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, what, "PROOF_DAMAGED");
}

absl::Status BadKey(absl::string_view what) {
  return MakeError(absl::StatusCode::kInvalidArgument, what, "PARAMETER_INVALID");
}

uint32_t KeyId(absl::string_view name, absl::string_view public_key) {
  const Digest digest =
      Sha256(absl::StrCat(name, "\n", absl::string_view(&kEd25519, 1), public_key));
  return GetBigEndian<uint32_t>(digest.data());
}

std::string KeyText(absl::string_view name, uint32_t id, absl::string_view key) {
  return absl::StrCat(name, "+", absl::StrFormat("%08x", id), "+",
                      absl::Base64Escape(absl::StrCat(absl::string_view(&kEd25519, 1), key)));
}

struct KeyParts {
  std::string name;
  std::string id;
  std::string key;
};

// Name, id and bytes of a key's text; the id is not checked.
absl::StatusOr<KeyParts> SplitKey(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits('+', 2));
  if (parts.size() != 3) {
    return BadKey("a key is written NAME+ID+BASE64; print it with icepie checkpoint --key");
  }
  ICEPIE_RETURN_IF_ERROR(CheckKeyName(parts[0]));
  const std::optional<std::string> key = DecodeBase64(parts[2]);
  if (!key || key->size() != 1 + kKeyBytes || key->front() != kEd25519) {
    return BadKey(absl::StrCat("key ", parts[0], " is not an Ed25519 key in base64"));
  }
  return KeyParts{std::string(parts[0]), std::string(parts[1]), key->substr(1)};
}

bool Verify(const std::string& public_key, absl::string_view text, absl::string_view signature) {
  if (signature.size() != kSignatureBytes) return false;
  const Key key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, Bytes(public_key), public_key.size()),
      &EVP_PKEY_free);
  const Context context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  return key != nullptr && context != nullptr &&
         EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
         EVP_DigestVerify(context.get(), Bytes(signature), signature.size(), Bytes(text),
                          text.size()) == 1;
}

struct NoteSignature {
  absl::string_view name;
  uint32_t key_id = 0;
  std::string signature;
};

absl::StatusOr<NoteSignature> ParseSignature(absl::string_view line) {
  if (!absl::ConsumePrefix(&line, kSignaturePrefix)) {
    return BadNote("a signature of the note does not begin with a dash");
  }
  const size_t space = line.find(' ');
  if (space == 0 || space == absl::string_view::npos) {
    return BadNote("a signature of the note has no key name");
  }
  const std::optional<std::string> bytes = DecodeBase64(line.substr(space + 1));
  if (!bytes || bytes->size() <= kKeyIdBytes) {
    return BadNote("a signature of the note is not base64");
  }
  return NoteSignature{line.substr(0, space), GetBigEndian<uint32_t>(bytes->data()),
                       bytes->substr(kKeyIdBytes)};
}

struct Note {
  absl::string_view text;  // with its last newline
  std::vector<NoteSignature> signatures;
};

absl::StatusOr<Note> ParseNote(absl::string_view note) {
  if (note.size() > kNoteBytesMax) return BadNote("the signed note is too large");
  const auto is_control = [](char c) { return c >= 0 && c < ' ' && c != '\n'; };
  if (!IsUtf8(note) || std::any_of(note.begin(), note.end(), is_control)) {
    return BadNote("the signed note is not plain text");
  }
  const size_t blank = note.rfind("\n\n");
  if (blank == absl::string_view::npos || !absl::EndsWith(note, "\n") || blank + 2 == note.size()) {
    return BadNote("the signed note has no signature");
  }
  Note parsed;
  parsed.text = note.substr(0, blank + 1);
  for (const absl::string_view line :
       absl::StrSplit(absl::StripSuffix(note.substr(blank + 2), "\n"), '\n')) {
    if (parsed.signatures.size() == kSignaturesMax) return BadNote("too many signatures");
    ICEPIE_ASSIGN_OR_RETURN(NoteSignature signature, ParseSignature(line));
    parsed.signatures.push_back(std::move(signature));
  }
  return parsed;
}

}  // namespace

absl::Status CheckKeyName(absl::string_view name) {
  const auto is_allowed = [](char c) { return absl::ascii_isgraph(c) && c != '+'; };
  if (!name.empty() && name.size() <= kNameBytesMax &&
      std::all_of(name.begin(), name.end(), is_allowed)) {
    return absl::OkStatus();
  }
  return BadKey(absl::StrCat("key name \"", absl::CHexEscape(name.substr(0, kNameBytesMax)),
                             "\" is not allowed: use 1 to 255 visible ASCII characters without +, "
                             "such as example.com/log"));
}

VerifierKey::VerifierKey(std::string name, std::string public_key)
    : name_(std::move(name)), public_key_(std::move(public_key)), id_(KeyId(name_, public_key_)) {}

absl::StatusOr<VerifierKey> VerifierKey::Parse(absl::string_view text) {
  ICEPIE_ASSIGN_OR_RETURN(KeyParts parts, SplitKey(absl::StripAsciiWhitespace(text)));
  VerifierKey key(std::move(parts.name), std::move(parts.key));
  if (absl::StrFormat("%08x", key.id_) != parts.id) {
    return BadKey(absl::StrCat("the id of key ", key.name_,
                               " does not fit its bytes; was it "
                               "copied whole?"));
  }
  return key;
}

std::string VerifierKey::ToString() const { return KeyText(name_, id_, public_key_); }

absl::StatusOr<std::string> VerifierKey::Open(absl::string_view note) const {
  ICEPIE_ASSIGN_OR_RETURN(const Note parsed, ParseNote(note));
  bool is_signed = false;
  for (const NoteSignature& signature : parsed.signatures) {
    if (signature.name != name_ || signature.key_id != id_) continue;
    if (!Verify(public_key_, parsed.text, signature.signature)) {
      return BadNote(absl::StrCat("the signature by key ", name_, " is wrong"));
    }
    is_signed = true;
  }
  if (!is_signed) return BadNote(absl::StrCat("not signed by key ", ToString()));
  return std::string(parsed.text);
}

SigningKey::SigningKey(VerifierKey verifier, std::string seed)
    : verifier_(std::move(verifier)), seed_(std::move(seed)) {}

absl::StatusOr<SigningKey> SigningKey::FromSeed(absl::string_view name, const std::string& seed) {
  const Key key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, Bytes(seed), seed.size()),
                &EVP_PKEY_free);
  std::string public_key(kKeyBytes, '\0');
  size_t size = public_key.size();
  if (key == nullptr || EVP_PKEY_get_raw_public_key(key.get(), Bytes(public_key), &size) != 1) {
    return absl::InternalError("OpenSSL cannot make an Ed25519 key");
  }
  return SigningKey(VerifierKey(std::string(name), std::move(public_key)), seed);
}

absl::StatusOr<SigningKey> SigningKey::Generate(absl::string_view name) {
  ICEPIE_RETURN_IF_ERROR(CheckKeyName(name));
  std::string seed(kKeyBytes, '\0');
  if (RAND_priv_bytes(Bytes(seed), static_cast<int>(seed.size())) != 1) {
    return absl::InternalError("OpenSSL has no random bytes for a key");
  }
  return FromSeed(name, seed);
}

absl::StatusOr<SigningKey> SigningKey::GenerateNamed(absl::string_view prefix) {
  ICEPIE_ASSIGN_OR_RETURN(const SigningKey unnamed, Generate(prefix));
  const Digest digest = Sha256(unnamed.verifier_.public_key_);
  return FromSeed(absl::StrCat(prefix, absl::BytesToHexString(ViewOf(digest).substr(0, 8))),
                  unnamed.seed_);
}

absl::StatusOr<SigningKey> SigningKey::Parse(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  if (!absl::ConsumePrefix(&text, kPrivatePrefix)) return BadKey("not a private key");
  ICEPIE_ASSIGN_OR_RETURN(const KeyParts parts, SplitKey(text));
  ICEPIE_ASSIGN_OR_RETURN(SigningKey key, FromSeed(parts.name, parts.key));
  if (absl::StrFormat("%08x", key.verifier_.id_) != parts.id) {
    return BadKey(absl::StrCat("the id of private key ", parts.name, " does not fit its bytes"));
  }
  return key;
}

std::string SigningKey::ToString() const {
  return absl::StrCat(kPrivatePrefix, KeyText(verifier_.name_, verifier_.id_, seed_));
}

absl::StatusOr<std::string> SigningKey::Sign(absl::string_view text) const {
  const Key key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, Bytes(seed_), seed_.size()),
                &EVP_PKEY_free);
  const Context context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  std::string signature(kSignatureBytes, '\0');
  size_t size = signature.size();
  if (key == nullptr || context == nullptr ||
      EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1 ||
      EVP_DigestSign(context.get(), Bytes(signature), &size, Bytes(text), text.size()) != 1) {
    return absl::InternalError("OpenSSL cannot sign");
  }
  std::string bytes;
  PutBigEndian(bytes, verifier_.id_);
  bytes += signature;
  return absl::StrCat(text, "\n", kSignaturePrefix, verifier_.name_, " ", absl::Base64Escape(bytes),
                      "\n");
}

}  // namespace icepie
