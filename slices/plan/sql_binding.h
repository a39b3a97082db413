// What a SELECT gives: names and types of its columns, as DuckDB binds them.
#ifndef ICEPIE_SLICES_PLAN_SQL_BINDING_H_
#define ICEPIE_SLICES_PLAN_SQL_BINDING_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/plan/plan.h"

namespace icepie::slices {

class DuckConnection;

// Binds `sql` without running it. The connection must have errors_as_json set. INVALID_ARGUMENT
// with SQL_UNKNOWN_COLUMN (`name` in metadata) or DEFINITION_INVALID; `offset` in metadata is the
// byte of the SQL, when DuckDB says it. Errors that pass have no reason.
absl::StatusOr<std::vector<OutputColumn>> BindSelect(DuckConnection& connection,
                                                     const std::string& sql);

// An error of DuckDB on a connection with errors_as_json, in the form of BindSelect's; one that is
// not the SQL's (IsPassing) as it is.
absl::Status BindError(const absl::Status& status);

// Lack of memory, an interrupt, input and output: says nothing about the SQL, and may have passed
// when it is tried again.
bool IsPassing(const absl::Status& status);

bool SameColumns(const std::vector<OutputColumn>& a, const std::vector<OutputColumn>& b);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_SQL_BINDING_H_
