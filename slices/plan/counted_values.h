// What count() has to look at: count(x + 1) counts the rows that have an x.
//
// DuckDB evaluates the argument, which may overflow, unless what it knows of a table says that it
// is never NULL: of other rows, or of the same ones read otherwise, it fails. Of a slice that is
// kept fresh batch by batch it knows nothing, so it is not left to that.
#ifndef ICEPIE_SLICES_PLAN_COUNTED_VALUES_H_
#define ICEPIE_SLICES_PLAN_COUNTED_VALUES_H_

#include "absl/status/statusor.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {

// The tree with sums, differences, products and absolute values that count() counts replaced by
// what they are made of. Where there are none, or one of them is of something else than numbers
// (which are not NULL for other reasons), it is the same. The connection must know what it reads.
absl::StatusOr<Json> CountOperands(DuckConnection& connection, Json tree);

// Whether count() counts any such, of numbers or of something else.
bool AnyCountedArithmetic(const Json& tree);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_COUNTED_VALUES_H_
