// Full disks: the decisions with injected figures, then a real small file system, filled again and
// again. ICEPIE_DISK_FULL_ROUNDS sets how often (10 without it).
#include "core/log/disk_space.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "core/base/status.h"
#include "tests/core/core_testing.h"
#include "tests/core/small_disk.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

using testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;

bool Exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool Eventually(const std::function<bool()>& holds) {
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!holds()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return true;
}

class DiskSpaceTest : public testing::Test {
 protected:
  DiskSpace::Options Options(int64_t min, int64_t ballast) {
    return {directory_.path(), min, ballast,
            [this](const std::string&) -> absl::StatusOr<int64_t> { return free_.load(); }};
  }
  std::string Ballast() const { return directory_.path() + "/ballast"; }

  TempDirectory directory_;
  std::atomic<int64_t> free_{1000 * kMiB};
};

TEST_F(DiskSpaceTest, TheBallastGoesWhenTheDiskIsFullAndComesBackWithSpace) {
  DiskSpace space(Options(40 * kMiB, 4 * kMiB));
  EXPECT_FALSE(Exists(Ballast()));  // made by the first look, not before
  space.Update();
  struct stat file {};
  ASSERT_EQ(::stat(Ballast().c_str(), &file), 0);
  EXPECT_EQ(file.st_size, 4 * kMiB);
  EXPECT_GE(file.st_blocks * 512, 4 * kMiB) << "a sparse file keeps nothing free";
  EXPECT_TRUE(space.CheckAppend().ok());

  free_ = 40 * kMiB;
  space.Update();
  EXPECT_FALSE(space.full()) << "exactly the watermark is enough";
  free_ = 40 * kMiB - 1;
  space.Update();
  EXPECT_TRUE(space.full());
  EXPECT_FALSE(Exists(Ballast()));
  const absl::Status refused = space.CheckAppend();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrorReason(refused), "CORE_DISK_FULL");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("core.free_bytes_min"));
  EXPECT_EQ(GetErrorDetail(refused)->metadata.at("needed_bytes"), std::to_string(54 * kMiB));
  EXPECT_TRUE(space.CheckReserve().ok());

  // The ballast's own bytes must not end what gave them back.
  free_ = 44 * kMiB - 1;
  space.Update();
  EXPECT_TRUE(space.full());
  free_ = 54 * kMiB - 1;
  space.Update();
  EXPECT_TRUE(space.full());
  free_ = 54 * kMiB;
  space.Update();
  EXPECT_FALSE(space.full());
  EXPECT_TRUE(Exists(Ballast()));
}

TEST_F(DiskSpaceTest, TheReserveHasAnEndToo) {
  DiskSpace space(Options(40 * kMiB, 4 * kMiB));
  free_ = 5 * kMiB;
  space.Update();
  EXPECT_TRUE(space.CheckReserve().ok());
  free_ = 5 * kMiB - 1;
  space.Update();
  EXPECT_EQ(ErrorReason(space.CheckReserve()), "CORE_DISK_FULL");
}

TEST_F(DiskSpaceTest, ADiskThatIsNotWatchedIsNeverFull) {
  free_ = 0;
  DiskSpace space(Options(0, 4 * kMiB));
  space.Update();
  EXPECT_TRUE(space.CheckAppend().ok());
  EXPECT_FALSE(Exists(Ballast()));
}

TEST_F(DiskSpaceTest, ADiskThatCannotBeLookedAtStaysAsItWas) {
  DiskSpace::Options options = Options(40 * kMiB, 0);
  std::atomic<bool> fails{false};
  options.free_bytes = [&](const std::string&) -> absl::StatusOr<int64_t> {
    if (fails) return absl::UnavailableError("no such disk");
    return free_.load();
  };
  DiskSpace space(options);
  free_ = 1;
  space.Update();
  fails = true;
  space.Update();
  EXPECT_TRUE(space.full());
}

// The figure was never below the watermark: the disk's being nearly full is not what ended appends.
TEST_F(DiskSpaceTest, AQuotaThatHasRoomAgainEndsTheRefusalAlsoNearTheWatermark) {
  DiskSpace space(Options(40 * kMiB, 4 * kMiB));
  space.Update();
  free_ = 44 * kMiB - 1;
  space.Update();
  ASSERT_FALSE(space.full());
  ASSERT_TRUE(space.GiveBallast());
  ASSERT_TRUE(space.full());
  space.Update();
  EXPECT_TRUE(space.full()) << "the ballast would not leave the watermark free";
  EXPECT_EQ(GetErrorDetail(space.CheckAppend())->metadata.at("needed_bytes"),
            std::to_string(44 * kMiB));
  free_ = 44 * kMiB;
  space.Update();
  EXPECT_FALSE(space.full());
  EXPECT_TRUE(Exists(Ballast()));
}

