#include "slices/duckdb/freed_memory.h"

#include <malloc.h>

#include <cstddef>

// Of DuckDB's jemalloc. A DuckDB that was built without has none.
extern "C" int duckdb_je_mallctl(const char* name, void* old_value, size_t* old_size,
                                 void* new_value, size_t new_size) __attribute__((weak));

namespace icepie::slices {

void ReturnFreedMemory() {
  // 4096: all arenas (MALLCTL_ARENAS_ALL). DuckDB's setting allocator_background_threads would do
  // the same, but ends with the first instance that is closed, and each plan has one.
  if (duckdb_je_mallctl != nullptr) {
    duckdb_je_mallctl("arena.4096.purge", nullptr, nullptr, nullptr, 0);
  }
  malloc_trim(0);
}

}  // namespace icepie::slices
