#include "slices/snapshot_store.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "gtest/gtest.h"
#include "tests/slices/engine_fixture.h"

namespace icepie::slices {
namespace {

class SnapshotStoreTest : public EngineFixture {
 protected:
  // Three snapshots of by_city, at positions 1, 2 and 3.
  void MakeSnapshots() {
    for (int i = 0; i < 3; ++i) {
      const int64_t position = feed_.Append("orders", {Order("Bern", 1)});
      StartLive();
      Configure({Spec("by_city")});
      WaitForPosition("by_city", position);
      engine_->Shutdown();
    }
    engine_.reset();
  }

  void FlipByte(const std::string& path) {
    std::fstream file(store_.AbsolutePath(path), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(5000);
    const int byte = file.get();
    file.seekp(5000);
    file.put(static_cast<char>(byte ^ 1));
  }

  SnapshotStore store_{directory_, 3};
};

TEST_F(SnapshotStoreTest, TheNewestGoodOneIsFound) {
  MakeSnapshots();
  const auto newest = store_.NewestGood("by_city", 1, "");
  ASSERT_TRUE(newest.ok()) << newest.status();
  EXPECT_EQ(newest->progress.applied_position, 3);
  EXPECT_EQ(newest->rows, 1);
  EXPECT_EQ(newest->info.columns.size(), 3u);
  EXPECT_EQ(newest->info.key, std::vector<std::string>({"city"}));
  EXPECT_EQ(store_.NewestGood("by_city", 2, "").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_.NewestGood("by_city", 1, "another").status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(SnapshotStoreTest, OnlyCopiesOfEndedProcessesAreRemoved) {
  ASSERT_TRUE(store_.Prepare().ok());
  const std::string tmp = directory_ + "/tmp/snapshot-";
  const std::string living = tmp + std::to_string(::getppid()) + "-1.duckdb";
  const std::string ended = tmp + "999999999-1.duckdb";                     // beyond any process id
  const std::string own = tmp + std::to_string(::getpid()) + "-77.duckdb";  // of an earlier process
  for (const std::string& file : {living, ended, own}) std::ofstream(file) << "half";
  ASSERT_TRUE(store_.Prepare().ok());
  EXPECT_TRUE(std::filesystem::exists(living)) << "another worker of the domain is saving";
  EXPECT_FALSE(std::filesystem::exists(ended));
  EXPECT_FALSE(std::filesystem::exists(own));
}

TEST_F(SnapshotStoreTest, ADamagedOneIsPassedOverAndTheSliceReplaysFromTheOlder) {
  MakeSnapshots();
  FlipByte(store_.List("by_city", 1).front());
  EXPECT_EQ(store_.Check(store_.List("by_city", 1).front()).status().code(),
            absl::StatusCode::kDataLoss);
  const auto older = store_.NewestGood("by_city", 1, "");
  ASSERT_TRUE(older.ok()) << older.status();
  EXPECT_EQ(older->progress.applied_position, 2);
  StartLive();
  Configure({Spec("by_city")});
  EXPECT_EQ(WaitForPosition("by_city", 3).progress.input, 3);
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":3}])");
}

TEST_F(SnapshotStoreTest, TornManifestsAndMissingFilesArePassedOver) {
  MakeSnapshots();
  const std::vector<std::string> paths = store_.List("by_city", 1);
  ASSERT_EQ(paths.size(), 3u);
  std::filesystem::remove(store_.AbsolutePath(paths[0]));
  std::string manifest = store_.AbsolutePath(paths[1]);
  manifest.replace(manifest.size() - 7, 7, ".json");
  std::filesystem::resize_file(manifest, 40);
  const auto oldest = store_.NewestGood("by_city", 1, "");
  ASSERT_TRUE(oldest.ok()) << oldest.status();
  EXPECT_EQ(oldest->progress.applied_position, 1);
}

TEST_F(SnapshotStoreTest, OldOnesGoAndLeftoversAreCleaned) {
  for (int round = 0; round < 2; ++round) MakeSnapshots();
  EXPECT_EQ(store_.List("by_city", 1).size(), 3u);
  const std::string leftover = directory_ + "/tmp/snapshot-999999999-1.duckdb";
  ASSERT_TRUE(WriteFileAtomically(leftover, "torn").ok());
  ASSERT_TRUE(store_.Prepare().ok());
  EXPECT_FALSE(std::filesystem::exists(leftover));
}

}  // namespace
}  // namespace icepie::slices
