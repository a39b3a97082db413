// What operators do to slices and domains that run, and what the daemon does to workers that fail.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);

constexpr const char* kShop = R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  by_item:
    sql: SELECT item, count(*) AS sales, sum(amount) AS total FROM sales GROUP BY ALL
    key: [item]
  busiest:
    sql: SELECT item FROM by_item ORDER BY sales DESC, item LIMIT 1
  everything:
    sql: SELECT count(*) AS sales FROM sales
)";

constexpr const char* kByItem = "SELECT item, sales FROM by_item ORDER BY item";
constexpr const char* kEverything = "SELECT sales FROM everything";

std::string Sale(const std::string& item) {
  return absl::StrCat(R"({"item":")", item, R"(","amount":1})");
}

std::string Reason(const grpc::Status& status) {
  return ErrorReason(server::FromGrpcStatus(status));
}

class SupervisionTest : public ::testing::Test {
 protected:
  // Three slices that have snapshots with two records.
  void StartShop() {
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
    const auto end = daemon_.Append("sales", {Sale("pear"), Sale("apple")});
    ASSERT_TRUE(end.ok()) << end.status();
    v1::ApplyDomainResponse response;
    const auto applied = daemon_.Apply(kShop, &response);
    ASSERT_TRUE(applied.ok()) << applied.error_message();
    for (const char* slice : {"shop.by_item", "shop.busiest", "shop.everything"}) {
      ASSERT_TRUE(
          Eventually([&] { return daemon_.GetSlice(slice).standby_position() >= *end; }, kLong))
          << slice;
    }
  }

  int64_t AppendPear() {
    const auto end = daemon_.Append("sales", {Sale("pear")});
    EXPECT_TRUE(end.ok()) << end.status();
    return end.value_or(-1);
  }

  v1::QueryResponse ExpectAnswer(const std::string& sql, int64_t min_position = -1) {
    v1::QueryResponse response;
    const auto status = daemon_.Query("shop", sql, min_position, &response);
    EXPECT_TRUE(status.ok()) << sql << ": " << status.error_message();
    return response;
  }

  template <typename Request>
  using SliceCall = grpc::Status (v1::Admin::Stub::*)(grpc::ClientContext*, const Request&,
                                                      v1::Slice*);
  template <typename Request>
  v1::Slice ExpectChanged(SliceCall<Request> call, const std::string& name,
                          const std::string& reason = "INC-1") {
    Request request;
    request.set_name(name);
    request.set_reason(reason);
    request.set_actor("ops");
    v1::Slice slice;
    const auto status = (daemon_.Admin().get()->*call)(Within(kLong).get(), request, &slice);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return slice;
  }
  v1::Slice Suspend(const std::string& name, const std::string& reason = "INC-1") {
    return ExpectChanged<v1::SuspendSliceRequest>(&v1::Admin::Stub::SuspendSlice, name, reason);
  }
  v1::Slice Resume(const std::string& name) {
    return ExpectChanged<v1::ResumeSliceRequest>(&v1::Admin::Stub::ResumeSlice, name);
  }
  v1::Slice Restart(const std::string& name) {
    return ExpectChanged<v1::RestartSliceRequest>(&v1::Admin::Stub::RestartSlice, name);
  }
  v1::Slice Freeze(const std::string& name) {
    return ExpectChanged<v1::FreezeSliceRequest>(&v1::Admin::Stub::FreezeSlice, name);
  }

  v1::Slice Thaw(const std::string& name) {
    return ExpectChanged<v1::ThawSliceRequest>(&v1::Admin::Stub::ThawSlice, name);
  }

  using DomainCall = grpc::Status (v1::Admin::Stub::*)(grpc::ClientContext*,
                                                       const v1::ChangeDomainRequest&,
                                                       v1::ListSlicesResponse*);
  v1::ListSlicesResponse ExpectChanged(DomainCall call) {
    v1::ChangeDomainRequest request;
    request.set_name("shop");
    request.set_reason("INC-2");
    request.set_actor("ops");
    v1::ListSlicesResponse slices;
    const auto status = (daemon_.Admin().get()->*call)(Within(kLong).get(), request, &slices);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(slices.slices_size(), 3);
    return slices;
  }

  bool WaitForState(const std::string& name, v1::SliceState state) {
    return Eventually([&] { return daemon_.GetSlice(name).state() == state; }, kLong);
  }

  // Actions as the stream _admin has them.
  std::string AdminRecords() {
    v1::ReadRecordsRequest request;
    request.add_streams("_admin");
    const auto context = Within(kLong);
    const auto reader = daemon_.Core()->ReadRecords(context.get(), request);
    std::string records;
    v1::ReadRecordsResponse part;
    while (reader->Read(&part)) {
      for (const auto& record : part.records()) absl::StrAppend(&records, record.payload(), "\n");
    }
    return records;
  }

  std::string Events() {
    v1::ListEventsRequest request;
    request.set_name("shop");
    request.set_page_size(1000);
    v1::ListEventsResponse events;
    EXPECT_TRUE(daemon_.Admin()->ListEvents(Within(kLong).get(), request, &events).ok());
    std::string text;
    for (const auto& event : events.events()) {
      absl::StrAppend(&text, event.subject(), " ", event.slice(), " ", event.from(), ">",
                      event.to(), "\n");
    }
    return text;
  }

  // Workers are started by a script that ends at once while this file is there.
  std::string FailingWorkers(const std::string& role) {
    const std::string directory = daemon_.data_directory() + "-workers";
    std::filesystem::create_directories(directory);
    const std::string program = directory + "/worker.sh";
    std::ofstream(program) << "#!/bin/sh\ncase \"$*\" in *--role=" << role << "*) [ -e "
                           << directory << "/fail ] && exit 7;; esac\nexec "
                           << std::getenv("ICEPIE_BIN") << "/icepie-worker \"$@\"\n";
    chmod(program.c_str(), 0700);
    daemon_.SetSettings(absl::StrCat(
        "workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 10000, ",
        "snapshot_interval_ms: 300, restart_backoff_ms: 1, suspension_ms: 600000, program: ",
        program, "}\n"));
    return directory + "/fail";
  }

  DaemonFixture daemon_;
};

TEST_F(SupervisionTest, ASuspendedSliceAnswersFromItsSnapshotAndTheOthersGoOn) {
  StartShop();
  const int64_t before = AppendPear();
  ExpectAnswer(kByItem, before);
  const v1::Slice suspended = Suspend("shop.by_item");
  EXPECT_TRUE(WaitForState("shop.by_item", v1::SUSPENDED));
  EXPECT_EQ(suspended.desired().mode(), v1::DesiredState::SUSPEND);
  EXPECT_EQ(suspended.desired().actor(), "ops");
  EXPECT_EQ(Suspend("shop.by_item", "another").desired().reason(), "INC-1");

  const int64_t end = AppendPear();
  // What was applied before is in the snapshot; what came later is not.
  const auto rows = ExpectAnswer(kByItem);
  EXPECT_EQ(rows.body(), R"([{"item":"apple","sales":1},{"item":"pear","sales":2}])");
  EXPECT_TRUE(rows.meta().stale());
  EXPECT_EQ(rows.meta().slices(0).stale_reason(), v1::SLICE_SUSPENDED);
  EXPECT_EQ(ExpectAnswer(kEverything, end).body(), R"([{"sales":4}])");
  EXPECT_TRUE(WaitForState("shop.busiest", v1::BLOCKED));
  v1::QueryResponse unreachable;
  EXPECT_EQ(Reason(daemon_.Query("shop", kByItem, end, &unreachable)), "POSITION_UNREACHABLE");

  // What it had applied is saved when it is suspended, which may take longer than the call.
  ASSERT_TRUE(Eventually(
      [&] { return daemon_.GetSlice("shop.by_item").standby_position() >= before; }, kLong));
  daemon_.Kill();
  daemon_.Start();
  EXPECT_EQ(ExpectAnswer(kByItem).body(), rows.body());
  EXPECT_TRUE(WaitForState("shop.by_item", v1::SUSPENDED));
  EXPECT_EQ(ExpectAnswer(kEverything, end).body(), R"([{"sales":4}])");

  Resume("shop.by_item");
  const auto fresh = ExpectAnswer(kByItem, end);
  EXPECT_EQ(fresh.body(), R"([{"item":"apple","sales":1},{"item":"pear","sales":3}])");
  EXPECT_TRUE(WaitForState("shop.by_item", v1::RUNNING));
  EXPECT_TRUE(WaitForState("shop.busiest", v1::RUNNING));
  EXPECT_THAT(AdminRecords(), HasSubstr("\"action\":\"SuspendSlice\",\"actor\":\"ops\""));
  EXPECT_THAT(Events(), HasSubstr("SuspendSlice shop.by_item"));
  EXPECT_THAT(Events(), ::testing::ContainsRegex("shop.by_item [A-Z]+>SUSPENDED"));
}

