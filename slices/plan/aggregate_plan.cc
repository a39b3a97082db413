#include "slices/plan/aggregate_plan.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "core/base/status.h"
#include "slices/plan/fallible_expression.h"
#include "slices/plan/function_list.h"
#include "slices/plan/grouping_sets.h"
#include "slices/plan/partial_states.h"
#include "slices/plan/retain_plan.h"
#include "slices/plan/row_shape.h"
#include "slices/plan/sql_binding.h"

namespace icepie::slices {
namespace {

// Aliases may name aliases; the binder accepts no cycles, the bound is for safety.
constexpr int kAliasDepthMax = 32;

bool IsUnnest(const Json& node) {
  if (!IsClass(node, "FUNCTION")) return false;
  const AllowedFunction* function = FindFunction(TextOf(node, "function_name"));
  return function != nullptr && function->kind == FunctionKind::kUnnest;
}

bool ContainsColumn(const Json& tree) {
  if (IsClass(tree, "COLUMN_REF")) return true;
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(), ContainsColumn);
}

Json WithoutAlias(Json tree) {
  if (tree.is_object() && tree.contains("alias")) tree["alias"] = "";
  return tree;
}

struct Key {
  Json tree;
  std::string sql;
};

class AggregatePlanner {
 public:
  // `sets_of_nothing`: grouping sets that have a row without records (grouping_sets.h).
  AggregatePlanner(const PlanRequest& request, const Json& node, const RowShape& shape,
                   std::vector<size_t> sets_of_nothing)
      : connection_(request.connection),
        node_(node),
        shape_(shape),
        sets_of_nothing_(std::move(sets_of_nothing)),
        columns_(request.slice.columns),
        states_(
            connection_, [this](const std::string& sql) { return TypeOf(sql); },
            shape.by_position(), IsSource(request) ? "_position" : ""),
        retain_(request.domain.definition.FindSlice(request.slice.slice)->retain),
        sees_time_(IsSource(request) && request.slice.upstream.empty() &&
                   request.domain.definition.FindSource(RelationRead())->stream != "") {}

  absl::StatusOr<SliceStatements> Plan();

 private:
  // FROM names a source and no WITH query.
  bool IsSource(const PlanRequest& request) const;

  // An expression as it is compared and written: no places, no aliases, columns without the name
  // of the only relation, select aliases replaced by what they stand for.
  absl::StatusOr<Json> Normal(const Json& expression, bool having, int depth = 0);
  absl::StatusOr<Json> NormalColumn(const Json& column, bool having, int depth);
  std::string RelationName() const;
  std::string RelationRead() const;
  const Json* FindAlias(const std::string& name) const;

  absl::Status FindInput();
  absl::Status FindKeys();
  absl::Status AddKey(const Json& expression);
  absl::Status FindRetainKey(SliceStatements& statements);
  absl::StatusOr<const Json*> GroupItem(const Json& expression) const;
  int KeyIndex(const Json& tree) const;
  // Whether an aggregate does: DuckDB drops such an order.
  bool OrdersByKey(const Json& call) const;

  // The expression over the state's columns.
  absl::StatusOr<Json> Final(const Json& expression);
  absl::StatusOr<std::string> FinalSql(const Json& expression, bool having);
  absl::StatusOr<std::string> TypeOf(const std::string& sql);

  // SELECT `items` from what the query groups, GROUP BY the first `groups` of them.
  absl::StatusOr<std::string> Select(const std::vector<std::string>& items, size_t groups,
                                     const Json& where) const;
  absl::StatusOr<std::vector<std::string>> Create();
  absl::StatusOr<std::string> ResultView();
  absl::StatusOr<std::vector<ApplyStatement>> Fold();
  absl::StatusOr<std::string> BatchSelect() const;
  std::vector<std::string> SetItems(int set) const;
  absl::StatusOr<std::string> NewValues(size_t set) const;
  std::string SameKeys(const std::string& a, const std::string& b,
                       const std::string& comparison) const;
  std::string Merge(const std::string& batch, const std::string& comparison) const;
  std::vector<std::string> Assignments() const;
  SlicePlan::Touched Touched(absl::string_view view) const;
  absl::StatusOr<bool> ResultMayFail();
  absl::StatusOr<bool> OutputMayFail(const Json& expression, bool having);
  Json WithKeyNames(const Json& expression) const;
  std::string TypeOfOutput(const Json& expression);
  std::string TouchedBy(absl::string_view view, const std::string& batch,
                        const std::string& comparison) const;
  std::vector<ApplyStatement> Checks(absl::string_view view) const;
  std::string Why() const;

