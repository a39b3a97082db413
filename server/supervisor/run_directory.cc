#include "server/supervisor/run_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/base/directory.h"
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

// Ours alone, made if need be.
absl::Status MakeOwn(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return ErrnoError(errno, absl::StrCat("creating ", path));
  }
  ICEPIE_RETURN_IF_ERROR(CheckOurs(path));
  chmod(path.c_str(), 0700);
  return absl::OkStatus();
}

std::string OwnName(const std::string& of) {
  return absl::StrCat("icepie-", getuid(), "-", Sha256Hex(of).substr(0, 16));
}

std::string InMemory(const std::string& run_directory) {
  return absl::StrCat("/dev/shm/", OwnName(run_directory));
}

// What an earlier daemon has left.
void Empty(const std::string& run_directory) {
  std::error_code error;
  for (const auto& entry : DirectoryEntries(run_directory, error)) {
    std::error_code ignored;
    const auto suffix = entry.path().extension();
    const bool left = suffix == kFlightSuffix || suffix == kAssignmentSuffix;
    if (entry.is_socket(ignored) || left) std::filesystem::remove(entry.path(), ignored);
    if (entry.is_directory(ignored)) RemoveWorkerSocket(entry.path() / kSocketName);
  }
}

}  // namespace

absl::StatusOr<std::string> PrepareRunDirectory(const std::string& data_directory) {
  std::string path = absl::StrCat(data_directory, "/run");
  if (path.size() > kDirectoryBytesMax) path = absl::StrCat("/tmp/", OwnName(data_directory));
  ICEPIE_RETURN_IF_ERROR(MakeOwn(path));
  Empty(path);
  const std::string in_memory = InMemory(path);
  if (CheckOurs(in_memory).ok()) {
    Empty(in_memory);
    rmdir(in_memory.c_str());
  }
  return path;
}

std::string WorkerSocket(const std::string& run_directory, const std::string& name) {
  return absl::StrCat(run_directory, "/", name, "/", kSocketName);
}

absl::StatusOr<std::string> PrepareWorkerSocket(const std::string& run_directory,
                                                const std::string& name) {
  const std::string directory = absl::StrCat(run_directory, "/", name);
  if (mkdir(directory.c_str(), 0700) == 0 || errno == EEXIST) {
    return WorkerSocket(run_directory, name);
  }
  const absl::Status error = ErrnoError(errno, absl::StrCat("creating ", directory));
  const std::string in_memory = InMemory(run_directory);
  if (!MakeOwn(in_memory).ok()) return error;
  if (mkdir(absl::StrCat(in_memory, "/", name).c_str(), 0700) != 0 && errno != EEXIST) return error;
  return WorkerSocket(in_memory, name);
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
