#include "slices/counted_values.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"

namespace icepie::slices {
namespace {

// Of whatever types, they are NULL when and only when an operand is.
bool IsArithmetic(const Json& node) {
  static const auto* const kFunctions = new std::set<std::string>{"+", "-", "*", "abs"};
  return IsClass(node, "FUNCTION") && kFunctions->count(TextOf(node, "function_name")) > 0 &&
         !Has(node, "filter") && !node.value("distinct", false);
}

bool IsValue(const Json& node) {
  return IsClass(node, "CONSTANT") && !node["value"].value("is_null", true);
}

// What `node` is made of and may be NULL, each once.
void AddOperands(const Json& node, std::vector<Json>& operands) {
  if (IsValue(node)) return;
  if (!IsArithmetic(node)) {
    Json operand = WithoutPlaces(node);
    if (std::find(operands.begin(), operands.end(), operand) == operands.end()) {
      operands.push_back(std::move(operand));
    }
    return;
  }
  for (const Json& child : node["children"]) AddOperands(child, operands);
}

bool CountsArithmetic(const Json& node) {
  return IsClass(node, "FUNCTION") && TextOf(node, "function_name") == "count" &&
         node["children"].size() == 1 && !node.value("distinct", false) &&
         !Has(node["order_bys"], "orders") && IsArithmetic(node["children"][0]);
}

absl::Status ReplaceCounted(DuckConnection& connection, Json& node) {
  if (!node.is_structured()) return absl::OkStatus();
  for (Json& child : node) ICEPIE_RETURN_IF_ERROR(ReplaceCounted(connection, child));
  if (!CountsArithmetic(node)) return absl::OkStatus();
  std::vector<Json> operands;
  AddOperands(node["children"][0], operands);
  if (operands.empty()) return absl::OkStatus();
  if (operands.size() == 1) {
    node["children"][0] = std::move(operands.front());
    return absl::OkStatus();
  }
  std::vector<std::string> present;
  for (Json& operand : operands) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string sql, ExpressionToSql(connection, std::move(operand)));
    present.push_back(absl::StrCat("(", sql, ") IS NOT NULL"));
  }
  ICEPIE_ASSIGN_OR_RETURN(
      node["children"][0],
      ParseExpression(connection,
                      absl::StrCat("CASE WHEN ", absl::StrJoin(present, " AND "), " THEN 1 END")));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Json> CountOperands(DuckConnection& connection, Json tree) {
  ICEPIE_RETURN_IF_ERROR(ReplaceCounted(connection, tree));
  return tree;
}

}  // namespace icepie::slices
