// Keeps the disk from ever being full under RocksDB, which then may abort the process: appends are
// refused while less than a watermark is free, and a ballast file is given back at that moment so
// that flushes, compactions and the changes of operators still have room.
//
//   free < free_bytes_min                       → full: the ballast is removed
//   free ≥ free_bytes_min × 1.25 + the ballast  → the ballast is made again, appends go on
//
// A quota may end before the disk does, and the figure of free bytes need not know it: then a write
// tells (GiveBallast), or that there is no room to make the ballast, and appends go on when there
// is, and the watermark is free beside it: that it was not, nobody has said.
#ifndef ICEPIE_CORE_LOG_DISK_SPACE_H_
#define ICEPIE_CORE_LOG_DISK_SPACE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/mutex.h"

namespace icepie {

// Bytes that this process may still write to the file system that `path` is on.
using FreeBytesSource = std::function<absl::StatusOr<int64_t>(const std::string& path)>;
absl::StatusOr<int64_t> FreeBytesOf(const std::string& path);

// Threads: any.
// Errors: RESOURCE_EXHAUSTED/CORE_DISK_FULL with the remedy.
class DiskSpace {
 public:
  struct Options {
    std::string directory;       // the core's; the file "ballast" is in it
    int64_t free_bytes_min = 0;  // the watermark; 0: the disk is not watched
    int64_t ballast_bytes = 0;
    FreeBytesSource free_bytes = FreeBytesOf;
  };
  explicit DiskSpace(Options options);

  // Looks at the disk: one statvfs, and a change of the ballast when full begins or ends. A disk
  // that cannot be looked at counts as it was before.
  void Update();

  // Of a write that found the disk full, behind the last look's back: removes the ballast, and
  // counts the disk as full. Whether the write may be tried again: there was one, or the room for
  // it was tried, which may be what the write did not get.
  bool GiveBallast();

  bool full() const { return full_.load(); }
  // At the last look.
  int64_t free_bytes() const { return free_bytes_.load(); }
  // Bytes above the watermark; what is written in the background must fit in them.
  int64_t room_bytes() const { return free_bytes() - options_.free_bytes_min; }
  bool watched() const { return options_.free_bytes_min > 0; }

  // Whether clients' records may be written.
  absl::Status CheckAppend() const;
  // Whether the daemon's own small changes may: they use what the watermark and the ballast kept,
  // down to an eighth of the watermark, or, where a write has told that the disk is full, of the
  // ballast.
  absl::Status CheckReserve();

 private:
  int64_t BytesForBallast() const;
  int64_t BytesToHeal() const;
  bool HasBallast() const;
  int Allocate(int64_t bytes) const;  // as the ballast's file; 0, or why not
  bool MakeBallast() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasRoomForBallast() const;
  void BecomeFull() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BecomeFullByQuota() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MakeWhole(int64_t free) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string Figures() const;  // why it is full and when no longer, for people
  absl::Status FullError() const;

  const Options options_;
  const std::string ballast_path_;
  Mutex mutex_;
  bool has_looked_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_ballast_ ABSL_GUARDED_BY(mutex_) = false;
  bool ballast_failed_ ABSL_GUARDED_BY(mutex_) = false;  // said once
  bool tried_ballast_ ABSL_GUARDED_BY(mutex_) =
      false;  // for a moment or in vain, since a write has failed
  bool was_told_ ABSL_GUARDED_BY(mutex_) = false;  // by a write that the disk is full
  std::atomic<bool> full_{false};
  std::atomic<bool> was_low_{false};  // less than the watermark was free since it is full
  std::atomic<int64_t> free_bytes_{0};
};

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_DISK_SPACE_H_
