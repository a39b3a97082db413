#include "slices/whole_row.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace icepie::slices {
namespace {

// The gate bounds nesting; WITH queries may name each other in a circle.
constexpr int kRelationsDeepMax = 128;

class WholeRowFinder {
 public:
  explicit WholeRowFinder(const HasColumnFunction& has_column) : has_column_(has_column) {}

  bool Find(const Json& statement) {
    Collect(statement);
    return Walk(statement, nullptr);
  }

 private:
  void Collect(const Json& node) {
    if (IsType(node, "BASE_TABLE")) {
      const std::string alias = LowerText(node, "alias");
      names_.insert(alias.empty() ? LowerText(node, "table_name") : alias);
    } else if (IsType(node, "SUBQUERY") && TextOf(node, "class").empty()) {
      names_.insert(LowerText(node, "alias"));
    }
    if (node.is_object() && node.contains("cte_map")) {
      for (const Json& cte : node["cte_map"]["map"]) {
        ctes_[LowerText(cte, "key")] = &cte["value"];
      }
    }
    if (!node.is_structured()) return;
    for (const Json& child : node) Collect(child);
  }

  // `from`: what the innermost SELECT reads.
  bool Walk(const Json& node, const Json* from) const {
    if (IsClass(node, "COLUMN_REF")) return IsRow(node["column_names"], from);
    if (IsType(node, "SELECT_NODE")) from = &node["from_table"];
    return node.is_structured() && std::any_of(node.begin(), node.end(), [&](const Json& child) {
             return Walk(child, from);
           });
  }

  bool IsRow(const Json& column_names, const Json* from) const {
    if (column_names.size() != 1) return false;
    const std::string name = absl::AsciiStrToLower(column_names[0].get<std::string>());
    // DuckDB calls subqueries without a name unnamed_subquery, unnamed_subquery2 and so on.
    const bool relation = names_.count(name) > 0 || absl::StartsWith(name, "unnamed_subquery");
    return relation && (from == nullptr || !HasColumn(*from, name, 0));
  }

  bool HasColumn(const Json& from, const std::string& name, int depth) const {
    if (depth > kRelationsDeepMax || Has(from, "column_name_alias")) return false;
    if (IsType(from, "JOIN")) {
      return HasColumn(from["left"], name, depth + 1) || HasColumn(from["right"], name, depth + 1);
    }
    if (IsType(from, "SUBQUERY")) return HasOutput(from["subquery"]["node"], name, depth + 1);
    if (!IsType(from, "BASE_TABLE")) return false;
    const std::string table = LowerText(from, "table_name");
    const auto cte = ctes_.find(table);
    if (cte == ctes_.end()) return has_column_(table, name);
    return !Has(*cte->second, "aliases") &&
           HasOutput((*cte->second)["query"]["node"], name, depth + 1);
  }

  // A star of all that is read.
  static bool IsPlain(const Json& star) {
    return TextOf(star, "relation_name").empty() && !Has(star, "exclude_list") &&
           !Has(star, "rename_list") && !Has(star, "qualified_exclude_list");
  }

  bool HasOutput(const Json& node, const std::string& name, int depth) const {
    if (IsType(node, "SET_OPERATION_NODE")) return HasOutput(node["left"], name, depth + 1);
    if (!IsType(node, "SELECT_NODE") || depth > kRelationsDeepMax) return false;
    const Json& items = node["select_list"];
    return std::any_of(items.begin(), items.end(), [&](const Json& item) {
      return IsClass(item, "STAR") ? IsPlain(item) && HasColumn(node["from_table"], name, depth + 1)
                                   : OutputName(item) == name;
    });
  }

  const HasColumnFunction& has_column_;
  std::set<std::string> names_;  // of relations whose columns may be others than they are here
  std::map<std::string, const Json*> ctes_;
};

}  // namespace

bool TakesWholeRow(const Json& statement, const HasColumnFunction& has_column) {
  return WholeRowFinder(has_column).Find(statement);
}

}  // namespace icepie::slices
