// Which expressions over the values of groups can end in an error. Those that can are evaluated
// with each batch, so that the error comes while there is a record to blame for it, and not with
// every answer from then on.
#ifndef ICEPIE_SLICES_PLAN_FALLIBLE_EXPRESSION_H_
#define ICEPIE_SLICES_PLAN_FALLIBLE_EXPRESSION_H_

#include <functional>
#include <string>

#include "slices/plan/syntax_tree.h"

namespace icepie::slices {

// Whether evaluating `expression` may fail for some values of its aggregates and columns, which
// are there already. True when in doubt. `type_of` tells the type of a part as DuckDB writes it, ""
// when it cannot. A sum or difference of counts, or of sums, is not held to overflow: there are not
// so many records.
bool MayFail(const Json& expression, const std::function<std::string(const Json&)>& type_of);

// The same where the arguments of aggregates are evaluated with it.
bool MayFailFromRows(const Json& expression,
                     const std::function<std::string(const Json&)>& type_of);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_FALLIBLE_EXPRESSION_H_
