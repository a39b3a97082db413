// Opening a core whose directory is in use, damaged or incomplete.
#include <gmock/gmock.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/byte_order.h"
#include "core/core.h"
#include "core/log/catalog_keys.h"
#include "core/log/high_water_mark.h"
#include "core/log/log_store.h"
#include "core/log/wal_check.h"
#include "core/segment/segment.h"
#include "core/verify/verification.h"
#include "tests/core/child_process.h"
#include "tests/core/core_testing.h"
#include "tests/core/index_hole.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class CoreRecoveryTest : public testing::Test {
 protected:
  static constexpr int64_t kBatches = 50;
  static constexpr int64_t kBatchRecords = 20;

  CoreRecoveryTest() : path_(directory_.path() + "/core") {}

  // A closed core whose records are all in the write-ahead log, and signed if `signs`.
  void Fill(bool signs = false) {
    const std::unique_ptr<Core> core = OpenCore(path_);
    ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
    for (int64_t i = 0; i < kBatches; ++i) {
      ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", i * kBatchRecords, kBatchRecords)).ok());
    }
    const int64_t head = core->head_position();
    if (signs) ASSERT_TRUE(core->proofs()->GetCheckpoint(head, absl::Seconds(60)).ok());
  }

  fs::path WriteAheadLog() const {
    fs::path newest;
    for (const auto& file : fs::directory_iterator(path_ + "/rocksdb")) {
      if (file.path().extension() == ".log" && file.path() > newest) newest = file.path();
    }
    EXPECT_FALSE(newest.empty());
    return newest;
  }

  static void Write(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  }

  void FlipBit(const fs::path& file, double place) {
    std::string bytes = *ReadFile(file);
    char& byte = bytes[static_cast<size_t>(static_cast<double>(bytes.size()) * place)];
    byte = static_cast<char>(byte ^ 4);
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  }

  // Logs and tables with their content; RocksDB's own chatter (LOG) may change.
  std::map<std::string, std::string> LogFiles() const {
    std::map<std::string, std::string> files;
    for (const auto& file : fs::directory_iterator(path_ + "/rocksdb")) {
      const std::string name = file.path().filename();
      if (name.rfind("LOG", 0) == 0 || name == "LOCK") continue;
      files[name] = *ReadFile(file.path());
    }
    return files;
  }

  // Opens read-only with a cause that contains `cause`, refuses changes and leaves its files alone.
  std::unique_ptr<Core> ExpectReadOnly(const std::string& cause) {
    const auto before = LogFiles();
    std::unique_ptr<Core> core = OpenCore(path_);
    EXPECT_THAT(core->ReadOnlyCause(), HasSubstr(cause));
    EXPECT_THAT(core->ReadOnlyCause(), HasSubstr("restore"));
    for (const absl::Status& status : {core->AppendAndWait(NumberedBatch("a", 0, 1)).status(),
                                       core->CreateStream("b", PayloadFormat::kJson).status(),
                                       core->ChangeCatalog({{"k", "v"}})}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
      EXPECT_EQ(ErrorReason(status), "CORE_READ_ONLY");
      EXPECT_THAT(std::string(status.message()), HasSubstr(cause));
    }
    EXPECT_EQ(LogFiles(), before);
    return core;
  }

  TempDirectory directory_;
  const std::string path_;
};

TEST_F(CoreRecoveryTest, ASecondOpenerIsToldWhoHasTheDirectory) {
  const std::unique_ptr<Core> core = OpenCore(path_);
  CoreOptions options;
  options.directory = path_;
  const auto second = Core::Open(options);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ErrorReason(second.status()), "DATA_DIRECTORY_LOCKED");

  ChildProcess other("append_child", {path_, "0"});
  const std::string output = other.ReadToEnd();
  EXPECT_EQ(other.Wait(), 3);
  EXPECT_THAT(output, HasSubstr("process " + std::to_string(::getpid())));
  EXPECT_THAT(output, HasSubstr(path_));
}

TEST_F(CoreRecoveryTest, TheLockEndsWithItsOwner) {
  OpenCore(path_).reset();
  ChildProcess other("append_child", {path_, "0"});
  EXPECT_EQ(other.ReadToEnd(), "");
  EXPECT_EQ(other.Wait(), 0);
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
}

TEST_F(CoreRecoveryTest, ACoreSmallerThanItsMarkIsReadOnly) {
  Fill();
  ASSERT_TRUE(
      (*HighWaterMark::Open(path_ + "/high_water_mark", {}))->Write({1001, std::nullopt}).ok());
  const auto core = ExpectReadOnly("1000 records but 1001 were acknowledged");
  EXPECT_EQ(core->head_position(), 1000);
  EXPECT_EQ(ReadAll(*core).size(), 1000u);
}

TEST_F(CoreRecoveryTest, AMissingOrDamagedMarkIsNotTakenForNone) {
  Fill();
  const std::string mark = path_ + "/high_water_mark";
  const std::string content = *ReadFile(mark);
  ASSERT_TRUE(WriteFileAtomically(mark, std::string(content.size(), 'x')).ok());
  EXPECT_EQ(ReadAll(*ExpectReadOnly("high_water_mark is damaged")).size(), 1000u);
  fs::remove(mark);
  EXPECT_EQ(ReadAll(*ExpectReadOnly("high_water_mark is missing")).size(), 1000u);
  ASSERT_TRUE(WriteFileAtomically(mark, content).ok());
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
}

