#include "slices/duckdb/bound_numbers.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/duckdb/numbered_objects.h"

namespace icepie::slices {
namespace {

constexpr char kNumberFunction[] = "icepie_number";

using Values = std::vector<int64_t>;

int64_t Argument(duckdb_data_chunk input, idx_t index) {
  return *static_cast<const int64_t*>(
      duckdb_vector_get_data(duckdb_data_chunk_get_vector(input, index)));
}

// Both arguments are constants of the statement.
void Number(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output) {
  const idx_t rows = duckdb_data_chunk_get_size(input);
  if (rows == 0) return;
  const std::shared_ptr<Values> values = NumberedObjects<Values>::Get().Find(Argument(input, 0));
  const auto index = static_cast<size_t>(Argument(input, 1));
  if (values == nullptr || index >= values->size()) {
    duckdb_scalar_function_set_error(info, "the numbers of this statement are gone");
    return;
  }
  std::fill_n(static_cast<int64_t*>(duckdb_vector_get_data(output)), rows, (*values)[index]);
}

absl::Status RegisterNumberFunction(DuckConnection& connection) {
  duckdb_scalar_function function = duckdb_create_scalar_function();
  duckdb_logical_type number = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
  duckdb_scalar_function_set_name(function, kNumberFunction);
  duckdb_scalar_function_add_parameter(function, number);
  duckdb_scalar_function_add_parameter(function, number);
  duckdb_scalar_function_set_return_type(function, number);
  duckdb_scalar_function_set_volatile(function);
  duckdb_scalar_function_set_function(function, Number);
  const duckdb_state state = duckdb_register_scalar_function(connection.handle(), function);
  duckdb_destroy_logical_type(&number);
  duckdb_destroy_scalar_function(&function);
  if (state == DuckDBSuccess) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("DuckDB refuses the function ", kNumberFunction));
}

}  // namespace

BoundNumbers::BoundNumbers(size_t count)
    : values_(std::make_shared<Values>(count)), id_(NumberedObjects<Values>::Get().Add(values_)) {}

BoundNumbers::~BoundNumbers() { NumberedObjects<Values>::Get().Remove(id_); }

absl::StatusOr<std::unique_ptr<BoundNumbers>> BoundNumbers::Create(DuckConnection& connection,
                                                                   size_t count) {
  ICEPIE_RETURN_IF_ERROR(connection.functions().AddOnce(
      kNumberFunction, [&] { return RegisterNumberFunction(connection); }));
  return std::unique_ptr<BoundNumbers>(new BoundNumbers(count));
}

std::string BoundNumbers::Sql(size_t index) const {
  return absl::StrCat(kNumberFunction, "(", id_, ", ", index, ")");
}

}  // namespace icepie::slices
