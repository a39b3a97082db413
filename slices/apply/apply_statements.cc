#include "slices/apply/apply_statements.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/duckdb/transaction.h"
#include "slices/plan/change_feed.h"

namespace icepie::slices {
namespace {

// Statements are prepared anew at 1,000, 8,000, 64,000 … records.
constexpr int64_t kFirstPreparation = 1000;
constexpr int64_t kGrowth = 8;

absl::StatusOr<bool> GivesARow(DuckStatement& statement) {
  ICEPIE_ASSIGN_OR_RETURN(DuckResult result, statement.Execute());
  ICEPIE_ASSIGN_OR_RETURN(duckdb_data_chunk chunk, result.NextChunk());
  const bool any = chunk != nullptr;
  duckdb_destroy_data_chunk(&chunk);
  return any;
}

bool IsReusable(const SlicePlan& plan) {
  if (plan.strategy != Strategy::kAppend && plan.strategy != Strategy::kAggregate) return false;
  const bool replaces = std::any_of(
      plan.apply.begin(), plan.apply.end(),
      [](const ApplyStatement& statement) { return absl::StartsWith(statement.sql, "CREATE"); });
  return (plan.upstream.empty() || plan.reads_changes) && !replaces;
}

}  // namespace

ApplyStatements::ApplyStatements(DuckConnection& connection, const SlicePlan& plan)
    : connection_(connection), plan_(plan), reusable_(IsReusable(plan)) {}

absl::Status ApplyStatements::Prepare(int64_t applied) {
  if (!reusable_) return MakeRelations();
  if (!steps_.empty() && applied < next_preparation_) return absl::OkStatus();
  next_preparation_ = std::max(kFirstPreparation, applied * kGrowth);
  ICEPIE_RETURN_IF_ERROR(MakeRelations());
  // Looked up in front of the transaction: it would hold every database that is attached.
  ICEPIE_ASSIGN_OR_RETURN(
      const std::vector<CellRow> tables,
      connection_.QueryCells("SELECT table_name FROM duckdb_tables() WHERE database_name = "
                             "current_database() AND NOT temporary"));
  ICEPIE_RETURN_IF_ERROR(BeginTransaction(connection_));
  absl::Status status = AddToAllTables(tables);
  if (status.ok()) status = PrepareSteps();
  const absl::Status rolled_back = RollBack(connection_);
  if (status.ok()) status = rolled_back;
  if (!status.ok()) steps_.clear();
  return status;
}

// Before the transaction: it would take the views with it.
absl::Status ApplyStatements::MakeRelations() {
  for (const ApplyStatement& statement : plan_.apply) {
    if (statement.into.empty() || relations_.count(statement.into) > 0) continue;
    ICEPIE_ASSIGN_OR_RETURN(const auto producer, connection_.Prepare(statement.sql));
    ICEPIE_ASSIGN_OR_RETURN(relations_[statement.into],
                            BatchRelation::Create(connection_, statement.into, *producer));
  }
  return absl::OkStatus();
}

absl::Status ApplyStatements::AddToAllTables(const std::vector<CellRow>& tables) {
  for (const CellRow& table : tables) {
    ICEPIE_RETURN_IF_ERROR(connection_.Run(absl::StrCat(
        "INSERT INTO ", QuoteIdentifier(std::get<std::string>(table[0])), " DEFAULT VALUES")));
  }
  return absl::OkStatus();
}

absl::Status ApplyStatements::PrepareSteps() {
  std::vector<Step> steps;
  if (changes_at_ == nullptr) {
    ICEPIE_ASSIGN_OR_RETURN(changes_at_, BoundNumbers::Create(connection_, 1));
  }
  for (const ApplyStatement& statement : plan_.apply) {
    Step& step = steps.emplace_back();
    step.writes_changes = statement.sign != 0;
    ICEPIE_ASSIGN_OR_RETURN(
        step.statement,
        connection_.Prepare(step.writes_changes ? InsertChanges(statement, changes_at_->Sql(0))
                                                : statement.sql));
    if (!statement.only_if.empty()) {
      ICEPIE_ASSIGN_OR_RETURN(step.only_if, connection_.Prepare(statement.only_if));
    }
    if (!statement.into.empty()) step.into = relations_.at(statement.into).get();
  }
  steps_ = std::move(steps);
  return absl::OkStatus();
}

absl::Status ApplyStatements::Run(std::optional<int64_t> changes_at,
                                  const std::function<absl::Status()>& at_end) {
  return Finish(reusable_ ? RunSteps(changes_at) : RunTexts(changes_at), at_end);
}

absl::Status ApplyStatements::RunOnce(std::optional<int64_t> changes_at,
                                      const std::function<absl::Status()>& at_end) {
  return Finish(RunTexts(changes_at), at_end);
}

absl::Status ApplyStatements::Finish(absl::Status status,
                                     const std::function<absl::Status()>& at_end) {
  if (status.ok() && at_end != nullptr) status = at_end();
  for (auto& [name, relation] : relations_) relation->Clear();
  return status;
}

absl::Status ApplyStatements::RunSteps(std::optional<int64_t> changes_at) {
  if (changes_at_ != nullptr) changes_at_->Set(0, changes_at.value_or(0));
  for (Step& step : steps_) {
    if (step.writes_changes && !changes_at) continue;
    if (step.only_if != nullptr) {
      ICEPIE_ASSIGN_OR_RETURN(const bool wanted, GivesARow(*step.only_if));
      if (!wanted) continue;
    }
    ICEPIE_ASSIGN_OR_RETURN(DuckResult result, step.statement->Execute());
    if (step.into != nullptr) ICEPIE_RETURN_IF_ERROR(step.into->Set(std::move(result)));
  }
  return absl::OkStatus();
}

absl::Status ApplyStatements::RunTexts(std::optional<int64_t> changes_at) {
  for (const ApplyStatement& statement : plan_.apply) {
    if (statement.sign != 0) {
      if (!changes_at) continue;
      ICEPIE_RETURN_IF_ERROR(connection_.Run(InsertChanges(statement, absl::StrCat(*changes_at))));
      continue;
    }
    if (!statement.only_if.empty()) {
      ICEPIE_ASSIGN_OR_RETURN(const auto rows, connection_.QueryCells(statement.only_if));
      if (rows.empty()) continue;
    }
    ICEPIE_ASSIGN_OR_RETURN(DuckResult result, connection_.Query(statement.sql));
    if (statement.into.empty()) continue;
    ICEPIE_RETURN_IF_ERROR(relations_.at(statement.into)->Set(std::move(result)));
  }
  return absl::OkStatus();
}

}  // namespace icepie::slices
