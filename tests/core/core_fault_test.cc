// A disk that fails for good, or for a while: nothing is written on what has failed, what can be
// read is, and what was acknowledged is there afterwards. every_call_test.cc has single faults.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>

#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/log_store.h"
#include "tests/core/core_testing.h"
#include "tests/core/failing_file_system.h"
#include "tests/core/small_disk.h"

namespace icepie {
namespace {

using testing::HasSubstr;

constexpr int64_t kDiskBytes = int64_t{256} << 20;

absl::StatusOr<std::unique_ptr<Core>> Open(const std::string& directory, rocksdb::Env* env) {
  CoreOptions options;
  options.directory = directory;
  options.env = env;
  return Core::Open(options);
}

// Everything acknowledged is there, whole and in order.
void ExpectWhole(const std::string& directory, int64_t acknowledged) {
  const auto core = Open(directory, nullptr);
  ASSERT_TRUE(core.ok()) << core.status();
  ASSERT_EQ((*core)->ReadOnlyCause(), "");
  const std::vector<ReadRecord> records = ReadAll(**core, {"a"});
  ASSERT_GE(static_cast<int64_t>(records.size()), acknowledged);
  for (size_t i = 0; i < records.size(); ++i) {
    ASSERT_EQ(records[i].offset, static_cast<int64_t>(i));
    ASSERT_EQ(records[i].payload, "{\"n\":" + std::to_string(i) + "}");
  }
}

class CoreFaultTest : public testing::Test {
 protected:
  CoreFaultTest() : env_(rocksdb::NewCompositeEnv(file_system_)) {}

  // After a failed write nothing is taken any more, and the cause names it.
  void ExpectRefusing(Core& core) {
    EXPECT_THAT(core.ReadOnlyCause(), HasSubstr("injected E"));
    const int64_t changes = file_system_->changes();
    EXPECT_EQ(ErrorReason(core.AppendAndWait(NumberedBatch("a", 0, 1)).status()), "CORE_READ_ONLY");
    EXPECT_EQ(ErrorReason(core.ChangeCatalog({{"k", "v"}})), "CORE_READ_ONLY");
    EXPECT_EQ(file_system_->changes(), changes) << "the disk was tried again";
  }

