// A data directory that cannot be written: at the start, and all at once under a daemon at work.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/core/small_disk.h"
#include "tests/e2e/faulty_disk.h"
#include "tests/e2e/health_client.h"
#include "tests/e2e/shop_fixture.h"
#include "tests/server/http_client.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;

class ReadOnlyTest : public ShopTest {
 protected:
  // Exit code of `icepie ARGUMENTS`.
  static int Icepie(const std::string& arguments) {
    const char* bin = std::getenv("ICEPIE_BIN");
    return WEXITSTATUS(std::system(
        absl::StrCat(bin != nullptr ? bin : ".", "/icepie ", arguments, " >/dev/null").c_str()));
  }
};

TEST_F(ReadOnlyTest, AReadOnlyDirectoryRefusesTheStartAndIsStillVerified) {
  if (!SmallDisk(1 << 20).mounted()) GTEST_SKIP() << "no privilege to mount";
  StartShop();
  Append("pear", 3);
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("pear"));
  ASSERT_EQ(daemon_.Stop(), 0);
  const char* data = daemon_.data_directory().c_str();
  ASSERT_EQ(mount(data, data, nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(mount(nullptr, data, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr), 0);

  const ProgramEnd end = daemon_.RunIcepied({});
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_THAT(end.errors, HasSubstr("cannot be written (Read-only file system)"));
  EXPECT_THAT(end.errors, HasSubstr("mount it for writing"));
  EXPECT_EQ(Icepie(absl::StrCat("verify --data-dir ", data)), 0);
  EXPECT_EQ(Icepie(absl::StrCat("doctor --data-dir ", data)), 1) << "it names what is wrong";

  ASSERT_EQ(umount2(data, MNT_DETACH), 0);
  daemon_.Start();
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("pear"));
  Append("apple", 1);
  EXPECT_EQ(daemon_.Stop(), 0);
}

class ReadOnlyRemountTest : public ReadOnlyTest {
 protected:
  std::string Refused() {
    const auto end = daemon_.Append("sales", {Sale("lost")});
    EXPECT_FALSE(end.ok());
    return ErrorReason(end.status());
  }

  grpc::Status Verify(v1::VerificationReport* report) {
    const auto context = Within(absl::Seconds(60));
    const auto stub = daemon_.Core();
    const auto reader = stub->VerifyCore(context.get(), {});
    for (v1::VerifyCoreResponse part; reader->Read(&part);) *report = part.report();
    return reader->Finish();
  }

  // Also to who only asks for health: red for the core alone, as slices answer on.
  void ExpectCoreUnhealthy(const std::string& cause) {
    EXPECT_TRUE(
        Eventually([this] { return HealthOf(daemon_, "icepie.v1.Core") == Health::NOT_SERVING; },
                   absl::Seconds(60)));
    EXPECT_EQ(HealthOf(daemon_, ""), Health::SERVING);
    EXPECT_TRUE(
        Eventually([this] { return HealthOf(daemon_, "slices/shop.by_item") == Health::SERVING; },
                   absl::Seconds(60)));
    const std::string& address = daemon_.http_address();
    server::HttpClient http(std::stoi(address.substr(address.rfind(':') + 1)));
    const auto ready = http.Get("/readyz");
    EXPECT_EQ(ready.status, 200);
    EXPECT_THAT(ready.body, ::testing::StartsWith("ready\ncore read-only: "));
    EXPECT_THAT(ready.body, HasSubstr(cause));
  }

  FaultyDisk disk_{daemon_.directory(), daemon_.data_directory()};
};

