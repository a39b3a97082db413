// What a domain notices of a noisy one: reads of its slice and appends to its stream, alone and
// beside endless or hungry queries, re-slices, a flood of appends and a dying live worker in
// another domain. The noise comes from a process of its own with the lowest priority, as from other
// machines. The floor is the figure alone, measured in turn; values are medians of the rounds', and
// ratios of the rounds' ratios.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/check.h"
#include "tests/bench/append_load.h"
#include "tests/bench/bench.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/figure.h"
#include "tests/bench/noise.h"
#include "tests/bench/reader_load.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

namespace v1 = icepie::v1;

constexpr char kQuiet[] = R"(
domain: quiet
sources:
  sales: {columns: {item: INTEGER, amount: INTEGER}}
slices:
  by_item:
    sql: SELECT item, count(*) AS sales, sum(amount) AS total FROM sales GROUP BY ALL
    key: [item]
)";
constexpr char kNoisy[] = R"yaml(
domain: noisy
sources:
  transfers:
    stream: bench
    columns:
      sender: {type: VARCHAR, path: $.from}
      amount: {type: "DECIMAL(18,2)", path: $.amount}
slices:
  volume:
    sql: SELECT sender, count(*) AS transfers, sum(amount) AS volume FROM transfers GROUP BY ALL
    key: [sender]
limits: {query_timeout: 5s}
)yaml";
constexpr int kItems = 10000;

struct NeighbourOptions {
  double seconds = 3;
  int rounds = 3;
  std::vector<std::string> noise = {"query", "reslice", "flood", "all", "crash", "hungry"};
};

std::string Self() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

class NeighbourBench {
 public:
  explicit NeighbourBench(const NeighbourOptions& options) : options_(options) {
    daemon_.SetSettings("logging: {level: warn}\n");
    daemon_.Start();
    for (const char* stream : {"sales", "bench"}) {
      ICEPIE_CHECK(daemon_.CreateStream(stream).ok());
    }
    std::vector<std::string> sales;
    for (int i = 0; i < kItems; ++i) sales.push_back(Sale(i));
    ICEPIE_CHECK(daemon_.Append("sales", sales).ok());
    Load load;  // what a re-slice of the noisy domain reads
    load.address = daemon_.grpc_address();
    load.clients = 2;
    load.batch = 1000;
    load.seconds = 2;
    (void)RunLoad(load);
    for (const char* file : {kQuiet, kNoisy}) {
      v1::ApplyDomainResponse applied;
      ICEPIE_CHECK(daemon_.Apply(file, &applied).ok());
    }
    for (const char* slice : {"quiet.by_item", "noisy.volume"}) {
      ICEPIE_CHECK(testing::Eventually(
          [&] { return daemon_.GetSlice(slice).standby_position() >= 0; }, absl::Minutes(2)));
    }
  }

  void Run() {
    Measure("");  // warm
    rounds_.clear();
    for (int round = 0; round < options_.rounds; ++round) {
      Measure("");
      for (const std::string& noise : options_.noise) Measure(noise);
    }
    for (const std::string& noise : options_.noise) Report(noise);
  }

 private:
  // How long each took, in ms.
  struct Round {
    std::vector<double> reads;
    std::vector<double> appends;
  };

  static std::string Sale(int64_t i) {
    return absl::StrCat("{\"item\":", i % kItems, ",\"amount\":", i % 89, "}");
  }

