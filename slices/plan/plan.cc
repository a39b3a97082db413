#include "slices/plan/plan.h"

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "slices/definition/column_type.h"
#include "slices/definition/nearest_name.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/change_feed.h"
#include "slices/plan/column_use.h"
#include "slices/plan/components.h"
#include "slices/plan/counted_values.h"
#include "slices/plan/expectation_plan.h"
#include "slices/plan/join_shape.h"
#include "slices/plan/retain_plan.h"
#include "slices/plan/row_order.h"
#include "slices/plan/spelled_stars.h"
#include "slices/plan/sql_binding.h"
#include "slices/plan/sql_gate.h"
#include "slices/plan/strategy_plan.h"
#include "slices/plan/whole_row.h"

namespace icepie::slices {
namespace {

// Part of every hash: raise it when the same definition gives other content, so that nothing takes
// one for the other. What serves keeps the hash that it was applied with as long as the file says
// the same of it (server/domain/definition_changes.h), and its state as long as that has the same
// tables with the same in them (LayoutOf, SlicePlan::kept_as).
constexpr char kFormat[] = "icepie-slice-2";
constexpr size_t kHashCharacters = 16;
// What earlier versions kept of last() was of the last of equal rows.
constexpr char kLastIsFirstOfEquals[] = "last: first of equals";
// And a star of a source gave its hidden columns, too.
constexpr char kWithoutHidden[] = "stars: without hidden columns";
// Nothing is there to be put into components while planning.
constexpr int64_t kScratchComponentsBytes = int64_t{1} << 20;

// The types of kHiddenColumns.
constexpr const char* kHiddenTypes[] = {"BIGINT",      "BIGINT",  "TIMESTAMPTZ",
                                        "TIMESTAMPTZ", "VARCHAR", "VARCHAR"};

class Planner {
 public:
  Planner(const DomainDef& definition, const PlanOverrides& overrides) : overrides_(overrides) {
    plan_.definition = definition;
  }

  absl::StatusOr<DomainPlan> Plan();

 private:
  absl::Status OpenScratch();
  absl::Status GateAll();
  absl::StatusOr<std::vector<const SliceDef*>> Order() const;
  absl::Status Visit(const SliceDef& slice, std::map<std::string, int>& marks,
                     std::vector<std::string>& trail, std::vector<const SliceDef*>& order) const;
  absl::Status CycleError(const SliceDef& slice, const std::vector<std::string>& trail) const;
  absl::Status PlanSlice(const SliceDef& slice);
  absl::StatusOr<std::optional<Json>> SpelledOut(const SliceDef& slice, const GatedQuery& query,
                                                 bool narrow);
  absl::StatusOr<std::set<std::string>> ColumnsChosen(const Json& star, const std::string& source);
  bool HasColumn(const std::string& relation, const std::string& name) const;
  absl::Status LeaveOutHidden(const SliceDef& slice, GatedQuery& query, SlicePlan& plan);
  absl::Status CheckColumns(const SliceDef& slice, const SlicePlan& plan) const;
  SliceDef& DefinitionOf(const SlicePlan& plan);
  void SpellAsOutputs(const SlicePlan& plan);
  struct Query {
    std::string sql;
    Json statement;  // its syntax tree
  };
  absl::StatusOr<Query> CountingQuery(const Json& statement, const SlicePlan& plan);
  absl::StatusOr<Query> QueryToKeep(const Json& statement, const SlicePlan& plan);
  absl::StatusOr<std::string> KeptAs(const Json& statement, const SlicePlan& plan);
  absl::StatusOr<bool> ScheduleDecides(const Json& statement, SlicePlan plan);
  absl::Status ChooseStrategy(const Json& statement, SlicePlan& plan);
  absl::Status CheckWholeRows(Strategy strategy, const PlanRequest& request) const;
  absl::Status TryStrategy(const StrategyEntry& entry, const PlanRequest& request, SlicePlan& plan);
  absl::Status FindSources(SlicePlan& plan);
  absl::Status Verify(const SlicePlan& plan);
  absl::Status VerifyIn(const SlicePlan& plan);
  absl::Status VerifyStatement(const SlicePlan& plan, const ApplyStatement& statement);
  std::string Hash(const Json& statement, const SlicePlan& plan, bool scheduled) const;
  void PlanExpectations(SlicePlan& plan);
  absl::Status AddExpectation(const SliceDef& slice, const ExpectationDef& definition,
                              SlicePlan& plan);
  bool IsRead(const std::string& slice) const;
  absl::Status PlanChanges(SlicePlan& plan);
  void DropUnreadChanges();

  absl::Status MakeInput(const std::string& name, const std::vector<OutputColumn>& columns);
  absl::Status MakeSource(const SourceDef& source, const std::vector<std::string>& columns);
  absl::Status MakeSources(const std::vector<SourceUse>& uses);
  std::vector<const SourceDef*> SourcesOf(const SlicePlan& plan) const;

  // `status` of a slice's SQL with the place in the file.
  absl::Status AtPlace(const SliceDef& slice, const absl::Status& status) const;
  std::string KeywordHint(absl::string_view sql, size_t offset) const;
  std::string HiddenHint(const SliceDef& slice, absl::string_view column) const;
  absl::Status SliceError(const SliceDef& slice, FilePlace place, const std::string& field,
                          const absl::Status& status) const;
  absl::Status AllErrors() const;
  std::vector<std::string> NamesRead(const SliceDef& slice) const;
  std::optional<size_t> OffsetOfRowid(const SliceDef& slice) const;

