#include "slices/parts_plan.h"

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
#include "slices/change_feed.h"
#include "slices/join_plan.h"
#include "slices/join_shape.h"
#include "slices/key_shape.h"
#include "slices/keys_plan.h"
#include "slices/retract_plan.h"
#include "slices/row_shape.h"
#include "slices/sql_binding.h"

namespace icepie::slices {
namespace {

constexpr int kPartsMax = 16;
constexpr int kLevelsMax = 64;
constexpr const char* kExpressions[] = {"select_list", "where_clause", "group_expressions",
                                        "having",      "qualify",      "modifiers"};

std::string LowerText(const Json& node, const char* member) {
  return absl::AsciiStrToLower(TextOf(node, member));
}

// The name that an item gives its column; "" when DuckDB makes one up.
std::string OutputName(const Json& item) {
  const std::string alias = LowerText(item, "alias");
  if (!alias.empty() || !IsClass(item, "COLUMN_REF")) return alias;
  return absl::AsciiStrToLower(item["column_names"].back().get<std::string>());
}

bool HasOutput(const Json& level, const std::string& name) {
  const Json& items = level["select_list"];
  return std::any_of(items.begin(), items.end(),
                     [&](const Json& item) { return OutputName(item) == name; });
}

bool ContainsClass(const Json& tree, absl::string_view expression_class) {
  return AnyNode(tree, [&](const Json& node) { return IsClass(node, expression_class); });
}

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

Json And(Json conjuncts) {
  if (conjuncts.empty()) return Json();
  if (conjuncts.size() == 1) return conjuncts[0];
  return {{"class", "CONJUNCTION"},
          {"type", "CONJUNCTION_AND"},
          {"alias", ""},
          {"query_location", UINT64_MAX},
          {"children", std::move(conjuncts)}};
}

class PartsPlanner {
 public:
  explicit PartsPlanner(const PlanRequest& request)
      : request_(request), connection_(request.connection), domain_(request.domain) {}

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

  // USING.
  absl::Status UsingToOn(Json& level) const;
  absl::Status UsingToOn(Json& level, Json& join, const std::vector<JoinRelation>& all) const;

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
  const std::string sql_;
  int parts_ = 0;
  std::vector<std::string> stand_ins_;
  std::vector<std::pair<std::string, std::string>> names_;  // of parts, for people
  std::vector<std::string> whys_;
  SliceStatements all_;               // of the parts
  std::vector<std::string> kept_;     // their tables
  std::vector<std::string> changes_;  // where their changes are
};

// ---- References --------------------------------------------------------------------------------

// Writes references to some relations of a FROM as references to the part that took their place.
class References {
 public:
  // Those of `relations` that are below `taken_end` are the part's, named `part`.
  References(const std::vector<JoinRelation>& relations, size_t taken_end, std::string part)
      : relations_(relations), taken_end_(taken_end), part_(std::move(part)) {}

  // In place. Names in `outputs`, a level, that stand for its outputs are left; null: none does.
  absl::Status Rewrite(Json& node, const Json* outputs);
  // Whether all columns in the tree are of relations that are taken.
  bool AreTaken(const Json& node) const;

  std::string NameOf(const JoinColumn& column);
  const std::vector<JoinColumn>& taken() const { return taken_; }

 private:
  bool IsAmbiguous(const std::string& name) const;

