#include "tests/slices/failing_calls.h"

#include <dlfcn.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "slices/snapshot/paced_writes.h"

namespace icepie::slices {

std::atomic<int64_t> calls_left{0};
std::atomic<int> fails_with{0};

int RunChild(const std::string& directory, int64_t kill_at, const std::string& test) {
  ::setenv("ICEPIE_KILL_DIRECTORY", directory.c_str(), 1);
  ::setenv("ICEPIE_KILL_AT", absl::StrCat(kill_at).c_str(), 1);
  // What its fixture makes, it cannot remove.
  const std::string scratch = directory + "-child";
  std::filesystem::create_directories(scratch);
  ::setenv("TEST_TMPDIR", scratch.c_str(), 1);
  std::string program = "/proc/self/exe";
  std::string filter = "--gtest_filter=" + test;
  std::string disabled = "--gtest_also_run_disabled_tests";
  std::string brief = "--gtest_brief=1";
  char* arguments[] = {program.data(), filter.data(), disabled.data(), brief.data(), nullptr};
  pid_t child = 0;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  EXPECT_EQ(::posix_spawn(&child, self.c_str(), nullptr, nullptr, arguments, environ), 0);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  ::unsetenv("TEST_TMPDIR");
  std::filesystem::remove_all(scratch);
  return status;
}

namespace {

// Whether the caller's call is one that fails; errno is set.
bool Fails() {
  int64_t left = calls_left;
  while (left > 0 && !calls_left.compare_exchange_weak(left, left - 1)) {
  }
  if (left != 1) return false;
  if (fails_with == 0) ::kill(::getpid(), SIGKILL);
  errno = fails_with;
  return true;
}

template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace
}  // namespace icepie::slices

extern "C" {

int rename(const char* from, const char* to) noexcept {
  if (icepie::slices::Fails()) return -1;
  return icepie::slices::Next<int (*)(const char*, const char*)>("rename")(from, to);
}

int unlink(const char* path) noexcept {
  if (icepie::slices::Fails()) return -1;
  return icepie::slices::Next<int (*)(const char*)>("unlink")(path);
}

int fsync(int file) {
  if (icepie::slices::Fails()) return -1;
  return icepie::slices::Next<int (*)(int)>("fsync")(file);
}

int fdatasync(int file) {
  if (icepie::slices::Fails()) return -1;
  return icepie::slices::Next<int (*)(int)>("fdatasync")(file);
}

ssize_t pwrite(int file, const void* bytes, size_t count, off_t offset) {
  if (icepie::slices::Fails()) return -1;
  return icepie::slices::WriteAtPace(file, bytes, count, offset);
}

ssize_t write(int file, const void* bytes, size_t count) {
  if (file > STDERR_FILENO && icepie::slices::Fails()) return -1;
  return icepie::slices::Next<ssize_t (*)(int, const void*, size_t)>("write")(file, bytes, count);
}

}  // extern "C"
