// What the Merkle tree costs ingest: durable appends of 1,000 records of 200 bytes by two threads,
// into a core with a tree and one without, in turns, so that both meet the same disk.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "core/base/check.h"
#include "core/core.h"
#include "core/merkle/leaf_entry.h"
#include "core/merkle/tiles.h"
#include "nlohmann/json.hpp"

namespace icepie {
namespace {

constexpr int kThreads = 2;
constexpr int kRounds = 7;
constexpr int kBatches = 100;  // of each thread in a round
constexpr int kBatchRecords = 1000;
constexpr double kGoal = 0.95;

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
  auto core = Core::Open(options);
  ICEPIE_CHECK(core.ok());
  ICEPIE_CHECK((*core)->CreateStream("a", PayloadFormat::kJson).ok());
  return std::move(core).value();
}

// Of the whole process, all its threads.
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct Speed {
  double records_per_second = 0;
  double cpu_ns_per_record = 0;
};

Speed Ingest(Core& core) {
  std::vector<std::thread> threads;
  const absl::Time start = absl::Now();
  const double cpu_start = CpuSeconds();
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&core, t] {
      const std::vector<NewRecord> records = MakeRecords(t);
      for (int i = 0; i < kBatches; ++i) {
        AppendBatch batch;
        batch.records = records;
        ICEPIE_CHECK(core.AppendAndWait(std::move(batch)).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  constexpr double kRecords = kThreads * kBatches * kBatchRecords;
  return {kRecords / absl::ToDoubleSeconds(absl::Now() - start),
          (CpuSeconds() - cpu_start) * 1e9 / kRecords};
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
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

void Print(const std::string& name, double value, const std::string& unit) {
  std::printf("%s\n",
              nlohmann::json{{"name", name}, {"value", value}, {"unit", unit}}.dump().c_str());
}

void Run(const std::string& directory) {
  const std::unique_ptr<Core> with = OpenCore(directory + "/with", true);
  const std::unique_ptr<Core> without = OpenCore(directory + "/without", false);
  std::vector<double> with_rates;
  std::vector<double> without_rates;
  std::vector<double> ratios;
  std::vector<double> cpu;
  std::vector<double> cpu_of_tree;
  for (int round = 0; round < kRounds; ++round) {
    const Speed plain = Ingest(*without);
    const Speed proven = Ingest(*with);
    without_rates.push_back(plain.records_per_second);
    with_rates.push_back(proven.records_per_second);
    ratios.push_back(proven.records_per_second / plain.records_per_second);
    cpu.push_back(plain.cpu_ns_per_record);
    cpu_of_tree.push_back(proven.cpu_ns_per_record - plain.cpu_ns_per_record);
  }
  Print("merkle.ingest.cpu_without", Median(cpu), "ns/record");
  Print("merkle.ingest.cpu_added", Median(cpu_of_tree), "ns/record");
  const auto [caller, sequencer] = HashingTimes();
  Print("merkle.hash.caller", caller, "ns/record");
  Print("merkle.hash.sequencer", sequencer, "ns/record");
  const double ratio = Median(ratios);
  std::printf("%s\n", nlohmann::json{{"name", "merkle.ingest"},
                                     {"value", Median(with_rates)},
                                     {"unit", "records/s"},
                                     {"floor", Median(without_rates)},
                                     {"peer", "the same core without a tree"},
                                     {"ratio", ratio},
                                     {"goal", kGoal},
                                     {"ok", ratio >= kGoal}}
                          .dump()
                          .c_str());
}

}  // namespace
}  // namespace icepie

int main() {
  spdlog::set_level(spdlog::level::warn);  // it writes to the same output
  std::string directory = (std::filesystem::temp_directory_path() / "icepie-bench-XXXXXX").string();
  ICEPIE_CHECK(mkdtemp(directory.data()) != nullptr);
  icepie::Run(directory);
  std::filesystem::remove_all(directory);
  return 0;
}
