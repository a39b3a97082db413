// Strategy `aggregate` over a slice: rows of the upstream slice change and vanish, so every
// aggregate must be one that can take a value back exactly. Each becomes one over the rows that
// came and the rows that went (slices/plan/change_feed.h):
//
//   count(x)  → count(x) of what came - count(x) of what went
//   sum(x)    → sum(x, or -x where it went), NULL when nothing is left; of integers and decimals
//   avg(x)    → the one by the other
//
// and slices/plan/aggregate_plan.h plans the rest. A group of which no row is left is deleted.
#ifndef ICEPIE_SLICES_PLAN_RETRACT_PLAN_H_
#define ICEPIE_SLICES_PLAN_RETRACT_PLAN_H_

#include "absl/status/statusor.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {

absl::StatusOr<SliceStatements> PlanRetract(const PlanRequest& request);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_RETRACT_PLAN_H_
