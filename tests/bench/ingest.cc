// Durable ingest of the real daemon beside its floors and peers: one JSON object a line, with the
// median of the rounds, {"name","value","unit"[,"floor"|"peer","ratio"][,"goal","ok"]}.
//
//   icepie-bench-ingest [--seconds S] [--rounds R] [--no-peers] [--only PREFIX]
//
// Everything is measured in turn in every round, so that a slow minute of the disk is a slow minute
// of all. S seconds go into each point over all rounds.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/check.h"
#include "tests/bench/append_load.h"
#include "tests/bench/ingest_peers.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

constexpr int kBatches[] = {1, 10, 100, 1000};
constexpr int kClients[] = {1, 16, 64};

struct Options {
  double seconds = 3;
  int rounds = 3;
  bool no_peers = false;
  std::string only;
};

// "ingest_b1000_c16"
std::string Point(const std::string& what, int batch, int clients) {
  return absl::StrCat(what, "_b", batch, "_c", clients);
}

class IngestBench {
 public:
  explicit IngestBench(const Options& options)
      : options_(options),
        seconds_(options.seconds / options.rounds),
        echo_({std::filesystem::read_symlink("/proc/self/exe"), "--echo-server"},
              scratch_.path() + "/echo.err") {
    echo_address_ = absl::StrCat("127.0.0.1:", echo_.ReadLine());
    daemon_.SetSettings("logging: {level: warn}\n");
    daemon_.Start();
    ICEPIE_CHECK(daemon_.CreateStream("bench").ok());
    if (options_.no_peers) return;
    redis_ = Redis::Start(scratch_.path());
    postgres_ = Postgres::Start(scratch_.path());
    if (!redis_ || !postgres_ || !FindProgram("db_bench")) {
      std::fprintf(stderr,
                   "icepie-bench-ingest: some peers are not installed and left out; "
                   "deploy/install-deps.sh --with-bench installs them\n");
    }
  }

  void Run() {
    for (round_ = 1; round_ <= options_.rounds; ++round_) {
      Sample("fdatasync_p50",
             [this] { return FdatasyncP50Ms(scratch_.path(), 4096, seconds_ / 2); });
      for (const int clients : kClients) {
        for (const int batch : kBatches) RunPoint(batch, clients);
      }
    }
    Report();
  }

 private:
  using Measure = std::function<std::optional<double>()>;

  void Sample(const std::string& name, const Measure& measure) {
    if (!absl::StartsWith(name, options_.only)) return;
    std::fprintf(stderr, "round %d/%d  %-28s", round_, options_.rounds, name.c_str());
    const std::optional<double> value = measure();
    if (value) samples_[name].push_back(*value);
    std::fprintf(stderr, value ? "%14.3f\n" : "  not measured\n", value.value_or(0));
  }

  void RunPoint(int batch, int clients) {
    Load load;
    load.clients = clients;
    load.batch = batch;
    load.seconds = seconds_;
    load.address = daemon_.grpc_address();
    const PeerLoad peer{MakePayload(RecordKind::kTransfer, 1), clients, batch, seconds_};
    Sample(Point("ingest", batch, clients), [&] {
      const LoadResult result = RunLoad(load);
      samples_[Point("ingest", batch, clients) + "_p50"].push_back(result.p50_ms);
      samples_[Point("ingest", batch, clients) + "_p99"].push_back(result.p99_ms);
      return result.records_per_second;
    });
    load.kind = RecordKind::kBid;
    Sample(Point("ingest_bid", batch, clients), [&] { return RunLoad(load).records_per_second; });
    load.kind = RecordKind::kTransfer;
    load.address = echo_address_;
    Sample(Point("echo", batch, clients), [&] { return RunLoad(load).records_per_second; });
    if (options_.no_peers) return;
    Sample(Point("db_bench", batch, clients), [&] { return RunDbBench(scratch_.path(), peer); });
    if (redis_) Sample(Point("redis", batch, clients), [&] { return redis_->Add(peer); });
    if (!postgres_) return;
    Sample(Point(batch == 1 ? "postgres_insert" : "postgres_copy", batch, clients),
           [&] { return batch == 1 ? postgres_->Insert(peer) : postgres_->Copy(peer); });
  }

