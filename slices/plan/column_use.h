// Which declared columns a SELECT reads: a record is bad for a slice only when one of them cannot
// be read, and only they are decoded.
#ifndef ICEPIE_SLICES_PLAN_COLUMN_USE_H_
#define ICEPIE_SLICES_PLAN_COLUMN_USE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/definition/definition.h"
#include "slices/plan/plan.h"

namespace icepie::slices {

class DuckConnection;

// The columns of `sources` (those that `sql` names) that it refers to, by name: when a name could
// be of two sources it counts for both. `*` is all columns of the relations beside it. Dimensions
// also read their key. In the order of `sources`.
absl::StatusOr<std::vector<SourceUse>> FindColumnUse(DuckConnection& connection,
                                                     const std::string& sql,
                                                     const std::vector<const SourceDef*>& sources);

// Every declared column of `sources`.
std::vector<SourceUse> AllColumns(const std::vector<const SourceDef*>& sources);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_COLUMN_USE_H_