TEST_F(CoreRecoveryTest, AMarkThatLagsAfterACrashIsAdvanced) {
  Fill();
  const std::string mark = path_ + "/high_water_mark";
  fs::remove(mark);
  ASSERT_TRUE(HighWaterMark::Open(mark, {10, std::nullopt}).ok());
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
  EXPECT_EQ(HighWaterMark::Read(mark)->position, 1000);
}

TEST_F(CoreRecoveryTest, AMarkOfAnOlderVersionIsReadAndReplaced) {
  Fill();
  const std::string mark = path_ + "/high_water_mark";
  std::string slot = "IPHW";
  PutLittleEndian(slot, uint32_t{1});
  PutLittleEndian(slot, int64_t{1000});
  PutLittleEndian(slot, static_cast<uint64_t>(XXH3_64bits(slot.data(), slot.size())));
  ASSERT_TRUE(WriteFileAtomically(mark, slot + std::string(512 - slot.size(), '\0') + slot).ok());
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
  const auto read = HighWaterMark::Read(mark);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->position, 1000);
  EXPECT_TRUE(read->root.has_value());
  EXPECT_EQ(read->changes, 1);
}

TEST_F(CoreRecoveryTest, OneSlotOfTheMarkIsEnough) {
  Fill();
  const std::string mark = path_ + "/high_water_mark";
  const std::string content = *ReadFile(mark);
  for (const size_t slot : {size_t{0}, size_t{512}}) {
    std::string torn = content;
    torn.replace(slot, 10, std::string(10, 'x'));
    ASSERT_TRUE(WriteFileAtomically(mark, torn).ok());
    EXPECT_GE(HighWaterMark::Read(mark)->position, 1000 - kBatchRecords);
  }
}

TEST_F(CoreRecoveryTest, AFlippedBitInTheWriteAheadLogIsNotPassedOver) {
  Fill(/*signs=*/true);
  FlipBit(WriteAheadLog(), 0.5);
  const auto core = ExpectReadOnly("the log is damaged");
  const std::vector<ReadRecord> readable = ReadAll(*core);
  EXPECT_GT(readable.size(), 0u);
  EXPECT_LT(readable.size(), 1000u);
  EXPECT_THAT(core->ReadOnlyCause(),
              HasSubstr(absl::StrCat("(", readable.size(),
                                     " records can be read, a checkpoint of 1000 was signed)")));
  EXPECT_EQ(readable.back().payload, "{\"n\":" + std::to_string(readable.back().offset) + "}");
}

TEST_F(CoreRecoveryTest, ALostEndOfTheWriteAheadLogIsNoticed) {
  Fill();
  const fs::path log = WriteAheadLog();
  fs::resize_file(log, fs::file_size(log) - 30);
  const auto core = ExpectReadOnly("were acknowledged: the last");
  EXPECT_EQ(core->head_position(), 1000 - kBatchRecords);
}

