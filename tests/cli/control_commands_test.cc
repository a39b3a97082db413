// slice and domain suspend, resume, restart and the like, workers roll, leave-safe-mode, against a
// service that writes down what it is asked.
#include <gmock/gmock.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/status.h"
#include "icepie/v1/admin.grpc.pb.h"
#include "server/base/rpc_status.h"
#include "tests/cli/program_fixture.h"

namespace icepie::cli {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class FakeAdmin final : public v1::Admin::Service {
 public:
  grpc::Status SuspendSlice(grpc::ServerContext* context, const v1::SuspendSliceRequest* request,
                            v1::Slice* response) override {
    return Change(context, "SuspendSlice", *request, v1::SUSPENDED, response);
  }
  grpc::Status ResumeSlice(grpc::ServerContext* context, const v1::ResumeSliceRequest* request,
                           v1::Slice* response) override {
    return Change(context, "ResumeSlice", *request, v1::RUNNING, response);
  }
  grpc::Status RestartSlice(grpc::ServerContext* context, const v1::RestartSliceRequest* request,
                            v1::Slice* response) override {
    return Change(context, "RestartSlice", *request, v1::RUNNING, response);
  }
  grpc::Status FreezeDomain(grpc::ServerContext* context, const v1::ChangeDomainRequest* request,
                            v1::ListSlicesResponse* response) override {
    return Change(context, "FreezeDomain", *request, v1::FROZEN, response->add_slices());
  }
  grpc::Status ThawDomain(grpc::ServerContext* context, const v1::ChangeDomainRequest* request,
                          v1::ListSlicesResponse* response) override {
    return Change(context, "ThawDomain", *request, v1::RUNNING, response->add_slices());
  }
  grpc::Status SuspendDomain(grpc::ServerContext* context, const v1::ChangeDomainRequest* request,
                             v1::ListSlicesResponse* response) override {
    return Change(context, "SuspendDomain", *request, v1::SUSPENDED, response->add_slices());
  }
  grpc::Status ResumeDomain(grpc::ServerContext* context, const v1::ChangeDomainRequest* request,
                            v1::ListSlicesResponse* response) override {
    return Change(context, "ResumeDomain", *request, v1::RUNNING, response->add_slices());
  }
  grpc::Status RestartDomain(grpc::ServerContext* context, const v1::ChangeDomainRequest* request,
                             v1::ListSlicesResponse* response) override {
    return Change(context, "RestartDomain", *request, v1::RUNNING, response->add_slices());
  }
  grpc::Status RefreshDomain(grpc::ServerContext* context, const v1::ChangeDomainRequest* request,
                             v1::ListSlicesResponse* response) override {
    return Change(context, "RefreshDomain", *request, v1::RUNNING, response->add_slices());
  }
  grpc::Status RollWorkers(grpc::ServerContext*, const v1::RollWorkersRequest* request,
                           grpc::ServerWriter<v1::RollWorkersResponse>* writer) override {
    asked = "RollWorkers " + request->domain() + " " + request->actor();
    v1::RollWorkersResponse rolled;
    rolled.set_domain("operations");
    rolled.set_standby_pid(11);
    rolled.set_live_pid(12);
    rolled.set_domains_left(1);
    writer->Write(rolled);
    if (!breaks) return grpc::Status::OK;
    return server::ToGrpcStatus(MakeError(absl::StatusCode::kFailedPrecondition,
                                          "the standby worker of domain network does not come back",
                                          "ROLL_FAILED"));
  }
  grpc::Status LeaveSafeMode(grpc::ServerContext*, const v1::LeaveSafeModeRequest* request,
                             v1::ServerStatus* /*response*/) override {
    asked = "LeaveSafeMode " + request->reason() + " " + request->actor();
    return grpc::Status::OK;
  }

  grpc::Status RefreshSlice(grpc::ServerContext* context, const v1::RefreshSliceRequest*,
                            v1::Slice*) override {
    return Note(context);
  }
  grpc::Status PromoteGeneration(grpc::ServerContext* context, const v1::PromoteGenerationRequest*,
                                 v1::Slice*) override {
    return Note(context);
  }
  grpc::Status RollbackSlice(grpc::ServerContext* context, const v1::RollbackSliceRequest*,
                             v1::RollbackSliceResponse*) override {
    return Note(context);
  }
  grpc::Status UndeleteDomain(grpc::ServerContext* context, const v1::UndeleteDomainRequest*,
                              v1::Domain*) override {
    return Note(context);
  }

  std::string asked;
  bool breaks = false;
  absl::Duration time_left;  // that the last caller gave

 private:
  grpc::Status Note(grpc::ServerContext* context) {
    time_left = absl::FromChrono(context->deadline()) - absl::Now();
    return grpc::Status::OK;
  }

  template <typename Request>
  grpc::Status Change(grpc::ServerContext* context, const std::string& what, const Request& request,
                      v1::SliceState state, v1::Slice* slice) {
    asked = what + " " + request.name() + " " + request.reason() + " " + request.actor();
    if constexpr (std::is_same_v<Request, v1::ChangeDomainRequest>) {
      if (request.has_remind_after()) {
        asked += " for " + std::to_string(request.remind_after().seconds()) + " s";
      }
    }
    slice->set_name("operations.on_time");
    slice->set_state(state);
    return Note(context);
  }
};

class ControlCommandsTest : public ProgramFixture {
 protected:
  void SetUp() override {
    ProgramFixture::SetUp();
    Serve({&admin_});
  }

