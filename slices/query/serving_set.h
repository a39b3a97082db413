// The slices of a domain that questions may name, and which generation of each answers.
#ifndef ICEPIE_SLICES_QUERY_SERVING_SET_H_
#define ICEPIE_SLICES_QUERY_SERVING_SET_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "slices/query/served_slice.h"

namespace icepie::slices {

// Threads: any.
class ServingSet {
 public:
  using Slices = std::map<std::string, std::shared_ptr<ServedSlice>, std::less<>>;

  // Null when there is no such slice.
  std::shared_ptr<ServedSlice> Find(absl::string_view slice) const {
    MutexLock lock(mutex_);
    const auto found = slices_.find(std::string(slice));
    return found == slices_.end() ? nullptr : found->second;
  }

  Slices All() const {
    MutexLock lock(mutex_);
    return slices_;
  }

  void Replace(Slices slices) {
    MutexLock lock(mutex_);
    slices_.swap(slices);  // the old ones are released without the lock
  }

 private:
  mutable Mutex mutex_;
  Slices slices_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_QUERY_SERVING_SET_H_
