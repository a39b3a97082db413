#include "slices/expectation/expectation_check.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/utf8.h"
#include "slices/apply/flight_record.h"
#include "slices/duckdb/statement_watch.h"
#include "slices/duckdb/transaction.h"
#include "slices/reading/result_json.h"

namespace icepie::slices {
namespace {

constexpr size_t kDigestCharacters = 16;

constexpr int kSamples = 5;
constexpr int64_t kSampleBytesMax = 4096;  // of all of an expectation
constexpr size_t kMessageBytesMax = 500;

std::string FlightSubject(const std::string& generation, const ExpectationPlan& plan) {
  return absl::StrCat(generation, "/", plan.name);
}

std::string CheckName(const std::string& slice, const ExpectationPlan& plan) {
  return absl::StrCat("expectation ", plan.name, " of slice ", slice);
}

absl::Status MakeView(DuckConnection& connection, const std::string& name,
                      const std::string& relation) {
  return connection.Run(
      absl::StrCat("CREATE OR REPLACE TEMP VIEW ", name, " AS SELECT * FROM ", relation));
}

absl::Status CountRows(DuckConnection& connection, const std::string& sql,
                       ExpectationResult& result) {
  ICEPIE_ASSIGN_OR_RETURN(
      const auto rows, connection.QueryCells(absl::StrCat("SELECT count(*) FROM (", sql, "\n)")));
  result.failing_rows = std::get<int64_t>(rows.at(0).at(0));
  if (result.failing_rows == 0) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(DuckResult samples, connection.Query(absl::StrCat(
                                                  "SELECT * FROM (", sql, "\n) LIMIT ", kSamples)));
  auto objects = WriteJsonObjects(samples, kSampleBytesMax);
  if (objects.ok()) result.samples = *std::move(objects);
  return absl::OkStatus();
}

absl::Status RunPlan(DuckConnection& connection, const ExpectationPlan& plan,
                     const ExpectationScope& scope, ExpectationResult& result) {
  const FlightEntry flight(Activity::kCheck, FlightSubject(scope.generation, plan));
  const StatementWatch watch([&] { connection.Interrupt(); }, scope.limit, scope.grace,
                             CheckName(scope.slice, plan),
                             [&](const std::string& why) {
                               flight.Blame();
                               scope.on_stuck(plan, why);
                             });
  ICEPIE_RETURN_IF_ERROR(BeginTransaction(connection, TransactionKind::kReadOnly));
  const absl::Status counted = CountRows(connection, plan.sql, result);
  const absl::Status ended = RollBack(connection);  // it has only read
  return counted.ok() ? ended : counted;
}

ExpectationTarget TargetOf(const ExpectationPlan& plan, const ExpectationScope& scope) {
  if (plan.to == scope.slice) return {scope.relation, "", nullptr};
  return scope.find_target(plan.to);
}

// With its target's view, when it has one that can be read; else says in `result` why not.
absl::Status RunWithTarget(DuckConnection& connection, const ExpectationPlan& plan,
                           const ExpectationScope& scope, ExpectationResult& result) {
  if (plan.to.empty()) return RunPlan(connection, plan, scope, result);
  const ExpectationTarget target = TargetOf(plan, scope);
  result.message = target.unavailable;
  if (target.relation.empty()) return absl::OkStatus();
  ICEPIE_RETURN_IF_ERROR(MakeView(connection, "__to", target.relation));
  return RunPlan(connection, plan, scope, result);
}

void Judge(const absl::Status& status, absl::Duration limit, ExpectationResult& result) {
  using Status = ExpectationResult::Status;
  if (status.ok() && !result.message.empty()) return;
  if (status.ok()) {
    result.status = result.failing_rows == 0 ? Status::kPassed : Status::kFailed;
    return;
  }
  result.failing_rows = 0;
  result.message = std::string(CutUtf8(status.message(), kMessageBytesMax));
  result.status = absl::IsInvalidArgument(status) ? Status::kFailed : Status::kStopped;
  if (absl::IsDeadlineExceeded(status)) {
    result.message = TookTooLong(limit);
  }
}

}  // namespace

std::string TookTooLong(absl::Duration limit) {
  return absl::StrCat("it took longer than the domain's limit for queries, ",
                      absl::FormatDuration(limit));
}

ExpectationResult Unchecked(const ExpectationPlan& plan) {
  ExpectationResult result;
  result.name = plan.name;
  result.check = plan.check;
  result.sql_digest = Sha256Hex(absl::StrCat(plan.sql, "\n", plan.to)).substr(0, kDigestCharacters);
  result.severity = plan.severity;
  return result;
}

absl::StatusOr<std::vector<ExpectationResult>> CheckExpectations(
    DuckConnection& connection, const std::vector<ExpectationPlan>& plans,
    const ExpectationScope& scope) {
  ICEPIE_RETURN_IF_ERROR(MakeView(connection, "slice", scope.relation));
  std::vector<ExpectationResult> results;
  for (const ExpectationPlan& plan : plans) {
    ExpectationResult& result = results.emplace_back(Unchecked(plan));
    result.position = scope.position;
    result.time = absl::Now();
    const absl::Status status = RunWithTarget(connection, plan, scope, result);
    if (absl::IsInternal(status)) return status;
    Judge(status, scope.limit, result);
  }
  return results;
}

namespace {

std::string Over(const std::string& rows, const std::string& select) {
  return absl::StrCat("WITH slice AS (", rows, ") ", select);
}

ExpectationResult BrokenBy(const ExpectationPlan& plan, int64_t position) {
  ExpectationResult result = Unchecked(plan);
  result.position = position;
  result.time = absl::Now();
  result.status = ExpectationResult::Status::kFailed;
  return result;
}

// How many rows break each of them.
absl::StatusOr<CellRow> CountBroken(DuckConnection& connection,
                                    const std::vector<const ExpectationPlan*>& plans,
                                    const std::string& rows) {
  std::string counts = "SELECT ";
  for (const ExpectationPlan* plan : plans) {
    absl::StrAppend(&counts, plan == plans.front() ? "" : ", ", "(SELECT count(*) FROM (",
                    plan->sql, "\n))");
  }
  ICEPIE_ASSIGN_OR_RETURN(const auto counted, connection.QueryCells(Over(rows, counts)));
  return counted.at(0);
}

absl::Status AddBroken(DuckConnection& connection, const std::vector<const ExpectationPlan*>& plans,
                       const std::string& rows, int64_t position,
                       std::vector<ExpectationResult>& broken) {
  if (plans.empty()) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(const CellRow counts, CountBroken(connection, plans, rows));
  for (size_t i = 0; i < plans.size(); ++i) {
    const int64_t count = std::get<int64_t>(counts.at(i));
    if (count == 0) continue;
    ExpectationResult& result = broken.emplace_back(BrokenBy(*plans[i], position));
    result.failing_rows = count;
    ICEPIE_ASSIGN_OR_RETURN(
        DuckResult samples,
        connection.Query(
            Over(rows, absl::StrCat("SELECT * FROM (", plans[i]->sql, "\n) LIMIT ", kSamples))));
    auto objects = WriteJsonObjects(samples, kSampleBytesMax);
    if (objects.ok()) result.samples = *std::move(objects);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<ExpectationResult>> CheckBatch(DuckConnection& connection,
                                                          const std::vector<ExpectationPlan>& plans,
                                                          const std::string& rows,
                                                          const BatchCheckScope& scope,
                                                          std::string* stopped) {
  const int64_t position = scope.position;
  std::vector<const ExpectationPlan*> safe;
  std::vector<ExpectationResult> broken;
  for (const ExpectationPlan& plan : plans) {
    if (plan.by_row && !plan.may_fail) safe.push_back(&plan);
  }
  ICEPIE_RETURN_IF_ERROR(AddBroken(connection, safe, rows, position, broken));
  for (const ExpectationPlan& plan : plans) {
    if (!plan.by_row || !plan.may_fail) continue;
    const BatchCheckWatch::Check check(
        *scope.watch, connection, FlightSubject(scope.generation, plan), scope.limit, [&] {
          scope.on_stuck(plan, absl::StrCat(CheckName(scope.slice, plan),
                                            " does not listen to its interrupt"));
        });
    const absl::Status status = AddBroken(connection, {&plan}, rows, position, broken);
    if (status.ok()) continue;
    if (absl::IsDeadlineExceeded(status)) *stopped = plan.name;
    if (!absl::IsInvalidArgument(status)) return status;
    // The transaction is over: nothing more can be asked in it.
    broken.push_back(BrokenBy(plan, position));
    broken.back().message = std::string(CutUtf8(status.message(), kMessageBytesMax));
    break;
  }
  return broken;
}

}  // namespace icepie::slices
