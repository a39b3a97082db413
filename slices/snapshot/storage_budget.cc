#include "slices/snapshot/storage_budget.h"

#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/base/write_pacer.h"

namespace icepie::slices {
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

WritePace PaceOf(const StorageBudget& budget) {
  if (budget.pace || budget.write_bytes_per_second <= 0) return budget.pace;
  return [own = std::make_shared<WritePacer>(budget.write_bytes_per_second)](int64_t bytes) {
    return own->Next(0, bytes, SteadyNow());
  };
}

}  // namespace icepie::slices
