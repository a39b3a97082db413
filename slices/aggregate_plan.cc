#include "slices/aggregate_plan.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/function_list.h"
#include "slices/row_shape.h"
#include "slices/sql_binding.h"

namespace icepie::slices {
namespace {

// avg(DECIMAL) needs 10^scale twice within 38 digits.
constexpr int kAverageScaleMax = 18;
// Aliases may name aliases; the binder accepts no cycles, the bound is for safety.
constexpr int kAliasDepthMax = 32;

bool IsAggregateCall(const Json& node) {
  if (!IsClass(node, "FUNCTION")) return false;
  const AllowedFunction* function = FindFunction(TextOf(node, "function_name"));
  return function != nullptr && function->kind == FunctionKind::kAggregate;
}

bool IsUnnest(const Json& node) {
  if (!IsClass(node, "FUNCTION")) return false;
  const AllowedFunction* function = FindFunction(TextOf(node, "function_name"));
  return function != nullptr && function->kind == FunctionKind::kUnnest;
}

bool ContainsColumn(const Json& tree) {
  if (IsClass(tree, "COLUMN_REF")) return true;
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(), ContainsColumn);
}

struct Partial {
  std::string sql;   // over the batch's records
  std::string type;  // of the state column
  std::string fold;  // of t.$ (state) and b.$ (batch)
};

struct Key {
  Json tree;
  std::string sql;
};

class AggregatePlanner {
 public:
  AggregatePlanner(DuckConnection& connection, const Json& node, const SourceDef& source,
                   const std::vector<OutputColumn>& columns)
      : connection_(connection), node_(node), source_(source), columns_(columns) {}

  absl::StatusOr<SliceStatements> Plan();

 private:
  // An expression as it is compared and written: no places, no aliases, columns without their
  // relation's name, select aliases replaced by what they stand for.
  absl::StatusOr<Json> Normal(const Json& expression, bool having, int depth = 0);
  absl::StatusOr<Json> NormalColumn(const Json& column, bool having, int depth);
  bool IsSourceColumn(const std::string& name) const;
  const Json* FindAlias(const std::string& name) const;

  absl::Status FindKeys();
  absl::Status AddKey(const Json& expression);
  absl::StatusOr<const Json*> GroupItem(const Json& expression) const;
  int KeyIndex(const Json& tree) const;

  // The expression over the state's columns.
  absl::StatusOr<Json> Final(const Json& expression);
  absl::StatusOr<Json> FinalAggregate(const Json& call);
  absl::StatusOr<std::string> FinalSql(const Json& expression, bool having);
  absl::StatusOr<std::string> FinalOf(const std::string& name, const std::string& argument,
                                      const std::string& filter);
  absl::StatusOr<std::string> Average(const std::string& argument, const std::string& filter);
  absl::StatusOr<std::string> MinMax(const std::string& name, const std::string& argument,
                                     const std::string& filter);
  absl::StatusOr<std::string> Sum(const std::string& argument, const std::string& filter);
  std::string Count(const std::string& argument, const std::string& filter);
  std::string AddPartial(Partial partial);
  absl::StatusOr<std::string> TypeOf(const std::string& sql);

  absl::StatusOr<std::vector<std::string>> Create();
  absl::StatusOr<std::string> ResultView();
  absl::StatusOr<std::vector<ApplyStatement>> Fold();
  std::string BatchSelect(const std::string& where) const;
  std::vector<ApplyStatement> FoldByKey(const std::string& batch) const;
  std::string Merge(const std::string& batch, const std::string& comparison) const;
  std::string Update(const std::string& batch) const;
  std::vector<std::string> Assignments() const;
  std::string Why() const;

