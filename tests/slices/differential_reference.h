// The reference side of the differential test: every source a table of what its records mean, in
// position order, in a DuckDB with one thread.
#ifndef ICEPIE_TESTS_SLICES_DIFFERENTIAL_REFERENCE_H_
#define ICEPIE_TESTS_SLICES_DIFFERENTIAL_REFERENCE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/plan.h"
#include "tests/slices/differential_case.h"

namespace icepie::slices {

class DifferentialReference {
 public:
  static absl::StatusOr<std::unique_ptr<DifferentialReference>> Make(
      const DifferentialCase& test_case);

  // The records of a batch, of which the first is at `position`.
  absl::Status Add(const CaseBatch& batch, int64_t position, int64_t ingest_time_us);

  // Positions that the slice cannot read: not well-formed, or wrong in a column that it reads.
  std::set<int64_t> Unreadable(const SlicePlan& plan) const;

  // Records of the streams that the slice reads.
  int64_t InputCount(const SlicePlan& plan) const;

  // Runs the slice's SQL over everything below `end` but `excluded` and keeps the rows as its
  // table, less those that it does not retain.
  absl::Status Compute(const CaseSlice& slice, const std::set<int64_t>& excluded,
                       int64_t end = INT64_MAX);

  // The kept rows of a slice, every cell as text, as a JSON array.
  absl::StatusOr<std::string> Rows(const std::string& slice, size_t columns);

 private:
  explicit DifferentialReference(const DifferentialCase& test_case) : case_(test_case) {}
  absl::Status CreateTables();
  absl::Status MakeTable(const std::string& name, const std::string& sql);
  int64_t NewestIngest(const CaseSlice& slice) const;
  absl::Status LetGo(const CaseSlice& slice);
  absl::Status Show(const CaseSource& source, const std::set<int64_t>& excluded, int64_t end);

  const DifferentialCase& case_;
  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
  std::vector<int64_t> offsets_;           // by stream
  std::vector<int64_t> newest_ingest_us_;  // by stream
  std::map<std::string, std::map<int64_t, std::set<std::string>>>
      wrong_;                              // source → position → columns
  std::vector<std::set<int64_t>> broken_;  // by stream
};

// `SELECT` of every column as text.
std::string SelectAsText(const std::string& relation, size_t columns);

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_DIFFERENTIAL_REFERENCE_H_
