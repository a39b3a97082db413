// What operators ask of slices (freeze, thaw, suspend, resume, restart, edit, delete), in every
// state that lasts, with all workers dead, and the daemon killed as soon as it has answered: what
// it answered holds after the start.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "server/base/proto_time.h"
#include "server/base/rpc_status.h"
#include "server/supervisor/poison_finder.h"
#include "slices/apply/flight_record.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using v1::DesiredState;

constexpr absl::Duration kLong = absl::Seconds(60);

// A slice for each state; `$0` is the domain. The last one comes when recomputes are held.
constexpr const char* kFile = R"(domain: $0
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER, code: INTEGER}}
  visits: {columns: {item: VARCHAR}}
slices:
  runs: {sql: "SELECT item, count(*) AS sales FROM sales GROUP BY ALL", key: [item]}
  frozen: {sql: "SELECT count(*) AS sales FROM sales"}
  suspended: {sql: "SELECT max(item) AS last FROM sales"}
  held: {sql: "SELECT sum(amount) AS total FROM sales", expect: [{name: small, sql: "SELECT * FROM slice WHERE total > 100"}]}
  blocked: {sql: "SELECT total FROM held"}
  faulted: {sql: "SELECT sum(code) AS codes FROM sales", on_bad_record: {budget: {records: 1}}}
  lags: {sql: "SELECT count(*) AS visits FROM visits", strategy: recompute}
)";
constexpr const char* kBackfills =
    R"(  backfills: {sql: "SELECT max(item) AS last FROM visits", strategy: recompute}
)";

using States = std::map<std::string, v1::SliceState>;
const States& Before() {
  static const States states = {{"runs", v1::RUNNING},        {"frozen", v1::FROZEN},
                                {"suspended", v1::SUSPENDED}, {"held", v1::HELD},
                                {"blocked", v1::BLOCKED},     {"faulted", v1::FAULTED},
                                {"lags", v1::LAGGING},        {"backfills", v1::BACKFILLING}};
  return states;
}

States With(States states, const States& changed) {
  for (const auto& [slice, state] : changed) states[slice] = state;
  return states;
}

// Every slice in this one state, but the suspended one, which only `resume` brings back.
States AllBut(v1::SliceState state) {
  States states;
  for (const auto& [slice, before] : Before()) states[slice] = state;
  states["suspended"] = v1::SUSPENDED;
  return states;
}

std::string FileOf(const std::string& domain) {
  return absl::StrCat(absl::StrReplaceAll(kFile, {{"$0", domain}}), kBackfills);
}

// Other columns in every slice that stands by itself.
std::string Edited(const std::string& domain) {
  return absl::StrReplaceAll(FileOf(domain), {{" FROM sales", ", 2 AS edition FROM sales"},
                                              {" FROM visits", ", 2 AS edition FROM visits"}});
}

std::string RestingFile(const std::string& domain) {
  return absl::StrCat("domain: ", domain,
                      "\nsources: {sales: {columns: {item: VARCHAR}}}\n"
                      "slices: {runs: {sql: \"SELECT max(item) AS last FROM sales\"}}\n");
}

std::string EditedResting(const std::string& domain) {
  return absl::StrReplaceAll(RestingFile(domain), {{" FROM sales", ", 2 AS edition FROM sales"}});
}

std::string Reason(const grpc::Status& status) {
  return ErrorReason(server::FromGrpcStatus(status));
}

class VerbsTest : public ::testing::Test {
 protected:
  using Verb = std::function<grpc::Status(const std::string& domain, const std::string& slice)>;

