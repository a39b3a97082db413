// Runs a plan's statements over one batch after another.
#ifndef ICEPIE_SLICES_APPLY_APPLY_STATEMENTS_H_
#define ICEPIE_SLICES_APPLY_APPLY_STATEMENTS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "slices/apply/batch_relation.h"
#include "slices/duckdb/bound_numbers.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/plan.h"

namespace icepie::slices {

// Planning costs a small batch more than running, so the statements are prepared and run again and
// again. What DuckDB's optimizer concludes from the statistics of a table (an empty column IS NULL,
// a key lies between 1 and 3) goes into a prepared statement and would make it wrong as soon as the
// table has grown. DuckDB gives no statistics of a table that its transaction has added to; so the
// statements are prepared in a transaction that adds a row to every table of the generation, and
// is rolled back. They are prepared anew when so much has been applied that joins deserve another
// order.
//
// That covers tables of the generation's own that stay what they are, and batches. The statements
// of `keys` and recompute, which replace tables and whose planning costs little beside the rest,
// and those of aggregates that do so are planned anew each time.
//
// Threads: the connection's.
// Errors: as DuckConnection (duckdb.h).
// Lifetime: connection and plan outlive it. The current database must be the generation's. After a
//   table or view that the statements name has been replaced, Forget() must be called;
//   until then, RunOnce() alone.
class ApplyStatements {
 public:
  ApplyStatements(DuckConnection& connection, const SlicePlan& plan);

  // To be called before each batch, outside of a transaction. `applied` records are in the state.
  absl::Status Prepare(int64_t applied);
  // What is prepared, and all that DuckDB keeps for it of its last run.
  void Forget() { steps_.clear(); }

  // Runs all statements, within the caller's transaction. What they change is written down as of
  // position `changes_at`, or without one not at all. The first error ends it. Then `at_end` (may
  // be null) can still see what the batch is made of.
  absl::Status Run(std::optional<int64_t> changes_at,
                   const std::function<absl::Status()>& at_end = nullptr);
  // Likewise, but plans all of them anew.
  absl::Status RunOnce(std::optional<int64_t> changes_at,
                       const std::function<absl::Status()>& at_end = nullptr);

 private:
  struct Step {
    std::unique_ptr<DuckStatement> statement;
    std::unique_ptr<DuckStatement> only_if;
    BatchRelation* into = nullptr;
    bool writes_changes = false;
  };

  absl::Status PrepareSteps();
  absl::Status AddToAllTables(const std::vector<CellRow>& tables);
  absl::Status MakeRelations();
  absl::Status Finish(absl::Status status, const std::function<absl::Status()>& at_end);
  absl::Status RunSteps(std::optional<int64_t> changes_at);
  absl::Status RunTexts(std::optional<int64_t> changes_at);

  DuckConnection& connection_;
  const SlicePlan& plan_;
  const bool reusable_;
  std::map<std::string, std::unique_ptr<BatchRelation>> relations_;
  std::unique_ptr<BoundNumbers> changes_at_;  // one, of those that are prepared
  std::vector<Step> steps_;
  int64_t next_preparation_ = 0;  // when so many records are applied
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_APPLY_STATEMENTS_H_
