// How soon a record is seen while others come in, on the real daemon and real workers: at steady
// rates of appends, with one slice in a domain and with many:
//   freshness.s<slices>.r<records a second>.visible_p50|_p99
//        from the acknowledgement of an append until an answer has it; one whole query is in it.
//        `floor` is the cheapest call there is over the same connection (GetStream) in the same
//        seconds; `goal` where there is one.
//   freshness.….appended      records a second that really came
//   freshness.….worker_cores  processor time of the live worker, in cores
//   freshness.….samples       how many appends were looked for
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/mutex.h"
#include "tests/bench/bench.h"
#include "tests/bench/figure.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

namespace v1 = icepie::v1;
using Clock = std::chrono::steady_clock;
using std::chrono::duration;

constexpr int kOrigins = 500;
constexpr double kAppendIntervalSeconds = 0.004;
constexpr int kBatchRecordsMax = 20000;  // when it is behind
constexpr double kWarmUpSeconds = 1;

struct FreshnessOptions {
  double seconds = 5;
  std::vector<int> rates = {1000, 10000, 50000};
  std::vector<int> slices = {1, 5, 50};
};

double SecondsSince(Clock::time_point begin) {
  return duration<double>(Clock::now() - begin).count();
}

// Each of them groups the same stream in its own way.
std::string DomainFile(int slices) {
  std::string file =
      "domain: bench\nsources:\n  flights: {columns: {origin: VARCHAR, delay: INTEGER}}\nslices:\n";
  for (int i = 0; i < slices; ++i) {
    absl::StrAppend(&file, "  s", i,
                    ":\n    sql: SELECT origin, count(*) AS flights, sum(delay) AS d, ",
                    "max(delay) AS worst FROM flights WHERE delay >= ", i, " GROUP BY origin\n",
                    "    key: [origin]\n");
  }
  return file;
}

// Appends at a steady rate until it is stopped, and says how far it has come.
class Appender {
 public:
  Appender(const testing::DaemonFixture& daemon, int rate)
      : stub_(daemon.Core()), rate_(rate), thread_([this] { Run(); }) {}
  ~Appender() { Stop(); }

  void Stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }

  // Waits for the next acknowledgement; its end position and when it came.
  std::pair<int64_t, Clock::time_point> Next() {
    MutexLock lock(mutex_);
    const int64_t seen = end_;
    while (end_ == seen) acknowledged_.Wait(mutex_);
    return {end_, time_};
  }
  int64_t records() const { return records_; }

 private:
  void Run() {
    const auto begin = Clock::now();
    while (!stopping_) {
      const auto due = static_cast<int64_t>(SecondsSince(begin) * rate_);
      const int64_t count = std::min<int64_t>(due - records_, kBatchRecordsMax);
      if (count > 0) Append(static_cast<int>(count));
      std::this_thread::sleep_for(duration<double>(kAppendIntervalSeconds));
    }
  }

  void Append(int count) {
    v1::AppendRecordsRequest request;
    for (int i = 0; i < count; ++i) {
      auto* record = request.add_records();
      const int64_t number = records_ + i;
      record->set_stream("flights");
      record->set_payload(absl::StrCat("{\"origin\":\"A", number * 7919 % kOrigins,
                                       "\",\"delay\":", number * 31 % 120, "}"));
    }
    v1::AppendRecordsResponse response;
    const auto status =
        stub_->AppendRecords(testing::Within(absl::Seconds(60)).get(), request, &response);
    ICEPIE_CHECK(status.ok());
    records_ += count;
    MutexLock lock(mutex_);
    end_ = response.end_position();
    time_ = Clock::now();
    acknowledged_.SignalAll();
  }

  const std::unique_ptr<v1::Core::Stub> stub_;
  const int rate_;
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> records_{0};
  Mutex mutex_;
  CondVar acknowledged_;
  int64_t end_ ABSL_GUARDED_BY(mutex_) = 0;
  Clock::time_point time_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

double LiveSeconds(const testing::DaemonFixture& daemon) {
  v1::ServerStatus status;
  ICEPIE_CHECK(
      daemon.Admin()->GetServerStatus(testing::Within(absl::Seconds(60)).get(), {}, &status).ok());
  for (const auto& worker : status.workers()) {
    if (worker.role() != "live") continue;
    return static_cast<double>(worker.cpu_time().seconds()) + 1e-9 * worker.cpu_time().nanos();
  }
  return 0;
}

