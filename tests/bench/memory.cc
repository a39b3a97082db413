// What an idle domain takes of the machine's memory: what its live worker has written to and shares
// with no other process, at a state of --rows groups, beside a process with nothing but an instance
// of DuckDB in memory (bare_duckdb.cc) that keeps the same rows in a table. Program text is in
// neither: whether it counts as shared depends on what else runs.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "tests/bench/bench.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/figure.h"
#include "tests/bench/sales_domain.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(3);
constexpr auto kSettling = std::chrono::seconds(5);  // a worker gives back at rest what it freed
constexpr double kGoal = 1.5;

struct MemoryOptions {
  int rows = 1000;
  int rounds = 3;
};

// In MiB; nullopt when there is no such process.
std::optional<double> PrivateMib(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/smaps_rollup"));
  std::string word;
  while (file >> word) {
    double kib = 0;
    if (word == "Private_Dirty:" && file >> kib) return kib / 1024;
  }
  return std::nullopt;
}

double WorkerMib(int rows) {
  testing::DaemonFixture daemon;
  daemon.SetSettings("logging: {level: warn}\n");
  daemon.Start();
  const int64_t end = ApplySalesDomain(daemon, rows);
  ICEPIE_CHECK(testing::Eventually(
      [&] { return daemon.GetSlice("bench.by_item").standby_position() >= end; }, kPatience));
  std::this_thread::sleep_for(kSettling);
  const auto mib = PrivateMib(static_cast<pid_t>(daemon.Worker("bench", "live").pid()));
  ICEPIE_CHECK(mib.has_value());
  return *mib;
}

double DuckMib(int rows) {
  const Scratch scratch;
  const char* bin = std::getenv("ICEPIE_BIN");
  Background duck(
      {absl::StrCat(bin != nullptr ? bin : ".", "/icepie-bare-duckdb"), absl::StrCat(rows)},
      scratch.path() + "/duck.err");
  const int pid = std::atoi(duck.ReadLine().c_str());
  ICEPIE_CHECK(pid > 0);
  std::this_thread::sleep_for(kSettling);
  const auto mib = PrivateMib(pid);
  ICEPIE_CHECK(mib.has_value());
  return *mib;
}

void RunMemory(const MemoryOptions& options) {
  std::vector<double> ours;
  std::vector<double> bare;
  std::vector<double> ratios;
  for (int round = 0; round < options.rounds; ++round) {
    ours.push_back(WorkerMib(options.rows));
    bare.push_back(DuckMib(options.rows));
    ratios.push_back(ours.back() / bare.back());
  }
  Print({.name = "memory.idle_worker_vs_duckdb",
         .value = Median(ours),
         .unit = "MiB",
         .peer = Median(bare),
         .ratio = Median(ratios),
         .goal = RatioAtMost(kGoal)});
}

}  // namespace

RunBench AddMemory(CLI::App& command, CommonOptions&) {
  const auto options = std::make_shared<MemoryOptions>();
  command.add_option("--rows", options->rows, "of the slice's state")
      ->capture_default_str()
      ->check(CLI::Range(1, 20000000));
  command.add_option("--rounds", options->rounds)->capture_default_str()->check(CLI::Range(1, 100));
  return [options] { RunMemory(*options); };
}

}  // namespace icepie::bench
