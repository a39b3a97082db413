// Readers that take no messages: they hold nobody up, cost little, and are cut off with the place
// to go on from.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/strings/numbers.h"
#include "server/record/core_service.h"
#include "tests/server/rpc_fixture.h"

namespace icepie::server {
namespace {

using icepie::v1::ReadRecordsRequest;
using icepie::v1::ReadRecordsResponse;

constexpr auto kLong = std::chrono::minutes(10);
constexpr int64_t kPayloadBytes = 100000;
// More than any window and buffer between daemon and client takes.
constexpr int64_t kRecords = 240;

// 0 ms: long. Keeps little for the next reader, so that what is held is held by readers.
template <int stall_ms, int cut_ms, int64_t shared_bytes_max>
class ImpatientService : public CoreService {
 public:
  explicit ImpatientService(icepie::Core* core) : CoreService(core, nullptr, Limits()) {}

 private:
  static ReaderLimits Limits() {
    ReaderLimits limits;
    limits.stall.stall_timeout = stall_ms == 0 ? kLong : std::chrono::milliseconds(stall_ms);
    limits.stall.cut_timeout = cut_ms == 0 ? kLong : std::chrono::milliseconds(cut_ms);
    limits.shared_bytes_max = shared_bytes_max;
    return limits;
  }
};

template <typename Service>
class SlowReaderTest : public RpcFixture<Service> {
 protected:
  SlowReaderTest() : stub_(icepie::v1::Core::NewStub(this->channel_)) {
    this->Create("raw", PayloadFormat::kBytes);
  }

  void AppendBatchOf(int64_t records) {
    AppendBatch batch;
    for (int64_t r = 0; r < records; ++r) {
      batch.records.push_back(MakeRecord("raw", std::string(kPayloadBytes, 'x')));
    }
    this->Append(std::move(batch));
  }

  void Fill() {
    for (int64_t n = 0; n < kRecords; n += 20) AppendBatchOf(20);
  }

  // Reads on to the end of the call; the records must follow `next`, which moves.
  grpc::Status ReadOn(grpc::ClientReader<ReadRecordsResponse>& reader, int64_t& next,
                      int64_t* next_position) {
    ReadRecordsResponse response;
    while (reader.Read(&response)) {
      for (const auto& record : response.records()) EXPECT_EQ(record.offset(), next++);
      EXPECT_EQ(response.next_position(), next);
      *next_position = response.next_position();
    }
    return reader.Finish();
  }

  // The rest from `next` on, as a client should: it may be too slow again on a busy machine.
  void ReadRest(int64_t next) {
    ReadRecordsRequest request;
    request.add_streams("raw");
    request.set_end_offset(kRecords);
    grpc::Status status(grpc::StatusCode::ABORTED, "");
    while (status.error_code() == grpc::StatusCode::ABORTED) {
      request.set_from_offset(next);
      grpc::ClientContext context;
      this->Bound(context);
      int64_t next_position = next;
      status = ReadOn(*stub_->ReadRecords(&context, request), next, &next_position);
    }
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(next, kRecords);
  }

