#include "slices/plan/join_plan.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/plan/change_feed.h"
#include "slices/plan/join_shape.h"
#include "slices/plan/key_shape.h"
#include "slices/plan/keys_plan.h"
#include "slices/plan/row_shape.h"
#include "slices/plan/sql_binding.h"

namespace icepie::slices {
namespace {

constexpr char kKey[] = "__key";

std::string KeyOf(size_t relation) { return absl::StrCat(kKey, relation); }

class JoinPlanner {
 public:
  JoinPlanner(const PlanRequest& request, Json node, JoinShape shape)
      : connection_(request.connection),
        request_(request),
        node_(std::move(node)),
        shape_(std::move(shape)),
        data_("__data" + request.part),
        keys_("__keys" + request.part),
        added_("__added" + request.part),
        any_key_(absl::StrCat("SELECT 1 FROM ", keys_, " LIMIT 1")) {}

  absl::StatusOr<SliceStatements> Plan();

 private:
  const JoinRelation& Relation(size_t relation) const { return shape_.relations[relation]; }
  std::string RowsOf(size_t relation) const;
  std::string BatchOf(size_t relation) const;
  bool IsLinear(size_t relation) const;
  bool AnyLinear() const;
  bool KeepsRecords() const;

  std::string Columns(const JoinRelation& relation) const;
  std::string BatchSelect(size_t relation) const;
  std::string AllRows(size_t relation) const;
  std::string RowsBefore(size_t relation, const std::string& of_keys) const;
  std::string SameDimensionKey(const JoinRelation& relation) const;
  absl::StatusOr<std::vector<std::string>> Create() const;
  std::vector<ApplyStatement> Batches() const;
  std::string TouchedKeys() const;
  std::vector<ApplyStatement> Take(size_t relation) const;
  absl::StatusOr<std::string> Select(const std::vector<std::string>& rows,
                                     std::optional<size_t> changed) const;
  absl::StatusOr<std::string> Replacement(const std::string& comparison) const;
  absl::StatusOr<std::string> Addition(size_t relation) const;
  std::string ForKeys(const std::string& comparison) const;
  absl::Status AddTakings(std::vector<ApplyStatement>& apply) const;
  absl::Status AddAddition(size_t relation, std::vector<ApplyStatement>& apply) const;
  void AddAdded(std::vector<ApplyStatement>& apply) const;
  std::string DeleteAdded() const;
  absl::Status AddReplacements(std::vector<ApplyStatement>& apply) const;
  void AddCompactions(std::vector<ApplyStatement>& apply) const;
  std::vector<ApplyStatement> Clear() const;
  std::vector<std::string> Outputs() const;
  std::string TouchedRows(absl::string_view sign) const;
  std::string Why() const;
  absl::Status AddRetained(SliceStatements& statements) const;

