// Key and event time that a stream takes from its JSON payloads, by paths such as $.from.wallet.
#ifndef ICEPIE_CORE_APPEND_PAYLOAD_PATHS_H_
#define ICEPIE_CORE_APPEND_PAYLOAD_PATHS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/record.h"

namespace icepie {

// "$." and the names of members, with dots between: letters, digits, _ and -.
struct PayloadPath {
  std::string text;  // empty: there is no such path
  std::vector<std::string> members;
};

// An empty text is no path. INVALID_ARGUMENT/PARAMETER_INVALID naming `field`.
absl::StatusOr<PayloadPath> ParsePayloadPath(const std::string& field, absl::string_view text);

// What a stream reads from its payloads.
struct PayloadPaths {
  PayloadPath key;         // a text or a whole number
  PayloadPath event_time;  // ISO 8601 text, UTC unless it names an offset
};

// Fills key and event time of a record that does not carry them. The payload is well-formed JSON.
// INVALID_ARGUMENT/PAYLOAD_INVALID naming record `index` of the batch and the path, when the value
// is missing, null, of another type, or a key on the way occurs twice.
absl::Status FillFromPayload(const PayloadPaths& paths, size_t index, NewRecord& record);

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_PAYLOAD_PATHS_H_
