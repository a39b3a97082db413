#include "slices/query/query_service.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "slices/role/engine.h"
#include "tests/core/temp_directory.h"
#include "tests/slices/engine_fixture.h"

namespace icepie::slices {
namespace {

using testing::HasSubstr;
using Operator = SelectFilter::Operator;

class QueryServiceTest : public EngineFixture {
 protected:
  void SetUp() override {
    feed_.Append("orders",
                 {Order("Bern", 10), Order("Basel", 5), Order("Bern", 1), Order("Chur", 7)});
    StartLive();
    Configure({Spec("by_city"), Spec("lines")});
    WaitForPosition("by_city", 4);
    WaitForPosition("lines", 4);
  }

  // An engine whose questions may take as long as they say.
  void StartPatient() {
    EngineOptions options = Options();
    options.query_timeout = absl::Minutes(10);
    engine_.reset();
    auto started = LiveEngine::Start(options, feed_);
    ASSERT_TRUE(started.ok()) << started.status();
    engine_ = *std::move(started);
    Configure({Spec("by_city")});
    WaitForPosition("by_city", 4);
  }

  absl::StatusOr<Answer> Select(SelectQuestion select) {
    Question question;
    question.text = std::move(select);
    return Ask(*engine_, std::move(question));
  }

  static std::string Body(const absl::StatusOr<Answer>& answer) {
    return answer.ok() ? answer->rows.body : answer.status().ToString();
  }
};

TEST_F(QueryServiceTest, ASelectFiltersOrdersAndLimits) {
  SelectQuestion select;
  select.slice = "shop.by_city";
  select.columns = {"city", "total"};
  select.filters = {{"total", Operator::kGte, {std::string("7")}},
                    {"city", Operator::kIn, {std::string("Bern"), std::string("Chur")}}};
  select.order_by = {{"total", true}};
  EXPECT_EQ(Body(Select(select)), R"([{"city":"Bern","total":11},{"city":"Chur","total":7}])");
  select.limit = 1;
  EXPECT_EQ(Body(Select(select)), R"([{"city":"Bern","total":11}])");
  select.filters = {{"city", Operator::kIsNull, {}}};
  EXPECT_EQ(Body(Select(select)), "[]");
}

TEST_F(QueryServiceTest, ASelectNamesWhatIsWrong) {
  SelectQuestion select;
  select.slice = "by_city";
  select.columns = {"town"};
  const auto unknown = Select(select);
  EXPECT_EQ(ErrorReason(unknown.status()), "SQL_UNKNOWN_COLUMN");
  EXPECT_THAT(unknown.status().message(), HasSubstr("city, orders, total"));
  select.columns = {};
  select.filters = {{"total", Operator::kEq, {}}};
  EXPECT_EQ(ErrorReason(Select(select).status()), "PARAMETER_INVALID");
  select.slice = "nothing";
  EXPECT_EQ(ErrorReason(Select(select).status()), "SLICE_NOT_FOUND");
}

TEST_F(QueryServiceTest, ParametersAreBoundByName) {
  Question question;
  question.text =
      std::string("SELECT city FROM by_city WHERE city = $city AND total > $least ORDER BY city");
  question.parameters = {{"city", std::string("Bern")}, {"least", DecimalValue{"10.5"}}};
  EXPECT_EQ(Body(Ask(*engine_, question)), R"([{"city":"Bern"}])");
  question.parameters["least"] = int64_t{11};
  EXPECT_EQ(Body(Ask(*engine_, question)), "[]");
  question.parameters["more"] = true;
  EXPECT_EQ(ErrorReason(Ask(*engine_, question).status()), "PARAMETER_INVALID");
  question.parameters = {{"city", std::string("Bern")}};
  EXPECT_EQ(ErrorReason(Ask(*engine_, question).status()), "PARAMETER_INVALID");
}

TEST_F(QueryServiceTest, ColumnsAreNamedAsInTheRows) {
  const auto answer = Ask("SELECT 1 AS a, city, 2 AS a FROM by_city WHERE city = 'Chur'");
  ASSERT_TRUE(answer.ok()) << answer.status();
  std::vector<std::string> names;
  for (const OutputColumn& column : answer->columns) names.push_back(column.name);
  EXPECT_THAT(names, testing::ElementsAre("a", "city", "a_1"));
  EXPECT_EQ(answer->rows.body, R"([{"a":1,"city":"Chur","a_1":2}])");
}

TEST_F(QueryServiceTest, TooManyRowsAreRefusedAndNotCut) {
  Question question;
  question.text = std::string("SELECT * FROM lines");
  question.rows_max = 3;
  EXPECT_EQ(ErrorReason(Ask(*engine_, question).status()), "RESULT_TOO_LARGE");
  question.rows_max = 4;
  EXPECT_TRUE(Ask(*engine_, question).ok());
}

TEST_F(QueryServiceTest, KnownVersionsAreNotReadAgain) {
  Question question;
  question.text = std::string("SELECT * FROM by_city");
  const auto first = Ask(*engine_, question);
  ASSERT_TRUE(first.ok()) << first.status();
  const SliceReport& report = first->slices.at(0);
  question.known = {{"by_city", report.info.number, report.progress.content_version}};
  const auto second = Ask(*engine_, question);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->not_modified);
  feed_.Append("orders", {Order("Bern", 1)});
  WaitForPosition("by_city", 5);
  const auto third = Ask(*engine_, question);
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_FALSE(third->not_modified);
}

TEST_F(QueryServiceTest, WhatIsNotInTheSlicesIsAlwaysReadAgain) {
  for (const char* sql :
       {"SELECT *, now() AS at FROM by_city", "SELECT * FROM by_city WHERE current_date IS NULL",
        "SELECT random() FROM by_city", "SELECT * FROM by_city USING SAMPLE 1 ROWS",
        "SELECT age(TIMESTAMP '2026-01-01') FROM by_city"}) {
    Question question;
    question.text = std::string(sql);
    const auto first = Ask(*engine_, question);
    ASSERT_TRUE(first.ok()) << sql << ": " << first.status();
    EXPECT_TRUE(first->varies) << sql;
    const SliceReport& report = first->slices.at(0);
    question.known = {{"by_city", report.info.number, report.progress.content_version}};
    const auto second = Ask(*engine_, question);
    ASSERT_TRUE(second.ok()) << sql << ": " << second.status();
    EXPECT_FALSE(second->not_modified) << sql;
  }
  const auto plain = Ask("SELECT age(TIMESTAMP '2026-01-01', TIMESTAMP '2025-01-01') FROM by_city");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_FALSE(plain->varies);
}

TEST_F(QueryServiceTest, AnswersOverTwoSlicesSayWhereEachStands) {
  const auto answer = Ask("SELECT count(*) AS n FROM by_city, lines");
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_EQ(answer->slices.size(), 2u);
  EXPECT_EQ(answer->rows.body, R"([{"n":12}])");
}

TEST_F(QueryServiceTest, WhatTakesTooLongIsStoppedWhileOthersGoOn) {
  Question slow;
  slow.text = std::string("SELECT count(*) FROM range(10000000) a, range(10000000) b, by_city");
  slow.deadline = absl::Now() + absl::Seconds(2);
  std::promise<absl::StatusOr<Answer>> promise;
  engine_->Ask(slow, [&](absl::StatusOr<Answer> answer) { promise.set_value(std::move(answer)); });
  EXPECT_TRUE(Ask("SELECT * FROM by_city").ok());
  const auto answer = promise.get_future().get();
  EXPECT_EQ(ErrorReason(answer.status()), "QUERY_TIME_LIMIT");
  EXPECT_THAT(answer.status().message(), HasSubstr("by_city"));
}

TEST_F(QueryServiceTest, WhatNobodyWaitsForAnyMoreIsEnded) {
  const auto given_up = std::make_shared<std::atomic<bool>>(false);
  Question question;
  question.text = std::string("SELECT count(*) FROM range(10000000) a, range(10000000) b, by_city");
  question.deadline = absl::Now() + absl::Minutes(10);
  question.given_up = given_up;
  std::promise<absl::Status> running;
  engine_->Ask(question,
               [&](const absl::StatusOr<Answer>& answer) { running.set_value(answer.status()); });
  question.text = std::string("SELECT * FROM by_city");
  question.min_position = 1 << 20;
  question.max_wait = absl::Minutes(5);
  std::promise<absl::Status> waiting;
  engine_->Ask(question,
               [&](const absl::StatusOr<Answer>& answer) { waiting.set_value(answer.status()); });
  EXPECT_TRUE(Ask("SELECT * FROM by_city").ok());  // both have begun, or nearly
  *given_up = true;
  EXPECT_FALSE(running.get_future().get().ok());
  EXPECT_FALSE(waiting.get_future().get().ok());
  EXPECT_TRUE(Ask("SELECT * FROM by_city").ok());
}

// Threads of this process that do bulk work (MakeBulk); the snapshots' is less nice than those.
int BulkThreads() {
  int count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    const int thread = std::atoi(task.path().filename().c_str());
    const bool is_bulk = sched_getscheduler(thread) == SCHED_BATCH &&
                         getpriority(PRIO_PROCESS, static_cast<id_t>(thread)) == 15;
    count += is_bulk ? 1 : 0;
  }
  return count;
}

