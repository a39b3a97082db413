// Strategy `aggregate` for clusters: components(a, b) over the rows of a source or a slice, kept as
// what every node belongs to, so that a batch costs what it connects and not all edges ever seen.
//
//   SELECT c.node, c.cluster FROM (SELECT unnest(components(a, b)) AS c FROM links WHERE …) …
//   SELECT unnest(components(a, b)) AS c FROM links WHERE …
//
//   __state(node, cluster)   every node with the smallest node of its component
//   batch                    its edges between the clusters of what they connect are components of
//                            their own: clusters of the state that are in a larger one now are
//                            renamed, new nodes added
//   __result                 the SELECT around it over __state
//
// A source's edges only ever come, because records do. They may be as many as they like: they are
// not kept. A slice's edges can go too; clusters cannot be taken apart without all edges, so when
// one goes (no row of the slice has it any more), the state is made anew from all that are left.
#ifndef ICEPIE_SLICES_PLAN_COMPONENTS_PLAN_H_
#define ICEPIE_SLICES_PLAN_COMPONENTS_PLAN_H_

#include "absl/status/statusor.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {

absl::StatusOr<SliceStatements> PlanComponents(const PlanRequest& request);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_COMPONENTS_PLAN_H_
