#include "slices/plan/keys_plan.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/plan/change_feed.h"
#include "slices/plan/fallible_expression.h"
#include "slices/plan/key_shape.h"
#include "slices/plan/retain_plan.h"
#include "slices/plan/row_order.h"
#include "slices/plan/row_shape.h"
#include "slices/plan/spelled_stars.h"
#include "slices/plan/sql_binding.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {
namespace {

// A table is written anew when so many of its rows, and more than are left, have been deleted:
// DuckDB does not give back their space by itself.
constexpr int kDeletedRowsKept = 65536;

constexpr char kPosition[] = "__position";

std::string KeyColumn(size_t index) { return absl::StrCat("__key", index); }

// What the SQL reads.
struct Input {
  std::string relation;              // in errors and explanations
  std::vector<std::string> columns;  // in the relation's order
  bool slice = false;                // read where it stands, and not kept
  std::vector<std::string> ties;     // of a slice: the columns that decide between equal rows
  std::vector<std::string> key;      // of a slice: what tells its rows apart; may be empty
};

class KeysPlanner {
 public:
  KeysPlanner(const PlanRequest& request, KeyShape shape, Input input)
      : connection_(request.connection),
        request_(request),
        shape_(std::move(shape)),
        input_(std::move(input)),
        data_("__data" + request.part),
        rows_("__rows" + request.part),
        batch_("__batch" + request.part),
        touched_("__keys" + request.part),
        any_touched_(absl::StrCat("SELECT 1 FROM ", touched_, " LIMIT 1")) {
    for (const std::string& column : input_.columns) columns_.push_back(QuoteIdentifier(column));
    for (size_t i = 0; i < shape_.keys.size(); ++i) keys_.push_back(KeyColumn(i));
    numbers_rows_ = input_.slice && NeedsNumbers();
  }

  absl::StatusOr<SliceStatements> Plan();

 private:
  absl::StatusOr<std::vector<std::string>> Create(const std::string& batch);
  absl::StatusOr<std::string> BatchSelect();
  Json ForAnyRow(const Json& expression);
  absl::StatusOr<Json> BatchFilter();
  std::string TypeOf(const Json& expression);
  std::vector<ApplyStatement> TakeBatch(const std::string& batch) const;
  absl::StatusOr<std::string> KeyedRows();
  bool NeedsNumbers();
  std::string Order() const;
  std::string TouchedRows() const;
  absl::StatusOr<std::string> Prune();
  absl::StatusOr<std::string> Replacement(const std::string& comparison);
  absl::StatusOr<Json> RowsOfKeys(const Json& relation, const std::string& comparison);
  void PassKeys(Json& level, bool single) const;
  std::string SameKeys(const std::string& a, const std::string& b,
                       const std::string& comparison) const;
  std::string AnyNull() const;
  void AddReplacement(std::vector<ApplyStatement>& apply, const std::string& comparison,
                      const std::string& insert) const;
  std::string Why() const;
  absl::Status AddRetained(SliceStatements& statements);
  absl::Status CountLate(size_t key, SliceStatements& statements);

