// What the core's scrub is told, and what it says of itself (core/verify/scrubber.h does it).
#ifndef ICEPIE_CORE_VERIFY_SCRUB_H_
#define ICEPIE_CORE_VERIFY_SCRUB_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace icepie {

struct ScrubOptions {
  bool enabled = true;
  absl::Duration interval = absl::Hours(24);  // from the beginning of a pass to the next one's
  int64_t bytes_per_second = int64_t{16} << 20;
  absl::Duration first_delay = absl::Seconds(30);  // after opening
};

// Positions [position, end_position) and what is wrong with them; the text names the file.
struct ScrubFinding {
  int64_t position = 0;
  int64_t end_position = 0;
  std::string what;
};

struct ScrubState {
  std::optional<absl::Time> verified_time;  // when the last pass ended that found nothing …
  int64_t verified_position = 0;            // … in the records below this position
  std::optional<absl::Time> pass_begin;     // of the pass under way
  int64_t position = 0;                     // where it is
  int64_t end_position = 0;
  int64_t bytes_read = 0;  // since opening
  // Of the pass under way, or of the one before as long as this one has found nothing; 10 at most.
  std::vector<ScrubFinding> findings;
  int64_t finding_count = 0;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_VERIFY_SCRUB_H_
