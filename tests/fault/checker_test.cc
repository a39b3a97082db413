// The checker can fail: each test makes a record that is right, shows that it passes, and breaks it
// in one place.
#include "tests/fault/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "tests/fault/fault_domains.h"
#include "tests/fault/reference.h"
#include "tests/fault/weather.h"

namespace icepie::fault {

// For the messages of expectations.
void PrintTo(const Breach& breach, std::ostream* out) {
  *out << breach.promise << ": " << breach.what;
}

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
    const auto verdict = Check(record_, options_);
    EXPECT_TRUE(verdict.ok()) << verdict.status();
    return verdict.value_or(Verdict{});
  }

  // A fault of `domain` from `begin` to `end` after the start, whose cause is gone half-way.
  void AddFault(const std::string& domain, absl::Duration begin, absl::Duration end) {
    FaultSpan fault;
    fault.number = static_cast<int>(record_.faults.size()) + 1;
    fault.kind = "kill_live";
    fault.domain = domain;
    fault.begin = kStart + begin;
    fault.released = kStart + (begin + end) / 2;
    fault.end = kStart + end;
    record_.faults.push_back(fault);
  }

  // An answer about compliance.tags, asked `after` the start.
  ReadCall& AddRead(absl::Duration after, int64_t position, const std::string& source, bool stale) {
    const auto known = right_.find(position);
    ReadCall read = known != right_.end() ? known->second
                                          : RightRead(read_.question, "compliance.tags", position);
    right_[position] = read;
    read.begin = kStart + after;
    read.end = read.begin + absl::Milliseconds(5);
    read.stale = read.slices[0].stale = stale;
    read.slices[0].source = source;
    if (!stale) read.slices[0].stale_reason = "";
    read.acknowledged_position = position;
    record_.reads.push_back(read);
    return record_.reads.back();
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

  CheckOptions options_;
  CallRecord record_;
  ReadCall read_;                      // record_.reads[0]
  std::map<int64_t, ReadCall> right_;  // by position
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
  record_.reads[0].end = record_.reads[0].begin;
  EXPECT_THAT(Judge().breaches, IsEmpty());
  record_.reads[0].begin = record_.appends.back().end + absl::Seconds(11);
  record_.reads[0].end = record_.reads[0].begin;
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
  read.unheard = true;
  read.error = "UNAVAILABLE connection refused";
  AddFault("compliance", absl::ZeroDuration(), absl::Seconds(1));
  const Verdict failed = Judge();
  EXPECT_EQ(failed.failed_reads, 1);
  ExpectBreach(failed, "P3", "connection refused");
  EXPECT_EQ(FaultAt(record_, failed.breaches[0].time), "fault 1 kill_live compliance, recovered");
  record_.downs.push_back({read.begin - absl::Seconds(1), read.begin - absl::Milliseconds(10)});
  const Verdict excused = Judge();
  EXPECT_THAT(excused.breaches, IsEmpty());
  EXPECT_EQ(excused.refused_while_down, 1);
}

TEST_F(CheckerTest, ADaemonThatIsBackAnswersRight) {
  ReadCall& read = record_.reads[0];
  read.answered = false;
  read.reason = "DOMAIN_NOT_FOUND";
  read.error = "NOT_FOUND DOMAIN_NOT_FOUND";
  record_.downs.push_back({read.begin - absl::Seconds(1), read.begin - absl::Milliseconds(10)});
  ExpectBreach(Judge(), "P3", "DOMAIN_NOT_FOUND");
  read.reason = "SERVER_DRAINING";
  EXPECT_THAT(Judge().breaches, IsEmpty());
}

TEST_F(CheckerTest, OnlyAReadThatAskedForAPositionMayBeToldThatItIsNotThere) {
  AddFault("compliance", absl::ZeroDuration(), absl::Hours(1));
  ReadCall& read = record_.reads[0];
  read.answered = false;
  read.reason = "POSITION_UNREACHABLE";
  EXPECT_EQ(Judge().failed_reads, 1);
  read.min_position = 3;
  EXPECT_EQ(Judge().failed_reads, 0);
  EXPECT_EQ(Judge().unreachable, 1);
}

