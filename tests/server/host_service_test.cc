#include "server/record/host_service.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "tests/server/rpc_fixture.h"

namespace icepie::server {
namespace {

using icepie::worker::v1::TailRequest;
using icepie::worker::v1::TailResponse;

class HostServiceTest : public RpcFixture<HostService> {
 protected:
  explicit HostServiceTest(const SealingOptions& sealing = {})
      : RpcFixture(sealing), stub_(icepie::worker::v1::Host::NewStub(channel_)) {}

  static TailRequest Request(const std::vector<std::string>& streams, int64_t from) {
    TailRequest request;
    for (const std::string& stream : streams) request.add_streams(stream);
    request.set_from_position(from);
    return request;
  }

  const std::unique_ptr<icepie::worker::v1::Host::Stub> stub_;
};

// What a worker makes of a tail: every record once, in order.
class Follower {
 public:
  explicit Follower(int64_t from) : next_(from) {}

  void Take(const TailResponse& response) {
    EXPECT_GE(response.complete_position(), complete_);
    EXPECT_LE(response.ByteSizeLong(), size_t{3} << 20);
    // What was sealed meanwhile a worker reads itself; there is one stream only.
    for (const auto& segment : response.segments()) {
      records_ += std::max<int64_t>(segment.end_position() - next_, 0);
      next_ = std::max(next_, segment.end_position());
    }
    for (const auto& stored : response.blocks()) {
      const auto block = DecodedBlock::Decode(stored.data());
      ASSERT_TRUE(block.ok()) << block.status();
      for (const RecordView& record : block->records()) {
        if (record.position < next_) continue;
        EXPECT_LT(record.position, response.complete_position());
        next_ = record.position + 1;
        ++records_;
      }
    }
    complete_ = response.complete_position();
  }

  int64_t records() const { return records_; }
  int64_t complete() const { return complete_; }

 private:
  int64_t next_;
  int64_t complete_ = 0;
  int64_t records_ = 0;
};

TEST_F(HostServiceTest, WritersTakeTurns) {
  constexpr int64_t kPiece = 1 << 20;
  HostService paced(core_.get(), kPiece);  // one a second
  grpc::ServerBuilder builder;
  builder.RegisterService(&paced);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  const auto stub =
      icepie::worker::v1::Host::NewStub(server->InProcessChannel(grpc::ChannelArguments()));
  absl::Duration longest;
  for (int64_t pid = 1; pid <= 20; ++pid) {
    grpc::ClientContext context;
    Bound(context);
    icepie::worker::v1::PaceWriteRequest request;
    icepie::worker::v1::PaceWriteResponse response;
    request.set_pid(pid);
    request.set_bytes(kPiece);
    EXPECT_TRUE(stub->PaceWrite(&context, request, &response).ok());
    longest = std::max(longest, absl::Microseconds(response.wait_us()));
  }
  EXPECT_GT(longest, absl::Milliseconds(100));
  EXPECT_LE(longest, absl::Seconds(1));
  server->Shutdown();
}

class SealedHostServiceTest : public HostServiceTest {
 protected:
  SealedHostServiceTest() : HostServiceTest(SmallSegments()) {}

