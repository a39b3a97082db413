#include "slices/snapshot/snapshot_store.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "slices/duckdb/duckdb.h"
#include "slices/role/process_mark.h"
#include "slices/role/standby_engine.h"
#include "slices/snapshot/named_snapshots.h"
#include "slices/snapshot/paced_writes.h"
#include "slices/snapshot/past_snapshots.h"
#include "slices/snapshot/snapshot_writer.h"
#include "spdlog/logger.h"
#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/spdlog.h"
#include "tests/core/broken_directory.h"
#include "tests/core/temp_directory.h"
#include "tests/slices/snapshot_fixture.h"

namespace {

thread_local int sync_range_error = 0;

}  // namespace

// In front of the C library's.
extern "C" int sync_file_range(int file, off64_t from, off64_t to, unsigned int flags) {
  errno = sync_range_error;
  return errno != 0 ? -1 : static_cast<int>(::syscall(SYS_sync_file_range, file, from, to, flags));
}

namespace icepie::slices {
namespace {

class SnapshotStoreTest : public SnapshotFixture {
 protected:
  void FlipByte(const std::string& path) {
    std::fstream file(store_.AbsolutePath(path), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(5000);
    const int byte = file.get();
    file.seekp(5000);
    file.put(static_cast<char>(byte ^ 1));
  }

  // Damage that was there before the snapshot was hashed.
  void SpoilBeforeItsHash(const std::string& path) {
    const std::string file = store_.AbsolutePath(path);
    const std::string manifest = absl::StrReplaceAll(file, {{".duckdb", ".json"}});
    const std::string before = Sha256OfFile(file).value();
    FlipByte(path);
    const std::string text =
        absl::StrReplaceAll(ReadFile(manifest).value(), {{before, Sha256OfFile(file).value()}});
    ASSERT_TRUE(WriteFileAtomically(manifest, text).ok());
    ASSERT_TRUE(store_.Check(path).ok());
  }

  // Waits for the standby's total of all orders.
  absl::StatusOr<Answer> TotalOf(StandbyEngine& standby) {
    Question question;
    question.text = std::string("SELECT total FROM by_city");
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    absl::StatusOr<Answer> answer = Ask(standby, question);
    while (!answer.ok() && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(2));
      answer = Ask(standby, question);
    }
    return answer;
  }

  // A file in the domain's directory.
  std::string Fill(int64_t bytes) const {
    const std::string file = directory_ + "/filler";
    std::ofstream(file) << std::string(static_cast<size_t>(bytes), 'x');
    return file;
  }
};

// As on a disk that is damaged there: the process does not end for it.
TEST_F(SnapshotStoreTest, ADirectoryThatBreaksIsReadAsFarAsItGoes) {
  MakeSnapshots();
  const NamedSnapshots named(store_);
  const auto newest = store_.NewestGood("by_city", 1, "");
  ASSERT_TRUE(newest.ok()) << newest.status();
  for (const char* name : {"one", "two"})
    ASSERT_TRUE(named.Add(*newest, {name, "", "", false}).ok());
  const std::string snapshots = directory_ + "/snapshots";
  for (const std::string& broken_one :
       {snapshots, snapshots + "/by_city", snapshots + "/by_city/named", directory_ + "/tmp"}) {
    for (int entries = 0; entries < 6; ++entries) {
      const BrokenDirectory broken(broken_one, entries);
      EXPECT_LE(store_.List("by_city", 1).size(), 3U);
      EXPECT_LE(named.List("by_city").size(), 2U);
      EXPECT_FALSE(store_.NewestOfEarlier("by_city", 1).ok());
      EXPECT_TRUE(store_.Prepare().ok());
      store_.CleanUpAll();
    }
  }
  EXPECT_EQ(store_.List("by_city", 1).size(), 3U);
  EXPECT_EQ(named.List("by_city").size(), 2U);
}

TEST_F(SnapshotStoreTest, PastItsPartOfTheDiskADomainGoesOnWithoutSnapshotsAndSaysSo) {
  const std::string filler = Fill(6 << 20);
  EngineOptions options = Options();
  options.snapshot_interval = absl::Milliseconds(50);
  options.disk_bytes = 5 << 20;
  StartLive(options, feed_);
  Configure({Spec("by_city")});
  feed_.Append("orders", {Order("Bern", 1)});
  const SliceReport full =
      WaitFor("by_city", [](const SliceReport& report) { return report.not_saved.has_value(); });
  EXPECT_EQ(full.not_saved->reason, "DOMAIN_DISK_FULL");
  EXPECT_THAT(full.not_saved->message, testing::HasSubstr("limits.disk"));
  EXPECT_FALSE(full.snapshot);
  WaitForPosition("by_city", feed_.Append("orders", {Order("Bern", 2)}));
  std::filesystem::remove(filler);
  feed_.Append("orders", {Order("Bern", 3)});
  const SliceReport well =
      WaitFor("by_city", [](const SliceReport& report) { return report.snapshot.has_value(); });
  EXPECT_FALSE(well.not_saved);
}

TEST_F(SnapshotStoreTest, OlderSnapshotsMakeRoomForTheNewest) {
  MakeSnapshots();
  ASSERT_EQ(store_.List("by_city", 1).size(), 3u);
  const int64_t one = BytesBelow(store_.directory() + "/snapshots") / 3;
  Fill(4 << 20);
  EngineOptions options = Options();
  options.disk_bytes = BytesBelow(directory_) + one / 2;
  StartLive(options, feed_);
  Configure({Spec("by_city")});
  WaitForPosition("by_city", feed_.Append("orders", {Order("Bern", 4)}));
  engine_->Shutdown();
  const auto paths = store_.List("by_city", 1);
  EXPECT_EQ(paths.size(), 3u) << "no more go than have to";
  EXPECT_EQ(store_.NewestGood("by_city", 1, "")->progress.applied_position, 4);
  EXPECT_FALSE(store_.Check(absl::StrFormat("snapshots/by_city/g1-p%020d.duckdb", 1)).ok());
}

TEST_F(SnapshotStoreTest, WhatBuildsSavedOnTheirWayStaysWhileOlderSnapshotsMakeRoom) {
  MakeSnapshots();
  const std::string unfinished = directory_ + "/unfinished/by_city/g2/to_head";
  std::filesystem::create_directories(unfinished);
  std::ofstream(unfinished + "/filler") << std::string(4 << 20, 'x');
  EngineOptions options = Options();
  options.disk_bytes = BytesBelow(directory_);
  StartLive(options, feed_);
  Configure({Spec("by_city")});
  WaitForPosition("by_city", feed_.Append("orders", {Order("Bern", 4)}));
  engine_->Shutdown();
  EXPECT_EQ(store_.NewestGood("by_city", 1, "")->progress.applied_position, 4);
  EXPECT_TRUE(std::filesystem::exists(unfinished + "/filler"));
}

TEST_F(SnapshotStoreTest, WhatBuildsSavedOnTheirWayMakesRoomAtLast) {
  MakeSnapshots();
  const int64_t one = BytesBelow(store_.directory() + "/snapshots") / 3;
  const std::string unfinished = directory_ + "/unfinished/by_city/g2/to_head";
  std::filesystem::create_directories(unfinished);
  std::ofstream(unfinished + "/filler") << std::string(6 * static_cast<size_t>(one), 'x');
  EngineOptions options = Options();
  options.disk_bytes = BytesBelow(directory_) - 5 * one;  // more than all that is older takes
  StartLive(options, feed_);
  Configure({Spec("by_city")});
  WaitForPosition("by_city", feed_.Append("orders", {Order("Bern", 4)}));
  engine_->Shutdown();
  EXPECT_EQ(store_.NewestGood("by_city", 1, "")->progress.applied_position, 4);
  EXPECT_FALSE(std::filesystem::exists(unfinished));
}

// A snapshot of slice s is saved at position 1,000, beside older ones that only look like some.
class SnapshotKeepingTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(SnapshotStore(directory_.path(), {}).Prepare().ok()); }

