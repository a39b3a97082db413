#include "slices/plan/expectation_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/definition/nearest_name.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/sql_binding.h"
#include "slices/plan/sql_gate.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {
namespace {

using Kind = ExpectationDef::Kind;

absl::Status Invalid(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, message, "DEFINITION_INVALID");
}

// DuckDB's names of columns are the same in any case; the result's own spelling is used.
absl::StatusOr<std::string> ColumnNamed(const std::string& name,
                                        const std::vector<OutputColumn>& columns) {
  std::vector<std::string> names;
  for (const OutputColumn& column : columns) {
    if (absl::EqualsIgnoreCase(column.name, name)) return QuoteIdentifier(column.name);
    names.push_back(column.name);
  }
  return Invalid(
      absl::StrCat("there is no output column \"", name, "\"", SuggestName(name, names)));
}

absl::StatusOr<std::vector<std::string>> ColumnsNamed(const std::vector<std::string>& names,
                                                      const std::vector<OutputColumn>& columns) {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    ICEPIE_ASSIGN_OR_RETURN(found.emplace_back(), ColumnNamed(name, columns));
  }
  return found;
}

// An unknown column in words that name those that there are.
absl::Status NameColumns(const absl::Status& error, const std::vector<OutputColumn>& columns) {
  std::optional<ErrorDetail> detail = GetErrorDetail(error);
  if (!detail.has_value() || detail->reason != "SQL_UNKNOWN_COLUMN") return error;
  const std::string name = detail->metadata["name"];
  std::vector<std::string> names;
  for (const OutputColumn& column : columns) names.push_back(column.name);
  return MakeError(error.code(),
                   absl::StrCat("there is no column \"", name, "\"", SuggestName(name, names)),
                   *detail);
}

std::string EachIs(const std::vector<std::string>& columns, absl::string_view is,
                   absl::string_view between) {
  return absl::StrJoin(columns, between, [&](std::string* out, const std::string& column) {
    absl::StrAppend(out, column, " ", is);
  });
}

// The accepted values as constants of the column's type.
std::string ValuesSql(const ExpectationDef& definition, const std::vector<OutputColumn>& columns) {
  std::string type = "VARCHAR";
  for (const OutputColumn& column : columns) {
    if (absl::EqualsIgnoreCase(column.name, definition.columns.front())) type = column.type;
  }
  std::vector<std::string> values;
  values.reserve(definition.values.size());
  for (const std::string& json : definition.values) {
    const nlohmann::json value = nlohmann::json::parse(json, nullptr, false);
    const std::string sql = value.is_string() ? QuoteLiteral(value.get<std::string>()) : json;
    values.push_back(absl::StrCat("CAST(", sql, " AS ", type, ")"));
  }
  return absl::StrJoin(values, ", ");
}

std::string RowCountSql(const ExpectationDef& definition) {
  std::vector<std::string> broken;
  if (definition.rows_min) broken.push_back(absl::StrCat("count(*) < ", *definition.rows_min));
  if (definition.rows_max) broken.push_back(absl::StrCat("count(*) > ", *definition.rows_max));
  return absl::StrCat("SELECT count(*) AS rows FROM slice HAVING ", absl::StrJoin(broken, " OR "));
}

absl::StatusOr<std::string> GatedSql(DuckConnection& connection, const ExpectationDef& definition) {
  GateOptions options;
  options.known = {"slice"};
  options.resolve = [](absl::string_view name) -> std::optional<RelationTarget> {
    if (name != "slice") return std::nullopt;
    return RelationTarget{"", "", "slice"};
  };
  const absl::StatusOr<GatedQuery> query = GateQuery(connection, definition.sql, options);
  if (query.ok()) return query->sql;
  if (ErrorReason(query.status()) != "SLICE_NOT_FOUND") return query.status();
  return Invalid(absl::StrCat(query.status().message(),
                              ": the SQL of an expectation reads the relation `slice`, the rows of "
                              "its own slice; for another one use relationships"));
}

