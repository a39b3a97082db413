#include "slices/plan/parts_plan.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "slices/plan/change_feed.h"
#include "slices/plan/join_plan.h"
#include "slices/plan/join_shape.h"
#include "slices/plan/key_shape.h"
#include "slices/plan/keys_plan.h"
#include "slices/plan/part_references.h"
#include "slices/plan/retract_plan.h"
#include "slices/plan/row_order.h"
#include "slices/plan/row_shape.h"
#include "slices/plan/sql_binding.h"

namespace icepie::slices {
namespace {

constexpr int kPartsMax = 16;
constexpr int kPartLevelsMax = 64;
// Names like those of the parts' tables and columns.
bool HasReservedName(const Json& tree) {
  const auto reserved = [](const Json& name) {
    return name.is_string() && absl::StartsWith(name.get<std::string>(), "__");
  };
  return AnyNode(tree, [&](const Json& node) {
    if (!node.is_object()) return false;
    const auto names = node.find("column_names");
    if (names != node.end() && names->is_array() &&
        std::any_of(names->begin(), names->end(), reserved)) {
      return true;
    }
    return absl::StartsWith(TextOf(node, "alias"), "__") ||
           absl::StartsWith(TextOf(node, "table_name"), "__");
  });
}

// SELECT … FROM … WHERE … and no more.
bool IsPlain(const Json& level) {
  return !IsAggregation(level) && !Has(level, "modifiers") && !Has(level, "qualify") &&
         !ContainsClass(level["select_list"], "WINDOW");
}

// The conjuncts of `condition` of which `holds` is true.
void AddConjuncts(const Json& condition, const std::function<bool(const Json&)>& holds,
                  Json& conjuncts) {
  if (IsType(condition, "CONJUNCTION_AND")) {
    for (const Json& child : condition["children"]) AddConjuncts(child, holds, conjuncts);
  } else if (condition.is_object() && holds(condition)) {
    conjuncts.push_back(condition);
  }
}

// The view of what is counted against limits.kept_rows; a part has its own.
constexpr char kRowsView[] = "CREATE VIEW __rows";

// The table that `sql` makes; "" when it makes none.
std::string TableIn(const std::string& sql) {
  constexpr absl::string_view kTable = "CREATE TABLE ";
  if (!absl::StartsWith(sql, kTable)) return "";
  return sql.substr(kTable.size(), sql.find(" (") - kTable.size());
}

class PartsPlanner {
 public:
  explicit PartsPlanner(const PlanRequest& request)
      : request_(request),
        connection_(request.connection),
        domain_(request.domain),
        shows_order_(ShowsOrder(request.statement, /*of_records=*/false)) {}

  absl::StatusOr<SliceStatements> Plan();
  // Takes the tables that stood for the parts while planning away.
  absl::Status Clean();

 private:
  // A query: the whole, or a part.
  struct Query {
    Json statement;
    SlicePlan slice;
    std::string part;  // "": the whole
  };

  absl::StatusOr<SliceStatements> PlanQuery(Query& query);
  absl::StatusOr<SliceStatements> PlanLevels(Query& query);
  absl::StatusOr<SliceStatements> PlanOver(Query& query, const std::string& part);
  absl::StatusOr<SliceStatements> PlanWith(StrategyPlanner planner, const Query& query) const;
  absl::StatusOr<Json*> FindLowest(Json& node) const;

  // Parts.
  absl::StatusOr<std::string> AddPart(const Json& node, const std::vector<std::string>& key);
  void AddStatements(const SlicePlan& slice, SliceStatements statements);
  absl::Status MakeStandIn(const SlicePlan& slice);
  absl::StatusOr<Json> TableOf(const std::string& relation, const std::string& alias) const;
  absl::Status TakeSubqueries(Json& level);
  absl::Status TakeJoin(Json& level);
  absl::Status TakeAllButLast(Json& level);
  absl::Status TakeBelow(Query& query);
  absl::StatusOr<std::vector<std::string>> PassTies(Json& node) const;
  std::vector<std::string> TiesOfSlice(const std::string& name) const;
  std::vector<JoinColumn> TiesOfJoin(const std::vector<JoinRelation>& relations, size_t end) const;

