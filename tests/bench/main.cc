// icepie-bench: all benches, each a command; several are run one after another.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/bench/bench.h"
#include "tests/bench/figure.h"

namespace icepie::bench {
namespace {

struct Bench {
  const char* name;
  const char* about;
  RunBench (*add)(CLI::App&, CommonOptions&);
  bool of_core = false;
};
// In the order in which `all` runs them.
constexpr Bench kBenches[] = {
    {"ingest", "durable appends beside the disk, a gRPC echo, db_bench, Redis and PostgreSQL",
     AddIngest, true},
    {"merkle", "what the Merkle tree costs durable appends", AddMerkle, true},
    {"scan", "reading records back, from the log and from segments, beside the disk", AddScan,
     true},
    {"restart", "starting again after kill -9, with large logs and with many request ids",
     AddRestart, true},
    {"follow", "what 1, 16 and 64 followers at the head cost", AddFollow},
    {"visible", "an append, an append until it is visible, a query: one client", AddVisible},
    {"freshness", "how soon a record is seen at steady rates, with few slices and many",
     AddFreshness},
    {"slices", "keeping Nexmark queries and wallet clusters fresh, beside PostgreSQL", AddSlices},
    {"reslice", "building a slice anew, beside DuckDB's read_json", AddReslice},
    {"failover", "kill -9 of live workers under load, beside PostgreSQL", AddFailover},
    {"neighbour", "a domain's reads and appends beside a noisy domain", AddNeighbour},
    {"wake", "the first answer of a domain that hibernates", AddWake},
    {"memory", "what an idle worker takes, beside a bare DuckDB process", AddMemory},
};

// Most benches start the programs that were built with this one.
bool HasPrograms() {
  const char* bin = std::getenv("ICEPIE_BIN");
  const std::string directory = bin != nullptr ? bin : ".";
  if (::access((directory + "/icepied").c_str(), X_OK) == 0) return true;
  std::fprintf(stderr,
               "icepie-bench: there is no program icepied in %s: name the directory that has it in "
               "ICEPIE_BIN, or call tests/bench/run.sh\n",
               directory.c_str());
  return false;
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Benchmarks of Ice Pie, one JSON object a line on standard output: name, value, unit, floor, "
      "peer, ratio, goal, ok; the last line counts the goals met. Several benches may be named, "
      "each with its options behind it.\nExit code 3: a peer was not there "
      "(deploy/install-deps.sh --with-bench), and its figures are null.",
      "icepie-bench");
  app.require_subcommand(1, 0);
  CommonOptions common;
  std::map<std::string, std::vector<RunBench>> runs;  // by command
  CLI::App* core = app.add_subcommand("core", "ingest, merkle, scan and restart");
  CLI::App* all = app.add_subcommand("all", "every bench");
  for (CLI::App* several : {core, all}) {
    several->add_flag("--no-peers", common.no_peers, "without Redis, PostgreSQL and db_bench");
  }
  for (const Bench& bench : kBenches) {
    const RunBench run = bench.add(*app.add_subcommand(bench.name, bench.about), common);
    runs[bench.name] = {run};
    runs["all"].push_back(run);
    if (bench.of_core) runs["core"].push_back(run);
  }
  CLI::App* echo = app.add_subcommand("echo-server")->group("");
  CLI::App* fill = app.add_subcommand("fill-core")->group("");
  CLI::App* noise = app.add_subcommand("noise")->group("");
  const RunBench run_echo = AddEchoServer(*echo);
  const RunBench run_fill = AddFillCore(*fill);
  const RunBench run_noise = AddNoise(*noise);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  spdlog::set_level(spdlog::level::warn);  // it writes to the same output
  for (const auto& [command, run] :
       {std::pair{echo, run_echo}, {fill, run_fill}, {noise, run_noise}}) {
    if (!*command) continue;
    run();
    return 0;
  }
  if (!HasPrograms()) return 1;
  for (const CLI::App* command : app.get_subcommands()) {
    for (const RunBench& run : runs.at(command->get_name())) run();
  }
  return PrintSummary();
}

}  // namespace
}  // namespace icepie::bench

int main(int argc, char** argv) { return icepie::bench::Main(argc, argv); }