  FakeAdmin admin_;
};

TEST_F(ControlCommandsTest, EachAsksForWhatItsNameSays) {
  for (const auto& [command, rpc, state] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"suspend", "SuspendSlice", "SUSPENDED"},
           {"resume", "ResumeSlice", "RUNNING"},
           {"restart", "RestartSlice", "RUNNING"}}) {
    const Outcome done = Run({"slice", command, "operations.on_time", "--reason", "INC-1"});
    EXPECT_EQ(done.code, 0) << done.err;
    EXPECT_EQ(admin_.asked, rpc + " operations.on_time INC-1 tester");
    EXPECT_THAT(done.out, StartsWith("operations.on_time " + state));
  }
  for (const auto& [command, rpc] :
       std::vector<std::pair<std::string, std::string>>{{"freeze", "FreezeDomain"},
                                                        {"thaw", "ThawDomain"},
                                                        {"suspend", "SuspendDomain"},
                                                        {"resume", "ResumeDomain"},
                                                        {"restart", "RestartDomain"},
                                                        {"refresh", "RefreshDomain"}}) {
    const Outcome done = Run({"domain", command, "operations", "--reason", "INC-1"});
    EXPECT_EQ(done.code, 0) << done.err;
    EXPECT_EQ(admin_.asked, rpc + " operations INC-1 tester");
    EXPECT_THAT(done.out, StartsWith("operations.on_time "));
    EXPECT_THAT(Run({"--json", "domain", command, "operations", "--reason", "INC-1"}).out,
                HasSubstr("\"name\": \"operations.on_time\""));
  }
}

// The daemon itself gives up waiting after so long: a promotion after 15 s + 30 s, a restart after
// 2 * 20 s. Then it answers, with what has come of it.
TEST_F(ControlCommandsTest, TheDaemonsOwnLimitsComeFirst) {
  using Line = std::vector<std::string>;
  for (const Line& line :
       {Line{"domain", "restart", "operations"},
        Line{"domain", "freeze", "operations", "--reason", "INC-1"},
        Line{"domain", "refresh", "operations"}, Line{"domain", "undelete", "operations"},
        Line{"slice", "restart", "operations.on_time"},
        Line{"slice", "refresh", "operations.on_time"},
        Line{"slice", "rollback", "operations.on_time", "--yes"},
        Line{"slice", "promote", "operations.on_time", "g3"}}) {
    admin_.time_left = absl::ZeroDuration();
    const Outcome done = Run(line);
    EXPECT_EQ(done.code, 0) << done.err;
    EXPECT_GT(admin_.time_left, absl::Seconds(50)) << line[0] << " " << line[1];
  }
  EXPECT_EQ(Run({"--timeout", "7s", "slice", "promote", "operations.on_time", "g3"}).code, 0);
  EXPECT_LT(admin_.time_left, absl::Seconds(8));
}

TEST_F(ControlCommandsTest, WhatStopsSlicesNeedsAReason) {
  EXPECT_EQ(Run({"slice", "suspend", "operations.on_time"}).code, 1);
  EXPECT_EQ(Run({"domain", "suspend", "operations"}).code, 1);
  EXPECT_EQ(Run({"domain", "freeze", "operations"}).code, 1);
  EXPECT_EQ(admin_.asked, "");
}

TEST_F(ControlCommandsTest, OnlyAFreezeOfADomainIsMeantForATime) {
  EXPECT_EQ(Run({"domain", "freeze", "operations", "--reason", "INC-1", "--for", "2h"}).code, 0);
  EXPECT_EQ(admin_.asked, "FreezeDomain operations INC-1 tester for 7200 s");
  admin_.asked.clear();
  EXPECT_EQ(Run({"domain", "suspend", "operations", "--reason", "INC-1", "--for", "2h"}).code, 1);
  EXPECT_EQ(admin_.asked, "");
}

TEST_F(ControlCommandsTest, ARollTellsOfEachDomainAndOfItsEnd) {
  const Outcome rolled = Run({"workers", "roll"});
  EXPECT_EQ(rolled.code, 0);
  EXPECT_EQ(rolled.out,
            "operations: standby pid 11, live pid 12, 0 ms, 1 domain left\n1 domain rolled\n");
  EXPECT_EQ(admin_.asked, "RollWorkers  tester");
  admin_.breaks = true;
  const Outcome broken = Run({"workers", "roll", "--domain", "operations"});
  EXPECT_EQ(broken.code, 3) << "a guard refused";
  EXPECT_THAT(broken.err, HasSubstr("standby worker of domain network"));
}

TEST_F(ControlCommandsTest, SafeModeIsLeft) {
  EXPECT_EQ(Run({"leave-safe-mode", "--reason", "fixed"}).code, 0);
  EXPECT_EQ(admin_.asked, "LeaveSafeMode fixed tester");
}

}  // namespace
}  // namespace icepie::cli
