#include "slices/apply/slice_fault.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"

namespace icepie::slices {

// DuckDB hands on the system's words, but not its error number.
bool IsDiskFull(const absl::Status& status) {
  return absl::StrContains(status.message(), "No space left on device") ||
         absl::StrContains(status.message(), "Disk quota exceeded") ||
         absl::StrContains(status.message(), "File too large");  // RLIMIT_FSIZE
}

SliceFault MakeFault(const absl::Status& status, absl::string_view fallback) {
  const std::string reason = ErrorReason(status);
  const std::string message(status.message());
  if (!reason.empty()) return {reason, message, absl::Now()};
  if (IsDiskFull(status)) return {"DOMAIN_DISK_FULL", message, absl::Now()};
  if (!absl::IsResourceExhausted(status)) return {std::string(fallback), message, absl::Now()};
  return {"SLICE_MEMORY_LIMIT",
          absl::StrCat(message,
                       "; let its SQL keep less at once, or raise limits.memory in the "
                       "domain's file"),
          absl::Now()};
}

absl::Duration RetryDelay(int failures) {
  return std::min(absl::Seconds(60), absl::Milliseconds(100) * (1 << std::min(failures, 10)));
}

}  // namespace icepie::slices
