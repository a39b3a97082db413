// A record as it enters and leaves the core.
#ifndef ICEPIE_CORE_RECORD_H_
#define ICEPIE_CORE_RECORD_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace icepie {

struct RecordHeader {
  std::string name;
  std::string value;
};

// What a client appends.
struct NewRecord {
  std::string stream;
  std::optional<std::string> key;
  std::string payload;
  std::optional<int64_t> event_time_us;  // microseconds since 1970 UTC
  std::vector<RecordHeader> headers;
};

// A stored record; of columns that its reader did not ask for, nothing. The views point into the
// block that it was decoded from.
struct RecordView {
  int64_t position = 0;        // in the whole core
  int64_t offset = 0;          // in its stream
  int64_t ingest_time_us = 0;  // microseconds since 1970 UTC
  std::optional<int64_t> event_time_us;
  std::optional<absl::string_view> key;
  absl::string_view payload;
  absl::string_view headers;  // encoded; DecodeHeaders() of core/block/block.h
};

// Which columns of its records a reader needs, as a bit set; position, offset and ingest time are
// always there. A form that stores columns apart reads only those; blocks hold all of them
// together.
using RecordColumns = uint32_t;
inline constexpr RecordColumns kKeyColumn = 1;
inline constexpr RecordColumns kEventTimeColumn = 2;
inline constexpr RecordColumns kHeadersColumn = 4;
inline constexpr RecordColumns kPayloadColumn = 8;
inline constexpr RecordColumns kAllColumns = 15;

}  // namespace icepie

#endif  // ICEPIE_CORE_RECORD_H_
