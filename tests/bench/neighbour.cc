// What a domain notices of a noisy one: reads of its slice and appends to its stream, alone and
// beside endless queries, re-slices and a flood of appends in another domain. One JSON object a
// line; the floor is the figure alone, measured in turn.
//
//   icepie-bench-neighbour [--seconds S] [--rounds R] [--noise KIND]…
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "tests/bench/append_load.h"
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

struct Options {
  double seconds = 3;
  int rounds = 3;
  std::vector<std::string> noise = {"query", "reslice", "flood", "all"};
};

// The other domain's noise, from its construction to its destruction.
class Noise {
 public:
  Noise(const testing::DaemonFixture& daemon, const std::string& kind, double seconds)
      : daemon_(daemon) {
    const bool all = kind == "all";
    if (all || kind == "query") {
      for (int i = 0; i < 2; ++i) threads_.emplace_back([this] { AskEndlessly(); });
    }
    if (all || kind == "reslice") threads_.emplace_back([this] { ResliceAgain(); });
    if (all || kind == "flood") {
      threads_.emplace_back([this, seconds] {
        Load load;
        load.address = daemon_.grpc_address();
        load.clients = 4;
        load.batch = 1000;
        load.seconds = seconds;
        (void)RunLoad(load);
      });
    }
  }
  ~Noise() {
    stopping_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  Noise(const Noise&) = delete;
  Noise& operator=(const Noise&) = delete;

 private:
  void AskEndlessly() {
    while (!stopping_) {
      v1::QueryRequest request;
      v1::QueryResponse response;
      request.set_domain("noisy");
      request.set_sql("SELECT count(*) FROM range(10000000) AS a, range(10000000) AS b");
      (void)daemon_.Slices()->Query(testing::Within(absl::Seconds(1)).get(), request, &response);
    }
  }

  void ResliceAgain() {
    while (!stopping_) {
      v1::ResliceSliceRequest request;
      google::longrunning::Operation operation;
      request.set_name("noisy.volume");
      ICEPIE_CHECK(daemon_.Admin()
                       ->ResliceSlice(testing::Within(absl::Seconds(30)).get(), request, &operation)
                       .ok());
      google::longrunning::WaitOperationRequest wait;
      wait.set_name(operation.name());
      while (!operation.done() && !stopping_) {
        (void)daemon_.Operations()->WaitOperation(testing::Within(absl::Seconds(1)).get(), wait,
                                                  &operation);
      }
      google::longrunning::CancelOperationRequest cancel;
      google::protobuf::Empty nothing;
      cancel.set_name(operation.name());
      (void)daemon_.Operations()->CancelOperation(testing::Within(absl::Seconds(30)).get(), cancel,
                                                  &nothing);
    }
  }

  const testing::DaemonFixture& daemon_;
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

class NeighbourBench {
 public:
  explicit NeighbourBench(const Options& options) : options_(options) {
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
    reads_.clear();
    appends_.clear();
    for (int round = 0; round < options_.rounds; ++round) {
      Measure("");
      for (const std::string& noise : options_.noise) Measure(noise);
    }
    for (const std::string& noise : options_.noise) Report(noise);
  }

 private:
  static std::string Sale(int64_t i) {
    return absl::StrCat("{\"item\":", i % kItems, ",\"amount\":", i % 89, "}");
  }

  void Measure(const std::string& noise) {
    std::unique_ptr<Noise> loud;
    if (!noise.empty()) loud = std::make_unique<Noise>(daemon_, noise, options_.seconds);
    ReaderOptions reading;
    reading.address = daemon_.grpc_address();
    reading.domain = "quiet";
    reading.sql = "SELECT sales, total FROM by_item WHERE item = 4711";
    ReaderLoad readers(reading);
    const absl::Time end = absl::Now() + absl::Seconds(options_.seconds);
    for (int64_t i = 0; absl::Now() < end; ++i) {
      const absl::Time begin = absl::Now();
      ICEPIE_CHECK(daemon_.Append("sales", {Sale(i)}).ok());
      appends_[noise].push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    readers.Stop();
    for (const ReadSample& sample : readers.Samples()) {
      ICEPIE_CHECK(sample.error.empty());
      reads_[noise].push_back(sample.ms());
    }
    loud.reset();
  }

  void Report(const std::string& noise) {
    for (const auto& [name, share] : {std::pair{"p50", 0.5}, std::pair{"p99", 0.99}}) {
      const bool judged = noise == "all" && share > 0.9;
      Print({absl::StrCat("neighbour_", noise, "_read_", name), Quantile(reads_[noise], share),
             "ms", Quantile(reads_[""], share), -1, judged ? 1.2 : -1, true});
      Print({absl::StrCat("neighbour_", noise, "_append_", name), Quantile(appends_[noise], share),
             "ms", Quantile(appends_[""], share), -1, judged ? 1.5 : -1, true});
    }
  }

  const Options& options_;
  testing::DaemonFixture daemon_;
  std::map<std::string, std::vector<double>> reads_;  // by noise; "" is alone
  std::map<std::string, std::vector<double>> appends_;
};

int Main(int argc, char** argv) {
  CLI::App app("A quiet domain beside a noisy one", "icepie-bench-neighbour");
  Options options;
  app.add_option("--seconds", options.seconds, "of each noise in a round (default 3)")
      ->check(CLI::Range(0.5, 600.0));
  app.add_option("--rounds", options.rounds, "default 3")->check(CLI::Range(1, 100));
  app.add_option("--noise", options.noise, "default: query reslice flood all")
      ->check(CLI::IsMember({"query", "reslice", "flood", "all"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  NeighbourBench(options).Run();
  return 0;
}

}  // namespace
}  // namespace icepie::bench

int main(int argc, char** argv) { return icepie::bench::Main(argc, argv); }
