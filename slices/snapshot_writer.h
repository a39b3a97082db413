// Saves generations in a thread of its own, so that applying goes on, and keeps the cost of it
// bounded: at most 5 % of one core's time.
#ifndef ICEPIE_SLICES_SNAPSHOT_WRITER_H_
#define ICEPIE_SLICES_SNAPSHOT_WRITER_H_

#include <deque>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/duckdb.h"
#include "slices/served_slice.h"
#include "slices/snapshot_store.h"

namespace icepie::slices {

// Threads: any.
class SnapshotWriter {
 public:
  SnapshotWriter(DuckDatabase& instance, const SnapshotStore& store);
  // Finishes the one under way; those that wait are dropped.
  ~SnapshotWriter();

  // Saves `served` from its database; the result is set in `served`. False when it is waiting
  // already. `urgent`: whatever it costs.
  bool Request(std::shared_ptr<ServedSlice> served, std::shared_ptr<AttachedDatabase> database,
               bool urgent);

  // Waits until everything requested is saved or has failed.
  void Flush();

 private:
  struct Job {
    std::shared_ptr<ServedSlice> served;
    std::shared_ptr<AttachedDatabase> database;
    bool urgent = false;
  };
  void Loop();
  void Save(const Job& job);

  DuckDatabase& instance_;
  const SnapshotStore& store_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool saving_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time next_cheap_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_SNAPSHOT_WRITER_H_
