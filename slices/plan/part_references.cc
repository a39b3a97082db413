#include "slices/plan/part_references.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/plan/aggregate_plan.h"
#include "slices/plan/row_shape.h"

namespace icepie::slices {
namespace {

bool HasOutput(const Json& level, const std::string& name) {
  const Json& items = level["select_list"];
  return std::any_of(items.begin(), items.end(), [&](const Json& item) {
    return absl::EqualsIgnoreCase(OutputName(item), name);
  });
}

// The outputs of a level as they are, while the level is rewritten.
Json OutputsOf(const Json& level) { return {{"select_list", level["select_list"]}}; }

// Whether outputs come before columns in this member of a level.
bool NamesOutputs(const char* member) { return member == std::string("modifiers"); }

// ---- USING -------------------------------------------------------------------------------------

// Names column `name` of relation `alias` where it is named alone.
void Qualify(Json& node, const std::string& name, const std::string& alias, const Json* outputs) {
  if (IsClass(node, "COLUMN_REF")) {
    Json& names = node["column_names"];
    const bool here = names.size() == 1 &&
                      absl::EqualsIgnoreCase(names.front().get<std::string>(), name) &&
                      (outputs == nullptr || !HasOutput(*outputs, name));
    if (here) names.insert(names.begin(), alias);
    return;
  }
  if (!node.is_structured()) return;
  for (Json& child : node) Qualify(child, name, alias, outputs);
}

class UsingRewriter {
 public:
  UsingRewriter(DuckConnection& connection, const std::vector<JoinRelation>& relations, Json& level)
      : connection_(connection), relations_(relations), level_(level) {}

