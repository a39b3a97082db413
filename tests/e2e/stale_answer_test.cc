// What becomes of answers that are staler than who asks allows (max_staleness, on_stale), by every
// way there is to ask: while a slice is frozen, and while its worker stands still.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/app.h"
#include "core/base/status.h"
#include "server/base/proto_time.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/shop_fixture.h"
#include "tests/server/http_client.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr const char* kRows = "SELECT * FROM by_item ORDER BY item";
constexpr const char* kOnePear = R"([{"item":"pear","total":1}])";
constexpr const char* kTwoPears = R"([{"item":"pear","total":2}])";

class StaleAnswerTest : public ShopTest {
 protected:
  // With one pear, in the standby too.
  void StartWithAPear() {
    StartShop();
    Append("pear", 1);
    ASSERT_EQ(Rows(daemon_, end_), kOnePear);
    ASSERT_TRUE(
        Eventually([&] { return daemon_.GetSlice("shop.by_item").standby_position() >= end_; }));
  }

  void Change(grpc::Status (v1::Admin::Stub::*change)(grpc::ClientContext*,
                                                      const v1::ChangeDomainRequest&,
                                                      v1::ListSlicesResponse*)) {
    v1::ChangeDomainRequest request;
    request.set_name("shop");
    request.set_reason("INC-4711");
    v1::ListSlicesResponse slices;
    const auto status = (*daemon_.Admin().*change)(Within(kLong).get(), request, &slices);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  struct Answer {
    grpc::Status status;
    v1::QueryResponse response;
    std::string reason() const { return ErrorReason(server::FromGrpcStatus(status)); }
  };

  Answer Ask(absl::Duration max_staleness, v1::Consistency::OnStale on_stale,
             absl::Duration max_wait = kLong, absl::Duration deadline = kLong) {
    v1::QueryRequest request;
    request.set_domain("shop");
    request.set_sql(kRows);
    auto& consistency = *request.mutable_consistency();
    *consistency.mutable_max_staleness() = server::ToProto(max_staleness);
    consistency.set_on_stale(on_stale);
    *consistency.mutable_max_wait() = server::ToProto(max_wait);
    Answer answer;
    answer.status = daemon_.Slices()->Query(Within(deadline).get(), request, &answer.response);
    return answer;
  }

  server::ClientAnswer Get(const std::string& parameters) {
    int port = 0;
    const std::string& address = daemon_.http_address();
    EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
    return server::HttpClient(port).Get(
        absl::StrCat("/v1/domains/shop/slices/by_item/rows?", parameters));
  }

  struct Outcome {
    int code = 0;
    std::string out;
    std::string err;
  };
  Outcome Icepie(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"--address", daemon_.grpc_address()});
    std::istringstream in;
    std::ostringstream out;
    std::ostringstream err;
    const int code = cli::RunProgram(arguments, cli::Terminal{&in, &out, &err});
    return {code, out.str(), err.str()};
  }
};

TEST_F(StaleAnswerTest, WhileASliceIsFrozenEachGetsWhatItAskedFor) {
  StartWithAPear();
  Change(&v1::Admin::Stub::FreezeDomain);
  Append("pear", 1);
  const Answer served = Ask(absl::ZeroDuration(), v1::Consistency::SERVE);
  EXPECT_EQ(served.response.body(), kOnePear);
  EXPECT_EQ(served.response.meta().slices(0).stale_reason(), v1::SLICE_FROZEN);
  EXPECT_TRUE(served.response.meta().stale());
  EXPECT_EQ(Ask(absl::Hours(1), v1::Consistency::FAIL).response.body(), kOnePear);
  const Answer failed = Ask(absl::ZeroDuration(), v1::Consistency::FAIL);
  EXPECT_EQ(failed.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(failed.reason(), "STALENESS_EXCEEDED");

  const auto page = Get("_max_staleness=0s&_on_stale=fail");
  EXPECT_EQ(page.status, 503);
  const auto problem = nlohmann::json::parse(page.body);
  EXPECT_EQ(problem["reason"], "STALENESS_EXCEEDED");
  EXPECT_EQ(page.headers.count("retry-after"), 1) << page.body;
  EXPECT_EQ(Get("_max_staleness=1h&_on_stale=fail").status, 200);
  EXPECT_EQ(Get("_max_staleness=0s&_on_stale=serve").status, 200);
  const std::vector<std::string> by_sql = {"query", "shop", kRows};
  for (std::vector<std::string> query : {by_sql, {"slice", "query", "shop.by_item"}}) {
    query.insert(query.end(), {"--max-staleness", "0s"});
    const Outcome refused = Icepie(query);
    EXPECT_EQ(refused.code, 3) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("icepie slice describe shop.by_item says why"));
    query.back() = "1h";
    EXPECT_EQ(Icepie(query).code, 0);
  }
}