  absl::Status TakeUsing(Json& level) const;

  PlanRequest RequestOf(const Query& query) const {
    return {connection_, domain_, sql_, query.statement, query.slice, query.part};
  }
  std::vector<SourceUse> SourcesIn(const Json& node) const;
  std::vector<std::string> SlicesIn(const Json& node) const;
  void NameForPeople(const std::string& part, const std::vector<JoinRelation>& relations,
                     const std::vector<JoinColumn>& columns);
  std::string ForPeople(absl::string_view text) const;
  void Join(SliceStatements& whole) const;

  const PlanRequest& request_;
  DuckConnection& connection_;
  DomainPlan domain_;  // with the parts
  const bool shows_order_;
  const std::string sql_;
  int parts_ = 0;
  std::vector<std::string> stand_ins_;
  std::vector<std::pair<std::string, std::string>> names_;  // of parts, for people
  std::vector<std::string> whys_;
  SliceStatements all_;               // of the parts
  std::vector<std::string> kept_;     // their tables
  std::vector<std::string> changes_;  // where their changes are
};

// The items of a part's SELECT: what is read of its relations.
absl::Status AddItems(DuckConnection& connection, const std::vector<JoinRelation>& relations,
                      const std::vector<JoinColumn>& taken, Json& items) {
  for (size_t i = 0; i < taken.size(); ++i) {
    ICEPIE_ASSIGN_OR_RETURN(
        Json item, ParseExpression(connection,
                                   absl::StrCat(QuoteIdentifier(relations[taken[i].relation].alias),
                                                ".", QuoteIdentifier(taken[i].name))));
    item["alias"] = PartReferences::Column(i);
    items.push_back(std::move(item));
  }
  if (!items.empty()) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(Json one, ParseExpression(connection, "1"));
  one["alias"] = PartReferences::Column(0);
  items.push_back(std::move(one));
  return absl::OkStatus();
}

Json SelectNode(Json items, Json from, Json where) {
  return {{"type", "SELECT_NODE"},
          {"modifiers", Json::array()},
          {"cte_map", {{"map", Json::array()}}},
          {"select_list", std::move(items)},
          {"from_table", std::move(from)},
          {"where_clause", std::move(where)},
          {"group_expressions", Json::array()},
          {"group_sets", Json::array()},
          {"aggregate_handling", "STANDARD_HANDLING"},
          {"having", nullptr},
          {"sample", nullptr},
          {"qualify", nullptr}};
}

absl::Status PartsPlanner::TakeUsing(Json& level) const {
  Json& from = level["from_table"];
  if (!AnyNode(from, [](const Json& node) { return Has(node, "using_columns"); })) {
    return absl::OkStatus();
  }
  Query query;
  query.slice.sources = request_.slice.sources;
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<JoinRelation> relations,
                          FindRelations(RequestOf(query), from, level));
  return UsingToOn(connection_, relations, level);
}

// ---- Parts -------------------------------------------------------------------------------------

std::vector<SourceUse> PartsPlanner::SourcesIn(const Json& node) const {
  std::vector<SourceUse> found;
  for (const SourceUse& use : request_.slice.sources) {
    const bool read = AnyNode(node, [&](const Json& each) {
      return IsType(each, "BASE_TABLE") &&
             absl::EqualsIgnoreCase(TextOf(each, "table_name"), use.source);
    });
    if (read) found.push_back(use);
  }
  return found;
}

std::vector<std::string> PartsPlanner::SlicesIn(const Json& node) const {
  std::vector<std::string> found;
  for (const SlicePlan& slice : domain_.slices) {
    const bool read = AnyNode(node, [&](const Json& each) {
      return IsType(each, "BASE_TABLE") &&
             absl::EqualsIgnoreCase(TextOf(each, "table_name"), slice.slice);
    });
    if (read) found.push_back(slice.slice);
  }
  return found;
}

// A part's relation in FROM.
absl::StatusOr<Json> PartsPlanner::TableOf(const std::string& relation,
                                           const std::string& alias) const {
  ICEPIE_ASSIGN_OR_RETURN(
      Json statement,
      ParseSelect(connection_, absl::StrCat("SELECT 1 FROM ", QuoteIdentifier(relation))));
  Json table = std::move(statement["node"]["from_table"]);
  table["alias"] = alias;
  return table;
}

// Empty tables for a part's rows and changes, which the rest is bound to.
absl::Status PartsPlanner::MakeStandIn(const SlicePlan& slice) {
  std::vector<std::string> columns;
  for (const OutputColumn& column : slice.columns) {
    columns.push_back(absl::StrCat(QuoteIdentifier(column.name), " ", column.type));
  }
  const std::string list = absl::StrJoin(columns, ", ");
  const std::string changes = ChangesOf(slice.slice);
  stand_ins_.push_back(slice.slice);
  stand_ins_.push_back(changes);
  ICEPIE_RETURN_IF_ERROR(connection_.Run(absl::StrCat(
      "CREATE OR REPLACE TEMP TABLE ", QuoteIdentifier(slice.slice), " (", list, ")")));
  return connection_.Run(absl::StrCat("CREATE OR REPLACE TEMP TABLE ", QuoteIdentifier(changes),
                                      " (", list, ", ", kSignColumn, " ", kSignType, ")"));
}

absl::Status PartsPlanner::Clean() {
  for (const std::string& name : stand_ins_) {
    ICEPIE_RETURN_IF_ERROR(
        connection_.Run(absl::StrCat("DROP TABLE IF EXISTS temp.main.", QuoteIdentifier(name))));
  }
  return absl::OkStatus();
}

// What keeps the part, and writes down what it changes.
void PartsPlanner::AddStatements(const SlicePlan& slice, SliceStatements statements) {
  const std::string changes = QuoteIdentifier(ChangesOf(slice.slice));
  const auto write = [&](const std::string& rows, int sign) {
    return ApplyStatement{absl::StrCat("INSERT INTO ", changes, " SELECT *, CAST(", sign, " AS ",
                                       kSignType, ") FROM (", rows, ")")};
  };
  for (std::string& sql : statements.create) {
    const std::string table = TableIn(sql);
    if (!table.empty()) kept_.push_back(table);
    if (!absl::StartsWith(sql, kRowsView)) all_.create.push_back(std::move(sql));
  }
  std::vector<std::string> columns;
  for (const OutputColumn& column : slice.columns) {
    columns.push_back(absl::StrCat(QuoteIdentifier(column.name), " ", column.type));
  }
  all_.create.push_back(absl::StrCat("CREATE TABLE ", changes, " (", absl::StrJoin(columns, ", "),
                                     ", ", kSignColumn, " ", kSignType, ")"));
  for (size_t i = 0; i < statements.apply.size(); ++i) {
    if (i == statements.touched.statement)
      all_.apply.push_back(write(statements.touched.before, -1));
    all_.apply.push_back(std::move(statements.apply[i]));
  }
  all_.apply.push_back(write(statements.touched.after, 1));
  for (ApplyStatement& clear : statements.clear) all_.clear.push_back(std::move(clear));
  changes_.push_back(changes);
  whys_.push_back(std::move(statements.why));
}

// Plans the query `node` as a part; the name of its relation. `key`: what its rows are told apart
// by.
absl::StatusOr<std::string> PartsPlanner::AddPart(const Json& node,
                                                  const std::vector<std::string>& key) {
  Query query;
  query.statement = request_.statement;
  query.statement["node"] = node;
  query.part = absl::StrCat("_", ++parts_);
  if (parts_ > kPartsMax) return StandsInTheWay("has too many joins and subqueries");
  query.slice.slice = absl::StrCat("__result", query.part);
  query.slice.strategy = Strategy::kKeys;
  ICEPIE_ASSIGN_OR_RETURN(const std::string sql, SelectToSql(connection_, query.statement));
  absl::StatusOr<std::vector<OutputColumn>> bound = BindSelect(connection_, sql);
  if (IsPassing(bound.status())) return bound.status();
  if (!bound.ok()) {
    return StandsInTheWay(
        absl::StrCat("joins what does not stand alone (", bound.status().message(), ")"));
  }
  query.slice.columns = *std::move(bound);
  std::set<std::string> names;
  for (const OutputColumn& column : query.slice.columns) {
    if (names.insert(absl::AsciiStrToLower(column.name)).second) continue;
    return StandsInTheWay("joins a subquery with two columns of one name");
  }
  query.slice.sources = SourcesIn(node);
  query.slice.upstream = SlicesIn(node);
  SliceDef definition;
  definition.name = query.slice.slice;
  definition.key = key;
  domain_.definition.slices.push_back(std::move(definition));
  ICEPIE_ASSIGN_OR_RETURN(SliceStatements statements, PlanQuery(query));
  query.slice.hands_out_changes = true;
  AddStatements(query.slice, std::move(statements));
  ICEPIE_RETURN_IF_ERROR(MakeStandIn(query.slice));
  domain_.slices.push_back(query.slice);
  return query.slice.slice;
}

// Each subquery that is joined becomes a part.
absl::Status PartsPlanner::TakeSubqueries(Json& level) {
  for (Json* table : TablesOf(level["from_table"])) {
    if (!IsType(*table, "SUBQUERY")) continue;
    if (Has(*table, "column_name_alias")) return StandsInTheWay("renames columns in FROM");
    DropUnread(level, *table);
    ICEPIE_ASSIGN_OR_RETURN(const std::string part, AddPart((*table)["subquery"]["node"], {}));
    const std::string alias = TextOf(*table, "alias");
    names_.emplace_back(part, alias.empty() ? "its subquery" : alias);
    ICEPIE_ASSIGN_OR_RETURN(*table, TableOf(part, alias));
  }
  return absl::OkStatus();
}

// What decides between equal rows of a slice, where that can be seen; else only what tells them
// apart.
std::vector<std::string> PartsPlanner::TiesOfSlice(const std::string& name) const {
  const SliceDef& definition = *domain_.definition.FindSlice(name);
  return shows_order_ ? TiesOf(definition, *domain_.Find(name)) : definition.key;
}

// What decides between equal rows of a join: the positions of its records.
std::vector<JoinColumn> PartsPlanner::TiesOfJoin(const std::vector<JoinRelation>& relations,
                                                 size_t end) const {
  std::vector<JoinColumn> ties;
  for (size_t i = 0; i < end; ++i) {
    if (!relations[i].visible) continue;
    if (relations[i].source != nullptr) {
      ties.push_back({i, "_position"});
      continue;
    }
    for (const std::string& column : TiesOfSlice(relations[i].name)) {
      ties.push_back({i, absl::AsciiStrToLower(column)});
    }
  }
  return ties;
}

void PartsPlanner::NameForPeople(const std::string& part,
                                 const std::vector<JoinRelation>& relations,
                                 const std::vector<JoinColumn>& columns) {
  names_.emplace_back(part, "its join");
  for (size_t i = 0; i < columns.size(); ++i) {
    names_.emplace_back(absl::StrCat(part, ".", PartReferences::Column(i)),
                        absl::StrCat(relations[columns[i].relation].name, ".", columns[i].name));
  }
}

// The level's join becomes a part, which the level then reads.
absl::Status PartsPlanner::TakeJoin(Json& level) {
  for (const char* hindrance : {"SUBQUERY", "STAR", "LAMBDA"}) {
    for (const char* part : kLevelExpressions) {
      if (!ContainsClass(level[part], hindrance)) continue;
      return StandsInTheWay(absl::StrCat("has ", absl::AsciiStrToLower(hindrance), " in a join"));
    }
  }
  Query query;
  query.slice.sources = request_.slice.sources;
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<JoinRelation> relations,
                          FindRelations(RequestOf(query), level["from_table"], level));
  const std::string name = absl::StrCat("__result_", parts_ + 1);
  PartReferences references(relations, relations.size(), name);
  Json where = level["where_clause"];
  if (where.is_object() && references.AreTaken(where)) {
    level["where_clause"] = Json();
  } else {
    where = Json();
  }
  ICEPIE_RETURN_IF_ERROR(references.RewriteLevel(level));
  std::vector<std::string> key;
  for (const JoinColumn& tie : TiesOfJoin(relations, relations.size())) {
    key.push_back(references.NameOf(tie));
  }
  Json items = Json::array();
  ICEPIE_RETURN_IF_ERROR(AddItems(connection_, relations, references.taken(), items));
  NameForPeople(name, relations, references.taken());
  ICEPIE_ASSIGN_OR_RETURN(
      const std::string part,
      AddPart(SelectNode(std::move(items), std::move(level["from_table"]), std::move(where)), key));
  ICEPIE_ASSIGN_OR_RETURN(level["from_table"], TableOf(part, ""));
  return absl::OkStatus();
}

