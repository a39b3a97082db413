#include "slices/reading/source_scan.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/check.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "slices/duckdb/duckdb.h"
#include "slices/duckdb/numbered_objects.h"
#include "slices/plan/plan.h"
#include "slices/reading/output_vector.h"
#include "slices/reading/record_reader.h"
#include "slices/reading/shared_decode.h"

namespace icepie::slices {
namespace {

constexpr char kFunctionName[] = "icepie_records";

// ---- Supplies ----

class SpanSupply : public RecordSupply {
 public:
  explicit SpanSupply(absl::Span<const RecordView> records) : records_(records) {}
  absl::StatusOr<absl::Span<const RecordView>> Next() override {
    return std::exchange(records_, {});
  }

 private:
  absl::Span<const RecordView> records_;
};

// ---- The state that statements share with their input ----

class ScanSource {
 public:
  ScanSource(SourceReading reading, idx_t connection)
      : reading_(std::move(reading)), share_group_(ShareGroup(reading_)), connection_(connection) {
    for (const ColumnDef& column : reading_.columns) column_keys_.push_back(ColumnKey(column));
  }

  const SourceReading& reading() const { return reading_; }
  idx_t connection() const { return connection_; }
  size_t output_count() const { return reading_.columns.size() + kHiddenCount; }
  ScanRequest Request(const std::vector<int>& chunk_columns) const {
    ScanRequest request{&reading_, &share_group_, &column_keys_, {}};
    for (const int column : chunk_columns) request.shown.push_back(column >= 0);
    return request;
  }

  void SetRecords(SourceInput::OpenSupply open, std::vector<int64_t> excluded) {
    MutexLock lock(mutex_);
    open_ = std::move(open);
    excluded_ = std::make_shared<const std::vector<int64_t>>(std::move(excluded));
    counts_ = ScanCounts();
    counted_ = false;
    error_ = absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<RecordSupply>> Open(
      std::shared_ptr<const std::vector<int64_t>>& excluded) {
    MutexLock lock(mutex_);
    if (!open_) {
      return absl::FailedPreconditionError(
          absl::StrCat("source over stream ", reading_.stream, " has no records set"));
    }
    excluded = excluded_;
    return open_();
  }

  void Publish(ScanCounts counts) {
    MutexLock lock(mutex_);
    counts_ = std::move(counts);
    counted_ = true;
  }

  // Remembers why a scan failed and returns the text for DuckDB.
  std::string Fail(const absl::Status& status) {
    MutexLock lock(mutex_);
    error_ = status;
    return absl::StrCat("reading records of stream ", reading_.stream, ": ", status.message());
  }

  bool counted() const {
    MutexLock lock(mutex_);
    return counted_;
  }
  absl::Status error() const {
    MutexLock lock(mutex_);
    return error_;
  }
  // For the connection's thread, between statements.
  const ScanCounts& counts() const ABSL_NO_THREAD_SAFETY_ANALYSIS { return counts_; }

 private:
  const SourceReading reading_;
  const std::string share_group_;
  const idx_t connection_;                // DuckDB's number of the one that may scan it
  std::vector<std::string> column_keys_;  // as they are when it has been made
  mutable Mutex mutex_;
  SourceInput::OpenSupply open_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const std::vector<int64_t>> excluded_ ABSL_GUARDED_BY(mutex_);
  ScanCounts counts_ ABSL_GUARDED_BY(mutex_);
  bool counted_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
};

idx_t NumberOf(duckdb_client_context context) {
  const idx_t number = duckdb_client_context_get_connection_id(context);
  duckdb_destroy_client_context(&context);
  return number;
}

idx_t ConnectionNumber(const DuckConnection& connection) {
  duckdb_client_context context = nullptr;
  duckdb_connection_get_client_context(connection.handle(), &context);
  return NumberOf(context);
}

idx_t BindingConnection(duckdb_bind_info info) {
  duckdb_client_context context = nullptr;
  duckdb_table_function_get_client_context(info, &context);
  return NumberOf(context);
}

// ---- The table function ----

// One scan of one statement: of rows that others see too, or of its own reading.
class Scan {
 public:
  explicit Scan(std::shared_ptr<ScanSource> source)
      : source_(std::move(source)), chunk_columns_(source_->output_count(), -1) {}