TEST_F(CheckerTest, APositionIsReachedWithoutAFaultOfTheDomain) {
  ReadCall& read = record_.reads[0];
  read.answered = false;
  read.reason = "POSITION_UNREACHABLE";
  read.min_position = 3;
  EXPECT_EQ(Judge().failed_reads, 1);
  AddFault("payments", absl::ZeroDuration(), absl::Hours(1));
  EXPECT_EQ(Judge().failed_reads, 1);
}

TEST_F(CheckerTest, AReadThatTakesLongIsSeen) {
  ReadCall& read = record_.reads[0];
  read.end = read.begin + absl::Seconds(6);
  ExpectBreach(Judge(), "P3", "a read took 6s");
  EXPECT_EQ(Judge().slow_reads, 1);
  read.min_position = 0;
  EXPECT_EQ(Judge().slow_reads, 0);
}

TEST_F(CheckerTest, WhatIsLongDependsOnTheCalm) {
  for (int i = 0; i < 20; ++i) {
    ReadCall& read = AddRead(absl::Minutes(2 + i), end(), "LIVE", false);
    read.end = read.begin + absl::Milliseconds(700);
  }
  record_.reads[0].end = record_.reads[0].begin + absl::Seconds(6);
  AddFault("compliance", absl::ZeroDuration(), absl::Seconds(90));
  EXPECT_THAT(Judge().breaches, IsEmpty());
}

TEST_F(CheckerTest, ARecordThatNobodySentIsSeen) {
  record_.stored.push_back({end(), "ledger", R"({"account":1})"});
  const Verdict verdict = Judge();
  EXPECT_EQ(verdict.unsent, 1);
  ExpectBreach(verdict, "P1", "nobody sent the record at");
}

TEST_F(CheckerTest, WhatTheDaemonRecordsItselfWasSentByNobody) {
  record_.stored.push_back({end(), "_admin", "{}"});
  EXPECT_THAT(Judge().breaches, IsEmpty());
}

TEST_F(CheckerTest, ABatchWhoseOutcomeIsUnknownMayBeThere) {
  AppendCall& last = record_.appends.back();
  last.acknowledged = false;
  EXPECT_EQ(Judge().unsent, 0);
}

TEST_F(CheckerTest, AFreshAnswerThatGoesBackIsSeenAlsoThroughAFault) {
  AddFault("compliance", absl::Seconds(70), absl::Seconds(90));
  AddRead(absl::Seconds(65), end(), "LIVE", false);
  AddRead(absl::Seconds(80), end() - 2, "STANDBY", true);
  ReadCall& last = AddRead(absl::Seconds(100), end(), "LIVE", false);
  EXPECT_THAT(Judge().breaches, IsEmpty());
  last.slices[0].applied_position = end() - 1;
  const Verdict verdict = Judge();
  EXPECT_EQ(verdict.went_back, 1);
  ExpectBreach(verdict, "P4", "the fresh answer of compliance.tags goes back from");
  last.reader = 3;
  EXPECT_EQ(Judge().went_back, 0);
}

TEST_F(CheckerTest, ALiveAnswerThatGoesBackWithoutAFaultIsSeen) {
  AddRead(absl::Seconds(65), end(), "LIVE", false);
  ReadCall& last = AddRead(absl::Seconds(67), end() - 2, "LIVE", true);
  last.slices[0].stale_reason = "SLICE_LAGGING";
  const Verdict verdict = Judge();
  EXPECT_EQ(verdict.went_back, 1);
  ExpectBreach(verdict, "P4", "the live answer of compliance.tags goes back from");
  last.slices[0].generation = 2;
  EXPECT_EQ(Judge().went_back, 0);
  last.slices[0].generation = 0;
  AddFault("compliance", absl::Seconds(66), absl::Seconds(90));
  EXPECT_EQ(Judge().went_back, 0);
}

