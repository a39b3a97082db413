#include "slices/append_plan.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/function_list.h"
#include "slices/retain_plan.h"
#include "slices/row_shape.h"
#include "slices/sql_binding.h"

namespace icepie::slices {
namespace {

// The SQL without its ORDER BY. What is written anew must still give the same types.
absl::StatusOr<std::string> Unordered(const PlanRequest& request, const Json& node) {
  Json statement = request.statement;
  statement["node"] = node;
  ICEPIE_ASSIGN_OR_RETURN(const std::string sql,
                          SelectToSql(request.connection, std::move(statement)));
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<OutputColumn> bound,
                          BindSelect(request.connection, sql));
  const std::vector<OutputColumn>& columns = request.slice.columns;
  const bool same = std::equal(bound.begin(), bound.end(), columns.begin(), columns.end(),
                               [](const auto& a, const auto& b) { return a.type == b.type; });
  return same ? absl::StatusOr<std::string>(sql)
              : StandsInTheWay("has ORDER BY and other types without it");
}

// A SELECT of how many of a batch's records come late; "" where a record may make several rows, or
// its ingest time cannot be named beside them.
absl::StatusOr<std::string> LateRecords(const PlanRequest& request, Json node,
                                        const RetainDef& retain) {
  const bool unnests = AnyNode(node["select_list"], [](const Json& each) {
    return IsFunctionOf(each, FunctionKind::kUnnest);
  });
  const bool plain = IsType(node, "SELECT_NODE") && IsType(node["from_table"], "BASE_TABLE") &&
                     !Has(node["cte_map"], "map") && !unnests;
  if (!plain) return "";
  const auto& columns = request.slice.columns;
  const auto column = std::find_if(columns.begin(), columns.end(), [&](const OutputColumn& each) {
    return absl::EqualsIgnoreCase(each.name, retain.column);
  });
  if (column == columns.end()) return "";
  ICEPIE_ASSIGN_OR_RETURN(Json time, ParseExpression(request.connection, "_time AS __ingested"));
  node["select_list"].push_back(std::move(time));
  Json statement = request.statement;
  statement["node"] = std::move(node);
  ICEPIE_ASSIGN_OR_RETURN(const std::string rows,
                          SelectToSql(request.connection, std::move(statement)));
  std::string late =
      absl::StrCat("SELECT count(*) FROM (", rows, ") WHERE ",
                   IsLate(retain, QuoteIdentifier(column->name), column->type, "__ingested"));
  // A name that DuckDB made up may be another in rewritten text.
  return BindSelect(request.connection, late).ok() ? late : "";
}

}  // namespace

absl::StatusOr<SliceStatements> PlanAppend(const PlanRequest& request) {
  bool ordered = false;
  const Json node = WithoutOrder(request.statement, &ordered);
  if (IsType(node, "SELECT_NODE") && IsAggregation(node)) return OtherKind("groups records");
  if (IsDistinct(node)) return OtherKind("has DISTINCT");
  ICEPIE_ASSIGN_OR_RETURN(const RowShape shape, FindRowShape(request, node));
  std::string sql = request.sql;
  if (ordered) {
    ICEPIE_ASSIGN_OR_RETURN(sql, Unordered(request, node));
  }
  SliceStatements statements;
  statements.why =
      absl::StrCat("filters and projects records of ", shape.Names(), ", each for itself",
                   ordered ? "; ORDER BY is dropped: a slice is a set" : "");
  statements.create = CreateDataTable(request.slice.columns);
  statements.apply = {{absl::StrCat("INSERT INTO __data\n", sql)}};
  statements.touched.after = "SELECT * FROM __batch";
  const SliceDef& slice = *request.domain.definition.FindSlice(request.slice.slice);
  if (slice.retain) {
    statements.retained = {{"__data", QuoteIdentifier(slice.retain->column), ""}};
    ICEPIE_ASSIGN_OR_RETURN(statements.count_late, LateRecords(request, node, *slice.retain));
  }
  return statements;
}

}  // namespace icepie::slices
