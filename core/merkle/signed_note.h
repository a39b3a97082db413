// Signed notes of C2SP (c2sp.org/signed-note) with Ed25519 keys: text that anybody can check with
// nothing but the public key. Keys are written as other people's tools write them:
//   public   <name>+<key id, 8 hex digits>+<base64 of 0x01 and the 32 bytes of the key>
//   private  PRIVATE+KEY+<name>+<key id>+<base64 of 0x01 and the 32 bytes of the seed>
#ifndef ICEPIE_CORE_MERKLE_SIGNED_NOTE_H_
#define ICEPIE_CORE_MERKLE_SIGNED_NOTE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace icepie {

// Larger notes, and notes with more signatures than 64, are refused.
inline constexpr size_t kNoteBytesMax = size_t{64} << 10;

// INVALID_ARGUMENT unless `name` is 1 to 255 visible ASCII characters without "+".
absl::Status CheckKeyName(absl::string_view name);

class VerifierKey {
 public:
  // INVALID_ARGUMENT/PARAMETER_INVALID says what is wrong with the text.
  static absl::StatusOr<VerifierKey> Parse(absl::string_view text);

  std::string ToString() const;
  const std::string& name() const { return name_; }

  // The text of `note`. DATA_LOSS/PROOF_DAMAGED unless it is a note, this key signed it, and none
  // of its signatures by this key is wrong. Signatures of other keys are passed over.
  absl::StatusOr<std::string> Open(absl::string_view note) const;

 private:
  friend class SigningKey;
  VerifierKey(std::string name, std::string public_key);

  std::string name_;
  std::string public_key_;  // 32 bytes
  uint32_t id_ = 0;
};

class SigningKey {
 public:
  static absl::StatusOr<SigningKey> Generate(absl::string_view name);
  // A new key whose name is `prefix` and the first 16 hex digits of its public key's SHA-256.
  static absl::StatusOr<SigningKey> GenerateNamed(absl::string_view prefix);
  static absl::StatusOr<SigningKey> Parse(absl::string_view text);

  std::string ToString() const;  // secret
  const VerifierKey& verifier() const { return verifier_; }

  // The note of `text`, which ends in a newline.
  absl::StatusOr<std::string> Sign(absl::string_view text) const;

 private:
  SigningKey(VerifierKey verifier, std::string seed);
  static absl::StatusOr<SigningKey> FromSeed(absl::string_view name, const std::string& seed);

  VerifierKey verifier_;
  std::string seed_;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_MERKLE_SIGNED_NOTE_H_
