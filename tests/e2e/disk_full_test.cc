// The daemon on a disk that another program fills.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "core/log/disk_space.h"
#include "server/base/rpc_status.h"
#include "tests/core/small_disk.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr const char* kShop = R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR}}
slices:
  by_item: {sql: "SELECT item, count(*) AS sales FROM sales GROUP BY ALL", key: [item]}
)";

// Leaves `left` bytes free, at most, whatever the daemon and its workers write and remove
// meanwhile.
void Fill(const std::string& disk, int64_t left) {
  const int fd = open((disk + "/filler").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  const bool full = Eventually([&] {
    const int64_t surplus = *FreeBytesOf(disk) - left;
    // What is free may be less by the time that it is taken: then half of it, and again.
    for (int64_t piece = surplus; piece > 0; piece /= 2) {
      if (fallocate(fd, 0, lseek(fd, 0, SEEK_END), piece) == 0) break;
    }
    return *FreeBytesOf(disk) <= left;
  });
  EXPECT_TRUE(full);
  close(fd);
}

v1::ServerStatus StatusOf(const DaemonFixture& daemon) {
  v1::ServerStatus status;
  EXPECT_TRUE(daemon.Admin()->GetServerStatus(Within(absl::Seconds(60)).get(), {}, &status).ok());
  return status;
}

TEST(DiskFullTest, AppendsAreRefusedWhileSlicesAnswerAndFreeze) {
  const SmallDisk disk(512 * kMiB);
  if (!disk.mounted()) GTEST_SKIP() << "no privilege to mount; see disk_space_test";
  setenv("TEST_TMPDIR", disk.path().c_str(), 1);
  DaemonFixture daemon;
  daemon.SetSettings("core: {free_bytes_min: 128MiB, ballast_bytes: 16MiB}\n");
  daemon.Start();
  ASSERT_TRUE(daemon.CreateStream("sales").ok());
  const auto end = daemon.Append("sales", {R"({"item":"pear"})"});
  ASSERT_TRUE(end.ok()) << end.status();
  v1::ApplyDomainResponse applied;
  ASSERT_TRUE(daemon.Apply(kShop, &applied).ok());
  v1::QueryResponse answer;
  // Until the slice has its first rows, queries get NO_SNAPSHOT_YET.
  ASSERT_TRUE(Eventually(
      [&] { return daemon.Query("shop", "SELECT * FROM by_item", *end, &answer).ok(); }));
  EXPECT_FALSE(StatusOf(daemon).core_disk_full());

  // A client is appending meanwhile, and meets nothing but the refusal.
  const auto append = [&](const char* item) {
    return daemon.Append("sales", {absl::StrCat(R"({"item":")", item, R"("})")});
  };
  absl::Status refused;
  int64_t apples = 0;
  int64_t apples_end = *end;
  std::thread client([&] {
    for (const absl::Time give_up = absl::Now() + absl::Minutes(2);
         refused.ok() && absl::Now() < give_up;) {
      const auto apple = append("apple");
      refused = apple.status();
      if (!apple.ok()) break;
      ++apples;
      apples_end = *apple;
    }
  });
  Fill(disk.path(), 100 * kMiB);
  client.join();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  EXPECT_EQ(ErrorReason(refused), "CORE_DISK_FULL");
  EXPECT_TRUE(StatusOf(daemon).core_disk_full());
  EXPECT_LT(StatusOf(daemon).core_disk_free_bytes(), 128 * kMiB);
  v1::GetStreamRequest named;
  named.set_name("sales");
  v1::Stream sales;
  EXPECT_TRUE(daemon.Core()->GetStream(Within(absl::Seconds(60)).get(), named, &sales).ok());
  EXPECT_EQ(sales.end_offset(), 1 + apples) << "what was refused is not there";

  // Reads of the log go on, and so do slices.
  v1::GetRecordRequest last;
  last.set_position(*end - 1);
  v1::Record record;
  EXPECT_TRUE(daemon.Core()->GetRecord(Within(absl::Seconds(60)).get(), last, &record).ok());
  EXPECT_EQ(record.payload(), R"({"item":"pear"})");
  const std::string sales_of = "SELECT sales FROM by_item WHERE item = ";
  EXPECT_TRUE(daemon.Query("shop", sales_of + "'apple'", apples_end, &answer).ok());
  EXPECT_EQ(answer.body(), absl::StrCat("[{\"sales\":", apples, "}]"));

  // It heals by itself once there is space, and is full another time.
  std::filesystem::remove(disk.path() + "/filler");
  absl::StatusOr<int64_t> plum;
  EXPECT_TRUE(Eventually([&] { return (plum = append("plum")).ok(); })) << plum.status();
  EXPECT_FALSE(StatusOf(daemon).core_disk_full());
  EXPECT_TRUE(daemon.Query("shop", sales_of + "'plum'", plum.value_or(0), &answer).ok());
  EXPECT_EQ(answer.body(), R"([{"sales":1}])");
  Fill(disk.path(), 100 * kMiB);
  EXPECT_TRUE(Eventually([&] { return ErrorReason(append("fig").status()) == "CORE_DISK_FULL"; }));
  v1::FreezeSliceRequest freeze;
  freeze.set_name("shop.by_item");
  freeze.set_reason("test");
  v1::Slice slice;
  const auto frozen = daemon.Admin()->FreezeSlice(Within(absl::Seconds(60)).get(), freeze, &slice);
  EXPECT_TRUE(frozen.ok()) << frozen.error_message();
  EXPECT_EQ(slice.desired().mode(), v1::DesiredState::FREEZE);

  // Another program takes the disk's last byte, the reserve too.
  v1::ThawSliceRequest thaw;
  thaw.set_name("shop.by_item");
  ASSERT_TRUE(daemon.Admin()->ThawSlice(Within(absl::Seconds(60)).get(), thaw, &slice).ok());
  Fill(disk.path(), 0);
  EXPECT_EQ(ErrorReason(append("fig").status()), "CORE_DISK_FULL");
  const auto again = daemon.Admin()->FreezeSlice(Within(absl::Seconds(60)).get(), freeze, &slice);
  EXPECT_TRUE(again.ok()) << again.error_message();
  EXPECT_EQ(slice.desired().mode(), v1::DesiredState::FREEZE);

  // Workers that start there answer all the same.
  v1::QueryRequest question;
  question.set_domain("shop");
  question.set_sql(sales_of + "'pear'");
  for (int round = 0; round < 2; ++round) {
    daemon.SignalWorker("shop", "live", SIGKILL);
    daemon.SignalWorker("shop", "standby", SIGKILL);
    Fill(disk.path(), 0);
    const auto asked = daemon.Slices()->Query(Within(absl::Seconds(60)).get(), question, &answer);
    EXPECT_TRUE(asked.ok()) << asked.error_message();
    EXPECT_EQ(answer.body(), R"([{"sales":1}])");
  }
  EXPECT_EQ(StatusOf(daemon).core_read_only_cause(), "");
  daemon.Kill();

  std::filesystem::remove(disk.path() + "/filler");
  daemon.Start();
  EXPECT_EQ(daemon.GetSlice("shop.by_item").desired().mode(), v1::DesiredState::FREEZE);
  EXPECT_TRUE(Eventually([&] { return !StatusOf(daemon).core_disk_full(); }));
  const auto healed = append("grape");
  EXPECT_TRUE(healed.ok()) << healed.status();
  EXPECT_EQ(daemon.Stop(), 0);
}

// Only one domain's disk is full.
class DomainDiskFullTest : public ::testing::Test {
 protected:
  static constexpr int64_t kDiskBytes = 16 * kMiB;

  void SetUp() override {
    unsetenv("TEST_TMPDIR");  // the disk of another test
    if (!SmallDisk(kMiB).mounted()) GTEST_SKIP() << "no privilege to mount";
    daemon_ = std::make_unique<DaemonFixture>();
    daemon_->Start();
    disk_ = daemon_->data_directory() + "/domains/shop";
    std::filesystem::create_directories(disk_);
    ASSERT_EQ(mount("tmpfs", disk_.c_str(), "tmpfs", 0, absl::StrCat("size=", kDiskBytes).c_str()),
              0);
    ASSERT_TRUE(daemon_->CreateStream("sales").ok());
    v1::ApplyDomainResponse applied;
    for (const char* domain : {"shop", "other"}) {
      const std::string file = absl::StrReplaceAll(kShop, {{"shop", domain}});
      ASSERT_TRUE(daemon_->Apply(file, &applied).ok());
    }
  }
  void TearDown() override {
    if (daemon_ == nullptr) return;
    EXPECT_EQ(daemon_->Stop(), 0);
    umount2(disk_.c_str(), MNT_DETACH);
  }

  int64_t Append(const std::string& item) {
    const auto end = daemon_->Append("sales", {absl::StrCat(R"({"item":")", item, R"("})")});
    EXPECT_TRUE(end.ok()) << end.status();
    return end.value_or(0);
  }

  // Both domains answer with everything below `position`, and fresh.
  void ExpectAnswers(int64_t position) {
    for (const char* domain : {"shop", "other"}) {
      v1::QueryResponse answer;
      EXPECT_TRUE(Eventually(
          [&] {
            return daemon_->Query(domain, "SELECT * FROM by_item", position, &answer).ok() &&
                   !answer.meta().stale();
          },
          absl::Seconds(60)))
          << domain;
    }
  }

  // Why the slice's rows are in memory only; "" when they are not.
  std::string NotSaved(const std::string& slice) {
    const v1::Slice described = daemon_->GetSlice(slice);
    for (const auto& condition : described.conditions()) {
      if (condition.type() == "NOT_SAVED") return condition.reason();
    }
    return "";
  }

  std::unique_ptr<DaemonFixture> daemon_;
  std::string disk_;
};

TEST_F(DomainDiskFullTest, ItsSlicesAnswerFromMemoryAndSayThatTheyAreNotSaved) {
  ExpectAnswers(Append("pear"));
  Fill(disk_, 0);
  ExpectAnswers(Append("apple"));
  EXPECT_TRUE(Eventually([&] { return NotSaved("shop.by_item") == "DOMAIN_DISK_FULL"; },
                         absl::Seconds(60)));
  EXPECT_EQ(daemon_->GetSlice("shop.by_item").last_error().reason(), "DOMAIN_DISK_FULL");
  EXPECT_EQ(daemon_->GetSlice("shop.by_item").state(), v1::RUNNING);
  EXPECT_EQ(NotSaved("other.by_item"), "");
  EXPECT_FALSE(daemon_->GetSlice("other.by_item").has_last_error());
  EXPECT_FALSE(StatusOf(*daemon_).core_disk_full());
  ExpectAnswers(Append("plum"));

  std::filesystem::remove(disk_ + "/filler");
  EXPECT_TRUE(Eventually([&] { return NotSaved("shop.by_item").empty(); }, absl::Seconds(60)));
  EXPECT_EQ(daemon_->GetSlice("shop.by_item").last_error().reason(), "DOMAIN_DISK_FULL");
  const int64_t end = Append("fig");
  EXPECT_TRUE(
      Eventually([&] { return daemon_->GetSlice("shop.by_item").snapshot_position() >= end; },
                 absl::Seconds(60)));
}

// At rest its standby would answer with what was saved before.
TEST_F(DomainDiskFullTest, ItDoesNotRestWithWhatIsNotSaved) {
  ExpectAnswers(Append("pear"));
  Fill(disk_, 0);
  ExpectAnswers(Append("apple"));
  ASSERT_TRUE(Eventually([&] { return NotSaved("shop.by_item") == "DOMAIN_DISK_FULL"; },
                         absl::Seconds(60)));
  const int64_t pid = daemon_->Worker("shop", "live").pid();
  v1::ApplyDomainResponse applied;
  for (const char* domain : {"shop", "other"}) {
    const std::string file =
        absl::StrCat(absl::StrReplaceAll(kShop, {{"shop", domain}}), "idle_after: 1s\n");
    ASSERT_TRUE(daemon_->Apply(file, &applied).ok());
  }
  const auto rests = [&](const std::string& domain) {
    const auto live = daemon_->Worker(domain, "live");
    return live.state() == "hibernating" && live.pid() == 0;
  };
  EXPECT_TRUE(Eventually([&] { return rests("other"); }, absl::Seconds(60)));
  EXPECT_EQ(daemon_->Worker("shop", "live").pid(), pid);
  std::filesystem::remove(disk_ + "/filler");
  EXPECT_TRUE(Eventually([&] { return rests("shop"); }, absl::Seconds(60)));
}

// What does not fit into the memory of a worker goes to the domain's disk, and that is full.
class SpillTest : public DomainDiskFullTest {
 protected:
  // Every pair of records has a group of its own: with some hundred records more than fits.
  static constexpr const char* kPairs =
      "SELECT count(*) AS pairs FROM (SELECT md5(a.item || '/' || b.item) AS pair FROM %s AS a "
      "CROSS JOIN %s AS b GROUP BY pair)";
  static constexpr int kMany = 1200;

  static std::string PairsOf(const std::string& relation) {
    return absl::StrReplaceAll(kPairs, {{"%s", relation}});
  }

  void SetUp() override {
    DomainDiskFullTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    const std::string file = absl::StrCat(kShop, "  pairs: {sql: \"", PairsOf("sales"),
                                          "\"}\nlimits: {memory: 48MB, query_timeout: 60s}\n");
    const int64_t before = daemon_->Worker("shop", "live").pid();
    v1::ApplyDomainResponse applied;
    const grpc::Status status = daemon_->Apply(file, &applied);
    ASSERT_TRUE(status.ok()) << status.error_message();
    // Another memory limit is another process, behind the standby's.
    ASSERT_TRUE(Eventually(
        [&] {
          live_ = daemon_->Worker("shop", "live").pid();
          return live_ > 0 && live_ != before;
        },
        absl::Seconds(60)));
    const int64_t first = Append("first");
    ExpectAnswers(first);
    ASSERT_TRUE(Eventually([&] { return Pairs(first) == R"([{"pairs":1}])"; }, absl::Seconds(60)));
  }

  int64_t AppendMany() {
    std::vector<std::string> payloads;
    for (int i = 1; i < kMany; ++i) payloads.push_back(absl::StrCat(R"({"item":"i)", i, R"("})"));
    const auto end = daemon_->Append("sales", payloads);
    EXPECT_TRUE(end.ok()) << end.status();
    return end.value_or(0);
  }

  grpc::Status AskPairs() {
    v1::QueryResponse answer;
    return daemon_->Query("shop", PairsOf("by_item"), -1, &answer);
  }

  // The answer of slice `pairs` at `position`; "" while there is none.
  std::string Pairs(int64_t position) {
    v1::QueryResponse answer;
    const auto status = daemon_->Query("shop", "SELECT * FROM pairs", position, &answer);
    return status.ok() ? answer.body() : "";
  }

  int64_t live_ = 0;
};

TEST_F(SpillTest, QueriesAndSlicesThatSpillFailByNameAndAloneUntilThereIsSpace) {
  const int64_t end = AppendMany();
  ExpectAnswers(end);
  const grpc::Status refused = AskPairs();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << refused.error_message();
  EXPECT_EQ(ErrorReason(server::FromGrpcStatus(refused)), "DOMAIN_DISK_FULL")
      << refused.error_message();

  // A slice whose SQL has to spill says so, and its last answer goes on, marked.
  EXPECT_TRUE(Eventually(
      [&] {
        const v1::Slice slice = daemon_->GetSlice("shop.pairs");
        return slice.state() == v1::FAULTED && slice.last_error().reason() == "DOMAIN_DISK_FULL";
      },
      absl::Seconds(120)));
  v1::QueryResponse old;
  ASSERT_TRUE(daemon_->Query("shop", "SELECT * FROM pairs", -1, &old).ok());
  EXPECT_EQ(old.body(), R"([{"pairs":1}])");
  EXPECT_TRUE(old.meta().stale());

  // Nobody died of it, and everything else goes on and is right.
  ExpectAnswers(Append("plum"));
  // The other one, which is tried again and again, takes its turns of the thread that applies.
  EXPECT_THAT(daemon_->GetSlice("shop.by_item").state(),
              ::testing::AnyOf(v1::RUNNING, v1::LAGGING));
  EXPECT_EQ(daemon_->Worker("shop", "live").pid(), live_);

  ASSERT_EQ(mount(nullptr, disk_.c_str(), nullptr, MS_REMOUNT, "size=512m"), 0);
  const std::string all = absl::StrCat("[{\"pairs\":", (kMany + 1) * (kMany + 1), "}]");
  EXPECT_TRUE(Eventually([&] { return Pairs(end + 1) == all; }, absl::Seconds(120)))
      << daemon_->GetSlice("shop.pairs").DebugString();
  EXPECT_TRUE(AskPairs().ok());
  EXPECT_EQ(daemon_->Worker("shop", "live").pid(), live_);
}

}  // namespace
}  // namespace icepie::testing
