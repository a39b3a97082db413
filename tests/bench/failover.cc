// What kill -9 of a live worker costs under load: failed reads, the time until the standby answers,
// and the time until answers are fresh again. The peer is PostgreSQL when one of its backends is
// killed.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "tests/bench/bench.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/figure.h"
#include "tests/bench/ingest_peers.h"
#include "tests/bench/reader_load.h"
#include "tests/bench/sales_domain.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

namespace v1 = icepie::v1;

constexpr char kQuestion[] = "SELECT sales, total FROM by_item WHERE item = 4711";
constexpr int kJudgedRows = 1000000;  // of larger states the times are only reported
constexpr int kPeerKills = 5;         // on a busy disk each recovery of PostgreSQL takes long
constexpr absl::Duration kPatience = absl::Seconds(60);
// Between kills, so that each is one of a healthy domain.
constexpr absl::Duration kRest = absl::Milliseconds(700);

struct FailoverOptions {
  int kills = 50;
  std::vector<int> rows = {100000, 1000000};
};

void Sleep(absl::Duration how_long) {
  std::this_thread::sleep_for(absl::ToChronoMicroseconds(how_long));
}

std::string SizeName(int rows) {
  return rows % 1000000 == 0 ? absl::StrCat(rows / 1000000, "m") : absl::StrCat(rows / 1000, "k");
}

class FailoverBench {
 public:
  FailoverBench(const FailoverOptions& options, int rows) : options_(options), rows_(rows) {
    daemon_.SetSettings("logging: {level: warn}\n");
    daemon_.Start();
    Fill();
  }

  void Run() {
    ReaderOptions reading;
    reading.address = daemon_.grpc_address();
    reading.domain = "bench";
    reading.sql = kQuestion;
    ReaderLoad readers(reading);
    std::thread writer([this] { Write(); });
    Sleep(kRest);
    const size_t calm = readers.count();
    for (int i = 0; i < options_.kills; ++i) KillOnce(readers);
    stopping_ = true;
    writer.join();
    readers.Stop();
    Report(readers.Samples(), calm);
  }

  std::optional<double> standby_p50() const { return Quantile(standby_ms_, 0.5); }

 private:
  void Fill() {
    const int64_t end = ApplySalesDomain(daemon_, rows_);
    ICEPIE_CHECK(testing::Eventually(
        [&] { return daemon_.GetSlice("bench.by_item").standby_position() >= end; },
        absl::Minutes(3) + rows_ * absl::Microseconds(60)));
  }

  // A hundred records a second, so that there is always something to catch up with.
  void Write() {
    for (int64_t i = 0; !stopping_; ++i) {
      const auto end = daemon_.Append("sales", {Sale(i % rows_, i % 7)});
      ICEPIE_CHECK(end.ok());
      acknowledged_ = *end;
      Sleep(absl::Milliseconds(10));
    }
  }

  void KillOnce(const ReaderLoad& readers) {
    const auto pid = static_cast<pid_t>(daemon_.Worker("bench", "live").pid());
    ICEPIE_CHECK(pid > 0);
    const int64_t wanted = acknowledged_;
    const size_t before = readers.count();
    const absl::Time killed = absl::Now();
    kill(pid, SIGKILL);
    double standby = -1;
    double fresh = -1;
    const auto look = [&] {
      for (const ReadSample& sample : readers.Samples(before)) {
        if (sample.end < killed || !sample.error.empty()) continue;
        const double ms = absl::ToDoubleMilliseconds(sample.end - killed);
        if (!sample.live && standby < 0) standby = ms;
        // A live answer that began before the kill may still come.
        const bool after = sample.live && sample.begin > killed && standby >= 0;
        if (after && sample.applied_position >= wanted && fresh < 0) fresh = ms;
      }
      return fresh >= 0;
    };
    ICEPIE_CHECK(testing::Eventually(look, kPatience));
    standby_ms_.push_back(standby);
    fresh_ms_.push_back(fresh);
    Forgive();
    Sleep(kRest);
  }

  // Ten failures in ten minutes suspend a worker: these were ours.
  void Forgive() {
    v1::ThawSliceRequest request;
    v1::Slice response;
    request.set_name("bench.by_item");
    ICEPIE_CHECK(daemon_.Admin()
                     ->ThawSlice(testing::Within(absl::Seconds(30)).get(), request, &response)
                     .ok());
  }

