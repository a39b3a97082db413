#include "tests/slices/differential_reference.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/plan/components.h"
#include "slices/plan/counted_values.h"
#include "slices/plan/syntax_tree.h"
#include "slices/reading/result_json.h"

namespace icepie::slices {

std::string SelectAsText(const std::string& relation, size_t columns) {
  std::vector<std::string> items;
  for (size_t i = 0; i < columns; ++i) {
    items.push_back(absl::StrCat("CAST(c", i, " AS VARCHAR) AS c", i));
  }
  return absl::StrCat("SELECT ", absl::StrJoin(items, ", "), " FROM ", relation);
}

absl::StatusOr<std::unique_ptr<DifferentialReference>> DifferentialReference::Make(
    const DifferentialCase& test_case) {
  std::unique_ptr<DifferentialReference> made(new DifferentialReference(test_case));
  ICEPIE_ASSIGN_OR_RETURN(made->database_, DuckDatabase::OpenInMemory({{"threads", "1"}}));
  ICEPIE_ASSIGN_OR_RETURN(made->connection_, DuckConnection::Connect(*made->database_));
  ICEPIE_RETURN_IF_ERROR(made->connection_->Run("SET TimeZone = 'UTC'"));
  ICEPIE_RETURN_IF_ERROR(RegisterComponents(*made->connection_, int64_t{64} << 20));
  ICEPIE_RETURN_IF_ERROR(made->CreateTables());
  return made;
}

absl::Status DifferentialReference::CreateTables() {
  offsets_.resize(case_.streams.size());
  newest_ingest_us_.resize(case_.streams.size());
  broken_.resize(case_.streams.size());
  for (const CaseSource& source : case_.sources) {
    std::string sql = absl::StrCat("CREATE TABLE of_", source.name,
                                   "(_position BIGINT, _offset BIGINT, _time TIMESTAMPTZ");
    for (const CaseColumn& column : source.columns) {
      const CaseField& field = case_.streams[source.stream].fields[column.field];
      absl::StrAppend(&sql, ", ", field.name, " ", field.type);
    }
    ICEPIE_RETURN_IF_ERROR(connection_->Run(sql + ")"));
  }
  return absl::OkStatus();
}

absl::Status DifferentialReference::Add(const CaseBatch& batch, int64_t position,
                                        int64_t ingest_time_us) {
  const CaseStream& stream = case_.streams[batch.stream];
  for (const CaseSource& source : case_.sources) {
    if (source.stream != batch.stream) continue;
    std::vector<std::string> rows;
    for (size_t i = 0; i < batch.records.size(); ++i) {
      const CaseRecord& record = batch.records[i];
      const int64_t at = position + static_cast<int64_t>(i);
      if (record.broken || (!source.where.empty() && record.type != source.where)) continue;
      std::string row =
          absl::StrCat("(", at, ", ", offsets_[batch.stream] + static_cast<int64_t>(i),
                       ", make_timestamptz(", ingest_time_us, ")");
      for (const CaseColumn& column : source.columns) {
        const std::string literal = LiteralOf(column, record.values[column.field]);
        if (literal.empty()) wrong_[source.name][at].insert(stream.fields[column.field].name);
        absl::StrAppend(&row, ", ", literal.empty() ? "NULL" : literal);
      }
      rows.push_back(row + ")");
    }
    if (rows.empty()) continue;
    ICEPIE_RETURN_IF_ERROR(connection_->Run(
        absl::StrCat("INSERT INTO of_", source.name, " VALUES ", absl::StrJoin(rows, ", "))));
  }
  for (size_t i = 0; i < batch.records.size(); ++i) {
    if (batch.records[i].broken) {
      broken_[batch.stream].insert(position + static_cast<int64_t>(i));
    }
  }
  newest_ingest_us_[batch.stream] = ingest_time_us;
  offsets_[batch.stream] += static_cast<int64_t>(batch.records.size());
  return absl::OkStatus();
}

std::set<int64_t> DifferentialReference::Unreadable(const SlicePlan& plan) const {
  std::set<int64_t> positions;
  for (const SourceUse& use : plan.sources) {
    const std::set<int64_t>& broken = broken_[case_.FindSource(use.source)->stream];
    positions.insert(broken.begin(), broken.end());
    const auto wrong = wrong_.find(use.source);
    if (wrong == wrong_.end()) continue;
    for (const auto& [position, columns] : wrong->second) {
      for (const std::string& column : use.columns) {
        if (columns.count(column) > 0) positions.insert(position);
      }
    }
  }
  return positions;
}

int64_t DifferentialReference::InputCount(const SlicePlan& plan) const {
  std::set<size_t> streams;
  int64_t count = 0;
  for (const SourceUse& use : plan.sources) {
    const size_t stream = case_.FindSource(use.source)->stream;
    if (streams.insert(stream).second) count += offsets_[stream];
  }
  return count;
}

absl::Status DifferentialReference::Show(const CaseSource& source,
                                         const std::set<int64_t>& excluded, int64_t end) {
  std::string sql = absl::StrCat("CREATE OR REPLACE TEMP VIEW ", source.name,
                                 " AS SELECT * FROM of_", source.name, " WHERE _position < ", end);
  if (!excluded.empty()) {
    absl::StrAppend(&sql, " AND _position NOT IN (", absl::StrJoin(excluded, ", "), ")");
  }
  if (!source.latest_by.empty()) {
    absl::StrAppend(&sql, " QUALIFY row_number() OVER (PARTITION BY ", source.latest_by,
                    " ORDER BY _position DESC) = 1 ORDER BY _position");
  }
  return connection_->Run(sql);
}

absl::Status DifferentialReference::Compute(const CaseSlice& slice,
                                            const std::set<int64_t>& excluded, int64_t end) {
  for (const std::string& name : slice.reads) {
    const CaseSource* source = case_.FindSource(name);
    if (source != nullptr) ICEPIE_RETURN_IF_ERROR(Show(*source, excluded, end));
  }
  absl::Status made = MakeTable(slice.name, slice.query.Sql());
  if (!made.ok()) {
    // Perhaps it is only that count() has evaluated what it need not.
    ICEPIE_ASSIGN_OR_RETURN(const Json statement, ParseSelect(*connection_, slice.query.Sql()));
    ICEPIE_ASSIGN_OR_RETURN(const Json counting, CountOperands(*connection_, statement));
    if (counting == statement) return made;
    ICEPIE_ASSIGN_OR_RETURN(const std::string sql, SelectToSql(*connection_, counting));
    made = MakeTable(slice.name, sql);
  }
  ICEPIE_RETURN_IF_ERROR(made);
  return LetGo(slice);
}

// Who reads it comes to its rows in this order.
absl::Status DifferentialReference::MakeTable(const std::string& name, const std::string& sql) {
  return connection_->Run(
      absl::StrCat("CREATE OR REPLACE TABLE ", name, " AS SELECT * FROM (", sql, ") ORDER BY ALL"));
}

// Of all that it reads, also by way of other slices.
int64_t DifferentialReference::NewestIngest(const CaseSlice& slice) const {
  int64_t newest = 0;
  for (const std::string& name : slice.reads) {
    const CaseSource* source = case_.FindSource(name);
    newest = std::max(newest, source != nullptr ? newest_ingest_us_[source->stream]
                                                : NewestIngest(*case_.FindSlice(name)));
  }
  return newest;
}

absl::Status DifferentialReference::LetGo(const CaseSlice& slice) {
  const std::optional<size_t> retained = slice.query.Retained();
  if (!retained) return absl::OkStatus();
  const int64_t span_us = 1'000'000 * slice.query.items[*retained].retain_seconds;
  return connection_->Run(absl::StrCat("DELETE FROM ", slice.name, " WHERE CAST(c", *retained,
                                       " AS TIMESTAMPTZ) < make_timestamptz(",
                                       NewestIngest(slice) - span_us, ")"));
}

absl::StatusOr<std::string> DifferentialReference::Rows(const std::string& slice, size_t columns) {
  ICEPIE_ASSIGN_OR_RETURN(DuckResult result, connection_->Query(SelectAsText(slice, columns)));
  ICEPIE_ASSIGN_OR_RETURN(JsonRows rows, WriteJsonRows(result, 1'000'000, int64_t{1} << 30));
  return std::move(rows.body);
}

}  // namespace icepie::slices