  DuckConnection& connection_;
  const PlanRequest& request_;
  const Json node_;
  const JoinShape shape_;
  const std::string data_;
  const std::string keys_;
  const std::string added_;
  const std::string any_key_;
};

std::string JoinPlanner::RowsOf(size_t relation) const {
  return absl::StrCat("__rows", request_.part, request_.part.empty() ? "" : "_", relation);
}

std::string JoinPlanner::BatchOf(size_t relation) const {
  return absl::StrCat("__batch", request_.part, request_.part.empty() ? "" : "_", relation);
}

// Whether each row of the join comes from one of its rows, so that a row more or less of it is that
// row joined to what is there of the others.
bool JoinPlanner::IsLinear(size_t relation) const {
  const JoinRelation& one = Relation(relation);
  return !one.IsDimension() && !one.outer && !IsAggregation(node_);
}

bool JoinPlanner::AnyLinear() const {
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    if (IsLinear(i)) return true;
  }
  return false;
}

bool JoinPlanner::KeepsRecords() const {
  return std::any_of(shape_.relations.begin(), shape_.relations.end(),
                     [](const JoinRelation& relation) { return relation.source != nullptr; });
}

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

// The batch's records of a relation, or the rows that a slice changed, with their key.
std::string JoinPlanner::BatchSelect(size_t relation) const {
  const JoinRelation& one = Relation(relation);
  const std::string items =
      absl::StrCat("SELECT ", one.key_sql, " AS ", KeyOf(relation), ", ", Columns(one));
  if (one.source != nullptr) return absl::StrCat(items, " FROM ", QuoteIdentifier(one.name));
  return absl::StrCat(items, ", ", kSignColumn, " FROM ", QuoteIdentifier(ChangesOf(one.name)));
}

// All its rows with their key.
std::string JoinPlanner::AllRows(size_t relation) const {
  const JoinRelation& one = Relation(relation);
  if (one.source != nullptr) return RowsOf(relation);
  return absl::StrCat("(SELECT *, ", one.key_sql, " AS ", KeyOf(relation), " FROM ",
                      QuoteIdentifier(one.name), ")");
}

// Of a slice, its rows as they were in front of the batch, of the keys `of_keys` (SEMI JOIN …).
std::string JoinPlanner::RowsBefore(size_t relation, const std::string& of_keys) const {
  const std::string items = absl::StrCat(KeyOf(relation), ", ", Columns(Relation(relation)));
  const auto changed = [&](absl::string_view sign) {
    return absl::StrCat("SELECT ", items, " FROM ", BatchOf(relation), " WHERE ", kSignColumn, sign,
                        " 0");
  };
  return absl::StrCat("(SELECT * FROM (SELECT ", items, " FROM ", AllRows(relation), " AS r ",
                      of_keys, " UNION ALL ", changed(" <"), ") EXCEPT ALL ", changed(" >"), ")");
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
      absl::StrCat("CREATE TABLE ", data_, " (", absl::StrJoin(data, ", "), ")"),
      absl::StrCat("CREATE VIEW __result", request_.part, " AS SELECT ",
                   absl::StrJoin(Outputs(), ", "), " FROM ", data_)};
  std::vector<std::string> all;
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    if (Relation(i).source == nullptr) continue;
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
  if (!all.empty()) {
    create.push_back(absl::StrCat("CREATE VIEW __rows", request_.part, " AS ",
                                  absl::StrJoin(all, " UNION ALL ")));
  }
  return create;
}

std::vector<ApplyStatement> JoinPlanner::Batches() const {
  std::vector<ApplyStatement> batches;
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    batches.push_back(
        {absl::StrCat("CREATE OR REPLACE TEMP TABLE ", BatchOf(i), " AS ", BatchSelect(i))});
  }
  batches.push_back({absl::StrCat("CREATE OR REPLACE TEMP TABLE ", keys_, " AS ", TouchedKeys())});
  return batches;
}

// The keys of which rows may vanish, or become others.
std::string JoinPlanner::TouchedKeys() const {
  std::vector<std::string> keys;
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    if (IsLinear(i)) continue;
    keys.push_back(absl::StrCat("SELECT ", KeyOf(i), " AS ", kKey, " FROM ", BatchOf(i)));
    if (!Relation(i).IsDimension()) continue;
    // The key that the record before had.
    keys.push_back(absl::StrCat("SELECT r.", KeyOf(i), " AS ", kKey, " FROM ", RowsOf(i),
                                " AS r SEMI JOIN ", BatchOf(i), " AS b ON ",
                                SameDimensionKey(Relation(i))));
  }
  if (keys.empty()) {
    keys.push_back(
        absl::StrCat("SELECT ", KeyOf(0), " AS ", kKey, " FROM ", BatchOf(0), " LIMIT 0"));
  }
  return absl::StrCat("SELECT DISTINCT ", kKey, " FROM (", absl::StrJoin(keys, " UNION ALL "), ")");
}

// Puts the batch's records into the rows.
std::vector<ApplyStatement> JoinPlanner::Take(size_t relation) const {
  if (Relation(relation).source == nullptr) return {};
  const std::string batch = BatchOf(relation);
  const std::string any = absl::StrCat("SELECT 1 FROM ", batch, " LIMIT 1");
  std::vector<ApplyStatement> take;
  if (Relation(relation).IsDimension()) {
    take.push_back({absl::StrCat("DELETE FROM ", RowsOf(relation), " AS r USING ", batch,
                                 " AS b WHERE ", SameDimensionKey(Relation(relation))),
                    any});
  }
  take.push_back({absl::StrCat("INSERT INTO ", RowsOf(relation), " SELECT * FROM ", batch), any});
  return take;
}

