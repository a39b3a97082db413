// The Merkle tree that is kept with the commits.
#include "tests/core/stored_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include <random>

#include "core/base/status.h"
#include "core/log/catalog_keys.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

using testing::HasSubstr;

class StoredTreeTest : public testing::Test {
 protected:
  StoredTreeTest() : path_(directory_.path() + "/core") {}

  std::unique_ptr<Core> Open(bool merkle_tree) {
    CoreOptions options;
    options.directory = path_;
    options.merkle_tree = merkle_tree;
    auto core = Core::Open(options);
    EXPECT_TRUE(core.ok()) << core.status();
    ICEPIE_CHECK(core.ok());
    EXPECT_EQ((*core)->ReadOnlyCause(), "");
    EXPECT_TRUE((*core)->CreateStream("a", PayloadFormat::kJson).ok());
    EXPECT_TRUE((*core)->CreateStream("b", PayloadFormat::kBytes).ok());
    return std::move(core).value();
  }

  // `count` records of both streams, with all that a record can have.
  void Append(Core& core, int64_t count) {
    AppendBatch batch;
    for (int64_t i = 0; i < count; ++i) {
      NewRecord record =
          MakeRecord(random_() % 4 == 0 ? "b" : "a", "{\"n\":" + std::to_string(i) + "}");
      if (random_() % 2 == 0) record.key = "key " + std::to_string(i % 7);
      if (random_() % 2 == 0) record.event_time_us = static_cast<int64_t>(random_() % 1000000);
      if (random_() % 5 == 0) record.headers = {{"source", "test"}, {"n", std::to_string(i)}};
      batch.records.push_back(std::move(record));
    }
    const auto result = core.AppendAndWait(std::move(batch));
    ASSERT_TRUE(result.ok()) << result.status();
  }

  // The log as it was before there was a tree: without the family.
  void DropTree() {
    std::vector<std::string> names;
    const std::string log = path_ + "/rocksdb";
    ASSERT_TRUE(rocksdb::DB::ListColumnFamilies({}, log, &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const std::string& name : names)
      families.emplace_back(name, rocksdb::ColumnFamilyOptions());
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open({}, log, families, &handles, &db).ok());
    for (rocksdb::ColumnFamilyHandle* handle : handles) {
      if (handle->GetName() == "tree") ASSERT_TRUE(db->DropColumnFamily(handle).ok());
    }
    for (rocksdb::ColumnFamilyHandle* handle : handles) {
      ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
    }
    delete db;
  }

  void ExpectReadOnly(const std::string& cause) {
    const std::unique_ptr<Core> core = OpenCore(path_);
    EXPECT_THAT(core->ReadOnlyCause(), HasSubstr(cause));
    EXPECT_EQ(ErrorReason(core->AppendAndWait(NumberedBatch("a", 0, 1)).status()),
              "CORE_READ_ONLY");
    EXPECT_GT(ReadAll(*core).size(), 0u);
  }

  TempDirectory directory_;
  const std::string path_;
  std::mt19937 random_{7};
};

TEST_F(StoredTreeTest, FollowsEveryCommitAndRestart) {
  // Large batches are hashed and compressed by their caller, small ones share blocks.
  for (const int64_t count : {1, 3, 254, 1, 5000, 2, 60'000}) {
    std::unique_ptr<Core> core = Open(true);
    Append(*core, count);
    ExpectStoredTreeOf(std::move(core), path_);
    if (HasFailure()) return;
  }
}

TEST_F(StoredTreeTest, ARefusedBatchLeavesNoLeaf) {
  std::unique_ptr<Core> core = Open(true);
  AppendBatch wrong = NumberedBatch("a", 0, 2);
  wrong.conditions.push_back({"a", 17});
  EXPECT_FALSE(core->AppendAndWait(std::move(wrong)).ok());
  Append(*core, 10);
  ExpectStoredTreeOf(std::move(core), path_);
}

TEST_F(StoredTreeTest, ALogFromBeforeTheTreeGetsOne) {
  {
    std::unique_ptr<Core> core = Open(false);
    for (int i = 0; i < 40; ++i) Append(*core, 50);
  }
  DropTree();
  ExpectStoredTreeOf(Open(true), path_);
}

TEST_F(StoredTreeTest, AnInterruptedBuildGoesOn) {
  {
    std::unique_ptr<Core> core = Open(true);
    Append(*core, 700);
  }
  std::vector<TileRun> runs;
  {  // Two commits of another life of the log: the tree of its first 300 records is there.
    const auto store = OpenLog(path_, LogStore::Mode::kReadWrite);
    runs = *store->ReadTreeRuns(0, 0, 1000);
    TileChanges half;
    for (const TileRun& run : runs) half.erase.emplace_back(run.level, run.first);
    const std::vector<TileRun> above = *store->ReadTreeRuns(1, 0, 1000);
    for (const TileRun& run : above) half.erase.emplace_back(run.level, run.first);
    TileWriter writer;
    std::string all;
    for (const TileRun& run : runs) all += run.hashes;
    for (int i = 0; i < 300; ++i)
      writer.Append(DigestFrom(all.substr(i * kDigestBytes, kDigestBytes)));
    ASSERT_TRUE(store->ChangeTree(half, {}).ok());
    const LogStore::CatalogChange mark{std::string(kTreeKeyPrefix) + "building", "1"};
    ASSERT_TRUE(store->ChangeTree(writer.TakeChanges(), {&mark, 1}).ok());
  }
  ExpectStoredTreeOf(Open(true), path_);
  EXPECT_TRUE(OpenLog(path_)->ScanCatalog(kTreeKeyPrefix)->empty());
}

TEST_F(StoredTreeTest, ATreeThatLostLeavesMakesTheCoreReadOnly) {
  {
    std::unique_ptr<Core> core = Open(true);
    Append(*core, 10);
    Append(*core, 20);
  }
  {
    const auto store = OpenLog(path_, LogStore::Mode::kReadWrite);
    ASSERT_TRUE(store->ChangeTree({{}, {{0, 10}}}, {}).ok());
  }
  ExpectReadOnly("the Merkle tree has 10 leaves, the log has 30 records");
}

TEST_F(StoredTreeTest, ATreeWithAHoleMakesTheCoreReadOnly) {
  {
    std::unique_ptr<Core> core = Open(true);
    Append(*core, 10);
    Append(*core, 20);
  }
  {
    const auto store = OpenLog(path_, LogStore::Mode::kReadWrite);
    ASSERT_TRUE(store->ChangeTree({{}, {{0, 0}}}, {}).ok());
  }
  ExpectReadOnly("hashes are missing");
}

TEST_F(StoredTreeTest, ATreeIsNotLeftBehind) {
  {
    std::unique_ptr<Core> core = Open(true);
    Append(*core, 10);
  }
  CoreOptions options;
  options.directory = path_;
  options.merkle_tree = false;
  EXPECT_EQ(Core::Open(options).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
}

}  // namespace
}  // namespace icepie
