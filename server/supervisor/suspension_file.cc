#include "server/supervisor/suspension_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "spdlog/spdlog.h"

namespace icepie::server {

void SuspensionFile::Write(const icepie::v1::WorkerStatus& status) const {
  if (path_.empty()) return;
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), ignored);
  const std::string temporary = absl::StrCat(path_, ".tmp");
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  const bool written = status.SerializeToOstream(&file) && file.flush().good();
  if (written && std::rename(temporary.c_str(), path_.c_str()) == 0) return;
  spdlog::warn("{}: the suspension ends with this daemon: it cannot be written: {}",
               status.domain(), ErrnoError(errno, path_).ToString());
}

std::optional<icepie::v1::WorkerStatus> SuspensionFile::Read() const {
  if (path_.empty()) return std::nullopt;
  std::ifstream file(path_, std::ios::binary);
  icepie::v1::WorkerStatus status;
  if (!file || !status.ParseFromIstream(&file)) return std::nullopt;
  return status;
}

void SuspensionFile::Remove() const {
  if (!path_.empty()) unlink(path_.c_str());
}

}  // namespace icepie::server