  DuckConnection& connection_;
  const Json& node_;
  const RowShape& shape_;
  const std::vector<size_t> sets_of_nothing_;
  const std::vector<OutputColumn>& columns_;
  std::set<std::string> input_;  // columns of FROM, in lower case
  Json where_;
  std::vector<Key> keys_;
  PartialStates states_;
  const std::optional<RetainDef>& retain_;
  const bool sees_time_;  // FROM has the records' ingest time
};

std::string KeyName(size_t index) { return absl::StrCat("k", index); }
std::string ValuesName(size_t set) { return absl::StrCat("__values", set); }
std::string NewName(size_t set) { return absl::StrCat("__new", set); }

bool AggregatePlanner::IsSource(const PlanRequest& request) const {
  const Json& from = node_["from_table"];
  const std::string name = RelationRead();
  const bool cte = Has(node_["cte_map"], "map");
  return IsType(from, "BASE_TABLE") && !cte &&
         request.domain.definition.FindSource(name) != nullptr;
}

std::string AggregatePlanner::RelationRead() const {
  return absl::AsciiStrToLower(TextOf(node_["from_table"], "table_name"));
}

// "" when FROM is a join.
std::string AggregatePlanner::RelationName() const {
  const Json& from = node_["from_table"];
  const std::string alias = TextOf(from, "alias");
  return absl::AsciiStrToLower(alias.empty() ? TextOf(from, "table_name") : alias);
}

const Json* AggregatePlanner::FindAlias(const std::string& name) const {
  for (const Json& item : node_["select_list"]) {
    if (absl::EqualsIgnoreCase(TextOf(item, "alias"), name)) return &item;
  }
  return nullptr;
}

absl::StatusOr<Json> AggregatePlanner::NormalColumn(const Json& column, bool having, int depth) {
  const Json normal = UnqualifiedColumn(column, RelationName());
  const Json& names = normal["column_names"];
  const bool qualified = names.size() < column["column_names"].size();
  if (qualified || names.size() != 1) return normal;
  const std::string name = names[0].get<std::string>();
  const Json* alias = FindAlias(name);
  if (alias == nullptr) return normal;
  if (input_.count(name) > 0) {
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
  // Names in it may be its own, and so may aggregates.
  if (IsClass(expression, "SUBQUERY")) return StandsInTheWay("has a subquery beside GROUP BY");
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
  KeepMemberNames(expression, normal);
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
  const Json unnamed = WithoutAlias(tree);
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i].tree == unnamed) return static_cast<int>(i);
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

absl::StatusOr<std::string> AggregatePlanner::Select(const std::vector<std::string>& items,
                                                     size_t groups, const Json& where) const {
  std::vector<std::string> positions;
  for (size_t i = 0; i < groups; ++i) positions.push_back(absl::StrCat(i + 1));
  const std::string text =
      absl::StrCat("SELECT ", absl::StrJoin(items, ", "), groups == 0 ? "" : " GROUP BY ",
                   absl::StrJoin(positions, ", "));
  ICEPIE_ASSIGN_OR_RETURN(Json statement, ParseSelect(connection_, text));
  Json& select = statement["node"];
  select["cte_map"] = node_["cte_map"];
  select["from_table"] = node_["from_table"];
  select["where_clause"] = where;
  return SelectToSql(connection_, std::move(statement));
}

absl::StatusOr<std::string> AggregatePlanner::TypeOf(const std::string& sql) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string select, Select({sql}, 0, Json()));
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<OutputColumn> bound, BindSelect(connection_, select));
  return bound.front().type;
}

// A type whose values compare otherwise than the state's columns do.
bool ComparesOtherwise(const Json& tree) {
  if (IsClass(tree, "COLLATE")) return true;
  if (tree.is_object() && TextOf(tree, "name") == "ENUM") return true;
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(), ComparesOtherwise);
}

