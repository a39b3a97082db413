#include "slices/duckdb/duckdb.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"

namespace icepie::slices {
namespace {

absl::StatusCode CodeOf(duckdb_error_type type) {
  switch (type) {
    case DUCKDB_ERROR_OUT_OF_RANGE:
    case DUCKDB_ERROR_CONVERSION:
    case DUCKDB_ERROR_DECIMAL:
    case DUCKDB_ERROR_MISMATCH_TYPE:
    case DUCKDB_ERROR_DIVIDE_BY_ZERO:
    case DUCKDB_ERROR_INVALID_INPUT:
    case DUCKDB_ERROR_OBJECT_SIZE:
    case DUCKDB_ERROR_EXECUTOR:
    case DUCKDB_ERROR_CONSTRAINT:
      return absl::StatusCode::kInvalidArgument;
    case DUCKDB_ERROR_OUT_OF_MEMORY:
      return absl::StatusCode::kResourceExhausted;
    case DUCKDB_ERROR_INTERRUPT:
      return absl::StatusCode::kDeadlineExceeded;
    case DUCKDB_ERROR_FATAL:
    case DUCKDB_ERROR_INTERNAL:
      return absl::StatusCode::kInternal;
    case DUCKDB_ERROR_IO:
    case DUCKDB_ERROR_TRANSACTION:
    case DUCKDB_ERROR_CONNECTION:
      return absl::StatusCode::kUnavailable;
    default:
      return absl::StatusCode::kFailedPrecondition;
  }
}

// DuckDB gives no type with the errors of a statement that it prepares, but names it first. What
// SQL itself can be blamed for needs no other type than a binder's.
duckdb_error_type TypeOfPrepareError(absl::string_view message) {
  constexpr std::pair<absl::string_view, duckdb_error_type> kTypes[] = {
      {"INTERRUPT Error", DUCKDB_ERROR_INTERRUPT},
      {"Out of Memory Error", DUCKDB_ERROR_OUT_OF_MEMORY},
      {"INTERNAL Error", DUCKDB_ERROR_INTERNAL},
      {"FATAL Error", DUCKDB_ERROR_FATAL},
      {"IO Error", DUCKDB_ERROR_IO},
      // With errors_as_json.
      {R"({"exception_type":"INTERRUPT")", DUCKDB_ERROR_INTERRUPT},
      {R"({"exception_type":"Out of Memory")", DUCKDB_ERROR_OUT_OF_MEMORY},
      {R"({"exception_type":"IO")", DUCKDB_ERROR_IO}};
  for (const auto& [name, type] : kTypes) {
    if (absl::StartsWith(message, name)) return type;
  }
  return DUCKDB_ERROR_BINDER;
}

absl::Status ResultError(duckdb_result& result) {
  const absl::Status status =
      DuckError(duckdb_result_error_type(&result), duckdb_result_error(&result));
  duckdb_destroy_result(&result);
  return status;
}

Cell ReadCell(duckdb_vector vector, duckdb_type type, idx_t row) {
  uint64_t* validity = duckdb_vector_get_validity(vector);
  if (validity != nullptr && !duckdb_validity_row_is_valid(validity, row)) return {};
  const void* data = duckdb_vector_get_data(vector);
  switch (type) {
    case DUCKDB_TYPE_BOOLEAN:
      return int64_t{static_cast<const bool*>(data)[row]};
    case DUCKDB_TYPE_TINYINT:
      return int64_t{static_cast<const int8_t*>(data)[row]};
    case DUCKDB_TYPE_SMALLINT:
      return int64_t{static_cast<const int16_t*>(data)[row]};
    case DUCKDB_TYPE_INTEGER:
    case DUCKDB_TYPE_DATE:
      return int64_t{static_cast<const int32_t*>(data)[row]};
    case DUCKDB_TYPE_UTINYINT:
      return int64_t{static_cast<const uint8_t*>(data)[row]};
    case DUCKDB_TYPE_USMALLINT:
      return int64_t{static_cast<const uint16_t*>(data)[row]};
    case DUCKDB_TYPE_UINTEGER:
      return int64_t{static_cast<const uint32_t*>(data)[row]};
    case DUCKDB_TYPE_BIGINT:
    case DUCKDB_TYPE_UBIGINT:
    case DUCKDB_TYPE_TIMESTAMP:
    case DUCKDB_TYPE_TIMESTAMP_TZ:
      return static_cast<const int64_t*>(data)[row];
    case DUCKDB_TYPE_FLOAT:
      return double{static_cast<const float*>(data)[row]};
    case DUCKDB_TYPE_DOUBLE:
      return static_cast<const double*>(data)[row];
    case DUCKDB_TYPE_HUGEINT: {
      const duckdb_hugeint value = static_cast<const duckdb_hugeint*>(data)[row];
      return static_cast<int64_t>(value.lower);
    }
    case DUCKDB_TYPE_VARCHAR:
    case DUCKDB_TYPE_BLOB: {
      auto value = static_cast<const duckdb_string_t*>(data)[row];
      return std::string(duckdb_string_t_data(&value), duckdb_string_t_length(value));
    }
    default:
      return absl::StrCat("<type ", static_cast<int>(type), ">");
  }
}

std::string StructText(duckdb_logical_type type) {
  std::vector<std::string> fields;
  for (idx_t i = 0; i < duckdb_struct_type_child_count(type); ++i) {
    char* name = duckdb_struct_type_child_name(type, i);
    duckdb_logical_type child = duckdb_struct_type_child_type(type, i);
    fields.push_back(absl::StrCat(QuoteIdentifier(name), " ", LogicalTypeText(child)));
    duckdb_destroy_logical_type(&child);
    duckdb_free(name);
  }
  return absl::StrCat("STRUCT(", absl::StrJoin(fields, ", "), ")");
}

std::string ScalarText(duckdb_type type) {
  switch (type) {
    case DUCKDB_TYPE_BOOLEAN:
      return "BOOLEAN";
    case DUCKDB_TYPE_TINYINT:
      return "TINYINT";
    case DUCKDB_TYPE_SMALLINT:
      return "SMALLINT";
    case DUCKDB_TYPE_INTEGER:
      return "INTEGER";
    case DUCKDB_TYPE_BIGINT:
      return "BIGINT";
    case DUCKDB_TYPE_UTINYINT:
      return "UTINYINT";
    case DUCKDB_TYPE_USMALLINT:
      return "USMALLINT";
    case DUCKDB_TYPE_UINTEGER:
      return "UINTEGER";
    case DUCKDB_TYPE_UBIGINT:
      return "UBIGINT";
    case DUCKDB_TYPE_FLOAT:
      return "FLOAT";
    case DUCKDB_TYPE_DOUBLE:
      return "DOUBLE";
    case DUCKDB_TYPE_TIMESTAMP:
      return "TIMESTAMP";
    case DUCKDB_TYPE_DATE:
      return "DATE";
    case DUCKDB_TYPE_TIME:
      return "TIME";
    case DUCKDB_TYPE_INTERVAL:
      return "INTERVAL";
    case DUCKDB_TYPE_HUGEINT:
      return "HUGEINT";
    case DUCKDB_TYPE_UHUGEINT:
      return "UHUGEINT";
    case DUCKDB_TYPE_VARCHAR:
      return "VARCHAR";
    case DUCKDB_TYPE_BLOB:
      return "BLOB";
    case DUCKDB_TYPE_TIMESTAMP_S:
      return "TIMESTAMP_S";
    case DUCKDB_TYPE_TIMESTAMP_MS:
      return "TIMESTAMP_MS";
    case DUCKDB_TYPE_TIMESTAMP_NS:
      return "TIMESTAMP_NS";
    case DUCKDB_TYPE_TIMESTAMP_TZ:
      return "TIMESTAMP WITH TIME ZONE";
    case DUCKDB_TYPE_TIME_TZ:
      return "TIME WITH TIME ZONE";
    case DUCKDB_TYPE_UUID:
      return "UUID";
    case DUCKDB_TYPE_BIT:
      return "BIT";
    case DUCKDB_TYPE_ENUM:
      return "VARCHAR";
    case DUCKDB_TYPE_SQLNULL:
      return "INTEGER";  // what CREATE TABLE AS makes of an untyped NULL
    default:
      return absl::StrCat("TYPE_", static_cast<int>(type));
  }
}

}  // namespace

std::string QuoteIdentifier(absl::string_view name) {
  return absl::StrCat("\"", absl::StrReplaceAll(name, {{"\"", "\"\""}}), "\"");
}

std::string QuoteLiteral(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "''"}}), "'");
}

