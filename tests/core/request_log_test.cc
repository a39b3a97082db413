// Retries: what was stored once is not stored again, before and after a restart.
#include "core/append/request_log.h"

#include <gmock/gmock.h>

#include <future>

#include "core/base/status.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

using testing::HasSubstr;

AppendIdentity Request(const std::string& id) { return {id, "", 0, 0}; }
AppendIdentity Producer(int64_t epoch, int64_t sequence) { return {"", "pump-1", epoch, sequence}; }

AppendBatch With(AppendIdentity identity, AppendBatch batch) {
  batch.identity = std::move(identity);
  return batch;
}

class RequestTest : public testing::Test {
 protected:
  RequestTest() { Reopen(); }

  void Reopen() {
    core_.reset();
    core_ = OpenCore(directory_.path());
    ASSERT_TRUE(core_->CreateStream("a", PayloadFormat::kJson).ok());
    ASSERT_TRUE(core_->CreateStream("b", PayloadFormat::kJson).ok());
  }
  absl::StatusOr<AppendResult> Append(const AppendIdentity& identity, int64_t first,
                                      int64_t count) {
    return core_->AppendAndWait(With(identity, NumberedBatch("a", first, count)));
  }
  absl::Status Refused(const AppendIdentity& identity, int64_t first, const std::string& reason) {
    const int64_t head = core_->head_position();
    const absl::Status status = Append(identity, first, 1).status();
    EXPECT_EQ(ErrorReason(status), reason) << status;
    EXPECT_EQ(core_->head_position(), head);
    return status;
  }

  TempDirectory directory_;
  std::unique_ptr<Core> core_;
};

TEST_F(RequestTest, ARetryGetsTheFirstAnswerAlsoAfterARestart) {
  AppendBatch batch = NumberedBatch("a", 0, 2);
  batch.records.push_back(MakeRecord("b", "{}"));
  const auto first = core_->AppendAndWait(With(Request("x"), batch));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_FALSE(first->replayed);
  for (int i = 0; i < 2; ++i) {
    const auto again = core_->AppendAndWait(With(Request("x"), batch));
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(again->replayed);
    EXPECT_EQ(again->first_position, first->first_position);
    EXPECT_EQ(again->end_position, first->end_position);
    EXPECT_EQ(again->ingest_time_us, first->ingest_time_us);
    ASSERT_EQ(again->streams.size(), 2u);
    EXPECT_EQ(again->streams[1].stream, "b");
    EXPECT_EQ(again->streams[0].end_offset, 2);
    Reopen();
  }
  EXPECT_EQ(core_->head_position(), 3);
}

TEST_F(RequestTest, RetriesWhileTheFirstIsUnderWayAreStoredOnce) {
  constexpr int kCopies = 200;
  std::vector<std::promise<absl::StatusOr<AppendResult>>> answers(kCopies);
  for (auto& answer : answers) {
    core_->Append(
        With(Request("x"), NumberedBatch("a", 0, 3)),
        [&answer](absl::StatusOr<AppendResult> result) { answer.set_value(std::move(result)); });
  }
  int replayed = 0;
  for (auto& answer : answers) {
    const auto result = answer.get_future().get();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->first_position, 0);
    EXPECT_EQ(result->end_position, 3);
    replayed += result->replayed ? 1 : 0;
  }
  EXPECT_EQ(replayed, kCopies - 1);
  EXPECT_EQ(core_->head_position(), 3);
}

