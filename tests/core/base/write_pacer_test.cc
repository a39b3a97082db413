#include "core/base/write_pacer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace icepie {
namespace {

constexpr int64_t kPiece = 256 << 10;
constexpr int64_t kRate = 64 * kPiece;

class WritePacerTest : public testing::Test {
 protected:
  // What a writer gets done in `time` that always writes when it may, which takes no time.
  static int64_t Written(int writers, absl::Duration time) {
    WritePacer pacer(kRate);
    int64_t written = 0;
    const absl::Time begin = absl::FromUnixSeconds(1'000'000);
    std::vector<absl::Time> next(static_cast<size_t>(writers), begin);
    while (true) {
      const auto first = std::min_element(next.begin(), next.end());
      const absl::Time now = *first;
      if (now >= begin + time) return written;
      const auto writer = static_cast<uint64_t>(first - next.begin()) + 1;
      *first = now + pacer.Next(writer, kPiece, now);
      if (*first < begin + time) written += kPiece;
      *first += absl::Nanoseconds(1);
    }
  }
};

TEST_F(WritePacerTest, HoweverManyWriteTheSumStaysWhatItIs) {
  for (const int writers : {1, 2, 7, 40}) {
    const int64_t written = Written(writers, absl::Seconds(10));
    EXPECT_LE(written, 10 * kRate + writers * kPiece) << writers;
    EXPECT_GE(written, 9 * kRate) << writers;
  }
}

TEST_F(WritePacerTest, WhoAsksAgainAndAgainTakesNobodysTurn) {
  WritePacer pacer(kRate);
  const absl::Time now = absl::FromUnixSeconds(1'000'000);
  EXPECT_EQ(pacer.Next(1, kPiece, now), absl::ZeroDuration());
  EXPECT_GT(pacer.Next(2, kPiece, now), absl::ZeroDuration());
  const absl::Duration wait = pacer.Next(2, kPiece, now);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(pacer.Next(2, kPiece, now), wait);
  EXPECT_LE(pacer.Next(3, kPiece, now), wait * 2);
}

TEST_F(WritePacerTest, NobodyWaitsForEver) {
  WritePacer pacer(kRate);
  const absl::Time now = absl::FromUnixSeconds(1'000'000);
  for (uint64_t writer = 1; writer < 5000; ++writer) {
    EXPECT_LE(pacer.Next(writer, int64_t{1} << 60, now), WritePacer::kWaitMax);
  }
  EXPECT_EQ(pacer.Next(1, kPiece, now + absl::Seconds(3)), absl::ZeroDuration());
}

}  // namespace
}  // namespace icepie
