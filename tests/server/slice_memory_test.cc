#include "server/domain/slice_memory.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "server/base/proto_time.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

using icepie::v1::Slice;

const absl::Time kStart = absl::FromUnixSeconds(1'800'000'000);

class SliceMemoryTest : public testing::Test {
 protected:
  static Slice Reporting(const std::string& reason, absl::Time time) {
    Slice slice;
    slice.set_name("shop.by_item");
    if (reason.empty()) return slice;
    slice.mutable_last_error()->set_reason(reason);
    *slice.mutable_last_error()->mutable_time() = ToProto(time);
    return slice;
  }
  static std::string Completed(SliceMemory& memory, Slice slice) {
    memory.Complete(slice, kStart);
    return slice.last_error().reason();
  }
  std::string Path() const { return directory_.path() + "/errors.jsonl"; }
  TempDirectory directory_;
};

TEST_F(SliceMemoryTest, AnErrorStaysOverRestartsUntilAnotherComes) {
  {
    SliceMemory memory(Path());
    EXPECT_EQ(Completed(memory, Reporting("", kStart)), "");
    EXPECT_EQ(Completed(memory, Reporting("SQL_ERROR", kStart)), "SQL_ERROR");
    memory.Flush();
  }
  std::ofstream(Path(), std::ios::app) << "{\"name\": half a li";
  SliceMemory memory(Path());
  EXPECT_EQ(Completed(memory, Reporting("", kStart)), "SQL_ERROR");
  EXPECT_EQ(Completed(memory, Reporting("POISON", kStart + absl::Seconds(1))), "POISON");
  // A worker that knows an older one only.
  EXPECT_EQ(Completed(memory, Reporting("SQL_ERROR", kStart)), "POISON");
}

TEST_F(SliceMemoryTest, AClearedErrorIsForgottenAlsoWhileItsWorkerReportsIt) {
  SliceMemory memory(Path());
  EXPECT_EQ(Completed(memory, Reporting("SQL_ERROR", kStart)), "SQL_ERROR");
  memory.ClearError("shop.by_item", kStart + absl::Seconds(1));
  EXPECT_EQ(Completed(memory, Reporting("SQL_ERROR", kStart)), "");
  EXPECT_EQ(Completed(memory, Reporting("SQL_ERROR", kStart + absl::Seconds(2))), "SQL_ERROR");
}

TEST_F(SliceMemoryTest, WhatIsGoneIsForgotten) {
  SliceMemory memory(Path());
  EXPECT_EQ(Completed(memory, Reporting("SQL_ERROR", kStart)), "SQL_ERROR");
  memory.KeepOnly({"shop.other"});
  EXPECT_EQ(Completed(memory, Reporting("", kStart)), "");
}

TEST(LatencyCountsTest, QuantilesAreWithinTenPercent) {
  LatencyCounts counts;
  for (int us = 1; us <= 10000; ++us) counts.Add(absl::Microseconds(us));
  EXPECT_NEAR(static_cast<double>(counts.Quantile(0.5)), 5000, 500);
  EXPECT_NEAR(static_cast<double>(counts.Quantile(0.99)), 9900, 990);
  EXPECT_EQ(LatencyCounts().Quantile(0.99), 0);
}

TEST(QueryMeterTest, CountsAllAndMeasuresTheLastSeconds) {
  QueryMeter meter;
  for (int i = 0; i < 100; ++i) meter.Add("a.b", i != 0, absl::Milliseconds(1), kStart);
  auto load = meter.Load("a.b", kStart + absl::Seconds(5));
  EXPECT_EQ(load.total(), 100);
  EXPECT_EQ(load.errors(), 1);
  EXPECT_NEAR(load.per_second(), 20, 0.1);
  EXPECT_NEAR(static_cast<double>(load.p99_us()), 1000, 100);
  // In the next span the one before still counts; then it is history.
  EXPECT_NEAR(meter.Load("a.b", kStart + absl::Seconds(15)).per_second(), 100.0 / 15, 0.1);
  load = meter.Load("a.b", kStart + absl::Seconds(31));
  EXPECT_EQ(load.total(), 100);
  EXPECT_EQ(load.per_second(), 0);
  EXPECT_EQ(load.p99_us(), 0);
  EXPECT_EQ(meter.Load("a.c", kStart).total(), 0);
}

}  // namespace
}  // namespace icepie::server
