#include "server/record/stream_ends.h"

#include <gtest/gtest.h>

#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

TEST(StreamEndsTest, KnowsForHowLongAStreamHasHadARecordBeyondAPosition) {
  const TempDirectory directory;
  const auto core = OpenCore(directory.path());
  ASSERT_TRUE(core->CreateStream("s", PayloadFormat::kJson, {}).ok());
  ASSERT_TRUE(core->CreateStream("other", PayloadFormat::kJson, {}).ok());
  StreamEnds ends(*core);
  EXPECT_EQ(ends.BeyondFor("nothing", 0), absl::ZeroDuration());
  EXPECT_EQ(ends.BeyondFor("s", 0), absl::ZeroDuration());
  ASSERT_TRUE(core->AppendAndWait(NumberedBatch("s", 0, 3)).ok());
  ASSERT_TRUE(core->AppendAndWait(NumberedBatch("other", 0, 3)).ok());
  const auto grows = [&](int64_t position, absl::Duration to) {
    return EventuallyInCore([&] { return ends.BeyondFor("s", position) > to; });
  };
  EXPECT_TRUE(grows(2, absl::Milliseconds(500)));
  EXPECT_EQ(ends.BeyondFor("s", 3), absl::ZeroDuration()) << "those beyond are of another stream";
  ASSERT_TRUE(core->AppendAndWait(NumberedBatch("s", 3, 1)).ok());
  EXPECT_TRUE(grows(3, absl::Milliseconds(10)));
  // Asked for first: time goes on between the two.
  const absl::Duration beyond_3 = ends.BeyondFor("s", 3);
  EXPECT_GT(ends.BeyondFor("s", 2), beyond_3 + absl::Milliseconds(400));
  EXPECT_EQ(ends.BeyondFor("s", 7), absl::ZeroDuration());
}

TEST(StreamEndsTest, KnowsTheTimeOfTheFirstRecordBeyondAPosition) {
  const TempDirectory directory;
  const auto core = OpenCore(directory.path());
  for (const char* stream : {"s", "other"}) {
    ASSERT_TRUE(core->CreateStream(stream, PayloadFormat::kJson, {}).ok());
  }
  StreamEnds ends(*core);
  EXPECT_EQ(ends.OldestBeyond("nothing", 0), absl::InfiniteFuture());
  EXPECT_EQ(ends.OldestBeyond("s", 0), absl::InfiniteFuture());
  const auto append = [&](const std::string& stream, int first) {
    const auto appended = core->AppendAndWait(NumberedBatch(stream, first, 3));
    return absl::FromUnixMicros(appended.ok() ? appended->ingest_time_us : 0);
  };
  const absl::Time first = append("s", 0);  // positions 0 to 2
  EXPECT_EQ(ends.OldestBeyond("s", 3), absl::InfiniteFuture());
  append("other", 0);
  EXPECT_EQ(ends.OldestBeyond("s", 3), absl::InfiniteFuture()) << "those are of another stream";
  const absl::Time second = append("s", 3);  // 6 to 8
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ends.OldestBeyond("s", 0), first);
    EXPECT_EQ(ends.OldestBeyond("s", 2), first) << "within a block";
    EXPECT_EQ(ends.OldestBeyond("s", 3), second);
    EXPECT_EQ(ends.OldestBeyond("s", 8), second);
  }
  EXPECT_EQ(ends.OldestBeyond("s", 9), absl::InfiniteFuture());
}

}  // namespace
}  // namespace icepie::server
