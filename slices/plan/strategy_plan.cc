#include "slices/plan/strategy_plan.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "slices/plan/aggregate_plan.h"
#include "slices/plan/append_plan.h"
#include "slices/plan/components_plan.h"
#include "slices/plan/keys_plan.h"
#include "slices/plan/parts_plan.h"
#include "slices/plan/retract_plan.h"
#include "slices/plan/row_order.h"

namespace icepie::slices {
namespace {

// The SQL. Where it can be seen in which order rows of a slice come, they come by their ties.
std::string InOrder(const PlanRequest& request) {
  const std::vector<std::string>& upstream = request.slice.upstream;
  if (upstream.empty() || !ShowsOrder(request.statement, /*of_records=*/false)) return request.sql;
  const auto in_order = [&](std::string* out, const std::string& name) {
    const std::vector<std::string> ties =
        TiesOf(*request.domain.definition.FindSlice(name), *request.domain.Find(name));
    const std::string slice = QuoteIdentifier(name);
    absl::StrAppend(out, slice, " AS (SELECT * FROM ", slice, " ORDER BY ",
                    absl::StrJoin(ties, ", ",
                                  [](std::string* list, const std::string& column) {
                                    absl::StrAppend(list, QuoteIdentifier(column));
                                  }),
                    ")");
  };
  return absl::StrCat("WITH ", absl::StrJoin(upstream, ", ", in_order), "\nSELECT * FROM (\n",
                      request.sql, "\n)");
}

// What the planners before it said is why.
absl::StatusOr<SliceStatements> PlanRecompute(const PlanRequest& request) {
  SliceStatements statements;
  statements.why = "runs the whole SQL again";
  statements.create = CreateDataTable(request.slice.columns);
  statements.apply = {{"DELETE FROM __data", "", ""},
                      {absl::StrCat("INSERT INTO __data\n", InOrder(request)), "", ""}};
  const SliceDef& slice = *request.domain.definition.FindSlice(request.slice.slice);
  if (slice.retain) {
    statements.retained = {{"__data", QuoteIdentifier(slice.retain->column), ""}};
  }
  return statements;
}

absl::StatusOr<SliceStatements> PlanFolded(const PlanRequest& request) {
  absl::StatusOr<SliceStatements> clusters = PlanComponents(request);
  return absl::IsUnimplemented(clusters.status()) ? PlanAggregate(request) : clusters;
}

}  // namespace

const std::vector<StrategyEntry>& StrategyPlanners() {
  static const auto* const kPlanners = new std::vector<StrategyEntry>{
      {Strategy::kAppend, PlanAppend},     {Strategy::kAggregate, PlanFolded},
      {Strategy::kAggregate, PlanRetract}, {Strategy::kKeys, PlanKeys},
      {Strategy::kKeys, PlanParts},        {Strategy::kRecompute, PlanRecompute}};
  return *kPlanners;
}

absl::Status OtherKind(absl::string_view what) { return absl::UnimplementedError(what); }

absl::Status StandsInTheWay(absl::string_view what) { return absl::FailedPreconditionError(what); }

std::vector<std::string> CreateDataTable(const std::vector<OutputColumn>& columns) {
  std::vector<std::string> declared;
  std::vector<std::string> names;
  for (const OutputColumn& column : columns) {
    names.push_back(QuoteIdentifier(column.name));
    declared.push_back(absl::StrCat(names.back(), " ", column.type));
  }
  return {
      absl::StrCat("CREATE TABLE __data (", absl::StrJoin(declared, ", "), ")"),
      absl::StrCat("CREATE VIEW __result AS SELECT ", absl::StrJoin(names, ", "), " FROM __data")};
}

}  // namespace icepie::slices
