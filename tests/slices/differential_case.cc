#include "tests/slices/differential_case.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace icepie::slices {

std::string CaseQuery::Sql() const {
  std::vector<std::string> outputs;
  for (size_t i = 0; i < items.size(); ++i) {
    outputs.push_back(absl::StrCat(items[i].sql, " AS c", i));
  }
  std::string sql =
      absl::StrCat(with, with.empty() ? "" : " ", "SELECT ", distinct, distinct.empty() ? "" : " ",
                   absl::StrJoin(outputs, ", "), " FROM ", from);
  const auto add = [&](const char* word, const std::string& text) {
    if (!text.empty()) absl::StrAppend(&sql, word, text);
  };
  add(" WHERE ", where);
  add(" GROUP BY ", group);
  add(" HAVING ", having);
  add(" QUALIFY ", qualify);
  add(" ORDER BY ", order);
  return sql;
}

const CaseSource* DifferentialCase::FindSource(const std::string& name) const {
  for (const CaseSource& source : sources) {
    if (source.name == name) return &source;
  }
  return nullptr;
}

const CaseSlice* DifferentialCase::FindSlice(const std::string& name) const {
  for (const CaseSlice& slice : slices) {
    if (slice.name == name) return &slice;
  }
  return nullptr;
}

size_t DifferentialCase::RecordCount() const {
  size_t count = 0;
  for (const CaseStep& step : steps) {
    for (const CaseBatch& batch : step.batches) count += batch.records.size();
  }
  return count;
}

namespace {

std::string ColumnYaml(const CaseColumn& column, const CaseField& field) {
  std::string yaml = absl::StrCat("      ", field.name, ": {type: \"", field.type, "\"");
  if (!field.path.empty()) absl::StrAppend(&yaml, ", path: ", field.path);
  if (!field.format.empty()) absl::StrAppend(&yaml, ", format: ", field.format);
  if (column.required) absl::StrAppend(&yaml, ", required: true");
  if (column.half_up) absl::StrAppend(&yaml, ", rounding: half_up");
  if (!column.default_json.empty()) absl::StrAppend(&yaml, ", default: ", column.default_json);
  return yaml + "}\n";
}

std::string SourceYaml(const CaseSource& source, const CaseStream& stream) {
  std::string yaml = absl::StrCat("  ", source.name, ":\n    stream: ", stream.name, "\n");
  if (!source.where.empty()) absl::StrAppend(&yaml, "    where: {$.type: ", source.where, "}\n");
  absl::StrAppend(&yaml, "    columns:\n");
  for (const CaseColumn& column : source.columns) {
    absl::StrAppend(&yaml, ColumnYaml(column, stream.fields[column.field]));
  }
  if (!source.latest_by.empty()) {
    absl::StrAppend(&yaml, "    latest_by: [", source.latest_by, "]\n");
  }
  return yaml;
}

}  // namespace

std::optional<size_t> CaseQuery::Retained() const {
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].retain_seconds != 0) return i;
  }
  return std::nullopt;
}

std::string DifferentialCase::Yaml() const {
  std::string yaml = "domain: diff\nsources:\n";
  for (const CaseSource& source : sources) {
    absl::StrAppend(&yaml, SourceYaml(source, streams[source.stream]));
  }
  absl::StrAppend(&yaml, "slices:\n");
  for (const CaseSlice& slice : slices) {
    absl::StrAppend(&yaml, "  ", slice.name, ":\n    sql: |\n      ", slice.query.Sql(),
                    "\n    on_bad_record: {action: quarantine, budget: {records: 100000}}\n");
    const std::optional<size_t> retained = slice.query.Retained();
    if (!retained) continue;
    absl::StrAppend(&yaml, "    retain: {column: c", *retained,
                    ", for: ", slice.query.items[*retained].retain_seconds, "s}\n");
  }
  return yaml;
}

std::string PayloadOf(const CaseStream& stream, const CaseRecord& record) {
  std::vector<std::string> members = {absl::StrCat("\"type\":\"", record.type, "\"")};
  std::vector<std::string> nested;
  for (size_t i = 0; i < stream.fields.size(); ++i) {
    if (record.values[i].is == CaseValue::Is::kAbsent) continue;
    const std::string member =
        absl::StrCat("\"", stream.fields[i].name, "\":", record.values[i].json);
    (stream.fields[i].path.empty() ? members : nested).push_back(member);
  }
  if (!nested.empty()) {
    members.push_back(absl::StrCat("\"n\":{", absl::StrJoin(nested, ","), "}"));
  }
  const std::string json = absl::StrCat("{", absl::StrJoin(members, ","));
  return record.broken ? json : json + "}";
}

std::string LiteralOf(const CaseColumn& column, const CaseValue& value) {
  switch (value.is) {
    case CaseValue::Is::kAbsent:
      if (!column.default_json.empty()) return column.default_sql;
      return column.required ? "" : "NULL";
    case CaseValue::Is::kNull:
      return column.required ? "" : "NULL";
    case CaseValue::Is::kGood:
      return value.sql;
    case CaseValue::Is::kInexact:
      return column.half_up ? value.sql : "";
    case CaseValue::Is::kWrong:
      return "";
  }
  return "";
}

std::string Describe(const DifferentialCase& test_case) {
  std::string text = absl::StrCat("seed ", test_case.seed, "\n", test_case.Yaml());
  int64_t position = 0;
  for (size_t i = 0; i < test_case.steps.size(); ++i) {
    const CaseStep& step = test_case.steps[i];
    absl::StrAppend(&text, "--- step ", i, step.refresh ? ", refreshed" : "", "\n");
    for (const CaseBatch& batch : step.batches) {
      const CaseStream& stream = test_case.streams[batch.stream];
      absl::StrAppend(&text, "batch of ", batch.records.size(), "\n");
      for (const CaseRecord& record : batch.records) {
        absl::StrAppend(&text, "  ", position++, " ", stream.name, " ", PayloadOf(stream, record),
                        "\n");
      }
    }
    if (step.acknowledges) absl::StrAppend(&text, "what is in quarantine is acknowledged\n");
    if (step.restart == CaseRestart::kClean) absl::StrAppend(&text, "restart\n");
    if (step.restart == CaseRestart::kKill) absl::StrAppend(&text, "killed and restarted\n");
    if (step.restart != CaseRestart::kNone && step.lost_slice) {
      absl::StrAppend(&text, "without the snapshots of v", *step.lost_slice, "\n");
    }
  }
  if (test_case.retried) absl::StrAppend(&text, "built anew from the same file\n");
  if (test_case.interrupted > 0) {
    absl::StrAppend(&text, "the build is interrupted ", test_case.interrupted, " times\n");
  }
  return text;
}

}  // namespace icepie::slices
