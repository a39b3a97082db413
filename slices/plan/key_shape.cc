#include "slices/plan/key_shape.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/plan/aggregate_plan.h"
#include "slices/plan/function_list.h"
#include "slices/plan/row_order.h"
#include "slices/plan/row_shape.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {
namespace {

// Aliases may name aliases and subqueries nest; the gate bounds both, this is for safety.
constexpr int kDepthMax = 128;
// Beyond so many rows a key, keeping them in order costs more than it saves.
constexpr int64_t kTopRowsMax = 1000;

bool ContainsUnnest(const Json& node) {
  if (IsFunctionOf(node, FunctionKind::kUnnest)) return true;
  return node.is_structured() && std::any_of(node.begin(), node.end(), ContainsUnnest);
}

// ---- Shape -------------------------------------------------------------------------------------

using CteMap = std::map<std::string, Json>;

// Puts the queries of `ctes` where `node` reads them. What has WITH queries of its own is rid of
// them first: they hide those of their names, and no name in `ctes` means one of them.
absl::Status PutCtes(Json& node, const CteMap& ctes) {
  if (IsType(node, "BASE_TABLE") && TextOf(node, "schema_name").empty()) {
    const auto cte = ctes.find(LowerText(node, "table_name"));
    if (cte == ctes.end()) return absl::OkStatus();
    const std::string alias = TextOf(node, "alias");
    node = {
        {"type", "SUBQUERY"},       {"alias", alias.empty() ? TextOf(node, "table_name") : alias},
        {"sample", node["sample"]}, {"query_location", UINT64_MAX},
        {"subquery", cte->second},  {"column_name_alias", node["column_name_alias"]}};
    return absl::OkStatus();
  }
  if (!node.is_structured()) return absl::OkStatus();
  if (node.is_object() && node.contains("cte_map")) ICEPIE_RETURN_IF_ERROR(InlineCtes(node));
  for (Json& child : node) ICEPIE_RETURN_IF_ERROR(PutCtes(child, ctes));
  return absl::OkStatus();
}

absl::Status CheckModifiers(const Json& level) {
  bool distinct_on = false;
  for (const Json& modifier : level["modifiers"]) {
    if (IsType(modifier, "DISTINCT_MODIFIER")) {
      distinct_on = Has(modifier, "distinct_on_targets");
    } else if (IsType(modifier, "ORDER_MODIFIER")) {
      // With DISTINCT ON the order says which row is taken.
      if (!distinct_on) return StandsInTheWay("has ORDER BY");
    } else {
      return StandsInTheWay("has LIMIT");
    }
  }
  return absl::OkStatus();
}

// What a relation is called in its SELECT, in lower case.
std::string NameInFrom(const Json& from) {
  return TextOf(from, "alias").empty() ? LowerText(from, "table_name") : LowerText(from, "alias");
}

// A star hands on all columns of what the level reads, and is followed as such.
absl::Status CheckStar(const Json& level, const Json& item) {
  if (!ContainsClass(item, "STAR")) return absl::OkStatus();
  if (!IsClass(item, "STAR") || item.value("columns", false)) {
    return StandsInTheWay("has COLUMNS(…)");
  }
  const std::string of = LowerText(item, "relation_name");
  if (!of.empty() && of != NameInFrom(level["from_table"])) {
    return StandsInTheWay("has * of a struct");
  }
  if (IsAggregation(level)) return StandsInTheWay("has * beside aggregates");
  return absl::OkStatus();
}

// What a level has beside FROM.
absl::Status CheckLevel(const Json& level) {
  if (!IsType(level, "SELECT_NODE")) {
    return StandsInTheWay(absl::StrContains(TextOf(level, "type"), "CTE")
                              ? "has a recursive WITH"
                              : "combines queries (UNION, INTERSECT, EXCEPT)");
  }
  ICEPIE_RETURN_IF_ERROR(CheckModifiers(level));
  if (level["group_sets"].size() > 1) return StandsInTheWay("has GROUPING SETS, ROLLUP or CUBE");
  for (const char* part :
       {"select_list", "where_clause", "group_expressions", "having", "qualify", "modifiers"}) {
    if (ContainsClass(level[part], "SUBQUERY")) return StandsInTheWay("has a subquery");
    if (part != std::string("select_list") && ContainsClass(level[part], "STAR")) {
      return StandsInTheWay("has COLUMNS(…)");
    }
  }
  for (const Json& item : level["select_list"]) ICEPIE_RETURN_IF_ERROR(CheckStar(level, item));
  return absl::OkStatus();
}

absl::Status CheckChain(Json& level, int depth) {
  if (depth > kDepthMax) return StandsInTheWay("nests too many subqueries");
  if (IsType(level, "SELECT_NODE")) ICEPIE_RETURN_IF_ERROR(InlineCtes(level));
  ICEPIE_RETURN_IF_ERROR(CheckLevel(level));
  Json& from = level["from_table"];
  if (Has(from, "column_name_alias")) return StandsInTheWay("renames columns in FROM");
  if (IsType(from, "BASE_TABLE")) return absl::OkStatus();
  if (IsType(from, "SUBQUERY")) return CheckChain(from["subquery"]["node"], depth + 1);
  return StandsInTheWay(IsType(from, "JOIN") ? "reads a join" : "reads what is no relation");
}

// ---- Keys --------------------------------------------------------------------------------------

class KeyFinder {
 public:
  KeyFinder(std::vector<const Json*> levels, const std::set<std::string>& columns)
      : levels_(std::move(levels)), columns_(columns) {}

