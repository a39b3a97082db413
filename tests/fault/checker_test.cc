// The checker can fail: each test makes a record that is right, shows that it passes, and breaks it
// in one place.
#include "tests/fault/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/fault/fault_domains.h"
#include "tests/fault/reference.h"

namespace icepie::fault {
namespace {

using ::testing::Contains;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const absl::Time kStart = absl::FromUnixSeconds(1800000000);

int QuestionNumber(const std::string& sql_part) {
  for (size_t i = 0; i < Questions().size(); ++i) {
    if (Questions()[i].sql.find(sql_part) != std::string::npos) return static_cast<int>(i);
  }
  ADD_FAILURE() << "no question has " << sql_part;
  return 0;
}

class CheckerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int64_t batch = 0; batch < 6; ++batch) Append(2, batch, MakeBatch(2, batch));
    Append(kAppenders, 0, MakePoison(kAppenders, 0));
    for (int64_t batch = 6; batch < 9; ++batch) Append(2, batch, MakeBatch(2, batch));
    read_ = RightRead(QuestionNumber("records, tags"), "compliance.tags", end() - 3);
    record_.reads.push_back(read_);
  }

  int64_t end() const { return static_cast<int64_t>(record_.stored.size()); }

  // Stored and acknowledged a second after the one before.
  void Append(int client, int64_t batch, std::vector<StoredRecord> records) {
    AppendCall call;
    call.client = client;
    call.batch = batch;
    call.records = records;
    call.begin = kStart + absl::Seconds(static_cast<int64_t>(record_.appends.size()));
    call.end = call.begin + absl::Milliseconds(3);
    call.acknowledged = true;
    call.first_position = end();
    for (StoredRecord& stored : records) {
      stored.position = end();
      record_.stored.push_back(stored);
    }
    call.end_position = end();
    record_.appends.push_back(call);
  }

  // What a standby that stands at `position` should say.
  ReadCall RightRead(int question, const std::string& slice, int64_t position) {
    ReadCall read;
    read.question = question;
    read.begin = kStart + absl::Minutes(1);
    read.end = read.begin + absl::Milliseconds(5);
    read.answered = true;
    read.stale = true;
    read.acknowledged_position = end();
    const auto reference = Reference::Open(record_.stored);
    EXPECT_TRUE(reference.ok()) << reference.status();
    SliceStand stand{slice, position, 0, true, "WORKER_DOWN", "STANDBY", "STARTING"};
    stand.quarantined = (*reference)->Quarantined(FindSlice(slice), position).value_or(-1);
    read.slices = {stand};
    const auto rows = (*reference)->Answer(Questions()[static_cast<size_t>(question)], read.slices);
    EXPECT_TRUE(rows.ok()) << rows.status();
    read.rows = rows.value_or("");
    return read;
  }

  Verdict Judge() {
    const auto verdict = Check(record_, CheckOptions{});
    EXPECT_TRUE(verdict.ok()) << verdict.status();
    return verdict.value_or(Verdict{});
  }

  void ExpectBreach(const Verdict& verdict, const std::string& promise, const std::string& what) {
    EXPECT_THAT(verdict.breaches, Contains(testing::AllOf(Field(&Breach::promise, promise),
                                                          Field(&Breach::what, HasSubstr(what)))));
  }

  // Positions as they would be had the record at `place` never been there.
  void Renumber() {
    for (size_t i = 0; i < record_.stored.size(); ++i) {
      record_.stored[i].position = static_cast<int64_t>(i);
    }
  }

  CallRecord record_;
  ReadCall read_;  // record_.reads[0]
};

TEST_F(CheckerTest, ARightRecordPasses) {
  const Verdict verdict = Judge();
  EXPECT_THAT(verdict.breaches, IsEmpty()) << verdict.breaches.front().what;
  EXPECT_EQ(verdict.acknowledged, end());
  EXPECT_EQ(verdict.recomputed, 1);
  EXPECT_EQ(verdict.stale_answers, 1);
  EXPECT_EQ(read_.slices[0].quarantined, 1);  // the tag that is no number
}

