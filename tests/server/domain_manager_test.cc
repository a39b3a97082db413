#include "server/domain/domain_manager.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/admin/quarantine_calls.h"
#include "server/admin/slice_control.h"
#include "server/admin/slice_remedies.h"
#include "server/base/proto_time.h"
#include "server/domain/promotion.h"
#include "server/supervisor/poison_finder.h"
#include "slices/apply/flight_record.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"
#include "tests/server/fake_worker.h"
#include "tests/server/refusing_core.h"

namespace icepie::server {
namespace {

class DomainManagerTest : public ::testing::Test {
 protected:
  // Workers start and never answer.
  DomainManagerTest()
      : core_(OpenCore(directory_.path() + "/core")),
        refusing_(*core_),
        catalog_(refusing_, directory_.path() + "/intents"),
        events_(directory_.path() + "/events.jsonl"),
        supervisor_(Settings(), directory_.path() + "/domains", directory_.path()),
        builds_(catalog_, supervisor_),
        memory_(directory_.path() + "/slice_errors.jsonl"),
        ends_(*core_) {}
  ~DomainManagerTest() override {
    supervisor_.Interrupt();  // of promotions
    manager_.reset();
    builds_.Stop();
    supervisor_.StopAll(absl::ZeroDuration());
  }

  WorkerSettings Settings() const {
    WorkerSettings settings;
    settings.program = directory_.path() + "/worker.sh";
    settings.socket_directory = directory_.path();
    settings.restart.first_backoff = absl::Milliseconds(1);
    std::ofstream(settings.program) << "#!/bin/sh\nexec sleep 100\n";
    std::filesystem::permissions(settings.program, std::filesystem::perms::owner_all);
    return settings;
  }

  // A domain with so many such slices, whose first generations serve.
  void Create(const std::string& domain, int slices,
              const std::function<void(icepie::catalog::v1::SliceEntry&)>& edit) {
    const auto create = [&](CatalogDomain& changed, std::vector<Catalog::Operation>&) {
      changed.entry.set_revision(1);
      auto& revision = changed.revisions[1];
      revision.set_domain(domain);
      revision.set_revision(1);
      for (int i = 0; i < slices; ++i) {
        auto& slice = changed.slices[absl::StrCat("s", i)];
        slice.set_domain(domain);
        slice.set_name(absl::StrCat("s", i));
        slice.set_serving_generation(1);
        Add(1, icepie::v1::Generation::SERVING, slice);
        edit(slice);
      }
      return absl::OkStatus();
    };
    ASSERT_TRUE(catalog_.Change(domain, create).ok());
  }

  static icepie::catalog::v1::GenerationEntry& Add(int64_t number,
                                                   icepie::v1::Generation::State state,
                                                   icepie::catalog::v1::SliceEntry& slice) {
    auto& entry = *slice.add_generations();
    entry.mutable_generation()->set_number(number);
    entry.mutable_generation()->set_state(state);
    entry.mutable_generation()->set_revision(1);
    return entry;
  }

  // What a worker was doing (slices/apply/flight_record.h).
  static std::string Note(slices::Activity activity, const std::string& generation,
                          int64_t position = 0) {
    std::string slot(256, '\0');
    slot[0] = static_cast<char>(activity);
    slot[8] = static_cast<char>(position);
    slot[16] = static_cast<char>(position + 1);
    slot[24] = static_cast<char>(generation.size());
    return slot.replace(36, generation.size(), generation);
  }

