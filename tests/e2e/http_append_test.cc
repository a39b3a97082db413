// Appending over HTTP to the real daemon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/e2e/shop_fixture.h"
#include "tests/server/http_client.h"

namespace icepie::testing {
namespace {

using server::ClientAnswer;
using ::testing::HasSubstr;

class HttpAppendTest : public ShopTest {
 protected:
  ClientAnswer Post(const std::string& stream, const std::string& lines,
                    const std::string& key = "") {
    const std::string address = daemon_.http_address();
    server::HttpClient client(std::atoi(address.substr(address.rfind(':') + 1).c_str()), 60);
    return client.Post("/v1/streams/" + stream + ":append", lines, "application/x-ndjson",
                       key.empty() ? "" : "Idempotency-Key: " + key + "\r\n");
  }

  static std::string ReasonOf(const ClientAnswer& answer) {
    return nlohmann::json::parse(answer.body).value("reason", "");
  }
};

TEST_F(HttpAppendTest, RecordsAreInTheSliceAndARetryIsStoredOnce) {
  StartShop();
  const std::string lines = Sale("pear") + "\n" + Sale("pear") + "\n";
  const ClientAnswer first = Post("sales", lines, "k-1");
  ASSERT_EQ(first.status, 200) << first.body;
  const auto json = nlohmann::json::parse(first.body);
  EXPECT_EQ(json["end_position"].get<int64_t>(), json["first_position"].get<int64_t>() + 2);
  EXPECT_EQ(json["streams"][0]["end_offset"], 2);
  EXPECT_EQ(json["replayed"], false);

  const auto again = nlohmann::json::parse(Post("sales", lines, "k-1").body);
  EXPECT_EQ(again["replayed"], true);
  EXPECT_EQ(again["first_position"], json["first_position"]);
  const ClientAnswer other = Post("sales", Sale("fig"), "k-1");
  EXPECT_EQ(other.status, 409);
  EXPECT_EQ(ReasonOf(other), "REQUEST_ID_REUSED");
  EXPECT_EQ(Rows(daemon_, json["end_position"]), R"([{"item":"pear","total":2}])");

  const int64_t head = StatusOf(daemon_).head_position();
  const ClientAnswer bad = Post("sales", Sale("fig") + "\n{\n");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(ReasonOf(bad), "PAYLOAD_INVALID");
  EXPECT_THAT(bad.body, HasSubstr("records[1].payload"));
  EXPECT_EQ(ReasonOf(Post("nothing", "{}")), "STREAM_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Post("_admin", "{}")), "STREAM_NAME_RESERVED");
  EXPECT_EQ(ReasonOf(Post("sales", "\n\n")), "BATCH_EMPTY");
  EXPECT_EQ(StatusOf(daemon_).head_position(), head);
}

}  // namespace
}  // namespace icepie::testing
