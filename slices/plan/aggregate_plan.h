// Strategy `aggregate`: a grouped SELECT is split into partial states that batches are folded into,
// and final expressions over them.
//
//   __state(k0, k1, …, a0, a1, …)   group keys and partial states (partial_states.h), a row per
//   group
//   __values0(k0, k1, …, v), …      with DISTINCT: the values that each group has had
//   fold                            MERGE of the batch's own groups, NULL keys equal
//   __result                        the SELECT list over k… and a…, HAVING as WHERE
//
// A sum's state is NULL until there is a value, so sums of nothing are NULL. Without GROUP BY there
// is one row from the beginning.
#ifndef ICEPIE_SLICES_PLAN_AGGREGATE_PLAN_H_
#define ICEPIE_SLICES_PLAN_AGGREGATE_PLAN_H_

#include "absl/status/statusor.h"
#include "slices/plan/strategy_plan.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {

absl::StatusOr<SliceStatements> PlanAggregate(const PlanRequest& request);

// Whether an aggregate function is called anywhere in the tree.
bool ContainsAggregate(const Json& tree);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_AGGREGATE_PLAN_H_
