// Questions as SQL: rows of one slice without SQL, and values bound to parameters.
#ifndef ICEPIE_SLICES_QUERY_QUERY_TEXT_H_
#define ICEPIE_SLICES_QUERY_QUERY_TEXT_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "slices/apply/engine_types.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::slices {

struct SelectText {
  std::string sql;
  std::map<std::string, QueryValue> parameters;
};

// SELECT over `relation` (quoted, with its database). Values are bound, never written into the
// text, and cast to their column's type. INVALID_ARGUMENT/SQL_UNKNOWN_COLUMN naming the columns
// that there are; PARAMETER_INVALID for a wrong number of values or a negative limit.
absl::StatusOr<SelectText> SelectToSql(const SelectQuestion& question, const GenerationInfo& slice,
                                       const std::string& relation);

// INVALID_ARGUMENT/PARAMETER_INVALID for a name that the statement does not have, one that has no
// value, or a value that DuckDB refuses.
absl::Status BindParameters(const DuckStatement& statement,
                            const std::map<std::string, QueryValue>& parameters);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_QUERY_QUERY_TEXT_H_
