// Spans of time as people type them.
#ifndef ICEPIE_CLI_TIME_SPAN_H_
#define ICEPIE_CLI_TIME_SPAN_H_

#include <optional>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace icepie::cli {

// "90m", "12h" and, beyond what Abseil reads, days: "30d". Nothing when it is none of these, is
// negative or has no end.
std::optional<absl::Duration> ParseTimeSpan(absl::string_view text);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_TIME_SPAN_H_