  // One verb of slices: the call, as of one slice after the other.
  template <typename Request>
  Verb OfSlices(grpc::Status (v1::Admin::Stub::*call)(grpc::ClientContext*, const Request&,
                                                      v1::Slice*)) {
    return [this, call](const std::string& domain, const std::string& slice) {
      Request request;
      request.set_name(absl::StrCat(domain, ".", slice));
      request.set_reason("INC-1");
      request.set_actor("ann");
      v1::Slice changed;
      return (daemon_.Admin().get()->*call)(Within(kLong).get(), request, &changed);
    };
  }
  Verb Freeze() { return OfSlices<v1::FreezeSliceRequest>(&v1::Admin::Stub::FreezeSlice); }
  Verb Thaw() { return OfSlices<v1::ThawSliceRequest>(&v1::Admin::Stub::ThawSlice); }
  Verb Suspend() { return OfSlices<v1::SuspendSliceRequest>(&v1::Admin::Stub::SuspendSlice); }
  Verb Resume() { return OfSlices<v1::ResumeSliceRequest>(&v1::Admin::Stub::ResumeSlice); }
  Verb Restart() { return OfSlices<v1::RestartSliceRequest>(&v1::Admin::Stub::RestartSlice); }
  // Of the whole domain, whose slice "" it is asked for.
  Verb Apply(std::string (*file)(const std::string&)) {
    return [this, file](const std::string& domain, const std::string&) {
      v1::ApplyDomainResponse applied;
      return daemon_.Apply(file(domain), &applied);
    };
  }
  Verb Delete() {
    return [this](const std::string& domain, const std::string&) {
      v1::DeleteDomainRequest request;
      request.set_name(domain);
      request.set_reason("INC-1");
      v1::Domain deleted;
      return daemon_.Admin()->DeleteDomain(Within(kLong).get(), request, &deleted);
    };
  }

  struct Case {
    std::string domain;
    Verb verb;
    bool of_domain = false;
  };

  void Append(const std::string& stream, const std::vector<std::string>& payloads) {
    const auto end = daemon_.Append(stream, payloads);
    ASSERT_TRUE(end.ok()) << end.status();
    end_ = *end;
  }

