// What the Merkle tree costs ingest: durable appends of 1,000 records of 200 bytes by two threads,
// into a core with a tree and one without, in turns, so that both meet the same disk, and every
// second round begins with the other. Only the one whose turn it is is open, until it has nothing
// left to do, and begins when what the other has written is on the disk.
//   merkle.ingest       records/s with the tree; the floor is without
//   merkle.cpu          processor time of the appends, with the tree; the floor is without
//   merkle.cpu_later    … and what comes after their answers: segments and, with the tree, hashing
//                       the stored records again for a checkpoint
//   merkle.hash.caller, .sequencer    of hashing alone, in the appending thread and the sequencer's
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "core/base/check.h"
#include "core/core.h"
#include "core/merkle/leaf_entry.h"
#include "core/merkle/tiles.h"
#include "tests/bench/bench.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/figure.h"

namespace icepie::bench {
namespace {

constexpr int kThreads = 2;
constexpr int kBatchRecords = 1000;
constexpr double kGoal = 0.95;
// Oftener than in the daemon, so that a turn is soon over; with the tree and without.
constexpr absl::Duration kSealerLooks = absl::Milliseconds(50);

struct MerkleOptions {
  int rounds = 7;
  int batches = 100;
};

// Records of about 200 bytes that compress as real ones do.
std::vector<NewRecord> MakeRecords(unsigned seed) {
  std::mt19937 random(seed);
  std::vector<NewRecord> records(kBatchRecords);
  for (NewRecord& record : records) {
    record.stream = "a";
    record.key = "customer-" + std::to_string(random() % 100000);
    record.payload =
        R"({"type":"transfer","id":"tx)" + std::to_string(random()) +
        R"(","at":"2026-11-22T03:11:02.125+01:00","chain":"eth","from":{"wallet":"0x)" +
        std::to_string(random()) + std::to_string(random()) + R"("},"amount":{"value":")" +
        std::to_string(random() % 10000) + R"(.55","currency":"EUR"},"status":"settled"})";
  }
  return records;
}

std::unique_ptr<Core> OpenCore(const std::string& directory, bool merkle_tree) {
  CoreOptions options;
  options.directory = directory;
  options.merkle_tree = merkle_tree;
  options.sealing.look_interval = kSealerLooks;
  options.sealing.age_min = kSealerLooks;
  auto core = Core::Open(options);
  ICEPIE_CHECK(core.ok());
  ICEPIE_CHECK((*core)->CreateStream("a", PayloadFormat::kJson).ok());
  return std::move(core).value();
}

// Nanoseconds a record, of the appending thread and of the sequencer.
std::pair<double, double> HashingTimes() {
  const std::vector<NewRecord> records = MakeRecords(1);
  const Digest stream = Sha256("a");
  constexpr int kRepeat = 200;
  std::vector<PreparedLeaf> leaves;
  const double start = CpuSeconds();
  for (int i = 0; i < kRepeat; ++i) {
    leaves.clear();
    for (const NewRecord& record : records) leaves.emplace_back(1, stream, record, "");
  }
  const double prepared = CpuSeconds();
  TileWriter tree;
  for (int i = 0; i < kRepeat; ++i) {
    for (const PreparedLeaf& leaf : leaves) tree.Append(leaf.Hash(1, tree.size(), tree.size()));
    tree.TakeChanges();
  }
  const double grown = CpuSeconds();
  const double count = static_cast<double>(kRepeat) * kBatchRecords;
  return {(prepared - start) * 1e9 / count, (grown - prepared) * 1e9 / count};
}

struct Costs {
  double records_per_second = 0;
  double cpu_ns = 0;  // of a record, until the last is answered
  double cpu_later_ns = 0;
};

// The seconds that it took.
double AppendAll(Core& core, int batches) {
  static const std::vector<NewRecord> records[kThreads] = {MakeRecords(0), MakeRecords(1)};
  std::vector<std::thread> threads;
  const absl::Time start = absl::Now();
  for (const std::vector<NewRecord>& own : records) {
    threads.emplace_back([&core, &own, batches] {
      for (int i = 0; i < batches; ++i) {
        AppendBatch batch;
        batch.records = own;
        ICEPIE_CHECK(core.AppendAndWait(std::move(batch)).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return absl::ToDoubleSeconds(absl::Now() - start);
}

// Each turn goes on where the core's last one ended.
Costs TakeTurn(const std::string& directory, bool merkle_tree, int batches) {
  const std::unique_ptr<Core> core = OpenCore(directory, merkle_tree);
  AppendAll(*core, 1);  // to warm up
  WaitUntilIdle(4 * kSealerLooks);
  WriteDirtyPages(directory);
  const double records = static_cast<double>(kThreads) * batches * kBatchRecords;
  Costs costs;
  const double begin = CpuSeconds();
  costs.records_per_second = records / AppendAll(*core, batches);
  const double answered = CpuSeconds();
  if (merkle_tree) ICEPIE_CHECK(core->proofs()->GetCheckpoint(0, absl::Minutes(1)).ok());
  WaitUntilIdle(4 * kSealerLooks);
  costs.cpu_ns = (answered - begin) * 1e9 / records;
  costs.cpu_later_ns = (CpuSeconds() - answered) * 1e9 / records;
  return costs;
}

// The rounds' figures, with the tree and without.
struct Samples {
  std::vector<double> with;
  std::vector<double> without;

  void Add(double with_tree, double without_tree) {
    with.push_back(with_tree);
    without.push_back(without_tree);
  }
  void Report(const std::string& name, const std::string& unit, std::optional<Goal> goal) const {
    std::vector<double> ratios;
    for (size_t i = 0; i < with.size(); ++i) ratios.push_back(with[i] / without[i]);
    Print({.name = name,
           .value = Median(with),
           .unit = unit,
           .floor = Median(without),
           .ratio = Median(ratios),
           .goal = goal});
  }
};

void RunMerkle(const MerkleOptions& options) {
  const Scratch scratch;
  Samples rates;
  Samples cpu;
  Samples cpu_later;
  for (int round = 0; round < options.rounds; ++round) {
    Costs costs[2];  // without, with
    for (const bool with : {round % 2 == 1, round % 2 == 0}) {
      costs[with] = TakeTurn(scratch.path() + (with ? "/with" : "/without"), with, options.batches);
    }
    rates.Add(costs[1].records_per_second, costs[0].records_per_second);
    cpu.Add(costs[1].cpu_ns, costs[0].cpu_ns);
    cpu_later.Add(costs[1].cpu_later_ns, costs[0].cpu_later_ns);
  }
  rates.Report("merkle.ingest", "records/s", RatioAtLeast(kGoal));
  cpu.Report("merkle.cpu", "ns/record", std::nullopt);
  cpu_later.Report("merkle.cpu_later", "ns/record", std::nullopt);
  const auto [caller, sequencer] = HashingTimes();
  Print({.name = "merkle.hash.caller", .value = caller, .unit = "ns/record"});
  Print({.name = "merkle.hash.sequencer", .value = sequencer, .unit = "ns/record"});
}

}  // namespace

RunBench AddMerkle(CLI::App& command, CommonOptions&) {
  const auto options = std::make_shared<MerkleOptions>();
  command.add_option("--rounds", options->rounds, "in which both have their turn")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));
  command.add_option("--batches", options->batches, "of 1,000 records, by each thread in a turn")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  return [options] { RunMerkle(*options); };
}

}  // namespace icepie::bench
