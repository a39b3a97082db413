#include "slices/plan/retain_plan.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "slices/definition/nearest_name.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/keys_plan.h"

namespace icepie::slices {
namespace {

// What is stored behind the horizon is at most this part of what lies before it, and a second's
// worth.
constexpr int64_t kStepsPerSpan = 64;
constexpr int64_t kStepMicrosMin = 1'000'000;

constexpr char kView[] = "CREATE VIEW __result AS ";

const OutputColumn* FindColumn(const std::vector<OutputColumn>& columns, const std::string& name) {
  const auto found = std::find_if(columns.begin(), columns.end(), [&](const OutputColumn& column) {
    return absl::EqualsIgnoreCase(column.name, name);
  });
  return found == columns.end() ? nullptr : &*found;
}

// Microseconds as a value of the type. A DATE is behind it when all of its day is.
std::string TimeOf(const std::string& micros, const std::string& type) {
  if (type == "TIMESTAMP WITH TIME ZONE") return absl::StrCat("make_timestamptz(", micros, ")");
  const std::string timestamp = absl::StrCat("make_timestamp(", micros, ")");
  return type == "DATE" ? absl::StrCat("CAST(", timestamp, " AS DATE)") : timestamp;
}

// The condition over a stored column.
std::string IsBehind(const RetainDef& retain, const std::string& column, const std::string& type) {
  const std::string micros =
      absl::StrCat("applied_time_us - ", absl::ToInt64Microseconds(retain.span));
  return absl::StrCat(column, " < (SELECT ", TimeOf(micros, type), " FROM __progress)");
}

void FilterResult(const RetainDef& retain, const OutputColumn& column,
                  std::vector<std::string>& create) {
  for (std::string& sql : create) {
    absl::string_view select = sql;
    if (absl::ConsumePrefix(&select, kView)) {
      sql = absl::StrCat("CREATE VIEW __unretained AS ", select);
    }
  }
  create.push_back(absl::StrCat(kView, "SELECT * FROM __unretained WHERE (",
                                IsBehind(retain, QuoteIdentifier(column.name), column.type),
                                ") IS NOT TRUE"));
}

}  // namespace

absl::Status CheckRetain(const RetainDef& retain, const std::vector<OutputColumn>& columns) {
  const OutputColumn* column = FindColumn(columns, retain.column);
  if (column == nullptr) {
    std::vector<std::string> names;
    for (const OutputColumn& each : columns) names.push_back(each.name);
    return absl::InvalidArgumentError(absl::StrCat("retain: there is no output column \"",
                                                   retain.column, "\"",
                                                   SuggestName(retain.column, names)));
  }
  const std::string& type = column->type;
  if (type == "DATE" || type == "TIMESTAMP" || type == "TIMESTAMP WITH TIME ZONE") {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("retain: column ", column->name, " is ", type,
                   "; it goes by a DATE, TIMESTAMP or TIMESTAMPTZ, cast it in the SQL"));
}

std::string IsLate(const RetainDef& retain, const std::string& expression, const std::string& type,
                   const std::string& time) {
  const std::string micros =
      absl::StrCat("epoch_us(", time, ") - ", absl::ToInt64Microseconds(retain.span));
  return absl::StrCat("(", expression, ") < ", TimeOf(micros, type));
}

int64_t LetGoStepMicros(int64_t span_us) {
  return std::max(kStepMicrosMin, span_us / kStepsPerSpan);
}

SlicePlan::Retained AddRetain(const RetainDef& retain, const std::vector<OutputColumn>& columns,
                              SliceStatements& statements) {
  const OutputColumn& column = *FindColumn(columns, retain.column);
  FilterResult(retain, column, statements.create);
  statements.touched = {};
  SlicePlan::Retained retained;
  retained.span_us = absl::ToInt64Microseconds(retain.span);
  for (const auto& [table, time, order] : statements.retained) {
    retained.let_go.push_back(
        {absl::StrCat("DELETE FROM ", table, " WHERE ", IsBehind(retain, time, column.type))});
    AddCompaction(retained.let_go, table, order);
  }
  absl::StrAppend(&statements.why,
                  statements.retained.empty() ? "; what is past `retain` is hidden, not let go"
                  : statements.keeps_behind
                      ? "; rows past `retain` are let go, what they are made of is not"
                      : "; what is past `retain` is let go");
  if (statements.count_late.empty()) return retained;
  statements.create.emplace_back("CREATE TABLE __late (records BIGINT)");
  statements.create.emplace_back("INSERT INTO __late VALUES (0)");
  statements.apply.push_back(
      {absl::StrCat("UPDATE __late SET records = (", statements.count_late, ")")});
  retained.counts_late = true;
  return retained;
}

}  // namespace icepie::slices