// What was acknowledged last is a stream, or something of the daemon's, behind the last record.
TEST_F(CoreRecoveryTest, ALostChangeOfTheCatalogIsNoticed) {
  Fill();
  ASSERT_TRUE(OpenCore(path_)->CreateStream("b", PayloadFormat::kJson).ok());
  {
    const std::unique_ptr<Core> core = OpenCore(path_);
    EXPECT_TRUE(core->GetStream("b").ok());
    ASSERT_TRUE(core->ChangeCatalog({{"domain/shop", "v"}}).ok());
  }
  const fs::path log = WriteAheadLog();
  fs::resize_file(log, fs::file_size(log) - 10);
  {
    const auto core = ExpectReadOnly(
        "all 1000 records, but 2 changes of its catalog (streams, domains, slices) where 3 were "
        "acknowledged: the last 1 are lost");
    EXPECT_EQ(ReadAll(*core).size(), 1000u);
    EXPECT_THAT(core->ReadOnlyCause(), HasSubstr("--accept-core-loss=1000"));
  }
  const auto report = VerifyDirectory(path_, "", [](int64_t, int64_t, int64_t) {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->bytes_rehashed.detail, HasSubstr("but 3 were acknowledged"));
  CoreOptions accepts;
  accepts.directory = path_;
  accepts.accept_loss_position = 1000;
  {
    const auto core = Core::Open(accepts);
    ASSERT_TRUE(core.ok()) << core.status();
    EXPECT_EQ((*core)->ReadOnlyCause(), "");
    ASSERT_TRUE((*core)->ChangeCatalog({{"domain/shop", "v"}}).ok());
  }
  EXPECT_EQ(HighWaterMark::Read(path_ + "/high_water_mark")->changes, 3);
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
}

// The process ended between the change and the mark: a later loss of the change is noticed.
TEST_F(CoreRecoveryTest, AMarkThatLagsBehindTheCatalogIsAdvanced) {
  Fill();
  const std::string mark = path_ + "/high_water_mark";
  HighWater value = *HighWaterMark::Read(mark);
  EXPECT_EQ(std::exchange(value.changes, 0), 1);
  ASSERT_TRUE(HighWaterMark::Reset(mark, value).ok());
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
  EXPECT_EQ(HighWaterMark::Read(mark)->changes, 1);
  EXPECT_EQ(HighWaterMark::Read(mark)->root, value.root);
}

TEST_F(CoreRecoveryTest, ADeletedWriteAheadLogIsNoticed) {
  Fill();
  fs::remove(WriteAheadLog());
  EXPECT_EQ(ExpectReadOnly("core has 0 records but 1000 were acknowledged")->head_position(), 0);
}

TEST_F(CoreRecoveryTest, ATornRecordThatNobodyWasToldOfIsDropped) {
  Fill();
  // A record's header (checksum, length 1000, type full) and a part of what it announces.
  std::ofstream(WriteAheadLog(), std::ios::binary | std::ios::app)
      << std::string("\x12\x34\x56\x78\xe8\x03\x01", 7) << std::string(100, 'x');
  const std::string log = WriteAheadLog();
  testing::internal::CaptureStdout();
  const auto core = OpenCore(path_);
  EXPECT_THAT(testing::internal::GetCapturedStdout(),
              testing::AllOf(HasSubstr(log + " ends within a record"), HasSubstr("is dropped")));
  EXPECT_EQ(core->ReadOnlyCause(), "");
  EXPECT_EQ(core->head_position(), 1000);
  EXPECT_EQ(core->AppendAndWait(NumberedBatch("a", 1000, 1))->first_position, 1000);
}

// One that RocksDB needs no more and has not removed yet.
TEST_F(CoreRecoveryTest, ATornLogThatIsNotTheLastOneIsNotCalledUnacknowledged) {
  Fill();
  const std::string old = WriteAheadLog();
  const std::string content = *ReadFile(old);
  ASSERT_TRUE(OpenCore(path_)->AppendAndWait(NumberedBatch("a", 1000, 1)).ok());
  Write(old, content.substr(0, content.size() - 30));
  testing::internal::CaptureStdout();
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
  EXPECT_THAT(testing::internal::GetCapturedStdout(), testing::Not(HasSubstr("ends within")));
}

// Several write-ahead logs are needed at once: RocksDB begins one whenever it flushes one family,
// and keeps those in which the others have something.
class SeveralLogsTest : public CoreRecoveryTest {
 protected:
  static constexpr int kLogs = 3;

  static void FillLogs(Core& core) {
    for (int log = 0; log < kLogs; ++log) {
      const int64_t head = core.head_position();
      ASSERT_TRUE(core.AppendAndWait(NumberedBatch("a", head, kBatchRecords)).ok());
      ASSERT_TRUE(core.AppendAndWait(NumberedBatch("a", head, kBatchRecords)).ok());
      if (log + 1 == kLogs) break;
      // Fills what RocksDB keeps of the catalog in memory, so that the next write begins a log.
      ASSERT_TRUE(core.ChangeCatalog({{"x", std::string(size_t{9} << 20, 'x')}}).ok());
    }
  }

  std::vector<fs::path> Logs() const {
    std::vector<fs::path> logs;
    for (const auto& file : fs::directory_iterator(path_ + "/rocksdb")) {
      if (file.path().extension() == ".log") logs.push_back(file.path());
    }
    std::sort(logs.begin(), logs.end());
    return logs;
  }

  static int64_t Bytes(const fs::path& log) { return static_cast<int64_t>(fs::file_size(log)); }

  // What the core says while a log has only so many bytes; -1: it is gone.
  std::string CauseWith(const fs::path& log, int64_t bytes) const {
    const fs::path whole = directory_.path() + "/whole";
    fs::rename(log, whole);
    if (bytes >= 0) {
      fs::copy_file(whole, log);
      fs::resize_file(log, static_cast<uintmax_t>(bytes));
    }
    const std::string cause = OpenCore(path_)->ReadOnlyCause();
    fs::remove(log);
    fs::rename(whole, log);
    return cause;
  }
};

TEST_F(SeveralLogsTest, AHoleAmongThemIsNoticed) {
  {
    const auto core = OpenCore(path_);
    ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
    ASSERT_NO_FATAL_FAILURE(FillLogs(*core));
  }
  const std::vector<fs::path> logs = Logs();
  ASSERT_EQ(logs.size(), size_t{kLogs});
  const auto behind = [&](size_t log, size_t before, const std::string& why) {
    return testing::AllOf(
        HasSubstr(logs[log].string() + " does not go on where " + logs[before].string() + " ends"),
        HasSubstr(why));
  };
  EXPECT_THAT(CauseWith(logs[0], Bytes(logs[0]) / 2), behind(1, 0, "ends within a record"));
  EXPECT_THAT(CauseWith(logs[1], Bytes(logs[1]) - 100), behind(2, 1, "ends within a record"));
  EXPECT_THAT(CauseWith(logs[1], -1), testing::AllOf(behind(2, 0, "one between them is missing"),
                                                     HasSubstr("cannot be accepted as a loss")));
  EXPECT_THAT(CauseWith(logs[0], -1),
              HasSubstr("those that are there begin with " + logs[1].string()));
  EXPECT_THAT(CauseWith(logs[0], 0), HasSubstr("but the log begins at 40"));
  // Cut where a record ends, so nothing is torn.
  const std::string cut = directory_.path() + "/cut";
  fs::copy_file(logs[1], cut);
  fs::resize_file(cut, static_cast<uintmax_t>(Bytes(cut) - 100));
  EXPECT_THAT(CauseWith(logs[1], CheckWalFile(cut, 0)->whole_bytes),
              behind(2, 1, "has lost its end, or one between"));

  EXPECT_EQ(CauseWith(logs[1], Bytes(logs[1])), "");
  EXPECT_EQ(ReadAll(*OpenCore(path_)).size(), 2 * kLogs * size_t{kBatchRecords});
}

TEST_F(CoreRecoveryTest, AHoleInTheIndexIsNoticed) {
  Fill();
  MakeIndexHole(path_ + "/rocksdb", 500, 500 + kBatchRecords);
  ExpectReadOnly("behind position 500 the index goes on at 520");
}

TEST_F(SeveralLogsTest, TheFirstOfThemIsMissedAlsoWhereOlderOnesAreGone) {
  const TempDirectory elsewhere;
  {
    const auto core = OpenCore(path_);
    ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
    ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", 0, kBatchRecords)).ok());
    const auto backup =
        core->BackUpTo(elsewhere.path() + "/backup", [](int64_t, int64_t) { return true; });
    ASSERT_TRUE(backup.ok()) << backup.status();  // everything is flushed
    ASSERT_NO_FATAL_FAILURE(FillLogs(*core));
  }
  const std::vector<fs::path> logs = Logs();
  ASSERT_EQ(logs.size(), size_t{kLogs});
  EXPECT_THAT(CauseWith(logs[0], -1), HasSubstr("those that are there begin with"));
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
}

TEST_F(CoreRecoveryTest, ALostDatabaseIsNotTakenForANewOne) {
  Fill();
  fs::remove_all(path_ + "/rocksdb");
  fs::create_directory(path_ + "/rocksdb");
  const auto core = ExpectReadOnly("core has 0 records but 1000 were acknowledged");
  EXPECT_TRUE(core->ListStreams("", 100).empty());
  EXPECT_EQ(ErrorReason(core->ReadBlocks({}, 0, 1, 1).status()), "CORE_READ_ONLY");
  EXPECT_EQ(ErrorReason(core->ScanCatalog("").status()), "CORE_READ_ONLY");
}

TEST_F(CoreRecoveryTest, AMissingCurrentFileIsNotTakenForANewCore) {
  Fill();
  fs::remove(path_ + "/rocksdb/CURRENT");
  ExpectReadOnly("the log is damaged");
}

TEST_F(CoreRecoveryTest, AnInterruptedCreationIsFinished) {
  // Ended between RocksDB's first file and the mark.
  OpenCore(path_).reset();
  fs::remove(path_ + "/high_water_mark");
  const auto core = OpenCore(path_);
  EXPECT_EQ(core->ReadOnlyCause(), "");
  EXPECT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
}

TEST_F(CoreRecoveryTest, ADamagedManifestOrCurrentFileIsNoticed) {
  Fill();
  OpenCore(path_).reset();  // what was replayed is in tables now, which only the manifest knows
  for (const auto& [name, content] : LogFiles()) {
    if (name.rfind("MANIFEST", 0) != 0) continue;
    fs::remove(path_ + "/rocksdb/" + name);
    ExpectReadOnly("the log is damaged");
    Write(path_ + "/rocksdb/" + name, content.substr(0, content.size() / 2));
    ExpectReadOnly("");
    Write(path_ + "/rocksdb/" + name, content);
  }
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
}

TEST_F(CoreRecoveryTest, AnUnreadableCurrentFileIsNoticed) {
  Fill();
  for (const std::string& content :
       {std::string(), std::string("nonsense"), std::string("MANIFEST-999999\n")}) {
    Write(path_ + "/rocksdb/CURRENT", content);
    ExpectReadOnly("the log is damaged");
  }
}

TEST_F(CoreRecoveryTest, AFlippedBitInTheManifestIsNoticed) {
  Fill();
  for (const auto& [name, content] : LogFiles()) {
    if (name.rfind("MANIFEST", 0) == 0) FlipBit(path_ + "/rocksdb/" + name, 0.5);
  }
  ExpectReadOnly("the log is damaged");
}

// Records in segments and in table files, of which something is damaged before a start.
class SalvageTest : public CoreRecoveryTest {
 protected:
  static constexpr int64_t kStep = 20;  // records of a batch
  static constexpr int64_t kRecords = 1400;

  // Streams a and b in turn; the payload says the position.
  static void AppendUpTo(Core& core, int64_t end) {
    for (int64_t n = core.head_position(); n < end; n += kStep) {
      const std::string stream = n % (2 * kStep) == 0 ? "a" : "b";
      ASSERT_TRUE(core.AppendAndWait(NumberedBatch(stream, n, kStep)).ok());
    }
  }

  void FillTables() {
    {
      const auto core = OpenCore(path_, SmallSegments());
      ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
      ASSERT_TRUE(core->CreateStream("b", PayloadFormat::kJson).ok());
      for (const int64_t segments : {1, 2}) {
        AppendUpTo(*core, segments * 400);
        ASSERT_TRUE(EventuallyInCore([&] { return core->Storage().segment_count >= segments; }));
      }
    }
    AppendUpTo(*OpenCore(path_), kRecords);
    sealed_ = OpenCore(path_)->Storage().sealed_position;  // and replays the log into tables
    fs::copy(path_, whole_, fs::copy_options::recursive);
  }

  void BecomeWhole() {
    fs::remove_all(path_);
    fs::copy(whole_, path_, fs::copy_options::recursive);
  }

  std::vector<LogStore::StoredFile> Tables() const {  // the newest last
    auto tables = *(*LogStore::Open({path_ + "/rocksdb", LogStore::Mode::kReadOnly}))->ListFiles();
    std::sort(tables.begin(), tables.end(),
              [](const auto& x, const auto& y) { return x.path < y.path; });
    return tables;
  }

  // How many batches are there; what is not is said to be damaged. What is sealed is all there.
  int64_t CountServed(const Core& core) const {
    int64_t served = 0;
    for (int64_t position = 0; position < core.head_position(); position += kStep) {
      const auto range = core.ReadBlocks({}, position, position + 1, 1);
      if (!range.ok()) {
        EXPECT_GE(position, sealed_) << range.status();
        EXPECT_EQ(ErrorReason(range.status()), "RECORD_DAMAGED") << range.status();
        const auto named = GetErrorDetail(range.status())->metadata;
        EXPECT_EQ(named.count("position"), 1U) << range.status();
        continue;
      }
      const auto block = DecodedBlock::Decode(range->blocks.at(0).data);
      EXPECT_TRUE(block.ok()) << block.status();
      const int64_t index = position - block->header().first_position;
      EXPECT_EQ(block->records()[static_cast<size_t>(index)].payload,
                absl::StrCat("{\"n\":", position, "}"));
      ++served;
    }
    return served;
  }

  int64_t sealed_ = 0;
  const std::string whole_ = directory_.path() + "/whole";
};

TEST_F(SalvageTest, TheLastBlockOfAStreamIsDamaged) {
  ASSERT_NO_FATAL_FAILURE(FillTables());
  std::string table;
  for (const auto& file : Tables()) {
    if (file.family == "log") table = file.path;
  }
  std::string bytes = *ReadFile(table);
  bytes[bytes.rfind("IPBK") + 60] ^= 1;  // of b, whose keys are the last
  Write(table, bytes);
  const auto core = ExpectReadOnly("the log is damaged");
  EXPECT_THAT(core->ReadOnlyCause(), testing::Not(HasSubstr("accept-core-loss")));
  EXPECT_EQ(core->head_position(), kRecords);
  EXPECT_EQ(core->GetStream("a")->end_offset, kRecords / 2);
  EXPECT_EQ(core->GetStream("b")->end_offset, kRecords / 2);
  EXPECT_LT(CountServed(*core), kRecords / kStep);
  EXPECT_EQ(static_cast<int64_t>(ReadAll(*core, {"a"}).size()), kRecords / 2);
  const auto damaged = core->ReadBlocks({}, kRecords - 1, kRecords, 1).status();
  EXPECT_EQ(GetErrorDetail(damaged)->metadata.at("position"), absl::StrCat(kRecords - kStep));
}

TEST_F(SalvageTest, WhateverIsLostOfTablesTheRestIsServed) {
  ASSERT_NO_FATAL_FAILURE(FillTables());
  for (const auto& [table, family, bytes] : Tables()) {
    for (const double place : {0.01, -1.0}) {
      BecomeWhole();
      if (place < 0) {
        fs::remove(table);
      } else {
        FlipBit(table, place);
      }
      const auto core = OpenCore(path_);
      const int64_t served = CountServed(*core);
      EXPECT_GE(served * kStep, sealed_) << family << " at " << place;
      const bool has_hot = family == "catalog" || family == "tree";
      EXPECT_EQ(core->head_position(), kRecords) << family << " at " << place;
      if (has_hot) EXPECT_EQ(served, kRecords / kStep) << family << " at " << place;
      if (place < 0) EXPECT_NE(core->ReadOnlyCause(), "") << family;
    }
  }
}

// Tables keep what was dropped until a compaction, which would meet the damage, too.
TEST_F(SalvageTest, DamageInWhatIsSealedCostsNoRecord) {
  {
    const auto core = OpenCore(path_);
    ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
    ASSERT_TRUE(core->CreateStream("b", PayloadFormat::kJson).ok());
    AppendUpTo(*core, 800);
  }
  OpenCore(path_).reset();  // replays the log into tables
  const auto tables = Tables();
  {
    const auto core = OpenCore(path_, SmallSegments());
    AppendUpTo(*core, kRecords);
    ASSERT_TRUE(EventuallyInCore([&] { return core->Storage().sealed_position >= 800; }));
    sealed_ = core->Storage().sealed_position;
  }
  fs::copy(path_, whole_, fs::copy_options::recursive);
  for (const auto& [table, family, bytes] : tables) {
    if (family != "log" && family != "index") continue;
    for (const double place : {0.1, 0.3, 0.5}) {
      SCOPED_TRACE(absl::StrCat(family, " at ", place));
      BecomeWhole();
      FlipBit(table, place);
      const auto core = ExpectReadOnly("the log is damaged");
      EXPECT_EQ(core->head_position(), kRecords);
      EXPECT_EQ(CountServed(*core), kRecords / kStep);
    }
  }
}

TEST_F(SalvageTest, SegmentsAreServedWithoutAnyTable) {
  ASSERT_NO_FATAL_FAILURE(FillTables());
  for (const auto& table : Tables()) fs::remove(table.path);
  EXPECT_GT(sealed_, 0);
  {
    const auto core = OpenCore(path_);
    EXPECT_NE(core->ReadOnlyCause(), "");
    EXPECT_EQ(core->head_position(), sealed_);
    EXPECT_EQ(CountServed(*core), sealed_ / kStep);
  }
  fs::remove(path_ + "/high_water_mark");
  EXPECT_EQ(OpenCore(path_)->head_position(), 0) << "they may be of before an accepted loss";
}

TEST_F(SalvageTest, SegmentsAloneAreNoNewCore) {
  ASSERT_NO_FATAL_FAILURE(FillTables());
  ASSERT_GT(sealed_, 0);
  fs::remove(path_ + "/high_water_mark");
  for (const bool is_half_created : {false, true}) {
    SCOPED_TRACE(is_half_created);
    fs::remove_all(path_ + "/rocksdb");
    if (is_half_created) {
      rocksdb::Options options;
      options.create_if_missing = true;
      rocksdb::DB* db = nullptr;
      ASSERT_TRUE(rocksdb::DB::Open(options, path_ + "/rocksdb", &db).ok());
      delete db;
    }
    EXPECT_THAT(OpenCore(path_)->ReadOnlyCause(), HasSubstr("neither a log nor a high-water mark"));
    // An empty directory would take what is copied back there for its own content.
    EXPECT_EQ(fs::exists(path_ + "/rocksdb"), is_half_created);
    fs::remove_all(path_ + "/segments");
    fs::copy(whole_ + "/segments", path_ + "/segments");
  }
  fs::remove_all(path_);
  fs::copy(whole_, path_, fs::copy_options::recursive);
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
}

// It reaches beyond the log's end when that goes on, and no further than the mark in the end.
TEST_F(SalvageTest, ASegmentOfBeforeALossIsNotServed) {
  ASSERT_NO_FATAL_FAILURE(FillTables());
  const std::string stale = path_ + "/segments/" + SegmentFileName(0, kRecords + 100);
  for (const auto& file : fs::directory_iterator(path_ + "/segments")) {
    if (file.path().filename().string() < SegmentFileName(0, kRecords)) {
      fs::copy_file(file.path(), stale, fs::copy_options::overwrite_existing);
    }
  }
  AppendUpTo(*OpenCore(path_), kRecords + 200);
  const std::string moved = absl::StrCat(stale, ".beyond-", kRecords);
  EXPECT_TRUE(fs::exists(moved));
  const std::string kept = directory_.path() + "/kept";
  fs::copy(path_, kept, fs::copy_options::recursive);
  for (const auto& table : Tables()) fs::remove(table.path);
  fs::remove(WriteAheadLog());
  {
    const auto core = OpenCore(path_);
    EXPECT_NE(core->ReadOnlyCause(), "");
    ASSERT_EQ(core->head_position(), sealed_);
    EXPECT_EQ(CountServed(*core), sealed_ / kStep);
  }
  EXPECT_TRUE(fs::exists(moved));
  fs::remove_all(path_);
  fs::copy(kept, path_, fs::copy_options::recursive);
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");
  EXPECT_FALSE(fs::exists(moved)) << "the log has grown beyond it";
}

// What stands in a table beside a damaged block, and index entries and blocks of other tables.
TEST_F(SalvageTest, HotRecordsBesideADamagedBlockAreServed) {
  ASSERT_NO_FATAL_FAILURE(FillTables());
  constexpr int64_t kMore = 300;  // batches, for several blocks of the index
  AppendUpTo(*OpenCore(path_), kRecords + kMore * kStep);
  OpenCore(path_);  // replays the log into tables
  fs::remove_all(whole_);
  fs::copy(path_, whole_, fs::copy_options::recursive);
  std::map<std::string, std::string> largest;  // table of a family
  for (const auto& file : Tables()) {
    std::string& known = largest[file.family];
    if (known.empty() || fs::file_size(known) < fs::file_size(file.path)) known = file.path;
  }
  for (const std::string family : {"log", "index"}) {
    SCOPED_TRACE(family);
    BecomeWhole();
    FlipBit(largest[family], 0.3);
    const auto core = OpenCore(path_);
    const int64_t served = CountServed(*core);
    EXPECT_LT(served, kRecords / kStep + kMore);
    EXPECT_GT(served, sealed_ / kStep + kMore / 3);
  }
}

TEST_F(SalvageTest, SegmentsThatTheCatalogKnowsNoMoreAreFoundByTheirFiles) {
  ASSERT_NO_FATAL_FAILURE(FillTables());
  // One of before a loss that was accepted.
  const fs::path other = path_ + "/segments/" + SegmentFileName(0, kRecords + 100);
  for (const auto& file : fs::directory_iterator(path_ + "/segments")) {
    if (file.path().filename().string() < SegmentFileName(0, kRecords)) {
      fs::copy_file(file.path(), other, fs::copy_options::overwrite_existing);
    }
  }
  {
    const auto store = *LogStore::Open({path_ + "/rocksdb", LogStore::Mode::kReadWrite, nullptr});
    const auto entries = *store->ScanCatalog(kSegmentKeyPrefix);
    for (const auto& [key, value] : entries) {
      ASSERT_TRUE(store->ChangeCatalog({{{key, "?"}}}).ok());
    }
  }
  const auto core = ExpectReadOnly("the log is damaged");
  EXPECT_EQ(core->Storage().sealed_position, sealed_);
  EXPECT_EQ(CountServed(*core), kRecords / kStep);
  EXPECT_EQ(*core->PositionOf("b", 0), kStep);
}

class AcceptedLossTest : public CoreRecoveryTest {
 protected:
  std::unique_ptr<Core> Accept(int64_t position) {
    CoreOptions options;
    options.directory = path_;
    options.accept_loss_position = position;
    auto core = Core::Open(options);
    EXPECT_TRUE(core.ok()) << core.status();
    return std::move(core).value();
  }

  // The core goes on at `head` and forgets the loss.
  void ExpectGoesOn(int64_t head) {
    {
      const auto core = Accept(head);
      EXPECT_EQ(core->ReadOnlyCause(), "");
      EXPECT_THAT(core->AcceptedLoss(), HasSubstr("from position " + std::to_string(head)));
      EXPECT_EQ(core->AppendAndWait(NumberedBatch("a", head, 2))->first_position, head);
    }
    {
      const auto core = OpenCore(path_);
      EXPECT_THAT(core->AcceptedLoss(), HasSubstr("from position " + std::to_string(head)))
          << "nobody has recorded it";
      EXPECT_TRUE(core->ForgetAcceptedLoss().ok());
    }
    const auto core = OpenCore(path_);
    EXPECT_EQ(core->ReadOnlyCause(), "");
    EXPECT_EQ(core->AcceptedLoss(), "");
    const std::vector<ReadRecord> records = ReadAll(*core);
    ASSERT_EQ(static_cast<int64_t>(records.size()), head + 2);
    EXPECT_EQ(records.back().payload, "{\"n\":" + std::to_string(head + 1) + "}");
  }
};

TEST_F(AcceptedLossTest, OnlyTheVeryPositionIsTaken) {
  Fill();
  const fs::path log = WriteAheadLog();
  fs::resize_file(log, fs::file_size(log) - 30);
  constexpr int64_t kLeft = 1000 - kBatchRecords;
  const std::string remedy = "--accept-core-loss=" + std::to_string(kLeft);
  EXPECT_THAT(ExpectReadOnly("were acknowledged")->ReadOnlyCause(), HasSubstr(remedy));
  for (const int64_t other : {int64_t{0}, kLeft - 1, kLeft + 1, int64_t{1000}}) {
    const auto core = Accept(other);
    EXPECT_THAT(core->ReadOnlyCause(), HasSubstr(remedy)) << other;
    EXPECT_EQ(core->AcceptedLoss(), "");
  }
  ExpectGoesOn(kLeft);
}

TEST_F(AcceptedLossTest, ADamagedLogGoesOnBeforeTheDamage) {
  Fill();
  FlipBit(WriteAheadLog(), 0.5);
  const int64_t left = OpenCore(path_)->head_position();
  ASSERT_GT(left, 0);
  ASSERT_LT(left, 1000);
  ExpectGoesOn(left);
}

// What a power loss may leave of the one write that was not synced: some of its pages, in any
// order.
class LostPagesTest : public AcceptedLossTest {
 protected:
  static constexpr size_t kPage = 4096;
  static constexpr int64_t kWritten = 30'000;
  static constexpr int64_t kAcknowledged = 1000 + kWritten;

  // The last batch is the one that nobody was told of.
  LostPagesTest() {
    Fill();
    early_mark_ = *ReadFile(path_ + "/high_water_mark");
    const auto core = OpenCore(path_);
    EXPECT_TRUE(core->AppendAndWait(NumberedBatch("a", 1000, kWritten)).ok());
    mark_ = *ReadFile(path_ + "/high_water_mark");
    synced_ = ReadFile(WriteAheadLog())->size();
    EXPECT_TRUE(core->AppendAndWait(NumberedBatch("a", kAcknowledged, kWritten)).ok());
    late_mark_ = *ReadFile(path_ + "/high_water_mark");
    written_ = *ReadFile(WriteAheadLog());
    EXPECT_GT(synced_, 300'000U);  // more than a check tells its progress of
    EXPECT_GT(written_.size(), synced_ + 200'000);
  }

  // The power comes back.
  void Restore(const std::string& log, const std::string& mark) {
    const std::string kept = directory_.path() + "/kept";
    if (!fs::exists(kept)) fs::copy(path_, kept, fs::copy_options::recursive);
    fs::remove_all(path_);
    fs::copy(kept, path_, fs::copy_options::recursive);
    Write(WriteAheadLog(), log);
    Write(path_ + "/high_water_mark", mark);
  }

  static void Lose(std::string& log, size_t page) {
    log.replace(page * kPage, kPage, std::string(kPage, '\0'));
  }

  std::string early_mark_;  // it lags by a second at most
  std::string mark_;
  std::string late_mark_;
  size_t synced_ = 0;
  std::string written_;
};

TEST_F(LostPagesTest, OfTheLastWriteAreNoDamage) {
  const size_t first = synced_ / kPage + 1;
  std::mt19937 random(20261128);
  for (int round = 0; round < 8; ++round) {
    SCOPED_TRACE(round);
    std::string log = written_;
    for (size_t page = first; page < written_.size() / kPage; ++page) {
      if (round == 0 ? page == first : random() % 2 == 0) Lose(log, page);
    }
    Restore(log, mark_);
    {
      const auto core = OpenCore(path_);
      ASSERT_EQ(core->ReadOnlyCause(), "");
      EXPECT_EQ(core->AcceptedLoss(), "");
      ASSERT_EQ(core->head_position(), kAcknowledged);
      ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", kAcknowledged, 2)).ok());
    }
    const auto core = OpenCore(path_);
    ASSERT_EQ(core->ReadOnlyCause(), "");
    const std::vector<ReadRecord> records = ReadAll(*core);
    ASSERT_EQ(static_cast<int64_t>(records.size()), kAcknowledged + 2);
    for (const ReadRecord& record : records) {
      ASSERT_EQ(record.payload, "{\"n\":" + std::to_string(record.offset) + "}");
    }
  }
}

TEST_F(LostPagesTest, OfWhatWasAcknowledgedAreDamage) {
  std::string log = written_;
  Lose(log, synced_ / kPage - 10);
  Restore(log, mark_);
  ExpectReadOnly("the log is damaged");

  log = written_;
  Lose(log, synced_ / kPage + 1);
  Restore(log, late_mark_);
  const std::string cause = ExpectReadOnly("the log is damaged")->ReadOnlyCause();
  EXPECT_THAT(cause, HasSubstr(absl::StrCat("--accept-core-loss=", kAcknowledged)));
  ExpectGoesOn(kAcknowledged);
}

TEST_F(LostPagesTest, BesideADamagedOlderLogAreDamage) {
  std::string log = written_;
  Lose(log, synced_ / kPage + 1);
  Restore(log, mark_);
  const std::string begin = written_.substr(0, 1000);
  for (const std::string& older : {begin, begin + "?" + written_.substr(1001)}) {
    Write(path_ + "/rocksdb/000001.log", older);
    EXPECT_THAT(OpenCore(path_)->ReadOnlyCause(), HasSubstr("the log is damaged"));
  }
}

// Read without a daemon: what a start drops is no damage, and said.
TEST_F(LostPagesTest, AndATornEndAreNoFindings) {
  const auto verify = [this] {
    return *VerifyDirectory(path_, "", [](int64_t, int64_t, int64_t) {});
  };
  const std::string log_path = WriteAheadLog();
  EXPECT_EQ(verify().dropped, "");
  Restore(written_.substr(0, written_.size() - 100), mark_);
  VerificationReport report = verify();
  EXPECT_EQ(report.finding_count, 0) << report.bytes_rehashed.detail;
  EXPECT_EQ(report.end_position, kAcknowledged);
  EXPECT_THAT(report.dropped, HasSubstr(log_path + " ends within a record"));

  Restore(written_.substr(0, written_.size() - 100), late_mark_);
  report = verify();
  EXPECT_GT(report.finding_count, 0);
  EXPECT_EQ(report.dropped, "");

  std::string log = written_;
  Lose(log, synced_ / kPage + 1);
  Restore(log, mark_);
  report = verify();
  EXPECT_EQ(report.finding_count, 0) << report.bytes_rehashed.detail;
  EXPECT_EQ(report.end_position, kAcknowledged);
  EXPECT_THAT(report.dropped, HasSubstr(log_path + " lacks sectors of its last write"));
  EXPECT_EQ(OpenCore(path_)->ReadOnlyCause(), "");

  Restore(log, late_mark_);
  report = verify();
  EXPECT_GT(report.finding_count, 0);
  EXPECT_EQ(report.dropped, "");
}

TEST_F(LostPagesTest, ExcuseNoFlippedBitOfWhatWasAcknowledged) {
  std::string log = written_;
  Lose(log, synced_ / kPage + 1);
  log[synced_ - 100] = static_cast<char>(log[synced_ - 100] ^ 4);
  Restore(log, early_mark_);
  ExpectReadOnly("the log is damaged");
}

// Nor is another damage of that write: no page is missing.
TEST_F(LostPagesTest, AFlippedBitIsNoLostPage) {
  std::string log = written_;
  log[synced_ + 100'000] = static_cast<char>(log[synced_ + 100'000] ^ 4);
  Restore(log, mark_);
  ExpectReadOnly("the log is damaged");
}

// The page that the last write shares with what was synced, and the last one, which is short.
TEST_F(AcceptedLossTest, LessThanASectorThatIsLostOfTheLastWriteIsNoDamage) {
  constexpr size_t kPage = 4096;
  constexpr size_t kSector = 512;
  std::mt19937 random(1);
  for (const bool of_first : {true, false}) {
    SCOPED_TRACE(of_first);
    fs::remove_all(path_);
    std::string mark;
    size_t synced = 0;
    size_t written = 0;
    int64_t head = 0;
    {
      const auto core = OpenCore(path_);
      ASSERT_TRUE(core->CreateStream("raw", PayloadFormat::kBytes).ok());
      for (size_t lost = 0; lost < kSector / 4 || lost >= kSector;) {
        mark = *ReadFile(path_ + "/high_water_mark");
        head = core->head_position();
        synced = ReadFile(WriteAheadLog())->size();
        std::string payload(40'000 + random() % kPage, '\0');
        for (char& byte : payload) byte = static_cast<char>(random());
        AppendBatch batch;
        batch.records.push_back(MakeRecord("raw", std::move(payload)));
        ASSERT_TRUE(core->AppendAndWait(std::move(batch)).ok());
        written = ReadFile(WriteAheadLog())->size();
        lost = of_first ? kPage - synced % kPage : written % kPage;
      }
    }
    std::string log = *ReadFile(WriteAheadLog());
    const size_t from = of_first ? synced : written / kPage * kPage;
    const size_t to = of_first ? synced / kPage * kPage + kPage : written;
    log.replace(from, to - from, to - from, '\0');
    Write(WriteAheadLog(), log);
    Write(path_ + "/high_water_mark", mark);
    const auto core = OpenCore(path_);
    EXPECT_EQ(core->ReadOnlyCause(), "");
    EXPECT_EQ(core->head_position(), head);
  }
}

TEST_F(AcceptedLossTest, AMissingOrDamagedMarkIsMadeAgain) {
  Fill();
  fs::remove(path_ + "/high_water_mark");
  ExpectReadOnly("is missing");
  ExpectGoesOn(1000);
  Write(path_ + "/high_water_mark", "x");
  ExpectReadOnly("is damaged");
  ExpectGoesOn(1002);
}

TEST_F(AcceptedLossTest, WhatIsWholeLosesNothing) {
  Fill();
  const auto core = Accept(7);
  EXPECT_EQ(core->ReadOnlyCause(), "");
  EXPECT_EQ(core->AcceptedLoss(), "");
  EXPECT_EQ(core->head_position(), 1000);
}

TEST_F(CoreRecoveryTest, ADirectoryThatCannotBeUsedIsAnError) {
  std::ofstream(path_) << "a file";
  CoreOptions options;
  options.directory = path_;
  EXPECT_FALSE(Core::Open(options).ok());
}

}  // namespace
}  // namespace icepie