  // The first live workers die, each at this.
  void DieAt(const std::vector<std::string>& notes) const {
    int death = 0;
    for (const std::string& note : notes) {
      std::ofstream(absl::StrCat(directory_.path(), "/note-", ++death), std::ios::binary) << note;
    }
    std::ofstream(directory_.path() + "/worker.sh")
        << "#!/bin/sh\ncase \"$*\" in *--role=live*) ;; *) exec sleep 100 ;; esac\n"
        << "for word in \"$@\"; do case $word in --flight-record=*) record=${word#*=} ;; esac; "
           "done\n"
        << "cd " << directory_.path() << " || exit 1\n"
        << "death=0\nwhile [ $death -lt " << death << " ]; do\n"
        << "  death=$((death + 1))\n"
        << "  [ -e death-$death ] || { : > death-$death; cp note-$death $record; exit 1; }\n"
        << "done\nexec sleep 100\n";
  }
  void DieWhileOpening(const std::string& generation, int deaths) const {
    DieAt(std::vector<std::string>(static_cast<size_t>(deaths),
                                   Note(slices::Activity::kOpen, generation)));
  }

  DomainManager* MakeManager() {
    manager_ = std::make_unique<DomainManager>(*core_, catalog_, supervisor_, builds_, events_,
                                               memory_, ends_);
    return manager_.get();
  }

  bool AdminRecordsReach(int64_t count) const {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (absl::Now() < deadline) {
      const auto stream = core_->GetStream("_admin");
      if (stream.ok() && stream->end_offset >= count) return true;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return false;
  }

  TempDirectory directory_;
  std::unique_ptr<Core> core_;
  RefusingCore refusing_;
  Catalog catalog_;
  EventLog events_;
  Supervisor supervisor_;
  Builds builds_;
  SliceMemory memory_;
  StreamEnds ends_;
  std::unique_ptr<DomainManager> manager_;
};

// Each waits 15 s for a live worker that does not report, and then once more.
TEST_F(DomainManagerTest, PromotionsThatWaitForWorkersHoldUpNothingElse) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("busy", 5, [&](icepie::catalog::v1::SliceEntry& slice) {
    auto& ready = Add(2, icepie::v1::Generation::READY, slice);
    ready.mutable_generation()->set_promote_when_ready(true);
    ready.set_promote_past_limits(true);
    ready.set_start_snapshot("snapshot");
  });
  std::filesystem::create_directories(supervisor_.DomainDirectory("busy"));
  std::ofstream(supervisor_.DomainDirectory("busy") + "/snapshot") << "rows";
  icepie::worker::v1::Assignment assignment;
  assignment.set_domain("busy");
  assignment.add_generations()->set_slice("s0");
  supervisor_.SetDomain(assignment);
  const auto live = AnswerForLive(supervisor_, "busy", directory_.path());
  ASSERT_NE(live.first, nullptr);
  Create("ill", 1, [&](icepie::catalog::v1::SliceEntry& slice) {
    slice.mutable_suspension()->set_generation(1);
    *slice.mutable_suspension()->mutable_next_try_time() = ToProto(absl::Now());
  });
  manager_ = std::make_unique<DomainManager>(*core_, catalog_, supervisor_, builds_, events_,
                                             memory_, ends_);
  manager_->Start();
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  const auto is_lifted = [&] {
    return catalog_.Find("ill")->slices.at("s0").suspension().lifted();
  };
  while (!is_lifted() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_TRUE(is_lifted());
}

TEST_F(DomainManagerTest, APromotionThatNoLiveWorkerCanPrepareIsTriedAgainLater) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("still", 1, [](icepie::catalog::v1::SliceEntry& slice) {
    slice.mutable_desired()->set_mode(icepie::v1::DesiredState::SUSPEND);
    auto& ready = Add(2, icepie::v1::Generation::READY, slice);
    ready.mutable_generation()->set_promote_when_ready(true);
    ready.set_promote_past_limits(true);
    ready.set_start_snapshot("snapshot");
  });
  const std::string snapshots = supervisor_.DomainDirectory("still") + "/snapshots/s0";
  std::filesystem::create_directories(snapshots);
  std::ofstream(supervisor_.DomainDirectory("still") + "/snapshot") << "rows";
  std::ofstream(snapshots + "/g1-p1000000.json") << "of what serves, far ahead";
  // The first sweep lifts it, in a second.
  Create("ill", 1, [](icepie::catalog::v1::SliceEntry& slice) {
    slice.mutable_suspension()->set_generation(1);
    *slice.mutable_suspension()->mutable_next_try_time() = ToProto(absl::Now());
  });
  manager_ = std::make_unique<DomainManager>(*core_, catalog_, supervisor_, builds_, events_,
                                             memory_, ends_);
  manager_->Start();
  ASSERT_TRUE(AdminRecordsReach(2)) << "it is tried";
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  const auto is_lifted = [&] {
    return catalog_.Find("ill")->slices.at("s0").suspension().lifted();
  };
  while (!is_lifted() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  ASSERT_TRUE(is_lifted());
  const auto still = catalog_.Find("still");
  const auto& generation = still->slices.at("s0").generations(1).generation();
  EXPECT_TRUE(generation.promote_when_ready()) << generation.not_promoted().message();
}

// What is kept fresh for a promotion keeps its domain awake.
TEST_F(DomainManagerTest, AGenerationWhosePromotionIsRefusedIsNotKeptFresh) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 1, [](icepie::catalog::v1::SliceEntry& slice) {
    auto& ready = Add(2, icepie::v1::Generation::READY, slice);
    ready.set_promote_past_limits(true);
    ready.set_start_snapshot("snapshot");
  });
  std::filesystem::create_directories(supervisor_.DomainDirectory("shop"));
  std::ofstream(supervisor_.DomainDirectory("shop") + "/snapshot") << "rows";
  icepie::worker::v1::Assignment assignment;
  assignment.set_domain("shop");
  assignment.add_generations()->set_slice("s0");
  supervisor_.SetDomain(assignment);
  const auto live = AnswerForLive(supervisor_, "shop", directory_.path());
  ASSERT_NE(live.first, nullptr);
  icepie::worker::v1::WorkerReport report;
  auto& faulted = *report.add_slices();
  faulted.set_slice("s0");
  faulted.set_generation(2);
  faulted.set_state(icepie::v1::FAULTED);
  live.first->SetReport(report);
  manager_ = std::make_unique<DomainManager>(*core_, catalog_, supervisor_, builds_, events_,
                                             memory_, ends_);
  icepie::v1::PromoteGenerationRequest request;
  request.set_name("shop.s0");
  AdminAction action(nullptr, "PromoteGeneration", "test", request);
  const absl::Status refused = manager_->Promote(request, action).status();
  EXPECT_EQ(refused.message(), "shop.s0 generation 2 cannot be promoted: it is FAULTED: ");
  EXPECT_FALSE(HasPromotion(*catalog_.Find("shop"), absl::Now()));