  // Column `column` of the source goes to column `chunk_column` of the chunks.
  void Project(idx_t column, idx_t chunk_column) {
    // DuckDB asks for a column of its own, of no content, when only rows are counted.
    if (column < chunk_columns_.size()) chunk_columns_[column] = static_cast<int>(chunk_column);
  }

  absl::Status Open() {
    ICEPIE_ASSIGN_OR_RETURN(supply_, source_->Open(excluded_));
    if (excluded_->empty()) {
      const ScanRequest request = source_->Request(chunk_columns_);
      ICEPIE_ASSIGN_OR_RETURN(const auto rows, supply_->Share(request));
      if (rows != nullptr) {
        shared_.emplace(rows, request);
        source_->Publish(shared_->Counts(source_->reading().notes_taken));
        return absl::OkStatus();
      }
    }
    reader_.emplace(source_->reading());
    outputs_.resize(source_->output_count());
    return absl::OkStatus();
  }

  // The number of rows in `chunk`, 0 at the end. Without a chunk the records are only counted.
  absl::StatusOr<idx_t> Fill(duckdb_data_chunk chunk) {
    if (shared_) return chunk == nullptr ? 0 : shared_->Fill(chunk, chunk_columns_);
    for (size_t i = 0; chunk != nullptr && i < outputs_.size(); ++i) {
      if (chunk_columns_[i] < 0) continue;
      outputs_[i] = OutputVector(duckdb_data_chunk_get_vector(chunk, chunk_columns_[i]));
    }
    const idx_t capacity = duckdb_vector_size();
    idx_t row = 0;
    while (row < capacity) {
      if (pending_.empty() && !ended_) ICEPIE_RETURN_IF_ERROR(NextPiece());
      if (ended_) break;
      if (reader_->Read(pending_.front(), *excluded_, outputs_, row)) ++row;
      pending_.remove_prefix(1);
    }
    return row;
  }

  ScanSource& source() { return *source_; }

 private:
  absl::Status NextPiece() {
    ICEPIE_ASSIGN_OR_RETURN(pending_, supply_->Next());
    if (pending_.empty()) {
      ended_ = true;
      source_->Publish(std::move(reader_->counts()));
    }
    return absl::OkStatus();
  }

