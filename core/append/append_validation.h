// The checks that an append passes before it is queued, in the caller's thread: sizes, streams,
// payloads. A batch is refused whole, and told all its bad records.
#ifndef ICEPIE_CORE_APPEND_APPEND_VALIDATION_H_
#define ICEPIE_CORE_APPEND_APPEND_VALIDATION_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/append/stream_registry.h"
#include "core/core.h"

namespace icepie {

// What a record counts against the limits: key, payload, headers, and a little for each part.
int64_t AppendBytes(const NewRecord& record);
int64_t AppendBytes(absl::Span<const NewRecord> records);

// The stream of each record, in the order of the records.
absl::StatusOr<std::vector<Stream*>> ValidateRecords(absl::Span<const NewRecord> records,
                                                     const CoreOptions& limits,
                                                     const StreamRegistry& streams);

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_APPEND_VALIDATION_H_
