// The row diff of two generations of a slice: what a promotion would change, counted and sampled.
// It is SQL over both states, so memory is DuckDB's and bounded by its limit.
#ifndef ICEPIE_SLICES_READING_ROW_DIFF_H_
#define ICEPIE_SLICES_READING_ROW_DIFF_H_

#include <cstdint>
#include <map>
#include <optional>
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

struct RowChanges {
  int64_t added = 0;
  int64_t removed = 0;
  int64_t changed = 0;
};

// The rows in which two states differ: by key, or whole ones.
struct Differences {
  std::string table;  // a temporary one of the connection
  bool by_key = false;
};

struct RowDiff {
  int64_t base_rows = 0;
  int64_t rows = 0;
  int64_t added = 0;
  int64_t removed = 0;
  int64_t changed = 0;
  // Of these, those that differ only here and not already in the known differences; absent when
  // none are given, or they were found in another way (by key, by whole rows).
  std::optional<RowChanges> besides;
  // {"change":"added|removed|changed","before":{…}|null,"after":{…}|null}, in key order; with
  // `besides` also {"from_quarantine":true|false}, those that differ besides last. Fewer than
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
                                    const std::map<std::string, double>& tolerance,
                                    const std::optional<Differences>& known = std::nullopt);

// Notes in the temporary table `table` of `connection` in which rows the two differ. Errors: as
// above; FAILED_PRECONDITION when they have no column in common.
absl::StatusOr<Differences> NoteDifferences(DuckConnection& connection, const std::string& base_db,
                                            const std::string& new_db,
                                            const std::vector<std::string>& key,
                                            const std::map<std::string, double>& tolerance,
                                            const std::string& table);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_ROW_DIFF_H_