  DuckConnection& connection_;
  const Json& node_;
  const SourceDef& source_;
  const std::vector<OutputColumn>& columns_;
  std::vector<Key> keys_;
  std::vector<Partial> partials_;
};

std::string KeyName(size_t index) { return absl::StrCat("k", index); }
std::string PartialName(size_t index) { return absl::StrCat("a", index); }

bool AggregatePlanner::IsSourceColumn(const std::string& name) const {
  for (const char* hidden : kHiddenColumns) {
    if (name == hidden) return true;
  }
  return std::any_of(source_.columns.begin(), source_.columns.end(), [&](const ColumnDef& column) {
    return absl::EqualsIgnoreCase(column.name, name);
  });
}

const Json* AggregatePlanner::FindAlias(const std::string& name) const {
  for (const Json& item : node_["select_list"]) {
    if (absl::EqualsIgnoreCase(TextOf(item, "alias"), name)) return &item;
  }
  return nullptr;
}

absl::StatusOr<Json> AggregatePlanner::NormalColumn(const Json& column, bool having, int depth) {
  Json normal = column;
  Json& names = normal["column_names"];
  for (Json& name : names) name = absl::AsciiStrToLower(name.get<std::string>());
  const Json& from = node_["from_table"];
  const std::string relation = absl::AsciiStrToLower(
      TextOf(from, "alias").empty() ? TextOf(from, "table_name") : TextOf(from, "alias"));
  const bool qualified = names.size() > 1 && names[0] == relation;
  if (qualified) names.erase(0);
  if (qualified || names.size() != 1) return normal;
  const std::string name = names[0].get<std::string>();
  const Json* alias = FindAlias(name);
  if (alias == nullptr) return normal;
  if (IsSourceColumn(name)) {
    if (having)
      return StandsInTheWay(absl::StrCat("HAVING names ", name, ", a column and an output"));
    return normal;
  }
  if (depth >= kAliasDepthMax) return StandsInTheWay("has aliases of aliases");
  return Normal(*alias, having, depth + 1);
}

absl::StatusOr<Json> AggregatePlanner::Normal(const Json& expression, bool having, int depth) {
  if (IsClass(expression, "LAMBDA")) return StandsInTheWay("has a lambda");
  // The state's columns compare text byte by byte.
  if (IsClass(expression, "COLLATE")) return StandsInTheWay("has COLLATE");
  if (IsClass(expression, "STAR")) return StandsInTheWay("has * beside GROUP BY");
  Json normal = expression;
  if (normal.is_object()) {
    normal.erase("query_location");
    if (normal.contains("alias")) normal["alias"] = "";
    if (IsClass(expression, "COLUMN_REF")) return NormalColumn(normal, having, depth);
  }
  if (!normal.is_structured()) return normal;
  for (Json& child : normal) {
    ICEPIE_ASSIGN_OR_RETURN(child, Normal(child, having, depth));
  }
  return normal;
}

// What a GROUP BY element stands for: a position in the select list, or itself.
absl::StatusOr<const Json*> AggregatePlanner::GroupItem(const Json& expression) const {
  if (!IsClass(expression, "CONSTANT")) return &expression;
  const Json& value = expression["value"]["value"];
  const Json& items = node_["select_list"];
  if (!value.is_number_integer()) return StandsInTheWay("groups by a constant");
  const auto position = value.get<int64_t>();
  if (position < 1 || position > static_cast<int64_t>(items.size())) {
    return StandsInTheWay("groups by a constant");
  }
  return &items[position - 1];
}

int AggregatePlanner::KeyIndex(const Json& tree) const {
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i].tree == tree) return static_cast<int>(i);
  }
  return -1;
}

absl::Status AggregatePlanner::AddKey(const Json& expression) {
  ICEPIE_ASSIGN_OR_RETURN(Json tree, Normal(expression, /*having=*/false));
  if (IsUnnest(tree)) return StandsInTheWay("groups by unnest()");
  if (KeyIndex(tree) >= 0) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(std::string sql, ExpressionToSql(connection_, tree));
  keys_.push_back({std::move(tree), std::move(sql)});
  return absl::OkStatus();
}

