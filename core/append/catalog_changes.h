// Changes of the catalog that are acknowledged by themselves, beside those of appends: streams, and
// what the daemon keeps. Each is counted in the write that makes it (the catalog's key "c"), and
// the high-water mark gets the count, so that a write-ahead log that lost its end is noticed also
// where the end was one of them.
#ifndef ICEPIE_CORE_APPEND_CATALOG_CHANGES_H_
#define ICEPIE_CORE_APPEND_CATALOG_CHANGES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/mutex.h"
#include "core/log/high_water_mark.h"
#include "core/log/log_store.h"
#include "core/log/read_only_guard.h"

namespace icepie {

// How many there were in the log; 0 in one of before they were counted. DATA_LOSS.
absl::StatusOr<int64_t> CountCatalogChanges(const LogStore& store);

// Threads: any; changes are made one after the other.
// Lifetime: the parts outlive it.
class CatalogChanges {
 public:
  struct Parts {
    LogStore* store = nullptr;
    HighWaterMark* mark = nullptr;
    ReadOnlyGuard* guard = nullptr;
  };
  CatalogChanges(const Parts& parts, int64_t count) : parts_(parts), count_(count) {}

  // All or none, synced, as LogStore::ChangeCatalog. A mark that fails afterwards makes the core
  // read-only: the changes are safe, but a later loss of them would go unnoticed.
  absl::Status Make(absl::Span<const LogStore::CatalogChange> changes);

 private:
  const Parts parts_;
  Mutex mutex_;
  int64_t count_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_CATALOG_CHANGES_H_