// The user's SELECT with its key in front, over `rows` of the relations; behind it the sign of the
// row of the relation that is `changed`.
absl::StatusOr<std::string> JoinPlanner::Select(const std::vector<std::string>& rows,
                                                std::optional<size_t> changed) const {
  Json statement = request_.statement;
  Json& node = statement["node"];
  node = node_;
  Json& items = node["select_list"];
  for (size_t i = 0; i < items.size() && items.size() == request_.slice.columns.size(); ++i) {
    items[i]["alias"] = request_.slice.columns[i].name;
  }
  const bool has_sign = changed && Relation(*changed).source == nullptr;
  const std::vector<Json*> tables = TablesOf(node["from_table"]);
  for (size_t i = 0; i < tables.size(); ++i) {
    const std::string sign = has_sign && i == *changed ? absl::StrCat(", ", kSignColumn) : "";
    ICEPIE_ASSIGN_OR_RETURN(
        Json parsed,
        ParseSelect(connection_, absl::StrCat("SELECT 1 FROM (SELECT ", KeyOf(i), ", ",
                                              Columns(Relation(i)), sign, " FROM ", rows[i],
                                              ") AS ", QuoteIdentifier(Relation(i).alias))));
    *tables[i] = std::move(parsed["node"]["from_table"]);
  }
  items.push_back(ColumnReference(KeyOf(0)));
  if (has_sign) items.push_back(ColumnReference(kSignColumn));
  if (Has(node, "group_expressions")) {
    node["group_sets"][0].push_back(node["group_expressions"].size());
    node["group_expressions"].push_back(ColumnReference(KeyOf(0)));
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::string sql, SelectToSql(connection_, std::move(statement)));
  const std::string sign = !changed ? "" : has_sign ? absl::StrCat(", ", kSignColumn) : ", 1";
  return absl::StrCat("SELECT ", KeyOf(0), ", ", absl::StrJoin(Outputs(), ", "), sign, " FROM (",
                      sql, ")");
}

// Over the rows of the touched keys.
absl::StatusOr<std::string> JoinPlanner::Replacement(const std::string& comparison) const {
  std::vector<std::string> rows;
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    rows.push_back(absl::StrCat(AllRows(i), " AS r SEMI JOIN ", keys_, " AS k ON r.", KeyOf(i),
                                comparison, "k.", kKey));
  }
  return Select(rows, std::nullopt);
}

// Over what the batch changes of one relation, without the touched keys, and what is there of the
// others. The slices come one after the other, then the streams: so what is there of the slices
// behind it is what was there before. To a key that is NULL nothing is joined.
absl::StatusOr<std::string> JoinPlanner::Addition(size_t relation) const {
  std::vector<std::string> rows;
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    if (i == relation) {
      rows.push_back(absl::StrCat(BatchOf(i), " AS r ANTI JOIN ", keys_, " AS k ON r.", KeyOf(i),
                                  " IS NOT DISTINCT FROM k.", kKey));
      continue;
    }
    const std::string of_keys = absl::StrCat("SEMI JOIN ", BatchOf(relation), " AS k ON r.",
                                             KeyOf(i), " = k.", KeyOf(relation));
    const bool slices = Relation(i).source == nullptr && Relation(relation).source == nullptr;
    const bool before = slices && IsLinear(i) && i > relation;
    rows.push_back(absl::StrCat(before ? RowsBefore(i, of_keys) : AllRows(i), " AS r ", of_keys));
  }
  return Select(rows, relation);
}

// Keys that are NULL are looked for apart, as in keys_plan.cc.
std::string JoinPlanner::ForKeys(const std::string& comparison) const {
  return absl::StrCat("SELECT 1 FROM ", keys_, " HAVING count(*) > 0 AND count(*) FILTER (WHERE ",
                      kKey, " IS NULL) ", comparison == " = " ? "=" : ">", " 0");
}

