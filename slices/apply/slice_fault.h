// What reports say of a slice that an error stops or troubles.
#ifndef ICEPIE_SLICES_APPLY_SLICE_FAULT_H_
#define ICEPIE_SLICES_APPLY_SLICE_FAULT_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "slices/apply/engine_types.h"

namespace icepie::slices {

// The file system of the domain's directory, or its quota, took nothing more, or a file would have
// become larger than the domain's part of the disk: what DuckDB spills or saves had no place.
bool IsDiskFull(const absl::Status& status);

// Begins now. Its reason is the error's own, else DOMAIN_DISK_FULL when the file system of the
// domain's directory took nothing more, else SLICE_MEMORY_LIMIT, with the remedy, when it is that
// the engine ran out of memory, else `fallback`.
SliceFault MakeFault(const absl::Status& status, absl::string_view fallback);

// Before the next attempt, after so many failures in a row: doubles from 200 ms up to a minute.
absl::Duration RetryDelay(int failures);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_SLICE_FAULT_H_
