// icepie slice wait: for scripts that go on when a slice has got somewhere.
#ifndef ICEPIE_CLI_SLICE_WAIT_H_
#define ICEPIE_CLI_SLICE_WAIT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/context.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::cli {

struct SliceWait {
  std::string state;  // a SliceState's name; empty: any
  bool fresh = false;
  std::optional<int64_t> min_position;
  bool generation_ready = false;
  absl::Duration timeout = absl::Seconds(60);
};

// Whether all that is asked for holds. Fresh is: not stale, serving, and applied up to
// `head_position`; a scheduled slice stands behind the head by its own promise.
bool Holds(const SliceWait& wait, const icepie::v1::Slice& slice, int64_t head_position);

// The slice as soon as all holds. DEADLINE_EXCEEDED says where it stands instead; while the daemon
// cannot be reached the wait goes on.
absl::StatusOr<icepie::v1::Slice> WaitForSlice(Context& context, const std::string& name,
                                               const SliceWait& wait);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_SLICE_WAIT_H_