TEST_F(CheckerTest, ALostRecordIsSeen) {
  record_.stored.erase(record_.stored.begin() + 4);
  Renumber();
  const Verdict verdict = Judge();
  EXPECT_EQ(verdict.lost, 1);
  ExpectBreach(verdict, "P1", "is lost");
}

TEST_F(CheckerTest, ADoubledRecordIsSeen) {
  record_.stored.push_back(record_.stored[4]);
  Renumber();
  const Verdict verdict = Judge();
  EXPECT_EQ(verdict.doubled, 1);
  ExpectBreach(verdict, "P1", "is stored 2 times");
}

TEST_F(CheckerTest, SwappedRecordsAreSeen) {
  std::swap(record_.stored[0].payload, record_.stored[end() - 1].payload);
  std::swap(record_.stored[0].stream, record_.stored[end() - 1].stream);
  ExpectBreach(Judge(), "P1", "was said to be at 0");
}

TEST_F(CheckerTest, AGapOfPositionsIsSeen) {
  record_.stored.back().position += 1;
  ExpectBreach(Judge(), "P1", "is missing");
}

TEST_F(CheckerTest, ABatchThatWasNeverAcknowledgedIsSeen) {
  record_.appends.back().acknowledged = false;
  record_.appends.back().error = "UNAVAILABLE";
  ExpectBreach(Judge(), "P2", "never acknowledged: UNAVAILABLE");
}

TEST_F(CheckerTest, AWrongFigureIsSeen) {
  const size_t digit = record_.reads[0].rows.find_last_of("0123456789");
  char& figure = record_.reads[0].rows[digit];
  figure = figure == '5' ? '6' : '5';
  const Verdict verdict = Judge();
  EXPECT_EQ(verdict.wrong_answers, 1);
  ExpectBreach(verdict, "P5", "wrong answer (compliance.tags at");
}

TEST_F(CheckerTest, RowsOfAnotherPositionAreSeen) {
  record_.reads[0].slices[0].applied_position = 5;
  record_.reads[0].slices[0].quarantined = 0;
  ExpectBreach(Judge(), "P5", "compliance.tags at 5");
}

TEST_F(CheckerTest, AWrongCountOfQuarantinedRecordsIsSeen) {
  record_.reads[0].slices[0].quarantined = 0;
  ExpectBreach(Judge(), "P8", "says 0 quarantined, there are 1");
}

TEST_F(CheckerTest, AStandbysAnswerThatIsNotMarkedStaleIsSeen) {
  record_.reads[0].stale = false;
  record_.reads[0].slices[0].stale = false;
  const Verdict verdict = Judge();
  EXPECT_EQ(verdict.unmarked_stale, 1);
  ExpectBreach(verdict, "P4", "is not marked stale and lacks records");
}

TEST_F(CheckerTest, AStandbyThatHasEverythingNeedNotBeMarked) {
  record_.reads[0] = RightRead(read_.question, "compliance.tags", end());
  record_.reads[0].stale = false;
  record_.reads[0].slices[0].stale = false;
  EXPECT_THAT(Judge().breaches, IsEmpty());
}

TEST_F(CheckerTest, ALiveAnswerThatIsTooOldToBeFreshIsSeen) {
  SliceStand& stand = record_.reads[0].slices[0];
  stand.source = "LIVE";
  stand.stale = record_.reads[0].stale = false;
  record_.reads[0].begin = record_.appends.back().end + absl::Seconds(9);
  EXPECT_THAT(Judge().breaches, IsEmpty());
  record_.reads[0].begin = record_.appends.back().end + absl::Seconds(11);
  ExpectBreach(Judge(), "P4", "is not marked stale and lacks records");
}

