#include "slices/plan/append_plan.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/plan/function_list.h"
#include "slices/plan/retain_plan.h"
#include "slices/plan/row_shape.h"
#include "slices/plan/sql_binding.h"

namespace icepie::slices {
namespace {

constexpr char kIngested[] = "__ingested";

// Written anew, the SQL must still give the same types; more columns may stand behind them.
bool HasTypesOf(const std::vector<OutputColumn>& bound, const std::vector<OutputColumn>& columns) {
  return bound.size() >= columns.size() &&
         std::equal(columns.begin(), columns.end(), bound.begin(),
                    [](const auto& a, const auto& b) { return a.type == b.type; });
}

absl::StatusOr<std::string> NodeToSql(const PlanRequest& request, const Json& node) {
  Json statement = request.statement;
  statement["node"] = node;
  return SelectToSql(request.connection, std::move(statement));
}

// The SQL without its ORDER BY.
absl::StatusOr<std::string> Unordered(const PlanRequest& request, const Json& node) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string sql, NodeToSql(request, node));
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<OutputColumn> bound,
                          BindSelect(request.connection, sql));
  if (HasTypesOf(bound, request.slice.columns)) return sql;
  return StandsInTheWay("has ORDER BY and other types without it");
}

// Counts the records of a batch that come late: its rows are stored in between, each with the
// ingest time of its record. Not where a record may make several rows, or its ingest time cannot be
// named beside them.
absl::Status AddLateCount(const PlanRequest& request, Json node, const RetainDef& retain,
                          SliceStatements& statements) {
  const bool unnests = AnyNode(node["select_list"], [](const Json& each) {
    return IsFunctionOf(each, FunctionKind::kUnnest);
  });
  const bool plain = IsType(node, "SELECT_NODE") && IsType(node["from_table"], "BASE_TABLE") &&
                     !Has(node["cte_map"], "map") && !unnests;
  if (!plain) return absl::OkStatus();
  const auto& columns = request.slice.columns;
  const auto find = [&columns](absl::string_view name) {
    return std::find_if(columns.begin(), columns.end(), [name](const OutputColumn& each) {
      return absl::EqualsIgnoreCase(each.name, name);
    });
  };
  const auto column = find(retain.column);
  if (column == columns.end() || find(kIngested) != columns.end()) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(
      Json time, ParseExpression(request.connection, absl::StrCat("_time AS ", kIngested)));
  node["select_list"].push_back(std::move(time));
  ICEPIE_ASSIGN_OR_RETURN(const std::string rows, NodeToSql(request, node));
  // A name that DuckDB made up may be another in rewritten text.
  const absl::StatusOr<std::vector<OutputColumn>> bound = BindSelect(request.connection, rows);
  if (IsPassing(bound.status())) return bound.status();
  if (!bound.ok() || !HasTypesOf(*bound, columns)) return absl::OkStatus();
  const OutputColumn& time_column = (*bound)[column - columns.begin()];
  statements.apply = {
      {rows, "", "__batch"},
      {absl::StrCat("INSERT INTO __data SELECT * EXCLUDE (", kIngested, ") FROM __batch")}};
  statements.count_late =
      absl::StrCat("SELECT count(*) FROM __batch WHERE ",
                   IsLate(retain, QuoteIdentifier(time_column.name), time_column.type, kIngested));
  return absl::OkStatus();
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
    ICEPIE_RETURN_IF_ERROR(AddLateCount(request, node, *slice.retain, statements));
  }
  return statements;
}

}  // namespace icepie::slices
