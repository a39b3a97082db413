// Whether a query's rows each come from one record: then batches of records can be taken one after
// the other, whatever else is done with the rows. That allows filters, projections, unnest, WITH
// and subqueries in FROM, joins with what reads no source (VALUES, unnest of the row's own list),
// and UNION ALL of such queries over one or several sources.
#ifndef ICEPIE_SLICES_PLAN_ROW_SHAPE_H_
#define ICEPIE_SLICES_PLAN_ROW_SHAPE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {

struct RowShape {
  std::vector<std::string> reads;  // sources, one twice if it is read twice
  // Rows come in position order: one source is read once.
  bool by_position() const { return reads.size() == 1; }
  // The sources, each once, for people.
  std::string Names() const;
};

// The shape of a whole query. FAILED_PRECONDITION says what stands in the way.
absl::StatusOr<RowShape> FindRowShape(const PlanRequest& request, const Json& node);

// The shape of what `node`, a SELECT_NODE, groups: its FROM and WHERE, before grouping.
absl::StatusOr<RowShape> FindGroupedShape(const PlanRequest& request, const Json& node);

// Whether the query groups its rows.
bool IsAggregation(const Json& node);

// The statement's node without an ORDER BY of the whole query, because a slice is a set of rows;
// with a LIMIT it stays. `dropped` tells whether there was one.
Json WithoutOrder(const Json& statement, bool* dropped);

// SELECT DISTINCT, without ON.
bool IsDistinct(const Json& node);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_ROW_SHAPE_H_
