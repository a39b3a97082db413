// How many records were ever acknowledged, kept outside RocksDB. RocksDB's recovery can lose synced
// records without an error (a flipped bit at the end of the write-ahead log, a deleted log file);
// the mark notices it.
#ifndef ICEPIE_CORE_HIGH_WATER_MARK_H_
#define ICEPIE_CORE_HIGH_WATER_MARK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace icepie {

// Threads: one at a time.
// Errors: the operating system's, with the path.
class HighWaterMark {
 public:
  // The position in the file `path`. NOT_FOUND when there is no file, DATA_LOSS when it is not
  // readable as a mark.
  static absl::StatusOr<int64_t> Read(const std::string& path);

  // Makes the mark anew, whatever it was.
  static absl::Status Reset(const std::string& path, int64_t position);

  // Opens the mark for writing, creating it with `position` when there is none.
  static absl::StatusOr<std::unique_ptr<HighWaterMark>> Open(const std::string& path,
                                                             int64_t position);
  ~HighWaterMark();
  HighWaterMark(const HighWaterMark&) = delete;
  HighWaterMark& operator=(const HighWaterMark&) = delete;

  // Writes without a sync: survives the end of the process, not of the machine.
  absl::Status Write(int64_t position);

  // Makes the last Write durable.
  absl::Status Sync();

 private:
  HighWaterMark(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  const std::string path_;
  const int fd_;
  uint64_t writes_ = 0;  // writes alternate between two slots, so that one is always whole
};

}  // namespace icepie

#endif  // ICEPIE_CORE_HIGH_WATER_MARK_H_
