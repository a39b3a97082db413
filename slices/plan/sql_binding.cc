#include "slices/plan/sql_binding.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::slices {
namespace {

// The name in `does not have a column named "delai"`, which has no field of its own.
std::string NameInMessage(const std::string& message) {
  static constexpr absl::string_view kBefore = "does not have a column named \"";
  const size_t found = message.find(kBefore.data());
  if (found == std::string::npos) return "";
  const size_t begin = found + kBefore.size();
  return message.substr(begin, message.find('"', begin) - begin);
}

OutputColumn ReadColumn(duckdb_prepared_statement statement, idx_t index) {
  OutputColumn column;
  const char* name = duckdb_prepared_statement_column_name(statement, index);
  column.name = name == nullptr ? "" : name;
  duckdb_free(const_cast<char*>(name));
  duckdb_logical_type type = duckdb_prepared_statement_column_logical_type(statement, index);
  // A bare NULL has no type; tables store it as INTEGER.
  column.type = duckdb_get_type_id(type) == DUCKDB_TYPE_SQLNULL ? "INTEGER" : LogicalTypeText(type);
  duckdb_destroy_logical_type(&type);
  return column;
}

}  // namespace

bool IsPassing(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsUnavailable(status);
}

absl::Status BindError(const absl::Status& status) {
  const std::string text(status.message());
  const nlohmann::json reply = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (IsPassing(status)) {
    return reply.is_object() ? absl::Status(status.code(), reply.value("exception_message", text))
                             : status;
  }
  if (!reply.is_object()) {
    return MakeError(absl::StatusCode::kInvalidArgument, text, "DEFINITION_INVALID");
  }
  const std::string message = reply.value("exception_message", text);
  ErrorDetail detail;
  detail.reason = "DEFINITION_INVALID";
  std::string name = NameInMessage(message);
  if (reply.value("error_subtype", "") == "COLUMN_NOT_FOUND") name = reply.value("name", "");
  if (!name.empty()) {
    detail.reason = "SQL_UNKNOWN_COLUMN";
    detail.metadata["name"] = name;
  }
  if (reply.contains("position")) detail.metadata["offset"] = reply.value("position", "0");
  return MakeError(absl::StatusCode::kInvalidArgument, message.substr(0, message.find('\n')),
                   detail);
}

absl::StatusOr<std::vector<OutputColumn>> BindSelect(DuckConnection& connection,
                                                     const std::string& sql) {
  absl::StatusOr<std::unique_ptr<DuckStatement>> statement = connection.Prepare(sql);
  if (!statement.ok()) return BindError(statement.status());
  std::vector<OutputColumn> columns;
  const idx_t count = duckdb_prepared_statement_column_count((*statement)->handle());
  for (idx_t i = 0; i < count; ++i) columns.push_back(ReadColumn((*statement)->handle(), i));
  return columns;
}

bool SameColumns(const std::vector<OutputColumn>& a, const std::vector<OutputColumn>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const OutputColumn& left, const OutputColumn& right) {
                      return left.name == right.name && left.type == right.type;
                    });
}

}  // namespace icepie::slices
