#include "server/domain/builds.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/process_usage.h"
#include "server/base/proto_time.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"
#include "tests/server/fake_worker.h"
#include "tests/server/refusing_core.h"

namespace icepie::server {
namespace {

class BuildsTest : public ::testing::Test {
 protected:
  // Build processes start and never answer.
  BuildsTest()
      : core_(OpenCore(directory_.path() + "/core")),
        refusing_(*core_),
        catalog_(refusing_, directory_.path() + "/intents"),
        supervisor_(Settings(), directory_.path() + "/domains", directory_.path()),
        builds_(catalog_, supervisor_) {}
  ~BuildsTest() override {
    builds_.Stop();
    supervisor_.StopAll(absl::ZeroDuration());
  }

  WorkerSettings Settings() const {
    WorkerSettings settings;
    settings.program = directory_.path() + "/worker.sh";
    settings.socket_directory = directory_.path();
    settings.restart.first_backoff = absl::Milliseconds(1);
    settings.heartbeat_timeout = absl::Seconds(60);  // they do nothing
    std::ofstream(settings.program) << "#!/bin/sh\nexec sleep 100\n";
    std::filesystem::permissions(settings.program, std::filesystem::perms::owner_all);
    return settings;
  }

  // A domain with so many slices, each with a first generation that is to be built.
  void Create(const std::string& domain, int slices) {
    const auto edit = [&](CatalogDomain& changed, std::vector<Catalog::Operation>& operations) {
      changed.entry.set_revision(1);
      auto& revision = changed.revisions[1];
      revision.set_domain(domain);
      revision.set_revision(1);
      for (int i = 0; i < slices; ++i) {
        const std::string name = absl::StrCat("s", i);
        auto& slice = changed.slices[name];
        slice.set_domain(domain);
        slice.set_name(name);
        slice.mutable_desired()->set_mode(icepie::v1::DesiredState::FREEZE);
        auto& generation = *slice.add_generations()->mutable_generation();
        generation.set_number(1);
        generation.set_state(icepie::v1::Generation::BUILDING);
        generation.set_revision(1);
        auto& operation = operations.emplace_back();
        operation.set_number(catalog_.NextOperationNumber());
        operation.set_domain(domain);
        operation.set_slice(name);
        operation.set_generation(1);
      }
      return absl::OkStatus();
    };
    ASSERT_TRUE(catalog_.Change(domain, edit).ok());
  }

  // The test answers in place of the process that builds.
  std::unique_ptr<FakeWorker> AnswerForBuild() {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (absl::Now() < deadline) {
      for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
        const std::string name = entry.path().filename().string();
        if (!entry.is_directory() || name.front() != 'w') continue;
        return std::make_unique<FakeWorker>(
            WorkerSocket(directory_.path(), name),
            [](const auto&, auto&, auto&) { return grpc::Status::OK; });
      }
      absl::SleepFor(absl::Milliseconds(1));
    }
    return nullptr;
  }

  TempDirectory directory_;
  std::unique_ptr<Core> core_;
  RefusingCore refusing_;
  Catalog catalog_;
  Supervisor supervisor_;
  Builds builds_;
};

TEST_F(BuildsTest, ADomainWithManyDoesNotKeepOthersWaiting) {
  ASSERT_TRUE(catalog_.Load().ok());
  builds_.SetHeld(true);
  Create("many", 5);
  Create("one", 1);
  builds_.Resume();
  builds_.SetHeld(false);
  std::multiset<std::string> building;
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (building.size() < 2 && absl::Now() < deadline) {
    building.clear();
    for (const auto& worker : supervisor_.Statuses("")) building.insert(worker.domain());
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(building, (std::multiset<std::string>{"many", "one"}));
}

TEST_F(BuildsTest, TheOldestGoesOnHoweverManyCameAfterIt) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("old", 1);
  Create("many", 200);
  builds_.Resume();
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (supervisor_.Statuses("old").empty() && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(supervisor_.Statuses("old").size(), 1u);
}

TEST_F(BuildsTest, AListComesInPages) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 5);
  google::longrunning::ListOperationsRequest request;
  const auto all = builds_.List(request);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->operations_size(), 5);
  EXPECT_EQ(all->next_page_token(), "");
  request.set_page_size(2);
  for (const int first : {0, 2, 4}) {
    const auto page = builds_.List(request);
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_EQ(page->operations_size(), std::min(2, 5 - first));
    EXPECT_EQ(page->operations(0).name(), all->operations(first).name());
    EXPECT_EQ(page->next_page_token().empty(), first == 4);
    request.set_page_token(page->next_page_token());
  }
  request.set_page_size(5);
  request.clear_page_token();
  EXPECT_EQ(builds_.List(request)->next_page_token(), "") << "nothing follows";
  request.set_page_token("nonsense");
  EXPECT_EQ(builds_.List(request).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(BuildsTest, AnEndThatCannotBeStoredIsToldOnceWhenItIs) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 1);
  std::ofstream(directory_.path() + "/worker.sh") << "#!/bin/sh\nexit 1\n";
  std::atomic<int> told{0};
  builds_.SetEndListener([&](const Catalog::Operation&, const absl::Status& outcome) {
    EXPECT_FALSE(outcome.ok());
    ++told;
  });
  refusing_.refuses = true;
  builds_.Resume();
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  const auto wait_until = [&](const std::function<bool()>& holds) {
    while (!holds() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
    return holds();
  };
  // It has failed for good.
  EXPECT_TRUE(wait_until([&] {
    const auto workers = supervisor_.Statuses("shop");
    return !workers.empty() && workers[0].state() == "suspended";
  }));
  EXPECT_EQ(told, 0);
  refusing_.refuses = false;
  EXPECT_TRUE(wait_until([&] { return told > 0; }));
  EXPECT_TRUE(wait_until([&] { return supervisor_.Statuses("shop").empty(); }));
  EXPECT_EQ(told, 1);
  EXPECT_TRUE(catalog_.Operations().at(0).done());
}

