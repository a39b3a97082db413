#include "tests/core/failing_calls.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
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
  bool in_part ABSL_GUARDED_BY(mutex) = false;
  bool failed ABSL_GUARDED_BY(mutex) = false;
  DIR* failing_list ABSL_GUARDED_BY(mutex) = nullptr;
  int entries_left ABSL_GUARDED_BY(mutex) = 0;  // before it fails
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

constexpr absl::string_view kList = "list";

enum class Fate { kDone, kHalf, kFails };

// Of this call; errno is set when it fails.
Fate FateOf(absl::string_view what, const std::string& path) {
  Plan& plan = ThePlan();
  const MutexLock lock(plan.mutex);
  // RocksDB's calls fail elsewhere; who lists its directory cannot be told apart.
  const bool is_excepted = absl::StrContains(path, plan.except) && what != kList;
  if (!absl::StartsWith(path, plan.directory) || is_excepted) return Fate::kDone;
  const std::string kind = absl::StrCat(what, " ", RoleOf(path));
  if (++plan.made[kind] != plan.fail_at || kind != plan.kind) return Fate::kDone;
  plan.failed = true;
  if (plan.in_part) {
    plan.in_part = false;
    ++plan.fail_at;
    return Fate::kHalf;
  }
  errno = plan.error;
  return Fate::kFails;
}

bool Fails(absl::string_view what, const std::string& path) {
  return FateOf(what, path) == Fate::kFails;
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

template <typename... Arguments>
ssize_t Write(const char* what, int fd, long number, const void* data, size_t bytes,
              Arguments... arguments) {
  const Fate fate = g_counting ? FateOf(what, PathOf(fd)) : Fate::kDone;
  if (fate == Fate::kFails) return -1;
  return ::syscall(number, fd, data, fate == Fate::kHalf ? bytes / 2 : bytes, arguments...);
}

// The C library's own.
template <typename Function>
Function* Real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

constexpr int kEntriesListed = 3;  // two of them may be "." and ".."

DIR* Listed(DIR* list) {
  if (list == nullptr || !g_counting || !Fails(kList, PathOf(::dirfd(list)))) return list;
  Plan& plan = ThePlan();
  const MutexLock lock(plan.mutex);
  plan.failing_list = list;
  plan.entries_left = kEntriesListed;
  return list;
}

bool FailsToList(DIR* list) {
  Plan& plan = ThePlan();
  const MutexLock lock(plan.mutex);
  if (list != plan.failing_list || plan.entries_left-- > 0) return false;
  plan.failing_list = nullptr;
  errno = plan.error;
  return true;
}

}  // namespace

void FailingCalls::Fail(const std::string& kind, int64_t n, int error, const std::string& directory,
                        const std::string& except, bool in_part) {
  Plan& plan = ThePlan();
  const MutexLock lock(plan.mutex);
  plan.kind = kind;
  plan.fail_at = n;
  plan.made.clear();
  plan.error = error;
  plan.directory = directory;
  plan.except = except;
  plan.in_part = in_part;
  plan.failed = false;
  plan.failing_list = nullptr;
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
  return icepie::Write("write", fd, SYS_write, data, bytes);
}
ssize_t pwrite(int fd, const void* data, size_t bytes, off_t at) {
  return icepie::Write("pwrite", fd, SYS_pwrite64, data, bytes, at);
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
int flock(int fd, int how) noexcept {
  return static_cast<int>(icepie::Call("flock", fd, SYS_flock, fd, how));
}
int access(const char* path, int how) noexcept {
  return static_cast<int>(icepie::Call("access", path, SYS_faccessat, AT_FDCWD, path, how));
}
int stat(const char* path, struct stat* info) noexcept {
  return static_cast<int>(icepie::Call("stat", path, SYS_newfstatat, AT_FDCWD, path, info, 0));
}
int stat64(const char* path, struct stat64* info) noexcept __attribute__((alias("stat")));
int lstat(const char* path, struct stat* info) noexcept {
  return static_cast<int>(
      icepie::Call("stat", path, SYS_newfstatat, AT_FDCWD, path, info, AT_SYMLINK_NOFOLLOW));
}
int lstat64(const char* path, struct stat64* info) noexcept __attribute__((alias("lstat")));
int fstat(int fd, struct stat* info) noexcept {
  return static_cast<int>(icepie::Call("stat", fd, SYS_fstat, fd, info));
}
int fstat64(int fd, struct stat64* info) noexcept __attribute__((alias("fstat")));
int statvfs(const char* path, struct statvfs* info) noexcept {
  static auto* const real = icepie::Real<int(const char*, struct statvfs*)>("statvfs");
  return icepie::g_counting && icepie::Fails("statvfs", path) ? -1 : real(path, info);
}

DIR* opendir(const char* path) {
  static auto* const real = icepie::Real<DIR*(const char*)>("opendir");
  return icepie::Listed(real(path));
}
DIR* fdopendir(int fd) {
  static auto* const real = icepie::Real<DIR*(int)>("fdopendir");
  return icepie::Listed(real(fd));
}
dirent* readdir(DIR* list) {
  static auto* const real = icepie::Real<dirent*(DIR*)>("readdir");
  return icepie::g_counting && icepie::FailsToList(list) ? nullptr : real(list);
}

}  // extern "C"