  absl::StatusOr<std::vector<Json>> Find();
  // `expression` of a level over the relation's row: no places and aliases; nullopt when it is not
  // a function of one such row.
  std::optional<Json> Pure(const Json& expression, size_t level, int depth = 0) const;
  std::optional<TopRows> FindTop() const;
  // What column `name` of a level's result stands for: nothing, or something, which may be pure.
  struct Named {
    bool found = false;
    std::optional<Json> pure;
  };
  Named Output(const std::string& name, size_t level, int depth) const;

 private:
  // Where a column of a level's result comes from.
  struct Origin {
    // kUnnamed: nothing has the name, but something has one that DuckDB makes up.
    enum class Is { kNowhere, kUnnamed, kUnclear, kRelation, kItem };
    Is is = Is::kNowhere;
    const Json* item = nullptr;  // of a select list
    size_t level = 0;            // whose it is
  };
  Origin OriginOf(const std::string& name, size_t level) const;
  Origin HandedOn(const std::string& name, size_t level) const;
  bool IsMadeUp(const std::string& name, size_t level) const;
  std::optional<Json> PureColumn(const Json& column, size_t level, int depth) const;
  std::string NameIn(const Json& column, size_t level, bool* qualified) const;
  const Json* FindAlias(const std::string& name, size_t level) const;
  std::optional<Json> PureTarget(const Json& target, size_t level) const;
  std::vector<Json> PureAll(const Json& expressions, size_t level) const;
  const Json& GroupItem(const Json& expression, size_t level) const;

  absl::Status AddLevel(size_t level);
  absl::Status AddGroups(size_t level);
  absl::Status AddDistinct(size_t level);
  absl::Status AddWindows(const Json& node, size_t level);
  void Require(std::vector<Json> keys);

  bool AllRowNumbers(const Json& node, std::optional<TopRows>& top) const;
  std::optional<TopRows> RowNumberOf(const Json& window) const;
  std::optional<TopRows> DistinctTop() const;
  // The bound that a conjunct of `filter`, of `level`, puts on the row number; 0: none.
  int64_t BoundOf(const Json& filter, size_t level, int depth = 0) const;
  bool IsRowNumber(const Json& expression, size_t level, int depth = 0) const;