absl::Status AggregatePlanner::FindKeys() {
  if (node_["group_sets"].size() > 1) return StandsInTheWay("has GROUPING SETS, ROLLUP or CUBE");
  for (const Json& expression : node_["group_expressions"]) {
    ICEPIE_ASSIGN_OR_RETURN(const Json* item, GroupItem(expression));
    ICEPIE_RETURN_IF_ERROR(AddKey(*item));
  }
  if (TextOf(node_, "aggregate_handling") != "FORCE_AGGREGATES") return absl::OkStatus();
  for (const Json& item : node_["select_list"]) {
    ICEPIE_ASSIGN_OR_RETURN(const Json tree, Normal(item, /*having=*/false));
    // As DuckDB does: what is the same in every row is no key of GROUP BY ALL.
    const bool key = !ContainsAggregate(tree) && ContainsColumn(tree);
    if (key) ICEPIE_RETURN_IF_ERROR(AddKey(item));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> AggregatePlanner::TypeOf(const std::string& sql) {
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<OutputColumn> bound,
                          BindSelect(connection_, absl::StrCat("SELECT ", sql, " FROM ",
                                                               QuoteIdentifier(source_.name))));
  return bound.front().type;
}

std::string AggregatePlanner::AddPartial(Partial partial) {
  for (size_t i = 0; i < partials_.size(); ++i) {
    if (partials_[i].sql == partial.sql) return PartialName(i);
  }
  partials_.push_back(std::move(partial));
  return PartialName(partials_.size() - 1);
}

std::string AggregatePlanner::Count(const std::string& argument, const std::string& filter) {
  return AddPartial({absl::StrCat("count(", argument, ")", filter), "BIGINT", "t.$ + b.$"});
}

absl::StatusOr<std::string> AggregatePlanner::Sum(const std::string& argument,
                                                  const std::string& filter) {
  const std::string sql = absl::StrCat("sum(", argument, ")");
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, TypeOf(sql));
  if (type != "HUGEINT" && type != "DOUBLE" && !absl::StartsWith(type, "DECIMAL(38,")) {
    return StandsInTheWay(absl::StrCat("sums ", type));
  }
  return AddPartial(
      {sql + filter, type,
       "CASE WHEN t.$ IS NULL THEN b.$ WHEN b.$ IS NULL THEN t.$ ELSE t.$ + b.$ END"});
}

absl::StatusOr<std::string> AggregatePlanner::MinMax(const std::string& name,
                                                     const std::string& argument,
                                                     const std::string& filter) {
  static const auto* const kOrdered = new std::set<std::string>{
      "BOOLEAN", "TINYINT",     "SMALLINT",     "INTEGER",      "BIGINT",
      "HUGEINT", "FLOAT",       "DOUBLE",       "VARCHAR",      "DATE",
      "TIME",    "TIMESTAMP",   "UTINYINT",     "USMALLINT",    "UINTEGER",
      "UBIGINT", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"};
  const std::string sql = absl::StrCat(name, "(", argument, ")");
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, TypeOf(sql));
  if (kOrdered->count(type) == 0 && !absl::StartsWith(type, "DECIMAL(")) {
    return StandsInTheWay(absl::StrCat(name, "() of ", type));
  }
  // least and greatest pass over NULL, as min and max do.
  return AddPartial({sql + filter, type, name == "min" ? "least(t.$, b.$)" : "greatest(t.$, b.$)"});
}

// 10^scale as digits.
std::string PowerOfTen(int scale) { return absl::StrCat("1", std::string(scale, '0')); }

// avg of a DECIMAL is the unscaled sum over n * 10^scale, both as DOUBLE. The unscaled sum is put
// together from its two halves, because 38 digits times 10^scale would not fit.
std::string DecimalAverage(const std::string& sum, const std::string& count, int scale) {
  if (scale == 0) return absl::StrCat(sum, "::HUGEINT::DOUBLE / ", count);
  const std::string power = PowerOfTen(scale);
  return absl::StrCat("(trunc(", sum, ")::HUGEINT * ", power, "::HUGEINT + ((", sum, " - trunc(",
                      sum, ")) * ", power, ")::HUGEINT)::DOUBLE / (", count, "::DOUBLE * ", power,
                      "::DOUBLE)");
}