  const PlanOverrides& overrides_;
  DomainPlan plan_;
  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
  std::map<std::string, GatedQuery> gated_;
  std::map<std::string, SlicePlan> bare_;  // without the writing of changes
  std::vector<absl::Status> errors_;
};

absl::Status Planner::OpenScratch() {
  ICEPIE_ASSIGN_OR_RETURN(database_,
                          DuckDatabase::OpenInMemory({{"threads", "1"},
                                                      {"memory_limit", "256MB"},
                                                      {"enable_external_access", "false"},
                                                      {"errors_as_json", "true"}}));
  ICEPIE_ASSIGN_OR_RETURN(connection_, DuckConnection::Connect(*database_));
  ICEPIE_RETURN_IF_ERROR(connection_->Run("SET TimeZone = 'UTC'"));
  ICEPIE_RETURN_IF_ERROR(RegisterComponents(*connection_, kScratchComponentsBytes));
  for (const SourceDef& source : plan_.definition.sources) {
    ICEPIE_RETURN_IF_ERROR(MakeSource(source, AllColumns({&source}).front().columns));
  }
  return absl::OkStatus();
}

absl::Status Planner::MakeInput(const std::string& name, const std::vector<OutputColumn>& columns) {
  std::vector<std::string> declared;
  for (const OutputColumn& column : columns) {
    declared.push_back(absl::StrCat(QuoteIdentifier(column.name), " ", column.type));
  }
  return connection_->Run(absl::StrCat("CREATE OR REPLACE TEMP TABLE ", QuoteIdentifier(name), " (",
                                       absl::StrJoin(declared, ", "), ")"));
}

absl::Status Planner::MakeSource(const SourceDef& source, const std::vector<std::string>& columns) {
  std::vector<OutputColumn> declared;
  for (const ColumnDef& column : source.columns) {
    if (std::find(columns.begin(), columns.end(), column.name) == columns.end()) continue;
    declared.push_back({column.name, SqlType(column)});
  }
  for (size_t i = 0; i < std::size(kHiddenColumns); ++i) {
    declared.push_back({kHiddenColumns[i], kHiddenTypes[i]});
  }
  return MakeInput(source.name, declared);
}

absl::Status Planner::MakeSources(const std::vector<SourceUse>& uses) {
  for (const SourceUse& use : uses) {
    ICEPIE_RETURN_IF_ERROR(MakeSource(*plan_.definition.FindSource(use.source), use.columns));
  }
  return absl::OkStatus();
}

std::vector<const SourceDef*> Planner::SourcesOf(const SlicePlan& plan) const {
  std::vector<const SourceDef*> sources;
  for (const SourceUse& use : plan.sources) {
    sources.push_back(plan_.definition.FindSource(use.source));
  }
  return sources;
}

absl::Status Planner::SliceError(const SliceDef& slice, FilePlace place, const std::string& field,
                                 const absl::Status& status) const {
  ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail{});
  absl::string_view message = status.message();
  // The gate counts lines of the SQL; people edit the file.
  absl::ConsumePrefix(&message, absl::StrCat("line ", detail.metadata["line"], " column ",
                                             detail.metadata["column"], ": "));
  if (detail.reason.empty() || detail.reason == "SLICE_NOT_FOUND") {
    detail.reason = "DEFINITION_INVALID";
  }
  const std::string full = absl::StrCat(plan_.definition.file_name, ":", place.line, ":",
                                        place.column, ": slice ", slice.name, ": ", message);
  detail.metadata = {{"file", plan_.definition.file_name},
                     {"line", absl::StrCat(place.line)},
                     {"column", absl::StrCat(place.column)},
                     {"field", absl::StrCat("slices.", slice.name, ".", field)},
                     {"slice", slice.name}};
  detail.violations = {{detail.metadata["field"], full}};
  return MakeError(absl::StatusCode::kInvalidArgument, full, detail);
}

// The word that ends before byte `end` of the text, and the one that begins there.
std::vector<absl::string_view> WordsAround(absl::string_view text, size_t end) {
  const auto is_word = [](char c) { return absl::ascii_isalnum(c) || c == '_'; };
  const absl::string_view before = absl::StripTrailingAsciiWhitespace(text.substr(0, end));
  size_t begin = before.size();
  while (begin > 0 && is_word(before[begin - 1])) --begin;
  size_t behind = std::min(end, text.size());
  while (behind < text.size() && is_word(text[behind])) ++behind;
  return {before.substr(begin), text.substr(std::min(end, text.size()), behind - end)};
}

// "at" as a column is a name for the file and a word of SQL for the parser.
std::string Planner::KeywordHint(absl::string_view sql, size_t offset) const {
  for (const absl::string_view word : WordsAround(sql, offset)) {
    const auto is_word = [&](const ColumnDef& column) {
      return absl::EqualsIgnoreCase(column.name, word);
    };
    const auto& sources = plan_.definition.sources;
    const bool is_column =
        std::any_of(sources.begin(), sources.end(), [&](const SourceDef& source) {
          return std::any_of(source.columns.begin(), source.columns.end(), is_word);
        });
    if (!is_column) continue;
    const auto keyword = connection_->QueryText(
        absl::StrCat("SELECT CAST(count(*) AS VARCHAR) FROM duckdb_keywords() WHERE "
                     "keyword_category <> 'unreserved' AND keyword_name = ",
                     QuoteLiteral(absl::AsciiStrToLower(word))));
    if (keyword.ok() && *keyword != "0") {
      return absl::StrCat("; ", word, " is a word of SQL: as a column write \"", word, "\"");
    }
  }
  return "";
}

absl::Status Planner::AtPlace(const SliceDef& slice, const absl::Status& status) const {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  if (!detail.has_value()) return status;
  const auto offset = detail->metadata.find("offset");
  const FilePlace place =
      offset == detail->metadata.end()
          ? slice.sql_place
          : slice.SqlPlaceAt(std::strtoull(offset->second.c_str(), nullptr, 10));
  if (detail->reason == "SQL_SYNTAX" && offset != detail->metadata.end()) {
    const size_t at = std::strtoull(offset->second.c_str(), nullptr, 10);
    const absl::Status told = MakeError(
        status.code(), absl::StrCat(status.message(), KeywordHint(slice.sql, at)), *detail);
    return SliceError(slice, place, "sql", told);
  }
  if (detail->reason != "SQL_UNKNOWN_COLUMN") return SliceError(slice, place, "sql", status);
  const std::string name = detail->metadata.at("name");
  const absl::Status unknown =
      MakeError(status.code(),
                absl::StrCat("there is no column \"", name, "\"",
                             SuggestName(name, NamesRead(slice)), HiddenHint(slice, name)),
                detail->reason);
  return SliceError(slice, place, "sql", unknown);
}

// Before a star left them out, a slice could have hidden columns that its SQL does not name.
std::string Planner::HiddenHint(const SliceDef& slice, absl::string_view column) const {
  const auto& hidden = kHiddenColumns;
  const auto& read = gated_.at(slice.name).relations;
  const auto upstream = std::find_if(read.begin(), read.end(), [this](const std::string& name) {
    return plan_.definition.FindSlice(name) != nullptr;
  });
  const bool is_hidden =
      std::find(std::begin(hidden), std::end(hidden), column) != std::end(hidden);
  if (!is_hidden || upstream == read.end()) return "";
  return absl::StrCat(
      "; of a source's hidden columns a slice has those that its own SQL names: where ", *upstream,
      " has *, write its columns and ", column);
}

// All columns of what the slice reads, for "have: …".
std::vector<std::string> Planner::NamesRead(const SliceDef& slice) const {
  std::set<std::string> seen;
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (seen.insert(name).second) names.push_back(name);
  };
  for (const std::string& relation : gated_.at(slice.name).relations) {
    if (const SourceDef* source = plan_.definition.FindSource(relation)) {
      for (const ColumnDef& column : source->columns) add(column.name);
    }
    if (const SlicePlan* upstream = plan_.Find(relation)) {
      for (const OutputColumn& column : upstream->columns) add(column.name);
    }
  }
  return names;
}

