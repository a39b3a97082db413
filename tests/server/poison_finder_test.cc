#include "server/supervisor/poison_finder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace icepie::server {
namespace {

using slices::Activity;
using slices::FlightNote;

FlightNote Apply(int64_t begin, int64_t end, bool blamed = false,
                 const std::string& generation = "volume/7") {
  return {Activity::kApply, blamed, begin, end, generation};
}

class PoisonFinderTest : public ::testing::Test {
 protected:
  PoisonVerdict Die(const std::vector<FlightNote>& notes) {
    now_ += absl::Seconds(3);
    return finder_.OnDeath(now_, notes);
  }

  PoisonFinder finder_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

TEST_F(PoisonFinderTest, ARecordIsFoundWithinAFewDeaths) {
  constexpr int64_t kPoison = 54'321;
  int deaths = 0;
  PoisonVerdict verdict;
  int64_t begin = 0;
  int64_t end = 65'536;
  int64_t step = end;
  while (verdict.kind != PoisonVerdict::kRecord) {
    ASSERT_LT(++deaths, 12);
    // As the worker does it: so many records at a time from the beginning of what is probed.
    const int64_t from = begin + (kPoison - begin) / step * step;
    verdict = Die({Apply(from, std::min(from + step, end), true)});
    if (verdict.kind != PoisonVerdict::kProbe) continue;
    begin = verdict.begin;
    end = verdict.end;
    step = verdict.records;
    EXPECT_LE(begin, kPoison);
    EXPECT_GT(end, kPoison);
  }
  EXPECT_EQ(verdict.position, kPoison);
  EXPECT_EQ(verdict.generation, "volume/7");
  EXPECT_LE(deaths, PoisonFinder::kBlamedDeaths + 3);
}

TEST_F(PoisonFinderTest, KillsFromOutsideAtEverOtherRecordsMeanNothing) {
  for (int64_t i = 0; i < 200; ++i) {
    EXPECT_EQ(Die({Apply(i * 10, i * 10 + 10)}).kind, PoisonVerdict::kNothing);
    EXPECT_EQ(Die({}).kind, PoisonVerdict::kNothing);
  }
}

TEST_F(PoisonFinderTest, WithoutBlameFiveDeathsAreNeeded) {
  for (int i = 1; i < PoisonFinder::kDeaths; ++i) {
    EXPECT_EQ(Die({Apply(0, 1000 + i)}).kind, PoisonVerdict::kNothing);
  }
  const auto verdict = Die({Apply(10, 2000)});
  EXPECT_EQ(verdict.kind, PoisonVerdict::kProbe);
  EXPECT_EQ(verdict.begin, 10);
  EXPECT_EQ(verdict.end, 1001);
}

TEST_F(PoisonFinderTest, AQueryThatIsToBlameExcusesTheSlices) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Die({Apply(0, 10), {Activity::kQuery, true, 0, 0, "abc"}}).kind,
              PoisonVerdict::kNothing);
  }
}

// Of a recompute: where one part of its records, tried alone, ends the worker, likewise.
class PoisonOfRecomputeTest : public PoisonFinderTest {
 protected:
  PoisonVerdict DieIn(int64_t begin, int64_t end) {
    return Die({{Activity::kRecompute, true, begin, end, "volume/7"}});
  }
  // While these are tried in front of it.
  PoisonVerdict DieAlone(int64_t begin, int64_t end) {
    return Die({{Activity::kProbe, true, begin, end, "volume/7"}});
  }
  // Until it is suspected.
  PoisonVerdict Begin() {
    for (int i = 1; i < PoisonFinder::kBlamedDeaths; ++i) {
      EXPECT_EQ(DieIn(0, 1000 + i).kind, PoisonVerdict::kNothing);
    }
    return DieIn(0, 2000);
  }
};

TEST_F(PoisonOfRecomputeTest, ARecordIsFoundByItsParts) {
  PoisonVerdict verdict = Begin();
  for (int deaths = 0; verdict.kind == PoisonVerdict::kProbe; ++deaths) {
    ASSERT_LT(deaths, 3);
    const int64_t part = verdict.begin + (157 - verdict.begin) / verdict.records * verdict.records;
    verdict = DieAlone(part, std::min(part + verdict.records, verdict.end));
  }
  EXPECT_EQ(verdict.kind, PoisonVerdict::kRecord);
  EXPECT_EQ(verdict.position, 157);
}

