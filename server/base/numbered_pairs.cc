#include "server/base/numbered_pairs.h"

#include "core/base/file.h"
#include "core/byte_order.h"

namespace icepie::server {
namespace {

constexpr uint32_t kFormatVersion = 1;
constexpr size_t kHeaderBytes = 20;
constexpr size_t kChecksumBytes = 64;

void PutBytes(std::string& out, absl::string_view bytes) {
  PutLittleEndian(out, static_cast<uint32_t>(bytes.size()));
  out.append(bytes.data(), bytes.size());
}

// False when `in` does not begin with as many bytes as it says.
bool TakeBytes(absl::string_view& in, std::string& out) {
  if (in.size() < sizeof(uint32_t)) return false;
  const size_t size = GetLittleEndian<uint32_t>(in.data());
  in.remove_prefix(sizeof(uint32_t));
  if (in.size() < size) return false;
  out = std::string(in.substr(0, size));
  in.remove_prefix(size);
  return true;
}

}  // namespace

std::string EncodePairs(absl::string_view magic, const NumberedPairs& pairs) {
  std::string body;
  for (const auto& [key, value] : pairs.pairs) {
    PutBytes(body, key);
    PutBytes(body, value);
  }
  std::string bytes(magic);
  PutLittleEndian(bytes, kFormatVersion);
  PutLittleEndian(bytes, pairs.number);
  PutBytes(bytes, body);
  return bytes + Sha256Hex(bytes);
}

std::optional<NumberedPairs> DecodePairs(absl::string_view magic, absl::string_view bytes) {
  if (bytes.size() < kHeaderBytes || bytes.substr(0, magic.size()) != magic ||
      GetLittleEndian<uint32_t>(bytes.data() + 4) != kFormatVersion) {
    return std::nullopt;
  }
  const size_t covered = kHeaderBytes + GetLittleEndian<uint32_t>(bytes.data() + 16);
  if (bytes.size() < covered + kChecksumBytes ||
      bytes.substr(covered, kChecksumBytes) != Sha256Hex(bytes.substr(0, covered))) {
    return std::nullopt;
  }
  NumberedPairs pairs;
  pairs.number = GetLittleEndian<int64_t>(bytes.data() + 8);
  absl::string_view body = bytes.substr(kHeaderBytes, covered - kHeaderBytes);
  for (std::string key, value; !body.empty(); pairs.pairs[key] = value) {
    if (!TakeBytes(body, key) || !TakeBytes(body, value)) return std::nullopt;
  }
  return pairs;
}

}  // namespace icepie::server
