// A backup of a daemon at work, restored by starting a daemon on it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/shop_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;

class BackupTest : public ShopTest {
 protected:
  grpc::Status BackUp(const std::string& directory, v1::BackupReport* report) {
    v1::BackUpCoreRequest request;
    request.set_directory(directory);
    request.set_actor("tester");
    const auto context = Within(absl::Seconds(60));
    const auto stub = daemon_.Core();
    const auto reader = stub->BackUpCore(context.get(), request);
    v1::BackUpCoreResponse message;
    while (reader->Read(&message)) {
      EXPECT_LE(message.done_bytes(), message.total_bytes());
    }
    *report = message.report();
    return reader->Finish();
  }

  // Of the tree over the first `size` records.
  static std::string RootAt(const DaemonFixture& daemon, int64_t size) {
    v1::GetConsistencyProofRequest request;
    v1::ConsistencyProof proof;
    request.set_old_size(size);
    request.set_size(StatusOf(daemon).head_position());
    const grpc::Status status =
        daemon.Core()->GetConsistencyProof(Within(absl::Seconds(60)).get(), request, &proof);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return proof.old_root_hash();
  }

  static void ExpectVerified(const DaemonFixture& daemon) {
    const auto context = Within(absl::Seconds(60));
    const auto stub = daemon.Core();
    const auto reader = stub->VerifyCore(context.get(), {});
    v1::VerificationReport found;
    for (v1::VerifyCoreResponse part; reader->Read(&part);) found = part.report();
    EXPECT_TRUE(reader->Finish().ok());
    EXPECT_EQ(found.bytes_rehashed().state(), v1::VerificationAnswer::STATE_HOLDS)
        << found.DebugString();
    EXPECT_EQ(found.tree_recomputed().state(), v1::VerificationAnswer::STATE_HOLDS)
        << found.DebugString();
  }
};

TEST_F(BackupTest, ABackupUnderLoadIsRestoredByStartingOnIt) {
  StartShop();
  Append("pear", 3);
  std::atomic<bool> stopping{false};
  std::thread writer([&] {
    while (!stopping) EXPECT_TRUE(daemon_.Append("sales", {Sale("apple")}).ok());
  });
  DaemonFixture restored;
  v1::BackupReport report;
  const grpc::Status status = BackUp(restored.data_directory(), &report);
  stopping = true;
  writer.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_GE(report.head_position(), end_);
  v1::BackupReport second;
  EXPECT_EQ(ErrorReason(server::FromGrpcStatus(BackUp(restored.data_directory(), &second))),
            "BACKUP_DIRECTORY_NOT_EMPTY");
  EXPECT_EQ(BackUp("relative", &second).error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  restored.Start();
  EXPECT_TRUE(StatusOf(restored).core_read_only());
  EXPECT_THAT(StatusOf(restored).core_read_only_cause(), HasSubstr("this is a backup"));
  EXPECT_EQ(StatusOf(restored).head_position(), report.head_position());
  EXPECT_EQ(RootAt(daemon_, report.head_position()), report.root()) << "the original's";
  EXPECT_EQ(RootAt(restored, report.head_position()), report.root());
  ExpectVerified(restored);
  v1::QueryResponse answer;
  EXPECT_EQ(ErrorReason(server::FromGrpcStatus(restored.Query(
                "shop", "SELECT * FROM by_item", report.head_position() + 1000, &answer))),
            "POSITION_AHEAD_OF_CORE");
  ASSERT_EQ(restored.Stop(), 0);
  restored.AddArgument(absl::StrCat("--accept-core-loss=", report.head_position()));
  restored.Start();
  EXPECT_THAT(Rows(restored, report.head_position()), HasSubstr("pear"));
  EXPECT_TRUE(restored.Append("sales", {Sale("plum")}).ok());
}

}  // namespace
}  // namespace icepie::testing
