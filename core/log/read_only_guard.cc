#include "core/log/read_only_guard.h"

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/status.h"

namespace icepie {

namespace {

std::string CauseOf(const std::string& found, const std::string& remedy) {
  return remedy.empty() ? found : absl::StrCat(found, "; ", remedy);
}

}  // namespace

void ReadOnlyGuard::Trip(const std::string& found, const std::string& remedy) {
  const MutexLock lock(mutex_);
  if (!found_.empty()) return;
  found_ = found;
  remedy_ = remedy;
  since_ = absl::Now();
  spdlog::error("core: read-only from now on: {}", CauseOf(found, remedy));
}

absl::Status ReadOnlyGuard::Check() const {
  const MutexLock lock(mutex_);
  if (found_.empty()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("the core takes no changes: ", CauseOf(found_, remedy_)),
                   "CORE_READ_ONLY",
                   {{"cause", found_},
                    {"since", absl::FormatTime(absl::RFC3339_sec, since_, absl::UTCTimeZone())},
                    {"remedy", remedy_}});
}

std::string ReadOnlyGuard::cause() const {
  const MutexLock lock(mutex_);
  return CauseOf(found_, remedy_);
}

}  // namespace icepie
