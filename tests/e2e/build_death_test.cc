// A build whose process dies, alone or with the daemon, at any stage of its life: what serves goes
// on, the build is started again and is done, and nothing is left of the one that died. All stages
// with ICEPIE_BUILD_DEATHS=1, otherwise some.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr int kSalesAtOnce = 100;
// A stage that was over before it was seen: the machine had no time for this process.
constexpr int kBuildsOfStageMax = 40;

// Each record is 200 rows and costs something, so that no stage is over at once; so does the check.
constexpr const char* kLines = R"yaml(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  lines:
    sql: >
      SELECT item, unnest(range(200)) AS line,
      list_sum(list_transform(range(200), x -> (x * amount) % 7)) AS cost FROM sales
    expect:
      - name: possible
        sql: SELECT line FROM slice, range(40) AS more WHERE (line * more.range) % 7 = 9
)yaml";

constexpr const char* kCounts = "SELECT count(*) AS lines, sum(cost) AS cost FROM lines";

struct Stage {
  std::string name;
  std::function<bool(const v1::ResliceMetadata& build)> holds;
  bool with_new_records = false;  // which the state that it is compared with does not have
};

class BuildDeathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
    AppendSales();
    v1::ApplyDomainResponse applied;
    const auto status = daemon_.Apply(kLines, &applied);
    ASSERT_TRUE(status.ok()) << status.error_message();
    AwaitSaved();
  }

  void AppendSales() {
    const std::vector<std::string> sales(kSalesAtOnce, R"({"item":"pear","amount":3})");
    end_ = daemon_.Append("sales", sales).value_or(-1);
    sales_ += kSalesAtOnce;
  }

  // A build is compared with the newest snapshot.
  void AwaitSaved() {
    ASSERT_TRUE(Eventually([&] {
      return daemon_.GetSlice("shop.lines").snapshot_position() >= end_;
    })) << daemon_.GetSlice("shop.lines").DebugString();
  }

  google::longrunning::Operation GetOperation(const std::string& name) {
    google::longrunning::GetOperationRequest request;
    google::longrunning::Operation operation;
    request.set_name(name);
    (void)daemon_.Operations()->GetOperation(Within(kLong).get(), request, &operation);
    return operation;
  }

  std::string Reslice() {
    v1::ResliceSliceRequest request;
    google::longrunning::Operation operation;
    request.set_name("shop.lines");
    const auto status = daemon_.Admin()->ResliceSlice(Within(kLong).get(), request, &operation);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return operation.name();
  }

  // False: the build was done before it was seen at this stage.
  bool AwaitStage(const std::string& operation, const Stage& stage) {
    const absl::Time deadline = absl::Now() + kLong;
    while (absl::Now() < deadline) {
      const auto now = GetOperation(operation);
      v1::ResliceMetadata build;
      now.metadata().UnpackTo(&build);
      if (now.done()) return false;
      if (stage.holds(build)) return true;
      absl::SleepFor(absl::Milliseconds(1));
    }
    ADD_FAILURE() << operation << " neither ends nor comes to this stage";
    return false;
  }

  // The number of the generation that is built.
  int64_t AwaitBuilt(const std::string& operation) {
    google::longrunning::Operation now;
    EXPECT_TRUE(Eventually([&] { return (now = GetOperation(operation)).done(); }));
    EXPECT_FALSE(now.has_error()) << now.error().message();
    v1::Generation built;
    now.response().UnpackTo(&built);
    EXPECT_EQ(built.state(), v1::Generation::READY);
    EXPECT_EQ(built.diff().unavailable(), "");
    EXPECT_EQ(built.diff().changed() + built.diff().added() + built.diff().removed(), 0);
    return built.number();
  }

  v1::QueryResponse Ask(int64_t min_position) {
    v1::QueryResponse response;
    const auto status = daemon_.Query("shop", kCounts, min_position, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  std::string Expected() const {
    int64_t cost = 0;
    for (int64_t i = 0; i < 200; ++i) cost += i * 3 % 7;
    return absl::StrCat("[{\"lines\":", sales_ * 200, ",\"cost\":", sales_ * 200 * cost, "}]");
  }

  // What is of builds in the domain's directory: what one was compared with, and snapshots of
  // generations that neither serve, nor have served, nor may be promoted.
  std::vector<std::string> LeftBehind() {
    std::vector<std::string> names;
    std::error_code error;
    const std::string domain = absl::StrCat(daemon_.data_directory(), "/domains/shop");
    for (std::filesystem::recursive_directory_iterator file(domain, error), end;
         !error && file != end; file.increment(error)) {
      const std::string name = file->path().filename().string();
      const bool snapshot = file->path().parent_path().filename() == "lines";
      const bool known = std::any_of(known_.begin(), known_.end(), [&](int64_t number) {
        return absl::StartsWith(name, absl::StrCat("g", number, "-"));
      });
      if ((snapshot && !known) || absl::StrContains(name, "op-")) names.push_back(name);
    }
    return names;
  }

  void ExpectNothingLeftBehind() {
    EXPECT_TRUE(Eventually([&] { return LeftBehind().empty(); }))
        << ::testing::PrintToString(LeftBehind());
  }

  void Build(const std::string& operation) {
    if (known_.back() != serving_) known_.pop_back();
    known_.push_back(AwaitBuilt(operation));
  }

  // One after the other, until one was at the stage when it died; that one is done all the same.
  void DieAt(const Stage& stage, const std::function<void()>& kill) {
    SCOPED_TRACE(stage.name);
    bool died = false;
    for (int i = 0; i < kBuildsOfStageMax && !died && !HasFailure(); ++i) {
      if (stage.with_new_records) AppendSales();
      const std::string operation = Reslice();
      died = AwaitStage(operation, stage);
      if (died) {
        kill();
        EXPECT_EQ(Ask(-1).meta().slices(0).generation(), serving_);
      }
      Build(operation);
    }
    EXPECT_TRUE(died) << "never seen";
    const auto answer = Ask(end_);
    EXPECT_EQ(answer.body(), Expected());
    EXPECT_EQ(answer.meta().slices(0).generation(), serving_);
    EXPECT_TRUE(Eventually([&] { return daemon_.Worker("shop", "build").state().empty(); }));
    ExpectNothingLeftBehind();
  }

  // Somebody promotes what is built, and `kill` comes so long after, or before.
  void DieInPromotion(absl::Duration after, const std::function<void()>& kill) {
    SCOPED_TRACE(absl::FormatDuration(after));
    Build(Reslice());
    const auto promote = [stub = std::shared_ptr(daemon_.Admin()), number = known_.back()] {
      v1::PromoteGenerationRequest request;
      v1::Slice promoted;
      request.set_name("shop.lines");
      request.set_generation(number);
      return stub->PromoteGeneration(Within(kLong).get(), request, &promoted);
    };
    if (after < absl::ZeroDuration()) {
      kill();
      EXPECT_EQ(Ask(-1).meta().slices(0).generation(), serving_);
    } else {
      std::thread promoting([&] { (void)promote(); });
      absl::SleepFor(after);
      kill();
      promoting.join();
    }
    AwaitPromoted();
  }

  // Again, if the first time it was too late, or too early.
  void AwaitPromoted() {
    v1::PromoteGenerationRequest request;
    v1::Slice promoted;
    request.set_name("shop.lines");
    request.set_generation(known_.back());
    grpc::Status status;
    EXPECT_TRUE(Eventually([&] {
      if (Ask(-1).meta().slices(0).generation() == known_.back()) return true;
      status = daemon_.Admin()->PromoteGeneration(Within(kLong).get(), request, &promoted);
      return false;
    })) << status.error_message();
    serving_ = known_.back();
    const auto answer = Ask(end_);
    EXPECT_EQ(answer.body(), Expected());
    EXPECT_EQ(answer.meta().slices(0).generation(), serving_);
    ExpectNothingLeftBehind();
  }

  void Kill(const std::string& role) {
    const auto pid = static_cast<pid_t>(daemon_.Worker("shop", role).pid());
    if (pid > 0) ::kill(pid, SIGKILL);
  }

  void KillDaemon() {
    daemon_.Kill();
    daemon_.Start();
  }

  std::vector<Stage> Stages() {
    const auto says = [](const std::string& phase) {
      return [phase](const auto& build) { return build.phase() == phase; };
    };
    return {{"started", [&](const auto&) { return daemon_.Worker("shop", "build").pid() > 0; }},
            {"building", says("building")},
            {"comparing", says("comparing")},
            {"catching up",
             [&](const auto& build) {
               return build.phase() == "catching_up" && build.done_records() < end_;
             },
             true},
            // A state that has all records is checked, and saved.
            {"checking", [&](const auto& build) {
               return build.phase() == "catching_up" && build.done_records() > 0;
             }}};
  }

  DaemonFixture daemon_;
  int64_t end_ = 0;
  int64_t sales_ = 0;
  int64_t serving_ = 1;
  std::vector<int64_t> known_ = {1};  // generations that have served, and perhaps one that may
};

TEST_F(BuildDeathTest, WhatServesGoesOnAndTheBuildIsDoneAllTheSame) {
  const bool all = std::getenv("ICEPIE_BUILD_DEATHS") != nullptr;
  for (const Stage& stage : Stages()) {
    if (all || stage.name == "building") DieAt(stage, [&] { Kill("build"); });
    if (all) DieAt(stage, [&] { KillDaemon(); });
  }
  for (const int ms : {-1, 0, 2, 5, 10, 20, 40}) {
    if (!all) break;
    DieInPromotion(absl::Milliseconds(ms), [&] { Kill("live"); });
    DieInPromotion(absl::Milliseconds(ms), [&] { KillDaemon(); });
  }
}

// Some records fill a message, so that a build has several batches, and each takes what $STEPS
// says.
constexpr const char* kCostly = R"yaml(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  by_item:
    sql: >
      SELECT item, count(*) AS sales,
      sum(list_sum(list_transform(range($STEPS), x -> (x * amount) % 7))) AS cost FROM sales GROUP BY ALL
    key: [item]
)yaml";