// Its process ends meanwhile, and another one begins.
TEST_F(BuildsTest, AnEndThatWaitsToBeStoredKeepsWhatWasDone) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 1);
  builds_.Resume();
  const auto worker = AnswerForBuild();
  ASSERT_NE(worker, nullptr);
  refusing_.refuses = true;
  icepie::worker::v1::WorkerReport report;
  report.set_epoch(catalog_.Find("shop")->entry.epoch());
  auto& build = *report.mutable_build();
  build.set_number(1);
  build.set_phase("ready");
  build.set_done_records(100);
  build.set_total_records(100);
  build.mutable_snapshot()->set_path("snapshots/s0/g1-p9.duckdb");
  worker->SetReport(report);
  const int64_t number = catalog_.Operations().at(0).number();
  const auto phase = [&] {
    icepie::v1::ResliceMetadata now;
    builds_.Describe(number)->metadata().UnpackTo(&now);
    return now.phase();
  };
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  const auto wait_until = [&](const std::function<bool()>& holds) {
    while (!holds() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
    return holds();
  };
  EXPECT_TRUE(wait_until([&] { return phase() == "ready"; }));
  EXPECT_FALSE(catalog_.Operations().at(0).done());
  const auto pid = supervisor_.Statuses("shop").at(0).pid();
  ASSERT_EQ(::kill(static_cast<pid_t>(pid), SIGKILL), 0);
  EXPECT_TRUE(wait_until([&] {
    const auto workers = supervisor_.Statuses("shop");
    return !workers.empty() && workers[0].restarts() > 0 && workers[0].pid() > 0;
  }));
  refusing_.refuses = false;
  EXPECT_TRUE(wait_until([&] { return catalog_.Operations().at(0).done(); }));
  EXPECT_EQ(catalog_.Operations().at(0).error_code(), 0);
  EXPECT_EQ(catalog_.Operations().at(0).done_records(), 100);
}

// The report that it is ready comes between the cancellation and the end of its process.
TEST_F(BuildsTest, ACancelledOneDoesNotBecomeReady) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 1);
  std::atomic<bool> ready{false};
  builds_.SetReadyListener([&](const auto&, const auto&, int64_t) { ready = true; });
  builds_.Resume();
  const auto worker = AnswerForBuild();
  ASSERT_NE(worker, nullptr);
  const auto cancel = [&](CatalogDomain&, std::vector<Catalog::Operation>& operations) {
    operations.push_back(catalog_.Operations().at(0));
    EndCancelled(operations.back(), "cancelled by an operator");
    return absl::OkStatus();
  };
  ASSERT_TRUE(catalog_.Change("shop", cancel).ok());
  icepie::worker::v1::WorkerReport report;
  report.set_epoch(catalog_.Find("shop")->entry.epoch());
  report.mutable_build()->set_number(1);
  report.mutable_build()->set_phase("ready");
  report.mutable_build()->mutable_snapshot()->set_path("snapshots/s0/g1-p9.duckdb");
  worker->SetReport(report);
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!supervisor_.Statuses("shop").empty() && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_TRUE(supervisor_.Statuses("shop").empty());
  builds_.Stop();
  EXPECT_FALSE(ready);
  EXPECT_EQ(catalog_.Operations().at(0).error_reason(), "CANCELLED");
}

