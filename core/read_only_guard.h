// Whether the core takes changes, and why not. It never becomes writable again: a restart decides
// anew.
#ifndef ICEPIE_CORE_READ_ONLY_GUARD_H_
#define ICEPIE_CORE_READ_ONLY_GUARD_H_

#include <string>

#include "absl/status/status.h"
#include "core/base/mutex.h"

namespace icepie {

// Threads: any.
class ReadOnlyGuard {
 public:
  // The first cause stands; it names what was found and the remedy.
  void Trip(const std::string& cause);

  // FAILED_PRECONDITION/CORE_READ_ONLY with the cause, or OK.
  absl::Status Check() const;

  std::string cause() const;  // empty: not tripped

 private:
  mutable Mutex mutex_;
  std::string cause_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie

#endif  // ICEPIE_CORE_READ_ONLY_GUARD_H_