  void Report(const std::vector<ReadSample>& samples, size_t calm) const {
    const std::string name = absl::StrCat("failover.", SizeName(rows_));
    double failed = 0;
    std::vector<double> calm_ms;
    for (size_t i = 0; i < samples.size(); ++i) {
      if (!samples[i].error.empty()) {
        ++failed;
        std::fprintf(stderr, "%s: %s\n", name.c_str(), samples[i].error.c_str());
      } else if (i < calm) {
        calm_ms.push_back(samples[i].ms());
      }
    }
    Print(
        {.name = name + ".kills", .value = static_cast<double>(fresh_ms_.size()), .unit = "kills"});
    Print({.name = name + ".reads", .value = static_cast<double>(samples.size()), .unit = "reads"});
    Print(
        {.name = name + ".failed_reads", .value = failed, .unit = "reads", .goal = ValueAtMost(0)});
    Print({.name = name + ".calm_read_p50", .value = Quantile(calm_ms, 0.5), .unit = "ms"});
    PrintMs(name + ".standby_answer_p50", Quantile(standby_ms_, 0.5), 5);
    PrintMs(name + ".standby_answer_p99", Quantile(standby_ms_, 0.99), 100);
    PrintMs(name + ".fresh_p50", Quantile(fresh_ms_, 0.5), 100);
    PrintMs(name + ".fresh_p99", Quantile(fresh_ms_, 0.99), 250);
  }

  void PrintMs(const std::string& name, std::optional<double> ms, double goal) const {
    const bool judged = rows_ <= kJudgedRows;
    Print({.name = name,
           .value = ms,
           .unit = "ms",
           .goal = judged ? std::optional(ValueAtMost(goal)) : std::nullopt});
  }

  const FailoverOptions& options_;
  const int rows_;
  testing::DaemonFixture daemon_;
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> acknowledged_{0};
  std::vector<double> standby_ms_;
  std::vector<double> fresh_ms_;
};

// What starting the worker program alone costs.
std::optional<double> ProgramStartMs() {
  const char* bin = std::getenv("ICEPIE_BIN");
  std::vector<double> times;
  for (int i = 0; i < 10; ++i) {
    const absl::Time begin = absl::Now();
    (void)RunToEnd({absl::StrCat(bin != nullptr ? bin : ".", "/icepie-worker"), "--help"});
    times.push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
  }
  return Quantile(times, 0.5);
}

// PostgreSQL ends all sessions when one of its backends is killed, and recovers. From the kill to
// the next answer to a new connection; `ours` is the time until our standby answered.
void RunPostgres(int rows, int kills, std::optional<double> ours) {
  const Scratch scratch;
  const auto postgres = Postgres::Start(scratch.path());
  const Figure figure = {
      .name = absl::StrCat("failover.", SizeName(rows), ".standby_answer_p50_vs_postgres"),
      .value = ours,
      .unit = "ms",
      .goal = RatioAtMost(1)};
  if (!postgres) return Print(figure);
  ICEPIE_CHECK(
      postgres
          ->Sql(absl::StrCat("CREATE TABLE by_item AS SELECT item, 1 AS sales, item % 97 "
                             "AS total FROM generate_series(0, ",
                             rows - 1, ") AS item; ALTER TABLE by_item ADD PRIMARY KEY (item)"))
          .exit_code == 0);
  std::vector<double> times;
  double refused = 0;
  for (int i = 0; i < kills; ++i) {
    // Two commands: psql writes the answer of the first when it is done with that.
    std::vector<std::string> psql = postgres->Psql("SELECT pg_backend_pid()");
    psql.insert(psql.end(), {"-c", "SELECT pg_sleep(60)"});
    Background session(psql, scratch.path() + "/session.err");
    const int backend = std::atoi(session.ReadLine().c_str());
    ICEPIE_CHECK(backend > 0);
    const absl::Time killed = absl::Now();
    kill(backend, SIGKILL);
    while (postgres->Sql(kQuestion).exit_code != 0) {
      ++refused;
      if (absl::Now() - killed < kPatience) continue;
      std::fprintf(stderr, "icepie-bench: PostgreSQL did not recover within a minute\n");
      return Print(figure);
    }
    times.push_back(absl::ToDoubleMilliseconds(absl::Now() - killed));
  }
  Print({.name = absl::StrCat("failover.", SizeName(rows), ".postgres_refused_connections"),
         .value = refused / kills,
         .unit = "a kill"});
  Figure compared = figure;
  compared.peer = Quantile(times, 0.5);
  Print(compared);
}

void RunFailover(const FailoverOptions& options, bool no_peers) {
  Print({.name = "failover.worker_program_start_p50", .value = ProgramStartMs(), .unit = "ms"});
  for (const int rows : options.rows) {
    std::optional<double> ours;
    {
      FailoverBench bench(options, rows);
      bench.Run();
      ours = bench.standby_p50();
    }
    if (!no_peers) RunPostgres(rows, std::min(options.kills, kPeerKills), ours);
  }
}

}  // namespace

RunBench AddFailover(CLI::App& command, CommonOptions& common) {
  const auto options = std::make_shared<FailoverOptions>();
  command.add_option("--kills", options->kills, "of each size of state")
      ->capture_default_str()
      ->check(CLI::Range(1, 10000));
  command.add_option("--rows", options->rows, "of the slice's state")
      ->capture_default_str()
      ->check(CLI::Range(1000, 20000000));
  command.add_flag("--no-peers", common.no_peers, "without PostgreSQL");
  return [options, &common] { RunFailover(*options, common.no_peers); };
}

}  // namespace icepie::bench
