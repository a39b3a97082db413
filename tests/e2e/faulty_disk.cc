// Preloaded into the daemon and its workers: everything below the directory ICEPIE_DISK_DIRECTORY
// meets the fault that the file ICEPIE_DISK_FAULT names (faulty_disk.h). One that is read-only
// refuses changes with EROFS, also through descriptors that were opened before: a file system that
// the kernel remounted for reading only after an error of the disk. (A test cannot have that of a
// real one: remounting is refused while files are open for writing.) One whose sync of a
// write-ahead log fails once calls all later ones good, as the kernel does after it has dropped the
// pages. One that has lost tables gives no byte of them.
#include "tests/e2e/faulty_disk.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

using icepie::testing::DiskFault;

const char* g_directory = nullptr;
const volatile DiskFault* g_fault = nullptr;
std::atomic<bool> g_sync_has_failed{false};

// Mapped before the program confines itself.
__attribute__((constructor)) void Prepare() {
  g_directory = std::getenv("ICEPIE_DISK_DIRECTORY");
  const char* path = std::getenv("ICEPIE_DISK_FAULT");
  const int fd =
      path == nullptr
          ? -1
          : static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0));
  if (fd < 0) return;
  void* mapped = ::mmap(nullptr, sizeof(DiskFault), PROT_READ, MAP_SHARED, fd, 0);
  ::close(fd);
  if (mapped != MAP_FAILED) g_fault = static_cast<const volatile DiskFault*>(mapped);
}

bool Has(DiskFault fault, const char* path) {
  if (g_fault == nullptr || *g_fault != fault || g_directory == nullptr || path == nullptr) {
    return false;
  }
  return std::strncmp(path, g_directory, std::strlen(g_directory)) == 0;
}

// Of a file whose name ends in `ending`.
bool Has(DiskFault fault, int fd, const char* ending = "") {
  if (g_fault == nullptr || *g_fault != fault) return false;
  char link[40];
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  char path[PATH_MAX];
  const ssize_t length = ::readlink(link, path, sizeof(path) - 1);
  const auto end = static_cast<ssize_t>(std::strlen(ending));
  if (length <= end) return false;
  path[length] = '\0';
  return Has(fault, path) && std::strcmp(path + length - end, ending) == 0;
}

// `number` with the arguments, unless what it changes is read-only.
template <typename Where, typename... Arguments>
long Change(Where where, long number, Arguments... arguments) {
  if (Has(DiskFault::kReadOnly, where)) {
    errno = EROFS;
    return -1;
  }
  return ::syscall(number, arguments...);
}

int Sync(int fd, long number) {
  const timespec while_slow{icepie::testing::kSlowSyncSeconds, 0};
  if (Has(DiskFault::kSlowSync, fd)) ::nanosleep(&while_slow, nullptr);
  if (Has(DiskFault::kLogSyncFailsOnce, fd, ".log") && !g_sync_has_failed.exchange(true)) {
    errno = EIO;
    return -1;
  }
  return static_cast<int>(Change(fd, number, fd));
}

int Open(const char* path, int flags, mode_t mode) {
  const bool changes = (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0;
  return static_cast<int>(
      Change(changes ? path : nullptr, SYS_openat, AT_FDCWD, path, flags, mode));
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = static_cast<mode_t>(va_arg(arguments, int));
  va_end(arguments);
  return Open(path, flags, mode);
}
int open64(const char* path, int flags, ...) __attribute__((alias("open")));

ssize_t write(int fd, const void* data, size_t bytes) {
  return Change(fd, SYS_write, fd, data, bytes);
}
ssize_t pwrite(int fd, const void* data, size_t bytes, off_t at) {
  return Change(fd, SYS_pwrite64, fd, data, bytes, at);
}
ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t at)
    __attribute__((alias("pwrite")));
ssize_t pread(int fd, void* data, size_t bytes, off_t at) {
  if (Has(DiskFault::kTablesLost, fd, ".sst")) {
    errno = EIO;
    return -1;
  }
  return ::syscall(SYS_pread64, fd, data, bytes, at);
}
ssize_t pread64(int fd, void* data, size_t bytes, off64_t at) __attribute__((alias("pread")));
int fsync(int fd) { return Sync(fd, SYS_fsync); }
int fdatasync(int fd) { return Sync(fd, SYS_fdatasync); }
int ftruncate(int fd, off_t bytes) noexcept {
  return static_cast<int>(Change(fd, SYS_ftruncate, fd, bytes));
}
int ftruncate64(int fd, off64_t bytes) noexcept __attribute__((alias("ftruncate")));
int fallocate(int fd, int mode, off_t at, off_t bytes) {
  return static_cast<int>(Change(fd, SYS_fallocate, fd, mode, at, bytes));
}
int fallocate64(int fd, int mode, off64_t at, off64_t bytes) __attribute__((alias("fallocate")));
int rename(const char* from, const char* to) noexcept {
  return static_cast<int>(Change(to, SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}
int unlink(const char* path) noexcept {
  return static_cast<int>(Change(path, SYS_unlinkat, AT_FDCWD, path, 0));
}
int mkdir(const char* path, mode_t mode) noexcept {
  return static_cast<int>(Change(path, SYS_mkdirat, AT_FDCWD, path, mode));
}

}  // extern "C"
