// The wall clock jumps by a day, forwards and back, while the daemon works. Records keep the order
// of their positions, their ingest times never go back, nothing is stored or changed twice, and
// nothing that waits for a time waits a day: slices, snapshots, signatures, restarts of workers.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;

constexpr int64_t kDay = 24 * 60 * 60;
constexpr const char* kShop = R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR}}
slices:
  by_item: {sql: "SELECT item, count(*) AS sales FROM sales GROUP BY ALL", key: [item]}
  now_and_then: {sql: SELECT DISTINCT item FROM sales, strategy: recompute, refresh: {every: 300ms}}
)";

class ClockTest : public ::testing::Test {
 protected:
  ClockTest() : shift_file_(::testing::TempDir() + absl::StrCat("icepie-clock-", ::getpid())) {
    SetShift(0);
    setenv("ICEPIE_CLOCK_SHIFT", shift_file_.c_str(), 1);
    setenv("LD_PRELOAD", (std::string(std::getenv("ICEPIE_CLOCK_LIBRARY"))).c_str(), 1);
  }
  ~ClockTest() override {
    unsetenv("LD_PRELOAD");
    std::filesystem::remove(shift_file_);
  }

  // In place: the file is mapped.
  void SetShift(int64_t seconds) {
    const int fd = open(shift_file_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_EQ(pwrite(fd, &seconds, sizeof(seconds), 0), static_cast<ssize_t>(sizeof(seconds)));
    close(fd);
  }

  void StartShop() {
    daemon_.Start();
    unsetenv("LD_PRELOAD");
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
    v1::ApplyDomainResponse applied;
    const grpc::Status status = daemon_.Apply(kShop, &applied);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  v1::AppendRecordsResponse AppendUnder(const std::string& request_id, const std::string& item) {
    v1::AppendRecordsRequest request;
    v1::AppendRecordsResponse response;
    request.set_request_id(request_id);
    request.add_records()->set_stream("sales");
    request.mutable_records(0)->set_payload(absl::StrCat("{\"item\":\"", item, "\"}"));
    const grpc::Status status =
        daemon_.Core()->AppendRecords(Within(absl::Seconds(30)).get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  // Appends one record, each under an id of its own, and returns its ingest time.
  int64_t Append(const std::string& item) {
    const v1::AppendRecordsResponse response = AppendUnder(absl::StrCat("id-", ++appends_), item);
    EXPECT_EQ(response.end_position(), response.first_position() + 1);
    EXPECT_GE(response.first_position(), end_);
    end_ = response.end_position();
    return response.ingest_time().seconds();
  }

  // Makes a stream; `name` is another one each time, so that what is done again is seen.
  absl::Status ChangeUnder(const std::string& request_id, const std::string& name) {
    v1::CreateStreamRequest request;
    v1::Stream stream;
    request.set_request_id(request_id);
    request.set_name(name);
    return server::FromGrpcStatus(
        daemon_.Core()->CreateStream(Within(absl::Seconds(30)).get(), request, &stream));
  }

  // What was done first is still known.
  void ExpectNotDoneAgain() {
    const v1::AppendRecordsResponse again = AppendUnder("id-1", "today");
    EXPECT_TRUE(again.replayed()) << "stored twice, at " << again.first_position();
    const absl::Status changed = ChangeUnder("change", absl::StrCat("late", end_));
    EXPECT_EQ(ErrorReason(changed), "REQUEST_ID_REUSED") << changed;
  }

  // Everything that waits for a time does its work within a minute.
  void ExpectAtWork(const std::string& item) {
    SCOPED_TRACE(item);
    v1::QueryResponse answer;
    grpc::Status status;
    EXPECT_TRUE(Eventually(
        [&] {
          status = daemon_.Query("shop", "SELECT item FROM by_item", end_, &answer);
          return status.ok();
        },
        absl::Seconds(60)))
        << status.error_message();
    EXPECT_THAT(answer.body(), HasSubstr(item));
    EXPECT_TRUE(Eventually(
        [&] {
          status = daemon_.Query("shop", "SELECT item FROM now_and_then", -1, &answer);
          return status.ok() && answer.body().find(item) != std::string::npos;
        },
        absl::Seconds(60)))
        << "not refreshed: " << answer.body() << status.error_message();
    EXPECT_TRUE(
        Eventually([&] { return daemon_.GetSlice("shop.by_item").standby_position() >= end_; },
                   absl::Seconds(60)))
        << "no snapshot was made";
    v1::GetCheckpointRequest checkpoint;
    checkpoint.set_min_size(end_);
    v1::Checkpoint made;
    const auto signed_now =
        daemon_.Core()->GetCheckpoint(Within(absl::Seconds(60)).get(), checkpoint, &made);
    EXPECT_TRUE(signed_now.ok()) << signed_now.error_message();
    EXPECT_EQ(daemon_.Worker("shop", "live").restarts(), restarts_) << "killed for being silent";
  }

  DaemonFixture daemon_;
  const std::string shift_file_;
  int64_t end_ = 0;
  int64_t restarts_ = 0;
  int appends_ = 0;
  int jumps_ = 0;
};

TEST_F(ClockTest, ADayForwardsAndTwoBackLoseNoTimer) {
  StartShop();
  const int64_t today = Append("today");
  EXPECT_TRUE(ChangeUnder("change", "early").ok());
  ExpectAtWork("today");

  // The daemon's view of the clock may be two seconds old (absl::Now() looks at it now and then).
  SetShift(kDay);
  int64_t tomorrow = 0;
  ASSERT_TRUE(Eventually([&] { return (tomorrow = Append("tomorrow")) >= today + kDay; },
                         absl::Seconds(30)))
      << "the clock does not jump: is the library loaded?";
  EXPECT_TRUE(ChangeUnder("another", "another").ok());
  ExpectNotDoneAgain();
  ExpectAtWork("tomorrow");

  SetShift(-kDay);
  const int64_t yesterday = Append("yesterday");
  EXPECT_GE(yesterday, tomorrow) << "ingest times went back";
  ExpectAtWork("yesterday");
  daemon_.SignalWorker("shop", "live", SIGKILL);
  ++restarts_;
  ASSERT_TRUE(Eventually([&] { return daemon_.Worker("shop", "live").restarts() == restarts_; },
                         absl::Seconds(30)));
  Append("again");
  ExpectAtWork("again");

  // A second that comes twice, and an hour: a leap second, and a clock that is set by hand to
  // summer time and back (time zones are no matter of the clock; schedules have theirs in cron.h).
  for (const int64_t jump : {1, 0, 3600, 0}) {
    SetShift(-kDay + jump);
    const std::string item = absl::StrCat("jump", ++jumps_);
    EXPECT_GE(Append(item), tomorrow) << item;
    ExpectAtWork(item);
  }

  // The clock is right again, and the daemon starts anew.
  SetShift(0);
  ASSERT_EQ(daemon_.Stop(), 0);
  restarts_ = 0;
  daemon_.Start();
  EXPECT_GE(Append("later"), tomorrow);
  ExpectNotDoneAgain();
  ExpectAtWork("later");
}

}  // namespace
}  // namespace icepie::testing