  DuckConnection& connection_;
  const PlanRequest& request_;
  KeyShape shape_;
  const Input input_;
  const std::string data_;
  const std::string rows_;
  const std::string batch_;
  const std::string touched_;  // keys
  const std::string any_touched_;
  bool numbers_rows_ = false;         // those of a slice, in place of positions
  std::vector<std::string> columns_;  // of the input, quoted
  std::vector<std::string> keys_;
};

// a.__key0 = b.__key0 AND …
std::string KeysPlanner::SameKeys(const std::string& a, const std::string& b,
                                  const std::string& comparison) const {
  return absl::StrJoin(keys_, " AND ", [&](std::string* out, const std::string& key) {
    absl::StrAppend(out, a, ".", key, comparison, b, ".", key);
  });
}

std::string KeysPlanner::AnyNull() const {
  return absl::StrJoin(keys_, " OR ", [](std::string* out, const std::string& key) {
    absl::StrAppend(out, key, " IS NULL");
  });
}

// "" when DuckDB does not say.
std::string KeysPlanner::TypeOf(const Json& expression) {
  const absl::StatusOr<std::string> sql = ExpressionToSql(connection_, expression);
  if (!sql.ok()) return "";
  absl::StatusOr<Json> select = ParseSelect(connection_, absl::StrCat("SELECT ", *sql));
  if (!select.ok()) return "";
  (*select)["node"]["from_table"] = (*LevelsOf(shape_.statement).back())["from_table"];
  const absl::StatusOr<std::string> text = SelectToSql(connection_, *std::move(select));
  if (!text.ok()) return "";
  const auto bound = BindSelect(connection_, *text);
  return bound.ok() ? bound->front().type : "";
}

// `expression` as it is asked of every row of the input, also of those for which the SQL does not
// come to it, behind its filters: where it fails, it is NULL. On a row that the SQL does take it
// fails all the same, when the SELECT is run over the rows of that key.
Json KeysPlanner::ForAnyRow(const Json& expression) {
  const auto type_of = [this](const Json& part) { return TypeOf(part); };
  if (!MayFail(expression, type_of)) return expression;
  // TRY goes back to single rows where one fails.
  if (IsClass(expression, "CAST") && !MayFail(expression["child"], type_of)) {
    Json cast = expression;
    cast["try_cast"] = true;
    return cast;
  }
  return {{"class", "OPERATOR"},
          {"type", "OPERATOR_TRY"},
          {"alias", ""},
          {"query_location", UINT64_MAX},
          {"children", Json::array({expression})}};
}

// What is known to drop rows: they need not be kept. The filters of upper levels are asked in no
// certain order; one that fails leaves the row to the SELECT.
absl::StatusOr<Json> KeysPlanner::BatchFilter() {
  Json conditions = Json::array();
  if (shape_.where) conditions.push_back(*shape_.where);
  for (const Json& filter : shape_.filters) {
    Json condition = ForAnyRow(filter);
    if (condition != filter) {
      ICEPIE_ASSIGN_OR_RETURN(
          condition, ParseExpression(connection_, "TRY(NULL::BOOLEAN) IS DISTINCT FROM false"));
      condition["left"]["children"][0]["child"] = filter;
    }
    conditions.push_back(std::move(condition));
  }
  if (conditions.size() < 2) return conditions.empty() ? Json() : conditions.front();
  return Json{{"class", "CONJUNCTION"},
              {"type", "CONJUNCTION_AND"},
              {"alias", ""},
              {"query_location", UINT64_MAX},
              {"children", std::move(conditions)}};
}

// The batch's records, or the rows that a slice changed, with their keys, in the order of __rows.
absl::StatusOr<std::string> KeysPlanner::BatchSelect() {
  Json statement = shape_.statement;
  Json level = *LevelsOf(statement).back();
  Json items = Json::array();
  for (size_t i = 0; i < keys_.size(); ++i) {
    items.push_back(ForAnyRow(shape_.keys[i]));
    items.back()["alias"] = keys_[i];
  }
  for (const std::string& column : columns_) {
    ICEPIE_ASSIGN_OR_RETURN(Json item, ParseExpression(connection_, column));
    items.push_back(std::move(item));
  }
  level["select_list"] = std::move(items);
  ICEPIE_ASSIGN_OR_RETURN(level["where_clause"], BatchFilter());
  level["group_expressions"] = Json::array();
  level["group_sets"] = Json::array();
  level["aggregate_handling"] = "STANDARD_HANDLING";
  level["having"] = Json();
  level["qualify"] = Json();
  level["modifiers"] = Json::array();
  Json& from = level["from_table"];
  if (input_.slice) {
    if (TextOf(from, "alias").empty()) from["alias"] = TextOf(from, "table_name");
    from["table_name"] = ChangesOf(input_.relation);
  }
  statement["node"] = std::move(level);
  return SelectToSql(connection_, std::move(statement));
}

absl::StatusOr<std::vector<std::string>> KeysPlanner::Create(const std::string& batch) {
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<OutputColumn> bound, BindSelect(connection_, batch));
  std::vector<std::string> rows;
  std::vector<std::string> data;
  for (size_t i = 0; i < bound.size(); ++i) {
    rows.push_back(absl::StrCat(QuoteIdentifier(bound[i].name), " ", bound[i].type));
    if (i < keys_.size()) data.push_back(rows.back());
  }
  std::vector<std::string> outputs;
  for (const OutputColumn& column : request_.slice.columns) {
    outputs.push_back(QuoteIdentifier(column.name));
    data.push_back(absl::StrCat(outputs.back(), " ", column.type));
  }
  std::vector<std::string> create = {
      absl::StrCat("CREATE TABLE ", data_, " (", absl::StrJoin(data, ", "), ")"),
      absl::StrCat("CREATE VIEW __result", request_.part, " AS SELECT ",
                   absl::StrJoin(outputs, ", "), " FROM ", data_)};
  if (!input_.slice) {
    create.push_back(absl::StrCat("CREATE TABLE ", rows_, " (", absl::StrJoin(rows, ", "), ")"));
  }
  return create;
}

