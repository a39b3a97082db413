// Limits of every domain that its file need not, or cannot, state. The daemon shows them, so this
// header needs no DuckDB.
#ifndef ICEPIE_SLICES_DEFINITION_BUILT_IN_LIMITS_H_
#define ICEPIE_SLICES_DEFINITION_BUILT_IN_LIMITS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace icepie::slices {

inline constexpr int64_t kResultRowsDefault = 100'000;  // limits.max_result_rows
inline constexpr int64_t kKeptRowsDefault = 5'000'000;  // limits.kept_rows

inline constexpr int kQueriesAtOnce = 4;         // that one worker runs …
inline constexpr size_t kQueriesQueuedMax = 64;  // … and that wait in it
inline constexpr int64_t kResultBytesMax = int64_t{256} << 20;

// One worker may spill this part of its domain's part of the disk, so that a live one, a standby
// and a build that spill all they may leave room for snapshots.
inline constexpr int64_t kSpillPartOfDisk = 4;

// How long a slice may recompute, first backfills included: this, or so many times the domain's
// query timeout when that is longer.
inline constexpr absl::Duration kRecomputeTimeLimit = absl::Seconds(60);
inline constexpr int kRecomputeQueryTimeouts = 6;

inline absl::Duration RecomputeTimeLimit(absl::Duration query_timeout) {
  return std::max(kRecomputeTimeLimit, kRecomputeQueryTimeouts * query_timeout);
}

// Of a worker's address space (RLIMIT_AS): what the engine does not count, it cannot take, either.
inline constexpr int64_t kAddressSpaceMin = int64_t{2} << 30;
inline int64_t AddressSpaceLimit(int64_t memory_bytes) {
  return std::max(kAddressSpaceMin, memory_bytes * 4);
}

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_BUILT_IN_LIMITS_H_
