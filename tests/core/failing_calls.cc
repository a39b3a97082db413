#include "tests/core/failing_calls.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"

namespace icepie {
namespace {

struct Plan {
  Mutex mutex;
  std::string kind ABSL_GUARDED_BY(mutex);
  int64_t fail_at ABSL_GUARDED_BY(mutex) = 0;
  std::map<std::string, int64_t> made ABSL_GUARDED_BY(mutex);
  int error ABSL_GUARDED_BY(mutex) = 0;
  std::string directory ABSL_GUARDED_BY(mutex);
  std::string except ABSL_GUARDED_BY(mutex);
  bool failed ABSL_GUARDED_BY(mutex) = false;
};

std::atomic<bool> g_counting{false};

Plan& ThePlan() {
  static Plan& plan = *new Plan;
  return plan;
}

std::string RoleOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string name = path.substr(slash + 1);
  const size_t end = name.find_first_of(".0123456789");
  return end == 0 && slash > 0 ? RoleOf(path.substr(0, slash)) : name.substr(0, end);
}

// Whether this call is the one; errno is set then.
bool Fails(const char* what, const std::string& path) {
  Plan& plan = ThePlan();
  const MutexLock lock(plan.mutex);
  if (!absl::StartsWith(path, plan.directory) || absl::StrContains(path, plan.except)) return false;
  const std::string kind = absl::StrCat(what, " ", RoleOf(path));
  if (++plan.made[kind] != plan.fail_at || kind != plan.kind) return false;
  plan.failed = true;
  errno = plan.error;
  return true;
}

std::string PathOf(int fd) {
  char path[PATH_MAX];
  const ssize_t length = ::readlink(absl::StrCat("/proc/self/fd/", fd).c_str(), path, sizeof(path));
  return length <= 0 ? "" : std::string(path, static_cast<size_t>(length));
}

template <typename... Arguments>
long Call(const char* what, const char* path, long number, Arguments... arguments) {
  if (g_counting && Fails(what, path)) return -1;
  return ::syscall(number, arguments...);
}

template <typename... Arguments>
long Call(const char* what, int fd, long number, Arguments... arguments) {
  if (g_counting && Fails(what, PathOf(fd))) return -1;
  return ::syscall(number, arguments...);
}

}  // namespace

void FailingCalls::Fail(const std::string& kind, int64_t n, int error, const std::string& directory,
                        const std::string& except) {
  Plan& plan = ThePlan();
  const MutexLock lock(plan.mutex);
  plan.kind = kind;
  plan.fail_at = n;
  plan.made.clear();
  plan.error = error;
  plan.directory = directory;
  plan.except = except;
  plan.failed = false;
  g_counting = true;
}

void FailingCalls::Stop() { g_counting = false; }

bool FailingCalls::failed() {
  Plan& plan = ThePlan();
  const MutexLock lock(plan.mutex);
  return plan.failed;
}

std::map<std::string, int64_t> FailingCalls::made() {
  Plan& plan = ThePlan();
  const MutexLock lock(plan.mutex);
  return plan.made;
}

}  // namespace icepie

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = static_cast<mode_t>(va_arg(arguments, int));
  va_end(arguments);
  const bool changes = (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0;
  return static_cast<int>(icepie::Call(changes ? "open" : "open to read", path, SYS_openat,
                                       AT_FDCWD, path, flags, mode));
}
int open64(const char* path, int flags, ...) __attribute__((alias("open")));

ssize_t read(int fd, void* data, size_t bytes) {
  return icepie::Call("read", fd, SYS_read, fd, data, bytes);
}
ssize_t pread(int fd, void* data, size_t bytes, off_t at) {
  return icepie::Call("pread", fd, SYS_pread64, fd, data, bytes, at);
}
ssize_t pread64(int fd, void* data, size_t bytes, off64_t at) __attribute__((alias("pread")));
ssize_t write(int fd, const void* data, size_t bytes) {
  return icepie::Call("write", fd, SYS_write, fd, data, bytes);
}
ssize_t pwrite(int fd, const void* data, size_t bytes, off_t at) {
  return icepie::Call("pwrite", fd, SYS_pwrite64, fd, data, bytes, at);
}
ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t at)
    __attribute__((alias("pwrite")));
int fsync(int fd) { return static_cast<int>(icepie::Call("fsync", fd, SYS_fsync, fd)); }
int fdatasync(int fd) { return static_cast<int>(icepie::Call("fdatasync", fd, SYS_fdatasync, fd)); }
int ftruncate(int fd, off_t bytes) noexcept {
  return static_cast<int>(icepie::Call("ftruncate", fd, SYS_ftruncate, fd, bytes));
}
int ftruncate64(int fd, off64_t bytes) noexcept __attribute__((alias("ftruncate")));
int rename(const char* from, const char* to) noexcept {
  return static_cast<int>(
      icepie::Call("rename", to, SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}
int link(const char* from, const char* to) noexcept {
  return static_cast<int>(icepie::Call("link", to, SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}
int mkdir(const char* path, mode_t mode) noexcept {
  return static_cast<int>(icepie::Call("mkdir", path, SYS_mkdirat, AT_FDCWD, path, mode));
}
int fallocate(int fd, int mode, off_t at, off_t bytes) {
  return static_cast<int>(icepie::Call("fallocate", fd, SYS_fallocate, fd, mode, at, bytes));
}
int fallocate64(int fd, int mode, off64_t at, off64_t bytes) __attribute__((alias("fallocate")));
int unlink(const char* path) noexcept {
  return static_cast<int>(icepie::Call("unlink", path, SYS_unlinkat, AT_FDCWD, path, 0));
}

}  // extern "C"
