// Makes segments out of the oldest hot blocks, in the background: writes the file, syncs and
// renames it, then registers it and drops the hot copy in one write of the log. A small last
// segment is taken into the next one.
#ifndef ICEPIE_CORE_SEGMENT_SEALER_H_
#define ICEPIE_CORE_SEGMENT_SEALER_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/append/committed_head.h"
#include "core/append/stream_registry.h"
#include "core/base/mutex.h"
#include "core/core.h"
#include "core/log/disk_space.h"
#include "core/log/log_store.h"
#include "core/log/read_only_guard.h"
#include "core/segment/segment_set.h"
#include "core/segment/segment_writer.h"

namespace icepie {

// Threads: any.
// Errors: a failure leaves the hot blocks as they are, is logged, and the same positions are tried
//   again later with a new file. Only a failure of the log's own write makes the core read-only.
// Lifetime: the destructor ends the work under way, which leaves nothing.
class Sealer {
 public:
  struct Parts {
    LogStore* store = nullptr;
    SegmentSet* segments = nullptr;
    const StreamRegistry* streams = nullptr;
    const CommittedHead* head = nullptr;
    ReadOnlyGuard* guard = nullptr;
    DiskSpace* space = nullptr;
  };
  Sealer(const Parts& parts, SealingOptions options);
  ~Sealer();
  Sealer(const Sealer&) = delete;
  Sealer& operator=(const Sealer&) = delete;

  // Of blocks old enough to be sealed, as counted last.
  int64_t hot_bytes() const { return hot_bytes_.load(); }

 private:
  struct Sample {
    absl::Time time;
    int64_t head;
  };

  void Run();
  bool WaitFor(absl::Duration time);  // false: stopping
  bool stopping() const;
  absl::Status CountHot();
  bool Due() const;
  bool HasRoom() const;
  int64_t FirstPosition() const;  // of the next segment
  absl::Status Seal();
  absl::Status Fill(SegmentWriter& writer);
  absl::Status Publish(const SegmentEntry& entry, const std::string& temporary);
  absl::Status Register(const SegmentEntry& entry, const std::vector<SegmentStream>& streams);
  absl::Status Reached(SealStep step) const;
  void Pause(absl::Duration worked);

  const Parts parts_;
  const SealingOptions options_;
  // Of the sealing thread.
  std::deque<Sample> samples_;    // heads seen, oldest first
  int64_t aged_position_ = 0;     // blocks below it are old enough
  int64_t counted_position_ = 0;  // blocks below it are in hot_bytes_, or sealed
  std::atomic<int64_t> hot_bytes_{0};

  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace icepie

#endif  // ICEPIE_CORE_SEGMENT_SEALER_H_
