#include "core/merkle/checkpoint.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "core/merkle/base64.h"

namespace icepie {
namespace {

absl::Status BadCheckpoint(absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, absl::StrCat("not a checkpoint: ", what),
                   "PROOF_DAMAGED");
}

}  // namespace

bool ParseDecimal(absl::string_view text, int64_t& number) {
  if (text.empty() || (text.size() > 1 && text.front() == '0') ||
      !std::all_of(text.begin(), text.end(), absl::ascii_isdigit)) {
    return false;
  }
  return absl::SimpleAtoi(text, &number);
}

std::string EncodeCheckpoint(const Checkpoint& checkpoint) {
  return absl::StrCat(checkpoint.origin, "\n", checkpoint.size, "\n",
                      absl::Base64Escape(ViewOf(checkpoint.root)), "\n");
}

absl::StatusOr<Checkpoint> DecodeCheckpoint(absl::string_view text) {
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  // The last newline leaves an empty piece behind it; no other line may be empty.
  if (lines.size() < 4 || !lines.back().empty() ||
      std::any_of(lines.begin(), lines.end() - 1, [](auto line) { return line.empty(); })) {
    return BadCheckpoint("it has fewer than three lines, or an empty one");
  }
  Checkpoint checkpoint;
  checkpoint.origin = std::string(lines[0]);
  if (!ParseDecimal(lines[1], checkpoint.size)) return BadCheckpoint("its size is not a number");
  const std::optional<std::string> root = DecodeBase64(lines[2]);
  if (!root || root->size() != sizeof(Digest)) {
    return BadCheckpoint("its root is not a hash in base64");
  }
  checkpoint.root = DigestFrom(*root);
  return checkpoint;
}

absl::StatusOr<Checkpoint> OpenCheckpoint(absl::string_view note, const VerifierKey& key) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string text, key.Open(note));
  ICEPIE_ASSIGN_OR_RETURN(Checkpoint checkpoint, DecodeCheckpoint(text));
  if (checkpoint.origin != key.name()) {
    return BadCheckpoint(
        absl::StrCat("it is of log ", checkpoint.origin, ", the key of ", key.name()));
  }
  return checkpoint;
}

}  // namespace icepie
