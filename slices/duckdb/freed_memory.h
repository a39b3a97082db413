// Freed memory that the allocators keep for the next allocation: DuckDB's own, which gives it back
// only while it is in use, and the C library's. Of an idle worker it was the larger half.
#ifndef ICEPIE_SLICES_DUCKDB_FREED_MEMORY_H_
#define ICEPIE_SLICES_DUCKDB_FREED_MEMORY_H_

namespace icepie::slices {

// Gives it back to the system, for milliseconds in which other threads may wait for memory.
// Threads: any.
void ReturnFreedMemory();

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DUCKDB_FREED_MEMORY_H_