TEST_F(SupervisionTest, ASuspendedDomainHasNoLiveWorkerAndFrozenSlicesStayFrozen) {
  StartShop();
  Freeze("shop.everything");
  const auto slices = ExpectChanged(&v1::Admin::Stub::SuspendDomain);
  for (const auto& slice : slices.slices()) EXPECT_TRUE(WaitForState(slice.name(), v1::SUSPENDED));
  EXPECT_TRUE(
      Eventually([&] { return daemon_.Worker("shop", "live").state() == "paused"; }, kLong));
  const int64_t end = AppendPear();
  const auto rows = ExpectAnswer(kByItem);
  EXPECT_EQ(rows.meta().slices(0).source(), v1::STANDBY);
  EXPECT_EQ(rows.meta().slices(0).stale_reason(), v1::SLICE_SUSPENDED);
  daemon_.Kill();
  daemon_.Start();
  EXPECT_EQ(ExpectAnswer(kByItem).body(), rows.body());
  EXPECT_EQ(daemon_.Worker("shop", "live").pid(), 0);
  // Admin calls work without the worker, and the brake does not load what was suspended.
  EXPECT_EQ(Restart("shop.by_item").state(), v1::SUSPENDED);
  const v1::Slice frozen = Freeze("shop.by_item");
  EXPECT_EQ(frozen.state(), v1::SUSPENDED);
  EXPECT_EQ(frozen.desired().resume_to(), v1::DesiredState::FREEZE);
  EXPECT_EQ(Thaw("shop.by_item").state(), v1::SUSPENDED);
  EXPECT_EQ(daemon_.Worker("shop", "live").state(), "paused");

  ExpectChanged(&v1::Admin::Stub::ResumeDomain);
  ExpectAnswer(kByItem, end);
  EXPECT_TRUE(WaitForState("shop.by_item", v1::RUNNING));
  EXPECT_TRUE(WaitForState("shop.everything", v1::FROZEN));
  ExpectChanged(&v1::Admin::Stub::ThawDomain);
  ExpectAnswer(kEverything, end);
  ExpectChanged(&v1::Admin::Stub::RefreshDomain);
  EXPECT_EQ(ExpectAnswer("SELECT item FROM busiest").body(), R"([{"item":"pear"}])");
}

TEST_F(SupervisionTest, AWorkerThatStandsStillBeforeItsFirstAnswerIsReplaced) {
  const std::string directory = daemon_.data_directory() + "-workers";
  std::filesystem::create_directories(directory);
  const std::string program = directory + "/worker.sh";
  std::ofstream(program) << "#!/bin/sh\ncase \"$*\" in *--role=live*) mkdir " << directory
                         << "/stopped 2>/dev/null && kill -STOP $$;; esac\nexec "
                         << std::getenv("ICEPIE_BIN") << "/icepie-worker \"$@\"\n";
  chmod(program.c_str(), 0700);
  daemon_.SetSettings(
      absl::StrCat("workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 2000, "
                   "snapshot_interval_ms: 300, program: ",
                   program, "}\n"));
  StartShop();
  ExpectAnswer(kByItem, AppendPear());
  // A later death would be its last error.
  EXPECT_THAT(daemon_.Log(), HasSubstr("did nothing for 2s"));
}

// Long before it is taken for dead.
TEST_F(SupervisionTest, WhileTheLiveWorkerHangsTheStandbyAnswersWithinShortDeadlines) {
  daemon_.SetSettings(
      "workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 300000, "
      "snapshot_interval_ms: 300, memory_bytes: 268435456}\n");
  StartShop();
  const pid_t live = daemon_.SignalWorker("shop", "live", SIGSTOP);
  const auto before = daemon_.Worker("shop", "live");
  ASSERT_TRUE(daemon_.Append("sales", {Sale("pear")}).ok());
  v1::QueryRequest request;
  request.set_domain("shop");
  request.set_sql(kEverything);
  for (int i = 0; i < 10; ++i) {
    v1::QueryResponse answer;
    const auto status = daemon_.Slices()->Query(Within(absl::Seconds(20)).get(), request, &answer);
    ASSERT_TRUE(status.ok()) << i << ": " << status.error_message();
    EXPECT_EQ(answer.meta().slices(0).source(), v1::STANDBY);
    EXPECT_EQ(answer.meta().slices(0).stale_reason(), v1::WORKER_DOWN);
  }
  EXPECT_EQ(daemon_.Worker("shop", "live").pid(), live);
  kill(live, SIGCONT);
  EXPECT_TRUE(Eventually(
      [&] { return ExpectAnswer(kEverything).meta().slices(0).source() == v1::LIVE; }, kLong));
  EXPECT_EQ(daemon_.Worker("shop", "live").restarts(), before.restarts());
}

// All else of it goes on: only a question that it asks itself tells.
TEST_F(SupervisionTest, AWorkerWhoseQueriesHangIsReplacedAndTheStandbyAnswersMeanwhile) {
  const std::string directory = daemon_.data_directory() + "-workers";
  std::filesystem::create_directories(directory);
  const std::string program = directory + "/worker.sh";
  std::ofstream(program) << "#!/bin/sh\nexec " << std::getenv("ICEPIE_BIN")
                         << "/icepie-fragile-worker --hang-timeout-ms=1000 \"$@\"\n";
  chmod(program.c_str(), 0700);
  daemon_.SetSettings(
      absl::StrCat("workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 2000, "
                   "snapshot_interval_ms: 300, restart_backoff_ms: 1, program: ",
                   program, "}\n"));
  StartShop();
  ExpectAnswer(kByItem, AppendPear());
  const auto hung = daemon_.Worker("shop", "live");
  const std::string hold = daemon_.data_directory() + "/domains/shop/hold_queries";
  std::ofstream(hold) << "now";
  const int64_t end = AppendPear();
  EXPECT_EQ(ExpectAnswer(kEverything).meta().slices(0).source(), v1::STANDBY);
  const auto is_replaced = [&] {
    const auto now = daemon_.Worker("shop", "live");
    return now.restarts() > hung.restarts() &&
           now.last_error().find("has not answered a question of its own") != std::string::npos;
  };
  EXPECT_TRUE(Eventually(is_replaced, kLong)) << daemon_.Worker("shop", "live").last_error();
  std::filesystem::remove(hold);
  EXPECT_TRUE(Eventually(
      [&] { return ExpectAnswer(kEverything).meta().slices(0).source() == v1::LIVE; }, kLong));
  ExpectAnswer(kEverything, end);
}

