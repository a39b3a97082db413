// Backups made while records are appended and sealed: whole, of the right root, and never mistaken
// for the original.
#include "core/verify/backup.h"

#include <gmock/gmock.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/merkle/merkle_tree.h"
#include "core/verify/verification.h"
#include "tests/core/core_testing.h"
#include "tests/core/small_disk.h"
#include "tests/core/stored_tree.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

bool GoOn(int64_t, int64_t) { return true; }

class BackupTest : public testing::Test {
 protected:
  BackupTest() : path_(directory_.path() + "/data/core"), copy_(directory_.path() + "/b/core") {}

  void Fill(Core& core, int64_t from, int64_t count) {
    ASSERT_TRUE(core.CreateStream("a", PayloadFormat::kJson).ok());
    for (int64_t n = from; n < from + count; n += 10) {
      ASSERT_TRUE(core.AppendAndWait(NumberedBatch("a", n, 10)).ok());
    }
  }

  // Makes `backup` while two threads append, and returns what was acknowledged before it began.
  BackupResult BackUpUnderLoad(Core& core, const std::string& backup, int64_t* before) {
    std::atomic<bool> stopping{false};
    std::vector<std::thread> writers;
    for (const char* stream : {"a", "b"}) {
      EXPECT_TRUE(core.CreateStream(stream, PayloadFormat::kJson).ok());
      writers.emplace_back([&core, &stopping, stream] {
        int64_t next = core.GetStream(stream)->end_offset;
        while (!stopping) {
          EXPECT_TRUE(core.AppendAndWait(NumberedBatch(stream, next, 3)).ok());
          next += 3;
        }
      });
    }
    EXPECT_TRUE(EventuallyInCore([&] { return core.Storage().segment_count > 2; }));
    EXPECT_TRUE(core.proofs()->GetCheckpoint(0, absl::Seconds(60)).ok());
    *before = core.head_position();
    const auto result = core.BackUpTo(backup, GoOn);
    EXPECT_TRUE(result.ok()) << result.status();
    const int64_t then = core.head_position();
    EXPECT_TRUE(EventuallyInCore([&] { return core.head_position() > then + 30; }));
    stopping = true;
    for (std::thread& writer : writers) writer.join();
    return result.value_or(BackupResult());
  }

  static void ExpectVerified(const std::string& core_directory) {
    const auto report = VerifyDirectory(core_directory, "", [](int64_t, int64_t, int64_t) {});
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_TRUE(report->ok()) << report->findings.size() << report->bytes_rehashed.detail
                              << report->tree_recomputed.detail;
  }

  Digest OriginalRoot(int64_t size) const {
    const auto log = OpenLog(path_);
    TiledNodes nodes(TreeReader(*log));
    return *RootOf(size, nodes);
  }

  TempDirectory directory_;
  const std::string path_;
  const std::string copy_;
};

TEST_F(BackupTest, IsWholeAndHasTheOriginalsRoot) {
  const SmallDisk other(int64_t{256} << 20);  // no hard links to there
  std::vector<std::string> copies = {copy_};
  if (other.mounted()) copies.push_back(other.path() + "/deep/er/core");
  for (const std::string& copy : copies) {
    SCOPED_TRACE(copy);
    int64_t before = 0;
    BackupResult result;
    {
      const std::unique_ptr<Core> core = OpenCore(path_, SmallSegments());
      result = BackUpUnderLoad(*core, copy, &before);
    }
    EXPECT_GE(result.head_position, before);
    EXPECT_GT(result.bytes, 0);
    EXPECT_EQ(result.root, OriginalRoot(result.head_position));
    ExpectVerified(copy);
    EXPECT_FALSE(fs::exists(copy + ".incomplete"));
    const std::unique_ptr<Core> original = OpenCore(path_);
    const std::unique_ptr<Core> restored = OpenCore(copy);
    ASSERT_EQ(restored->head_position(), result.head_position);
    const std::vector<ReadRecord> expected = ReadAll(*original);
    const std::vector<ReadRecord> found = ReadAll(*restored);
    ASSERT_EQ(static_cast<int64_t>(found.size()), result.head_position);
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i].stream, expected[i].stream);
      ASSERT_EQ(found[i].payload, expected[i].payload);
    }
  }
}

