#include "slices/plan/join_shape.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/plan/aggregate_plan.h"
#include "slices/plan/change_feed.h"
#include "slices/plan/function_list.h"
#include "slices/plan/key_shape.h"
#include "slices/plan/row_order.h"
#include "slices/plan/row_shape.h"
#include "slices/plan/sql_binding.h"

namespace icepie::slices {
namespace {

// `left` = `right` in the condition of one join.
struct Equality {
  JoinSide left;
  JoinSide right;
};

struct Joined {
  const Json* table = nullptr;
  const Json* condition = nullptr;  // of its join; null for the first
  bool outer = false;
  bool visible = true;
};

// Aggregates whose answer depends on the order of rows, which a join does not have.
bool DependsOnOrder(const Json& node) {
  if (TakesFirstOfEquals(node)) return true;
  if (!IsClass(node, "FUNCTION")) return false;
  const AllowedFunction* function = FindFunction(TextOf(node, "function_name"));
  return function != nullptr && function->kind == FunctionKind::kAggregate &&
         function->use != FunctionUse::kStable;
}

absl::Status CheckParts(const Json& node) {
  if (Has(node["cte_map"], "map")) return StandsInTheWay("has WITH beside a join");
  if (Has(node, "modifiers")) return StandsInTheWay("has DISTINCT, ORDER BY or LIMIT over a join");
  if (Has(node, "qualify")) return StandsInTheWay("has QUALIFY over a join");
  if (node["group_sets"].size() > 1) return StandsInTheWay("has GROUPING SETS, ROLLUP or CUBE");
  for (const char* hindrance : {"SUBQUERY", "WINDOW", "STAR", "COLLATE", "LAMBDA"}) {
    const bool found = AnyNode(node, [&](const Json& each) { return IsClass(each, hindrance); });
    if (found) {
      return StandsInTheWay(absl::StrCat("has ", absl::AsciiStrToLower(hindrance), " in a join"));
    }
  }
  if (AnyNode(node, DependsOnOrder)) {
    return StandsInTheWay("aggregates a join in an order that it does not have");
  }
  return absl::OkStatus();
}

absl::Status Flatten(const Json& from, std::vector<Joined>& joined) {
  if (IsType(from, "BASE_TABLE")) {
    joined.push_back({&from, nullptr, false});
    return absl::OkStatus();
  }
  if (!IsType(from, "JOIN")) return StandsInTheWay("joins what is no source or slice");
  const std::string type = TextOf(from, "join_type");
  const std::string ref = TextOf(from, "ref_type");
  if (ref != "REGULAR" && ref != "CROSS") return StandsInTheWay(absl::StrCat("has a join: ", ref));
  static const auto* const kTypes = new std::set<std::string>{"INNER", "LEFT", "SEMI", "ANTI"};
  if (kTypes->count(type) == 0) return StandsInTheWay(absl::StrCat("has a join: ", type));
  ICEPIE_RETURN_IF_ERROR(Flatten(from["left"], joined));
  if (!IsType(from["right"], "BASE_TABLE")) {
    return StandsInTheWay(IsType(from["right"], "JOIN") ? "nests joins"
                                                        : "joins what is no source or slice");
  }
  const bool visible = type == "INNER" || type == "LEFT";
  joined.push_back({&from["right"], &from["condition"], type != "INNER", visible});
  return absl::OkStatus();
}

std::vector<std::string> ColumnsOfSource(const PlanRequest& request, const std::string& source,
                                         const Json& node) {
  std::vector<std::string> columns;
  for (const SourceUse& use : request.slice.sources) {
    if (use.source == source) columns = use.columns;
  }
  for (const char* hidden : kHiddenColumns) {
    const bool named = AnyNode(node, [&](const Json& each) {
      if (!IsClass(each, "COLUMN_REF")) return false;
      const Json& names = each["column_names"];
      return std::any_of(names.begin(), names.end(), [&](const Json& name) {
        return absl::AsciiStrToLower(name.get<std::string>()) == hidden;
      });
    });
    if (named || hidden == std::string("_position")) columns.emplace_back(hidden);
  }
  return columns;
}

absl::StatusOr<JoinRelation> ReadRelation(const PlanRequest& request, const Joined& joined,
                                          const Json& node) {
  if (Has(*joined.table, "column_name_alias")) return StandsInTheWay("renames columns in FROM");
  JoinRelation relation;
  const std::string name = absl::AsciiStrToLower(TextOf(*joined.table, "table_name"));
  const std::string alias = TextOf(*joined.table, "alias");
  relation.alias = alias.empty() ? TextOf(*joined.table, "table_name") : alias;
  // What is joined to nothing is NULL; a later join by a key that is NULL finds nothing either.
  relation.outer = joined.outer;
  relation.visible = joined.visible;
  if (const SlicePlan* slice = request.domain.Find(name)) {
    ICEPIE_RETURN_IF_ERROR(CheckHandsOutChanges(*slice));
    relation.name = slice->slice;
    for (const OutputColumn& column : slice->columns) relation.columns.push_back(column.name);
    return relation;
  }
  relation.source = request.domain.definition.FindSource(name);
  if (relation.source == nullptr) return StandsInTheWay("joins what is no source or slice");
  relation.name = relation.source->name;
  relation.columns = ColumnsOfSource(request, relation.name, node);
  return relation;
}

// INTERVAL 1 HOUR: a function of a constant.
bool IsInterval(const Json& node) {
  static const auto* const kNames = new std::set<std::string>{
      "to_years", "to_quarters", "to_months",  "to_weeks",        "to_days",
      "to_hours", "to_minutes",  "to_seconds", "to_milliseconds", "to_microseconds"};
  const auto is_column = [](const Json& each) { return IsClass(each, "COLUMN_REF"); };
  return IsClass(node, "FUNCTION") && kNames->count(TextOf(node, "function_name")) > 0 &&
         !AnyNode(node, is_column);
}

bool OnlySecondVaries(const Json& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (i != 1 && !IsClass(arguments[i], "CONSTANT") && !IsInterval(arguments[i])) return false;
  }
  return true;
}

// Functions of plain values that never fail. A key is made of every record, also of those for which
// the SQL itself would not come to it, so that one that may fail would be held against records that
// the SQL takes.
bool NeverFails(const Json& function) {
  static const auto* const kNames =
      new std::set<std::string>{"lower", "upper", "trim", "ltrim", "rtrim", "length", "||"};
  const std::string name = TextOf(function, "function_name");
  if (kNames->count(name) > 0) return true;
  // A unit or a width out of a record may be none.
  if (name == "date_trunc" || name == "time_bucket") return OnlySecondVaries(function["children"]);
  if ((name != "%" && name != "//") || function["children"].size() != 2) return false;
  const Json& divisor = function["children"][1];
  if (!IsClass(divisor, "CONSTANT")) return false;
  const Json& value = divisor["value"]["value"];
  return value.is_number_integer() && value.get<int64_t>() > 0;
}

bool CanBePartOfKey(const Json& node) {
  if (!node.is_object() || !node.contains("class")) return true;
  if (IsClass(node, "COLUMN_REF") || IsClass(node, "CONSTANT") || IsInterval(node)) return true;
  if (IsType(node, "OPERATOR_COALESCE")) return true;
  if (IsClass(node, "CAST")) return TextOf(node["cast_type"], "id") == "VARCHAR";
  return IsClass(node, "FUNCTION") && NeverFails(node);
}

// Types of which one value each stands for equal numbers.
bool IsWhole(const std::string& type) {
  static const auto* const kTypes = new std::set<std::string>{
      "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"};
  return kTypes->count(type) > 0;
}

// What says only where and under which name an expression stood.
void DropPlaces(Json& node) {
  if (node.is_object()) {
    node.erase("query_location");
    if (node.contains("alias")) node["alias"] = "";
  }
  if (!node.is_structured()) return;
  for (Json& child : node) DropPlaces(child);
}

// Takes the relation's name off the columns; false when they are not all of one relation.
bool RewriteSide(const std::vector<JoinRelation>& relations, Json& node,
                 std::optional<size_t>& relation) {
  if (!CanBePartOfKey(node)) return false;
  if (IsInterval(node)) return true;
  if (IsClass(node, "COLUMN_REF")) {
    const std::optional<JoinColumn> column = FindColumn(relations, node);
    if (!column || (relation && *relation != column->relation)) return false;
    relation = column->relation;
    node["column_names"] = Json::array({column->name});
    return true;
  }
  if (!node.is_structured()) return true;
  return std::all_of(node.begin(), node.end(),
                     [&](Json& child) { return RewriteSide(relations, child, relation); });
}

class JoinFinder {
 public:
  JoinFinder(const PlanRequest& request, const Json& node) : request_(request), node_(node) {}