TEST_F(SupervisionTest, TheSandboxIsShownAndWhatRequiresItDoesNotRunOutside) {
  StartShop();
  const std::string sandbox = daemon_.Worker("shop", "live").sandbox();
  EXPECT_EQ(daemon_.Worker("shop", "standby").sandbox(), sandbox);
  if (sandbox.rfind("full", 0) != 0) GTEST_SKIP() << "this kernel has less: " << sandbox;
  daemon_.Stop();
  const std::string settings =
      "workers: {heartbeat_interval_ms: 100, snapshot_interval_ms: 300, require_sandbox: true";
  daemon_.SetSettings(settings + "}\n");
  daemon_.Start();
  EXPECT_TRUE(WaitForState("shop.by_item", v1::RUNNING));
  daemon_.Stop();
  daemon_.SetSettings(absl::StrCat(settings, ", program: ", std::getenv("ICEPIE_BIN"),
                                   "/icepie-fragile-worker}\n"));
  setenv("ICEPIE_HIDE_LANDLOCK", "1", 1);
  daemon_.Start();
  unsetenv("ICEPIE_HIDE_LANDLOCK");
  for (const char* role : {"live", "standby"}) {
    EXPECT_TRUE(Eventually(
        [&] {
          const auto worker = daemon_.Worker("shop", role);
          return worker.pid() == 0 &&
                 worker.last_error().find("require_sandbox") != std::string::npos;
        },
        kLong))
        << role;
  }
}

TEST_F(SupervisionTest, ARestartFailsNoQueryAndStartsAWorkerThatHangs) {
  StartShop();
  const int64_t end = AppendPear();
  ExpectAnswer(kByItem, end);
  std::atomic<bool> done{false};
  std::atomic<int> answers{0};
  std::thread reader([&] {
    while (!done) {
      ExpectAnswer(kByItem);
      ++answers;
    }
  });
  const auto before = daemon_.Worker("shop", "live");
  const auto standby = daemon_.Worker("shop", "standby");
  const auto standby_is_new = [&] {
    const auto now = daemon_.Worker("shop", "standby");
    return now.pid() != standby.pid() && now.state() == "running";
  };
  // Asked again where the live worker was so slow to come back that the standby was left alone.
  EXPECT_TRUE(Eventually(
      [&] {
        ExpectChanged(&v1::Admin::Stub::RestartDomain);
        return Eventually(standby_is_new);
      },
      absl::Minutes(3)));
  EXPECT_NE(daemon_.Worker("shop", "live").pid(), before.pid());
  EXPECT_EQ(daemon_.Worker("shop", "live").restarts(), before.restarts()) << "no failure";

  const pid_t running = daemon_.SignalWorker("shop", "live", SIGSTOP);
  ExpectChanged(&v1::Admin::Stub::RestartDomain);
  EXPECT_NE(daemon_.Worker("shop", "live").pid(), running);
  EXPECT_TRUE(WaitForState("shop.by_item", v1::RUNNING));
  done = true;
  reader.join();
  EXPECT_GT(answers, 0);
  const v1::Slice again = Restart("shop.by_item");
  EXPECT_EQ(again.desired().restarts(), 1);
  EXPECT_EQ(ExpectAnswer(kByItem, AppendPear()).body(),
            R"([{"item":"apple","sales":1},{"item":"pear","sales":3}])");
}

TEST_F(SupervisionTest, ACrashLoopIsSuspendedSaysSoAndEndsWhenAsked) {
  const std::string fail = FailingWorkers("live");
  StartShop();
  std::ofstream(fail) << "now";
  daemon_.SignalWorker("shop", "live", SIGKILL);
  ASSERT_TRUE(WaitForState("shop.by_item", v1::SUSPENDED));
  const int64_t end = AppendPear();
  const v1::Slice slice = daemon_.GetSlice("shop.by_item");
  EXPECT_EQ(slice.last_error().reason(), "WORKER_FAILED_TOO_OFTEN");
  EXPECT_THAT(slice.last_error().message(), HasSubstr("exit code 7"));
  EXPECT_THAT(slice.last_error().message(), HasSubstr("icepie domain resume shop"));
  EXPECT_TRUE(slice.has_next_retry_time());
  EXPECT_GT(slice.state_since().seconds(), 0);
  EXPECT_EQ(slice.desired().mode(), v1::DesiredState::RUN) << "nobody asked for it";
  const auto rows = ExpectAnswer(kByItem);
  EXPECT_EQ(rows.meta().slices(0).stale_reason(), v1::SLICE_SUSPENDED);
  EXPECT_EQ(rows.meta().slices(0).source(), v1::STANDBY);
  // Another daemon does not try it ten times more.
  daemon_.Kill();
  daemon_.Start();
  ASSERT_TRUE(WaitForState("shop.by_item", v1::SUSPENDED));
  const v1::Slice after = daemon_.GetSlice("shop.by_item");
  EXPECT_EQ(after.last_error().message(), slice.last_error().message());
  EXPECT_EQ(after.state_since().seconds(), slice.state_since().seconds());
  EXPECT_EQ(after.next_retry_time().seconds(), slice.next_retry_time().seconds());
  ExpectAnswer(kByItem);
  // A change is stored although nobody is there to hear it.
  EXPECT_EQ(Freeze("shop.by_item").state(), v1::FROZEN);
  std::filesystem::remove(fail);
  ExpectChanged(&v1::Admin::Stub::ResumeDomain);
  ExpectAnswer(kEverything, end);
  EXPECT_TRUE(WaitForState("shop.everything", v1::RUNNING));
  EXPECT_EQ(daemon_.GetSlice("shop.by_item").state(), v1::FROZEN);
  EXPECT_THAT(Events(), ::testing::ContainsRegex("shop.everything [A-Z]+>SUSPENDED"));
}

// What clients that go on while the daemon stops have seen.
struct Seen {
  std::atomic<int64_t> acknowledged{0};  // records
  std::atomic<int64_t> answers{0};
  std::atomic<int64_t> refused{0};
  std::atomic<int64_t> failed{0};
  std::atomic<int64_t> followed{0};  // messages
};

// The daemon has said that it stops, or is gone.
bool IsRefusal(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE;
}

