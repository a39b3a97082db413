// `*` of a source is what its declaration says. The hidden columns (slices/plan/plan.h) are columns
// for DuckDB, so a star would give them too: DISTINCT * would find no equal rows, NATURAL JOIN no
// partner, and every row would carry its payload.
#ifndef ICEPIE_SLICES_PLAN_SPELLED_STARS_H_
#define ICEPIE_SLICES_PLAN_SPELLED_STARS_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "slices/plan/syntax_tree.h"

namespace icepie::slices {

using DeclaredColumns = std::map<std::string, std::vector<std::string>>;  // by source

// The statement with the columns that its stars, NATURAL joins and pivots of `sources` stand for:
// the declared ones, and of the hidden ones those that the SQL names anywhere, as a query above
// would otherwise not find them, or `named` has. nullopt when there are none.
std::optional<Json> SpellOutStars(const Json& statement, const DeclaredColumns& sources,
                                  const std::set<std::string>& named);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_SPELLED_STARS_H_
