// What an open log says of itself: its segments, its streams, and where it ends. Of a whole one, or
// of what a damage has left.
#ifndef ICEPIE_CORE_LOG_LOG_STATE_H_
#define ICEPIE_CORE_LOG_LOG_STATE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/append/stream_registry.h"
#include "core/log/log_store.h"
#include "core/segment/segment_set.h"

namespace icepie {

struct LogState {
  std::unique_ptr<SegmentSet> segments;
  std::unique_ptr<StreamRegistry> streams;
  int64_t head = 0;
  int64_t last_ingest_time_us = 0;
  int64_t catalog_changes = 0;
};

// `segments` is their directory. DATA_LOSS where something cannot be read, or does not fit the
// rest.
absl::StatusOr<LogState> ReadLogState(const LogStore& store, const std::string& segments);

// Whether each hot block begins where the one before ends: of a hole in the middle of the index
// neither its beginning nor its end tells. DATA_LOSS.
absl::Status CheckIndex(const LogStore& store);

struct SalvagedLog {
  std::unique_ptr<LogStore> store;  // nullptr: nothing can be read
  LogState state;
  bool is_consistent = false;  // it is a whole log by itself: all that it has lost was its end
};

// As much as can be read of a log that does not open, or whose state cannot be read. Changes no
// file of it. What is in between and cannot be read is DATA_LOSS when it is read. A stream whose
// name is in segments only has no format but bytes. `acknowledged`: records that the high-water
// mark knows of, 0 without one; where neither catalog nor index tells, segments are taken up to
// there.
SalvagedLog SalvageLog(const std::string& log, const std::string& segments, int64_t acknowledged,
                       rocksdb::Env* env);

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_LOG_STATE_H_