  std::string FileOf(const std::string& slice, int64_t position) const {
    return absl::StrFormat("%s/snapshots/%s/g1-p%020d", directory_.path(), slice, position);
  }

  void AddOld(const std::string& slice, int64_t position, absl::Duration age) {
    const std::string file = FileOf(slice, position);
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    std::ofstream(file + ".duckdb") << std::string(1000, 'x');
    std::ofstream(file + ".json") << "{}";
    SetAge(file, age);
  }

  void SetAge(const std::string& file, absl::Duration age) {
    std::filesystem::last_write_time(
        file + ".json", std::filesystem::file_time_type::clock::now() - absl::ToChronoSeconds(age));
  }

  // As much of a generation's database "g" as a snapshot needs.
  static std::unique_ptr<DuckDatabase> MakeState(const std::string& slice, int64_t position,
                                                 int64_t content_version = 0, int64_t rows = 1) {
    auto instance = DuckDatabase::OpenInMemory({}).value();
    const auto connection = DuckConnection::Connect(*instance).value();
    EXPECT_TRUE(connection
                    ->Run(absl::StrCat(
                        "ATTACH ':memory:' AS g; CREATE TABLE g.__result AS SELECT "
                        "md5(range::VARCHAR) AS a FROM range(",
                        rows, "); CREATE TABLE g.__progress AS SELECT ", position,
                        "::BIGINT AS applied_position, 0::BIGINT AS applied_time_us, 0::BIGINT AS "
                        "event_time_max_us, 0::BIGINT AS input, 0::BIGINT AS applied, 0::BIGINT "
                        "AS filtered, 0::BIGINT AS quarantined, ",
                        content_version, "::BIGINT AS content_version"))
                    .ok())
        << slice;
    return instance;
  }

  // A whole one.
  void Save(const SnapshotKeeping& keeping, const std::string& slice = "s",
            int64_t position = 1000) {
    const auto instance = MakeState(slice, position);
    GenerationInfo info;
    info.slice = slice;
    info.number = 1;
    const auto saved = SnapshotStore(directory_.path(), keeping).Save(*instance, "g", info, 10);
    ASSERT_TRUE(saved.ok()) << saved.status();
  }

  // The positions of a slice's snapshots, newest first.
  std::vector<std::string> Left(const std::string& slice) {
    std::vector<std::string> positions;
    for (const std::string& path : SnapshotStore(directory_.path(), {}).List(slice, 1)) {
      const std::string digits = path.substr(path.rfind("-p") + 2, 20);
      positions.push_back(digits.substr(digits.find_first_not_of('0')));
      EXPECT_TRUE(std::filesystem::exists(directory_.path() + "/" + path));
    }
    return positions;
  }

  TempDirectory directory_;
};

// It found no such table in any database, so that its transaction reads all of them.
TEST_F(SnapshotKeepingTest, ASnapshotWaitsForAReaderThatLooksAtEveryDatabase) {
  const auto instance = MakeState("s", 1000);
  const auto reader = DuckConnection::Connect(*instance).value();
  GenerationInfo info;
  info.slice = "s";
  info.number = 1;
  std::atomic<bool> ended = false;
  // Reads again and again, in transactions that are longer than a copy takes.
  std::thread reading([&] {
    while (!ended) {
      EXPECT_TRUE(reader->Run("BEGIN TRANSACTION").ok());
      for (int i = 0; i < 30; ++i) {
        EXPECT_FALSE(reader->Run("SELECT 1 FROM missing_table").ok());
        absl::SleepFor(absl::Milliseconds(5));
      }
      EXPECT_TRUE(reader->Run("ROLLBACK").ok());
    }
  });
  const SnapshotStore store(directory_.path(), {});
  const auto saved = store.Save(*instance, "g", info, 10);
  ended = true;
  reading.join();
  EXPECT_TRUE(saved.ok()) << saved.status();
}

// A slice may be made anew at the position that it has a snapshot of.
TEST_F(SnapshotKeepingTest, OfOnePositionTheLastStateIsKept) {
  GenerationInfo info;
  info.slice = "s";
  info.number = 1;
  const SnapshotStore store(directory_.path(), {9, absl::Hours(1), 0});
  AddOld("s", 999, absl::ZeroDuration());
  // The last: built anew from raw, in another way.
  for (const int64_t version : {7, 1000, 1001, 1002, 8}) {
    info.layout = version == 8 ? "other" : "";
    for (int saved = 0; saved < 2; ++saved) {
      const auto instance = MakeState("s", 1000, version);
      const auto manifest = store.Save(*instance, "g", info, 10);
      ASSERT_TRUE(manifest.ok()) << manifest.status();
      EXPECT_EQ(manifest->progress.content_version, version);
      EXPECT_EQ(store.List("s", 1).front(), manifest->path);
      EXPECT_EQ(Left("s"), (std::vector<std::string>{"1000", "999"}));
    }
    const auto newest = store.NewestGood("s", 1, "");
    ASSERT_TRUE(newest.ok()) << newest.status();
    EXPECT_EQ(newest->progress.content_version, version);
  }
}

