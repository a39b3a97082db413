// Lets what a thread writes into files keep a pace. DuckDB knows none: it writes a whole snapshot
// and syncs it several times on its own, and a sync of 100 MB holds up the core's, which every
// client waits for. So the program has a pwrite(2) of its own in place of the C library's, through
// which DuckDB's calls go like all others: in a thread that has a pace, each waits for its turn,
// and what it wrote is on its way to the disk before the next one.
#ifndef ICEPIE_SLICES_SNAPSHOT_PACED_WRITES_H_
#define ICEPIE_SLICES_SNAPSHOT_PACED_WRITES_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "slices/snapshot/storage_budget.h"

namespace icepie::slices {

// While it lives, the calling thread's writes by pwrite keep the pace; the waits end when `hurry`
// (may be null) says so. One in a thread at a time.
class PacedWrites {
 public:
  PacedWrites(const WritePace& pace, std::function<bool()> hurry);
  ~PacedWrites();
  PacedWrites(const PacedWrites&) = delete;
  PacedWrites& operator=(const PacedWrites&) = delete;

  void WaitForTurn(int64_t bytes) const;

 private:
  const WritePace& pace_;
  const std::function<bool()> hurry_;
};

// What pwrite does.
ssize_t WriteAtPace(int file, const void* data, size_t size, off_t offset);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_SNAPSHOT_PACED_WRITES_H_
