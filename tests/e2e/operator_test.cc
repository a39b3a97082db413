// What an operator sees: logs, descriptions, errors that stay, answers that are too old; on real
// processes, with the commands that people type.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "cli/app.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "slices/duckdb/duckdb.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/e2e/terminal_program.h"

namespace icepie::testing {
namespace {

namespace fs = std::filesystem;
namespace v1 = icepie::v1;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kShop = R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  by_item:
    sql: SELECT item, count(*) AS sales, sum(amount) AS total FROM sales GROUP BY ALL
    key: [item]
    expect: [{name: total_small, sql: "SELECT item, total FROM slice WHERE total > 100"}]
  best: {sql: SELECT max(total) AS most FROM by_item}
  counted: {sql: SELECT count(*) AS sales FROM sales, max_stale: {after: 200ms, then: fail}}
)";

std::string Sale(const std::string& item, int amount) {
  return absl::StrCat(R"({"item":")", item, R"(","amount":)", amount, "}");
}

std::string Reason(const grpc::Status& status) {
  return ErrorReason(server::FromGrpcStatus(status));
}

class OperatorTest : public ::testing::Test {
 protected:
  struct Outcome {
    int code = 0;
    std::string out;
    std::string err;
  };

  void StartShop() {
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
    v1::ApplyDomainResponse applied;
    const auto status = daemon_.Apply(kShop, &applied);
    ASSERT_TRUE(status.ok()) << status.error_message();
    end_ = daemon_.Append("sales", {Sale("pear", 3), Sale("fig", 2)}).value_or(-1);
    WaitForState("shop.by_item", v1::RUNNING);
    ASSERT_TRUE(
        Eventually([&] { return daemon_.GetSlice("shop.by_item").standby_position() >= end_; },
                   absl::Seconds(60)));
  }

  // icepie ARGUMENTS…, as people type it.
  Outcome Icepie(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"--address", daemon_.grpc_address(), "--actor", "ann"});
    std::istringstream in;
    std::ostringstream out;
    std::ostringstream err;
    Outcome outcome;
    outcome.code = cli::RunProgram(arguments, cli::Terminal{&in, &out, &err});
    outcome.out = out.str();
    outcome.err = err.str();
    return outcome;
  }

  v1::Slice WaitForState(const std::string& slice, v1::SliceState state) {
    v1::Slice last;
    EXPECT_TRUE(Eventually(
        [&] {
          last = daemon_.GetSlice(slice);
          return last.state() == state;
        },
        absl::Seconds(60)))
        << last.ShortDebugString();
    return last;
  }

  DaemonFixture daemon_;
  int64_t end_ = 0;
};

