// How long a record takes to be seen, and how long an answer takes, on the real daemon and a real
// worker: one JSON object a line, {"name","value","unit"[, "floor","ratio"]}. The floor is the
// cheapest call there is over the same connection (GetStream), measured in turn with the others.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie {
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

  double Quantile(double q) {
    std::sort(values.begin(), values.end());
    return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
  }
};

void Print(Samples& samples, Samples& floor) {
  for (const auto& [label, q] : {std::pair{"p50", 0.5}, std::pair{"p99", 0.99}}) {
    const double value = samples.Quantile(q);
    const double base = floor.Quantile(q);
    std::printf(
        "{\"name\":\"%s_%s\",\"value\":%.3f,\"unit\":\"ms\",\"floor\":%.3f,\"ratio\":%.2f}\n",
        samples.name.c_str(), label, value, base, value / base);
  }
}

std::string Payload(int round) {
  return absl::StrCat("{\"origin\":\"A", round % kOrigins, "\",\"delay\":", round % 90, "}");
}

void Run() {
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
  for (Samples* samples : {&append, &visible, &query}) Print(*samples, floor);
}

}  // namespace
}  // namespace icepie

int main() {
  icepie::Run();
  return 0;
}
