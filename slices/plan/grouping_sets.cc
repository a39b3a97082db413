#include "slices/plan/grouping_sets.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/plan/function_list.h"
#include "slices/plan/key_shape.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {
namespace {

constexpr char kSet[] = "__set";
// Every record is grouped so many times.
constexpr size_t kSetsMax = 64;

class SetsRewriter {
 public:
  SetsRewriter(DuckConnection& connection, const Json& node)
      : connection_(connection), node_(node), sets_(node["group_sets"]) {}

  absl::StatusOr<GroupedSets> Rewrite();

 private:
  std::string RelationName() const;
  absl::Status CheckFrom() const;
  absl::Status ReadGroups();
  absl::StatusOr<Json> GroupItem(const Json& expression) const;
  Json Normal(const Json& tree) const;
  std::vector<size_t> SetsWith(size_t group) const;
  absl::StatusOr<Json> KeyOf(size_t group) const;
  absl::StatusOr<Json> Grouping(const Json& call) const;
  absl::Status Replace(Json& node) const;
  absl::StatusOr<Json> From() const;

  DuckConnection& connection_;
  const Json& node_;
  const Json& sets_;
  std::vector<Json> groups_;  // as they are compared
  std::vector<Json> keys_;    // what takes their place
};

std::string SetsRewriter::RelationName() const {
  const Json& from = node_["from_table"];
  const std::string alias = TextOf(from, "alias");
  return alias.empty() ? TextOf(from, "table_name") : alias;
}

absl::Status SetsRewriter::CheckFrom() const {
  const Json& from = node_["from_table"];
  if (!IsType(from, "BASE_TABLE") && !IsType(from, "SUBQUERY")) {
    return StandsInTheWay("has GROUPING SETS, ROLLUP or CUBE over a join");
  }
  if (Has(from, "column_name_alias")) return StandsInTheWay("renames columns in FROM");
  if (sets_.size() > kSetsMax) return StandsInTheWay("has too many GROUPING SETS");
  return absl::OkStatus();
}

// As it is compared: no places and aliases, columns without the name of the only relation.
Json SetsRewriter::Normal(const Json& tree) const {
  Json normal = tree;
  if (normal.is_object()) {
    normal.erase("query_location");
    if (normal.contains("alias")) normal["alias"] = "";
  }
  if (IsClass(normal, "COLUMN_REF")) {
    return UnqualifiedColumn(std::move(normal), absl::AsciiStrToLower(RelationName()));
  }
  if (!normal.is_structured()) return normal;
  for (Json& child : normal) child = Normal(child);
  KeepMemberNames(tree, normal);
  return normal;
}

// What an element of GROUP BY stands for: a position in the select list, an alias, or itself.
absl::StatusOr<Json> SetsRewriter::GroupItem(const Json& expression) const {
  const Json& items = node_["select_list"];
  if (IsClass(expression, "CONSTANT")) {
    const Json& value = expression["value"]["value"];
    const int64_t position = value.is_number_integer() ? value.get<int64_t>() : 0;
    if (position < 1 || position > static_cast<int64_t>(items.size())) {
      return StandsInTheWay("groups by a constant");
    }
    return items[static_cast<size_t>(position - 1)];
  }
  if (!IsClass(expression, "COLUMN_REF") || expression["column_names"].size() != 1) {
    return expression;
  }
  const auto name = expression["column_names"][0].get<std::string>();
  for (const Json& item : items) {
    if (!absl::EqualsIgnoreCase(TextOf(item, "alias"), name)) continue;
    if (Normal(item) == Normal(expression)) continue;
    return StandsInTheWay("groups by an alias in GROUPING SETS, ROLLUP or CUBE");
  }
  return expression;
}

std::vector<size_t> SetsRewriter::SetsWith(size_t group) const {
  std::vector<size_t> with;
  for (size_t set = 0; set < sets_.size(); ++set) {
    const Json& groups = sets_[set];
    if (std::find(groups.begin(), groups.end(), Json(group)) != groups.end()) with.push_back(set);
  }
  return with;
}

absl::StatusOr<Json> SetsRewriter::KeyOf(size_t group) const {
  ICEPIE_ASSIGN_OR_RETURN(const std::string sql, ExpressionToSql(connection_, groups_[group]));
  const std::vector<size_t> with = SetsWith(group);
  if (with.empty()) return StandsInTheWay("groups by what no grouping set has");
  return ParseExpression(
      connection_,
      absl::StrCat("CASE WHEN ", kSet, " IN (", absl::StrJoin(with, ", "), ") THEN ", sql, " END"));
}

absl::Status SetsRewriter::ReadGroups() {
  for (const Json& expression : node_["group_expressions"]) {
    ICEPIE_ASSIGN_OR_RETURN(const Json item, GroupItem(expression));
    groups_.push_back(Normal(item));
  }
  for (size_t group = 0; group < groups_.size(); ++group) {
    ICEPIE_ASSIGN_OR_RETURN(Json key, KeyOf(group));
    keys_.push_back(std::move(key));
  }
  return absl::OkStatus();
}

// grouping(a, b): a bit for each that is not in the set, the last one lowest.
absl::StatusOr<Json> SetsRewriter::Grouping(const Json& call) const {
  std::vector<int64_t> bits(sets_.size(), 0);
  for (const Json& argument : call["children"]) {
    const auto found = std::find(groups_.begin(), groups_.end(), Normal(argument));
    if (found == groups_.end()) return StandsInTheWay("has grouping() of what it does not group");
    const std::vector<size_t> with = SetsWith(static_cast<size_t>(found - groups_.begin()));
    for (size_t set = 0; set < sets_.size(); ++set) {
      const bool grouped = std::find(with.begin(), with.end(), set) != with.end();
      bits[set] = 2 * bits[set] + (grouped ? 0 : 1);
    }
  }
  std::string sql = absl::StrCat("CAST(CASE ", kSet);
  for (size_t set = 0; set < bits.size(); ++set) {
    absl::StrAppend(&sql, " WHEN ", set, " THEN ", bits[set]);
  }
  return ParseExpression(connection_, absl::StrCat(sql, " END AS BIGINT)"));
}

// Aggregates see what they name, everything else what is left of it in its set.
absl::Status SetsRewriter::Replace(Json& node) const {
  if (IsFunctionOf(node, FunctionKind::kAggregate)) return absl::OkStatus();
  const std::string alias = TextOf(node, "alias");
  const auto found = std::find(groups_.begin(), groups_.end(), Normal(node));
  if (found != groups_.end()) {
    node = keys_[static_cast<size_t>(found - groups_.begin())];
    node["alias"] = alias;
    return absl::OkStatus();
  }
  if (IsType(node, "GROUPING_FUNCTION")) {
    ICEPIE_ASSIGN_OR_RETURN(node, Grouping(node));
    node["alias"] = alias;
    return absl::OkStatus();
  }
  if (!node.is_structured()) return absl::OkStatus();
  const Json before = node;
  for (Json& child : node) ICEPIE_RETURN_IF_ERROR(Replace(child));
  KeepMemberNames(before, node);
  return absl::OkStatus();
}

absl::StatusOr<Json> SetsRewriter::From() const {
  std::vector<size_t> all(sets_.size());
  for (size_t set = 0; set < all.size(); ++set) all[set] = set;
  ICEPIE_ASSIGN_OR_RETURN(
      Json statement,
      ParseSelect(connection_,
                  absl::StrCat("SELECT 1 FROM (SELECT *, unnest([", absl::StrJoin(all, ", "),
                               "]) AS ", kSet, " FROM x) AS ",
                               QuoteIdentifier(RelationName().empty() ? "x" : RelationName()))));
  Json from = std::move(statement["node"]["from_table"]);
  from["subquery"]["node"]["from_table"] = node_["from_table"];
  if (RelationName().empty()) from["alias"] = "";
  return from;
}

absl::StatusOr<GroupedSets> SetsRewriter::Rewrite() {
  ICEPIE_RETURN_IF_ERROR(CheckFrom());
  ICEPIE_RETURN_IF_ERROR(ReadGroups());
  GroupedSets grouped;
  grouped.node = node_;
  for (const char* part : {"select_list", "having"}) {
    ICEPIE_RETURN_IF_ERROR(Replace(grouped.node[part]));
  }
  ICEPIE_ASSIGN_OR_RETURN(grouped.node["from_table"], From());
  Json groups = Json::array({ColumnReference(kSet)});
  for (const Json& key : keys_) groups.push_back(key);
  Json set = Json::array();
  for (size_t i = 0; i < groups.size(); ++i) set.push_back(i);
  grouped.node["group_expressions"] = std::move(groups);
  grouped.node["group_sets"] = Json::array({std::move(set)});
  for (size_t i = 0; i < sets_.size(); ++i) {
    if (sets_[i].empty()) grouped.of_nothing.push_back(i);
  }
  return grouped;
}

}  // namespace

absl::StatusOr<GroupedSets> SetsAsGroups(DuckConnection& connection, const Json& node) {
  return SetsRewriter(connection, node).Rewrite();
}

}  // namespace icepie::slices