// Deletes what the batch has pushed out of the first rows of its keys.
absl::StatusOr<std::string> KeysPlanner::Prune() {
  std::vector<std::string> partitions;
  for (const Json& partition : shape_.top->partitions) {
    ICEPIE_ASSIGN_OR_RETURN(std::string sql, ExpressionToSql(connection_, ForAnyRow(partition)));
    partitions.push_back(std::move(sql));
  }
  ICEPIE_ASSIGN_OR_RETURN(
      Json window,
      ParseExpression(connection_, absl::StrCat("row_number() OVER (PARTITION BY ",
                                                absl::StrJoin(partitions, ", "), ")")));
  window["orders"] = shape_.top->orders;
  for (Json& order : window["orders"]) order["expression"] = ForAnyRow(order["expression"]);
  window["orders"].push_back({{"type", "ASCENDING"},
                              {"null_order", "ORDER_DEFAULT"},
                              {"expression", ColumnReference("_position")}});
  ICEPIE_ASSIGN_OR_RETURN(const std::string place, ExpressionToSql(connection_, window));
  return absl::StrCat("DELETE FROM ", rows_, " WHERE rowid IN (SELECT __row FROM (SELECT __row, ",
                      place, " AS __place FROM (SELECT r.*, r.rowid AS __row FROM ", rows_,
                      " AS r SEMI JOIN ", touched_, " AS k ON ",
                      SameKeys("r", "k", " IS NOT DISTINCT FROM "), ")) WHERE __place > ",
                      shape_.top->count, ")");
}

// The rows of the input, with their keys.
absl::StatusOr<std::string> KeysPlanner::KeyedRows() {
  if (!input_.slice) return rows_;
  std::string keys;
  for (size_t i = 0; i < keys_.size(); ++i) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string sql,
                            ExpressionToSql(connection_, ForAnyRow(shape_.keys[i])));
    absl::StrAppend(&keys, ", ", sql, " AS ", keys_[i]);
  }
  ICEPIE_ASSIGN_OR_RETURN(Json filter, BatchFilter());
  std::string where;
  if (!filter.is_null()) {
    ICEPIE_ASSIGN_OR_RETURN(where, ExpressionToSql(connection_, std::move(filter)));
  }
  return absl::StrCat("(SELECT *", keys, " FROM ", QuoteIdentifier(input_.relation),
                      where.empty() ? "" : " WHERE ", where, ")");
}

