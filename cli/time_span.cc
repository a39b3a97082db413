#include "cli/time_span.h"

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace icepie::cli {

std::optional<absl::Duration> ParseTimeSpan(absl::string_view text) {
  absl::Duration span;
  if (absl::ConsumeSuffix(&text, "d")) {
    int64_t days = 0;
    if (!absl::SimpleAtoi(text, &days)) return std::nullopt;
    span = absl::Hours(24) * days;
  } else if (!absl::ParseDuration(text, &span)) {
    return std::nullopt;
  }
  if (span < absl::ZeroDuration() || span == absl::InfiniteDuration()) return std::nullopt;
  return span;
}

}  // namespace icepie::cli
