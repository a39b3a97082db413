#include "core/log/data_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/memory/memory.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"

namespace icepie {
namespace {

std::string PathIn(const std::string& directory) { return absl::StrCat(directory, "/lock"); }

absl::Status LockedError(const std::string& directory, const std::string& path) {
  const absl::StatusOr<std::string> content = ReadFile(path);
  std::string pid(content.ok() ? absl::StripAsciiWhitespace(*content) : "");
  if (pid.empty()) pid = "unknown";
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("data directory ", directory, " is in use by process ", pid,
                                "; stop that process or choose another directory"),
                   "DATA_DIRECTORY_LOCKED", {{"pid", pid}, {"path", directory}});
}

absl::Status NotWritable(const std::string& directory, int error) {
  if (error != EROFS && error != EACCES && error != EPERM) {
    return ErrnoError(error, absl::StrCat("open ", directory, "/lock"));
  }
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat("data directory ", directory, " cannot be written (", std::strerror(error),
                   "); mount it for writing, or correct its owner and permissions, then start "
                   "again"),
      "DATA_DIRECTORY_NOT_WRITABLE", {{"path", directory}});
}

absl::Status WritePid(int fd, const std::string& path) {
  if (::ftruncate(fd, 0) != 0) return ErrnoError(errno, absl::StrCat("truncate ", path));
  return WriteAll(fd, absl::StrCat(::getpid(), "\n"), path);
}

}  // namespace

// flock, not fcntl: an fcntl lock is lost as soon as this process closes any other descriptor of
// the file, and does not keep a second Core of the same process out.
absl::Status DataLock::Lock(const std::string& directory) {
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
  const std::string path = PathIn(directory);
  if (errno == EWOULDBLOCK) return LockedError(directory, path);
  return ErrnoError(errno, absl::StrCat("lock ", path));
}

absl::StatusOr<std::unique_ptr<DataLock>> DataLock::Acquire(const std::string& directory) {
  const std::string path = PathIn(directory);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return NotWritable(directory, errno);
  auto lock = absl::WrapUnique(new DataLock(fd));
  ICEPIE_RETURN_IF_ERROR(lock->Lock(directory));
  ICEPIE_RETURN_IF_ERROR(WritePid(fd, path));
  return lock;
}

absl::StatusOr<std::unique_ptr<DataLock>> DataLock::AcquireToRead(const std::string& directory) {
  absl::StatusOr<std::unique_ptr<DataLock>> writable = Acquire(directory);
  if (ErrorReason(writable.status()) != "DATA_DIRECTORY_NOT_WRITABLE") return writable;
  const std::string path = PathIn(directory);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno != ENOENT) return ErrnoError(errno, absl::StrCat("open ", path));
  auto lock = absl::WrapUnique(new DataLock(fd));
  if (fd >= 0) ICEPIE_RETURN_IF_ERROR(lock->Lock(directory));
  return lock;
}

DataLock::~DataLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace icepie