absl::Status JoinPlanner::AddAddition(size_t relation, std::vector<ApplyStatement>& apply) const {
  ICEPIE_ASSIGN_OR_RETURN(const std::string addition, Addition(relation));
  apply.push_back({absl::StrCat("INSERT INTO ", added_, " ", addition),
                   absl::StrCat("SELECT 1 FROM ", BatchOf(relation), " LIMIT 1")});
  for (ApplyStatement& statement : Take(relation)) apply.push_back(std::move(statement));
  return absl::OkStatus();
}

// Takes the batch's records; into __added goes what comes and goes of keys that are not touched.
absl::Status JoinPlanner::AddTakings(std::vector<ApplyStatement>& apply) const {
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    if (IsLinear(i)) continue;
    for (ApplyStatement& statement : Take(i)) apply.push_back(std::move(statement));
  }
  if (!AnyLinear()) return absl::OkStatus();
  apply.push_back({absl::StrCat("CREATE OR REPLACE TEMP TABLE ", added_, " AS SELECT *, CAST(1 AS ",
                                kSignType, ") AS ", kSignColumn, " FROM ", data_, " LIMIT 0")});
  for (const bool slices : {true, false}) {
    for (size_t i = 0; i < shape_.relations.size(); ++i) {
      const bool slice = Relation(i).source == nullptr;
      if (IsLinear(i) && slice == slices) ICEPIE_RETURN_IF_ERROR(AddAddition(i, apply));
    }
  }
  return absl::OkStatus();
}

// Of equal rows as many as have gone.
std::string JoinPlanner::DeleteAdded() const {
  std::vector<std::string> columns = Outputs();
  columns.insert(columns.begin(), kKey);
  const std::string list = absl::StrJoin(columns, ", ");
  const std::string same =
      absl::StrJoin(columns, " AND ", [](std::string* out, const std::string& column) {
        absl::StrAppend(out, "d.", column, " IS NOT DISTINCT FROM g.", column);
      });
  const std::string partition = absl::StrJoin(
      columns, ", ",
      [](std::string* out, const std::string& column) { absl::StrAppend(out, "d.", column); });
  return absl::StrCat(
      "DELETE FROM ", data_, " WHERE rowid IN (SELECT __row FROM (SELECT d.rowid AS ",
      "__row, g.__gone, row_number() OVER (PARTITION BY ", partition, ") AS __place FROM ", data_,
      " AS d JOIN (SELECT ", list, ", count(*) AS __gone FROM ", added_, " WHERE ", kSignColumn,
      " < 0 GROUP BY ", list, ") AS g ON ", same, ") WHERE __place <= __gone)");
}

void JoinPlanner::AddAdded(std::vector<ApplyStatement>& apply) const {
  if (!AnyLinear()) return;
  const auto any = [&](absl::string_view sign) {
    return absl::StrCat("SELECT 1 FROM ", added_, " WHERE ", kSignColumn, sign, " 0 LIMIT 1");
  };
  apply.push_back({absl::StrCat("INSERT INTO ", data_, " SELECT * EXCLUDE ", kSignColumn, " FROM ",
                                added_, " WHERE ", kSignColumn, " > 0"),
                   any(" >")});
  const bool may_go =
      std::any_of(shape_.relations.begin(), shape_.relations.end(),
                  [](const JoinRelation& relation) { return relation.source == nullptr; });
  if (may_go) apply.push_back({DeleteAdded(), any(" <")});
}

absl::Status JoinPlanner::AddReplacements(std::vector<ApplyStatement>& apply) const {
  for (const char* comparison : {" = ", " IS NOT DISTINCT FROM "}) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string select, Replacement(comparison));
    const std::string when = ForKeys(comparison);
    apply.push_back({absl::StrCat("DELETE FROM ", data_, " AS d USING ", keys_, " AS k WHERE d.",
                                  kKey, comparison, "k.", kKey),
                     when});
    apply.push_back({absl::StrCat("INSERT INTO ", data_, " ", select), when});
  }
  return absl::OkStatus();
}

void JoinPlanner::AddCompactions(std::vector<ApplyStatement>& apply) const {
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    if (Relation(i).IsDimension()) AddCompaction(apply, RowsOf(i), " ORDER BY _position");
  }
  AddCompaction(apply, data_, "");
}