// Where the SQL reads a rowid. The tables that stand in for what is read have one, what stands
// there in an engine has none.
std::optional<size_t> Planner::OffsetOfRowid(const SliceDef& slice) const {
  const absl::StatusOr<Json> statement = ParseSelect(*connection_, gated_.at(slice.name).sql);
  if (!statement.ok()) return std::nullopt;  // bound already: what lacks is memory
  const std::vector<std::string> read = NamesRead(slice);
  const auto is_read = [&read](const Json& name) {
    return std::any_of(read.begin(), read.end(), [&name](const std::string& column) {
      return absl::EqualsIgnoreCase(column, name.get<std::string>());
    });
  };
  const bool named_so = AnyNode(*statement, [](const Json& node) {
    return node.is_object() && absl::EqualsIgnoreCase(TextOf(node, "alias"), "rowid");
  });
  if (named_so || is_read("rowid")) return std::nullopt;
  std::optional<size_t> offset;
  AnyNode(*statement, [&](const Json& node) {
    if (!IsClass(node, "COLUMN_REF")) return false;
    const Json& names = node["column_names"];
    if (!absl::EqualsIgnoreCase(names.back().get<std::string>(), "rowid")) return false;
    // A member of a column may be named so.
    if (names.size() > 1 && is_read(names[names.size() - 2])) return false;
    offset = OffsetOf(node).value_or(0);
    return true;
  });
  return offset;
}

absl::Status Planner::AllErrors() const {
  if (errors_.empty()) return absl::OkStatus();
  if (errors_.size() == 1) return errors_.front();
  ErrorDetail detail = GetErrorDetail(errors_.front()).value_or(ErrorDetail{});
  detail.violations.clear();
  for (const absl::Status& error : errors_) {
    const std::optional<ErrorDetail> one = GetErrorDetail(error);
    if (!one.has_value()) return error;  // the engine's, not the definition's
    detail.violations.insert(detail.violations.end(), one->violations.begin(),
                             one->violations.end());
  }
  return MakeError(errors_.front().code(),
                   absl::StrCat(errors_.front().message(), " (and ", errors_.size() - 1, " more)"),
                   detail);
}

absl::Status Planner::GateAll() {
  const DomainDef& definition = plan_.definition;
  GateOptions options;
  options.domain = definition.domain;
  options.reproducible = true;
  for (const SourceDef& source : definition.sources) options.known.push_back(source.name);
  for (const SliceDef& slice : definition.slices) options.known.push_back(slice.name);
  options.resolve = [&](absl::string_view name) -> std::optional<RelationTarget> {
    if (definition.FindSource(name) == nullptr && definition.FindSlice(name) == nullptr) {
      return std::nullopt;
    }
    return RelationTarget{"", "", std::string(name)};
  };
  for (const SliceDef& slice : definition.slices) {
    absl::StatusOr<GatedQuery> query = GateQuery(*connection_, slice.sql, options);
    if (query.ok()) {
      gated_[slice.name] = *std::move(query);
    } else {
      errors_.push_back(AtPlace(slice, query.status()));
    }
  }
  return AllErrors();
}

absl::Status Planner::CycleError(const SliceDef& slice,
                                 const std::vector<std::string>& trail) const {
  const auto begin = std::find(trail.begin(), trail.end(), slice.name);
  const std::string cycle =
      absl::StrCat(absl::StrJoin(begin, trail.end(), " → "), " → ", slice.name);
  return SliceError(
      slice, slice.sql_place, "sql",
      MakeError(absl::StatusCode::kInvalidArgument,
                absl::StrCat("slices read each other in a circle: ", cycle), "SLICE_CYCLE"));
}

