#include "slices/plan/row_shape.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/plan/aggregate_plan.h"

namespace icepie::slices {
namespace {

// Uses of WITH queries that are looked into; the gate bounds the size of each.
constexpr int kCteUsesMax = 100;

// One WITH query that is visible. Its own text sees what is visible outside of it, not itself, so
// that a name may hide a source that its query reads.
struct Scope {
  const Scope* outer = nullptr;
  std::string name;  // in lower case
  const Json* query = nullptr;
};

const Scope* Find(const Scope* scope, const Json& table) {
  const std::string name = absl::AsciiStrToLower(TextOf(table, "table_name"));
  while (scope != nullptr && scope->name != name) scope = scope->outer;
  return scope;
}

bool AnyChild(const Json& tree, const std::function<bool(const Json&)>& holds) {
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(), holds);
}

bool ContainsWindow(const Json& tree) {
  return IsClass(tree, "WINDOW") || AnyChild(tree, ContainsWindow);
}

// Whether a row is joined by what it is alone. POSITIONAL pairs rows by their places, and ASOF
// takes the nearest one of the right side: of constants, for a record on the left, also record by
// record.
absl::Status CheckPairing(const Json& join, bool records_left) {
  const std::string ref = TextOf(join, "ref_type");
  static const auto* const kByRow =
      new std::set<std::string>{"REGULAR", "CROSS", "NATURAL", "DEPENDENT"};
  if (kByRow->count(ref) > 0 || (ref == "ASOF" && records_left)) return absl::OkStatus();
  return StandsInTheWay(absl::StrCat("has a join: ", ref));
}

absl::Status RefuseModifier(const Json& node) {
  const Json& modifier = node["modifiers"][0];
  if (IsType(modifier, "DISTINCT_MODIFIER")) return StandsInTheWay("has DISTINCT");
  if (IsType(modifier, "ORDER_MODIFIER")) return StandsInTheWay("has ORDER BY");
  return StandsInTheWay("has LIMIT");
}

class ShapeFinder {
 public:
  explicit ShapeFinder(const PlanRequest& request) : request_(request) {}

  absl::Status Query(const Json& node, const Scope* outer) {
    if (IsType(node, "SET_OPERATION_NODE")) return Union(node, outer);
    if (!IsType(node, "SELECT_NODE")) return StandsInTheWay("has a recursive query");
    if (Has(node, "modifiers")) return RefuseModifier(node);
    if (IsAggregation(node)) return StandsInTheWay("groups in a subquery");
    return Select(node, outer);
  }

  absl::Status Select(const Json& node, const Scope* outer) {
    if (ContainsWindow(node["select_list"])) return StandsInTheWay("has window functions");
    if (Has(node, "qualify")) return StandsInTheWay("has QUALIFY");
    const Scope* scope = Inside(node, outer);
    ICEPIE_RETURN_IF_ERROR(CheckSubqueries(node, scope));
    ICEPIE_ASSIGN_OR_RETURN(const int reads, Relation(node["from_table"], scope));
    return reads == 1 ? absl::OkStatus() : StandsInTheWay("has a part that reads no source");
  }

  RowShape Take() { return std::move(shape_); }

 private:
  const Scope* Inside(const Json& node, const Scope* scope) {
    for (const Json& cte : node["cte_map"]["map"]) {
      scopes_.push_back(
          {scope, absl::AsciiStrToLower(TextOf(cte, "key")), &cte["value"]["query"]["node"]});
      scope = &scopes_.back();
    }
    return scope;
  }

  absl::Status Union(const Json& node, const Scope* outer) {
    if (Has(node, "modifiers")) return RefuseModifier(node);
    const std::string type = TextOf(node, "setop_type");
    if (!node.value("setop_all", false) || (type != "UNION" && type != "UNION_BY_NAME")) {
      return StandsInTheWay("has UNION, INTERSECT or EXCEPT");
    }
    const Scope* scope = Inside(node, outer);
    ICEPIE_RETURN_IF_ERROR(Query(node["left"], scope));
    return Query(node["right"], scope);
  }

  // Subqueries in expressions may look at their row, not at other records.
  absl::Status CheckSubqueries(const Json& node, const Scope* scope) const {
    for (const auto& [name, member] : node.items()) {
      if (name == "from_table" || name == "cte_map") continue;
      if (HasReadingSubquery(member, scope)) return StandsInTheWay("has a subquery");
    }
    return absl::OkStatus();
  }
  bool HasReadingSubquery(const Json& tree, const Scope* scope) const {
    if (IsClass(tree, "SUBQUERY")) return Reads(tree, scope);
    return AnyChild(tree, [&](const Json& child) { return HasReadingSubquery(child, scope); });
  }

  // Whether anything is read in the tree, directly or by way of a WITH query. What stands in the
  // tree's own WITH counts where it is written.
  bool Reads(const Json& tree, const Scope* scope) const {
    if (IsType(tree, "BASE_TABLE")) {
      const Scope* cte = Find(scope, tree);
      return cte == nullptr || Reads(*cte->query, cte->outer);
    }
    return AnyChild(tree, [&](const Json& child) { return Reads(child, scope); });
  }

  // How many records make a row of the relation: 0 or 1.
  absl::StatusOr<int> Relation(const Json& from, const Scope* scope) {
    if (IsType(from, "BASE_TABLE")) return Table(from, scope);
    if (IsType(from, "JOIN")) return Join(from, scope);
    if (IsType(from, "PIVOT")) return StandsInTheWay("has PIVOT");
    if (!Reads(from, scope)) return 0;
    if (!IsType(from, "SUBQUERY")) return StandsInTheWay("reads records in an unusual way");
    ICEPIE_RETURN_IF_ERROR(Query(from["subquery"]["node"], scope));
    return 1;
  }

