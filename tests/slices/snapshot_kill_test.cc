// A process that is killed while it publishes a snapshot, at each call by which the disk changes:
// there is the old snapshot or the new one, never a half, and nothing is left behind. One of whose
// calls each fails once. And a live engine that is killed anywhere, again and again
// (ICEPIE_CRASH_ROUNDS). The calls are this program's own, which go on to libc's.
#include <dlfcn.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "gtest/gtest.h"
#include "slices/build_engine.h"
#include "slices/paced_writes.h"
#include "tests/slices/engine_fixture.h"

namespace {

std::atomic<int64_t> calls_left{0};  // at the last of them something happens; 0: never
// What: with this error the call fails; 0: the process is killed.
std::atomic<int> fails_with{0};

// Whether the caller's call is one that fails; errno is set.
bool Fails() {
  if (calls_left.load() <= 0) return false;
  if (--calls_left > 0) return false;
  if (fails_with == 0) ::kill(::getpid(), SIGKILL);
  errno = fails_with;
  return true;
}

template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int rename(const char* from, const char* to) noexcept {
  if (Fails()) return -1;
  return Next<int (*)(const char*, const char*)>("rename")(from, to);
}

int unlink(const char* path) noexcept {
  if (Fails()) return -1;
  return Next<int (*)(const char*)>("unlink")(path);
}

int fsync(int file) {
  if (Fails()) return -1;
  return Next<int (*)(int)>("fsync")(file);
}

int fdatasync(int file) {
  if (Fails()) return -1;
  return Next<int (*)(int)>("fdatasync")(file);
}

ssize_t pwrite(int file, const void* bytes, size_t count, off_t offset) {
  if (Fails()) return -1;
  return icepie::slices::WriteAtPace(file, bytes, count, offset);
}

ssize_t write(int file, const void* bytes, size_t count) {
  if (file > STDERR_FILENO && Fails()) return -1;
  return Next<ssize_t (*)(int, const void*, size_t)>("write")(file, bytes, count);
}

}  // extern "C"

namespace icepie::slices {
namespace {

class SnapshotKillTest : public EngineFixture {
 protected:
  // A run over two records: from the snapshot at the first, if there is one, to the second.
  void RunTo(int64_t records) {
    while (feed_.head() < records) feed_.Append("orders", {Order("Bern", feed_.head() + 1)});
    StartLive();
    Configure({Spec("by_city")});
    WaitForPosition("by_city", records);
  }

  // Runs `test` over `directory`; its status as of waitpid().
  static int RunChild(const std::string& directory, int64_t kill_at,
                      const std::string& test = "SnapshotKillTest.DISABLED_Child") {
    ::setenv("ICEPIE_KILL_DIRECTORY", directory.c_str(), 1);
    ::setenv("ICEPIE_KILL_AT", absl::StrCat(kill_at).c_str(), 1);
    std::string program = "/proc/self/exe";
    std::string filter = "--gtest_filter=" + test;
    std::string disabled = "--gtest_also_run_disabled_tests";
    std::string brief = "--gtest_brief=1";
    char* arguments[] = {program.data(), filter.data(), disabled.data(), brief.data(), nullptr};
    pid_t child = 0;
    const std::string self = std::filesystem::read_symlink("/proc/self/exe");
    EXPECT_EQ(::posix_spawn(&child, self.c_str(), nullptr, nullptr, arguments, environ), 0);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return status;
  }