  // By itself, likewise; it has been kept fresh since an earlier attempt.
  const auto edit = [](CatalogDomain& domain, std::vector<Catalog::Operation>&) {
    auto& ready = *domain.slices.at("s0").mutable_generations(1)->mutable_generation();
    ready.set_promote_when_ready(true);
    *ready.mutable_warm_until() = ToProto(absl::Now() + absl::Minutes(10));
    return absl::OkStatus();
  };
  ASSERT_TRUE(catalog_.Change("shop", edit).ok());
  manager_->Start();
  const auto waits = [&] {
    return catalog_.Find("shop")->slices.at("s0").generations(1).generation().promote_when_ready();
  };
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (waits() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_FALSE(waits());
  EXPECT_FALSE(HasPromotion(*catalog_.Find("shop"), absl::Now()));
}

// By a gate that needs no worker's word: it is kept fresh since an earlier attempt.
TEST_F(DomainManagerTest, AGenerationThatAGateHoldsBackIsNotKeptFresh) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 1, [](icepie::catalog::v1::SliceEntry& slice) {
    auto& ready = *Add(2, icepie::v1::Generation::READY, slice).mutable_generation();
    *ready.mutable_warm_until() = ToProto(absl::Now() + absl::Minutes(10));
    auto& failed = *ready.add_expectations();
    failed.set_name("positive");
    failed.set_status(icepie::v1::ExpectationResult::FAILED);
    failed.set_severity(icepie::v1::ExpectationResult::ERROR);
  });
  ASSERT_TRUE(HasPromotion(*catalog_.Find("shop"), absl::Now()));
  manager_ = std::make_unique<DomainManager>(*core_, catalog_, supervisor_, builds_, events_,
                                             memory_, ends_);
  icepie::v1::PromoteGenerationRequest request;
  request.set_name("shop.s0");
  AdminAction action(nullptr, "PromoteGeneration", "test", request);
  const absl::Status refused = manager_->Promote(request, action).status();
  EXPECT_TRUE(absl::StrContains(refused.message(), "expectation positive fails")) << refused;
  EXPECT_FALSE(HasPromotion(*catalog_.Find("shop"), absl::Now()));
}

