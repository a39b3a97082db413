#include "slices/plan/whole_row.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace icepie::slices {
namespace {

// A WITH query in sight, and those behind it. It sees `outer` itself: within it, its own name is of
// what it hides.
struct WithQuery {
  const WithQuery* outer = nullptr;
  std::string name;
  const Json* query = nullptr;  // nullptr: a recursive one, within itself
};

class WholeRowFinder {
 public:
  explicit WholeRowFinder(const HasColumnFunction& has_column) : has_column_(has_column) {}

  bool Find(const Json& statement) {
    Collect(statement);
    return Walk(statement, nullptr, nullptr);
  }

 private:
  void Collect(const Json& node) {
    if (IsType(node, "BASE_TABLE")) {
      const std::string alias = LowerText(node, "alias");
      names_.insert(alias.empty() ? LowerText(node, "table_name") : alias);
    } else if (IsType(node, "SUBQUERY") && TextOf(node, "class").empty()) {
      names_.insert(LowerText(node, "alias"));
    }
    if (!node.is_structured()) return;
    for (const Json& child : node) Collect(child);
  }

  // With the WITH queries of a query, the last one first. They live in `own`.
  static const WithQuery* Enter(const Json& query, const WithQuery* scope,
                                std::deque<WithQuery>& own) {
    for (const Json& cte : query["cte_map"]["map"]) {
      scope = &own.emplace_back(WithQuery{scope, LowerText(cte, "key"), &cte["value"]});
    }
    return scope;
  }

  // `from`: what the innermost SELECT reads.
  bool Walk(const Json& node, const Json* from, const WithQuery* scope) {
    if (IsClass(node, "COLUMN_REF")) return IsRow(node["column_names"], from, scope);
    std::deque<WithQuery> own;
    const bool is_query = node.is_object() && node.contains("cte_map");
    if (is_query) {
      scope = Enter(node, scope, own);
      from = nullptr;
      for (const WithQuery& with : own) {
        if (Walk(*with.query, nullptr, with.outer)) return true;
      }
    }
    if (IsType(node, "RECURSIVE_CTE_NODE")) {
      scope = &own.emplace_back(WithQuery{scope, LowerText(node, "cte_name"), nullptr});
    }
    if (IsType(node, "SELECT_NODE")) from = &node["from_table"];
    if (!node.is_structured()) return false;
    for (auto child = node.begin(); child != node.end(); ++child) {
      if (is_query && child.key() == "cte_map") continue;
      if (Walk(*child, from, scope)) return true;
    }
    return false;
  }

  bool IsRow(const Json& column_names, const Json* from, const WithQuery* scope) {
    if (column_names.size() != 1) return false;
    const std::string name = absl::AsciiStrToLower(column_names[0].get<std::string>());
    // DuckDB calls subqueries without a name unnamed_subquery, unnamed_subquery2 and so on.
    const bool relation = names_.count(name) > 0 || absl::StartsWith(name, "unnamed_subquery");
    return relation && (from == nullptr || !HasColumn(*from, name, scope));
  }

  // A WITH query may be read many times over.
  bool HasColumn(const Json& from, const std::string& name, const WithQuery* scope) {
    const auto [known, is_new] = known_.try_emplace({&from, name}, false);
    if (is_new) known->second = LookForColumn(from, name, scope);
    return known->second;
  }

  bool LookForColumn(const Json& from, const std::string& name, const WithQuery* scope) {
    if (Has(from, "column_name_alias")) return false;
    if (IsType(from, "JOIN")) {
      return HasColumn(from["left"], name, scope) || HasColumn(from["right"], name, scope);
    }
    if (IsType(from, "SUBQUERY")) return HasOutput(from["subquery"]["node"], name, scope);
    if (!IsType(from, "BASE_TABLE")) return false;
    const std::string table = LowerText(from, "table_name");
    while (scope != nullptr && scope->name != table) scope = scope->outer;
    if (scope == nullptr) return has_column_(table, name);
    return scope->query != nullptr && !Has(*scope->query, "aliases") &&
           HasOutput((*scope->query)["query"]["node"], name, scope->outer);
  }

  // A star of all that is read.
  static bool IsPlain(const Json& star) {
    return TextOf(star, "relation_name").empty() && !Has(star, "exclude_list") &&
           !Has(star, "rename_list") && !Has(star, "qualified_exclude_list");
  }

  bool HasOutput(const Json& node, const std::string& name, const WithQuery* scope) {
    const bool is_select = IsType(node, "SELECT_NODE");
    if (!is_select && !IsType(node, "SET_OPERATION_NODE")) return false;
    std::deque<WithQuery> own;
    scope = Enter(node, scope, own);
    if (!is_select) return HasOutput(node["left"], name, scope);
    const Json& items = node["select_list"];
    return std::any_of(items.begin(), items.end(), [&](const Json& item) {
      return IsClass(item, "STAR") ? IsPlain(item) && HasColumn(node["from_table"], name, scope)
                                   : OutputName(item) == name;
    });
  }

  const HasColumnFunction& has_column_;
  std::set<std::string> names_;  // of relations whose columns may be others than they are here
  std::map<std::pair<const Json*, std::string>, bool> known_;  // by FROM and column
};

}  // namespace

bool TakesWholeRow(const Json& statement, const HasColumnFunction& has_column) {
  return WholeRowFinder(has_column).Find(statement);
}

}  // namespace icepie::slices
