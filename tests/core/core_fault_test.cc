// Each change of the disk that the write path makes fails once, in turn. What was acknowledged is
// there afterwards.
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
#include "tests/core/failing_calls.h"
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

// A segment as soon as there is anything to seal.
SealingOptions SealingAtOnce() {
  SealingOptions sealing = SmallSegments();
  sealing.segment_bytes = 1;
  sealing.hot_bytes_min = 1;
  sealing.retry_delay = absl::Milliseconds(1);
  return sealing;
}

// Appends, signs and waits for the first segment. Ends where the core becomes read-only.
void AppendUntilSealed(Core& core, int64_t* acknowledged) {
  for (int i = 0; i < 3; ++i) {
    const auto result = core.AppendAndWait(NumberedBatch("a", *acknowledged, 3));
    if (!result.ok()) {
      EXPECT_EQ(ErrorReason(result.status()), "CORE_READ_ONLY") << result.status();
      EXPECT_THAT(core.ReadOnlyCause(), HasSubstr("high-water mark"));
      return;
    }
    *acknowledged = result->end_position;
  }
  const auto checkpoint = core.proofs()->GetCheckpoint(*acknowledged, absl::Seconds(5));
  EXPECT_TRUE(checkpoint.ok() || FailingCalls::failed()) << checkpoint.status();
  EXPECT_TRUE(EventuallyInCore(
      [&] { return core.Storage().segment_count > 0 || core.ReadOnlyCause() != ""; }));
}

class CoreFaultTest : public testing::Test {
 protected:
  CoreFaultTest() : env_(rocksdb::NewCompositeEnv(file_system_)) {}

  // Opens twice, so that creating, appending and replaying are all in it. Ends at the first fault.
  void OpenAndAppend(const std::string& directory, int64_t* acknowledged) {
    for (int start = 0; start < 2; ++start) {
      const auto core = Open(directory, env_.get());
      if (!core.ok()) return;
      if ((*core)->ReadOnlyCause() != "") return;
      if (!(*core)->CreateStream("a", PayloadFormat::kJson).ok()) return ExpectRefusing(**core);
      int64_t next = (*core)->GetStream("a")->end_offset;
      for (int i = 0; i < 4; ++i) {
        const auto result = (*core)->AppendAndWait(NumberedBatch("a", next, 3));
        if (!result.ok()) {
          EXPECT_EQ(ErrorReason(result.status()), "LOG_SYNC_FAILED") << result.status();
          return ExpectRefusing(**core);
        }
        next = *acknowledged = result->streams[0].end_offset;
      }
    }
  }

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

// Tables are written, registered, copied, compacted and removed while the core runs. Whatever fails
// in it, records that were acknowledged stay, appends go on or are refused by name, and reading
// goes on.
class TableFaultTest : public CoreFaultTest {
 protected:
  static constexpr int kBackups = 6;  // each writes tables; more than RocksDB leaves unmerged

  // What fails of it is the backup's or RocksDB's; nobody dies of it.
  void AppendAndFlush(Core& core, const std::string& directory, int64_t* acknowledged) {
    for (int i = 0; i < kBackups; ++i) {
      const auto result = core.AppendAndWait(NumberedBatch("a", *acknowledged, 3));
      if (!result.ok()) {
        EXPECT_EQ(ErrorReason(result.status()), "LOG_SYNC_FAILED") << result.status();
        return ExpectRefusing(core);
      }
      *acknowledged = result->end_position;
      // Every table has these keys, so that tables must be merged and not only moved.
      const std::string round = std::to_string(i);
      if (!core.ChangeCatalog({{"a", round}, {"z", round}}).ok()) return ExpectRefusing(core);
      const std::string target = directory + "/backup" + std::to_string(i);
      const auto backup = core.BackUpTo(target, [](int64_t, int64_t) { return true; });
      EXPECT_TRUE(backup.ok() || file_system_->failed()) << backup.status();
    }
    // Merged in the background, unless that is what failed.
    EXPECT_TRUE(EventuallyInCore(
        [&] { return file_system_->made().count("delete .sst") > 0 || file_system_->failed(); }));
  }

  // Whether the fault was met at all.
  bool Run(const std::string& directory, const std::string& kind, int64_t n, bool full) {
    const std::string core_directory = directory + "/data/core";
    int64_t acknowledged = 0;
    {
      const auto core = Open(core_directory, env_.get());
      EXPECT_TRUE(core.ok() && (*core)->CreateStream("a", PayloadFormat::kJson).ok());
      file_system_->FailKind(kind, n, full);
      AppendAndFlush(**core, directory, &acknowledged);
      EXPECT_EQ(static_cast<int64_t>(ReadAll(**core, {"a"}).size()), (*core)->head_position());
    }
    const bool failed = file_system_->failed();
    made_ = file_system_->made();
    file_system_->FailAt(0);
    ExpectWhole(core_directory, acknowledged);
    return failed;
  }

