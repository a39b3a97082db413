// How long icepied takes from its start until it answers, after a SIGKILL: with write-ahead logs as
// large as they get (RocksDB writes out what is in memory when they reach 128 MiB), with as many
// request ids as are remembered, one in ten of a producer of its own, and with an empty core, which
// is the floor. A process of its own fills each core and is killed; every start is of a copy of
// what it left, because a start writes out what it has read from the logs.
//   restart.logs, restart.ids                        seconds, to within the ten
//                                                    milliseconds between two looks
//   restart.logs.vs_empty, restart.ids.vs_empty      the same; the floor is the empty core
//   restart.logs.size, restart.ids.size              of the logs that were there to be read
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/time/clock.h"
#include "core/base/check.h"
#include "core/core.h"
#include "tests/bench/bench.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/bench_records.h"
#include "tests/bench/figure.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

namespace v1 = icepie::v1;

constexpr double kGoalSeconds = 5;
constexpr char kStream[] = "bench";
constexpr int kBatchRecords = 1000;
constexpr int kIdsAtOnce = 5000;
constexpr int kIdsAProducer = 10;

struct RestartOptions {
  int rounds = 5;
  int log_mib = 120;
  int ids = 1000000;
};

struct Filling {
  std::string directory;
  int log_mib = 0;
  int ids = 0;
};

double LogMib(const std::string& core) {
  uintmax_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(core + "/rocksdb")) {
    std::error_code gone;  // or written out and removed meanwhile
    const uintmax_t size = file.path().extension() == ".log" ? file.file_size(gone) : 0;
    if (!gone) bytes += size;
  }
  return static_cast<double>(bytes) / (1 << 20);
}

void FillLogs(Core& core, const Filling& filling) {
  const std::vector<BenchRecord>& records = Records(RecordKind::kTransfer);
  size_t next = 0;
  while (LogMib(filling.directory) < filling.log_mib) {
    AppendBatch batch;
    for (int i = 0; i < kBatchRecords; ++i, next = (next + 1) % records.size()) {
      batch.records.push_back({.stream = kStream, .payload = records[next].payload});
    }
    ICEPIE_CHECK(core.AppendAndWait(std::move(batch)).ok());
  }
}

std::string IdOf(int number) { return absl::StrCat("7d0f6c52-3b1e-4a53-9f00-", number); }

std::string PayloadOf(int number) { return absl::StrCat("{\"number\":", number, "}"); }

void AppendWithIds(Core& core, int from, int end) {
  absl::BlockingCounter unanswered(end - from);
  for (int i = from; i < end; ++i) {
    AppendIdentity identity;
    (i % kIdsAProducer == 0 ? identity.producer_id : identity.request_id) = IdOf(i);
    AppendBatch batch;
    batch.records.push_back({.stream = kStream, .payload = PayloadOf(i)});
    batch.identity = std::move(identity);
    core.Append(std::move(batch), [&](const absl::StatusOr<AppendResult>& result) {
      ICEPIE_CHECK(result.ok());
      unanswered.DecrementCount();
    });
  }
  unanswered.Wait();
}

void Fill(const Filling& filling) {
  CoreOptions options;
  options.directory = filling.directory;
  const auto core = Core::Open(options);
  ICEPIE_CHECK(core.ok() && (*core)->CreateStream(kStream, PayloadFormat::kJson).ok());
  if (filling.log_mib > 0) FillLogs(**core, filling);
  for (int from = 0; from < filling.ids; from += kIdsAtOnce) {
    AppendWithIds(**core, from, std::min(from + kIdsAtOnce, filling.ids));
  }
  std::printf("filled\n");
  std::fflush(stdout);
  absl::SleepFor(absl::InfiniteDuration());  // until it is killed
}

struct Kind {
  std::string name;
  int log_mib = 0;
  int ids = 0;
  std::string core = "";  // what was left of it
  std::vector<double> seconds = {};
};

