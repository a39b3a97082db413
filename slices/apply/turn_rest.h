// How long the live engine rests after a turn at the head.
#ifndef ICEPIE_SLICES_APPLY_TURN_REST_H_
#define ICEPIE_SLICES_APPLY_TURN_REST_H_

#include <algorithm>

#include "absl/time/time.h"

namespace icepie::slices {

// Small batches wait so long that more comes together: after short turns for as long as those had
// the processor, after long ones (many slices, large states) so long that most of a core is free.
inline absl::Duration RestAfter(absl::Duration worked) {
  constexpr absl::Duration kShort = absl::Milliseconds(4);
  constexpr double kMost = 3;
  return worked * std::clamp(absl::FDivDuration(worked, kShort), 1.0, kMost);
}

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_TURN_REST_H_
