// Numbers that a prepared statement is given before each execution, in place of parameters: DuckDB
// plans a statement that reads a table anew at each execution if it has a parameter, and planning
// costs more than running one that touches a row or two. So the statement calls a function, which
// is asked again each time.
#ifndef ICEPIE_SLICES_DUCKDB_BOUND_NUMBERS_H_
#define ICEPIE_SLICES_DUCKDB_BOUND_NUMBERS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::slices {

// Threads: the connection's; not during an execution.
// Errors: as DuckConnection (duckdb.h). A statement that is run after the numbers are gone fails.
// Lifetime: any; statements hold nothing of it.
class BoundNumbers {
 public:
  // So many numbers, all 0.
  static absl::StatusOr<std::unique_ptr<BoundNumbers>> Create(DuckConnection& connection,
                                                              size_t count);
  ~BoundNumbers();
  BoundNumbers(const BoundNumbers&) = delete;
  BoundNumbers& operator=(const BoundNumbers&) = delete;

  // The SQL expression, a BIGINT, that stands for the number.
  std::string Sql(size_t index) const;
  void Set(size_t index, int64_t value) { values_->at(index) = value; }

 private:
  explicit BoundNumbers(size_t count);

  const std::shared_ptr<std::vector<int64_t>> values_;
  const int64_t id_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DUCKDB_BOUND_NUMBERS_H_