TEST_F(CheckerTest, OneWayBackToTheStandbyIsDueToEachFault) {
  const auto both = [&](absl::Duration after) {
    AddRead(after, end(), "LIVE", false);
    AddRead(after + absl::Milliseconds(100), end() - 2, "STANDBY", true);
  };
  AddFault("compliance", absl::Seconds(70), absl::Seconds(90));
  both(absl::Seconds(71));  // while it is done
  both(absl::Seconds(72));
  both(absl::Seconds(81));  // shows late
  EXPECT_EQ(Judge().flaps, 0);
  both(absl::Seconds(82));
  EXPECT_EQ(Judge().flaps, 1);
  EXPECT_THAT(Judge().breaches, IsEmpty());  // a busy machine
  both(absl::Seconds(95));
  const Verdict verdict = Judge();
  EXPECT_EQ(verdict.flaps, 2);
  ExpectBreach(verdict, "P3", "2 times back to the standby");
}

TEST_F(CheckerTest, ANeighbourThatIsDisturbedMoreThanInCalmIsSeen) {
  record_.reads.clear();  // which is stale in calm
  AddFault("payments", absl::Seconds(100), absl::Seconds(200));
  for (int i = 0; i < 100; ++i) AddRead(absl::Seconds(65), end(), "LIVE", false);
  for (int i = 0; i < 100; ++i) AddRead(absl::Seconds(110), end(), "LIVE", false);
  for (int i = 0; i < 5; ++i) AddRead(absl::Seconds(120 + i), end(), "LIVE", true);
  EXPECT_THAT(Judge().breaches, IsEmpty());
  AddRead(absl::Seconds(130), end(), "LIVE", true);
  const Verdict verdict = Judge();
  EXPECT_EQ(verdict.neighbour_stale, 6);
  EXPECT_EQ(verdict.neighbour_not_live, 0);
  ExpectBreach(verdict, "P2", "6 of 106 answers of domains without a fault");
  // In calm it was no better.
  for (int i = 0; i < 5; ++i) AddRead(absl::Seconds(66 + i), end(), "LIVE", true);
  EXPECT_THAT(Judge().breaches, IsEmpty());
}

TEST_F(CheckerTest, NoNeighbourIsJudgedWhileTheMachineStalls) {
  record_.reads.clear();
  AddFault("payments", absl::Seconds(100), absl::Seconds(200));
  for (int i = 0; i < 6; ++i) AddRead(absl::Seconds(120), end(), "LIVE", true);
  EXPECT_EQ(Judge().neighbour_stale, 6);
  record_.stalls.push_back({kStart + absl::Seconds(117), kStart + absl::Seconds(118)});
  EXPECT_EQ(Judge().neighbour_reads, 0);
  record_.stalls.back() = {kStart + absl::Seconds(110), kStart + absl::Seconds(111)};
  EXPECT_EQ(Judge().neighbour_stale, 6);
}

TEST_F(CheckerTest, ARunInWhichNoNeighbourCouldBeJudgedIsSeen) {
  record_.reads.clear();
  for (int i = 1; i <= 3; ++i) {
    AddFault("payments", absl::Seconds(100 * i), absl::Seconds(100 * i + 50));
  }
  ExpectBreach(Judge(), "harness", "no read or append beside any of 3 faults");
  for (int i = 0; i < 100; ++i) AddRead(absl::Seconds(120), end(), "LIVE", false);
  const Verdict reads_alone = Judge();
  EXPECT_THAT(reads_alone.breaches, IsEmpty());
  EXPECT_EQ(reads_alone.neighbour_reads, 100);
  EXPECT_FALSE(reads_alone.neighbours_measured);
  options_.measured_faults = 3;
  ExpectBreach(Judge(), "harness", "only 100 reads and 0 appends beside 3 faults");
  record_.stalls.push_back({kStart + absl::Seconds(117), kStart + absl::Seconds(118)});
  ExpectBreach(Judge(), "harness", "no read or append");
}

