#include "slices/plan/components_plan.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/plan/change_feed.h"
#include "slices/plan/components.h"
#include "slices/plan/fallible_expression.h"
#include "slices/plan/key_shape.h"
#include "slices/plan/sql_binding.h"

namespace icepie::slices {
namespace {

constexpr char kStateRows[] = "SELECT {'node': node, 'cluster': cluster} AS c FROM __state";

bool IsCall(const Json& node, absl::string_view name) {
  return IsClass(node, "FUNCTION") && absl::AsciiStrToLower(TextOf(node, "function_name")) == name;
}

bool ContainsCall(const Json& tree, absl::string_view name) {
  if (IsCall(tree, name)) return true;
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(), [&](const Json& child) {
           return ContainsCall(child, name);
         });
}

bool ContainsAnyClass(const Json& tree, absl::string_view expression_class) {
  if (IsClass(tree, expression_class)) return true;
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(), [&](const Json& child) {
           return ContainsAnyClass(child, expression_class);
         });
}

// A SELECT of one relation without anything that needs all rows at once.
absl::Status CheckPlain(const Json& node) {
  if (!IsType(node, "SELECT_NODE")) return StandsInTheWay("combines queries around components()");
  const bool more = Has(node["cte_map"], "map") || Has(node, "modifiers") || Has(node, "qualify") ||
                    Has(node, "sample");
  if (more) return StandsInTheWay("has WITH, DISTINCT, ORDER BY or LIMIT around components()");
  for (const char* part : {"select_list", "where_clause", "group_expressions", "having"}) {
    if (ContainsAnyClass(node[part], "SUBQUERY") || ContainsAnyClass(node[part], "WINDOW")) {
      return StandsInTheWay("has a subquery or a window beside components()");
    }
  }
  return absl::OkStatus();
}

// The call in SELECT unnest(components(a, b)) AS c FROM source WHERE …; null when `node` is not so.
const Json* FindEdges(const Json& node) {
  if (!IsType(node, "SELECT_NODE") || node["select_list"].size() != 1) return nullptr;
  const Json& unnest = node["select_list"][0];
  if (!IsCall(unnest, "unnest") || unnest["children"].size() != 1) return nullptr;
  if (TextOf(unnest, "alias").empty()) return nullptr;
  const Json& call = unnest["children"][0];
  const bool grouped = Has(node, "group_expressions") || Has(node, "having") ||
                       TextOf(node, "aggregate_handling") != "STANDARD_HANDLING";
  const bool plain = IsCall(call, kComponents) && call["children"].size() == 2 && !grouped &&
                     IsType(node["from_table"], "BASE_TABLE");
  return plain ? &call : nullptr;
}

class ComponentsPlanner {
 public:
  explicit ComponentsPlanner(const PlanRequest& request) : request_(request) {}

  absl::StatusOr<SliceStatements> Plan() {
    const Json& node = request_.statement["node"];
    ICEPIE_RETURN_IF_ERROR(CheckPlain(node));
    direct_ = FindEdges(node) != nullptr;
    inner_ = direct_ ? node : node["from_table"].value("subquery", Json())["node"];
    const Json* call = inner_.is_object() ? FindEdges(inner_) : nullptr;
    if (call == nullptr) {
      return StandsInTheWay("groups components(), or has it beside other columns");
    }
    ICEPIE_RETURN_IF_ERROR(CheckInput());
    ICEPIE_RETURN_IF_ERROR(CheckPlain(inner_));
    ICEPIE_RETURN_IF_ERROR(ReadEdges(*call));
    SliceStatements statements;
    statements.why =
        upstream_ == nullptr
            ? absl::StrCat("connects the edges in records of ", source_,
                           " with the clusters there are")
            : absl::StrCat(
                  "connects the edges that slice ", source_,
                  " gets with the clusters there are; when it loses one, all are connected anew");
    ICEPIE_ASSIGN_OR_RETURN(statements.create, Create());
    // Nothing would look at it before somebody asks.
    if (!direct_ && OuterMayFail(node)) {
      return StandsInTheWay("computes of clusters what may fail");
    }
    statements.apply = Apply();
    statements.reads_changes = upstream_ != nullptr;
    statements.clear = {{"DELETE FROM __state"}};
    return statements;
  }