TEST_F(SupervisionTest, AStopRefusesNewWorkEndsWhatIsUnderWayAndLosesNothing) {
  StartShop();
  Seen seen;
  std::atomic<bool> reasoned{false};
  const auto loop = [&](const std::function<grpc::Status()>& call, std::atomic<int64_t>* good) {
    while (true) {
      const grpc::Status status = call();
      if (status.ok()) {
        ++*good;
        continue;
      }
      if (Reason(status) == "SERVER_DRAINING") reasoned = true;
      ++(IsRefusal(status) ? seen.refused : seen.failed);
      if (!IsRefusal(status)) ADD_FAILURE() << status.error_message();
      return;
    }
  };
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&] {
      loop(
          [&] {
            v1::AppendRecordsRequest request;
            v1::AppendRecordsResponse response;
            request.add_records()->set_stream("sales");
            request.mutable_records(0)->set_payload(Sale("pear"));
            return daemon_.Core()->AppendRecords(Within(kLong).get(), request, &response);
          },
          &seen.acknowledged);
    });
    clients.emplace_back([&] {
      loop(
          [&] {
            v1::QueryResponse response;
            return daemon_.Query("shop", kByItem, -1, &response);
          },
          &seen.answers);
    });
  }
  // Those that follow have nothing to wait for any more, and are told so.
  std::atomic<int> told{0};
  const auto follow = [&](const auto& open) {
    clients.emplace_back([&, open] {
      const auto context = Within(absl::Minutes(5));
      const grpc::Status status = open(*context);
      EXPECT_EQ(Reason(status), "SERVER_DRAINING") << status.error_message();
      ++told;
    });
  };
  follow([&](grpc::ClientContext& context) {
    v1::ReadRecordsRequest request;
    v1::ReadRecordsResponse message;
    request.add_streams("sales");
    request.set_follow(true);
    const auto reader = daemon_.Core()->ReadRecords(&context, request);
    while (reader->Read(&message)) ++seen.followed;
    return reader->Finish();
  });
  follow([&](grpc::ClientContext& context) {
    v1::Event event;
    const auto reader = daemon_.Admin()->WatchEvents(&context, {});
    while (reader->Read(&event)) {
    }
    return reader->Finish();
  });
  follow([&](grpc::ClientContext& context) {
    v1::TailLogsRequest request;
    v1::LogLine line;
    request.set_name("shop");
    request.set_follow(true);
    const auto reader = daemon_.Admin()->TailLogs(&context, request);
    while (reader->Read(&line)) {
    }
    return reader->Finish();
  });
  // One that takes a while is under way when the stop is asked for.
  std::thread slow([&] {
    v1::QueryResponse response;
    const auto status =
        daemon_.Query("shop", "SELECT count(*) AS n FROM range(30000000) AS a(x) WHERE sqrt(x) > 0",
                      -1, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.body(), R"([{"n":29999999}])");
  });
  EXPECT_TRUE(Eventually(
      [&] { return seen.acknowledged > 50 && seen.answers > 20 && seen.followed > 2; }, kLong));
  EXPECT_EQ(daemon_.Stop(), 0);
  slow.join();
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(seen.failed, 0);
  EXPECT_TRUE(reasoned);
  EXPECT_EQ(told, 3);

  const absl::Time begin = absl::Now();
  daemon_.Start();
  v1::QueryResponse first;
  ASSERT_TRUE(daemon_.Query("shop", kByItem, -1, &first).ok());
  std::printf("first answer %s after the start began\n",
              absl::FormatDuration(absl::Now() - begin).c_str());
  // Two of the shop's beginning and all that were acknowledged, each once; and the final snapshot
  // had them all.
  const std::string all = absl::StrCat(R"([{"sales":)", seen.acknowledged + 2, "}]");
  EXPECT_EQ(ExpectAnswer(kEverything).body(), all);
  EXPECT_EQ(ExpectAnswer(kEverything, first.meta().head_position()).body(), all);
}

// What is under way longer than that is given up, and its caller is told to ask elsewhere.
TEST_F(SupervisionTest, AStopWaitsNoLongerThanItsLimit) {
  daemon_.SetSettings(
      "workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 10000, snapshot_interval_ms: "
      "300, query_timeout_ms: 600000}\ndrain_timeout_ms: 500\n");
  StartShop();
  const auto processor_time = [&] {
    v1::ServerStatus all;
    (void)daemon_.Admin()->GetServerStatus(Within(kLong).get(), {}, &all);
    for (const v1::WorkerStatus& worker : all.workers()) {
      if (worker.role() != "live") continue;
      return static_cast<double>(worker.cpu_time().seconds()) + worker.cpu_time().nanos() / 1e9;
    }
    return 0.0;
  };
  const double before = processor_time();
  std::atomic<bool> done{false};
  grpc::Status status;
  std::thread slow([&] {
    v1::QueryRequest request;
    v1::QueryResponse response;
    request.set_domain("shop");
    request.set_sql("SELECT count(*) AS n FROM range(100000000000) AS a(x) WHERE sqrt(x) > 0");
    status = daemon_.Slices()->Query(Within(absl::Minutes(10)).get(), request, &response);
    done = true;
  });
  ASSERT_TRUE(Eventually([&] { return processor_time() > before + 1; }, kLong));  // at work on it
  EXPECT_FALSE(done);
  EXPECT_EQ(daemon_.Stop(), 0);  // within half a minute, of the query's ten
  slow.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
  EXPECT_THAT(daemon_.Log(), HasSubstr("some calls had not ended 500ms after the stop"));
  daemon_.Start();
  EXPECT_EQ(ExpectAnswer(kEverything).body(), R"([{"sales":2}])");
}

// No record is read for the first answers: the live workers cannot even start.
TEST_F(SupervisionTest, AStartAnswersFromTheFinalSnapshotsBeforeAnyReplay) {
  const std::string fail = FailingWorkers("live");
  StartShop();
  for (int i = 0; i < 20; ++i) AppendPear();
  ExpectAnswer(kEverything, AppendPear());
  ASSERT_EQ(daemon_.Stop(), 0);
  std::ofstream(fail) << "now";
  daemon_.Start();
  const v1::QueryResponse answer = ExpectAnswer(kEverything);
  EXPECT_EQ(answer.body(), R"([{"sales":23}])");
  EXPECT_EQ(answer.meta().slices(0).source(), v1::STANDBY);
  EXPECT_NE(daemon_.Worker("shop", "live").state(), "running");
  std::filesystem::remove(fail);
}

TEST_F(SupervisionTest, ASecondSignalEndsAtOnce) {
  StartShop();
  std::atomic<bool> asked{false};
  std::thread slow([&] {
    v1::QueryResponse response;
    asked = true;
    daemon_.Query("shop", "SELECT count(*) AS n FROM range(100000000000) AS a(x) WHERE sqrt(x) > 0",
                  -1, &response);
  });
  ASSERT_TRUE(Eventually([&] { return asked.load(); }, kLong));
  ASSERT_TRUE(Eventually(
      [&] {
        ::kill(daemon_.pid(), SIGTERM);
        return daemon_.Log().find("ending at once") != std::string::npos;
      },
      kLong));
  daemon_.Kill();  // gone already, or just so
  slow.join();
  daemon_.Start();
  EXPECT_EQ(ExpectAnswer(kEverything).body(), R"([{"sales":2}])");
}

TEST_F(SupervisionTest, WorkersAreRolledWithoutAFailedQueryAndABadProgramStopsTheRoll) {
  const std::string fail = FailingWorkers("standby");
  StartShop();
  ExpectAnswer(kByItem, AppendPear());
  std::atomic<bool> done{false};
  std::thread reader([&] {
    while (!done) ExpectAnswer(kByItem);
  });
  // At no moment less than two of them stand.
  std::atomic<int> least{100};
  std::thread counter([&] {
    while (!done) {
      v1::GetDomainRequest request;
      v1::Domain domain;
      request.set_name("shop");
      if (!daemon_.Admin()->GetDomain(Within(kLong).get(), request, &domain).ok()) continue;
      const auto standing =
          std::count_if(domain.workers().begin(), domain.workers().end(),
                        [](const auto& worker) { return worker.state() == "running"; });
      least = std::min(least.load(), static_cast<int>(standing));
    }
  });
  const auto live = daemon_.Worker("shop", "live");
  const auto standby = daemon_.Worker("shop", "standby");
  const auto roll = [&](v1::RollWorkersResponse* rolled) {
    v1::RollWorkersRequest request;
    request.set_actor("ops");
    const auto context = Within(absl::Minutes(3));
    const auto call = daemon_.Admin()->RollWorkers(context.get(), request);
    while (call->Read(rolled)) {
    }
    return call->Finish();
  };
  v1::RollWorkersResponse rolled;
  const grpc::Status good = roll(&rolled);
  EXPECT_TRUE(good.ok()) << good.error_message();
  EXPECT_EQ(rolled.domain(), "shop");
  EXPECT_NE(rolled.live_pid(), live.pid());
  EXPECT_NE(rolled.standby_pid(), standby.pid());
  EXPECT_EQ(daemon_.Worker("shop", "live").pid(), rolled.live_pid());
  EXPECT_THAT(Events(), ::testing::Not(HasSubstr("standby  running>starting")))
      << "its successor is another one";

  std::ofstream(fail) << "now";
  const grpc::Status bad = roll(&rolled);
  EXPECT_EQ(Reason(bad), "ROLL_FAILED");
  EXPECT_THAT(bad.error_message(), HasSubstr("standby worker of domain shop"));
  EXPECT_EQ(daemon_.Worker("shop", "live").pid(), rolled.live_pid()) << "it was left alone";
  done = true;
  reader.join();
  counter.join();
  EXPECT_GE(least, 2);
  EXPECT_EQ(ExpectAnswer(kByItem, AppendPear()).body(),
            R"([{"item":"apple","sales":1},{"item":"pear","sales":3}])");
}