TEST_F(SnapshotKeepingTest, OldOnesGoByNumberAndAge) {
  AddOld("s", 10, absl::Hours(4));
  AddOld("s", 20, absl::Hours(3));
  AddOld("s", 30, absl::Hours(1));
  Save({1, absl::Hours(2), 0});
  EXPECT_EQ(Left("s"), (std::vector<std::string>{"1000", "30"}));
  SetAge(FileOf("s", 30), absl::Hours(3));
  AddOld("t", 5, absl::Hours(8));
  SnapshotStore(directory_.path(), {1, absl::Hours(2), 0}).CleanUpAll();
  EXPECT_EQ(Left("s"), std::vector<std::string>{"1000"}) << "nothing was saved since";
  EXPECT_EQ(Left("t"), std::vector<std::string>{"5"});
}

TEST_F(SnapshotKeepingTest, TheOldestOfTheDomainGoWhenItsBudgetIsSpent) {
  Save({10}, "t", 2000);
  SetAge(FileOf("t", 2000), absl::Hours(1));
  AddOld("s", 10, absl::Hours(3));
  AddOld("s", 20, absl::Hours(2));
  AddOld("t", 1, absl::Hours(6));
  AddOld("t", 2, absl::Hours(5));
  Save({10, absl::ZeroDuration(), int64_t{1} << 40});
  EXPECT_EQ(Left("s"), (std::vector<std::string>{"1000", "20", "10"}));
  EXPECT_EQ(Left("t"), (std::vector<std::string>{"2000", "2", "1"}));
  const auto bytes =
      static_cast<int64_t>(std::filesystem::file_size(FileOf("s", 1000) + ".duckdb") +
                           std::filesystem::file_size(FileOf("t", 2000) + ".duckdb"));
  const SnapshotStore store(directory_.path(), {10, absl::ZeroDuration(), bytes + 2500});
  store.CleanUp("s", 1);  // room for two of the four old ones
  EXPECT_EQ(Left("s"), (std::vector<std::string>{"1000", "20", "10"}));
  EXPECT_EQ(Left("t"), std::vector<std::string>{"2000"});
  SnapshotStore(directory_.path(), {10, absl::ZeroDuration(), 1}).CleanUp("s", 1);
  EXPECT_EQ(Left("s"), std::vector<std::string>{"1000"}) << "the newest always stays";
  EXPECT_EQ(Left("t"), std::vector<std::string>{"2000"});
}

TEST_F(SnapshotKeepingTest, TheLastGoodOneStaysWhenNewerOnesAreDamaged) {
  Save({10}, "s", 500);
  Save({10}, "s", 600);
  AddOld("s", 700, absl::Hours(1));  // no snapshot at all
  AddOld("s", 400, absl::Hours(9));
  SnapshotStore(directory_.path(), {1, absl::ZeroDuration(), 1}).CleanUp("s", 1);
  EXPECT_EQ(Left("s"), (std::vector<std::string>{"700", "600"}));
}

TEST_F(SnapshotKeepingTest, WhatABuildSavesOnItsWayTakesTheRoomOfNoSnapshot) {
  AddOld("s", 1, absl::Hours(1));
  Save({9});
  const int64_t used = BytesBelow(directory_.path());
  const auto save = [&](int64_t disk_bytes, int64_t position) {
    const auto instance = MakeState("s", position);
    GenerationInfo info;
    info.slice = "s";
    info.number = 1;
    return SnapshotStore(directory_.path(), {9}, {disk_bytes, 0, nullptr})
        .OnTheWay("t", 2, "to_head")
        .Save(*instance, "g", info, 10);
  };
  EXPECT_EQ(ErrorReason(save(used, 5).status()), "DOMAIN_DISK_FULL");
  for (const int64_t position : {5, 6, 7}) {
    const auto saved = save(10 * used, position);
    ASSERT_TRUE(saved.ok()) << saved.status();
    EXPECT_EQ(saved->path, absl::StrFormat("unfinished/t/g2/to_head/s/g1-p%020d.duckdb", position));
  }
  const auto store = SnapshotStore(directory_.path(), {}).OnTheWay("t", 2, "to_head");
  EXPECT_EQ(store.List("s", 1).size(), 2U);
  EXPECT_EQ(Left("s"), (std::vector<std::string>{"1000", "1"}));
}

// The next snapshot of what answers would else remove it again, at every save.
TEST_F(SnapshotKeepingTest, WhatABuildSavesOnItsWayLeavesRoomForTheNextSnapshot) {
  Save({9});
  const int64_t used = BytesBelow(directory_.path());
  const auto save = [&](int64_t disk_bytes) {
    const auto instance = MakeState("s", 5);
    GenerationInfo info;
    info.slice = "s";
    info.number = 2;
    return SnapshotStore(directory_.path(), {9}, {disk_bytes, 0, nullptr})
        .OnTheWay("t", 2, "to_head")
        .Save(*instance, "g", info, 10)
        .status();
  };
  EXPECT_EQ(ErrorReason(save(2 * used + used / 2)), "DOMAIN_DISK_FULL");
  EXPECT_EQ(save(4 * used), absl::OkStatus());
}

TEST_F(SnapshotKeepingTest, OneThatWouldGrowPastTheDomainsPartOfTheDiskIsNotWritten) {
  constexpr int64_t kRows = 200000;  // 6 MB
  GenerationInfo info;
  info.slice = "s";
  info.number = 1;
  bool written = false;
  const auto save = [&](int64_t position, int64_t rows, int64_t disk_bytes) {
    const auto instance = MakeState("s", position, 0, rows);
    written = false;
    const auto note = [&](DuckConnection&, const std::string&, const SnapshotManifest&) {
      written = true;
      return absl::OkStatus();
    };
    return SnapshotStore(directory_.path(), {9}, {disk_bytes, 0, nullptr})
        .Save(*instance, "g", info, 10, note)
        .status();
  };
  ASSERT_EQ(save(1, kRows, 0), absl::OkStatus());
  const int64_t used = BytesBelow(directory_.path());
  EXPECT_EQ(ErrorReason(save(2, 4 * kRows, 2 * used + used / 2)), "DOMAIN_DISK_FULL");
  EXPECT_FALSE(written);
  EXPECT_EQ(save(2, 4 * kRows, 6 * used), absl::OkStatus());
  EXPECT_TRUE(written);
}

