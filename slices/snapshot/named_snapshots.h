// Snapshots that have a name and stay until they are deleted. In the domain's directory:
//   snapshots/<slice>/named/<name>.duckdb      another name (hard link) of an automatic snapshot
//   snapshots/<slice>/named/<name>.json        the same of its manifest; once it is there, so is
//   the
//                                              snapshot
//   snapshots/<slice>/named/<name>.about.json  who made it and why
//   next_named/<slice>                         {"next_us", "cron", "time_zone"}: when the schedule
//                                              names the next one
// Names begin with a letter, so that none looks like a position or a time.
#ifndef ICEPIE_SLICES_SNAPSHOT_NAMED_SNAPSHOTS_H_
#define ICEPIE_SLICES_SNAPSHOT_NAMED_SNAPSHOTS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "slices/definition/definition.h"
#include "slices/snapshot/snapshot_store.h"

namespace icepie::slices {

struct SnapshotName {
  std::string name;
  std::string actor;
  std::string reason;
  bool scheduled = false;
};

// Threads: any; two that add the same name at once get one of them.
class NamedSnapshots {
 public:
  explicit NamedSnapshots(const SnapshotStore& store) : store_(store) {}

  // INVALID_ARGUMENT/PARAMETER_INVALID for a bad name; ALREADY_EXISTS/SNAPSHOT_EXISTS;
  // NOT_FOUND when the snapshot has been cleaned up meanwhile. After an error there is no such
  // name.
  absl::Status Add(const SnapshotManifest& snapshot, const SnapshotName& name) const;

  // Paths relative to the domain's directory, in no order; not checked.
  std::vector<std::string> List(const std::string& slice) const;
  static std::string PathOf(const std::string& slice, const std::string& name);

  // When the slice's newest scheduled one was made; InfinitePast when there is none.
  absl::Time LastScheduled(const std::string& slice) const;

  // When the schedule names the next one, for the daemon, which starts a worker by then, and for a
  // worker that starts too late; InfiniteFuture: it does not, or this schedule's is not known.
  // False: it could not be written.
  bool KeepNext(const std::string& slice, const SnapshotSchedule& schedule, absl::Time next) const;
  absl::Time KeptNext(const std::string& slice, const SnapshotSchedule& schedule) const;

  // Removes the slice's scheduled ones that its schedule does not keep any more.
  void Prune(const std::string& slice, const SnapshotSchedule& schedule, absl::Time now) const;

 private:
  std::string Absolute(const std::string& slice, const std::string& name,
                       absl::string_view ending) const;
  // When the slice's scheduled ones were made, with their paths; newest first.
  std::vector<std::pair<absl::Time, std::string>> Scheduled(const std::string& slice) const;

  const SnapshotStore& store_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_SNAPSHOT_NAMED_SNAPSHOTS_H_
