#include "cli/format.h"

#include <gtest/gtest.h>

#include <limits>

namespace icepie::cli {
namespace {

TEST(FormatTest, Counts) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(-1234567), "-1,234,567");
  EXPECT_EQ(FormatCount(-123), "-123");
  EXPECT_EQ(FormatCount(std::numeric_limits<int64_t>::min()), "-9,223,372,036,854,775,808");
  EXPECT_EQ(FormatCounted(1, "row"), "1 row");
  EXPECT_EQ(FormatCounted(3'000'000, "row"), "3,000,000 rows");
}

TEST(FormatTest, ShortCounts) {
  EXPECT_EQ(FormatShortCount(9999), "9,999");
  EXPECT_EQ(FormatShortCount(740'200), "740 k");
  EXPECT_EQ(FormatShortCount(999'700), "1.0 M");
  EXPECT_EQ(FormatShortCount(63'412'000), "63.4 M");
  EXPECT_EQ(FormatShortCount(2.5e9), "2.50 G");
  EXPECT_EQ(FormatRate(740'200), "740 k/s");
}

TEST(FormatTest, Elapsed) {
  EXPECT_EQ(FormatElapsed(absl::Milliseconds(4)), "4 ms");
  EXPECT_EQ(FormatElapsed(absl::Seconds(24)), "24 s");
  EXPECT_EQ(FormatElapsed(absl::Seconds(252)), "4m 12s");
  EXPECT_EQ(FormatElapsed(absl::Minutes(60)), "1h");
  EXPECT_EQ(FormatElapsed(absl::Hours(52)), "2d 4h");
  EXPECT_EQ(FormatElapsed(-absl::Seconds(1)), "0 ms");
}

TEST(FormatTest, Times) {
  google::protobuf::Timestamp time;
  EXPECT_EQ(FormatTime(time), "-");
  time.set_seconds(1'795'316'321);
  EXPECT_EQ(FormatTime(time), "2026-11-22 02:58:41Z");
}

}  // namespace
}  // namespace icepie::cli
