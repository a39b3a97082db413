// Clients that ask for much and read nothing: what their answers take of the daemon is bounded, for
// their domain first, others are answered, and in the end they are cut off.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/e2e/daemon_memory.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;

const absl::Duration kLong = absl::Seconds(60);
constexpr const char* kSmall = "SELECT sales FROM everything";
// Eight megabytes.
constexpr const char* kLarge =
    "SELECT r, repeat('y', 2000) AS text, sales FROM everything, range(4000) AS t(r)";

class SlowAnswerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    daemon_.SetSettings(
        "workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 60000}\n"
        "readers: {stall_timeout_ms: 5s, domain_answer_bytes_max: 32MiB, "
        "answer_bytes_max: 64MiB}\n");
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
    ASSERT_TRUE(daemon_.Append("sales", {R"({"item":"fig"})"}).ok());
    for (const char* domain : {"noisy", "quiet"}) {
      v1::ApplyDomainResponse applied;
      const auto status =
          daemon_.Apply(absl::StrCat("domain: ", domain,
                                     "\nsources:\n  sales: {columns: {item: VARCHAR}}\nslices:\n"
                                     "  everything: {sql: SELECT count(*) AS sales FROM sales}\n"
                                     "limits: {query_timeout: 300s}\n"),
                        &applied);
      ASSERT_TRUE(status.ok()) << status.error_message();
      ASSERT_TRUE(Eventually([&] { return Ask(domain, kSmall).ok(); }, kLong));
    }
  }

  static v1::QueryRequest Request(const std::string& domain, const std::string& sql) {
    v1::QueryRequest request;
    request.set_domain(domain);
    request.set_sql(sql);
    return request;
  }

  absl::Status Ask(const std::string& domain, const std::string& sql,
                   absl::Duration limit = kLong) {
    v1::QueryResponse response;
    return server::FromGrpcStatus(
        daemon_.Slices()->Query(Within(limit).get(), Request(domain, sql), &response));
  }

  // A whole answer, read as fast as it comes.
  absl::Status Stream(const std::string& domain) {
    const auto context = Within(kLong);
    const auto reader = daemon_.Slices()->StreamQuery(context.get(), Request(domain, kLarge));
    v1::StreamQueryResponse part;
    while (reader->Read(&part)) {
    }
    return server::FromGrpcStatus(reader->Finish());
  }

  // Asked, and not read.
  struct Left {
    std::unique_ptr<v1::Slices::Stub> stub;
    std::unique_ptr<grpc::ClientContext> context;
    std::unique_ptr<grpc::ClientReader<v1::StreamQueryResponse>> reader;
  };
  Left Leave(const std::string& domain) {
    // Its window stays at 64 KiB; one that grows, as that of the clients that read has, may hold a
    // whole answer.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    const auto channel = grpc::CreateCustomChannel(daemon_.grpc_address(),
                                                   grpc::InsecureChannelCredentials(), arguments);
    Left left{v1::Slices::NewStub(channel), Within(absl::Minutes(5)), nullptr};
    left.reader = left.stub->StreamQuery(left.context.get(), Request(domain, kLarge));
    return left;
  }

  DaemonFixture daemon_;
};

TEST_F(SlowAnswerTest, WhatIsNotReadIsBoundedAndCutOffAndOthersAreAnswered) {
  ASSERT_TRUE(Stream("noisy").ok());
  const absl::Status unary = Ask("noisy", kLarge);
  EXPECT_EQ(ErrorReason(unary), "RESULT_TOO_LARGE");
  EXPECT_THAT(std::string(unary.message()), HasSubstr("use StreamQuery"));

  const int64_t memory = MemoryBytes(daemon_.pid());
  std::vector<Left> left;
  for (int i = 0; i < 20; ++i) left.push_back(Leave("noisy"));
  absl::Status refused;
  EXPECT_TRUE(Eventually(
      [&] {
        refused = Stream("noisy");
        return ErrorReason(refused) == "TOO_MANY_QUERIES";
      },
      kLong))
      << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("answers of domain noisy"));
  const int64_t taken = MemoryBytes(daemon_.pid()) - memory;
  if (!kKeepsWhatIsFreed) EXPECT_LT(taken, int64_t{128} << 20);
  EXPECT_TRUE(Stream("quiet").ok());
  EXPECT_TRUE(Ask("quiet", kSmall).ok());
  EXPECT_TRUE(Ask("noisy", kSmall).ok());

  // Nobody reads them, and yet there is room again.
  EXPECT_TRUE(Eventually([&] { return Stream("noisy").ok(); }, kLong));
  int cut_off = 0;
  for (const Left& each : left) {
    v1::StreamQueryResponse part;
    bool ended = false;
    while (each.reader->Read(&part)) ended = ended || part.has_end();
    const grpc::Status status = each.reader->Finish();
    if (status.error_code() != grpc::StatusCode::ABORTED) continue;
    EXPECT_FALSE(ended);
    EXPECT_THAT(status.error_message(), HasSubstr("READER_TOO_SLOW"));
    ++cut_off;
  }
  EXPECT_GT(cut_off, 0);
}

// As many as a domain may have, without an end of their own within the test: the right side of a
// cross product is kept in memory, so it is not larger than fits.
TEST_F(SlowAnswerTest, ClientsThatGoTakeTheirQuestionsWithThem) {
  const v1::QueryRequest request = Request(
      "noisy", "SELECT count(*) FROM everything, range(10000000) AS a, range(10000000) AS b");
  std::vector<Left> left;
  const auto leave_one = [&] {
    left.push_back({daemon_.Slices(), Within(absl::Minutes(5)), nullptr});
    left.back().reader = left.back().stub->StreamQuery(left.back().context.get(), request);
  };
  for (int i = 0; i < 64; ++i) leave_one();
  // A question that is asked meanwhile may have taken the place of one of them, and waits behind
  // the others.
  EXPECT_TRUE(Eventually(
      [&] {
        const absl::Status asked = Ask("noisy", kSmall, absl::Seconds(10));
        if (ErrorReason(asked) == "TOO_MANY_QUERIES") return true;
        leave_one();
        return false;
      },
      kLong));
  for (const Left& each : left) each.context->TryCancel();
  EXPECT_TRUE(Eventually([&] { return Ask("noisy", kSmall).ok(); }, kLong));
  int waited = 0;
  for (const Left& each : left) {
    const grpc::StatusCode code = each.reader->Finish().error_code();
    EXPECT_TRUE(code == grpc::StatusCode::CANCELLED || code == grpc::StatusCode::RESOURCE_EXHAUSTED)
        << code;
    if (code == grpc::StatusCode::CANCELLED) ++waited;
  }
  EXPECT_GE(waited, 64);
}

}  // namespace
}  // namespace icepie::testing
