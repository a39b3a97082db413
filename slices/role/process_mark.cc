#include "slices/role/process_mark.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <map>
#include <system_error>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/directory.h"
#include "core/base/file.h"
#include "core/base/mutex.h"

namespace icepie::slices {
namespace {

std::string ProcessFile(const std::string& tmp, int64_t process) {
  return absl::StrCat(tmp, "/process-", process);
}

// By process; what no process has made is not there.
std::map<int64_t, std::vector<std::string>> FilesByProcess(const std::string& tmp) {
  std::map<int64_t, std::vector<std::string>> files;
  std::error_code error;
  for (const auto& entry : DirectoryEntries(tmp, error)) {
    const std::string name = entry.path().filename();
    absl::string_view rest = name;
    const bool known = absl::ConsumePrefix(&rest, "process-") ||
                       absl::ConsumePrefix(&rest, "snapshot-") ||
                       absl::ConsumePrefix(&rest, "spill-");
    int64_t process = 0;
    if (!known || !absl::SimpleAtoi(rest.substr(0, rest.find('-')), &process)) continue;
    files[process].push_back(entry.path());
  }
  return files;
}

void RemoveAll(const std::vector<std::string>& paths, const std::string& but) {
  std::error_code error;
  for (const std::string& path : paths) {
    if (path != but) std::filesystem::remove_all(path, error);
  }
}

// Whether the open file is still the one of that name.
bool IsStillThere(int fd, const std::string& path) {
  struct stat open {};
  struct stat named {};
  return ::fstat(fd, &open) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open.st_ino == named.st_ino && open.st_dev == named.st_dev;
}

// Its descriptor, which stays open. Who removes what is left of an earlier process of this number
// holds the lock meanwhile, and removes the file last.
absl::StatusOr<int> Lock(const std::string& path) {
  while (true) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return ErrnoError(errno, absl::StrCat("open ", path));
    int locked = ::flock(fd, LOCK_EX);
    while (locked != 0 && errno == EINTR) locked = ::flock(fd, LOCK_EX);
    if (locked == 0 && IsStillThere(fd, path)) return fd;
    const int error = errno;
    ::close(fd);
    if (locked != 0) return ErrnoError(error, absl::StrCat("lock ", path));
  }
}

}  // namespace

absl::Status MarkProcess(const std::string& tmp) {
  static Mutex mutex;
  static auto* const marked = new std::map<std::string, int64_t>;  // by whom: a fork is another
  const int64_t process = ::getpid();
  const MutexLock lock(mutex);
  int64_t& by = (*marked)[tmp];
  const std::string path = ProcessFile(tmp, process);
  if (by == process && ::access(path.c_str(), F_OK) == 0) return absl::OkStatus();
  const absl::StatusOr<int> held = Lock(path);
  if (!held.ok()) return held.status();
  const auto files = FilesByProcess(tmp);
  if (const auto mine = files.find(process); mine != files.end()) RemoveAll(mine->second, path);
  by = process;
  return absl::OkStatus();
}

void RemoveLeftovers(const std::string& tmp) {
  for (const auto& [process, paths] : FilesByProcess(tmp)) {
    if (process == ::getpid()) continue;
    const std::string mark = ProcessFile(tmp, process);
    const int fd = ::open(mark.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT) continue;
    if (fd < 0 || ::flock(fd, LOCK_SH | LOCK_NB) == 0) {
      RemoveAll(paths, mark);
      ::unlink(mark.c_str());
    }
    if (fd >= 0) ::close(fd);
  }
}

}  // namespace icepie::slices