  void Measure(const std::string& noise) {
    std::unique_ptr<Background> loud;
    if (!noise.empty()) {
      loud = std::make_unique<Background>(
          std::vector<std::string>{Self(), "noise", daemon_.grpc_address(), noise},
          daemon_.directory() + "/noise.err");
      ICEPIE_CHECK(loud->ReadLine() == "begins");
    }
    ReaderOptions reading;
    reading.address = daemon_.grpc_address();
    reading.domain = "quiet";
    reading.sql = "SELECT sales, total FROM by_item WHERE item = 4711";
    ReaderLoad readers(reading);
    Round round;
    const absl::Time end = absl::Now() + absl::Seconds(options_.seconds);
    for (int64_t i = 0; absl::Now() < end; ++i) {
      const absl::Time begin = absl::Now();
      ICEPIE_CHECK(daemon_.Append("sales", {Sale(i)}).ok());
      round.appends.push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    readers.Stop();
    for (const ReadSample& sample : readers.Samples()) {
      ICEPIE_CHECK(sample.error.empty());
      round.reads.push_back(sample.ms());
    }
    rounds_[noise].push_back(std::move(round));
    if (!loud) return;
    loud->Signal(SIGINT);
    const std::vector<std::string> rates = absl::StrSplit(loud->ReadLine(), ' ');
    ICEPIE_CHECK(rates.size() == 3);
    records_[noise].push_back(std::atof(rates[0].c_str()));
    reslices_[noise].push_back(std::atof(rates[1].c_str()));
    kills_[noise].push_back(std::atof(rates[2].c_str()));
  }

  // What `of` took in each round beside `noise`, and alone in the same round.
  void PrintTimes(const std::string& name, const std::string& noise, std::vector<double> Round::*of,
                  double share, std::optional<Goal> goal) {
    std::vector<double> beside;
    std::vector<double> alone;
    std::vector<double> ratios;
    for (size_t i = 0; i < rounds_[noise].size(); ++i) {
      const auto value = Quantile(rounds_[noise][i].*of, share);
      const auto floor = Quantile(rounds_[""][i].*of, share);
      ICEPIE_CHECK(value && floor);
      beside.push_back(*value);
      alone.push_back(*floor);
      ratios.push_back(*value / *floor);
    }
    Print({.name = name,
           .value = Median(beside),
           .unit = "ms",
           .floor = Median(alone),
           .ratio = Median(ratios),
           .goal = goal});
  }

  void Report(const std::string& noise) {
    const std::string prefix = absl::StrCat("neighbour.", noise, ".");
    Print({.name = prefix + "noise_records",
           .value = Quantile(records_[noise], 0.5),
           .unit = "records/s"});
    Print({.name = prefix + "noise_reslices",
           .value = Quantile(reslices_[noise], 0.5),
           .unit = "reslices/s"});
    Print(
        {.name = prefix + "noise_kills", .value = Quantile(kills_[noise], 0.5), .unit = "kills/s"});
    for (const auto& [name, share] : {std::pair{"p50", 0.5}, std::pair{"p99", 0.99}}) {
      const bool judged = noise == "all" && share > 0.9;
      PrintTimes(absl::StrCat(prefix, "read_", name), noise, &Round::reads, share,
                 judged ? std::optional(RatioAtMost(1.2)) : std::nullopt);
      PrintTimes(absl::StrCat(prefix, "append_", name), noise, &Round::appends, share,
                 judged ? std::optional(RatioAtMost(1.5)) : std::nullopt);
    }
  }

  const NeighbourOptions& options_;
  testing::DaemonFixture daemon_;
  std::map<std::string, std::vector<Round>> rounds_;    // by noise; "" is alone
  std::map<std::string, std::vector<double>> records_;  // what the noise did, in a second
  std::map<std::string, std::vector<double>> reslices_;
  std::map<std::string, std::vector<double>> kills_;
};

}  // namespace

RunBench AddNeighbour(CLI::App& command, CommonOptions&) {
  const auto options = std::make_shared<NeighbourOptions>();
  command.add_option("--seconds", options->seconds, "of each noise in a round")
      ->capture_default_str()
      ->check(CLI::Range(0.5, 600.0));
  command.add_option("--rounds", options->rounds, "in which every noise has its turn")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));
  command.add_option("--noise", options->noise, "which kinds")
      ->capture_default_str()
      ->check(CLI::IsMember({"query", "reslice", "flood", "all", "crash", "hungry"}));
  return [options] { NeighbourBench(*options).Run(); };
}

RunBench AddNoise(CLI::App& command) {
  struct Wanted {
    std::string address;
    std::string kind;
  };
  const auto wanted = std::make_shared<Wanted>();
  command.add_option("address", wanted->address)->required();
  command.add_option("kind", wanted->kind)->required();
  return [wanted] { RunNoise(wanted->address, wanted->kind); };
}

}  // namespace icepie::bench
