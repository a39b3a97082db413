// Functions of DuckDB's that fail when a test says so, in front of the library's own: linked with
// the tests of a program that want them.
#ifndef ICEPIE_TESTS_SLICES_FAILING_DUCKDB_H_
#define ICEPIE_TESTS_SLICES_FAILING_DUCKDB_H_

#include <atomic>

#include "slices/duckdb/duckdb.h"

namespace icepie::slices {

// Statements with this text (a literal) fail when they are run or prepared, as with `fails_of`.
inline std::atomic<const char*> fails_with_text{nullptr};
inline std::atomic<duckdb_error_type> fails_of{DUCKDB_ERROR_INTERNAL};
inline std::atomic<int> failed_statements{0};
// A statement with this text waits until it is none of these any more, and counts meanwhile.
inline std::atomic<const char*> waits_with_text{nullptr};
inline std::atomic<int> waiting_statements{0};
// One with this text takes many seconds, unless it is interrupted.
inline std::atomic<const char*> slow_with_text{nullptr};
inline std::atomic<int> interrupted_statements{0};

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_FAILING_DUCKDB_H_
