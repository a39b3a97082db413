// Slices in the live engine, over a feed in memory: Nexmark queries and wallet clustering.
//   slices.<query>.backfill   records/s from nothing to the head, the reading of JSON included
//   slices.<query>.increment  records/s of one batch at a time, from its append until it is in the
//                             rows; the floor is running the whole SQL again in plain DuckDB, over
//                             tables that are read already, for each batch
//   slices.<query>.vs_postgres_triggers, .vs_postgres_refresh
//                             the same; the peer is PostgreSQL, which keeps the same batches fresh
//                             (slice_peers.h), each batch committed where ours stay in memory. It
//                             must have as many rows
//   slices.<query>.memory     what the engine took
// Standard error says how each slice is kept fresh.
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "slices/plan/components.h"
#include "slices/reading/source_scan.h"
#include "slices/role/live_engine.h"
#include "tests/bench/bench.h"
#include "tests/bench/figure.h"
#include "tests/bench/slice_bench.h"
#include "tests/bench/slice_peers.h"
#include "tests/slices/memory_feed.h"

namespace icepie::slices {
namespace {

constexpr int64_t kBlock = 2000;  // transfers
constexpr int64_t kMemoryBytes = int64_t{2} << 30;
constexpr absl::Duration kPatience = absl::Minutes(10);

constexpr char kWallets[] = R"(
domain: compliance
sources:
  transfers: {columns: {sender: VARCHAR, receiver: VARCHAR}}
slices:
  wallet_clusters:
    sql: >
      SELECT c.node AS wallet, c.cluster FROM (SELECT unnest(components(sender, receiver)) AS c
      FROM transfers WHERE sender <> receiver)
    key: [wallet]
limits: {max_result_rows: 10000000}
)";

struct Load {
  std::string file;  // the domain's
  RecordBlocks before;
  std::vector<RecordBlocks> batches;
};

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  file >> size >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

// One slice in an engine of its own.
class SliceBench {
 public:
  SliceBench(const Load& load, std::string slice) : load_(load), slice_(std::move(slice)) {
    std::string pattern = std::filesystem::temp_directory_path() / "icepie-bench-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    plan_ = Checked(PlanDomain(Checked(ParseDomain(load.file, "bench.yaml"))));
  }
  ~SliceBench() {
    engine_.reset();
    std::filesystem::remove_all(directory_);
  }

  // Records a second of the batches, and the rows that there are then.
  PostgresSlices::Figure Run(const std::string& name) {
    feed_.set_blocks_per_piece(8);
    Append(load_.before);
    const int64_t resident = ResidentBytes();
    std::fprintf(stderr, "%s: %s\n", name.c_str(),
                 std::string(StrategyName(plan_.Find(slice_)->strategy)).c_str());
    const absl::Duration backfill = Start();
    bench::Print(
        {.name = name + ".backfill", .value = Rate(Input(), backfill), .unit = "records/s"});
    absl::Duration batches;
    const int64_t before = Input();
    for (const RecordBlocks& batch : load_.batches) batches += TimeOf(batch);
    const absl::Duration rerun = Rerun() * static_cast<double>(load_.batches.size());
    bench::Print({.name = name + ".increment",
                  .value = Rate(Input() - before, batches),
                  .unit = "records/s",
                  .floor = Rate(Input() - before, rerun)});
    bench::Print({.name = name + ".memory",
                  .value = static_cast<double>(ResidentBytes() - resident) / (1 << 20),
                  .unit = "MiB"});
    return {Rate(Input() - before, batches), CountRows()};
  }

 private:
  void Append(const RecordBlocks& blocks) {
    for (const RecordBlock& block : blocks) {
      feed_.Append(block.stream, block.payloads);
      appended_[block.stream] += static_cast<int64_t>(block.payloads.size());
    }
  }

  absl::Duration Start() {
    EngineOptions options;
    options.domain = plan_.definition.domain;
    options.directory = directory_;
    options.memory_bytes = kMemoryBytes;
    options.snapshot_interval = absl::Hours(1);
    options.recompute_limit = kPatience;
    options.on_fatal = [](const std::string& why) { Check(absl::InternalError(why)); };
    engine_ = Checked(LiveEngine::Start(options, feed_));
    Assignment assignment;
    assignment.domain = plan_.definition.domain;
    assignment.epoch = 1;
    AddGeneration(slice_, assignment);
    const absl::Time begin = absl::Now();
    engine_->Configure(std::move(assignment));
    WaitForHead();
    return absl::Now() - begin;
  }