absl::StatusOr<std::string> AggregatePlanner::Average(const std::string& argument,
                                                      const std::string& filter) {
  static const auto* const kWhole = new std::set<std::string>{
      "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"};
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, TypeOf(argument));
  const bool decimal = absl::StartsWith(type, "DECIMAL(");
  const bool real = type == "DOUBLE" || type == "FLOAT";
  if (!decimal && !real && kWhole->count(type) == 0)
    return StandsInTheWay(absl::StrCat("avg() of ", type));
  ICEPIE_ASSIGN_OR_RETURN(const std::string sum, Sum(argument, filter));
  const std::string count = Count(argument, filter);
  if (real) return absl::StrCat(sum, " / ", count);
  if (!decimal) return absl::StrCat(sum, "::DOUBLE / ", count);
  const int scale = std::atoi(type.substr(type.find(',') + 1).c_str());
  if (scale > kAverageScaleMax) return StandsInTheWay(absl::StrCat("avg() of ", type));
  return DecimalAverage(sum, count, scale);
}

absl::StatusOr<std::string> AggregatePlanner::FinalOf(const std::string& name,
                                                      const std::string& argument,
                                                      const std::string& filter) {
  if (name == "count_star" || (name == "count" && argument.empty())) return Count("*", filter);
  if (name == "count") return Count(argument, filter);
  if (name == "sum") return Sum(argument, filter);
  if (name == "min" || name == "max") return MinMax(name, argument, filter);
  if (name == "avg" || name == "mean") return Average(argument, filter);
  return StandsInTheWay(absl::StrCat("has ", name, "()"));
}

absl::StatusOr<Json> AggregatePlanner::FinalAggregate(const Json& call) {
  const std::string name = TextOf(call, "function_name");
  if (call.value("distinct", false))
    return StandsInTheWay(absl::StrCat("has ", name, "(DISTINCT …)"));
  if (Has(call["order_bys"], "orders"))
    return StandsInTheWay(absl::StrCat("has ", name, "(… ORDER BY …)"));
  if (call["children"].size() > 1) {
    return StandsInTheWay(
        absl::StrCat("has ", name, "() of ", call["children"].size(), " arguments"));
  }
  std::string argument;
  for (const Json& child : call["children"]) {
    ICEPIE_ASSIGN_OR_RETURN(argument, ExpressionToSql(connection_, child));
  }
  std::string filter;
  if (Has(call, "filter")) {
    ICEPIE_ASSIGN_OR_RETURN(filter, ExpressionToSql(connection_, call["filter"]));
    filter = absl::StrCat(" FILTER (WHERE ", filter, ")");
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::string sql, FinalOf(name, argument, filter));
  return ParseExpression(connection_, sql);
}

absl::StatusOr<Json> AggregatePlanner::Final(const Json& expression) {
  if (const int key = KeyIndex(expression); key >= 0) {
    return ParseExpression(connection_, KeyName(key));
  }
  if (IsAggregateCall(expression)) return FinalAggregate(expression);
  if (IsUnnest(expression)) return StandsInTheWay("has unnest() beside aggregates");
  if (IsType(expression, "GROUPING_FUNCTION")) return StandsInTheWay("has GROUPING()");
  if (IsClass(expression, "COLUMN_REF")) {
    return StandsInTheWay(absl::StrCat("uses column ", expression["column_names"].dump(),
                                       " outside of keys and aggregates"));
  }
  Json result = expression;
  if (!result.is_structured()) return result;
  for (Json& child : result) {
    ICEPIE_ASSIGN_OR_RETURN(child, Final(child));
  }
  return result;
}

absl::StatusOr<std::string> AggregatePlanner::FinalSql(const Json& expression, bool having) {
  ICEPIE_ASSIGN_OR_RETURN(const Json normal, Normal(expression, having));
  ICEPIE_ASSIGN_OR_RETURN(Json final_tree, Final(normal));
  return ExpressionToSql(connection_, std::move(final_tree));
}