absl::Status Planner::Visit(const SliceDef& slice, std::map<std::string, int>& marks,
                            std::vector<std::string>& trail,
                            std::vector<const SliceDef*>& order) const {
  constexpr int kOpen = 1;
  constexpr int kDone = 2;
  int& mark = marks[slice.name];
  if (mark == kDone) return absl::OkStatus();
  if (mark == kOpen) return CycleError(slice, trail);
  mark = kOpen;
  trail.push_back(slice.name);
  for (const std::string& relation : gated_.at(slice.name).relations) {
    const SliceDef* upstream = plan_.definition.FindSlice(relation);
    if (upstream == nullptr) continue;
    ICEPIE_RETURN_IF_ERROR(Visit(*upstream, marks, trail, order));
  }
  trail.pop_back();
  mark = kDone;
  order.push_back(&slice);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<const SliceDef*>> Planner::Order() const {
  std::map<std::string, int> marks;
  std::vector<std::string> trail;
  std::vector<const SliceDef*> order;
  for (const SliceDef& slice : plan_.definition.slices) {
    ICEPIE_RETURN_IF_ERROR(Visit(slice, marks, trail, order));
  }
  return order;
}

std::vector<std::string> ColumnNames(const std::vector<OutputColumn>& columns) {
  std::vector<std::string> names;
  names.reserve(columns.size());
  for (const OutputColumn& column : columns) names.push_back(column.name);
  return names;
}

absl::Status Planner::CheckColumns(const SliceDef& slice, const SlicePlan& plan) const {
  const auto error = [&](const std::string& field, const std::string& what) {
    const FilePlace place = field == "sql" ? slice.sql_place : slice.place;
    return SliceError(slice, place, field, absl::InvalidArgumentError(what));
  };
  std::set<std::string> seen;
  for (const OutputColumn& column : plan.columns) {
    if (seen.insert(absl::AsciiStrToLower(column.name)).second) continue;
    return error("sql",
                 absl::StrCat("two columns are named \"", column.name, "\": give one an AS"));
  }
  const std::vector<std::string> names = ColumnNames(plan.columns);
  const auto missing = [&](const std::string& name) {
    return seen.count(absl::AsciiStrToLower(name)) == 0;
  };
  for (const std::string& key : slice.key) {
    if (!missing(key)) continue;
    return error("key", absl::StrCat("key: there is no output column \"", key, "\"",
                                     SuggestName(key, names)));
  }
  if (slice.retain) {
    const absl::Status status = CheckRetain(*slice.retain, plan.columns);
    if (!status.ok()) return SliceError(slice, slice.retain->place, "retain", status);
  }
  for (const auto& [column, tolerance] : slice.diff_tolerance) {
    if (!missing(column)) continue;
    return error("diff", absl::StrCat("diff.tolerance: there is no output column \"", column, "\"",
                                      SuggestName(column, names)));
  }
  return absl::OkStatus();
}

SliceDef& Planner::DefinitionOf(const SlicePlan& plan) {
  return *std::find_if(plan_.definition.slices.begin(), plan_.definition.slices.end(),
                       [&](const SliceDef& each) { return each.name == plan.slice; });
}

// The file may name output columns in other letters than the SQL. From here on they are compared
// as they are.
void Planner::SpellAsOutputs(const SlicePlan& plan) {
  SliceDef& slice = DefinitionOf(plan);
  const auto spelled = [&](const std::string& name) {
    for (const OutputColumn& column : plan.columns) {
      if (absl::EqualsIgnoreCase(column.name, name)) return column.name;
    }
    return name;
  };
  for (std::string& key : slice.key) key = spelled(key);
  std::map<std::string, double> tolerance;
  for (const auto& [name, value] : slice.diff_tolerance) tolerance[spelled(name)] = value;
  slice.diff_tolerance = std::move(tolerance);
}

absl::Status Planner::FindSources(SlicePlan& plan) {
  std::vector<const SourceDef*> sources;
  const GatedQuery& query = gated_.at(plan.slice);
  for (const SourceDef& source : plan_.definition.sources) {
    const auto& read = query.relations;
    if (std::find(read.begin(), read.end(), source.name) != read.end()) sources.push_back(&source);
  }
  ICEPIE_ASSIGN_OR_RETURN(plan.sources, FindColumnUse(*connection_, query.sql, sources));
  // The columns found must do: else the text names them in a way that was not seen.
  ICEPIE_RETURN_IF_ERROR(MakeSources(plan.sources));
  const absl::StatusOr<std::vector<OutputColumn>> bound = BindSelect(*connection_, query.sql);
  // Another plan for a lack of memory would be other tables, built from raw.
  if (IsPassing(bound.status())) return bound.status();
  if (!bound.ok() || !SameColumns(*bound, plan.columns)) plan.sources = AllColumns(sources);
  return MakeSources(AllColumns(sources));
}

bool Planner::HasColumn(const std::string& relation, const std::string& name) const {
  const auto is_it = [&name](const auto& column) {
    return absl::EqualsIgnoreCase(column.name, name);
  };
  if (const SlicePlan* slice = plan_.Find(relation)) {
    return std::any_of(slice->columns.begin(), slice->columns.end(), is_it);
  }
  const SourceDef* source = plan_.definition.FindSource(relation);
  if (source == nullptr) return false;
  const auto& hidden = kHiddenColumns;
  return std::any_of(source->columns.begin(), source->columns.end(), is_it) ||
         std::find(std::begin(hidden), std::end(hidden), name) != std::end(hidden);
}

// The planners of other kinds put the SQL over relations that have columns of the planner's own,
// and not all that the SQL does not name. A whole row would show that, in the type that it should
// have.
absl::Status Planner::CheckWholeRows(Strategy strategy, const PlanRequest& request) const {
  const bool as_they_are = strategy == Strategy::kAppend || strategy == Strategy::kRecompute ||
                           (strategy == Strategy::kAggregate && request.slice.upstream.empty());
  if (as_they_are) return absl::OkStatus();
  const auto has_column = [this](const std::string& relation, const std::string& name) {
    return HasColumn(relation, name);
  };
  return TakesWholeRow(request.statement, has_column)
             ? StandsInTheWay("takes whole rows by the name of their relation")
             : absl::OkStatus();
}

// Plans the slice with one strategy and proves that its statements work.
absl::Status Planner::TryStrategy(const StrategyEntry& entry, const PlanRequest& request,
                                  SlicePlan& plan) {
  ICEPIE_RETURN_IF_ERROR(CheckWholeRows(entry.strategy, request));
  ICEPIE_ASSIGN_OR_RETURN(SliceStatements statements, entry.plan(request));
  plan.retained = {};
  if (const auto& retain = plan_.definition.FindSlice(plan.slice)->retain) {
    plan.retained = AddRetain(*retain, plan.columns, statements);
  }
  plan.strategy = entry.strategy;
  plan.why = std::move(statements.why);
  plan.create = std::move(statements.create);
  plan.apply = std::move(statements.apply);
  plan.keeps_rows = statements.keeps_rows;
  plan.reads_changes = statements.reads_changes;
  plan.clear = std::move(statements.clear);
  plan.touched = std::move(statements.touched);
  for (ApplyStatement& check : statements.checks) plan.apply.push_back(std::move(check));
  if (plan.upstream.empty() && plan.strategy == Strategy::kAggregate) {
    plan.batch_rows = plan.touched.after;
  } else if (plan.upstream.empty() && plan.strategy == Strategy::kAppend) {
    plan.batch_rows = absl::StrCat("SELECT * FROM __data WHERE rowid >= ", kFirstNewRow);
  }
  const absl::Status verified = Verify(plan);
  const bool final = entry.strategy == Strategy::kRecompute || IsPassing(verified);
  if (verified.ok() || final) return verified;
  return StandsInTheWay(
      absl::StrCat("its parts would not give the same types (", verified.message(), ")"));
}

// What is said of a strategy: for recompute, what stands in the way of the others.
std::string Explain(const SlicePlan& plan, const std::vector<std::string>& in_the_way) {
  const bool reasons = plan.strategy == Strategy::kRecompute && !in_the_way.empty();
  return absl::StrCat(StrategyName(plan.strategy), ": ",
                      reasons ? absl::StrJoin(in_the_way, "; ") : plan.why);
}

// Of several planners of one strategy those count that the SQL was something for.
void AddWhyNot(std::vector<WhyNot>& why_not, Strategy strategy, const absl::Status& status) {
  const std::string why(status.message());
  if (why_not.empty() || why_not.back().strategy != strategy) {
    why_not.push_back({strategy, why});
  } else if (!absl::IsUnimplemented(status)) {
    why_not.back().why = why;
  }
}

// The strategy that the file asks for would give other rows than the SQL.
absl::Status CannotKeep(const SliceDef& slice, const absl::Status& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("strategy ", slice.strategy, " cannot keep this SQL right: ", why.message(),
                   "; leave `strategy` out, and the planner chooses"));
}

