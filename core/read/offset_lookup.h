// Where in the whole core a stream's record is.
#ifndef ICEPIE_CORE_READ_OFFSET_LOOKUP_H_
#define ICEPIE_CORE_READ_OFFSET_LOOKUP_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "core/append/stream_registry.h"
#include "core/log/log_store.h"
#include "core/segment/segment_set.h"

namespace icepie {

// Core::PositionOf on a core that had `head` records before `stream` was looked at. DATA_LOSS/
// RECORD_DAMAGED when the block that should hold the record does not.
absl::StatusOr<int64_t> FindOffset(const LogStore& store, SegmentSet& segments,
                                   const Stream& stream, int64_t offset, int64_t head);

}  // namespace icepie

#endif  // ICEPIE_CORE_READ_OFFSET_LOOKUP_H_