absl::StatusOr<std::string> SqlOf(DuckConnection& connection, const ExpectationDef& definition,
                                  const std::vector<OutputColumn>& columns,
                                  const std::vector<OutputColumn>& to_columns) {
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<std::string> read,
                          ColumnsNamed(definition.columns, columns));
  switch (definition.kind) {
    case Kind::kNotNull:
      return absl::StrCat("SELECT * FROM slice WHERE ", EachIs(read, "IS NULL", " OR "));
    case Kind::kUnique:
      return absl::StrCat("SELECT ", absl::StrJoin(read, ", "), ", count(*) AS rows FROM slice ",
                          "WHERE ", EachIs(read, "IS NOT NULL", " AND "), " GROUP BY ",
                          absl::StrJoin(read, ", "), " HAVING count(*) > 1");
    case Kind::kAcceptedValues:
      return absl::StrCat("SELECT * FROM slice WHERE ", read.front(), " NOT IN (",
                          ValuesSql(definition, columns), ")");
    case Kind::kRelationships: {
      ICEPIE_ASSIGN_OR_RETURN(const std::string field, ColumnNamed(definition.field, to_columns));
      return absl::StrCat("SELECT s.* FROM slice AS s ANTI JOIN __to AS t ON s.", read.front(),
                          " = t.", field, " WHERE s.", read.front(), " IS NOT NULL");
    }
    case Kind::kRowCount:
      return RowCountSql(definition);
    case Kind::kSql:
      break;
  }
  return GatedSql(connection, definition);
}

// SELECT * or columns FROM slice WHERE …, the condition without a look at other rows.
bool IsRowCondition(const Json& statement) {
  const Json& node = statement["node"];
  if (!IsType(node, "SELECT_NODE") || !Has(node, "where_clause")) return false;
  for (const char* member : {"modifiers", "group_expressions", "having", "qualify", "sample"}) {
    if (Has(node, member)) return false;
  }
  if (Has(node["cte_map"], "map") || TextOf(node, "aggregate_handling") != "STANDARD_HANDLING") {
    return false;
  }
  const Json& list = node["select_list"];
  const bool plain = std::all_of(list.begin(), list.end(), [](const Json& item) {
    return IsClass(item, "STAR") || IsClass(item, "COLUMN_REF");
  });
  const std::string where = node["where_clause"].dump();
  return plain && IsType(node["from_table"], "BASE_TABLE") &&
         !absl::StrContains(where, "\"class\":\"SUBQUERY\"") &&
         !absl::StrContains(where, "\"class\":\"WINDOW\"");
}

bool IsByRow(DuckConnection& connection, const ExpectationDef& definition) {
  if (definition.kind == Kind::kNotNull || definition.kind == Kind::kAcceptedValues) return true;
  // One that only warns must not undo a batch because its SQL fails.
  if (definition.kind != Kind::kSql || definition.severity != ExpectationSeverity::kError) {
    return false;
  }
  const auto statement = ParseSelect(connection, definition.sql);
  return statement.ok() && IsRowCondition(*statement);
}

std::string CheckText(const ExpectationDef& definition) {
  const std::string columns = absl::StrJoin(definition.columns, ", ");
  switch (definition.kind) {
    case Kind::kNotNull:
      return absl::StrCat("not_null(", columns, ")");
    case Kind::kUnique:
      return absl::StrCat("unique(", columns, ")");
    case Kind::kAcceptedValues:
      return absl::StrCat("accepted_values(", columns, ": ", definition.values.size(), " values)");
    case Kind::kRelationships:
      return absl::StrCat("relationships(", columns, " → ", definition.to, ".", definition.field,
                          ")");
    case Kind::kRowCount: {
      const std::string min = definition.rows_min ? absl::StrCat(*definition.rows_min) : "";
      const std::string max = definition.rows_max ? absl::StrCat(*definition.rows_max) : "";
      return absl::StrCat("row_count(", min, "…", max, ")");
    }
    case Kind::kSql:
      break;
  }
  return "sql";
}

}  // namespace

absl::StatusOr<ExpectationPlan> PlanExpectation(DuckConnection& connection,
                                                const ExpectationDef& definition,
                                                const std::vector<OutputColumn>& columns,
                                                const std::vector<OutputColumn>& to_columns) {
  ExpectationPlan plan;
  plan.name = definition.name;
  plan.check = CheckText(definition);
  plan.severity = definition.severity;
  plan.to = definition.to;
  ICEPIE_ASSIGN_OR_RETURN(plan.sql, SqlOf(connection, definition, columns, to_columns));
  plan.by_row = IsByRow(connection, definition);
  plan.may_fail = definition.kind == Kind::kSql;
  const absl::Status bound = BindSelect(connection, plan.sql).status();
  if (!bound.ok()) return NameColumns(bound, columns);
  if (definition.kind != Kind::kAcceptedValues) return plan;
  // A value that is not of the column's type shows when it is computed.
  const absl::Status run = connection.Run(absl::StrCat("SELECT ", ValuesSql(definition, columns)));
  if (!run.ok()) return BindError(run);
  return plan;
}

}  // namespace icepie::slices
