// Real worker processes against a real core served over a Unix socket.
#include "server/worker/worker.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <sched.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/core.h"
#include "server/base/rpc_status.h"
#include "server/record/host_service.h"
#include "server/supervisor/life_watch.h"
#include "server/worker/exit_codes.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"
#include "tests/server/real_group.h"

namespace icepie::server {
namespace {

using icepie::worker::v1::Assignment;
using icepie::worker::v1::Worker;
using icepie::worker::v1::WorkerQueryRequest;
using icepie::worker::v1::WorkerQueryResponse;
using icepie::worker::v1::WorkerReport;
using testing::HasSubstr;

constexpr char kDomain[] = R"(
domain: shop
sources:
  orders:
    columns:
      city: {type: VARCHAR, required: true}
      amount: {type: BIGINT, required: true}
slices:
  by_city:
    sql: SELECT city, count(*) AS orders, sum(amount) AS total FROM orders GROUP BY ALL
    key: [city]
  lines:
    sql: SELECT _position AS position, amount FROM orders
    key: [position]
  ranked:
    sql: SELECT city, rank() OVER (ORDER BY total DESC, city) AS place FROM by_city
    key: [city]
)";

class WorkerProgram {
 public:
  WorkerProgram(const std::string& directory, const std::string& role,
                const std::vector<std::string>& more = {})
      : socket_(absl::StrCat(directory, "/", role, ".sock")) {
    std::vector<std::string> arguments = {absl::StrCat(std::getenv("ICEPIE_BIN"), "/icepie-worker"),
                                          absl::StrCat("--role=", role),
                                          "--domain=shop",
                                          absl::StrCat("--directory=", directory, "/shop"),
                                          absl::StrCat("--socket=", socket_),
                                          absl::StrCat("--host-socket=", directory, "/host.sock"),
                                          absl::StrCat("--parent-pid=", ::getpid()),
                                          "--snapshot-interval-ms=100",
                                          "--memory-bytes=268435456"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::unlink(socket_.c_str());
    if (::posix_spawn(&pid_, argv[0], nullptr, nullptr, argv.data(), environ) != 0) pid_ = -1;
    channel_ = grpc::CreateChannel("unix:" + socket_, grpc::InsecureChannelCredentials());
    stub_ = Worker::NewStub(channel_);
    EXPECT_TRUE(
        channel_->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(60)));
  }
  ~WorkerProgram() {
    if (pid_ > 0) Stop(SIGKILL);
  }

  // Its exit status as waitpid says it.
  int Stop(int signal) {
    ::kill(pid_, signal);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

  // Its exit status, when it ends by itself.
  std::optional<int> WaitForExit() {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    for (int status = 0; absl::Now() < deadline; absl::SleepFor(absl::Milliseconds(5))) {
      if (::waitpid(pid_, &status, WNOHANG) != pid_) continue;
      pid_ = -1;
      return status;
    }
    return std::nullopt;
  }

  Worker::Stub& stub() { return *stub_; }
  pid_t pid() const { return pid_; }

 private:
  std::string socket_;
  pid_t pid_ = -1;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<Worker::Stub> stub_;
};

class WorkerTest : public testing::Test {
 protected:
  WorkerTest() : core_(OpenCore(directory_.path())), service_(core_.get()) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + directory_.path() + "/host.sock",
                             grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    EXPECT_TRUE(core_->CreateStream("orders", PayloadFormat::kJson).ok());
  }
  ~WorkerTest() override { server_->Shutdown(std::chrono::system_clock::now()); }