std::vector<ApplyStatement> JoinPlanner::Clear() const {
  std::vector<ApplyStatement> clear = {{absl::StrCat("DELETE FROM ", data_)}};
  for (size_t i = 0; i < shape_.relations.size(); ++i) {
    if (Relation(i).source == nullptr) continue;
    clear.push_back({absl::StrCat("DELETE FROM ", RowsOf(i))});
  }
  return clear;
}

// The result's rows of the touched keys, and those that came or went besides.
std::string JoinPlanner::TouchedRows(absl::string_view sign) const {
  const std::string rows =
      absl::StrCat("SELECT d.* EXCLUDE ", kKey, " FROM ", data_, " AS d SEMI JOIN ", keys_,
                   " AS k ON d.", kKey, " IS NOT DISTINCT FROM k.", kKey);
  if (!AnyLinear()) return rows;
  return absl::StrCat(rows, " UNION ALL SELECT * EXCLUDE (", kKey, ", ", kSignColumn, ") FROM ",
                      added_, " WHERE ", kSignColumn, sign, " 0");
}

std::string JoinPlanner::Why() const {
  std::vector<std::string> names;
  for (const JoinRelation& relation : shape_.relations) {
    const bool column = IsClass(relation.key, "COLUMN_REF");
    names.push_back(absl::StrCat(
        relation.name, ".",
        column ? relation.key["column_names"][0].get<std::string>() : relation.key_sql));
  }
  const std::string keys = absl::StrJoin(names, " = ");
  const std::string what = !KeepsRecords() ? "that its slices change (" : "that a batch touches (";
  return absl::StrCat("replaces the rows of the keys ", what, keys, ")",
                      AnyLinear() ? ", or adds and deletes single ones" : "",
                      KeepsRecords() ? "; keeps what it reads of the records" : "");
}

// What is behind the horizon of `retain` is made anew when its key is touched, and hidden again.
// The records of a stream need not be kept for that where each row comes from one of them and has
// its time, alone or with all others of its group.
absl::Status JoinPlanner::AddRetained(SliceStatements& statements) const {
  const auto& retain = request_.domain.definition.FindSlice(request_.slice.slice)->retain;
  if (!retain || !request_.part.empty()) return absl::OkStatus();
  statements.retained = {{data_, QuoteIdentifier(retain->column), ""}};
  statements.keeps_behind = KeepsRecords();
  const Json& items = node_["select_list"];
  for (size_t i = 0; i < items.size() && items.size() == request_.slice.columns.size(); ++i) {
    if (!absl::EqualsIgnoreCase(request_.slice.columns[i].name, retain->column)) continue;
    const std::optional<JoinSide> time = FindSide(shape_.relations, items[i]);
    if (!time) break;
    const JoinRelation& one = Relation(time->relation);
    if (!one.IsStream() || one.outer) break;
    ICEPIE_ASSIGN_OR_RETURN(const std::string sql, ExpressionToSql(connection_, time->expression));
    statements.retained.push_back(
        {RowsOf(time->relation), absl::StrCat("(", sql, ")"), " ORDER BY _position"});
    statements.keeps_behind = false;
  }
  return absl::OkStatus();
}

absl::StatusOr<SliceStatements> JoinPlanner::Plan() {
  SliceStatements statements;
  ICEPIE_ASSIGN_OR_RETURN(statements.create, Create());
  statements.apply = Batches();
  ICEPIE_RETURN_IF_ERROR(AddTakings(statements.apply));
  statements.touched = {statements.apply.size(), TouchedRows(" <"), TouchedRows(" >")};
  AddAdded(statements.apply);
  ICEPIE_RETURN_IF_ERROR(AddReplacements(statements.apply));
  AddCompactions(statements.apply);
  ICEPIE_RETURN_IF_ERROR(AddRetained(statements));
  statements.keeps_rows = KeepsRecords();
  statements.reads_changes = !request_.slice.upstream.empty();
  if (statements.reads_changes || !request_.part.empty()) statements.clear = Clear();
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