TEST_F(PoisonOfRecomputeTest, OneThatNoPartEndsIsSuspended) {
  ASSERT_EQ(Begin().kind, PoisonVerdict::kProbe);
  EXPECT_EQ(DieIn(0, 2000).kind, PoisonVerdict::kSlice);
}

TEST_F(PoisonOfRecomputeTest, OneThatEndsItWithoutAnyRecordIsSuspended) {
  ASSERT_EQ(Begin().kind, PoisonVerdict::kProbe);
  EXPECT_EQ(DieAlone(0, 0).kind, PoisonVerdict::kSlice);
}

// It may not even be one of the slice's own: a row of another slice came with it.
TEST_F(PoisonOfRecomputeTest, OneRecordIsLeftOutOnlyAfterItWasTriedWithoutIt) {
  for (const bool without : {true, false}) {
    finder_.Forget();
    PoisonVerdict verdict;
    for (int i = 0; i < PoisonFinder::kBlamedDeaths; ++i) {
      EXPECT_EQ(verdict.kind, PoisonVerdict::kNothing);
      verdict = DieIn(7, 8);
    }
    ASSERT_EQ(verdict.kind, PoisonVerdict::kProbe);
    EXPECT_EQ(verdict.begin, 7);
    EXPECT_EQ(verdict.end, 8);
    EXPECT_EQ(verdict.records, 1);
    EXPECT_EQ(DieAlone(7, without ? 7 : 8).kind,
              without ? PoisonVerdict::kSlice : PoisonVerdict::kRecord);
  }
}

// The first deaths may have been by something else, and the probe was passed.
TEST_F(PoisonOfRecomputeTest, OneRecordThatIsLeftOfAWholeRunIsTriedAlone) {
  for (const bool alone : {true, false}) {
    finder_.Forget();
    PoisonVerdict verdict;
    for (int i = 0; i < PoisonFinder::kBlamedDeaths; ++i) verdict = DieIn(0, 8);
    ASSERT_EQ(verdict.kind, PoisonVerdict::kProbe);
    verdict = DieIn(7, 20);
    ASSERT_EQ(verdict.kind, PoisonVerdict::kProbe);
    EXPECT_EQ(verdict.begin, 7);
    EXPECT_EQ(verdict.end, 8);
    EXPECT_EQ(verdict.records, 1);
    verdict = alone ? DieAlone(7, 8) : DieIn(7, 20);
    EXPECT_EQ(verdict.kind, alone ? PoisonVerdict::kRecord : PoisonVerdict::kSlice);
  }
}

TEST_F(PoisonOfRecomputeTest, OneThatEndsItWithoutTheRecordThatWasFoundIsSuspended) {
  PoisonVerdict verdict;
  int records = 0;
  for (int deaths = 0; verdict.kind != PoisonVerdict::kSlice; ++deaths) {
    ASSERT_LT(deaths, 2 * PoisonFinder::kDeaths);
    verdict = verdict.kind == PoisonVerdict::kProbe ? DieAlone(7, 8) : DieIn(7, 8);
    records += verdict.kind == PoisonVerdict::kRecord ? 1 : 0;
  }
  EXPECT_EQ(records, 1);
  EXPECT_THAT(verdict.why, testing::HasSubstr("times in a row"));
}

TEST_F(PoisonFinderTest, TheSameRecordIsLeftOutOnce) {
  PoisonVerdict verdict;
  int records = 0;
  for (int deaths = 0; verdict.kind != PoisonVerdict::kSlice; ++deaths) {
    ASSERT_LT(deaths, 2 * PoisonFinder::kDeaths);
    verdict = Die({Apply(7, 8, true)});
    records += verdict.kind == PoisonVerdict::kRecord ? 1 : 0;
  }
  EXPECT_EQ(records, 1);
  EXPECT_EQ(verdict.why,
            "applying records to it ended the worker 5 times in a row, also without the record at "
            "position 7");
}