TEST_F(ReadOnlyRemountTest, ADiskThatBecomesReadOnlyEndsAppendsAndNothingElse) {
  disk_.Under([&] { StartShop(); });
  Append("pear", 3);
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("pear"));
  const int64_t live = daemon_.Worker("shop", "live").pid();
  disk_.Set(DiskFault::kReadOnly);
  EXPECT_EQ(Refused(), "LOG_SYNC_FAILED");
  EXPECT_EQ(Refused(), "CORE_READ_ONLY");
  const v1::ServerStatus status = StatusOf(daemon_);
  EXPECT_TRUE(status.core_read_only());
  EXPECT_THAT(status.core_read_only_cause(), HasSubstr("Read-only file system"));
  EXPECT_THAT(status.core_read_only_cause(), HasSubstr("restart the daemon"));
  EXPECT_EQ(status.head_position(), end_);
  ExpectCoreUnhealthy("Read-only file system");

  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("pear"));
  EXPECT_EQ(daemon_.Worker("shop", "live").pid(), live);
  v1::VerificationReport report;
  const grpc::Status verified = Verify(&report);
  EXPECT_TRUE(verified.ok()) << verified.error_message();
  EXPECT_EQ(report.findings_size(), 0) << report.ShortDebugString();

  daemon_.Kill();
  disk_.Set(DiskFault::kNone);
  daemon_.Start();
  EXPECT_FALSE(StatusOf(daemon_).core_read_only());
  EXPECT_TRUE(Eventually([this] { return HealthOf(daemon_, "icepie.v1.Core") == Health::SERVING; },
                         absl::Seconds(60)));
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("pear"));
  Append("apple", 1);
  EXPECT_EQ(daemon_.Stop(), 0);
}

// A bad sector is damage, not a reason to be gone.
TEST_F(ReadOnlyRemountTest, ADiskThatHasLostTablesEndsNeitherTheStartNorTheSlices) {
  StartShop();
  Append("pear", 3);
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("pear"));
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.Start();  // makes tables of the log
  ASSERT_EQ(daemon_.Stop(), 0);
  disk_.Set(DiskFault::kTablesLost);
  disk_.Under([&] { daemon_.Start(); });
  ASSERT_FALSE(HasFatalFailure());
  const v1::ServerStatus status = StatusOf(daemon_);
  EXPECT_TRUE(status.core_read_only());
  EXPECT_THAT(status.core_read_only_cause(), HasSubstr(".sst: Input/output error"));
  EXPECT_THAT(status.core_read_only_cause(), HasSubstr("restore the core directory"));
  EXPECT_EQ(Refused(), "CORE_READ_ONLY");
  EXPECT_THAT(Rows(daemon_, -1), HasSubstr(R"([{"item":"pear","total":3}])"));
  ExpectCoreUnhealthy("Input/output error");
  EXPECT_EQ(Icepie(absl::StrCat("doctor --data-dir ", daemon_.data_directory())), 1)
      << "it asks the daemon, whose log nobody else reads";
  EXPECT_EQ(daemon_.Stop(), 0);
}

// What the log's sync said once is believed: later syncs would call lost pages clean.
TEST_F(ReadOnlyRemountTest, ALogWhoseSyncFailedOnceIsNotWrittenAgainAndTheRetryIsStoredOnce) {
  disk_.Under([&] { StartShop(); });
  Append("pear", 3);
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("pear"));
  v1::AppendRecordsRequest request;
  request.set_request_id("00000000-0000-4000-8000-000000000001");
  v1::Record* record = request.add_records();
  record->set_stream("sales");
  record->set_payload(Sale("plum"));
  v1::AppendRecordsResponse stored;
  const auto append = [&] {
    return server::FromGrpcStatus(
        daemon_.Core()->AppendRecords(Within(absl::Seconds(60)).get(), request, &stored));
  };
  disk_.Set(DiskFault::kLogSyncFailsOnce);
  const absl::Status unknown = append();
  EXPECT_EQ(ErrorReason(unknown), "LOG_SYNC_FAILED") << unknown;
  EXPECT_EQ(unknown.code(), absl::StatusCode::kUnavailable);
  const absl::Status refused = append();
  ASSERT_EQ(ErrorReason(refused), "CORE_READ_ONLY") << refused;
  const auto metadata = GetErrorDetail(refused)->metadata;
  EXPECT_THAT(metadata.at("cause"), HasSubstr("Input/output error"));
  EXPECT_EQ(metadata.at("remedy"), "check the disk, then restart the daemon");
  absl::Time since;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, metadata.at("since"), &since, nullptr));
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr(R"([{"item":"pear","total":3}])"));

  daemon_.Kill();
  daemon_.Start();
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("pear"));
  for (int retry = 0; retry < 2; ++retry) {
    const absl::Status status = append();
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(stored.first_position(), end_);
    if (retry > 0) EXPECT_TRUE(stored.replayed());
  }
  EXPECT_THAT(Rows(daemon_, end_ + 1), HasSubstr(R"({"item":"plum","total":1})"));
  EXPECT_EQ(daemon_.Stop(), 0);
}

}  // namespace
}  // namespace icepie::testing