  const std::vector<JoinRelation>& relations_;
  const size_t taken_end_;
  const std::string part_;
  std::vector<JoinColumn> taken_;
};

std::string PartColumn(size_t index) { return absl::StrCat("__c", index); }

std::string References::NameOf(const JoinColumn& column) {
  const auto found = std::find_if(taken_.begin(), taken_.end(), [&](const JoinColumn& each) {
    return each.relation == column.relation && each.name == column.name;
  });
  const auto index = static_cast<size_t>(found - taken_.begin());
  if (found == taken_.end()) taken_.push_back(column);
  return PartColumn(index);
}

bool References::IsAmbiguous(const std::string& name) const {
  return std::any_of(relations_.begin(), relations_.end(), [&](const JoinRelation& relation) {
    return std::any_of(relation.columns.begin(), relation.columns.end(),
                       [&](const std::string& each) { return absl::EqualsIgnoreCase(each, name); });
  });
}

absl::Status References::Rewrite(Json& node, const Json* outputs) {
  if (!IsClass(node, "COLUMN_REF")) {
    if (!node.is_structured()) return absl::OkStatus();
    for (Json& child : node) ICEPIE_RETURN_IF_ERROR(Rewrite(child, outputs));
    return absl::OkStatus();
  }
  Json& names = node["column_names"];
  const std::string last = names.back().get<std::string>();
  const bool single = names.size() == 1;
  if (single && outputs != nullptr && HasOutput(*outputs, absl::AsciiStrToLower(last))) {
    return absl::OkStatus();
  }
  const std::optional<JoinColumn> column = FindColumn(relations_, node);
  if (column) {
    if (column->relation < taken_end_) names = Json::array({part_, NameOf(*column)});
    return absl::OkStatus();
  }
  if (single && !IsAmbiguous(last)) return absl::OkStatus();  // an output's
  return StandsInTheWay(
      absl::StrCat("names ", last, " in a way that cannot be followed in a join"));
}

bool References::AreTaken(const Json& node) const {
  if (IsClass(node, "COLUMN_REF")) {
    const std::optional<JoinColumn> column = FindColumn(relations_, node);
    return column && column->relation < taken_end_;
  }
  return !node.is_structured() ||
         std::all_of(node.begin(), node.end(), [&](const Json& child) { return AreTaken(child); });
}

absl::Status RewriteLevel(References& references, Json& level) {
  // Columns keep their names.
  for (Json& item : level["select_list"]) {
    const bool named = IsClass(item, "COLUMN_REF") && TextOf(item, "alias").empty();
    if (named) item["alias"] = item["column_names"].back();
  }
  const Json outputs = {{"select_list", level["select_list"]}};
  for (const char* part : kExpressions) {
    const bool of_outputs = part == std::string("modifiers");
    ICEPIE_RETURN_IF_ERROR(references.Rewrite(level[part], of_outputs ? &outputs : nullptr));
  }
  return absl::OkStatus();
}

// The items of a part's SELECT: what is read of its relations.
absl::Status AddItems(DuckConnection& connection, const std::vector<JoinRelation>& relations,
                      const std::vector<JoinColumn>& taken, Json& items) {
  for (size_t i = 0; i < taken.size(); ++i) {
    ICEPIE_ASSIGN_OR_RETURN(
        Json item, ParseExpression(connection,
                                   absl::StrCat(QuoteIdentifier(relations[taken[i].relation].alias),
                                                ".", QuoteIdentifier(taken[i].name))));
    item["alias"] = PartColumn(i);
    items.push_back(std::move(item));
  }
  if (!items.empty()) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(Json one, ParseExpression(connection, "1"));
  one["alias"] = PartColumn(0);
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

// ---- USING -------------------------------------------------------------------------------------

// Names column `name` of relation `alias` where it is named alone.
void Qualify(Json& node, const std::string& name, const std::string& alias, const Json* outputs) {
  if (IsClass(node, "COLUMN_REF")) {
    Json& names = node["column_names"];
    const bool here = names.size() == 1 &&
                      absl::EqualsIgnoreCase(names.front().get<std::string>(), name) &&
                      (outputs == nullptr || !HasOutput(*outputs, absl::AsciiStrToLower(name)));
    if (here) names.insert(names.begin(), alias);
    return;
  }
  if (!node.is_structured()) return;
  for (Json& child : node) Qualify(child, name, alias, outputs);
}

bool HasColumnNamed(const JoinRelation& relation, const std::string& name) {
  return std::any_of(relation.columns.begin(), relation.columns.end(),
                     [&](const std::string& each) { return absl::EqualsIgnoreCase(each, name); });
}

// The relations of `join` come first in `all`, its right side last of them.
absl::Status PartsPlanner::UsingToOn(Json& level, Json& join,
                                     const std::vector<JoinRelation>& all) const {
  if (!IsType(join, "JOIN")) return absl::OkStatus();
  ICEPIE_RETURN_IF_ERROR(UsingToOn(level, join["left"], all));
  if (!Has(join, "using_columns")) return absl::OkStatus();
  const size_t right = TablesOf(join).size() - 1;
  Json conjuncts = Json::array();
  for (const Json& column : join["using_columns"]) {
    const auto name = column.get<std::string>();
    const auto left = std::find_if(all.begin(), all.end(), [&](const JoinRelation& relation) {
      return relation.visible && HasColumnNamed(relation, name);
    });
    if (left == all.begin() + static_cast<int64_t>(right) || left == all.end()) {
      return StandsInTheWay(absl::StrCat("has USING (", name, "), which was not found"));
    }
    ICEPIE_ASSIGN_OR_RETURN(
        Json equality, ParseExpression(connection_, absl::StrCat(QuoteIdentifier(left->alias), ".",
                                                                 QuoteIdentifier(name), " = ",
                                                                 QuoteIdentifier(all[right].alias),
                                                                 ".", QuoteIdentifier(name))));
    conjuncts.push_back(std::move(equality));
    const Json outputs = {{"select_list", level["select_list"]}};
    for (const char* part : kExpressions) {
      const bool of_outputs = part == std::string("modifiers");
      Qualify(level[part], name, left->alias, of_outputs ? &outputs : nullptr);
    }
    for (Json* above = &level["from_table"]; above != &join; above = &(*above)["left"]) {
      Qualify((*above)["condition"], name, left->alias, nullptr);
    }
  }
  join["using_columns"] = Json::array();
  join["condition"] = And(std::move(conjuncts));
  return absl::OkStatus();
}

absl::Status PartsPlanner::UsingToOn(Json& level) const {
  Json& from = level["from_table"];
  if (!AnyNode(from, [](const Json& node) { return Has(node, "using_columns"); })) {
    return absl::OkStatus();
  }
  if (ContainsClass(level, "LAMBDA")) return StandsInTheWay("has a lambda beside USING");
  Query query;
  query.slice.sources = request_.slice.sources;
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<JoinRelation> relations,
                          FindRelations(RequestOf(query), from, level));
  return UsingToOn(level, from, relations);
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
    ICEPIE_ASSIGN_OR_RETURN(const std::string part, AddPart((*table)["subquery"]["node"], {}));
    const std::string alias = TextOf(*table, "alias");
    names_.emplace_back(part, alias.empty() ? "its subquery" : alias);
    ICEPIE_ASSIGN_OR_RETURN(*table, TableOf(part, alias));
  }
  return absl::OkStatus();
}

// What decides between equal rows of a join: the positions of its records.
std::vector<JoinColumn> TiesOf(const std::vector<JoinRelation>& relations, size_t end,
                               const DomainDef& definition) {
  std::vector<JoinColumn> ties;
  for (size_t i = 0; i < end; ++i) {
    if (!relations[i].visible) continue;
    if (relations[i].source != nullptr) {
      ties.push_back({i, "_position"});
      continue;
    }
    for (const std::string& column : definition.FindSlice(relations[i].name)->key) {
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
    names_.emplace_back(absl::StrCat(part, ".", PartColumn(i)),
                        absl::StrCat(relations[columns[i].relation].name, ".", columns[i].name));
  }
}

// The level's join becomes a part, which the level then reads.
absl::Status PartsPlanner::TakeJoin(Json& level) {
  for (const char* hindrance : {"SUBQUERY", "STAR", "LAMBDA"}) {
    for (const char* part : kExpressions) {
      if (!ContainsClass(level[part], hindrance)) continue;
      return StandsInTheWay(absl::StrCat("has ", absl::AsciiStrToLower(hindrance), " in a join"));
    }
  }
  Query query;
  query.slice.sources = request_.slice.sources;
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<JoinRelation> relations,
                          FindRelations(RequestOf(query), level["from_table"], level));
  const std::string name = absl::StrCat("__result_", parts_ + 1);
  References references(relations, relations.size(), name);
  Json where = level["where_clause"];
  if (where.is_object() && references.AreTaken(where)) {
    level["where_clause"] = Json();
  } else {
    where = Json();
  }
  ICEPIE_RETURN_IF_ERROR(RewriteLevel(references, level));
  std::vector<std::string> key;
  for (const JoinColumn& tie : TiesOf(relations, relations.size(), domain_.definition)) {
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
  References references(relations, end, name);
  // Rows that WHERE would drop for what they are on this side alone.
  Json conjuncts = Json::array();
  AddConjuncts(
      level["where_clause"], [&](const Json& node) { return references.AreTaken(node); },
      conjuncts);
  ICEPIE_RETURN_IF_ERROR(RewriteLevel(references, level));
  ICEPIE_RETURN_IF_ERROR(references.Rewrite(from["condition"], nullptr));
  std::vector<std::string> key;
  for (const JoinColumn& tie : TiesOf(relations, end, domain_.definition)) {
    key.push_back(references.NameOf(tie));
  }
  Json items = Json::array();
  ICEPIE_RETURN_IF_ERROR(AddItems(connection_, relations, references.taken(), items));
  NameForPeople(name, relations, references.taken());
  Json left = std::move(from["left"]);
  ICEPIE_ASSIGN_OR_RETURN(
      const std::string part,
      AddPart(SelectNode(std::move(items), std::move(left), And(std::move(conjuncts))), key));
  ICEPIE_ASSIGN_OR_RETURN(from["left"], TableOf(part, ""));
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
  for (int depth = 0; depth < kLevelsMax; ++depth) {
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
  return PlanWith(PlanKeys, query);
}

absl::StatusOr<SliceStatements> PartsPlanner::PlanLevels(Query& query) {
  Json& node = query.statement["node"];
  ICEPIE_ASSIGN_OR_RETURN(Json* const lowest, FindLowest(node));
  Json& from = (*lowest)["from_table"];
  if (!IsType(from, "JOIN")) return OtherKind("reads no join");
  ICEPIE_RETURN_IF_ERROR(TakeSubqueries(*lowest));
  if (AnyNode(node, TakesFirstOfEquals)) {
    return StandsInTheWay("aggregates a join in an order that it does not have");
  }
  ICEPIE_RETURN_IF_ERROR(UsingToOn(*lowest));
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
  if (!AnyNode(request_.statement, [](const Json& node) { return IsType(node, "JOIN"); })) {
    return OtherKind("reads no join");
  }
  if (HasReservedName(request_.statement)) {
    return StandsInTheWay("has names that begin with __ beside a join");
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
