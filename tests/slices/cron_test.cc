#include "slices/definition/cron.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace icepie::slices {
namespace {

using testing::HasSubstr;

absl::Time At(const std::string& text) {
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, &error)) << error;
  return time;
}

std::string Next(const std::string& cron, const std::string& zone, const std::string& after) {
  const auto schedule = CronSchedule::Parse(cron, zone);
  if (!schedule.ok()) return std::string(schedule.status().message());
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", schedule->Next(At(after)), absl::UTCTimeZone());
}

TEST(CronTest, TheNextTimeIsAfterTheGivenOne) {
  EXPECT_EQ(Next("0 2 * * *", "", "2026-11-22T01:59:59Z"), "2026-11-22T02:00:00Z");
  EXPECT_EQ(Next("0 2 * * *", "", "2026-11-22T02:00:00Z"), "2026-11-23T02:00:00Z");
  EXPECT_EQ(Next("*/15 * * * *", "", "2026-11-22T02:01:00Z"), "2026-11-22T02:15:00Z");
  EXPECT_EQ(Next("30 8 1 jan *", "", "2026-11-22T00:00:00Z"), "2027-01-01T08:30:00Z");
  EXPECT_EQ(Next("0 0 29 2 *", "", "2026-11-22T00:00:00Z"), "2028-02-29T00:00:00Z");
  EXPECT_EQ(Next("5,10-12 3 * * *", "", "2026-11-22T03:05:00Z"), "2026-11-22T03:10:00Z");
}

TEST(CronTest, WeekdaysCountFromSundayAndSevenIsSunday) {
  // 22 November 2026 is a Sunday.
  EXPECT_EQ(Next("0 0 * * 1", "", "2026-11-22T12:00:00Z"), "2026-11-23T00:00:00Z");
  EXPECT_EQ(Next("0 0 * * 7", "", "2026-11-22T12:00:00Z"), "2026-11-29T00:00:00Z");
  EXPECT_EQ(Next("0 0 * * mon-fri", "", "2026-11-27T12:00:00Z"), "2026-11-30T00:00:00Z");
  // Day of month and day of week: either is enough.
  EXPECT_EQ(Next("0 0 25 * 1", "", "2026-11-22T12:00:00Z"), "2026-11-23T00:00:00Z");
  EXPECT_EQ(Next("0 0 25 * 1", "", "2026-11-23T12:00:00Z"), "2026-11-25T00:00:00Z");
}

TEST(CronTest, LocalTimesFollowTheZone) {
  EXPECT_EQ(Next("0 2 * * *", "Europe/Zurich", "2026-01-10T12:00:00Z"), "2026-01-11T01:00:00Z");
  EXPECT_EQ(Next("0 2 * * *", "Europe/Zurich", "2026-07-10T12:00:00Z"), "2026-07-11T00:00:00Z");
  // 29 March 2026: 02:00 becomes 03:00, so 02:30 does not exist; it runs at the change.
  EXPECT_EQ(Next("30 2 * * *", "Europe/Zurich", "2026-03-28T12:00:00Z"), "2026-03-29T01:00:00Z");
  EXPECT_EQ(Next("30 2 * * *", "Europe/Zurich", "2026-03-29T01:00:00Z"), "2026-03-30T00:30:00Z");
  // 25 October 2026: 02:30 comes twice; it runs the first time.
  EXPECT_EQ(Next("30 2 * * *", "Europe/Zurich", "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
  EXPECT_EQ(Next("30 2 * * *", "Europe/Zurich", "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
}

TEST(CronTest, WhatNeverComesIsInfinitelyFar) {
  const auto schedule = CronSchedule::Parse("0 0 31 2 *", "");
  ASSERT_TRUE(schedule.ok());
  EXPECT_EQ(schedule->Next(At("2026-11-22T00:00:00Z")), absl::InfiniteFuture());
}

TEST(CronTest, BadSchedulesNameTheField) {
  EXPECT_THAT(Next("0 2 * *", "", "2026-11-22T00:00:00Z"), HasSubstr("five"));
  EXPECT_THAT(Next("60 2 * * *", "", "2026-11-22T00:00:00Z"), HasSubstr("minute \"60\""));
  EXPECT_THAT(Next("0 2 * 13 *", "", "2026-11-22T00:00:00Z"), HasSubstr("month \"13\""));
  EXPECT_THAT(Next("0 5-2 * * *", "", "2026-11-22T00:00:00Z"), HasSubstr("hour"));
  EXPECT_THAT(Next("*/0 * * * *", "", "2026-11-22T00:00:00Z"), HasSubstr("minute"));
  EXPECT_THAT(Next("0 2 * * *", "Europe/Zuerich", "2026-11-22T00:00:00Z"), HasSubstr("unknown"));
}

}  // namespace
}  // namespace icepie::slices