// All relations of the level's join but the last become a part.
absl::Status PartsPlanner::TakeAllButLast(Json& level) {
  Json& from = level["from_table"];
  Query query;
  query.slice.sources = request_.slice.sources;
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<JoinRelation> relations,
                          FindRelations(RequestOf(query), from, level));
  const size_t end = relations.size() - 1;
  const std::string name = absl::StrCat("__result_", parts_ + 1);
  PartReferences references(relations, end, name);
  // Rows that WHERE would drop for what they are on this side alone.
  Json conjuncts = Json::array();
  AddConjuncts(
      level["where_clause"], [&](const Json& node) { return references.AreTaken(node); },
      conjuncts);
  ICEPIE_RETURN_IF_ERROR(references.RewriteLevel(level));
  ICEPIE_RETURN_IF_ERROR(references.Rewrite(from["condition"], nullptr));
  std::vector<std::string> key;
  for (const JoinColumn& tie : TiesOfJoin(relations, end)) {
    key.push_back(references.NameOf(tie));
  }
  Json items = Json::array();
  ICEPIE_RETURN_IF_ERROR(AddItems(connection_, relations, references.taken(), items));
  NameForPeople(name, relations, references.taken());
  Json left = std::move(from["left"]);
  ICEPIE_ASSIGN_OR_RETURN(
      const std::string part,
      AddPart(SelectNode(std::move(items), std::move(left), Conjunction(std::move(conjuncts))),
              key));
  ICEPIE_ASSIGN_OR_RETURN(from["left"], TableOf(part, ""));
  return absl::OkStatus();
}

