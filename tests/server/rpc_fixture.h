// A core with its services on a loopback port, for tests.
#ifndef ICEPIE_TESTS_SERVER_RPC_FIXTURE_H_
#define ICEPIE_TESTS_SERVER_RPC_FIXTURE_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "core/base/status.h"
#include "core/core.h"
#include "gtest/gtest.h"
#include "server/base/rpc_status.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {

// Serves `Service(core)`.
template <typename Service>
class RpcFixture : public testing::Test {
 protected:
  explicit RpcFixture(const SealingOptions& sealing = {})
      : core_(OpenCore(directory_.path(), sealing)),
        service_(std::make_unique<Service>(core_.get())) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.SetMaxReceiveMessageSize(8 << 20);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(port_),
                                   grpc::InsecureChannelCredentials());
  }

  ~RpcFixture() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    service_.reset();
  }

  // A failed wait ends as DEADLINE_EXCEEDED instead of never.
  static void Bound(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  }

  static std::string ReasonOf(const grpc::Status& status) {
    return ErrorReason(FromGrpcStatus(status));
  }

  void Create(const std::string& name, PayloadFormat format = PayloadFormat::kJson) {
    ASSERT_TRUE(core_->CreateStream(name, format).ok());
  }

  void Append(AppendBatch batch) {
    const auto result = core_->AppendAndWait(std::move(batch));
    ASSERT_TRUE(result.ok()) << result.status();
  }

  TempDirectory directory_;
  int port_ = 0;
  std::unique_ptr<Core> core_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace icepie::server

#endif  // ICEPIE_TESTS_SERVER_RPC_FIXTURE_H_
