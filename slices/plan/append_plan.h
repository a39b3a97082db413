// Strategy `append`: every row comes from one record, so the SELECT is run over each batch and its
// rows are added.
#ifndef ICEPIE_SLICES_PLAN_APPEND_PLAN_H_
#define ICEPIE_SLICES_PLAN_APPEND_PLAN_H_

#include "absl/status/statusor.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {

absl::StatusOr<SliceStatements> PlanAppend(const PlanRequest& request);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_APPEND_PLAN_H_
