// Strategy `keys` for SELECTs that are too much for one step: they are planned in parts, each kept
// as if it were a slice of its own that the rest reads.
//
//   - a subquery that is joined (groups, windows, joins of its own) is a part
//   - a join whose rows are grouped by other columns than its key, counted by windows, or read by
//     another SELECT is a part; what is around it follows the rows that the part changes: it takes
//     them back and adds them (retract_plan.h) or replaces them by key (keys_plan.h)
//   - where the levels of nested SELECTs have no key in common, what is below the top is a part
//   - of three and more relations that no single key leads through, all but the last are a part
//   - USING is ON, with the names told apart
//
//   __data_1, __rows_1 …, view __result_1   the tables of the first part, and its rows
//   __changes___result_1                    what a batch changed of them; empty between batches
#ifndef ICEPIE_SLICES_PLAN_PARTS_PLAN_H_
#define ICEPIE_SLICES_PLAN_PARTS_PLAN_H_

#include "absl/status/statusor.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {

// Joins, in one step when that can be done, and nested SELECTs that keys_plan.h has refused.
absl::StatusOr<SliceStatements> PlanParts(const PlanRequest& request);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_PARTS_PLAN_H_
