// How fast the live engine applies, shows and answers: flights folded by origin and hour. Prints
// one line a figure; run it on a release build.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "slices/role/live_engine.h"
#include "tests/slices/memory_feed.h"

namespace icepie::slices {
namespace {

constexpr char kDomain[] = R"(
domain: operations
sources:
  flights:
    columns:
      departure: {type: TIMESTAMP, path: $.date, format: iso8601, required: true}
      delay: {type: INTEGER, required: true}
      origin: {type: VARCHAR, required: true}
slices:
  on_time:
    sql: |
      SELECT origin, time_bucket(INTERVAL 1 HOUR, departure) AS hour, count(*) AS flights,
             count(*) FILTER (WHERE delay > 15) AS late, sum(delay) AS delay_sum,
             avg(delay) AS avg_delay, max(delay) AS worst_delay
      FROM flights GROUP BY ALL
    key: [origin, hour]
)";

class Flights {
 public:
  std::string Next() {
    const uint64_t random = NextRandom();
    const int64_t minute = made_++ / 10;  // ten a minute, in time order
    const absl::Time time = absl::FromUnixSeconds(978307200 + minute * 60);
    return absl::StrFormat(
        R"({"date":"%s","delay":%d,"distance":%d,"origin":"%s","destination":"%s"})",
        absl::FormatTime("%Y-%m-%dT%H:%M:%S", time, absl::UTCTimeZone()),
        static_cast<int>(random % 120) - 20, 100 + static_cast<int>(random >> 8 & 2047),
        Airport(random >> 20), Airport(random >> 36));
  }

 private:
  uint64_t NextRandom() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  static std::string Airport(uint64_t random) {
    const uint64_t number = random % 226;
    return {static_cast<char>('A' + number / 26), static_cast<char>('A' + number % 26), 'X'};
  }
  uint64_t state_ = 88172645463325252;
  int64_t made_ = 0;
};

class Benchmark {
 public:
  explicit Benchmark(std::string directory) {
    EngineOptions options;
    options.domain = "operations";
    options.directory = std::move(directory);
    options.on_fatal = [](const std::string& why) {
      std::fprintf(stderr, "%s\n", why.c_str());
      std::abort();
    };
    engine_ = LiveEngine::Start(options, feed_).value();
  }

  void Append(int64_t records) {
    std::vector<std::string> payloads;
    for (int64_t i = 0; i < records; ++i) payloads.push_back(flights_.Next());
    feed_.Append("flights", payloads, absl::ToUnixMicros(absl::Now()));
  }

  void Configure() {
    GenerationSpec spec;
    spec.slice = "on_time";
    spec.number = 1;
    spec.file = kDomain;
    spec.serving = true;
    Assignment assignment;
    assignment.domain = "operations";
    assignment.epoch = 1;
    assignment.generations = {spec};
    engine_->Configure(assignment);
  }

  // Returns when a query sees `position`.
  Answer Ask(const std::string& sql, int64_t position) {
    Question question;
    question.text = sql;
    question.min_position = position;
    question.max_wait = absl::Minutes(2);
    std::promise<absl::StatusOr<Answer>> answered;
    engine_->Ask(question,
                 [&](absl::StatusOr<Answer> answer) { answered.set_value(std::move(answer)); });
    absl::StatusOr<Answer> answer = answered.get_future().get();
    if (answer.ok()) return *std::move(answer);
    std::fprintf(stderr, "%s\n", answer.status().ToString().c_str());
    std::abort();
  }

  void WaitFor(int64_t position) const {
    while (true) {
      const EngineReport report = engine_->Report();
      if (!report.slices.empty() && report.slices[0].progress.applied_position >= position &&
          report.slices[0].state == SliceState::kRunning) {
        return;
      }
      absl::SleepFor(absl::Microseconds(100));
    }
  }

  int64_t head() const { return feed_.head(); }

 private:
  Flights flights_;
  MemoryFeed feed_;
  std::unique_ptr<LiveEngine> engine_;
};

double Milliseconds(absl::Duration duration) { return absl::ToDoubleMilliseconds(duration); }

void PrintQuantiles(const char* what, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  std::printf("%-44s p50 %7.2f ms  p99 %7.2f ms\n", what, values[values.size() / 2],
              values[values.size() * 99 / 100]);
}

void Run(const std::string& directory) {
  constexpr int64_t kRecords = 1000000;
  constexpr int64_t kBlock = 1000;
  Benchmark bench(directory);
  for (int64_t i = 0; i < kRecords / kBlock; ++i) bench.Append(kBlock);
  const absl::Time begin = absl::Now();
  bench.Configure();
  bench.WaitFor(kRecords);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  std::printf("%-44s %.0f records/s\n", "applied, aggregate by origin and hour",
              static_cast<double>(kRecords) / seconds);

  constexpr char kTop[] =
      "SELECT origin, sum(flights) AS flights, sum(late) AS late FROM on_time GROUP BY origin "
      "ORDER BY late DESC, origin LIMIT 10";
  std::vector<double> queries;
  for (int i = 0; i < 200; ++i) {
    const absl::Time asked = absl::Now();
    bench.Ask(kTop, 0);
    queries.push_back(Milliseconds(absl::Now() - asked));
  }
  PrintQuantiles("top 10 of all groups, idle", queries);

  std::vector<double> visible;
  for (int i = 0; i < 300; ++i) {
    bench.Append(50);
    const absl::Time appended = absl::Now();
    bench.WaitFor(bench.head());
    visible.push_back(Milliseconds(absl::Now() - appended));
  }
  PrintQuantiles("50 records appended until published", visible);
}

}  // namespace
}  // namespace icepie::slices

int main() {
  std::string pattern = std::filesystem::temp_directory_path() / "icepie-bench-XXXXXX";
  const std::string directory = ::mkdtemp(pattern.data());
  icepie::slices::Run(directory);
  std::filesystem::remove_all(directory);
}