absl::Status AggregatePlanner::FindInput() {
  if (ComparesOtherwise(node_)) return StandsInTheWay("has COLLATE or ENUM");
  ICEPIE_ASSIGN_OR_RETURN(const std::string all, Select({"*"}, 0, Json()));
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<OutputColumn> bound, BindSelect(connection_, all));
  for (const OutputColumn& column : bound) input_.insert(absl::AsciiStrToLower(column.name));
  if (!Has(node_, "where_clause")) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(where_, Normal(node_["where_clause"], /*having=*/false));
  return absl::OkStatus();
}

bool AggregatePlanner::OrdersByKey(const Json& call) const {
  if (!Has(call["order_bys"], "orders")) return false;
  const Json& orders = call["order_bys"]["orders"];
  return std::any_of(orders.begin(), orders.end(),
                     [&](const Json& order) { return KeyIndex(order["expression"]) >= 0; });
}

absl::StatusOr<Json> AggregatePlanner::Final(const Json& expression) {
  if (const int key = KeyIndex(expression); key >= 0) {
    return ParseExpression(connection_, KeyName(key));
  }
  if (IsFunctionOf(expression, FunctionKind::kAggregate)) {
    if (OrdersByKey(expression)) return StandsInTheWay("orders by a key of its groups");
    ICEPIE_ASSIGN_OR_RETURN(const std::string sql, states_.Add(expression));
    return ParseExpression(connection_, sql);
  }
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
  KeepMemberNames(expression, result);
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
  const std::string keys = absl::StrCat(absl::StrJoin(columns, ", "), columns.empty() ? "" : ", ");
  for (size_t i = 0; i < states_.states().size(); ++i) {
    columns.push_back(absl::StrCat(PartialStates::Name(i), " ", states_.states()[i].type));
    first_row.push_back(states_.states()[i].empty);
  }
  if (columns.empty()) return StandsInTheWay("has neither keys nor aggregates");
  std::vector<std::string> create = {
      absl::StrCat("CREATE TABLE __state (", absl::StrJoin(columns, ", "), ")"), view};
  for (size_t i = 0; i < states_.sets().size(); ++i) {
    create.push_back(absl::StrCat("CREATE TABLE ", ValuesName(i), " (", keys, "v ",
                                  states_.sets()[i].type, ")"));
  }
  if (keys_.empty()) {
    create.push_back(
        absl::StrCat("INSERT INTO __state VALUES (", absl::StrJoin(first_row, ", "), ")"));
  }
  for (const size_t set : sets_of_nothing_) {
    std::vector<std::string> row(keys_.size(), "NULL");
    row.front() = absl::StrCat(set);
    row.insert(row.end(), first_row.begin(), first_row.end());
    create.push_back(absl::StrCat("INSERT INTO __state VALUES (", absl::StrJoin(row, ", "), ")"));
  }
  return create;
}

std::string AggregatePlanner::SameKeys(const std::string& a, const std::string& b,
                                       const std::string& comparison) const {
  std::vector<std::string> same;
  for (size_t i = 0; i < keys_.size(); ++i) {
    same.push_back(absl::StrCat(a, ".", KeyName(i), comparison, b, ".", KeyName(i)));
  }
  return same.empty() ? "true" : absl::StrJoin(same, " AND ");
}

// The batch's values of the states of one set, named as the columns.
std::vector<std::string> AggregatePlanner::SetItems(int set) const {
  std::vector<std::string> items;
  for (size_t i = 0; i < states_.states().size(); ++i) {
    const PartialState& state = states_.states()[i];
    if (state.set == set) items.push_back(absl::StrCat(state.sql, " AS ", PartialStates::Name(i)));
  }
  return items;
}

// The batch's values, of each group, that the group has not had yet.
absl::StatusOr<std::string> AggregatePlanner::NewValues(size_t set) const {
  const DistinctValues& values = states_.sets()[set];
  std::vector<std::string> items;
  for (size_t i = 0; i < keys_.size(); ++i) {
    items.push_back(absl::StrCat(keys_[i].sql, " AS ", KeyName(i)));
  }
  items.push_back(absl::StrCat(values.argument, " AS v"));
  std::string condition = absl::StrCat("(", values.argument, ") IS NOT NULL");
  if (!values.filter.empty()) absl::StrAppend(&condition, " AND (", values.filter, ")");
  if (!where_.is_null()) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string where, ExpressionToSql(connection_, where_));
    condition = absl::StrCat("(", where, ") AND ", condition);
  }
  ICEPIE_ASSIGN_OR_RETURN(const Json tree, ParseExpression(connection_, condition));
  ICEPIE_ASSIGN_OR_RETURN(const std::string select, Select(items, items.size(), tree));
  return absl::StrCat("SELECT * FROM (", select, ") AS b WHERE NOT EXISTS (SELECT 1 FROM ",
                      ValuesName(set), " AS t WHERE t.v = b.v AND ",
                      SameKeys("t", "b", " IS NOT DISTINCT FROM "), ")");
}

