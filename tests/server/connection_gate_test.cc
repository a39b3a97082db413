// Connections that are not there any more, on a server of the test's own.
#include "server/front/connection_gate.h"

#include <arpa/inet.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/steady_clock.h"
#include "server/front/peer_host.h"
#include "tests/e2e/http2_client.h"

namespace icepie::server {
namespace {

using testing::Http2Client;
using External = grpc::ServerBuilder::experimental_type::ExternalConnectionType;

size_t OpenFiles() {
  const auto files = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

int Connect(int port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<uint16_t>(port));
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  return fd;
}

template <typename Condition>
bool Eventually(const Condition& condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return false;
}

// A server that knows no calls, whose connections come through a gate.
class ConnectionGateTest : public ::testing::Test {
 protected:
  ConnectionGateTest()
      : gate_(*ConnectionGate::Listen("127.0.0.1:0", {1000, absl::Seconds(1), absl::Seconds(1)})),
        address_(absl::StrCat("127.0.0.1:", gate_->port())) {
    grpc::ServerBuilder builder;
    auto acceptor = builder.experimental().AddExternalConnectionAcceptor(
        External::FROM_FD, grpc::InsecureServerCredentials());
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 1000);  // as the daemon does, the same
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 1000);
    queue_ = builder.AddCompletionQueue();
    server_ = builder.BuildAndStart();
    reader_ = std::thread([this] {  // looks after the connections, as there are no calls
      void* tag = nullptr;
      bool ok = false;
      while (queue_->Next(&tag, &ok)) {
      }
    });
    gate_->Start(std::move(acceptor));
  }

  ~ConnectionGateTest() override {
    gate_->Stop();
    server_->Shutdown(std::chrono::system_clock::now());
    queue_->Shutdown();
    reader_.join();
  }

  static bool Answers(Http2Client& client) {
    return client.Send({testing::kPing, 0, 0, "is there"}) &&
           client.ReceiveType(testing::kPing, absl::Seconds(60)).has_value();
  }

  const std::string here_ = PeerOf("ipv4:127.0.0.1:1").host;
  std::unique_ptr<ConnectionGate> gate_;
  const std::string address_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<grpc::Server> server_;
  std::thread reader_;
};

// Without a call, gRPC itself asks nobody whether he is still there. Others stay, however long they
// are silent.
TEST_F(ConnectionGateTest, WhoIsGoneWithoutAWordGivesHisPlaceBack) {
  constexpr size_t kGone = 20;
  Http2Client silent(address_);
  const size_t open_files = OpenFiles();
  std::vector<Http2Client> gone;
  for (size_t i = 0; i < kGone; ++i) gone.emplace_back(address_);
  EXPECT_TRUE(Eventually([&] { return OpenFiles() >= open_files + 2 * kGone; }));
  // The system has nothing more to send to them, whose answer would tell it.
  for (Http2Client& client : gone) EXPECT_TRUE(Answers(client));
  for (Http2Client& client : gone) {
    if (!client.Vanish()) GTEST_SKIP() << "to vanish takes a privilege";
  }
  EXPECT_TRUE(Eventually([&] { return OpenFiles() < open_files + kGone / 2; }));
  EXPECT_FALSE(silent.IsClosedWithin(absl::ZeroDuration()));
}

TEST_F(ConnectionGateTest, AHostThatHasToWaitKeepsItsConnectionsAndNewOnesComeInLater) {
  constexpr absl::Duration kWait = absl::Milliseconds(300);
  Http2Client open(address_);
  const absl::Time begin = SteadyNow();
  gate_->LetWait(PeerOf("ipv4:192.0.2.1:1").host, absl::Hours(1));  // somebody else
  gate_->LetWait(here_, kWait);
  EXPECT_TRUE(Answers(open));
  std::vector<Http2Client> later;
  for (int i = 0; i < 3; ++i) {
    later.emplace_back(address_);  // waits for its settings
    EXPECT_TRUE(Answers(later.back()));
  }
  EXPECT_GE(SteadyNow() - begin, kWait);
  EXPECT_EQ(gate_->refused_count(), 0);
}