absl::StatusOr<std::string> AggregatePlanner::ResultView() {
  const Json& items = node_["select_list"];
  if (items.size() != columns_.size()) return StandsInTheWay("has a list of columns that unfolds");
  std::vector<std::string> outputs;
  for (size_t i = 0; i < items.size(); ++i) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string sql, FinalSql(items[i], /*having=*/false));
    outputs.push_back(absl::StrCat(sql, " AS ", QuoteIdentifier(columns_[i].name)));
  }
  std::string where;
  if (Has(node_, "having")) {
    ICEPIE_ASSIGN_OR_RETURN(where, FinalSql(node_["having"], /*having=*/true));
    where = absl::StrCat(" WHERE ", where);
  }
  return absl::StrCat("CREATE VIEW __result AS SELECT ", absl::StrJoin(outputs, ", "),
                      " FROM __state", where);
}

absl::StatusOr<std::vector<std::string>> AggregatePlanner::Create() {
  // The view comes first: it finds the partial states that the table has to hold.
  ICEPIE_ASSIGN_OR_RETURN(const std::string view, ResultView());
  std::vector<std::string> columns;
  std::vector<std::string> first_row;
  for (size_t i = 0; i < keys_.size(); ++i) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string type, TypeOf(keys_[i].sql));
    columns.push_back(absl::StrCat(KeyName(i), " ", type));
  }
  for (size_t i = 0; i < partials_.size(); ++i) {
    columns.push_back(absl::StrCat(PartialName(i), " ", partials_[i].type));
    first_row.push_back(
        partials_[i].type == "BIGINT" && absl::StartsWith(partials_[i].sql, "count(") ? "0"
                                                                                      : "NULL");
  }
  if (columns.empty()) return StandsInTheWay("has neither keys nor aggregates");
  std::vector<std::string> create = {
      absl::StrCat("CREATE TABLE __state (", absl::StrJoin(columns, ", "), ")"), view};
  if (keys_.empty()) {
    create.push_back(
        absl::StrCat("INSERT INTO __state VALUES (", absl::StrJoin(first_row, ", "), ")"));
  }
  return create;
}

std::string AggregatePlanner::BatchSelect(const std::string& where) const {
  std::vector<std::string> items;
  std::vector<std::string> positions;
  for (size_t i = 0; i < keys_.size(); ++i) {
    items.push_back(absl::StrCat(keys_[i].sql, " AS ", KeyName(i)));
    positions.push_back(absl::StrCat(i + 1));
  }
  for (size_t i = 0; i < partials_.size(); ++i) {
    items.push_back(absl::StrCat(partials_[i].sql, " AS ", PartialName(i)));
  }
  return absl::StrCat("SELECT ", absl::StrJoin(items, ", "), " FROM ",
                      QuoteIdentifier(source_.name), where, keys_.empty() ? "" : " GROUP BY ",
                      absl::StrJoin(positions, ", "));
}

// a0 = t.a0 + b.a0, …
std::vector<std::string> AggregatePlanner::Assignments() const {
  std::vector<std::string> assignments;
  for (size_t i = 0; i < partials_.size(); ++i) {
    const std::string name = PartialName(i);
    std::string fold;
    for (const char c : partials_[i].fold) {
      if (c == '$') {
        fold += name;
      } else {
        fold += c;
      }
    }
    assignments.push_back(absl::StrCat(name, " = ", fold));
  }
  return assignments;
}