  static std::vector<std::string> FilesIn(const std::string& directory) {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  // The old snapshot or the new one, from which the slice goes on.
  void CheckAfter(const std::string& directory, int64_t kill_at) {
    SCOPED_TRACE(absl::StrCat("killed at call ", kill_at));
    const SnapshotStore store(directory, SnapshotKeeping{3});
    const auto newest = store.NewestGood("by_city", 1, "");
    ASSERT_TRUE(newest.ok()) << newest.status();
    const int64_t position = newest->progress.applied_position;
    EXPECT_TRUE(position == 1 || position == 2) << position;
    seen_.insert(position);
    const std::string own = std::exchange(directory_, directory);
    RunTo(2);
    EXPECT_EQ(Rows("SELECT city, orders, total FROM by_city"),
              R"([{"city":"Bern","orders":2,"total":3}])");
    engine_->Shutdown();
    engine_.reset();
    directory_ = own;
    for (const std::string& name : FilesIn(directory + "/tmp")) {
      EXPECT_NE(name.substr(0, 9), "snapshot-") << name;
    }
    const auto last = store.NewestGood("by_city", 1, "");
    ASSERT_TRUE(last.ok()) << last.status();
    EXPECT_EQ(last->progress.applied_position, 2);
  }

  std::set<int64_t> seen_;  // positions of the newest good snapshots after the kills
};

// What a live engine answers over the first records of a feed that is always the same, from the
// state in `directory`; saved as often as can be.
class LiveCrashTest : public SnapshotKillTest {
 protected:
  static constexpr int64_t kRecordsInRound = 40;

  void AppendTo(int64_t head) {
    while (feed_.head() < head) {
      const int64_t next = feed_.head();
      feed_.Append("orders", {Order(absl::StrCat("city", next % 7), next * next % 11)});
    }
  }

  void StartFrom(const std::string& directory) {
    directory_ = directory;
    EngineOptions options = Options();
    options.snapshot_interval = absl::Milliseconds(1);
    options.snapshot_share = 0.9;
    auto started = LiveEngine::Start(options, feed_);
    ASSERT_TRUE(started.ok()) << started.status();
    engine_ = *std::move(started);
    Configure({Spec("by_city"), Spec("lines"), Spec("ranked")});
  }

  void WaitForAll() {
    for (const char* slice : {"by_city", "lines", "ranked"}) WaitForPosition(slice, feed_.head());
  }

