#include "slices/apply/batch_relation.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/duckdb/numbered_objects.h"

namespace icepie::slices {
namespace {

constexpr char kFunctionName[] = "icepie_batch";
// Fewer rows than any state is thought to have: joins then build on the batch, also when they are
// planned while the state is empty.
constexpr idx_t kRowsExpected = 1;

struct Column {
  std::string name;
  duckdb_logical_type type = nullptr;
};

// The columns and the rows of a relation.
class Rows {
 public:
  explicit Rows(std::vector<Column> columns) : columns_(std::move(columns)) {}
  ~Rows() {
    Clear();
    for (Column& column : columns_) duckdb_destroy_logical_type(&column.type);
  }
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;

  const std::vector<Column>& columns() const { return columns_; }
  const std::vector<duckdb_data_chunk>& chunks() const { return chunks_; }

  absl::Status Set(DuckResult result) {
    Clear();
    while (true) {
      ICEPIE_ASSIGN_OR_RETURN(duckdb_data_chunk chunk, result.NextChunk());
      if (chunk == nullptr) return absl::OkStatus();
      chunks_.push_back(chunk);
    }
  }
  void Clear() {
    for (duckdb_data_chunk& chunk : chunks_) duckdb_destroy_data_chunk(&chunk);
    chunks_.clear();
  }

 private:
  std::vector<Column> columns_;
  std::vector<duckdb_data_chunk> chunks_;
};

// ---- The table function ----

// Holds the rows weakly, so that those of a relation that is gone are not kept by a statement.
using Bound = std::weak_ptr<Rows>;

struct Scan {
  std::shared_ptr<Rows> rows;
  std::vector<idx_t> columns;  // of the rows, in the order of the output
  size_t next = 0;             // chunk
};

template <typename T>
void Delete(void* object) {
  delete static_cast<T*>(object);
}

void Bind(duckdb_bind_info info) {
  duckdb_value parameter = duckdb_bind_get_parameter(info, 0);
  const int64_t id = duckdb_get_int64(parameter);
  duckdb_destroy_value(&parameter);
  const std::shared_ptr<Rows> rows = NumberedObjects<Rows>::Get().Find(id);
  if (rows == nullptr) {
    duckdb_bind_set_error(info, "the batch is gone");
    return;
  }
  for (const Column& column : rows->columns()) {
    duckdb_bind_add_result_column(info, column.name.c_str(), column.type);
  }
  duckdb_bind_set_cardinality(info, kRowsExpected, /*is_exact=*/false);
  duckdb_bind_set_bind_data(info, new Bound(rows), Delete<Bound>);
}

void Init(duckdb_init_info info) {
  duckdb_init_set_max_threads(info, 1);
  auto scan = std::make_unique<Scan>();
  scan->rows = static_cast<Bound*>(duckdb_init_get_bind_data(info))->lock();
  if (scan->rows == nullptr) {
    duckdb_init_set_error(info, "the batch is gone");
    return;
  }
  const idx_t count = duckdb_init_get_column_count(info);
  for (idx_t i = 0; i < count; ++i) scan->columns.push_back(duckdb_init_get_column_index(info, i));
  duckdb_init_set_init_data(info, scan.release(), Delete<Scan>);
}

void Fill(duckdb_function_info info, duckdb_data_chunk out) {
  Scan& scan = *static_cast<Scan*>(duckdb_function_get_init_data(info));
  const std::vector<duckdb_data_chunk>& chunks = scan.rows->chunks();
  if (scan.next == chunks.size()) {
    duckdb_data_chunk_set_size(out, 0);
    return;
  }
  const duckdb_data_chunk from = chunks[scan.next++];
  const idx_t width = duckdb_data_chunk_get_column_count(from);
  for (size_t i = 0; i < scan.columns.size(); ++i) {
    // DuckDB asks for a column of its own, of no content, when only rows are counted.
    if (scan.columns[i] >= width) continue;
    duckdb_vector_reference_vector(duckdb_data_chunk_get_vector(out, i),
                                   duckdb_data_chunk_get_vector(from, scan.columns[i]));
  }
  duckdb_data_chunk_set_size(out, duckdb_data_chunk_get_size(from));
}

absl::Status RegisterFunction(DuckConnection& connection) {
  duckdb_table_function function = duckdb_create_table_function();
  duckdb_table_function_set_name(function, kFunctionName);
  duckdb_logical_type id_type = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
  duckdb_table_function_add_parameter(function, id_type);
  duckdb_destroy_logical_type(&id_type);
  duckdb_table_function_set_bind(function, Bind);
  duckdb_table_function_set_init(function, Init);
  duckdb_table_function_set_function(function, Fill);
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

std::vector<Column> ColumnsOf(duckdb_prepared_statement statement) {
  std::vector<Column> columns;
  const idx_t count = duckdb_prepared_statement_column_count(statement);
  for (idx_t i = 0; i < count; ++i) {
    const char* name = duckdb_prepared_statement_column_name(statement, i);
    columns.push_back(
        {name == nullptr ? "" : name, duckdb_prepared_statement_column_logical_type(statement, i)});
    duckdb_free(const_cast<char*>(name));
  }
  return columns;
}

class BatchRelationImpl : public BatchRelation {
 public:
  BatchRelationImpl(std::string name, std::vector<Column> columns)
      : name_(std::move(name)),
        rows_(std::make_shared<Rows>(std::move(columns))),
        id_(NumberedObjects<Rows>::Get().Add(rows_)) {}
  ~BatchRelationImpl() override { NumberedObjects<Rows>::Get().Remove(id_); }
  BatchRelationImpl(const BatchRelationImpl&) = delete;
  BatchRelationImpl& operator=(const BatchRelationImpl&) = delete;

  absl::Status Set(DuckResult result) override { return rows_->Set(std::move(result)); }
  void Clear() override { rows_->Clear(); }
  int64_t RowCount() const override {
    idx_t rows = 0;
    for (duckdb_data_chunk chunk : rows_->chunks()) rows += duckdb_data_chunk_get_size(chunk);
    return static_cast<int64_t>(rows);
  }
  absl::Status MakeView(DuckConnection& connection) override {
    return connection.Run(absl::StrCat("CREATE OR REPLACE TEMP VIEW ", QuoteIdentifier(name_),
                                       " AS SELECT * FROM ", kFunctionName, "(", id_, ")"));
  }

 private:
  const std::string name_;
  const std::shared_ptr<Rows> rows_;
  const int64_t id_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BatchRelation>> BatchRelation::Create(
    DuckConnection& connection, const std::string& name, const DuckStatement& producer) {
  ICEPIE_RETURN_IF_ERROR(EnsureFunction(connection));
  auto relation = std::make_unique<BatchRelationImpl>(name, ColumnsOf(producer.handle()));
  ICEPIE_RETURN_IF_ERROR(relation->MakeView(connection));
  return std::unique_ptr<BatchRelation>(std::move(relation));
}

}  // namespace icepie::slices