// DESIGN.md 13 has goals at 50,000 records a second.
std::optional<Goal> GoalOf(int slices, int rate, double share) {
  if (rate != 50000) return std::nullopt;
  if (slices == 5 && share == 0.5) return ValueAtMost(10);
  if (slices != 1) return std::nullopt;
  return ValueAtMost(share == 0.5 ? 5 : 25);
}

void Measure(const testing::DaemonFixture& daemon, int slices, int rate, double seconds) {
  Appender appender(daemon, rate);
  const auto core = daemon.Core();
  std::vector<double> visible;
  std::vector<double> floor;
  v1::QueryResponse answer;
  auto begin = Clock::now();
  int64_t records = 0;
  double cpu = 0;
  bool warm = false;
  for (int64_t round = 0; !warm || SecondsSince(begin) < seconds; ++round) {
    if (!warm && SecondsSince(begin) >= kWarmUpSeconds) {
      warm = true;
      begin = Clock::now();
      records = appender.records();
      cpu = LiveSeconds(daemon);
    }
    const auto [end, acknowledged] = appender.Next();
    const std::string sql =
        absl::StrCat("SELECT origin, flights FROM s", round % slices, " WHERE origin = 'A1'");
    ICEPIE_CHECK(daemon.Query("bench", sql, end, &answer).ok());
    const double visible_ms = SecondsSince(acknowledged) * 1000;
    const auto called = Clock::now();
    v1::GetStreamRequest get;
    get.set_name("flights");
    v1::Stream stream;
    ICEPIE_CHECK(core->GetStream(testing::Within(absl::Seconds(60)).get(), get, &stream).ok());
    if (!warm) continue;
    visible.push_back(visible_ms);
    floor.push_back(SecondsSince(called) * 1000);
  }
  const double took = SecondsSince(begin);
  const double appended = static_cast<double>(appender.records() - records) / took;
  const double cores = (LiveSeconds(daemon) - cpu) / took;
  appender.Stop();
  const std::string name = absl::StrCat("freshness.s", slices, ".r", rate);
  for (const auto& [label, share] : {std::pair{"p50", 0.5}, std::pair{"p99", 0.99}}) {
    Print({.name = absl::StrCat(name, ".visible_", label),
           .value = Quantile(visible, share),
           .unit = "ms",
           .goal = GoalOf(slices, rate, share)});
    Print({.name = absl::StrCat(name, ".call_", label),
           .value = Quantile(floor, share),
           .unit = "ms"});
  }
  Print({.name = name + ".appended", .value = appended, .unit = "records/s"});
  Print({.name = name + ".worker_cores", .value = cores, .unit = "cores"});
  Print(
      {.name = name + ".samples", .value = static_cast<double>(visible.size()), .unit = "appends"});
}

// A daemon for each number of slices: what one has appended is no matter of the next.
void RunFreshness(const FreshnessOptions& options) {
  for (const int slices : options.slices) {
    testing::DaemonFixture daemon;
    daemon.SetSettings("logging: {level: warn}\n");
    daemon.Start();
    ICEPIE_CHECK(daemon.CreateStream("flights").ok());
    v1::ApplyDomainResponse applied;
    ICEPIE_CHECK(daemon.Apply(DomainFile(slices), &applied).ok());
    const auto first = daemon.Append("flights", {"{\"origin\":\"A1\",\"delay\":200}"});
    ICEPIE_CHECK(first.ok());
    for (int i = 0; i < slices; ++i) {
      v1::QueryResponse answer;
      ICEPIE_CHECK(testing::Eventually(
          [&] {
            return daemon
                .Query("bench", absl::StrCat("SELECT count(*) AS n FROM s", i), *first, &answer)
                .ok();
          },
          absl::Seconds(60)));
    }
    for (const int rate : options.rates) Measure(daemon, slices, rate, options.seconds);
  }
}

}  // namespace

RunBench AddFreshness(CLI::App& command, CommonOptions&) {
  const auto options = std::make_shared<FreshnessOptions>();
  command.add_option("--seconds", options->seconds, "of each measurement")->capture_default_str();
  command.add_option("--rates", options->rates, "records a second")->capture_default_str();
  command.add_option("--slices", options->slices, "in the domain")->capture_default_str();
  return [options] { RunFreshness(*options); };
}

}  // namespace icepie::bench