  static void Bound(grpc::ClientContext& context, int seconds = 30) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(seconds));
  }

  // Orders of `city` with amount 1; returns the head.
  int64_t Append(const std::string& city, int count) {
    AppendBatch batch;
    for (int i = 0; i < count; ++i) {
      NewRecord& record = batch.records.emplace_back();
      record.stream = "orders";
      record.payload = absl::StrCat(R"({"city":")", city, R"(","amount":1})");
    }
    const auto result = core_->AppendAndWait(std::move(batch));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? result->end_position : -1;
  }

  Assignment MakeAssignment(const std::vector<std::string>& slices) {
    Assignment assignment;
    assignment.set_domain("shop");
    assignment.set_epoch(++epoch_);
    for (const std::string& slice : slices) {
      auto* generation = assignment.add_generations();
      generation->set_slice(slice);
      generation->set_number(1);
      generation->set_file(kDomain);
      generation->set_serving(true);
    }
    return assignment;
  }

  static void Configure(WorkerProgram& worker, const Assignment& assignment) {
    grpc::ClientContext context;
    Bound(context);
    icepie::worker::v1::ConfigureResponse response;
    const grpc::Status status = worker.stub().Configure(&context, assignment, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  static WorkerReport Status(WorkerProgram& worker) {
    grpc::ClientContext context;
    Bound(context);
    WorkerReport report;
    const grpc::Status status = worker.stub().GetStatus(&context, {}, &report);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return report;
  }

  static bool WaitUntil(WorkerProgram& worker,
                        const std::function<bool(const WorkerReport&)>& holds) {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (absl::Now() < deadline) {
      if (holds(Status(worker))) return true;
      absl::SleepFor(absl::Milliseconds(5));
    }
    ADD_FAILURE() << Status(worker).DebugString();
    return false;
  }

  static bool WaitForPosition(WorkerProgram& worker, int64_t position) {
    return WaitUntil(worker, [&](const WorkerReport& report) {
      for (const auto& slice : report.slices()) {
        if (slice.applied_position() < position) return false;
      }
      return report.slices_size() > 0;
    });
  }

  struct Rows {
    grpc::Status status;
    std::string body;
    WorkerQueryResponse::Header header;
    bool ended = false;
  };
  static Rows Ask(WorkerProgram& worker, const WorkerQueryRequest& request) {
    grpc::ClientContext context;
    Bound(context);
    const auto reader = worker.stub().Query(&context, request);
    Rows rows;
    WorkerQueryResponse response;
    while (reader->Read(&response)) {
      if (response.has_header()) rows.header = response.header();
      rows.body += response.body();
      rows.ended = rows.ended || response.has_end();
    }
    rows.status = reader->Finish();
    return rows;
  }
  static Rows Ask(WorkerProgram& worker, const std::string& sql) {
    WorkerQueryRequest request;
    request.set_sql(sql);
    return Ask(worker, request);
  }

  TempDirectory directory_;
  std::unique_ptr<Core> core_;
  HostService service_;
  std::unique_ptr<grpc::Server> server_;
  int64_t epoch_ = 0;
};

// The first word after `name` in one of the process's files under /proc.
std::string FieldOf(const std::string& file, const std::string& name) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (!absl::StartsWith(line, name)) continue;
    const std::vector<std::string> words =
        absl::StrSplit(line.substr(name.size()), absl::ByAnyChar(" \t"), absl::SkipEmpty());
    return words.empty() ? "" : words.front();
  }
  return "";
}

int NiceOf(const WorkerProgram& worker) {
  return getpriority(PRIO_PROCESS, static_cast<id_t>(worker.pid()));
}

TEST_F(WorkerTest, EachRoleHasItsPriorityAndWhoAnswersForOthersComesFirst) {
  const int own = getpriority(PRIO_PROCESS, 0);
  if (own > 0) GTEST_SKIP() << "the test itself gives way to others, which its children inherit";
  WorkerProgram live(directory_.path(), "live");
  WorkerProgram standby(directory_.path(), "standby");
  WorkerProgram build(directory_.path(), "build");
  EXPECT_EQ(NiceOf(standby), 0);
  EXPECT_EQ(NiceOf(live), 5);
  EXPECT_EQ(NiceOf(build), 10);
  // Without the flag that children do not inherit it.
  constexpr int kResetOnFork = SCHED_RESET_ON_FORK;
  EXPECT_EQ(sched_getscheduler(build.pid()) & ~kResetOnFork, SCHED_BATCH);
  EXPECT_EQ(sched_getscheduler(live.pid()) & ~kResetOnFork, SCHED_OTHER);
  EXPECT_EQ(sched_getscheduler(standby.pid()) & ~kResetOnFork, SCHED_OTHER);
  constexpr int64_t kWhoProcess = 1;
  constexpr int64_t kIdle = 3;
  EXPECT_EQ(syscall(SYS_ioprio_get, kWhoProcess, build.pid()) >> 13, kIdle);
  EXPECT_NE(syscall(SYS_ioprio_get, kWhoProcess, standby.pid()) >> 13, kIdle);
}