  absl::StatusOr<JoinShape> Find();

 private:
  std::optional<JoinSide> SideOf(const Json& node) const {
    return FindSide(shape_.relations, node);
  }
  void AddEqualities(const Json& condition, std::vector<Equality>& out) const;
  absl::Status FindEqualities();
  std::vector<Json> Candidates() const;
  bool Follow(const Json& first);
  bool GroupsByKey() const;
  absl::Status FindTypes();

  const PlanRequest& request_;
  const Json& node_;
  std::vector<std::vector<Equality>> equalities_;  // by relation, that its rows are joined with
  JoinShape shape_;
};

// Those that must hold, whatever else the condition says.
void JoinFinder::AddEqualities(const Json& condition, std::vector<Equality>& out) const {
  if (IsType(condition, "CONJUNCTION_AND")) {
    for (const Json& child : condition["children"]) AddEqualities(child, out);
    return;
  }
  if (!IsType(condition, "COMPARE_EQUAL")) return;
  std::optional<JoinSide> left = SideOf(condition["left"]);
  std::optional<JoinSide> right = SideOf(condition["right"]);
  if (left && right) out.push_back({*std::move(left), *std::move(right)});
}

// Of each join its own condition, and WHERE: rows that it drops need not be found.
absl::Status JoinFinder::FindEqualities() {
  std::vector<Joined> joined;
  ICEPIE_RETURN_IF_ERROR(Flatten(node_["from_table"], joined));
  for (const Joined& each : joined) {
    std::vector<Equality>& equalities = equalities_.emplace_back();
    if (each.condition == nullptr) continue;
    AddEqualities(*each.condition, equalities);
    AddEqualities(node_["where_clause"], equalities);
  }
  return absl::OkStatus();
}

// Expressions of the first relation that may be the key.
std::vector<Json> JoinFinder::Candidates() const {
  std::vector<Json> candidates;
  for (const auto& equalities : equalities_) {
    for (const Equality& equality : equalities) {
      for (const JoinSide& side : {equality.left, equality.right}) {
        const bool known =
            std::find(candidates.begin(), candidates.end(), side.expression) != candidates.end();
        if (side.relation == 0 && !known) candidates.push_back(side.expression);
      }
    }
  }
  return candidates;
}

// What is joined to nothing is NULL and has no key; but of that a value is made, which may be one.
bool MakesValueOfNull(const Json& expression) {
  return AnyNode(expression, [](const Json& node) { return IsType(node, "OPERATOR_COALESCE"); });
}

// Whether each relation is joined to the key of an earlier one, when that of the first is `first`.
bool JoinFinder::Follow(const Json& first) {
  shape_.relations.front().key = first;
  for (size_t i = 1; i < shape_.relations.size(); ++i) {
    Json& key = shape_.relations[i].key;
    key = Json();
    for (const Equality& equality : equalities_[i]) {
      for (const auto& [mine, other] :
           {std::pair(equality.left, equality.right), std::pair(equality.right, equality.left)}) {
        const bool follows =
            mine.relation == i && other.relation < i &&
            other.expression == shape_.relations[other.relation].key &&
            !(shape_.relations[other.relation].outer && MakesValueOfNull(other.expression));
        if (follows && key.is_null()) key = mine.expression;
      }
    }
    if (key.is_null()) return false;
  }
  return true;
}

// Whether every group has rows of one key.
bool JoinFinder::GroupsByKey() const {
  if (!IsAggregation(node_)) return true;
  const auto is_key = [&](const Json& expression) {
    const std::optional<JoinSide> side = SideOf(expression);
    if (!side) return false;
    const JoinRelation& relation = shape_.relations[side->relation];
    return side->expression == relation.key && !relation.outer;
  };
  const Json& items = node_["select_list"];
  const Json& groups = node_["group_expressions"];
  const bool all = TextOf(node_, "aggregate_handling") == "FORCE_AGGREGATES";
  if (all && std::any_of(items.begin(), items.end(), is_key)) return true;
  return std::any_of(groups.begin(), groups.end(), [&](const Json& group) {
    if (!IsClass(group, "CONSTANT")) return is_key(group);
    const Json& value = group["value"]["value"];
    if (!value.is_number_integer()) return false;
    const auto position = value.get<int64_t>();
    return position >= 1 && position <= static_cast<int64_t>(items.size()) &&
           is_key(items[static_cast<size_t>(position - 1)]);
  });
}

// Keys of one type; whole numbers of several are compared as BIGINT, in which they are the same.
absl::Status JoinFinder::FindTypes() {
  bool whole = true;
  bool same = true;
  for (JoinRelation& relation : shape_.relations) {
    ICEPIE_ASSIGN_OR_RETURN(relation.key_sql, ExpressionToSql(request_.connection, relation.key));
    ICEPIE_ASSIGN_OR_RETURN(
        const std::vector<OutputColumn> bound,
        BindSelect(request_.connection, absl::StrCat("SELECT ", relation.key_sql, " FROM ",
                                                     QuoteIdentifier(relation.name))));
    relation.key_type = bound.front().type;
    whole = whole && IsWhole(relation.key_type);
    same = same && relation.key_type == shape_.relations.front().key_type;
    if (!same && !whole) {
      return StandsInTheWay(
          absl::StrCat("joins by ", relation.key_type, " and ", shape_.relations.front().key_type));
    }
  }
  for (JoinRelation& relation : shape_.relations) {
    if (same) break;
    relation.key_sql = absl::StrCat("CAST(", relation.key_sql, " AS BIGINT)");
    relation.key_type = "BIGINT";
  }
  return absl::OkStatus();
}

absl::StatusOr<JoinShape> JoinFinder::Find() {
  ICEPIE_RETURN_IF_ERROR(CheckParts(node_));
  const auto has_using = [](const Json& node) { return Has(node, "using_columns"); };
  if (AnyNode(node_["from_table"], has_using)) return StandsInTheWay("has a join without ON");
  ICEPIE_ASSIGN_OR_RETURN(shape_.relations, FindRelations(request_, node_["from_table"], node_));
  ICEPIE_RETURN_IF_ERROR(FindEqualities());
  bool joined = false;
  for (const Json& candidate : Candidates()) {
    if (!Follow(candidate)) continue;
    joined = true;
    if (!GroupsByKey()) continue;
    ICEPIE_RETURN_IF_ERROR(FindTypes());
    return std::move(shape_);
  }
  return StandsInTheWay(joined ? "groups a join by other columns than those that it is joined by"
                               : "has joins that no equality leads to one key");
}

}  // namespace

