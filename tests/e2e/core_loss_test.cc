// A core that lost its end while its slices had not: what is gone is not mixed with what comes
// after it, and domains are not lost with it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/shop_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
namespace fs = std::filesystem;
using ::testing::HasSubstr;

using CoreLossTest = ShopTest;

// The core comes back from a copy that is older than the slices' snapshots.
TEST_F(CoreLossTest, SlicesForgetWhatTheCoreHasLost) {
  StartShop();
  Append("pear", 3);
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("pear"));
  ASSERT_EQ(daemon_.Stop(), 0);
  const std::string core = daemon_.data_directory() + "/core";
  const std::string older = daemon_.data_directory() + "/../older";
  fs::copy(core, older, fs::copy_options::recursive);
  daemon_.Start();
  Append("lost", 5);
  const int64_t lost_end = end_;
  v1::ApplyDomainResponse applied;
  const grpc::Status later = daemon_.Apply(R"(domain: later
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  items: {sql: "SELECT DISTINCT item FROM sales"}
)",
                                           &applied);
  ASSERT_TRUE(later.ok()) << later.error_message();
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("lost"));
  // The slice is saved with what is lost next: a stop does that, too, but only for ten seconds.
  ASSERT_TRUE(
      Eventually([&] { return daemon_.GetSlice("shop.by_item").snapshot_position() >= lost_end; }));
  ASSERT_EQ(daemon_.Stop(), 0);
  // The mark stays: it is outside RocksDB so that it can tell.
  const std::string mark = *ReadFile(core + "/high_water_mark");
  fs::remove_all(core);
  fs::rename(older, core);
  ASSERT_TRUE(WriteFileAtomically(core + "/high_water_mark", mark).ok());

  daemon_.Start();
  const v1::ServerStatus status = StatusOf(daemon_);
  ASSERT_TRUE(status.core_read_only());
  ASSERT_LT(status.head_position(), lost_end);
  EXPECT_THAT(Rows(daemon_, -1), HasSubstr("lost")) << "answers go on until it is decided";
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.AddArgument(absl::StrCat("--accept-core-loss=", status.head_position()));
  daemon_.Start();
  v1::QueryResponse answer;
  EXPECT_EQ(ErrorReason(server::FromGrpcStatus(
                daemon_.Query("shop", "SELECT * FROM by_item", lost_end, &answer))),
            "POSITION_AHEAD_OF_CORE");
  // As many as were lost: the positions are the same, the records are not.
  Append("new", 8);
  ASSERT_GT(end_, lost_end);
  const std::string rows = Rows(daemon_, end_);
  EXPECT_THAT(rows, HasSubstr("new"));
  EXPECT_THAT(rows, HasSubstr("pear"));
  EXPECT_THAT(rows, ::testing::Not(HasSubstr("lost")));
  EXPECT_TRUE(fs::exists(daemon_.data_directory() + "/domains/shop/beyond_core/by_item"));
  // The domain of which the log has nothing any more goes on, too, with the records there are now.
  v1::QueryResponse items;
  EXPECT_TRUE(
      Eventually([&] { return daemon_.Query("later", "SELECT * FROM items", end_, &items).ok(); },
                 absl::Seconds(60)));
  EXPECT_THAT(items.body(), HasSubstr("new"));
  EXPECT_THAT(items.body(), ::testing::Not(HasSubstr("lost")));
}

// All of the data directory is the old one, and so is all that could tell in it.
TEST_F(CoreLossTest, AnOldCopyOfTheWholeDirectoryIsToldByAKeptCheckpoint) {
  daemon_.Start();
  ASSERT_TRUE(daemon_.CreateStream("sales").ok());
  Append("pear", 3);
  const int64_t older_end = end_;
  ASSERT_EQ(daemon_.Stop(), 0);
  const std::string data = daemon_.data_directory();
  const std::string older = daemon_.directory() + "/older";
  fs::copy(data, older, fs::copy_options::recursive);
  daemon_.Start();
  Append("lost", 5);
  v1::GetCheckpointRequest request;
  v1::Checkpoint checkpoint;
  request.set_min_size(end_);
  const grpc::Status asked =
      daemon_.Core()->GetCheckpoint(Within(absl::Seconds(60)).get(), request, &checkpoint);
  ASSERT_TRUE(asked.ok()) << asked.error_message();
  ASSERT_EQ(daemon_.Stop(), 0);
  fs::remove_all(data);
  fs::rename(older, data);

  const std::string note = daemon_.directory() + "/note";
  const ProgramEnd refused = daemon_.RunIcepied({"--expect-checkpoint=" + note});
  EXPECT_EQ(refused.exit_code, 3) << "the file is not there";
  EXPECT_THAT(refused.errors, HasSubstr(note));
  ASSERT_TRUE(WriteFileAtomically(note, checkpoint.note()).ok());
  daemon_.AddArgument("--expect-checkpoint=" + note);
  daemon_.Start();
  const v1::ServerStatus status = StatusOf(daemon_);
  EXPECT_TRUE(status.core_read_only());
  EXPECT_THAT(status.core_read_only_cause(), HasSubstr("the expected checkpoint of"));
  EXPECT_EQ(status.head_position(), older_end);
  EXPECT_EQ(ErrorReason(daemon_.Append("sales", {Sale("plum")}).status()), "CORE_READ_ONLY");
}

}  // namespace
}  // namespace icepie::testing