TEST_F(PoisonFinderTest, WorkThatIsNotApplyingSuspendsTheSlice) {
  PoisonVerdict verdict;
  for (int i = 0; i < PoisonFinder::kBlamedDeaths; ++i) {
    EXPECT_EQ(verdict.kind, PoisonVerdict::kNothing);
    verdict = Die(
        {Apply(i * 10, i * 10 + 5, false, "other/1"), {Activity::kSave, true, 0, 0, "volume/7"}});
  }
  EXPECT_EQ(verdict.kind, PoisonVerdict::kSlice);
  EXPECT_EQ(verdict.generation, "volume/7");
  EXPECT_EQ(verdict.why, "saving it ended the worker 3 times in a row");
  // Tried again, it gets no such series any more.
  EXPECT_EQ(Die({{Activity::kSave, true, 0, 0, "volume/7"}}).kind, PoisonVerdict::kSlice);
}

TEST_F(PoisonFinderTest, AnExpectationThatCrashesIsNamedAndNoRecordIsLookedFor) {
  PoisonVerdict verdict;
  for (int i = 0; i < PoisonFinder::kBlamedDeaths; ++i) {
    EXPECT_EQ(verdict.kind, PoisonVerdict::kNothing);
    verdict = Die({Apply(i * 10, i * 10 + 5, false, "other/1"),
                   {Activity::kCheck, true, 0, 0, "volume/7/small"}});
  }
  EXPECT_EQ(verdict.kind, PoisonVerdict::kSlice);
  EXPECT_EQ(verdict.generation, "volume/7");
  EXPECT_EQ(verdict.why, "checking its expectation small ended the worker 3 times in a row");
}

TEST_F(PoisonFinderTest, TooManyRecordsSuspendTheSlice) {
  int records = 0;
  int deaths = 0;
  PoisonVerdict verdict;
  while (verdict.kind != PoisonVerdict::kSlice) {
    ASSERT_LT(++deaths, 100);
    verdict = Die({Apply(records, records + 1, true)});
    records += verdict.kind == PoisonVerdict::kRecord ? 1 : 0;
  }
  EXPECT_EQ(records, PoisonFinder::kRecordsMax);
}

// By an earlier daemon, or before somebody wanted the slice tried again.
TEST_F(PoisonFinderTest, RecordsThatWereLeftOutBeforeCount) {
  finder_.Forget();
  for (int i = 0; i < PoisonFinder::kRecordsMax; ++i) finder_.Know("volume/7", i);
  PoisonVerdict verdict;
  for (int deaths = 0; verdict.kind == PoisonVerdict::kNothing; ++deaths) {
    ASSERT_LT(deaths, PoisonFinder::kDeaths);
    verdict = Die({Apply(100, 101, true)});
  }
  EXPECT_EQ(verdict.kind, PoisonVerdict::kSlice);
}

TEST_F(PoisonFinderTest, OtherSlicesThatAreTriedAgainChangeNothing) {
  for (int i = 1; i < PoisonFinder::kBlamedDeaths; ++i) Die({Apply(7, 8, true)});
  finder_.Forget("vol");
  EXPECT_EQ(Die({Apply(7, 8, true)}).kind, PoisonVerdict::kRecord);
  for (int i = 1; i < PoisonFinder::kBlamedDeaths; ++i) Die({Apply(9, 10, true, "count/1")});
  finder_.Forget("count");
  EXPECT_EQ(Die({Apply(9, 10, true, "count/1")}).kind, PoisonVerdict::kNothing);
}

TEST_F(PoisonFinderTest, ProbesThatNarrowNothingDownEnd) {
  int deaths = 0;
  while (Die({Apply(0, 1'000'000, true)}).kind != PoisonVerdict::kSlice) ASSERT_LT(++deaths, 30);
}

TEST_F(PoisonFinderTest, DeathsFarApartAreNoSeries) {
  for (int i = 0; i < 20; ++i) {
    now_ += absl::Minutes(11);
    EXPECT_EQ(Die({Apply(0, 10, true)}).kind, PoisonVerdict::kNothing);
  }
}

}  // namespace
}  // namespace icepie::server