  std::shared_ptr<ScanSource> source_;
  std::vector<int> chunk_columns_;  // of each output; -1: not shown
  std::shared_ptr<const std::vector<int64_t>> excluded_;
  std::unique_ptr<RecordSupply> supply_;
  std::optional<SharedScan> shared_;
  // Without shared rows.
  std::optional<RecordReader> reader_;
  std::vector<OutputVector> outputs_;
  absl::Span<const RecordView> pending_;
  bool ended_ = false;
};

template <typename T>
void Delete(void* object) {
  delete static_cast<T*>(object);
}

// Memory can run out under the worker's limit, and no exception may pass through DuckDB's C API.
template <typename Function>
absl::Status WithoutExceptions(const Function& function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  } catch (const std::exception& error) {
    // DuckDB's own exceptions, thrown where a vector gets its rows, are JSON.
    return absl::StrContains(error.what(), R"("exception_type":"Out of Memory")")
               ? absl::ResourceExhaustedError("out of memory")
               : absl::InternalError(error.what());
  }
}

void Bind(duckdb_bind_info info) {
  duckdb_value parameter = duckdb_bind_get_parameter(info, 0);
  const int64_t id = duckdb_get_int64(parameter);
  duckdb_destroy_value(&parameter);
  std::shared_ptr<ScanSource> source = NumberedObjects<ScanSource>::Get().Find(id);
  // The records are the owner's while it applies them, and so are the counts of a scan.
  if (source == nullptr || source->connection() != BindingConnection(info)) {
    duckdb_bind_set_error(info, absl::StrCat("there is no record source ", id).c_str());
    return;
  }
  for (const ColumnDef& column : source->reading().columns) {
    duckdb_logical_type type = LogicalType(column);
    duckdb_bind_add_result_column(info, column.name.c_str(), type);
    duckdb_destroy_logical_type(&type);
  }
  for (int i = 0; i < kHiddenCount; ++i) {
    duckdb_logical_type type = duckdb_create_logical_type(HiddenType(i));
    duckdb_bind_add_result_column(info, kHiddenColumns[i], type);
    duckdb_destroy_logical_type(&type);
  }
  duckdb_bind_set_bind_data(info, new std::shared_ptr<ScanSource>(std::move(source)),
                            Delete<std::shared_ptr<ScanSource>>);
}

void Init(duckdb_init_info info) {
  duckdb_init_set_max_threads(info, 1);
  const auto& source = *static_cast<std::shared_ptr<ScanSource>*>(duckdb_init_get_bind_data(info));
  const absl::Status status = WithoutExceptions([&] {
    auto scan = std::make_unique<Scan>(source);
    const idx_t count = duckdb_init_get_column_count(info);
    for (idx_t i = 0; i < count; ++i) scan->Project(duckdb_init_get_column_index(info, i), i);
    ICEPIE_RETURN_IF_ERROR(scan->Open());
    duckdb_init_set_init_data(info, scan.release(), Delete<Scan>);
    return absl::OkStatus();
  });
  if (!status.ok()) duckdb_init_set_error(info, source->Fail(status).c_str());
}

void FillChunk(duckdb_function_info info, duckdb_data_chunk chunk) {
  Scan& scan = *static_cast<Scan*>(duckdb_function_get_init_data(info));
  const absl::Status status = WithoutExceptions([&] {
    ICEPIE_ASSIGN_OR_RETURN(const idx_t rows, scan.Fill(chunk));
    duckdb_data_chunk_set_size(chunk, rows);
    return absl::OkStatus();
  });
  if (!status.ok()) duckdb_function_set_error(info, scan.source().Fail(status).c_str());
}

absl::Status RegisterFunction(DuckConnection& connection) {
  duckdb_table_function function = duckdb_create_table_function();
  duckdb_table_function_set_name(function, kFunctionName);
  duckdb_logical_type id_type = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
  duckdb_table_function_add_parameter(function, id_type);
  duckdb_destroy_logical_type(&id_type);
  duckdb_table_function_set_bind(function, Bind);
  duckdb_table_function_set_init(function, Init);
  duckdb_table_function_set_function(function, FillChunk);
  duckdb_table_function_supports_projection_pushdown(function, true);
  const duckdb_state state = duckdb_register_table_function(connection.handle(), function);
  duckdb_destroy_table_function(&function);
  if (state == DuckDBSuccess) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("DuckDB refuses the table function ", kFunctionName));
}

// The function belongs to the instance and is registered once, by whichever connection comes first.
absl::Status EnsureFunction(DuckConnection& connection) {
  return connection.functions().AddOnce(kFunctionName,
                                        [&] { return RegisterFunction(connection); });
}

// ---- The input ----

class SourceInputImpl : public SourceInput {
 public:
  SourceInputImpl(SourceReading reading, idx_t connection)
      : source_(std::make_shared<ScanSource>(std::move(reading), connection)),
        id_(NumberedObjects<ScanSource>::Get().Add(source_)) {}
  ~SourceInputImpl() override {
    NumberedObjects<ScanSource>::Get().Remove(id_);
    source_->SetRecords(nullptr, {});
  }
  SourceInputImpl(const SourceInputImpl&) = delete;
  SourceInputImpl& operator=(const SourceInputImpl&) = delete;

  int64_t id() const { return id_; }