class ResumedOperationTest : public BuildDeathTest {
 protected:
  void SetUp() override {
    daemon_.SetSettings(
        "workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 10000, "
        "snapshot_interval_ms: 100, memory_bytes: 268435456}\n");
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
    std::mt19937_64 random(20261128);
    for (int block = 0; block < 10; ++block) {
      std::vector<std::string> sales(50);
      for (std::string& sale : sales) {
        sale = R"({"item":"pear","amount":3,"noise":")";
        while (sale.size() < kSaleBytes) absl::StrAppend(&sale, absl::Hex(random()));
        sale += "\"}";
      }
      end_ = daemon_.Append("sales", sales).value_or(-1);
      sales_ += static_cast<int64_t>(sales.size());
    }
    Apply(1);
    ASSERT_TRUE(
        Eventually([&] { return daemon_.GetSlice("shop.by_item").snapshot_position() >= end_; }));
  }

  // The operation, if there is one.
  std::string Apply(int64_t steps) {
    v1::ApplyDomainResponse applied;
    const auto status =
        daemon_.Apply(absl::StrReplaceAll(kCostly, {{"$STEPS", absl::StrCat(steps)}}), &applied);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return applied.changes_size() == 0 ? "" : applied.changes(0).operation();
  }

  v1::ResliceMetadata MetadataOf(const std::string& operation) {
    v1::ResliceMetadata build;
    GetOperation(operation).metadata().UnpackTo(&build);
    return build;
  }

  std::string Unfinished(int64_t generation) const {
    return absl::StrCat(daemon_.data_directory(), "/domains/shop/unfinished/by_item/g", generation);
  }

  // How far the build of a generation has saved what it has, in front of the comparison; 0: it has
  // not.
  int64_t SavedPosition(int64_t generation) const {
    int64_t furthest = 0;
    std::error_code error;
    for (std::filesystem::recursive_directory_iterator
             file(Unfinished(generation) + "/to_base", error),
         last;
         !error && file != last; file.increment(error)) {
      const std::string name = file->path().stem().string();
      if (file->path().extension() != ".json") continue;
      furthest = std::max<int64_t>(furthest, std::stoll(name.substr(name.find("-p") + 2)));
    }
    return furthest;
  }

  static constexpr size_t kSaleBytes = 12'000;
};