  // The relations of `join` come first, its right side last of them.
  absl::Status Rewrite(Json& join) {
    if (!IsType(join, "JOIN")) return absl::OkStatus();
    ICEPIE_RETURN_IF_ERROR(Rewrite(join["left"]));
    if (!Has(join, "using_columns")) return absl::OkStatus();
    Json conjuncts = Json::array();
    for (const Json& column : join["using_columns"]) {
      ICEPIE_ASSIGN_OR_RETURN(Json equality, TakeColumn(join, column.get<std::string>()));
      conjuncts.push_back(std::move(equality));
    }
    join["using_columns"] = Json::array();
    join["condition"] = Conjunction(std::move(conjuncts));
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<Json> TakeColumn(Json& join, const std::string& name) {
    const size_t right = TablesOf(join).size() - 1;
    const auto left = std::find_if(
        relations_.begin(), relations_.end(),
        [&](const JoinRelation& relation) { return relation.visible && relation.HasColumn(name); });
    if (left - relations_.begin() >= static_cast<int64_t>(right)) {
      return StandsInTheWay(absl::StrCat("has USING (", name, "), which was not found"));
    }
    const Json outputs = OutputsOf(level_);
    for (const char* member : kLevelExpressions) {
      Qualify(level_[member], name, left->alias, NamesOutputs(member) ? &outputs : nullptr);
    }
    for (Json* above = &level_["from_table"]; above != &join; above = &(*above)["left"]) {
      Qualify((*above)["condition"], name, left->alias, nullptr);
    }
    const auto column_of = [&](const JoinRelation& relation) {
      return absl::StrCat(QuoteIdentifier(relation.alias), ".", QuoteIdentifier(name));
    };
    return ParseExpression(connection_,
                           absl::StrCat(column_of(*left), " = ", column_of(relations_[right])));
  }

  DuckConnection& connection_;
  const std::vector<JoinRelation>& relations_;
  Json& level_;
};

}  // namespace

Json Conjunction(Json conjuncts) {
  if (conjuncts.empty()) return Json();
  if (conjuncts.size() == 1) return conjuncts[0];
  return {{"class", "CONJUNCTION"},
          {"type", "CONJUNCTION_AND"},
          {"alias", ""},
          {"query_location", UINT64_MAX},
          {"children", std::move(conjuncts)}};
}

std::string PartReferences::Column(size_t index) { return absl::StrCat("__c", index); }

std::string PartReferences::NameOf(const JoinColumn& column) {
  const auto found = std::find_if(taken_.begin(), taken_.end(), [&](const JoinColumn& each) {
    return each.relation == column.relation && each.name == column.name;
  });
  const auto index = static_cast<size_t>(found - taken_.begin());
  if (found == taken_.end()) taken_.push_back(column);
  return Column(index);
}

bool PartReferences::IsColumn(const std::string& name) const {
  return std::any_of(relations_.begin(), relations_.end(),
                     [&](const JoinRelation& relation) { return relation.HasColumn(name); });
}

absl::Status PartReferences::Rewrite(Json& node, const Json* outputs) {
  if (!IsClass(node, "COLUMN_REF")) {
    if (!node.is_structured()) return absl::OkStatus();
    for (Json& child : node) ICEPIE_RETURN_IF_ERROR(Rewrite(child, outputs));
    return absl::OkStatus();
  }
  Json& names = node["column_names"];
  const std::string last = names.back().get<std::string>();
  const bool single = names.size() == 1;
  if (single && outputs != nullptr && HasOutput(*outputs, last)) return absl::OkStatus();
  const std::optional<JoinColumn> column = FindColumn(relations_, node);
  if (column) {
    if (column->relation < taken_end_) names = Json::array({part_, NameOf(*column)});
    return absl::OkStatus();
  }
  if (single && !IsColumn(last)) return absl::OkStatus();  // an output's
  return StandsInTheWay(
      absl::StrCat("names ", last, " in a way that cannot be followed in a join"));
}

absl::Status PartReferences::RewriteLevel(Json& level) {
  for (Json& item : level["select_list"]) {
    const bool unnamed = IsClass(item, "COLUMN_REF") && TextOf(item, "alias").empty();
    if (unnamed) item["alias"] = item["column_names"].back();
  }
  const Json outputs = OutputsOf(level);
  for (const char* member : kLevelExpressions) {
    ICEPIE_RETURN_IF_ERROR(Rewrite(level[member], NamesOutputs(member) ? &outputs : nullptr));
  }
  return absl::OkStatus();
}

bool PartReferences::AreTaken(const Json& node) const {
  if (IsClass(node, "COLUMN_REF")) {
    const std::optional<JoinColumn> column = FindColumn(relations_, node);
    return column && column->relation < taken_end_;
  }
  return !node.is_structured() ||
         std::all_of(node.begin(), node.end(), [&](const Json& child) { return AreTaken(child); });
}

absl::Status UsingToOn(DuckConnection& connection, const std::vector<JoinRelation>& relations,
                       Json& level) {
  if (ContainsClass(level, "LAMBDA")) return StandsInTheWay("has a lambda beside USING");
  return UsingRewriter(connection, relations, level).Rewrite(level["from_table"]);
}

namespace {

// The names in column references and USING of `tree`, apart from what is below `without`.
void AddNames(const Json& tree, const Json* without, std::multiset<std::string>& names) {
  if (&tree == without || !tree.is_structured()) return;
  for (const char* member : {"column_names", "using_columns"}) {
    if (!tree.is_object() || !tree.contains(member) || !tree[member].is_array()) continue;
    for (const Json& name : tree[member]) {
      if (name.is_string()) names.insert(absl::AsciiStrToLower(name.get<std::string>()));
    }
  }
  for (const Json& child : tree) AddNames(child, without, names);
}

bool GroupsByAll(const Json& node) {
  return TextOf(node, "aggregate_handling") == "FORCE_AGGREGATES";
}

// Whether the items of the SELECT mean the same when some of them are gone.
bool ItemsStandAlone(const Json& node) {
  if (!IsType(node, "SELECT_NODE") || Has(node, "modifiers")) return false;
  if (IsAggregation(node) && !Has(node, "group_expressions") && !GroupsByAll(node)) return false;
  if (ContainsClass(node["group_expressions"], "CONSTANT")) return false;
  return !AnyNode(node["select_list"], [](const Json& each) {
    return IsClass(each, "STAR") || TextOf(each, "function_name") == "unnest";
  });
}

}  // namespace

void DropUnread(const Json& reader, Json& table) {
  Json& node = table["subquery"]["node"];
  if (Has(table, "column_name_alias") || !ItemsStandAlone(node)) return;
  for (const char* part : kLevelExpressions) {
    if (ContainsClass(reader[part], "STAR")) return;
  }
  std::multiset<std::string> read;
  AddNames(reader, &table, read);
  // The whole row is read by its name.
  if (read.count(absl::AsciiStrToLower(TextOf(table, "alias"))) > 0 &&
      AnyNode(reader, [&table](const Json& each) {
        return IsClass(each, "COLUMN_REF") && each["column_names"].size() == 1 &&
               absl::EqualsIgnoreCase(each["column_names"][0].get<std::string>(),
                                      TextOf(table, "alias"));
      })) {
    return;
  }
  std::multiset<std::string> inside;
  AddNames(node, nullptr, inside);
  Json& items = node["select_list"];
  Json kept = Json::array();
  for (Json& item : items) {
    const std::string name = OutputName(item);
    const size_t itself = IsClass(item, "COLUMN_REF") ? 1 : 0;
    const bool unread = !name.empty() && read.count(name) == 0 && inside.count(name) <= itself;
    // Of aggregates in a subquery it is not known for sure whose rows they aggregate.
    const bool groups =
        GroupsByAll(node) && (!ContainsAggregate(item) || ContainsClass(item, "SUBQUERY"));
    if (!unread || groups) kept.push_back(item);
  }
  if (!kept.empty()) items = std::move(kept);
}

}  // namespace icepie::slices
