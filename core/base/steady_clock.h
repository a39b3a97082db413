// A clock that nobody sets: for deadlines, intervals and everything else that must not wait a day
// when an operator, a time server or a leap second moves the wall clock. Its times mean nothing
// outside this process.
#ifndef ICEPIE_CORE_BASE_STEADY_CLOCK_H_
#define ICEPIE_CORE_BASE_STEADY_CLOCK_H_

#include <chrono>

#include "absl/time/time.h"

namespace icepie {

// Compare it only with other times of this clock; absl::Now() is for what people and records see.
inline absl::Time SteadyNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace icepie

#endif  // ICEPIE_CORE_BASE_STEADY_CLOCK_H_