std::string AggregatePlanner::Merge(const std::string& batch, const std::string& comparison) const {
  std::vector<std::string> conditions;
  std::vector<std::string> names;
  std::vector<std::string> values;
  for (size_t i = 0; i < keys_.size(); ++i) {
    const std::string name = KeyName(i);
    conditions.push_back(absl::StrCat("t.", name, comparison, "b.", name));
    names.push_back(name);
  }
  for (size_t i = 0; i < partials_.size(); ++i) names.push_back(PartialName(i));
  for (const std::string& name : names) values.push_back(absl::StrCat("b.", name));
  const std::string update = partials_.empty() ? ""
                                               : absl::StrCat("\nWHEN MATCHED THEN UPDATE SET ",
                                                              absl::StrJoin(Assignments(), ", "));
  return absl::StrCat("MERGE INTO __state AS t USING (", batch, ") AS b\nON (",
                      absl::StrJoin(conditions, " AND "), ")", update,
                      "\nWHEN NOT MATCHED THEN INSERT (", absl::StrJoin(names, ", "), ") VALUES (",
                      absl::StrJoin(values, ", "), ")");
}

// Only for `=` does DuckDB push what it knows of the batch's keys (from … to) into the scan of the
// state, and batches mostly concern its newest rows. So keys with a NULL are merged apart, when the
// batch has any.
std::vector<ApplyStatement> AggregatePlanner::FoldByKey(const std::string& batch) const {
  std::vector<std::string> nulls;
  for (size_t i = 0; i < keys_.size(); ++i) nulls.push_back(absl::StrCat(KeyName(i), " IS NULL"));
  const std::string any_null = absl::StrJoin(nulls, " OR ");
  return {{batch, "", "__batch"},
          {Merge(absl::StrCat("SELECT * FROM __batch WHERE NOT (", any_null, ")"), " = "), "", ""},
          {Merge(absl::StrCat("SELECT * FROM __batch WHERE ", any_null), " IS NOT DISTINCT FROM "),
           absl::StrCat("SELECT 1 FROM __batch WHERE ", any_null, " LIMIT 1"), ""}};
}

std::string AggregatePlanner::Update(const std::string& batch) const {
  return absl::StrCat("UPDATE __state AS t SET ", absl::StrJoin(Assignments(), ", "), " FROM (",
                      batch, ") AS b");
}

absl::StatusOr<std::vector<ApplyStatement>> AggregatePlanner::Fold() {
  std::string where;
  if (Has(node_, "where_clause")) {
    ICEPIE_ASSIGN_OR_RETURN(Json tree, Normal(node_["where_clause"], /*having=*/false));
    ICEPIE_ASSIGN_OR_RETURN(where, ExpressionToSql(connection_, std::move(tree)));
    where = absl::StrCat(" WHERE ", where);
  }
  const std::string batch = BatchSelect(where);
  if (keys_.empty()) return std::vector<ApplyStatement>{{Update(batch), "", ""}};
  return FoldByKey(batch);
}

std::string AggregatePlanner::Why() const {
  const auto counted = [](size_t count, absl::string_view what) {
    return absl::StrCat(count, " ", what, count == 1 ? "" : "s");
  };
  return absl::StrCat("folds records of ", source_.name, " into ",
                      counted(partials_.size(), "partial state"),
                      keys_.empty() ? "" : absl::StrCat(" by ", counted(keys_.size(), "key")));
}

absl::StatusOr<SliceStatements> AggregatePlanner::Plan() {
  ICEPIE_RETURN_IF_ERROR(FindKeys());
  SliceStatements statements;
  ICEPIE_ASSIGN_OR_RETURN(statements.create, Create());
  ICEPIE_ASSIGN_OR_RETURN(statements.apply, Fold());
  statements.why = Why();
  return statements;
}

}  // namespace

bool ContainsAggregate(const Json& tree) {
  if (IsAggregateCall(tree)) return true;
  if (!tree.is_structured()) return false;
  return std::any_of(tree.begin(), tree.end(), ContainsAggregate);
}

absl::StatusOr<SliceStatements> PlanAggregate(const PlanRequest& request) {
  ICEPIE_RETURN_IF_ERROR(CheckRowShape(request));
  const Json& node = request.statement["node"];
  if (!IsAggregation(node)) return OtherKind("does not group");
  const SourceDef& source =
      *request.domain.definition.FindSource(request.slice.sources.front().source);
  return AggregatePlanner(request.connection, node, source, request.slice.columns).Plan();
}

}  // namespace icepie::slices
