#include "slices/strategy_plan.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "slices/aggregate_plan.h"
#include "slices/append_plan.h"
#include "slices/components_plan.h"
#include "slices/keys_plan.h"
#include "slices/parts_plan.h"
#include "slices/retract_plan.h"

namespace icepie::slices {
namespace {

// What the planners before it said is why.
absl::StatusOr<SliceStatements> PlanRecompute(const PlanRequest& request) {
  SliceStatements statements;
  statements.why = "runs the whole SQL again";
  statements.create = CreateDataTable(request.slice.columns);
  statements.apply = {{"DELETE FROM __data", "", ""},
                      {absl::StrCat("INSERT INTO __data\n", request.sql), "", ""}};
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
