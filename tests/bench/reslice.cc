// How fast a slice is built anew from raw: the build engine over a feed in memory (blocks as the
// core has them; no file is read), beside DuckDB alone on the same records, as a file of JSON lines
// and as a column of JSON text. Medians of the rounds:
//   reslice.<slice>             records/s to the snapshot of the new generation; the peer is
//                               read_json with the columns declared
//   reslice.<slice>.vs_extract  the peer is ->> over the text
//   reslice.<slice>.cpu         records of a second of processor time, which other programs on the
//                               machine do not change, again beside read_json
// With --save-every also, over builds that save what they have on their way so often (as a build of
// hours does each minute), in turn with builds that do not:
//   reslice.<slice>.saving      records/s with, also .cpu; the peer is without
// DuckDB has two threads; a build has the number that its strategy can use
// (slices/role/build_engine).
#include <time.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "slices/role/build_engine.h"
#include "tests/bench/bench.h"
#include "tests/bench/figure.h"
#include "tests/bench/slice_bench.h"
#include "tests/slices/memory_feed.h"

namespace icepie::slices {
namespace {

constexpr double kGoal = 3;
constexpr double kSavingGoal = 0.95;
constexpr int kIntervalsBetweenSaves = 6;  // build_engine_saves.cc
constexpr char kThreads[] = "2";
constexpr int64_t kMemoryBytes = int64_t{2} << 30;
constexpr absl::Duration kPatience = absl::Minutes(10);

constexpr char kDomain[] = R"(
domain: bench
sources:
  bid:
    columns:
      auction: {type: BIGINT, required: true}
      price: {type: BIGINT, required: true}
      channel: VARCHAR
slices:
  filtered: {sql: "SELECT auction, price, channel FROM bid WHERE price > 50000000"}
  folded: {sql: "SELECT channel, auction % 1000 AS part, count(*) AS n, sum(price) AS total, max(price) AS most FROM bid GROUP BY ALL"}
)";

// The same SQL for DuckDB alone, over a view of the source's name.
struct Peer {
  const char* slice;
  const char* sql;
};
constexpr Peer kPeers[] = {
    {"filtered", "SELECT auction, price, channel FROM bid WHERE price > 50000000"},
    {"folded",
     "SELECT channel, auction % 1000 AS part, count(*) AS n, sum(price) AS total, max(price) AS "
     "most FROM bid GROUP BY ALL"},
};

// How long something took, by the clock and in processor time.
struct Cost {
  absl::Duration wall;
  absl::Duration cpu;
};

class Stopwatch {
 public:
  Cost Stop() const { return {absl::Now() - begin_, ProcessTime() - cpu_begin_}; }

 private:
  static absl::Duration ProcessTime() {
    timespec time{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return absl::DurationFromTimespec(time);
  }
  const absl::Time begin_ = absl::Now();
  const absl::Duration cpu_begin_ = ProcessTime();
};

using bench::Median;
using bench::Print;

// Of the rounds, in seconds.
struct Costs {
  std::vector<double> wall;
  std::vector<double> cpu;
  void Add(const Cost& cost) {
    wall.push_back(absl::ToDoubleSeconds(cost.wall));
    cpu.push_back(absl::ToDoubleSeconds(cost.cpu));
  }
};

class Reslice {
 public:
  explicit Reslice(int64_t records) : records_(records) {
    std::string pattern = std::filesystem::temp_directory_path() / "icepie-bench-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    Fill();
    database_ = Checked(DuckDatabase::OpenInMemory({{"threads", kThreads}}));
    connection_ = Checked(DuckConnection::Connect(*database_));
    Check(connection_->Run(absl::StrCat("CREATE TABLE raw AS SELECT json FROM read_csv(",
                                        QuoteLiteral(JsonFile()),
                                        ", columns = {'json': 'VARCHAR'}, delim = '\\x01', quote = "
                                        "'', escape = '', header = false)")));
  }
  ~Reslice() { std::filesystem::remove_all(directory_); }

  void Measure(const Peer& peer, int rounds) {
    Costs ours;
    Costs read_json;
    Costs extract;
    for (int round = 0; round < rounds; ++round) {
      ours.Add(Build(peer.slice));
      read_json.Add(RunOver(
          absl::StrCat("read_json(", QuoteLiteral(JsonFile()),
                       ", format = 'newline_delimited', columns = {auction: 'BIGINT', price: "
                       "'BIGINT', channel: 'VARCHAR'})"),
          peer.sql));
      extract.Add(RunOver(
          "(SELECT CAST(json ->> 'auction' AS BIGINT) AS auction, CAST(json ->> 'price' AS BIGINT) "
          "AS price, json ->> 'channel' AS channel FROM raw)",
          peer.sql));
    }
    const std::string name = absl::StrCat("reslice.", peer.slice);
    Print({.name = name,
           .value = Rate(ours.wall),
           .unit = "records/s",
           .peer = Rate(read_json.wall),
           .goal = bench::RatioAtLeast(kGoal)});
    Print({.name = name + ".vs_extract",
           .value = Rate(ours.wall),
           .unit = "records/s",
           .peer = Rate(extract.wall)});
    Print({.name = name + ".cpu",
           .value = Rate(ours.cpu),
           .unit = "records/cpu-s",
           .peer = Rate(read_json.cpu)});
  }