 private:
  absl::Status CheckInput() {
    const SlicePlan& slice = request_.slice;
    if (!slice.upstream.empty()) {
      ICEPIE_ASSIGN_OR_RETURN(upstream_, OnlyUpstream(request_));
      source_ = upstream_->slice;
      return absl::OkStatus();
    }
    const SliceDef* definition = request_.domain.definition.FindSlice(slice.slice);
    if (definition->refresh.kind != RefreshDef::Kind::kContinuous) {
      return StandsInTheWay("is refreshed on a schedule");
    }
    if (slice.sources.size() != 1) return StandsInTheWay("does not read one source");
    source_ = slice.sources.front().source;
    const SourceDef* source = request_.domain.definition.FindSource(source_);
    if (source->latest_by.empty()) return absl::OkStatus();
    return StandsInTheWay(absl::StrCat("reads dimension ", source_));
  }

  // SELECT a, b of the edges, of the type that the nodes have.
  absl::Status ReadEdges(const Json& call) {
    if (call.value("distinct", false) || Has(call, "filter")) {
      return StandsInTheWay("has components() with DISTINCT or FILTER (use WHERE)");
    }
    Json edges = inner_;
    Json items = Json::array();
    ICEPIE_ASSIGN_OR_RETURN(node_type_, NodeType());
    for (size_t i = 0; i < 2; ++i) {
      ICEPIE_ASSIGN_OR_RETURN(const std::string end,
                              ExpressionToSql(request_.connection, call["children"][i]));
      ICEPIE_ASSIGN_OR_RETURN(Json item,
                              ParseExpression(request_.connection,
                                              absl::StrCat("CAST(", end, " AS ", node_type_, ")")));
      item["alias"] = i == 0 ? "a" : "b";
      items.push_back(std::move(item));
    }
    edges["select_list"] = std::move(items);
    ICEPIE_ASSIGN_OR_RETURN(edges_, ToSql(edges));
    if (upstream_ == nullptr) return absl::OkStatus();
    Json& from = edges["from_table"];
    if (TextOf(from, "alias").empty()) from["alias"] = TextOf(from, "table_name");
    from["table_name"] = ChangesOf(source_);
    edges["select_list"].push_back(ColumnReference(kSignColumn));
    ICEPIE_ASSIGN_OR_RETURN(changed_edges_, ToSql(std::move(edges)));
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> NodeType() {
    ICEPIE_ASSIGN_OR_RETURN(const std::string sql, ToSql(inner_));
    const std::string alias = QuoteIdentifier(TextOf(inner_["select_list"][0], "alias"));
    ICEPIE_ASSIGN_OR_RETURN(
        const std::vector<OutputColumn> bound,
        BindSelect(request_.connection,
                   absl::StrCat("SELECT struct_extract(", alias, ", 'node') FROM (", sql, ")")));
    return bound.front().type;
  }

  bool OuterMayFail(const Json& outer) {
    const auto type_of = [&](const Json& part) -> std::string {
      Json typed = inner_;
      typed["select_list"] = Json::array({part});
      typed["from_table"] = outer["from_table"];
      typed["where_clause"] = Json();
      const auto sql = ToSql(std::move(typed));
      const auto bound = sql.ok() ? BindSelect(request_.connection, *sql)
                                  : absl::StatusOr<std::vector<OutputColumn>>(sql.status());
      return bound.ok() ? bound->front().type : "";
    };
    return MayFailFromRows(outer["select_list"], type_of) ||
           MayFailFromRows(outer["where_clause"], type_of) ||
           MayFailFromRows(outer["group_expressions"], type_of) ||
           MayFailFromRows(outer["having"], type_of);
  }

  absl::StatusOr<std::string> ToSql(Json node) {
    Json statement = request_.statement;
    statement["node"] = std::move(node);
    return SelectToSql(request_.connection, std::move(statement));
  }

  // The user's SELECT, over the state instead of the edges.
  absl::StatusOr<std::vector<std::string>> Create() {
    ICEPIE_ASSIGN_OR_RETURN(Json rows, ParseSelect(request_.connection, kStateRows));
    rows["node"]["select_list"][0]["alias"] = inner_["select_list"][0]["alias"];
    Json outer = rows["node"];
    if (!direct_) {
      outer = request_.statement["node"];
      outer["from_table"]["subquery"]["node"] = std::move(rows["node"]);
    }
    ICEPIE_ASSIGN_OR_RETURN(const std::string sql, ToSql(std::move(outer)));
    return std::vector<std::string>{
        absl::StrCat("CREATE TABLE __state (node ", node_type_, ", cluster ", node_type_, ")"),
        absl::StrCat("CREATE VIEW __result AS ", sql)};
  }

  static std::string Distinct(const std::string& edges) {
    return absl::StrCat("SELECT DISTINCT a, b FROM (", edges,
                        ") WHERE a IS NOT NULL AND b IS NOT NULL");
  }

  // What the edges come from. Of a slice: those of which there are more rows than before. Where
  // there are fewer, it is looked whether any is left; if one has gone, the state is made anew.
  std::vector<ApplyStatement> TakeEdges() const {
    if (upstream_ == nullptr) {
      return {{absl::StrCat("CREATE OR REPLACE TEMP TABLE __edges AS ", Distinct(edges_))}};
    }
    static constexpr char kFewer[] = "SELECT 1 FROM __net WHERE n < 0 LIMIT 1";
    static constexpr char kGone[] = "SELECT 1 FROM __gone LIMIT 1";
    return {
        {absl::StrCat("CREATE OR REPLACE TEMP TABLE __net AS SELECT a, b, sum(", kSignColumn,
                      ") AS n FROM (", changed_edges_,
                      ") WHERE a IS NOT NULL AND b IS NOT NULL GROUP BY a, b HAVING n <> 0")},
        {"CREATE OR REPLACE TEMP TABLE __edges AS SELECT a, b FROM __net WHERE n > 0"},
        {"CREATE OR REPLACE TEMP TABLE __gone AS SELECT a, b FROM __net LIMIT 0"},
        {absl::StrCat("INSERT INTO __gone SELECT g.a, g.b FROM __net AS g ANTI JOIN (", edges_,
                      ") AS e ON g.a = e.a AND g.b = e.b WHERE g.n < 0"),
         kFewer},
        {"DELETE FROM __state", kGone},
        {absl::StrCat("CREATE OR REPLACE TEMP TABLE __edges AS ", Distinct(edges_)), kGone},
    };
  }

  std::vector<ApplyStatement> Apply() const {
    static constexpr char kEnds[] = "SELECT a AS node FROM __edges UNION SELECT b FROM __edges";
    static constexpr char kAny[] = "SELECT 1 FROM __edges LIMIT 1";
    std::vector<ApplyStatement> apply = TakeEdges();
    const std::vector<ApplyStatement> connect = {
        {absl::StrCat("CREATE OR REPLACE TEMP TABLE __known AS SELECT s.node, s.cluster "
                      "FROM __state AS s WHERE s.node IN (",
                      kEnds, ")"),
         ""},
        {"CREATE OR REPLACE TEMP TABLE __joined AS SELECT c.node AS label, c.cluster FROM (SELECT "
         "unnest(components(coalesce(x.cluster, e.a), coalesce(y.cluster, e.b))) AS c FROM __edges "
         "AS e LEFT JOIN __known AS x ON x.node = e.a LEFT JOIN __known AS y ON y.node = e.b)",
         ""},
        {"UPDATE __state AS s SET cluster = j.cluster FROM __joined AS j WHERE s.cluster = j.label "
         "AND j.cluster <> j.label",
         "SELECT 1 FROM __joined AS j WHERE j.cluster <> j.label AND j.label IN (SELECT cluster "
         "FROM __known) LIMIT 1"},
        {absl::StrCat("INSERT INTO __state SELECT n.node, j.cluster FROM (", kEnds,
                      ") AS n JOIN __joined AS j ON j.label = n.node WHERE n.node NOT IN (SELECT "
                      "node FROM __known)"),
         kAny},
    };
    apply.insert(apply.end(), connect.begin(), connect.end());
    return apply;
  }

  const PlanRequest& request_;
  bool direct_ = false;
  Json inner_;
  std::string source_;
  std::string node_type_;
  const SlicePlan* upstream_ = nullptr;  // whose rows are the edges, when no source's are
  std::string edges_;
  std::string changed_edges_;  // with their sign
};

}  // namespace

absl::StatusOr<SliceStatements> PlanComponents(const PlanRequest& request) {
  if (!ContainsCall(request.statement, kComponents)) return OtherKind("has no components()");
  return ComponentsPlanner(request).Plan();
}

}  // namespace icepie::slices
