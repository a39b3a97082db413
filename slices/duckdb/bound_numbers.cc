#include "slices/duckdb/bound_numbers.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status.h"

namespace icepie::slices {
namespace {

constexpr char kNumberFunction[] = "icepie_number";

using Values = std::shared_ptr<std::vector<int64_t>>;

// SQL text can hold no more than a number that they are found by.
class NumberRegistry {
 public:
  static NumberRegistry& Get() {
    static auto* const kRegistry = new NumberRegistry;
    return *kRegistry;
  }
  int64_t Add(const Values& values) {
    MutexLock lock(mutex_);
    values_[++last_id_] = values;
    return last_id_;
  }
  void Remove(int64_t id) {
    MutexLock lock(mutex_);
    values_.erase(id);
  }
  Values Find(int64_t id) {
    MutexLock lock(mutex_);
    const auto it = values_.find(id);
    return it == values_.end() ? nullptr : it->second;
  }

 private:
  Mutex mutex_;
  std::map<int64_t, Values> values_ ABSL_GUARDED_BY(mutex_);
  int64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
};

int64_t Argument(duckdb_data_chunk input, idx_t index) {
  return *static_cast<const int64_t*>(
      duckdb_vector_get_data(duckdb_data_chunk_get_vector(input, index)));
}

// Both arguments are constants of the statement.
void Number(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output) {
  const idx_t rows = duckdb_data_chunk_get_size(input);
  if (rows == 0) return;
  const Values values = NumberRegistry::Get().Find(Argument(input, 0));
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
    : values_(std::make_shared<std::vector<int64_t>>(count)),
      id_(NumberRegistry::Get().Add(values_)) {}

BoundNumbers::~BoundNumbers() { NumberRegistry::Get().Remove(id_); }

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