TEST_F(RequestTest, AnIdIsForOneBatchOnly) {
  ASSERT_TRUE(Append(Request("x"), 0, 1).ok());
  const absl::Status reused = Refused(Request("x"), 7, "REQUEST_ID_REUSED");
  EXPECT_EQ(reused.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(GetErrorDetail(reused)->metadata.at("first_position"), "0");
  AppendBatch with_condition = NumberedBatch("a", 0, 1);
  with_condition.conditions.push_back({"a", 0});
  EXPECT_EQ(ErrorReason(core_->AppendAndWait(With(Request("x"), with_condition)).status()),
            "REQUEST_ID_REUSED");
  AppendBatch with_key = NumberedBatch("a", 0, 1);
  with_key.records[0].key = "";
  EXPECT_EQ(ErrorReason(core_->AppendAndWait(With(Request("x"), with_key)).status()),
            "REQUEST_ID_REUSED");
}

TEST_F(RequestTest, ARetryHoldsWhenItsConditionNoLongerDoes) {
  AppendBatch batch = NumberedBatch("a", 0, 1);
  batch.conditions.push_back({"a", 0});
  ASSERT_TRUE(core_->AppendAndWait(With(Request("x"), batch)).ok());
  EXPECT_TRUE(core_->AppendAndWait(With(Request("x"), batch))->replayed);
  EXPECT_EQ(ErrorReason(core_->AppendAndWait(With(Request("y"), batch)).status()),
            "APPEND_CONDITION_FAILED");
  batch.conditions[0].end_offset = 1;  // y was not used up
  EXPECT_FALSE(core_->AppendAndWait(With(Request("y"), batch))->replayed);
}

TEST_F(RequestTest, MalformedIdentitiesAreNamed) {
  for (const std::string& id :
       {std::string(), std::string(129, 'x'), std::string("a b"), std::string("\xc3\xa9")}) {
    const absl::Status refused = Refused(Request(id), 0, "PARAMETER_INVALID");
    EXPECT_EQ(GetErrorDetail(refused)->violations.at(0).field, "request_id");
  }
  EXPECT_TRUE(Append(Request(std::string(128, '~')), 0, 1).ok());
  EXPECT_EQ(GetErrorDetail(Refused(Producer(-1, 0), 0, "PARAMETER_INVALID"))->violations[0].field,
            "producer.epoch");
  EXPECT_FALSE(Refused(Producer(0, -1), 0, "PARAMETER_INVALID").ok());
  EXPECT_FALSE(Refused({"", "a\nb", 0, 0}, 0, "PARAMETER_INVALID").ok());
}

TEST_F(RequestTest, AProducerSendsWithoutGapsAndOldEpochsAreFenced) {
  EXPECT_FALSE(Refused(Producer(3, 1), 0, "SEQUENCE_GAP").ok());  // begins at 0
  ASSERT_TRUE(Append(Producer(3, 0), 0, 1).ok());
  ASSERT_TRUE(Append(Producer(3, 1), 1, 1).ok());
  const absl::Status gap = Refused(Producer(3, 3), 2, "SEQUENCE_GAP");
  EXPECT_EQ(gap.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(gap.message()), HasSubstr("the next sequence is 2"));
  EXPECT_EQ(GetErrorDetail(gap)->metadata.at("last_sequence"), "1");
  Reopen();
  EXPECT_TRUE(Append(Producer(3, 0), 0, 1)->replayed);
  EXPECT_TRUE(Append(Producer(3, 1), 1, 1)->replayed);
  EXPECT_FALSE(Refused(Producer(3, 1), 7, "REQUEST_ID_REUSED").ok());
  EXPECT_FALSE(Refused(Producer(3, 3), 2, "SEQUENCE_GAP").ok());
  ASSERT_TRUE(Append(Producer(3, 2), 2, 1).ok());
  EXPECT_FALSE(Refused(Producer(4, 1), 3, "SEQUENCE_GAP").ok());
  ASSERT_FALSE(Append(Producer(4, 0), 3, 1)->replayed);
  const absl::Status fenced = Refused(Producer(3, 3), 3, "PRODUCER_FENCED");
  EXPECT_EQ(fenced.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetail(fenced)->metadata.at("epoch"), "4");
  Reopen();
  EXPECT_FALSE(Refused(Producer(3, 3), 3, "PRODUCER_FENCED").ok());
  EXPECT_EQ(core_->head_position(), 4);
}

TEST_F(RequestTest, AFailedBatchDoesNotUseItsSequenceUp) {
  AppendBatch batch = NumberedBatch("a", 0, 1);
  batch.conditions.push_back({"a", 5});
  EXPECT_EQ(ErrorReason(core_->AppendAndWait(With(Producer(0, 0), batch)).status()),
            "APPEND_CONDITION_FAILED");
  EXPECT_FALSE(Append(Producer(0, 0), 0, 1)->replayed);
}

TEST_F(RequestTest, ValidateOnlyStoresNothingAndChecksAll) {
  AppendBatch batch = NumberedBatch("a", 0, 2);
  batch.validate_only = true;
  batch.conditions.push_back({"a", 0});
  const auto valid = core_->AppendAndWait(With(Request("x"), batch));
  ASSERT_TRUE(valid.ok()) << valid.status();
  EXPECT_EQ(valid->end_position, 0);
  EXPECT_TRUE(valid->streams.empty());
  EXPECT_FALSE(valid->replayed);
  EXPECT_EQ(core_->head_position(), 0);
  EXPECT_FALSE(Append(Request("x"), 0, 1)->replayed) << "the id was not used up";
  EXPECT_EQ(ErrorReason(core_->AppendAndWait(batch).status()), "APPEND_CONDITION_FAILED");
  batch.conditions.clear();
  batch.records[1].payload = "{";
  EXPECT_EQ(ErrorReason(core_->AppendAndWait(batch).status()), "PAYLOAD_INVALID");
  EXPECT_EQ(core_->head_position(), 1);
}

TEST_F(RequestTest, ConditionsOnAbsenceAndPresence) {
  using Kind = AppendCondition::Kind;
  const auto append = [&](std::vector<AppendCondition> conditions) {
    AppendBatch batch = NumberedBatch("b", 0, 1);
    batch.conditions = std::move(conditions);
    return core_->AppendAndWait(std::move(batch)).status();
  };
  const absl::Status missing =
      append({{"a", 0, Kind::kPresent}, {"b", 0}, {"no", 0, Kind::kAbsent}});
  EXPECT_EQ(ErrorReason(missing), "APPEND_CONDITION_FAILED");
  EXPECT_THAT(std::string(missing.message()), HasSubstr("requires that it has a record"));
  EXPECT_THAT(GetErrorDetail(missing)->metadata,
              testing::ElementsAre(testing::Pair("a", "0"), testing::Pair("b", "0"),
                                   testing::Pair("no", "")));
  EXPECT_EQ(ErrorReason(append({{"no", 0, Kind::kPresent}})), "APPEND_CONDITION_FAILED");
  EXPECT_EQ(ErrorReason(append({{"no", 0, Kind::kEndOffset}})), "STREAM_NOT_FOUND");
  EXPECT_TRUE(append({{"a", 0, Kind::kAbsent}, {"no", 0, Kind::kAbsent}}).ok());
  EXPECT_TRUE(append({{"b", 0, Kind::kPresent}}).ok());
  const absl::Status present = append({{"b", 0, Kind::kAbsent}});
  EXPECT_THAT(std::string(present.message()), HasSubstr("ends at offset 2"));
  EXPECT_EQ(ErrorReason(append(std::vector<AppendCondition>(33, {"b", 2}))), "BATCH_TOO_LARGE");
}

// The log alone, with small limits.
class RequestLogTest : public testing::Test {
 protected:
  RequestLogTest()
      : store_(*LogStore::Open({directory_.path(), LogStore::Mode::kReadWrite, nullptr})) {
    Load();
  }
  void Load() {
    log_ = *RequestLog::Load(*store_, limits_, [this] { return now_; });
  }

  // Stores `identity` at the next position; false when it is known.
  bool Add(const AppendIdentity& identity) {
    const auto known = log_->Find(identity, fingerprint_);
    EXPECT_TRUE(known.ok()) << known.status();
    if (!known.ok() || *known) return false;
    AppendResult result;
    result.first_position = position_++;
    result.end_position = position_;
    result.ingest_time_us = ingest_time_us_;
    log_->Add(identity, fingerprint_, result);
    return true;
  }
  void Commit() { ASSERT_TRUE(store_->ChangeCatalog(*log_->TakeChanges()).ok()); }
  size_t Keys() const { return store_->ScanCatalog("")->size(); }

  TempDirectory directory_;
  std::unique_ptr<LogStore> store_;
  RequestLog::Limits limits_{100, absl::Hours(24), 3, absl::Hours(48)};
  std::unique_ptr<RequestLog> log_;
  const std::string fingerprint_ = std::string(16, 'f');
  int64_t position_ = 0;
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1000);
  int64_t ingest_time_us_ = 0;
};