// The original may have gone on: its key must not sign a second history.
TEST_F(BackupTest, TakesAppendsOnlyWhenAnOperatorSaysSo) {
  std::string key;
  {
    const std::unique_ptr<Core> core = OpenCore(path_);
    Fill(*core, 0, 50);
    ASSERT_TRUE(core->BackUpTo(copy_, GoOn).ok());
    key = core->proofs()->verifier_key();
    Fill(*core, 50, 20);
  }
  {
    const std::unique_ptr<Core> core = OpenCore(copy_);
    EXPECT_THAT(core->ReadOnlyCause(), HasSubstr("this is a backup"));
    EXPECT_THAT(core->ReadOnlyCause(), HasSubstr("--accept-core-loss=50"));
    EXPECT_EQ(ErrorReason(core->AppendAndWait(NumberedBatch("a", 50, 1)).status()),
              "CORE_READ_ONLY");
    EXPECT_EQ(core->proofs()->verifier_key(), key);
    EXPECT_EQ(ErrorReason(core->ReadBlocks({}, 60, 61, 1).status()), "POSITION_AHEAD_OF_CORE");
  }
  CoreOptions options;
  options.directory = copy_;
  options.accept_loss_position = 49;
  EXPECT_NE((*Core::Open(options))->ReadOnlyCause(), "");
  options.accept_loss_position = 50;
  {
    const auto core = Core::Open(options);
    ASSERT_TRUE(core.ok()) << core.status();
    EXPECT_EQ((*core)->ReadOnlyCause(), "");
    EXPECT_THAT((*core)->AcceptedLoss(), HasSubstr("a backup was restored"));
    EXPECT_NE((*core)->proofs()->verifier_key(), key);
    Fill(**core, 50, 10);
  }
  const std::unique_ptr<Core> core = OpenCore(copy_);  // for good
  EXPECT_EQ(core->ReadOnlyCause(), "");
  EXPECT_EQ(ReadAll(*core).size(), 60u);
}

TEST_F(BackupTest, IsRefusedWhereItWouldDoHarm) {
  const std::unique_ptr<Core> core = OpenCore(path_);
  Fill(*core, 0, 10);
  for (const std::string& inside :
       {path_, path_ + "/b", directory_.path() + "/data", directory_.path() + "/data/b",
        directory_.path(), std::string("relative/core")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(core->BackUpTo(inside, GoOn).status())) << inside;
  }
  ASSERT_TRUE(core->BackUpTo(copy_, GoOn).ok());
  EXPECT_EQ(ErrorReason(core->BackUpTo(copy_, GoOn).status()), "BACKUP_DIRECTORY_NOT_EMPTY");
  ExpectVerified(copy_);
}

TEST_F(BackupTest, ThatEndsEarlyIsNotTakenForOne) {
  const std::unique_ptr<Core> core = OpenCore(path_);
  Fill(*core, 0, 10);
  EXPECT_TRUE(
      absl::IsCancelled(core->BackUpTo(copy_, [](int64_t, int64_t) { return false; }).status()));
  EXPECT_TRUE(fs::is_empty(directory_.path() + "/b"));
  // As if the machine had stopped in the middle.
  ASSERT_TRUE(MakeDirectories(copy_ + ".incomplete").ok());
  CoreOptions options;
  options.directory = copy_;
  const absl::Status refused = Core::Open(options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("did not come to its end"));
  EXPECT_EQ(ErrorReason(core->BackUpTo(copy_, GoOn).status()), "BACKUP_DIRECTORY_NOT_EMPTY");
}

}  // namespace
}  // namespace icepie