// Lets a query that is to be a part hand on what decides between equal rows: their columns. None
// when it groups.
absl::StatusOr<std::vector<std::string>> PartsPlanner::PassTies(Json& node) const {
  Json statement = {{"node", node}};
  const std::vector<Json*> levels = LevelsOf(statement);
  std::vector<std::string> ties;
  const Json& from = (*levels.back())["from_table"];
  if (!IsType(from, "BASE_TABLE")) return ties;
  const std::string name = LowerText(from, "table_name");
  const bool slice = domain_.definition.FindSlice(name) != nullptr;
  ties = slice ? TiesOfSlice(name) : std::vector<std::string>{"_position"};
  for (const Json* level : levels) {
    if (IsGrouped(*level)) return std::vector<std::string>();
    if (ContainsClass((*level)["select_list"], "STAR"))
      return StandsInTheWay("has * in a subquery");
  }
  std::vector<std::string> passed;
  for (size_t i = 0; i < ties.size(); ++i) {
    passed.push_back(absl::StrCat("__t", i));
    for (auto level = levels.rbegin(); level != levels.rend(); ++level) {
      const bool lowest = level == levels.rbegin();
      Json item = ColumnReference(lowest ? ties[i] : passed.back());
      item["alias"] = passed.back();
      (**level)["select_list"].push_back(std::move(item));
    }
  }
  node = std::move(statement["node"]);
  return passed;
}

