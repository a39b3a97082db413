#include "slices/join_plan.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/change_feed.h"
#include "slices/join_shape.h"
#include "slices/key_shape.h"
#include "slices/keys_plan.h"
#include "slices/row_shape.h"
#include "slices/sql_binding.h"

namespace icepie::slices {
namespace {

constexpr char kKey[] = "__key";
constexpr char kAnyKey[] = "SELECT 1 FROM __keys LIMIT 1";

std::string KeyOf(size_t relation) { return absl::StrCat(kKey, relation); }
std::string RowsOf(size_t relation) { return absl::StrCat("__rows", relation); }
std::string BatchOf(size_t relation) { return absl::StrCat("__batch", relation); }

class JoinPlanner {
 public:
  JoinPlanner(const PlanRequest& request, Json node, JoinShape shape)
      : connection_(request.connection),
        request_(request),
        node_(std::move(node)),
        shape_(std::move(shape)) {}

  absl::StatusOr<SliceStatements> Plan();

 private:
  std::string Columns(const JoinRelation& relation) const;
  std::string BatchSelect(size_t relation) const;
  std::string SameDimensionKey(const JoinRelation& relation) const;
  absl::StatusOr<std::vector<std::string>> Create() const;
  std::vector<ApplyStatement> TakeBatch() const;
  absl::StatusOr<std::string> Replacement(const std::string& comparison) const;
  void AddReplacement(std::vector<ApplyStatement>& apply, const std::string& comparison,
                      const std::string& insert) const;
  std::vector<std::string> Outputs() const;
  std::string TouchedRows() const;
  std::string Why() const;

  DuckConnection& connection_;
  const PlanRequest& request_;
  const Json node_;
  const JoinShape shape_;
};

std::vector<std::string> JoinPlanner::Outputs() const {
  std::vector<std::string> outputs;
  for (const OutputColumn& column : request_.slice.columns) {
    outputs.push_back(QuoteIdentifier(column.name));
  }
  return outputs;
}

std::string JoinPlanner::Columns(const JoinRelation& relation) const {
  return absl::StrJoin(relation.columns, ", ", [](std::string* out, const std::string& column) {
    absl::StrAppend(out, QuoteIdentifier(column));
  });
}

// The batch's records of a relation with their key, in the order of its rows.
std::string JoinPlanner::BatchSelect(size_t relation) const {
  const JoinRelation& one = shape_.relations[relation];
  return absl::StrCat("SELECT ", QuoteIdentifier(one.key), " AS ", KeyOf(relation), ", ",
                      Columns(one), " FROM ", QuoteIdentifier(one.source->name));
}

// Whether a record of the batch (b) takes the place of a row (r).
std::string JoinPlanner::SameDimensionKey(const JoinRelation& relation) const {
  return absl::StrJoin(relation.source->latest_by, " AND ",
                       [](std::string* out, const std::string& name) {
                         absl::StrAppend(out, "r.", QuoteIdentifier(name),
                                         " IS NOT DISTINCT FROM b.", QuoteIdentifier(name));
                       });
}

absl::StatusOr<std::vector<std::string>> JoinPlanner::Create() const {
  std::vector<std::string> data = {absl::StrCat(kKey, " ", shape_.relations.front().key_type)};
  for (const OutputColumn& column : request_.slice.columns) {
    data.push_back(absl::StrCat(QuoteIdentifier(column.name), " ", column.type));
  }
  std::vector<std::string> create = {
      absl::StrCat("CREATE TABLE __data (", absl::StrJoin(data, ", "), ")"),
      absl::StrCat("CREATE VIEW __result AS SELECT ", absl::StrJoin(Outputs(), ", "),
                   " FROM __data")};
  std::vector<std::string> all;
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    ICEPIE_ASSIGN_OR_RETURN(const std::vector<OutputColumn> bound,
                            BindSelect(connection_, BatchSelect(i)));
    std::vector<std::string> rows;
    for (const OutputColumn& column : bound) {
      rows.push_back(absl::StrCat(QuoteIdentifier(column.name), " ", column.type));
    }
    create.push_back(
        absl::StrCat("CREATE TABLE ", RowsOf(i), " (", absl::StrJoin(rows, ", "), ")"));
    all.push_back(absl::StrCat("SELECT 1 FROM ", RowsOf(i)));
  }
  // What is counted against limits.kept_rows.
  create.push_back(absl::StrCat("CREATE VIEW __rows AS ", absl::StrJoin(all, " UNION ALL ")));
  return create;
}

// Puts the keys that the batch touches into __keys, and its records into the rows.
std::vector<ApplyStatement> JoinPlanner::TakeBatch() const {
  std::vector<ApplyStatement> apply;
  std::vector<std::string> keys;
  std::vector<ApplyStatement> take;
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    const JoinRelation& relation = shape_.relations[i];
    const bool dimension = !relation.source->latest_by.empty();
    apply.push_back(
        {absl::StrCat("CREATE OR REPLACE TEMP TABLE ", BatchOf(i), " AS ", BatchSelect(i))});
    keys.push_back(absl::StrCat("SELECT ", KeyOf(i), " AS ", kKey, " FROM ", BatchOf(i)));
    if (dimension) {
      const std::string same = SameDimensionKey(relation);
      // The key that the record before had.
      keys.push_back(absl::StrCat("SELECT r.", KeyOf(i), " AS ", kKey, " FROM ", RowsOf(i),
                                  " AS r SEMI JOIN ", BatchOf(i), " AS b ON ", same));
      take.push_back({absl::StrCat("DELETE FROM ", RowsOf(i), " AS r USING ", BatchOf(i),
                                   " AS b WHERE ", same),
                      kAnyKey});
    }
    take.push_back(
        {absl::StrCat("INSERT INTO ", RowsOf(i), " SELECT * FROM ", BatchOf(i)), kAnyKey});
  }
  apply.push_back({absl::StrCat("CREATE OR REPLACE TEMP TABLE __keys AS SELECT DISTINCT ", kKey,
                                " FROM (", absl::StrJoin(keys, " UNION ALL "), ")")});
  apply.insert(apply.end(), take.begin(), take.end());
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    if (!shape_.relations[i].source->latest_by.empty()) {
      AddCompaction(apply, RowsOf(i), " ORDER BY _position");
    }
  }
  return apply;
}

