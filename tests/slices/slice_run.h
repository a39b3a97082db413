// A domain's slices, applied as the live engine applies them but step by step, beside a reference:
// the same SQL run once over all records.
#ifndef ICEPIE_TESTS_SLICES_SLICE_RUN_H_
#define ICEPIE_TESTS_SLICES_SLICE_RUN_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "slices/apply/generation.h"
#include "slices/snapshot/snapshot_store.h"
#include "tests/slices/memory_feed.h"

namespace icepie::slices {

class SliceRun {
 public:
  // Plans the domain file and opens an empty generation of each slice.
  static absl::StatusOr<std::unique_ptr<SliceRun>> Start(const std::string& yaml);

  ~SliceRun();
  SliceRun(const SliceRun&) = delete;
  SliceRun& operator=(const SliceRun&) = delete;

  const DomainPlan& plan() const { return *plan_; }
  int64_t head() const { return feed_.head(); }

  // Appends records to the source's stream, in one commit.
  void Append(const std::string& source, const std::vector<std::string>& payloads);

  // Brings every slice to the head, upstream first, in transactions of at most so many records.
  absl::Status Apply(int64_t records_max);
  absl::Status ApplyOne(const std::string& slice, int64_t records_max) {
    return ApplyTo(*generations_.at(slice), records_max);
  }

  // Lets the slice pass over some of the records from the head on, every `nth`, until
  // TakeHeldBack(), when it takes records in any order; false when it does not.
  absl::StatusOr<bool> HoldBack(const std::string& slice, int64_t nth, int64_t count);
  absl::Status TakeHeldBack(const std::string& slice);

  // Saves a snapshot of every slice and opens it anew from there.
  absl::Status Restart();

  // Opens `slice` from a snapshot of `other`.
  absl::Status ReopenAs(const std::string& slice, const std::string& other);

  // What the slice has and its SQL over all records (less those quarantined in it) has not, or the
  // other way round; "" when they agree. DOUBLE agrees to 1e-9, FLOAT to 1e-5, the rest exactly.
  absl::StatusOr<std::string> Difference(const std::string& slice);

  // The slice's rows as text, cells separated by " | ", sorted.
  absl::StatusOr<std::vector<std::string>> Rows(const std::string& slice);

  // Compares the slice with `sql` from now on: where its own leaves open which of equal rows comes
  // first, DuckDB takes any.
  void CompareWith(const std::string& slice, std::string sql) {
    references_[slice].sql = std::move(sql);
  }

  // How often a slice over slices was built anew.
  int rebuilds() const { return rebuilds_; }

  // The slice's database, and what SQL over it gives.
  std::string Alias(const std::string& slice) const {
    return QuoteIdentifier(generations_.at(slice)->alias());
  }
  absl::StatusOr<std::vector<CellRow>> Cells(const std::string& sql);

  const Progress& progress(const std::string& slice) const {
    return generations_.at(slice)->progress();
  }
  // Of the streams that the slice's own sources are over.
  int64_t RecordCount(const std::string& slice) const;

 private:
  explicit SliceRun(std::string directory) : directory_(std::move(directory)) {}
  absl::Status Open(const std::string& slice, const std::string& snapshot);
  absl::Status ConnectUpstream(const std::string& slice);
  absl::Status ApplyTo(Generation& generation, int64_t records_max);
  absl::Status ApplyUpstream(Generation& generation);
  absl::Status RecomputeOne(Generation& generation, const std::vector<std::string>& upstream,
                            int64_t newest_us);
  absl::Status RestartOne(const std::string& slice);
  absl::Status HideUnnamed(const SourceUse& use, const std::string& slice,
                           DuckConnection& connection) const;
  absl::Status MakeReference(const std::string& slice);
  absl::StatusOr<std::set<int64_t>> FailedRecords(const std::string& slice);
  int64_t NewestBelow(const Generation& generation) const;
  std::string RetainedSql(const std::string& slice) const;
  absl::StatusOr<std::vector<CellRow>> SortedCells(const std::string& slice,
                                                   const std::string& relation);

  // The connection that runs one slice's SQL over everything.
  struct Reference {
    std::string sql;  // another than the slice's own; empty: that
    std::unique_ptr<DuckConnection> connection;
    std::map<std::string, std::unique_ptr<SourceInput>> inputs;
  };

  const std::string directory_;
  std::unique_ptr<SnapshotStore> store_;
  DuckDatabase* instance_ = nullptr;  // all runs of the process have the same
  std::shared_ptr<const DomainPlan> plan_;
  MemoryFeed feed_;
  std::map<std::string, int64_t> appended_;   // by stream
  std::map<std::string, int64_t> newest_us_;  // likewise: the last ingest time
  std::map<std::string, std::unique_ptr<Generation>> generations_;
  std::map<std::string, Reference> references_;
  std::vector<int64_t> held_back_;
  int rebuilds_ = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_SLICE_RUN_H_
