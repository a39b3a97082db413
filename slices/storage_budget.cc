#include "slices/storage_budget.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"

namespace icepie::slices {
namespace {

// About 1 ms of a slow disk: the core's sync waits no longer for one.
constexpr int64_t kPieceBytes = int64_t{256} << 10;
constexpr absl::Duration kPauseMax = absl::Milliseconds(20);  // until `hurry` is asked again

}  // namespace

int64_t BytesBelow(const std::string& directory) {
  namespace fs = std::filesystem;
  int64_t bytes = 0;
  std::set<ino_t> seen;  // of files with several names
  std::error_code error;
  for (fs::recursive_directory_iterator at(directory, error), end; !error && at != end;
       at.increment(error)) {
    struct stat info {};
    if (::lstat(at->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    if (info.st_nlink > 1 && !seen.insert(info.st_ino).second) continue;
    bytes += static_cast<int64_t>(info.st_blocks) * 512;
  }
  return bytes;
}

absl::Status DiskBudgetExceeded(int64_t used, int64_t disk_bytes) {
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat("the domain would take ", used, " bytes of the disk and may have ", disk_bytes,
                   ": delete named snapshots or raise limits.disk (workers.disk_bytes)"),
      "DOMAIN_DISK_FULL", {{"used", absl::StrCat(used)}, {"limit", absl::StrCat(disk_bytes)}});
}

absl::Status SyncAtPace(const std::string& path, int64_t bytes_per_second,
                        const std::function<bool()>& hurry) {
  if (bytes_per_second <= 0) return SyncFile(path);
  const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (file < 0) return ErrnoError(errno, absl::StrCat("opening ", path));
  const auto closing = absl::MakeCleanup([file] { ::close(file); });
  struct stat info {};
  if (::fstat(file, &info) != 0) return ErrnoError(errno, absl::StrCat("looking at ", path));
  const absl::Time begin = SteadyNow();
  for (int64_t done = 0; done < info.st_size; done += kPieceBytes) {
    // Where the file system cannot, the sync at the end does it all.
    static_cast<void>(::sync_file_range(
        file, done, kPieceBytes,
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
    const absl::Time due = begin + absl::Seconds(1) * (static_cast<double>(done + kPieceBytes) /
                                                       static_cast<double>(bytes_per_second));
    while (SteadyNow() < due && !(hurry && hurry())) {
      absl::SleepFor(std::min(kPauseMax, due - SteadyNow()));
    }
  }
  if (::fsync(file) != 0) return ErrnoError(errno, absl::StrCat("fsync ", path));
  return absl::OkStatus();
}

}  // namespace icepie::slices
