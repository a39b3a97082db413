#include "server/admin/admin_action.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "core/base/status.h"
#include "icepie/v1/admin.pb.h"
#include "nlohmann/json.hpp"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

class AdminActionTest : public testing::Test {
 protected:
  AdminActionTest() { request_.set_name("shop.by_item"); }

  // Asks, as `actor`, for what ends with `outcome`.
  void Ask(const absl::Status& outcome, const std::string& actor = "ann", bool begins = false) {
    AdminAction action(&log_, "FreezeSlice", actor, request_);
    if (begins) ASSERT_TRUE(action.Begin().ok());
    action.End(outcome);
  }

  std::vector<ReadRecord> Records() const { return ReadAll(*core_, {kAdminStream}); }

  TempDirectory directory_;
  const std::unique_ptr<Core> core_ = OpenCore(directory_.path());
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  AdminLog log_{*core_, nullptr, [this] { return now_; }};
  v1::FreezeSliceRequest request_;
};

TEST_F(AdminActionTest, AFloodOfMalformedRequestsLeavesNothingInTheCore) {
  request_.set_reason(std::string(100 << 10, 'x'));
  for (int i = 0; i < 100; ++i) {
    Ask(MakeError(absl::StatusCode::kInvalidArgument, "no such action", "PARAMETER_INVALID"));
  }
  EXPECT_EQ(core_->head_position(), 0);
}

TEST_F(AdminActionTest, WhatIsRefusedLeavesASmallRecordWithTheDigestOfAll) {
  request_.set_reason(std::string(100 << 10, 'x'));
  Ask(MakeError(absl::StatusCode::kNotFound, std::string(100 << 10, 'm'), "SLICE_NOT_FOUND"),
      std::string(100 << 10, 'a'));
  const std::vector<ReadRecord> records = Records();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_LT(records[0].payload.size(), 2u << 10);
  const auto json = nlohmann::json::parse(records[0].payload);
  EXPECT_EQ(json["actor"], std::string(256, 'a'));
  EXPECT_EQ(json["request_sha256"].get<std::string>().size(), 64u);
  EXPECT_FALSE(json.contains("request"));
  EXPECT_EQ(json["result"]["reason"], "SLICE_NOT_FOUND");

  request_.set_reason("short");
  Ask(absl::NotFoundError("no such slice"));
  EXPECT_EQ(nlohmann::json::parse(Records().at(1).payload)["request"]["reason"], "short");
}

TEST_F(AdminActionTest, OfAFloodOfRefusalsSomeAreRecordedAndTheOthersCounted) {
  const auto refused = MakeError(absl::StatusCode::kNotFound, "no such slice", "SLICE_NOT_FOUND");
  const auto unrecorded = [this](size_t record) {
    return nlohmann::json::parse(Records().at(record).payload).value("unrecorded_refusals", 0);
  };
  for (int i = 0; i < 5000; ++i) Ask(refused);
  ASSERT_EQ(Records().size(), size_t{kRefusalsAtOnce});
  EXPECT_EQ(unrecorded(kRefusalsAtOnce - 1), 0);

  // What runs is recorded whatever the flood, and says how many refusals were not.
  Ask(absl::OkStatus(), "ann", /*begins=*/true);
  ASSERT_EQ(Records().size(), size_t{kRefusalsAtOnce} + 2);
  EXPECT_EQ(unrecorded(kRefusalsAtOnce), 5000 - kRefusalsAtOnce);
  EXPECT_EQ(unrecorded(kRefusalsAtOnce + 1), 0);

  now_ += kRefusalInterval;
  for (int i = 0; i < 10; ++i) Ask(refused);
  ASSERT_EQ(Records().size(), size_t{kRefusalsAtOnce} + 3) << "one more in each interval";
  now_ += absl::Hours(24);
  for (int i = 0; i < 2 * kRefusalsAtOnce; ++i) Ask(refused);
  EXPECT_EQ(Records().size(), size_t{2 * kRefusalsAtOnce} + 3);
  EXPECT_EQ(unrecorded(kRefusalsAtOnce + 3), 9);
}

TEST_F(AdminActionTest, WhatRanIsRecordedWithAllThatWasAsked) {
  request_.set_reason(std::string(100 << 10, 'x'));
  Ask(absl::InvalidArgumentError("found out half-way"), "ann", /*begins=*/true);
  const std::vector<ReadRecord> records = Records();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(nlohmann::json::parse(records[0].payload)["request"]["reason"], request_.reason());
  const auto outcome = nlohmann::json::parse(records[1].payload);
  EXPECT_EQ(outcome["outcome_of"], records[0].position);
  EXPECT_EQ(outcome["result"]["code"], "INVALID_ARGUMENT");
}

}  // namespace
}  // namespace icepie::server
