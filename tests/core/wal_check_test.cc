// A write-ahead log that RocksDB has written, read as a file: whole, damaged anywhere, cut off
// anywhere.
#include "core/log/wal_check.h"

#include <gmock/gmock.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "core/base/file.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/byte_order.h"
#include "core/log/log_store.h"
#include "core/verify/verification.h"
#include "tests/core/broken_directory.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class WalCheckTest : public testing::Test {
 protected:
  // Records of all sizes, some of several blocks of the log.
  void SetUp() override {
    core_ = OpenCore(directory_.path() + "/core");
    ASSERT_TRUE(core_->CreateStream("raw", PayloadFormat::kBytes).ok());
    std::mt19937_64 random(1);
    for (const size_t bytes : {10, 3000, 40000, 1, 32768, 100000, 7, 32000, 700, 5000, 90}) {
      std::string payload(bytes, '\0');
      for (char& byte : payload) byte = static_cast<char>(random());
      AppendBatch batch;
      batch.records.push_back(MakeRecord("raw", std::move(payload)));
      ASSERT_TRUE(core_->AppendAndWait(std::move(batch)).ok());
    }
    for (const auto& file : fs::directory_iterator(directory_.path() + "/core/rocksdb")) {
      if (file.path().extension() == ".log") log_ = file.path();
    }
    bytes_ = *ReadFile(log_);
    ASSERT_GT(bytes_.size(), 200000U);
  }

  absl::StatusOr<WalCheck> Check(const std::string& bytes) {
    std::ofstream(copy_, std::ios::binary | std::ios::trunc) << bytes;
    return CheckWalFile(copy_, 0);
  }

  TempDirectory directory_;
  const std::string copy_ = directory_.path() + "/copy.log";
  std::unique_ptr<Core> core_;
  std::string log_;
  std::string bytes_;
};

TEST(Crc32cTest, IsCastagnolis) {
  EXPECT_EQ(Crc32c(0, "123456789"), 0xe3069283U);  // RFC 3720, appendix B.4, has others
  EXPECT_EQ(Crc32c(0, std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(Crc32c(0, std::string(32, '\xff')), 0x62a8ab43U);
}

TEST_F(WalCheckTest, AWholeLogIsWhole) {
  const auto check = Check(bytes_);
  ASSERT_TRUE(check.ok()) << check.status();
  EXPECT_TRUE(check->is_whole);
  EXPECT_GT(check->checked_bytes, 150000);
  EXPECT_TRUE(CheckWalFile(copy_, check->checked_bytes)->is_whole);
  EXPECT_FALSE(HasTornEnd(copy_));
  EXPECT_TRUE(absl::IsNotFound(CheckWalFile(copy_ + "x", 0).status()));
}

TEST_F(WalCheckTest, AFlippedBitAnywhereIsNamed) {
  std::string damaged = bytes_;
  for (size_t i = 0; i < bytes_.size(); i += i < 100 ? 1 : 1009) {
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << i % 8));
    const auto check = Check(damaged);
    // A length may lead beyond the end of the file, as if the record were still being written.
    EXPECT_TRUE(!check.ok() || !check->is_whole) << i;
    if (!check.ok()) {
      EXPECT_EQ(ErrorReason(check.status()), "RECORD_DAMAGED");
      EXPECT_THAT(std::string(check.status().message()), HasSubstr(copy_));
    }
    damaged[i] = bytes_[i];
  }
}

TEST_F(WalCheckTest, ACutIsNoDamageButSeen) {
  int whole = 0;
  for (size_t i = 1; i < bytes_.size(); i += 499) {
    const auto check = Check(bytes_.substr(0, i));
    ASSERT_TRUE(check.ok()) << i << ": " << check.status();
    whole += static_cast<int>(check->is_whole);
    EXPECT_EQ(HasTornEnd(copy_), !check->is_whole) << i;
  }
  EXPECT_LT(whole, 5) << "that many cuts did not meet a record's end by chance";
}

// While somebody appends, what is being written is no damage.
TEST_F(WalCheckTest, ARunningCoresLogIsWholeAtAnyMoment) {
  std::atomic<bool> stopping{false};
  std::thread writer([&] {
    for (int64_t n = 0; !stopping; ++n) {
      AppendBatch batch;
      batch.records.push_back(
          MakeRecord("raw", std::string(static_cast<size_t>(n % 50) * 3000, static_cast<char>(n))));
      ASSERT_TRUE(core_->AppendAndWait(std::move(batch)).ok());
    }
  });
  for (int i = 0; i < 200; ++i) {
    const auto check = CheckWalFile(log_, 0);
    EXPECT_TRUE(check.ok() || absl::IsNotFound(check.status())) << check.status();
  }
  stopping = true;
  writer.join();
  EXPECT_TRUE(CheckWalFile(log_, 0)->is_whole);
}

