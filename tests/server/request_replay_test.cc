#include "server/admin/request_replay.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

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
  RequestReplay replay_{nullptr, [this] { return now_; }};
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

TEST(StoredAnswersTest, AreThereAfterARestartUntilTheyAreTooOld) {
  TempDirectory directory;
  const auto core = OpenCore(directory.path() + "/core");
  absl::Time now = absl::FromUnixSeconds(1000);
  const auto clock = [&now] { return now; };
  const auto ask = [](RequestReplay& replay, const std::string& id, const std::string& request) {
    std::string answer = "first";
    replay.Begin(id, request, [&answer](const RequestReplay::Answer& given) {
      answer = given.ok() ? *given : ErrorReason(given.status());
    });
    return answer;
  };
  {
    RequestReplay replay(core.get(), clock);
    now += absl::Hours(1);
    EXPECT_EQ(ask(replay, "a/b", "freeze"), "first");
    replay.Finish("a/b", std::string("frozen"));
    EXPECT_EQ(ask(replay, "large", "x"), "first");
    replay.Finish("large", std::string(kStoredAnswerBytesMax + 1, 'x'));
    EXPECT_EQ(ask(replay, "failed", "x"), "first");
    replay.Finish("failed", MakeError(absl::StatusCode::kUnavailable, "no", "NO"));
  }
  now = absl::UnixEpoch();  // a machine that was started anew
  RequestReplay again(core.get(), clock);
  now += kReplayAge;
  EXPECT_EQ(ask(again, "a/b", "freeze"), "frozen");
  EXPECT_EQ(ask(again, "a/b", "thaw"), "REQUEST_ID_REUSED");
  EXPECT_EQ(ask(again, "large", "x"), "first") << "too large to be kept";
  EXPECT_EQ(ask(again, "failed", "x"), "first");
  now += absl::Seconds(1);
  EXPECT_EQ(ask(again, "c", "x"), "first");
  again.Finish("c", std::string("1"));
  EXPECT_EQ(core->ScanCatalog("request/")->size(), 1u) << "what is forgotten is not kept";
}

}  // namespace
}  // namespace icepie::server
