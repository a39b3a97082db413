// Whether a query's rows each come from one record of a source: then batches of records can be
// taken one after the other, whatever else is done with the rows.
#ifndef ICEPIE_SLICES_ROW_SHAPE_H_
#define ICEPIE_SLICES_ROW_SHAPE_H_

#include "absl/status/status.h"
#include "slices/strategy_plan.h"

namespace icepie::slices {

// OK when FROM, WHERE and what else comes before grouping give rows that stand for themselves.
// FAILED_PRECONDITION says what stands in the way.
absl::Status CheckRowShape(const PlanRequest& request);

// Whether the query groups its rows.
bool IsAggregation(const Json& node);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROW_SHAPE_H_
