// The scrub: passes over a core that is in use, what they find, and where they go on.
#include "core/verify/scrubber.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "core/base/file.h"
#include "core/segment/segment_reader.h"
#include "core/verify/scrub_file.h"
#include "tests/core/broken_directory.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

using testing::HasSubstr;

class ScrubberTest : public testing::Test {
 protected:
  std::unique_ptr<Core> Open(const ScrubOptions& scrub, const SealingOptions& sealing = {}) {
    CoreOptions options;
    options.directory = directory_.path();
    options.scrub = scrub;
    options.sealing = sealing;
    auto core = Core::Open(options);
    ICEPIE_CHECK(core.ok());
    return *std::move(core);
  }

  static ScrubOptions Often() {
    ScrubOptions scrub;
    scrub.interval = absl::Milliseconds(20);
    scrub.bytes_per_second = int64_t{1} << 40;
    scrub.first_delay = absl::ZeroDuration();
    return scrub;
  }

  // Bytes that do not compress.
  void Fill(Core& core, int64_t records, size_t bytes) {
    ASSERT_TRUE(core.CreateStream("raw", PayloadFormat::kBytes).ok());
    std::mt19937_64 random(1);
    for (int64_t r = 0; r < records; ++r) {
      AppendBatch batch;
      std::string payload(bytes, '\0');
      for (char& byte : payload) byte = static_cast<char>(random());
      batch.records.push_back(MakeRecord("raw", std::move(payload)));
      ASSERT_TRUE(core.AppendAndWait(std::move(batch)).ok());
    }
  }

  static bool IsVerified(const Core& core) {
    const absl::Time now = absl::Now();
    return EventuallyInCore([&] {
      const auto state = core.Scrub();
      return state->verified_time && *state->verified_time > now &&
             state->verified_position == core.head_position() && state->finding_count == 0;
    });
  }

  TempDirectory directory_;
};

TEST_F(ScrubberTest, AWholeCoreIsVerifiedAgainAndAgain) {
  const auto core = Open(Often(), SmallSegments());
  ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
  for (int64_t n = 0; n < 300; n += 3) {
    ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", n, 3)).ok());
  }
  EXPECT_TRUE(IsVerified(*core));
  ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", 300, 3)).ok());
  EXPECT_TRUE(IsVerified(*core));
  EXPECT_GT(core->Scrub()->bytes_read, 0);
}

TEST_F(ScrubberTest, DamageStandsUntilAPassFindsNone) {
  const auto core = Open(Often(), SmallSegments());
  ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
  for (int64_t n = 0; n < 450; n += 3) {
    ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", n, 3)).ok());
  }
  ASSERT_TRUE(EventuallyInCore([&] { return core->Storage().segment_count >= 2; }));
  // The signer would find the damage too, and stop for good.
  ASSERT_TRUE(core->proofs()->GetCheckpoint(450, absl::Seconds(60)).ok());
  const auto lease = core->LeaseSegments(0, 450, 1);
  const std::string file = directory_.path() + "/" + lease->segments()[0].path;
  const SegmentBlock block = (*SegmentReader::Open(file))->blocks()[0];
  const auto flip = [&] {
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekg(static_cast<int64_t>(block.place) + 60);
    const int byte = stream.get();
    stream.seekp(static_cast<int64_t>(block.place) + 60);
    stream.put(static_cast<char>(byte ^ 1));
  };
  flip();
  EXPECT_TRUE(EventuallyInCore([&] { return core->Scrub()->finding_count > 0; }));
  const ScrubState state = *core->Scrub();
  ASSERT_FALSE(state.findings.empty());
  EXPECT_EQ(state.findings[0].position, block.header.first_position);
  EXPECT_EQ(state.findings[0].end_position, block.header.end_position());
  EXPECT_THAT(state.findings[0].what, HasSubstr(file));
  flip();
  EXPECT_TRUE(IsVerified(*core));
  EXPECT_TRUE(core->Scrub()->findings.empty());
}

