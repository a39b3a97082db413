// From an entry of `expect:` to the SELECT that finds the rows which break it (expectation.h).
#ifndef ICEPIE_SLICES_PLAN_EXPECTATION_PLAN_H_
#define ICEPIE_SLICES_PLAN_EXPECTATION_PLAN_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/plan/plan.h"

namespace icepie::slices {

class DuckConnection;

// `connection` has empty relations `slice`, with `columns`, and (relationships) `__to`, with
// `to_columns`; errors_as_json is set. INVALID_ARGUMENT in words for the author of the file: a
// column that is not there, a value that is not of the column's type, SQL that the gate refuses
// (`offset` in metadata is the byte of the entry's SQL). The clock is allowed: a check need not
// give the same tomorrow.
absl::StatusOr<ExpectationPlan> PlanExpectation(DuckConnection& connection,
                                                const ExpectationDef& definition,
                                                const std::vector<OutputColumn>& columns,
                                                const std::vector<OutputColumn>& to_columns);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_EXPECTATION_PLAN_H_