// The limits that hold, and who states them; a domain that states none follows the daemon's
// settings also when it was applied under others.
TEST_F(OperatorTest, LimitsAreShownWithTheirOriginAndDefaultsFollowTheSettings) {
  StartShop();
  v1::ApplyDomainResponse applied;
  ASSERT_TRUE(daemon_
                  .Apply("domain: small\nsources:\n  sales: {columns: {item: VARCHAR}}\nslices:\n  "
                         "items: {sql: SELECT item FROM sales}\nlimits: {memory: 64MB, "
                         "query_timeout: 3s, disk: 1GB}\n",
                         &applied)
                  .ok());
  const auto limit = [&](const std::string& domain, const std::string& name) {
    const auto status = nlohmann::json::parse(Icepie({"--json", "status"}).out);
    for (const auto& each : status.at("domains")) {
      if (each.at("name") != domain) continue;
      for (const auto& found : each.at("limits")) {
        if (found.at("name") == name) {
          return absl::StrCat(found.value("value", "none"), " ",
                              found.at("source").get<std::string>());
        }
      }
    }
    return std::string("not there");
  };
  EXPECT_EQ(limit("shop", "memory"), "268435456 SETTINGS");
  EXPECT_EQ(limit("shop", "query_timeout"), "10000 SETTINGS");
  EXPECT_THAT(limit("shop", "disk"), ::testing::MatchesRegex("[1-9][0-9]+ SETTINGS"))
      << "half of the disk";
  EXPECT_EQ(limit("small", "memory"), "64000000 FILE");
  EXPECT_EQ(limit("small", "query_timeout"), "3000 FILE");
  EXPECT_EQ(limit("small", "disk"), "1000000000 FILE");
  EXPECT_THAT(Icepie({"domain", "limits", "small"}).out, HasSubstr("limits.memory"));
  EXPECT_THAT(Icepie({"slice", "describe", "small.items"}).out,
              HasSubstr("memory 64.0 MB (its file)"));
  // The kernel's part of it is what was said.
  const auto address_space = [&](const std::string& domain) {
    std::ifstream file(absl::StrCat("/proc/", daemon_.Worker(domain, "live").pid(), "/limits"));
    std::string line;
    while (std::getline(file, line) && !absl::StartsWith(line, "Max address space")) {
    }
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    return words.size() > 3 ? words[3] : line;
  };
  EXPECT_EQ(limit("shop", "address_space"), "2147483648 BUILT_IN");

  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.SetSettings(
      "workers: {heartbeat_interval_ms: 100, snapshot_interval_ms: 300, memory_bytes: 1GiB, "
      "query_timeout_ms: 7s, disk_bytes: 3GB}\n");
  daemon_.Start();
  EXPECT_EQ(limit("shop", "memory"), "1073741824 SETTINGS");
  EXPECT_EQ(limit("shop", "query_timeout"), "7000 SETTINGS");
  EXPECT_EQ(limit("shop", "disk"), "3000000000 SETTINGS");
  EXPECT_EQ(limit("small", "memory"), "64000000 FILE");
  WaitForState("shop.by_item", v1::RUNNING);
#if !defined(__SANITIZE_ADDRESS__)
  EXPECT_EQ(address_space("shop"), "4294967296");
  EXPECT_EQ(address_space("small"), "2147483648");
#endif
}

TEST_F(OperatorTest, LogsNameTheirSliceAndAreReadAlsoAfterAWorkersDeath) {
  StartShop();
  const int64_t pid = daemon_.SignalWorker("shop", "live", SIGKILL);
  ASSERT_TRUE(Eventually(
      [&] {
        return absl::StrContains(Icepie({"slice", "logs", "shop", "--since", "1h"}).out,
                                 "signal 9");
      },
      absl::Seconds(60)));

  const Outcome whole = Icepie({"slice", "logs", "shop", "--level", "info"});
  EXPECT_EQ(whole.code, 0) << whole.err;
  EXPECT_THAT(whole.out, HasSubstr(absl::StrCat("as process ", pid)));
  EXPECT_THAT(whole.out, HasSubstr("shop.by_item  generation 1: "));
  EXPECT_THAT(whole.out, HasSubstr("shop.counted  generation 1: "));
  EXPECT_THAT(whole.out, HasSubstr("standby"));
  // In the order of time, whatever the role.
  std::vector<std::string> times;
  for (const auto line : absl::StrSplit(whole.out, '\n', absl::SkipEmpty())) {
    times.emplace_back(line.substr(0, 24));
  }
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end())) << whole.out;

  // Of one slice: its lines and those about the workers.
  const Outcome one = Icepie({"slice", "logs", "shop.by_item", "--json"});
  EXPECT_THAT(one.out, HasSubstr(R"("slice":"shop.by_item")"));
  EXPECT_THAT(one.out, HasSubstr("signal 9"));
  EXPECT_THAT(one.out, Not(HasSubstr("shop.counted")));
  EXPECT_THAT(Icepie({"slice", "logs", "shop", "--level", "error"}).out, Not(HasSubstr("INFO")));
  const Outcome last = Icepie({"slice", "logs", "shop", "--lines", "3"});
  EXPECT_EQ(std::count(last.out.begin(), last.out.end(), '\n'), 3) << last.out;

  const Outcome unknown = Icepie({"slice", "logs", "shop.by_itm"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("by_item"));
  EXPECT_THAT(Icepie({"slice", "logs", "shop", "--since", "soon"}).err, HasSubstr("soon"));
}