  // The slice and what it reads.
  void AddGeneration(const std::string& slice, Assignment& assignment) {
    for (const std::string& upstream : plan_.Find(slice)->upstream) {
      AddGeneration(upstream, assignment);
    }
    GenerationSpec spec;
    spec.slice = slice;
    spec.number = 1;
    spec.file = load_.file;
    spec.serving = true;
    assignment.generations.push_back(std::move(spec));
  }

  SliceReport Report() const {
    for (SliceReport& report : engine_->Report().slices) {
      if (report.info.slice == slice_) return report;
    }
    return {};
  }

  void WaitForHead() {
    const absl::Time deadline = absl::Now() + kPatience;
    const auto there = [&] {
      const SliceReport report = Report();
      const bool answers =
          report.state == SliceState::kRunning || report.state == SliceState::kLagging;
      return answers && report.progress.applied_position >= feed_.head();
    };
    while (!there()) {
      if (absl::Now() > deadline) Check(absl::DeadlineExceededError(slice_ + " is stuck"));
      absl::SleepFor(absl::Microseconds(200));
    }
  }

  // Recomputes are asked for: their share of the time is not what is measured.
  absl::Duration TimeOf(const RecordBlocks& batch) {
    const absl::Time begin = absl::Now();
    Append(batch);
    engine_->Refresh(slice_, 0, begin + kPatience, [](const auto&) {});
    WaitForHead();
    const absl::Duration took = absl::Now() - begin;
    // The rest that the engine takes after a batch belongs to this one.
    absl::SleepFor(std::min(took * 4, absl::Seconds(2)));
    return took;
  }

  int64_t CountRows() const {
    Question question;
    question.text = absl::StrCat("SELECT count(*) AS n FROM ", QuoteIdentifier(slice_));
    std::promise<absl::StatusOr<Answer>> promise;
    engine_->Ask(question, [&](auto answer) { promise.set_value(std::move(answer)); });
    const Answer answer = Checked(promise.get_future().get());
    return nlohmann::json::parse(answer.rows.body).at(0).at("n").get<int64_t>();
  }

  // Of the sources that the slice and its upstream read.
  int64_t Input() const {
    int64_t records = 0;
    for (const std::string& stream : Streams(slice_)) {
      const auto count = appended_.find(stream);
      if (count != appended_.end()) records += count->second;
    }
    return records;
  }

  std::set<std::string> Streams(const std::string& slice) const {
    std::set<std::string> streams;
    const SlicePlan& plan = *plan_.Find(slice);
    for (const SourceUse& use : plan.sources) {
      streams.insert(plan_.definition.FindSource(use.source)->stream);
    }
    for (const std::string& upstream : plan.upstream) streams.merge(Streams(upstream));
    return streams;
  }

  // The SQL of the slice and its upstream over everything, run by DuckDB alone.
  absl::Duration Rerun() {
    const auto database = Checked(DuckDatabase::OpenInMemory({{"threads", "1"}}));
    const auto connection = Checked(DuckConnection::Connect(*database));
    Check(RegisterComponents(*connection, kMemoryBytes));
    for (const SourceDef& source : plan_.definition.sources) LoadTable(*connection, source);
    const absl::Time begin = absl::Now();
    RunSql(*connection, slice_);
    return absl::Now() - begin;
  }

  void LoadTable(DuckConnection& connection, const SourceDef& source) {
    std::vector<std::string> columns;
    for (const ColumnDef& column : source.columns) columns.push_back(column.name);
    const auto input = Checked(SourceInput::Create(connection, source, columns));
    input->SetRecords(FeedSupply(feed_, source.stream, feed_.head()), {});
    const std::string name = QuoteIdentifier(source.name);
    Check(connection.Run(absl::StrCat("CREATE TABLE loaded AS FROM ", name)));
    Check(connection.Run(absl::StrCat("DROP VIEW ", name)));
    Check(connection.Run(absl::StrCat("ALTER TABLE loaded RENAME TO ", name)));
  }

  void RunSql(DuckConnection& connection, const std::string& slice) {
    for (const std::string& upstream : plan_.Find(slice)->upstream) RunSql(connection, upstream);
    Check(connection.Run(absl::StrCat("CREATE OR REPLACE TABLE ", QuoteIdentifier(slice), " AS ",
                                      plan_.definition.FindSlice(slice)->sql)));
  }

  static double Rate(int64_t records, absl::Duration took) {
    return static_cast<double>(records) / absl::ToDoubleSeconds(took);
  }