TEST_F(ScrubberTest, ALogsDirectoryThatCannotBeReadIsDamage) {
  const auto core = Open(Often());
  Fill(*core, 3, 100);
  ASSERT_TRUE(IsVerified(*core));
  const std::string log = directory_.path() + "/rocksdb";
  {
    const BrokenDirectory broken(log);
    ASSERT_TRUE(EventuallyInCore([&] { return core->Scrub()->finding_count > 0; }));
    EXPECT_THAT(core->Scrub()->findings[0].what, HasSubstr(log));
  }
  EXPECT_TRUE(IsVerified(*core));
}

// Of what only a start reads, too.
TEST_F(ScrubberTest, AMissingFileIsDamage) {
  const auto core = Open(Often());
  Fill(*core, 3, 100);
  ASSERT_TRUE(core->proofs()->GetCheckpoint(3, absl::Seconds(60)).ok());
  for (const char* name : {"rocksdb/CURRENT", "high_water_mark", "signing_key", "checkpoint"}) {
    const std::string file = directory_.path() + "/" + name;
    std::filesystem::rename(file, file + ".away");
    EXPECT_TRUE(EventuallyInCore([&] { return core->Scrub()->finding_count > 0; })) << name;
    const ScrubState state = *core->Scrub();
    ASSERT_FALSE(state.findings.empty());
    EXPECT_THAT(state.findings[0].what, HasSubstr(file));
    std::filesystem::rename(file + ".away", file);
    EXPECT_TRUE(IsVerified(*core));
  }
}

TEST_F(ScrubberTest, AnInterruptedPassGoesOnAfterARestart) {
  constexpr int64_t kRecords = 6;
  constexpr int64_t kBytes = int64_t{1} << 20;
  absl::Time begin;
  int64_t position = 0;
  { Fill(*Open({}), kRecords, kBytes); }
  {
    ScrubOptions slowly = Often();
    slowly.interval = absl::Hours(24);
    slowly.bytes_per_second = int64_t{2} << 20;  // the table, four records, two seconds' rest
    const auto core = Open(slowly);
    ASSERT_TRUE(EventuallyInCore([&] { return core->Scrub()->position > 0; }));
    position = core->Scrub()->position;
    ASSERT_LT(position, kRecords);
    begin = *core->Scrub()->pass_begin;
  }
  ScrubOptions once = Often();
  once.interval = absl::Hours(1);
  const auto core = Open(once);
  ASSERT_TRUE(EventuallyInCore([&] { return core->Scrub()->verified_position == kRecords; }));
  const ScrubState state = *core->Scrub();
  EXPECT_FALSE(state.pass_begin);
  EXPECT_EQ(state.verified_position, kRecords);
  // Only the rest: not even the table files, which a new pass begins with.
  EXPECT_LT(state.bytes_read, (kRecords - position + 1) * kBytes);
  EXPECT_GT(*state.verified_time, begin);
}

// What it says of passes is no longer known, and nothing of it is believed.
TEST_F(ScrubberTest, ADamagedFileOfItsOwnIsToldAndAPassBeginsAnew) {
  {
    const auto core = Open(Often());
    Fill(*core, 1, 100);
    ASSERT_TRUE(IsVerified(*core));
  }
  const std::string path = directory_.path() + "/scrub";
  std::string saved = *ReadFile(path);
  saved[saved.find("verified ") + 12] ^= 1;
  ASSERT_TRUE(WriteFileAtomically(path, saved).ok());
  ScrubOptions later = Often();
  later.first_delay = absl::Hours(1);
  testing::internal::CaptureStdout();
  const auto core = Open(later);
  EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr(path + " is damaged"));
  EXPECT_FALSE(core->Scrub()->verified_time);
}

