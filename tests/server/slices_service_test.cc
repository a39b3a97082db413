#include "server/query/slices_service.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "core/base/mutex.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

// Answers nobody until the caller has gone.
class WaitingRouter final : public QueryRouter {
 public:
  CallOff Ask(const v1::QueryRequest&, absl::Time, int64_t, Done done) override {
    asked.Notify();
    return [this, done = std::move(done)] {
      called_off.Notify();  // a second time would end the test
      done(absl::CancelledError("the caller has gone"), nullptr);
    };
  }

  absl::Notification asked;
  absl::Notification called_off;
};

class SlicesServiceTest : public ::testing::Test {
 protected:
  SlicesServiceTest()
      : core_(OpenCore(directory_.path() + "/core")),
        catalog_(*core_, directory_.path() + "/intents"),
        supervisor_({}, directory_.path() + "/domains", directory_.path()),
        memory_(directory_.path() + "/errors"),
        ends_(*core_),
        reader_(*core_, catalog_, supervisor_, memory_, ends_) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    stub_ = v1::Slices::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port_),
                                                    grpc::InsecureChannelCredentials()));
  }
  ~SlicesServiceTest() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  static bool Comes(const absl::Notification& notification) {
    return notification.WaitForNotificationWithTimeout(absl::Seconds(60));
  }

  TempDirectory directory_;
  std::unique_ptr<Core> core_;
  Catalog catalog_;
  Supervisor supervisor_;
  SliceMemory memory_;
  StreamEnds ends_;
  DomainReader reader_;
  WaitingRouter router_;
  SlicesService service_{router_, reader_, absl::Minutes(1)};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Slices::Stub> stub_;
};

TEST_F(SlicesServiceTest, AClientThatGoesTakesItsQuestionWithIt) {
  grpc::ClientContext context;
  std::thread client([&] {
    v1::QueryResponse response;
    EXPECT_EQ(stub_->Query(&context, {}, &response).error_code(), grpc::StatusCode::CANCELLED);
  });
  EXPECT_TRUE(Comes(router_.asked));
  EXPECT_FALSE(router_.called_off.HasBeenNotified());
  context.TryCancel();
  EXPECT_TRUE(Comes(router_.called_off));
  client.join();
}

TEST_F(SlicesServiceTest, AndSoDoesOneThatWantsItsAnswerInPieces) {
  grpc::ClientContext context;
  const auto answer = stub_->StreamQuery(&context, {});
  EXPECT_TRUE(Comes(router_.asked));
  EXPECT_FALSE(router_.called_off.HasBeenNotified());
  context.TryCancel();
  EXPECT_TRUE(Comes(router_.called_off));
  EXPECT_EQ(answer->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace icepie::server