TEST_F(DiskSpaceTest, ADiskThatWasNearlyFullAsWellNeedsMore) {
  DiskSpace space(Options(40 * kMiB, 4 * kMiB));
  space.Update();
  ASSERT_TRUE(space.GiveBallast());
  free_ = 40 * kMiB - 1;
  space.Update();
  free_ = 54 * kMiB - 1;
  space.Update();
  EXPECT_TRUE(space.full());
  free_ = 54 * kMiB;
  space.Update();
  EXPECT_FALSE(space.full());
}

// Without it, the first write that meets a quota would have none to take.
TEST_F(DiskSpaceTest, AStartMakesTheBallastWhereItLeavesTheWatermarkFree) {
  free_ = 44 * kMiB;
  DiskSpace space(Options(40 * kMiB, 4 * kMiB));
  space.Update();
  EXPECT_FALSE(space.full());
  EXPECT_TRUE(Exists(Ballast()));
}

TEST_F(DiskSpaceTest, AStartWithLessRoomThanThatTriesItOnly) {
  free_ = 44 * kMiB - 1;
  DiskSpace space(Options(40 * kMiB, 4 * kMiB));
  space.Update();
  EXPECT_FALSE(space.full());
  EXPECT_FALSE(Exists(Ballast()));
}

TEST_F(DiskSpaceTest, AnOldBallastIsKeptAndAnotherSizeMadeAnew) {
  DiskSpace(Options(kMiB, 4 * kMiB)).Update();
  struct stat first {};
  ASSERT_EQ(::stat(Ballast().c_str(), &first), 0);
  DiskSpace(Options(kMiB, 4 * kMiB)).Update();
  struct stat second {};
  ASSERT_EQ(::stat(Ballast().c_str(), &second), 0);
  EXPECT_EQ(first.st_mtim.tv_nsec, second.st_mtim.tv_nsec);
  DiskSpace(Options(kMiB, 2 * kMiB)).Update();
  EXPECT_EQ(std::filesystem::file_size(Ballast()), 2 * kMiB);
}

class CoreOnFullDiskTest : public DiskSpaceTest {
 protected:
  std::unique_ptr<Core> Open() {
    CoreOptions options;
    options.directory = directory_.path();
    options.free_bytes_min = 40 * kMiB;
    options.ballast_bytes = kMiB;
    options.free_bytes = Options(0, 0).free_bytes;
    return *Core::Open(options);
  }
};

TEST_F(CoreOnFullDiskTest, ClientsAreRefusedAndAllElseGoesOn) {
  const std::unique_ptr<Core> core = Open();
  ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
  ASSERT_TRUE(core->CreateInternalStream("_admin", PayloadFormat::kJson).ok());
  ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", 0, 3)).ok());
  EXPECT_FALSE(core->Disk().full);

  free_ = 39 * kMiB;
  const auto refused = core->AppendAndWait(NumberedBatch("a", 3, 1));
  EXPECT_EQ(ErrorReason(refused.status()), "CORE_DISK_FULL") << refused.status();
  EXPECT_TRUE(core->Disk().full);
  EXPECT_EQ(core->ReadOnlyCause(), "");
  EXPECT_TRUE(core->AppendAndWait(NumberedBatch("_admin", 0, 1)).ok());
  EXPECT_TRUE(core->ChangeCatalog({{"k", "v"}}).ok());
  EXPECT_EQ(ReadAll(*core).size(), 4u);

  free_ = kMiB;  // even the reserve is gone
  EXPECT_EQ(ErrorReason(core->ChangeCatalog({{"k", "w"}})), "CORE_DISK_FULL");
  EXPECT_EQ(ErrorReason(core->AppendAndWait(NumberedBatch("_admin", 1, 1)).status()),
            "CORE_DISK_FULL");

  free_ = 1000 * kMiB;  // nobody appends: it must notice by itself
  EXPECT_TRUE(Eventually([&] { return !core->Disk().full; }));
  EXPECT_EQ(core->AppendAndWait(NumberedBatch("a", 3, 1))->first_position, 4);
}

// A retry of what was stored while there was space needs none.
TEST_F(CoreOnFullDiskTest, ARetryIsAnsweredAndANewIdIsRefused) {
  const std::unique_ptr<Core> core = Open();
  ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
  const auto append = [&](const std::string& id) {
    AppendBatch batch = NumberedBatch("a", 0, 1);
    batch.identity = AppendIdentity{id, "", 0, 0};
    return core->AppendAndWait(std::move(batch));
  };
  ASSERT_TRUE(append("x").ok());
  free_ = 39 * kMiB;
  EXPECT_EQ(ErrorReason(append("y").status()), "CORE_DISK_FULL");
  ASSERT_TRUE(core->Disk().full);
  const auto again = append("x");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->replayed);
  EXPECT_EQ(core->head_position(), 1);
}

