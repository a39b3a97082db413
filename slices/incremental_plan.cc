#include "slices/incremental_plan.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/aggregate_plan.h"
#include "slices/function_list.h"
#include "slices/syntax_tree.h"

namespace icepie::slices {
namespace {

absl::Status Recompute(absl::string_view why) { return absl::FailedPreconditionError(why); }

bool ContainsClass(const Json& node, absl::string_view expression_class) {
  if (IsClass(node, expression_class)) return true;
  if (!node.is_structured()) return false;
  for (const Json& child : node) {
    if (ContainsClass(child, expression_class)) return true;
  }
  return false;
}

absl::Status CheckModifiers(const Json& node) {
  for (const Json& modifier : node["modifiers"]) {
    if (IsType(modifier, "DISTINCT_MODIFIER")) return Recompute("has DISTINCT");
    if (IsType(modifier, "ORDER_MODIFIER")) return Recompute("has ORDER BY");
    return Recompute("has LIMIT");
  }
  return absl::OkStatus();
}

// A plain SELECT over one relation, whose rows can be taken batch by batch.
absl::Status CheckPlainSelect(const Json& node) {
  if (!IsType(node, "SELECT_NODE")) return Recompute("combines queries (UNION, INTERSECT, EXCEPT)");
  if (Has(node["cte_map"], "map")) return Recompute("has WITH");
  ICEPIE_RETURN_IF_ERROR(CheckModifiers(node));
  const Json& from = node["from_table"];
  if (!IsType(from, "BASE_TABLE")) return Recompute("reads a join or a subquery");
  if (Has(from, "column_name_alias")) return Recompute("renames columns in FROM");
  if (ContainsClass(node, "SUBQUERY")) return Recompute("has a subquery");
  if (ContainsClass(node, "WINDOW")) return Recompute("has window functions");
  if (Has(node, "qualify")) return Recompute("has QUALIFY");
  return absl::OkStatus();
}

bool IsAggregation(const Json& node) {
  return Has(node, "group_expressions") || Has(node, "group_sets") || Has(node, "having") ||
         TextOf(node, "aggregate_handling") != "STANDARD_HANDLING" ||
         ContainsAggregate(node["select_list"]);
}

SliceStatements PlanAppend(const std::string& sql, const SourceDef& source,
                           const std::vector<OutputColumn>& columns) {
  SliceStatements statements;
  statements.strategy = Strategy::kAppend;
  statements.why =
      absl::StrCat("append: filters and projects records of ", source.name, ", each for itself");
  statements.create = CreateDataTable(columns);
  statements.apply = {{absl::StrCat("INSERT INTO __data\n", sql), ""}};
  return statements;
}

}  // namespace

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

absl::StatusOr<SliceStatements> PlanIncremental(DuckConnection& connection, const std::string& sql,
                                                const SourceDef& source,
                                                const std::vector<OutputColumn>& columns) {
  ICEPIE_ASSIGN_OR_RETURN(const Json statement, ParseSelect(connection, sql));
  const Json& node = statement["node"];
  ICEPIE_RETURN_IF_ERROR(CheckPlainSelect(node));
  if (!IsAggregation(node)) return PlanAppend(sql, source, columns);
  return PlanAggregate(connection, node, source, columns);
}

}  // namespace icepie::slices
