#include "cli/import_table.h"

#include <simdjson.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::cli {
namespace {

using slices::DuckConnection;
using slices::DuckDatabase;
using slices::DuckResult;
using slices::DuckStatement;

std::string Reader(const ImportFile& file, const std::string& format) {
  // The whole file decides about CSV types: a late text in a column of numbers must not stop an
  // import half-way.
  const char* options = format == "csv" ? ", sample_size = -1" : "";
  return absl::StrCat("read_", format, "(", slices::QuoteLiteral(file.path), options, ")");
}

struct FloatColumns {
  std::vector<std::string> floats;  // which may hold what JSON has no number for
  bool nested_floats = false;       // inside lists and structs
};

absl::StatusOr<FloatColumns> FindColumns(DuckConnection& connection, const std::string& reader) {
  ICEPIE_ASSIGN_OR_RETURN(
      const auto described,
      connection.QueryCells(
          absl::StrCat("SELECT column_name, column_type FROM (DESCRIBE FROM ", reader, ")")));
  FloatColumns columns;
  for (const auto& row : described) {
    const auto& type = std::get<std::string>(row.at(1));
    if (type == "DOUBLE" || type == "FLOAT") {
      columns.floats.push_back(std::get<std::string>(row.at(0)));
    } else if (absl::StrContains(type, "DOUBLE") || absl::StrContains(type, "FLOAT")) {
      columns.nested_floats = true;
    }
  }
  return columns;
}

// The columns as they are, without what is no number.
std::string Selected(const FloatColumns& columns) {
  if (columns.floats.empty()) return "*";
  const std::string finite =
      absl::StrJoin(columns.floats, ", ", [](std::string* out, const std::string& column) {
        const std::string name = slices::QuoteIdentifier(column);
        absl::StrAppend(out, "CASE WHEN isfinite(", name, ") THEN ", name, " END AS ", name);
      });
  return absl::StrCat("* REPLACE (", finite, ")");
}

std::string RowsSql(const ImportFile& file, const std::string& reader,
                    const FloatColumns& columns) {
  const std::string event_time =
      file.event_time.empty()
          ? ""
          : absl::StrCat(", epoch_us(CAST(r.", slices::QuoteIdentifier(file.event_time),
                         " AS TIMESTAMPTZ))");
  return absl::StrCat("SELECT CAST(to_json(r) AS VARCHAR)", event_time, " FROM (SELECT ",
                      Selected(columns), " FROM ", reader, " LIMIT ",
                      std::max<int64_t>(0, file.limit - file.skip), " OFFSET ", file.skip, ") r");
}

// One chunk of the result and how far it is read.
class Chunk {
 public:
  explicit Chunk(duckdb_data_chunk chunk) : chunk_(chunk) {}
  ~Chunk() { duckdb_destroy_data_chunk(&chunk_); }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  idx_t size() const { return duckdb_data_chunk_get_size(chunk_); }
  bool Done() const { return row_ >= size(); }
  void Next() { ++row_; }

  absl::string_view Payload() const {
    auto* texts = static_cast<duckdb_string_t*>(
        duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk_, 0)));
    return {duckdb_string_t_data(&texts[row_]), duckdb_string_t_length(texts[row_])};
  }

  std::optional<int64_t> EventTimeMicros() const {
    if (duckdb_data_chunk_get_column_count(chunk_) < 2) return std::nullopt;
    duckdb_vector vector = duckdb_data_chunk_get_vector(chunk_, 1);
    uint64_t* validity = duckdb_vector_get_validity(vector);
    if (validity != nullptr && !duckdb_validity_row_is_valid(validity, row_)) return std::nullopt;
    return static_cast<int64_t*>(duckdb_vector_get_data(vector))[row_];
  }

 private:
  duckdb_data_chunk chunk_;
  idx_t row_ = 0;
};

class TableRows : public ImportSource {
 public:
  static absl::StatusOr<std::unique_ptr<ImportSource>> Open(const ImportFile& file,
                                                            const std::string& format) {
    auto rows = std::unique_ptr<TableRows>(new TableRows());
    ICEPIE_RETURN_IF_ERROR(rows->Start(file, format));
    return rows;
  }

  absl::Status Fill(const BatchLimits& limits, icepie::v1::AppendRecordsRequest* batch) override {
    int64_t bytes = 0;
    while (batch->records_size() < limits.records_max) {
      ICEPIE_ASSIGN_OR_RETURN(const bool more, HaveRow());
      if (!more) break;
      const absl::string_view payload = chunk_->Payload();
      const auto size = static_cast<int64_t>(payload.size());
      if (batch->records_size() > 0 && bytes + size > limits.bytes_max) break;
      ++row_;
      if (check_rows_) ICEPIE_RETURN_IF_ERROR(Check(payload));
      icepie::v1::Record* record = batch->add_records();
      record->set_payload(payload.data(), payload.size());
      const std::optional<int64_t> event_time = chunk_->EventTimeMicros();
      if (event_time) SetEventTime(*event_time, record);
      bytes += size;
      chunk_->Next();
    }
    return absl::OkStatus();
  }