// The daemon may end between a change and its answer; who asks again under the same request_id then
// gets what was made, also from the next daemon, and nothing is made twice.
TEST_F(DomainManagerTest, ARollBackIsNotMadeTwiceForOneRequest) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 1, [](icepie::catalog::v1::SliceEntry& slice) {
    slice.mutable_generations(0)->mutable_generation()->set_state(icepie::v1::Generation::RETIRED);
    auto& second = *Add(2, icepie::v1::Generation::RETIRED, slice).mutable_generation();
    second.set_replaced_generation(1);
    *second.mutable_warm_until() = ToProto(absl::Now() + absl::Hours(1));
    Add(3, icepie::v1::Generation::SERVING, slice).mutable_generation()->set_replaced_generation(2);
    slice.set_serving_generation(3);
  });
  supervisor_.Interrupt();  // nobody waits for workers
  icepie::v1::RollbackSliceRequest request;
  request.set_name("shop.s0");
  request.set_request_id("r");
  for (int i = 0; i < 2; ++i) {
    Catalog catalog(*core_, directory_.path() + "/intents");
    ASSERT_TRUE(catalog.Load().ok());
    DomainManager manager(*core_, catalog, supervisor_, builds_, events_, memory_, ends_);
    AdminAction action(nullptr, "RollbackSlice", "test", request);
    const auto response = manager.Rollback(request, action);
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->generation(), 2);
    EXPECT_EQ(catalog.Find("shop")->slices.at("s0").serving_generation(), 2) << i;
  }
}

TEST_F(DomainManagerTest, APromotionAndABuildAreNotMadeTwiceForOneRequest) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 1, [](icepie::catalog::v1::SliceEntry& slice) {
    slice.set_last_generation(2);
    Add(2, icepie::v1::Generation::READY, slice).set_start_snapshot("snapshot");
  });
  std::filesystem::create_directories(supervisor_.DomainDirectory("shop"));
  std::ofstream(supervisor_.DomainDirectory("shop") + "/snapshot") << "rows";
  const auto define = [](CatalogDomain& domain, std::vector<Catalog::Operation>&) {
    domain.entry.add_definitions()->set_name("s0");
    return absl::OkStatus();
  };
  ASSERT_TRUE(catalog_.Change("shop", define).ok());
  supervisor_.Interrupt();
  manager_ = std::make_unique<DomainManager>(*core_, catalog_, supervisor_, builds_, events_,
                                             memory_, ends_);
  icepie::v1::PromoteGenerationRequest promote;
  promote.set_name("shop.s0");
  promote.set_force(true);
  promote.set_reason("it is right");
  promote.set_request_id("p");
  for (int i = 0; i < 2; ++i) {
    AdminAction action(nullptr, "PromoteGeneration", "test", promote);
    const auto promoted = manager_->Promote(promote, action);
    EXPECT_TRUE(promoted.ok()) << i << ": " << promoted.status();
  }
  icepie::v1::ResliceSliceRequest reslice;
  reslice.set_name("shop.s0");
  reslice.set_request_id("b");
  std::set<std::string> begun;
  for (int i = 0; i < 2; ++i) {
    AdminAction action(nullptr, "ResliceSlice", "test", reslice);
    const auto operation = manager_->Reslice(reslice, action);
    ASSERT_TRUE(operation.ok()) << operation.status();
    begun.insert(operation->name());
    ASSERT_TRUE(builds_.Cancel(OperationNumber(operation->name())).ok());  // it has ended
  }
  EXPECT_EQ(begun.size(), 1);
}

