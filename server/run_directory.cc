#include "server/run_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

// sun_path has 108 bytes with its end; socket names are at most 24.
constexpr char kSocketName[] = "s";
constexpr char kFlightSuffix[] = ".flight";
constexpr char kAssignmentSuffix[] = ".assignment";
constexpr size_t kDirectoryBytesMax = 108 - 1 - 25;

// A directory under /tmp may have been put there by somebody else.
absl::Status CheckOurs(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return ErrnoError(errno, absl::StrCat("reading ", path));
  if (S_ISDIR(info.st_mode) && info.st_uid == getuid()) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat(path, " belongs to somebody else; use a shorter data directory"));
}

}  // namespace

absl::StatusOr<std::string> PrepareRunDirectory(const std::string& data_directory) {
  std::string path = absl::StrCat(data_directory, "/run");
  if (path.size() > kDirectoryBytesMax) {
    path = absl::StrCat("/tmp/icepie-", getuid(), "-", Sha256Hex(data_directory).substr(0, 16));
  }
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return ErrnoError(errno, absl::StrCat("creating ", path));
  }
  ICEPIE_RETURN_IF_ERROR(CheckOurs(path));
  chmod(path.c_str(), 0700);
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    std::error_code ignored;
    const auto suffix = entry.path().extension();
    const bool left = suffix == kFlightSuffix || suffix == kAssignmentSuffix;
    if (entry.is_socket(ignored) || left) std::filesystem::remove(entry.path(), ignored);
    if (entry.is_directory(ignored)) RemoveWorkerSocket(entry.path() / kSocketName);
  }
  return path;
}

std::string WorkerSocket(const std::string& run_directory, const std::string& name) {
  return absl::StrCat(run_directory, "/", name, "/", kSocketName);
}

absl::Status PrepareWorkerSocket(const std::string& socket) {
  const std::string directory = std::filesystem::path(socket).parent_path();
  if (mkdir(directory.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return ErrnoError(errno, absl::StrCat("creating ", directory));
}

std::string FlightRecordOf(const std::string& socket) {
  return absl::StrCat(std::filesystem::path(socket).parent_path().string(), kFlightSuffix);
}

std::string AssignmentFileOf(const std::string& socket) {
  return absl::StrCat(std::filesystem::path(socket).parent_path().string(), kAssignmentSuffix);
}

void RemoveWorkerSocket(const std::string& socket) {
  unlink(AssignmentFileOf(socket).c_str());
  unlink(socket.c_str());
  rmdir(std::filesystem::path(socket).parent_path().c_str());
}

}  // namespace icepie::server
