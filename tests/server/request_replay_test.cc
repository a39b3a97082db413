#include "server/request_replay.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

class RequestReplayTest : public ::testing::Test {
 protected:
  bool Begin(const std::string& id, const std::string& request) {
    return replay_.Begin(id, request, [this](const RequestReplay::Answer& answer) {
      answers_.push_back(answer.ok() ? *answer : ErrorReason(answer.status()));
    });
  }

  absl::Time now_ = absl::UnixEpoch();
  RequestReplay replay_{[this] { return now_; }};
  std::vector<std::string> answers_;
};

TEST_F(RequestReplayTest, TheFirstAnswerIsGivenAgain) {
  EXPECT_TRUE(Begin("a", "freeze"));
  EXPECT_FALSE(Begin("a", "freeze"));  // waits
  EXPECT_TRUE(answers_.empty());
  EXPECT_TRUE(Begin("b", "freeze"));
  replay_.Finish("a", std::string("frozen"));
  EXPECT_FALSE(Begin("a", "freeze"));
  EXPECT_FALSE(Begin("a", "thaw"));
  EXPECT_EQ(answers_, (std::vector<std::string>{"frozen", "frozen", "REQUEST_ID_REUSED"}));
}

TEST_F(RequestReplayTest, WhatFailedIsTriedAnew) {
  EXPECT_TRUE(Begin("a", "x"));
  EXPECT_FALSE(Begin("a", "x"));
  replay_.Finish("a", MakeError(absl::StatusCode::kUnavailable, "no", "NO"));
  EXPECT_EQ(answers_, std::vector<std::string>{"NO"});
  EXPECT_TRUE(Begin("a", "y"));
}

TEST_F(RequestReplayTest, AnswersAreForgottenByAgeNumberAndSize) {
  EXPECT_FALSE(Begin(std::string(129, 'a'), "x"));
  EXPECT_EQ(answers_, std::vector<std::string>{"PARAMETER_INVALID"});
  EXPECT_TRUE(Begin("old", "x"));
  replay_.Finish("old", std::string("1"));
  now_ += kReplayAge;
  EXPECT_FALSE(Begin("old", "x"));
  now_ += absl::Seconds(1);
  EXPECT_TRUE(Begin("old", "x"));
  replay_.Finish("old", std::string("1"));
  for (size_t i = 0; i < kReplaysMax; ++i) {
    ASSERT_TRUE(Begin(absl::StrCat(i), "x"));
    replay_.Finish(absl::StrCat(i), std::string("1"));
  }
  EXPECT_FALSE(Begin("0", "x"));
  EXPECT_TRUE(Begin("old", "x"));  // one too many
  ASSERT_TRUE(Begin("large", "x"));
  replay_.Finish("large", std::string(kReplayBytesMax, 'x'));
  EXPECT_TRUE(Begin("0", "x"));
}

}  // namespace
}  // namespace icepie::server