// Calls that wait for a worker which does not answer, more than there are threads for changes. All
// go over one connection, so that the change comes after them.
TEST_F(SupervisionTest, CallsOfADomainThatStandsStillKeepNoOthersChangeWaiting) {
  constexpr int kCalls = 10;
  daemon_.SetSettings("workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 600000}\n");
  StartShop();
  daemon_.SignalWorker("shop", "live", SIGSTOP);
  const auto admin = daemon_.Admin();
  v1::RefreshSliceRequest refresh;
  refresh.set_name("shop.busiest");
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<v1::Slice> slices(kCalls);
  absl::BlockingCounter ended(kCalls);
  for (v1::Slice& slice : slices) {
    contexts.push_back(Within(absl::Minutes(5)));
    admin->async()->RefreshSlice(contexts.back().get(), &refresh, &slice,
                                 [&ended](const grpc::Status&) { ended.DecrementCount(); });
  }
  v1::ApplyDomainRequest other;
  other.set_file(absl::StrReplaceAll(kShop, {{"domain: shop", "domain: other"}}));
  other.set_file_name("other.yaml");
  v1::ApplyDomainResponse applied;
  const grpc::Status status = admin->ApplyDomain(Within(kLong).get(), other, &applied);
  EXPECT_TRUE(status.ok()) << status.error_message();
  // Nor a look at its own quarantine.
  v1::ListQuarantinedRecordsRequest list;
  list.set_name("shop.nothing");
  v1::ListQuarantinedRecordsResponse quarantined;
  const grpc::Status listed =
      admin->ListQuarantinedRecords(Within(kLong).get(), list, &quarantined);
  EXPECT_EQ(listed.error_code(), grpc::StatusCode::NOT_FOUND) << listed.error_message();
  daemon_.SignalWorker("shop", "live", SIGCONT);
  ended.Wait();
}

TEST_F(SupervisionTest, AStreamedAnswerIsWholeAlsoWhenItsWorkerIsKilled) {
  StartShop();
  v1::QueryRequest request;
  request.set_domain("shop");
  request.set_sql("SELECT r, repeat('y', 50) AS y FROM range(100000) AS a(r), everything");
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(
        Eventually([&] { return daemon_.Worker("shop", "live").state() == "running"; }, kLong));
    const auto context = Within(kLong);
    const auto call = daemon_.Slices()->StreamQuery(context.get(), request);
    daemon_.SignalWorker("shop", "live", SIGKILL);
    v1::StreamQueryResponse part;
    int64_t bytes = 0;
    bool ended = false;
    while (call->Read(&part)) {
      bytes += static_cast<int64_t>(part.body().size());
      ended = part.has_end();
    }
    const grpc::Status status = call->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_TRUE(ended);
    EXPECT_EQ(part.end().row_count(), 100000);
    EXPECT_EQ(part.end().byte_count(), bytes);
  }
}

// RLIMIT_AS of a process.
int64_t AddressSpaceOf(int64_t pid) {
  std::ifstream limits(absl::StrCat("/proc/", pid, "/limits"));
  for (std::string line; std::getline(limits, line);) {
    if (line.rfind("Max address space", 0) == 0) return std::atoll(line.c_str() + 17);
  }
  return -1;
}