TEST_F(RequestLogTest, TheOldestAreForgottenByCount) {
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(Add(Request(std::to_string(i))));
    if (i % 7 == 0) Commit();
    if (i == 500) {
      Commit();
      Load();
    }
  }
  Commit();
  EXPECT_EQ(log_->count(), 100);
  EXPECT_EQ(Keys(), 200u) << "an identity and its place in the order each";
  EXPECT_FALSE(Add(Request("999")));
  EXPECT_FALSE(Add(Request("900")));
  EXPECT_TRUE(Add(Request("899")));
}

TEST_F(RequestLogTest, AndByAge) {
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(Add(Request(std::to_string(i))));
  Commit();
  now_ += absl::Hours(24);
  EXPECT_FALSE(Add(Request("49")));
  ASSERT_TRUE(Add(Request("new")));
  Commit();
  EXPECT_EQ(log_->count(), 51) << "24 hours are promised";
  now_ += absl::Microseconds(1);
  ASSERT_TRUE(Add(Request("newer")));
  Commit();
  EXPECT_EQ(log_->count(), 2);
  EXPECT_TRUE(Add(Request("49")));
}

TEST_F(RequestLogTest, AWallClockThatJumpsMakesNothingOld) {
  ASSERT_TRUE(Add(Request("x")));
  ASSERT_TRUE(Add(Producer(0, 0)));
  Commit();
  ingest_time_us_ += absl::ToInt64Microseconds(absl::Hours(24 * 365));
  for (const char* id : {"y", "z"}) {
    ASSERT_TRUE(Add(Request(id)));
    Commit();
  }
  EXPECT_EQ(log_->count(), 4);
  EXPECT_FALSE(Add(Request("x")));
  EXPECT_FALSE(Add(Producer(0, 0)));
}

