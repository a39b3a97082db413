#include "server/catalog_copy.h"

#include <spdlog/spdlog.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/byte_order.h"

namespace icepie::server {
namespace {

constexpr absl::string_view kMagic = "IPCC";
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

absl::StatusOr<CatalogCopies::Copy> Decode(const std::string& path, absl::string_view bytes) {
  const absl::Status damaged = absl::DataLossError(absl::StrCat(path, " is damaged"));
  if (bytes.size() < kHeaderBytes + kChecksumBytes || bytes.substr(0, kMagic.size()) != kMagic ||
      GetLittleEndian<uint32_t>(bytes.data() + 4) != kFormatVersion ||
      GetLittleEndian<uint32_t>(bytes.data() + 16) !=
          bytes.size() - kHeaderBytes - kChecksumBytes ||
      bytes.substr(bytes.size() - kChecksumBytes) !=
          Sha256Hex(bytes.substr(0, bytes.size() - kChecksumBytes))) {
    return damaged;
  }
  CatalogCopies::Copy copy;
  copy.epoch = GetLittleEndian<int64_t>(bytes.data() + 8);
  bytes.remove_prefix(kHeaderBytes);
  bytes.remove_suffix(kChecksumBytes);
  for (std::string key, value; !bytes.empty(); copy.pairs[key] = value) {
    if (!TakeBytes(bytes, key) || !TakeBytes(bytes, value)) return damaged;
  }
  return copy;
}

}  // namespace

std::string CatalogCopies::PathOf(const std::string& domain) const {
  return absl::StrCat(directory_, "/", domain);
}

absl::Status CatalogCopies::Write(const std::string& domain, const Copy& copy) const {
  if (directory_.empty()) return absl::OkStatus();
  std::string body;
  for (const auto& [key, value] : copy.pairs) {
    PutBytes(body, key);
    PutBytes(body, value);
  }
  std::string bytes(kMagic);
  PutLittleEndian(bytes, kFormatVersion);
  PutLittleEndian(bytes, copy.epoch);
  PutBytes(bytes, body);
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(directory_));
  return WriteFileAtomically(PathOf(domain), bytes + Sha256Hex(bytes));
}

absl::Status CatalogCopies::Remove(const std::string& domain) const {
  if (directory_.empty()) return absl::OkStatus();
  std::error_code error;
  std::filesystem::remove(PathOf(domain), error);
  if (error) return ErrnoError(error.value(), absl::StrCat("remove ", PathOf(domain)));
  return absl::OkStatus();
}

std::map<std::string, CatalogCopies::Copy> CatalogCopies::ReadAll() const {
  std::map<std::string, Copy> copies;
  if (directory_.empty()) return copies;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(directory_, error)) {
    const std::string name = file.path().filename();
    if (name.find('.') != std::string::npos) continue;  // one that was being written
    const absl::StatusOr<std::string> bytes = ReadFile(file.path());
    absl::StatusOr<Copy> copy = bytes.ok() ? Decode(file.path(), *bytes) : bytes.status();
    if (copy.ok()) {
      copies[name] = *std::move(copy);
    } else {
      spdlog::error("catalog: {}", copy.status().ToString());
    }
  }
  return copies;
}

}  // namespace icepie::server
