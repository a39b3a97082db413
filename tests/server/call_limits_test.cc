#include "server/front/call_limits.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "icepie/v1/core.grpc.pb.h"
#include "server/front/peer_host.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

// Each call stays open until its client gives it up.
class PatientService : public v1::Core::CallbackService {
  class Reactor : public grpc::ServerWriteReactor<v1::ReadRecordsResponse> {
   public:
    Reactor() { StartSendInitialMetadata(); }
    void OnCancel() override { Finish(grpc::Status::CANCELLED); }
    void OnDone() override { delete this; }
  };

  grpc::ServerWriteReactor<v1::ReadRecordsResponse>* ReadRecords(
      grpc::CallbackServerContext*, const v1::ReadRecordsRequest*) override {
    return new Reactor;
  }

  grpc::ServerUnaryReactor* GetCheckpoint(grpc::CallbackServerContext* context,
                                          const v1::GetCheckpointRequest*,
                                          v1::Checkpoint*) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

struct OpenCall {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::ReadRecordsResponse>> reader;
};

class CallLimitsTest : public testing::Test {
 protected:
  void Start(CallLimits::Limits limits) {
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
    factories.push_back(std::make_unique<CallLimits>(
        limits,
        [this](const std::string& host) {
          ++floods_;
          if (host == PeerOf("ipv4:127.0.0.1:1").host) ++floods_from_here_;
        },
        [this](const grpc::ServerContextBase& context) {
          if (PeerOf(context.peer()).host == PeerOf("ipv4:127.0.0.1:1").host) ++calls_from_here_;
        }));
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.experimental().SetInterceptorCreators(std::move(factories));
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    stub_ = v1::Core::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                                  grpc::InsecureChannelCredentials()));
  }

  ~CallLimitsTest() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  std::unique_ptr<OpenCall> Open(std::chrono::milliseconds timeout = std::chrono::seconds(60)) {
    auto call = std::make_unique<OpenCall>();
    call->context.set_deadline(std::chrono::system_clock::now() + timeout);
    call->reader = stub_->ReadRecords(&call->context, {});
    return call;
  }

  static grpc::Status StatusOf(OpenCall& call) {
    v1::ReadRecordsResponse response;
    while (call.reader->Read(&response)) {
    }
    return call.reader->Finish();
  }
  static grpc::StatusCode End(OpenCall& call) { return StatusOf(call).error_code(); }

  std::atomic<int> floods_{0};
  std::atomic<int> floods_from_here_{0};
  std::atomic<int> calls_from_here_{0};
  PatientService service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Core::Stub> stub_;
};

TEST_F(CallLimitsTest, ACallTooManyIsRefusedAndRoomComesBack) {
  CallLimits::Limits limits;
  limits.open_calls_max = 2;
  Start(limits);
  const auto first = Open();
  const auto second = Open();
  first->reader->WaitForInitialMetadata();
  second->reader->WaitForInitialMetadata();
  const grpc::Status refused = StatusOf(*Open());
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(),
              testing::StartsWith("TOO_MANY_CALLS: 2 calls are open, the most"));
  // It has come with its message, and is carried out all the same.
  grpc::ClientContext context;
  v1::Checkpoint response;
  const grpc::Status given_up = stub_->GetCheckpoint(&context, {}, &response);
  EXPECT_EQ(given_up.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_THAT(given_up.error_message(), testing::StartsWith("TOO_MANY_CALLS: "));
  EXPECT_THAT(given_up.error_message(), testing::HasSubstr("may have been carried out"));
  first->context.TryCancel();
  EXPECT_EQ(End(*first), grpc::StatusCode::CANCELLED);
  // The server counts a call until it has cleaned it up: some more may be too many.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  bool admitted = false;
  while (!admitted && std::chrono::steady_clock::now() < deadline) {
    const auto call = Open(std::chrono::milliseconds(200));
    admitted = End(*call) == grpc::StatusCode::DEADLINE_EXCEEDED;
  }
  EXPECT_TRUE(admitted);
  EXPECT_EQ(floods_, 0);
  second->context.TryCancel();
  End(*second);
}

TEST_F(CallLimitsTest, EachCallIsToldWithWhoMadeItWhileItIsOpen) {
  Start({});
  const auto first = Open();
  first->reader->WaitForInitialMetadata();
  EXPECT_EQ(calls_from_here_, 1);
  const auto second = Open();
  second->reader->WaitForInitialMetadata();
  EXPECT_EQ(calls_from_here_, 2);
  for (const auto* call : {&first, &second}) (*call)->context.TryCancel();
}

TEST_F(CallLimitsTest, CallsGivenUpAreCounted) {
  CallLimits::Limits limits;
  limits.resets_max = 3;
  Start(limits);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (floods_from_here_ == 0 && std::chrono::steady_clock::now() < deadline) {
    const auto call = Open();
    call->reader->WaitForInitialMetadata();
    call->context.TryCancel();
    End(*call);
  }
  EXPECT_GE(floods_from_here_, 1);
}

// As gRPC's reflection has one; the calls end while their queues are shut down.
class BlockingService : public v1::Core::Service {
  grpc::Status GetCheckpoint(grpc::ServerContext*, const v1::GetCheckpointRequest*,
                             v1::Checkpoint*) override {
    return grpc::Status::OK;
  }
};

TEST(CallLimitsOfBlockingCallsTest, TheyEndAsCallsDo) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(
      std::make_unique<CallLimits>(CallLimits::Limits{}, [](const std::string& /*host*/) {}));
  BlockingService service;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.experimental().SetInterceptorCreators(std::move(factories));
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  std::atomic<int> ended{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] {
      const auto stub = v1::Core::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                                              grpc::InsecureChannelCredentials()));
      for (int call = 0; call < 2000; ++call) {
        grpc::ClientContext context;
        v1::Checkpoint response;
        if (stub->GetCheckpoint(&context, {}, &response).ok()) ++ended;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(ended, 8000);
  server->Shutdown(std::chrono::system_clock::now());
  server->Wait();
}

}  // namespace
}  // namespace icepie::server