  void SetRecords(OpenSupply open, std::vector<int64_t> excluded) override {
    source_->SetRecords(std::move(open), std::move(excluded));
  }
  const ScanCounts& counts() override {
    // An error is kept for supply_error(), and the counts are then none.
    FinishCounts().IgnoreError();
    return source_->counts();
  }
  absl::Status supply_error() const override { return source_->error(); }

 private:
  absl::Status FinishCounts() {
    if (source_->counted()) return absl::OkStatus();
    const absl::Status status = WithoutExceptions([&]() -> absl::Status {
      Scan scan(source_);
      ICEPIE_RETURN_IF_ERROR(scan.Open());
      idx_t rows = 1;
      while (rows != 0) {
        ICEPIE_ASSIGN_OR_RETURN(rows, scan.Fill(nullptr));
      }
      return absl::OkStatus();
    });
    if (!status.ok()) source_->Fail(status);
    return status;
  }

  std::shared_ptr<ScanSource> source_;
  int64_t id_;
};

absl::Status UnknownColumn(const SourceDef& source, absl::string_view column) {
  const std::string have = absl::StrJoin(
      source.columns, ", ", [](std::string* out, const auto& c) { absl::StrAppend(out, c.name); });
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      absl::StrCat("source ", source.name, ": there is no column ", column, " (have: ", have, ")"),
      "DEFINITION_INVALID");
}

absl::StatusOr<ColumnDef> FindColumn(const SourceDef& source, absl::string_view name) {
  for (const ColumnDef& column : source.columns) {
    if (column.name == name) return column;
  }
  return UnknownColumn(source, name);
}

// The columns to read; a dimension cannot be shown without its key.
absl::StatusOr<SourceReading> MakeReading(const SourceDef& source, std::vector<std::string> columns,
                                          bool notes_taken) {
  for (const std::string& key : source.latest_by) {
    if (std::find(columns.begin(), columns.end(), key) == columns.end()) columns.push_back(key);
  }
  SourceReading reading{source.stream, {}, source.where, notes_taken};
  for (const std::string& name : columns) {
    ICEPIE_ASSIGN_OR_RETURN(ColumnDef column, FindColumn(source, name));
    reading.columns.push_back(std::move(column));
  }
  return reading;
}

std::string ViewSql(const SourceDef& source, int64_t id) {
  std::string sql = absl::StrCat("CREATE OR REPLACE TEMP VIEW ", QuoteIdentifier(source.name),
                                 " AS SELECT * FROM ", kFunctionName, "(", id, ")");
  if (source.latest_by.empty()) return sql;
  const std::string keys = absl::StrJoin(
      source.latest_by, ", ",
      [](std::string* out, const std::string& key) { absl::StrAppend(out, QuoteIdentifier(key)); });
  absl::StrAppend(&sql, " QUALIFY row_number() OVER (PARTITION BY ", keys,
                  " ORDER BY _position DESC) = 1 ORDER BY _position");
  return sql;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const SharedRows>> RecordSupply::Share(
    const ScanRequest& /*request*/) {
  return std::shared_ptr<const SharedRows>();
}

std::unique_ptr<RecordSupply> MakeSpanSupply(absl::Span<const RecordView> records) {
  return std::make_unique<SpanSupply>(records);
}

absl::StatusOr<std::unique_ptr<SourceInput>> SourceInput::Create(DuckConnection& connection,
                                                                 const SourceDef& source,
                                                                 std::vector<std::string> columns,
                                                                 bool notes_taken) {
  ICEPIE_ASSIGN_OR_RETURN(SourceReading reading,
                          MakeReading(source, std::move(columns), notes_taken));
  ICEPIE_RETURN_IF_ERROR(
      Annotate(RecordReader(reading).Check(), absl::StrCat("source ", source.name)));
  ICEPIE_RETURN_IF_ERROR(EnsureFunction(connection));
  auto input = std::make_unique<SourceInputImpl>(std::move(reading), ConnectionNumber(connection));
  ICEPIE_RETURN_IF_ERROR(connection.Run(ViewSql(source, input->id())));
  return std::unique_ptr<SourceInput>(std::move(input));
}

}  // namespace icepie::slices