TEST_F(CheckerTest, AFrozenSliceThatIsNotMarkedStaleIsSeen) {
  record_.reads[0] = RightRead(read_.question, "compliance.tags", end());
  record_.reads[0].stale = false;
  record_.reads[0].slices[0].stale = false;
  record_.reads[0].slices[0].source = "LIVE";
  record_.frozen.push_back({"compliance.tags", kStart, kStart + absl::Hours(1)});
  ExpectBreach(Judge(), "P4", "is frozen and not marked stale");
}

TEST_F(CheckerTest, AnAnswerWhosePartsDifferIsSeen) {
  record_.reads[0].stale = false;
  ExpectBreach(Judge(), "P4", "differ in being stale");
}

TEST_F(CheckerTest, AnAnswerShortOfItsMinPositionIsSeen) {
  record_.reads[0].min_position = end() - 2;
  ExpectBreach(Judge(), "P4", "was asked for min_position");
}

TEST_F(CheckerTest, AFailedReadIsSeenUnlessTheDaemonWasDown) {
  ReadCall& read = record_.reads[0];
  read.answered = false;
  read.error = "UNAVAILABLE WORKER_LOST";
  record_.faults.push_back({7, "kill_both", "compliance", "", kStart, kStart, kStart, ""});
  const Verdict failed = Judge();
  EXPECT_EQ(failed.failed_reads, 1);
  ExpectBreach(failed, "P3", "WORKER_LOST");
  EXPECT_EQ(FaultAt(record_, failed.breaches[0].time), "fault 7 kill_both compliance, recovered");
  record_.downs.push_back({read.begin - absl::Seconds(1), read.begin - absl::Milliseconds(10)});
  const Verdict excused = Judge();
  EXPECT_THAT(excused.breaches, IsEmpty());
  EXPECT_EQ(excused.refused_while_down, 1);
}

TEST_F(CheckerTest, OnlyAReadThatAskedForAPositionMayBeToldThatItIsNotThere) {
  ReadCall& read = record_.reads[0];
  read.answered = false;
  read.reason = "POSITION_UNREACHABLE";
  EXPECT_EQ(Judge().failed_reads, 1);
  read.min_position = 3;
  EXPECT_EQ(Judge().failed_reads, 0);
}

TEST_F(CheckerTest, AnAdminCallThatFailedIsSeen) {
  record_.faults.push_back({1, "reslice", "payments", "", kStart, kStart, kStart, "build failed"});
  ExpectBreach(Judge(), "P9", "build failed");
}

TEST(LatencyTest, CallsAreSortedByWhatWentOnMeanwhile) {
  CallRecord record;
  record.faults.push_back(
      {1, "kill_live", "payments", "", kStart, kStart, kStart + absl::Seconds(1), ""});
  const auto ask = [&](const std::string& part, absl::Duration after) {
    ReadCall read;
    read.question = QuestionNumber(part);
    read.answered = true;
    read.begin = kStart + after;
    read.end = read.begin + absl::Milliseconds(7);
    record.reads.push_back(read);
  };
  ask("FROM totals ORDER", absl::Milliseconds(100));
  ask("FROM sizes", absl::Milliseconds(100));
  ask("FROM totals ORDER", absl::Seconds(3));
  const Latencies latencies = ReadLatencies(record);
  EXPECT_EQ(latencies.own.size(), 1U);
  EXPECT_EQ(latencies.neighbour.size(), 1U);
  EXPECT_EQ(latencies.calm.size(), 1U);
}

TEST(LatencyTest, PercentilesAreOfTheValues) {
  EXPECT_EQ(Percentile({}, 0.99), 0);
  EXPECT_EQ(Percentile({3}, 0.5), 3);
  EXPECT_EQ(Percentile({4, 1, 3, 2}, 0.5), 2);
  EXPECT_EQ(Percentile({4, 1, 3, 2}, 0.99), 4);
}

}  // namespace
}  // namespace icepie::fault