absl::Status DuckError(duckdb_error_type type, const char* message) {
  const absl::string_view text = message == nullptr ? "unknown error" : message;
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (absl::StrContains(lines.front(), kFunctionMemoryError)) {
    return absl::ResourceExhaustedError(lines.front());
  }
  return absl::Status(CodeOf(type), lines.front());
}

std::string LogicalTypeText(duckdb_logical_type type) {
  const duckdb_type id = duckdb_get_type_id(type);
  switch (id) {
    case DUCKDB_TYPE_DECIMAL:
      return absl::StrCat("DECIMAL(", static_cast<int>(duckdb_decimal_width(type)), ",",
                          static_cast<int>(duckdb_decimal_scale(type)), ")");
    case DUCKDB_TYPE_LIST: {
      duckdb_logical_type child = duckdb_list_type_child_type(type);
      const std::string text = absl::StrCat(LogicalTypeText(child), "[]");
      duckdb_destroy_logical_type(&child);
      return text;
    }
    case DUCKDB_TYPE_ARRAY: {
      duckdb_logical_type child = duckdb_array_type_child_type(type);
      const std::string text =
          absl::StrCat(LogicalTypeText(child), "[", duckdb_array_type_array_size(type), "]");
      duckdb_destroy_logical_type(&child);
      return text;
    }
    case DUCKDB_TYPE_MAP: {
      duckdb_logical_type key = duckdb_map_type_key_type(type);
      duckdb_logical_type value = duckdb_map_type_value_type(type);
      const std::string text =
          absl::StrCat("MAP(", LogicalTypeText(key), ", ", LogicalTypeText(value), ")");
      duckdb_destroy_logical_type(&key);
      duckdb_destroy_logical_type(&value);
      return text;
    }
    case DUCKDB_TYPE_STRUCT:
      return StructText(type);
    default:
      return ScalarText(id);
  }
}

