// Durable ingest of the real daemon beside its floors and peers:
//   ingest.<kind>.b<records of a call>.c<clients>   records/s; .p50, .p99 of a call
//   ingest.<kind>.b1.c64.streamed                   the same 64 in flight in 4 streams
//   ingest.….vs_fdatasync    p50 of a call with one record, to one fdatasync of as many bytes
//   ingest.….vs_echo, .vs_db_bench                  to these floors
//   ingest.….vs_redis, .vs_postgres_insert|_copy    to these peers
// Everything is measured in turn in every round, so that a slow minute of the disk is a slow minute
// of all, forwards and backwards by turns. A ratio is the median of the rounds' ratios, `value`,
// `floor` and `peer` are medians of their own.
//
// The daemon is stopped (SIGSTOP) while others are measured: what it has put off (sealing,
// checkpoints) it does in its own turns, and at nobody else's expense. The others have nothing left
// to do after theirs. Dirty pages are written before each measurement.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "tests/bench/append_load.h"
#include "tests/bench/bench.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/figure.h"
#include "tests/bench/ingest_peers.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

const std::vector<std::string> kPeers = {"db_bench", "redis", "postgres"};
constexpr int kManyClients = 64;
constexpr int kStreams = 4;  // a connection each; the daemon takes 16 batches of one at a time

struct IngestOptions {
  double seconds = 2;
  int rounds = 3;
  std::vector<int> batches = {1, 10, 100, 1000};
  std::vector<int> clients = {1, 16, 64};
  std::vector<std::string> kinds = {"transfer", "nexmark"};
  std::vector<std::string> peers = kPeers;
};

struct Point {
  RecordKind kind = RecordKind::kTransfer;
  int batch = 1;
  int clients = 1;
  bool streamed = false;  // as many in flight, in streams

  std::string name() const {
    return absl::StrCat("ingest.", NameOf(kind), ".b", batch, ".c", clients,
                        streamed ? ".streamed" : "");
  }
};

// The daemon ends with this process also when a signal ends that: stopped, it would not notice.
constexpr int kEnds[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGABRT};
volatile pid_t daemon_pid = 0;
void EndWithDaemon(int signal) {
  kill(daemon_pid, SIGKILL);
  std::signal(signal, SIG_DFL);
  raise(signal);
}

class IngestBench {
 public:
  explicit IngestBench(const IngestOptions& options)
      : options_(options),
        echo_({std::filesystem::read_symlink("/proc/self/exe"), "echo-server"},
              scratch_.path() + "/echo.err") {
    echo_address_ = absl::StrCat("127.0.0.1:", echo_.ReadLine());
    daemon_.SetSettings("logging: {level: warn}\n");
    daemon_.Start();
    for (const RecordKind kind : {RecordKind::kTransfer, RecordKind::kNexmark}) {
      for (const std::string& stream : StreamsOf(kind)) {
        ICEPIE_CHECK(daemon_.CreateStream(stream).ok());
      }
    }
    daemon_pid = daemon_.pid();
    for (const int signal : kEnds) std::signal(signal, EndWithDaemon);
    if (Wants("db_bench")) db_bench_ = DbBench::Start(scratch_.path());
    if (Wants("redis")) redis_ = Redis::Start(scratch_.path());
    if (Wants("postgres")) postgres_ = Postgres::Start(scratch_.path());
    kill(daemon_.pid(), SIGSTOP);
  }
  ~IngestBench() {
    for (const int signal : kEnds) std::signal(signal, SIG_DFL);
  }

  void Run() {
    const std::vector<Point> points = Points();
    for (round_ = 1; round_ <= options_.rounds; ++round_) {
      for (const Point& point : points) Measure(point);
    }
    for (const Point& point : points) Report(point);
  }

 private:
  // What is measured of a point: the daemon and what stands beside it.
  struct Subject {
    std::string name;
    std::function<std::optional<double>()> measure;
  };

  bool Wants(const std::string& peer) const {
    return std::count(options_.peers.begin(), options_.peers.end(), peer) > 0;
  }

