// Connections that are not there any more, on a server of the test's own.
#include "server/connection_gate.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/e2e/http2_client.h"

namespace icepie::server {
namespace {

using testing::Http2Client;
using External = grpc::ServerBuilder::experimental_type::ExternalConnectionType;

size_t OpenFiles() {
  const auto files = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

template <typename Condition>
bool Eventually(const Condition& condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return false;
}

// Without a call, gRPC itself asks nobody whether he is still there. Others stay, however long they
// are silent.
TEST(ConnectionGateTest, WhoIsGoneWithoutAWordGivesHisPlaceBack) {
  constexpr size_t kGone = 20;
  const auto gate =
      ConnectionGate::Listen("127.0.0.1:0", {1000, absl::Seconds(1), absl::Seconds(1)});
  ASSERT_TRUE(gate.ok()) << gate.status();
  grpc::ServerBuilder builder;
  auto acceptor = builder.experimental().AddExternalConnectionAcceptor(
      External::FROM_FD, grpc::InsecureServerCredentials());
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 1000);  // as the daemon does, the same
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 1000);
  const auto queue = builder.AddCompletionQueue();
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  std::thread reader([&] {  // looks after the connections, as there are no calls
    void* tag = nullptr;
    bool ok = false;
    while (queue->Next(&tag, &ok)) {
    }
  });
  (*gate)->Start(std::move(acceptor));

  const std::string address = absl::StrCat("127.0.0.1:", (*gate)->port());
  Http2Client silent(address);
  const size_t open_files = OpenFiles();
  std::vector<Http2Client> gone;
  for (size_t i = 0; i < kGone; ++i) gone.emplace_back(address);
  EXPECT_TRUE(Eventually([&] { return OpenFiles() >= open_files + 2 * kGone; }));
  // The system has nothing more to send to them, whose answer would tell it.
  for (Http2Client& client : gone) {
    EXPECT_TRUE(client.Send({testing::kPing, 0, 0, "is there"}));
    EXPECT_TRUE(client.ReceiveType(testing::kPing, absl::Seconds(60)));
  }
  bool vanished = true;
  for (Http2Client& client : gone) vanished = vanished && client.Vanish();
  if (vanished) {
    EXPECT_TRUE(Eventually([&] { return OpenFiles() < open_files + kGone / 2; }));
    EXPECT_FALSE(silent.IsClosedWithin(absl::ZeroDuration()));
  }
  (*gate)->Stop();
  server->Shutdown(std::chrono::system_clock::now());  // `silent` is there still
  queue->Shutdown();
  reader.join();
  if (!vanished) GTEST_SKIP() << "to vanish takes a privilege";
}

}  // namespace
}  // namespace icepie::server