// A log in RocksDB's form whose last record was not synced when the power went.
class LostSectorsTest : public testing::Test {
 protected:
  static constexpr size_t kBlock = 32768;
  static constexpr size_t kHeader = 7;
  static constexpr size_t kPage = 4096;

  // Acknowledged; then the log has `synced` bytes, of which the last `zeros` are that.
  void WriteSynced(size_t synced, size_t zeros = 0) {
    log_.clear();
    Write(Random(1000));
    while (log_.size() + kHeader < synced) {
      const size_t room = std::min(synced - log_.size(), kBlock - log_.size() % kBlock) - kHeader;
      Write(Random(room - zeros) + std::string(zeros, '\0'));
    }
    synced_ = log_.size();
  }

  void Write(std::string bytes) {
    bool is_first = true;
    do {
      const size_t left = kBlock - log_.size() % kBlock;
      if (left < kHeader) log_.append(left, '\0');
      const size_t room = (left < kHeader ? kBlock : left) - kHeader;
      const bool is_last = bytes.size() <= room;
      const std::string part = bytes.substr(0, room);
      bytes.erase(0, part.size());
      std::string covered(1, static_cast<char>(is_first ? (is_last ? 1 : 2) : (is_last ? 4 : 3)));
      covered += part;
      const uint32_t crc = Crc32c(0, covered);
      PutLittleEndian<uint32_t>(log_, ((crc >> 15) | (crc << 17)) + 0xa282ead8);
      PutLittleEndian<uint16_t>(log_, static_cast<uint16_t>(part.size()));
      log_ += covered;
      is_first = is_last;
    } while (!bytes.empty());
  }

  std::string Random(size_t bytes) {
    std::string text(bytes, '\0');
    for (char& byte : text) byte = static_cast<char>(random_());
    return text;
  }

  // The page that has byte `at`, as far as it was not synced.
  std::string WithoutPageOf(size_t at) const {
    const size_t from = std::max(synced_, at / kPage * kPage);
    const size_t to = std::min(log_.size(), at / kPage * kPage + kPage);
    std::string left = log_;
    return left.replace(from, to - from, to - from, '\0');
  }

  bool Lacks(const std::string& log) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << log;
    return LacksSectorsOfItsLastRecord(path_);
  }

  TempDirectory directory_;
  const std::string path_ = directory_.path() + "/lost.log";
  std::mt19937 random_;
  std::string log_;
  size_t synced_ = 0;
};

// Wherever the record begins in its page and ends in its last one.
TEST_F(LostSectorsTest, OfTheLastRecordAreSeen) {
  for (const size_t before : {1, 3, 4, 5, 6, 7, 100, 511, 3000}) {  // a page's end
    for (const size_t bytes : {2000, 9000, 37000}) {
      WriteSynced((before % 2 == 0 ? 1 : 8) * kPage - before);
      Write(Random(bytes +
                   (before == 100 ? kPage - (log_.size() + kHeader + bytes) % kPage + 1 : 0)));
      EXPECT_FALSE(Lacks(log_));
      for (size_t at = synced_; at < log_.size(); at = at / kPage * kPage + kPage) {
        const std::string left = WithoutPageOf(at);
        if (left != log_) EXPECT_TRUE(Lacks(left)) << before << ", " << bytes << ", " << at;
      }
    }
  }
}

TEST_F(LostSectorsTest, AreNotThoseOfASyncedRecord) {
  WriteSynced(3 * kPage - 100);
  Write(Random(5000));
  std::string left = log_;
  left.replace(kPage, kPage, kPage, '\0');
  EXPECT_FALSE(Lacks(left));
}