  // Builds generation 2 of by_city from raw in `directory`; false: it failed.
  bool BuildIn(const std::string& directory) {
    const std::string own = std::exchange(directory_, directory);
    EngineOptions options = Options();
    options.snapshot_interval = absl::Milliseconds(1);
    auto build = BuildEngine::Start(options, feed_);
    directory_ = own;
    if (!build.ok()) return false;
    Assignment assignment;
    assignment.domain = "shop";
    assignment.generations = {Spec("by_city", 2)};
    assignment.build = BuildJob{"by_city", 2, "", 0, 0, std::nullopt, {}, {}, false};
    (*build)->Configure(assignment);
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    std::optional<BuildReport> report;
    while (absl::Now() < deadline && (!report || report->phase != "ready")) {
      report = (*build)->Report().build;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return report && report->phase == "ready";
  }

  std::string AnswersFrom(const std::string& directory) {
    const std::string own = directory_;
    StartFrom(directory);
    WaitForAll();
    const std::string answers = absl::StrCat(Rows("SELECT * FROM by_city ORDER BY city"),
                                             Rows("SELECT * FROM lines ORDER BY \"at\""),
                                             Rows("SELECT * FROM ranked ORDER BY place"));
    engine_.reset();
    directory_ = own;
    return answers;
  }
};

// The program that is killed.
TEST_F(LiveCrashTest, DISABLED_Child) {
  const char* directory = std::getenv("ICEPIE_KILL_DIRECTORY");
  int64_t round = 0;
  int64_t calls = 0;
  ASSERT_TRUE(directory != nullptr && absl::SimpleAtoi(std::getenv("ICEPIE_KILL_ROUND"), &round));
  ASSERT_TRUE(absl::SimpleAtoi(std::getenv("ICEPIE_KILL_AT"), &calls));
  const std::string own = directory_;
  AppendTo(round * kRecordsInRound);
  calls_left = calls;
  StartFrom(directory);
  WaitForAll();
  while (feed_.head() < (round + 1) * kRecordsInRound) {
    AppendTo(feed_.head() + 4);
    WaitForAll();
  }
  engine_->Shutdown();
  calls_left = 0;
  engine_.reset();
  directory_ = own;
}

// The program that is killed while it builds.
TEST_F(LiveCrashTest, DISABLED_Build) {
  const char* directory = std::getenv("ICEPIE_KILL_DIRECTORY");
  int64_t calls = 0;
  ASSERT_TRUE(directory != nullptr && absl::SimpleAtoi(std::getenv("ICEPIE_KILL_AT"), &calls));
  AppendTo(300);
  calls_left = calls;
  ASSERT_TRUE(BuildIn(directory));
  calls_left = 0;
}

TEST_F(LiveCrashTest, ABuildThatIsKilledIsDoneByTheNextOneAndEqualsTheServingState) {
  const std::string crashed = directory_ + "-built";
  std::filesystem::create_directories(crashed);
  int kills = 0;
  for (int64_t call : {1, 4, 8, 12, 16, 20, 24}) {
    const int status = RunChild(crashed, call, "LiveCrashTest.DISABLED_Build");
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    ASSERT_TRUE(killed || status == 0) << status << " at call " << call;
    kills += killed ? 1 : 0;
  }
  EXPECT_GE(kills, 3);
  AppendTo(300);
  ASSERT_TRUE(BuildIn(crashed));
  const std::string sql = "SELECT * FROM by_city ORDER BY city";
  const std::string own = directory_;
  std::vector<std::string> answers;
  for (const auto& [directory, number] : {std::pair(crashed, 2), std::pair(own, 1)}) {
    directory_ = directory;
    StartLive();
    Configure({Spec("by_city", number)});
    WaitForPosition("by_city", 300);
    answers.push_back(Rows(sql));
    engine_.reset();
  }
  directory_ = own;
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_GT(SnapshotStore(crashed, SnapshotKeeping{3})
                .NewestGood("by_city", 2, "")
                ->progress.applied_position,
            0);
  std::filesystem::remove_all(crashed);
}

// ICEPIE_CRASH_ROUNDS of them, each with more records than the one before.
TEST_F(LiveCrashTest, KilledAnywhereAgainAndAgainItsStateEqualsOneThatNeverWas) {
  const char* wanted = std::getenv("ICEPIE_CRASH_ROUNDS");
  int64_t rounds = 5;
  if (wanted != nullptr) ASSERT_TRUE(absl::SimpleAtoi(wanted, &rounds));
  std::mt19937 random(20261127);
  const std::string crashed = directory_ + "-crashed";
  std::filesystem::create_directories(crashed);
  int kills = 0;
  for (int64_t round = 0; round < rounds; ++round) {
    ::setenv("ICEPIE_KILL_ROUND", absl::StrCat(round).c_str(), 1);
    const int status = RunChild(crashed, 1 + random() % 300, "LiveCrashTest.DISABLED_Child");
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    ASSERT_TRUE(killed || status == 0) << status << " in round " << round;
    kills += killed ? 1 : 0;
  }
  EXPECT_GT(kills, 0);
  AppendTo(rounds * kRecordsInRound);
  EXPECT_EQ(AnswersFrom(crashed), AnswersFrom(directory_)) << kills << " kills";
  std::filesystem::remove_all(crashed);
}

// The program that is killed.
TEST_F(SnapshotKillTest, DISABLED_Child) {
  const char* directory = std::getenv("ICEPIE_KILL_DIRECTORY");
  const char* kill_at = std::getenv("ICEPIE_KILL_AT");
  ASSERT_TRUE(directory != nullptr && kill_at != nullptr);
  const std::string own = std::exchange(directory_, directory);
  RunTo(2);
  int64_t calls = 0;
  ASSERT_TRUE(absl::SimpleAtoi(kill_at, &calls));
  calls_left = calls;
  engine_->Shutdown();
  calls_left = 0;
  engine_.reset();
  directory_ = own;
}

TEST_F(SnapshotKillTest, ThereIsTheOldOneOrTheNewOneAtEachStep) {
  RunTo(1);
  engine_->Shutdown();
  engine_.reset();
  int64_t kill_at = 0;
  int status = SIGKILL;
  while (status != 0 && !HasFailure()) {
    const std::string copy = absl::StrCat(directory_, "-", ++kill_at);
    std::filesystem::copy(directory_, copy, std::filesystem::copy_options::recursive);
    status = RunChild(copy, kill_at);
    if (status != 0) {
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    }
    CheckAfter(copy, kill_at);
    std::filesystem::remove_all(copy);
    ASSERT_LT(kill_at, 200);
  }
  // Copying, syncing, two renames.
  EXPECT_GE(kill_at, 6);
  EXPECT_EQ(seen_, std::set<int64_t>({1, 2}));
  std::cout << kill_at - 1 << " calls" << std::endl;
}

// A live engine that saves as often as can be, while its calls fail.
class SaveFaultTest : public SnapshotKillTest {
 protected:
  void StartSaving() {
    engine_.reset();
    EngineOptions options = Options();
    options.snapshot_interval = absl::Milliseconds(1);
    options.snapshot_share = 0.9;
    options.on_fatal = [this](const std::string& why) {
      MutexLock lock(mutex_);
      fatal_ = why;
    };
    auto started = LiveEngine::Start(options, feed_);
    ASSERT_TRUE(started.ok()) << started.status();
    engine_ = *std::move(started);
    Configure({Spec("by_city")});
  }

