// How long the first answer of a hibernating domain takes: its standby is started for it, on the
// last snapshot.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "tests/bench/bench.h"
#include "tests/bench/figure.h"
#include "tests/bench/sales_domain.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

namespace v1 = icepie::v1;

constexpr char kQuestion[] = "SELECT total FROM by_item WHERE item = 'item4711'";
constexpr int kJudgedRows = 500000;
constexpr double kGoalMs = 50;
constexpr absl::Duration kPatience = absl::Minutes(3);
// Between the rest and the question: a domain that was asked a moment ago does not rest, and by
// then the daemon has nothing to do any more.
constexpr absl::Duration kQuiet = absl::Seconds(1);

struct WakeOptions {
  int rounds = 20;
  int rows = kJudgedRows;
};

void Fill(const testing::DaemonFixture& daemon, int rows) {
  const int64_t end = ApplySalesDomain(daemon, rows, Items::kNames);
  ICEPIE_CHECK(testing::Eventually(
      [&] { return daemon.GetSlice("bench.by_item").meta().applied_position() >= end; },
      kPatience));
}

void AwaitRest(const testing::DaemonFixture& daemon) {
  const auto rests = [&](const char* role) {
    const v1::WorkerStatus worker = daemon.Worker("bench", role);
    return worker.state() == "hibernating" && worker.pid() == 0;
  };
  ICEPIE_CHECK(testing::Eventually([&] { return rests("live") && rests("standby"); }, kPatience));
  std::this_thread::sleep_for(absl::ToChronoMicroseconds(kQuiet));
}

void RunWake(const WakeOptions& options) {
  testing::DaemonFixture daemon;
  daemon.SetSettings("workers: {idle_after_ms: 1000}\nlogging: {level: warn}\n");
  daemon.Start();
  Fill(daemon, options.rows);
  std::vector<double> times;
  for (int round = 0; round < options.rounds; ++round) {
    AwaitRest(daemon);
    v1::QueryResponse answer;
    const absl::Time begin = absl::Now();
    ICEPIE_CHECK(daemon.Query("bench", kQuestion, -1, &answer).ok());
    times.push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
    ICEPIE_CHECK(answer.meta().slices(0).source() == v1::STANDBY);
  }
  const std::string name = absl::StrCat("wake.", options.rows / 1000, "k.first_answer");
  const bool judged = options.rows <= kJudgedRows;
  Print({.name = name + "_p50",
         .value = Median(times),
         .unit = "ms",
         .goal = judged ? std::optional(ValueAtMost(kGoalMs)) : std::nullopt});
  Print({.name = name + "_p90", .value = Quantile(times, 0.9), .unit = "ms"});
}

}  // namespace

RunBench AddWake(CLI::App& command, CommonOptions& /*common*/) {
  const auto options = std::make_shared<WakeOptions>();
  command.add_option("--rounds", options->rounds, "how often it is woken")
      ->capture_default_str()
      ->check(CLI::Range(1, 10000));
  command.add_option("--rows", options->rows, "of the slice's state")
      ->capture_default_str()
      ->check(CLI::Range(5000, 20000000));
  return [options] { RunWake(*options); };
}

}  // namespace icepie::bench