// The subquery that the query reads becomes a part.
absl::Status PartsPlanner::TakeBelow(Query& query) {
  Json& node = query.statement["node"];
  Json& from = node["from_table"];
  if (ContainsClass(node["select_list"], "STAR")) return StandsInTheWay("has * over a subquery");
  DropUnread(node, from);
  Json below = from["subquery"]["node"];
  bool ordered = false;
  below = WithoutOrder({{"node", below}}, &ordered);
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<std::string> key, PassTies(below));
  if (key.empty() && AnyTakesFirst(node)) {
    return StandsInTheWay("aggregates groups in an order that they do not have");
  }
  const std::string alias = TextOf(from, "alias");
  ICEPIE_ASSIGN_OR_RETURN(const std::string part, AddPart(below, key));
  names_.emplace_back(part, "its subquery");
  ICEPIE_ASSIGN_OR_RETURN(from, TableOf(part, alias));
  return absl::OkStatus();
}

// ---- Queries -----------------------------------------------------------------------------------

absl::StatusOr<SliceStatements> PartsPlanner::PlanWith(StrategyPlanner planner,
                                                       const Query& query) const {
  return planner(RequestOf(query));
}

// The level that reads no subquery alone.
absl::StatusOr<Json*> PartsPlanner::FindLowest(Json& node) const {
  Json* level = &node;
  for (int depth = 0; depth < kPartLevelsMax; ++depth) {
    if (!IsType(*level, "SELECT_NODE"))
      return StandsInTheWay("combines queries (UNION, INTERSECT, EXCEPT)");
    ICEPIE_RETURN_IF_ERROR(InlineCtes(*level));
    Json& from = (*level)["from_table"];
    if (!IsType(from, "SUBQUERY")) return level;
    level = &from["subquery"]["node"];
  }
  return StandsInTheWay("nests too many subqueries");
}