  const Load& load_;
  const std::string slice_;
  std::string directory_;
  DomainPlan plan_;
  MemoryFeed feed_;
  std::map<std::string, int64_t> appended_;  // records by stream
  std::unique_ptr<LiveEngine> engine_;
};

Load Nexmark(int64_t events, int batches, int64_t batch) {
  NexmarkGenerator generator(20261126);
  Load load{NexmarkDomain(), NexmarkBlocks(generator, events), {}};
  for (int i = 0; i < batches; ++i) load.batches.push_back(NexmarkBlocks(generator, batch));
  return load;
}

// Transfers between wallets of small neighbourhoods, and now and then between two of them.
RecordBlocks Transfers(std::mt19937_64& random, int64_t count, int64_t wallets) {
  RecordBlocks blocks;
  const auto below = [&](int64_t end) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(end));
  };
  for (int64_t done = 0; done < count; done += kBlock) {
    RecordBlock block{"transfers", {}};
    for (int64_t i = 0; i < std::min(kBlock, count - done); ++i) {
      constexpr int64_t kNeighbours = 8;
      const int64_t from = below(wallets);
      const int64_t to =
          below(20) == 0 ? below(wallets) : from / kNeighbours * kNeighbours + below(kNeighbours);
      block.payloads.push_back(absl::StrCat(
          R"({"sender":"0x)", absl::Hex(from * 2654435761, absl::kZeroPad12), R"(","receiver":"0x)",
          absl::Hex(to * 2654435761, absl::kZeroPad12), R"("})"));
    }
    blocks.push_back(std::move(block));
  }
  return blocks;
}

Load Wallets(int64_t edges, int batches, int64_t batch) {
  std::mt19937_64 random(20261126);
  Load load{kWallets, Transfers(random, edges, edges), {}};
  for (int i = 0; i < batches; ++i) load.batches.push_back(Transfers(random, batch, edges));
  return load;
}

// Without a `postgres` the figures are null.
void RunPeer(PostgresSlices* postgres, const Load& load, const std::string& query,
             const PostgresSlices::Figure& ours) {
  for (const auto& [name, way] : {std::pair{"triggers", PostgresSlices::Way::kTriggers},
                                  std::pair{"refresh", PostgresSlices::Way::kRefresh}}) {
    if (!PostgresSlices::Knows(query, way)) continue;
    bench::Figure figure{.name = absl::StrCat("slices.", query, ".vs_postgres_", name),
                         .value = ours.rate,
                         .unit = "records/s"};
    const auto theirs =
        postgres != nullptr ? postgres->Run(query, way, load.batches) : std::nullopt;
    if (theirs && theirs->rows != ours.rows) {
      Check(absl::InternalError(absl::StrCat(query, " has ", ours.rows, " rows, in PostgreSQL by ",
                                             name, " ", theirs->rows)));
    }
    if (theirs) figure.peer = theirs->rate;
    bench::Print(figure);
  }
}

struct SlicesOptions {
  int64_t events = 500000;
  int64_t edges = 1000000;
  std::string only;
};

void RunSlices(const SlicesOptions& options, bool no_peers) {
  const std::string& only = options.only;
  const std::vector<std::string> queries = {"q0",  "q4",  "q5",  "q7",  "q9", "q15",
                                            "q16", "q17", "q18", "q19", "q20"};
  const Load nexmark = Nexmark(options.events, 10, 5000);
  std::unique_ptr<PostgresSlices> postgres;
  bool started = false;
  for (const std::string& query : queries) {
    if (!only.empty() && only != query) continue;
    const auto ours = SliceBench(nexmark, query).Run("slices." + query);
    if (no_peers) continue;
    if (!std::exchange(started, true)) postgres = PostgresSlices::Start(nexmark.before);
    RunPeer(postgres.get(), nexmark, query, ours);
  }
  if (!only.empty() && only != "wallet_clusters") return;
  const Load wallets = Wallets(options.edges, 10, 1000);
  SliceBench(wallets, "wallet_clusters").Run("slices.wallet_clusters");
}

}  // namespace
}  // namespace icepie::slices

namespace icepie::bench {

RunBench AddSlices(CLI::App& command, CommonOptions& common) {
  const auto options = std::make_shared<slices::SlicesOptions>();
  command.add_option("--events", options->events, "of Nexmark, before the batches")
      ->capture_default_str();
  command.add_option("--edges", options->edges, "transfers before the batches")
      ->capture_default_str();
  command.add_option("--only", options->only, "one query: q0, …, q20, wallet_clusters");
  command.add_flag("--no-peers", common.no_peers, "without PostgreSQL");
  return [options, &common] { slices::RunSlices(*options, common.no_peers); };
}

}  // namespace icepie::bench