  void ApplyFile(const std::string& file) {
    v1::ApplyDomainResponse applied;
    const auto status = daemon_.Apply(file, &applied);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  // See fragile_worker.cc.
  std::string Hold(const std::string& domain) const {
    return absl::StrCat(daemon_.data_directory(), "/domains/", domain, "/hold_recomputes");
  }

  // Every domain with a slice in each state; all but the one that backfills have a snapshot.
  void Prepare(const std::vector<Case>& cases) {
    daemon_.SetSettings(
        absl::StrCat("workers: {heartbeat_interval_ms: 100, snapshot_interval_ms: 300, program: ",
                     std::getenv("ICEPIE_BIN"), "/icepie-fragile-worker}\n"));
    daemon_.Start();
    for (const char* stream : {"visits", "sales"}) ASSERT_TRUE(daemon_.CreateStream(stream).ok());
    Append("visits", {R"({"item":"fig"})"});
    Append("sales",
           {R"({"item":"fig","amount":1,"code":1})", R"({"item":"pear","amount":2,"code":1})"});
    for (const Case& each : cases) ApplyFile(absl::StrReplaceAll(kFile, {{"$0", each.domain}}));
    for (const Case& each : cases) WaitForSnapshots(each.domain);
    for (const Case& each : cases) std::ofstream(Hold(each.domain)) << "now";
    Append("visits", {R"({"item":"pear"})"});
    for (const Case& each : cases) {
      ApplyFile(FileOf(each.domain));
      EXPECT_TRUE(Freeze()(each.domain, "frozen").ok());
      EXPECT_TRUE(Suspend()(each.domain, "suspended").ok());
    }
    Append("sales", {R"({"item":"yam","amount":1000,"code":"x"})",
                     R"({"item":"yam","amount":1,"code":"y"})"});
    for (const Case& each : cases) WaitForStates(each.domain, Before());
  }

  void WaitForSnapshots(const std::string& domain) {
    for (const auto& [slice, state] : Before()) {
      if (state == v1::BACKFILLING) continue;
      const std::string name = absl::StrCat(domain, ".", slice);
      ASSERT_TRUE(
          Eventually([&] { return daemon_.GetSlice(name).standby_position() >= end_; }, kLong))
          << daemon_.GetSlice(name).ShortDebugString();
    }
  }

  void WaitForStates(const std::string& domain, const States& expected) {
    for (const auto& [slice, state] : expected) {
      const std::string name = absl::StrCat(domain, ".", slice);
      v1::Slice found;
      const auto is_there = [&, wanted = state] {
        found = daemon_.GetSlice(name);
        return found.state() == wanted;
      };
      EXPECT_TRUE(Eventually(is_there, kLong))
          << name << " should be " << v1::SliceState_Name(state) << ": "
          << found.ShortDebugString();
    }
  }

  void WaitForRest(const std::string& domain) {
    EXPECT_TRUE(Eventually(
        [&] {
          const auto live = daemon_.Worker(domain, "live");
          const auto standby = daemon_.Worker(domain, "standby");
          return live.state() == "hibernating" && live.pid() == 0 &&
                 standby.state() == "hibernating" && standby.pid() == 0;
        },
        kLong))
        << domain;
  }

  void KillAllWorkers() {
    v1::ServerStatus status;
    ASSERT_TRUE(daemon_.Admin()->GetServerStatus(Within(kLong).get(), {}, &status).ok());
    for (const auto& worker : status.workers()) {
      if (worker.pid() > 0) kill(static_cast<pid_t>(worker.pid()), SIGKILL);
    }
  }

  // All verbs at once, each domain's one after the other; then the daemon is killed and started.
  void AskAllThenKill(const std::vector<Case>& cases) {
    std::vector<std::thread> threads;
    for (const Case& each : cases) {
      threads.emplace_back([this, &each] { Ask(each); });
    }
    for (std::thread& thread : threads) thread.join();
    daemon_.Kill();
    {
      const MutexLock lock(mutex_);
      for (const std::string& failure : failures_) ADD_FAILURE() << failure;
    }
    daemon_.Start();
  }

  void Ask(const Case& each) {
    const States slices = each.of_domain ? States{{"", v1::RUNNING}} : slices_;
    for (const auto& [slice, state] : slices) {
      const auto status = each.verb(each.domain, slice);  // which has a deadline
      if (status.ok()) continue;
      const MutexLock lock(mutex_);
      failures_.push_back(absl::StrCat(each.domain, ".", slice, ": ", status.error_message()));
    }
  }

  DesiredState Desired(const std::string& domain, const std::string& slice) {
    return daemon_.GetSlice(absl::StrCat(domain, ".", slice)).desired();
  }

  void ExpectDesired(const std::string& domain,
                     const std::map<std::string, DesiredState::Mode>& expected) {
    for (const auto& [slice, state] : slices_) {
      const auto found = expected.find(slice);
      const auto mode = found != expected.end() ? found->second : expected.at("");
      EXPECT_EQ(Desired(domain, slice).mode(), mode) << domain << "." << slice;
    }
  }

  std::string Rows(const std::string& domain, const std::string& slice) {
    v1::QueryResponse answer;
    const auto status =
        daemon_.Query(domain, absl::StrCat("SELECT * FROM ", slice, " ORDER BY ALL"), -1, &answer);
    EXPECT_TRUE(status.ok()) << domain << "." << slice << ": " << status.error_message();
    return answer.body();
  }

  void ExpectAnswers(const std::string& domain) {
    for (const auto& [slice, state] : slices_) {
      if (state != v1::BACKFILLING) EXPECT_NE(Rows(domain, slice), "") << slice;
    }
  }

  int64_t Revision(const std::string& domain) {
    v1::GetDomainRequest request;
    request.set_name(domain);
    v1::Domain found;
    EXPECT_TRUE(daemon_.Admin()->GetDomain(Within(kLong).get(), request, &found).ok());
    return found.revision();
  }

  std::string ReasonOfQuery(const std::string& domain) {
    v1::QueryResponse answer;
    return Reason(daemon_.Query(domain, "SELECT * FROM runs", -1, &answer));
  }

  DaemonFixture daemon_;
  int64_t end_ = 0;           // of the last append
  States slices_ = Before();  // of each domain
  Mutex mutex_;
  std::vector<std::string> failures_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(VerbsTest, InEveryStateWithTheWorkersDeadHoldOverAKillAtOnce) {
  constexpr auto kRun = DesiredState::RUN;
  constexpr auto kFreeze = DesiredState::FREEZE;
  constexpr auto kSuspend = DesiredState::SUSPEND;
  const std::vector<Case> cases = {{"freeze", Freeze()},      {"thaw", Thaw()},
                                   {"suspend", Suspend()},    {"resume", Resume()},
                                   {"restart", Restart()},    {"edit", Apply(Edited), true},
                                   {"delete", Delete(), true}};
  Prepare(cases);
  if (HasFatalFailure()) return;
  KillAllWorkers();
  AskAllThenKill(cases);

  EXPECT_EQ(ReasonOfQuery("delete"), "DOMAIN_NOT_FOUND");
  for (const Case& each : cases) {
    if (each.domain != "delete") ExpectAnswers(each.domain);
  }
  const std::map<std::string, DesiredState::Mode> as_before = {
      {"", kRun}, {"frozen", kFreeze}, {"suspended", kSuspend}};
  ExpectDesired("freeze", {{"", kFreeze}, {"suspended", kSuspend}});
  ExpectDesired("thaw", {{"", kRun}, {"suspended", kSuspend}});
  ExpectDesired("suspend", {{"", kSuspend}});
  ExpectDesired("resume", {{"", kRun}, {"frozen", kFreeze}});
  ExpectDesired("restart", as_before);
  ExpectDesired("edit", as_before);
  for (const auto& [slice, state] : Before()) EXPECT_EQ(Desired("restart", slice).restarts(), 1);
  EXPECT_EQ(Desired("freeze", "suspended").resume_to(), kFreeze);
  EXPECT_EQ(Desired("suspend", "frozen").resume_to(), kFreeze);
  EXPECT_EQ(Revision("edit"), 3);

  WaitForStates("freeze", AllBut(v1::FROZEN));
  WaitForStates("thaw", With(Before(), {{"frozen", v1::RUNNING}}));
  WaitForStates("suspend", AllBut(v1::SUSPENDED));
  WaitForStates("resume", With(Before(), {{"suspended", v1::RUNNING}}));
  WaitForStates("restart", Before());
  WaitForStates("edit", With(Before(), {}));
  EXPECT_EQ(Rows("restart", "frozen"), R"([{"sales":2}])");
  EXPECT_EQ(Rows("thaw", "frozen"), R"([{"sales":4}])");
  EXPECT_EQ(Rows("restart", "suspended"), R"([{"last":"pear"}])");
  EXPECT_EQ(Rows("resume", "suspended"), R"([{"last":"yam"}])");
  EXPECT_EQ(Rows("restart", "held"), R"([{"total":3}])");
  EXPECT_EQ(Rows("restart", "lags"), R"([{"visits":1}])");
  for (const std::string domain : {"thaw", "resume", "restart"}) {
    std::filesystem::remove(Hold(domain));
    WaitForStates(domain, {{"lags", v1::RUNNING}, {"backfills", v1::RUNNING}});
    EXPECT_EQ(Rows(domain, "lags"), R"([{"visits":2}])");
    EXPECT_EQ(Rows(domain, "backfills"), R"([{"last":"pear"}])");
  }
}

// No worker runs, and none is killed.
TEST_F(VerbsTest, OfAHibernatingDomainHoldOverAKillAtOnce) {
  constexpr auto kRun = DesiredState::RUN;
  const std::vector<Case> cases = {{"freeze", Freeze()},
                                   {"suspend", Suspend()},
                                   {"restart", Restart()},
                                   {"edit", Apply(EditedResting), true},
                                   {"delete", Delete(), true}};
  slices_ = {{"runs", v1::RUNNING}};
  daemon_.SetSettings(
      "workers: {heartbeat_interval_ms: 100, snapshot_interval_ms: 300, idle_after_ms: 300}\n");
  daemon_.Start();
  ASSERT_TRUE(daemon_.CreateStream("sales").ok());
  Append("sales", {R"({"item":"fig"})", R"({"item":"pear"})"});
  for (const Case& each : cases) ApplyFile(RestingFile(each.domain));
  for (const Case& each : cases) WaitForRest(each.domain);
  AskAllThenKill(cases);

  EXPECT_EQ(ReasonOfQuery("delete"), "DOMAIN_NOT_FOUND");
  for (const std::string domain : {"freeze", "suspend", "restart", "edit"}) ExpectAnswers(domain);
  ExpectDesired("freeze", {{"", DesiredState::FREEZE}});
  ExpectDesired("suspend", {{"", DesiredState::SUSPEND}});
  ExpectDesired("restart", {{"", kRun}});
  ExpectDesired("edit", {{"", kRun}});
  EXPECT_EQ(Desired("restart", "runs").restarts(), 1);
  EXPECT_EQ(Revision("edit"), 2);
  WaitForStates("freeze", {{"runs", v1::FROZEN}});
  WaitForStates("suspend", {{"runs", v1::SUSPENDED}});
  WaitForStates("restart", slices_);
  WaitForStates("edit", slices_);
}

// Only the daemon has suspended them: what was found about a slice that ended its worker whenever
// that opened it, or all of a domain whose worker had failed too often.
class SuspendedVerbsTest : public VerbsTest {
 protected:
  // A slice for each verb.
  static std::string FileOf(const std::string& domain) {
    std::string file = absl::StrCat("domain: ", domain,
                                    "\nsources: {sales: {columns: {item: VARCHAR}}}\nslices:\n");
    for (const char* slice : {"frozen", "resumed"}) {
      absl::StrAppend(&file, "  ", slice, ": {sql: \"SELECT max(item) AS last FROM sales\"}\n");
    }
    return file;
  }
  Verb ByName() {
    return [frozen = Freeze(), resumed = Resume()](const std::string& domain,
                                                   const std::string& slice) {
      return slice == "frozen" ? frozen(domain, slice) : resumed(domain, slice);
    };
  }
  static Verb OfRuns(const Verb& verb) {
    return [verb](const std::string& domain, const std::string&) { return verb(domain, "runs"); };
  }

  // Live workers do as a file of their domain says, see Poison().
  void SetUp() override {
    program_ = daemon_.data_directory() + "-worker.sh";
    std::ofstream(program_) << R"(#!/bin/sh
for word; do
  case $word in --directory=*) domain=${word#*=};; --flight-record=*) record=${word#*=};; esac
done
case "$*" in *--role=live*)
  for note in "$domain"/deaths/*; do
    [ -e "$note" ] && mv "$note" "$record" && exit 1
  done
esac
exec )" << std::getenv("ICEPIE_BIN")
                            << "/icepie-worker \"$@\"\n";
    std::filesystem::permissions(program_, std::filesystem::perms::owner_all);
    daemon_.SetSettings(
        absl::StrCat("workers: {heartbeat_interval_ms: 100, snapshot_interval_ms: 300, ",
                     "restart_backoff_ms: 1, suspension_ms: 600000, program: ", program_, "}\n"));
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
    Append("sales", {R"({"item":"fig"})", R"({"item":"pear"})"});
    slices_.clear();
    for (const char* slice : {"frozen", "resumed"}) {
      slices_[slice] = v1::SUSPENDED;
    }
  }
  void TearDown() override { std::filesystem::remove(program_); }

  // The live worker's next deaths, and what it was doing each time.
  void Poison(const std::string& domain) const {
    const std::string deaths =
        absl::StrCat(daemon_.data_directory(), "/domains/", domain, "/deaths");
    std::filesystem::create_directories(deaths);
    for (const auto& [slice, state] : slices_) {
      const std::string generation = slice + "/1";
      std::string note(256, '\0');
      note[0] = static_cast<char>(slices::Activity::kOpen);
      note[24] = static_cast<char>(generation.size());
      note.replace(36, generation.size(), generation);
      for (int i = 0; i < server::PoisonFinder::kDeaths; ++i) {
        std::ofstream(absl::StrCat(deaths, "/", slice, "-", i), std::ios::binary) << note;
      }
    }
  }
  // As a daemon leaves it whose live worker had failed too often.
  void KeepSuspended(const std::string& domain) const {
    v1::WorkerStatus status;
    status.set_domain(domain);
    status.set_role("live");
    status.set_restarts(10);
    status.set_last_error("ended with exit code 7");
    *status.mutable_since() = server::ToProto(absl::Now());
    *status.mutable_next_start_time() = server::ToProto(absl::Now() + absl::Minutes(9));
    const std::string directory = daemon_.data_directory() + "/suspended";
    std::filesystem::create_directories(directory);
    std::ofstream file(absl::StrCat(directory, "/", domain), std::ios::binary);
    ASSERT_TRUE(status.SerializeToOstream(&file));
  }

  std::string program_;
};

TEST_F(SuspendedVerbsTest, HoldOverAKillAtOnce) {
  const std::vector<Case> cases = {{"poisoned", ByName()},
                                   {"freeze", OfRuns(Freeze()), true},
                                   {"resume", OfRuns(Resume()), true},
                                   {"edit", Apply(EditedResting), true},
                                   {"delete", Delete(), true}};
  const States runs = {{"runs", v1::SUSPENDED}};
  const auto slices_of = [&](const Case& each) { return each.of_domain ? runs : slices_; };
  for (const Case& each : cases) {
    ApplyFile(each.of_domain ? RestingFile(each.domain) : FileOf(each.domain));
  }
  for (const Case& each : cases) {
    for (const auto& [slice, state] : slices_of(each)) {
      const std::string name = absl::StrCat(each.domain, ".", slice);
      ASSERT_TRUE(
          Eventually([&] { return daemon_.GetSlice(name).standby_position() >= end_; }, kLong));
    }
  }
  daemon_.Kill();
  Poison("poisoned");
  for (const Case& each : cases) {
    if (each.of_domain) KeepSuspended(each.domain);
  }
  daemon_.Start();
  for (const Case& each : cases) WaitForStates(each.domain, slices_of(each));
  if (HasFailure()) return;
  KillAllWorkers();
  AskAllThenKill(cases);

  EXPECT_EQ(ReasonOfQuery("delete"), "DOMAIN_NOT_FOUND");
  ExpectAnswers("poisoned");
  ExpectDesired("poisoned", {{"", DesiredState::RUN}, {"frozen", DesiredState::FREEZE}});
  // What was found about the other still holds.
  WaitForStates("poisoned", With(slices_, {{"resumed", v1::RUNNING}}));
  for (const std::string domain : {"freeze", "resume", "edit"}) {
    EXPECT_NE(Rows(domain, "runs"), "");
  }
  EXPECT_EQ(Desired("freeze", "runs").mode(), DesiredState::FREEZE);
  EXPECT_EQ(Revision("edit"), 2);
  WaitForStates("freeze", {{"runs", v1::FROZEN}});
  WaitForStates("resume", {{"runs", v1::RUNNING}});
  // Its worker is tried again with a new file.
  WaitForStates("edit", {{"runs", v1::RUNNING}});
}

TEST_F(VerbsTest, InSafeModeHoldToo) {
  constexpr auto kRun = DesiredState::RUN;
  constexpr auto kFreeze = DesiredState::FREEZE;
  constexpr auto kSuspend = DesiredState::SUSPEND;
  const std::vector<Case> cases = {{"freeze", Freeze()},
                                   {"thaw", Thaw()},
                                   {"edit", Apply(Edited), true},
                                   {"delete", Delete(), true}};
  Prepare(cases);
  if (HasFatalFailure()) return;
  daemon_.Kill();
  daemon_.AddArgument("--safe-mode");
  daemon_.Start();
  KillAllWorkers();
  AskAllThenKill(cases);

  EXPECT_EQ(ReasonOfQuery("delete"), "DOMAIN_NOT_FOUND");
  for (const std::string domain : {"freeze", "thaw", "edit"}) ExpectAnswers(domain);
  ExpectDesired("freeze", {{"", kFreeze}, {"suspended", kSuspend}});
  ExpectDesired("thaw", {{"", kRun}, {"suspended", kSuspend}});
  ExpectDesired("edit", {{"", kRun}, {"frozen", kFreeze}, {"suspended", kSuspend}});
  EXPECT_EQ(Revision("edit"), 3);
  WaitForStates("thaw", AllBut(v1::FROZEN));  // safe mode, again

  v1::ServerStatus status;
  ASSERT_TRUE(daemon_.Admin()->LeaveSafeMode(Within(kLong).get(), {}, &status).ok());
  WaitForStates("freeze", AllBut(v1::FROZEN));
  WaitForStates("thaw", With(Before(), {{"frozen", v1::RUNNING}}));
  WaitForStates("edit", Before());
}

}  // namespace
}  // namespace icepie::testing