TEST_F(CheckerTest, NeighboursAreMeasuredByEnoughReadsAndAppends) {
  record_.reads.clear();
  AddFault("payments", absl::ZeroDuration(), absl::Seconds(200));
  for (int i = 0; i < 100; ++i) AddRead(absl::Seconds(120), end(), "LIVE", false);
  for (int64_t batch = 9; batch < 98; ++batch) Append(2, batch, MakeBatch(2, batch));
  EXPECT_EQ(Judge().neighbour_appends, 99);
  EXPECT_FALSE(Judge().neighbours_measured);
  Append(2, 98, MakeBatch(2, 98));
  EXPECT_TRUE(Judge().neighbours_measured);
}

TEST_F(CheckerTest, AnAnswerOfTheNeighboursStandbyCountsAlsoWhenItIsFresh) {
  record_.reads.clear();  // which is stale in calm
  AddFault("payments", absl::Seconds(100), absl::Seconds(200));
  for (int i = 0; i < 6; ++i) AddRead(absl::Seconds(120), end(), "STANDBY", false);
  const Verdict verdict = Judge();
  EXPECT_EQ(verdict.neighbour_not_live, 6);
  ExpectBreach(verdict, "P2", "6 of 6 answers of domains without a fault");
}

TEST_F(CheckerTest, ANeighbourThatIsSlowerThanInCalmIsSeen) {
  record_.reads.clear();  // which is stale in calm
  AddFault("payments", absl::Seconds(1000), absl::Seconds(2000));
  const auto ask = [&](absl::Duration after, absl::Duration took) {
    ReadCall& read = AddRead(after, end(), "LIVE", false);
    read.end = read.begin + took;
  };
  for (int i = 0; i < 500; ++i) ask(absl::Seconds(100), absl::Milliseconds(5));
  for (int i = 0; i < 490; ++i) ask(absl::Seconds(1100), absl::Milliseconds(5));
  for (int i = 0; i < 9; ++i) ask(absl::Seconds(1200), absl::Milliseconds(60));
  EXPECT_THAT(Judge().breaches, IsEmpty());  // too few to tell
  ask(absl::Seconds(1201), absl::Milliseconds(60));
  ExpectBreach(Judge(), "P2", "have a p99 of 60 ms, in calm 5 ms; 58 ms would pass");
}

TEST_F(CheckerTest, AppendsThatAreSlowerBesideAFaultOfADomainThanInCalmAreSeen) {
  AddFault("payments", absl::Seconds(1000), absl::Seconds(2000));
  const auto append = [&](int64_t batch, absl::Duration after, absl::Duration took) {
    Append(3, batch, MakeBatch(3, batch));
    AppendCall& call = record_.appends.back();
    call.begin = kStart + after;
    call.end = call.begin + took;
  };
  int64_t batch = 0;
  while (batch < 500) append(batch++, absl::Seconds(100), absl::Milliseconds(5));
  while (batch < 990) append(batch++, absl::Seconds(1100), absl::Milliseconds(5));
  while (batch < 999) append(batch++, absl::Seconds(1200), absl::Milliseconds(300));
  EXPECT_THAT(Judge().breaches, IsEmpty());  // too few to tell
  append(batch, absl::Seconds(1201), absl::Milliseconds(300));
  ExpectBreach(Judge(), "P2", "appends beside the faults of domains have a p99 of 300 ms, in calm");
}

TEST_F(CheckerTest, AWorkerThatIsReplacedWithoutAFaultOfItsDomainIsSeen) {
  AddFault("payments", absl::Seconds(10), absl::Seconds(20));
  record_.workers = {{kStart, "compliance", "live", 100, ""},
                     {kStart, "payments", "live", 101, ""},
                     {kStart + absl::Seconds(20), "compliance", "live", 100, ""},
                     {kStart + absl::Seconds(20), "payments", "live", 102, "killed"}};
  EXPECT_THAT(Judge().breaches, IsEmpty());
  record_.workers[2].pid = 103;
  record_.workers[2].last_error = "ended with signal 9";
  const Verdict verdict = Judge();
  EXPECT_EQ(verdict.neighbour_restarts, 1);
  ExpectBreach(verdict, "P2", "the live worker of compliance, which had no fault, was process 100");
}