TEST_F(OperatorTest, LogsAreFollowedOverARestartOfTheWorker) {
  StartShop();
  v1::TailLogsRequest request;
  request.set_name("shop");
  request.set_follow(true);
  request.set_line_count_max(1);
  const auto context = Within(absl::Seconds(60));
  const auto reader = daemon_.Admin()->TailLogs(context.get(), request);
  v1::LogLine line;
  ASSERT_TRUE(reader->Read(&line));
  daemon_.SignalWorker("shop", "live", SIGKILL);
  bool died = false;
  bool came_back = false;
  while (!came_back && reader->Read(&line)) {
    died = died || absl::StrContains(line.message(), "signal 9");
    came_back = died && line.role() == "live" && absl::StrContains(line.message(), "serving ");
  }
  EXPECT_TRUE(came_back);
  context->TryCancel();
  reader->Finish();
}

TEST_F(OperatorTest, ADescriptionSaysWhatIsWantedWhatIsAndWhy) {
  StartShop();
  const v1::Slice running = WaitForState("shop.by_item", v1::RUNNING);
  ASSERT_NE(FindCondition(running, "ANSWERS"), nullptr);
  EXPECT_EQ(FindCondition(running, "ANSWERS")->reason(), "LIVE");
  EXPECT_EQ(FindCondition(running, "FRESH")->status(), v1::SliceCondition::TRUE);
  EXPECT_EQ(FindCondition(running, "STANDBY_READY")->status(), v1::SliceCondition::TRUE);
  EXPECT_TRUE(FindCondition(running, "STANDBY_READY")->has_time());
  ASSERT_EQ(running.dependants_size(), 1);
  EXPECT_EQ(running.dependants(0), "shop.best");
  EXPECT_TRUE(running.generations(0).has_applied_time());

  ASSERT_TRUE(daemon_.Append("sales", {Sale("pear", 500)}).ok());
  const v1::Slice held = WaitForState("shop.by_item", v1::HELD);
  EXPECT_TRUE(held.last_error().permanent());
  EXPECT_EQ(FindCondition(held, "FRESH")->status(), v1::SliceCondition::FALSE);
  EXPECT_EQ(FindCondition(held, "FRESH")->reason(), "SLICE_HELD");
  const std::string text = Icepie({"slice", "describe", "shop.by_item"}).out;
  EXPECT_THAT(text, HasSubstr("next retry: none, needs a change"));
  EXPECT_THAT(text, HasSubstr("EXPECTATION_FAILED: "));
  EXPECT_THAT(text, HasSubstr("FRESH=FALSE SLICE_HELD (since "));
  EXPECT_THAT(text, HasSubstr("read by       shop.best"));
  EXPECT_THAT(text, HasSubstr(" → HELD  EXPECTATION_FAILED"));  // of the last events
  EXPECT_THAT(text, HasSubstr(" ago"));                         // its generation's state
  // Who only waits for it has no permanent cause of its own.
  EXPECT_FALSE(WaitForState("shop.best", v1::BLOCKED).last_error().permanent());
}

