// What the disk below a daemon's data directory does, as a test has it.
#ifndef ICEPIE_TESTS_E2E_FAULTY_DISK_H_
#define ICEPIE_TESTS_E2E_FAULTY_DISK_H_

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace icepie::testing {

enum class DiskFault : int64_t { kNone, kReadOnly, kSlowSync, kLogSyncFailsOnce, kTablesLost };
inline constexpr int kSlowSyncSeconds = 2;  // that each sync takes at least, when they are slow

// Threads: one.
class FaultyDisk {
 public:
  // `directory` has room for a file beside the data directory.
  FaultyDisk(const std::string& directory, const std::string& data_directory)
      : file_(directory + "/disk_fault") {
    Set(DiskFault::kNone);
    ::setenv("ICEPIE_DISK_FAULT", file_.c_str(), 1);
    ::setenv("ICEPIE_DISK_DIRECTORY", data_directory.c_str(), 1);
  }
  ~FaultyDisk() { ::unsetenv("LD_PRELOAD"); }
  FaultyDisk(const FaultyDisk&) = delete;
  FaultyDisk& operator=(const FaultyDisk&) = delete;

  // A daemon that `start` starts is on this disk, with its workers.
  template <typename Start>
  void Under(const Start& start) {
    ::setenv("LD_PRELOAD", std::getenv("ICEPIE_DISK_LIBRARY"), 1);
    start();
    ::unsetenv("LD_PRELOAD");
  }

  // From the next call on. In place: the file is mapped.
  void Set(DiskFault fault) {
    const int fd = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (::pwrite(fd, &fault, sizeof(fault), 0) != static_cast<ssize_t>(sizeof(fault))) std::abort();
    ::close(fd);
  }

 private:
  const std::string file_;
};

}  // namespace icepie::testing

#endif  // ICEPIE_TESTS_E2E_FAULTY_DISK_H_
