// Many followers of one stream: what waits to be sent to them is in the daemon's memory once.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/e2e/daemon_fixture.h"
#include "tests/e2e/daemon_memory.h"
#include "tests/e2e/http2_client.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;

constexpr int kFollowers = 64;
constexpr size_t kMessageBytes = 3'000'000;
const absl::Duration kLong = absl::Seconds(60);

// Takes `bytes` of what is sent on the call, and no more.
bool TakeData(Http2Client& client, size_t bytes) {
  for (size_t taken = 0; taken < bytes;) {
    const auto frame = client.ReceiveType(kData, kLong);
    if (!frame) return false;
    taken += frame->payload.size();
  }
  return true;
}

TEST(ManyFollowersTest, AMessageThatNobodyTakesIsHeldOnceForAll) {
  DaemonFixture daemon;
  daemon.SetSettings(
      "listen: {grpc_keepalive_ms: 1h}\n"
      "readers: {stall_timeout_ms: 1h, message_bytes_max: 3MiB}\n");
  daemon.Start();
  ASSERT_FALSE(::testing::Test::HasFatalFailure());
  ASSERT_TRUE(daemon.CreateStream("a").ok());
  v1::ReadRecordsRequest follow;
  follow.add_streams("a");
  follow.set_follow(true);
  std::vector<Http2Client> followers;
  for (int i = 0; i < kFollowers; ++i) {
    Http2Client& follower = followers.emplace_back(daemon.grpc_address());
    follower.Send(
        {kHeaders, kEndHeaders, 1, Http2Client::CallHeaders("/icepie.v1.Core/ReadRecords")});
    follower.Send({kData, kEndStream, 1, Http2Client::Message(follow.SerializeAsString())});
    ASSERT_TRUE(TakeData(follower, 1)) << "it is not told that it has caught up";
  }
  const int64_t memory = MemoryBytes(daemon.pid());
  const std::string record = '"' + std::string(kMessageBytes / 3 - 100, 'x') + '"';
  ASSERT_TRUE(daemon.Append("a", {record, record, record}).ok());
  // Nearly all that a connection takes whose other end allows no more; the rest of the message
  // waits.
  for (Http2Client& follower : followers) ASSERT_TRUE(TakeData(follower, 60'000));
  const int64_t grown = MemoryBytes(daemon.pid()) - memory;
  std::printf("memory +%.1f MiB\n", static_cast<double>(grown) / (1 << 20));
  if (!kKeepsWhatIsFreed) EXPECT_LT(grown, int64_t{kFollowers * kMessageBytes / 3});
}

}  // namespace
}  // namespace icepie::testing