// The batch's groups: keys, and the values of all states.
absl::StatusOr<std::string> AggregatePlanner::BatchSelect() const {
  std::vector<std::string> items;
  std::vector<std::string> outputs;
  std::vector<std::string> names;
  for (size_t i = 0; i < keys_.size(); ++i) {
    items.push_back(absl::StrCat(keys_[i].sql, " AS ", KeyName(i)));
    names.push_back(KeyName(i));
    outputs.push_back(absl::StrCat("r.", KeyName(i)));
  }
  for (const std::string& item : SetItems(kAllRecords)) items.push_back(item);
  // Without an item nothing could be grouped.
  if (items.empty()) items.emplace_back("count(*) AS n");
  ICEPIE_ASSIGN_OR_RETURN(std::string from, Select(items, keys_.size(), where_));
  if (states_.sets().empty()) return from;
  from = absl::StrCat("(", from, ") AS r");
  for (size_t set = 0; set < states_.sets().size(); ++set) {
    std::vector<std::string> values = names;
    for (const std::string& item : SetItems(static_cast<int>(set))) values.push_back(item);
    absl::StrAppend(&from, " LEFT JOIN (SELECT ", absl::StrJoin(values, ", "), " FROM ",
                    NewName(set), names.empty() ? "" : " GROUP BY ", absl::StrJoin(names, ", "),
                    ") AS n", set, " ON ",
                    SameKeys("r", absl::StrCat("n", set), " IS NOT DISTINCT FROM "));
  }
  for (size_t i = 0; i < states_.states().size(); ++i) {
    const PartialState& state = states_.states()[i];
    const std::string name = PartialStates::Name(i);
    outputs.push_back(state.set == kAllRecords ? absl::StrCat("r.", name)
                                               : absl::StrCat("coalesce(n", state.set, ".", name,
                                                              ", ", state.empty, ") AS ", name));
  }
  return absl::StrCat("SELECT ", absl::StrJoin(outputs, ", "), " FROM ", from);
}

// a0 = t.a0 + b.a0, …
std::vector<std::string> AggregatePlanner::Assignments() const {
  std::vector<std::string> assignments;
  for (size_t i = 0; i < states_.states().size(); ++i) {
    const std::string name = PartialStates::Name(i);
    assignments.push_back(
        absl::StrCat(name, " = ", absl::StrReplaceAll(states_.states()[i].fold, {{"$", name}})));
  }
  return assignments;
}

std::string AggregatePlanner::Merge(const std::string& batch, const std::string& comparison) const {
  std::vector<std::string> names;
  std::vector<std::string> values;
  for (size_t i = 0; i < keys_.size(); ++i) names.push_back(KeyName(i));
  for (size_t i = 0; i < states_.states().size(); ++i) names.push_back(PartialStates::Name(i));
  for (const std::string& name : names) values.push_back(absl::StrCat("b.", name));
  const std::vector<std::string> assignments = Assignments();
  const std::string update = assignments.empty() ? ""
                                                 : absl::StrCat("\nWHEN MATCHED THEN UPDATE SET ",
                                                                absl::StrJoin(assignments, ", "));
  return absl::StrCat("MERGE INTO __state AS t USING (", batch, ") AS b\nON (",
                      SameKeys("t", "b", comparison), ")", update,
                      "\nWHEN NOT MATCHED THEN INSERT (", absl::StrJoin(names, ", "), ") VALUES (",
                      absl::StrJoin(values, ", "), ")");
}