// The user's SELECT over the rows of the batch's keys.
absl::StatusOr<std::string> JoinPlanner::Replacement(const std::string& comparison) const {
  Json statement = request_.statement;
  Json& node = statement["node"];
  node = node_;
  Json& items = node["select_list"];
  for (size_t i = 0; i < items.size() && items.size() == request_.slice.columns.size(); ++i) {
    items[i]["alias"] = request_.slice.columns[i].name;
  }
  const std::vector<Json*> tables = TablesOf(node["from_table"]);
  for (size_t i = 0; i < tables.size(); ++i) {
    const JoinRelation& relation = shape_.relations[i];
    ICEPIE_ASSIGN_OR_RETURN(
        Json rows, ParseSelect(connection_, absl::StrCat("SELECT 1 FROM (SELECT ", KeyOf(i), ", ",
                                                         Columns(relation), " FROM ", RowsOf(i),
                                                         " AS r SEMI JOIN __keys AS k ON r.",
                                                         KeyOf(i), comparison, "k.", kKey, ") AS ",
                                                         QuoteIdentifier(relation.alias))));
    *tables[i] = std::move(rows["node"]["from_table"]);
  }
  items.push_back(ColumnReference(KeyOf(0)));
  if (Has(node, "group_expressions")) {
    node["group_sets"][0].push_back(node["group_expressions"].size());
    node["group_expressions"].push_back(ColumnReference(KeyOf(0)));
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::string sql, SelectToSql(connection_, std::move(statement)));
  return absl::StrCat("INSERT INTO __data SELECT ", KeyOf(0), ", ", absl::StrJoin(Outputs(), ", "),
                      " FROM (", sql, ")");
}

// Keys that are NULL are looked for apart, as in keys_plan.cc.
void JoinPlanner::AddReplacement(std::vector<ApplyStatement>& apply, const std::string& comparison,
                                 const std::string& insert) const {
  const std::string when =
      absl::StrCat("SELECT 1 FROM __keys HAVING count(*) > 0 AND count(*) FILTER (WHERE ", kKey,
                   " IS NULL) ", comparison == " = " ? "=" : ">", " 0");
  apply.push_back({absl::StrCat("DELETE FROM __data AS d USING __keys AS k WHERE d.", kKey,
                                comparison, "k.", kKey),
                   when});
  apply.push_back({insert, when});
}

std::string JoinPlanner::TouchedRows() const {
  return absl::StrCat("SELECT d.* EXCLUDE ", kKey, " FROM __data AS d SEMI JOIN __keys AS k ON d.",
                      kKey, " IS NOT DISTINCT FROM k.", kKey);
}

std::string JoinPlanner::Why() const {
  std::vector<std::string> names;
  for (const JoinRelation& relation : shape_.relations) {
    names.push_back(absl::StrCat(relation.source->name, ".", relation.key));
  }
  return absl::StrCat("replaces the rows of the keys that records touch (",
                      absl::StrJoin(names, " = "), "); keeps what it reads of them");
}

absl::StatusOr<SliceStatements> JoinPlanner::Plan() {
  SliceStatements statements;
  ICEPIE_ASSIGN_OR_RETURN(statements.create, Create());
  statements.apply = TakeBatch();
  statements.touched = {statements.apply.size(), TouchedRows(), TouchedRows()};
  for (const char* comparison : {" = ", " IS NOT DISTINCT FROM "}) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string insert, Replacement(comparison));
    AddReplacement(statements.apply, comparison, insert);
  }
  AddCompaction(statements.apply, "__data", "");
  statements.keeps_rows = true;
  statements.why = Why();
  return statements;
}

}  // namespace

absl::StatusOr<SliceStatements> PlanJoin(const PlanRequest& request) {
  const SlicePlan& slice = request.slice;
  const DomainDef& definition = request.domain.definition;
  if (definition.FindSlice(slice.slice)->refresh.kind != RefreshDef::Kind::kContinuous) {
    return StandsInTheWay("is refreshed on a schedule");
  }
  bool ordered = false;
  Json node = WithoutOrder(request.statement, &ordered);
  if (!IsType(node, "SELECT_NODE") || !Has(node, "from_table")) return OtherKind("reads no join");
  ICEPIE_ASSIGN_OR_RETURN(JoinShape shape, FindJoinShape(request, node));
  ICEPIE_ASSIGN_OR_RETURN(SliceStatements statements,
                          JoinPlanner(request, std::move(node), std::move(shape)).Plan());
  if (ordered) absl::StrAppend(&statements.why, "; ORDER BY is dropped: a slice is a set");
  return statements;
}

}  // namespace icepie::slices