  void MeasureSaving(const Peer& peer, int rounds, absl::Duration interval) {
    Costs saving;
    Costs plain;
    for (int round = 0; round < rounds; ++round) {
      saving.Add(Build(peer.slice, interval));
      plain.Add(Build(peer.slice));
    }
    const std::string name = absl::StrCat("reslice.", peer.slice, ".saving");
    Print({.name = name,
           .value = Rate(saving.wall),
           .unit = "records/s",
           .peer = Rate(plain.wall),
           .goal = bench::RatioAtLeast(kSavingGoal)});
    Print({.name = name + ".cpu",
           .value = Rate(saving.cpu),
           .unit = "records/cpu-s",
           .peer = Rate(plain.cpu)});
  }

 private:
  std::string JsonFile() const { return directory_ + "/bids.json"; }
  double Rate(const std::vector<double>& seconds) const {
    return static_cast<double>(records_) / *Median(seconds);
  }

  void Fill() {
    NexmarkGenerator generator(20261126);
    std::ofstream file(JsonFile());
    int64_t made = 0;
    while (made < records_) {
      for (RecordBlock& block : NexmarkBlocks(generator, 2000)) {
        if (block.stream != "bid") continue;
        block.payloads.resize(
            std::min<size_t>(block.payloads.size(), static_cast<size_t>(records_ - made)));
        for (const std::string& payload : block.payloads) file << payload << '\n';
        made += static_cast<int64_t>(block.payloads.size());
        if (!block.payloads.empty()) feed_.Append("bid", block.payloads);
      }
    }
    feed_.set_blocks_per_piece(32);
  }

  Cost Build(const std::string& slice, absl::Duration save_interval = absl::InfiniteDuration()) {
    EngineOptions options;
    options.snapshot_interval = save_interval / kIntervalsBetweenSaves;
    options.domain = "bench";
    options.directory = absl::StrCat(directory_, "/", slice, "-", ++builds_);
    options.memory_bytes = kMemoryBytes;
    options.on_fatal = [](const std::string& why) { Check(absl::InternalError(why)); };
    GenerationSpec spec;
    spec.slice = slice;
    spec.number = 1;
    spec.file = kDomain;
    Assignment assignment;
    assignment.domain = "bench";
    assignment.epoch = 1;
    assignment.generations = {spec};
    assignment.build = BuildJob{};
    assignment.build->slice = slice;
    assignment.build->number = 1;
    const auto engine = Checked(BuildEngine::Start(options, feed_));
    const absl::Time begin = absl::Now();
    const Stopwatch stopwatch;
    engine->Configure(std::move(assignment));
    while (!Ready(*engine)) {
      if (absl::Now() > begin + kPatience) Check(absl::DeadlineExceededError("the build is stuck"));
      absl::SleepFor(absl::Milliseconds(1));
    }
    return stopwatch.Stop();
  }

  static bool Ready(const BuildEngine& engine) {
    const std::optional<BuildReport> build = engine.Report().build;
    if (build && build->error) Check(absl::InternalError(build->error->message));
    return build && build->phase == "ready";
  }

  // `sql` over `relation` in place of the source, the rows kept as a slice keeps them.
  Cost RunOver(const std::string& relation, const std::string& sql) {
    Check(connection_->Run(absl::StrCat("CREATE OR REPLACE VIEW bid AS FROM ", relation)));
    const Stopwatch stopwatch;
    Check(connection_->Run(absl::StrCat("CREATE OR REPLACE TABLE made AS ", sql)));
    return stopwatch.Stop();
  }

  const int64_t records_;
  std::string directory_;
  MemoryFeed feed_;
  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
  int builds_ = 0;
};

}  // namespace
}  // namespace icepie::slices

namespace icepie::bench {

RunBench AddReslice(CLI::App& command, CommonOptions&) {
  struct ResliceOptions {
    int64_t records = 1000000;
    int rounds = 3;
    int64_t save_every_ms = 0;
  };
  const auto options = std::make_shared<ResliceOptions>();
  command.add_option("--records", options->records)
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--rounds", options->rounds)
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--save-every", options->save_every_ms, "ms; 0: no such builds")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  return [options] {
    slices::Reslice bench(options->records);
    for (const auto& peer : slices::kPeers) {
      bench.Measure(peer, options->rounds);
      if (options->save_every_ms == 0) continue;
      bench.MeasureSaving(peer, options->rounds, absl::Milliseconds(options->save_every_ms));
    }
  };
}

}  // namespace icepie::bench