bool JoinRelation::HasColumn(const std::string& column) const {
  return std::any_of(columns.begin(), columns.end(),
                     [&](const std::string& each) { return absl::EqualsIgnoreCase(each, column); });
}

absl::StatusOr<std::vector<JoinRelation>> FindRelations(const PlanRequest& request,
                                                        const Json& from, const Json& node) {
  std::vector<Joined> joined;
  ICEPIE_RETURN_IF_ERROR(Flatten(from, joined));
  std::vector<JoinRelation> relations;
  for (const Joined& each : joined) {
    ICEPIE_ASSIGN_OR_RETURN(JoinRelation relation, ReadRelation(request, each, node));
    for (const JoinRelation& other : relations) {
      if (absl::AsciiStrToLower(other.alias) == absl::AsciiStrToLower(relation.alias)) {
        return StandsInTheWay("joins two relations of one name");
      }
    }
    relations.push_back(std::move(relation));
  }
  return relations;
}

std::optional<JoinColumn> FindColumn(const std::vector<JoinRelation>& relations,
                                     const Json& reference) {
  std::vector<std::string> names;
  for (const Json& name : reference["column_names"]) {
    names.push_back(absl::AsciiStrToLower(name.get<std::string>()));
  }
  if (names.size() > 2) return std::nullopt;
  std::optional<JoinColumn> found;
  for (size_t i = 0; i < relations.size(); ++i) {
    const bool here =
        names.size() == 1 || absl::AsciiStrToLower(relations[i].alias) == names.front();
    if (!here || !relations[i].HasColumn(names.back())) continue;
    if (found) return std::nullopt;
    found = JoinColumn{i, names.back()};
  }
  return found;
}

std::optional<JoinSide> FindSide(const std::vector<JoinRelation>& relations,
                                 const Json& expression) {
  JoinSide side{0, expression};
  DropPlaces(side.expression);
  std::optional<size_t> relation;
  if (!RewriteSide(relations, side.expression, relation) || !relation) return std::nullopt;
  side.relation = *relation;
  return side;
}

absl::StatusOr<JoinShape> FindJoinShape(const PlanRequest& request, const Json& node) {
  if (!IsType(node["from_table"], "JOIN")) return OtherKind("reads no join");
  return JoinFinder(request, node).Find();
}

std::vector<Json*> TablesOf(Json& from) {
  if (!IsType(from, "JOIN")) return {&from};
  std::vector<Json*> tables = TablesOf(from["left"]);
  tables.push_back(&from["right"]);
  return tables;
}

}  // namespace icepie::slices
