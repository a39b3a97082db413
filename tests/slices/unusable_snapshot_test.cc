// Snapshots over which DuckDB breaks though nothing is wrong with them, as a version with a mistake
// would do with all of them: they stay, and who can answer from them does.
#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "core/base/file.h"
#include "gtest/gtest.h"
#include "slices/role/standby_engine.h"
#include "tests/slices/failing_duckdb.h"
#include "tests/slices/snapshot_fixture.h"

namespace icepie::slices {
namespace {

class UnusableSnapshotTest : public SnapshotFixture {
 protected:
  ~UnusableSnapshotTest() override { fails_with_text = nullptr; }

  // For processes that are to end.
  EngineOptions Ending() {
    EngineOptions options = Options();
    ended_ = false;
    options.on_fatal = [this](const std::string& /*why*/) { ended_ = true; };
    return options;
  }
  bool Ended() const {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (!ended_ && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(2));
    return ended_;
  }

  std::string TotalOf(StandbyEngine& standby) {
    standby.Configure(Assignment{"shop", 1, {HashedSpec()}, {}});
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (standby.Report().epoch < 1 && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(2));
    }
    Question question;
    question.text = "SELECT total FROM by_city";
    const auto answer = Ask(standby, question);
    return answer.ok() ? answer->rows.body : std::string(answer.status().message());
  }

  std::atomic<bool> ended_{false};
};

TEST_F(UnusableSnapshotTest, ALiveWorkerThatBreaksOverAllOfThemTakesNoneAway) {
  MakeSnapshots();
  const std::vector<std::string> paths = store_.List("by_city", 1);
  ASSERT_EQ(paths.size(), 3u);
  fails_with_text = "COPY FROM DATABASE \"from_";
  for (size_t i = 0; i < paths.size(); ++i) {
    auto live = LiveEngine::Start(Ending(), feed_);
    ASSERT_TRUE(live.ok()) << live.status();
    (*live)->Configure(Assignment{"shop", 1, {HashedSpec()}, {}});
    ASSERT_TRUE(Ended()) << i;
  }
  EXPECT_EQ(store_.List("by_city", 1), paths);
  for (const std::string& path : paths) {
    EXPECT_FALSE(store_.IsUsable(path, SnapshotUse::kRestore));
    EXPECT_TRUE(store_.IsUsable(path, SnapshotUse::kServe));
  }
  auto standby = StandbyEngine::Start(Options()).value();
  EXPECT_EQ(TotalOf(*standby), R"([{"total":3}])");
  standby.reset();
  StartLive();  // from raw; what it saves takes the place of one that could not be read
  Configure({HashedSpec()});
  WaitForPosition("by_city", 3);
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":3}])");
  engine_->Shutdown();
  EXPECT_TRUE(store_.IsUsable(paths.front(), SnapshotUse::kRestore));
}

TEST_F(UnusableSnapshotTest, AStandbyThatBreaksOverAllOfThemTriesAgainLater) {
  MakeSnapshots();
  const std::vector<std::string> paths = store_.List("by_city", 1);
  fails_with_text = "(READ_ONLY)";
  for (size_t i = 0; i < paths.size(); ++i) {
    auto standby = StandbyEngine::Start(Ending()).value();
    standby->Configure(Assignment{"shop", 1, {HashedSpec()}, {}});
    ASSERT_TRUE(Ended()) << i;
  }
  {
    auto standby = StandbyEngine::Start(Options()).value();
    EXPECT_TRUE(absl::StrContains(TotalOf(*standby), "no complete state")) << TotalOf(*standby);
  }
  EXPECT_EQ(store_.List("by_city", 1), paths);
  fails_with_text = nullptr;
  for (const std::string& path : paths) {
    EXPECT_FALSE(store_.IsUsable(path, SnapshotUse::kServe));
    EXPECT_FALSE(store_.IsUsable(path, SnapshotUse::kRestore));
    const std::string stem = store_.AbsolutePath(path.substr(0, path.rfind('.')));
    std::filesystem::last_write_time(
        stem + ".unservable",
        std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  }
  auto standby = StandbyEngine::Start(Options()).value();
  EXPECT_EQ(TotalOf(*standby), R"([{"total":3}])");
}

TEST_F(UnusableSnapshotTest, WhatAnotherVersionOfDuckDbCouldNotReadIsTried) {
  MakeSnapshots();
  const std::string newest = store_.List("by_city", 1).front();
  ASSERT_TRUE(store_.NoteUnusable(newest, SnapshotUse::kServe, absl::InternalError("x")).ok());
  EXPECT_EQ(store_.NewestGood("by_city", 1, "")->progress.applied_position, 2);
  const std::string mark = store_.AbsolutePath(newest.substr(0, newest.rfind('.'))) + ".unservable";
  ASSERT_TRUE(WriteFileAtomically(mark, "DuckDB v0.0.1\nINTERNAL: x\n").ok());
  EXPECT_EQ(store_.NewestGood("by_city", 1, "")->progress.applied_position, 3);
}

}  // namespace
}  // namespace icepie::slices
