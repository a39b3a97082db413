// Objects by number for table functions: a view names what it reads in SQL text, which can hold a
// number and no pointer.
#ifndef ICEPIE_SLICES_DUCKDB_NUMBERED_OBJECTS_H_
#define ICEPIE_SLICES_DUCKDB_NUMBERED_OBJECTS_H_

#include <cstdint>
#include <map>
#include <memory>

#include "core/base/mutex.h"

namespace icepie::slices {

// One registry for each type of objects, of the whole process; a number is never given twice.
//
// Threads: any.
// Lifetime: objects are held weakly. Whoever adds one removes its number again.
template <typename Object>
class NumberedObjects {
 public:
  static NumberedObjects& Get() {
    static auto* const kObjects = new NumberedObjects;
    return *kObjects;
  }

  int64_t Add(const std::shared_ptr<Object>& object) {
    MutexLock lock(mutex_);
    objects_[++last_number_] = object;
    return last_number_;
  }
  void Remove(int64_t number) {
    MutexLock lock(mutex_);
    objects_.erase(number);
  }
  // Null: it is gone, or there never was one.
  std::shared_ptr<Object> Find(int64_t number) {
    MutexLock lock(mutex_);
    const auto it = objects_.find(number);
    return it == objects_.end() ? nullptr : it->second.lock();
  }

 private:
  Mutex mutex_;
  std::map<int64_t, std::weak_ptr<Object>> objects_ ABSL_GUARDED_BY(mutex_);
  int64_t last_number_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DUCKDB_NUMBERED_OBJECTS_H_
