// One planner per strategy, tried in the order of what keeping the slice fresh costs: append,
// aggregate, keys, recompute. A planner gives the statements that the engine runs (plan.h), or says
// why it cannot; recompute can always.
#ifndef ICEPIE_SLICES_PLAN_STRATEGY_PLAN_H_
#define ICEPIE_SLICES_PLAN_STRATEGY_PLAN_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/plan/plan.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {

// DuckDB's MAX_ROW_ID: rows that the transaction itself has added count from here until it commits.
inline constexpr int64_t kFirstNewRow = 36028797018960000;

// A slice to plan. `connection` is the scratch database: every source and every slice planned so
// far is an empty temporary table there, under the name that the SQL uses.
struct PlanRequest {
  DuckConnection& connection;
  const DomainPlan& domain;  // with the plans of the slices that this one reads
  const std::string& sql;    // as the gate handed it back
  const Json& statement;     // its syntax tree
  const SlicePlan& slice;    // columns, sources, upstream
  // Of a part of a slice (parts_plan.h): the end of its tables' names; the planners of `keys` know
  // it.
  std::string part = {};
};

struct SliceStatements {
  std::string why;  // in words, without the strategy's name
  std::vector<std::string> create;
  std::vector<ApplyStatement> apply;
  bool keeps_rows = false;
  bool reads_changes = false;
  std::vector<ApplyStatement> clear;
  SlicePlan::Touched touched;
  // SELECTs that evaluate what the batch has changed, where reading the result might fail: their
  // errors come while there are records to blame. Run at the end.
  std::vector<ApplyStatement> checks;
  // aggregate: each partial state's SQL over a batch, and its column.
  std::vector<std::pair<std::string, std::string>> partials;
  // Of a slice with `retain`: the tables of which nothing is needed any more that is behind its
  // horizon; and a SELECT of how many of a batch's records came late.
  struct Retained {
    std::string table;
    std::string time;   // an expression over its columns, of the retained column's type
    std::string order;  // " ORDER BY …", as its rows stand
  };
  std::vector<Retained> retained;
  bool keeps_behind = false;  // other tables keep what is behind it
  std::string count_late;
};

// Errors: UNIMPLEMENTED when the SQL is of another kind (nothing to say about it), and
//   FAILED_PRECONDITION when a part of it stands in the way; both say in words what.
using StrategyPlanner = absl::StatusOr<SliceStatements> (*)(const PlanRequest& request);

struct StrategyEntry {
  Strategy strategy;
  StrategyPlanner plan;
};

// Cheapest first; recompute is the last.
const std::vector<StrategyEntry>& StrategyPlanners();

// The errors of planners.
absl::Status OtherKind(absl::string_view what);
absl::Status StandsInTheWay(absl::string_view what);

// CREATE TABLE __data and the view __result over it, for strategies that store the rows themselves.
std::vector<std::string> CreateDataTable(const std::vector<OutputColumn>& columns);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_STRATEGY_PLAN_H_
