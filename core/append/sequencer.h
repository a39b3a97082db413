// Gives records their positions and puts them on disk: one thread that takes all waiting appends
// and commits them together, with one write and one sync.
#ifndef ICEPIE_CORE_APPEND_SEQUENCER_H_
#define ICEPIE_CORE_APPEND_SEQUENCER_H_

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/append/append_queue.h"
#include "core/append/committed_head.h"
#include "core/append/prepared_append.h"
#include "core/append/request_log.h"
#include "core/base/mutex.h"
#include "core/core.h"
#include "core/log/disk_space.h"
#include "core/log/high_water_mark.h"
#include "core/log/log_store.h"
#include "core/log/read_only_guard.h"
#include "core/merkle/tiles.h"

namespace icepie {

// Threads: any.
// Lifetime: what is queued is committed and answered before the destructor returns.
class Sequencer {
 public:
  struct Parts {
    LogStore* store = nullptr;
    HighWaterMark* mark = nullptr;
    CommittedHead* head = nullptr;
    ReadOnlyGuard* guard = nullptr;
    TileWriter* tree = nullptr;  // as large as the head; nullptr: no tree is kept
    DiskSpace* space = nullptr;
    RequestLog* requests = nullptr;
    std::function<void(WriteStep)> on_step = nullptr;
  };
  // `last_ingest_time_us` is the newest record's: ingest times never go back, whatever the clock
  // does.
  Sequencer(const Parts& parts, int64_t queue_bytes_max, int64_t last_ingest_time_us);
  ~Sequencer();

  // Queues `append`; its `done` is called from the sequencer's thread. On an error (FAILED_
  // PRECONDITION/CORE_READ_ONLY, RESOURCE_EXHAUSTED/APPEND_QUEUE_FULL or CORE_DISK_FULL) `append`
  // is left as it is.
  absl::Status Submit(PreparedAppend& append);

 private:
  void Run();
  std::vector<PreparedAppend> TakeGroup();
  void Commit(std::vector<PreparedAppend> appends);
  void LookAtDisk();
  absl::Status Write(const std::vector<LogEntry>& entries);
  absl::Status Store(const std::vector<LogEntry>& entries, int64_t end_position);
  void SyncMark();
  void Reached(WriteStep step) const;

  const Parts parts_;
  int64_t last_ingest_time_us_;
  bool mark_is_synced_ = true;
  absl::Time mark_sync_time_;

  Mutex mutex_;
  CondVar changed_;
  AppendQueue queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_SEQUENCER_H_