TEST_F(SupervisionTest, ADomainsLimitsReachItsWorkersWithoutAFailedQuery) {
  StartShop();
  std::atomic<bool> stopping{false};
  std::atomic<int> failed{0};
  std::thread reader([&] {
    while (!stopping) {
      v1::QueryResponse response;
      if (!daemon_.Query("shop", kEverything, -1, &response).ok()) ++failed;
    }
  });
  v1::ApplyDomainResponse response;
  ASSERT_TRUE(
      daemon_.Apply(absl::StrCat(kShop, "limits: {memory: 800MB, disk: 2MB}\n"), &response).ok());
  for (const char* role : {"live", "standby"}) {
    EXPECT_TRUE(Eventually(
        [&] { return AddressSpaceOf(daemon_.Worker("shop", role).pid()) == 3'200'000'000; }, kLong))
        << role;
  }
  // Past what it may have of the disk it goes on, and says what is missing.
  std::ofstream(daemon_.data_directory() + "/domains/shop/filler") << std::string(3 << 20, 'x');
  EXPECT_TRUE(Eventually(
      [&] {
        AppendPear();
        const v1::Slice slice = daemon_.GetSlice("shop.everything");
        return std::any_of(slice.conditions().begin(), slice.conditions().end(),
                           [](const v1::SliceCondition& condition) {
                             return condition.type() == "NOT_SAVED" &&
                                    condition.reason() == "DOMAIN_DISK_FULL";
                           });
      },
      kLong));
  ExpectAnswer(kEverything, AppendPear());
  stopping = true;
  reader.join();
  EXPECT_EQ(failed, 0);
}

// As after an upgrade to a program that did not start, and the good one in its place.
TEST_F(SupervisionTest, ALiveWorkerThatHasNeverComeUpIsRolled) {
  const std::string fail = FailingWorkers("live");
  StartShop();
  ASSERT_EQ(daemon_.Stop(), 0);
  std::ofstream(fail) << "now";
  daemon_.SetSettings(absl::StrCat(
      "workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 10000, ",
      "restart_backoff_ms: 60000, program: ", std::filesystem::path(fail).parent_path().string(),
      "/worker.sh}\n"));
  daemon_.Start();
  ASSERT_TRUE(
      Eventually([&] { return daemon_.Worker("shop", "live").state() == "backoff"; }, kLong));
  std::filesystem::remove(fail);
  v1::RollWorkersRequest request;
  request.set_actor("ops");
  const auto context = Within(absl::Minutes(3));
  const auto call = daemon_.Admin()->RollWorkers(context.get(), request);
  v1::RollWorkersResponse rolled;
  while (call->Read(&rolled)) {
  }
  const grpc::Status status = call->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(daemon_.Worker("shop", "live").pid(), rolled.live_pid());
  ExpectAnswer(kByItem, AppendPear());
}

TEST_F(SupervisionTest, SafeModeStartsNoLiveWorkerUntilItIsLeft) {
  StartShop();
  daemon_.Kill();
  daemon_.AddArgument("--safe-mode");
  daemon_.Start();
  const auto rows = ExpectAnswer(kByItem);
  EXPECT_EQ(rows.body(), R"([{"item":"apple","sales":1},{"item":"pear","sales":1}])");
  EXPECT_EQ(rows.meta().slices(0).source(), v1::STANDBY);
  EXPECT_EQ(rows.meta().slices(0).stale_reason(), v1::SLICE_FROZEN);
  EXPECT_EQ(daemon_.Worker("shop", "live").pid(), 0);
  const v1::Slice slice = daemon_.GetSlice("shop.by_item");
  EXPECT_EQ(slice.state(), v1::FROZEN);
  EXPECT_EQ(slice.desired().mode(), v1::DesiredState::RUN);
  EXPECT_NE(FindCondition(slice, "SAFE_MODE"), nullptr);
  const int64_t end = AppendPear();

  v1::RefreshSliceRequest refresh;
  refresh.set_name("shop.busiest");
  v1::Slice refreshed;
  EXPECT_EQ(Reason(daemon_.Admin()->RefreshSlice(Within(kLong).get(), refresh, &refreshed)),
            "SAFE_MODE");
  v1::ResliceSliceRequest reslice;
  reslice.set_name("shop.by_item");
  google::longrunning::Operation operation;
  EXPECT_EQ(Reason(daemon_.Admin()->ResliceSlice(Within(kLong).get(), reslice, &operation)),
            "SAFE_MODE");
  EXPECT_EQ(Suspend("shop.everything").state(), v1::SUSPENDED);

  v1::ServerStatus status;
  v1::LeaveSafeModeRequest leave;
  leave.set_actor("ops");
  for (int twice = 0; twice < 2; ++twice) {
    ASSERT_TRUE(daemon_.Admin()->LeaveSafeMode(Within(kLong).get(), leave, &status).ok());
    EXPECT_FALSE(status.safe_mode());
  }
  EXPECT_EQ(ExpectAnswer(kByItem, end).body(),
            R"([{"item":"apple","sales":1},{"item":"pear","sales":2}])");
  EXPECT_TRUE(WaitForState("shop.by_item", v1::RUNNING));
  EXPECT_EQ(daemon_.GetSlice("shop.everything").state(), v1::SUSPENDED);
  EXPECT_THAT(AdminRecords(), HasSubstr("LeaveSafeMode"));
}

// Some of DuckDB's functions over JSON recurse into it without a limit: at this depth they leave
// the stack, and the process dies. Users may not call them; fragile_worker.cc lets json_contains
// pass. Read as a VARCHAR it is an innocent text.
std::string DeepJson() { return std::string(300000, '[') + std::string(300000, ']'); }

std::string Document(const std::string& item, const std::string& text) {
  return absl::StrCat(R"({"item":")", item, R"(","text":")", text, R"("})");
}

constexpr const char* kDocuments = R"(domain: library
sources:
  documents: {columns: {item: VARCHAR, text: VARCHAR}}
slices:
  hits:
    sql: SELECT item, count(*) FILTER (WHERE json_contains(text, '1')) AS hits FROM documents GROUP BY ALL
    key: [item]
  counted:
    sql: SELECT count(*) AS documents FROM documents
)";

class PoisonTest : public SupervisionTest {
 protected:
  void SetUp() override {
    daemon_.SetSettings(
        "workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 10000, "
        "snapshot_interval_ms: 300, restart_backoff_ms: 1, program: " +
        std::string(std::getenv("ICEPIE_BIN")) + "/icepie-fragile-worker}\n");
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("documents").ok());
  }

  int64_t Append(const std::string& text, int times) {
    const auto end =
        daemon_.Append("documents", std::vector<std::string>(times, Document("a", text)));
    EXPECT_TRUE(end.ok()) << end.status();
    return end.value_or(-1);
  }

  void Apply(const std::string& file) {
    v1::ApplyDomainResponse response;
    const auto status = daemon_.Apply(file, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  std::string Answer(const std::string& sql, int64_t min_position = -1) {
    v1::QueryResponse response;
    const auto status = daemon_.Query("library", sql, min_position, &response);
    EXPECT_TRUE(status.ok()) << sql << ": " << status.error_message();
    return response.body();
  }
};

TEST_F(PoisonTest, ARecordThatKillsTheWorkerIsFoundAndLeftOutAndTheOthersGoOn) {
  Apply(kDocuments);
  const int64_t before = Append("[1]", 200);
  ASSERT_TRUE(Eventually(
      [&] { return daemon_.GetSlice("library.hits").standby_position() >= before; }, kLong));
  const int64_t poison = Append(DeepJson(), 1) - 1;
  const int64_t end = Append("[1]", 300);
  EXPECT_TRUE(Eventually(
      [&] {
        const v1::Slice slice = daemon_.GetSlice("library.hits");
        return slice.state() == v1::RUNNING && slice.counts().quarantined() == 1;
      },
      absl::Minutes(3)));
  EXPECT_EQ(Answer("SELECT hits FROM hits", end), R"([{"hits":500}])");
  EXPECT_EQ(Answer("SELECT documents FROM counted", end), R"([{"documents":501}])");
  v1::ListQuarantinedRecordsRequest request;
  request.set_name("library.hits");
  v1::ListQuarantinedRecordsResponse listed;
  ASSERT_TRUE(daemon_.Admin()->ListQuarantinedRecords(Within(kLong).get(), request, &listed).ok());
  ASSERT_EQ(listed.records_size(), 1);
  EXPECT_EQ(listed.records(0).position(), poison);
  EXPECT_EQ(listed.records(0).code(), "WORKER_KILLED");
  const int64_t deaths = daemon_.Worker("library", "live").restarts();
  EXPECT_LE(deaths, 8);
  EXPECT_EQ(daemon_.Worker("library", "standby").restarts(), 0);
  EXPECT_THAT(AdminRecords(), HasSubstr("LeaveOutRecord"));

  // It is known from then on, also without the snapshot of the time after.
  daemon_.Kill();
  std::filesystem::remove_all(daemon_.data_directory() + "/domains/library/snapshots");
  daemon_.Start();
  EXPECT_TRUE(
      Eventually([&] { return daemon_.GetSlice("library.hits").state() == v1::RUNNING; }, kLong));
  EXPECT_EQ(Answer("SELECT hits FROM hits", end), R"([{"hits":500}])");
  EXPECT_EQ(daemon_.Worker("library", "live").restarts(), 0);
}

// It answers its heartbeats and queries meanwhile.
TEST_F(PoisonTest, ARecordThatHangsTheApplyThreadIsFoundAndLeftOut) {
  daemon_.Stop();
  daemon_.SetSettings(
      "workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 10000, "
      "snapshot_interval_ms: 300, restart_backoff_ms: 1, apply_timeout_ms: 3000}\n");
  daemon_.Start();
  v1::ApplyDomainResponse response;
  const auto applied = daemon_.Apply(R"(domain: slow
sources:
  documents: {columns: {item: VARCHAR, text: VARCHAR}}
slices:
  sums:
    sql: SELECT item, sum(levenshtein(text, item)) AS total FROM documents GROUP BY ALL
    key: [item]
)",
                                     &response);
  ASSERT_TRUE(applied.ok()) << applied.error_message();
  ASSERT_TRUE(daemon_.Append("documents", {Document("a", "ab")}).ok());
  // Minutes, in which nobody listens.
  const std::string endless = Document(std::string(400000, 'x'), std::string(400000, 'y'));
  ASSERT_TRUE(daemon_.Append("documents", {Document("a", "abc"), endless}).ok());
  const auto end = daemon_.Append("documents", {Document("c", "cd")});
  ASSERT_TRUE(end.ok());
  v1::QueryResponse rows;
  EXPECT_TRUE(Eventually(
      [&] {
        return daemon_.Query("slow", "SELECT * FROM sums ORDER BY item", *end, &rows).ok() &&
               rows.body() == R"([{"item":"a","total":3},{"item":"c","total":1}])";
      },
      absl::Minutes(3)))
      << rows.body();
  // The daemon learns it with the next heartbeat.
  EXPECT_TRUE(
      Eventually([&] { return daemon_.GetSlice("slow.sums").counts().quarantined() == 1; }, kLong));
}

// The thread that would say so is the one that is busy.
TEST_F(PoisonTest, WhileOneBatchTakesLongTheSliceLagsAndItsAnswersAreStale) {
  ASSERT_TRUE(daemon_.CreateStream("others").ok());
  Apply(R"(domain: library
sources:
  documents: {columns: {item: VARCHAR, text: VARCHAR}}
  others: {columns: {item: VARCHAR}}
slices:
  sums:
    sql: SELECT item, sum(levenshtein(text, item)) AS total FROM documents GROUP BY ALL
    key: [item]
  counted:
    sql: SELECT count(*) AS others FROM others
)");
  const int64_t end = Append("ab", 1);
  EXPECT_EQ(Answer("SELECT total FROM sums", end), R"([{"total":1}])");
  ASSERT_TRUE(
      Eventually([&] { return daemon_.GetSlice("library.sums").state() == v1::RUNNING; }, kLong));
  const std::string endless = Document(std::string(400000, 'x'), std::string(400000, 'y'));
  ASSERT_TRUE(daemon_.Append("documents", {endless}).ok());
  v1::QueryResponse rows;
  EXPECT_TRUE(Eventually(
      [&] {
        const auto status = daemon_.Query("library", "SELECT total FROM sums", -1, &rows);
        return status.ok() && rows.meta().slices(0).state() == v1::LAGGING;
      },
      kLong));
  EXPECT_EQ(rows.meta().slices(0).source(), v1::LIVE);
  EXPECT_EQ(rows.meta().slices(0).stale_reason(), v1::SLICE_LAGGING);
  EXPECT_EQ(rows.body(), R"([{"total":1}])");
  EXPECT_TRUE(
      Eventually([&] { return daemon_.GetSlice("library.sums").state() == v1::LAGGING; }, kLong));
  EXPECT_EQ(daemon_.GetSlice("library.counted").state(), v1::RUNNING);
  EXPECT_EQ(daemon_.Worker("library", "live").restarts(), 0);
}

// Of a recompute, the one record that does so alone is found, too; of two that do so together,
// none is.
TEST_F(PoisonTest, ASliceThatKillsTheWorkerOtherwiseIsSuspendedAlone) {
  Apply(R"(domain: library
sources:
  documents: {columns: {item: VARCHAR, text: VARCHAR}}
slices:
  first:
    sql: SELECT json_contains('[' || string_agg(text, '' ORDER BY _position) || '0]', '2') AS found FROM documents
    strategy: recompute
  counted:
    sql: SELECT count(*) AS documents FROM documents
)");
  const int64_t before = Append("1,", 3);
  ASSERT_TRUE(Eventually(
      [&] { return daemon_.GetSlice("library.first").standby_position() >= before; }, kLong));
  Append(DeepJson() + ",", 1);
  const int64_t without = Append("1,", 60);
  EXPECT_TRUE(
      Eventually([&] { return daemon_.GetSlice("library.first").standby_position() >= without; },
                 absl::Minutes(3)));
  EXPECT_EQ(daemon_.GetSlice("library.first").counts().quarantined(), 1);
  const std::string opens = Document("a", std::string(300000, '['));
  const std::string closes = Document("a", std::string(300000, ']') + ",");
  const auto both = daemon_.Append("documents", {opens, closes});
  ASSERT_TRUE(both.ok()) << both.status();
  const int64_t end = *both;
  EXPECT_TRUE(Eventually([&] { return daemon_.GetSlice("library.first").state() == v1::SUSPENDED; },
                         absl::Minutes(3)));
  EXPECT_EQ(Answer("SELECT documents FROM counted", end), R"([{"documents":66}])");
  EXPECT_TRUE(Eventually([&] { return daemon_.GetSlice("library.counted").state() == v1::RUNNING; },
                         kLong));
  const v1::Slice slice = daemon_.GetSlice("library.first");
  EXPECT_EQ(slice.last_error().reason(), "WORKER_KILLED");
  EXPECT_THAT(slice.last_error().message(), HasSubstr("icepie slice resume library.first"));
  EXPECT_GT(slice.next_retry_time().seconds(), slice.state_since().seconds());
  v1::QueryResponse rows;
  ASSERT_TRUE(daemon_.Query("library", "SELECT found FROM first", -1, &rows).ok());
  EXPECT_EQ(rows.body(), R"([{"found":false}])");
  EXPECT_EQ(rows.meta().slices(0).stale_reason(), v1::SLICE_SUSPENDED);
  EXPECT_THAT(AdminRecords(), HasSubstr("\"action\":\"SuspendSlice\",\"actor\":\"icepied\""));

  daemon_.Kill();
  daemon_.Start();
  EXPECT_EQ(Answer("SELECT documents FROM counted", end), R"([{"documents":66}])");
  EXPECT_EQ(daemon_.Worker("library", "live").restarts(), 0) << "it is remembered";
  // Another definition does not read the text.
  Apply(R"(domain: library
sources:
  documents: {columns: {item: VARCHAR, text: VARCHAR}}
slices:
  first:
    sql: SELECT item FROM documents ORDER BY item LIMIT 1
  counted:
    sql: SELECT count(*) AS documents FROM documents
)");
  ASSERT_TRUE(Eventually(
      [&] {
        v1::PromoteGenerationRequest promote;
        promote.set_name("library.first");
        promote.set_force(true);
        promote.set_reason("the old one cannot be compared at the head");
        v1::Slice promoted;
        return daemon_.Admin()->PromoteGeneration(Within(kLong).get(), promote, &promoted).ok();
      },
      kLong));
  EXPECT_EQ(Answer("SELECT item FROM first", end), R"([{"item":"a"}])");
}

TEST_F(PoisonTest, AQueryThatKillsIsRefusedAfterItDidSoTwiceAndOthersAreAnswered) {
  Apply(absl::StrCat(kDocuments, "limits: {query_timeout: 3s}\n"));
  const int64_t end = Append("[1]", 10);
  ASSERT_TRUE(Eventually([&] { return daemon_.GetSlice("library.hits").standby_position() >= end; },
                         kLong));
  std::atomic<bool> done{false};
  std::atomic<int> answers{0};
  std::thread reader([&] {
    while (!done) {
      v1::QueryResponse response;
      const grpc::Status status = daemon_.Query("library", "SELECT hits FROM hits", -1, &response);
      if (status.ok()) {
        EXPECT_EQ(response.body(), R"([{"hits":10}])");
        ++answers;
      } else {  // on a machine without time for it, or with both workers down for a moment
        EXPECT_THAT(Reason(status),
                    ::testing::AnyOf("QUERY_TIME_LIMIT", "TOO_MANY_QUERIES", "WORKER_LOST"))
            << status.error_message();
        absl::SleepFor(absl::Milliseconds(20));  // it would be refused again at once
      }
    }
  });
  absl::Cleanup stop = [&] {
    done = true;
    reader.join();
  };
  const auto others_are_answered = [&] {
    const int before = answers;
    return Eventually([&] { return answers > before + 5; }, kLong);
  };
  const auto ask = [&](const std::string& sql) {
    v1::QueryResponse response;
    return daemon_.Query("library", sql, -1, &response);
  };
  // Until the query has come to where it kills: its limit may come first on a busy machine.
  int depth = 300000;
  const auto killed = [&](const std::string& sql) {
    const grpc::Status status = ask(sql);
    const std::string reason = Reason(status);
    EXPECT_THAT(reason, ::testing::AnyOf("QUERY_KILLED", "QUERY_TIME_LIMIT", "TOO_MANY_QUERIES",
                                         "WORKER_LOST"))
        << status.error_message();
    return reason == "QUERY_KILLED";
  };
  const auto deadly = [](int levels) {
    return absl::StrCat("SELECT json_contains(repeat('[', ", levels, ") || repeat(']', ", levels,
                        "), '1') AS x FROM hits");
  };
  for (int twice = 0; twice < 2; ++twice) {
    ASSERT_TRUE(Eventually([&] { return killed(deadly(depth++)); }, kLong));
    ASSERT_TRUE(others_are_answered());
  }
  ASSERT_TRUE(Eventually([&] { return Reason(ask(deadly(depth))) == "QUERY_BLOCKED"; }, kLong));
  ASSERT_TRUE(others_are_answered());
  EXPECT_THAT(ask(deadly(300003)).error_message(), HasSubstr("refused until"));

  // One that listens to no interrupt: its caller is told at the limit, the worker ends later.
  const std::string stubborn =
      "SELECT levenshtein(repeat('ab', 60000), repeat('ba', 60000)) AS x FROM hits";
  ASSERT_TRUE(Eventually([&] { return Reason(ask(stubborn)) == "QUERY_TIME_LIMIT"; }, kLong));
  ASSERT_TRUE(Eventually(
      [&] {
        const std::string reason = Reason(ask(stubborn));
        EXPECT_THAT(reason, ::testing::AnyOf("QUERY_TIME_LIMIT", "QUERY_KILLED", "QUERY_BLOCKED",
                                             "TOO_MANY_QUERIES", "WORKER_LOST"));
        return reason == "QUERY_BLOCKED";
      },
      absl::Minutes(2)));
  EXPECT_TRUE(others_are_answered());
}

// An upgrade whose worker program does not know a function any more that a definition uses.
class WorkerUpgradeTest : public PoisonTest {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(daemon_.directory() + "/programs");
    PointTo("icepie-fragile-worker");
    daemon_.SetSettings(
        absl::StrCat("workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 10000, ",
                     "snapshot_interval_ms: 300, restart_backoff_ms: 1, program: ", link_, "}\n"));
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("documents").ok());
  }

  void PointTo(const std::string& program) {
    std::filesystem::remove(link_);
    std::filesystem::create_symlink(std::filesystem::absolute(std::getenv("ICEPIE_BIN")) / program,
                                    link_);
  }

  grpc::Status Roll() {
    v1::RollWorkersRequest request;
    v1::RollWorkersResponse rolled;
    request.set_actor("ops");
    const auto context = Within(absl::Minutes(3));
    const auto call = daemon_.Admin()->RollWorkers(context.get(), request);
    while (call->Read(&rolled)) {
    }
    return call->Finish();
  }

  // HELD with the reason, and answers from its last snapshot, which has `hits`.
  void ExpectHeld(const std::string& hits) {
    EXPECT_TRUE(WaitForState("library.hits", v1::HELD));
    const v1::Slice held = daemon_.GetSlice("library.hits");
    EXPECT_EQ(held.last_error().reason(), "SQL_FORBIDDEN") << held.ShortDebugString();
    EXPECT_THAT(held.last_error().message(), HasSubstr("json_contains"));
    EXPECT_FALSE(held.has_next_retry_time()) << "it needs a change";
    v1::QueryResponse response;
    const auto status = daemon_.Query("library", "SELECT hits FROM hits", -1, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.body(), hits);
    EXPECT_EQ(response.meta().slices(0).stale_reason(), v1::SLICE_HELD);
  }

  const std::string link_ = daemon_.directory() + "/programs/icepie-worker";
};

