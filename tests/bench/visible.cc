// How long a record takes to be seen, and how long an answer takes, on the real daemon and a real
// worker. The floor is the
// cheapest call there is over the same connection (GetStream), measured in turn with the others.
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "tests/bench/bench.h"
#include "tests/bench/figure.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {
namespace {

namespace v1 = icepie::v1;
using Clock = std::chrono::steady_clock;

constexpr int kRounds = 1000;
constexpr int kWarmUpRounds = 100;
constexpr int kOrigins = 200;
constexpr char kDomain[] = R"(
domain: bench
sources:
  flights:
    columns: {origin: VARCHAR, delay: INTEGER}
slices:
  by_origin:
    sql: SELECT origin, count(*) AS flights, avg(delay) AS avg_delay FROM flights GROUP BY origin
    key: [origin]
)";
constexpr char kTopTen[] =
    "SELECT origin, flights, avg_delay FROM by_origin ORDER BY flights DESC, origin LIMIT 10";

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Samples {
  std::string name;
  std::vector<double> values;
};

void Report(const Samples& samples, const Samples& floor) {
  for (const auto& [label, share] : {std::pair{"p50", 0.5}, std::pair{"p99", 0.99}}) {
    Print({.name = absl::StrCat("visible.", samples.name, "_", label),
           .value = Quantile(samples.values, share),
           .unit = "ms",
           .floor = Quantile(floor.values, share)});
  }
}

std::string Payload(int round) {
  return absl::StrCat("{\"origin\":\"A", round % kOrigins, "\",\"delay\":", round % 90, "}");
}

void RunVisible() {
  testing::DaemonFixture daemon;
  daemon.SetSettings("logging: {level: warn}\n");
  daemon.Start();
  ICEPIE_CHECK(daemon.CreateStream("flights").ok());
  std::vector<std::string> first;
  for (int i = 0; i < 5000; ++i) first.push_back(Payload(i));
  const auto begun = daemon.Append("flights", first);
  ICEPIE_CHECK(begun.ok());
  v1::ApplyDomainResponse applied;
  ICEPIE_CHECK(daemon.Apply(kDomain, &applied).ok());
  v1::QueryResponse answer;
  ICEPIE_CHECK(
      testing::Eventually([&] { return daemon.Query("bench", kTopTen, *begun, &answer).ok(); }));

  const auto core = daemon.Core();
  Samples floor{"floor_call", {}};
  Samples append{"append_one", {}};
  Samples visible{"append_to_visible", {}};
  Samples query{"query_top_10", {}};
  for (int round = -kWarmUpRounds; round < kRounds; ++round) {
    auto start = Clock::now();
    v1::GetStreamRequest get;
    get.set_name("flights");
    v1::Stream stream;
    ICEPIE_CHECK(core->GetStream(testing::Within(absl::Seconds(10)).get(), get, &stream).ok());
    const double call_ms = MillisecondsSince(start);

    start = Clock::now();
    const auto end = daemon.Append("flights", {Payload(round + kWarmUpRounds)});
    ICEPIE_CHECK(end.ok());
    const double append_ms = MillisecondsSince(start);
    // From the acknowledgement until an answer has the record: it includes one whole query.
    start = Clock::now();
    ICEPIE_CHECK(daemon.Query("bench", kTopTen, *end, &answer).ok());
    const double visible_ms = MillisecondsSince(start);
    start = Clock::now();
    ICEPIE_CHECK(daemon.Query("bench", kTopTen, -1, &answer).ok());
    const double query_ms = MillisecondsSince(start);
    ICEPIE_CHECK(answer.row_count() == 10 && !answer.meta().stale());
    if (round < 0) continue;
    floor.values.push_back(call_ms);
    append.values.push_back(append_ms);
    visible.values.push_back(visible_ms);
    query.values.push_back(query_ms);
  }
  for (const Samples* samples : {&append, &visible, &query}) Report(*samples, floor);
}

}  // namespace

RunBench AddVisible(CLI::App&, CommonOptions&) { return RunVisible; }

}  // namespace icepie::bench
