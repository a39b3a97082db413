#include "server/supervisor/supervisor.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "server/base/proto_time.h"
#include "server/supervisor/run_directory.h"
#include "server/supervisor/suspension_file.h"
#include "slices/apply/flight_record.h"
#include "tests/core/temp_directory.h"
#include "tests/server/fake_worker.h"

namespace icepie::server {
namespace {

class SupervisorTest : public testing::Test {
 protected:
  static constexpr int kDomains = 200;

  static std::string Name(int domain) { return absl::StrCat("d", domain); }

  // A program that starts and never answers.
  WorkerSettings Settings(const std::string& does = "exec sleep 100") const {
    const std::string program = directory_.path() + "/worker.sh";
    std::ofstream(program) << "#!/bin/sh\n" << does << "\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    WorkerSettings settings;
    settings.program = program;
    settings.socket_directory = directory_.path();
    return settings;
  }

  // With one slice.
  static void SetDomain(Supervisor& supervisor, int domain) {
    icepie::worker::v1::Assignment assignment;
    assignment.set_domain(Name(domain));
    assignment.add_generations()->set_slice("s");
    supervisor.SetDomain(assignment);
  }

  static std::string StandbyState(const Supervisor& supervisor, int domain) {
    return supervisor.View(Name(domain)).standby.status.state();
  }

  absl::Status Planned(const WorkerSettings& settings, absl::Duration timeout) const {
    Supervisor supervisor(settings, directory_.path() + "/domains", directory_.path());
    absl::Notification done;
    absl::Status status;
    supervisor.Plan({}, timeout, [&](const auto& result) {
      status = result.status();
      done.Notify();
    });
    done.WaitForNotification();
    return status;
  }

  std::pair<std::unique_ptr<FakeWorker>, int64_t> AnswerForLive(Supervisor& supervisor) {
    return server::AnswerForLive(supervisor, Name(0), directory_.path());
  }

  static bool IsReplaced(Supervisor& supervisor, int64_t incarnation) {
    return supervisor.WaitFor(Name(0), absl::Seconds(60), [&](const DomainView& view) {
      return view.live.incarnation != incarnation;
    });
  }

  // What a worker was doing, as the process notes it in its flight record.
  static void NoteThatItApplies(const std::string& record) {
    std::string slot(256, '\0');
    slot[0] = static_cast<char>(slices::Activity::kApply);
    slot[24] = 3;  // the subject's size
    slot.replace(36, 3, "s/1");
    std::ofstream(record, std::ios::binary) << slot;
    ASSERT_EQ(slices::ReadFlightRecord(record).size(), 1U);
  }

  TempDirectory directory_;
};

TEST_F(SupervisorTest, WhatNeedsTooMuchOfTheProcessorToPlanIsTheDefinitionsFault) {
  const absl::Status status = Planned(Settings("kill -XCPU $$"), absl::Minutes(1));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ErrorReason(status), "SQL_TOO_COMPLEX");
  EXPECT_EQ(status.message(),
            "planning the definition takes more than 10 s of the processor; make its SQL simpler");
}

TEST_F(SupervisorTest, APlannerWithoutTheProcessorIsNobodysFault) {
  const absl::Status status = Planned(Settings(), absl::Milliseconds(100));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrorReason(status), "PLAN_TIME_LIMIT");
  EXPECT_NE(status.message().find("less busy"), std::string::npos) << status;
}

TEST_F(SupervisorTest, PlannersLeaveNothingBehind) {
  const std::string left = directory_.path() + "/17";  // by a daemon that was killed
  std::filesystem::create_directories(left + "/tmp/spill-1");
  std::ofstream(left + "/tmp/spill-1/file") << "rows";
  WorkerSettings settings = Settings();
  settings.program = directory_.path() + "/missing";
  EXPECT_FALSE(Planned(settings, absl::Seconds(60)).ok());
  EXPECT_FALSE(std::filesystem::exists(left));
  EXPECT_FALSE(std::filesystem::exists(directory_.path() + "/1"));
}