// What the planners of the strategy that the file asks for had to say.
absl::Status Refusal(const std::vector<WhyNot>& why_not, const std::string& wanted) {
  for (const WhyNot& each : why_not) {
    if (StrategyName(each.strategy) == wanted) return StandsInTheWay(each.why);
  }
  return StandsInTheWay("no planner knows it");
}

// Counts of arithmetic as counts of what it is made of. NOT_FOUND: there are none.
absl::StatusOr<Planner::Query> Planner::CountingQuery(const Json& statement,
                                                      const SlicePlan& plan) {
  ICEPIE_ASSIGN_OR_RETURN(Json counting, CountOperands(*connection_, statement));
  if (counting == statement) return absl::NotFoundError("counts no arithmetic");
  if (IsType(counting["node"], "SELECT_NODE")) {
    // DuckDB would name them as they are written.
    Json& items = counting["node"]["select_list"];
    for (size_t i = 0; i < items.size() && items.size() == plan.columns.size(); ++i) {
      if (OutputName(items[i]).empty()) items[i]["alias"] = plan.columns[i].name;
    }
  }
  ICEPIE_ASSIGN_OR_RETURN(std::string sql, SelectToSql(*connection_, counting));
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<OutputColumn> bound, BindSelect(*connection_, sql));
  if (SameColumns(bound, plan.columns)) return Query{std::move(sql), std::move(counting)};
  return absl::FailedPreconditionError("other names or types");
}

// What gives the same rows, and fails on fewer records. The same statement where there is no such,
// and where that cannot be told.
absl::StatusOr<Planner::Query> Planner::QueryToKeep(const Json& statement, const SlicePlan& plan) {
  absl::StatusOr<Query> counting = CountingQuery(statement, plan);
  if (counting.ok() || IsPassing(counting.status())) return counting;
  return Query{gated_.at(plan.slice).sql, statement};
}

// Whether it is only its schedule that has the slice recomputed. `plan` is one without a strategy.
absl::StatusOr<bool> Planner::ScheduleDecides(const Json& statement, SlicePlan plan) {
  RefreshDef& refresh = DefinitionOf(plan).refresh;
  if (refresh.kind == RefreshDef::Kind::kContinuous) return false;
  const RefreshDef schedule = std::exchange(refresh, RefreshDef());
  const absl::Status chosen = ChooseStrategy(statement, plan);
  refresh = schedule;
  if (IsPassing(chosen)) return chosen;
  return chosen.ok() && plan.strategy != Strategy::kRecompute;
}

absl::Status Planner::ChooseStrategy(const Json& statement, SlicePlan& plan) {
  ICEPIE_ASSIGN_OR_RETURN(const Query query, QueryToKeep(statement, plan));
  const std::string& wanted = plan_.definition.FindSlice(plan.slice)->strategy;
  std::vector<std::string> in_the_way;
  if (!wanted.empty()) in_the_way = {absl::StrCat("the file asks for ", wanted)};
  if (const auto override = overrides_.find(plan.slice); override != overrides_.end()) {
    plan.overridden = override->second;
    in_the_way = {plan.overridden};
  }
  const bool asked = !wanted.empty() && plan.overridden.empty();
  bool chosen = false;
  for (const StrategyEntry& entry : StrategyPlanners()) {
    if (!plan.overridden.empty() && entry.strategy != Strategy::kRecompute) continue;
    if (asked && wanted != StrategyName(entry.strategy)) {
      AddWhyNot(plan.why_not, entry.strategy, absl::UnimplementedError(in_the_way.front()));
      continue;
    }
    const SlicePlan bare = plan;
    const absl::Status status =
        TryStrategy(entry, {*connection_, plan_, query.sql, query.statement, bare}, plan);
    chosen = status.ok();
    if (chosen) break;
    if (entry.strategy == Strategy::kRecompute || IsPassing(status)) return status;
    const std::string why(status.message());
    AddWhyNot(plan.why_not, entry.strategy, status);
    const bool told = std::find(in_the_way.begin(), in_the_way.end(), why) != in_the_way.end();
    if (!told && !absl::IsUnimplemented(status)) in_the_way.push_back(why);
  }
  if (!chosen) return Refusal(plan.why_not, wanted);
  if (!plan.why_not.empty() && plan.why_not.back().strategy == plan.strategy) {
    plan.why_not.pop_back();  // another planner of it could
  }
  plan.why = Explain(plan, in_the_way);
  return absl::OkStatus();
}

// Creates the generation as the engine will, and binds what it will run.
absl::Status Planner::Verify(const SlicePlan& plan) {
  ICEPIE_RETURN_IF_ERROR(connection_->Run("ATTACH ':memory:' AS __check; USE __check"));
  absl::Status status = MakeSources(plan.sources);
  if (status.ok()) status = VerifyIn(plan);
  const absl::Status restored = MakeSources(AllColumns(SourcesOf(plan)));
  ICEPIE_RETURN_IF_ERROR(connection_->Run("USE memory; DETACH __check"));
  return status.ok() ? restored : status;
}

absl::Status Planner::VerifyStatement(const SlicePlan& plan, const ApplyStatement& statement) {
  if (statement.sign != 0) return connection_->Run(InsertChanges(statement, "0"));
  if (!statement.only_if.empty()) ICEPIE_RETURN_IF_ERROR(connection_->Run(statement.only_if));
  if (!statement.into.empty()) {
    return connection_->Run(absl::StrCat("CREATE OR REPLACE TEMP TABLE ",
                                         QuoteIdentifier(statement.into), " AS ", statement.sql));
  }
  if (plan.strategy == Strategy::kRecompute) return connection_->Prepare(statement.sql).status();
  // Over no records it costs nothing.
  return connection_->Run(statement.sql);
}