// Under the sandbox, which refuses to tell whether another process is there.
TEST_F(WorkerTest, WhatAKilledWorkerLeftHalfDoneIsRemovedByTheNextOfAnyRole) {
  namespace fs = std::filesystem;
  for (const char* role : {"live", "standby"}) {
    const fs::path tmp = directory_.path() + "/shop/tmp";
    int killed = 0;
    {
      WorkerProgram worker(directory_.path(), role);
      killed = worker.pid();
      EXPECT_TRUE(fs::exists(tmp / absl::StrCat("process-", killed)));
    }
    const fs::path copy = tmp / absl::StrCat("snapshot-", killed, "-1.duckdb");
    const fs::path spill = tmp / absl::StrCat("spill-", killed);
    fs::create_directories(spill);
    ASSERT_TRUE(WriteFileAtomically(copy, "torn").ok());
    ASSERT_TRUE(WriteFileAtomically(spill / "duckdb_temp_storage.tmp", "spilled").ok());
    const WorkerProgram next(directory_.path(), role);
    EXPECT_FALSE(fs::exists(copy)) << role;
    EXPECT_FALSE(fs::exists(spill)) << role;
    EXPECT_FALSE(fs::exists(tmp / absl::StrCat("process-", killed))) << role;
    // What the one makes that is at work stays.
    const fs::path under_way = tmp / absl::StrCat("snapshot-", next.pid(), "-1.duckdb");
    ASSERT_TRUE(WriteFileAtomically(under_way, "half").ok());
    const WorkerProgram beside(directory_.path(), role == std::string("live") ? "build" : "live");
    EXPECT_TRUE(fs::exists(under_way)) << role;
  }
}

TEST_F(WorkerTest, EveryThreadIsConfinedAndNoCoreIsLeft) {
  for (const char* role : {"live", "standby", "build"}) {
    WorkerProgram worker(directory_.path(), role, {"--disk-bytes=1073741824"});
    WorkerReport report;
    grpc::ClientContext context;
    ASSERT_TRUE(worker.stub().GetStatus(&context, {}, &report).ok());
    const std::string process = absl::StrCat("/proc/", worker.pid());
    int threads = 0;
    for (const auto& task : std::filesystem::directory_iterator(process + "/task")) {
      const std::string status = task.path().string() + "/status";
      const std::string no_new_privileges = FieldOf(status, "NoNewPrivs:");
      const std::string filter = FieldOf(status, "Seccomp:");
      if (!std::filesystem::exists(status)) continue;  // it has ended
      EXPECT_EQ(no_new_privileges, "1") << role << " " << task.path();
      if (!absl::StartsWith(report.sandbox(), "none")) {
        EXPECT_EQ(filter, "2") << role << " " << task.path();
      }
      ++threads;
    }
    EXPECT_GT(threads, 1) << role;
    EXPECT_EQ(FieldOf(process + "/limits", "Max core file size"), "0") << role;
    EXPECT_NE(FieldOf(process + "/limits", "Max address space"), "unlimited") << role;
    EXPECT_EQ(FieldOf(process + "/limits", "Max file size"), "1073741824") << role;
  }
}

// Where there is no such group it runs where it was started, and says nothing of one.
TEST_F(WorkerTest, RunsInTheControlGroupThatItIsGiven) {
  const RealGroup group;
  if (!group.usable()) GTEST_SKIP() << "no groups of this user's in the kernel's hierarchy";
  {
    WorkerProgram worker(directory_.path(), "live", {"--cgroup=" + group.path()});
    EXPECT_THAT(Status(worker).sandbox(), testing::EndsWith(", own control group"));
    EXPECT_EQ(RealGroup::Of(worker.pid()), group.name());
  }
  WorkerProgram worker(directory_.path(), "live", {"--cgroup=" + group.path() + "/missing"});
  EXPECT_THAT(Status(worker).sandbox(), testing::Not(HasSubstr("control group")));
  EXPECT_EQ(RealGroup::Of(worker.pid()), RealGroup::Of(::getpid()));
}