  std::map<std::string, int64_t> made_;
};

TEST_F(TableFaultTest, EveryKindOfChangeOfTablesAndManifestMayFail) {
  const SmallDisk disk(kDiskBytes);
  int runs = 0;
  const auto run = [&](const std::string& kind, int64_t n, bool full) {
    SCOPED_TRACE(kind + " " + std::to_string(n) + (full ? " ENOSPC" : " EIO"));
    const std::string directory = disk.path() + "/" + std::to_string(++runs);
    std::filesystem::create_directories(directory + "/data");
    const bool failed = Run(directory, kind, n, full);
    std::filesystem::remove_all(directory);
    return failed;
  };
  run("none", 1, false);
  const std::map<std::string, int64_t> kinds = made_;
  for (const char* kind :
       {"create .sst", "append .sst", "sync .sst", "close .sst", "delete .sst", "append MANIFEST",
        "sync MANIFEST", "create .log", "append .log", "sync .log", "close .log", "delete .log",
        "link .sst", "sync directory rocksdb"}) {
    EXPECT_EQ(kinds.count(kind), 1u) << kind;
  }
  const char* wanted = std::getenv("ICEPIE_TABLE_FAULTS");  // of each kind
  const int64_t most = wanted != nullptr ? std::atoi(wanted) : 1;
  for (const auto& [kind, count] : kinds) {
    for (int64_t n = 1; n <= std::min(count, most); ++n) {
      for (const bool full : {false, true}) {
        EXPECT_TRUE(run(kind, n, full) || n > 1) << kind << ": the fault was not met";
      }
    }
    if (HasFailure()) return;
  }
}

// The core's own files: segments, the high-water mark, checkpoints. A segment is tried again; what
// cannot be marked makes the core read-only.
TEST(OwnFileFaultTest, EveryKindOfSystemCallMayFail) {
  const SmallDisk disk(kDiskBytes);
  int runs = 0;
  const auto run = [&](const std::string& kind, int64_t n, int error) {
    SCOPED_TRACE(kind + " " + std::to_string(n) + " " + std::strerror(error));
    const std::string directory = disk.path() + "/" + std::to_string(++runs);
    int64_t acknowledged = 0;
    {
      const std::unique_ptr<Core> core = OpenCore(directory, SealingAtOnce());
      ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
      FailingCalls::Fail(kind, n, error, directory + "/", "/rocksdb/");
      AppendUntilSealed(*core, &acknowledged);
      FailingCalls::Stop();
      EXPECT_EQ(static_cast<int64_t>(ReadAll(*core).size()), core->head_position());
    }
    ExpectWhole(directory, acknowledged);
    std::filesystem::remove_all(directory);
  };
  run("none", 1, 0);
  const std::map<std::string, int64_t> kinds = FailingCalls::made();
  for (const char* kind : {"open segments", "write segments", "fsync segments", "rename segments",
                           "unlink segments", "pwrite high_water_mark", "open checkpoint",
                           "write checkpoint", "fsync checkpoint", "rename checkpoint"}) {
    EXPECT_EQ(kinds.count(kind), 1u) << kind;
  }
  for (const auto& [kind, count] : kinds) {
    run(kind, 1, runs % 2 == 0 ? EIO : ENOSPC);
    EXPECT_TRUE(FailingCalls::failed()) << kind << ": the fault was not met";
    if (testing::Test::HasFailure()) return;
  }
}

TEST_F(CoreFaultTest, EveryChangeOfTheDiskMayFail) {
  const SmallDisk disk(kDiskBytes);  // not for its size, but because nothing waits for it
  int64_t k = 1;
  for (; k < 1000; ++k) {
    const std::string directory = disk.path() + "/" + std::to_string(k);
    int64_t acknowledged = 0;
    file_system_->FailAt(k);
    OpenAndAppend(directory, &acknowledged);
    SCOPED_TRACE(std::to_string(k) + ": " + file_system_->failed_what());
    const bool failed = file_system_->failed();
    file_system_->FailAt(0);
    ExpectWhole(directory, acknowledged);
    std::filesystem::remove_all(directory);
    if (HasFailure()) return;
    if (!failed) break;
  }
  EXPECT_LT(k, 1000);
  for (const char* kind : {"create directory rocksdb",
                           "lock LOCK",
                           "create .log",
                           "append .log",
                           "sync .log",
                           "close .log",
                           "delete .log",
                           "create .sst",
                           "append .sst",
                           "sync .sst",
                           "close .sst",
                           "create MANIFEST",
                           "append MANIFEST",
                           "sync MANIFEST",
                           "close MANIFEST",
                           "delete MANIFEST",
                           "create .dbtmp",
                           "append .dbtmp",
                           "sync .dbtmp",

                           "rename CURRENT",
                           "rename OPTIONS",
                           "delete OPTIONS",
                           "sync directory rocksdb"}) {
    EXPECT_EQ(file_system_->failed_kinds().count(kind), 1u) << kind;
  }
}

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
