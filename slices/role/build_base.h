// The serving generation's snapshot as a build sees it: what its rows are compared with, and the
// records that it could not take.
//
// Rows that differ because the new definition takes such records are counted apart. Which ones
// these are is found by leaving the records out at first: a row that does not differ yet then, and
// does with them, differs because of them. That is exact for any SQL.
#ifndef ICEPIE_SLICES_ROLE_BUILD_BASE_H_
#define ICEPIE_SLICES_ROLE_BUILD_BASE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "slices/apply/engine_types.h"
#include "slices/apply/generation.h"
#include "slices/apply/record_batch.h"
#include "slices/duckdb/duckdb.h"
#include "slices/query/served_slice.h"
#include "slices/reading/row_diff.h"
#include "slices/snapshot/snapshot_store.h"

namespace icepie::slices {

// More quarantined records than this are not told apart.
inline constexpr size_t kHeldBackMax = 10'000;

// Positions of quarantined records by slice, ascending.
using QuarantinedPositions = std::map<std::string, std::vector<int64_t>>;

// Threads: one at a time. Errors: DuckDB's.
class BuildBase {
 public:
  // DATA_LOSS, NOT_FOUND when the snapshot is damaged or gone; CANCELLED when `given_up` says so
  // while it is hashed.
  static absl::StatusOr<std::unique_ptr<BuildBase>> Open(DuckDatabase& instance,
                                                         const SnapshotStore& store,
                                                         const std::string& path,
                                                         const std::function<bool()>& given_up);

  const SnapshotManifest& manifest() const { return manifest_; }
  int64_t position() const { return manifest_.progress.applied_position; }

  // What is in its quarantine.
  absl::StatusOr<std::vector<int64_t>> Quarantined() const;

  // Notes where its rows and those of `generation`, from which records are still left out, differ.
  absl::Status NoteDifferences(const Generation& generation);

  // The row diff with `generation`; `left_out`, which is taken by now, is told apart when
  // differences have been noted without it.
  GenerationDiff Compare(const Generation& generation, int64_t records_left_out) const;

  // From any thread: stops the statement that one of these runs.
  void Interrupt() const { connection_->Interrupt(); }

 private:
  BuildBase() = default;

  SnapshotManifest manifest_;
  std::shared_ptr<ServedSlice> served_;
  std::unique_ptr<DuckConnection> connection_;
  std::optional<Differences> known_;
};

// Those of `positions` that the slice's definition does not call bad: they are worth trying.
// Errors: those of `read`.
absl::StatusOr<std::vector<int64_t>> ReadableNow(const RecordReading& read, const DomainPlan& plan,
                                                 const SlicePlan& slice,
                                                 const std::vector<int64_t>& positions);

// What is in the quarantine of a generation's database.
absl::StatusOr<std::vector<int64_t>> QuarantinedIn(DuckConnection& connection,
                                                   const std::string& alias);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROLE_BUILD_BASE_H_