  const std::shared_ptr<FailingFileSystem> file_system_ = std::make_shared<FailingFileSystem>();
  const std::unique_ptr<rocksdb::Env> env_;
};

// Another program takes the disk's last byte behind our back and gives it back: RocksDB would go on
// by itself, behind what its log did not get.
TEST_F(CoreFaultTest, ALogThatMetAFullDiskIsNotWrittenAgain) {
  const TempDirectory directory;
  {
    const auto core = Open(directory.path(), env_.get());
    ASSERT_TRUE(core.ok()) << core.status();
    ASSERT_TRUE((*core)->CreateStream("a", PayloadFormat::kJson).ok());
    ASSERT_TRUE((*core)->AppendAndWait(NumberedBatch("a", 0, 5)).ok());
    file_system_->SetFull(true);
    EXPECT_EQ(ErrorReason((*core)->AppendAndWait(NumberedBatch("a", 5, 1)).status()),
              "LOG_SYNC_FAILED");
    file_system_->SetFull(false);
    ExpectRefusing(**core);
    EXPECT_EQ(ReadAll(**core).size(), 5u);
  }  // closing waits for what RocksDB does in the background
  int appends = 0;
  for (const std::string& change : file_system_->tried()) {
    EXPECT_THAT(change, testing::Not(testing::StartsWith("create")));
    const bool closes = testing::Value(change, testing::StartsWith("close"));
    appends += !closes && testing::Value(change, HasSubstr(".log")) ? 1 : 0;
  }
  EXPECT_EQ(appends, 1) << "the log was tried again";
  ExpectWhole(directory.path(), 5);
}

// With nothing in memory RocksDB, resuming, would keep the log that has failed, and abort the
// process at the next write.
TEST_F(CoreFaultTest, AFreshLogThatMetAFullDiskTakesNothingMore) {
  const TempDirectory directory;
  const auto store =
      *LogStore::Open({directory.path() + "/log", LogStore::Mode::kReadWrite, env_.get()});
  const std::vector<LogStore::CatalogChange> change = {{"k", "v"}};
  file_system_->SetFull(true);
  EXPECT_FALSE(store->ChangeCatalog(change).ok());
  file_system_->SetFull(false);
  const absl::Time end = SteadyNow() + absl::Milliseconds(500);
  while (SteadyNow() < end) ASSERT_FALSE(store->ChangeCatalog(change).ok());
  EXPECT_EQ(*store->ReadCatalog("k"), std::nullopt);
}

// A log counts only when its directory is synced. RocksDB, resuming after a full disk, would give
// up the log for those column families that it flushes, and replay it for the others at the next
// start.
TEST_F(CoreFaultTest, AFailedSyncOfTheLogsDirectoryIsFinal) {
  const LogEntry entry = {{0, 1, 0, 1, 0}, "a block"};
  const std::vector<LogStore::CatalogChange> change = {{"k", "v"}};
  for (const bool full : {true, false}) {
    SCOPED_TRACE(full ? "ENOSPC" : "EIO");
    const TempDirectory directory;
    {
      const auto store =
          *LogStore::Open({directory.path() + "/log", LogStore::Mode::kReadWrite, env_.get()});
      file_system_->FailKind("sync directory log", 1, full);
      const absl::Status refused = store->Commit({&entry, 1}, {}, change);
      EXPECT_THAT(std::string(refused.message()), HasSubstr("sync directory"));
      const absl::Time end = SteadyNow() + absl::Milliseconds(500);
      while (SteadyNow() < end) ASSERT_FALSE(store->Commit({&entry, 1}, {}, change).ok());
    }
    file_system_->FailAt(0);
    const auto store =
        *LogStore::Open({directory.path() + "/log", LogStore::Mode::kReadWrite, env_.get()});
    EXPECT_EQ(store->LastPlace()->has_value(), store->ReadCatalog("k")->has_value()) << "a half";
  }
}

// What was sealed is dropped by compactions that leave nothing: RocksDB aborts the process when it
// cannot write the table that holds nothing (core/table_file_system.h).
TEST_F(CoreFaultTest, ACompactionThatCannotWriteEndsNoProcess) {
  const SmallDisk disk(kDiskBytes);
  bool met = true;
  for (int n = 1; met; ++n) {
    SCOPED_TRACE(n);
    const std::string directory = absl::StrCat(disk.path(), "/", n);
    std::filesystem::create_directories(directory);
    auto store =
        LogStore::Open({directory + "/log", LogStore::Mode::kReadWrite, env_.get()}).value();
    for (int64_t i = 0; i < 5; ++i) {
      if (i == 3) file_system_->FailKind("append .sst", n, /*full=*/n % 2 == 0);
      // Of the same place each time: tables that do not overlap would only be moved.
      const LogEntry entry = {{0, 1, 0, 1, 0}, "a block"};
      const LogStore::SealedRange sealed = {{"g", "s"}, 0, 1, {{1, 0, 1}}};
      const bool written = store->Commit({&entry, 1}, {}, {}).ok() &&
                           store->DropSealed(sealed).ok() &&
                           store->CopyTo(absl::StrCat(directory, "/copy", i)).ok();  // flushes
      ASSERT_TRUE(written || file_system_->failed());
      if (!written) break;
    }
    const auto merged = [this] { return file_system_->made().count("delete .sst") > 0; };
    ASSERT_TRUE(EventuallyInCore([&] { return merged() || file_system_->failed(); }));
    store.reset();  // waits for what is under way
    met = file_system_->failed();
    file_system_->FailAt(0);
    ASSERT_TRUE(LogStore::Open({directory + "/log", LogStore::Mode::kReadWrite}).ok());
    std::filesystem::remove_all(directory);
    ASSERT_TRUE(met || n > 5) << "the compactions were not met";
  }
}

// Nobody has to append to learn that RocksDB takes nothing more; a full disk it gets over by
// itself.
TEST_F(CoreFaultTest, AFlushThatFailsMakesTheCoreReadOnlyAtOnce) {
  for (const bool full : {true, false}) {
    SCOPED_TRACE(full ? "ENOSPC" : "EIO");
    const TempDirectory directory;
    {
      const auto core = Open(directory.path() + "/data/core", env_.get());
      ASSERT_TRUE(core.ok()) << core.status();
      ASSERT_TRUE((*core)->CreateStream("a", PayloadFormat::kJson).ok());
      ASSERT_TRUE((*core)->AppendAndWait(NumberedBatch("a", 0, 5)).ok());
      file_system_->FailKind("append .sst", 1, full);
      // Flushes, and waits for what becomes of it.
      const absl::Status copied =
          (*core)
              ->BackUpTo(directory.path() + "/copy", [](int64_t, int64_t) { return true; })
              .status();
      EXPECT_TRUE(file_system_->failed());
      if (full) {
        EXPECT_EQ((*core)->ReadOnlyCause(), "");
      } else {
        EXPECT_FALSE(copied.ok());
        EXPECT_THAT((*core)->ReadOnlyCause(), HasSubstr("in the background"));
        ExpectRefusing(**core);
      }
      EXPECT_EQ(ReadAll(**core).size(), 5u);
    }
    file_system_->FailAt(0);
    ExpectWhole(directory.path() + "/data/core", 5);
  }
}

// The kernel remounts a damaged disk for reading only, while files are open for writing.
TEST_F(CoreFaultTest, ADiskThatBecomesReadOnlyIsStillRead) {
  const TempDirectory directory;
  {
    const auto core = Open(directory.path(), env_.get());
    ASSERT_TRUE(core.ok()) << core.status();
    ASSERT_TRUE((*core)->CreateStream("a", PayloadFormat::kJson).ok());
    ASSERT_TRUE((*core)->AppendAndWait(NumberedBatch("a", 0, 5)).ok());
    file_system_->BecomeReadOnly();
    EXPECT_EQ(ErrorReason((*core)->AppendAndWait(NumberedBatch("a", 5, 1)).status()),
              "LOG_SYNC_FAILED");
    ExpectRefusing(**core);
    EXPECT_THAT((*core)->ReadOnlyCause(), HasSubstr("Read-only file system"));
    EXPECT_EQ(ReadAll(**core).size(), 5u);
  }  // closes without aborting
  ExpectWhole(directory.path(), 5);
}

TEST(ReadOnlyStartTest, IsRefusedWithTheRemedyAndChangesNothing) {
  const SmallDisk disk(kDiskBytes);
  if (!disk.mounted()) GTEST_SKIP() << "no privilege to mount";
  const std::string directory = disk.path() + "/core";
  ASSERT_TRUE(Open(directory, nullptr).ok());
  ASSERT_EQ(::mount(nullptr, disk.path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
  const absl::Status refused = Open(directory, nullptr).status();
  EXPECT_EQ(ErrorReason(refused), "DATA_DIRECTORY_NOT_WRITABLE") << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("Read-only file system"));
  ASSERT_EQ(::mount(nullptr, disk.path().c_str(), nullptr, MS_REMOUNT, nullptr), 0);
  EXPECT_TRUE(Open(directory, nullptr).ok());
}

TEST(ReadOnlyStartTest, AnotherAccountsDirectoryIsRefusedToo) {
  const TempDirectory directory;
  const std::string core = directory.path() + "/core";
  ASSERT_TRUE(Open(core, nullptr).ok());
  ASSERT_EQ(::chmod(directory.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(core.c_str(), 0555), 0);
  ASSERT_EQ(::chmod((core + "/lock").c_str(), 0444), 0);
  constexpr uid_t kNobody = 65534;
  const bool is_root = ::geteuid() == 0;
  if (is_root) ASSERT_EQ(::seteuid(kNobody), 0);
  const absl::Status refused = Open(core, nullptr).status();
  if (is_root) ASSERT_EQ(::seteuid(0), 0);
  ASSERT_EQ(::chmod(core.c_str(), 0755), 0);
  EXPECT_EQ(ErrorReason(refused), "DATA_DIRECTORY_NOT_WRITABLE") << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("Permission denied"));
}

}  // namespace
}  // namespace icepie
