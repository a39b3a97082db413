// Strategy `keys` for joins of sources, streams and dimensions: inner and left joins of which every
// condition demands the same key of all relations, as in
//
//   a JOIN b ON b.k = a.k LEFT JOIN c ON c.k = b.k AND c.x > a.y
//
// A row of the join has one key, so the rows of the keys that a batch touches are made again from
// the records of those keys alone. Groups must be by the key, or by more than it.
//
//   __rows0(__key0, columns), __rows1 …   the records of each relation; of a dimension the newest
//                                         of each of its own keys
//   __data(__key, outputs)                the result's rows with their key
#ifndef ICEPIE_SLICES_JOIN_PLAN_H_
#define ICEPIE_SLICES_JOIN_PLAN_H_

#include "absl/status/statusor.h"
#include "slices/strategy_plan.h"

namespace icepie::slices {

absl::StatusOr<SliceStatements> PlanJoin(const PlanRequest& request);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_JOIN_PLAN_H_