  absl::StatusOr<int> Table(const Json& from, const Scope* scope) {
    if (const Scope* cte = Find(scope, from); cte != nullptr) {
      if (!Reads(*cte->query, cte->outer)) return 0;
      if (++cte_uses_ > kCteUsesMax) return StandsInTheWay("uses WITH queries too often");
      ICEPIE_RETURN_IF_ERROR(Query(*cte->query, cte->outer));
      return 1;
    }
    const std::string name = absl::AsciiStrToLower(TextOf(from, "table_name"));
    const SourceDef* source = request_.domain.definition.FindSource(name);
    if (source == nullptr) return StandsInTheWay(absl::StrCat("reads slice ", name));
    if (!source->latest_by.empty()) return StandsInTheWay(absl::StrCat("reads dimension ", name));
    shape_.reads.push_back(name);
    return 1;
  }

  absl::StatusOr<int> Join(const Json& from, const Scope* scope) {
    ICEPIE_ASSIGN_OR_RETURN(const int left, Relation(from["left"], scope));
    ICEPIE_ASSIGN_OR_RETURN(const int right, Relation(from["right"], scope));
    if (left + right > 1) return StandsInTheWay("has a join of records");
    if (HasReadingSubquery(from["condition"], scope)) return StandsInTheWay("has a subquery");
    if (left + right == 0) return 0;
    ICEPIE_RETURN_IF_ERROR(CheckPairing(from, left == 1));
    const std::string type = TextOf(from, "join_type");
    const bool alone = type == "INNER" || (type == "LEFT" && left == 1);
    return alone ? absl::StatusOr<int>(1) : StandsInTheWay(absl::StrCat("has a join: ", type));
  }

  const PlanRequest& request_;
  std::deque<Scope> scopes_;
  RowShape shape_;
  int cte_uses_ = 0;
};

// ORDER BY sum(i) aggregates, also where the select list does not.
bool OrdersByAggregate(const Json& node) {
  if (!Has(node, "modifiers")) return false;
  const Json& modifiers = node["modifiers"];
  return std::any_of(modifiers.begin(), modifiers.end(), [](const Json& modifier) {
    return !absl::StartsWith(TextOf(modifier, "type"), "LIMIT") && ContainsAggregate(modifier);
  });
}

absl::Status CheckInputs(const PlanRequest& request) {
  const SlicePlan& slice = request.slice;
  if (!slice.upstream.empty()) {
    return StandsInTheWay(absl::StrCat("reads slice ", absl::StrJoin(slice.upstream, ", ")));
  }
  // A part of a slice has no definition.
  const SliceDef* definition = request.domain.definition.FindSlice(slice.slice);
  if (definition != nullptr && definition->refresh.kind != RefreshDef::Kind::kContinuous) {
    return StandsInTheWay("is refreshed on a schedule");
  }
  return slice.sources.empty() ? StandsInTheWay("reads no source") : absl::OkStatus();
}

}  // namespace

absl::StatusOr<RowShape> FindRowShape(const PlanRequest& request, const Json& node) {
  ICEPIE_RETURN_IF_ERROR(CheckInputs(request));
  ShapeFinder finder(request);
  ICEPIE_RETURN_IF_ERROR(finder.Query(node, nullptr));
  return finder.Take();
}

absl::StatusOr<RowShape> FindGroupedShape(const PlanRequest& request, const Json& node) {
  ICEPIE_RETURN_IF_ERROR(CheckInputs(request));
  ShapeFinder finder(request);
  ICEPIE_RETURN_IF_ERROR(finder.Select(node, nullptr));
  return finder.Take();
}

std::string RowShape::Names() const {
  return absl::StrJoin(std::set<std::string>(reads.begin(), reads.end()), ", ");
}

bool IsAggregation(const Json& node) {
  return Has(node, "group_expressions") || Has(node, "group_sets") || Has(node, "having") ||
         TextOf(node, "aggregate_handling") != "STANDARD_HANDLING" ||
         ContainsAggregate(node["select_list"]) ||
         (Has(node, "qualify") && ContainsAggregate(node["qualify"])) || OrdersByAggregate(node);
}

bool IsDistinct(const Json& node) {
  const Json& modifiers = node["modifiers"];
  return modifiers.size() == 1 && IsType(modifiers[0], "DISTINCT_MODIFIER") &&
         !Has(modifiers[0], "distinct_on_targets");
}

Json WithoutOrder(const Json& statement, bool* dropped) {
  Json node = statement["node"];
  Json kept = Json::array();
  for (const Json& modifier : node["modifiers"]) {
    if (!IsType(modifier, "ORDER_MODIFIER")) kept.push_back(modifier);
  }
  *dropped = kept.size() < node["modifiers"].size();
  const bool aggregates = *dropped && IsType(node, "SELECT_NODE") && IsAggregation(node);
  node["modifiers"] = std::move(kept);
  if (aggregates && !IsAggregation(node)) {
    *dropped = false;
    return statement["node"];
  }
  if (*dropped && Has(node, "modifiers") && !IsDistinct(node)) {
    *dropped = false;
    return statement["node"];
  }
  return node;
}

}  // namespace icepie::slices
