#include "cli/slice_wait.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/slice_report.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::Core;
using icepie::v1::Generation;
using icepie::v1::Slice;
using icepie::v1::Slices;
using icepie::v1::SliceState;

constexpr absl::Duration kProgressPollEvery = absl::Milliseconds(50);

absl::StatusOr<int64_t> HeadPosition(Client& client) {
  icepie::v1::ListStreamsRequest request;
  request.set_page_size(1);
  ICEPIE_ASSIGN_OR_RETURN(const auto streams,
                          client.Call(client.core(), &Core::StubInterface::ListStreams, request));
  return streams.head_position();
}

bool IsFresh(const Slice& slice, int64_t head_position) {
  const auto& meta = slice.meta();
  if (meta.stale() || slice.state() != icepie::v1::RUNNING) return false;
  return meta.has_next_refresh_time() || meta.applied_position() >= head_position;
}

bool HasReadyGeneration(const Slice& slice) {
  return std::any_of(
      slice.generations().begin(), slice.generations().end(),
      [](const Generation& generation) { return generation.state() == Generation::READY; });
}

}  // namespace

bool Holds(const SliceWait& wait, const Slice& slice, int64_t head_position) {
  if (!wait.state.empty() && icepie::v1::SliceState_Name(slice.state()) != wait.state) return false;
  if (wait.fresh && !IsFresh(slice, head_position)) return false;
  if (wait.min_position && slice.meta().applied_position() < *wait.min_position) return false;
  return !wait.generation_ready || HasReadyGeneration(slice);
}

absl::StatusOr<Slice> WaitForSlice(Context& context, const std::string& name,
                                   const SliceWait& wait) {
  SliceState state{};
  if (!wait.state.empty() && !icepie::v1::SliceState_Parse(wait.state, &state)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--state ", wait.state, " is no state (as in RUNNING, FROZEN, FAULTED, BLOCKED)"));
  }
  const absl::Time deadline = absl::Now() + wait.timeout;
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(const int64_t head_position, HeadPosition(client));
  icepie::v1::GetSliceRequest request;
  request.set_name(name);
  while (true) {
    absl::StatusOr<Slice> slice =
        client.Call(client.slices(), &Slices::StubInterface::GetSlice, request);
    if (slice.ok() && Holds(wait, *slice, head_position)) return slice;
    if (!slice.ok() && slice.status().code() != absl::StatusCode::kUnavailable) return slice;
    if (absl::Now() + kProgressPollEvery > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          "waited ", absl::FormatDuration(wait.timeout),
          " in vain: ", slice.ok() ? OutcomeLine(*slice) : std::string(slice.status().message())));
    }
    absl::SleepFor(kProgressPollEvery);
  }
}

}  // namespace icepie::cli