// Most of an aggregate's state are no rows of its result, of which there may be twenty times as
// many.
TEST_F(SnapshotKeepingTest, OneOfWhichTheRowsAreTheLeastPartIsSaved) {
  GenerationInfo info;
  info.slice = "s";
  info.number = 1;
  const auto save = [&](int64_t position, int64_t rows, int64_t disk_bytes) {
    const auto instance = MakeState("s", position, 0, rows);
    const auto connection = DuckConnection::Connect(*instance).value();
    EXPECT_EQ(connection->Run("CREATE TABLE g.__state AS SELECT md5(range::VARCHAR) AS a FROM "
                              "range(200000)"),
              absl::OkStatus());
    return SnapshotStore(directory_.path(), {9}, {disk_bytes, 0, nullptr})
        .Save(*instance, "g", info, 10)
        .status();
  };
  ASSERT_EQ(save(1, 2, 0), absl::OkStatus());
  EXPECT_EQ(save(2, 40, 4 * BytesBelow(directory_.path())), absl::OkStatus());
}

TEST_F(SnapshotKeepingTest, NamedOnesAreLeftAlone) {
  Save({10});
  const std::string named = directory_.path() + "/snapshots/s/named/";
  std::filesystem::create_directories(named);
  for (const char* file : {"g1-p1.duckdb", "g1-p1.json", "g1-p2.duckdb", "g1-p2.json"}) {
    std::ofstream(named + file) << "{}";
  }
  SnapshotStore(directory_.path(), {1, absl::ZeroDuration(), 1}).CleanUp("s", 1);
  EXPECT_TRUE(std::filesystem::exists(named + "g1-p1.duckdb"));
  EXPECT_TRUE(std::filesystem::exists(named + "g1-p1.json"));
}

TEST_F(SnapshotStoreTest, SnapshotsAreWrittenNoFasterThanAllowed) {
  EngineOptions options = Options();
  options.write_bytes_per_second = 1 << 20;
  StartLive(options, feed_);
  feed_.Append("orders", {Order("Bern", 1)});
  Configure({Spec("by_city")});
  WaitForPosition("by_city", 1);
  const absl::Time begin = absl::Now();
  const SliceReport saved =
      WaitFor("by_city", [](const SliceReport& report) { return report.snapshot.has_value(); });
  const auto bytes = std::filesystem::file_size(store_.AbsolutePath(saved.snapshot->path));
  // It may have begun a moment before.
  EXPECT_GE(absl::Now() - begin, absl::Seconds(0.7 * static_cast<double>(bytes) / (1 << 20)));
}

TEST_F(SnapshotStoreTest, WhatDuckDbWritesKeepsThePaceUnlessThereIsHurry) {
  const auto instance = DuckDatabase::OpenInMemory({{"threads", "1"}});
  ASSERT_TRUE(instance.ok()) << instance.status();
  const auto connection = DuckConnection::Connect(**instance);
  ASSERT_TRUE(connection.ok()) << connection.status();
  int64_t asked = 0;
  bool hurry = false;
  const WritePace pace = [&](int64_t bytes) -> absl::Duration {
    asked += bytes;
    hurry = asked > (2 << 20);
    return hurry ? absl::Hours(1) : absl::Milliseconds(1);
  };
  const std::string file = directory_ + "/paced.duckdb";
  {
    const PacedWrites paced(pace, [&] { return hurry; });
    ASSERT_TRUE((*connection)->Run("ATTACH " + QuoteLiteral(file) + " AS paced").ok());
    // Hashes cannot be compressed.
    ASSERT_TRUE((*connection)
                    ->Run("CREATE TABLE paced.t AS SELECT hash(range) AS h FROM range(1000000)")
                    .ok());
    ASSERT_TRUE((*connection)->Run("CHECKPOINT paced").ok());
  }
  EXPECT_GT(asked, 2 << 20) << "DuckDB's writes go past it";
  EXPECT_GT(std::filesystem::file_size(file), uintmax_t{7'000'000});
  EXPECT_EQ((*connection)->QueryText("SELECT CAST(count(*) AS VARCHAR) FROM paced.t").value_or(""),
            "1000000");
  const int64_t before = asked;
  ASSERT_TRUE((*connection)->Run("CREATE TABLE paced.u AS FROM paced.t").ok());
  EXPECT_EQ(asked, before);
}