// Only for `=` does DuckDB push what it knows of the batch's keys (from … to) into the scan of the
// state, and batches mostly concern its newest rows. So keys with a NULL are merged apart, when the
// batch has any.
absl::StatusOr<std::vector<ApplyStatement>> AggregatePlanner::Fold() {
  std::vector<ApplyStatement> apply;
  for (size_t set = 0; set < states_.sets().size(); ++set) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string values, NewValues(set));
    apply.push_back({values, "", NewName(set)});
    apply.push_back({absl::StrCat("INSERT INTO ", ValuesName(set), " SELECT * FROM ", NewName(set)),
                     absl::StrCat("SELECT 1 FROM ", NewName(set), " LIMIT 1")});
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::string batch, BatchSelect());
  if (keys_.empty()) {
    apply.push_back({absl::StrCat("UPDATE __state AS t SET ", absl::StrJoin(Assignments(), ", "),
                                  " FROM (", batch, ") AS b")});
    return apply;
  }
  std::vector<std::string> nulls;
  for (size_t i = 0; i < keys_.size(); ++i) nulls.push_back(absl::StrCat(KeyName(i), " IS NULL"));
  const std::string any_null = absl::StrJoin(nulls, " OR ");
  apply.push_back({batch, "", "__batch"});
  apply.push_back({Merge(absl::StrCat("SELECT * FROM __batch WHERE NOT (", any_null, ")"), " = ")});
  apply.push_back(
      {Merge(absl::StrCat("SELECT * FROM __batch WHERE ", any_null), " IS NOT DISTINCT FROM "),
       absl::StrCat("SELECT 1 FROM __batch WHERE ", any_null, " LIMIT 1")});
  return apply;
}

// `expression` as Normal() writes it, with the names of keys in their places.
Json AggregatePlanner::WithKeyNames(const Json& expression) const {
  if (const int key = KeyIndex(expression); key >= 0) {
    return Json{{"class", "COLUMN_REF"},
                {"type", "COLUMN_REF"},
                {"alias", ""},
                {"query_location", UINT64_MAX},
                {"column_names", Json::array({KeyName(static_cast<size_t>(key))})}};
  }
  Json named = expression;
  if (!named.is_structured() || IsFunctionOf(named, FunctionKind::kAggregate)) return named;
  for (Json& child : named) child = WithKeyNames(child);
  KeepMemberNames(expression, named);
  return named;
}

// "" when DuckDB does not say.
std::string AggregatePlanner::TypeOfOutput(const Json& expression) {
  const absl::StatusOr<std::string> sql = ExpressionToSql(connection_, expression);
  if (!sql.ok()) return "";
  std::vector<std::string> items;
  for (size_t i = 0; i < keys_.size(); ++i) {
    items.push_back(absl::StrCat(keys_[i].sql, " AS ", KeyName(i)));
  }
  items.push_back(*sql);
  const absl::StatusOr<std::string> select = Select(items, keys_.size(), Json());
  if (!select.ok()) return "";
  const auto bound = BindSelect(connection_, *select);
  return bound.ok() ? bound->back().type : "";
}

absl::StatusOr<bool> AggregatePlanner::OutputMayFail(const Json& expression, bool having) {
  ICEPIE_ASSIGN_OR_RETURN(const Json normal, Normal(expression, having));
  return MayFail(WithKeyNames(normal), [this](const Json& part) { return TypeOfOutput(part); });
}

absl::StatusOr<bool> AggregatePlanner::ResultMayFail() {
  for (const Json& item : node_["select_list"]) {
    ICEPIE_ASSIGN_OR_RETURN(const bool may, OutputMayFail(item, /*having=*/false));
    if (may) return true;
  }
  if (!Has(node_, "having")) return false;
  return OutputMayFail(node_["having"], /*having=*/true);
}

// Of the rows that the batch touches, every column.
std::vector<ApplyStatement> AggregatePlanner::Checks(absl::string_view view) const {
  const auto evaluate = [](const std::string& rows) {
    // The whole row, by a name that no column has: a column's name would come first.
    return absl::StrCat("SELECT max(hash(__row)) FROM (", rows, ") AS __row");
  };
  if (keys_.empty()) return {{evaluate("SELECT * FROM __result")}};
  std::vector<std::string> nulls;
  for (size_t i = 0; i < keys_.size(); ++i) nulls.push_back(absl::StrCat(KeyName(i), " IS NULL"));
  const std::string any_null = absl::StrJoin(nulls, " OR ");
  const std::string with_null = absl::StrCat("SELECT * FROM __batch WHERE ", any_null);
  return {{evaluate(TouchedBy(
              view, absl::StrCat("(SELECT * FROM __batch WHERE NOT (", any_null, "))"), " = "))},
          {evaluate(TouchedBy(view, absl::StrCat("(", with_null, ")"), " IS NOT DISTINCT FROM ")),
           absl::StrCat("SELECT 1 FROM (", with_null, ") LIMIT 1")}};
}