TEST_F(CoreOnFullDiskTest, ABatchBehindARefusedOneOfItsChainIsNotStored) {
  const std::unique_ptr<Core> core = Open();
  ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
  AppendBatch first = NumberedBatch("a", 0, 1);
  first.chain = std::make_shared<AppendChain>();
  AppendBatch second = NumberedBatch("a", 1, 1);
  second.chain = first.chain;
  free_ = 1;
  EXPECT_EQ(ErrorReason(core->AppendAndWait(std::move(first)).status()), "CORE_DISK_FULL");
  free_ = 1000 * kMiB;
  EXPECT_TRUE(Eventually([&] { return !core->Disk().full; }));
  EXPECT_EQ(ErrorReason(core->AppendAndWait(std::move(second)).status()), "APPEND_CHAIN_BROKEN");
}

TEST_F(CoreOnFullDiskTest, AFullDiskAtTheStartIsGivenItsBallastBack) {
  Open().reset();
  ASSERT_TRUE(Exists(Ballast()));
  free_ = 39 * kMiB;
  const std::unique_ptr<Core> core = Open();
  EXPECT_FALSE(Exists(Ballast()));
  EXPECT_TRUE(core->Disk().full);
}

// The watermark must hold what RocksDB writes in the background; config/settings.cc has the same.
constexpr int64_t kWatermark = 128 * kMiB;
constexpr int64_t kBallast = 32 * kMiB;

// A real file system that is really full.
class SmallDiskTest : public testing::Test {
 protected:
  // What does not compress.
  NewRecord Noise(size_t bytes) {
    NewRecord record = MakeRecord("noise", std::string(bytes, '\0'));
    for (char& c : record.payload) c = static_cast<char>(random_());
    return record;
  }

  // Appends until it is refused, and returns why.
  absl::Status FillWithRecords(Core& core, int records, size_t bytes) {
    while (true) {
      AppendBatch batch;
      for (int i = 0; i < records; ++i) batch.records.push_back(Noise(bytes));
      const auto result = core.AppendAndWait(std::move(batch));
      if (!result.ok()) return result.status();
      acknowledged_ = result->end_position;
    }
  }

  // Another program's file that leaves `left` bytes.
  static void FillWithFile(const std::string& path, int64_t left, const std::string& disk) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    // In pieces, since the core takes some of it meanwhile: what it keeps in reserve stays.
    int64_t size = 0;
    for (int64_t more = *FreeBytesOf(disk) - left; more > 0; more = *FreeBytesOf(disk) - left) {
      const int64_t piece = std::min(more, 16 * kMiB);
      if (::fallocate(fd, 0, size, piece) == 0) {
        size += piece;
      } else {
        ASSERT_EQ(errno, ENOSPC);
      }
    }
    ::close(fd);
  }

  std::unique_ptr<Core> Open(const std::string& disk) {
    CoreOptions options;
    options.directory = disk + "/core";
    options.free_bytes_min = kWatermark;
    options.ballast_bytes = kBallast;
    auto core = Core::Open(options);
    EXPECT_TRUE(core.ok()) << core.status();
    return std::move(core).value();
  }

  // At a start with that figure of free bytes, which does not know the quota.
  void ExpectAUsedUpQuotaIsNoticed(int64_t figure);

  void ExpectReadable(const Core& core) {
    const std::vector<ReadRecord> records = ReadAll(core, {"noise"});
    ASSERT_EQ(static_cast<int64_t>(records.size()), core.GetStream("noise")->end_offset);
    for (const ReadRecord& record : records) ASSERT_GE(record.payload.size(), 200u);
  }

  std::mt19937 random_{7};
  int64_t acknowledged_ = 0;
};

