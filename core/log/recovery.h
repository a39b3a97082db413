// Opening a core's directory: looks before it touches. A log that may have lost acknowledged
// records is opened read-only and none of its files is changed, unless that shows only when it is
// opened for writing.
#ifndef ICEPIE_CORE_LOG_RECOVERY_H_
#define ICEPIE_CORE_LOG_RECOVERY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/append/request_log.h"
#include "core/append/stream_registry.h"
#include "core/log/disk_space.h"
#include "core/log/high_water_mark.h"
#include "core/log/log_store.h"
#include "core/log/read_only_guard.h"
#include "core/merkle/tiles.h"
#include "core/segment/segment_set.h"

namespace icepie {

// In a cause, between what was found and what to do about it.
inline constexpr absl::string_view kAppendsRefused = "; appends are refused";

struct RecoveredCore {
  std::unique_ptr<LogStore> store;  // nullptr: nothing can be read (then read-only)
  std::unique_ptr<SegmentSet> segments;
  std::unique_ptr<StreamRegistry> streams;
  std::unique_ptr<RequestLog> requests;  // nullptr when read-only
  std::unique_ptr<HighWaterMark> mark;   // nullptr when read-only
  std::optional<HighWater> found_mark;   // what it said before this start
  int64_t head = 0;
  int64_t catalog_changes = 0;  // that the log has
  TileWriter tree;              // empty when read-only or not wanted
  int64_t last_ingest_time_us = 0;
  bool is_backup = false;  // which an operator has restored: it goes on as a log of its own
  bool loss_only = false;  // read-only for no other cause than that records are missing at the end
  std::string read_only_cause;  // with kAppendsRefused; empty: takes appends
};

// The directory exists and is locked by the caller. Errors only for what a
// restart could mend (permissions, a full disk): damage makes the core read-only instead. Both
// outlive what is recovered: `guard` is tripped when the log's work in the background fails, and
// `space` gives up its ballast when the log itself meets a full disk.
absl::StatusOr<RecoveredCore> RecoverCore(const CoreOptions& options, ReadOnlyGuard& guard,
                                          DiskSpace& space);

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_RECOVERY_H_