absl::Status Planner::VerifyIn(const SlicePlan& plan) {
  // The engine's own table is there before the plan's.
  ICEPIE_RETURN_IF_ERROR(connection_->Run("CREATE TABLE __progress (applied_time_us BIGINT)"));
  for (const std::string& sql : plan.create) ICEPIE_RETURN_IF_ERROR(connection_->Run(sql));
  if (plan.hands_out_changes) ICEPIE_RETURN_IF_ERROR(connection_->Run(MakeChangesTable()));
  for (const ApplyStatement& statement : plan.apply) {
    ICEPIE_RETURN_IF_ERROR(VerifyStatement(plan, statement));
  }
  for (const ApplyStatement& statement : plan.retained.let_go) {
    if (statement.only_if.empty()) ICEPIE_RETURN_IF_ERROR(connection_->Run(statement.sql));
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<OutputColumn> result,
                          BindSelect(*connection_, "SELECT * FROM __result"));
  if (SameColumns(result, plan.columns)) return absl::OkStatus();
  return absl::FailedPreconditionError("other names or types");
}

nlohmann::json Reading(const ColumnDef& column) {
  nlohmann::json reading = {{"name", column.name},
                            {"type", column.type},
                            {"path", column.path},
                            {"format", static_cast<int>(column.format)},
                            {"rounding", static_cast<int>(column.rounding)},
                            {"required", column.required},
                            {"default", column.default_json.value_or("")},
                            {"has_default", column.default_json.has_value()}};
  if (column.blob_format != BlobFormat::kBase64) reading["blob_format"] = "hex";
  return reading;
}

nlohmann::json Reading(const SourceDef& source, const std::vector<std::string>& columns) {
  nlohmann::json reading = {{"name", source.name},
                            {"stream", source.stream},
                            {"latest_by", source.latest_by},
                            {"columns", nlohmann::json::array()},
                            {"where", nlohmann::json::object()}};
  for (const ColumnDef& column : source.columns) {
    if (std::find(columns.begin(), columns.end(), column.name) == columns.end()) continue;
    reading["columns"].push_back(Reading(column));
  }
  for (const WhereTerm& term : source.where) {
    reading["where"][absl::StrJoin(term.path, ".")] = term.json;
  }
  return reading;
}

std::string Planner::Hash(const Json& statement, const SlicePlan& plan, bool scheduled) const {
  nlohmann::json content = {{"format", kFormat}, {"sql", gated_.at(plan.slice).sql}};
  for (const SourceUse& use : plan.sources) {
    content["sources"].push_back(Reading(*plan_.definition.FindSource(use.source), use.columns));
  }
  for (const std::string& upstream : plan.upstream) {
    content["upstream"][upstream] = plan_.Find(upstream)->definition_hash;
  }
  const SliceDef& slice = *plan_.definition.FindSlice(plan.slice);
  if (ShowsOrder(statement, /*of_records=*/false)) {
    for (const std::string& upstream : plan.upstream) {
      const std::vector<std::string>& key = plan_.definition.FindSlice(upstream)->key;
      if (!key.empty()) content["ties"][upstream] = key;
    }
  }
  if (!slice.strategy.empty()) content["strategy"] = slice.strategy;
  // Without its schedule it is kept in other tables.
  if (scheduled) content["scheduled"] = true;
  if (slice.retain) {
    content["retain"] = {{"column", slice.retain->column},
                         {"us", absl::ToInt64Microseconds(slice.retain->span)}};
  }
  const std::string text = content.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return Sha256Hex(text).substr(0, kHashCharacters);
}

absl::StatusOr<std::string> Planner::KeptAs(const Json& statement, const SlicePlan& plan) {
  std::vector<std::string> kept_as;
  if (!plan.kept_as.empty()) kept_as.push_back(plan.kept_as);
  if (AnyLastOfEquals(statement, plan.upstream.empty())) kept_as.emplace_back(kLastIsFirstOfEquals);
  // It has been counted otherwise, and what is counted goes on being rewritten.
  if (AnyCountedArithmetic(statement)) {
    ICEPIE_ASSIGN_OR_RETURN(const Query query, QueryToKeep(statement, plan));
    kept_as.push_back(query.sql);
  }
  return absl::StrJoin(kept_as, ";\n");
}

// Names that DuckDB makes up may become others in rewritten text.
void NameItems(Json& statement, const std::vector<OutputColumn>& columns) {
  if (!IsType(statement["node"], "SELECT_NODE")) return;
  Json& items = statement["node"]["select_list"];
  if (ContainsClass(items, "STAR") || items.size() != columns.size()) return;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!IsClass(items[i], "COLUMN_REF")) items[i]["alias"] = columns[i].name;
  }
}

// The columns of a source that COLUMNS(…) takes; of none, or of others than it takes of another
// relation beside it, DuckDB makes an error.
absl::StatusOr<std::set<std::string>> Planner::ColumnsChosen(const Json& star,
                                                             const std::string& source) {
  ICEPIE_ASSIGN_OR_RETURN(Json select,
                          ParseSelect(*connection_, "SELECT * FROM " + QuoteIdentifier(source)));
  select["node"]["select_list"][0] = star;
  select["node"]["select_list"][0]["alias"] = "";
  ICEPIE_ASSIGN_OR_RETURN(const std::string sql, SelectToSql(*connection_, select));
  const absl::StatusOr<std::vector<OutputColumn>> columns = BindSelect(*connection_, sql);
  if (absl::StrContains(columns.status().message(), "empty set of columns")) {
    return std::set<std::string>();
  }
  if (!columns.ok()) return columns.status();
  std::set<std::string> names;
  for (const OutputColumn& column : *columns) names.insert(absl::AsciiStrToLower(column.name));
  return names;
}

