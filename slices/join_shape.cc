#include "slices/join_shape.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/aggregate_plan.h"
#include "slices/function_list.h"
#include "slices/row_shape.h"
#include "slices/sql_binding.h"

namespace icepie::slices {
namespace {

struct Column {
  size_t relation = 0;
  std::string name;  // in lower case
};

// `left` = `right` in the condition of one join.
struct Equality {
  Column left;
  Column right;
};

struct Joined {
  const Json* table = nullptr;
  const Json* condition = nullptr;  // of its join; null for the first
  bool left_join = false;
};

bool AnyNode(const Json& tree, const std::function<bool(const Json&)>& holds) {
  if (holds(tree)) return true;
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(), [&](const Json& child) {
           return AnyNode(child, holds);
         });
}

// Aggregates whose answer depends on the order of rows, which a join does not have.
bool DependsOnOrder(const Json& node) {
  static const auto* const kNames = new std::set<std::string>{
      "arg_min", "argmin",       "min_by",       "arg_max", "argmax",
      "max_by",  "arg_min_null", "arg_max_null", "mode",    "bitstring_agg"};
  if (!IsClass(node, "FUNCTION")) return false;
  const std::string name = TextOf(node, "function_name");
  const AllowedFunction* function = FindFunction(name);
  if (function == nullptr || function->kind != FunctionKind::kAggregate) return false;
  return function->use != FunctionUse::kStable || kNames->count(name) > 0;
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

class JoinFinder {
 public:
  JoinFinder(const PlanRequest& request, const Json& node) : request_(request), node_(node) {}

  absl::StatusOr<JoinShape> Find();

 private:
  absl::Status Flatten(const Json& from);
  absl::Status AddRelation(const Joined& joined);
  std::vector<std::string> ColumnsOf(const std::string& source) const;
  bool HasColumn(size_t relation, const std::string& name) const;
  std::optional<Column> Resolve(const Json& node) const;
  void AddEqualities(const Json& condition, std::vector<Equality>& out) const;
  std::vector<std::string> Candidates() const;
  bool Follow(const std::string& first);
  bool GroupsByKey() const;
  absl::Status FindTypes();

  const PlanRequest& request_;
  const Json& node_;
  std::vector<Joined> joined_;
  std::vector<std::vector<Equality>> equalities_;  // by relation, of its own join
  JoinShape shape_;
};

absl::Status JoinFinder::Flatten(const Json& from) {
  if (IsType(from, "BASE_TABLE")) {
    joined_.push_back({&from, nullptr, false});
    return absl::OkStatus();
  }
  if (!IsType(from, "JOIN")) return StandsInTheWay("joins what is no source");
  const std::string type = TextOf(from, "join_type");
  if (TextOf(from, "ref_type") != "REGULAR" || Has(from, "using_columns") ||
      !Has(from, "condition")) {
    return StandsInTheWay("has a join without ON");
  }
  if (type != "INNER" && type != "LEFT") return StandsInTheWay(absl::StrCat("has a join: ", type));
  ICEPIE_RETURN_IF_ERROR(Flatten(from["left"]));
  if (!IsType(from["right"], "BASE_TABLE")) return StandsInTheWay("joins what is no source");
  joined_.push_back({&from["right"], &from["condition"], type == "LEFT"});
  return absl::OkStatus();
}

std::vector<std::string> JoinFinder::ColumnsOf(const std::string& source) const {
  std::vector<std::string> columns;
  for (const SourceUse& use : request_.slice.sources) {
    if (use.source == source) columns = use.columns;
  }
  for (const char* hidden : kHiddenColumns) {
    const bool named = AnyNode(node_, [&](const Json& each) {
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

absl::Status JoinFinder::AddRelation(const Joined& joined) {
  const std::string name = absl::AsciiStrToLower(TextOf(*joined.table, "table_name"));
  if (request_.domain.definition.FindSlice(name) != nullptr) {
    return StandsInTheWay(absl::StrCat("joins slice ", name));
  }
  JoinRelation relation;
  relation.source = request_.domain.definition.FindSource(name);
  if (relation.source == nullptr) return StandsInTheWay("joins what is no source");
  if (Has(*joined.table, "column_name_alias")) return StandsInTheWay("renames columns in FROM");
  const std::string alias = TextOf(*joined.table, "alias");
  relation.alias = alias.empty() ? TextOf(*joined.table, "table_name") : alias;
  for (const JoinRelation& other : shape_.relations) {
    if (absl::AsciiStrToLower(other.alias) == absl::AsciiStrToLower(relation.alias)) {
      return StandsInTheWay("joins two relations of one name");
    }
  }
  relation.columns = ColumnsOf(relation.source->name);
  // What is joined to nothing is NULL; a later join by a key that is NULL finds nothing either.
  relation.outer = joined.left_join;
  shape_.relations.push_back(std::move(relation));
  return absl::OkStatus();
}

bool JoinFinder::HasColumn(size_t relation, const std::string& name) const {
  const std::vector<std::string>& columns = shape_.relations[relation].columns;
  return std::any_of(columns.begin(), columns.end(), [&](const std::string& column) {
    return absl::AsciiStrToLower(column) == name;
  });
}

// Whose column it is; nullopt: no plain column, or of several relations.
std::optional<Column> JoinFinder::Resolve(const Json& node) const {
  if (!IsClass(node, "COLUMN_REF")) return std::nullopt;
  std::vector<std::string> names;
  for (const Json& name : node["column_names"]) {
    names.push_back(absl::AsciiStrToLower(name.get<std::string>()));
  }
  if (names.size() > 2) return std::nullopt;
  std::optional<Column> found;
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    const bool here =
        names.size() == 1 || absl::AsciiStrToLower(shape_.relations[i].alias) == names.front();
    if (!here || !HasColumn(i, names.back())) continue;
    if (found) return std::nullopt;
    found = Column{i, names.back()};
  }
  return found;
}

// Those that must hold, whatever else the condition says.
void JoinFinder::AddEqualities(const Json& condition, std::vector<Equality>& out) const {
  if (IsType(condition, "CONJUNCTION_AND")) {
    for (const Json& child : condition["children"]) AddEqualities(child, out);
    return;
  }
  if (!IsType(condition, "COMPARE_EQUAL")) return;
  const std::optional<Column> left = Resolve(condition["left"]);
  const std::optional<Column> right = Resolve(condition["right"]);
  if (left && right) out.push_back({*left, *right});
}

// Columns of the first relation that may be the key.
std::vector<std::string> JoinFinder::Candidates() const {
  std::vector<std::string> candidates;
  for (const auto& equalities : equalities_) {
    for (const Equality& equality : equalities) {
      for (const Column& side : {equality.left, equality.right}) {
        if (side.relation == 0) candidates.push_back(side.name);
      }
    }
  }
  return candidates;
}

// Whether each relation is joined to the key of an earlier one, when that of the first is `first`.
bool JoinFinder::Follow(const std::string& first) {
  shape_.relations.front().key = first;
  for (size_t i = 1; i < shape_.relations.size(); ++i) {
    shape_.relations[i].key.clear();
    for (const Equality& equality : equalities_[i]) {
      for (const auto& [mine, other] :
           {std::pair(equality.left, equality.right), std::pair(equality.right, equality.left)}) {
        const bool follows = mine.relation == i && other.relation < i &&
                             other.name == shape_.relations[other.relation].key;
        if (follows && shape_.relations[i].key.empty()) shape_.relations[i].key = mine.name;
      }
    }
    if (shape_.relations[i].key.empty()) return false;
  }
  return true;
}

// Whether every group has rows of one key.
bool JoinFinder::GroupsByKey() const {
  if (!IsAggregation(node_)) return true;
  const auto is_key = [&](const Json& expression) {
    const std::optional<Column> column = Resolve(expression);
    if (!column) return false;
    const JoinRelation& relation = shape_.relations[column->relation];
    return column->name == relation.key && !relation.outer;
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

absl::Status JoinFinder::FindTypes() {
  for (JoinRelation& relation : shape_.relations) {
    ICEPIE_ASSIGN_OR_RETURN(
        const std::vector<OutputColumn> bound,
        BindSelect(request_.connection,
                   absl::StrCat("SELECT ", QuoteIdentifier(relation.key), " FROM ",
                                QuoteIdentifier(relation.source->name))));
    relation.key_type = bound.front().type;
    if (relation.key_type != shape_.relations.front().key_type) {
      return StandsInTheWay(
          absl::StrCat("joins by ", relation.key_type, " and ", shape_.relations.front().key_type));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<JoinShape> JoinFinder::Find() {
  const Json& from = node_["from_table"];
  ICEPIE_RETURN_IF_ERROR(CheckParts(node_));
  ICEPIE_RETURN_IF_ERROR(Flatten(from));
  for (const Joined& joined : joined_) ICEPIE_RETURN_IF_ERROR(AddRelation(joined));
  for (const Joined& joined : joined_) {
    std::vector<Equality>& equalities = equalities_.emplace_back();
    if (joined.condition != nullptr) AddEqualities(*joined.condition, equalities);
  }
  bool joined = false;
  for (const std::string& candidate : Candidates()) {
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
