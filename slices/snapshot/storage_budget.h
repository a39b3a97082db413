// What a domain may have of the disk, and how fast its snapshots go there: whoever writes 100 MB at
// once holds up the core's syncs, which every client waits for.
#ifndef ICEPIE_SLICES_SNAPSHOT_STORAGE_BUDGET_H_
#define ICEPIE_SLICES_SNAPSHOT_STORAGE_BUDGET_H_

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

// How long to wait before so many bytes more are written; asked for each piece.
using WritePace = std::function<absl::Duration(int64_t bytes)>;

struct StorageBudget {
  int64_t disk_bytes = 0;              // of the domain's directory; 0: no limit
  int64_t write_bytes_per_second = 0;  // of snapshots; 0: no limit
  WritePace pace;                      // instead, when others write too
};

// Of one writer alone; null without a limit.
WritePace PaceOf(const StorageBudget& budget);

// What the files below `directory` take, each once however many names it has. Files that vanish
// meanwhile do not count.
int64_t BytesBelow(const std::string& directory);

// RESOURCE_EXHAUSTED/DOMAIN_DISK_FULL.
absl::Status DiskBudgetExceeded(int64_t used, int64_t disk_bytes);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_SNAPSHOT_STORAGE_BUDGET_H_
