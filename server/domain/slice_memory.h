// What the daemon itself remembers of slices, beside the catalog and its workers' reports: the last
// error of each, which no restart forgets, and how often and how fast it is asked.
#ifndef ICEPIE_SERVER_DOMAIN_SLICE_MEMORY_H_
#define ICEPIE_SERVER_DOMAIN_SLICE_MEMORY_H_

#include <map>
#include <set>
#include <string>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "icepie/v1/slices.pb.h"
#include "server/query/query_meter.h"

namespace icepie::server {

// Errors explain; they decide nothing. A file that cannot be written (full disk) is logged once.
// Threads: any.
class SliceMemory {
 public:
  // `path` holds one JSON object a line: the slices' names and last errors. Damaged lines are
  // skipped. Empty: nothing is kept.
  explicit SliceMemory(std::string path);

  // Notes the error that `slice` reports, or fills in the one that is remembered; and its load.
  void Complete(icepie::v1::Slice& slice, absl::Time now);
  // Forgets the slice's last error; what its worker goes on reporting of before is passed over.
  void ClearError(const std::string& slice, absl::Time now);

  // Forgets slices that are not there any more.
  void KeepOnly(const std::set<std::string>& slices);
  // Writes what has changed: once a second or so, by a thread that may wait for the disk.
  void Flush();

  QueryMeter& queries() { return queries_; }

 private:
  void Load() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string Text() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  QueryMeter queries_;
  Mutex mutex_;
  std::map<std::string, icepie::v1::SliceError> errors_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Time> cleared_ ABSL_GUARDED_BY(mutex_);
  bool changed_ ABSL_GUARDED_BY(mutex_) = false;
  Mutex file_mutex_;  // held while writing, before mutex_
  bool complained_ ABSL_GUARDED_BY(file_mutex_) = false;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_SLICE_MEMORY_H_
