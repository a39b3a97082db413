// Snapshots that questions about the past are answered from: found, checked, attached read-only for
// as long as somebody reads them and a little longer, and detached.
#ifndef ICEPIE_SLICES_SNAPSHOT_PAST_SNAPSHOTS_H_
#define ICEPIE_SLICES_SNAPSHOT_PAST_SNAPSHOTS_H_

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/apply/engine_types.h"
#include "slices/query/served_slice.h"
#include "slices/snapshot/named_snapshots.h"
#include "slices/snapshot/snapshot_store.h"

namespace icepie::slices {

// Threads: any; one attaches at a time.
// Errors: OUT_OF_RANGE/AS_OF_EXPIRED with the oldest kept, NOT_FOUND/SNAPSHOT_NOT_FOUND,
//   DATA_LOSS/SNAPSHOT_DAMAGED, RESOURCE_EXHAUSTED/TOO_MANY_QUERIES when every place is in use,
//   DEADLINE_EXCEEDED.
// Lifetime: `instance` and `store` outlive it.
class PastSnapshots {
 public:
  static constexpr size_t kAttachedMax = 8;

  PastSnapshots(DuckDatabase& instance, const SnapshotStore& store, size_t attached_max)
      : instance_(instance), store_(store), named_(store), attached_max_(attached_max) {}

  // The state of `serving`'s slice at `as_of`. Of a position or time it is the newest good snapshot
  // of that generation at or before it, automatic or named; of a name, of any generation.
  absl::StatusOr<std::shared_ptr<ServedSlice>> Find(const GenerationInfo& serving,
                                                    const AsOf& as_of, absl::Time deadline);

  // Lets go of those that nobody has asked for lately.
  void DetachIdle(absl::Time now);
  size_t attached() const;

 private:
  struct Attached {
    std::shared_ptr<ServedSlice> served;
    absl::Time last_used;
  };

  std::vector<SnapshotManifest> Candidates(const GenerationInfo& serving) const;
  absl::Status NotKept(const GenerationInfo& serving, const AsOf& as_of,
                       const std::vector<SnapshotManifest>& candidates) const;
  absl::StatusOr<std::shared_ptr<ServedSlice>> FindNamed(const GenerationInfo& serving,
                                                         const std::string& name,
                                                         absl::Time deadline);
  absl::StatusOr<std::shared_ptr<ServedSlice>> Attach(const SnapshotManifest& manifest,
                                                      absl::Time deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  DuckDatabase& instance_;
  const SnapshotStore& store_;
  const NamedSnapshots named_;
  const size_t attached_max_;
  mutable Mutex mutex_;
  std::map<std::string, Attached> attached_ ABSL_GUARDED_BY(mutex_);  // by path and digest
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_SNAPSHOT_PAST_SNAPSHOTS_H_
