#include "slices/plan/retract_plan.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/plan/aggregate_plan.h"
#include "slices/plan/change_feed.h"
#include "slices/plan/function_list.h"
#include "slices/plan/partial_states.h"
#include "slices/plan/row_shape.h"
#include "slices/plan/sql_binding.h"

namespace icepie::slices {
namespace {

bool ReadsColumn(const Json& tree) {
  if (IsClass(tree, "COLUMN_REF")) return true;
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(), ReadsColumn);
}

// One call: what is aggregated, and which rows.
struct Call {
  std::string name;
  std::string argument;
  std::string filter;  // "" or "(…) AND "
};

class Retractor {
 public:
  // `from`: what the SQL calls the upstream slice, quoted.
  Retractor(DuckConnection& connection, std::string upstream, std::string from)
      : connection_(connection), upstream_(std::move(upstream)), from_(std::move(from)) {}

  // Replaces every aggregate in `node`.
  absl::Status Replace(Json& node);
  // Rows that are left in the group.
  std::string Live() const { return Difference("count(*)", ""); }

 private:
  absl::StatusOr<std::string> Retractable(const Call& call) const;
  absl::StatusOr<std::string> Sum(const Call& call) const;
  absl::StatusOr<std::string> Average(const Call& call) const;
  absl::StatusOr<std::string> TypeOf(const std::string& sql) const;
  std::string Over(const std::string& aggregate, const std::string& filter,
                   absl::string_view sign) const;
  std::string Difference(const std::string& aggregate, const std::string& filter) const;
  std::string SumLeft(const Call& call, bool whole) const;

  DuckConnection& connection_;
  const std::string upstream_;
  const std::string from_;
};

std::string Retractor::Over(const std::string& aggregate, const std::string& filter,
                            absl::string_view sign) const {
  return absl::StrCat(aggregate, " FILTER (WHERE ", filter, kSignColumn, sign, " 0)");
}

std::string Retractor::Difference(const std::string& aggregate, const std::string& filter) const {
  return absl::StrCat("(", Over(aggregate, filter, " >"), " - ", Over(aggregate, filter, " <"),
                      ")");
}

// What went is taken off in the sum itself: all that ever came, apart, would leave the range of the
// type, though what is left does not. What one batch adds may still leave it on the way. A whole
// number is made wide first: the smallest BIGINT has no negative.
std::string Retractor::SumLeft(const Call& call, bool whole) const {
  const std::string value = whole ? absl::StrCat("CAST(", call.argument, " AS HUGEINT)")
                                  : absl::StrCat("(", call.argument, ")");
  const std::string filter =
      call.filter.empty() ? "" : absl::StrCat(" FILTER (WHERE ", call.filter, "true)");
  return absl::StrCat("sum(CASE WHEN ", kSignColumn, " > 0 THEN ", value, " ELSE -", value, " END)",
                      filter);
}

absl::StatusOr<std::string> Retractor::TypeOf(const std::string& sql) const {
  ICEPIE_ASSIGN_OR_RETURN(
      const std::vector<OutputColumn> bound,
      BindSelect(connection_, absl::StrCat("SELECT ", sql, " FROM ", QuoteIdentifier(upstream_),
                                           " AS ", from_)));
  return bound.front().type;
}

absl::StatusOr<std::string> Retractor::Sum(const Call& call) const {
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, TypeOf(absl::StrCat("sum(", call.argument, ")")));
  if (type != "HUGEINT" && !absl::StartsWith(type, "DECIMAL(38,")) {
    return StandsInTheWay(absl::StrCat("sums ", type, ", which cannot be taken back exactly"));
  }
  return absl::StrCat("CASE WHEN ",
                      Difference(absl::StrCat("count(", call.argument, ")"), call.filter),
                      " > 0 THEN CAST(", SumLeft(call, type == "HUGEINT"), " AS ", type, ") END");
}