absl::StatusOr<std::unique_ptr<DuckDatabase>> DuckDatabase::OpenInMemory(
    const std::vector<std::pair<std::string, std::string>>& settings) {
  duckdb_config config = nullptr;
  if (duckdb_create_config(&config) == DuckDBError) {
    return absl::InternalError("DuckDB: no memory for a configuration");
  }
  for (const auto& [name, value] : settings) {
    if (duckdb_set_config(config, name.c_str(), value.c_str()) == DuckDBError) {
      duckdb_destroy_config(&config);
      return absl::InvalidArgumentError(absl::StrCat("DuckDB setting ", name, "=", value));
    }
  }
  duckdb_database database = nullptr;
  char* error = nullptr;
  const duckdb_state state = duckdb_open_ext(nullptr, &database, config, &error);
  duckdb_destroy_config(&config);
  if (state == DuckDBError) {
    const absl::Status status =
        absl::InternalError(absl::StrCat("DuckDB: ", error == nullptr ? "cannot open" : error));
    duckdb_free(error);
    return status;
  }
  return std::unique_ptr<DuckDatabase>(new DuckDatabase(database));
}

absl::Status RegisteredFunctions::AddOnce(const std::string& name,
                                          const std::function<absl::Status()>& make) {
  MutexLock lock(mutex_);
  if (names_.count(name) > 0) return absl::OkStatus();
  ICEPIE_RETURN_IF_ERROR(make());
  names_.insert(name);
  return absl::OkStatus();
}

DuckDatabase::~DuckDatabase() { duckdb_close(&database_); }

DuckResult::DuckResult(DuckResult&& other) noexcept
    : result_(std::exchange(other.result_, duckdb_result{})), ended_(other.ended_) {}

DuckResult& DuckResult::operator=(DuckResult&& other) noexcept {
  std::swap(result_, other.result_);
  std::swap(ended_, other.ended_);
  return *this;
}

DuckResult::~DuckResult() { duckdb_destroy_result(&result_); }

