// The rows that a test expects beside those that a slice shows, column by column as DuckDB's own
// text of their type, so that both sides are written alike.
#ifndef ICEPIE_SLICES_EXPECTATION_EXPECTED_ROWS_H_
#define ICEPIE_SLICES_EXPECTATION_EXPECTED_ROWS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/definition/definition_tests.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/plan.h"

namespace icepie::slices {

// A row's values as text, by the column's place; nullopt is NULL.
using TextRow = std::vector<std::optional<std::string>>;

// What an expectation's rows say, ready to be compared.
struct ExpectedRows {
  std::vector<OutputColumn> columns;  // those that are compared
  std::vector<TextRow> rows;
};

// Reads the values as the slice's types. INVALID_ARGUMENT, with the place in `bad`, for a column
// that the slice does not have and for a value that its type cannot hold unchanged (7.6 is not an
// INTEGER). An expectation of no rows compares all columns.
absl::StatusOr<ExpectedRows> ReadExpectedRows(DuckConnection& connection,
                                              const std::vector<OutputColumn>& columns,
                                              const std::vector<TestRow>& rows, FilePlace& bad);

struct RowMismatch {
  std::vector<size_t> missing;     // of the expected rows
  std::vector<size_t> unexpected;  // of the actual rows
};

// Each expected row takes the first equal one that is left. FLOAT and DOUBLE are equal within a
// relative 1e-9, other columns exactly, unless `tolerance` says otherwise.
RowMismatch CompareRows(const ExpectedRows& expected, const std::vector<TextRow>& actual,
                        const std::map<std::string, double>& tolerance);

// {origin: ABE, flights: 2}
std::string RowText(const std::vector<OutputColumn>& columns, const TextRow& row);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_EXPECTATION_EXPECTED_ROWS_H_