absl::StatusOr<std::string> Retractor::Average(const Call& call) const {
  static const auto* const kWhole = new std::set<std::string>{
      "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"};
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, TypeOf(call.argument));
  const bool decimal = absl::StartsWith(type, "DECIMAL(");
  if (!decimal && kWhole->count(type) == 0) {
    return StandsInTheWay(absl::StrCat("has avg() of ", type, ", which cannot be taken back"));
  }
  const std::string count = Difference(absl::StrCat("count(", call.argument, ")"), call.filter);
  ICEPIE_ASSIGN_OR_RETURN(const std::string average,
                          ExactAverage(decimal ? type : "BIGINT", SumLeft(call, !decimal), count));
  return absl::StrCat("CASE WHEN ", count, " > 0 THEN ", average, " END");
}

absl::StatusOr<std::string> Retractor::Retractable(const Call& call) const {
  if (call.name == "count_star" || (call.name == "count" && call.argument.empty())) {
    return Difference("count(*)", call.filter);
  }
  if (call.name == "count") {
    return Difference(absl::StrCat("count(", call.argument, ")"), call.filter);
  }
  if (call.name == "sum") return Sum(call);
  if (call.name == "avg" || call.name == "mean") return Average(call);
  return StandsInTheWay(absl::StrCat("has ", call.name, "(), which cannot be taken back"));
}

absl::Status Retractor::Replace(Json& node) {
  if (!node.is_structured()) return absl::OkStatus();
  if (!IsFunctionOf(node, FunctionKind::kAggregate)) {
    for (Json& child : node) ICEPIE_RETURN_IF_ERROR(Replace(child));
    return absl::OkStatus();
  }
  Call call;
  call.name = TextOf(node, "function_name");
  if (node.value("distinct", false) || Has(node["order_bys"], "orders") ||
      node["children"].size() > 1) {
    return StandsInTheWay(absl::StrCat("has ", call.name, "(), which cannot be taken back"));
  }
  for (const Json& child : node["children"]) {
    ICEPIE_ASSIGN_OR_RETURN(call.argument, ExpressionToSql(connection_, child));
  }
  if (Has(node, "filter")) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string filter, ExpressionToSql(connection_, node["filter"]));
    call.filter = absl::StrCat("(", filter, ") AND ");
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::string sql, Retractable(call));
  ICEPIE_ASSIGN_OR_RETURN(Json replaced, ParseExpression(connection_, sql));
  replaced["alias"] = TextOf(node, "alias");
  node = std::move(replaced);
  return absl::OkStatus();
}

// Whether there are groups, and not one of everything.
bool HasKeys(const Json& node) {
  if (Has(node, "group_expressions")) return true;
  if (TextOf(node, "aggregate_handling") != "FORCE_AGGREGATES") return false;
  const Json& items = node["select_list"];
  return std::any_of(items.begin(), items.end(), [](const Json& item) {
    return !ContainsAggregate(item) && ReadsColumn(item);
  });
}

// Groups of which no row is left do not appear.
absl::Status DropDeadGroups(DuckConnection& connection, Json& node, const std::string& live) {
  ICEPIE_ASSIGN_OR_RETURN(Json alive, ParseExpression(connection, absl::StrCat(live, " > 0")));
  if (!Has(node, "having")) {
    node["having"] = std::move(alive);
    return absl::OkStatus();
  }
  Json both = {{"class", "CONJUNCTION"},
               {"type", "CONJUNCTION_AND"},
               {"alias", ""},
               {"query_location", UINT64_MAX},
               {"children", Json::array({std::move(node["having"]), std::move(alive)})}};
  node["having"] = std::move(both);
  return absl::OkStatus();
}

// The upstream slice's changes as a source.
SourceDef ChangesSource(const SlicePlan& upstream) {
  SourceDef source;
  source.name = ChangesOf(upstream.slice);
  for (const OutputColumn& column : upstream.columns) {
    ColumnDef& declared = source.columns.emplace_back();
    declared.name = column.name;
    declared.type = column.type;
  }
  source.columns.emplace_back().name = kSignColumn;
  source.columns.back().type = kSignType;
  return source;
}

