// Strategies that need only the new records: `append` for rows that stand for themselves,
// `aggregate` for states that can be merged.
#ifndef ICEPIE_SLICES_INCREMENTAL_PLAN_H_
#define ICEPIE_SLICES_INCREMENTAL_PLAN_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/plan.h"

namespace icepie::slices {

class DuckConnection;

// What the engine runs for a slice (plan.h), with the reason in words.
struct SliceStatements {
  Strategy strategy = Strategy::kRecompute;
  std::string why;
  std::vector<std::string> create;
  std::vector<ApplyStatement> apply;
};

// Statements for `sql`, which reads `source` only and gives `columns`. FAILED_PRECONDITION when the
// slice has to be recomputed; the message says why, for people.
absl::StatusOr<SliceStatements> PlanIncremental(DuckConnection& connection, const std::string& sql,
                                                const SourceDef& source,
                                                const std::vector<OutputColumn>& columns);

// CREATE TABLE __data and the view __result over it, for append and recompute.
std::vector<std::string> CreateDataTable(const std::vector<OutputColumn>& columns);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_INCREMENTAL_PLAN_H_
