// What queries and reports see of one generation, while one engine thread changes it.
#ifndef ICEPIE_SLICES_QUERY_SERVED_SLICE_H_
#define ICEPIE_SLICES_QUERY_SERVED_SLICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "slices/apply/engine_types.h"

namespace icepie::slices {

class DuckDatabase;

// A database attached to an instance, detached when its last user has gone: a query that has
// resolved it can go on while the slice has been swapped to another.
class AttachedDatabase {
 public:
  AttachedDatabase(DuckDatabase& instance, std::string alias)
      : instance_(instance), alias_(std::move(alias)) {}
  ~AttachedDatabase();
  AttachedDatabase(const AttachedDatabase&) = delete;
  AttachedDatabase& operator=(const AttachedDatabase&) = delete;

  const std::string& alias() const { return alias_; }

 private:
  DuckDatabase& instance_;
  std::string alias_;
};

// As reports and people call it: "RUNNING".
const char* StateName(SliceState state);

// Threads: any; every method holds the lock only for a copy.
class ServedSlice {
 public:
  ServedSlice(GenerationInfo info, int64_t result_rows_max)
      : info_(std::move(info)), result_rows_max_(result_rows_max) {}

  const GenerationInfo& info() const { return info_; }
  int64_t result_rows_max() const { return result_rows_max_; }

  // The database to read; null while there is no complete state to answer from.
  std::shared_ptr<AttachedDatabase> database() const;
  void SetDatabase(std::shared_ptr<AttachedDatabase> database);
  // Where its tables are, complete or not.
  std::shared_ptr<AttachedDatabase> storage() const;
  void SetStorage(std::shared_ptr<AttachedDatabase> storage);

  // The progress row as committed.
  void Publish(const Progress& row);
  // The rows of the last published progress stand for `position` too: none of the records between
  // concerns the slice.
  void PassTo(int64_t position);
  int64_t applied_position() const;

  // Where the slice stands at a moment: its row, and how far that row's rows stood by then.
  struct Standing {
    int64_t row_position = 0;
    int64_t passed_to = 0;
  };
  Standing standing() const;

  // A RUNNING state below this position is reported as LAGGING.
  void SetFreshFrom(int64_t position);

  // `since` moves only when the state changes. The last error stays until another replaces it.
  void SetState(SliceState state);
  void SetFault(SliceState state, SliceFault fault, std::optional<absl::Time> next_retry);
  SliceState state() const;
  // It will not get further by itself: frozen, faulted, held, blocked or suspended.
  bool stopped() const;

  void SetSnapshot(SnapshotInfo snapshot);
  // Saving has failed; until the next SetSnapshot. A full disk is also the last error, unless
  // another one has stopped the slice.
  void SetNotSaved(SliceFault why);
  int64_t snapshot_position() const;  // -1: none
  // Whether its newest snapshot stands there.
  bool HasSaved(const Progress& progress) const;
  void SetNextRefresh(std::optional<absl::Time> time);
  // Ingest time of the oldest record that concerns it and waits; InfiniteFuture: none does.
  void SetOldestWaiting(absl::Time time);
  void SetServing(bool serving);
  void SetExpectations(std::vector<ExpectationResult> results);
  void SetBackfillTarget(int64_t position);
  int BackfillPercent() const;

  // Of its quarantine, and how many of those in its table are not among them.
  void SetAcknowledged(PositionRanges acknowledged);
  PositionRanges acknowledged() const;
  void SetUnacknowledged(int64_t count);

  // Records beyond the quarantine's budget, which no table holds.
  void SetOverflow(std::vector<QuarantinedRecord> records);
  std::vector<QuarantinedRecord> overflow() const;

  SliceReport Report() const;
  // As a query saw it that read `row` in a transaction begun after `before` was taken; of
  // expectations what has failed, by name. The row may have been replaced meanwhile: what it stood
  // for is known.
  SliceReport ReportAt(const Progress& row, const Standing& before) const;

 private:
  // Whether it is another one than before.
  bool ChangeState(SliceState state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SliceReport ReportLocked(const Progress& row, int64_t least_position) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const GenerationInfo info_;
  const int64_t result_rows_max_;
  mutable Mutex mutex_;
  std::shared_ptr<AttachedDatabase> database_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<AttachedDatabase> storage_ ABSL_GUARDED_BY(mutex_);
  Progress row_ ABSL_GUARDED_BY(mutex_);
  int64_t passed_to_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t fresh_from_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t backfill_target_ ABSL_GUARDED_BY(mutex_) = 0;
  SliceReport report_ ABSL_GUARDED_BY(mutex_);  // state, errors, times; the rest is filled in
  std::vector<QuarantinedRecord> overflow_ ABSL_GUARDED_BY(mutex_);
  PositionRanges acknowledged_ ABSL_GUARDED_BY(mutex_);
  std::optional<int64_t> unacknowledged_ ABSL_GUARDED_BY(mutex_);
  std::vector<ExpectationResult> expectations_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_QUERY_SERVED_SLICE_H_