std::string AggregatePlanner::Why() const {
  const auto counted = [](size_t count, absl::string_view what) {
    return absl::StrCat(count, " ", what, count == 1 ? "" : "s");
  };
  return absl::StrCat(
      "folds records of ", shape_.Names(), " into ",
      counted(states_.states().size(), "partial state"),
      keys_.empty() ? "" : absl::StrCat(" by ", counted(keys_.size(), "key")),
      states_.sets().empty()
          ? ""
          : absl::StrCat(" and ", counted(states_.sets().size(), "table"), " of distinct values"));
}

// The view over those groups of the state alone that `batch` has, which a query of the state's name
// stands for.
std::string AggregatePlanner::TouchedBy(absl::string_view view, const std::string& batch,
                                        const std::string& comparison) const {
  absl::ConsumePrefix(&view, "CREATE VIEW __result AS ");
  return absl::StrCat("WITH __state AS (SELECT s.* FROM main.__state AS s SEMI JOIN ", batch,
                      " AS b ON ", SameKeys("s", "b", comparison), ") ", view);
}

// The result's rows of the batch's groups.
SlicePlan::Touched AggregatePlanner::Touched(absl::string_view view) const {
  if (keys_.empty()) return {0, "SELECT * FROM __result", "SELECT * FROM __result"};
  const std::string rows = TouchedBy(view, "__batch", " IS NOT DISTINCT FROM ");
  // Behind the new values of each set comes __batch.
  return {2 * states_.sets().size() + 1, rows, rows};
}

// With `retain` by a key: groups can be let go, and records that come late are counted. To fold
// them makes no difference, for their groups are behind the horizon.
absl::Status AggregatePlanner::FindRetainKey(SliceStatements& statements) {
  if (!retain_) return absl::OkStatus();
  int key = -1;
  for (size_t i = 0; i < columns_.size() && i < node_["select_list"].size(); ++i) {
    if (!absl::EqualsIgnoreCase(columns_[i].name, retain_->column)) continue;
    ICEPIE_ASSIGN_OR_RETURN(const Json tree, Normal(node_["select_list"][i], /*having=*/false));
    key = KeyIndex(tree);
  }
  if (key < 0) return absl::OkStatus();
  statements.retained = {{"__state", KeyName(key), ""}};
  if (!sees_time_) return absl::OkStatus();
  const std::string& sql = keys_[key].sql;
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, TypeOf(sql));
  ICEPIE_ASSIGN_OR_RETURN(
      const Json count,
      ParseExpression(connection_, absl::StrCat("count(*) FILTER (WHERE ",
                                                IsLate(*retain_, sql, type, "_time"), ")")));
  ICEPIE_ASSIGN_OR_RETURN(const std::string column, states_.Add(count));
  statements.count_late = absl::StrCat("SELECT coalesce(sum(", column, "), 0) FROM __batch");
  return absl::OkStatus();
}

absl::StatusOr<SliceStatements> AggregatePlanner::Plan() {
  ICEPIE_RETURN_IF_ERROR(FindInput());
  ICEPIE_RETURN_IF_ERROR(FindKeys());
  SliceStatements statements;
  ICEPIE_RETURN_IF_ERROR(FindRetainKey(statements));
  ICEPIE_ASSIGN_OR_RETURN(statements.create, Create());
  ICEPIE_ASSIGN_OR_RETURN(statements.apply, Fold());
  statements.why = Why();
  statements.touched = Touched(statements.create[1]);
  ICEPIE_ASSIGN_OR_RETURN(const bool may_fail, ResultMayFail());
  if (may_fail) statements.checks = Checks(statements.create[1]);
  for (size_t i = 0; i < states_.states().size(); ++i) {
    statements.partials.emplace_back(states_.states()[i].sql, PartialStates::Name(i));
  }
  for (size_t i = 0; i < states_.sets().size() && !statements.retained.empty(); ++i) {
    statements.retained.push_back({ValuesName(i), statements.retained.front().time, ""});
  }
  return statements;
}