// `narrow`: without the declared columns that nothing takes. nullopt: there is nothing to spell
// out.
absl::StatusOr<std::optional<Json>> Planner::SpelledOut(const SliceDef& slice,
                                                        const GatedQuery& query, bool narrow) {
  std::set<std::string> named(slice.key.begin(), slice.key.end());
  if (slice.retain) named.insert(slice.retain->column);
  for (const auto& [column, tolerance] : slice.diff_tolerance) named.insert(column);
  DeclaredColumns declared;
  for (const std::string& relation : query.relations) {
    const SourceDef* source = plan_.definition.FindSource(relation);
    if (source != nullptr) declared[relation] = AllColumns({source}).front().columns;
  }
  ICEPIE_ASSIGN_OR_RETURN(const Json statement, ParseSelect(*connection_, query.sql));
  const bool has_rows =
      TakesWholeRow(statement, [this](const std::string& relation, const std::string& name) {
        return HasColumn(relation, name);
      });
  if (!narrow) return SpellOutStars(statement, declared, named, has_rows, nullptr);
  absl::Status passing;
  std::optional<Json> spelled = SpellOutStars(
      statement, declared, named, has_rows,
      [&](const Json& star, const std::string& source) -> std::optional<std::set<std::string>> {
        absl::StatusOr<std::set<std::string>> chosen = ColumnsChosen(star, source);
        if (chosen.ok()) return *std::move(chosen);
        if (IsPassing(chosen.status())) passing = chosen.status();
        return std::nullopt;
      });
  if (!passing.ok()) return passing;
  return spelled;
}

// plan.columns are what the query gives before; none when it gives nothing but an error, as a UNION
// of a star with so many columns as are declared.
absl::Status Planner::LeaveOutHidden(const SliceDef& slice, GatedQuery& query, SlicePlan& plan) {
  std::vector<OutputColumn>& columns = plan.columns;
  ICEPIE_ASSIGN_OR_RETURN(std::optional<Json> spelled, SpelledOut(slice, query, /*narrow=*/false));
  if (!spelled) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(std::string sql, SelectToSql(*connection_, *spelled));
  absl::StatusOr<std::vector<OutputColumn>> fewer = BindSelect(*connection_, sql);
  if (IsPassing(fewer.status())) return fewer.status();
  // What cannot be written so keeps the columns that it has.
  if (!fewer.ok()) return absl::OkStatus();
  // What is read less for it may not be less that is shown.
  ICEPIE_ASSIGN_OR_RETURN(std::optional<Json> narrow, SpelledOut(slice, query, /*narrow=*/true));
  if (narrow && *narrow != *spelled) {
    ICEPIE_ASSIGN_OR_RETURN(sql, SelectToSql(*connection_, *narrow));
    const absl::StatusOr<std::vector<OutputColumn>> shown = BindSelect(*connection_, sql);
    if (IsPassing(shown.status())) return shown.status();
    if (shown.ok() && SameColumns(*shown, *fewer)) spelled = std::move(narrow);
  }
  plan.kept_as = kWithoutHidden;
  if (columns.empty()) columns = *fewer;
  const auto is_gone = [&fewer](const OutputColumn& column) {
    const auto has_its_name = [&column](const auto& other) { return other.name == column.name; };
    const auto& hidden = kHiddenColumns;
    return std::find(std::begin(hidden), std::end(hidden), column.name) != std::end(hidden) &&
           std::none_of(fewer->begin(), fewer->end(), has_its_name);
  };
  columns.erase(std::remove_if(columns.begin(), columns.end(), is_gone), columns.end());
  NameItems(*spelled, columns);
  ICEPIE_ASSIGN_OR_RETURN(query.sql, SelectToSql(*connection_, *spelled));
  ICEPIE_ASSIGN_OR_RETURN(columns, BindSelect(*connection_, query.sql));
  return absl::OkStatus();
}

absl::Status Planner::PlanSlice(const SliceDef& slice) {
  GatedQuery& query = gated_.at(slice.name);
  SlicePlan plan;
  plan.slice = slice.name;
  for (const std::string& relation : query.relations) {
    if (plan_.definition.FindSlice(relation) != nullptr) plan.upstream.push_back(relation);
  }
  absl::StatusOr<std::vector<OutputColumn>> columns = BindSelect(*connection_, query.sql);
  if (IsPassing(columns.status())) return AtPlace(slice, columns.status());
  if (columns.ok()) plan.columns = *columns;
  ICEPIE_RETURN_IF_ERROR(LeaveOutHidden(slice, query, plan));
  if (plan.columns.empty()) return AtPlace(slice, columns.status());
  if (const std::optional<size_t> offset = OffsetOfRowid(slice)) {
    return AtPlace(
        slice, MakeError(absl::StatusCode::kInvalidArgument, "no such column", "SQL_UNKNOWN_COLUMN",
                         {{"name", "rowid"}, {"offset", absl::StrCat(*offset)}}));
  }
  ICEPIE_RETURN_IF_ERROR(CheckColumns(slice, plan));
  SpellAsOutputs(plan);
  ICEPIE_RETURN_IF_ERROR(FindSources(plan));
  ICEPIE_ASSIGN_OR_RETURN(const Json statement, ParseSelect(*connection_, query.sql));
  ICEPIE_ASSIGN_OR_RETURN(const bool scheduled, ScheduleDecides(statement, plan));
  if (const absl::Status status = ChooseStrategy(statement, plan); !status.ok()) {
    if (IsPassing(status)) return status;
    const bool refused = absl::IsUnimplemented(status) || absl::IsFailedPrecondition(status);
    return refused && !slice.strategy.empty()
               ? SliceError(slice, slice.strategy_place, "strategy", CannotKeep(slice, status))
               : SliceError(slice, slice.sql_place, "sql", status);
  }
  plan.definition_hash = Hash(statement, plan, scheduled);
  const bool keeps = plan.strategy != Strategy::kRecompute;
  if (keeps) {
    ICEPIE_ASSIGN_OR_RETURN(plan.kept_as, KeptAs(statement, plan));
  }
  ICEPIE_RETURN_IF_ERROR(MakeInput(slice.name, plan.columns));
  if (IsRead(slice.name)) ICEPIE_RETURN_IF_ERROR(PlanChanges(plan));
  plan_.slices.push_back(std::move(plan));
  return absl::OkStatus();
}