// Its tables are others to this version.
TEST_F(WorkerUpgradeTest, AStateOfAnEarlierVersionAnswersUntilItIsBuiltAnew) {
  Apply(kDocuments);
  const int64_t end = Append("[1]", 5);
  ASSERT_TRUE(Eventually([&] { return daemon_.GetSlice("library.hits").standby_position() >= end; },
                         kLong));
  daemon_.Kill();
  const std::string snapshots = daemon_.data_directory() + "/domains/library/snapshots/hits";
  const auto manifests = [&] {
    std::map<std::string, std::string> texts;
    for (const auto& entry : std::filesystem::directory_iterator(snapshots)) {
      if (entry.path().extension() != ".json") continue;
      std::stringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      // One that has been cleaned up since it was listed has none.
      if (!text.str().empty()) texts[entry.path()] = text.str();
    }
    return texts;
  };
  for (const auto& [path, text] : manifests()) {
    ASSERT_THAT(text, HasSubstr("\"layout\": \""));
    std::ofstream(path) << absl::StrReplaceAll(text, {{"\"layout\": \"", "\"layout\": \"other"}});
  }
  daemon_.Start();
  EXPECT_TRUE(Eventually(
      [&] {
        EXPECT_EQ(Answer("SELECT hits FROM hits"), R"([{"hits":5}])");
        const auto texts = manifests();
        return std::any_of(texts.begin(), texts.end(), [](const auto& each) {
          return !absl::StrContains(each.second, "\"layout\": \"other");
        });
      },
      kLong));
  EXPECT_EQ(Answer("SELECT hits FROM hits", Append("[1]", 2)), R"([{"hits":7}])");
  EXPECT_EQ(daemon_.Worker("library", "live").restarts(), 0);
}