// The names of what a FROM clause joins, in lower case.
void AddRelations(const Json& from, std::set<std::string>& names) {
  if (IsType(from, "JOIN")) {
    AddRelations(from["left"], names);
    AddRelations(from["right"], names);
    return;
  }
  const std::string alias = TextOf(from, "alias");
  names.insert(absl::AsciiStrToLower(alias.empty() ? TextOf(from, "table_name") : alias));
}

bool NamesOneOf(const std::set<std::string>& relations, const Json& tree) {
  if (IsClass(tree, "COLUMN_REF")) {
    const Json& names = tree["column_names"];
    return names.size() > 1 &&
           relations.count(absl::AsciiStrToLower(names[0].get<std::string>())) > 0;
  }
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(), [&](const Json& child) {
           return NamesOneOf(relations, child);
         });
}

// Whether aggregates of a subquery may aggregate the rows of the query around it: those do whose
// columns are all of that one. Which columns a relation has is not known here, so one of the
// subquery's own is one that names its relation. `relations`: those of the subquery's levels.
bool AggregatesOutside(const Json& tree, std::set<std::string> relations) {
  if (IsFunctionOf(tree, FunctionKind::kAggregate)) {
    return !NamesOneOf(relations, tree) && (relations.empty() || ContainsColumn(tree));
  }
  if (!tree.is_structured()) return false;
  if (IsType(tree, "SELECT_NODE") && !IsType(tree["from_table"], "EMPTY")) {
    AddRelations(tree["from_table"], relations);
  }
  return std::any_of(tree.begin(), tree.end(),
                     [&](const Json& child) { return AggregatesOutside(child, relations); });
}

// SELECT DISTINCT … as the groups of its own columns.
absl::StatusOr<Json> DistinctAsGroups(const PlanRequest& request, Json node) {
  node["modifiers"] = Json::array();
  ICEPIE_RETURN_IF_ERROR(FindRowShape(request, node).status());
  Json statement = request.statement;
  statement["node"] = std::move(node);
  ICEPIE_ASSIGN_OR_RETURN(const std::string rows,
                          SelectToSql(request.connection, std::move(statement)));
  std::vector<std::string> names;
  std::vector<std::string> items;
  for (size_t i = 0; i < request.slice.columns.size(); ++i) {
    names.push_back(absl::StrCat("c", i));
    items.push_back(absl::StrCat("c", i, " AS ", QuoteIdentifier(request.slice.columns[i].name)));
  }
  const std::string list = absl::StrJoin(names, ", ");
  ICEPIE_ASSIGN_OR_RETURN(
      Json grouped,
      ParseSelect(request.connection, absl::StrCat("SELECT ", absl::StrJoin(items, ", "), " FROM (",
                                                   rows, ") AS d(", list, ") GROUP BY ", list)));
  return std::move(grouped["node"]);
}

}  // namespace

bool ContainsAggregate(const Json& tree) {
  if (IsFunctionOf(tree, FunctionKind::kAggregate)) return true;
  if (IsClass(tree, "SUBQUERY")) return AggregatesOutside(tree["subquery"], {});
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(), ContainsAggregate);
}

absl::StatusOr<SliceStatements> PlanAggregate(const PlanRequest& request) {
  bool ordered = false;
  Json node = WithoutOrder(request.statement, &ordered);
  if (!IsType(node, "SELECT_NODE")) return OtherKind("does not group");
  if (IsDistinct(node) && !IsAggregation(node)) {
    ICEPIE_ASSIGN_OR_RETURN(node, DistinctAsGroups(request, std::move(node)));
  }
  if (!IsAggregation(node)) return OtherKind("does not group");
  if (Has(node, "modifiers")) return StandsInTheWay("has DISTINCT, ORDER BY or LIMIT over groups");
  std::vector<size_t> sets_of_nothing;
  if (node["group_sets"].size() > 1) {
    ICEPIE_ASSIGN_OR_RETURN(GroupedSets grouped, SetsAsGroups(request.connection, node));
    node = std::move(grouped.node);
    sets_of_nothing = std::move(grouped.of_nothing);
  }
  ICEPIE_ASSIGN_OR_RETURN(const RowShape shape, FindGroupedShape(request, node));
  ICEPIE_ASSIGN_OR_RETURN(
      SliceStatements statements,
      AggregatePlanner(request, node, shape, std::move(sets_of_nothing)).Plan());
  if (ordered) absl::StrAppend(&statements.why, "; ORDER BY is dropped: a slice is a set");
  return statements;
}

}  // namespace icepie::slices