TEST_F(SnapshotStoreTest, AnErrorOfTheDiskThatPacingMeetsIsTheWrites) {
  const std::string path = directory_ + "/written";
  const int file = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  ASSERT_GE(file, 0);
  const WritePace pace = [](int64_t) { return absl::ZeroDuration(); };
  const PacedWrites paced(pace, nullptr);
  const std::string bytes(600'000, 'x');
  for (const int error : {0, EINVAL}) {  // the second: of a file system that knows no such call
    sync_range_error = error;
    EXPECT_EQ(WriteAtPace(file, bytes.data(), bytes.size(), 0), std::ssize(bytes)) << error;
  }
  for (const int error : {EIO, ENOSPC}) {
    sync_range_error = error;
    EXPECT_EQ(WriteAtPace(file, bytes.data(), bytes.size(), 0), -1) << error;
    EXPECT_EQ(errno, error);
  }
  sync_range_error = 0;
  ::close(file);
}

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

TEST_F(SnapshotStoreTest, WhoGivesUpDoesNotWaitForAHash) {
  MakeSnapshots();
  const std::string path = store_.List("by_city", 1).front();
  int asked = 0;
  const auto given_up = [&] { return ++asked == 2; };
  std::filesystem::resize_file(store_.AbsolutePath(path), 64 << 20);
  EXPECT_EQ(store_.Check(path, given_up).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(asked, 2);
}

// The reader of its manifest waits until the file is gone and a newer one has taken its place.
TEST_F(SnapshotStoreTest, OneThatGoesWhileItIsReadGivesWayToTheNewerOne) {
  MakeSnapshots();
  const std::string path = store_.List("by_city", 1).front();
  const std::string stem = absl::StrReplaceAll(store_.AbsolutePath(path), {{".duckdb", ""}});
  const std::string text = ReadFile(stem + ".json").value();
  std::filesystem::remove(stem + ".json");
  ASSERT_EQ(::mkfifo((stem + ".json").c_str(), 0600), 0);
  std::thread saver([&] {
    const int pipe = ::open((stem + ".json").c_str(), O_WRONLY);
    const std::string later = stem + "v00000000000000000009";
    std::filesystem::rename(stem + ".duckdb", later + ".duckdb");
    EXPECT_TRUE(WriteFileAtomically(later + ".json", text).ok());
    std::filesystem::remove(stem + ".json");
    EXPECT_EQ(::write(pipe, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    ::close(pipe);
  });
  const auto newest = store_.NewestGood("by_city", 1, "");
  saver.join();
  ASSERT_TRUE(newest.ok()) << newest.status();
  EXPECT_THAT(newest->path, testing::EndsWith("v00000000000000000009.duckdb"));
}

// It is no sign that a newer one took its place: the older one is not hashed again for it.
TEST_F(SnapshotStoreTest, AManifestWithoutItsFileIsPassedOverOnce) {
  MakeSnapshots();
  ASSERT_TRUE(std::filesystem::remove(store_.AbsolutePath(store_.List("by_city", 1).front())));
  std::ostringstream text;
  const auto logger = spdlog::default_logger();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text)));
  const auto newest = store_.NewestGood("by_city", 1, "");
  spdlog::set_default_logger(logger);
  ASSERT_TRUE(newest.ok()) << newest.status();
  EXPECT_EQ(newest->progress.applied_position, 2);
  const std::vector<std::string> parts = absl::StrSplit(text.str(), "an older one is used");
  EXPECT_EQ(parts.size(), 2U) << text.str();
}

// A good snapshot is not to blame for the one over which DuckDB broke before.
TEST(SnapshotErrorTest, ADatabaseThatWasInvalidatedSaysNothingOfTheSnapshot) {
  EXPECT_TRUE(IsUnusableSnapshot(SnapshotError(absl::InternalError("INTERNAL Error: no block"))));
  EXPECT_TRUE(IsUnusableSnapshot(SnapshotError(absl::UnavailableError("Corrupt database file"))));
  EXPECT_TRUE(IsUnusableSnapshot(SnapshotError(absl::UnavailableError(
      "IO Error: Trying to read a database file with version number 99, but we can only read …"))));
  const absl::Status invalidated = absl::InternalError(
      "FATAL Error: Failed: database has been invalidated because of a previous fatal error.");
  EXPECT_EQ(SnapshotError(invalidated), invalidated);
}

TEST_F(SnapshotStoreTest, OnlyCopiesOfEndedProcessesAreRemoved) {
  const std::string tmp = directory_ + "/tmp";
  std::filesystem::create_directories(tmp);
  int marked[2];
  ASSERT_EQ(::pipe(marked), 0);
  const pid_t other = ::fork();
  if (other == 0) {  // another worker of the domain
    const char done = MarkProcess(tmp).ok() ? 'y' : 'n';
    (void)::write(marked[1], &done, 1);
    ::pause();
  }
  char done = 'n';
  ASSERT_EQ(::read(marked[0], &done, 1), 1);
  EXPECT_EQ(done, 'y');
  const auto copy = [&](int64_t process) {
    return tmp + "/snapshot-" + std::to_string(process) + "-77.duckdb";
  };
  const std::string living = copy(other);
  const std::string ended = copy(999999999);     // beyond any process id
  const std::string earlier = copy(::getpid());  // of one that had this number
  for (const std::string& file : {living, ended, earlier}) std::ofstream(file) << "half";
  ASSERT_TRUE(store_.Prepare().ok());
  EXPECT_TRUE(std::filesystem::exists(living)) << "it is saving";
  EXPECT_FALSE(std::filesystem::exists(ended));
  EXPECT_FALSE(std::filesystem::exists(earlier));
  std::ofstream(earlier) << "half";  // now it is ours
  ::kill(other, SIGKILL);
  ::waitpid(other, nullptr, 0);
  ASSERT_TRUE(store_.Prepare().ok());
  EXPECT_FALSE(std::filesystem::exists(living));
  EXPECT_TRUE(std::filesystem::exists(earlier));
  for (const int end : marked) ::close(end);
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
  Configure({HashedSpec()});
  const SliceReport report = WaitForPosition("by_city", 3);
  EXPECT_EQ(report.progress.input, 3);
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":3}])");
  ASSERT_TRUE(report.last_error.has_value());
  EXPECT_EQ(report.last_error->reason, "SNAPSHOT_DAMAGED");
  EXPECT_NE(report.last_error->message.find("an older one at position 2 is used"),
            std::string::npos)
      << report.last_error->message;
}

TEST_F(SnapshotStoreTest, WhenAllAreDamagedTheSliceIsBuiltFromRawAndSaysSo) {
  MakeSnapshots();
  for (const std::string& path : store_.List("by_city", 1)) FlipByte(path);
  StartLive();
  Configure({HashedSpec()});
  const SliceReport report = WaitForPosition("by_city", 3);
  EXPECT_EQ(report.progress.input, 3);
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":3}])");
  ASSERT_TRUE(report.last_error.has_value());
  EXPECT_EQ(report.last_error->reason, "SNAPSHOT_DAMAGED");
  EXPECT_NE(report.last_error->message.find("it is rebuilt from raw"), std::string::npos)
      << report.last_error->message;
}

// Another version of the planner may give the same definition another hash.
TEST_F(SnapshotStoreTest, SnapshotsHaveTheHashThatTheirGenerationWasAppliedWith) {
  GenerationSpec spec = Spec("by_city");
  spec.definition_hash = "of_an_older_planner";
  for (int64_t position = 1; position <= 2; ++position) {
    feed_.Append("orders", {Order("Bern", 1)});
    StartLive();
    Configure({spec});
    const SliceReport report = WaitForPosition("by_city", position);
    EXPECT_EQ(report.info.definition_hash, spec.definition_hash);
    if (position == 2) EXPECT_EQ(report.snapshot->position, 1) << "it is built from raw";
    engine_->Shutdown();
  }
  const auto newest = store_.NewestGood("by_city", 1, spec.definition_hash);
  ASSERT_TRUE(newest.ok()) << newest.status();
  EXPECT_EQ(newest->progress.applied_position, 2);
}