std::string DuckResult::column_type(idx_t column) {
  duckdb_logical_type type = duckdb_column_logical_type(&result_, column);
  std::string text = LogicalTypeText(type);
  duckdb_destroy_logical_type(&type);
  return text;
}

absl::StatusOr<duckdb_data_chunk> DuckResult::NextChunk() {
  if (ended_) return nullptr;
  duckdb_data_chunk chunk = duckdb_fetch_chunk(result_);
  if (chunk != nullptr && duckdb_data_chunk_get_size(chunk) > 0) return chunk;
  duckdb_destroy_data_chunk(&chunk);
  const char* const error = duckdb_result_error(&result_);
  if (error != nullptr && *error != '\0') {
    return DuckError(duckdb_result_error_type(&result_), error);
  }
  ended_ = true;
  return nullptr;
}

absl::StatusOr<std::vector<CellRow>> DuckResult::Cells() {
  std::vector<CellRow> rows;
  const idx_t columns = column_count();
  while (true) {
    ICEPIE_ASSIGN_OR_RETURN(duckdb_data_chunk chunk, NextChunk());
    if (chunk == nullptr) return rows;
    const idx_t size = duckdb_data_chunk_get_size(chunk);
    for (idx_t row = 0; row < size; ++row) {
      CellRow& cells = rows.emplace_back();
      for (idx_t column = 0; column < columns; ++column) {
        cells.push_back(ReadCell(duckdb_data_chunk_get_vector(chunk, column),
                                 duckdb_column_type(&result_, column), row));
      }
    }
    duckdb_destroy_data_chunk(&chunk);
  }
}

absl::StatusOr<DuckResult> DuckStatement::Execute() {
  duckdb_result result{};
  if (duckdb_execute_prepared(statement_, &result) == DuckDBError) return ResultError(result);
  return DuckResult(result);
}

absl::StatusOr<std::unique_ptr<DuckConnection>> DuckConnection::Connect(DuckDatabase& database) {
  duckdb_connection connection = nullptr;
  if (duckdb_connect(database.handle(), &connection) == DuckDBError) {
    return absl::InternalError("DuckDB: cannot connect");
  }
  return std::unique_ptr<DuckConnection>(new DuckConnection(connection, database.functions()));
}

DuckConnection::~DuckConnection() {
  kept_.clear();
  duckdb_disconnect(&connection_);
}

absl::Status DuckConnection::Run(const std::string& sql) { return Query(sql).status(); }

absl::Status DuckConnection::RunAgain(const std::string& sql) {
  std::unique_ptr<DuckStatement>& statement = kept_[sql];
  if (statement == nullptr) {
    ICEPIE_ASSIGN_OR_RETURN(statement, Prepare(sql));
  }
  return statement->Execute().status();
}

absl::StatusOr<DuckResult> DuckConnection::Query(const std::string& sql) {
  duckdb_result result{};
  if (duckdb_query(connection_, sql.c_str(), &result) == DuckDBError) return ResultError(result);
  return DuckResult(result);
}

absl::StatusOr<std::vector<CellRow>> DuckConnection::QueryCells(const std::string& sql) {
  ICEPIE_ASSIGN_OR_RETURN(DuckResult result, Query(sql));
  return result.Cells();
}

absl::StatusOr<std::string> DuckConnection::QueryText(const std::string& sql) {
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<CellRow> rows, QueryCells(sql));
  if (rows.empty() || rows.front().empty()) return absl::NotFoundError("no row");
  const auto* text = std::get_if<std::string>(&rows.front().front());
  if (text == nullptr) return absl::NotFoundError("no text");
  return *text;
}

absl::StatusOr<std::unique_ptr<DuckStatement>> DuckConnection::Prepare(const std::string& sql) {
  duckdb_prepared_statement statement = nullptr;
  if (duckdb_prepare(connection_, sql.c_str(), &statement) == DuckDBError) {
    const char* message = duckdb_prepare_error(statement);
    const absl::Status status =
        DuckError(TypeOfPrepareError(message == nullptr ? "" : message), message);
    duckdb_destroy_prepare(&statement);
    return status;
  }
  return std::make_unique<DuckStatement>(statement);
}

}  // namespace icepie::slices