// Whether it has to be known above the lowest level, or to an aggregate, which of equal rows of a
// slice is the first. Elsewhere its ties are put into the orders that the lowest level has.
bool KeysPlanner::NeedsNumbers() {
  if (!ShowsOrder(shape_.statement, /*of_records=*/false)) return false;
  return LevelsOf(shape_.statement).size() > 1 || AnyTakesFirst(shape_.statement);
}

// That of a slice's rows.
std::string KeysPlanner::Order() const {
  return absl::StrJoin(input_.ties, ", ", [](std::string* out, const std::string& column) {
    absl::StrAppend(out, QuoteIdentifier(column));
  });
}

// What takes the relation's place: its rows of the batch's keys, in order.
absl::StatusOr<Json> KeysPlanner::RowsOfKeys(const Json& relation, const std::string& comparison) {
  const std::string alias = TextOf(relation, "alias").empty() ? TextOf(relation, "table_name")
                                                              : TextOf(relation, "alias");
  ICEPIE_ASSIGN_OR_RETURN(const std::string rows, KeyedRows());
  std::string position = absl::StrCat(", _position AS ", kPosition);
  if (input_.slice) position = "";
  if (numbers_rows_) {
    position = absl::StrCat(", row_number() OVER (ORDER BY ", Order(), ") AS ", kPosition);
  }
  const std::string sql = absl::StrCat(
      "SELECT 1 FROM (SELECT ", absl::StrJoin(columns_, ", "), ", ", absl::StrJoin(keys_, ", "),
      position, " FROM ", rows, " AS r SEMI JOIN ", touched_, " AS k ON ",
      SameKeys("r", "k", comparison), position.empty() ? "" : absl::StrCat(" ORDER BY ", kPosition),
      ") AS ", QuoteIdentifier(alias));
  ICEPIE_ASSIGN_OR_RETURN(Json statement, ParseSelect(connection_, sql));
  return std::move(statement["node"]["from_table"]);
}

// Lets a level hand the keys and, when its rows are `single` ones, their position to the one above.
// A star hands on all there is.
void KeysPlanner::PassKeys(Json& level, bool single) const {
  Json& items = level["select_list"];
  const bool star = std::any_of(items.begin(), items.end(),
                                [](const Json& item) { return IsClass(item, "STAR"); });
  if (star) return;
  const bool by_name = Has(level, "group_expressions");
  for (const std::string& key : keys_) {
    items.push_back(ColumnReference(key));
    if (!by_name) continue;
    level["group_sets"][0].push_back(level["group_expressions"].size());
    level["group_expressions"].push_back(ColumnReference(key));
  }
  if (single) items.push_back(ColumnReference(kPosition));
}

// The user's SELECT over the rows of the batch's keys.
absl::StatusOr<std::string> KeysPlanner::Replacement(const std::string& comparison) {
  Json statement = shape_.statement;
  const std::vector<Json*> levels = LevelsOf(statement);
  Json& top = *levels.front();
  // Names that DuckDB makes up may become others in rewritten text.
  if (top["select_list"].size() == request_.slice.columns.size()) {
    for (size_t i = 0; i < request_.slice.columns.size(); ++i) {
      Json& item = top["select_list"][i];
      if (!IsClass(item, "STAR")) item["alias"] = request_.slice.columns[i].name;
    }
  }
  bool single = !input_.slice || numbers_rows_;
  for (const std::string& column : input_.ties) {
    if (!single) BreakTies(*levels.back(), column);
  }
  for (auto level = levels.rbegin(); level != levels.rend(); ++level) {
    if (single) BreakTies(**level, kPosition);
    single = single && !IsGrouped(**level);
    PassKeys(**level, single);
  }
  Json& from = (*levels.back())["from_table"];
  ICEPIE_ASSIGN_OR_RETURN(from, RowsOfKeys(from, comparison));
  ICEPIE_ASSIGN_OR_RETURN(const std::string sql, SelectToSql(connection_, std::move(statement)));
  std::vector<std::string> outputs = keys_;
  for (const OutputColumn& column : request_.slice.columns) {
    outputs.push_back(QuoteIdentifier(column.name));
  }
  return absl::StrCat("INSERT INTO ", data_, " SELECT ", absl::StrJoin(outputs, ", "), " FROM (",
                      sql, ")");
}