  // Saves once more, while the `call`th of its calls fails. False: there are not so many.
  bool SaveFailing(int64_t call, int error) {
    fails_with = error;
    const int64_t end = feed_.Append("orders", {Order("Bern", 1)});
    calls_left = call;
    const auto saved = [end](const std::optional<SliceReport>& report) {
      return report && report->snapshot && report->snapshot->position >= end;
    };
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (!saved(Find("by_city")) && fatal().empty()) {
      if (absl::Now() > deadline) ADD_FAILURE() << "not saved";
      if (absl::Now() > deadline) break;
      absl::SleepFor(absl::Milliseconds(1));
    }
    const bool failed = calls_left == 0;
    calls_left = 0;
    return failed;
  }

  void ExpectRows(int64_t orders) {
    WaitForPosition("by_city", orders);
    EXPECT_EQ(Rows("SELECT orders, total FROM by_city"),
              absl::StrCat(R"([{"orders":)", orders, R"(,"total":)", orders, "}]"));
  }

  std::string fatal() {
    MutexLock lock(mutex_);
    return fatal_;
  }

  Mutex mutex_;
  std::string fatal_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(SaveFaultTest, ACallThatFindsNoSpaceCostsThatAttemptOnly) {
  StartSaving();
  ExpectRows(feed_.Append("orders", {Order("Bern", 1)}));
  int64_t call = 0;
  while (SaveFailing(++call, ENOSPC) && !HasFailure()) ExpectRows(feed_.head());
  EXPECT_GE(call, 20);
  EXPECT_EQ(fatal(), "");
  EXPECT_EQ(Find("by_city")->last_error->reason, "DOMAIN_DISK_FULL");
  EXPECT_FALSE(Find("by_city")->not_saved.has_value());
  StartSaving();
  ExpectRows(feed_.head());
  for (const std::string& name : FilesIn(directory_ + "/tmp")) {
    EXPECT_NE(name.substr(0, 9), "snapshot-") << name;
  }
}

// A sync that fails with EIO is DuckDB's own end, and that of all databases of the process.
TEST_F(SaveFaultTest, DuckDbsEndIsThatOfTheProcessAtOnceAndTheNextOneGoesOn) {
  StartSaving();
  ExpectRows(feed_.Append("orders", {Order("Bern", 1)}));
  int fatals = 0;
  for (int64_t call = 2; call <= 8 && !HasFailure(); ++call) {
    ASSERT_TRUE(SaveFailing(call, EIO));
    if (fatal().empty()) continue;
    ++fatals;
    EXPECT_NE(fatal().find("FATAL Error"), std::string::npos) << fatal();
    EXPECT_NE(Rows("SELECT count(*) AS n FROM by_city").find("invalidated"), std::string::npos);
    engine_.reset();
    {
      MutexLock lock(mutex_);
      fatal_.clear();
    }
    StartSaving();
    ExpectRows(feed_.head());
  }
  EXPECT_GE(fatals, 1);
}

}  // namespace
}  // namespace icepie::slices
