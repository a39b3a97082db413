// Strategy `keys` for joins of streams, dimensions and slices: inner, left, semi and anti joins of
// which every condition demands the same key of all relations, as in
//
//   a JOIN b ON b.k = a.k LEFT JOIN c ON c.k = b.k AND c.x > a.y
//
// A row of the join has one key, so the rows of the keys that a batch touches are made again from
// the rows of those keys alone. Groups must be by the key, or by more than it.
//
// Without groups, what changes of a relation that is the first one or joined by an inner join is
// joined to what is there of the others, and the rows that this gives are added or deleted; only
// what changes of dimensions and on the right side of the other joins has its keys made again.
//
//   __rows0(__key0, columns), __rows1 …   the records of each relation; of a dimension the newest
//                                         of each of its own keys. A slice is read where it stands
//   __data(__key, outputs)                the result's rows with their key
#ifndef ICEPIE_SLICES_PLAN_JOIN_PLAN_H_
#define ICEPIE_SLICES_PLAN_JOIN_PLAN_H_

#include "absl/status/statusor.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {

absl::StatusOr<SliceStatements> PlanJoin(const PlanRequest& request);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_JOIN_PLAN_H_
