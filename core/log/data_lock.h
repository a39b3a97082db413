// One process at a time owns a core's directory: a lock file that names the owner.
#ifndef ICEPIE_CORE_LOG_DATA_LOCK_H_
#define ICEPIE_CORE_LOG_DATA_LOCK_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace icepie {

// Holds flock(2) on <directory>/lock, whose content is the owner's process id in decimal and a
// newline. The kernel gives the lock up when the owner ends, however it ends; the file stays.
// Lifetime: the lock is held until destruction.
class DataLock {
 public:
  // FAILED_PRECONDITION/DATA_DIRECTORY_LOCKED names directory and process id of the owner.
  static absl::StatusOr<std::unique_ptr<DataLock>> Acquire(const std::string& directory);
  // The same for who only reads, also where nothing can be written: nobody's name is in the lock
  // then. A directory without a lock file that cannot be written has no owner.
  static absl::StatusOr<std::unique_ptr<DataLock>> AcquireToRead(const std::string& directory);
  ~DataLock();
  DataLock(const DataLock&) = delete;
  DataLock& operator=(const DataLock&) = delete;

 private:
  explicit DataLock(int fd) : fd_(fd) {}
  absl::Status Lock(const std::string& directory);

  const int fd_;  // -1: there is nothing to be locked
};

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_DATA_LOCK_H_