TEST_F(SmallDiskTest, AFullDiskRefusesAndHealsManyTimes) {
  const char* wanted = std::getenv("ICEPIE_DISK_FULL_ROUNDS");
  const int rounds = wanted != nullptr ? std::atoi(wanted) : 10;
  constexpr int64_t kDiskBytes = 640 * kMiB;
  const SmallDisk disk(kDiskBytes);
  if (!disk.mounted()) GTEST_SKIP() << "no privilege to mount; the decisions are tested above";
  const std::unique_ptr<Core> core = Open(disk.path());
  ASSERT_TRUE(core->CreateStream("noise", PayloadFormat::kBytes).ok());
  ASSERT_TRUE(core->CreateInternalStream("_admin", PayloadFormat::kJson).ok());
  const std::string file = disk.path() + "/of_another_program";
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(round);
    // Records are never deleted, so each round takes a little for good.
    ASSERT_TRUE(disk.Resize(kDiskBytes + (round + 1) * 6 * kMiB));
    std::thread other([&] {
      const int64_t less = 1 + static_cast<int64_t>(round % 4) * kMiB;
      FillWithFile(file, kWatermark - less, disk.path());
    });
    const absl::Status refused = FillWithRecords(*core, 1, 200);
    other.join();
    ASSERT_EQ(ErrorReason(refused), "CORE_DISK_FULL") << refused;
    ASSERT_EQ(core->ReadOnlyCause(), "");
    const absl::Status own = core->AppendAndWait(NumberedBatch("_admin", round, 1)).status();
    ASSERT_TRUE(own.ok()) << own;
    const absl::Status changed = core->ChangeCatalog({{"round", std::to_string(round)}});
    ASSERT_TRUE(changed.ok()) << changed;
    ASSERT_GE(core->head_position(), acknowledged_);
    std::filesystem::remove(file);
    ASSERT_GE(*FreeBytesOf(disk.path()), 210 * kMiB) << "the records alone have filled it";
    ASSERT_TRUE(Eventually([&] { return !core->Disk().full; }));
    ASSERT_EQ(std::filesystem::file_size(disk.path() + "/core/ballast"), kBallast);
    if (round % 50 == 49) std::cerr << round + 1 << " rounds\n";  // long runs say how far they are
  }
  ExpectReadable(*core);
}