// Of the last record that was acknowledged, when the next one has lost its begin. Zeros of its own
// and a length that reaches into those that were lost are no reason.
TEST_F(LostSectorsTest, DoNotExcuseAFlippedBitBeforeThem) {
  for (const size_t zeros : {0, 510}) {
    WriteSynced(2 * kPage - 10, zeros);
    const size_t last = 1000 + kHeader;
    Write(Random(9000));
    std::string left = log_;
    left.replace(synced_, kPage + 10, kPage + 10, '\0');
    ASSERT_TRUE(Lacks(left));
    for (size_t at = last; at < synced_; at += at < last + kHeader ? 1 : 1009) {
      for (int bit = 0; bit < 8; ++bit) {
        left[at] = static_cast<char>(left[at] ^ (1 << bit));
        EXPECT_FALSE(Lacks(left)) << zeros << ", " << at << ", " << bit;
        left[at] = static_cast<char>(left[at] ^ (1 << bit));
      }
    }
  }
}

// A disk on which a write to a write-ahead log can be stopped half-way.
class StoppableFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  StoppableFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "StoppableFileSystem"; }

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* debug) override {
    std::unique_ptr<rocksdb::FSWritableFile> inner;
    rocksdb::IOStatus status = target()->NewWritableFile(name, options, &inner, debug);
    if (!status.ok()) return status;
    const bool is_log = fs::path(name).extension() == ".log";
    *file = is_log ? std::make_unique<Log>(std::move(inner), this) : std::move(inner);
    return status;
  }

  void Stop() {
    const MutexLock lock(mutex_);
    stops_ = true;
  }
  // As on a disk that is full in the middle of a write.
  void Fail() { fails_ = true; }
  void WaitUntilStopped() {
    const MutexLock lock(mutex_);
    while (!stopped_) changed_.Wait(mutex_);
  }
  void GoOn() {
    const MutexLock lock(mutex_);
    stops_ = false;
    changed_.SignalAll();
  }

 private:
  class Log final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    using FSWritableFileOwnerWrapper::Append;
    Log(std::unique_ptr<rocksdb::FSWritableFile> inner, StoppableFileSystem* owner)
        : FSWritableFileOwnerWrapper(std::move(inner)), owner_(owner) {}

    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
      const size_t half = data.size() / 2;
      rocksdb::IOStatus status =
          FSWritableFileOwnerWrapper::Append({data.data(), half}, options, debug);
      if (!status.ok()) return status;
      owner_->PassHalf();
      if (owner_->fails_) return rocksdb::IOStatus::NoSpace("by the test");
      return FSWritableFileOwnerWrapper::Append({data.data() + half, data.size() - half}, options,
                                                debug);
    }

   private:
    StoppableFileSystem* const owner_;
  };

  void PassHalf() {
    const MutexLock lock(mutex_);
    while (stops_) {
      stopped_ = true;
      changed_.SignalAll();
      changed_.Wait(mutex_);
    }
  }

  std::atomic<bool> fails_{false};
  Mutex mutex_;
  CondVar changed_;
  bool stops_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

class LiveLogTest : public testing::Test {
 protected:
  LiveLogTest() : env_(rocksdb::NewCompositeEnv(files_)) {
    store_ = *LogStore::Open({path_, LogStore::Mode::kReadWrite, env_.get()});
  }

  void Write() { ASSERT_TRUE(store_->ChangeCatalog({{"key", std::string(100000, 'x')}}).ok()); }

  LogStore::StoredFile Log() {
    const auto files = *store_->ListFiles();
    for (const LogStore::StoredFile& file : files) {
      if (absl::EndsWith(file.path, ".log")) return file;
    }
    return {};
  }

  VerificationReport Verify() {
    const auto segments = *SegmentSet::Load(*store_, directory_.path() + "/segments");
    const auto streams = *StreamRegistry::Load(*store_);
    VerificationTask task;
    task.records = {store_.get(), segments.get(), streams.get()};
    task.patience = absl::Milliseconds(20);
    Verification verification(task);
    while (verification.Step()) continue;
    return verification.Finish();
  }

  TempDirectory directory_;
  const std::string path_ = directory_.path() + "/rocksdb";
  const std::shared_ptr<StoppableFileSystem> files_ = std::make_shared<StoppableFileSystem>();
  const std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<LogStore> store_;
};

// What was not verified is not said to be.
TEST_F(LiveLogTest, ThatIsWrittenForTooLongIsNotVerified) {
  Write();
  EXPECT_EQ(Verify().bytes_rehashed.state, VerificationAnswer::State::kHolds);
  files_->Stop();
  std::thread writer([this] { Write(); });
  files_->WaitUntilStopped();
  const absl::Status status =
      store_->CheckFile(Log(), {nullptr, /*patience=*/absl::Milliseconds(20)});
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(Log().path));
  const VerificationReport report = Verify();
  EXPECT_EQ(report.bytes_rehashed.state, VerificationAnswer::State::kNotChecked);
  EXPECT_THAT(report.bytes_rehashed.detail, HasSubstr(Log().path));
  EXPECT_EQ(report.finding_count, 0);
  EXPECT_FALSE(report.ok());
  // Whoever asked may have waited long enough before that.
  EXPECT_TRUE(absl::IsCancelled(store_->CheckFile(Log(), {[](int64_t) { return false; }})));
  files_->GoOn();
  writer.join();
  EXPECT_EQ(Verify().bytes_rehashed.state, VerificationAnswer::State::kHolds);
}