  std::optional<double> Median(const std::string& name) const {
    const auto found = samples_.find(name);
    if (found == samples_.end()) return std::nullopt;
    std::vector<double> values = found->second;
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }

  void PrintPlain(const std::string& name, const char* unit) const {
    const auto value = Median(name);
    if (!value) return;
    std::printf("{\"name\":\"%s\",\"value\":%.3f,\"unit\":\"%s\"}\n", name.c_str(), *value, unit);
  }

  // A ratio of the daemon's rate to another: `role` is floor or peer. Goal 0: none.
  void PrintRatio(const std::string& name, const std::string& other, const char* role,
                  double goal) const {
    const auto value = Median(name);
    const auto base = Median(other);
    if (!value || !base || *base <= 0) return;
    std::string line = absl::StrFormat(
        R"({"name":"%s_vs_%s","value":%.0f,"unit":"records/s","%s":%.0f,"ratio":%.3f)", name,
        other.substr(0, other.rfind("_b")), *value, role, *base, *value / *base);
    if (goal > 0) {
      absl::StrAppendFormat(&line, R"(,"goal":%.1f,"ok":%s)", goal,
                            *value / *base >= goal ? "true" : "false");
    }
    std::printf("%s}\n", line.c_str());
  }

  // The goals of durable ingest: batches of 1,000, and single records with 64 in flight.
  void ReportPoint(int batch, int clients) const {
    const std::string name = Point("ingest", batch, clients);
    PrintPlain(name, "records/s");
    PrintPlain(name + "_p50", "ms");
    PrintPlain(name + "_p99", "ms");
    PrintPlain(Point("ingest_bid", batch, clients), "records/s");
    const bool large = batch == 1000;
    const bool single = batch == 1 && clients == 64;
    PrintRatio(name, Point("echo", batch, clients), "floor", single ? 0.8 : 0);
    PrintRatio(name, Point("db_bench", batch, clients), "floor", large ? 0.9 : 0);
    PrintRatio(name, Point("redis", batch, clients), "peer", large ? 3 : 0);
    PrintRatio(name, Point("postgres_insert", batch, clients), "peer", single ? 2 : 0);
    PrintRatio(name, Point("postgres_copy", batch, clients), "peer", 0);
  }

  void Report() const {
    PrintPlain("fdatasync_p50", "ms");
    for (const int batch : kBatches) {
      for (const int clients : kClients) ReportPoint(batch, clients);
    }
  }

  const Options options_;
  const double seconds_;  // of a point in a round
  Scratch scratch_;
  Background echo_;
  std::string echo_address_;
  testing::DaemonFixture daemon_;
  std::unique_ptr<Redis> redis_;
  std::unique_ptr<Postgres> postgres_;
  int round_ = 0;
  std::map<std::string, std::vector<double>> samples_;
};

int Main(int argc, char** argv) {
  CLI::App app("Durable ingest beside its floors and peers", "icepie-bench-ingest");
  Options options;
  bool echo_server = false;
  app.add_option("--seconds", options.seconds, "for each point, over all rounds (default 3)")
      ->check(CLI::Range(0.1, 600.0));
  app.add_option("--rounds", options.rounds, "default 3")->check(CLI::Range(1, 100));
  app.add_flag("--no-peers", options.no_peers, "only the daemon and the echo");
  app.add_option("--only", options.only, "only points whose name begins so");
  app.add_flag("--echo-server", echo_server)->group("");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  if (echo_server) {
    ServeEcho();
    return 0;
  }
  IngestBench(options).Run();
  return 0;
}

}  // namespace
}  // namespace icepie::bench

int main(int argc, char** argv) { return icepie::bench::Main(argc, argv); }
