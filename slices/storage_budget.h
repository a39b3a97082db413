// What a domain may have of the disk, and how fast its snapshots go there: whoever writes 100 MB at
// once holds up the core's syncs, which every client waits for.
#ifndef ICEPIE_SLICES_STORAGE_BUDGET_H_
#define ICEPIE_SLICES_STORAGE_BUDGET_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace icepie::slices {

// Which snapshots of a generation stay when a newer one comes; the newest always does. Named ones
// are no matter of this.
struct SnapshotKeeping {
  int64_t count = 1;                          // the newest so many …
  absl::Duration age = absl::ZeroDuration();  // … and those that are not older
  // Of all generations of the domain together: the oldest goes first, also one that would stay by
  // count or age. 0: however much.
  int64_t bytes_max = 0;
};

struct StorageBudget {
  int64_t disk_bytes = 0;              // of the domain's directory; 0: no limit
  int64_t write_bytes_per_second = 0;  // of snapshots; 0: no limit
};

// What the files below `directory` take, each once however many names it has. Files that vanish
// meanwhile do not count.
int64_t BytesBelow(const std::string& directory);

// RESOURCE_EXHAUSTED/DOMAIN_DISK_FULL.
absl::Status DiskBudgetExceeded(int64_t used, int64_t disk_bytes);

// Brings a file, which another wrote, to the disk: piece by piece, each when its time has come, and
// then as SyncFile. The pauses end when `hurry` (may be null) says so.
absl::Status SyncAtPace(const std::string& path, int64_t bytes_per_second,
                        const std::function<bool()>& hurry);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_STORAGE_BUDGET_H_
