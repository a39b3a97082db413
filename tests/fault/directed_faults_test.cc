// Faults that need a set-up of their own, on the real programs (tests/fault/README.md has the
// table).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::AnyOf;
using ::testing::HasSubstr;

std::string DomainFile(const std::string& domain, const std::string& limits = "") {
  return absl::StrCat("domain: ", domain,
                      "\nsources:\n  sales: {columns: {item: VARCHAR, amount: INTEGER}}\nslices:\n"
                      "  by_item:\n    sql: SELECT item, count(*) AS sales, sum(amount) AS total "
                      "FROM sales GROUP BY ALL\n    key: [item]\n",
                      limits);
}

constexpr const char* kTotals = "SELECT item, total FROM by_item ORDER BY item";
constexpr const char* kExpected = R"([{"item":"apple","total":2},{"item":"pear","total":7}])";

std::string Reason(const grpc::Status& status) {
  return ErrorReason(server::FromGrpcStatus(status));
}

class DirectedFaultsTest : public ::testing::Test {
 protected:
  void StartDaemon() {
    daemon_.Start();
    if (HasFatalFailure()) return;
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
    end_ =
        daemon_.Append("sales", {R"({"item":"apple","amount":2})", R"({"item":"pear","amount":7})"})
            .value_or(-1);
  }

