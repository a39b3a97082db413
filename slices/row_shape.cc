#include "slices/row_shape.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/aggregate_plan.h"

namespace icepie::slices {
namespace {

bool ContainsClass(const Json& node, absl::string_view expression_class) {
  if (IsClass(node, expression_class)) return true;
  if (!node.is_structured()) return false;
  for (const Json& child : node) {
    if (ContainsClass(child, expression_class)) return true;
  }
  return false;
}

absl::Status CheckInputs(const PlanRequest& request) {
  const SlicePlan& slice = request.slice;
  if (!slice.upstream.empty()) {
    return StandsInTheWay(absl::StrCat("reads slice ", absl::StrJoin(slice.upstream, ", ")));
  }
  if (slice.sources.empty()) return StandsInTheWay("reads no source");
  if (slice.sources.size() > 1) {
    std::vector<std::string> names;
    for (const SourceUse& use : slice.sources) names.push_back(use.source);
    return StandsInTheWay(absl::StrCat("reads several sources: ", absl::StrJoin(names, ", ")));
  }
  const SourceDef* source = request.domain.definition.FindSource(slice.sources.front().source);
  if (source->latest_by.empty()) return absl::OkStatus();
  return StandsInTheWay(absl::StrCat("reads dimension ", source->name));
}

absl::Status CheckModifiers(const Json& node) {
  for (const Json& modifier : node["modifiers"]) {
    if (IsType(modifier, "DISTINCT_MODIFIER")) return StandsInTheWay("has DISTINCT");
    if (IsType(modifier, "ORDER_MODIFIER")) return StandsInTheWay("has ORDER BY");
    return StandsInTheWay("has LIMIT");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckRowShape(const PlanRequest& request) {
  ICEPIE_RETURN_IF_ERROR(CheckInputs(request));
  const Json& node = request.statement["node"];
  if (!IsType(node, "SELECT_NODE")) {
    return StandsInTheWay("combines queries (UNION, INTERSECT, EXCEPT)");
  }
  if (Has(node["cte_map"], "map")) return StandsInTheWay("has WITH");
  ICEPIE_RETURN_IF_ERROR(CheckModifiers(node));
  const Json& from = node["from_table"];
  if (!IsType(from, "BASE_TABLE")) return StandsInTheWay("reads a join or a subquery");
  if (Has(from, "column_name_alias")) return StandsInTheWay("renames columns in FROM");
  if (ContainsClass(node, "SUBQUERY")) return StandsInTheWay("has a subquery");
  if (ContainsClass(node, "WINDOW")) return StandsInTheWay("has window functions");
  if (Has(node, "qualify")) return StandsInTheWay("has QUALIFY");
  return absl::OkStatus();
}

bool IsAggregation(const Json& node) {
  return Has(node, "group_expressions") || Has(node, "group_sets") || Has(node, "having") ||
         TextOf(node, "aggregate_handling") != "STANDARD_HANDLING" ||
         ContainsAggregate(node["select_list"]);
}

}  // namespace icepie::slices
