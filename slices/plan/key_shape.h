// Keys of a query: expressions over its input's row such that the result's rows of one key depend
// on input rows of that key only. Then, when some input rows change, the query has to be run over
// the rows of their keys alone.
//
// A query is looked at as a chain of SELECTs, each reading the one below and the lowest reading a
// relation. A level that groups, counts within windows or removes duplicates keeps keys apart when
// it does so by them: GROUP BY, PARTITION BY and DISTINCT ON must contain them. Levels that only
// filter and project keep any. So the keys are what all levels' lists have in common, written over
// the relation's columns.
#ifndef ICEPIE_SLICES_PLAN_KEY_SHAPE_H_
#define ICEPIE_SLICES_PLAN_KEY_SHAPE_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {

// row_number() OVER (PARTITION BY … ORDER BY …) <= count at the lowest level, and nothing else that
// looks at several rows there: rows beyond `count` of a partition can never matter again.
struct TopRows {
  std::vector<Json> partitions;  // over the relation's row
  Json orders;                   // the window's list, likewise
  int64_t count = 0;
};

struct KeyShape {
  Json statement;             // with CTEs put where they are read
  std::vector<Json> keys;     // not empty
  std::optional<Json> where;  // the lowest level's filter, over the relation's row
  // Likewise those of the levels above, up to the first that looks at several rows: what they drop
  // plays no part.
  std::vector<Json> filters;
  bool where_known = true;  // false: there is another filter, which could not be written so
  std::optional<TopRows> top;
};

// Puts the WITH queries of `select` where they are read. FAILED_PRECONDITION says why it cannot.
absl::Status InlineCtes(Json& select);

// The SELECT nodes of `statement`, top first; the last one reads the relation.
std::vector<Json*> LevelsOf(Json& statement);

// `columns`: the relation's, in lower case. When every row of the result comes from one row of the
// relation any keys will do: `identity`, columns of it, or UNIMPLEMENTED when that is empty.
// FAILED_PRECONDITION says what stands in the way of keys.
absl::StatusOr<KeyShape> FindKeyShape(const Json& statement, const std::set<std::string>& columns,
                                      const std::vector<std::string>& identity);

// Output column `name` (in lower case) as a function of the row of the relation that the result's
// row comes from, or of any such row when it comes from several; nullopt when it is none.
std::optional<Json> FindOutput(const KeyShape& shape, const std::set<std::string>& columns,
                               const std::string& name);

// Whether only the newest row of a key is kept, and no later one ever gives way to it.
bool KeepsNewest(const KeyShape& shape);

// Whether the level groups, or removes duplicates, so that columns can only pass it as keys.
bool IsGrouped(const Json& level);

// Makes the order of windows and of ordered aggregates in `level` complete with `column`, where
// that decides between equal rows and changes nothing else.
void BreakTies(Json& level, const std::string& column);

Json ColumnReference(const std::string& name);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_KEY_SHAPE_H_
