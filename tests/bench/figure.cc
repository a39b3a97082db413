#include "tests/bench/figure.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/check.h"

namespace icepie::bench {
namespace {

using Json = nlohmann::ordered_json;

struct Tally {
  int met = 0;
  std::vector<std::string> missed;
  std::vector<std::string> not_measured;
  bool peer_is_missing = false;
};
Tally& TheTally() {
  static Tally tally;
  return tally;
}

// Four digits are more than any of them is worth.
Json Number(const std::optional<double>& value) {
  if (!value || !std::isfinite(*value)) return nullptr;
  double rounded = std::round(*value);
  if (std::abs(*value) < 1000) {
    (void)absl::SimpleAtod(absl::StrFormat("%.4g", *value), &rounded);
  }
  return rounded;
}

std::optional<double> RatioOf(const Figure& figure) {
  if (figure.ratio) return figure.ratio;
  const std::optional<double> base = figure.floor ? figure.floor : figure.peer;
  if (!figure.value || !base || *base <= 0) return std::nullopt;
  return *figure.value / *base;
}

std::optional<bool> IsMet(const Figure& figure) {
  if (!figure.goal) return std::nullopt;
  const bool of_value = figure.goal->of == Goal::Of::kValueAtMost;
  const std::optional<double> judged = of_value ? figure.value : RatioOf(figure);
  if (!judged) return std::nullopt;
  const bool at_least = figure.goal->of == Goal::Of::kRatioAtLeast;
  return at_least ? *judged >= figure.goal->limit : *judged <= figure.goal->limit;
}

void WriteLine(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

}  // namespace

std::string ToJson(const Figure& figure) {
  const std::optional<bool> met = IsMet(figure);
  const Json line = {
      {"name", figure.name},
      {"value", Number(figure.value)},
      {"unit", figure.unit},
      {"floor", Number(figure.floor)},
      {"peer", Number(figure.peer)},
      {"ratio", Number(RatioOf(figure))},
      {"goal", figure.goal ? Number(figure.goal->limit) : Json(nullptr)},
      {"ok", met ? Json(*met) : Json(nullptr)},
  };
  return line.dump();
}

void Print(const Figure& figure) {
  // Who reads the line knows by the ratio what its goal is of.
  ICEPIE_CHECK(!figure.goal || figure.goal->of != Goal::Of::kValueAtMost ||
               (!figure.floor && !figure.peer && !figure.ratio));
  WriteLine(ToJson(figure));
  if (!figure.goal) return;
  Tally& tally = TheTally();
  const std::optional<bool> met = IsMet(figure);
  if (!met) {
    tally.not_measured.push_back(figure.name);
  } else if (*met) {
    ++tally.met;
  } else {
    tally.missed.push_back(figure.name);
  }
}

void ReportMissingPeer(const std::string& peer) {
  TheTally().peer_is_missing = true;
  std::fprintf(stderr,
               "icepie-bench: %s is not there, and its figures are null: "
               "deploy/install-deps.sh --with-bench installs it\n",
               peer.c_str());
}

int PrintSummary() {
  const Tally& tally = TheTally();
  const auto all = static_cast<double>(tally.missed.size() + tally.not_measured.size()) + tally.met;
  Json line = Json::parse(ToJson({.name = "goals_met", .value = tally.met, .unit = "goals"}));
  if (all > 0) {
    line["ratio"] = Number(tally.met / all);
    line["goal"] = all;
    line["ok"] = tally.met == all;
  }
  WriteLine(line.dump());
  if (!tally.missed.empty()) {
    std::fprintf(stderr, "icepie-bench: goals missed: %s\n",
                 absl::StrJoin(tally.missed, ", ").c_str());
  }
  if (!tally.not_measured.empty()) {
    std::fprintf(stderr, "icepie-bench: goals not measured: %s\n",
                 absl::StrJoin(tally.not_measured, ", ").c_str());
  }
  return tally.peer_is_missing ? 3 : 0;
}

std::optional<double> Quantile(std::vector<double> values, double share) {
  if (values.empty()) return std::nullopt;
  const auto count = static_cast<double>(values.size());
  const auto place = static_cast<size_t>(std::max(1.0, std::ceil(share * count))) - 1;
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(place), values.end());
  return values[place];
}

std::optional<double> Median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

}  // namespace icepie::bench
