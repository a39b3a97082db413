#include "cli/first_build.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/format.h"
#include "cli/progress.h"
#include "cli/slice_report.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::ListSlicesResponse;
using icepie::v1::Slice;
using icepie::v1::Slices;

constexpr absl::Duration kBuildPollEvery = absl::Milliseconds(100);

bool IsBuilding(const Slice& slice) {
  return slice.state() == icepie::v1::STARTING || slice.state() == icepie::v1::BACKFILLING;
}

bool HasFailed(const Slice& slice) {
  return slice.state() == icepie::v1::FAULTED || slice.state() == icepie::v1::HELD ||
         slice.state() == icepie::v1::SUSPENDED;
}

std::vector<Slice> Among(const std::set<std::string>& names, const ListSlicesResponse& all) {
  std::vector<Slice> found;
  for (const Slice& slice : all.slices()) {
    if (names.count(slice.name()) > 0) found.push_back(slice);
  }
  return found;
}

// Of the slice that is furthest behind; a total of 0 records needs no bar.
ProgressState StateOf(const std::vector<Slice>& slices, int64_t head_position) {
  ProgressState state;
  const Slice* slowest = nullptr;
  int64_t built = 0;
  for (const Slice& slice : slices) {
    if (!IsBuilding(slice)) {
      ++built;
    } else if (slowest == nullptr ||
               slice.meta().applied_position() < slowest->meta().applied_position()) {
      slowest = &slice;
    }
  }
  if (slowest == nullptr) return state;
  state.label = absl::StrCat(slowest->name(), " ", icepie::v1::SliceState_Name(slowest->state()));
  state.done = slowest->meta().applied_position();
  state.total = head_position;
  state.note = absl::StrCat(
      built, " of ", FormatCounted(static_cast<int64_t>(slices.size()), "new slice"), " built");
  return state;
}

absl::Status PrintOutcome(Context& context, const std::vector<Slice>& slices) {
  absl::Status first_error;
  for (const Slice& slice : slices) {
    if (!context.options.json) context.out() << OutcomeLine(slice) << '\n';
    if (!HasFailed(slice) || !first_error.ok()) continue;
    first_error = absl::UnknownError(
        absl::StrCat(slice.name(), " is ", icepie::v1::SliceState_Name(slice.state()), ": ",
                     slice.last_error().message(), "; icepie slice describe ", slice.name()));
  }
  return first_error;
}

}  // namespace

absl::Status WaitForFirstBuilds(Context& context, const std::set<std::string>& slices) {
  if (slices.empty()) return absl::OkStatus();
  Client& client = context.client();
  Progress progress(context.terminal, context.options.json);
  const RateMeter meter(0, absl::Now());
  ProgressState state;
  while (true) {
    const absl::StatusOr<ListSlicesResponse> all = client.Call(
        client.slices(), &Slices::StubInterface::ListSlices, icepie::v1::ListSlicesRequest());
    if (!all.ok()) return all.status();
    const std::vector<Slice> found = Among(slices, *all);
    ProgressState now = StateOf(found, all->head_position());
    if (now.label.empty()) {
      if (!state.label.empty()) progress.End();
      return PrintOutcome(context, found);
    }
    state = now;
    meter.Fill(&state, absl::Now());
    progress.Show(state, absl::Now());
    absl::SleepFor(kBuildPollEvery);
  }
}

}  // namespace icepie::cli