// The statement over the changes, in aggregates that only grow.
absl::StatusOr<Json> Rewritten(const PlanRequest& request, Retractor& retractor, bool keyed) {
  Json statement = request.statement;
  Json& node = statement["node"];
  Json& items = node["select_list"];
  // The alias keeps the name that the column had.
  for (size_t i = 0; i < items.size() && items.size() == request.slice.columns.size(); ++i) {
    if (TextOf(items[i], "alias").empty() && IsFunctionOf(items[i], FunctionKind::kAggregate)) {
      items[i]["alias"] = request.slice.columns[i].name;
    }
  }
  ICEPIE_RETURN_IF_ERROR(retractor.Replace(items));
  ICEPIE_RETURN_IF_ERROR(retractor.Replace(node["having"]));
  if (keyed) ICEPIE_RETURN_IF_ERROR(DropDeadGroups(request.connection, node, retractor.Live()));
  Json& from = node["from_table"];
  if (TextOf(from, "alias").empty()) from["alias"] = TextOf(from, "table_name");
  from["table_name"] = ChangesOf(request.slice.upstream.front());
  return statement;
}

// Deletes the groups of which no row is left: the state of what came is that of what went.
absl::Status AddDeletion(DuckConnection& connection, SliceStatements& statements) {
  const auto column_of = [&](absl::string_view sign) -> absl::StatusOr<std::string> {
    ICEPIE_ASSIGN_OR_RETURN(
        const Json condition,
        ParseExpression(connection, absl::StrCat(kSignColumn, " ", sign, " 0")));
    ICEPIE_ASSIGN_OR_RETURN(const std::string text, ExpressionToSql(connection, condition));
    const std::string sql = absl::StrCat("count(*) FILTER (WHERE ", text, ")");
    for (const auto& [partial, column] : statements.partials) {
      if (partial == sql) return column;
    }
    return StandsInTheWay(absl::StrCat("no partial state is ", sql));
  };
  ICEPIE_ASSIGN_OR_RETURN(const std::string came, column_of(">"));
  ICEPIE_ASSIGN_OR_RETURN(const std::string went, column_of("<"));
  statements.apply.push_back({absl::StrCat("DELETE FROM __state WHERE ", came, " = ", went), ""});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SliceStatements> PlanRetract(const PlanRequest& request) {
  ICEPIE_ASSIGN_OR_RETURN(const SlicePlan* upstream, OnlyUpstream(request));
  const Json& node = request.statement["node"];
  if (!IsType(node, "SELECT_NODE") || !IsType(node["from_table"], "BASE_TABLE") ||
      !IsAggregation(node)) {
    return OtherKind("does not group the slice's rows");
  }
  if (Has(node["cte_map"], "map")) return StandsInTheWay("has WITH over a slice");
  if (node["group_sets"].size() > 1) {
    return StandsInTheWay("has GROUPING SETS, ROLLUP or CUBE over a slice");
  }
  bool ordered = false;
  WithoutOrder(request.statement, &ordered);
  const bool keyed = HasKeys(node);
  const Json& from = node["from_table"];
  const std::string alias =
      TextOf(from, "alias").empty() ? TextOf(from, "table_name") : TextOf(from, "alias");
  Retractor retractor(request.connection, upstream->slice, QuoteIdentifier(alias));
  ICEPIE_ASSIGN_OR_RETURN(const Json statement, Rewritten(request, retractor, keyed));
  DomainPlan domain = request.domain;
  domain.definition.sources.push_back(ChangesSource(*upstream));
  SlicePlan slice = request.slice;
  slice.upstream.clear();
  slice.sources = {{ChangesOf(upstream->slice), {}}};
  ICEPIE_ASSIGN_OR_RETURN(
      SliceStatements statements,
      PlanAggregate({request.connection, domain, request.sql, statement, slice}));
  if (keyed) ICEPIE_RETURN_IF_ERROR(AddDeletion(request.connection, statements));
  statements.clear = {{"DELETE FROM __state", ""}};
  if (!keyed) statements.clear.push_back({statements.create.back(), ""});
  statements.why = absl::StrCat("takes back and adds the rows of slice ", upstream->slice,
                                " that a batch changes",
                                ordered ? "; ORDER BY is dropped: a slice is a set" : "");
  statements.reads_changes = true;
  return statements;
}

}  // namespace icepie::slices
