// `*` of a source is what its declaration says, and so is a whole row by its relation's name alone
// (`to_json(o)`). The hidden columns (slices/plan/plan.h) are columns for DuckDB, so a star would
// give them too: DISTINCT * would find no equal rows, NATURAL JOIN no partner, and every row would
// carry its payload.
#ifndef ICEPIE_SLICES_PLAN_SPELLED_STARS_H_
#define ICEPIE_SLICES_PLAN_SPELLED_STARS_H_

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "slices/plan/syntax_tree.h"

namespace icepie::slices {

using DeclaredColumns = std::map<std::string, std::vector<std::string>>;  // by source

// The columns of `source` that a star which chooses (COLUMNS over names, by a pattern, a list or a
// lambda) takes, in lower case; nullopt where that cannot be told.
using ChosenColumns = std::function<std::optional<std::set<std::string>>(
    const Json& star, const std::string& source)>;

// The statement with the columns that its stars, NATURAL joins, pivots and whole rows of `sources`
// stand for: the declared ones, and of the hidden ones those that the SQL names anywhere, as a
// query above would otherwise not find them, or `named` has. With `chosen`, stars that choose, and
// pivots with GROUP BY that name all that they read, get of the declared ones only those that they
// take or that the SQL names: what is not shown is not read. `has_rows`: it may take whole rows
// (slices/plan/whole_row.h). nullopt when there is nothing to spell out.
std::optional<Json> SpellOutStars(const Json& statement, const DeclaredColumns& sources,
                                  const std::set<std::string>& named, bool has_rows,
                                  const ChosenColumns& chosen);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_SPELLED_STARS_H_
