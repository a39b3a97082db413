#include "slices/plan/counted_values.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/plan/sql_binding.h"

namespace icepie::slices {
namespace {

// Of numbers, they are NULL when and only when an operand is. Of lists, + passes over NULL.
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

// `node` with its operands as arguments of `abs`, a call of that function, which takes numbers
// only.
void TakeNumbers(Json& node, const Json& abs) {
  if (IsValue(node)) return;
  if (IsArithmetic(node)) {
    for (Json& child : node["children"]) TakeNumbers(child, abs);
    return;
  }
  Json call = abs;
  call["children"][0] = std::exchange(node, nullptr);
  node = std::move(call);
}

// Whether there are any.
bool TakeNumbersWhereCounted(Json& node, const Json& abs) {
  if (!node.is_structured()) return false;
  bool any = false;
  for (Json& child : node) any = TakeNumbersWhereCounted(child, abs) || any;
  if (!CountsArithmetic(node)) return any;
  TakeNumbers(node["children"][0], abs);
  return true;
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

// DuckDB says what the operands are when it binds them.
absl::StatusOr<bool> CountsNumbers(DuckConnection& connection, Json tree) {
  ICEPIE_ASSIGN_OR_RETURN(const Json abs, ParseExpression(connection, "abs(1)"));
  if (!TakeNumbersWhereCounted(tree, abs)) return false;
  ICEPIE_ASSIGN_OR_RETURN(const std::string sql, SelectToSql(connection, std::move(tree)));
  const absl::Status bound = connection.Prepare(sql).status();
  if (IsPassing(bound)) return bound;
  return bound.ok();
}

}  // namespace

bool AnyCountedArithmetic(const Json& tree) { return AnyNode(tree, CountsArithmetic); }

absl::StatusOr<Json> CountOperands(DuckConnection& connection, Json tree) {
  ICEPIE_ASSIGN_OR_RETURN(const bool numbers, CountsNumbers(connection, tree));
  if (numbers) ICEPIE_RETURN_IF_ERROR(ReplaceCounted(connection, tree));
  return tree;
}

}  // namespace icepie::slices
