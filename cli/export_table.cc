#include <exception>
#include <memory>

#include "absl/strings/str_cat.h"
#include "cli/export_file.h"
#include "cli/record_envelope.h"
#include "core/base/status.h"
#include "slices/duckdb/duckdb.h"
#include "slices/reading/timestamp_text.h"

namespace icepie::cli {
namespace {

using icepie::v1::Record;
using slices::DuckConnection;
using slices::DuckDatabase;

constexpr const char* kFunction = "icepie_export";
// Groups of rows by their bytes: by their number, large records would need gigabytes of memory.
constexpr const char* kOptions =
    " (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880, ROW_GROUP_SIZE_BYTES '64MB')";

// What the table function hands to DuckDB, and how it ended. Threads: DuckDB's, one at a time.
struct Source {
  RecordFeed* feed;
  bool json_payload;
  absl::Status status;
};

// The columns of one chunk.
class Columns {
 public:
  explicit Columns(duckdb_data_chunk chunk) : chunk_(chunk) {}

  void Set(idx_t row, const Record& record) {
    Integers(0)[row] = record.position();
    Integers(1)[row] = record.offset();
    Integers(2)[row] = Micros(record.ingest_time());
    record.has_event_time() ? void(Integers(3)[row] = Micros(record.event_time()))
                            : SetNull(3, row);
    record.has_key() ? SetBytes(4, row, record.key()) : SetNull(4, row);
    SetBytes(5, row, record.payload());
    record.headers_size() > 0 ? SetBytes(6, row, HeadersJson(record)) : SetNull(6, row);
  }

 private:
  static int64_t Micros(const google::protobuf::Timestamp& time) {
    return time.seconds() * slices::kMicrosPerSecond + time.nanos() / 1000;
  }
  duckdb_vector Vector(idx_t column) { return duckdb_data_chunk_get_vector(chunk_, column); }
  int64_t* Integers(idx_t column) {
    return static_cast<int64_t*>(duckdb_vector_get_data(Vector(column)));
  }
  void SetBytes(idx_t column, idx_t row, const std::string& bytes) {
    duckdb_vector_assign_string_element_len(Vector(column), row, bytes.data(), bytes.size());
  }
  void SetNull(idx_t column, idx_t row) {
    duckdb_vector_ensure_validity_writable(Vector(column));
    duckdb_validity_set_row_invalid(duckdb_vector_get_validity(Vector(column)), row);
  }

  duckdb_data_chunk chunk_;
};

void Bind(duckdb_bind_info info) {
  const auto* source = static_cast<const Source*>(duckdb_bind_get_extra_info(info));
  const auto add = [info](const char* name, duckdb_type id) {
    duckdb_logical_type type = duckdb_create_logical_type(id);
    duckdb_bind_add_result_column(info, name, type);
    duckdb_destroy_logical_type(&type);
  };
  add("_position", DUCKDB_TYPE_BIGINT);
  add("_offset", DUCKDB_TYPE_BIGINT);
  add("_time", DUCKDB_TYPE_TIMESTAMP_TZ);
  add("_event_time", DUCKDB_TYPE_TIMESTAMP_TZ);
  add("_key", DUCKDB_TYPE_BLOB);
  add("_payload", source->json_payload ? DUCKDB_TYPE_VARCHAR : DUCKDB_TYPE_BLOB);
  add("_headers", DUCKDB_TYPE_VARCHAR);
}

void Init(duckdb_init_info info) { duckdb_init_set_max_threads(info, 1); }

absl::StatusOr<idx_t> Fill(RecordFeed& feed, duckdb_data_chunk chunk) {
  Columns columns(chunk);
  idx_t rows = 0;
  for (; rows < duckdb_vector_size(); ++rows) {
    ICEPIE_ASSIGN_OR_RETURN(const Record* record, feed.Next());
    if (record == nullptr) break;
    columns.Set(rows, *record);
  }
  return rows;
}

void FillChunk(duckdb_function_info info, duckdb_data_chunk chunk) {
  auto* source = static_cast<Source*>(duckdb_function_get_extra_info(info));
  const absl::StatusOr<idx_t> rows = Fill(*source->feed, chunk);
  duckdb_data_chunk_set_size(chunk, rows.value_or(0));
  if (rows.ok()) return;
  source->status = rows.status();
  duckdb_function_set_error(info, "the records have ended early");
}

absl::Status RegisterFunction(DuckConnection& connection, Source* source) {
  duckdb_table_function function = duckdb_create_table_function();
  duckdb_table_function_set_name(function, kFunction);
  duckdb_table_function_set_extra_info(function, source, nullptr);
  duckdb_table_function_set_bind(function, Bind);
  duckdb_table_function_set_init(function, Init);
  duckdb_table_function_set_function(function, FillChunk);
  const duckdb_state state = duckdb_register_table_function(connection.handle(), function);
  duckdb_destroy_table_function(&function);
  if (state == DuckDBSuccess) return absl::OkStatus();
  return absl::InternalError("DuckDB refuses the table function of the export");
}

}  // namespace

absl::Status WriteParquet(RecordFeed& feed, bool json_payload, const std::string& path) {
  Source source{&feed, json_payload, absl::OkStatus()};
  // One thread keeps the order of the records, which groups by bytes would not promise otherwise.
  ICEPIE_ASSIGN_OR_RETURN(
      const std::unique_ptr<DuckDatabase> database,
      DuckDatabase::OpenInMemory({{"threads", "1"}, {"preserve_insertion_order", "false"}}));
  ICEPIE_ASSIGN_OR_RETURN(const std::unique_ptr<DuckConnection> connection,
                          DuckConnection::Connect(*database));
  ICEPIE_RETURN_IF_ERROR(RegisterFunction(*connection, &source));
  const absl::Status copied = connection->Run(
      absl::StrCat("COPY (FROM ", kFunction, "()) TO ", slices::QuoteLiteral(path), kOptions));
  return source.status.ok() ? copied : source.status;
}

}  // namespace icepie::cli
