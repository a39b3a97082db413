#include "server/supervisor/hibernation.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "absl/time/clock.h"
#include "server/base/proto_time.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"
#include "tests/server/fake_worker.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

// The domain "shop", whose live worker, in whose place the test answers, has nothing to do.
class HibernationTest : public testing::Test {
 protected:
  HibernationTest()
      : core_(OpenCore(directory_.path() + "/core")),
        catalog_(*core_, directory_.path() + "/intents"),
        // Never deleted: an answer of the test's worker may come to its loop after it has stopped.
        supervisor_(
            *new Supervisor(Settings(), directory_.path() + "/domains", directory_.path())) {}
  ~HibernationTest() override { supervisor_.StopAll(absl::ZeroDuration()); }

  WorkerSettings Settings() const {
    WorkerSettings settings;
    settings.program = directory_.path() + "/worker.sh";
    settings.socket_directory = directory_.path();
    std::ofstream(settings.program) << "#!/bin/sh\nexec sleep 100\n";
    std::filesystem::permissions(settings.program, std::filesystem::perms::owner_all);
    return settings;
  }

  // Its second generation is READY; the live worker applies to it until `warm_until`.
  void Create(absl::Time warm_until) {
    ASSERT_TRUE(catalog_.Load().ok());
    const auto create = [&](CatalogDomain& domain, std::vector<Catalog::Operation>&) {
      auto& slice = domain.slices["s"];
      slice.set_domain("shop");
      slice.set_name("s");
      slice.set_serving_generation(1);
      auto& serving = *slice.add_generations()->mutable_generation();
      serving.set_number(1);
      serving.set_state(v1::Generation::SERVING);
      auto& ready = *slice.add_generations()->mutable_generation();
      ready.set_number(2);
      ready.set_state(v1::Generation::READY);
      *ready.mutable_warm_until() = ToProto(warm_until);
      return absl::OkStatus();
    };
    ASSERT_TRUE(catalog_.Change("shop", create).ok());
    icepie::worker::v1::Assignment assignment;
    assignment.set_domain("shop");
    assignment.add_generations()->set_slice("s");
    supervisor_.SetDomain(assignment);
    worker_ = AnswerForLive(supervisor_, "shop", directory_.path()).first;
    ASSERT_NE(worker_, nullptr);
    icepie::worker::v1::WorkerReport report;
    auto& slice = *report.add_slices();
    slice.set_slice("s");
    slice.set_serving(true);
    slice.set_state(v1::RUNNING);
    slice.mutable_snapshot()->set_path("snapshots/s/g1-1.duckdb");
    worker_->SetReport(report);
    ASSERT_TRUE(supervisor_.WaitFor("shop", absl::Seconds(60), [](const DomainView& view) {
      return view.live.report && view.live.report->slices_size() > 0;
    }));
  }

  bool IsAtRest() const { return IsResting(supervisor_.View("shop").live); }

  TempDirectory directory_;
  std::unique_ptr<Core> core_;
  Catalog catalog_;
  Supervisor& supervisor_;
  std::unique_ptr<FakeWorker> worker_;
};

TEST_F(HibernationTest, ADomainThatCatchesUpForAPromotionStaysAwake) {
  const absl::Time now = absl::Now();
  Create(now + absl::Minutes(10));
  if (HasFatalFailure()) return;
  std::atomic<int> looks{0};
  std::atomic<bool> over{false};
  const auto facts = [&](const CatalogDomain& domain) {
    ++looks;
    DomainFacts known;
    known.domain = &domain;
    known.workers = supervisor_.View("shop");
    known.now = over ? now + absl::Minutes(11) : now;
    known.has_beyond = [](const auto&, int64_t) { return false; };
    return known;
  };
  HibernationOptions options;
  options.idle_after = absl::Milliseconds(1);
  options.look_interval = absl::Milliseconds(1);
  Hibernation hibernation(catalog_, supervisor_, facts, options);
  hibernation.Start();
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (looks < 100 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  ASSERT_GE(looks, 100);
  EXPECT_FALSE(IsAtRest());
  over = true;
  EXPECT_TRUE(supervisor_.WaitFor("shop", absl::Seconds(60),
                                  [](const DomainView& view) { return IsResting(view.live); }));
}

}  // namespace
}  // namespace icepie::server
