// What a slice hands on to the slices that read it: the rows that its batches took from its result
// and added to it.
//
//   __changes(outputs…, __sign TINYINT, __at BIGINT)   in the generation's database
//     __sign   1: the row came, -1: it went
//     __at     the position to which the batch led
//
// A row that became another is both. Over several batches the signs add up: what came and went
// again cancels. A slice that reads changes has those behind its own position as the relation
// ChangesOf(upstream), without __at; when it is built anew, that shows the whole result as new
// rows.
#ifndef ICEPIE_SLICES_PLAN_CHANGE_FEED_H_
#define ICEPIE_SLICES_PLAN_CHANGE_FEED_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "slices/plan/plan.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {

inline constexpr char kSignColumn[] = "__sign";
inline constexpr char kSignType[] = "TINYINT";
inline constexpr char kAtColumn[] = "__at";

// The relation that shows the changes of slice `upstream`.
std::string ChangesOf(absl::string_view upstream);

// Makes an empty table __changes in place of the one that may be there.
std::string MakeChangesTable();

// Adds to `plan` what writes __changes. False when its strategy does not know what a batch touches.
bool HandOutChanges(SlicePlan& plan);

// The statement that puts the rows of one with a sign into __changes, as of the position that the
// expression `at` gives.
std::string InsertChanges(const ApplyStatement& statement, absl::string_view at);

// A SELECT of the rows that `database` has in __changes behind the position $1, without __at.
std::string SelectChanges(const std::string& database);

// For a planner over slices: the only relation that the slice reads, a slice that can hand out
// changes. UNIMPLEMENTED when it reads no slice.
absl::StatusOr<const SlicePlan*> OnlyUpstream(const PlanRequest& request);

// FAILED_PRECONDITION when `upstream` hands out no changes, for a planner of a slice that reads it.
absl::Status CheckHandsOutChanges(const SlicePlan& upstream);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_CHANGE_FEED_H_