// The disk says what is there, not what must be.
TEST_F(LiveLogTest, ThatIsMissingOrHasLostItsEndIsDamaged) {
  Write();
  const std::string log = Log().path;
  const auto one_write = std::filesystem::file_size(log);
  Write();
  ASSERT_TRUE(store_->CheckFile(Log(), {}).ok());
  std::filesystem::rename(log, log + ".away");
  EXPECT_EQ(Log().path, log);
  const absl::Status missing = store_->CheckFile(Log(), {});
  EXPECT_TRUE(absl::IsDataLoss(missing)) << missing;
  EXPECT_THAT(std::string(missing.message()), HasSubstr(log + " is missing"));
  std::filesystem::rename(log + ".away", log);
  ASSERT_TRUE(store_->CheckFile(Log(), {}).ok());
  for (const auto bytes : {one_write, decltype(one_write){0}}) {
    std::filesystem::resize_file(log, bytes);  // where a record ends
    const absl::Status short_one = store_->CheckFile(Log(), {});
    EXPECT_TRUE(absl::IsDataLoss(short_one)) << short_one;
    EXPECT_THAT(std::string(short_one.message()), HasSubstr(log + " has lost its end"));
  }
  EXPECT_EQ(Verify().bytes_rehashed.state, VerificationAnswer::State::kFails);
}

// Nothing that was acknowledged is there, and the next start drops it; an older log has no such
// end.
TEST_F(LiveLogTest, ThatTookHalfOfAWriteIsNotDamaged) {
  Write();
  files_->Fail();
  EXPECT_FALSE(store_->ChangeCatalog({{"key", std::string(100000, 'x')}}).ok());
  EXPECT_FALSE(CheckWalFile(Log().path, 0)->is_whole);
  const VerificationReport report = Verify();
  EXPECT_EQ(report.bytes_rehashed.state, VerificationAnswer::State::kHolds)
      << report.bytes_rehashed.detail;
  EXPECT_EQ(report.finding_count, 0);
  const std::string older = path_ + "/000001.log";
  std::ofstream(older, std::ios::binary) << "torn";
  EXPECT_TRUE(absl::IsDataLoss(store_->CheckFile({older, "", 4}, {})));
}

// A log that is not listed is not verified: that is no answer that all is well.
TEST_F(LiveLogTest, WhoseDirectoryCannotBeReadIsFound) {
  Write();
  for (const int entries : {0, 3}) {
    const BrokenDirectory broken(path_, entries);
    EXPECT_FALSE(store_->ListFiles().ok());
    const VerificationReport report = Verify();
    EXPECT_EQ(report.bytes_rehashed.state, VerificationAnswer::State::kFails);
    EXPECT_THAT(report.bytes_rehashed.detail, HasSubstr(path_));
    EXPECT_EQ(report.finding_count, 1);
  }
  EXPECT_EQ(Verify().bytes_rehashed.state, VerificationAnswer::State::kHolds);
}

// However busy: what was there at the beginning is verified, and damage in it is found, also at the
// end of a log that nobody writes to any more.
TEST_F(LiveLogTest, ThatIsNeverCalmIsVerified) {
  const std::string torn = path_ + "/000001.log";
  std::atomic<bool> stopping{false};
  std::atomic<int64_t> written{0};
  std::thread writer([&] {
    for (; !stopping; ++written) Write();
  });
  EXPECT_TRUE(EventuallyInCore([&] { return written > 0; }));
  for (int i = 0; i < 5; ++i) {
    const absl::Status status = store_->CheckFile(Log(), {});
    EXPECT_TRUE(status.ok()) << status;
  }
  std::ofstream(torn, std::ios::binary) << "torn";
  const absl::Status status = store_->CheckFile({torn, "", 4}, {});
  EXPECT_THAT(std::string(status.message()), HasSubstr("ends within a record"));
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  stopping = true;
  writer.join();
}

}  // namespace
}  // namespace icepie
