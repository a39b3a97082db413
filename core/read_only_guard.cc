#include "core/read_only_guard.h"

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie {

void ReadOnlyGuard::Trip(const std::string& cause) {
  const MutexLock lock(mutex_);
  if (!cause_.empty()) return;
  cause_ = cause;
  spdlog::error("core: read-only from now on: {}", cause);
}

absl::Status ReadOnlyGuard::Check() const {
  const std::string why = cause();
  if (why.empty()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("the core takes no changes: ", why), "CORE_READ_ONLY",
                   {{"cause", why}});
}

std::string ReadOnlyGuard::cause() const {
  const MutexLock lock(mutex_);
  return cause_;
}

}  // namespace icepie
