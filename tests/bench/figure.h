// What the benches print: one JSON object a line on standard output, always with the same eight
// members; one that does not apply, or could not be measured, is null.
//   {"name":text, "value":number, "unit":text, "floor":number, "peer":number, "ratio":number,
//    "goal":number, "ok":true|false}
// `floor` is what the machine can do at best, `peer` another program's figure, both in the unit of
// `value`. A line has at most one of them, and `ratio` says how `value` compares with it. `goal` is
// a limit of the ratio, or of the value when there is no ratio; `ok` says whether it is met.
#ifndef ICEPIE_TESTS_BENCH_FIGURE_H_
#define ICEPIE_TESTS_BENCH_FIGURE_H_

#include <optional>
#include <string>
#include <vector>

namespace icepie::bench {

struct Goal {
  enum class Of { kRatioAtLeast, kRatioAtMost, kValueAtMost };
  Of of = Of::kRatioAtLeast;
  double limit = 0;
};
inline Goal RatioAtLeast(double limit) { return {Goal::Of::kRatioAtLeast, limit}; }
inline Goal RatioAtMost(double limit) { return {Goal::Of::kRatioAtMost, limit}; }
inline Goal ValueAtMost(double limit) { return {Goal::Of::kValueAtMost, limit}; }

struct Figure {
  std::string name;
  std::optional<double> value = std::nullopt;
  std::string unit = "";
  std::optional<double> floor = std::nullopt;
  std::optional<double> peer = std::nullopt;
  std::optional<double> ratio = std::nullopt;  // value / floor or else value / peer, if not given
  std::optional<Goal> goal = std::nullopt;
};

// The line, without its end.
std::string ToJson(const Figure& figure);

// Prints the line, and remembers how its goal was met.
void Print(const Figure& figure);

// Says on standard error that a peer is not there, and remembers it. The figures that would have
// needed it are printed with null.
void ReportMissingPeer(const std::string& peer);

// A line about all goals that were printed: as `value` how many are met, as `goal` how many there
// are, those that could not be measured included; on standard error, which are not met. Returns
// the program's exit code: 3 when a peer was missing, else 0.
int PrintSummary();

// The value below which `share` of them are; nullopt without any.
std::optional<double> Quantile(std::vector<double> values, double share);
// Of an even number, the mean of the two in the middle; nullopt without any.
std::optional<double> Median(std::vector<double> values);

}  // namespace icepie::bench

#endif  // ICEPIE_TESTS_BENCH_FIGURE_H_
