// GROUPING SETS, ROLLUP and CUBE as one GROUP BY, for planners that know only that:
//
//   SELECT a, b, count(*) FROM r GROUP BY ROLLUP (a, b)
//
//   SELECT CASE WHEN __set IN (1, 2) THEN a END, CASE WHEN __set IN (2) THEN b END, count(*)
//   FROM (SELECT *, unnest([0, 1, 2]) AS __set FROM r) AS r GROUP BY __set, the two CASEs
//
// Every row counts once for each set. grouping() is a function of __set. The set of nothing has a
// row also when there are no records, which the GROUP BY has not.
#ifndef ICEPIE_SLICES_PLAN_GROUPING_SETS_H_
#define ICEPIE_SLICES_PLAN_GROUPING_SETS_H_

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {

struct GroupedSets {
  Json node;  // its first group is __set
  std::vector<size_t> of_nothing;
};

// FAILED_PRECONDITION says what stands in the way.
absl::StatusOr<GroupedSets> SetsAsGroups(DuckConnection& connection, const Json& node);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_GROUPING_SETS_H_