TEST_F(RequestLogTest, TheAgeGoesOnAfterARestart) {
  ASSERT_TRUE(Add(Request("x")));
  Commit();
  now_ += absl::Hours(20);
  ASSERT_TRUE(Add(Request("y")));
  Commit();
  now_ = absl::UnixEpoch();  // a machine that was started anew
  Load();
  now_ += absl::Hours(4);
  ASSERT_TRUE(Add(Request("z")));
  Commit();
  EXPECT_EQ(log_->count(), 3);
  now_ += absl::Microseconds(1);
  ASSERT_TRUE(Add(Request("last")));
  Commit();
  EXPECT_EQ(log_->count(), 3) << "x is forgotten";
  EXPECT_FALSE(Add(Request("y")));
}

TEST_F(RequestLogTest, AForgottenAnswerOfAProducerIsNotANewBatch) {
  for (int i = 0; i <= 200; ++i) {
    ASSERT_TRUE(Add(Producer(0, i)));
    Commit();
  }
  Load();
  EXPECT_EQ(ErrorReason(log_->Find(Producer(0, 5), fingerprint_).status()), "SEQUENCE_FORGOTTEN");
  EXPECT_FALSE(Add(Producer(0, 150)));
}

TEST_F(RequestLogTest, ProducersAreBoundedAndForgottenWhenIdle) {
  for (const char* id : {"p", "q", "r"}) ASSERT_TRUE(Add({"", id, 0, 0}));
  Commit();
  EXPECT_EQ(ErrorReason(log_->Find({"", "s", 0, 0}, fingerprint_).status()), "TOO_MANY_PRODUCERS");
  now_ += absl::Hours(49);
  ASSERT_TRUE(Add({"", "p", 0, 1}));
  Commit();
  ASSERT_TRUE(Add({"", "s", 0, 0}));
  Commit();
  Load();
  EXPECT_EQ(ErrorReason(log_->Find({"", "q", 0, 1}, fingerprint_).status()), "SEQUENCE_GAP")
      << "forgotten, so it begins anew";
}

// As a start does that looks before it opens for writing.
TEST_F(RequestLogTest, WhatWasLoadedFromOneStoreGoesOnWithAnother) {
  ASSERT_TRUE(Add(Request("x")));
  ASSERT_TRUE(Add(Producer(0, 0)));
  Commit();
  store_.reset();
  store_ = *LogStore::Open({directory_.path(), LogStore::Mode::kReadOnly, nullptr});
  Load();
  store_.reset();
  store_ = *LogStore::Open({directory_.path(), LogStore::Mode::kReadWrite, nullptr});
  log_->ReadFrom(*store_);
  EXPECT_FALSE(Add(Request("x")));
  EXPECT_FALSE(Add(Producer(0, 0)));
  ASSERT_TRUE(Add(Request("y")));
  Commit();
  EXPECT_FALSE(Add(Request("y")));
}

TEST_F(RequestLogTest, DamageIsFound) {
  ASSERT_TRUE(Add(Producer(0, 0)));
  Commit();
  for (const std::string& key : {std::string("ppump-1"), std::string("o") + std::string(8, '\0')}) {
    const std::string value = *store_->ReadCatalog(key).value();
    const LogStore::CatalogChange damage{key, value.substr(0, 3)};
    ASSERT_TRUE(store_->ChangeCatalog({&damage, 1}).ok());
    EXPECT_EQ(RequestLog::Load(*store_).status().code(), absl::StatusCode::kDataLoss);
    const LogStore::CatalogChange repair{key, value};
    ASSERT_TRUE(store_->ChangeCatalog({&repair, 1}).ok());
  }
}

}  // namespace
}  // namespace icepie