  std::vector<Point> Points() const {
    std::vector<Point> points;
    for (const RecordKind kind : {RecordKind::kTransfer, RecordKind::kNexmark}) {
      const auto& kinds = options_.kinds;
      if (std::count(kinds.begin(), kinds.end(), NameOf(kind)) == 0) continue;
      for (const int clients : options_.clients) {
        for (const int batch : options_.batches) {
          points.push_back({kind, batch, clients});
          if (batch == 1 && clients == kManyClients) points.push_back({kind, batch, clients, true});
        }
      }
    }
    return points;
  }

  void Measure(const Point& point) {
    std::vector<Subject> subjects = Subjects(point);
    if (round_ % 2 == 0) std::reverse(subjects.begin(), subjects.end());
    for (const Subject& subject : subjects) {
      std::fprintf(stderr, "round %d/%d  %-26s %-16s", round_, options_.rounds,
                   point.name().c_str(), subject.name.c_str());
      WriteDirtyPages(scratch_.path());
      const std::optional<double> value = subject.measure();
      Keep(point, subject.name, value);
      std::fprintf(stderr, value ? "%14.3f\n" : "  not measured\n", value.value_or(0));
    }
  }

  std::vector<Subject> Subjects(const Point& point) {
    std::vector<Subject> subjects;
    subjects.push_back({"ours", [=, this] {
                          Load load = LoadOf(point, daemon_.grpc_address());
                          load.on_prepared = [this] { kill(daemon_.pid(), SIGCONT); };
                          const LoadResult result = RunLoad(load);
                          kill(daemon_.pid(), SIGSTOP);
                          Keep(point, "p50", result.p50_ms);
                          Keep(point, "p99", result.p99_ms);
                          return result.records_per_second;
                        }});
    if (point.batch == 1) {  // next to ours: the disk changes its mind within seconds
      const auto bytes = std::lround(MeanPayloadBytes(point.kind));
      subjects.push_back({"fdatasync", [=, this] {
                            return FdatasyncP50Ms(scratch_.path(), bytes, options_.seconds / 2);
                          }});
    }
    subjects.push_back(
        {"echo", [=, this] { return RunLoad(LoadOf(point, echo_address_)).records_per_second; }});
    const PeerLoad load{point.kind, point.clients, point.batch, options_.seconds};
    if (db_bench_) subjects.push_back({"db_bench", [=, this] { return db_bench_->Fill(load); }});
    if (redis_) {
      subjects.push_back({"redis", [=, this] { return redis_->Add(load); }});
    }
    if (postgres_ && point.batch == 1) {
      subjects.push_back({"postgres_insert", [=, this] { return postgres_->Insert(load); }});
    } else if (postgres_) {
      subjects.push_back({"postgres_copy", [=, this] { return postgres_->Copy(load); }});
    }
    return subjects;
  }

  Load LoadOf(const Point& point, const std::string& address) const {
    Load load;
    load.address = address;
    load.kind = point.kind;
    load.clients = point.streamed ? kStreams : point.clients;
    load.in_flight = point.streamed ? point.clients / kStreams : 0;
    load.batch = point.batch;
    load.seconds = options_.seconds;
    return load;
  }

  void Keep(const Point& point, const std::string& what, std::optional<double> value) {
    samples_[point.name()][what][round_] = value;
  }

  // Of the rounds in which it was measured.
  std::optional<double> MedianOf(const Point& point, const std::string& what) const {
    std::vector<double> values;
    const auto& of_point = samples_.at(point.name());
    const auto rounds = of_point.find(what);
    if (rounds == of_point.end()) return std::nullopt;
    for (const auto& [round, value] : rounds->second) {
      if (value) values.push_back(*value);
    }
    return Median(std::move(values));
  }

  std::optional<double> MedianRatio(const Point& point, const std::string& what,
                                    const std::string& other) const {
    std::vector<double> ratios;
    const auto& of_point = samples_.at(point.name());
    const auto others = of_point.find(other);
    if (others == of_point.end()) return std::nullopt;
    for (const auto& [round, base] : others->second) {
      const std::optional<double> value = of_point.at(what).at(round);
      if (value && base && *base > 0) ratios.push_back(*value / *base);
    }
    return Median(std::move(ratios));
  }