bool Eventually(const std::function<bool()>& holds) {
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!holds()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

// Questions that end by themselves only at their limit, and how they ended.
class LongQuestions {
 public:
  LongQuestions(LiveEngine& engine, size_t count, absl::Duration limit) : ends_(count) {
    Question question;
    question.text =
        std::string("SELECT count(*) FROM range(10000000) a, range(10000000) b, by_city");
    question.deadline = absl::Now() + limit;
    for (auto& end : ends_) {
      engine.Ask(question, [this, &end](const absl::StatusOr<Answer>& answer) {
        ++ended_;
        const std::string reason = ErrorReason(answer.status());
        const bool in_time = reason != "QUERY_TIME_LIMIT" && reason != "TOO_MANY_QUERIES";
        end.set_value(in_time ? answer.status().ToString() : reason);
      });
    }
  }
  ~LongQuestions() { Reasons(); }

  int ended() const { return ended_; }
  // When all have ended; of other errors all that they say.
  const std::multiset<std::string>& Reasons() {
    for (; reasons_.size() < ends_.size();) {
      reasons_.insert(ends_[reasons_.size()].get_future().get());
    }
    return reasons_;
  }

 private:
  std::vector<std::promise<std::string>> ends_;
  std::atomic<int> ended_ = 0;
  std::multiset<std::string> reasons_;
};

// Limits for questions that a machine has to work on for a while before they end: what a calm one
// does within the first, a busy one does within a later one.
constexpr int kLongSeconds[] = {3, 6, 12, 24, 48};

TEST_F(QueryServiceTest, WhatTakesLongGivesWayAndItsThreadIsReplaced) {
  StartPatient();
  int most = 0;
  for (const int seconds : kLongSeconds) {
    LongQuestions questions(*engine_, 4, absl::Seconds(seconds));  // as many as there are threads
    EXPECT_TRUE(Eventually([&] {
      most = std::max(most, BulkThreads());
      return most >= 3 || questions.ended() == 4;
    }));
    questions.Reasons();
    EXPECT_TRUE(Ask("SELECT * FROM by_city").ok());
    EXPECT_TRUE(Eventually([] { return BulkThreads() == 0; }));
    if (most >= 3) break;
  }
  // One is kept for what is quick, but one that does not listen when it is put off counts, too.
  EXPECT_GE(most, 3);
}

TEST_F(QueryServiceTest, ErrorsOfAQueryThatReadsNoSliceSaySo) {
  const absl::Status error = Ask("SELECT CAST('x' AS INTEGER)").status();
  EXPECT_EQ(ErrorReason(error), "SQL_ERROR");
  EXPECT_THAT(error.message(), testing::StartsWith("query that reads no slice: "));
  const absl::Status unknown = Ask("SELECT nowhere").status();
  EXPECT_THAT(unknown.message(), testing::StartsWith("query that reads no slice: "));
  EXPECT_THAT(unknown.message(), testing::Not(HasSubstr("(columns:")));
}

TEST_F(QueryServiceTest, ManyLongQuestionsLeaveRoomForQuickOnes) {
  StartPatient();
  bool had_room = false;
  for (const int seconds : kLongSeconds) {
    LongQuestions questions(*engine_, 8, absl::Seconds(seconds));
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(Ask("SELECT * FROM by_city").ok());
    had_room = questions.ended() == 0;
    const auto& reasons = questions.Reasons();
    const size_t crowded_out = reasons.count("TOO_MANY_QUERIES");
    EXPECT_EQ(crowded_out + reasons.count("QUERY_TIME_LIMIT"), 8u)
        << testing::PrintToString(reasons);
    had_room = had_room && crowded_out > 0;
    if (had_room) break;
  }
  EXPECT_TRUE(had_room);
}

// Of what they took, a small question may lack its own, for its plan, its transaction or its rows:
// it is told so, and the daemon asks the standby. So may the end of a transaction, and a connection
// that keeps one would fail whatever comes next.
TEST_F(QueryServiceTest, HungryQuestionsAreForgottenWhenTheyAreOver) {
  EngineOptions options = Options();
  options.memory_bytes = int64_t{64} << 20;
  engine_.reset();
  auto started = LiveEngine::Start(options, feed_);
  ASSERT_TRUE(started.ok()) << started.status();
  engine_ = *std::move(started);
  Configure({Spec("by_city")});
  WaitForPosition("by_city", 4);
  const absl::Time end = absl::Now() + absl::Seconds(60);
  std::atomic<int> refused = 0;
  std::atomic<int> asked = 0;
  const auto go_on = [&] { return (refused <= 3 || asked <= 3) && absl::Now() < end; };
  std::vector<std::thread> hungry;
  for (int i = 0; i < 2; ++i) {
    hungry.emplace_back([&] {
      while (go_on()) {
        const auto answer =
            Ask("SELECT len(list(a.range)) FROM range(100000) AS a, range(100000) AS b");
        EXPECT_EQ(answer.status().code(), absl::StatusCode::kResourceExhausted) << answer.status();
        ++refused;
      }
    });
  }
  while (go_on()) {
    const auto answer = Ask("SELECT city, total FROM by_city ORDER BY city");
    EXPECT_TRUE(answer.ok() || ErrorReason(answer.status()) == "QUERY_MEMORY_LIMIT")
        << answer.status();
    ++asked;
  }
  for (std::thread& thread : hungry) thread.join();
  EXPECT_GT(refused, 3);
  EXPECT_GT(asked, 3);
  for (int i = 0; i < 20; ++i) {
    const auto answer = Ask("SELECT count(*) AS n FROM by_city");
    ASSERT_TRUE(answer.ok()) << answer.status();
  }
}

TEST_F(QueryServiceTest, BeyondTheQueueQuestionsAreRefusedAtOnce) {
  Question slow;
  slow.text = std::string("SELECT count(*) FROM range(10000000) a, range(10000000) b, by_city");
  bool asked_in_time = false;
  for (int round = 0; round < 10 && !asked_in_time; ++round) {
    slow.deadline = absl::Now() + absl::Seconds(1);
    std::atomic<int> refused = 0;
    std::vector<std::promise<void>> promises(100);
    for (auto& promise : promises) {
      engine_->Ask(slow, [&](const absl::StatusOr<Answer>& answer) {
        refused += ErrorReason(answer.status()) == "TOO_MANY_QUERIES" ? 1 : 0;
        promise.set_value();
      });
    }
    asked_in_time = absl::Now() < slow.deadline;
    for (auto& promise : promises) promise.get_future().wait();
    if (!asked_in_time) continue;  // the first ones' time was over before the last were asked
    // Four run and 64 wait; how many of the queue have begun by then is open.
    EXPECT_GE(refused, 100 - 64 - 4);
    EXPECT_LT(refused, 100);
  }
  EXPECT_TRUE(asked_in_time);
}

// An interrupt that comes between two statements is lost: the service has to interrupt again.
TEST_F(QueryServiceTest, QuestionsThatHaveJustBegunDoNotKeepItFromClosing) {
  Question endless;
  endless.text = std::string("SELECT count(*) FROM range(10000000) a, range(10000000) b, by_city");
  endless.deadline = absl::Now() + absl::Minutes(10);
  for (int round = 0; round < 15; ++round) {
    std::vector<std::promise<absl::Status>> answers(4);
    for (auto& promise : answers) {
      engine_->Ask(endless, [&promise](const absl::StatusOr<Answer>& answer) {
        promise.set_value(answer.status());
      });
    }
    absl::SleepFor(absl::Microseconds(300 * round));  // at another statement each time
    engine_.reset();
    for (auto& promise : answers) EXPECT_FALSE(promise.get_future().get().ok());
    StartLive();
    Configure({Spec("by_city")});
    WaitForPosition("by_city", 0);
  }
}

// A question that was let through because its slice had passed over to 358 is not told 351.
TEST(ServedSliceTest, ARowThatIsReplacedWhileItIsReadStandsForWhatItStoodFor) {
  ServedSlice served({}, 0);
  Progress read;
  read.applied_position = 351;
  served.Publish(read);
  served.PassTo(358);
  const ServedSlice::Standing before = served.standing();
  Progress next;
  next.applied_position = 370;
  served.Publish(next);
  EXPECT_EQ(served.ReportAt(read, before).progress.applied_position, 358);
  EXPECT_EQ(served.ReportAt(next, before).progress.applied_position, 370);
}

TEST(QueryHeartbeatTest, OnlyTimeThatCouldBeUsedCounts) {
  constexpr absl::Duration kTick = absl::Milliseconds(20);
  QueryHeartbeat heartbeat;
  absl::Time now = absl::FromUnixSeconds(1000);
  absl::Duration worked;
  const auto pass = [&](absl::Duration time, absl::Duration work) {
    now += time;
    worked += work;
    heartbeat.Tick(now, worked);
  };
  pass(kTick, absl::ZeroDuration());
  EXPECT_EQ(heartbeat.age(), absl::ZeroDuration());
  for (int i = 0; i < 100; ++i) pass(kTick, absl::ZeroDuration());
  EXPECT_EQ(heartbeat.age(), absl::Seconds(2));
  heartbeat.Answered();
  EXPECT_EQ(heartbeat.age(), absl::ZeroDuration());
  pass(absl::Hours(1), absl::ZeroDuration());  // the machine slept
  EXPECT_EQ(heartbeat.age(), absl::Seconds(1));
  heartbeat.Answered();
  for (int i = 0; i < 100; ++i) pass(kTick, kTick);  // computing is no deadlock, but has its limit
  EXPECT_EQ(heartbeat.age(), absl::Milliseconds(500));
}

// A service over slices whose queries stand still, wherever the SQL calls hang(x), as long as the
// test wants.
class HangingServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    EngineOptions engine;
    engine.directory = directory_.path() + "/own";
    engine.memory_bytes = int64_t{256} << 20;
    instance_ = OpenInstance(engine, 1).value();
    connection_ = DuckConnection::Connect(*instance_).value();
    duckdb_scalar_function function = duckdb_create_scalar_function();
    duckdb_logical_type type = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
    duckdb_scalar_function_set_name(function, "hang");
    duckdb_scalar_function_add_parameter(function, type);
    duckdb_scalar_function_set_return_type(function, type);
    duckdb_scalar_function_set_volatile(function);
    duckdb_scalar_function_set_extra_info(function, this, nullptr);
    duckdb_scalar_function_set_function(function, Hang);
    EXPECT_EQ(duckdb_register_scalar_function(connection_->handle(), function), DuckDBSuccess);
    duckdb_destroy_logical_type(&type);
    duckdb_destroy_scalar_function(&function);
    AddSlice("first", "hang(3)", "7");
    AddSlice("second", "3", "hang(7)");
    slices_.Replace(all_);
    QueryOptions options;
    options.domain = "shop";
    options.heartbeat_interval = absl::Milliseconds(1);
    options.timeout = absl::Minutes(10);
    service_ = QueryService::Start(*instance_, slices_, options).value();
  }
  void TearDown() override {
    hangs_in_progress_ = hangs_in_result_ = false;
    service_.reset();
    slices_.Replace({});
    all_.clear();
  }

  void AddSlice(const std::string& name, const std::string& position, const std::string& value) {
    GenerationInfo info;
    info.slice = name;
    ASSERT_TRUE(connection_->Run("ATTACH ':memory:' AS " + name).ok());
    const absl::Status made = connection_->Run(absl::StrCat(
        "CREATE VIEW ", name, ".main.__progress AS SELECT ", position,
        " AS applied_position, 0::BIGINT AS applied_time_us, 0::BIGINT AS event_time_max_us, ",
        "0::BIGINT AS input, 0::BIGINT AS applied, 0::BIGINT AS filtered, 0::BIGINT AS ",
        "quarantined, 0::BIGINT AS content_version; CREATE VIEW ", name,
        ".main.__result AS SELECT ", value, " AS value"));
    ASSERT_TRUE(made.ok()) << made;
    all_[name] = std::make_shared<ServedSlice>(info, 10);
    all_[name]->SetDatabase(std::make_shared<AttachedDatabase>(*instance_, name));
  }

  static void Hang(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output) {
    auto& test = *static_cast<HangingServiceTest*>(duckdb_scalar_function_get_extra_info(info));
    const auto* in =
        static_cast<int64_t*>(duckdb_vector_get_data(duckdb_data_chunk_get_vector(input, 0)));
    auto* out = static_cast<int64_t*>(duckdb_vector_get_data(output));
    for (idx_t row = 0; row < duckdb_data_chunk_get_size(input); ++row) out[row] = in[row];
    std::atomic<bool>& hangs = out[0] == 7 ? test.hangs_in_result_ : test.hangs_in_progress_;
    if (out[0] == 3) ++test.heartbeats_;
    while (hangs) absl::SleepFor(absl::Milliseconds(1));
  }

  static void WaitUntil(const std::function<bool()>& holds) {
    const absl::Time end = absl::Now() + absl::Seconds(60);
    while (!holds() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(1));
    EXPECT_TRUE(holds());
  }

  TempDirectory directory_;
  std::unique_ptr<DuckDatabase> instance_;
  std::unique_ptr<DuckConnection> connection_;
  ServingSet slices_;
  ServingSet::Slices all_;
  std::atomic<bool> hangs_in_progress_{false};
  std::atomic<bool> hangs_in_result_{false};
  std::atomic<int> heartbeats_{0};
  std::unique_ptr<QueryService> service_;
};

