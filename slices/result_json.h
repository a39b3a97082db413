// Rows of a DuckDB result as a JSON array of objects (API.md section 4): ISO 8601 with Z for
// TIMESTAMPTZ, decimals from their exact digits, no bare NaN (null), nested values as JSON.
#ifndef ICEPIE_SLICES_RESULT_JSON_H_
#define ICEPIE_SLICES_RESULT_JSON_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace icepie::slices {

class DuckResult;

struct JsonRows {
  std::string body;  // [{"a":1},…]
  int64_t row_count = 0;
};

// Reads `result` to its end. RESOURCE_EXHAUSTED/RESULT_TOO_LARGE beyond `rows_max` or `bytes_max`.
absl::StatusOr<JsonRows> WriteJsonRows(DuckResult& result, int64_t rows_max, int64_t bytes_max);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_RESULT_JSON_H_