TEST_F(CheckerTest, AWorkerMayBeSilentOnlyWhileTheMachineStalls) {
  record_.workers = {{kStart, "compliance", "live", 100, ""},
                     {kStart + absl::Seconds(20), "compliance", "live", 102, "no answer for 2s"}};
  EXPECT_EQ(Judge().neighbour_restarts, 1);
  record_.stalls.push_back({kStart + absl::Seconds(5), kStart + absl::Seconds(6)});
  const Verdict excused = Judge();
  EXPECT_THAT(excused.breaches, IsEmpty());
  EXPECT_EQ(excused.neighbour_silences, 1);
  record_.workers[1].last_error = "ended with signal 11";
  EXPECT_EQ(Judge().neighbour_restarts, 1);
}

TEST_F(CheckerTest, OnASharedMachineSpeedIsNoPromiseAndAllElseIs) {
  options_.shared_machine = true;
  AddFault("payments", absl::Seconds(100), absl::Seconds(200));
  for (int i = 0; i < 6; ++i) {
    AddRead(absl::Seconds(110 + 2 * i), end(), "LIVE", false);
    ReadCall& slow = AddRead(absl::Seconds(111 + 2 * i), end() - 2, "STANDBY", true);
    slow.end = slow.begin + absl::Seconds(6);
  }
  ReadCall& early = AddRead(absl::Seconds(130), end(), "LIVE", false);
  early.answered = false;
  early.reason = "POSITION_UNREACHABLE";
  early.min_position = 3;
  record_.workers = {{kStart, "compliance", "live", 100, ""},
                     {kStart + absl::Seconds(20), "compliance", "live", 102, "no answer for 2s"}};
  const Verdict verdict = Judge();
  EXPECT_THAT(verdict.breaches, IsEmpty());
  EXPECT_EQ(verdict.slow_reads, 6);
  EXPECT_EQ(verdict.flaps, 6);
  EXPECT_EQ(verdict.neighbour_not_live, 6);
  EXPECT_EQ(verdict.neighbour_silences, 1);
  EXPECT_EQ(verdict.unreachable, 1);
  record_.workers[1].last_error = "ended with signal 11";
  ExpectBreach(Judge(), "P2", "the live worker of compliance");
  record_.reads[1].rows = "[]";
  ExpectBreach(Judge(), "P5", "wrong answer");
  record_.reads[2].slices[0].stale_reason = "";
  ExpectBreach(Judge(), "P4", "is stale without a reason");
  record_.reads.back().reason = "WORKER_LOST";
  ExpectBreach(Judge(), "P3", "failed read");
  record_.stored.pop_back();
  ExpectBreach(Judge(), "P1", "is lost");
}

TEST_F(CheckerTest, AKindThatNeverHappenedIsSeen) {
  AddFault("payments", absl::ZeroDuration(), absl::Seconds(1));
  record_.faults.back().injected = false;
  ExpectBreach(Judge(), "harness", "kill_live was tried and never happened");
  AddFault("payments", absl::Seconds(10), absl::Seconds(11));
  EXPECT_THAT(Judge().breaches, IsEmpty());
}

TEST_F(CheckerTest, ADaemonThatAnswersLateAfterItsStartIsSeen) {
  const auto restart = [&](absl::Duration took) {
    const absl::Time start = kStart + absl::Seconds(300);
    record_.downs.push_back({start, start, start, start + took});
  };
  for (int i = 0; i < 99; ++i) restart(absl::Seconds(2));
  restart(absl::Seconds(9));
  record_.downs.emplace_back();  // the one after the end
  record_.downs.back().begin = kStart + absl::Seconds(300);
  EXPECT_THAT(Judge().breaches, IsEmpty());
  restart(absl::Milliseconds(2001));
  ExpectBreach(Judge(), "P3", "from a daemon's start to its first answer the p99 is 2001 ms");
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