// Only for `=` does DuckDB push what it knows of the batch's keys (from … to) into the scan, so
// keys with a NULL are looked for apart, when the batch has any.
void KeysPlanner::AddReplacement(std::vector<ApplyStatement>& apply, const std::string& comparison,
                                 const std::string& insert) const {
  const bool nulls = comparison != " = ";
  const std::string when =
      absl::StrCat("SELECT 1 FROM ", touched_, " HAVING count(*) > 0 AND count(*) FILTER (WHERE ",
                   AnyNull(), ") ", nulls ? ">" : "=", " 0");
  apply.push_back({absl::StrCat("DELETE FROM ", data_, " AS d USING ", touched_, " AS k WHERE ",
                                SameKeys("d", "k", comparison)),
                   when});
  apply.push_back({insert, when});
}

std::string KeysPlanner::Why() const {
  if (input_.slice) {
    return absl::StrCat("replaces the rows of the keys that slice ", input_.relation, " changes (",
                        keys_.size(), keys_.size() == 1 ? " key column)" : " key columns)");
  }
  const std::string kept =
      shape_.top
          ? absl::StrCat(
                "keeps the first ",
                shape_.top->count == 1 ? "record" : absl::StrCat(shape_.top->count, " records"),
                " of each")
          : "keeps what it reads of them";
  return absl::StrCat("replaces the rows of the keys that records of ", input_.relation, " touch (",
                      keys_.size(), keys_.size() == 1 ? " key column" : " key columns", "); ",
                      kept);
}

// Puts the keys that the batch touches into __keys, and what has to be kept of it into __rows.
std::vector<ApplyStatement> KeysPlanner::TakeBatch(const std::string& batch) const {
  const std::string keys = absl::StrJoin(keys_, ", ");
  if (input_.slice) {
    return {{absl::StrCat("CREATE OR REPLACE TEMP TABLE ", touched_, " AS SELECT DISTINCT ", keys,
                          " FROM (", batch, ")")}};
  }
  return {{absl::StrCat("CREATE OR REPLACE TEMP TABLE ", batch_, " AS ", batch)},
          {absl::StrCat("CREATE OR REPLACE TEMP TABLE ", touched_, " AS SELECT DISTINCT ", keys,
                        " FROM ", batch_)},
          {absl::StrCat("INSERT INTO ", rows_, " SELECT * FROM ", batch_), any_touched_}};
}

// The result's rows of the batch's keys.
std::string KeysPlanner::TouchedRows() const {
  std::vector<std::string> outputs;
  for (const OutputColumn& column : request_.slice.columns) {
    outputs.push_back(absl::StrCat("d.", QuoteIdentifier(column.name)));
  }
  return absl::StrCat("SELECT ", absl::StrJoin(outputs, ", "), " FROM ", data_, " AS d SEMI JOIN ",
                      touched_, " AS k ON ", SameKeys("d", "k", " IS NOT DISTINCT FROM "));
}