// It is answered once the slice has caught up, and not before.
TEST_F(StaleAnswerTest, WhoWaitsIsAnsweredWhenTheSliceHasCaughtUp) {
  StartWithAPear();
  Change(&v1::Admin::Stub::FreezeDomain);
  Append("pear", 1);
  std::atomic<bool> thaws{false};
  std::atomic<int> answered{0};
  const auto note = [&](const std::string& body, const char* how) {
    EXPECT_TRUE(thaws) << how << " was answered before: " << body;
    EXPECT_EQ(body, kTwoPears) << how;
    ++answered;
  };
  std::thread by_rpc([&] {
    const Answer answer = Ask(absl::ZeroDuration(), v1::Consistency::WAIT);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_FALSE(answer.response.meta().stale());
    note(answer.response.body(), "the call");
  });
  // One that gave up in between shows that they wait.
  const absl::Time begin = absl::Now();
  const Answer gave_up = Ask(absl::ZeroDuration(), v1::Consistency::WAIT, absl::Seconds(1));
  EXPECT_EQ(gave_up.reason(), "STALENESS_EXCEEDED");
  EXPECT_GE(absl::Now() - begin, absl::Seconds(1));
  std::thread by_http([&] {
    const auto page = Get("_max_staleness=0s&_on_stale=wait");
    EXPECT_EQ(page.status, 200) << page.body;
    const auto body = nlohmann::json::parse(page.body, nullptr, false);
    note(body.is_object() ? body["rows"].dump() : page.body, "HTTP");
  });
  std::thread by_command([&] {
    const Outcome rows = Icepie({"--json", "slice", "query", "shop.by_item", "--max-staleness",
                                 "0s", "--on-stale", "wait"});
    EXPECT_EQ(rows.code, 0) << rows.err;
    note(nlohmann::json::parse(rows.out, nullptr, false)["rows"].dump(), "the command");
  });
  EXPECT_EQ(answered, 0);
  thaws = true;
  Change(&v1::Admin::Stub::ThawDomain);
  by_rpc.join();
  by_http.join();
  by_command.join();
  EXPECT_EQ(answered, 3);
}

// The reason arrives, and not the client's own DEADLINE_EXCEEDED.
TEST_F(StaleAnswerTest, AClientsDeadlineThatIsShorterThanItsWaitEndsIt) {
  StartWithAPear();
  Change(&v1::Admin::Stub::FreezeDomain);
  Append("pear", 1);
  const Answer answer =
      Ask(absl::ZeroDuration(), v1::Consistency::WAIT, absl::Minutes(10), absl::Seconds(3));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION)
      << answer.status.error_message();
  EXPECT_EQ(answer.reason(), "STALENESS_EXCEEDED");
}

// Nobody has said that anything is wrong: the worker is there, and hears nothing.
TEST_F(StaleAnswerTest, AWorkerThatStandsStillMakesItsSlicesStale) {
  StartWithAPear();
  const pid_t stopped = daemon_.SignalWorker("shop", "live", SIGSTOP);
  Append("pear", 1);
  const Answer served = Ask(absl::ZeroDuration(), v1::Consistency::SERVE);
  EXPECT_EQ(served.response.body(), kOnePear) << served.status.error_message();
  EXPECT_TRUE(served.response.meta().stale());
  // It gets older, as long as the worker is taken for one that is alive and when it is replaced.
  EXPECT_TRUE(Eventually(
      [&] { return Ask(absl::Seconds(2), v1::Consistency::FAIL).reason() == "STALENESS_EXCEEDED"; },
      absl::Seconds(8)))
      << "its worker would be replaced only now";
  EXPECT_EQ(daemon_.Worker("shop", "live").pid(), stopped);
  std::thread goes_on([&] {
    Ask(absl::ZeroDuration(), v1::Consistency::WAIT, absl::Seconds(1));
    kill(stopped, SIGCONT);
  });
  const Answer waited = Ask(absl::ZeroDuration(), v1::Consistency::WAIT);
  goes_on.join();
  EXPECT_TRUE(waited.status.ok()) << waited.status.error_message();
  EXPECT_EQ(waited.response.body(), kTwoPears);
  EXPECT_FALSE(waited.response.meta().stale());
}

}  // namespace
}  // namespace icepie::testing
