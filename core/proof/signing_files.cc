#include "core/proof/signing_files.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/file.h"
#include "core/base/page_cache.h"
#include "core/base/status.h"

namespace icepie {
namespace {

constexpr absl::string_view kDefaultPrefix = "icepie.local/";
constexpr mode_t kKeyFileMode = 0600;
constexpr mode_t kModeBits = 07777;
constexpr mode_t kOthersMode = 0077;

std::string KeyPath(const std::string& directory) {
  return absl::StrCat(directory, "/signing_key");
}
std::string CheckpointPath(const std::string& directory) {
  return absl::StrCat(directory, "/checkpoint");
}

absl::StatusOr<SignedCheckpoint> SignEmptyTree(const SigningKey& key) {
  SignedCheckpoint first;
  first.checkpoint = {key.verifier().name(), 0, Sha256({})};
  ICEPIE_ASSIGN_OR_RETURN(first.note, key.Sign(EncodeCheckpoint(first.checkpoint)));
  return first;
}

// The checkpoint goes first: without a key nothing was ever signed but the empty tree, with which
// every tree is consistent.
absl::StatusOr<SigningState> Create(const std::string& directory, const std::string& origin) {
  ICEPIE_ASSIGN_OR_RETURN(SigningKey key, origin.empty() ? SigningKey::GenerateNamed(kDefaultPrefix)
                                                         : SigningKey::Generate(origin));
  SigningState state;
  ICEPIE_ASSIGN_OR_RETURN(state.last, SignEmptyTree(key));
  ICEPIE_RETURN_IF_ERROR(SaveCheckpoint(directory, state.last->note));
  ICEPIE_RETURN_IF_ERROR(
      WriteFileAtomically(KeyPath(directory), absl::StrCat(key.ToString(), "\n"), kKeyFileMode));
  spdlog::info("core: made the key that signs checkpoints; check them with {}",
               key.verifier().ToString());
  state.key = std::move(key);
  return state;
}

// Of a log that lost its key: the size that its last checkpoint says.
absl::StatusOr<int64_t> UnverifiedSize(const std::string& note) {
  ICEPIE_ASSIGN_OR_RETURN(const Checkpoint checkpoint,
                          DecodeCheckpoint(note.substr(0, note.rfind("\n\n") + 1)));
  return checkpoint.size;
}

absl::StatusOr<SigningState> WithoutKey(const std::string& directory, const std::string& origin,
                                        const absl::StatusOr<std::string>& note, bool may_create) {
  const absl::StatusOr<int64_t> size = absl::IsNotFound(note.status()) ? 0
                                       : note.ok()                     ? UnverifiedSize(*note)
                                                                       : note.status();
  if (size.ok() && *size == 0) {
    if (may_create) return Create(directory, origin);
    return SigningState();
  }
  SigningState state;
  state.damage = absl::StrCat("checkpoints were signed, but the key ", KeyPath(directory),
                              " is missing; restore it from a backup and start again");
  return state;
}

absl::Status KeyDamaged(const std::string& path, absl::string_view why) {
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("the signing key ", path, " is not as it was made: ", why),
                   "PROOF_DAMAGED");
}

absl::Status CheckpointDamaged(const std::string& path, absl::string_view why) {
  return MakeError(
      absl::StatusCode::kDataLoss,
      absl::StrCat("the last signed checkpoint ", path, " is not as it was written: ", why),
      "PROOF_DAMAGED");
}

}  // namespace

absl::Status SaveCheckpoint(const std::string& directory, const std::string& note) {
  return WriteFileAtomically(CheckpointPath(directory), note);
}

absl::Status CheckKeyFile(const std::string& directory, const SigningKey& key) {
  const std::string path = KeyPath(directory);
  DropFromPageCache(path);
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return KeyDamaged(path, text.status().message());
  const absl::StatusOr<SigningKey> stored = SigningKey::Parse(*text);
  if (!stored.ok()) return KeyDamaged(path, stored.status().message());
  if (stored->ToString() != key.ToString()) return KeyDamaged(path, "it is another key");
  struct stat file {};
  if (::stat(path.c_str(), &file) != 0 || (file.st_mode & kOthersMode) == 0) {
    return absl::OkStatus();
  }
  return KeyDamaged(path, absl::StrFormat("its mode is %04o, so that others may have it; it should "
                                          "be %04o",
                                          file.st_mode & kModeBits, kKeyFileMode));
}

absl::Status CheckCheckpointFile(const std::string& directory, const VerifierKey& key,
                                 const SignedCheckpoint& last) {
  const std::string path = CheckpointPath(directory);
  DropFromPageCache(path);
  const absl::StatusOr<std::string> note = ReadFile(path);
  if (!note.ok()) return CheckpointDamaged(path, note.status().message());
  if (*note == last.note) return absl::OkStatus();
  const absl::StatusOr<Checkpoint> stored = OpenCheckpoint(*note, key);
  if (!stored.ok()) return CheckpointDamaged(path, stored.status().message());
  if (stored->size > last.checkpoint.size) return absl::OkStatus();
  return CheckpointDamaged(path, absl::StrCat("it is of ", stored->size, " records, and one of ",
                                              last.checkpoint.size, " was signed"));
}

absl::Status RetireSigning(const std::string& directory, int64_t signed_size) {
  for (const std::string& path : {KeyPath(directory), CheckpointPath(directory)}) {
    const std::string retired = absl::StrCat(path, ".retired-", signed_size);
    // It may have been done before, by a start that ended too early.
    if (std::rename(path.c_str(), retired.c_str()) != 0 && errno != ENOENT) {
      return ErrnoError(errno, absl::StrCat("rename ", path));
    }
  }
  return SyncDirectory(directory);
}

absl::StatusOr<SigningState> LoadSigning(const std::string& directory, const std::string& origin,
                                         bool may_create) {
  if (!origin.empty()) ICEPIE_RETURN_IF_ERROR(CheckKeyName(origin));
  const absl::StatusOr<std::string> note = ReadFile(CheckpointPath(directory));
  const absl::StatusOr<std::string> text = ReadFile(KeyPath(directory));
  if (absl::IsNotFound(text.status())) return WithoutKey(directory, origin, note, may_create);
  SigningState state;
  absl::StatusOr<SigningKey> key = text.ok() ? SigningKey::Parse(*text) : text.status();
  if (!key.ok()) {
    state.damage = absl::StrCat("the signing key ", KeyPath(directory), " cannot be used (",
                                key.status().message(), "); restore it from a backup");
    return state;
  }
  if (!origin.empty() && origin != key->verifier().name()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "core.origin is ", origin, ", but the key in ", KeyPath(directory), " is that of ",
        key->verifier().name(), "; a core keeps its name: correct or remove the setting"));
  }
  const absl::StatusOr<Checkpoint> last =
      note.ok() ? OpenCheckpoint(*note, key->verifier()) : note.status();
  if (last.ok()) {
    state.last = SignedCheckpoint{*last, *note};
  } else {
    state.damage = absl::StrCat("the last signed checkpoint ", CheckpointPath(directory),
                                " cannot be used (", last.status().message(),
                                "), and a new one might contradict it; restore it from a backup");
  }
  state.key = std::move(key).value();
  return state;
}

}  // namespace icepie