// A program that is missing is tried for again as long as it is.
TEST_F(SupervisorTest, WorkersThatCannotBeStartedLeaveNothingBehind) {
  WorkerSettings settings = Settings();
  settings.program = directory_.path() + "/missing";
  settings.socket_directory = directory_.path() + "/run";
  settings.restart.first_backoff = absl::Milliseconds(1);
  settings.restart.failures_max = 3;
  ASSERT_TRUE(std::filesystem::create_directory(settings.socket_directory));
  {
    Supervisor supervisor(settings, directory_.path() + "/domains", directory_.path());
    SetDomain(supervisor, 0);
    ASSERT_TRUE(supervisor.WaitFor(Name(0), absl::Seconds(60),
                                   [](const DomainView& view) { return view.live.suspended; }));
  }
  EXPECT_TRUE(std::filesystem::is_empty(settings.socket_directory));
}

// Workers start one after the other, so that the machine is not swamped; but whom somebody waits
// for does not stand in that line.
TEST_F(SupervisorTest, WhoIsAskedStartsBeforeThoseThatNobodyWaitsFor) {
  Supervisor supervisor(Settings(), directory_.path() + "/domains", directory_.path());
  for (int i = 0; i < kDomains; ++i) {
    icepie::worker::v1::Assignment assignment;
    assignment.set_domain(Name(i));
    supervisor.SetDomain(assignment);
  }
  supervisor.WakeStandby(Name(kDomains - 1));
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (StandbyState(supervisor, kDomains - 1) != "starting" && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(StandbyState(supervisor, kDomains - 1), "starting");
  EXPECT_TRUE(AwaitsFirstStart(supervisor.View(Name(kDomains - 2)).standby));
  supervisor.StopAll(absl::ZeroDuration());
}

// A daemon that starts with many domains first has everybody's last answers, then fresh ones.
TEST_F(SupervisorTest, EveryStandbyStartsBeforeTheFirstLiveWorker) {
  constexpr int kFew = 20;
  Supervisor supervisor(Settings(), directory_.path() + "/domains", directory_.path());
  absl::Notification all_are_set;  // a loaded machine may take long to come so far
  supervisor.loop().Post([&] { all_are_set.WaitForNotification(); });
  for (int i = 0; i < kFew; ++i) {
    SetDomain(supervisor, i);
  }
  all_are_set.Notify();
  const auto both_started = [](const DomainView& view) {
    return view.live.status.state() == "starting" && view.standby.status.state() == "starting";
  };
  for (int i = 0; i < kFew; ++i) {
    EXPECT_TRUE(supervisor.WaitFor(Name(i), absl::Seconds(60), both_started)) << i;
  }
  const auto since = [](const WorkerView& worker) { return FromProto(worker.status.since()); };
  const absl::Time last_standby = since(supervisor.View(Name(kFew - 1)).standby);
  for (int i = 0; i < kFew; ++i) {
    EXPECT_GE(since(supervisor.View(Name(i)).live), last_standby) << i;
  }
  supervisor.StopAll(absl::ZeroDuration());
}

TEST_F(SupervisorTest, OthersCrashLoopsDoNotDelayAWorkerThatHadRunWell) {
  constexpr int kBroken = 1;
  WorkerSettings settings =
      Settings(R"(case "$*" in *--domain=d1*) exit 1 ;; *) exec sleep 100 ;; esac)");
  settings.restart.first_backoff = absl::Milliseconds(1);
  settings.restart.failures_max = 1000;
  settings.pacer = std::make_shared<RestartPacer>(8, absl::Hours(1));
  Supervisor supervisor(settings, directory_.path() + "/domains", directory_.path());
  for (const int domain : {0, kBroken}) {
    SetDomain(supervisor, domain);
  }
  const auto waits_long = [](const WorkerView& worker) {
    return FromProto(worker.status.next_start_time()) > absl::Now() + absl::Minutes(10);
  };
  ASSERT_TRUE(supervisor.WaitFor(Name(kBroken), absl::Seconds(60), [&](const DomainView& view) {
    return waits_long(view.live) && waits_long(view.standby);
  }));
  const auto is_starting = [](const DomainView& view) {
    return view.live.status.state() == "starting";
  };
  ASSERT_TRUE(supervisor.WaitFor(Name(0), absl::Seconds(60), is_starting));
  const WorkerView before = supervisor.View(Name(0)).live;
  kill(static_cast<pid_t>(before.status.pid()), SIGKILL);
  EXPECT_TRUE(supervisor.WaitFor(Name(0), absl::Seconds(60), [&](const DomainView& view) {
    return is_starting(view) && view.live.incarnation != before.incarnation;
  }));
  supervisor.StopAll(absl::ZeroDuration());
}

TEST_F(SupervisorTest, ASuspensionOutlastsTheDaemonAndIsForgottenWithItsDomain) {
  WorkerSettings settings = Settings("exit 7");
  settings.suspended_directory = directory_.path() + "/suspended";
  settings.restart.first_backoff = absl::Milliseconds(1);
  settings.restart.failures_max = 3;
  const std::string domains = directory_.path() + "/domains";
  WorkerView before;
  {
    Supervisor supervisor(settings, domains, directory_.path());
    SetDomain(supervisor, 0);
    ASSERT_TRUE(supervisor.WaitFor(Name(0), absl::Seconds(60),
                                   [](const DomainView& view) { return view.live.suspended; }));
    before = supervisor.View(Name(0)).live;
  }
  const WorkerSettings repaired = Settings();
  settings.program = repaired.program;
  const auto is_starting = [](const DomainView& view) {
    return view.live.status.state() == "starting";
  };
  const auto is_known = [](const DomainView& view) { return !view.live.status.state().empty(); };
  for (const bool may_rest : {false, true}) {
    Supervisor supervisor(settings, domains, directory_.path());
    icepie::worker::v1::Assignment assignment;
    assignment.set_domain(Name(0));
    assignment.add_generations()->set_slice("s");
    supervisor.SetDomain(assignment,
                         may_rest ? std::make_shared<icepie::worker::v1::WorkerReport>() : nullptr);
    ASSERT_TRUE(supervisor.WaitFor(Name(0), absl::Seconds(60), is_known));
    const WorkerView after = supervisor.View(Name(0)).live;
    EXPECT_TRUE(after.suspended);
    EXPECT_EQ(after.status.state(), "suspended");
    EXPECT_EQ(after.status.restarts(), 3);
    EXPECT_EQ(after.status.last_error(), before.status.last_error());
    EXPECT_EQ(FromProto(after.status.since()), FromProto(before.status.since()));
    EXPECT_EQ(FromProto(after.status.next_start_time()),
              FromProto(before.status.next_start_time()));
    if (!may_rest) continue;
    supervisor.RemoveDomain(Name(0));
    SetDomain(supervisor, 0);
    EXPECT_TRUE(supervisor.WaitFor(Name(0), absl::Seconds(60), is_starting));
  }
}

TEST_F(SupervisorTest, ASuspensionThatWasEndedIsNotTakenUpAgain) {
  WorkerSettings settings = Settings();
  settings.suspended_directory = directory_.path() + "/suspended";
  const SuspensionFile file(settings.suspended_directory + "/" + Name(0));
  icepie::v1::WorkerStatus status;
  const auto starts = [&](bool resume) {
    Supervisor supervisor(settings, directory_.path() + "/domains", directory_.path());
    SetDomain(supervisor, 0);
    if (resume) supervisor.Resume(Name(0));
    return supervisor.WaitFor(Name(0), absl::Seconds(60), [](const DomainView& view) {
      return view.live.status.state() == "starting";
    });
  };
  *status.mutable_next_start_time() = ToProto(absl::Now() + absl::Hours(1));
  file.Write(status);
  EXPECT_TRUE(starts(true));
  EXPECT_FALSE(file.Read().has_value());
  EXPECT_TRUE(starts(false));
  *status.mutable_next_start_time() = ToProto(absl::Now() - absl::Seconds(1));
  file.Write(status);
  EXPECT_TRUE(starts(false));

  *status.mutable_next_start_time() = ToProto(absl::Now() + absl::Hours(1));
  file.Write(status);
  {
    Supervisor supervisor(settings, directory_.path() + "/domains", directory_.path());
    supervisor.SetSafeMode(true);
    SetDomain(supervisor, 0);
    supervisor.Resume(Name(0));
    SetDomain(supervisor, 1);  // after that
    EXPECT_TRUE(supervisor.WaitFor(Name(1), absl::Seconds(60), [](const DomainView& view) {
      return view.live.status.state() == "paused";
    }));
    EXPECT_FALSE(file.Read().has_value());
  }
  EXPECT_TRUE(starts(false));
}

// Who is told that a suspension has ended asks its next question at once: that one must not be
// refused for a suspension that is over.
TEST_F(SupervisorTest, WhoWaitsIsShownWhatItHasAskedForBefore) {
  WorkerSettings settings = Settings();
  settings.suspended_directory = directory_.path() + "/suspended";
  icepie::v1::WorkerStatus status;
  *status.mutable_next_start_time() = ToProto(absl::Now() + absl::Hours(1));
  SuspensionFile(settings.suspended_directory + "/" + Name(0)).Write(status);
  Supervisor supervisor(settings, directory_.path() + "/domains", directory_.path());
  SetDomain(supervisor, 0);
  ASSERT_TRUE(supervisor.WaitFor(Name(0), absl::Seconds(60),
                                 [](const DomainView& view) { return view.live.suspended; }));
  absl::Notification looked;  // too early, if the loop waits for it
  supervisor.loop().Post([&] { looked.WaitForNotificationWithTimeout(absl::Milliseconds(500)); });
  supervisor.Resume(Name(0));
  WorkerView first;
  EXPECT_TRUE(supervisor.WaitFor(Name(0), absl::Seconds(60), [&](const DomainView& view) {
    if (!looked.HasBeenNotified()) {
      first = view.live;
      looked.Notify();
    }
    return true;
  }));
  EXPECT_FALSE(first.suspended);
  EXPECT_NE(first.status.state(), "suspended");
  EXPECT_FALSE(first.status.has_next_start_time());
  EXPECT_FALSE(supervisor.View(Name(0)).live.suspended) << "what a question sees";
  supervisor.StopAll(absl::ZeroDuration());
}

TEST_F(SupervisorTest, AWorkerThatDoesNotAnswerItselfIsReplaced) {
  WorkerSettings settings = Settings();
  settings.heartbeat_interval = absl::Milliseconds(10);
  settings.heartbeat_timeout = absl::Seconds(3);  // what is silent for so long dies of that
  settings.restart.first_backoff = absl::Milliseconds(1);
  Supervisor supervisor(settings, directory_.path() + "/domains", directory_.path());
  SetDomain(supervisor, 0);
  const auto [worker, incarnation] = AnswerForLive(supervisor);
  ASSERT_NE(worker, nullptr);
  worker->Hang();
  EXPECT_TRUE(IsReplaced(supervisor, incarnation));
  EXPECT_NE(supervisor.View(Name(0)).live.status.last_error().find("answers no question"),
            std::string::npos);
  supervisor.StopAll(absl::ZeroDuration());
}

TEST_F(SupervisorTest, NoWorkerIsKilledBecauseTheDaemonStoodStill) {
  WorkerSettings settings = Settings();
  settings.heartbeat_interval = absl::Milliseconds(10);
  settings.heartbeat_timeout = absl::Milliseconds(500);
  settings.start_timeout = absl::Seconds(60);
  settings.restart.first_backoff = absl::Milliseconds(1);
  Supervisor supervisor(settings, directory_.path() + "/domains", directory_.path());
  SetDomain(supervisor, 0);
  bool kept = false;
  for (int round = 0; round < 5 && !kept; ++round) {  // a busy machine makes it silent by right
    const auto answered = AnswerForLive(supervisor);
    ASSERT_NE(answered.first, nullptr);
    // Its answer is late, and is heard of later still.
    absl::Notification stands_still;
    answered.first->StandStill(true);
    const int asked = answered.first->statuses();
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (answered.first->statuses() == asked && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    supervisor.loop().Post([&] {
      stands_still.Notify();
      absl::SleepFor(absl::Milliseconds(1800));
    });
    stands_still.WaitForNotification();
    absl::SleepFor(absl::Milliseconds(600));  // beyond the call's own deadline
    answered.first->StandStill(false);
    const absl::Time awake = absl::Now() + absl::Milliseconds(1300);
    supervisor.WaitFor(Name(0), absl::Seconds(60), [&](const DomainView& view) {
      return view.live.incarnation != answered.second || view.live.report_time > awake;
    });
    kept = supervisor.View(Name(0)).live.incarnation == answered.second;
  }
  EXPECT_TRUE(kept);
  supervisor.StopAll(absl::ZeroDuration());
}

// Live workers that have begun: whoever is asked to end before that has nothing to save.
class SupervisorStopTest : public SupervisorTest {
 protected:
  // Domain 0's does `first` when it is asked to end, domain 1's `second`; standbys end by it.
  std::vector<Supervisor::UnsavedDomain> Stopped(const std::string& first,
                                                 const std::string& second, absl::Duration grace) {
    const std::string begun = directory_.path() + "/begun";
    std::filesystem::create_directory(begun);
    const WorkerSettings settings = Settings(
        absl::StrCat(R"(case "$*" in *--role=standby*) exec sleep 100 ;; *--domain=d0*) trap ')",
                     first, R"(' TERM ;; *) trap ')", second, R"(' TERM ;; esac; : > )", begun,
                     "/$$; while :; do sleep 0.05; done"));
    Supervisor supervisor(settings, directory_.path() + "/domains", directory_.path());
    SetDomain(supervisor, 0);
    SetDomain(supervisor, 1);
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    const auto both = [&] {
      return std::distance(std::filesystem::directory_iterator(begun), {}) == 2;
    };
    while (!both() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(2));
    EXPECT_TRUE(both());
    return supervisor.StopAll(grace);
  }
};

TEST_F(SupervisorStopTest, WhoCouldNotSaveIsNamed) {
  const auto unsaved = Stopped("exit 0", "exit 6", absl::Seconds(60));
  ASSERT_EQ(unsaved.size(), 1U);
  EXPECT_EQ(unsaved[0].domain, "d1");
  EXPECT_EQ(unsaved[0].why, "exit code 6: a state could not be saved, as its log says");
}

TEST_F(SupervisorStopTest, WhoTakesTooLongIsNamed) {
  const auto unsaved = Stopped("", "", absl::Milliseconds(50));
  ASSERT_EQ(unsaved.size(), 2U);
  for (const auto& [domain, why] : unsaved) {
    EXPECT_EQ(why, "killed when it had not ended after 50ms (stop_timeout_ms)") << domain;
  }
}

// The live worker of domain 0, in whose place the test answers, has applied a record beyond its
// snapshot when it goes to rest.
class SupervisorRestTest : public SupervisorTest {
 protected:
  static constexpr int64_t kApplied = 5;

  static icepie::worker::v1::WorkerReport Report(int64_t saved) {
    icepie::worker::v1::WorkerReport report;
    auto& slice = *report.add_slices();
    slice.set_slice("s");
    slice.set_serving(true);
    slice.set_applied_position(kApplied);
    slice.set_content_version(kApplied);
    slice.mutable_snapshot()->set_path("snapshots/s/g1-1.duckdb");
    slice.mutable_snapshot()->set_position(saved);
    slice.mutable_snapshot()->set_content_version(saved);
    return report;
  }

  // The same of one that has only passed over the last record, which is another's.
  static icepie::worker::v1::WorkerReport PassedOver() {
    icepie::worker::v1::WorkerReport report = Report(kApplied - 1);
    report.mutable_slices(0)->set_content_version(kApplied - 1);
    return report;
  }

  // Domain 0's view after it has ended as `ends` says; true: another has been started, which
  // reports `again` in the end.
  std::pair<DomainView, bool> Rest(
      const std::string& ends, const icepie::worker::v1::WorkerReport& report,
      const std::optional<icepie::worker::v1::WorkerReport>& again = {}) {
    const std::string begun = directory_.path() + "/begun";
    WorkerSettings settings =
        Settings(absl::StrCat(R"(case "$*" in *--role=live*) trap ')", ends, R"(' TERM; : > )",
                              begun, "/$$; while :; do sleep 0.02; done ;; esac; exec sleep 100"));
    settings.heartbeat_interval = absl::Seconds(10);  // it is asked, and not killed as silent
    std::filesystem::create_directory(begun);
    // Never deleted: an answer of the test's worker may come to its loop after it has stopped.
    static auto* const supervisors = new std::vector<std::unique_ptr<Supervisor>>();
    Supervisor& supervisor = *supervisors->emplace_back(
        std::make_unique<Supervisor>(settings, directory_.path() + "/domains", directory_.path()));
    SetDomain(supervisor, 0);
    const auto [worker, incarnation] = AnswerForLive(supervisor);
    EXPECT_NE(worker, nullptr);
    if (worker == nullptr) return {};
    worker->SetReport(report);
    const std::string pid = absl::StrCat(supervisor.View(Name(0)).live.status.pid());
    EXPECT_TRUE(supervisor.WaitFor(Name(0), absl::Seconds(60), [&](const DomainView& view) {
      return view.live.report->slices_size() > 0 && std::filesystem::exists(begun + "/" + pid);
    }));
    supervisor.Rest(Name(0));
    const int64_t before = incarnation;
    EXPECT_TRUE(supervisor.WaitFor(Name(0), absl::Seconds(60), [&](const DomainView& view) {
      return view.live.incarnation != before ||
             (IsResting(view.live) && view.live.status.pid() == 0);
    }));
    const std::unique_ptr<FakeWorker> next = again ? AnswerAgain(supervisor, *again) : nullptr;
    const DomainView view = supervisor.View(Name(0));
    supervisor.StopAll(absl::ZeroDuration());
    return {view, view.live.incarnation != before};
  }

  std::unique_ptr<FakeWorker> AnswerAgain(Supervisor& supervisor,
                                          const icepie::worker::v1::WorkerReport& report) {
    auto [worker, incarnation] = AnswerForLive(supervisor);
    EXPECT_NE(worker, nullptr);
    if (worker == nullptr) return nullptr;
    worker->SetReport(report);
    EXPECT_TRUE(supervisor.WaitFor(Name(0), absl::Seconds(60), [](const DomainView& view) {
      return view.live.report->slices_size() > 0;
    }));
    return std::move(worker);
  }
};

TEST_F(SupervisorRestTest, WhoCouldNotSaveIsStartedAgain) {
  const auto [view, again] = Rest("exit 6", Report(kApplied - 1));
  EXPECT_TRUE(again);
  EXPECT_FALSE(IsResting(view.live));
  EXPECT_TRUE(view.live.rest_lost);
  EXPECT_LT(view.live.lost_since, absl::InfiniteFuture());
  EXPECT_NE(view.live.status.last_error().find("exit code 6"), std::string::npos)
      << view.live.status.last_error();
}

TEST_F(SupervisorRestTest, WhoIsKilledWhileItSavesIsStartedAgain) {
  EXPECT_TRUE(Rest("kill -9 $$", Report(kApplied - 1)).second);
}

TEST_F(SupervisorRestTest, WhoHasSavedAllBeforeRestsHoweverItEnds) {
  EXPECT_FALSE(Rest("exit 6", Report(kApplied)).second);
}

TEST_F(SupervisorRestTest, WhoSavesWhenItIsAskedToEndRests) {
  EXPECT_FALSE(Rest("exit 0", Report(kApplied - 1)).second);
}

TEST_F(SupervisorRestTest, WhoHasOnlyPassedOverOthersRecordsRestsHoweverItEnds) {
  EXPECT_FALSE(Rest("kill -9 $$", PassedOver()).second);
}

TEST_F(SupervisorRestTest, WhoIsStartedAgainMayRestWhenNothingIsLeftToSave) {
  EXPECT_FALSE(Rest("exit 6", Report(kApplied - 1), PassedOver()).first.live.rest_lost);
  EXPECT_TRUE(Rest("exit 6", Report(kApplied - 1), Report(kApplied - 1)).first.live.rest_lost);
}

TEST_F(SupervisorRestTest, WhatMayRestAgainHasSavedOrComeAsFar) {
  const auto before = Report(2).slices(0);
  auto slice = Report(2).slices(0);
  EXPECT_FALSE(HasSavedSince(before, slice));
  EXPECT_TRUE(HasSavedSince(before, Report(3).slices(0))) << "it can save again";
  slice = Report(2).slices(0);
  slice.set_content_version(2);
  EXPECT_TRUE(HasSavedSince(before, slice)) << "there was nothing in what it has lost";
  slice.set_applied_position(2);
  EXPECT_FALSE(HasSavedSince(before, slice)) << "it has only been opened";
  slice.set_state(icepie::v1::FROZEN);
  EXPECT_TRUE(HasSavedSince(before, slice));
}

TEST_F(SupervisorRestTest, ARecordThatIsLeftOutHasToBeSaved) {
  auto slice = PassedOver().slices(0);
  EXPECT_TRUE(HasSaved(slice));
  slice.mutable_counts()->set_quarantined(1);
  EXPECT_FALSE(HasSaved(slice));
  EXPECT_TRUE(HasSavedRows(slice));
  slice.set_content_version(kApplied);
  EXPECT_FALSE(HasSavedRows(slice));
}

// The live worker of domain 0, in whose place the test answers, is applying when it ends.
class SupervisorDeathTest : public SupervisorTest {
 protected:
  SupervisorDeathTest()
      : supervisor_(FastSettings(), directory_.path() + "/domains", directory_.path()) {
    supervisor_.SetDeathListener([this](const WorkerDeath& death) {
      const MutexLock lock(mutex_);
      deaths_.push_back(death);
    });
  }

  void SetUp() override {
    SetDomain(supervisor_, 0);
    std::tie(worker_, incarnation_) = AnswerForLive(supervisor_);
    ASSERT_NE(worker_, nullptr);
    const WorkerView live = supervisor_.View(Name(0)).live;
    ASSERT_EQ(live.incarnation, incarnation_);
    pid_ = static_cast<pid_t>(live.status.pid());
    ASSERT_GT(pid_, 0);
    NoteThatItApplies(live.flight_record);
  }

  // Stops the supervisor and returns the death of the process that the test answered for.
  WorkerDeath Death() {
    supervisor_.StopAll(absl::ZeroDuration());
    const MutexLock lock(mutex_);
    for (const WorkerDeath& death : deaths_) {
      if (death.incarnation == incarnation_) return death;
    }
    return {};
  }

  Mutex mutex_;
  std::vector<WorkerDeath> deaths_ ABSL_GUARDED_BY(mutex_);
  Supervisor supervisor_;
  std::unique_ptr<FakeWorker> worker_;
  int64_t incarnation_ = 0;
  pid_t pid_ = 0;

 private:
  WorkerSettings FastSettings() const {
    WorkerSettings settings = Settings();
    settings.heartbeat_interval = absl::Milliseconds(10);
    return settings;
  }
};

TEST_F(SupervisorDeathTest, AWorkerThatBreaksEveryQuestionIsReplacedAndNoneOfItsSlicesBlamed) {
  supervisor_.EndBroken(Name(0), incarnation_ - 1000);  // one that is gone
  supervisor_.EndBroken(Name(0), incarnation_);
  EXPECT_TRUE(IsReplaced(supervisor_, incarnation_));
  EXPECT_NE(supervisor_.View(Name(0)).live.status.last_error().find("every call"),
            std::string::npos);
  EXPECT_GE(supervisor_.View(Name(0)).live.status.restarts(), 1);
  const WorkerDeath death = Death();
  EXPECT_EQ(death.incarnation, incarnation_);
  EXPECT_TRUE(death.notes.empty());
}

// Its end breaks every question that it was asked, and may be heard of after them.
TEST_F(SupervisorDeathTest, WhatAWorkerDidThatHasDiedIsNotTakenForBrokenAnswers) {
  absl::Notification both_are_posted;  // so that the loop looks at nothing between the two
  supervisor_.loop().Post([&] { both_are_posted.WaitForNotification(); });
  supervisor_.loop().Post([&] {
    kill(pid_, SIGKILL);
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
  });
  supervisor_.EndBroken(Name(0), incarnation_);
  both_are_posted.Notify();
  EXPECT_TRUE(IsReplaced(supervisor_, incarnation_));
  const WorkerDeath death = Death();
  EXPECT_EQ(death.incarnation, incarnation_);
  EXPECT_EQ(death.how, "ended with signal 9 (Killed)");
  EXPECT_EQ(death.notes.size(), 1U);
}

TEST(RunDirectoryTest, WhereTheDiskTakesNoDirectorySocketsAreInMemory) {
  const TempDirectory directory;
  const std::string run = directory.path() + "/run";
  auto socket = PrepareWorkerSocket(run, "w1");  // nothing can be made there
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(socket->rfind("/dev/shm/icepie-", 0), 0) << *socket;
  const std::filesystem::path own = std::filesystem::path(*socket).parent_path();
  EXPECT_TRUE(std::filesystem::is_directory(own));
  EXPECT_EQ(std::filesystem::status(own).permissions(), std::filesystem::perms::owner_all);
  RemoveWorkerSocket(*socket);
  EXPECT_FALSE(std::filesystem::exists(own));
  std::filesystem::remove(own.parent_path());
  std::filesystem::create_directory(run);
  socket = PrepareWorkerSocket(run, "w1");
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(*socket, WorkerSocket(run, "w1"));
}

}  // namespace
}  // namespace icepie::server