TEST_F(ConnectionGateTest, OfOneHostNoMoreThanSomeWait) {
  const size_t open_files = OpenFiles();
  constexpr int kTried = 200;
  constexpr int kWaiting = 64;
  constexpr int kBefore = 64;  // that may have come in before the gate has heard of it
  gate_->LetWait(here_, absl::Hours(1));
  std::vector<int> sockets;
  for (int i = 0; i < kTried; ++i) sockets.push_back(Connect(gate_->port()));
  EXPECT_TRUE(Eventually([&] { return gate_->refused_count() >= kTried - kWaiting - kBefore; }));
  EXPECT_LE(gate_->refused_count(), kTried - kWaiting);
  for (const int socket : sockets) ::close(socket);
  // Who has gone keeps no place.
  EXPECT_TRUE(Eventually([&] { return OpenFiles() <= open_files; }));
}

// Each is closed by gRPC at once, and the next one comes at once.
TEST_F(ConnectionGateTest, WhoComesAgainAndAgainWithoutACallHasToWait) {
  constexpr int kTried = 2000;
  Http2Client open(address_);
  absl::Duration longest;
  int visits = 0;
  while (longest < ConnectionGate::kWait / 2 && visits < kTried) {
    const absl::Time begin = SteadyNow();
    Http2Client client(address_);  // waits for its settings
    longest = std::max(longest, SteadyNow() - begin);
    for (int i = 0; i < 10 && client.Send({testing::kPing, 0, 0, "pingping"}); ++i) {
    }
    EXPECT_TRUE(client.IsClosedWithin(absl::Seconds(60)));
    ++visits;
  }
  EXPECT_LT(visits, kTried);
  EXPECT_GE(visits, EmptyVisits::kVisitsMax);
  EXPECT_TRUE(Answers(open));
}

// gRPC answers settings as long as they come, whatever that costs others.
TEST_F(ConnectionGateTest, WhoFloodsWithSettingsOnAnOpenConnectionIsCutOff) {
  constexpr int kTried = 2000;
  Http2Client open(address_);
  Http2Client flooding(address_);
  std::string frames;
  for (int i = 0; i < 1000; ++i) frames += Http2Client::Encode({testing::kSettings, 0, 0, ""});
  int sent = 0;
  // Takes the answers: gRPC reads no more from who does not.
  std::thread answers([&] { flooding.IsClosedWithin(absl::Seconds(60)); });
  while (sent < kTried && flooding.SendBytes(frames)) ++sent;
  EXPECT_LT(sent, kTried);
  answers.join();
  EXPECT_TRUE(Answers(open));
}

TEST(PeerHostTest, IsTheMachinesAddressHoweverItIsWritten) {
  sockaddr_storage address{};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
  v4->sin_family = AF_INET;
  v4->sin_port = htons(40123);
  ASSERT_EQ(::inet_pton(AF_INET, "192.0.2.7", &v4->sin_addr), 1);
  EXPECT_EQ(PeerOf(address).host, PeerOf("ipv4:192.0.2.7:40123").host);
  EXPECT_EQ(PeerOf(address).endpoint, PeerOf("ipv4:192.0.2.7:40123").endpoint);
  EXPECT_NE(PeerOf(address).host, PeerOf("ipv4:192.0.2.8:40123").host);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
  v6->sin6_family = AF_INET6;
  ASSERT_EQ(::inet_pton(AF_INET6, "::ffff:192.0.2.7", &v6->sin6_addr), 1);
  EXPECT_EQ(PeerOf(address).host, PeerOf("ipv4:192.0.2.7:1").host);
  ASSERT_EQ(::inet_pton(AF_INET6, "2001:db8::1", &v6->sin6_addr), 1);
  EXPECT_EQ(PeerOf(address).host, PeerOf("ipv6:%5B2001:db8::1%5D:40123").host);
  EXPECT_EQ(PeerOf(address).host, PeerOf("ipv6:[2001:db8::ffff]:1").host);  // the same network
  EXPECT_NE(PeerOf(address).host, PeerOf("ipv6:[2001:db8:0:1::1]:1").host);
  EXPECT_EQ(PeerOf("ipv6:%5Bfe80::1%252%5D:40123").host, PeerOf("ipv6:[fe80::2]:1").host);
  EXPECT_EQ(PeerOf("ipv6:[2001:db8::1]:7").endpoint, PeerOf("ipv6:%5B2001:db8::1%5D:7").endpoint);
  EXPECT_NE(PeerOf("ipv6:[2001:db8::1]:7").endpoint, PeerOf("ipv6:[2001:db8::2]:7").endpoint);
  EXPECT_NE(PeerOf("ipv4:192.0.2.7:7").endpoint, PeerOf("ipv4:192.0.2.7:8").endpoint);
  EXPECT_EQ(PeerOf("unix:/run/icepie.sock").host, "");
  EXPECT_EQ(PeerOf("").host, "");
}

}  // namespace
}  // namespace icepie::server