  Figure Rate(const Point& point, const std::string& other) const {
    return {.name = absl::StrCat(point.name(), ".vs_", other),
            .value = MedianOf(point, "ours"),
            .unit = "records/s",
            .ratio = MedianRatio(point, "ours", other)};
  }
  void PrintFloor(const Point& point, const std::string& other, std::optional<Goal> goal) const {
    Figure figure = Rate(point, other);
    figure.floor = MedianOf(point, other);
    figure.goal = goal;
    Print(figure);
  }
  void PrintPeer(const Point& point, const std::string& other, std::optional<Goal> goal) const {
    Figure figure = Rate(point, other);
    figure.peer = MedianOf(point, other);
    figure.goal = goal;
    Print(figure);
  }

  // DESIGN.md 13 has goals for batches of 1,000, and for single records with 64 in flight.
  void Report(const Point& point) const {
    const bool large = point.batch == 1000;
    const bool single = point.batch == 1;
    const bool many_singles = single && point.clients == kManyClients;
    const auto goal = [](bool there_is_one, double limit) {
      return there_is_one ? std::optional(RatioAtLeast(limit)) : std::nullopt;
    };
    Print({.name = point.name(), .value = MedianOf(point, "ours"), .unit = "records/s"});
    for (const char* share : {"p50", "p99"}) {
      Print({.name = absl::StrCat(point.name(), ".", share),
             .value = MedianOf(point, share),
             .unit = "ms"});
    }
    if (single) {
      Print({.name = point.name() + ".vs_fdatasync",
             .value = MedianOf(point, "p50"),
             .unit = "ms",
             .floor = MedianOf(point, "fdatasync"),
             .ratio = MedianRatio(point, "p50", "fdatasync")});
    }
    PrintFloor(point, "echo", goal(many_singles, 0.8));
    if (Wants("db_bench")) PrintFloor(point, "db_bench", goal(large, 0.9));
    if (Wants("redis")) PrintPeer(point, "redis", goal(large, 3));
    if (!Wants("postgres")) return;
    if (single) {
      PrintPeer(point, "postgres_insert", goal(many_singles, 2));
    } else {
      PrintPeer(point, "postgres_copy", std::nullopt);
    }
  }

  const IngestOptions options_;
  Scratch scratch_;
  Background echo_;
  std::string echo_address_;
  testing::DaemonFixture daemon_;
  std::unique_ptr<DbBench> db_bench_;
  std::unique_ptr<Redis> redis_;
  std::unique_ptr<Postgres> postgres_;
  int round_ = 0;
  // By point, subject and round.
  std::map<std::string, std::map<std::string, std::map<int, std::optional<double>>>> samples_;
};

}  // namespace

RunBench AddIngest(CLI::App& command, CommonOptions& common) {
  const auto options = std::make_shared<IngestOptions>();
  command
      .add_option("--seconds", options->seconds,
                  "of each measurement, in each round and after warming up; db_bench and "
                  "PostgreSQL take whole ones")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 600.0));
  command.add_option("--rounds", options->rounds, "in which everything has its turn")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));
  command.add_option("--batches", options->batches, "records of a call")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command
      .add_option("--clients", options->clients,
                  "each sends its next call when the last is "
                  "answered")
      ->capture_default_str()
      ->check(CLI::Range(1, 90));
  command.add_option("--kinds", options->kinds, "transfers of 200 bytes, events of Nexmark")
      ->capture_default_str()
      ->check(CLI::IsMember({"transfer", "nexmark"}));
  command.add_option("--peers", options->peers, "which of them, when they are not all wanted")
      ->capture_default_str()
      ->check(CLI::IsMember(kPeers));
  command.add_flag("--no-peers", common.no_peers, "without any of them");
  return [options, &common] {
    if (common.no_peers) options->peers.clear();
    IngestBench(*options).Run();
  };
}

RunBench AddEchoServer(CLI::App&) { return ServeEcho; }

}  // namespace icepie::bench
