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

}  // namespace
}  // namespace icepie::server
