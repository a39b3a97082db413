// Strategy `keys`: what the SELECT gives is kept by key, and a batch replaces the rows of the keys
// that it touches. For aggregates that cannot be merged, windows, top rows and latest row of a key.
//
//   __rows(__key0, …, columns)   the records read so far, with the keys that they belong to
//   __data(__key0, …, outputs)   the result's rows with their keys
//   batch                        its records go to __rows; for their keys, __data is replaced by
//                                the user's SELECT over those keys' rows of __rows alone
//   __result                     __data without its keys
//
// Over a slice the rows are not kept but read from its result, and the keys are those of the rows
// that it changed (slices/plan/change_feed.h).
//
// Where only the first rows of a key can ever matter (slices/plan/key_shape.h, TopRows), __rows
// keeps no more of them. Rows that are equal in what a window or aggregate orders by are taken in
// the order of `_position`.
#ifndef ICEPIE_SLICES_PLAN_KEYS_PLAN_H_
#define ICEPIE_SLICES_PLAN_KEYS_PLAN_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {

absl::StatusOr<SliceStatements> PlanKeys(const PlanRequest& request);

// Adds what writes `table` anew, in `order` (" ORDER BY …" or ""), when too much of its space is
// that of deleted rows.
void AddCompaction(std::vector<ApplyStatement>& apply, const std::string& table,
                   const std::string& order);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_KEYS_PLAN_H_
