#include "cli/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "cli/table.h"

namespace icepie::cli {
namespace {

ProgressState Halfway() {
  ProgressState state;
  state.label = "op-71";
  state.done = 63'400'000;
  state.total = 81'200'000;
  state.per_second = 740'000;
  state.eta = absl::Seconds(24);
  state.note = "quarantined 0";
  return state;
}

TEST(ProgressTest, ShowsShareRateAndEta) {
  EXPECT_EQ(ProgressLine(Halfway(), 0),
            "op-71  ███████░░░  78 %  63.4 M/81.2 M  740 k/s  ETA 24 s  quarantined 0");
}

TEST(ProgressTest, EndedWorkSaysHowMuchInWhatTime) {
  ProgressState state = Halfway();
  state.took = absl::Seconds(86);
  EXPECT_EQ(ProgressLine(state, 0), "op-71  63,400,000 records in 1m 26s  740 k/s  quarantined 0");
}

TEST(ProgressTest, IsCutToTheTerminal) { EXPECT_EQ(DisplayWidth(ProgressLine(Halfway(), 40)), 39); }

TEST(ProgressTest, UnknownTotalHasNoShareAndNoEta) {
  ProgressState state = Halfway();
  state.total = -1;
  EXPECT_EQ(ProgressLine(state, 0), "op-71  63.4 M  740 k/s  quarantined 0");
}

TEST(ProgressTest, MoreThanTheEstimateIsFull) {
  ProgressState state;
  state.label = "x";
  state.done = 12;
  state.total = 10;
  EXPECT_EQ(ProgressLine(state, 0), "x  ██████████ 100 %  12/10");
}

TEST(ProgressTest, RateCountsOnlyThisRun) {
  const absl::Time start = absl::FromUnixSeconds(1000);
  ProgressState state;
  state.done = 3000;
  state.total = 5000;
  RateMeter(1000, start).Fill(&state, start + absl::Seconds(2));
  EXPECT_DOUBLE_EQ(state.per_second, 1000);
  EXPECT_EQ(state.eta, absl::Seconds(2));
  ProgressState none;
  RateMeter(0, start).Fill(&none, start + absl::Seconds(2));
  EXPECT_EQ(none.per_second, 0);
}

TEST(ProgressTest, PlainLinesEveryFewSecondsOffATerminal) {
  std::ostringstream err;
  Terminal terminal{nullptr, nullptr, &err};
  Progress progress(terminal);
  const absl::Time start = absl::FromUnixSeconds(1000);
  for (int i = 0; i < 100; ++i) {
    ProgressState state;
    state.label = "import";
    state.done = i;
    progress.Show(state, start + i * absl::Milliseconds(100));
  }
  const std::string text = err.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);  // at 0, 3, 6 and 9 s
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(text.substr(0, 10), "import  0\n");
}

TEST(ProgressTest, RedrawsOneLineOnATerminal) {
  std::ostringstream err;
  Terminal terminal{nullptr, nullptr, &err};
  terminal.err_is_terminal = true;
  Progress progress(terminal);
  ProgressState state;
  state.label = "import";
  progress.Show(state, absl::FromUnixSeconds(1000));
  progress.Finish(state);
  const std::string text = err.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\r'), 2);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

}  // namespace
}  // namespace icepie::cli
