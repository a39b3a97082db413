#include "slices/plan/fallible_expression.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "slices/plan/function_list.h"

namespace icepie::slices {
namespace {

const std::vector<std::string>& WholeTypes() {
  static const auto* const kTypes = new std::vector<std::string>{
      "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT",
      // Each fits into the one that is as far from the end of the first five, and into none else.
      "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"};
  return *kTypes;
}

bool IsWholeNumber(const std::string& type) {
  const std::vector<std::string>& whole = WholeTypes();
  return std::find(whole.begin(), whole.end(), type) != whole.end();
}

bool IsReal(const std::string& type) { return type == "DOUBLE" || type == "FLOAT"; }

bool IsNumber(const std::string& type) {
  return IsWholeNumber(type) || IsReal(type) || absl::StartsWith(type, "DECIMAL(");
}

// Among signed whole numbers, from a smaller to a larger one.
bool Widens(const std::string& from, const std::string& to) {
  const std::vector<std::string>& whole = WholeTypes();
  const auto source = std::find(whole.begin(), whole.begin() + 5, from);
  const auto target = std::find(whole.begin(), whole.begin() + 5, to);
  return source != whole.begin() + 5 && target != whole.begin() + 5 && source <= target;
}

class Finder {
 public:
  Finder(const std::function<std::string(const Json&)>& type_of, bool from_rows)
      : type_of_(type_of), from_rows_(from_rows) {}

  bool MayFail(const Json& node) const {
    if (!node.is_object()) return AnyOf(node);
    if (IsClass(node, "CONSTANT") || IsClass(node, "COLUMN_REF") || IsClass(node, "STAR")) {
      return false;
    }
    if (IsAggregate(node)) return from_rows_ && AnyOf(node["children"], node["filter"]);
    if (IsClass(node, "CAST")) return CastMayFail(node);
    if (IsClass(node, "COMPARISON")) {
      return AnyOf(node["left"], node["right"]) || !Compares(node["left"], node["right"]);
    }
    if (IsClass(node, "BETWEEN")) {
      return AnyOf(node["input"], node["lower"]) || MayFail(node["upper"]) ||
             !Compares(node["input"], node["lower"]) || !Compares(node["input"], node["upper"]);
    }
    if (IsClass(node, "CONJUNCTION")) return AnyOf(node["children"]);
    if (IsClass(node, "OPERATOR")) return OperatorMayFail(node);
    if (IsClass(node, "CASE")) return CaseMayFail(node);
    if (IsClass(node, "FUNCTION")) return FunctionMayFail(node);
    return true;
  }

 private:
  static bool IsAggregate(const Json& node) {
    if (!IsClass(node, "FUNCTION")) return false;
    const AllowedFunction* function = FindFunction(TextOf(node, "function_name"));
    return function != nullptr && function->kind == FunctionKind::kAggregate;
  }

  bool AnyOf(const Json& nodes) const {
    return nodes.is_structured() &&
           std::any_of(nodes.begin(), nodes.end(), [&](const Json& node) { return MayFail(node); });
  }
  bool AnyOf(const Json& a, const Json& b) const { return MayFail(a) || MayFail(b); }

  // Whether DuckDB brings both to one type without a cast that may fail. A constant is cast once,
  // with no record at all.
  bool Compares(const Json& a, const Json& b) const {
    const std::string of_a = type_of_(a);
    const std::string of_b = type_of_(b);
    if (of_a.empty() || of_b.empty()) return false;
    if (of_a == of_b) return true;
    const bool constant = IsClass(a, "CONSTANT") || IsClass(b, "CONSTANT");
    if (IsNumber(of_a) && IsNumber(of_b)) {
      return constant || IsReal(of_a) || IsReal(of_b) ||
             (IsWholeNumber(of_a) && IsWholeNumber(of_b));
    }
    return (IsClass(a, "CONSTANT") && of_a == "VARCHAR") ||
           (IsClass(b, "CONSTANT") && of_b == "VARCHAR");
  }

  bool SameTypes(const Json& nodes) const {
    return std::all_of(nodes.begin(), nodes.end(),
                       [&](const Json& node) { return Compares(nodes.front(), node); });
  }

