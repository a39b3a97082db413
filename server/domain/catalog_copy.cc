#include "server/domain/catalog_copy.h"

#include <spdlog/spdlog.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "server/base/numbered_pairs.h"

namespace icepie::server {
namespace {

constexpr absl::string_view kMagic = "IPCC";

}  // namespace

std::string CatalogCopies::PathOf(const std::string& domain) const {
  return absl::StrCat(directory_, "/", domain);
}

absl::Status CatalogCopies::Write(const std::string& domain, const Copy& copy) const {
  if (directory_.empty()) return absl::OkStatus();
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(directory_));
  return WriteFileAtomically(PathOf(domain), EncodePairs(kMagic, {copy.epoch, copy.pairs}));
}

absl::Status CatalogCopies::Remove(const std::string& domain) const {
  if (directory_.empty()) return absl::OkStatus();
  std::error_code error;
  const bool removed = std::filesystem::remove(PathOf(domain), error);
  if (error) return ErrnoError(error.value(), absl::StrCat("remove ", PathOf(domain)));
  return removed ? SyncDirectory(directory_) : absl::OkStatus();
}

std::map<std::string, CatalogCopies::Copy> CatalogCopies::ReadAll() const {
  std::map<std::string, Copy> copies;
  if (directory_.empty()) return copies;
  std::error_code error;
  for (const auto& file : DirectoryEntries(directory_, error)) {
    const std::string name = file.path().filename();
    if (name.find('.') != std::string::npos) continue;  // one that was being written
    const absl::StatusOr<std::string> bytes = ReadFile(file.path());
    if (!bytes.ok()) {
      spdlog::error("catalog: {}", bytes.status().ToString());
      continue;
    }
    std::optional<NumberedPairs> copy = DecodePairs(kMagic, *bytes);
    if (copy) {
      copies[name] = {copy->number, std::move(copy->pairs)};
    } else {
      spdlog::error("catalog: {} is damaged", file.path().string());
    }
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    spdlog::error("catalog: {}: {}", directory_, error.message());
  }
  return copies;
}

}  // namespace icepie::server