  const std::unique_ptr<icepie::v1::Core::Stub> stub_;
};

class StalledReaderTest : public SlowReaderTest<ImpatientService<50, 0, 0>> {};

TEST_F(StalledReaderTest, AFollowerIsToldWhereToGoOn) {
  Fill();
  ReadRecordsRequest request;
  request.add_streams("raw");
  request.set_from_offset(7);
  request.set_follow(true);
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->ReadRecords(&context, request);
  ReadRecordsResponse first;
  ASSERT_TRUE(reader->Read(&first));
  ASSERT_TRUE(EventuallyInCore([&] { return service_->readers().too_slow_count > 0; }));
  int64_t next = 7 + first.records_size();
  int64_t next_position = 0;
  const absl::Status status = FromGrpcStatus(ReadOn(*reader, next, &next_position));
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
  EXPECT_LT(next, kRecords);
  const auto detail = GetErrorDetail(status);
  ASSERT_TRUE(detail);
  EXPECT_EQ(detail->reason, "READER_TOO_SLOW");
  EXPECT_EQ(detail->metadata.at("resume_position"), std::to_string(next));
  EXPECT_EQ(detail->metadata.at("resume_offset"), std::to_string(next));
  EXPECT_EQ(detail->metadata.at("stream"), "raw");
  EXPECT_EQ(next_position, next);
  ReadRest(next);
}

// Long enough for a busy machine to hand a message over, and less than the time between two.
class ReadingReaderTest : public SlowReaderTest<ImpatientService<1000, 0, 0>> {};

TEST_F(ReadingReaderTest, OneThatReadsIsNotCutOffWhileNothingComes) {
  ReadRecordsRequest request;
  request.set_follow(true);
  request.set_end_position(1);
  request.mutable_heartbeat_interval()->set_seconds(1);
  request.mutable_heartbeat_interval()->set_nanos(500000000);
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->ReadRecords(&context, request);
  ReadRecordsResponse response;
  for (int message = 0; message < 2; ++message) ASSERT_TRUE(reader->Read(&response));
  AppendBatchOf(1);
  int64_t next = 0;
  int64_t next_position = 0;
  EXPECT_TRUE(ReadOn(*reader, next, &next_position).ok());
  EXPECT_EQ(next, 1);
  EXPECT_EQ(service_->readers().too_slow_count, 0);
}

class CutReaderTest : public SlowReaderTest<ImpatientService<50, 50, 0>> {};

TEST_F(CutReaderTest, OneThatTakesNothingAtAllIsFreedAndKnowsItsPosition) {
  Fill();
  for (const bool follow : {true, false}) {
    const Readers& readers = service_->readers();
    const int64_t too_slow = readers.too_slow_count;
    ReadRecordsRequest request;
    request.set_follow(follow);
    grpc::ClientContext context;
    Bound(context);
    const auto reader = stub_->ReadRecords(&context, request);
    // Nobody reads, and nothing is held any more.
    EXPECT_TRUE(EventuallyInCore([&] {
      return readers.too_slow_count > too_slow && readers.blocks.live_bytes() == 0;
    })) << readers.blocks.live_bytes();
    int64_t next = 0;
    int64_t next_position = 0;
    const grpc::Status status = ReadOn(*reader, next, &next_position);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED) << status.error_message();
    EXPECT_THAT(status.error_message(), testing::StartsWith("READER_TOO_SLOW: "));
    // A number would be beyond the message that is cut off.
    EXPECT_THAT(status.error_message(),
                testing::HasSubstr("go on reading from the next_position of the last message"));
    EXPECT_LT(next, kRecords);
    EXPECT_EQ(next_position, next);
    ReadRest(next);
  }
}

class LeavingReaderTest : public SlowReaderTest<ImpatientService<0, 0, 0>> {};

TEST_F(LeavingReaderTest, OneThatLeavesWhileAMessageWaitsIsFreed) {
  Fill();
  ReadRecordsRequest request;
  request.set_follow(true);
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->ReadRecords(&context, request);
  const Readers& readers = service_->readers();
  ASSERT_TRUE(EventuallyInCore([&] { return readers.blocks.live_bytes() > 0; }));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(EventuallyInCore([&] { return readers.blocks.live_bytes() == 0; }))
      << readers.blocks.live_bytes();
}

constexpr int64_t kSharedBytesMax = int64_t{2} << 20;
// A message of 1 MiB and the range behind it, of blocks of 1 MiB; those who read on hold the same.
constexpr int64_t kHeldMax = kSharedBytesMax + (int64_t{6} << 20);

class PatientReaderTest : public SlowReaderTest<ImpatientService<0, 0, kSharedBytesMax>> {
 protected:
  bool HoldsLittle() const { return service_->readers().blocks.live_bytes() <= kHeldMax; }
};

TEST_F(PatientReaderTest, OneThatDoesNotReadHoldsLittleOfWhatCompressesWell) {
  Fill();
  ReadRecordsRequest request;
  request.add_streams("raw");
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->ReadRecords(&context, request);
  int64_t next = 0;
  int64_t next_position = 0;
  ReadRecordsResponse first;
  ASSERT_TRUE(reader->Read(&first));
  next += first.records_size();
  EXPECT_TRUE(HoldsLittle()) << service_->readers().blocks.live_bytes();
  EXPECT_TRUE(ReadOn(*reader, next, &next_position).ok());
  EXPECT_EQ(next, kRecords);
}

TEST_F(PatientReaderTest, AmongManyFollowersOneThatDoesNotReadHoldsNobodyUpAndCostsLittle) {
  constexpr int kFollowers = 49;
  ReadRecordsRequest request;
  request.add_streams("raw");
  request.set_follow(true);
  request.set_end_offset(kRecords);
  grpc::ClientContext slow_context;
  Bound(slow_context);
  const auto slow = stub_->ReadRecords(&slow_context, request);
  std::vector<std::thread> followers;
  std::atomic<int64_t> received{0};
  for (int i = 0; i < kFollowers; ++i) {
    followers.emplace_back([&] {
      grpc::ClientContext context;
      Bound(context);
      const auto reader = stub_->ReadRecords(&context, request);
      ReadRecordsResponse response;
      int64_t next = 0;
      while (reader->Read(&response)) {
        for (const auto& record : response.records()) EXPECT_EQ(record.offset(), next++);
        received += response.records_size();
      }
      EXPECT_TRUE(reader->Finish().ok());
    });
  }
  for (int64_t n = 0; n < kRecords; n += 20) {
    AppendBatchOf(20);
    EXPECT_TRUE(EventuallyInCore([&] { return received == kFollowers * (n + 20); })) << received;
    // What the others have received is let go a moment later.
    EXPECT_TRUE(EventuallyInCore([&] { return HoldsLittle(); }))
        << service_->readers().blocks.live_bytes();
  }
  for (std::thread& follower : followers) follower.join();
  int64_t next = 0;
  int64_t next_position = 0;
  EXPECT_TRUE(ReadOn(*slow, next, &next_position).ok());  // from where it stood
  EXPECT_EQ(next, kRecords);
}

}  // namespace
}  // namespace icepie::server
