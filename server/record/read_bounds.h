// What a Core.ReadRecords asks for, checked and turned into positions.
#ifndef ICEPIE_SERVER_RECORD_READ_BOUNDS_H_
#define ICEPIE_SERVER_RECORD_READ_BOUNDS_H_

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/core.h"
#include "icepie/v1/core.pb.h"

namespace icepie::server {

inline constexpr int64_t kNoEnd = std::numeric_limits<int64_t>::max();

struct ReadBounds {
  std::vector<std::string> streams;  // empty: all
  int64_t from_position = 0;
  int64_t end_position = kNoEnd;  // exclusive
  int64_t from_offset = 0;        // of each record sent
  int64_t end_offset = kNoEnd;    // exclusive
  int64_t max_records = kNoEnd;
  std::string key_prefix;
  bool follow = false;
  std::chrono::milliseconds heartbeat_interval{5000};
};

// INVALID_ARGUMENT/PARAMETER_INVALID naming the field, OUT_OF_RANGE/POSITION_AHEAD_OF_CORE,
// NOT_FOUND/STREAM_NOT_FOUND. Without `follow` the ends are cut to what exists now.
absl::StatusOr<ReadBounds> ResolveReadBounds(const Core& core,
                                             const icepie::v1::ReadRecordsRequest& request);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_READ_BOUNDS_H_