// What others did meanwhile stands: the waiver was ended, and records came that nobody has judged.
TEST_F(DomainManagerTest, RemediesAreNotMadeTwiceForOneRequest) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 1, [](icepie::catalog::v1::SliceEntry& slice) {
    slice.mutable_generations(0)->mutable_definition()->add_expectations("few");
  });
  ASSERT_TRUE(core_->CreateStream("s", PayloadFormat::kJson, {}).ok());
  ASSERT_TRUE(core_->AppendAndWait(NumberedBatch("s", 0, 3)).ok());
  const int64_t head = core_->head_position();
  supervisor_.Interrupt();  // nobody waits for workers
  icepie::v1::WaiveExpectationRequest waive;
  waive.set_name("shop.s0");
  waive.set_expectation("few");
  waive.set_reason("INC-1");
  waive.set_request_id("waive");
  icepie::v1::WaiveExpectationRequest end_waiver = waive;
  end_waiver.set_end(true);
  end_waiver.set_request_id("end");
  icepie::v1::AcknowledgeQuarantineRequest acknowledge;  // all that there is
  acknowledge.set_name("shop.s0");
  acknowledge.set_reason("INC-1");
  acknowledge.set_request_id("acknowledge");
  icepie::v1::WithdrawAcknowledgementRequest withdraw;
  withdraw.set_name("shop.s0");
  withdraw.set_end_position(1);
  withdraw.set_reason("INC-2");
  withdraw.set_request_id("withdraw");
  for (int i = 0; i < 2; ++i) {
    SCOPED_TRACE(i);
    Catalog catalog(*core_, directory_.path() + "/intents");  // another daemon's
    ASSERT_TRUE(catalog.Load().ok());
    DomainManager manager(*core_, catalog, supervisor_, builds_, events_, memory_, ends_);
    SliceRemedies remedies(catalog, supervisor_, manager, memory_);
    QuarantineCalls quarantine(*core_, catalog, supervisor_, manager);
    const auto expect_ok = [](const char* method, const auto& request, const auto& call) {
      AdminAction action(nullptr, method, "test", request);
      const auto slice = call(request, action);
      EXPECT_TRUE(slice.ok()) << method << ": " << slice.status();
    };
    const auto waives = [&](const auto& request, AdminAction& action) {
      return remedies.Waive(request, action);
    };
    // Asked for again in another order, so that none repairs what another has done twice.
    if (i == 1) expect_ok("WaiveExpectation", end_waiver, waives);
    expect_ok("WaiveExpectation", waive, waives);
    if (i == 0) expect_ok("WaiveExpectation", end_waiver, waives);
    const auto withdraws = [&](const auto& request, AdminAction& action) {
      return quarantine.Withdraw(request, action);
    };
    if (i == 1) expect_ok("WithdrawAcknowledgement", withdraw, withdraws);
    expect_ok("AcknowledgeQuarantine", acknowledge, [&](const auto& request, AdminAction& action) {
      return quarantine.Acknowledge(request, action);
    });
    if (i == 0) expect_ok("WithdrawAcknowledgement", withdraw, withdraws);
    const auto slice = catalog.Find("shop")->slices.at("s0");
    EXPECT_EQ(slice.waivers_size(), 0);
    ASSERT_EQ(slice.acknowledgements_size(), 1);
    EXPECT_EQ(slice.acknowledgements(0).first_position(), 1);
    EXPECT_EQ(slice.acknowledgements(0).end_position(), head);
    ASSERT_TRUE(core_->AppendAndWait(NumberedBatch("s", 3 + i, 1)).ok());
  }
  // Without a request_id each is one of its own.
  waive.clear_request_id();
  SliceRemedies remedies(catalog_, supervisor_, *MakeManager(), memory_);
  AdminAction action(nullptr, "WaiveExpectation", "test", waive);
  EXPECT_TRUE(remedies.Waive(waive, action).ok());
  EXPECT_EQ(catalog_.Find("shop")->slices.at("s0").waivers_size(), 1);
}