// What is behind the horizon of `retain` is made anew when its key is touched, and hidden again.
// The records need not be kept for that where all of a key have the time that its rows have, or
// where the only one that is kept gives way to any later one.
absl::Status KeysPlanner::AddRetained(SliceStatements& statements) {
  const auto& retain = request_.domain.definition.FindSlice(request_.slice.slice)->retain;
  if (!retain || !request_.part.empty()) return absl::OkStatus();
  statements.retained = {{data_, QuoteIdentifier(retain->column), ""}};
  if (input_.slice) return absl::OkStatus();
  statements.keeps_behind = true;
  std::set<std::string> columns;
  for (const std::string& column : input_.columns) columns.insert(absl::AsciiStrToLower(column));
  const auto time = FindOutput(shape_, columns, absl::AsciiStrToLower(retain->column));
  if (!time) return absl::OkStatus();
  const auto key = std::find(shape_.keys.begin(), shape_.keys.end(), *time);
  // Nothing that could fail is asked of records.
  const bool newest = KeepsNewest(shape_) && IsClass(*time, "COLUMN_REF");
  if (key == shape_.keys.end() && !newest) return absl::OkStatus();
  statements.keeps_behind = false;
  const auto index = static_cast<size_t>(key - shape_.keys.begin());
  std::string sql;
  if (key == shape_.keys.end()) {
    ICEPIE_ASSIGN_OR_RETURN(sql, ExpressionToSql(connection_, *time));
  } else {
    sql = KeyColumn(index);
    ICEPIE_RETURN_IF_ERROR(CountLate(index, statements));
  }
  statements.retained.push_back({rows_, absl::StrCat("(", sql, ")"), " ORDER BY _position"});
  return absl::OkStatus();
}

// Of records that the SQL's filters let pass, where that is known: the batch has those, too, on
// which an upper one fails.
absl::Status KeysPlanner::CountLate(size_t key, SliceStatements& statements) {
  const SliceDef& slice = *request_.domain.definition.FindSlice(request_.slice.slice);
  if (!shape_.where_known) return absl::OkStatus();
  for (const Json& filter : shape_.filters) {
    if (ForAnyRow(filter) != filter) return absl::OkStatus();
  }
  for (const OutputColumn& column : request_.slice.columns) {
    if (!absl::EqualsIgnoreCase(column.name, slice.retain->column)) continue;
    statements.count_late =
        absl::StrCat("SELECT count(*) FROM ", batch_, " WHERE ",
                     IsLate(*slice.retain, KeyColumn(key), column.type, "_time"));
  }
  return absl::OkStatus();
}

absl::StatusOr<SliceStatements> KeysPlanner::Plan() {
  SliceStatements statements;
  ICEPIE_ASSIGN_OR_RETURN(const std::string batch, BatchSelect());
  ICEPIE_ASSIGN_OR_RETURN(statements.create, Create(batch));
  statements.apply = TakeBatch(batch);
  statements.touched = {statements.apply.size(), TouchedRows(), TouchedRows()};
  for (const char* comparison : {" = ", " IS NOT DISTINCT FROM "}) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string insert, Replacement(comparison));
    AddReplacement(statements.apply, comparison, insert);
  }
  if (shape_.top && !input_.slice) {
    // Behind the SELECT, which has to fail on a record also when others push it out.
    ICEPIE_ASSIGN_OR_RETURN(const std::string prune, Prune());
    statements.apply.push_back({prune, any_touched_});
    AddCompaction(statements.apply, rows_, " ORDER BY _position");
  }
  AddCompaction(statements.apply, data_, "");
  ICEPIE_RETURN_IF_ERROR(AddRetained(statements));
  statements.keeps_rows = !input_.slice;
  statements.reads_changes = input_.slice;
  statements.clear = {{absl::StrCat("DELETE FROM ", data_)}};
  if (!input_.slice) statements.clear.push_back({absl::StrCat("DELETE FROM ", rows_)});
  statements.why = Why();
  return statements;
}

// A column is named, or its text is a part of a name: one too many does no harm.
bool IsNamed(const Json& node, absl::string_view column) {
  if (IsClass(node, "COLUMN_REF")) {
    for (const Json& name : node["column_names"]) {
      if (absl::AsciiStrToLower(name.get<std::string>()) == column) return true;
    }
  }
  return node.is_structured() && std::any_of(node.begin(), node.end(), [&](const Json& child) {
           return IsNamed(child, column);
         });
}

