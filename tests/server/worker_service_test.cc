#include "server/worker/worker_service.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "core/base/status.h"
#include "server/supervisor/worker_client.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

// Lists what is quarantined as slowly as the test wants.
class SlowEngine final : public slices::Engine {
 public:
  void Configure(slices::Assignment) override {}
  slices::EngineReport Report() const override { return {}; }
  void Ask(slices::Question, slices::QueryService::Done) override {}
  void Refresh(const std::string&, int64_t, absl::Time, RefreshDone) override {}
  absl::StatusOr<slices::QuarantinePage> ListQuarantined(const std::string& slice, int64_t,
                                                         int64_t) override {
    if (listed++ == 0) goes_on.WaitForNotification();
    last = slice;
    return slices::QuarantinePage{};
  }
  std::vector<slices::RecordStanding> Locate(int64_t) override { return {}; }
  void NameSnapshot(const std::string&, slices::SnapshotName, NameDone) override {}
  void Shutdown() override {}

  std::atomic<int> listed{0};
  std::string last;
  absl::Notification goes_on;
};

class WorkerServiceTest : public ::testing::Test {
 protected:
  WorkerServiceTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + directory_.path() + "/s", grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  ~WorkerServiceTest() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  std::future<absl::Status> List(const std::string& slice, absl::Duration timeout) {
    auto ended = std::make_shared<std::promise<absl::Status>>();
    icepie::v1::ListQuarantinedRecordsRequest request;
    request.set_name(slice);
    client_.ListQuarantinedRecords(request, timeout,
                                   [ended](const auto& page) { ended->set_value(page.status()); });
    return ended->get_future();
  }

  void AwaitListed() {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (engine_.listed == 0 && absl::Now() < deadline) std::this_thread::yield();
    ASSERT_EQ(engine_.listed, 1);
  }

  TempDirectory directory_;
  SlowEngine engine_;
  WorkerService service_{engine_, "live", "none"};
  std::unique_ptr<grpc::Server> server_;
  WorkerClient client_{directory_.path() + "/s"};
};

TEST_F(WorkerServiceTest, SlowCallsWaitInALineThatIsBounded) {
  constexpr size_t kTooMany = 2;
  auto first = List("first", absl::Minutes(2));
  AwaitListed();
  std::vector<std::future<absl::Status>> calls;
  for (size_t i = 0; i < SlowCalls::kWaitingMax + kTooMany; ++i) {
    calls.push_back(List("waits", absl::Minutes(2)));
  }
  const auto ended = [&] {
    return static_cast<size_t>(std::count_if(calls.begin(), calls.end(), [](const auto& call) {
      return call.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    }));
  };
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (ended() < kTooMany && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_EQ(ended(), kTooMany);
  engine_.goes_on.Notify();
  EXPECT_TRUE(first.get().ok());
  size_t refused = 0;
  for (auto& call : calls) {
    const absl::Status status = call.get();
    refused += ErrorReason(status) == "TOO_MANY_QUERIES" ? 1 : 0;
    EXPECT_EQ(ErrorReason(status), status.ok() ? "" : "TOO_MANY_QUERIES");
  }
  EXPECT_EQ(refused, kTooMany);
}

TEST_F(WorkerServiceTest, WhoHasGoneGetsNothingDone) {
  auto first = List("first", absl::Minutes(2));
  AwaitListed();
  std::vector<std::future<absl::Status>> gone;
  for (int i = 0; i < 5; ++i) gone.push_back(List("gone", absl::Milliseconds(200)));
  for (auto& each : gone) EXPECT_TRUE(absl::IsDeadlineExceeded(each.get()));
  // That they have gone comes before these on the same connection.
  for (int i = 0; i < 50; ++i) {
    std::promise<absl::Status> status;
    client_.GetStatus(absl::Minutes(1), false,
                      [&](const auto& report) { status.set_value(report.status()); });
    EXPECT_TRUE(status.get_future().get().ok());
  }
  auto waits = List("waits", absl::Minutes(2));
  engine_.goes_on.Notify();
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(waits.get().ok());
  EXPECT_EQ(engine_.listed, 2);
  EXPECT_EQ(engine_.last, "waits");
}

}  // namespace
}  // namespace icepie::server