TEST_F(WorkerTest, AppliesAndAnswersOverItsSocket) {
  Append("Bern", 500);
  WorkerProgram worker(directory_.path(), "live");
  Configure(worker, MakeAssignment({"by_city", "lines", "ranked"}));
  const int64_t head = Append("Chur", 300);
  ASSERT_TRUE(WaitForPosition(worker, head));
  const Rows rows = Ask(worker, "SELECT city, orders FROM by_city ORDER BY city");
  ASSERT_TRUE(rows.status.ok()) << rows.status.error_message();
  EXPECT_TRUE(rows.ended);
  EXPECT_EQ(rows.body, R"([{"city":"Bern","orders":500},{"city":"Chur","orders":300}])");
  ASSERT_EQ(rows.header.slices_size(), 1);
  EXPECT_EQ(rows.header.slices(0).applied_position(), head);
  EXPECT_EQ(Status(worker).role(), "live");

  WorkerQueryRequest again;
  again.set_sql("SELECT city, orders FROM by_city ORDER BY city");
  auto* known = again.add_known();
  known->set_slice("by_city");
  known->set_generation(1);
  known->set_content_version(rows.header.slices(0).content_version());
  EXPECT_TRUE(Ask(worker, again).header.not_modified());
  EXPECT_EQ(worker.Stop(SIGTERM), 0);
}

// It may not connect anew; it stops as one that is asked to.
TEST_F(WorkerTest, WithoutItsConnectionWithTheDaemonItStopsInOrder) {
  const int64_t head = Append("Bern", 3);
  WorkerProgram worker(directory_.path(), "live");
  Configure(worker, MakeAssignment({"by_city"}));
  ASSERT_TRUE(WaitForPosition(worker, head));
  server_->Shutdown(std::chrono::system_clock::now());
  EXPECT_EQ(worker.WaitForExit(), 0);
}

TEST_F(WorkerTest, ASaveThatWouldMakeAFileTooLargeFailsAloneAndIsMadeUpFor) {
  WorkerProgram worker(directory_.path(), "live", {"--disk-bytes=67108864"});
  Configure(worker, MakeAssignment({"by_city"}));
  rlimit limit{};
  ASSERT_EQ(::prlimit(worker.pid(), RLIMIT_FSIZE, nullptr, &limit), 0);
  const rlimit small = {4096, limit.rlim_max};
  ASSERT_EQ(::prlimit(worker.pid(), RLIMIT_FSIZE, &small, nullptr), 0);
  const int64_t head = Append("Bern", 3);
  ASSERT_TRUE(WaitUntil(worker, [](const WorkerReport& report) {
    return report.slices_size() > 0 && report.slices(0).last_error().reason() == "DOMAIN_DISK_FULL";
  }));
  EXPECT_EQ(Ask(worker, "SELECT orders FROM by_city").body, R"([{"orders":3}])");
  ASSERT_EQ(::prlimit(worker.pid(), RLIMIT_FSIZE, &limit, nullptr), 0);
  EXPECT_TRUE(WaitUntil(worker, [&](const WorkerReport& report) {
    return report.slices(0).snapshot().position() >= head;
  }));
  // The last one as well, and its exit code says so.
  ASSERT_EQ(::prlimit(worker.pid(), RLIMIT_FSIZE, &small, nullptr), 0);
  ASSERT_TRUE(WaitForPosition(worker, Append("Bern", 1)));
  const int status = worker.Stop(SIGTERM);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kExitUnsaved) << status;
}

TEST_F(WorkerTest, KilledAnyTimeItGoesOnExactlyOnce) {
  int64_t head = 0;
  for (int round = 0; round < 6; ++round) {
    head = Append("Bern", 137);
    WorkerProgram worker(directory_.path(), "live");
    Configure(worker, MakeAssignment({"by_city", "lines"}));
    ASSERT_TRUE(WaitForPosition(worker, head));
    // Killed while it saves and applies.
    head = Append("Chur", 211);
    worker.Stop(SIGKILL);
  }
  WorkerProgram worker(directory_.path(), "live");
  Configure(worker, MakeAssignment({"by_city", "lines"}));
  ASSERT_TRUE(WaitForPosition(worker, head));
  EXPECT_EQ(
      Ask(worker, "SELECT city, orders, total FROM by_city ORDER BY city").body,
      R"([{"city":"Bern","orders":822,"total":822},{"city":"Chur","orders":1266,"total":1266}])");
  EXPECT_EQ(Ask(worker, "SELECT count(*) AS n, max(position) AS last FROM lines").body,
            R"([{"n":2088,"last":2087}])");
}