TEST_F(ResumedOperationTest, ABuildGoesOnFromWhatItHadSavedWhenTheDaemonWasKilled) {
  std::string operation;
  int64_t saved = 0;
  int64_t steps = 4000;
  int64_t generation = 0;
  while (saved == 0) {
    steps *= 2;  // until it takes long enough to save something on its way
    ASSERT_LT(steps, 10'000'000);
    operation = Apply(steps);
    generation = MetadataOf(operation).generation();
    ASSERT_TRUE(Eventually(
        [&] { return SavedPosition(generation) > 0 || GetOperation(operation).done(); }));
    if (GetOperation(operation).done()) continue;
    daemon_.Kill();
    const int64_t reached = SavedPosition(generation);
    daemon_.Start();
    if (!GetOperation(operation).done()) saved = reached;  // else it was done just before
  }
  google::longrunning::Operation ended;
  ASSERT_TRUE(Eventually([&] { return (ended = GetOperation(operation)).done(); }));
  ASSERT_FALSE(ended.has_error()) << ended.error().message();
  v1::Generation built;
  ended.response().UnpackTo(&built);
  EXPECT_EQ(built.diff().unavailable(), "");
  EXPECT_EQ(built.diff().changed(), 1);
  EXPECT_EQ(built.number(), generation);
  EXPECT_GE(MetadataOf(operation).done_before(), saved) << "its process ends just after the daemon";
  EXPECT_GE(MetadataOf(operation).done_records(), end_);
  EXPECT_TRUE(Eventually([&] { return !std::filesystem::exists(Unfinished(generation)); }));

  v1::PromoteGenerationRequest request;
  v1::Slice promoted;
  request.set_name("shop.by_item");
  request.set_generation(generation);
  EXPECT_TRUE(Eventually([&] {
    return daemon_.Admin()->PromoteGeneration(Within(kLong).get(), request, &promoted).ok();
  }));
  v1::QueryResponse answer;
  const auto status = daemon_.Query("shop", "SELECT sales, cost FROM by_item", end_, &answer);
  EXPECT_TRUE(status.ok()) << status.error_message();
  int64_t cost = 0;
  for (int64_t i = 0; i < steps; ++i) cost += i * 3 % 7;
  EXPECT_EQ(answer.body(), absl::StrCat("[{\"sales\":", sales_, ",\"cost\":", sales_ * cost, "}]"));
  EXPECT_EQ(answer.meta().slices(0).generation(), generation);
}

}  // namespace
}  // namespace icepie::testing