TEST_F(SnapshotStoreTest, OneThatCannotBeReadIsPassedOverAndTheSliceGoesOnFromTheOlder) {
  MakeSnapshots();
  const std::vector<std::string> paths = store_.List("by_city", 1);
  SpoilBeforeItsHash(paths[0]);
  StartLive();
  Configure({HashedSpec()});
  EXPECT_EQ(WaitForPosition("by_city", 3).progress.input, 3);
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":3}])");
  EXPECT_EQ(Find("by_city")->snapshot->position, 2);
  EXPECT_EQ(store_.List("by_city", 1), paths);
  EXPECT_FALSE(store_.IsUsable(paths[0], SnapshotUse::kServe));
  EXPECT_TRUE(store_.IsUsable(paths[1], SnapshotUse::kRestore));
}

TEST_F(SnapshotStoreTest, WhenNoneCanBeReadTheSliceIsBuiltFromRaw) {
  MakeSnapshots();
  for (const std::string& path : store_.List("by_city", 1)) SpoilBeforeItsHash(path);
  StartLive();
  Configure({HashedSpec()});
  EXPECT_EQ(WaitForPosition("by_city", 3).progress.input, 3);
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":3}])");
  engine_->Shutdown();
  const std::string saved = store_.List("by_city", 1).front();
  EXPECT_TRUE(store_.IsUsable(saved, SnapshotUse::kRestore)) << "it is another one now";
  EXPECT_EQ(store_.NewestGood("by_city", 1, "")->progress.applied_position, 3);
}

TEST_F(SnapshotStoreTest, AStandbyAnswersFromTheOlderWhenTheNewestCannotBeRead) {
  MakeSnapshots();
  SpoilBeforeItsHash(store_.List("by_city", 1).front());
  auto standby = StandbyEngine::Start(Options()).value();
  standby->Configure(Assignment{"shop", 1, {Spec("by_city")}, {}});
  const absl::StatusOr<Answer> answer = TotalOf(*standby);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->rows.body, R"([{"total":2}])");
  EXPECT_EQ(answer->slices.at(0).progress.applied_position, 2);
}

// The only snapshot of a generation that was promoted a moment ago may be the one that is damaged.
TEST_F(SnapshotStoreTest, AStandbyAnswersFromTheReplacedGenerationWhenThePromotedOneIsDamaged) {
  MakeSnapshots();
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  Configure({Spec("by_city", 2)});
  WaitForPosition("by_city", 4);
  engine_->Shutdown();
  ASSERT_EQ(store_.List("by_city", 2).size(), 1u);
  FlipByte(store_.List("by_city", 2).front());
  EXPECT_EQ(store_.NewestOfEarlier("by_city", 2)->info.number, 1);
  EXPECT_EQ(store_.NewestOfEarlier("by_city", 1).status().code(), absl::StatusCode::kNotFound);

  auto standby = StandbyEngine::Start(Options()).value();
  standby->Configure(Assignment{"shop", 1, {Spec("by_city", 2)}, {}});
  const absl::StatusOr<Answer> answer = TotalOf(*standby);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->rows.body, R"([{"total":3}])");
  EXPECT_EQ(answer->slices.at(0).info.number, 1);
  EXPECT_EQ(answer->slices.at(0).progress.applied_position, 3);
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

// ---- Names and the past ----

class PastSnapshotsTest : public SnapshotStoreTest {
 protected:
  // `count` snapshots of by_city, one for each further record, by an engine that goes on.
  void SaveSome(int count) {
    if (engine_ == nullptr) {
      StartLive();
      Configure({Spec("by_city"), Spec("lines")});
    }
    for (int i = 0; i < count; ++i) {
      const int64_t position = feed_.Append("orders", {Order("Bern", 1)});
      WaitForPosition("by_city", position);
      EXPECT_TRUE(Name(*engine_, "by_city", "for-now").ok());  // saves it
      for (const char* ending : {".json", ".duckdb", ".about.json"}) {
        std::filesystem::remove(directory_ + "/snapshots/by_city/named/for-now" + ending);
      }
    }
  }

  absl::Status Name(Engine& engine, const std::string& slice, const std::string& name) {
    std::promise<absl::Status> promise;
    engine.NameSnapshot(slice, {name, "ann", "audit", false},
                        [&](absl::Status status) { promise.set_value(std::move(status)); });
    return promise.get_future().get();
  }

  static absl::StatusOr<Answer> AskAsOf(Engine& engine, AsOf as_of,
                                        const std::string& sql = "SELECT total FROM by_city") {
    Question question;
    question.text = sql;
    question.as_of = std::move(as_of);
    return Ask(engine, std::move(question));
  }
  static AsOf At(int64_t position) { return {position, std::nullopt, ""}; }
  static AsOf Named(const std::string& name) { return {std::nullopt, std::nullopt, name}; }

  std::unique_ptr<DuckDatabase> Instance() const { return OpenInstance(Options(), 1).value(); }
  static GenerationInfo ByCity() {
    GenerationInfo info;
    info.slice = "by_city";
    info.number = 1;
    return info;
  }

  // The total that a state of by_city shows.
  static int64_t Total(DuckDatabase& instance, const ServedSlice& served) {
    const auto connection = DuckConnection::Connect(instance).value();
    const auto rows = connection->QueryCells(
        absl::StrCat("SELECT CAST(sum(total) AS BIGINT) FROM ",
                     QuoteIdentifier(served.database()->alias()), ".main.__result"));
    return rows.ok() ? std::get<int64_t>(rows->at(0).at(0)) : -1;
  }
};

TEST_F(PastSnapshotsTest, TheNewestStateAtOrBeforeAPositionOrTime) {
  SaveSome(3);
  const auto second = store_.ReadManifest(store_.List("by_city", 1).at(1));
  ASSERT_TRUE(second.ok()) << second.status();
  feed_.Append("orders", {Order("Bern", 1)});
  WaitForPosition("by_city", 4);
  for (const AsOf& as_of : {At(2), AsOf{std::nullopt, absl::FromUnixMicros(second->time_us), ""}}) {
    const auto answer = AskAsOf(*engine_, as_of);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->rows.body, R"([{"total":2}])");
    EXPECT_EQ(answer->slices.at(0).progress.applied_position, 2);
    EXPECT_EQ(answer->slices.at(0).snapshot->time, absl::FromUnixMicros(second->time_us));
  }
  EXPECT_EQ(AskAsOf(*engine_, At(1000))->slices.at(0).progress.applied_position, 3);
  const auto expired = AskAsOf(*engine_, At(0));
  EXPECT_EQ(expired.status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(ErrorReason(expired.status()), "AS_OF_EXPIRED");
  EXPECT_EQ(GetErrorDetail(expired.status())->metadata.at("oldest_position"), "1");
  EXPECT_THAT(expired.status().message(),
              testing::HasSubstr("no snapshot of generation 1, which is the serving one"));
  // What serves now is not touched by any of this.
  EXPECT_EQ(Rows("SELECT total FROM by_city"), R"([{"total":4}])");
  EXPECT_EQ(ErrorReason(AskAsOf(*engine_, At(2), "SELECT * FROM nothing").status()),
            "SLICE_NOT_FOUND");
}

