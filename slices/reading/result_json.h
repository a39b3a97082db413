// Rows of a DuckDB result as a JSON array of objects, or as lines (API.md section 4).
//
//   integers, HUGEINT, DECIMAL   numbers with all their digits
//   FLOAT, DOUBLE                the shortest number that reads back the same; NaN, ±inf: null
//   DATE, TIME, TIMESTAMP…       "2001-01-31", "00:05:00", "2001-01-31T00:05:00.125"; with Z for
//                                TIMESTAMPTZ (infinities: "infinity", "-infinity")
//   VARCHAR, ENUM, UUID, BIT     strings; BLOB: base64; INTERVAL: "1 month 2 days 03:04:05.5"
//   LIST, ARRAY                  arrays; STRUCT, MAP: objects (keys of a map as text); UNION: its
//                                value
#ifndef ICEPIE_SLICES_READING_RESULT_JSON_H_
#define ICEPIE_SLICES_READING_RESULT_JSON_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace icepie::slices {

class DuckResult;

// How rows are written.
struct RowStyle {
  enum class Format { kJson, kNdjson, kCsv };
  Format format = Format::kJson;
  // Numbers that a reader of JSON may keep in a double, and so change, are strings: BIGINT,
  // UBIGINT, HUGEINT, UHUGEINT, BIGNUM and DECIMAL, also within lists, structs and maps.
  bool exact_as_text = false;
};

struct JsonRows {
  // kJson: [{"a":1},…]; kNdjson: an object in each line; kCsv: a line of names, then the rows
  // (csv_text.h).
  std::string body;
  int64_t row_count = 0;
};

// The columns' names as the rows have them: a name that occurs twice gets _1, _2 … behind it.
std::vector<std::string> JsonColumnNames(DuckResult& result);

// Reads `result` to its end. RESOURCE_EXHAUSTED/RESULT_TOO_LARGE beyond `rows_max` or `bytes_max`;
// INVALID_ARGUMENT/TYPE_UNSUPPORTED for a column of another type, with CAST as the remedy; the
// result's own error if it has one.
absl::StatusOr<JsonRows> WriteJsonRows(DuckResult& result, int64_t rows_max, int64_t bytes_max,
                                       const RowStyle& style = {});

// The same, each row apart; stops in front of the row that would make them more than `bytes_max`.
absl::StatusOr<std::vector<std::string>> WriteJsonObjects(DuckResult& result, int64_t bytes_max);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_RESULT_JSON_H_