  const std::vector<const Json*> levels_;
  const std::set<std::string>& columns_;
  std::optional<std::vector<Json>> keys_;
};

// As in DuckDB, within a level the last of a name has it.
const Json* KeyFinder::FindAlias(const std::string& name, size_t level) const {
  const Json* found = nullptr;
  for (const Json& item : (*levels_[level])["select_list"]) {
    if (LowerText(item, "alias") == name) found = &item;
  }
  return found;
}

std::string LastName(const Json& column) {
  return absl::AsciiStrToLower(column["column_names"].back().get<std::string>());
}

// One that leaves out or replaces columns is too much to follow.
bool IsPlainStar(const Json& item) {
  return !Has(item, "exclude_list") && !Has(item, "replace_list") && !Has(item, "rename_list") &&
         !Has(item, "qualified_exclude_list");
}

// What a star of the level hands on as `name`.
KeyFinder::Origin KeyFinder::HandedOn(const std::string& name, size_t level) const {
  if (level + 1 < levels_.size()) return OriginOf(name, level + 1);
  return columns_.count(name) > 0 ? Origin{Origin::Is::kRelation} : Origin{};
}

// Whether it may be the name that DuckDB gives a further column of one name: the second `i` is i_1.
bool KeyFinder::IsMadeUp(const std::string& name, size_t level) const {
  const size_t end = name.find_last_not_of("0123456789");
  if (end == std::string::npos || end + 1 == name.size() || name[end] != '_') return false;
  const std::string shared = name.substr(0, end);
  const Json& items = (*levels_[level])["select_list"];
  return std::count_if(items.begin(), items.end(), [&](const Json& item) {
           return IsClass(item, "STAR") || OutputName(item) == shared;
         }) > 1;
}

// Seen from above, the first of a name has it.
KeyFinder::Origin KeyFinder::OriginOf(const std::string& name, size_t level) const {
  if (IsMadeUp(name, level)) return {Origin::Is::kUnclear};
  std::optional<Origin> star;  // all stars hand on the same
  bool unnamed = false;
  for (const Json& item : (*levels_[level])["select_list"]) {
    if (!IsClass(item, "STAR")) {
      const std::string output = OutputName(item);
      if (output == name) return {Origin::Is::kItem, &item, level};
      unnamed = unnamed || output.empty();
      continue;
    }
    if (!IsPlainStar(item)) return {Origin::Is::kUnclear};
    if (!star) star = HandedOn(name, level);
    unnamed = unnamed || star->is == Origin::Is::kUnnamed;
    if (star->is != Origin::Is::kNowhere && star->is != Origin::Is::kUnnamed) return *star;
  }
  return {unnamed ? Origin::Is::kUnnamed : Origin::Is::kNowhere};
}

KeyFinder::Named KeyFinder::Output(const std::string& name, size_t level, int depth) const {
  if (depth > kDepthMax) return {true, std::nullopt};
  const Origin origin = OriginOf(name, level);
  switch (origin.is) {
    case Origin::Is::kNowhere:
      return {false, std::nullopt};
    case Origin::Is::kUnnamed:
    case Origin::Is::kUnclear:
      return {true, std::nullopt};
    case Origin::Is::kRelation:
      return {true, WithoutPlaces(ColumnReference(name))};
    case Origin::Is::kItem:
      break;
  }
  return {true, Pure(*origin.item, origin.level, depth + 1)};
}

// The column that a reference of the level names, without the relation's name; "" when it is a part
// of one.
std::string KeyFinder::NameIn(const Json& column, size_t level, bool* qualified) const {
  std::vector<std::string> names;
  for (const Json& name : column["column_names"]) {
    names.push_back(absl::AsciiStrToLower(name.get<std::string>()));
  }
  const std::string relation = NameInFrom((*levels_[level])["from_table"]);
  *qualified = names.size() > 1 && names[0] == relation;
  if (*qualified) names.erase(names.begin());
  return names.size() == 1 ? names[0] : "";
}

std::optional<Json> KeyFinder::PureColumn(const Json& column, size_t level, int depth) const {
  bool qualified = false;
  const std::string name = NameIn(column, level, &qualified);
  if (name.empty()) return std::nullopt;
  const bool lowest = level + 1 == levels_.size();
  if (lowest && columns_.count(name) > 0) return WithoutPlaces(ColumnReference(name));
  // As in DuckDB, columns come before aliases.
  const Named below = lowest ? Named() : Output(name, level + 1, depth + 1);
  if (below.found || qualified) return below.pure;
  const Json* alias = FindAlias(name, level);
  return alias == nullptr ? std::nullopt : Pure(*alias, level, depth + 1);
}

std::optional<Json> KeyFinder::Pure(const Json& expression, size_t level, int depth) const {
  if (depth > kDepthMax) return std::nullopt;
  for (const char* impure : {"WINDOW", "SUBQUERY", "LAMBDA", "COLLATE", "STAR", "PARAMETER"}) {
    if (IsClass(expression, impure)) return std::nullopt;
  }
  if (IsFunctionOf(expression, FunctionKind::kAggregate) ||
      IsFunctionOf(expression, FunctionKind::kUnnest)) {
    return std::nullopt;
  }
  if (IsClass(expression, "COLUMN_REF")) return PureColumn(expression, level, depth);
  Json pure = expression;
  if (pure.is_object()) {
    pure.erase("query_location");
    if (pure.contains("alias")) pure["alias"] = "";
  }
  if (!pure.is_structured()) return pure;
  for (Json& child : pure) {
    std::optional<Json> replaced = Pure(child, level, depth + 1);
    if (!replaced) return std::nullopt;
    child = *std::move(replaced);
  }
  KeepMemberNames(expression, pure);
  return pure;
}

// What DISTINCT ON or ORDER BY names: there, aliases come before columns.
std::optional<Json> KeyFinder::PureTarget(const Json& target, size_t level) const {
  if (IsClass(target, "COLUMN_REF") && target["column_names"].size() == 1) {
    const Json* alias = FindAlias(LastName(target), level);
    if (alias != nullptr) return Pure(*alias, level);
  }
  return Pure(target, level);
}

// Each once, without constants.
std::vector<Json> KeysAmong(const Json& pure) {
  std::vector<Json> keys;
  for (const Json& expression : pure) {
    const bool known = std::find(keys.begin(), keys.end(), expression) != keys.end();
    if (ContainsClass(expression, "COLUMN_REF") && !known) keys.push_back(expression);
  }
  return keys;
}

std::vector<Json> KeyFinder::PureAll(const Json& expressions, size_t level) const {
  Json all = Json::array();
  for (const Json& expression : expressions) {
    if (std::optional<Json> pure = Pure(expression, level)) all.push_back(*std::move(pure));
  }
  return KeysAmong(all);
}

// The keys must be among these.
void KeyFinder::Require(std::vector<Json> keys) {
  if (!keys_) {
    keys_ = std::move(keys);
    return;
  }
  keys_->erase(std::remove_if(keys_->begin(), keys_->end(),
                              [&](const Json& key) {
                                return std::find(keys.begin(), keys.end(), key) == keys.end();
                              }),
               keys_->end());
}

// A position in the select list stands for the item.
const Json& KeyFinder::GroupItem(const Json& expression, size_t level) const {
  if (!IsClass(expression, "CONSTANT")) return expression;
  const Json& value = expression["value"]["value"];
  const Json& items = (*levels_[level])["select_list"];
  if (!value.is_number_integer()) return expression;
  const auto position = value.get<int64_t>();
  const bool inside = position >= 1 && position <= static_cast<int64_t>(items.size());
  return inside ? items[static_cast<size_t>(position - 1)] : expression;
}

absl::Status KeyFinder::AddGroups(size_t level) {
  const Json& node = *levels_[level];
  if (!IsAggregation(node)) return absl::OkStatus();
  Json groups = Json::array();
  for (const Json& expression : node["group_expressions"]) {
    groups.push_back(GroupItem(expression, level));
  }
  if (TextOf(node, "aggregate_handling") == "FORCE_AGGREGATES") {
    for (const Json& item : node["select_list"]) {
      if (!ContainsAggregate(item)) groups.push_back(item);
    }
  }
  std::vector<Json> keys = PureAll(groups, level);
  if (keys.empty()) {
    return StandsInTheWay(groups.empty() ? "aggregates all rows together"
                                         : "groups by what is no function of one record");
  }
  Require(std::move(keys));
  return absl::OkStatus();
}

absl::Status KeyFinder::AddDistinct(size_t level) {
  const Json& node = *levels_[level];
  for (const Json& modifier : node["modifiers"]) {
    if (!IsType(modifier, "DISTINCT_MODIFIER")) continue;
    const bool on = Has(modifier, "distinct_on_targets");
    const Json& targets = on ? modifier["distinct_on_targets"] : node["select_list"];
    for (const Json& target : targets) {
      if (IsClass(target, "STAR")) return StandsInTheWay("has DISTINCT *");
      if (on && IsClass(target, "CONSTANT")) return StandsInTheWay("has DISTINCT ON a constant");
    }
    Json named = Json::array();
    for (const Json& target : targets) {
      if (const std::optional<Json> pure = on ? PureTarget(target, level) : Pure(target, level)) {
        named.push_back(*pure);
      }
    }
    Require(KeysAmong(named));
  }
  return absl::OkStatus();
}

absl::Status KeyFinder::AddWindows(const Json& node, size_t level) {
  if (ShowsOrderOfPeers(node)) {
    return StandsInTheWay(absl::StrCat("has ", TextOf(node, "function_name"),
                                       "() over rows that may be equal in its ORDER BY"));
  }
  if (IsClass(node, "WINDOW")) Require(PureAll(node["partitions"], level));
  if (!node.is_structured()) return absl::OkStatus();
  for (const Json& child : node) ICEPIE_RETURN_IF_ERROR(AddWindows(child, level));
  return absl::OkStatus();
}

absl::Status KeyFinder::AddLevel(size_t level) {
  ICEPIE_RETURN_IF_ERROR(AddGroups(level));
  ICEPIE_RETURN_IF_ERROR(AddDistinct(level));
  for (const char* part : {"select_list", "qualify", "modifiers"}) {
    ICEPIE_RETURN_IF_ERROR(AddWindows((*levels_[level])[part], level));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Json>> KeyFinder::Find() {
  for (size_t level = 0; level < levels_.size(); ++level) {
    ICEPIE_RETURN_IF_ERROR(AddLevel(level));
  }
  if (!keys_) return OtherKind("has neither groups nor windows");
  if (keys_->empty()) {
    return StandsInTheWay("its groups and windows (PARTITION BY) have no key in common");
  }
  return *keys_;
}

// ---- Rows that can never matter again ----------------------------------------------------------

// Whether each row of the level is made of one of those below, and each of those makes one at most.
bool OnlyFilters(const Json& level) {
  return !IsAggregation(level) && !Has(level, "modifiers") && !Has(level, "qualify") &&
         !ContainsClass(level["select_list"], "WINDOW") && !ContainsUnnest(level["select_list"]);
}

std::optional<TopRows> KeyFinder::RowNumberOf(const Json& window) const {
  if (!IsType(window, "WINDOW_ROW_NUMBER") || Has(window, "filter_expr")) return std::nullopt;
  const size_t lowest = levels_.size() - 1;
  TopRows top;
  for (const Json& partition : window["partitions"]) {
    std::optional<Json> pure = Pure(partition, lowest);
    if (!pure) return std::nullopt;
    top.partitions.push_back(*std::move(pure));
  }
  top.orders = window["orders"];
  for (Json& order : top.orders) {
    std::optional<Json> pure = Pure(order["expression"], lowest);
    if (!pure) return std::nullopt;
    order["expression"] = *std::move(pure);
  }
  return top;
}

// Whether all windows in `node` are the same row number, which is put into `top`.
bool KeyFinder::AllRowNumbers(const Json& node, std::optional<TopRows>& top) const {
  if (IsClass(node, "WINDOW")) {
    std::optional<TopRows> one = RowNumberOf(node);
    if (!one) return false;
    if (top && (top->partitions != one->partitions || top->orders != one->orders)) return false;
    top = std::move(one);
    return true;
  }
  if (!node.is_structured()) return true;
  return std::all_of(node.begin(), node.end(),
                     [&](const Json& child) { return AllRowNumbers(child, top); });
}

bool KeyFinder::IsRowNumber(const Json& expression, size_t level, int depth) const {
  if (depth > kDepthMax) return false;
  const bool lowest = level + 1 == levels_.size();
  if (IsClass(expression, "WINDOW")) return lowest;
  if (!IsClass(expression, "COLUMN_REF")) return false;
  bool qualified = false;
  const std::string name = NameIn(expression, level, &qualified);
  if (name.empty()) return false;
  if (!lowest) {
    const Origin origin = OriginOf(name, level + 1);
    return origin.is == Origin::Is::kItem && IsRowNumber(*origin.item, origin.level, depth + 1);
  }
  if (columns_.count(name) > 0) return false;
  const Json* alias = FindAlias(name, level);
  return alias != nullptr && IsRowNumber(*alias, level, depth + 1);
}

int64_t KeyFinder::BoundOf(const Json& filter, size_t level, int depth) const {
  if (IsType(filter, "CONJUNCTION_AND") && depth < kDepthMax) {
    for (const Json& child : filter["children"]) {
      if (const int64_t bound = BoundOf(child, level, depth + 1); bound > 0) return bound;
    }
    return 0;
  }
  if (!IsClass(filter, "COMPARISON") || !IsClass(filter["right"], "CONSTANT")) return 0;
  const Json& value = filter["right"]["value"]["value"];
  if (!value.is_number_integer() || !IsRowNumber(filter["left"], level)) return 0;
  const auto bound = value.get<int64_t>();
  if (IsType(filter, "COMPARE_LESSTHAN")) return bound - 1;
  const bool up_to = IsType(filter, "COMPARE_LESSTHANOREQUALTO") || IsType(filter, "COMPARE_EQUAL");
  return up_to ? bound : 0;
}

// DISTINCT ON (keys) … ORDER BY: the first row of each. unnest() makes several rows of a record, or
// none, so that a record with none does not take the place of an earlier one.
std::optional<TopRows> KeyFinder::DistinctTop() const {
  const size_t lowest = levels_.size() - 1;
  const Json& modifiers = (*levels_[lowest])["modifiers"];
  if (ContainsUnnest((*levels_[lowest])["select_list"])) return std::nullopt;
  if (modifiers.size() != 2 || !Has(modifiers[0], "distinct_on_targets")) return std::nullopt;
  TopRows top;
  top.count = 1;
  for (const Json& target : modifiers[0]["distinct_on_targets"]) {
    std::optional<Json> pure = PureTarget(target, lowest);
    if (!pure) return std::nullopt;
    top.partitions.push_back(*std::move(pure));
  }
  top.orders = modifiers[1]["orders"];
  for (Json& order : top.orders) {
    // A constant is a position in the select list.
    std::optional<Json> pure = PureTarget(order["expression"], lowest);
    if (!pure || !ContainsClass(*pure, "COLUMN_REF")) return std::nullopt;
    order["expression"] = *std::move(pure);
  }
  return top;
}

std::optional<TopRows> KeyFinder::FindTop() const {
  const size_t lowest = levels_.size() - 1;
  const Json& node = *levels_[lowest];
  if (IsAggregation(node)) return std::nullopt;
  std::optional<TopRows> top;
  for (const char* part : {"select_list", "qualify", "modifiers"}) {
    if (!AllRowNumbers(node[part], top)) return std::nullopt;
  }
  if (Has(node, "modifiers")) return top ? std::nullopt : DistinctTop();
  if (!top) return std::nullopt;
  top->count = BoundOf(node["qualify"], lowest);
  const bool above = top->count == 0 && lowest > 0 && !Has(node, "qualify");
  if (above) top->count = BoundOf((*levels_[lowest - 1])["where_clause"], lowest - 1);
  if (top->count < 1 || top->count > kTopRowsMax) return std::nullopt;
  return top;
}

// ---- Ties --------------------------------------------------------------------------------------

Json OrderBy(const std::string& column) {
  return {{"type", "ASCENDING"},
          {"null_order", "ORDER_DEFAULT"},
          {"expression", ColumnReference(column)}};
}

bool IsOrderedAggregate(const Json& node) {
  if (!IsClass(node, "FUNCTION") || node.value("distinct", false)) return false;
  const AllowedFunction* function = FindFunction(TextOf(node, "function_name"));
  return function != nullptr && function->kind == FunctionKind::kAggregate &&
         function->use == FunctionUse::kOrdered && Has(node["order_bys"], "orders");
}

// Whether the call's order is of nothing but keys of the level's groups: DuckDB drops such an
// order.
bool OrdersByKeys(const Json& level, const Json& call) {
  std::vector<Json> keys;
  for (const Json& key : level["group_expressions"]) keys.push_back(WithoutPlaces(key));
  for (Json item : level["select_list"]) {
    item["alias"] = "";
    const bool all = TextOf(level, "aggregate_handling") == "FORCE_AGGREGATES";
    if (all && !ContainsAggregate(item)) keys.push_back(WithoutPlaces(std::move(item)));
  }
  const Json& orders = call["order_bys"]["orders"];
  return std::all_of(orders.begin(), orders.end(), [&](const Json& order) {
    return std::count(keys.begin(), keys.end(), WithoutPlaces(order["expression"])) > 0;
  });
}

// Of rows that are equal in the order of last(), DuckDB takes the first.
void BreakTiesOf(const Json& level, Json& call, const std::string& column) {
  Json order = OrderBy(column);
  if (TextOf(call, "function_name") == "last" && !OrdersByKeys(level, call)) {
    order["type"] = "DESCENDING";
    order["null_order"] = "NULLS FIRST";
  }
  call["order_bys"]["orders"].push_back(std::move(order));
}

void BreakTiesIn(const Json& level, Json& node, const std::string& column, bool windows) {
  if (windows && IsClass(node, "WINDOW") && TakesTieBreak(node)) {
    node["orders"].push_back(OrderBy(column));
  }
  if (IsOrderedAggregate(node)) BreakTiesOf(level, node, column);
  if (!node.is_structured()) return;
  for (Json& child : node) BreakTiesIn(level, child, column, windows);
}

}  // namespace

Json ColumnReference(const std::string& name) {
  return {{"class", "COLUMN_REF"},
          {"type", "COLUMN_REF"},
          {"alias", ""},
          {"query_location", UINT64_MAX},
          {"column_names", Json::array({name})}};
}

bool IsGrouped(const Json& level) {
  const Json& modifiers = level["modifiers"];
  return IsAggregation(level) || std::any_of(modifiers.begin(), modifiers.end(), [](const Json& m) {
           return IsType(m, "DISTINCT_MODIFIER") && !Has(m, "distinct_on_targets");
         });
}

void BreakTies(Json& level, const std::string& column) {
  // Windows over groups see no single rows.
  const bool windows = !IsAggregation(level);
  for (const char* part : {"select_list", "having", "qualify"}) {
    BreakTiesIn(level, level[part], column, windows);
  }
  for (Json& modifier : level["modifiers"]) {
    if (windows && IsType(modifier, "ORDER_MODIFIER"))
      modifier["orders"].push_back(OrderBy(column));
  }
}

absl::Status InlineCtes(Json& select) {
  if (!Has(select["cte_map"], "map")) return absl::OkStatus();
  CteMap ctes;
  for (Json& entry : select["cte_map"]["map"]) {
    Json& value = entry["value"];
    if (Has(value, "aliases")) return StandsInTheWay("names the columns of a WITH query");
    // Each sees those before it.
    ICEPIE_RETURN_IF_ERROR(PutCtes(value["query"]["node"], ctes));
    ctes[absl::AsciiStrToLower(entry["key"].get<std::string>())] = value["query"];
  }
  select["cte_map"]["map"] = Json::array();
  for (Json& member : select) ICEPIE_RETURN_IF_ERROR(PutCtes(member, ctes));
  return absl::OkStatus();
}

std::vector<Json*> LevelsOf(Json& statement) {
  std::vector<Json*> levels = {&statement["node"]};
  while (IsType((*levels.back())["from_table"], "SUBQUERY")) {
    levels.push_back(&(*levels.back())["from_table"]["subquery"]["node"]);
  }
  return levels;
}

absl::StatusOr<KeyShape> FindKeyShape(const Json& statement, const std::set<std::string>& columns,
                                      const std::vector<std::string>& identity) {
  KeyShape shape;
  shape.statement = statement;
  ICEPIE_RETURN_IF_ERROR(CheckChain(shape.statement["node"], 0));
  const std::vector<Json*> levels = LevelsOf(shape.statement);
  KeyFinder finder({levels.begin(), levels.end()}, columns);
  absl::StatusOr<std::vector<Json>> keys = finder.Find();
  if (absl::IsUnimplemented(keys.status()) && !identity.empty()) {
    keys = std::vector<Json>();
    for (const std::string& column : identity) {
      keys->push_back(WithoutPlaces(ColumnReference(column)));
    }
  }
  if (!keys.ok()) return keys.status();
  shape.keys = *std::move(keys);
  const Json& lowest = *levels.back();
  if (Has(lowest, "where_clause")) {
    shape.where = finder.Pure(lowest["where_clause"], levels.size() - 1);
    shape.where_known = shape.where.has_value();
  }
  for (size_t level = levels.size() - 1; level > 0 && OnlyFilters(*levels[level]); --level) {
    const Json& filter = (*levels[level - 1])["where_clause"];
    if (filter.is_null()) continue;
    std::optional<Json> pure = finder.Pure(filter, level - 1);
    shape.where_known = shape.where_known && pure;
    if (pure) shape.filters.push_back(*std::move(pure));
  }
  if (shape.where_known) shape.top = finder.FindTop();
  return shape;
}

std::optional<Json> FindOutput(const KeyShape& shape, const std::set<std::string>& columns,
                               const std::string& name) {
  Json statement = shape.statement;
  const std::vector<Json*> levels = LevelsOf(statement);
  return KeyFinder({levels.begin(), levels.end()}, columns).Output(name, 0, 0).pure;
}

bool KeepsNewest(const KeyShape& shape) {
  if (!shape.top || shape.top->count != 1 || shape.top->orders.empty()) return false;
  const Json& first = shape.top->orders.front();
  return TextOf(first, "type") == "DESCENDING" &&
         first["expression"] == WithoutPlaces(ColumnReference("_position"));
}

}  // namespace icepie::slices