// However much there is; and no faster than that needs.
TEST(ScrubPaceTest, APassEndsWithinItsInterval) {
  const ScrubOptions scrub;
  ASSERT_EQ(scrub.interval, absl::Hours(24));
  EXPECT_EQ(ScrubBytesPerSecond(scrub, 0), scrub.bytes_per_second);
  EXPECT_EQ(ScrubBytesPerSecond(scrub, 1'000'000'000'000), scrub.bytes_per_second);
  for (const int64_t bytes : {int64_t{2} << 40, int64_t{100} << 40}) {
    const int64_t seconds = bytes / ScrubBytesPerSecond(scrub, bytes);
    EXPECT_LE(absl::Seconds(seconds), absl::Hours(18));
    EXPECT_GT(absl::Seconds(seconds), absl::Hours(17));
  }
  ScrubOptions often;
  often.interval = absl::Milliseconds(100);
  EXPECT_GT(ScrubBytesPerSecond(often, int64_t{1} << 62), int64_t{1} << 40);
}

// What is allowed would do for a byte a second.
TEST_F(ScrubberTest, TheMoreThereIsTheFasterItIsRead) {
  { Fill(*Open({}), 3, size_t{1} << 20); }
  ScrubOptions scrub = Often();
  scrub.bytes_per_second = 1;
  EXPECT_TRUE(IsVerified(*Open(scrub)));
}

// The write-ahead log, too, is read no faster than allowed: after its first part comes a long rest.
TEST_F(ScrubberTest, ALogIsReadAtTheAllowedRate) {
  constexpr size_t kBytes = size_t{1} << 20;
  ScrubOptions slowly = Often();
  slowly.interval = absl::Hours(24);
  slowly.bytes_per_second = 1;
  slowly.first_delay = absl::Seconds(1);  // the log is there by then
  const auto core = Open(slowly);
  Fill(*core, 3, kBytes);
  ASSERT_TRUE(EventuallyInCore([&] { return core->Scrub()->bytes_read > 0; }));
  EXPECT_LT(core->Scrub()->bytes_read, kBytes);
}

// Nor is a table file, and a core that is closed during the rest does not wait for its end.
TEST_F(ScrubberTest, ATableIsReadAtTheAllowedRate) {
  constexpr size_t kBytes = size_t{1} << 20;
  { Fill(*Open({}), 3, kBytes); }
  ScrubOptions slowly = Often();
  slowly.interval = absl::Hours(24);
  slowly.bytes_per_second = 1;
  const auto core = Open(slowly);  // the log becomes a table
  ASSERT_TRUE(EventuallyInCore([&] { return core->Scrub()->bytes_read > 0; }));
  EXPECT_LT(core->Scrub()->bytes_read, kBytes);
}

TEST_F(ScrubberTest, AReadOnlyCoreIsLeftAlone) {
  { Fill(*Open({}), 3, 100); }
  std::filesystem::remove(directory_.path() + "/high_water_mark");
  const auto core = Open(Often());
  EXPECT_NE(core->ReadOnlyCause(), "");
  EXPECT_FALSE(core->Scrub());
}

TEST(ScrubFileTest, WhatIsWrittenIsReadAndNothingElse) {
  ScrubState state;
  EXPECT_FALSE(DecodeScrubState(EncodeScrubState(state)).verified_time);
  state.verified_time = absl::FromUnixMicros(123);
  state.verified_position = 7;
  state.pass_begin = absl::FromUnixMicros(456);
  state.position = 5;
  state.findings = {{1, 2, "two words\nand a line"}, {3, 4, "x"}};
  state.finding_count = 2;
  const std::string bytes = EncodeScrubState(state);
  const ScrubState read = DecodeScrubState(bytes);
  EXPECT_EQ(read.verified_time, state.verified_time);
  EXPECT_EQ(read.verified_position, 7);
  EXPECT_EQ(read.pass_begin, state.pass_begin);
  EXPECT_EQ(read.position, 5);
  ASSERT_EQ(read.findings.size(), 2U);
  EXPECT_EQ(read.finding_count, 2);
  EXPECT_EQ(read.findings[0].what, "two words and a line");
  EXPECT_EQ(read.findings[1].end_position, 4);
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] ^= 1;
    EXPECT_EQ(DecodeScrubState(damaged).finding_count, 0) << i;
    EXPECT_FALSE(DecodeScrubState(bytes.substr(0, i)).pass_begin) << i;
  }
}

}  // namespace
}  // namespace icepie