// What reads the part's rows.
absl::StatusOr<SliceStatements> PartsPlanner::PlanOver(Query& query, const std::string& part) {
  query.slice.sources.clear();
  query.slice.upstream = {part};
  if (query.part.empty()) {
    absl::StatusOr<SliceStatements> retracted = PlanWith(PlanRetract, query);
    if (retracted.ok()) return retracted;
  }
  absl::StatusOr<SliceStatements> keyed = PlanWith(PlanKeys, query);
  const Json& from = query.statement["node"]["from_table"];
  if (keyed.ok() || !IsType(from, "SUBQUERY")) return keyed;
  ICEPIE_RETURN_IF_ERROR(TakeBelow(query));
  return PlanOver(query, TextOf(from, "table_name"));
}

absl::StatusOr<SliceStatements> PartsPlanner::PlanLevels(Query& query) {
  Json& node = query.statement["node"];
  ICEPIE_ASSIGN_OR_RETURN(Json* const lowest, FindLowest(node));
  Json& from = (*lowest)["from_table"];
  if (!IsType(from, "JOIN")) {
    if (lowest == &node) return OtherKind("reads no join and no subquery");
    ICEPIE_RETURN_IF_ERROR(TakeBelow(query));
    return PlanOver(query, TextOf(node["from_table"], "table_name"));
  }
  ICEPIE_RETURN_IF_ERROR(TakeSubqueries(*lowest));
  if (AnyTakesFirst(node)) {
    return StandsInTheWay("aggregates a join in an order that it does not have");
  }
  ICEPIE_RETURN_IF_ERROR(TakeUsing(*lowest));
  query.slice.sources = SourcesIn(node);
  query.slice.upstream = SlicesIn(node);
  if (lowest == &node) {
    absl::StatusOr<SliceStatements> joined = PlanWith(PlanJoin, query);
    if (joined.ok()) return joined;
    if (IsPlain(node)) {
      if (TablesOf(from).size() < 3) return joined;
      ICEPIE_RETURN_IF_ERROR(TakeAllButLast(node));
      query.slice.sources = SourcesIn(node);
      query.slice.upstream = SlicesIn(node);
      return PlanWith(PlanJoin, query);
    }
  }
  ICEPIE_RETURN_IF_ERROR(TakeJoin(*lowest));
  return PlanOver(query, TextOf(from, "table_name"));
}

