// What the daemon has to know of how snapshots are written, too.
#ifndef ICEPIE_SLICES_SNAPSHOT_SNAPSHOT_FORMAT_H_
#define ICEPIE_SLICES_SNAPSHOT_SNAPSHOT_FORMAT_H_

namespace icepie::slices {

// "format" in a manifest. A snapshot of another one is not used.
constexpr int kSnapshotFormat = 1;

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_SNAPSHOT_SNAPSHOT_FORMAT_H_
