// DuckDB's C API with owners and absl::Status; the only header of ours that knows it.
//
// Errors: data errors of a statement (conversion, invalid input, out of range, divide by zero …)
// are
//   INVALID_ARGUMENT; out of memory RESOURCE_EXHAUSTED; interrupted DEADLINE_EXCEEDED; syntax,
//   binder and catalog errors FAILED_PRECONDITION; I/O and transaction errors UNAVAILABLE; FATAL
//   and INTERNAL errors INTERNAL (the instance is then unusable: the process must end). Messages
//   are DuckDB's first line.
#ifndef ICEPIE_SLICES_DUCKDB_DUCKDB_H_
#define ICEPIE_SLICES_DUCKDB_DUCKDB_H_

#include <duckdb.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"

namespace icepie::slices {

// "name" with quotes, quotes inside doubled; and 'text' likewise.
std::string QuoteIdentifier(absl::string_view name);
std::string QuoteLiteral(absl::string_view text);

// The functions of ours that an instance has: they belong to all of its connections, and asking
// DuckDB for one goes through its thousands.
class RegisteredFunctions {
 public:
  // Runs `make`, which registers the function `name`, unless that has been done. Not within a
  // transaction, which could take it back.
  absl::Status AddOnce(const std::string& name, const std::function<absl::Status()>& make);

 private:
  Mutex mutex_;
  std::set<std::string> names_ ABSL_GUARDED_BY(mutex_);
};

// One DuckDB instance in memory. Other databases are attached to it by SQL.
class DuckDatabase {
 public:
  // `settings` are names and values of DuckDB's configuration, e.g. {"threads", "1"}.
  static absl::StatusOr<std::unique_ptr<DuckDatabase>> OpenInMemory(
      const std::vector<std::pair<std::string, std::string>>& settings);
  ~DuckDatabase();
  DuckDatabase(const DuckDatabase&) = delete;
  DuckDatabase& operator=(const DuckDatabase&) = delete;

  duckdb_database handle() const { return database_; }
  const std::shared_ptr<RegisteredFunctions>& functions() const { return functions_; }

 private:
  explicit DuckDatabase(duckdb_database database)
      : database_(database), functions_(std::make_shared<RegisteredFunctions>()) {}
  duckdb_database database_;
  const std::shared_ptr<RegisteredFunctions> functions_;
};

// A value of a small internal result. Integers of up to 64 bits, DATE (days), TIMESTAMP and
// TIMESTAMPTZ (microseconds) are int64; DECIMAL and other types are not supported here.
using Cell = std::variant<std::monostate, int64_t, double, std::string>;
using CellRow = std::vector<Cell>;

// A result, read chunk by chunk or (small ones) as cells.
class DuckResult {
 public:
  explicit DuckResult(duckdb_result result) : result_(result) {}
  DuckResult(DuckResult&& other) noexcept;
  DuckResult& operator=(DuckResult&& other) noexcept;
  ~DuckResult();

  duckdb_result* handle() { return &result_; }
  idx_t column_count() { return duckdb_column_count(&result_); }
  std::string column_name(idx_t column) { return duckdb_column_name(&result_, column); }
  // DuckDB's text of the type, e.g. "DECIMAL(18,2)" or "STRUCT(a INTEGER)[]".
  std::string column_type(idx_t column);
  // The next chunk, which belongs to the caller; null behind the last one, and from then on. Errors
  // are told apart from the end, for which DuckDB's interface gives null, too: RESOURCE_EXHAUSTED
  // when there is no memory for a chunk.
  absl::StatusOr<duckdb_data_chunk> NextChunk();
  // All rows, for small internal results.
  absl::StatusOr<std::vector<CellRow>> Cells();

 private:
  duckdb_result result_{};
  bool ended_ = false;  // to fetch beyond the end of a stream is an error
};

// A prepared statement. Parameters are bound by DuckDB's own functions on handle().
class DuckStatement {
 public:
  explicit DuckStatement(duckdb_prepared_statement statement) : statement_(statement) {}
  ~DuckStatement() { duckdb_destroy_prepare(&statement_); }
  DuckStatement(const DuckStatement&) = delete;
  DuckStatement& operator=(const DuckStatement&) = delete;

  duckdb_prepared_statement handle() const { return statement_; }
  absl::StatusOr<DuckResult> Execute();

 private:
  duckdb_prepared_statement statement_;
};

// Threads: one thread at a time, except Interrupt().
class DuckConnection {
 public:
  static absl::StatusOr<std::unique_ptr<DuckConnection>> Connect(DuckDatabase& database);
  ~DuckConnection();
  DuckConnection(const DuckConnection&) = delete;
  DuckConnection& operator=(const DuckConnection&) = delete;

  duckdb_connection handle() const { return connection_; }
  RegisteredFunctions& functions() { return *functions_; }

  // Runs statements separated by semicolons; the results are thrown away.
  absl::Status Run(const std::string& sql);
  // Runs one statement.
  absl::StatusOr<DuckResult> Query(const std::string& sql);
  // Runs one statement and reads all rows; for small internal results.
  absl::StatusOr<std::vector<CellRow>> QueryCells(const std::string& sql);
  // The first column of the first row as text; NOT_FOUND without a row or with NULL.
  absl::StatusOr<std::string> QueryText(const std::string& sql);
  absl::StatusOr<std::unique_ptr<DuckStatement>> Prepare(const std::string& sql);
  // As Run(), of one statement that is run over and over and reads no table: it stays prepared.
  absl::Status RunAgain(const std::string& sql);

  // Stops the running statement, from any thread. Planning and some functions do not listen.
  void Interrupt() { duckdb_interrupt(connection_); }

 private:
  DuckConnection(duckdb_connection connection, std::shared_ptr<RegisteredFunctions> functions)
      : connection_(connection), functions_(std::move(functions)) {}
  duckdb_connection connection_;
  std::map<std::string, std::unique_ptr<DuckStatement>> kept_;  // by their text
  const std::shared_ptr<RegisteredFunctions> functions_;        // may outlive the DuckDatabase
};

// What an error of our own functions begins with when they are out of memory: their errors have no
// type that we could choose, and this one must not count as an error in the data.
inline constexpr char kFunctionMemoryError[] = "out of a function's memory";

// The status for a failed result or statement, by DuckDB's error type and message.
absl::Status DuckError(duckdb_error_type type, const char* message);

// DuckDB's text of a logical type.
std::string LogicalTypeText(duckdb_logical_type type);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DUCKDB_DUCKDB_H_