TEST_F(PastSnapshotsTest, ANamedStateIsKeptWhileOthersGo) {
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  Configure({Spec("by_city"), Spec("lines")});
  WaitForPosition("by_city", 1);
  WaitForPosition("lines", 1);
  ASSERT_TRUE(Name(*engine_, "by_city", "audit-1").ok());
  EXPECT_EQ(ErrorReason(Name(*engine_, "by_city", "audit-1")), "SNAPSHOT_EXISTS");
  EXPECT_EQ(ErrorReason(Name(*engine_, "by_city", "../audit")), "PARAMETER_INVALID");
  EXPECT_EQ(ErrorReason(Name(*engine_, "nothing", "audit")), "SLICE_NOT_FOUND");
  SaveSome(6);  // three are kept
  const auto answer = AskAsOf(*engine_, Named("audit-1"));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->rows.body, R"([{"total":1}])");
  // Of a position it counts as well.
  EXPECT_EQ(AskAsOf(*engine_, At(4))->slices.at(0).progress.applied_position, 1);
  for (const char* name : {"audit-2", "../../by_city/named/audit-1", ""}) {
    if (*name == '\0') continue;
    EXPECT_EQ(ErrorReason(AskAsOf(*engine_, Named(name)).status()), "SNAPSHOT_NOT_FOUND") << name;
  }
  const auto both = AskAsOf(*engine_, Named("audit-1"), "SELECT count(*) AS n FROM by_city, lines");
  EXPECT_EQ(ErrorReason(both.status()), "SNAPSHOT_NOT_FOUND");
  EXPECT_THAT(both.status().message(), testing::HasSubstr("lines"));
}

TEST_F(PastSnapshotsTest, EachSliceIsReadFromItsOwnState) {
  feed_.Append("orders", {Order("Bern", 1), Order("Bern", 2)});
  StartLive();
  Configure({Spec("by_city"), Spec("lines")});
  WaitForPosition("by_city", 2);
  WaitForPosition("lines", 2);
  ASSERT_TRUE(Name(*engine_, "by_city", "close").ok());
  feed_.Append("orders", {Order("Bern", 3)});
  WaitForPosition("lines", 3);
  ASSERT_TRUE(Name(*engine_, "lines", "close").ok());
  const auto answer = AskAsOf(*engine_, Named("close"),
                              "SELECT max(b.orders) AS b, count(*) AS l FROM by_city AS b, lines");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->rows.body, R"([{"b":2,"l":3}])");
  std::map<std::string, int64_t> positions;
  for (const SliceReport& slice : answer->slices) {
    positions[slice.info.slice] = slice.progress.applied_position;
  }
  EXPECT_EQ(positions, (std::map<std::string, int64_t>{{"by_city", 2}, {"lines", 3}}));
}

TEST_F(PastSnapshotsTest, ADamagedStateIsNeverAnswered) {
  SaveSome(3);
  ASSERT_TRUE(Name(*engine_, "by_city", "audit").ok());
  const std::vector<std::string> paths = store_.List("by_city", 1);
  FlipByte(paths.at(1));
  EXPECT_EQ(AskAsOf(*engine_, At(2))->slices.at(0).progress.applied_position, 1);
  FlipByte(NamedSnapshots::PathOf("by_city", "audit"));
  EXPECT_EQ(ErrorReason(AskAsOf(*engine_, Named("audit")).status()), "SNAPSHOT_DAMAGED");
}

TEST_F(PastSnapshotsTest, AStandbyNamesAndShowsWhatItServes) {
  SaveSome(3);
  auto standby = StandbyEngine::Start(Options()).value();
  Assignment assignment{"shop", 1, {Spec("by_city")}, {}};
  standby->Configure(assignment);
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  Question now;
  now.text = std::string("SELECT total FROM by_city");
  while (!Ask(*standby, now).ok() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(2));
  ASSERT_TRUE(Name(*standby, "by_city", "kept").ok());
  // The file that it serves from, once more.
  EXPECT_EQ(AskAsOf(*standby, At(3))->rows.body, R"([{"total":3}])");
  EXPECT_EQ(AskAsOf(*standby, Named("kept"))->rows.body, R"([{"total":3}])");
  EXPECT_EQ(AskAsOf(*standby, At(1))->rows.body, R"([{"total":1}])");
}

TEST_F(PastSnapshotsTest, AReaderKeepsItsStateWhileTenNewerOnesCome) {
  SaveSome(3);
  const auto instance = Instance();
  PastSnapshots past(*instance, store_, 2);
  auto reader = past.Find(ByCity(), At(1), absl::InfiniteFuture());
  ASSERT_TRUE(reader.ok()) << reader.status();
  SaveSome(10);
  ASSERT_EQ(store_.List("by_city", 1).size(), 3u);
  EXPECT_EQ(Total(*instance, **reader), 1);
  EXPECT_EQ(ErrorReason(past.Find(ByCity(), At(1), absl::InfiniteFuture()).status()),
            "AS_OF_EXPIRED")
      << "its file is cleaned up";
  reader = absl::CancelledError();
  past.DetachIdle(absl::Now() + absl::Hours(1));
  EXPECT_EQ(past.attached(), 0u);
  for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/tmp")) {
    EXPECT_THAT(entry.path().filename().string(), testing::Not(testing::StartsWith("snapshot-")))
        << "its link has gone as well";
  }
}

