#include "cli/progress.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/format.h"
#include "cli/table.h"

namespace icepie::cli {
namespace {

constexpr int kBarCells = 10;
constexpr absl::Duration kRedrawEvery = absl::Milliseconds(100);
constexpr absl::Duration kPlainLineEvery = absl::Seconds(3);

std::string Bar(double share) {
  const int full = static_cast<int>(share * kBarCells);
  std::string bar;
  for (int i = 0; i < kBarCells; ++i) bar += i < full ? "█" : "░";
  return bar;
}

}  // namespace

std::string ProgressLine(const ProgressState& state, int width) {
  std::string line = state.label;
  if (state.took) {
    absl::StrAppend(&line, "  ", FormatCounted(state.done, "record"), " in ",
                    FormatElapsed(*state.took));
  } else if (state.total > 0) {
    const double share =
        std::clamp(static_cast<double>(state.done) / static_cast<double>(state.total), 0.0, 1.0);
    absl::StrAppend(&line, "  ", Bar(share), absl::StrFormat(" %3.0f %%  ", share * 100),
                    FormatShortCount(static_cast<double>(state.done)), "/",
                    FormatShortCount(static_cast<double>(state.total)));
  } else {
    absl::StrAppend(&line, "  ", FormatShortCount(static_cast<double>(state.done)));
  }
  if (state.per_second > 0) absl::StrAppend(&line, "  ", FormatRate(state.per_second));
  if (!state.took && state.eta < absl::InfiniteDuration() && state.done < state.total) {
    absl::StrAppend(&line, "  ETA ", FormatElapsed(state.eta));
  }
  if (!state.note.empty()) absl::StrAppend(&line, "  ", state.note);
  return width > 0 ? CutToWidth(line, width - 1) : line;
}

void RateMeter::Fill(ProgressState* state, absl::Time now) const {
  const double elapsed = absl::ToDoubleSeconds(now - start_);
  if (elapsed <= 0 || state->done <= first_) return;
  state->per_second = static_cast<double>(state->done - first_) / elapsed;
  if (state->total > state->done) {
    state->eta = absl::Seconds(static_cast<double>(state->total - state->done) / state->per_second);
  }
}

void Progress::Show(const ProgressState& state, absl::Time now) {
  if (silent_ || now < next_) return;
  next_ = now + (terminal_.err_is_terminal ? kRedrawEvery : kPlainLineEvery);
  if (terminal_.err_is_terminal) {
    *terminal_.err << "\r\x1b[K" << ProgressLine(state, std::max(terminal_.width, 80))
                   << std::flush;
    return;
  }
  const std::string line = ProgressLine(state, 0);
  if (line == last_line_) return;
  last_line_ = line;
  *terminal_.err << line << std::endl;
}

void Progress::End() {
  if (terminal_.err_is_terminal) *terminal_.err << std::endl;
}

void Progress::Finish(const ProgressState& state) {
  next_ = absl::InfinitePast();
  Show(state, absl::Now());
  End();
}

}  // namespace icepie::cli