TEST_F(OperatorTest, TheLastErrorStaysOverARestartUntilItIsCleared) {
  StartShop();
  ASSERT_TRUE(daemon_.Append("sales", {Sale("pear", 500)}).ok());
  WaitForState("shop.by_item", v1::HELD);
  const Outcome refused = Icepie({"slice", "clear-error", "shop.by_item"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("HELD"));
  ASSERT_EQ(Icepie({"slice", "expect", "shop.by_item", "--waive", "total_small", "--reason",
                    "a real order"})
                .code,
            0);
  EXPECT_EQ(WaitForState("shop.by_item", v1::RUNNING).last_error().reason(), "EXPECTATION_FAILED");
  // Errors are written once a second.
  ASSERT_TRUE(Eventually(
      [&] {
        std::ifstream file(daemon_.data_directory() + "/slice_errors.jsonl");
        std::stringstream text;
        text << file.rdbuf();
        return absl::StrContains(text.str(), "EXPECTATION_FAILED");
      },
      absl::Seconds(60)));
  daemon_.Kill();
  daemon_.Start();
  const v1::Slice running = WaitForState("shop.by_item", v1::RUNNING);
  EXPECT_EQ(running.last_error().reason(), "EXPECTATION_FAILED");
  EXPECT_FALSE(running.last_error().permanent());
  EXPECT_THAT(Icepie({"slice", "describe", "shop.by_item"}).out, HasSubstr("; over ("));

  ASSERT_EQ(Icepie({"slice", "clear-error", "shop.by_item", "--reason", "known"}).code, 0);
  EXPECT_FALSE(daemon_.GetSlice("shop.by_item").has_last_error());
  EXPECT_THAT(Icepie({"events", "shop.by_item"}).out, HasSubstr("ClearSliceError by ann  known"));
  daemon_.Kill();
  daemon_.Start();
  EXPECT_FALSE(WaitForState("shop.by_item", v1::RUNNING).has_last_error());
}

TEST_F(OperatorTest, AnAnswerThatIsTooOldIsAnErrorWhereTheFileSaysSo) {
  StartShop();
  for (const char* slice : {"shop.counted", "shop.by_item"}) {
    ASSERT_EQ(Icepie({"slice", "freeze", slice, "--reason", "INC-1"}).code, 0);
  }
  v1::QueryResponse response;
  grpc::Status status;
  ASSERT_TRUE(Eventually(
      [&] {
        status = daemon_.Query("shop", "SELECT sales FROM counted", -1, &response);
        return !status.ok();
      },
      absl::Seconds(60)));
  EXPECT_EQ(Reason(status), "STALENESS_EXCEEDED");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("shop.counted"));
  EXPECT_THAT(status.error_message(), HasSubstr("SLICE_FROZEN"));
  // The other one is served, and says that it is stale.
  status = daemon_.Query("shop", "SELECT item FROM by_item", -1, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(response.meta().stale());
  EXPECT_THAT(Icepie({"slice", "describe", "shop.counted"}).out, HasSubstr("STALENESS_EXCEEDED"));

  ASSERT_EQ(Icepie({"slice", "thaw", "shop.counted"}).code, 0);
  EXPECT_TRUE(Eventually(
      [&] { return daemon_.Query("shop", "SELECT sales FROM counted", -1, &response).ok(); },
      absl::Seconds(60)));
}

TEST_F(OperatorTest, TopPrintsSamplesWhereThereIsNoTerminal) {
  StartShop();
  v1::QueryResponse response;
  ASSERT_TRUE(daemon_.Query("shop", "SELECT item FROM by_item", -1, &response).ok());
  const Outcome once = Icepie({"top", "--interval", "100ms"});
  EXPECT_EQ(once.code, 0) << once.err;
  for (const char* text : {"core OK  head ", "shop.by_item", "shop live", "running", " MiB"}) {
    EXPECT_THAT(once.out, HasSubstr(text));
  }
  EXPECT_THAT(once.out, Not(HasSubstr("\x1b")));
  const auto sample = nlohmann::json::parse(
      Icepie({"top", "--once", "--json", "--sort", "queries", "--interval", "100ms"}).out);
  EXPECT_EQ(sample["head_position"], end_);
  ASSERT_EQ(sample["slices"].size(), 3u);
  EXPECT_EQ(sample["slices"][0]["name"], "shop.by_item");
  EXPECT_GT(sample["slices"][0]["p99_us"], 0);
  EXPECT_GT(sample["slices"][0]["queries_per_second"], 0);
  EXPECT_GT(sample["workers"][0]["resident_bytes"], 1 << 20);
  EXPECT_EQ(Icepie({"top", "--sort", "size"}).code, 1);
}

// However it ends, the terminal is as it was.
TEST_F(OperatorTest, TopTakesTheTerminalAndGivesItBack) {
  StartShop();
  const std::vector<std::string> command = {"icepie", "--address", daemon_.grpc_address(), "top"};
  const std::vector<std::pair<std::string, int>> ends = {
      {"q", 0}, {"\x03", 0}, {"", SIGTERM}, {"", SIGABRT}};
  for (const auto& [keys, signal] : ends) {
    TerminalProgram top(command);
    ASSERT_TRUE(top.WaitFor("shop.by_item")) << top.seen();
    ASSERT_TRUE(top.WaitFor("sorted by health"));
    EXPECT_TRUE(top.is_raw());
    top.Type("l");
    ASSERT_TRUE(top.WaitFor("sorted by lag")) << top.seen();
    if (signal != 0) top.Signal(signal);
    top.Type(keys);
    const int code = top.Wait();
    EXPECT_EQ(code, signal == SIGABRT ? 128 + SIGABRT : 0);
    EXPECT_THAT(top.seen(), HasSubstr("\x1b[?1049h"));
    EXPECT_THAT(top.seen(), ::testing::EndsWith("\x1b[?1049l"));
    EXPECT_FALSE(top.is_raw());
  }
}

TEST_F(OperatorTest, AnImportOnATerminalShowsBarRateAndEta) {
  constexpr int kRecords = 20000;
  daemon_.Start();
  auto database = slices::DuckDatabase::OpenInMemory({});
  auto connection = slices::DuckConnection::Connect(**database);
  for (const std::string format : {"json", "csv", "parquet"}) {
    SCOPED_TRACE(format);
    const std::string path = daemon_.data_directory() + "/../import." + format;
    const absl::Status written =
        (*connection)
            ->Run(absl::StrCat("COPY (SELECT 'pear' AS item, n AS amount FROM range(", kRecords,
                               ") t(n)) TO ", slices::QuoteLiteral(path), " (FORMAT ", format,
                               ")"));
    ASSERT_TRUE(written.ok()) << written;
    TerminalProgram import({"icepie", "--address", daemon_.grpc_address(), "import", format, path,
                            "--create", "--batch-records", "100"});
    for (const std::string& part :
         {absl::StrCat("import ", format, "  "), std::string("░"), std::string(" %  "),
          std::string("/s  "), std::string("ETA ")}) {
      ASSERT_TRUE(import.WaitFor(part)) << part << ": " << import.seen();
    }
    EXPECT_EQ(import.Wait(), 0);
    EXPECT_THAT(import.seen(), HasSubstr("█"));
    EXPECT_THAT(import.seen(), HasSubstr(absl::StrCat("20,000 records into ", format, " in ")));
  }
}

class DoctorTest : public OperatorTest {
 protected:
  // Every file with its size and time of change.
  std::string Listing() const {
    std::vector<std::string> lines;
    for (const auto& file : fs::recursive_directory_iterator(daemon_.data_directory())) {
      struct stat info {};
      lstat(file.path().c_str(), &info);
      lines.push_back(absl::StrCat(file.path().string(), " ", info.st_size, " ",
                                   info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec));
    }
    std::sort(lines.begin(), lines.end());
    return absl::StrJoin(lines, "\n");
  }

  Outcome Doctor(const std::string& settings = "listen: {grpc: \"127.0.0.1:0\", http: \"\"}\n") {
    const std::string config = daemon_.data_directory() + "/../doctor.yaml";
    std::ofstream(config) << settings;
    return Icepie({"doctor", "--data-dir", daemon_.data_directory(), "--config", config});
  }

  std::vector<fs::path> Snapshots() const {
    std::vector<fs::path> found;
    for (const auto& file : fs::recursive_directory_iterator(daemon_.data_directory() +
                                                             "/domains/shop/snapshots/by_item")) {
      if (file.path().extension() == ".duckdb") found.push_back(file.path());
    }
    return found;
  }

  static void FlipAByte(const fs::path& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(100);
    const int byte = file.get();
    file.seekp(100);
    file.put(static_cast<char>(byte ^ 1));
  }
};

TEST_F(DoctorTest, ASoundDirectoryHasNoProblemAndIsNotWritten) {
  StartShop();
  const Outcome running = Doctor();
  EXPECT_EQ(running.code, 0) << running.out;
  EXPECT_THAT(running.out, HasSubstr(absl::StrCat("lock: process ", daemon_.pid(), " runs on ")));
  EXPECT_THAT(running.out, Not(HasSubstr("mark:")));
  EXPECT_THAT(running.out, HasSubstr("icepie status says what it has found"));
  // Where it listens it says itself: no settings file tells of a port that was free.
  const Outcome without = Icepie({"doctor", "--data-dir", daemon_.data_directory()});
  EXPECT_EQ(without.code, 0) << without.out;
  EXPECT_THAT(without.out, HasSubstr(" accepts connections"));
  daemon_.Kill();
  const std::string before = Listing();
  const Outcome killed = Doctor();
  EXPECT_EQ(killed.code, 0) << killed.out;
  EXPECT_THAT(killed.out, HasSubstr("was killed or crashed"));
  EXPECT_THAT(killed.out, HasSubstr("mark: all "));
  EXPECT_THAT(killed.out, HasSubstr("good snapshot"));
  EXPECT_THAT(killed.out, HasSubstr("catalog: "));
  EXPECT_THAT(killed.out, HasSubstr("no problem found"));
  EXPECT_EQ(Listing(), before);
}

TEST_F(DoctorTest, DamageIsNamedWithItsRemedy) {
  StartShop();
  daemon_.Kill();
  for (const fs::path& snapshot : Snapshots()) FlipAByte(snapshot);
  fs::remove(daemon_.data_directory() + "/core/high_water_mark");
  const Outcome outcome = Doctor();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.out, HasSubstr("PROBLEM  mark: "));
  EXPECT_THAT(outcome.out, HasSubstr("PROBLEM  snapshots: shop.by_item g1: "));
  EXPECT_THAT(outcome.out, HasSubstr("SHA-256"));
  EXPECT_THAT(outcome.out, HasSubstr("→ the slice has no other"));
  EXPECT_THAT(outcome.out, HasSubstr(" problems"));
  // What needs somebody comes first.
  EXPECT_LT(outcome.out.find("PROBLEM"), outcome.out.find("OK "));
}