  int64_t TotalRecords() const override { return total_; }

  absl::StatusOr<int64_t> CountRecords() override {
    ICEPIE_ASSIGN_OR_RETURN(
        const auto cells, connection_->QueryCells(absl::StrCat("SELECT count(*) FROM ", reader_)));
    return std::min(limit_, std::get<int64_t>(cells.at(0).at(0)));
  }

 private:
  TableRows() = default;

  absl::Status Start(const ImportFile& file, const std::string& format) {
    // One thread keeps rows in the file's order at no cost and leaves the other cores to the
    // daemon.
    ICEPIE_ASSIGN_OR_RETURN(database_, DuckDatabase::OpenInMemory({{"threads", "1"}}));
    ICEPIE_ASSIGN_OR_RETURN(connection_, DuckConnection::Connect(*database_));
    ICEPIE_RETURN_IF_ERROR(connection_->Run("SET TimeZone = 'UTC'"));
    if (format == "parquet") {
      ICEPIE_ASSIGN_OR_RETURN(const auto cells,
                              connection_->QueryCells(absl::StrCat(
                                  "SELECT sum(num_rows)::BIGINT FROM ", "parquet_file_metadata(",
                                  slices::QuoteLiteral(file.path), ")")));
      total_ = std::min(file.limit, std::get<int64_t>(cells.at(0).at(0)));
    }
    if (format == "csv") {
      // All as texts: a pass that recognises no types takes little beside the one that does. It
      // may fail where the import does not, and then there is no total.
      const auto cells = connection_->QueryCells(absl::StrCat("SELECT count(*) FROM read_csv(",
                                                              slices::QuoteLiteral(file.path),
                                                              ", all_varchar = true)"));
      if (cells.ok()) total_ = std::min(file.limit, std::get<int64_t>(cells->at(0).at(0)));
    }
    const std::string reader = Reader(file, format);
    ICEPIE_ASSIGN_OR_RETURN(const FloatColumns columns, FindColumns(*connection_, reader));
    path_ = file.path;
    reader_ = reader;
    limit_ = file.limit;
    row_ = file.skip;
    check_rows_ = columns.nested_floats;
    ICEPIE_ASSIGN_OR_RETURN(statement_, connection_->Prepare(RowsSql(file, reader, columns)));
    duckdb_result result;
    if (duckdb_execute_prepared_streaming(statement_->handle(), &result) == DuckDBError) {
      const absl::Status status =
          slices::DuckError(duckdb_result_error_type(&result), duckdb_result_error(&result));
      duckdb_destroy_result(&result);
      return status;
    }
    result_.emplace(result);
    return absl::OkStatus();
  }

  absl::Status Check(absl::string_view payload) {
    const auto error = parser_.parse(payload.data(), payload.size(), true).error();
    if (error == simdjson::SUCCESS) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        path_, ": row ", row_,
        " has a NaN or an infinity inside a list or a struct, which JSON cannot hold; make it NULL "
        "in the file"));
  }

  absl::StatusOr<bool> HaveRow() {
    while (!chunk_ || chunk_->Done()) {
      chunk_.reset();
      ICEPIE_ASSIGN_OR_RETURN(duckdb_data_chunk next, result_->NextChunk());
      if (next == nullptr) return false;
      chunk_.emplace(next);
    }
    return true;
  }

  // In the order of their dependence: the last is destroyed first.
  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
  std::unique_ptr<DuckStatement> statement_;
  std::optional<DuckResult> result_;
  std::optional<Chunk> chunk_;
  simdjson::dom::parser parser_;
  std::string path_;
  std::string reader_;
  int64_t limit_ = 0;
  bool check_rows_ = false;
  int64_t row_ = 0;  // the last one taken, from 1
  int64_t total_ = -1;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ImportSource>> OpenTable(const ImportFile& file,
                                                        const std::string& format) {
  if (access(file.path.c_str(), R_OK) != 0) {
    return absl::NotFoundError(absl::StrCat(file.path, " does not exist or cannot be read"));
  }
  auto rows = TableRows::Open(file, format);
  if (rows.ok()) return rows;
  return absl::InvalidArgumentError(absl::StrCat(file.path, ": ", rows.status().message()));
}

}  // namespace icepie::cli
