// Freezing: how long it is meant to last, and what a frozen slice shows after a kill.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/e2e/shop_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);

std::string Reason(const grpc::Status& status) {
  return ErrorReason(server::FromGrpcStatus(status));
}

class FreezeTest : public ShopTest {
 protected:
  v1::Slice Freeze(absl::Duration remind_after) {
    v1::FreezeSliceRequest request;
    request.set_name("shop.by_item");
    request.set_reason("INC-4711");
    request.set_actor("ann");
    if (remind_after > absl::ZeroDuration()) {
      request.mutable_remind_after()->set_seconds(absl::ToInt64Seconds(remind_after));
    }
    v1::Slice slice;
    const auto status = daemon_.Admin()->FreezeSlice(Within(kLong).get(), request, &slice);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return slice;
  }

  std::vector<v1::Event> Reminders() {
    v1::ListEventsRequest request;
    request.set_name("shop.by_item");
    request.set_page_size(1000);
    v1::ListEventsResponse events;
    EXPECT_TRUE(daemon_.Admin()->ListEvents(Within(kLong).get(), request, &events).ok());
    std::vector<v1::Event> found;
    for (const auto& event : events.events()) {
      if (event.reason() == "FREEZE_OVERDUE") found.push_back(event);
    }
    return found;
  }
};

TEST_F(FreezeTest, OneThatLastsLongerThanMeantIsToldAndThawsNothing) {
  StartShop();
  Append("pear", 2);
  const std::string rows = Rows(daemon_, end_);
  const v1::Slice frozen = Freeze(absl::Seconds(1));
  EXPECT_TRUE(frozen.desired().has_remind_time());
  Append("fig", 1);
  ASSERT_TRUE(Eventually([&] { return !Reminders().empty(); }, kLong));
  EXPECT_EQ(Reminders().size(), 1U);
  EXPECT_THAT(Reminders()[0].message(), HasSubstr("INC-4711; icepie slice thaw shop.by_item"));
  const auto overdue = [&] {
    const v1::Slice slice = daemon_.GetSlice("shop.by_item");
    EXPECT_EQ(slice.state(), v1::FROZEN);
    return FindCondition(slice, "FREEZE_OVERDUE") != nullptr;
  };
  EXPECT_TRUE(overdue());
  daemon_.Kill();
  daemon_.Start();
  EXPECT_TRUE(overdue());
  EXPECT_EQ(Rows(daemon_, -1), rows);

  Freeze(absl::Hours(2));
  EXPECT_FALSE(overdue());
  v1::ChangeDomainRequest thaw;
  thaw.set_name("shop");
  thaw.mutable_remind_after()->set_seconds(3600);
  v1::ListSlicesResponse slices;
  EXPECT_EQ(Reason(daemon_.Admin()->ThawDomain(Within(kLong).get(), thaw, &slices)),
            "PARAMETER_INVALID");
  thaw.clear_remind_after();
  EXPECT_TRUE(daemon_.Admin()->ThawDomain(Within(kLong).get(), thaw, &slices).ok());
  EXPECT_FALSE(daemon_.GetSlice("shop.by_item").desired().has_remind_time());
  EXPECT_THAT(Rows(daemon_, end_), HasSubstr("fig"));
}

// Its last regular snapshot is far behind what it has shown, and another one takes its time.
TEST_F(FreezeTest, WhatItShowedItShowsAfterAKillAtOnce) {
  daemon_.SetSettings(
      "workers: {heartbeat_interval_ms: 100, snapshot_interval_ms: 1h, "
      "write_bytes_per_second: 512KiB}\n");
  StartShop();
  Append("pear", 1);
  Rows(daemon_, end_);
  ASSERT_TRUE(
      Eventually([&] { return daemon_.GetSlice("shop.by_item").snapshot_position() >= 0; }, kLong));
  Append("fig", 3);
  const std::string rows = Rows(daemon_, end_);
  EXPECT_THAT(rows, HasSubstr("fig"));
  ASSERT_LT(daemon_.GetSlice("shop.by_item").snapshot_position(), end_) << "shows nothing";
  Freeze(absl::ZeroDuration());
  daemon_.Kill();
  daemon_.Start();
  EXPECT_EQ(Rows(daemon_, -1), rows);
  EXPECT_TRUE(Eventually(
      [&] { return daemon_.GetSlice("shop.by_item").meta().source() == v1::LIVE; }, kLong));
  EXPECT_EQ(Rows(daemon_, -1), rows);
}

// Each of two verbs at once knows of the other, whichever comes first.
TEST_F(FreezeTest, OneBesideASuspensionIsKept) {
  StartShop();
  Append("pear", 1);
  Rows(daemon_, end_);
  for (int round = 0; round < 5; ++round) {
    grpc::Status suspended;
    v1::Slice slice;
    std::thread suspending([&] {
      v1::SuspendSliceRequest request;
      request.set_name("shop.by_item");
      v1::Slice shown;
      suspended = daemon_.Admin()->SuspendSlice(Within(kLong).get(), request, &shown);
    });
    Freeze(absl::ZeroDuration());
    suspending.join();
    EXPECT_TRUE(suspended.ok()) << suspended.error_message();
    const v1::DesiredState desired = daemon_.GetSlice("shop.by_item").desired();
    EXPECT_EQ(desired.mode(), v1::DesiredState::SUSPEND);
    EXPECT_EQ(desired.resume_to(), v1::DesiredState::FREEZE) << "the freeze is lost";
    v1::ResumeSliceRequest resume;
    resume.set_name("shop.by_item");
    EXPECT_TRUE(daemon_.Admin()->ResumeSlice(Within(kLong).get(), resume, &slice).ok());
    v1::ThawSliceRequest thaw;
    thaw.set_name("shop.by_item");
    EXPECT_TRUE(daemon_.Admin()->ThawSlice(Within(kLong).get(), thaw, &slice).ok());
  }
}

}  // namespace
}  // namespace icepie::testing