// Another program takes the last byte between the look and the write. The log has no space of its
// own by then, since there was too little when it was begun.
TEST_F(SmallDiskTest, AWriteThatFindsTheDiskFullTakesTheBallast) {
  const SmallDisk disk(32 * kMiB);
  if (!disk.mounted()) GTEST_SKIP() << "no privilege to mount; every_call_test has it injected";
  const std::string file = disk.path() + "/of_another_program";
  std::optional<int64_t> leave;  // when the next records are written
  bool gives_back = true;
  CoreOptions options;
  options.directory = disk.path() + "/core";
  options.free_bytes_min = kMiB;
  options.ballast_bytes = 4 * kMiB;
  options.sealing.enabled = false;  // it would look at the disk in between, too
  options.on_write_step = [&](WriteStep step) {
    if (step == WriteStep::kPlanned && leave) FillWithFile(file, *leave, disk.path());
    if (step == WriteStep::kLogSynced && leave && gives_back) std::filesystem::remove(file);
  };
  std::vector<std::string> payloads;
  const auto append = [&](Core& core, size_t bytes) {
    AppendBatch batch;
    batch.records.push_back(Noise(bytes));
    const std::string payload = batch.records[0].payload;
    absl::Status status = core.AppendAndWait(std::move(batch)).status();
    if (status.ok()) payloads.push_back(payload);
    return status;
  };
  ASSERT_TRUE((*Core::Open(options))->CreateStream("noise", PayloadFormat::kBytes).ok());
  {
    const std::unique_ptr<Core> core = *Core::Open(options);  // with a new log
    leave = 64 << 10;
    ASSERT_TRUE(append(*core, 200).ok());
    leave = 0;
    gives_back = false;
    const absl::Status met = append(*core, 300'000);
    ASSERT_TRUE(met.ok()) << met;
    leave.reset();
    EXPECT_FALSE(Exists(options.directory + "/ballast"));
    EXPECT_TRUE(core->Disk().full);
    EXPECT_EQ(ErrorReason(append(*core, 200)), "CORE_DISK_FULL");
    std::filesystem::remove(file);
    ASSERT_TRUE(Eventually([&] { return !core->Disk().full; }));
    EXPECT_TRUE(append(*core, 200).ok());
    EXPECT_EQ(core->ReadOnlyCause(), "");
  }
  const std::unique_ptr<Core> core = *Core::Open(options);
  EXPECT_EQ(core->ReadOnlyCause(), "");
  const std::vector<ReadRecord> records = ReadAll(*core);
  ASSERT_EQ(records.size(), payloads.size());
  for (size_t i = 0; i < records.size(); ++i) EXPECT_TRUE(records[i].payload == payloads[i]) << i;
}

// That it does not fit into what is free is no sign of a quota.
TEST_F(SmallDiskTest, ABallastThatIsLargerThanTheDiskKeepsNoStartFromAppending) {
  const SmallDisk disk(64 * kMiB);
  if (!disk.mounted()) GTEST_SKIP() << "no privilege to mount";
  CoreOptions options;
  options.directory = disk.path() + "/core";
  options.free_bytes_min = kMiB;
  options.ballast_bytes = 128 * kMiB;
  const std::unique_ptr<Core> core = *Core::Open(options);
  EXPECT_FALSE(core->Disk().full);
  ASSERT_TRUE(core->CreateStream("noise", PayloadFormat::kBytes).ok());
  AppendBatch batch;
  batch.records.push_back(Noise(200));
  const auto appended = core->AppendAndWait(std::move(batch));
  EXPECT_TRUE(appended.ok()) << appended.status();
}

void SmallDiskTest::ExpectAUsedUpQuotaIsNoticed(int64_t figure) {
  const SmallDisk disk(64 * kMiB);
  if (!disk.mounted()) GTEST_SKIP() << "no privilege to mount; core_fault_test has it injected";
  const std::string file = disk.path() + "/of_another_program";
  CoreOptions options;
  options.directory = disk.path() + "/core";
  options.free_bytes_min = kMiB;
  options.ballast_bytes = 8 * kMiB;
  std::atomic<int64_t> free{1000 * kMiB};
  options.free_bytes = [&](const std::string&) -> absl::StatusOr<int64_t> { return free.load(); };
  {
    const std::unique_ptr<Core> core = *Core::Open(options);
    ASSERT_TRUE(core->CreateStream("noise", PayloadFormat::kBytes).ok());
    ASSERT_TRUE(core->CreateInternalStream("_admin", PayloadFormat::kJson).ok());
    FillWithFile(file, 0, disk.path());
    const absl::Status refused = FillWithRecords(*core, 1, 100'000);
    ASSERT_EQ(ErrorReason(refused), "CORE_DISK_FULL") << refused;
  }
  free = figure;
  FillWithFile(file, 4 * kMiB, disk.path());  // enough for a start, not for the ballast
  const std::unique_ptr<Core> core = *Core::Open(options);
  EXPECT_EQ(core->ReadOnlyCause(), "");
  EXPECT_TRUE(core->Disk().full);
  EXPECT_EQ(ErrorReason(FillWithRecords(*core, 1, 100'000)), "CORE_DISK_FULL");
  const absl::Status own = core->AppendAndWait(NumberedBatch("_admin", 0, 1)).status();
  EXPECT_TRUE(own.ok()) << own;
  EXPECT_EQ(core->ReadOnlyCause(), "");
  std::filesystem::remove(file);
  free = std::max(figure, options.free_bytes_min + options.ballast_bytes);
  EXPECT_TRUE(Eventually([&] { return !core->Disk().full; }));
  AppendBatch batch;
  batch.records.push_back(Noise(200));
  const absl::Status taken = core->AppendAndWait(std::move(batch)).status();
  EXPECT_TRUE(taken.ok()) << taken;
}

// Where the figure of free bytes does not know it, only writes tell; the start has to ask.
// Whatever the figure is by then, as long as it says that the ballast has room.
TEST_F(SmallDiskTest, AQuotaThatIsUsedUpIsStillThatAfterARestart) {
  for (const int64_t figure : {1000 * kMiB, 9 * kMiB, 9 * kMiB - 1, 8 * kMiB + 1}) {
    SCOPED_TRACE(figure);
    ExpectAUsedUpQuotaIsNoticed(figure);
  }
}

// Records alone fill it, through flushes and compactions; a restart finds room to replay the log.
TEST_F(SmallDiskTest, ACoreThatFilledItsDiskCanBeOpenedAgain) {
  const SmallDisk disk(640 * kMiB);
  if (!disk.mounted()) GTEST_SKIP() << "no privilege to mount; the decisions are tested above";
  for (int start = 0; start < 3; ++start) {
    SCOPED_TRACE(start);
    const std::unique_ptr<Core> core = Open(disk.path());
    ASSERT_EQ(core->ReadOnlyCause(), "");
    ASSERT_TRUE(core->CreateStream("noise", PayloadFormat::kBytes).ok());
    const absl::Status refused = FillWithRecords(*core, 8, 64 << 10);
    ASSERT_EQ(ErrorReason(refused), "CORE_DISK_FULL") << refused;
    EXPECT_GT(acknowledged_, 2000);
    EXPECT_GE(core->head_position(), acknowledged_);
    ExpectReadable(*core);
    EXPECT_TRUE(core->ChangeCatalog({{"start", std::to_string(start)}}).ok());
    EXPECT_EQ(core->ReadOnlyCause(), "");
  }
}

}  // namespace
}  // namespace icepie