TEST_F(DoctorTest, ALogThatIsGoneAndWrongSettingsAreProblems) {
  StartShop();
  const Outcome taken = Icepie({"doctor", "--data-dir", daemon_.data_directory() + "/nowhere"});
  EXPECT_EQ(taken.code, 1);
  EXPECT_THAT(taken.out, HasSubstr("PROBLEM  directory: there is no directory"));
  const Outcome wrong = Doctor("listen: {grpc: \"127.0.0.1:0\", http: \"\"}\ncore: {speed: 3}\n");
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.out, HasSubstr("speed"));
  daemon_.Kill();
  fs::remove_all(daemon_.data_directory() + "/core/rocksdb");
  const Outcome gone = Doctor();
  EXPECT_EQ(gone.code, 1);
  EXPECT_THAT(gone.out, HasSubstr("has lost its log"));
  const auto json = nlohmann::json::parse(
      Icepie({"--json", "doctor", "--data-dir", daemon_.data_directory()}).out);
  EXPECT_EQ(json["findings"][0]["severity"], "PROBLEM");
  EXPECT_FALSE(json["findings"][0]["remedy"].get<std::string>().empty());
}

TEST_F(DoctorTest, APortThatSomebodyElseHasIsNamed) {
  StartShop();
  DaemonFixture other;
  other.Start();
  daemon_.Kill();
  const Outcome outcome =
      Doctor(absl::StrCat("listen: {grpc: \"", other.grpc_address(), "\", http: \"\"}\n"));
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.out, HasSubstr(absl::StrCat("listen.grpc ", other.grpc_address())));
  EXPECT_THAT(outcome.out, HasSubstr("cannot be taken"));
}

}  // namespace
}  // namespace icepie::testing
