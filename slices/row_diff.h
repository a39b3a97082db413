// The row diff of two generations of a slice: what a promotion would change, counted and sampled.
// It is SQL over both states, so memory is DuckDB's and bounded by its limit.
#ifndef ICEPIE_SLICES_ROW_DIFF_H_
#define ICEPIE_SLICES_ROW_DIFF_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace icepie::slices {

class DuckConnection;

inline constexpr int64_t kDiffSamplesMax = 20;

// Relative; for DOUBLE columns that the slice names no tolerance for. Others must be equal.
inline constexpr double kDoubleTolerance = 1e-9;

struct ColumnChange {
  std::string name;
  std::string base_type;  // empty: the column is new
  std::string new_type;   // empty: the column is gone
};

struct RowDiff {
  int64_t base_rows = 0;
  int64_t rows = 0;
  int64_t added = 0;
  int64_t removed = 0;
  int64_t changed = 0;
  // {"change":"added|removed|changed","before":{…}|null,"after":{…}|null}, in key order. Fewer than
  // kDiffSamplesMax when rows are large.
  std::vector<std::string> samples;
  std::vector<ColumnChange> columns;  // these are not compared; all others are
  // Why rows were compared as a whole, as multisets, without `changed` and without tolerance: there
  // is no key, a key column is not common to both, or the key is not unique. Empty: by key.
  std::string not_by_key;

  bool empty() const { return added + removed + changed == 0 && columns.empty(); }
};

// Compares `__result` of the attached databases `base_db` and `new_db`. Rows belong together when
// their key columns are equal, NULL being equal to NULL; they are changed when another column that
// both have, of the same type, differs by more than its tolerance (of `tolerance`, relative to the
// larger of both values; for numbers).
//
// Errors: DuckDB's; RESOURCE_EXHAUSTED when its memory or time ends.
absl::StatusOr<RowDiff> DiffResults(DuckConnection& connection, const std::string& base_db,
                                    const std::string& new_db, const std::vector<std::string>& key,
                                    const std::map<std::string, double>& tolerance);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROW_DIFF_H_