absl::StatusOr<SliceStatements> PartsPlanner::PlanQuery(Query& query) {
  if (query.part.empty()) return PlanLevels(query);
  absl::StatusOr<SliceStatements> keyed = PlanWith(PlanKeys, query);
  if (keyed.ok()) return keyed;
  absl::StatusOr<SliceStatements> joined = PlanLevels(query);
  return absl::IsUnimplemented(joined.status()) ? keyed : joined;
}

std::string PartsPlanner::ForPeople(absl::string_view text) const {
  std::string named(text);
  // Later parts may be told of in the words of earlier ones.
  for (auto name = names_.rbegin(); name != names_.rend(); ++name) {
    named = absl::StrReplaceAll(
        named, {{absl::StrCat("slice ", name->first), name->second}, {name->first, name->second}});
  }
  return named;
}

// The parts' statements in front of those of the whole.
void PartsPlanner::Join(SliceStatements& whole) const {
  std::vector<std::string> kept = kept_;
  std::vector<std::string> create = all_.create;
  for (const std::string& sql : whole.create) {
    const std::string table = TableIn(sql);
    if (absl::StartsWith(table, "__rows")) kept.push_back(table);
    if (!absl::StartsWith(sql, kRowsView)) create.push_back(sql);
  }
  create.push_back(absl::StrCat(kRowsView, " AS SELECT 1 FROM ",
                                absl::StrJoin(kept, " UNION ALL SELECT 1 FROM ")));
  whole.create = std::move(create);
  whole.keeps_rows = true;
  whole.touched.statement += all_.apply.size();
  whole.apply.insert(whole.apply.begin(), all_.apply.begin(), all_.apply.end());
  whole.clear.insert(whole.clear.begin(), all_.clear.begin(), all_.clear.end());
  for (const std::string& changes : changes_) {
    whole.apply.push_back({absl::StrCat("DELETE FROM ", changes)});
  }
}

absl::StatusOr<SliceStatements> PartsPlanner::Plan() {
  const auto has_several = [](const Json& node) {
    return IsType(node, "JOIN") || IsType(node, "SUBQUERY") ||
           (node.is_object() && node.contains("cte_map") && Has(node["cte_map"], "map"));
  };
  if (!AnyNode(request_.statement, has_several)) return OtherKind("reads no join and no subquery");
  // The columns of a part compare text byte by byte.
  if (ContainsClass(request_.statement, "COLLATE")) return StandsInTheWay("has COLLATE");
  if (HasReservedName(request_.statement)) {
    return StandsInTheWay("has names that begin with __ beside a join or a subquery");
  }
  Query query;
  query.statement = request_.statement;
  query.slice = request_.slice;
  bool ordered = false;
  query.statement["node"] = WithoutOrder(request_.statement, &ordered);
  absl::StatusOr<SliceStatements> planned = PlanQuery(query);
  if (!planned.ok()) {
    return absl::Status(planned.status().code(), ForPeople(planned.status().message()));
  }
  std::vector<std::string> whys = {planned->why};
  whys.insert(whys.end(), whys_.rbegin(), whys_.rend());
  planned->why = ForPeople(absl::StrJoin(whys, "; below it "));
  if (ordered) absl::StrAppend(&planned->why, "; ORDER BY is dropped: a slice is a set");
  planned->reads_changes = !request_.slice.upstream.empty();
  if (parts_ > 0) Join(*planned);
  return planned;
}

}  // namespace

absl::StatusOr<SliceStatements> PlanParts(const PlanRequest& request) {
  PartsPlanner planner(request);
  absl::StatusOr<SliceStatements> planned = planner.Plan();
  ICEPIE_RETURN_IF_ERROR(planner.Clean());
  return planned;
}

}  // namespace icepie::slices