absl::Status Planner::AddExpectation(const SliceDef& slice, const ExpectationDef& definition,
                                     SlicePlan& plan) {
  std::vector<OutputColumn> to_columns;
  if (!definition.to.empty()) {
    const SlicePlan* to = plan_.Find(definition.to);
    if (to == nullptr) {
      std::vector<std::string> names;
      for (const SliceDef& other : plan_.definition.slices) names.push_back(other.name);
      return SliceError(slice, definition.place, absl::StrCat("expect.", definition.name),
                        absl::InvalidArgumentError(
                            absl::StrCat("relationships: there is no slice \"", definition.to, "\"",
                                         SuggestName(definition.to, names))));
    }
    to_columns = to->columns;
    ICEPIE_RETURN_IF_ERROR(MakeInput("__to", to_columns));
  }
  absl::StatusOr<ExpectationPlan> planned =
      PlanExpectation(*connection_, definition, plan.columns, to_columns);
  if (planned.ok()) {
    plan.expectations.push_back(*std::move(planned));
    return absl::OkStatus();
  }
  const std::optional<ErrorDetail> detail = GetErrorDetail(planned.status());
  if (!detail.has_value()) return planned.status();  // the engine's, not the definition's
  FilePlace place = definition.place;
  if (definition.kind == ExpectationDef::Kind::kSql) {
    const auto offset = detail->metadata.find("offset");
    place = PlaceInRuns(
        definition.sql_runs,
        offset == detail->metadata.end() ? 0 : std::strtoull(offset->second.c_str(), nullptr, 10),
        definition.sql_place);
  }
  return SliceError(slice, place, absl::StrCat("expect.", definition.name), planned.status());
}

// After all slices: an expectation may name any of them. Its rows are the relation `slice` here,
// whatever else has that name.
void Planner::PlanExpectations(SlicePlan& plan) {
  const SliceDef& slice = *plan_.definition.FindSlice(plan.slice);
  if (slice.expectations.empty()) return;
  absl::Status status = MakeInput("slice", plan.columns);
  for (const ExpectationDef& definition : slice.expectations) {
    if (status.ok()) status = AddExpectation(slice, definition, plan);
    if (!status.ok()) errors_.push_back(std::exchange(status, absl::OkStatus()));
  }
}

// Whether another slice reads this one.
bool Planner::IsRead(const std::string& slice) const {
  return std::any_of(gated_.begin(), gated_.end(), [&](const auto& gated) {
    const std::vector<std::string>& read = gated.second.relations;
    return std::find(read.begin(), read.end(), slice) != read.end();
  });
}

// Lets slices that read this one be kept fresh from its changes, where that can be done.
absl::Status Planner::PlanChanges(SlicePlan& plan) {
  SlicePlan with_changes = plan;
  if (!HandOutChanges(with_changes)) return absl::OkStatus();
  if (const absl::Status verified = Verify(with_changes); !verified.ok()) {
    return IsPassing(verified) ? verified : absl::OkStatus();
  }
  bare_[plan.slice] = plan;
  plan = std::move(with_changes);
  std::vector<OutputColumn> columns = plan.columns;
  columns.push_back({kSignColumn, kSignType});
  return MakeInput(ChangesOf(plan.slice), columns);
}

// Takes the writing of changes away where nobody reads them.
void Planner::DropUnreadChanges() {
  std::set<std::string> read;
  for (const SlicePlan& plan : plan_.slices) {
    if (plan.reads_changes) read.insert(plan.upstream.begin(), plan.upstream.end());
  }
  for (SlicePlan& plan : plan_.slices) {
    if (plan.hands_out_changes && read.count(plan.slice) == 0) plan = bare_.at(plan.slice);
  }
}

absl::StatusOr<DomainPlan> Planner::Plan() {
  ICEPIE_RETURN_IF_ERROR(OpenScratch());
  ICEPIE_RETURN_IF_ERROR(GateAll());
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<const SliceDef*> order, Order());
  std::set<std::string> failed;
  for (const SliceDef* slice : order) {
    // What reads a slice that cannot be planned would only repeat its fault.
    const auto& read = gated_.at(slice->name).relations;
    const bool blocked = std::any_of(
        read.begin(), read.end(), [&](const std::string& name) { return failed.count(name) > 0; });
    const absl::Status status = blocked ? absl::OkStatus() : PlanSlice(*slice);
    if (!status.ok()) errors_.push_back(status);
    if (blocked || !status.ok()) failed.insert(slice->name);
  }
  ICEPIE_RETURN_IF_ERROR(AllErrors());
  DropUnreadChanges();
  for (SlicePlan& plan : plan_.slices) PlanExpectations(plan);
  ICEPIE_RETURN_IF_ERROR(AllErrors());
  return std::move(plan_);
}

}  // namespace

std::string StrategyName(Strategy strategy) {
  switch (strategy) {
    case Strategy::kAppend:
      return "append";
    case Strategy::kAggregate:
      return "aggregate";
    case Strategy::kKeys:
      return "keys";
    case Strategy::kRecompute:
      return "recompute";
  }
  return "";
}

const SlicePlan* DomainPlan::Find(absl::string_view slice) const {
  for (const SlicePlan& plan : slices) {
    if (plan.slice == slice) return &plan;
  }
  return nullptr;
}

std::set<std::string> SlicesBelow(const DomainPlan& plan, const SlicePlan& slice) {
  std::set<std::string> below;
  for (const std::string& upstream : slice.upstream) {  // plans have no cycles
    below.insert(upstream);
    below.merge(SlicesBelow(plan, *plan.Find(upstream)));
  }
  return below;
}

std::set<std::string> StreamsBelow(const DomainPlan& plan, const SlicePlan& slice) {
  std::set<std::string> streams;
  for (const SourceUse& use : slice.sources) {
    streams.insert(plan.definition.FindSource(use.source)->stream);
  }
  for (const std::string& upstream : slice.upstream) {  // plans have no cycles
    streams.merge(StreamsBelow(plan, *plan.Find(upstream)));
  }
  return streams;
}

absl::StatusOr<DomainPlan> PlanDomain(const DomainDef& definition, const PlanOverrides& overrides) {
  absl::StatusOr<DomainPlan> plan = Planner(definition, overrides).Plan();
  if (overrides.empty() || !plan.ok()) return plan;
  // They have no part in hashes, also where one decides whether a schedule does.
  const absl::StatusOr<DomainPlan> without = Planner(definition, {}).Plan();
  if (IsPassing(without.status())) return without.status();
  for (SlicePlan& slice : plan->slices) {
    if (without.ok()) slice.definition_hash = without->Find(slice.slice)->definition_hash;
  }
  return plan;
}

}  // namespace icepie::slices