TEST_F(PastSnapshotsTest, NoMoreAreAttachedThanThereAreReadersFor) {
  SaveSome(3);
  const auto instance = Instance();
  PastSnapshots past(*instance, store_, 1);
  auto first = past.Find(ByCity(), At(1), absl::InfiniteFuture());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(*past.Find(ByCity(), At(1), absl::InfiniteFuture()), *first) << "one is shared";
  EXPECT_EQ(ErrorReason(past.Find(ByCity(), At(2), absl::InfiniteFuture()).status()),
            "TOO_MANY_QUERIES");
  first = absl::CancelledError();
  const auto second = past.Find(ByCity(), At(2), absl::InfiniteFuture());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(Total(*instance, **second), 2);
  EXPECT_EQ(past.attached(), 1u);
  EXPECT_EQ(past.Find(ByCity(), At(1), absl::InfinitePast()).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(PastSnapshotsTest, AScheduledOneThatWasMissedIsMadeAtOnceAndOldOnesGo) {
  GenerationSpec spec = Spec("by_city");
  spec.file = absl::StrReplaceAll(
      kShopDomain, {{"  lines:\n",
                     "    snapshots: {name: \"min-%Y-%m-%d-%H%M\", cron: \"* * * * *\", "
                     "time_zone: Europe/Zurich, keep: 1}\n  lines:\n"}});
  feed_.Append("orders", {Order("Bern", 1)});
  StartLive();
  Configure({spec});
  WaitForPosition("by_city", 1);
  engine_->Shutdown();
  const NamedSnapshots named(store_);
  const auto newest = store_.NewestGood("by_city", 1, "");
  ASSERT_TRUE(newest.ok()) << newest.status();
  ASSERT_TRUE(named.Add(*newest, {"min-2001-01-01-0000", "schedule", "", true}).ok());
  ASSERT_TRUE(named.Add(*newest, {"by-hand", "ann", "", false}).ok());
  const std::string folder = directory_ + "/snapshots/by_city/named/";
  ASSERT_TRUE(WriteFileAtomically(folder + "min-2001-01-01-0000.about.json",
                                  R"({"scheduled":true,"time_us":978307200000000})")
                  .ok());
  StartLive();
  Configure({spec});
  const auto has = [&](const std::string& name) {
    return std::filesystem::exists(folder + name + ".json");
  };
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (has("min-2001-01-01-0000") && absl::Now() < deadline)
    absl::SleepFor(absl::Milliseconds(5));
  EXPECT_FALSE(has("min-2001-01-01-0000"));
  EXPECT_TRUE(has("by-hand"));
  const std::vector<std::string> left = named.List("by_city");
  ASSERT_EQ(left.size(), 2u);
  absl::TimeZone zone;
  ASSERT_TRUE(absl::LoadTimeZone("Europe/Zurich", &zone));
  const std::string today = absl::FormatTime("min-%Y-", absl::Now(), zone);
  EXPECT_THAT(left, testing::Contains(testing::HasSubstr(today)));
  EXPECT_GT(named.LastScheduled("by_city"), absl::Now() - absl::Hours(1));
}

// Of a disk or a processor that others have, say: the rest after a save is for what it cost.
TEST_F(SnapshotStoreTest, WhatASaveHasWaitedForDoesNotPutTheNextOneOff) {
  EngineOptions options = Options();
  options.snapshot_interval = absl::Milliseconds(1);
  options.snapshot_share = 0.01;
  std::atomic<bool> waited = false;
  options.write_pace = [&](int64_t) {
    return waited.exchange(true) ? absl::ZeroDuration() : absl::Seconds(1);
  };
  StartLive(options, feed_);
  Configure({HashedSpec()});
  const auto is_saved = [&](int64_t position) {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (absl::Now() < deadline) {
      const auto newest = store_.NewestGood("by_city", 1, "");
      if (newest.ok() && newest->progress.applied_position >= position) return true;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return false;
  };
  EXPECT_TRUE(is_saved(feed_.Append("orders", {Order("Bern", 1)})));
  EXPECT_TRUE(is_saved(feed_.Append("orders", {Order("Bern", 1)})));
  EXPECT_TRUE(waited);
}

// The interval is an hour; what was applied since the last one takes a restart more than a second.
TEST_F(SnapshotStoreTest, WorkThatARestartWouldDoAgainIsSavedBeforeItsTime) {
  GenerationSpec slow = Spec("slow");
  slow.file = R"(
domain: shop
sources:
  orders: {columns: {city: VARCHAR, amount: BIGINT}}
slices:
  slow:
    sql: SELECT city, sum(levenshtein(repeat(city, amount), repeat('x', amount))) AS steps FROM orders GROUP BY ALL
    key: [city]
)";
  StartLive();
  feed_.Append("orders", {Order("Bern", 1)});
  Configure({slow});
  WaitFor("slow", [](const SliceReport& report) { return report.snapshot.has_value(); });
  const auto is_saved = [](int64_t position) {
    return [position](const SliceReport& report) {
      return report.snapshot && report.snapshot->position >= position;
    };
  };
  const int64_t quick = feed_.Append("orders", {Order("Bern", 1)});
  WaitForPosition("slow", quick);
  const int64_t head = feed_.Append("orders", std::vector<std::string>(50, Order("Bern", 2000)));
  EXPECT_TRUE(is_saved(head)(WaitFor("slow", is_saved(head))));
}

// The interval may be shorter than a save, which would be followed by one of the same state.
TEST_F(SnapshotStoreTest, WhatIsBeingSavedIsNotRequestedBesides) {
  const auto instance = OpenInstance(Options(), 1).value();
  SnapshotWriter writer(
      *instance, store_, 0.5, [] {}, [](const std::string&) {});
  const auto served = std::make_shared<ServedSlice>(GenerationInfo(), 0);
  const auto database = std::make_shared<AttachedDatabase>(*instance, "none");
  std::promise<void> saving;
  std::promise<void> asked;
  writer.Request(served, database, [&](const absl::StatusOr<SnapshotManifest>&) {
    saving.set_value();
    asked.get_future().wait();
  });
  saving.get_future().wait();
  EXPECT_FALSE(writer.Request(served, database, /*urgent=*/false));
  EXPECT_TRUE(writer.Request(served, database, /*urgent=*/true));
  asked.set_value();
  writer.Flush();
}

// Who waits until a save is over looks when it is told of its end.
TEST_F(SnapshotStoreTest, WhatIsSavedIsNotBeingSavedAnyMore) {
  const auto instance = OpenInstance(Options(), 1).value();
  const auto served = std::make_shared<ServedSlice>(GenerationInfo(), 0);
  std::promise<bool> has;
  std::unique_ptr<SnapshotWriter> writer;
  writer = std::make_unique<SnapshotWriter>(
      *instance, store_, 0.5, [&] { has.set_value(writer->Has(*served)); },
      [](const std::string&) {});
  const auto database = std::make_shared<AttachedDatabase>(*instance, "none");
  EXPECT_TRUE(writer->Request(served, database, /*urgent=*/true));
  EXPECT_FALSE(has.get_future().get());
}

}  // namespace
}  // namespace icepie::slices