absl::StatusOr<Input> SourceInputOf(const PlanRequest& request) {
  const SlicePlan& slice = request.slice;
  const DomainDef& definition = request.domain.definition;
  if (definition.FindSlice(slice.slice)->refresh.kind != RefreshDef::Kind::kContinuous) {
    return StandsInTheWay("is refreshed on a schedule");
  }
  if (slice.sources.size() != 1) return OtherKind("does not read one source");
  const SourceDef& source = *definition.FindSource(slice.sources.front().source);
  if (!source.latest_by.empty()) {
    return StandsInTheWay(absl::StrCat("reads dimension ", source.name));
  }
  Input input;
  input.relation = source.name;
  // The columns that are read, as the source's view has them.
  input.columns = slice.sources.front().columns;
  const auto chosen = [](const Json& /*star*/, const std::string& /*source*/) {
    return std::optional<std::set<std::string>>();
  };
  const bool all =
      SpellOutStars(request.statement, {{source.name, {}}}, {}, /*has_rows=*/false, chosen)
          .has_value();
  // What comes late of a slice with `retain` is counted.
  const bool late = definition.FindSlice(slice.slice)->retain.has_value() && request.part.empty();
  for (const char* hidden : kHiddenColumns) {
    const bool kept = all || hidden == std::string("_position") ||
                      (late && hidden == std::string("_time")) ||
                      IsNamed(request.statement, hidden);
    if (kept) input.columns.emplace_back(hidden);
  }
  return input;
}

absl::StatusOr<Input> SliceInputOf(const PlanRequest& request) {
  ICEPIE_ASSIGN_OR_RETURN(const SlicePlan* upstream, OnlyUpstream(request));
  Input input;
  input.relation = upstream->slice;
  input.slice = true;
  for (const OutputColumn& column : upstream->columns) input.columns.push_back(column.name);
  const SliceDef& definition = *request.domain.definition.FindSlice(upstream->slice);
  input.key = definition.key;
  input.ties = TiesOf(definition, *upstream);
  return input;
}

// What tells the rows of an input apart: of a slice its key, or all of a row.
std::vector<std::string> IdentityOf(const PlanRequest& request, const Input& input) {
  // A whole slice of that kind is `append`.
  if (!input.slice && request.part.empty()) return {};
  if (!input.slice) return {"_position"};
  return input.key.empty() ? input.columns : input.key;
}

}  // namespace

void AddCompaction(std::vector<ApplyStatement>& apply, const std::string& table,
                   const std::string& order) {
  const std::string when = absl::StrCat("SELECT 1 WHERE (SELECT max(rowid) FROM ", table,
                                        " WHERE rowid < ", kFirstNewRow, ") > ", kDeletedRowsKept,
                                        " + 2 * (SELECT count(*) FROM ", table, ")");
  apply.push_back(
      {absl::StrCat("CREATE OR REPLACE TABLE ", table, " AS SELECT * FROM ", table, order), when});
}

absl::StatusOr<SliceStatements> PlanKeys(const PlanRequest& request) {
  ICEPIE_ASSIGN_OR_RETURN(
      Input input, request.slice.upstream.empty() ? SourceInputOf(request) : SliceInputOf(request));
  std::set<std::string> names;
  for (const std::string& column : input.columns) names.insert(absl::AsciiStrToLower(column));
  bool ordered = false;
  Json statement = request.statement;
  statement["node"] = WithoutOrder(request.statement, &ordered);
  ICEPIE_ASSIGN_OR_RETURN(KeyShape shape,
                          FindKeyShape(statement, names, IdentityOf(request, input)));
  ICEPIE_ASSIGN_OR_RETURN(SliceStatements statements,
                          KeysPlanner(request, std::move(shape), std::move(input)).Plan());
  if (ordered) absl::StrAppend(&statements.why, "; ORDER BY is dropped: a slice is a set");
  return statements;
}

}  // namespace icepie::slices