TEST_F(DomainManagerTest, RecordsAreNotTriedAgainTwiceForOneRequest) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 1, [](icepie::catalog::v1::SliceEntry&) {});
  const auto define = [](CatalogDomain& domain, std::vector<Catalog::Operation>&) {
    domain.entry.add_definitions()->set_name("s0");
    return absl::OkStatus();
  };
  ASSERT_TRUE(catalog_.Change("shop", define).ok());
  supervisor_.Interrupt();
  MakeManager();
  // What the daemon had done when it ended.
  icepie::v1::ResliceSliceRequest reslice;
  reslice.set_name("shop.s0");
  reslice.set_request_id("retry");
  AdminAction made(nullptr, "RetryQuarantinedRecords", "test", reslice);
  const auto operation =
      manager_->Reslice(reslice, made, icepie::v1::ApplyDomainRequest::MANUAL, /*retry=*/true);
  ASSERT_TRUE(operation.ok()) << operation.status();
  icepie::v1::RetryQuarantinedRecordsRequest retry;
  retry.set_name("shop.s0");
  retry.set_request_id("retry");
  QuarantineCalls quarantine(*core_, catalog_, supervisor_, *manager_);
  AdminAction action(nullptr, "RetryQuarantinedRecords", "test", retry);
  const auto again = quarantine.Retry(retry, action);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->operation(), operation->name());
  EXPECT_EQ(again->method(), icepie::v1::RetryQuarantinedRecordsResponse::NEW_GENERATION);
}

TEST_F(DomainManagerTest, APromotionThatTheCoreHasNoRoomForIsNotGivenUp) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("shop", 1, [](icepie::catalog::v1::SliceEntry& slice) {
    auto& ready = Add(2, icepie::v1::Generation::READY, slice);
    ready.mutable_generation()->set_promote_when_ready(true);
    ready.set_promote_past_limits(true);
    ready.set_start_snapshot("snapshot");
  });
  std::filesystem::create_directories(supervisor_.DomainDirectory("shop"));
  std::ofstream(supervisor_.DomainDirectory("shop") + "/snapshot") << "rows";
  // The first sweep lifts it, in a second.
  Create("ill", 1, [](icepie::catalog::v1::SliceEntry& slice) {
    slice.mutable_suspension()->set_generation(1);
    *slice.mutable_suspension()->mutable_next_try_time() = ToProto(absl::Now());
  });
  refusing_.refuses_appends = true;
  manager_ = std::make_unique<DomainManager>(refusing_, catalog_, supervisor_, builds_, events_,
                                             memory_, ends_);
  manager_->Start();
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  const auto holds = [&] {
    return refusing_.refused_appends > 0 &&
           catalog_.Find("ill")->slices.at("s0").suspension().lifted();
  };
  while (!holds() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  ASSERT_TRUE(holds());
  const auto shop = catalog_.Find("shop");
  const auto& generation = shop->slices.at("s0").generations(1).generation();
  EXPECT_TRUE(generation.promote_when_ready()) << generation.not_promoted().message();
}

