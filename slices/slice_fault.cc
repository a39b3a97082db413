#include "slices/slice_fault.h"

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "core/base/status.h"

namespace icepie::slices {

// DuckDB hands on the system's words, but not its error number.
bool IsDiskFull(const absl::Status& status) {
  return absl::StrContains(status.message(), "No space left on device") ||
         absl::StrContains(status.message(), "Disk quota exceeded");
}

SliceFault MakeFault(const absl::Status& status, absl::string_view fallback) {
  std::string reason = ErrorReason(status);
  if (reason.empty()) reason = IsDiskFull(status) ? "DOMAIN_DISK_FULL" : std::string(fallback);
  return {std::move(reason), std::string(status.message()), absl::Now()};
}

}  // namespace icepie::slices