TEST_F(HangingServiceTest, ItNoticesThatItDoesNotAnswerItself) {
  constexpr absl::Duration kLong = absl::Milliseconds(300);
  WaitUntil([&] { return heartbeats_ > 3; });
  hangs_in_progress_ = true;
  WaitUntil([&] { return service_->HeartbeatAge() > kLong; });
  hangs_in_progress_ = false;
  WaitUntil([&] { return service_->HeartbeatAge() < kLong; });
}

TEST_F(HangingServiceTest, ItAsksItselfFromAPlaceOfItsOwn) {
  hangs_in_result_ = true;
  constexpr int kQuestions = 20;
  std::atomic<int> answered{0};
  for (int i = 0; i < kQuestions; ++i) {
    Question question;
    SelectQuestion select;
    select.slice = "second";
    question.text = select;
    question.deadline = absl::Now() + absl::Minutes(5);
    service_->Ask(question, [&](const absl::StatusOr<Answer>& /*answer*/) { ++answered; });
  }
  const int before = heartbeats_;
  WaitUntil([&] { return heartbeats_ > before + 3; });
  EXPECT_EQ(answered, 0);
  hangs_in_result_ = false;
  WaitUntil([&] { return answered == kQuestions; });
}

}  // namespace
}  // namespace icepie::slices
