// Strategy `aggregate` for clusters: components(a, b) over a source's records, kept as what every
// node belongs to, so that a batch costs what it connects and not all edges ever seen.
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
// Edges only ever come, because records do. A source's edges may be as many as they like: they are
// not kept.
#ifndef ICEPIE_SLICES_COMPONENTS_PLAN_H_
#define ICEPIE_SLICES_COMPONENTS_PLAN_H_

#include "absl/status/statusor.h"
#include "slices/strategy_plan.h"

namespace icepie::slices {

absl::StatusOr<SliceStatements> PlanComponents(const PlanRequest& request);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_COMPONENTS_PLAN_H_
