// Whether a SELECT takes whole rows by the name of their relation alone, as `to_json(o)` and
// `count(DISTINCT o)` over `orders AS o` do. What is taken then depends on which columns stand in
// the relation's place.
#ifndef ICEPIE_SLICES_PLAN_WHOLE_ROW_H_
#define ICEPIE_SLICES_PLAN_WHOLE_ROW_H_

#include <functional>
#include <string>

#include "slices/plan/syntax_tree.h"

namespace icepie::slices {

// Whether relation `relation` of the domain has column `column`, both in lower case.
using HasColumnFunction =
    std::function<bool(const std::string& relation, const std::string& column)>;

// As in DuckDB, a column comes before a relation of its name. Where it is not known whether there
// is such a column, the row counts as taken.
bool TakesWholeRow(const Json& statement, const HasColumnFunction& has_column);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_WHOLE_ROW_H_