  bool CastMayFail(const Json& node) const {
    const Json& child = node["child"];
    if (MayFail(child)) return true;
    if (node.value("try_cast", false)) return false;
    const std::string from = type_of_(child);
    const std::string to = type_of_(node);
    if (from.empty() || to.empty()) return true;
    return !(from == to || to == "VARCHAR" || (to == "DOUBLE" && IsNumber(from)) ||
             Widens(from, to));
  }

  bool OperatorMayFail(const Json& node) const {
    static const auto* const kSafe =
        new std::set<std::string>{"OPERATOR_NOT",      "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL",
                                  "OPERATOR_COALESCE", "COMPARE_IN",       "COMPARE_NOT_IN"};
    const std::string type = TextOf(node, "type");
    const Json& children = node["children"];
    if (kSafe->count(type) == 0 || AnyOf(children)) return true;
    return absl::StartsWith(type, "OPERATOR_") && type != "OPERATOR_COALESCE"
               ? false
               : !SameTypes(children);
  }

  bool CaseMayFail(const Json& node) const {
    Json values = Json::array({node["else_expr"]});
    for (const Json& check : node["case_checks"]) {
      if (AnyOf(check["when_expr"], check["then_expr"])) return true;
      values.push_back(check["then_expr"]);
    }
    if (MayFail(node["else_expr"])) return true;
    return !SameTypes(values) && !OnlyNullBeside(values);
  }

  // CASE … THEN x END.
  static bool OnlyNullBeside(const Json& values) {
    const Json& other = values.front();
    return values.size() == 2 && IsClass(other, "CONSTANT") &&
           other["value"].value("is_null", false);
  }

  // A sum of whole numbers of at most 64 bits: HUGEINT has room for more of them than there can be
  // records. That of a DECIMAL or a HUGEINT is as wide as what it sums.
  bool IsRoomySum(const Json& call) const {
    if (type_of_(call) != "HUGEINT" || call["children"].size() != 1) return false;
    Json largest = call;  // has its argument's type
    largest["function_name"] = "max";
    const std::string summed = type_of_(largest);
    return summed == "BOOLEAN" || (IsWholeNumber(summed) && summed != "HUGEINT");
  }

  bool IsCountable(const Json& node) const {
    const auto all = [&](const Json& nodes) {
      return std::all_of(nodes.begin(), nodes.end(),
                         [&](const Json& each) { return IsCountable(each); });
    };
    // A larger one is not far from the end of what a count can be.
    if (IsClass(node, "CONSTANT")) return TextOf(node["value"]["type"], "id") == "INTEGER";
    if (IsClass(node, "OPERATOR") && TextOf(node, "type") == "OPERATOR_COALESCE") {
      return all(node["children"]);
    }
    if (!IsClass(node, "FUNCTION")) return false;
    const std::string name = TextOf(node, "function_name");
    if (name == "count" || name == "count_star") return true;
    if (name == "sum") return IsRoomySum(node);
    return (name == "+" || name == "-") && all(node["children"]);
  }

  bool FunctionMayFail(const Json& node) const {
    static const auto* const kOfReals =
        new std::set<std::string>{"+", "-", "*", "/", "round", "floor", "ceil", "ceiling", "abs"};
    static const auto* const kOfAny = new std::set<std::string>{
        "concat", "||", "lower", "upper", "length", "struct_pack", "row", "struct_extract"};
    const std::string name = TextOf(node, "function_name");
    const Json& children = node["children"];
    if (AnyOf(children)) return true;
    if (name == "list_value") return !SameTypes(children);
    if (kOfAny->count(name) > 0 || IsCountable(node)) return false;
    if (kOfReals->count(name) == 0 || !IsReal(type_of_(node))) return true;
    return !std::all_of(children.begin(), children.end(),
                        [&](const Json& child) { return IsNumber(type_of_(child)); });
  }

  const std::function<std::string(const Json&)>& type_of_;
  const bool from_rows_;
};

}  // namespace

bool MayFail(const Json& expression, const std::function<std::string(const Json&)>& type_of) {
  return Finder(type_of, /*from_rows=*/false).MayFail(expression);
}

bool MayFailFromRows(const Json& expression,
                     const std::function<std::string(const Json&)>& type_of) {
  return Finder(type_of, /*from_rows=*/true).MayFail(expression);
}

}  // namespace icepie::slices
