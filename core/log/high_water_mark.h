// How many records and changes of the catalog were ever acknowledged, and the root of the Merkle
// tree over the records, kept outside RocksDB. RocksDB's recovery can lose what was synced without
// an error (a flipped bit at the end of the write-ahead log, a deleted log file); the mark notices
// it, and also a log with other records.
#ifndef ICEPIE_CORE_LOG_HIGH_WATER_MARK_H_
#define ICEPIE_CORE_LOG_HIGH_WATER_MARK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "core/merkle/sha256.h"

namespace icepie {

inline constexpr absl::string_view kHighWaterMarkFile =
    "high_water_mark";  // in the core's directory

struct HighWater {
  int64_t position = 0;
  std::optional<Digest> root;  // over the records below it; nullopt: the core kept no tree
  int64_t changes = 0;         // of the catalog (core/append/catalog_changes.h)
};

// Threads: any.
// Errors: the operating system's, with the path.
class HighWaterMark {
 public:
  // What the file `path` says. NOT_FOUND when there is no file, DATA_LOSS when it is not readable
  // as a mark.
  static absl::StatusOr<HighWater> Read(const std::string& path);

  // The same while its owner goes on writing, and with both slots judged: DATA_LOSS also when one
  // of them is damaged, or when the mark is below `acknowledged`, which it had reached before the
  // call.
  static absl::StatusOr<HighWater> Check(const std::string& path, int64_t acknowledged);

  // Makes the mark anew, whatever it was.
  static absl::Status Reset(const std::string& path, const HighWater& value);

  // Opens the mark for writing, creating it with `value` when there is none. Of two slots a damaged
  // one is made anew from the other, and the log told.
  static absl::StatusOr<std::unique_ptr<HighWaterMark>> Open(const std::string& path,
                                                             const HighWater& value);
  ~HighWaterMark();
  HighWaterMark(const HighWaterMark&) = delete;
  HighWaterMark& operator=(const HighWaterMark&) = delete;

  // Write without a sync: survives the end of the process, not of the machine. The whole mark, or
  // what of it has grown.
  absl::Status Write(const HighWater& value);
  absl::Status WriteRecords(int64_t position, const std::optional<Digest>& root);
  absl::Status WriteChanges(int64_t changes);

  // Makes the last Write durable.
  absl::Status Sync();

 private:
  HighWaterMark(std::string path, int fd, const HighWater& value, bool next_is_second)
      : path_(std::move(path)), fd_(fd), value_(value), next_is_second_(next_is_second) {}
  absl::Status WriteSlot() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const int fd_;
  Mutex mutex_;
  HighWater value_ ABSL_GUARDED_BY(mutex_);
  // Writes alternate between two slots, so that the one before is always whole.
  bool next_is_second_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_HIGH_WATER_MARK_H_