void FillAndKill(const Kind& kind) {
  Background filler({std::filesystem::read_symlink("/proc/self/exe").string(), "fill-core",
                     kind.core, absl::StrCat(kind.log_mib), absl::StrCat(kind.ids)},
                    kind.core + ".errors");
  ICEPIE_CHECK(filler.ReadLine() == "filled");
}

// A batch of the last id gets its first answer again.
void ExpectRemembered(const testing::DaemonFixture& daemon, int ids) {
  const int last = ids - 1 - ((ids - 1) % kIdsAProducer == 0 ? 1 : 0);
  if (last <= 0) return;
  v1::AppendRecordsRequest request;
  v1::AppendRecordsResponse response;
  request.set_request_id(IdOf(last));
  request.add_records()->set_stream(kStream);
  request.mutable_records(0)->set_payload(PayloadOf(last));
  ICEPIE_CHECK(daemon.Core()
                   ->AppendRecords(testing::Within(absl::Minutes(1)).get(), request, &response)
                   .ok());
  ICEPIE_CHECK(response.replayed());
}

double SecondsToStart(const Kind& kind) {
  testing::DaemonFixture daemon;
  daemon.SetSettings("logging: {level: warn}\n");
  std::filesystem::create_directories(daemon.data_directory());
  std::filesystem::copy(kind.core, daemon.data_directory() + "/core",
                        std::filesystem::copy_options::recursive);
  WriteDirtyPages(daemon.data_directory());
  const absl::Time begin = absl::Now();
  daemon.Start();
  const absl::Time ready = absl::Now();
  ICEPIE_CHECK(daemon.pid() > 0);
  ExpectRemembered(daemon, kind.ids);
  return absl::ToDoubleSeconds(ready - begin);
}

void Report(const Kind& kind, const Kind& empty) {
  const std::string name = absl::StrCat("restart.", kind.name);
  std::vector<double> ratios;
  for (size_t i = 0; i < kind.seconds.size(); ++i) {
    ratios.push_back(kind.seconds[i] / empty.seconds[i]);
  }
  Print({.name = name,
         .value = Median(kind.seconds),
         .unit = "s",
         .goal = ValueAtMost(kGoalSeconds)});
  Print({.name = name + ".vs_empty",
         .value = Median(kind.seconds),
         .unit = "s",
         .floor = Median(empty.seconds),
         .ratio = Median(ratios)});
  Print({.name = name + ".size", .value = LogMib(kind.core), .unit = "MiB"});
}

void RunRestart(const RestartOptions& options) {
  const Scratch scratch;
  Kind kinds[] = {{"empty"}, {"logs", options.log_mib, 0}, {"ids", 0, options.ids}};
  for (Kind& kind : kinds) {
    kind.core = absl::StrCat(scratch.path(), "/", kind.name);
    FillAndKill(kind);
  }
  for (int round = 0; round < options.rounds; ++round) {
    for (Kind& kind : kinds) kind.seconds.push_back(SecondsToStart(kind));
  }
  Report(kinds[1], kinds[0]);
  Report(kinds[2], kinds[0]);
}

}  // namespace

RunBench AddRestart(CLI::App& command, CommonOptions&) {
  const auto options = std::make_shared<RestartOptions>();
  command.add_option("--rounds", options->rounds, "in which each core is started once")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));
  command.add_option("--log-mib", options->log_mib, "of write-ahead logs")
      ->capture_default_str()
      ->check(CLI::Range(1, 120));
  command.add_option("--ids", options->ids, "that are remembered")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  return [options] { RunRestart(*options); };
}

RunBench AddFillCore(CLI::App& command) {
  const auto filling = std::make_shared<Filling>();
  command.add_option("directory", filling->directory)->required();
  command.add_option("log_mib", filling->log_mib)->required();
  command.add_option("ids", filling->ids)->required();
  return [filling] { Fill(*filling); };
}

}  // namespace icepie::bench