  void FillAndSeal() {
    Create("a");
    for (int i = 0; i < 150; ++i) Append(NumberedBatch("a", i * 3, 3));
    ASSERT_TRUE(EventuallyInCore([&] { return core_->Storage().segment_count >= 3; }));
  }
};

TEST_F(SealedHostServiceTest, AWorkerThatReadsSegmentsIsToldThemAndThenTheTail) {
  FillAndSeal();
  TailRequest request = Request({"a"}, 10);
  request.set_reads_segments(true);
  request.set_end_position(core_->head_position());
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->Tail(&context, request);
  TailResponse response;
  ASSERT_TRUE(reader->Read(&response));
  ASSERT_GE(response.segments_size(), 3);
  EXPECT_TRUE(response.blocks().empty());
  EXPECT_LE(response.segments(0).first_position(), 10);
  int64_t end = response.segments(0).first_position();
  for (const auto& segment : response.segments()) {
    EXPECT_EQ(segment.first_position(), end);
    end = segment.end_position();
    EXPECT_TRUE(std::filesystem::exists(directory_.path() + "/" + segment.path()));
  }
  EXPECT_EQ(response.complete_position(), end);
  EXPECT_LT(end, core_->head_position());
  Follower follower(end);
  while (reader->Read(&response)) follower.Take(response);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(follower.records(), core_->head_position() - end);
}

TEST_F(SealedHostServiceTest, AWorkerThatDoesNotIsSentEverything) {
  FillAndSeal();
  TailRequest request = Request({"a"}, 10);
  request.set_end_position(core_->head_position());
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->Tail(&context, request);
  Follower follower(10);
  TailResponse response;
  while (reader->Read(&response)) {
    EXPECT_TRUE(response.segments().empty());
    follower.Take(response);
  }
  EXPECT_EQ(follower.records(), core_->head_position() - 10);
}

TEST_F(HostServiceTest, ABoundedTailEndsWithEveryRecordSent) {
  Create("a");
  Create("b");
  for (int i = 0; i < 10; ++i) {
    Append(NumberedBatch("a", i * 100, 100));
    Append(NumberedBatch("b", i * 50, 50));
  }
  TailRequest request = Request({"a"}, 120);
  request.set_end_position(1000);
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->Tail(&context, request);
  Follower follower(120);
  TailResponse response;
  while (reader->Read(&response)) follower.Take(response);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(follower.complete(), 1000);
  EXPECT_EQ(follower.records(), 600);  // a's records in [120, 1000)
}

TEST_F(HostServiceTest, TheFirstMessageComesAtOnce) {
  Create("a");
  Append(NumberedBatch("a", 0, 3));
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->Tail(&context, Request({"a"}, 3));
  TailResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.blocks_size(), 0);
  EXPECT_EQ(response.complete_position(), 3);
  EXPECT_EQ(response.head_position(), 3);
  context.TryCancel();
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(HostServiceTest, NewRecordsAndProgressOfOtherStreamsArrive) {
  Create("a");
  Create("b");
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->Tail(&context, Request({"a"}, 0));
  TailResponse response;
  ASSERT_TRUE(reader->Read(&response));
  Append(NumberedBatch("b", 0, 5));
  while (response.complete_position() < 5) ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.blocks_size(), 0);
  EXPECT_EQ(response.head_position(), 5);
  Append(NumberedBatch("a", 0, 5));
  while (response.complete_position() < 10) ASSERT_TRUE(reader->Read(&response));
  ASSERT_EQ(response.blocks_size(), 1);
  EXPECT_EQ(response.blocks(0).stream(), "a");
  context.TryCancel();
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(HostServiceTest, ProgressAloneIsCoalesced) {
  Create("a");
  Create("b");
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->Tail(&context, Request({"a"}, 0));
  TailResponse response;
  ASSERT_TRUE(reader->Read(&response));
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 300; ++i) Append(NumberedBatch("b", i, 1));
  int messages = 0;
  while (response.complete_position() < 300) {
    ASSERT_TRUE(reader->Read(&response));
    ++messages;
  }
  const auto elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_LE(messages, 2 + elapsed / std::chrono::milliseconds(50));
  context.TryCancel();
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(HostServiceTest, ATailWithoutStreamsHearsOfTheHeadOnly) {
  Create("a");
  Append(NumberedBatch("a", 0, 3));
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->Tail(&context, Request({}, 0));
  TailResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.blocks_size(), 0);
  EXPECT_EQ(response.head_position(), 3);
  Append(NumberedBatch("a", 3, 3));
  while (response.head_position() < 6) ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.blocks_size(), 0);
  context.TryCancel();
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(HostServiceTest, AStreamThatDoesNotExistYetIsFollowedOnceItDoes) {
  Create("a");
  Append(NumberedBatch("a", 0, 3));
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->Tail(&context, Request({"later"}, 0));
  TailResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.complete_position(), 3);
  Create("later");
  Append(NumberedBatch("later", 0, 2));
  Follower follower(3);
  while (follower.records() < 2) {
    ASSERT_TRUE(reader->Read(&response));
    follower.Take(response);
  }
  context.TryCancel();
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(HostServiceTest, ATailBeyondTheHeadIsRefused) {
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->Tail(&context, Request({"a"}, 1));
  TailResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(ReasonOf(reader->Finish()), "POSITION_AHEAD_OF_CORE");
}

TEST_F(HostServiceTest, ManyTailsFollowManyAppends) {
  constexpr int kTails = 20;
  constexpr int kBatches = 100;
  Create("a");
  Create("b");
  std::vector<std::thread> tails;
  for (int t = 0; t < kTails; ++t) {
    tails.emplace_back([&, t] {
      grpc::ClientContext context;
      Bound(context);
      const auto reader = stub_->Tail(&context, Request({t % 2 == 0 ? "a" : "b"}, 0));
      Follower follower(0);
      TailResponse response;
      while (follower.complete() < kBatches * 10 && reader->Read(&response))
        follower.Take(response);
      EXPECT_EQ(follower.records(), kBatches * 5);
      context.TryCancel();
      EXPECT_FALSE(reader->Finish().ok());
    });
  }
  for (int i = 0; i < kBatches; ++i) {
    Append(NumberedBatch("a", i * 5, 5));
    Append(NumberedBatch("b", i * 5, 5));
  }
  for (std::thread& tail : tails) tail.join();
}

}  // namespace
}  // namespace icepie::server