TEST_F(WorkerTest, ItsPageOfMemoryTellsItsDeathAndOnlyThat) {
  auto made = LifePage::Make();
  ASSERT_TRUE(made.ok()) << made.status();
  const std::shared_ptr<const LifePage> page = *std::move(made);
  const int inherited = ::dup(page->fd());
  WorkerProgram worker(directory_.path(), "live", {absl::StrCat("--life-fd=", inherited)});
  ::close(inherited);
  Configure(worker, MakeAssignment({"by_city"}));
  ASSERT_TRUE(WaitForPosition(worker, Append("Bern", 1)));
  EXPECT_NE(page->word(), 0u);
  EXPECT_FALSE(page->lost());
  LifeWatch watch;
  std::promise<void> died;
  watch.Add(page, [&] { died.set_value(); });
  worker.Stop(SIGKILL);
  EXPECT_EQ(died.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
}

TEST_F(WorkerTest, AStandbyAnswersFromTheSnapshotAndFollowsIt) {
  const int64_t head = Append("Bern", 10);
  WorkerProgram live(directory_.path(), "live");
  WorkerProgram standby(directory_.path(), "standby");
  const Assignment assignment = MakeAssignment({"by_city"});
  Configure(standby, assignment);
  Configure(live, assignment);
  ASSERT_TRUE(WaitForPosition(standby, head));
  EXPECT_EQ(Ask(standby, "SELECT * FROM by_city").body, Ask(live, "SELECT * FROM by_city").body);
  const int64_t later = Append("Bern", 5);
  ASSERT_TRUE(WaitForPosition(standby, later));
  live.Stop(SIGKILL);
  EXPECT_EQ(Ask(standby, "SELECT orders FROM by_city").body, R"([{"orders":15}])");
}

TEST_F(WorkerTest, AStandbyKeepsTheDomainsTimeLimit) {
  const int64_t head = Append("Bern", 1);
  Assignment assignment = MakeAssignment({"by_city"});
  assignment.mutable_generations(0)->mutable_file()->append("limits: {query_timeout: 2s}\n");
  WorkerProgram live(directory_.path(), "live");
  WorkerProgram standby(directory_.path(), "standby");
  Configure(live, assignment);
  Configure(standby, assignment);
  ASSERT_TRUE(WaitForPosition(standby, head));
  for (WorkerProgram* worker : {&live, &standby}) {
    const Rows endless =
        Ask(*worker, "SELECT count(*) FROM range(10000000) a, range(10000000) b, by_city");
    EXPECT_EQ(ErrorReason(FromGrpcStatus(endless.status)), "QUERY_TIME_LIMIT");
    EXPECT_THAT(endless.status.error_message(), HasSubstr("limit of 2s"));
  }
}

TEST_F(WorkerTest, ABuildIsComparedAndTakenOver) {
  const int64_t head = Append("Bern", 10);
  WorkerProgram live(directory_.path(), "live");
  Configure(live, MakeAssignment({"by_city"}));
  ASSERT_TRUE(WaitUntil(live, [&](const WorkerReport& report) {
    return report.slices_size() == 1 && report.slices(0).snapshot().position() == head;
  }));
  Assignment job;
  job.set_domain("shop");
  job.set_epoch(++epoch_);
  auto* generation = job.add_generations();
  generation->set_slice("by_city");
  generation->set_number(2);
  std::string file = kDomain;
  file.replace(file.find("sum(amount)"), 11, "max(amount) AS most, sum(2 * amount)");
  generation->set_file(file);
  job.mutable_build()->set_slice("by_city");
  job.mutable_build()->set_number(2);
  job.mutable_build()->set_base_generation(1);
  job.mutable_build()->set_base_snapshot(Status(live).slices(0).snapshot().path());
  job.mutable_build()->set_base_position(head);
  const int64_t later = Append("Chur", 1);
  WorkerProgram build(directory_.path(), "build");
  Configure(build, job);
  ASSERT_TRUE(WaitUntil(build, [&](const WorkerReport& report) {
    return report.build().phase() == "ready" || report.build().phase() == "failed";
  }));
  const auto report = Status(build).build();
  ASSERT_EQ(report.phase(), "ready") << report.error().message();
  EXPECT_EQ(report.diff().changed(), 1);
  EXPECT_EQ(report.diff().not_by_key(), "");
  ASSERT_EQ(report.diff().columns_size(), 1);
  EXPECT_EQ(report.diff().columns(0).name(), "most");
  EXPECT_EQ(report.diff().columns(0).base_type(), "");
  EXPECT_EQ(report.diff().columns(0).new_type(), "BIGINT");
  EXPECT_EQ(report.diff().position(), head);
  EXPECT_EQ(report.snapshot().position(), later);
  EXPECT_EQ(build.Stop(SIGTERM), 0);

  Assignment promoted = MakeAssignment({});
  *promoted.add_generations() = *generation;
  promoted.mutable_generations(0)->set_serving(true);
  promoted.mutable_generations(0)->set_start_snapshot(report.snapshot().path());
  promoted.set_epoch(job.epoch() + 1);
  Configure(live, promoted);
  ASSERT_TRUE(WaitUntil(live, [&](const WorkerReport& status) {
    return status.slices_size() == 1 && status.slices(0).generation() == 2;
  }));
  EXPECT_EQ(Ask(live, "SELECT total FROM by_city ORDER BY city").body,
            R"([{"total":20},{"total":2}])");
}

TEST_F(WorkerTest, AnEndlessQueryIsStoppedAndNamed) {
  Append("Bern", 1);
  WorkerProgram worker(directory_.path(), "live", {"--query-timeout-ms=2000"});
  Configure(worker, MakeAssignment({"by_city"}));
  // It may stand at the head before it knows that this was all that it had to catch up with.
  ASSERT_TRUE(WaitUntil(worker, [](const WorkerReport& report) {
    return report.slices_size() == 1 && report.slices(0).state() == icepie::v1::RUNNING;
  }));
  const Rows endless =
      Ask(worker, "SELECT count(*) FROM range(10000000) a, range(10000000) b, by_city");
  EXPECT_EQ(endless.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED)
      << endless.status.error_message();
  EXPECT_EQ(ErrorReason(FromGrpcStatus(endless.status)), "QUERY_TIME_LIMIT");
  EXPECT_THAT(endless.status.error_message(), HasSubstr("by_city"));
  EXPECT_TRUE(Ask(worker, "SELECT * FROM by_city").status.ok());
}

// Planning folds the constants, which no interrupt ends.
TEST_F(WorkerTest, AQueryThatDoesNotListenIsAnsweredAndEndsTheProcess) {
  const int64_t head = Append("Bern", 1);
  WorkerProgram live(directory_.path(), "live", {"--query-timeout-ms=1000"});
  WorkerProgram standby(directory_.path(), "standby", {"--query-timeout-ms=1000"});
  for (WorkerProgram* worker : {&live, &standby}) {
    Configure(*worker, MakeAssignment({"by_city"}));
    ASSERT_TRUE(WaitForPosition(*worker, head));
  }
  for (WorkerProgram* worker : {&live, &standby}) {
    const Rows deaf =
        Ask(*worker, "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))");
    EXPECT_EQ(ErrorReason(FromGrpcStatus(deaf.status)), "QUERY_TIME_LIMIT")
        << deaf.status.error_message();
    EXPECT_THAT(deaf.status.error_message(), testing::StartsWith("query that reads no slice took"));
    const std::optional<int> status = worker->WaitForExit();
    ASSERT_TRUE(status.has_value()) << "still computing";
    EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 4) << *status;
  }
}

