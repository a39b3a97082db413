// Where the order in which DuckDB comes to the rows of a query can be seen in its result: of rows
// that are equal in what is asked for, one is taken, or comes first.
//
// Records have their positions for that (P5). Rows of a slice have none: between them decides the
// slice's key, then its other columns.
#ifndef ICEPIE_SLICES_PLAN_ROW_ORDER_H_
#define ICEPIE_SLICES_PLAN_ROW_ORDER_H_

#include <string>
#include <vector>

#include "slices/plan/plan.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {

// An aggregate, or one over a window, that of equal rows takes the first, without a way to say
// which that is.
bool TakesFirstOfEquals(const Json& node);

// Whether a part of the tree does so. Texts that a collation holds for equal are such rows, too.
bool AnyTakesFirst(const Json& tree);

// A window of which one more order changes only what is chance: frames of rows, and functions that
// do not look at who is equal.
bool TakesTieBreak(const Json& window);

// A window that shows in which order equal rows came, and takes no tie break.
bool ShowsOrderOfPeers(const Json& window);

// Whether the result of the query shows the order of equal rows anywhere. `of_records`: it reads no
// slice; then what is ordered by the position of the only source has no equal rows.
bool ShowsOrder(const Json& statement, bool of_records);

// Whether an ordered last() anywhere may find equal rows. `of_records` as above.
bool AnyLastOfEquals(const Json& statement, bool of_records);

// What decides between equal rows of a slice: columns that tell all of its rows apart.
std::vector<std::string> TiesOf(const SliceDef& definition, const SlicePlan& plan);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_ROW_ORDER_H_