// Its process computes all the time and gets nowhere.
TEST_F(BuildsTest, OneThatIsFarSlowerThanTheLastIsEndedUnlessSomebodyInsists) {
  ASSERT_TRUE(catalog_.Load().ok());
  std::ofstream(directory_.path() + "/worker.sh") << "#!/bin/sh\nwhile :; do :; done\n";
  Builds builds(catalog_, supervisor_, 2, absl::Milliseconds(50));
  Create("shop", 1);
  const auto add = [&](int64_t generation, bool done) {
    const auto edit = [&](CatalogDomain& domain, std::vector<Catalog::Operation>& operations) {
      auto& operation = operations.emplace_back();
      operation.set_number(catalog_.NextOperationNumber());
      operation.set_domain("shop");
      operation.set_slice("s0");
      operation.set_generation(generation);
      operation.set_done(done);
      operation.set_done_records(100000);
      *operation.mutable_start_time() = ToProto(absl::FromUnixSeconds(1000));
      *operation.mutable_end_time() = ToProto(absl::FromUnixSeconds(1000) + absl::Milliseconds(5));
      if (done) return absl::OkStatus();
      auto& entry = *domain.slices.at("s0").add_generations()->mutable_generation();
      entry.set_number(generation);
      entry.set_state(icepie::v1::Generation::BUILDING);
      entry.set_revision(1);
      return absl::OkStatus();
    };
    EXPECT_TRUE(catalog_.Change("shop", edit).ok());
    return catalog_.Operations().at(0).number();
  };
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  const auto wait_until = [&](const std::function<bool()>& holds) {
    while (!holds() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
    return holds();
  };
  const auto report_of = [&](int64_t generation, const std::string& phase) {
    icepie::worker::v1::WorkerReport report;
    report.set_epoch(catalog_.Find("shop")->entry.epoch());
    report.mutable_build()->set_number(generation);
    report.mutable_build()->set_phase(phase);
    report.mutable_build()->set_done_records(1);
    report.mutable_build()->set_total_records(100000);
    report.mutable_build()->mutable_snapshot()->set_path("snapshots/s0/g2-p9.duckdb");
    return report;
  };
  const auto end_of = [&](int64_t number) { return catalog_.FindOperation(number).value(); };

  const int64_t first = catalog_.Operations().at(0).number();
  add(0, true);
  builds.Resume();
  {
    const auto worker = AnswerForBuild();
    ASSERT_NE(worker, nullptr);
    worker->SetReport(report_of(1, "building"));
    ASSERT_TRUE(wait_until([&] { return end_of(first).done(); }));
  }
  EXPECT_EQ(end_of(first).error_reason(), "BUILD_TOO_SLOW") << end_of(first).error_message();
  EXPECT_NE(end_of(first).error_message().find("last build of this slice all of it takes 5ms;"),
            std::string::npos);
  EXPECT_NE(end_of(first).error_message().find("icepie slice reslice shop.s0"), std::string::npos);
  const auto has_process = [&] {
    const std::filesystem::directory_iterator files(directory_.path());
    return std::any_of(begin(files), end(files), [](const auto& file) {
      return file.is_directory() && file.path().filename().string().front() == 'w';
    });
  };
  ASSERT_TRUE(wait_until([&] { return !has_process(); }));

  const int64_t second = add(2, false);
  builds.Enqueue(second);
  const auto worker = AnswerForBuild();
  ASSERT_NE(worker, nullptr);
  worker->SetReport(report_of(2, "building"));
  int asked = -1;  // since when it has long been too slow
  EXPECT_TRUE(wait_until([&] {
    const auto workers = supervisor_.Statuses("shop");
    const auto used = workers.empty() ? std::nullopt : CpuTimeOf(workers.at(0).pid());
    if (asked < 0 && used && *used > absl::Milliseconds(200)) asked = worker->statuses();
    return asked >= 0 && worker->statuses() > asked + 2;
  }));
  worker->SetReport(report_of(2, "ready"));
  EXPECT_TRUE(wait_until([&] { return end_of(second).done(); }));
  EXPECT_EQ(end_of(second).error_reason(), "");
  builds.Stop();
  supervisor_.StopAll(absl::ZeroDuration());
}

// What the process found saved is not its own work.
TEST_F(BuildsTest, TheRateIsThatOfTheProcessThatBuilds) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 1);
  builds_.Resume();
  const auto worker = AnswerForBuild();
  ASSERT_NE(worker, nullptr);
  icepie::worker::v1::WorkerReport report;
  report.set_epoch(catalog_.Find("shop")->entry.epoch());
  auto& build = *report.mutable_build();
  build.set_number(1);
  build.set_phase("building");
  build.set_done_records(1'000'100);
  build.set_done_before(1'000'000);
  build.set_total_records(1'000'300);
  worker->SetReport(report);
  const auto metadata = [&] {
    icepie::v1::ResliceMetadata now;
    const int64_t number = catalog_.Operations().at(0).number();
    builds_.Describe(number)->metadata().UnpackTo(&now);
    return now;
  };
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (metadata().done_records() == 0 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  const auto now = metadata();
  ASSERT_EQ(now.done_before(), 1'000'000);
  // In whole milliseconds.
  const auto elapsed_ms = static_cast<double>(now.elapsed_ms());
  EXPECT_LE(now.records_per_second() * elapsed_ms / 1000, 100.1);
  EXPECT_GE(now.records_per_second() * (elapsed_ms + 1) / 1000, 99.9);
  EXPECT_NEAR(static_cast<double>(now.eta_ms()), 2 * elapsed_ms, 3);

  // So it is when it has ended.
  build.set_phase("ready");
  build.mutable_snapshot()->set_path("snapshots/s0/g1-p9.duckdb");
  worker->SetReport(report);
  while (!catalog_.Operations().at(0).done() && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  const auto ended = metadata();
  EXPECT_EQ(ended.phase(), "ready");
  EXPECT_EQ(ended.done_before(), 1'000'000);
  EXPECT_LT(ended.records_per_second(), 1'000'000);
}

}  // namespace
}  // namespace icepie::server
