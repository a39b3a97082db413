// What the tests of the engine share: a domain, a feed, a directory, and waiting for states.
#ifndef ICEPIE_TESTS_SLICES_ENGINE_FIXTURE_H_
#define ICEPIE_TESTS_SLICES_ENGINE_FIXTURE_H_

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "slices/apply/flight_record.h"
#include "slices/role/live_engine.h"
#include "tests/slices/memory_feed.h"

namespace icepie::slices {

inline constexpr char kShopDomain[] = R"(
domain: shop
sources:
  orders:
    columns:
      city: {type: VARCHAR, required: true}
      amount: {type: BIGINT, required: true}
      note: VARCHAR
slices:
  by_city:
    sql: SELECT city, count(*) AS orders, sum(amount) AS total FROM orders GROUP BY ALL
    key: [city]
    on_bad_record: {action: quarantine, budget: {records: 5}}
  lines:
    sql: SELECT _position AS at, city, amount FROM orders
    key: [at]
  notes:
    sql: SELECT _position AS at, CAST(note AS INTEGER) AS number FROM orders
    key: [at]
  ranked:
    sql: SELECT city, total, rank() OVER (ORDER BY total DESC, city) AS place FROM by_city
    key: [city]
)";

inline std::string Order(const std::string& city, int64_t amount) {
  return absl::StrCat(R"({"city":")", city, R"(","amount":)", amount, "}");
}

class EngineFixture : public testing::Test {
 protected:
  EngineFixture() {
    std::string pattern = testing::TempDir() + "/icepie-engine-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
  }
  ~EngineFixture() override {
    engine_.reset();
    std::filesystem::remove_all(directory_);
  }

  EngineOptions Options() const {
    EngineOptions options;
    options.domain = "shop";
    options.directory = directory_;
    options.memory_bytes = int64_t{256} << 20;
    options.snapshot_interval = absl::Hours(1);
    options.on_fatal = [](const std::string& why) { ADD_FAILURE() << why; };
    return options;
  }

  void StartLive() { StartLive(Options(), feed_); }
  void StartLive(const EngineOptions& options, Feed& feed) {
    engine_.reset();
    auto started = LiveEngine::Start(options, feed);
    ASSERT_TRUE(started.ok()) << started.status();
    engine_ = *std::move(started);
  }

  static GenerationSpec Spec(const std::string& slice, int64_t number = 1) {
    GenerationSpec spec;
    spec.slice = slice;
    spec.number = number;
    spec.file = kShopDomain;
    spec.serving = true;
    return spec;
  }

  void Configure(std::vector<GenerationSpec> specs) {
    Assignment assignment;
    assignment.domain = "shop";
    assignment.epoch = ++epoch_;
    assignment.generations = std::move(specs);
    engine_->Configure(std::move(assignment));
  }

  std::optional<SliceReport> Find(const std::string& slice) const {
    for (SliceReport& report : engine_->Report().slices) {
      if (report.info.slice == slice) return report;
    }
    return std::nullopt;
  }

  // Waits until `holds` of the slice's report, which it returns.
  SliceReport WaitFor(const std::string& slice,
                      const std::function<bool(const SliceReport&)>& holds) const {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (absl::Now() < deadline) {
      const std::optional<SliceReport> report = Find(slice);
      if (report && holds(*report)) return *report;
      absl::SleepFor(absl::Milliseconds(2));
    }
    const std::optional<SliceReport> last = Find(slice);
    ADD_FAILURE() << slice << " did not get there; state "
                  << (last ? static_cast<int>(last->state) : -1) << " position "
                  << (last ? last->progress.applied_position : -1) << " "
                  << (last && last->last_error ? last->last_error->message : "");
    return last.value_or(SliceReport());
  }

  SliceReport WaitForPosition(const std::string& slice, int64_t position) const {
    return WaitFor(slice, [&](const SliceReport& report) {
      return report.progress.applied_position >= position && report.state == SliceState::kRunning;
    });
  }
  SliceReport WaitForState(const std::string& slice, SliceState state) const {
    return WaitFor(slice, [&](const SliceReport& report) { return report.state == state; });
  }

  // Runs a live engine in a process of its own, as `work` configures it, until the engine ends the
  // process, and returns what the flight record blames for that. Limits are short, and not meant
  // before `work` has returned.
  FlightNote BlamedForItsEnd(absl::Duration apply_timeout, const std::function<void()>& work) {
    constexpr int kEnded = 4;
    const std::string record = directory_ + "/flight-record";
    engine_.reset();
    const pid_t child = ::fork();
    if (child == 0) {
      EngineOptions options = Options();
      options.snapshot_interval = absl::ZeroDuration();
      options.snapshot_share = 1;
      options.query_timeout = absl::Seconds(1);
      options.apply_timeout = apply_timeout;
      options.interrupt_grace = absl::Milliseconds(500);
      std::atomic<bool> meant{false};
      options.on_fatal = [&](const std::string& /*why*/) {
        if (meant) ::_exit(kEnded);
      };
      if (!StartFlightRecord(record).ok()) ::_exit(1);
      auto started = LiveEngine::Start(options, feed_);
      if (!started.ok()) ::_exit(1);
      engine_ = *std::move(started);
      work();
      meant = true;
      for (const absl::Time end = absl::Now() + absl::Seconds(60); absl::Now() < end;) {
        engine_->Report();
        absl::SleepFor(absl::Milliseconds(5));
      }
      ::_exit(1);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kEnded) << status;
    std::vector<FlightNote> blamed;
    for (const FlightNote& note : ReadFlightRecord(record)) {
      if (note.blamed) blamed.push_back(note);
    }
    EXPECT_EQ(blamed.size(), 1U);
    return blamed.empty() ? FlightNote() : blamed.front();
  }

  static absl::StatusOr<Answer> Ask(Engine& engine, Question question) {
    std::promise<absl::StatusOr<Answer>> promise;
    engine.Ask(std::move(question),
               [&](absl::StatusOr<Answer> answer) { promise.set_value(std::move(answer)); });
    return promise.get_future().get();
  }
  absl::StatusOr<Answer> Ask(const std::string& sql) {
    Question question;
    question.text = sql;
    return Ask(*engine_, std::move(question));
  }
  std::string Rows(const std::string& sql) {
    const auto answer = Ask(sql);
    return answer.ok() ? answer->rows.body : answer.status().ToString();
  }

  std::string directory_;
  MemoryFeed feed_;
  std::unique_ptr<LiveEngine> engine_;
  int64_t epoch_ = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_ENGINE_FIXTURE_H_