TEST_F(DomainManagerTest, WhatWasFoundBeforeAResumeDoesNotSuspendTheSliceAfterIt) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("ill", 1, [](icepie::catalog::v1::SliceEntry&) {});
  manager_ = std::make_unique<DomainManager>(*core_, catalog_, supervisor_, builds_, events_,
                                             memory_, ends_);
  // The verdict about the slice waits for a change that takes its time.
  std::promise<void> go;
  std::thread busy([&] {
    (void)catalog_.Change("busy", [&](CatalogDomain&, std::vector<Catalog::Operation>&) {
      go.get_future().wait();
      return absl::AbortedError("nothing is changed");
    });
  });
  DieWhileOpening("s0/1", PoisonFinder::kDeaths);
  icepie::worker::v1::Assignment assignment;
  assignment.set_domain("ill");
  auto& generation = *assignment.add_generations();
  generation.set_slice("s0");
  generation.set_number(1);
  supervisor_.SetDomain(assignment);
  const bool found = AdminRecordsReach(1);
  supervisor_.Resume("ill");
  go.set_value();
  busy.join();
  ASSERT_TRUE(found);
  ASSERT_TRUE(AdminRecordsReach(2));
  EXPECT_FALSE(catalog_.Find("ill")->slices.at("s0").has_suspension());
}

TEST_F(DomainManagerTest, NoPromotionIsTriedWhileTheCoreIsReadOnly) {
  ASSERT_TRUE(catalog_.Load().ok());
  Create("ready", 1, [&](icepie::catalog::v1::SliceEntry& slice) {
    auto& ready = Add(2, icepie::v1::Generation::READY, slice);
    ready.mutable_generation()->set_promote_when_ready(true);
    ready.mutable_definition()->mutable_promote()->set_added_rows(0);  // it has no row diff
  });
  Create("ill", 1, [&](icepie::catalog::v1::SliceEntry& slice) {
    slice.mutable_suspension()->set_generation(1);
    *slice.mutable_suspension()->mutable_next_try_time() = ToProto(absl::Now());
  });
  std::atomic<bool> tried{false};
  std::atomic<bool> swept{false};
  refusing_.on_refusal = [&](const std::string& key) {
    if (absl::StrContains(key, "ready")) tried = true;
    if (absl::StrContains(key, "ill")) swept = true;
  };
  refusing_.refuses = true;
  manager_ = std::make_unique<DomainManager>(refusing_, catalog_, supervisor_, builds_, events_,
                                             memory_, ends_);
  manager_->Start();
  // A second after what is tried at the start.
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!swept && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_TRUE(swept);
  EXPECT_FALSE(tried);
  manager_.reset();
}

