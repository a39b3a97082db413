// A disk that fails for good, or for a while: nothing is written on what has failed, what can be
// read is, and what was acknowledged is there afterwards. every_call_test.cc has single faults.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/log/disk_space.h"
#include "core/log/log_store.h"
#include "core/log/read_file_system.h"
#include "tests/core/core_testing.h"
#include "tests/core/failing_calls.h"
#include "tests/core/failing_file_system.h"
#include "tests/core/small_disk.h"

namespace icepie {
namespace {

using testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kDiskBytes = 256 * kMiB;

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
// cannot write the table that holds nothing (core/log/table_file_system.h).
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
  for (const int error : {ENOSPC, EDQUOT, EIO}) {
    SCOPED_TRACE(std::strerror(error));
    const bool full = error != EIO;
    file_system_->SayQuota(error == EDQUOT);
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

// The figure of free bytes does not know it.
TEST_F(CoreFaultTest, AQuotaThatIsUsedUpIsAFullDisk) {
  const TempDirectory directory;
  const std::string ballast = directory.path() + "/core/ballast";
  std::atomic<int64_t> free{1000 * kMiB};
  CoreOptions options;
  options.directory = directory.path() + "/core";
  options.env = env_.get();
  options.free_bytes_min = 40 * kMiB;
  options.ballast_bytes = kMiB;
  options.free_bytes = [&free](const std::string&) -> absl::StatusOr<int64_t> { return free; };
  file_system_->SayQuota(true);
  {
    const auto core = *Core::Open(options);
    ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
    ASSERT_TRUE(std::filesystem::exists(ballast));
    free = 45 * kMiB;  // enough for appends, too little to heal
    file_system_->FailKind("append .log", 1, /*full=*/true, /*in_part=*/true);
    const absl::Status met = core->AppendAndWait(NumberedBatch("a", 0, 5)).status();
    ASSERT_TRUE(met.ok()) << met;
    ASSERT_TRUE(file_system_->failed());
    EXPECT_FALSE(std::filesystem::exists(ballast));
    EXPECT_EQ(ErrorReason(core->AppendAndWait(NumberedBatch("a", 5, 1)).status()),
              "CORE_DISK_FULL");
    EXPECT_EQ(core->ReadOnlyCause(), "");
    FailingCalls::Fail("fallocate ballast", 1, EDQUOT, directory.path(), "no such path");
    free = 1000 * kMiB;
    ASSERT_TRUE(EventuallyInCore([&] { return !core->Disk().full; }));
    EXPECT_TRUE(FailingCalls::failed());
    FailingCalls::Stop();
    EXPECT_TRUE(std::filesystem::exists(ballast)) << "healed without room for it";
    EXPECT_TRUE(core->AppendAndWait(NumberedBatch("a", 5, 1)).ok());
  }
  file_system_->FailAt(0);
  ExpectWhole(directory.path() + "/core", 6);
}

TEST(DiskSpaceOfAQuotaTest, AWriteMayHaveMissedTheRoomThatTheBallastHasTried) {
  const TempDirectory directory;
  DiskSpace space({directory.path(), kMiB, kMiB, FreeBytesOf});
  FailingCalls::Fail("fallocate ballast", 1, EDQUOT, directory.path(), "no such path");
  space.Update();
  EXPECT_TRUE(FailingCalls::failed());
  FailingCalls::Stop();
  EXPECT_TRUE(space.GiveBallast());
  EXPECT_FALSE(space.GiveBallast()) << "nothing is left to give";
}

// As after a restart: no write has told it, and the ballast was given back before.
TEST(DiskSpaceOfAQuotaTest, AStartWithoutRoomForTheBallastIsAFullDisk) {
  const TempDirectory directory;
  DiskSpace space({directory.path(), kMiB, kMiB, FreeBytesOf});
  FailingCalls::Fail("fallocate ballast", 1, EDQUOT, directory.path(), "no such path");
  space.Update();
  EXPECT_TRUE(FailingCalls::failed());
  const absl::Status refused = space.CheckAppend();
  EXPECT_EQ(ErrorReason(refused), "CORE_DISK_FULL") << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("quota"));
  FailingCalls::Fail("fallocate ballast", 1, EDQUOT, directory.path(), "no such path");
  EXPECT_EQ(ErrorReason(space.CheckReserve()), "CORE_DISK_FULL") << "no room was told of";
  FailingCalls::Stop();
  EXPECT_TRUE(space.CheckReserve().ok());
  space.Update();
  EXPECT_TRUE(space.CheckAppend().ok());
  EXPECT_TRUE(std::filesystem::exists(directory.path() + "/ballast"));
}

// One that has no fallocate has no ballast either, and that does not fill it.
TEST(DiskSpaceOfAQuotaTest, AFileSystemThatCannotMakeTheBallastIsNotFull) {
  const TempDirectory directory;
  DiskSpace space({directory.path(), kMiB, kMiB, FreeBytesOf});
  FailingCalls::Fail("fallocate ballast", 1, EOPNOTSUPP, directory.path(), "no such path");
  space.Update();
  EXPECT_TRUE(FailingCalls::failed());
  FailingCalls::Stop();
  EXPECT_TRUE(space.CheckAppend().ok());
}

// The ballast's room is used up, too, and the figure of free bytes does not know that either.
TEST(DiskSpaceOfAQuotaTest, TheDaemonsOwnChangesEndBeforeItDoes) {
  const TempDirectory directory;
  DiskSpace space({directory.path(), kMiB, kMiB, FreeBytesOf});
  space.Update();
  EXPECT_TRUE(space.GiveBallast());
  EXPECT_TRUE(space.CheckReserve().ok());
  FailingCalls::Fail("fallocate ballast", 1, EDQUOT, directory.path(), "no such path");
  EXPECT_EQ(ErrorReason(space.CheckReserve()), "CORE_DISK_FULL");
  FailingCalls::Stop();
  EXPECT_TRUE(space.CheckReserve().ok());
  EXPECT_FALSE(std::filesystem::exists(directory.path() + "/ballast"));
  space.Update();
  EXPECT_FALSE(space.full());
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

// Sectors that the disk has lost: what an error says that comes again when it is tried again.
class LostSectorsTest : public CoreFaultTest {
 protected:
  static constexpr int64_t kRecords = 600;  // each a block of its own
  static constexpr uint64_t kLogBlockBytes = 32768;

  // A closed core with twice kRecords, the first ones in tables.
  void Fill() {
    const auto core = *Open(path_, nullptr);
    for (const char* stream : {"a", "b"}) {
      ASSERT_TRUE(core->CreateStream(stream, PayloadFormat::kBytes).ok());
    }
    Append(*core);
    const auto backup =
        core->BackUpTo(directory_.path() + "/backup", [](int64_t, int64_t) { return true; });
    ASSERT_TRUE(backup.ok()) << backup.status();  // everything is flushed
    Append(*core);
  }

  // In streams a and b in turn, so that they do not share blocks; the payload says the position.
  static void Append(Core& core) {
    AppendBatch batch;
    for (int64_t i = core.head_position(); batch.records.size() < size_t{kRecords}; ++i) {
      batch.records.push_back(MakeRecord(i % 2 == 0 ? "a" : "b", absl::StrCat(i)));
    }
    ASSERT_TRUE(core.AppendAndWait(std::move(batch)).ok());
  }

  static void ExpectServed(const Core& core, int64_t from) {
    const std::vector<ReadRecord> records = ReadAll(core, {}, from);
    ASSERT_EQ(static_cast<int64_t>(records.size()), 2 * kRecords - from);
    for (const ReadRecord& record : records) {
      ASSERT_EQ(record.payload, absl::StrCat(record.position));
    }
  }

  void ExpectWholeStart() {
    const auto core = Open(path_, env_.get());
    ASSERT_TRUE(core.ok()) << core.status();
    EXPECT_EQ((*core)->ReadOnlyCause(), "");
    ExpectServed(**core, 0);
  }

  // Opens read-only, with the file and the disk's words in the cause, and nothing is changed.
  std::unique_ptr<Core> OpenDamaged(const std::string& name) {
    const int64_t changes = file_system_->changes();
    auto opened = Open(path_, env_.get());
    EXPECT_TRUE(opened.ok()) << opened.status();
    if (!opened.ok()) return nullptr;
    const std::string cause = (*opened)->ReadOnlyCause();
    EXPECT_THAT(cause, HasSubstr(name));
    EXPECT_THAT(cause, HasSubstr("Input/output error"));
    EXPECT_THAT(cause, HasSubstr("restore the core directory from a backup"));
    EXPECT_THAT(cause, testing::Not(HasSubstr("accept-core-loss")));
    EXPECT_EQ(ErrorReason((*opened)->AppendAndWait(NumberedBatch("a", 0, 1)).status()),
              "CORE_READ_ONLY");
    EXPECT_EQ(file_system_->changes(), changes);
    return *std::move(opened);
  }

  // A start for which the n-th listing of RocksDB's directory fails twice or more often; nullptr:
  // there are not so many, or it was refused.
  std::unique_ptr<Core> OpenRefused(int n, const std::string& path, std::optional<int64_t> accepted,
                                    int64_t more = 1) {
    file_system_->FailKind("read directory rocksdb", n, /*full=*/false);
    file_system_->KeepFailing(more);
    CoreOptions options;
    options.directory = path;
    options.env = env_.get();
    options.accept_loss_position = accepted;
    auto core = Core::Open(options);
    EXPECT_TRUE(core.ok()) << core.status();
    return core.ok() && file_system_->failed() ? *std::move(core) : nullptr;
  }

  // Not when it was first looked at, which changes nothing.
  static bool IsServedLate(const Core& core) {
    const std::string cause = core.ReadOnlyCause();
    if (cause.empty() || absl::StrContains(cause, "no file of the log is changed")) return false;
    EXPECT_THAT(cause, HasSubstr("Input/output error"));
    EXPECT_THAT(cause, HasSubstr("restore the core directory from a backup"));
    EXPECT_THAT(cause, testing::Not(HasSubstr("--accept-core-loss=")));
    return true;
  }

  // Less than was acknowledged is left.
  void CutOffLastLog() {
    std::filesystem::path last;
    for (const auto& file : std::filesystem::directory_iterator(path_ + "/rocksdb")) {
      if (file.path().extension() == ".log") last = std::max(last, file.path());
    }
    std::filesystem::resize_file(last, std::filesystem::file_size(last) - 30);
  }

  const TempDirectory directory_;
  const std::string path_ = directory_.path() + "/data/core";
};

TEST_F(LostSectorsTest, AStartServesTheRestAndAnErrorThatPassesIsNone) {
  ASSERT_NO_FATAL_FAILURE(Fill());
  const auto tables =
      *(*LogStore::Open({path_ + "/rocksdb", LogStore::Mode::kReadOnly}))->ListFiles();
  ASSERT_GE(tables.size(), 4U);
  for (const LogStore::StoredFile& table : tables) {
    SCOPED_TRACE(table.family);
    file_system_->LoseSectors(table.path, 0);
    const auto core = OpenDamaged(table.path);
    ASSERT_NE(core, nullptr);
    EXPECT_EQ(core->head_position(), 2 * kRecords);
    if (table.family == "log") {
      ExpectServed(*core, kRecords);
      EXPECT_EQ(ErrorReason(core->ReadBlocks({}, 0, 1, 1).status()), "RECORD_DAMAGED");
    }
    if (table.family == "tree") ExpectServed(*core, 0);
  }
  file_system_->LoseSectors(".log", kLogBlockBytes);
  if (const auto core = OpenDamaged(".log")) {
    const auto read = static_cast<int64_t>(ReadAll(*core).size());
    EXPECT_GE(read, kRecords);
    EXPECT_LT(read, 2 * kRecords);
  }
  file_system_->LoseSectors("MANIFEST", 0);
  if (const auto core = OpenDamaged("MANIFEST")) {
    EXPECT_EQ(ErrorReason(core->ReadBlocks({}, 0, 1, 1).status()), "CORE_READ_ONLY");
  }
  file_system_->LoseSectors("", 0);
  for (const char* kind : {"read .sst", "read .log", "read MANIFEST", "open to read .sst"}) {
    file_system_->FailKind(kind, 1, /*full=*/false);
    const auto core = Open(path_, env_.get());
    EXPECT_TRUE(file_system_->failed()) << kind;
    ASSERT_TRUE(core.ok()) << kind << ": " << core.status();
    EXPECT_EQ((*core)->ReadOnlyCause(), "") << kind;
    ExpectServed(**core, 0);
  }
}

// Found damaged only when the start opens for writing what it has found whole before.
TEST_F(LostSectorsTest, AStartThatMeetsThemLateServesTheRestToo) {
  ASSERT_NO_FATAL_FAILURE(Fill());
  int late = 0;
  for (int n = 1;; ++n) {
    SCOPED_TRACE(n);
    const auto core = OpenRefused(n, path_, std::nullopt);
    if (core == nullptr) break;
    if (IsServedLate(*core)) {
      ++late;
      ExpectServed(*core, 0);
    }
  }
  EXPECT_GT(late, 0);
  ASSERT_NO_FATAL_FAILURE(ExpectWholeStart());
  for (int n = 1;; ++n) {  // the disk goes on refusing: there is nothing to serve
    SCOPED_TRACE(n);
    const auto core = OpenRefused(n, path_, std::nullopt, INT64_MAX);
    if (core == nullptr) break;
    const std::string cause = core->ReadOnlyCause();
    if (cause.empty()) continue;
    EXPECT_THAT(cause, HasSubstr("Input/output error"));
    EXPECT_THAT(cause, HasSubstr("cannot be accepted as a loss"));
  }
  file_system_->Heal();
  ASSERT_NO_FATAL_FAILURE(ExpectWholeStart());
}

TEST_F(LostSectorsTest, SoDoesOneThatGoesOnWithoutWhatIsLost) {
  ASSERT_NO_FATAL_FAILURE(Fill());
  CutOffLastLog();
  int64_t head = 0;
  {
    const auto damaged = *Open(path_, nullptr);
    head = damaged->head_position();
    ASSERT_THAT(damaged->ReadOnlyCause(), HasSubstr(absl::StrCat("--accept-core-loss=", head)));
  }
  int late = 0;
  for (int n = 1;; ++n) {
    SCOPED_TRACE(n);
    const std::string copy = absl::StrCat(directory_.path(), "/", n, "/core");
    std::filesystem::create_directories(copy);
    std::filesystem::copy(path_, copy, std::filesystem::copy_options::recursive);
    auto core = OpenRefused(n, copy, head);
    if (core == nullptr) break;
    if (!IsServedLate(*core)) continue;
    ++late;
    EXPECT_EQ(static_cast<int64_t>(ReadAll(*core).size()), head);
    EXPECT_THAT(core->AcceptedLoss(), HasSubstr(absl::StrCat("from position ", head)));
    core.reset();
    core = *Open(copy, nullptr);
    EXPECT_EQ(core->ReadOnlyCause(), "") << "it was accepted before";
    EXPECT_EQ(core->head_position(), head);
  }
  EXPECT_GT(late, 0);
}

// RocksDB's name for the database, and a look whether a file is there that can be opened.
TEST_F(LostSectorsTest, WhatLosesNoRecordRefusesNoStart) {
  ASSERT_NO_FATAL_FAILURE(Fill());
  file_system_->LoseSectors("IDENTITY", 0);
  const int64_t changes = file_system_->changes();
  EXPECT_TRUE(LogStore::Open({path_ + "/rocksdb", LogStore::Mode::kReadOnly, env_.get()}).ok());
  EXPECT_EQ(file_system_->changes(), changes);
  ASSERT_NO_FATAL_FAILURE(ExpectWholeStart());
  file_system_->LoseSectors("", 0);
  for (const char* kind :
       {"open to read IDENTITY", "read existence IDENTITY", "read existence CURRENT"}) {
    SCOPED_TRACE(kind);
    file_system_->FailKind(kind, 1, /*full=*/false);
    file_system_->KeepFailing();
    ASSERT_NO_FATAL_FAILURE(ExpectWholeStart());
    EXPECT_TRUE(file_system_->failed());
    file_system_->Heal();
  }
  file_system_->FailKind("read existence CURRENT", 1, /*full=*/false);
  file_system_->KeepFailing();
  const auto first = Open(directory_.path() + "/another", env_.get());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ((*first)->ReadOnlyCause(), "");
  file_system_->Heal();
  // RocksDB has words of its own for this one.
  FailingCalls::Fail("access CURRENT", 1, EIO, path_, "no such path");
  ExpectWholeStart();
  EXPECT_TRUE(FailingCalls::failed());
  FailingCalls::Stop();
}

TEST_F(LostSectorsTest, OfSeveralReadsAtOnceEachIsTriedTwice) {
  const std::string path = directory_.path() + "/table";
  ASSERT_TRUE(WriteFileAtomically(path, "twelve bytes").ok());
  const auto env = WithLastingReadErrors(*env_, /*also_logs=*/false);
  std::unique_ptr<rocksdb::FSRandomAccessFile> file;
  ASSERT_TRUE(env->GetFileSystem()->NewRandomAccessFile(path, {}, &file, nullptr).ok());
  char bytes[12];
  const auto read = [&] {
    rocksdb::FSReadRequest requests[2];
    for (size_t i = 0; i < 2; ++i) {
      requests[i].offset = i * 6;
      requests[i].len = 6;
      requests[i].scratch = bytes + i * 6;
    }
    const rocksdb::IOStatus status = file->MultiRead(requests, 2, {}, nullptr);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return std::pair(requests[0].status, requests[1].status);
  };
  for (const char* kind : {"read table", "read many table"}) {
    file_system_->FailKind(kind, 1, /*full=*/false);
    const auto [first, second] = read();
    EXPECT_TRUE(first.ok() && second.ok()) << first.ToString() << ", " << second.ToString();
    EXPECT_EQ(std::string(bytes, sizeof bytes), "twelve bytes");
  }
  file_system_->LoseSectors("table", 6);
  const auto [first, second] = read();
  EXPECT_TRUE(first.ok()) << first.ToString();
  EXPECT_TRUE(second.IsCorruption()) << second.ToString();
}

TEST_F(LostSectorsTest, ARecordThatIsReadIsDamagedAndAnErrorThatPassesIsNone) {
  ASSERT_NO_FATAL_FAILURE(Fill());
  // The log alone: nothing reads it in the background, so nothing is in memory.
  const auto store = *LogStore::Open({path_ + "/rocksdb", LogStore::Mode::kReadWrite, env_.get()});
  const auto place_of = [&store](int64_t position) -> absl::StatusOr<BlockPlace> {
    BlockPlace found;
    ICEPIE_RETURN_IF_ERROR(store->VisitPlaces(position, position + 1, [&](const auto& place) {
      found = place;
      return false;
    }));
    return found;
  };
  const auto expect_damaged = [](const absl::Status& lost, int64_t position) {
    EXPECT_EQ(lost.code(), absl::StatusCode::kDataLoss) << lost;
    ASSERT_EQ(ErrorReason(lost), "RECORD_DAMAGED") << lost;
    EXPECT_THAT(std::string(lost.message()), HasSubstr("Input/output error"));
    EXPECT_EQ(GetErrorDetail(lost)->metadata["position"], absl::StrCat(position));
  };
  const auto place = place_of(100);
  ASSERT_TRUE(place.ok()) << place.status();
  file_system_->LoseSectors(".sst", 0);
  expect_damaged(store->ReadBlock(*place).status(), 100);
  expect_damaged(place_of(kRecords / 2).status(), kRecords / 2);
  file_system_->LoseSectors("", 0);
  file_system_->FailKind("read .sst", 1, /*full=*/false);
  EXPECT_TRUE(store->ReadBlock(*place).ok());
  EXPECT_TRUE(file_system_->failed());
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
