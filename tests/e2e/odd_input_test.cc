// Records that are odd but well-formed, a million tiny ones, and a client that claims a message of
// two gigabytes: taken or refused as a whole, and nobody else notices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/e2e/daemon_memory.h"
#include "tests/e2e/http2_client.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;

constexpr const char* kOdd = R"(domain: odd
sources:
  odd: {columns: {n: INTEGER, time: TIMESTAMP, text: VARCHAR}}
  tiny: {columns: {n: INTEGER}}
slices:
  kinds: {sql: "SELECT text, count(*) AS records, min(time) AS lowest, max(time) AS highest FROM odd GROUP BY ALL"}
  counted: {sql: "SELECT count(*) AS records FROM tiny"}
)";

int64_t ResidentBytes(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/statm"));
  int64_t total = 0;
  int64_t resident = 0;
  file >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

class OddInputTest : public ::testing::Test {
 protected:
  OddInputTest() {
    daemon_.SetSettings("listen: {grpc_memory_bytes: 64MiB}\n");
    daemon_.Start();
  }

  grpc::Status Append(const std::vector<std::string>& payloads) {
    const auto end = daemon_.Append("odd", payloads);
    if (end.ok()) end_ = *end;
    return server::ToGrpcStatus(end.status());
  }

  void ExpectRefused(const std::string& bad, const std::string& why) {
    SCOPED_TRACE(why);
    const grpc::Status status = Append({R"({"n":1})", bad});
    EXPECT_EQ(ErrorReason(server::FromGrpcStatus(status)), "PAYLOAD_INVALID");
    const auto detail = GetErrorDetail(server::FromGrpcStatus(status));
    ASSERT_TRUE(detail && !detail->violations.empty());
    EXPECT_EQ(detail->violations[0].field, "records[1].payload");
  }

  v1::QueryResponse Ask(const std::string& sql) {
    v1::QueryResponse answer;
    grpc::Status status;
    Eventually(
        [&] {
          status = daemon_.Query("odd", sql, end_, &answer);
          return status.ok();
        },
        absl::Seconds(90));
    EXPECT_TRUE(status.ok()) << status.error_message();
    return answer;
  }

  DaemonFixture daemon_;
  int64_t end_ = 0;
};

TEST_F(OddInputTest, AllOrNothingAndTheSliceGoesOn) {
  ASSERT_TRUE(daemon_.CreateStream("odd").ok());
  ASSERT_TRUE(daemon_.CreateStream("tiny").ok());
  v1::ApplyDomainResponse applied;
  const grpc::Status status = daemon_.Apply(kOdd, &applied);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ExpectRefused("{\"text\":\"\xff\"}", "not UTF-8");
  ExpectRefused(std::string("{\"text\":\"\0\"}", 12), "a NUL byte");
  ExpectRefused(R"({"n":NaN})", "NaN");
  ExpectRefused(R"({"n":-Infinity})", "infinity");
  ExpectRefused(std::string(10000, '[') + std::string(10000, ']'), "10,000 levels");
  ExpectRefused("", "nothing");
  v1::GetStreamRequest get;
  get.set_name("odd");
  v1::Stream stream;
  ASSERT_TRUE(daemon_.Core()->GetStream(Within(absl::Seconds(60)).get(), get, &stream).ok());
  EXPECT_EQ(stream.end_offset(), 0) << "a part of a refused batch was stored";

  ASSERT_TRUE(Append({
                         R"({"text":"old","time":"0001-01-01T00:00:00"})",
                         R"({"text":"old","time":"9999-12-31T23:59:59.999999"})",
                         R"({"text":"nul \u0000","n":1})",
                         R"({"text":"twice","n":1,"n":2})",
                         R"({"text":"huge","n":1e400})",
                         R"({"text":"half","n":1.5})",
                         R"({"text":"no date","time":"2001-02-30T00:00:00"})",
                         std::string(900, '[') + std::string(900, ']'),
                         "3",
                     })
                  .ok());
  const v1::QueryResponse answer = Ask("SELECT * FROM kinds ORDER BY text");
  EXPECT_THAT(answer.body(), HasSubstr("0001-01-01"));
  EXPECT_THAT(answer.body(), HasSubstr("9999-12-31"));
  const auto& meta = answer.meta().slices(0);
  EXPECT_EQ(meta.state(), v1::RUNNING);
  EXPECT_GE(meta.quarantined_count(), 1);  // the date that is none, at least
  EXPECT_TRUE(Eventually([&] {
    const auto counts = daemon_.GetSlice("odd.kinds").counts();
    return counts.input() == 9 &&
           counts.applied() + counts.filtered() + counts.quarantined() == counts.input();
  }));
}

TEST_F(OddInputTest, AMillionTinyRecords) {
  constexpr int kBatch = 62500;
  ASSERT_TRUE(daemon_.CreateStream("odd").ok());
  ASSERT_TRUE(daemon_.CreateStream("tiny").ok());
  v1::ApplyDomainResponse applied;
  ASSERT_TRUE(daemon_.Apply(kOdd, &applied).ok());
  v1::AppendRecordsRequest request;
  for (int i = 0; i < kBatch; ++i) {
    v1::Record* record = request.add_records();
    record->set_stream("tiny");
    record->set_payload("{}");
  }
  v1::AppendRecordsResponse response;
  for (int i = 0; i < 16; ++i) {
    const auto status =
        daemon_.Core()->AppendRecords(Within(absl::Seconds(60)).get(), request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  end_ = response.end_position();
  EXPECT_EQ(response.streams(0).end_offset(), 1'000'000);
  for (int i = kBatch; i < 1'000'000; ++i) *request.add_records() = request.records(0);
  const auto refused =
      daemon_.Core()->AppendRecords(Within(absl::Seconds(60)).get(), request, &response);
  // 9 MB of message: gRPC's own limit comes before the core's for records.
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << refused.error_message();
  EXPECT_EQ(Ask("SELECT * FROM counted").body(), R"([{"records":1000000}])");
}

// Begins an append whose message says that it has `bytes`; what follows is up to the caller.
void ClaimMessage(uint32_t bytes, Http2Client& client) {
  client.Send(
      {kHeaders, kEndHeaders, 1, Http2Client::CallHeaders("/icepie.v1.Core/AppendRecords")});
  std::string begin(1, '\0');
  for (const int shift : {24, 16, 8, 0}) begin += static_cast<char>(bytes >> shift);
  client.Send({kData, 0, 1, begin});
}

TEST_F(OddInputTest, AClaimOfTwoGigabytesCostsNothing) {
  constexpr uint32_t kClaim = 0x7fffffff;
  ASSERT_TRUE(daemon_.CreateStream("odd").ok());
  ASSERT_TRUE(Append({"1"}).ok());
  const int64_t before = ResidentBytes(daemon_.pid());
  std::vector<Http2Client> claimants;
  for (int i = 0; i < 5; ++i) {
    claimants.emplace_back(daemon_.grpc_address());
    ClaimMessage(kClaim, claimants.back());
    ASSERT_TRUE(Append({"1"}).ok());
  }
  // Whoever goes on and sends it is stopped within the quota of all messages.
  for (Http2Client& claimant : claimants) EXPECT_LT(claimant.SendData(kClaim), size_t{256} << 20);
  EXPECT_LT(ResidentBytes(daemon_.pid()) - before, int64_t{128} << 20);
  ASSERT_TRUE(Append({"1"}).ok());
}

// The limits of a batch and of gRPC's messages: one byte more is refused, and memory stays flat.
TEST_F(OddInputTest, ABatchAndAMessageOfExactlyTheLimitAreTaken) {
  ASSERT_TRUE(daemon_.CreateStream("odd").ok());
  const std::string third = "\"" + std::string((1 << 20) - 2, 'x') + "\"";
  const std::string half = "\"" + std::string((1 << 19) - 2, 'x') + "\"";
  std::vector<std::string> batch = {third, third, half, half};
  v1::AppendRecordsRequest message;  // of 8 MiB
  for (int i = 0; i < 8; ++i) {
    message.add_records()->set_stream("odd");
    message.mutable_records(i)->set_payload(i < 7 ? third : third.substr(0, 1 << 19));
  }
  message.mutable_records(7)->mutable_payload()->append((size_t{8} << 20) - message.ByteSizeLong(),
                                                        'x');
  ASSERT_EQ(message.ByteSizeLong(), size_t{8} << 20);
  int64_t before = 0;
  for (int round = 0; round < 10; ++round) {
    if (round == 2) before = MemoryBytes(daemon_.pid());  // what is kept for the next is there
    ASSERT_TRUE(Append(batch).ok());
    batch[3].push_back(' ');
    EXPECT_EQ(ErrorReason(server::FromGrpcStatus(Append(batch))), "BATCH_TOO_LARGE");
    batch[3].pop_back();
    v1::AppendRecordsResponse response;
    const auto send = [&] {
      return daemon_.Core()->AppendRecords(Within(absl::Seconds(60)).get(), message, &response);
    };
    EXPECT_EQ(ErrorReason(server::FromGrpcStatus(send())), "BATCH_TOO_LARGE") << "it was read";
    message.mutable_records(7)->mutable_payload()->push_back('x');
    const grpc::Status refused = send();
    EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(refused.error_message(), HasSubstr("larger than max"));
    message.mutable_records(7)->mutable_payload()->pop_back();
  }
  if (!kKeepsWhatIsFreed) {
    EXPECT_LT(MemoryBytes(daemon_.pid()) - before, int64_t{64} << 20);
  }
}

// Those of a record.
TEST_F(OddInputTest, ARecordOfExactlyTheLimitIsTaken) {
  ASSERT_TRUE(daemon_.CreateStream("odd").ok());
  const std::string largest = "\"" + std::string((1 << 20) - 2, 'x') + "\"";
  EXPECT_TRUE(Append({largest}).ok());
  EXPECT_EQ(ErrorReason(server::FromGrpcStatus(Append({largest + " "}))), "RECORD_TOO_LARGE");
}

}  // namespace
}  // namespace icepie::testing