TEST_F(WorkerUpgradeTest, ADefinitionThatNoLongerPlansIsHeldAnswersAndIsReleasedByAnEdit) {
  Apply(kDocuments);
  const int64_t before = Append("[1]", 5);
  for (const char* slice : {"library.hits", "library.counted"}) {
    ASSERT_TRUE(
        Eventually([&] { return daemon_.GetSlice(slice).standby_position() >= before; }, kLong));
  }
  PointTo("icepie-worker");
  const grpc::Status rolled = Roll();
  EXPECT_EQ(Reason(rolled), "ROLL_FAILED") << "an upgrade that costs a slice ends at its domain";
  EXPECT_THAT(rolled.error_message(), HasSubstr("slice library.hits is HELD"));
  const grpc::Status on = Roll();
  EXPECT_TRUE(on.ok()) << on.error_message();
  const int64_t end = Append("[1]", 2);
  ExpectHeld(R"([{"hits":5}])");
  // The other slice of its domain is none the worse, also after a kill -9 of the daemon.
  EXPECT_EQ(Answer("SELECT documents FROM counted", end), R"([{"documents":7}])");
  daemon_.Kill();
  daemon_.Start();
  EXPECT_EQ(Answer("SELECT documents FROM counted", end), R"([{"documents":7}])");
  EXPECT_TRUE(WaitForState("library.counted", v1::RUNNING));
  ExpectHeld(R"([{"hits":5}])");

  Apply(absl::StrReplaceAll(kDocuments, {{"json_contains(text, '1')", "text = '[1]'"}}));
  EXPECT_TRUE(Eventually(
      [&] {
        v1::PromoteGenerationRequest request;
        v1::Slice slice;
        request.set_name("library.hits");
        (void)daemon_.Admin()->PromoteGeneration(Within(kLong).get(), request, &slice);
        return daemon_.GetSlice("library.hits").state() == v1::RUNNING;
      },
      kLong));
  EXPECT_EQ(Answer("SELECT hits FROM hits", end), R"([{"hits":7}])");
}

}  // namespace
}  // namespace icepie::testing
