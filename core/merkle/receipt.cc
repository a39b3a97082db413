#include "core/merkle/receipt.h"

#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status.h"
#include "core/merkle/base64.h"

namespace icepie {
namespace {

constexpr absl::string_view kFirstLine = "c2sp.org/tlog-proof@v1";
constexpr size_t kTextBytesMax = 2 * kNoteBytesMax;
constexpr size_t kHashesMax = 64;  // of a tree of 2^63 leaves

absl::Status BadReceipt(absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, absl::StrCat("not a valid receipt: ", what),
                   "PROOF_DAMAGED");
}

// Takes a line with its newline off the front; nullopt when there is none.
std::optional<absl::string_view> TakeLine(absl::string_view& text) {
  const size_t end = text.find('\n');
  if (end == absl::string_view::npos) return std::nullopt;
  const absl::string_view line = text.substr(0, end);
  text.remove_prefix(end + 1);
  return line;
}

absl::Status TakeHashes(absl::string_view& text, std::vector<Digest>& hashes) {
  while (true) {
    const std::optional<absl::string_view> line = TakeLine(text);
    if (!line) return BadReceipt("it has no checkpoint");
    if (line->empty()) return absl::OkStatus();
    const std::optional<std::string> hash = DecodeBase64(*line);
    if (!hash || hash->size() != sizeof(Digest)) return BadReceipt("a hash is not 32 bytes");
    if (hashes.size() == kHashesMax) return BadReceipt("it has too many hashes");
    hashes.push_back(DigestFrom(*hash));
  }
}

}  // namespace

std::string EncodeTlogProof(const TlogProof& proof) {
  std::string text = absl::StrCat(kFirstLine, "\n");
  if (!proof.extra.empty()) {
    absl::StrAppend(&text, "extra ", absl::Base64Escape(proof.extra), "\n");
  }
  absl::StrAppend(&text, "index ", proof.index, "\n");
  for (const Digest& hash : proof.hashes) {
    absl::StrAppend(&text, absl::Base64Escape(ViewOf(hash)), "\n");
  }
  return absl::StrCat(text, "\n", proof.checkpoint);
}

absl::StatusOr<TlogProof> DecodeTlogProof(absl::string_view text) {
  if (text.size() > kTextBytesMax) return BadReceipt("it is too large");
  if (TakeLine(text) != kFirstLine) {
    return BadReceipt(absl::StrCat("it does not begin with ", kFirstLine));
  }
  TlogProof proof;
  std::optional<absl::string_view> line = TakeLine(text);
  if (line && absl::ConsumePrefix(&*line, "extra ")) {
    const std::optional<std::string> extra = DecodeBase64(*line);
    if (!extra || extra->empty()) return BadReceipt("its extra data is not base64");
    proof.extra = *extra;
    line = TakeLine(text);
  }
  if (!line || !absl::ConsumePrefix(&*line, "index ") || !ParseDecimal(*line, proof.index)) {
    return BadReceipt("it has no index");
  }
  ICEPIE_RETURN_IF_ERROR(TakeHashes(text, proof.hashes));
  proof.checkpoint = std::string(text);
  return proof;
}

absl::StatusOr<Receipt> CheckReceipt(absl::string_view text, const VerifierKey& key) {
  ICEPIE_ASSIGN_OR_RETURN(const TlogProof proof, DecodeTlogProof(text));
  Receipt receipt;
  ICEPIE_ASSIGN_OR_RETURN(receipt.checkpoint, OpenCheckpoint(proof.checkpoint, key));
  ICEPIE_ASSIGN_OR_RETURN(receipt.entry, DecodeLeafEntry(proof.extra));
  if (receipt.entry.position != proof.index) {
    return BadReceipt(absl::StrCat("its entry is of position ", receipt.entry.position,
                                   ", its index is ", proof.index));
  }
  ICEPIE_RETURN_IF_ERROR(CheckInclusion(LeafHash(proof.extra), proof.index, receipt.checkpoint.size,
                                        proof.hashes, receipt.checkpoint.root));
  return receipt;
}

}  // namespace icepie