TEST_F(WorkerTest, PlansAFileWithoutBeingConfigured) {
  WorkerProgram worker(directory_.path(), "build");
  grpc::ClientContext context;
  Bound(context);
  icepie::worker::v1::PlanDomainRequest request;
  request.set_file(kDomain);
  request.set_file_name("shop.yaml");
  icepie::worker::v1::PlanDomainResponse response;
  const grpc::Status status = worker.stub().PlanDomain(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.domain(), "shop");
  ASSERT_EQ(response.slices_size(), 3);
}

TEST_F(WorkerTest, UnknownSlicesAndForbiddenSqlAreRefused) {
  const int64_t head = Append("Bern", 1);
  WorkerProgram worker(directory_.path(), "live");
  Configure(worker, MakeAssignment({"by_city"}));
  ASSERT_TRUE(WaitForPosition(worker, head));
  const auto reason = [&](const std::string& sql) {
    return ErrorReason(FromGrpcStatus(Ask(worker, sql).status));
  };
  EXPECT_EQ(reason("SELECT * FROM nothing"), "SLICE_NOT_FOUND");
  EXPECT_EQ(reason("SELECT nothing FROM by_city"), "SQL_UNKNOWN_COLUMN");
  EXPECT_EQ(reason("DROP TABLE by_city"), "SQL_NOT_A_SELECT");
  EXPECT_EQ(reason("SELECT * FROM read_text('/etc/passwd')"), "SQL_FORBIDDEN");
}

}  // namespace
}  // namespace icepie::server
