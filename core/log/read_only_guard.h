// Whether the core takes changes, and why not. It never becomes writable again: a restart decides
// anew.
#ifndef ICEPIE_CORE_LOG_READ_ONLY_GUARD_H_
#define ICEPIE_CORE_LOG_READ_ONLY_GUARD_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace icepie {

// Threads: any.
class ReadOnlyGuard {
 public:
  // What was found, and what to do about it. The first cause stands.
  void Trip(const std::string& found,
            const std::string& remedy = "check the disk, then restart the daemon");

  // FAILED_PRECONDITION/CORE_READ_ONLY with the variables cause (what was found), since (RFC 3339)
  // and remedy, or OK.
  absl::Status Check() const;

  std::string cause() const;  // with the remedy; empty: not tripped

 private:
  mutable Mutex mutex_;
  std::string found_ ABSL_GUARDED_BY(mutex_);
  std::string remedy_ ABSL_GUARDED_BY(mutex_);
  absl::Time since_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_READ_ONLY_GUARD_H_
