// Saves generations in a thread of its own, so that applying goes on, and keeps the cost of it
// bounded: at most a share of one core's time. Between two of them it cleans up old ones.
#ifndef ICEPIE_SLICES_SNAPSHOT_SNAPSHOT_WRITER_H_
#define ICEPIE_SLICES_SNAPSHOT_SNAPSHOT_WRITER_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/duckdb/duckdb.h"
#include "slices/query/served_slice.h"
#include "slices/snapshot/snapshot_store.h"

namespace icepie::slices {

// Threads: any.
class SnapshotWriter {
 public:
  // `on_saved` is called from the writer's thread after each, saved or not; `on_broken` when DuckDB
  // has broken over it, so that the process must end.
  SnapshotWriter(DuckDatabase& instance, const SnapshotStore& store, double share,
                 std::function<void()> on_saved,
                 std::function<void(const std::string& why)> on_broken);
  // Finishes the one under way; those that wait are dropped.
  ~SnapshotWriter();

  // Saves `served` from its database, unless `check` (may be null) refuses the copy; the result is
  // set in `served`. False when it is waiting already or, unless `urgent`, is being saved: how it
  // has changed meanwhile shows afterwards. `urgent`: whatever it costs.
  bool Request(std::shared_ptr<ServedSlice> served, std::shared_ptr<AttachedDatabase> database,
               bool urgent, SnapshotCheck check = nullptr);

  // The same, whatever it costs and also when it is waiting already. `done` gets the outcome in the
  // writer's thread, before older snapshots can be removed; UNAVAILABLE when the writer ends first.
  using Done = std::function<void(const absl::StatusOr<SnapshotManifest>&)>;
  void Request(std::shared_ptr<ServedSlice> served, std::shared_ptr<AttachedDatabase> database,
               Done done, SnapshotCheck check = nullptr);

  // Whether it is being saved or waits for it.
  bool Has(const ServedSlice& served);

  // Waits until everything requested is saved or has failed.
  void Flush();

 private:
  struct Job {
    std::shared_ptr<ServedSlice> served;
    std::shared_ptr<AttachedDatabase> database;
    bool urgent = false;
    SnapshotCheck check;
    std::vector<Done> done;
  };
  void Loop();
  std::optional<Job> NextJob(absl::Time clean_up);
  bool stopping();
  void Save(const Job& job);
  // Before it, only what is urgent is saved of the slice.
  absl::Time NextCheap(const std::string& slice) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  DuckDatabase& instance_;
  const SnapshotStore& store_;
  const double rest_per_work_;
  const std::function<void()> on_saved_;
  const std::function<void(const std::string& why)> on_broken_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<ServedSlice> saving_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_cheap_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::map<std::string, absl::Time> next_check_ ABSL_GUARDED_BY(mutex_);  // by slice
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_SNAPSHOT_SNAPSHOT_WRITER_H_