// Its worker ends, by default while it opens the slice, until that is suspended; the core does not
// take that.
class UnkeptVerdictTest : public DomainManagerTest {
 protected:
  static bool WaitUntil(const std::function<bool()>& holds) {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (!holds() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
    return holds();
  }

  void Find(const std::vector<std::string>& deaths = std::vector<std::string>(
                PoisonFinder::kDeaths, Note(slices::Activity::kOpen, "s0/1"))) {
    DieAt(deaths);
    ASSERT_TRUE(catalog_.Load().ok());
    Create("ill", 1, [](icepie::catalog::v1::SliceEntry&) {});
    CreateSuspended("other");
    refusing_.on_refusal = [this](const std::string& key) {
      if (absl::StrContains(key, "ill/s0")) ++refusals_;
      if (absl::StrContains(key, "other/s0")) ++sweeps_;
    };
    refusing_.refuses = true;
    manager_ = std::make_unique<DomainManager>(refusing_, catalog_, supervisor_, builds_, events_,
                                               memory_, ends_);
    manager_->Start();
    ASSERT_TRUE(WaitUntil([&] { return refusals_ > 0; }));
  }

  bool IsKept() const {
    return WaitUntil(
        [&] { return catalog_.Find("ill")->slices.at("s0").suspension().generation() == 1; });
  }

  // A slice that every sweep tries to lift.
  void CreateSuspended(const std::string& domain) {
    Create(domain, 1, [](icepie::catalog::v1::SliceEntry& slice) {
      slice.mutable_suspension()->set_generation(1);
      *slice.mutable_suspension()->mutable_next_try_time() = ToProto(absl::Now());
    });
  }

  std::atomic<int> refusals_{0};
  std::atomic<int> sweeps_{0};  // while the core refuses
};

TEST_F(UnkeptVerdictTest, ItIsKeptOnceTheCoreTakesIt) {
  Find();
  if (HasFatalFailure()) return;
  refusing_.refuses = false;
  EXPECT_TRUE(IsKept());
}

TEST_F(UnkeptVerdictTest, ItIsKeptOnceWhatTheCoreFailedForHasPassed) {
  refusing_.reason = "LOG_SYNC_FAILED";
  refusing_.code = absl::StatusCode::kUnavailable;
  Find();
  if (HasFatalFailure()) return;
  refusing_.refuses = false;
  EXPECT_TRUE(IsKept());
}

TEST_F(UnkeptVerdictTest, ItIsKeptOnceThoughItIsToldAgain) {
  Find();
  if (HasFatalFailure()) return;
  refusing_.refuses = false;
  for (int i = 0; i < 3; ++i) supervisor_.TellVerdictsAgain();
  ASSERT_TRUE(IsKept());
  CreateSuspended("later");
  // Lifted by the thread that has kept what it was told before.
  ASSERT_TRUE(
      WaitUntil([&] { return catalog_.Find("later")->slices.at("s0").suspension().lifted(); }));
  EXPECT_EQ(core_->GetStream("_admin")->end_offset, 4) << "refused, and kept";
}

TEST_F(UnkeptVerdictTest, AnotherRecordReplacesNone) {
  std::vector<std::string> deaths(PoisonFinder::kDeaths, Note(slices::Activity::kApply, "s0/1", 7));
  deaths.resize(PoisonFinder::kDeaths + 2, Note(slices::Activity::kApply, "s0/1", 9));
  Find(deaths);
  if (HasFatalFailure()) return;
  ASSERT_TRUE(WaitUntil([&] { return refusals_ > 1; }));
  refusing_.refuses = false;
  const auto left_out = [&] {
    std::set<int64_t> positions;
    const auto ill = catalog_.Find("ill");
    for (const auto& record : ill->slices.at("s0").generations(0).deadly_records()) {
      positions.insert(record.position());
    }
    return positions;
  };
  EXPECT_TRUE(WaitUntil([&] { return left_out().size() == 2; }));
  EXPECT_EQ(left_out(), (std::set<int64_t>{7, 9}));
}

// By the core that is neither full nor read-only: it would refuse it again.
TEST_F(UnkeptVerdictTest, WhatIsRefusedForAnotherReasonIsNotTriedAgain) {
  refusing_.reason = "TEST";
  Find();
  if (HasFatalFailure()) return;
  const int before = sweeps_;
  EXPECT_TRUE(WaitUntil([&] { return sweeps_ >= before + 2; }));
  EXPECT_EQ(refusals_, 1);
}

TEST_F(UnkeptVerdictTest, ARestartThatIsRefusedForgetsNothing) {
  Find();
  if (HasFatalFailure()) return;
  // Nor is there room for an intent.
  std::filesystem::remove(directory_.path() + "/intents");
  std::filesystem::create_directory(directory_.path() + "/intents");
  icepie::v1::RestartSliceRequest request;
  request.set_name("ill.s0");
  AdminAction action(nullptr, "RestartSlice", "test", request);
  SliceControl control(refusing_, catalog_, supervisor_, *manager_);
  EXPECT_FALSE(control.Change(SliceAction::kRestart, request, action).ok());
  EXPECT_EQ(supervisor_.Resumes("ill", "s0"), 0);
  refusing_.refuses = false;
  EXPECT_TRUE(IsKept());
}

}  // namespace
}  // namespace icepie::server