  void Apply(const std::string& file) {
    v1::ApplyDomainResponse applied;
    const grpc::Status status = daemon_.Apply(file, &applied);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  // The answer with all records, once there is one.
  std::string Answer(const std::string& domain, absl::Duration timeout = absl::Seconds(60)) {
    v1::QueryResponse response;
    Eventually([&] { return daemon_.Query(domain, kTotals, end_, &response).ok(); }, timeout);
    return response.body();
  }

  void WaitForStandby(const std::string& slice) {
    ASSERT_TRUE(Eventually([&] { return daemon_.GetSlice(slice).standby_position() >= end_; },
                           absl::Seconds(60)));
  }

  grpc::Status Ask(const std::string& domain, const std::string& sql) {
    v1::QueryRequest request;
    v1::QueryResponse response;
    request.set_domain(domain);
    request.set_sql(sql);
    return daemon_.Slices()->Query(Within(absl::Seconds(60)).get(), request, &response);
  }

  // Seconds of processor time that the daemon itself has used.
  double DaemonSeconds() const {
    std::ifstream file(absl::StrCat("/proc/", daemon_.pid(), "/stat"));
    std::stringstream text;
    text << file.rdbuf();
    std::istringstream fields(text.str().substr(text.str().rfind(')') + 2));
    std::string skipped;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    double user = 0;
    double system = 0;
    fields >> user >> system;
    return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
  }

  DaemonFixture daemon_;
  int64_t end_ = -1;
};

// The part below which `share` of the durations are.
absl::Duration Percentile(std::vector<absl::Duration> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

// Fault 41. The worker program of all domains but one ends as soon as it starts.
class CrashLoopTest : public DirectedFaultsTest {
 protected:
  void StartWithBrokenDomains() {
    const std::string script = daemon_.directory() + "/worker.sh";
    const char* bin = std::getenv("ICEPIE_BIN");
    std::ofstream(script) << "#!/bin/sh\ncase \"$*\" in *--domain=broken*) exit 0;; esac\nexec "
                          << std::filesystem::absolute(bin != nullptr ? bin : ".").string()
                          << "/icepie-worker \"$@\"\n";
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    daemon_.SetSettings(absl::StrCat("workers: {program: \"", script,
                                     "\", heartbeat_interval_ms: 100, heartbeat_timeout_ms: 10000, "
                                     "snapshot_interval_ms: 300}\n"
                                     "logging: {level: info}\n"));
    StartDaemon();
  }

  // How long each of so many answers took that were asked for, one after the other.
  std::vector<absl::Duration> AskHealthy(int times) {
    std::vector<absl::Duration> took;
    for (int i = 0; i < times; ++i) {
      const absl::Time asked = absl::Now();
      const grpc::Status status = Ask("healthy", kTotals);
      EXPECT_TRUE(status.ok()) << status.error_message();
      if (!status.ok()) break;
      took.push_back(absl::Now() - asked);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return took;
  }
};

TEST_F(CrashLoopTest, DomainsWhoseWorkersEndAtOnceLeaveAHealthyOneAlone) {
  const char* many = std::getenv("ICEPIE_CRASH_LOOP_DOMAINS");  // by a run that is alone
  const int domains = many != nullptr ? std::atoi(many) : 10;
  ASSERT_NO_FATAL_FAILURE(StartWithBrokenDomains());
  ASSERT_NO_FATAL_FAILURE(Apply(DomainFile("healthy")));
  EXPECT_EQ(Answer("healthy"), kExpected);
  const std::vector<absl::Duration> alone = AskHealthy(60);
  std::vector<std::thread> applying;
  for (int i = 0; i < domains; ++i) {
    applying.emplace_back([this, i] { Apply(DomainFile(absl::StrCat("broken", i))); });
  }
  for (std::thread& thread : applying) thread.join();
  // Nobody who applies a file waits for workers that never come: others' files wait for him.
  // He would wait for five seconds beyond what an Apply takes on this machine.
  const auto apply = [&](const std::string& domain, int i) {
    const absl::Time asked = absl::Now();
    Apply(DomainFile(domain, absl::StrCat("# ", i, "\n")));
    return absl::Now() - asked;
  };
  bool waits = true;
  for (int i = 0; i < 10 && waits; ++i) {
    waits = apply("broken0", i) >= apply("healthy", i) + absl::Seconds(4);
  }
  EXPECT_FALSE(waits);
  EXPECT_EQ(Answer("healthy"), kExpected);
  const double before = DaemonSeconds();
  const absl::Time begin = absl::Now();
  const std::vector<absl::Duration> beside = AskHealthy(100);
  const double share = (DaemonSeconds() - before) / absl::ToDoubleSeconds(absl::Now() - begin);
  EXPECT_LT(share, 0.5) << "restarting workers keeps the daemon busy";
  ASSERT_FALSE(alone.empty());
  ASSERT_FALSE(beside.empty());
  // It keeps its latency. Beside other tests the machine may have become busy meanwhile.
  const absl::Duration slack = absl::Milliseconds(many != nullptr ? 50 : 500);
  EXPECT_LE(Percentile(beside, 0.5), 5 * Percentile(alone, 0.5) + slack);
  if (many != nullptr) {
    EXPECT_LE(Percentile(beside, 0.99), 5 * Percentile(alone, 0.99) + absl::Milliseconds(250));
  }
  for (int i = 0; i < domains; ++i) {
    v1::WorkerStatus worker;
    EXPECT_TRUE(Eventually(
        [&] {
          worker = daemon_.Worker(absl::StrCat("broken", i), "live");
          return absl::StrContains(worker.last_error(), "exit code 0");
        },
        absl::Seconds(60)))
        << worker.ShortDebugString();
    EXPECT_THAT(worker.state(), AnyOf("backoff", "suspended", "starting"));
    // A file that is changed gives its workers a new series.
    if (i > 0) EXPECT_LE(worker.restarts(), 10);
  }
  EXPECT_EQ(daemon_.Worker("healthy", "live").restarts(), 0);
}

// Fault 44. The daemon is killed with connections open and comes back on the same ports.
TEST_F(DirectedFaultsTest, AKilledDaemonComesBackOnItsPortsWhileClientsKeepAsking) {
  ASSERT_NO_FATAL_FAILURE(StartDaemon());
  ASSERT_NO_FATAL_FAILURE(Apply(DomainFile("shop")));
  EXPECT_EQ(Answer("shop"), kExpected);
  WaitForStandby("shop.by_item");
  const std::string grpc_address = daemon_.grpc_address();
  daemon_.AddArgument("--listen-grpc=" + grpc_address);
  daemon_.AddArgument("--listen-http=" + daemon_.http_address());
  std::atomic<bool> stop{false};
  std::thread client([&] {
    const auto stub =
        v1::Slices::NewStub(grpc::CreateChannel(grpc_address, grpc::InsecureChannelCredentials()));
    while (!stop) {
      v1::QueryRequest request;
      v1::QueryResponse response;
      request.set_domain("shop");
      request.set_sql(kTotals);
      (void)stub->Query(Within(absl::Seconds(5)).get(), request, &response);
    }
  });
  for (int i = 0; i < 3; ++i) {
    daemon_.Kill();
    daemon_.Start();
    ASSERT_GT(daemon_.pid(), 0);
    EXPECT_EQ(daemon_.grpc_address(), grpc_address);
    v1::QueryRequest request;
    v1::QueryResponse response;
    request.set_domain("shop");
    request.set_sql(kTotals);
    const auto context = Within(absl::Seconds(60));
    context->set_wait_for_ready(true);  // it was refused while nobody listened
    const grpc::Status answered = daemon_.Slices()->Query(context.get(), request, &response);
    EXPECT_TRUE(answered.ok()) << answered.error_message();
    EXPECT_EQ(response.body(), kExpected);
  }
  stop = true;
  client.join();
  // What the killed ones left is gone: two workers have a socket and a flight record each, and the
  // daemon a socket.
  WaitForStandby("shop.by_item");
  EXPECT_TRUE(Eventually(
      [&] {
        int entries = 0;
        std::error_code error;
        for (const auto& entry :
             std::filesystem::directory_iterator(daemon_.data_directory() + "/run", error)) {
          entries += entry.path().filename().string().empty() ? 0 : 1;
        }
        return entries <= 5;
      },
      absl::Seconds(60)));
}

// The most that a domain's workers were seen to have in memory, from its beginning to its end.
class MemoryWatch {
 public:
  MemoryWatch(const DaemonFixture& daemon, std::string domain)
      : thread_([this, &daemon, domain = std::move(domain)] {
          while (!done_) {
            v1::ServerStatus status;
            (void)daemon.Admin()->GetServerStatus(Within(absl::Seconds(60)).get(), {}, &status);
            for (const v1::WorkerStatus& worker : status.workers()) {
              if (worker.domain() == domain) most_ = std::max(most_, worker.resident_bytes());
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
          }
        }) {}
  ~MemoryWatch() { End(); }
  MemoryWatch(const MemoryWatch&) = delete;
  MemoryWatch& operator=(const MemoryWatch&) = delete;

  int64_t End() {
    done_ = true;
    if (thread_.joinable()) thread_.join();
    return most_;
  }

 private:
  std::atomic<bool> done_{false};
  int64_t most_ = 0;  // the thread's until End
  std::thread thread_;
};

// Faults 30 and 31. Whatever a query takes, it has a limit, and the domain goes on.
TEST_F(DirectedFaultsTest, AQueryThatWantsMemoryOrDiskWithoutEndIsRefusedAndTheDomainGoesOn) {
  ASSERT_NO_FATAL_FAILURE(StartDaemon());
  ASSERT_NO_FATAL_FAILURE(
      Apply(DomainFile("shop", "limits: {memory: 64MB, query_timeout: 20s}\n")));
  EXPECT_EQ(Answer("shop"), kExpected);
  WaitForStandby("shop.by_item");
  ASSERT_NO_FATAL_FAILURE(Apply(DomainFile("neighbour")));
  EXPECT_EQ(Answer("neighbour"), kExpected);
  MemoryWatch memory(daemon_, "shop");
  for (const char* sql :
       {// A state that cannot be spilled.
        "SELECT len(list(a.range)) FROM range(30000000) AS a",
        // Four gigabytes in two values.
        "SELECT length(repeat('x', 2000000000)) + length(repeat('y', 2000000000))",
        // A sort that is spilled without end.
        "SELECT max(s) FROM (SELECT repeat(md5(CAST(range AS VARCHAR)), 40) AS s, row_number() "
        "OVER (ORDER BY md5(CAST(range AS VARCHAR))) AS n FROM range(50000000))"}) {
    // Its worker may have been too slow for something else. That a query ends with its worker is a
    // limit, too.
    grpc::Status status;
    EXPECT_TRUE(Eventually([&] {
      status = Ask("shop", sql);
      EXPECT_FALSE(status.ok()) << sql;
      return Reason(status) == "QUERY_MEMORY_LIMIT" || Reason(status) == "QUERY_TIME_LIMIT" ||
             Reason(status) == "DOMAIN_DISK_FULL" || Reason(status) == "QUERY_KILLED";
    })) << sql
        << ": " << status.error_message();
    grpc::Status next;
    EXPECT_TRUE(Eventually([&] { return (next = Ask("shop", kTotals)).ok(); }))
        << "after " << sql << ": " << next.error_message();
  }
  // The host has memory left, and nobody else noticed.
  const int64_t most = memory.End();
  EXPECT_GT(most, 0);
  EXPECT_LE(most, int64_t{2} << 30);
  for (const char* role : {"live", "standby"}) {
    EXPECT_EQ(daemon_.Worker("neighbour", role).restarts(), 0) << role;
  }
  // Nothing of what was spilled is left.
  EXPECT_TRUE(Eventually(
      [&] {
        uintmax_t bytes = 0;
        std::error_code error;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(
                 daemon_.data_directory() + "/domains/shop", error)) {
          std::error_code gone;
          const uintmax_t size = entry.is_regular_file(gone) ? entry.file_size(gone) : 0;
          bytes += gone ? 0 : size;
        }
        return bytes < (uintmax_t{64} << 20);
      },
      absl::Minutes(2)));
  EXPECT_EQ(Answer("shop"), kExpected);
}

// Faults 30 and 28 in a definition, in a build and in an expectation: each ends in a state that
// says what is wrong and what to do, and nobody else is concerned.
class MemoryBombTest : public DirectedFaultsTest {
 protected:
  // A state that cannot be spilled, of hundreds of megabytes.
  static constexpr const char* kBomb =
      "(SELECT len(list(r.range ORDER BY r.range DESC)) FROM range(30000000) AS r)";
  static constexpr const char* kLimits = "limits: {memory: 64MB, query_timeout: 20s}\n";

  // A slice beside by_item.
  static std::string WithSlice(const std::string& domain, const std::string& slice) {
    return absl::StrCat(DomainFile(domain), slice, kLimits);
  }

  void StartWithNeighbour() {
    ASSERT_NO_FATAL_FAILURE(StartDaemon());
    ASSERT_NO_FATAL_FAILURE(Apply(DomainFile("neighbour")));
    EXPECT_EQ(Answer("neighbour"), kExpected);
  }

  v1::Slice WaitForFault(const std::string& slice, const std::string& reason) {
    v1::Slice found;
    EXPECT_TRUE(Eventually(
        [&] {
          found = daemon_.GetSlice(slice);
          return found.state() == v1::FAULTED && found.last_error().reason() == reason;
        },
        absl::Seconds(90)))
        << found.ShortDebugString();
    return found;
  }

  // by_item of `domain` goes on, up to what comes now and with snapshots of it; the neighbour's
  // workers have not ended.
  void ExpectNobodyElseNotices(const std::string& domain) {
    for (int i = 0; i < 3; ++i) {
      end_ = daemon_.Append("sales", {R"({"item":"pear","amount":0})"}).value_or(-1);
      EXPECT_EQ(Answer(domain), kExpected);
      EXPECT_EQ(Answer("neighbour"), kExpected);
    }
    const v1::Slice slice = daemon_.GetSlice(absl::StrCat(domain, ".by_item"));
    EXPECT_THAT(slice.state(), AnyOf(v1::RUNNING, v1::LAGGING)) << slice.ShortDebugString();
    WaitForStandby(absl::StrCat(domain, ".by_item"));
    for (const char* role : {"live", "standby"}) {
      EXPECT_EQ(daemon_.Worker("neighbour", role).restarts(), 0);
    }
  }

  google::longrunning::Operation WaitForBuild(const std::string& name) {
    google::longrunning::Operation operation;
    google::longrunning::GetOperationRequest request;
    request.set_name(name);
    EXPECT_TRUE(Eventually(
        [&] {
          const auto stub = daemon_.Operations();
          return stub->GetOperation(Within(absl::Seconds(60)).get(), request, &operation).ok() &&
                 operation.done();
        },
        absl::Seconds(90)));
    return operation;
  }
};

TEST_F(MemoryBombTest, ADefinitionThatAllocatesWithoutEndIsFaultedAlone) {
  ASSERT_NO_FATAL_FAILURE(StartWithNeighbour());
  // One is applied by every batch, one is recomputed.
  ASSERT_NO_FATAL_FAILURE(Apply(WithSlice(
      "bombs", absl::StrCat("  kept:\n    sql: SELECT item, median(length(repeat(item, amount * "
                            "400000000))) AS n FROM sales GROUP BY ALL\n    key: [item]\n"
                            "  made:\n    sql: SELECT item, sum(amount) + ",
                            kBomb, " AS n FROM sales GROUP BY ALL\n"))));
  for (const char* name : {"bombs.kept", "bombs.made"}) {
    const v1::Slice slice = WaitForFault(name, "SLICE_MEMORY_LIMIT");
    EXPECT_TRUE(slice.has_next_retry_time());
    EXPECT_THAT(slice.last_error().message(), HasSubstr("raise limits.memory"));
    const v1::SliceCondition* answers = FindCondition(slice, "ANSWERS");
    ASSERT_NE(answers, nullptr);
    EXPECT_EQ(answers->status(), v1::SliceCondition::FALSE) << "it has no rows";
    EXPECT_EQ(answers->reason(), "NO_SNAPSHOT_YET");
  }
  ExpectNobodyElseNotices("bombs");
}

TEST_F(MemoryBombTest, ABuildThatAllocatesWithoutEndFailsAndTheServingOneGoesOn) {
  ASSERT_NO_FATAL_FAILURE(StartWithNeighbour());
  const std::string file = WithSlice("shop", "");
  ASSERT_NO_FATAL_FAILURE(Apply(file));
  EXPECT_EQ(Answer("shop"), kExpected);
  WaitForStandby("shop.by_item");
  v1::ApplyDomainResponse applied;
  const std::string worse =
      absl::StrReplaceAll(file, {{"sum(amount)", absl::StrCat("sum(amount) + ", kBomb)}});
  const grpc::Status status = daemon_.Apply(worse, &applied);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_FALSE(applied.changes(0).operation().empty());
  const auto operation = WaitForBuild(applied.changes(0).operation());
  ASSERT_TRUE(operation.has_error());
  EXPECT_THAT(operation.error().message(), HasSubstr("raise limits.memory"));
  bool failed = false;
  const v1::Slice slice = daemon_.GetSlice("shop.by_item");
  for (const auto& generation : slice.generations()) {
    failed = failed || (generation.state() == v1::Generation::FAILED &&
                        generation.error().reason() == "SLICE_MEMORY_LIMIT");
  }
  EXPECT_TRUE(failed);
  ExpectNobodyElseNotices("shop");
}

TEST_F(MemoryBombTest, AnExpectationThatAllocatesWithoutEndIsNamedTriedLessOftenAndCanBeWaived) {
  ASSERT_NO_FATAL_FAILURE(StartWithNeighbour());
  const std::string file = WithSlice(
      "shop",
      absl::StrCat("  checked:\n    sql: SELECT item, sum(amount) AS total FROM sales GROUP "
                   "BY ALL\n    key: [item]\n    expect: [{name: bomb, sql: \"SELECT * FROM "
                   "slice WHERE total > ",
                   kBomb, "\"}]\n"));
  ASSERT_NO_FATAL_FAILURE(Apply(file));
  v1::Slice slice = WaitForFault("shop.checked", "EXPECTATION_STOPPED");
  EXPECT_TRUE(slice.has_next_retry_time());
  EXPECT_THAT(slice.last_error().message(), HasSubstr("expectation bomb"));
  EXPECT_THAT(slice.last_error().message(), HasSubstr("raise limits.memory"));
  EXPECT_NE(FindCondition(slice, "EXPECTATION_NOT_CHECKED"), nullptr);
  ExpectNobodyElseNotices("shop");
  v1::WaiveExpectationRequest waive;
  waive.set_name("shop.checked");
  waive.set_expectation("bomb");
  waive.set_reason("it takes too much");
  ASSERT_TRUE(
      daemon_.Admin()->WaiveExpectation(Within(absl::Seconds(60)).get(), waive, &slice).ok());
  v1::QueryResponse response;
  EXPECT_TRUE(Eventually(
      [&] {
        return daemon_
            .Query("shop", "SELECT item, total FROM checked ORDER BY item", end_, &response)
            .ok();
      },
      absl::Seconds(60)));
  EXPECT_EQ(response.body(), kExpected);
  WaitForStandby("shop.checked");
}

// It is the generation that is judged: nobody serves what nobody could check.
TEST_F(MemoryBombTest, ABuildWhoseExpectationAllocatesWithoutEndIsNotPromoted) {
  ASSERT_NO_FATAL_FAILURE(StartWithNeighbour());
  const std::string file = WithSlice("shop", "");
  ASSERT_NO_FATAL_FAILURE(Apply(file));
  EXPECT_EQ(Answer("shop"), kExpected);
  WaitForStandby("shop.by_item");
  const std::string checked = absl::StrReplaceAll(
      file, {{"    key: [item]\n",
              absl::StrCat("    key: [item]\n    expect: [{name: bomb, sql: \"SELECT * FROM slice "
                           "WHERE total > ",
                           kBomb, "\"}]\n")},
             {"count(*) AS sales", "count(*) + 1 AS sales"}});
  v1::ApplyDomainResponse applied;
  const grpc::Status status = daemon_.Apply(checked, &applied);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const auto operation = WaitForBuild(applied.changes(0).operation());
  EXPECT_FALSE(operation.has_error()) << operation.error().message();
  v1::PromoteGenerationRequest promote;
  v1::Slice slice;
  promote.set_name("shop.by_item");
  const grpc::Status promoted =
      daemon_.Admin()->PromoteGeneration(Within(absl::Seconds(60)).get(), promote, &slice);
  EXPECT_EQ(Reason(promoted), "PROMOTE_GATE_FAILED");
  EXPECT_THAT(promoted.error_message(), HasSubstr("bomb could not be checked"));
  ExpectNobodyElseNotices("shop");
}

// Fault 50. An operator's brake can be pulled twice, with the workers dead, and by mistake.
TEST_F(DirectedFaultsTest, FreezingIsIdempotentAlsoWithDeadWorkers) {
  ASSERT_NO_FATAL_FAILURE(StartDaemon());
  ASSERT_NO_FATAL_FAILURE(Apply(DomainFile("shop")));
  EXPECT_EQ(Answer("shop"), kExpected);
  WaitForStandby("shop.by_item");
  v1::FreezeSliceRequest freeze;
  v1::Slice slice;
  freeze.set_name("shop.by_item");
  freeze.set_actor("ann");
  for (int i = 0; i < 2; ++i) {
    for (const char* role : {"live", "standby"}) {
      const auto pid = static_cast<pid_t>(daemon_.Worker("shop", role).pid());
      if (pid > 0) kill(pid, SIGKILL);
    }
    const grpc::Status frozen =
        daemon_.Admin()->FreezeSlice(Within(absl::Seconds(60)).get(), freeze, &slice);
    ASSERT_TRUE(frozen.ok()) << frozen.error_message();
    EXPECT_EQ(slice.desired().mode(), v1::DesiredState::FREEZE);
  }
  const int64_t after = daemon_.Append("sales", {R"({"item":"plum","amount":1})"}).value_or(-1);
  EXPECT_GT(after, end_);
  v1::QueryResponse response;
  ASSERT_TRUE(daemon_.Query("shop", kTotals, -1, &response).ok());
  EXPECT_EQ(response.body(), kExpected);
  EXPECT_EQ(response.meta().slices(0).stale_reason(), v1::SLICE_FROZEN);
  v1::ThawSliceRequest thaw;
  thaw.set_name("shop.by_item");
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(daemon_.Admin()->ThawSlice(Within(absl::Seconds(60)).get(), thaw, &slice).ok());
  }
  end_ = after;
  EXPECT_THAT(Answer("shop"), HasSubstr("plum"));
}

TEST(FaultHarnessTest, WhoEndsItFindsNothingLeft) {
  std::string directory = absl::StrCat(::testing::TempDir(), "icepie-XXXXXX");
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const char* bin = std::getenv("ICEPIE_BIN");
  ASSERT_NE(bin, nullptr);
  std::string arguments[] = {"env", "TEST_TMPDIR=" + directory, "TMPDIR=" + directory,
                             absl::StrCat(bin, "/icepie-fault"), "--seed=1"};
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  pid_t harness = 0;
  ASSERT_EQ(posix_spawnp(&harness, "env", nullptr, nullptr, pointers.data(), environ), 0);
  pid_t daemon = 0;
  EXPECT_TRUE(Eventually(
      [&] {
        for (const auto& entry : std::filesystem::directory_iterator(directory)) {
          std::ifstream(entry.path() / "data/core/lock") >> daemon;
        }
        return daemon > 0;
      },
      absl::Seconds(60)));
  kill(harness, SIGTERM);
  int status = 0;
  ASSERT_EQ(waitpid(harness, &status, 0), harness);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 128 + SIGTERM);
  EXPECT_TRUE(std::filesystem::is_empty(directory));
  if (daemon > 0) {
    EXPECT_EQ(kill(daemon, 0), -1) << daemon;
    EXPECT_EQ(errno, ESRCH);
  }
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace icepie::testing
