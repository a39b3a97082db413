// Generations of slices on the real programs: promoted by hand and by themselves, rolled back, and
// what is left of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kShop = R"yaml(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  by_item:
    sql: SELECT item, count(*) AS sales, sum(amount) AS total FROM sales GROUP BY ALL
    key: [item]
  items:
    sql: SELECT count(DISTINCT item) AS items FROM sales
)yaml";

std::string InCents(const std::string& file) {
  return absl::StrReplaceAll(file, {{"sum(amount)", "sum(amount * 100)"}});
}

// The file with more lines for by_item.
std::string With(const std::string& file, const std::string& lines) {
  return absl::StrReplaceAll(file,
                             {{"    key: [item]\n", absl::StrCat("    key: [item]\n", lines)}});
}

constexpr const char* kTotals = "SELECT item, total FROM by_item ORDER BY item";

std::string Sale(const std::string& item, int amount) {
  return absl::StrCat(R"({"item":")", item, R"(","amount":)", amount, "}");
}

std::string Reason(const grpc::Status& status) {
  return ErrorReason(server::FromGrpcStatus(status));
}

class GenerationsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
    end_ = daemon_.Append("sales", {Sale("apple", 2), Sale("pear", 7)}).value_or(-1);
  }

  v1::ApplyDomainResponse Apply(const std::string& file, bool validate_only = false) {
    v1::ApplyDomainRequest request;
    request.set_file(file);
    request.set_actor("ann");
    request.set_reason("because");
    request.set_validate_only(validate_only);
    request.set_prune(true);
    v1::ApplyDomainResponse response;
    const auto status =
        daemon_.Admin()->ApplyDomain(Within(absl::Seconds(60)).get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  static v1::SliceChange::Kind KindOf(const v1::ApplyDomainResponse& response,
                                      const std::string& slice) {
    for (const auto& change : response.changes()) {
      if (change.slice() == slice) return change.kind();
    }
    return v1::SliceChange::KIND_UNSPECIFIED;
  }

  // Applies a changed file and waits for the builds; the operation's end of by_item.
  google::longrunning::Operation ApplyAndBuild(const std::string& file) {
    google::longrunning::Operation last;
    const auto applied = Apply(file);
    for (const auto& change : applied.changes()) {
      if (!change.operation().empty()) last = WaitForOperation(change.operation());
    }
    return last;
  }

  google::longrunning::Operation WaitForOperation(const std::string& name) {
    google::longrunning::WaitOperationRequest request;
    google::longrunning::Operation operation;
    request.set_name(name);
    EXPECT_TRUE(Eventually(
        [&] {
          daemon_.Operations()->WaitOperation(Within(absl::Seconds(60)).get(), request, &operation);
          return operation.done();
        },
        absl::Seconds(90)));
    return operation;
  }

  // Asked again while the generation is still catching up, for which the call waits 15 s.
  grpc::Status Promote(const std::string& slice) {
    v1::PromoteGenerationRequest request;
    v1::Slice promoted;
    request.set_name(slice);
    request.set_actor("ben");
    grpc::Status status;
    Eventually([&] {
      status =
          daemon_.Admin()->PromoteGeneration(Within(absl::Seconds(60)).get(), request, &promoted);
      return status.error_message().find("still catching up") == std::string::npos;
    });
    return status;
  }

  grpc::Status Rollback(int64_t generation, v1::RollbackSliceResponse* response, int64_t seen = 0) {
    v1::RollbackSliceRequest request;
    request.set_name("shop.by_item");
    request.set_generation(generation);
    request.set_actor("carl");
    request.set_reason("INC-1");
    request.set_serving_generation(seen);
    return daemon_.Admin()->RollbackSlice(Within(absl::Seconds(60)).get(), request, response);
  }

  v1::ListGenerationsResponse History(const std::string& slice = "shop.by_item") {
    v1::ListGenerationsRequest request;
    v1::ListGenerationsResponse response;
    request.set_name(slice);
    const auto status =
        daemon_.Admin()->ListGenerations(Within(absl::Seconds(60)).get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  v1::Generation Find(int64_t number) {
    const auto history = History();
    for (const auto& generation : history.generations()) {
      if (generation.number() == number) return generation;
    }
    return {};
  }

  // An answer that has everything below `position`.
  v1::QueryResponse Answer(int64_t position) {
    v1::QueryResponse response;
    EXPECT_TRUE(Eventually([&] { return daemon_.Query("shop", kTotals, position, &response).ok(); },
                           absl::Seconds(60)));
    return response;
  }

  // The answer of generation `number`, once it is the one that answers.
  v1::QueryResponse AnswerOf(int64_t number) {
    v1::QueryResponse response;
    EXPECT_TRUE(Eventually(
        [&] {
          return daemon_.Query("shop", kTotals, end_, &response).ok() &&
                 response.meta().slices(0).generation() == number;
        },
        absl::Seconds(60)));
    return response;
  }

  // Generation 2 serves, totals in cents; generation 1 was replaced by it.
  void ServeCents(const std::string& file) {
    Apply(file);
    Answer(end_);
    const auto operation = ApplyAndBuild(InCents(file));
    ASSERT_FALSE(operation.has_error()) << operation.error().message();
    const auto promoted = Promote("shop.by_item");
    ASSERT_TRUE(promoted.ok()) << promoted.error_message();
    EXPECT_THAT(Answer(end_).body(), HasSubstr("\"total\":700"));
  }

  DaemonFixture daemon_;
  int64_t end_ = 0;
};

TEST_F(GenerationsTest, ARollBackReturnsDefinitionAndFreshStateAtOnce) {
  ServeCents(kShop);
  const int64_t later = daemon_.Append("sales", {Sale("plum", 1)}).value_or(-1);
  Answer(later);
  v1::RollbackSliceResponse rolled_back;
  const auto status = Rollback(0, &rolled_back);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(rolled_back.instant());
  EXPECT_EQ(rolled_back.generation(), 1);
  EXPECT_EQ(rolled_back.operation(), "");
  const auto answer = Answer(later);
  EXPECT_EQ(answer.body(),
            R"([{"item":"apple","total":2},{"item":"pear","total":7},{"item":"plum","total":1}])");
  EXPECT_FALSE(answer.meta().stale());
  EXPECT_EQ(answer.meta().slices(0).generation(), 1);

  const auto history = History();
  EXPECT_EQ(history.serving_generation(), 1);
  EXPECT_EQ(history.rolled_back().from_generation(), 2);
  EXPECT_EQ(history.rolled_back().actor(), "carl");
  EXPECT_EQ(history.rolled_back().reason(), "INC-1");
  EXPECT_EQ(history.generations(0).state(), v1::Generation::RETIRED);
  EXPECT_EQ(history.generations(0).actor(), "ann");
  EXPECT_EQ(history.generations(0).promote_actor(), "ben");
  EXPECT_EQ(history.generations(0).rows(), 2);
}

TEST_F(GenerationsTest, ARolledBackSliceStaysUntilTheFileChangesIt) {
  ServeCents(kShop);
  v1::RollbackSliceResponse rolled_back;
  ASSERT_TRUE(Rollback(0, &rolled_back).ok());
  daemon_.Kill();
  daemon_.Start();
  // Applied again, as a pipeline does: nothing is rebuilt, and everybody is told.
  const auto again = Apply(InCents(kShop));
  EXPECT_FALSE(again.changed());
  EXPECT_EQ(KindOf(again, "by_item"), v1::SliceChange::ROLLED_BACK);
  EXPECT_THAT(again.changes(0).note(), HasSubstr("by carl: INC-1"));
  // Also when another slice of the file changes.
  const std::string other = absl::StrReplaceAll(InCents(kShop), {{"AS items", "AS kinds"}});
  const auto planned = Apply(other, true);
  EXPECT_EQ(KindOf(planned, "by_item"), v1::SliceChange::ROLLED_BACK);
  EXPECT_EQ(KindOf(planned, "items"), v1::SliceChange::REBUILD);
  ApplyAndBuild(other);
  EXPECT_THAT(Answer(end_).body(), HasSubstr("\"total\":7}"));
  // What was rolled back to can be made the file's again, and a new definition is built.
  EXPECT_EQ(KindOf(Apply(kShop, true), "by_item"), v1::SliceChange::UPDATE) << "no rebuild";
  const std::string better = absl::StrReplaceAll(kShop, {{"sum(amount)", "sum(amount * 10)"}});
  EXPECT_EQ(KindOf(Apply(better), "by_item"), v1::SliceChange::REBUILD);
  EXPECT_FALSE(History().has_rolled_back());
}

TEST_F(GenerationsTest, ARollBackToWhatIsNotThereIsRefused) {
  ServeCents(kShop);
  v1::RollbackSliceResponse ignored;
  auto status = Rollback(77, &ignored);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Reason(status), "GENERATION_NOT_FOUND");
  EXPECT_EQ(Reason(Rollback(0, &ignored, 1)), "ETAG_MISMATCH") << "2 serves";
  ASSERT_TRUE(Rollback(0, &ignored).ok());
  status = Rollback(0, &ignored);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION)
      << "twice is no way forward";
  EXPECT_EQ(Reason(status), "GENERATION_NOT_FOUND");
  EXPECT_EQ(Reason(Rollback(1, &ignored)), "ALREADY_SERVING");

  v1::ResliceSliceRequest reslice;
  google::longrunning::Operation operation;
  reslice.set_name("shop.by_item");
  ASSERT_TRUE(
      daemon_.Admin()->ResliceSlice(Within(absl::Seconds(60)).get(), reslice, &operation).ok());
  status = Rollback(2, &ignored);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(Reason(status), "OPERATION_IN_PROGRESS");
  EXPECT_THAT(status.error_message(), HasSubstr(operation.name()));
  EXPECT_EQ(History().serving_generation(), 1);
  WaitForOperation(operation.name());
  ASSERT_TRUE(Rollback(2, &ignored).ok()) << "named, the way forward is open";
  EXPECT_THAT(Answer(end_).body(), HasSubstr("\"total\":700"));
}

TEST_F(GenerationsTest, AGenerationThatIsNoLongerKeptFreshIsBuiltAgain) {
  ServeCents(With(kShop, "    promote: {keep_replaced: 1s}\n"));
  ASSERT_TRUE(Eventually([&] { return !Find(1).has_warm_until(); }, absl::Seconds(60)));
  const std::string files =
      absl::StrCat(daemon_.data_directory(), "/domains/shop/snapshots/by_item");
  EXPECT_TRUE(Eventually(
      [&] {
        for (const auto& file : std::filesystem::directory_iterator(files)) {
          if (absl::StrContains(file.path().filename().string(), "g1-")) return false;
        }
        return true;
      },
      absl::Seconds(60)))
      << "its files go";
  v1::RollbackSliceResponse rolled_back;
  const auto status = Rollback(0, &rolled_back);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_FALSE(rolled_back.instant());
  EXPECT_THAT(Answer(end_).body(), HasSubstr("\"total\":700")) << "the serving one goes on";
  EXPECT_FALSE(WaitForOperation(rolled_back.operation()).has_error());
  ASSERT_TRUE(Eventually([&] { return History().serving_generation() == 3; }, absl::Seconds(60)));
  EXPECT_EQ(Find(3).copy_of(), 1);
  EXPECT_EQ(History().rolled_back().to_generation(), 3);
  EXPECT_THAT(AnswerOf(3).body(), HasSubstr("\"total\":7}"));
}

TEST_F(GenerationsTest, AFileCanLetItsSlicesBePromotedByThemselves) {
  const std::string file = With(kShop, "    promote: {mode: auto, unless: {removed_rows: 0}}\n");
  Apply(file);
  Answer(end_);
  ASSERT_FALSE(ApplyAndBuild(InCents(file)).has_error());
  EXPECT_TRUE(Eventually([&] { return History().serving_generation() == 2; }, absl::Seconds(60)));
  EXPECT_THAT(AnswerOf(2).body(), HasSubstr("\"total\":700"));
  EXPECT_EQ(Find(2).promote_actor(), "ann") << "who applied it";
}

TEST_F(GenerationsTest, ARowDiffBeyondTheLimitsLeavesThePromotionToSomebody) {
  const std::string file =
      With(kShop, "    promote: {mode: auto, unless: {changed_rows_percent: 50}}\n");
  Apply(file);
  Answer(end_);
  ASSERT_FALSE(ApplyAndBuild(InCents(file)).has_error());
  ASSERT_TRUE(Eventually([&] { return Find(2).has_not_promoted(); }, absl::Seconds(60)));
  EXPECT_EQ(Find(2).not_promoted().reason(), "PROMOTE_GATE_FAILED");
  EXPECT_THAT(Find(2).not_promoted().message(), HasSubstr("changed_rows_percent is 100"));
  EXPECT_EQ(History().serving_generation(), 1);
  const auto promoted = Promote("shop.by_item");
  EXPECT_TRUE(promoted.ok()) << promoted.error_message();
  EXPECT_EQ(History().serving_generation(), 2);
}

// Fault 51: a wrong schema.
TEST_F(GenerationsTest, AColumnThatIsGoneOrAnotherLeavesThePromotionToSomebody) {
  const std::string file = With(kShop, "    promote: {mode: auto}\n");
  Apply(file);
  Answer(end_);
  const std::string retyped =
      absl::StrReplaceAll(file, {{"sum(amount)", "CAST(sum(amount) AS VARCHAR)"}});
  ASSERT_FALSE(ApplyAndBuild(retyped).has_error());
  ASSERT_TRUE(Eventually([&] { return Find(2).has_not_promoted(); }, absl::Seconds(60)));
  EXPECT_THAT(Find(2).not_promoted().message(), HasSubstr("column total becomes VARCHAR"));
  EXPECT_EQ(History().serving_generation(), 1);
  EXPECT_THAT(Answer(end_).body(), HasSubstr("\"total\":7"));
  EXPECT_TRUE(Promote("shop.by_item").ok());
  EXPECT_THAT(AnswerOf(2).body(), HasSubstr("\"total\":\"7\""));
}

TEST_F(GenerationsTest, ARenamedSliceKeepsItsStateAndHistory) {
  ServeCents(kShop);
  v1::FreezeSliceRequest freeze;
  v1::Slice slice;
  freeze.set_name("shop.by_item");
  freeze.set_reason("audit");
  ASSERT_TRUE(daemon_.Admin()->FreezeSlice(Within(absl::Seconds(60)).get(), freeze, &slice).ok());
  v1::CreateSnapshotRequest keep;
  v1::Snapshot snapshot;
  keep.set_slice("shop.by_item");
  keep.set_name("before");
  const auto kept =
      daemon_.Admin()->CreateSnapshot(Within(absl::Seconds(60)).get(), keep, &snapshot);
  ASSERT_TRUE(kept.ok()) << kept.error_message();
  google::longrunning::ListOperationsResponse before;
  daemon_.Operations()->ListOperations(Within(absl::Seconds(60)).get(), {}, &before);

  const std::string renamed = absl::StrReplaceAll(
      InCents(kShop), {{"  by_item:\n", "  item_totals:\n    renamed_from: by_item\n"}});
  EXPECT_EQ(KindOf(Apply(renamed, true), "item_totals"), v1::SliceChange::RENAME);
  v1::ApplyDomainRequest other;
  v1::ApplyDomainResponse refused;
  other.set_file(absl::StrReplaceAll(renamed, {{"amount * 100", "amount * 1000"}}));
  const auto with_change =
      daemon_.Admin()->ApplyDomain(Within(absl::Seconds(60)).get(), other, &refused);
  EXPECT_EQ(Reason(with_change), "RENAME_REFUSED") << with_change.error_message();
  EXPECT_EQ(KindOf(Apply(renamed), "item_totals"), v1::SliceChange::RENAME);

  const std::string totals = "SELECT item, total FROM item_totals ORDER BY item";
  v1::QueryResponse response;
  ASSERT_TRUE(Eventually([&] { return daemon_.Query("shop", totals, -1, &response).ok(); },
                         absl::Seconds(60)));
  EXPECT_THAT(response.body(), HasSubstr("\"total\":700"));
  EXPECT_EQ(response.meta().slices(0).generation(), 2);
  EXPECT_EQ(daemon_.GetSlice("shop.item_totals").desired().mode(), v1::DesiredState::FREEZE);
  EXPECT_EQ(History("shop.item_totals").generations_size(), 2);
  google::longrunning::ListOperationsResponse after;
  daemon_.Operations()->ListOperations(Within(absl::Seconds(60)).get(), {}, &after);
  EXPECT_EQ(after.operations_size(), before.operations_size()) << "nothing was built again";
  v1::QueryRequest past;
  past.set_domain("shop");
  past.set_sql(totals);
  past.mutable_consistency()->set_as_of_snapshot("before");
  const auto asked = daemon_.Slices()->Query(Within(absl::Seconds(60)).get(), past, &response);
  EXPECT_TRUE(asked.ok()) << asked.error_message();
  const std::string files = absl::StrCat(daemon_.data_directory(), "/domains/shop/snapshots/");
  EXPECT_TRUE(
      Eventually([&] { return !std::filesystem::exists(files + "by_item"); }, absl::Seconds(60)));

  daemon_.Kill();
  daemon_.Start();
  v1::ThawSliceRequest thaw;
  thaw.set_name("shop.item_totals");
  ASSERT_TRUE(Eventually(
      [&] {
        return daemon_.Admin()->ThawSlice(Within(absl::Seconds(60)).get(), thaw, &slice).ok();
      },
      absl::Seconds(60)));
  end_ = daemon_.Append("sales", {Sale("pear", 1)}).value_or(-1);
  ASSERT_TRUE(Eventually([&] { return daemon_.Query("shop", totals, end_, &response).ok(); },
                         absl::Seconds(60)));
  EXPECT_THAT(response.body(), HasSubstr("\"total\":800"));
  v1::RollbackSliceRequest back;
  v1::RollbackSliceResponse returned;
  back.set_name("shop.item_totals");
  const auto rolled_back =
      daemon_.Admin()->RollbackSlice(Within(absl::Seconds(60)).get(), back, &returned);
  EXPECT_EQ(Reason(rolled_back), "ROLLBACK_REFUSED") << "it was called by_item";
  EXPECT_EQ(KindOf(Apply(renamed), "item_totals"), v1::SliceChange::UNCHANGED);
}

// Saving a state takes seconds.
class SlowSnapshotsTest : public GenerationsTest {
 protected:
  void SetUp() override {
    daemon_.SetSettings("workers: {write_bytes_per_second: 256KiB}\n");
    GenerationsTest::SetUp();
  }
};

TEST_F(SlowSnapshotsTest, ABuildWaitsForTheSnapshotThatItIsToBeComparedWith) {
  const std::string file = With(kShop, "    promote: {mode: auto, unless: {removed_rows: 0}}\n");
  Apply(file);
  ASSERT_FALSE(ApplyAndBuild(InCents(file)).has_error());
  EXPECT_EQ(Find(2).diff().unavailable(), "");
  EXPECT_EQ(Find(2).diff().changed(), 2);
  EXPECT_TRUE(Eventually([&] { return History().serving_generation() == 2; }, absl::Seconds(60)));
}

TEST_F(GenerationsTest, ABuildThatFailsLeavesTheServingOneAloneAndNothingBehind) {
  Apply(kShop);
  Answer(end_);
  const std::string worse = absl::StrReplaceAll(
      With(kShop, "    on_bad_record: {action: quarantine, budget: {records: 1}}\n"),
      {{"amount: INTEGER", "amount: {type: BOOLEAN, required: true}"},
       {"sum(amount)", "count(*) FILTER (WHERE amount)"}});
  const auto operation = ApplyAndBuild(worse);
  ASSERT_TRUE(operation.has_error());
  EXPECT_THAT(operation.error().message(), HasSubstr("QUARANTINE_OVER_BUDGET"));
  EXPECT_EQ(Find(2).state(), v1::Generation::FAILED);
  EXPECT_EQ(Find(2).error().reason(), "QUARANTINE_OVER_BUDGET");
  EXPECT_THAT(Answer(end_).body(), HasSubstr("\"total\":7}"));
  EXPECT_EQ(Reason(Promote("shop.by_item")), "PROMOTE_GATE_FAILED");
  const std::string files =
      absl::StrCat(daemon_.data_directory(), "/domains/shop/snapshots/by_item");
  for (const auto& file : std::filesystem::directory_iterator(files)) {
    EXPECT_THAT(file.path().filename().string(), Not(HasSubstr("g2-")));
  }
}

class CancelTest : public GenerationsTest {
 protected:
  static std::string Three() {
    return absl::StrCat(kShop, "  lines: {sql: SELECT item FROM sales}\n");
  }

  // Two of them by an SQL that does not end before its time limit.
  static std::string Endless() {
    const std::string joined =
        "sales AS a, sales AS b, sales AS c, sales AS d WHERE a.amount + b.amount + c.amount < "
        "d.amount";
    return absl::StrReplaceAll(
        Three(), {{"SELECT item, count(*) AS sales, sum(amount) AS total FROM sales",
                   "SELECT a.item, count(*) AS sales, sum(d.amount) AS total FROM " + joined},
                  {"SELECT count(DISTINCT item) AS items FROM sales",
                   "SELECT count(DISTINCT a.item) AS items FROM " + joined}});
  }

  std::string OperationOf(const v1::ApplyDomainResponse& applied, const std::string& slice) {
    for (const auto& change : applied.changes()) {
      if (change.slice() == slice) return change.operation();
    }
    return "";
  }

  std::string PhaseOf(const std::string& name) {
    google::longrunning::GetOperationRequest request;
    google::longrunning::Operation operation;
    v1::ResliceMetadata metadata;
    request.set_name(name);
    daemon_.Operations()->GetOperation(Within(absl::Seconds(60)).get(), request, &operation);
    operation.metadata().UnpackTo(&metadata);
    return metadata.phase();
  }

  grpc::Status Cancel(const std::string& name) {
    google::longrunning::CancelOperationRequest request;
    google::protobuf::Empty nothing;
    request.set_name(name);
    return daemon_.Operations()->CancelOperation(Within(absl::Seconds(60)).get(), request,
                                                 &nothing);
  }

  // Names in the domain's directory that are of a build: its snapshots, and what it is compared
  // with.
  std::vector<std::string> LeftBehind() {
    std::vector<std::string> names;
    const std::string domain = absl::StrCat(daemon_.data_directory(), "/domains/shop");
    for (const auto& file : std::filesystem::recursive_directory_iterator(domain)) {
      const std::string name = file.path().filename().string();
      if (absl::StrContains(name, "g2-") || absl::StrContains(name, "op-")) names.push_back(name);
    }
    return names;
  }
};

TEST_F(CancelTest, ABuildThatWaitsRunsOrIsDoneIsCancelledAndLeavesNothingBehind) {
  end_ = daemon_.Append("sales", std::vector<std::string>(1000, Sale("plum", 3))).value_or(-1);
  Apply(Three());
  const std::string serving = Answer(end_).body();
  ASSERT_TRUE(Eventually([&] { return daemon_.GetSlice("shop.by_item").snapshot_position() > 0; },
                         absl::Seconds(60)));
  const auto applied = Apply(Endless());
  const std::string running = OperationOf(applied, "by_item");
  const std::string beside = OperationOf(applied, "items");
  for (const std::string& name : {running, beside}) {
    ASSERT_TRUE(Eventually([&] { return PhaseOf(name) == "building"; }, absl::Seconds(60)));
  }
  EXPECT_NE(LeftBehind(), std::vector<std::string>()) << "the state that it will be compared with";
  v1::ResliceSliceRequest reslice;
  google::longrunning::Operation waiting;
  reslice.set_name("shop.lines");
  ASSERT_TRUE(
      daemon_.Admin()->ResliceSlice(Within(absl::Seconds(60)).get(), reslice, &waiting).ok());

  for (const std::string& name : {waiting.name(), running, beside}) {
    EXPECT_TRUE(Cancel(name).ok());
    const auto ended = WaitForOperation(name);
    EXPECT_EQ(ended.error().code(), static_cast<int>(grpc::StatusCode::CANCELLED)) << name;
    EXPECT_TRUE(Cancel(name).ok()) << "it has ended already";
  }
  EXPECT_EQ(Find(2).state(), v1::Generation::CANCELLED);
  EXPECT_EQ(History("shop.lines").generations(0).state(), v1::Generation::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return LeftBehind().empty(); }, absl::Seconds(60)));
  EXPECT_EQ(Reason(Promote("shop.by_item")), "PROMOTE_GATE_FAILED");
  EXPECT_EQ(Answer(end_).body(), serving);
  EXPECT_EQ(Reason(Cancel("operations/op-999")), "OPERATION_NOT_FOUND");

  // It stays so, and is in nobody's way. One that is done is not undone.
  daemon_.Kill();
  daemon_.Start();
  EXPECT_EQ(Answer(end_).body(), serving);
  EXPECT_EQ(Find(2).state(), v1::Generation::CANCELLED);
  const std::string good = OperationOf(Apply(InCents(Three())), "by_item");
  EXPECT_FALSE(WaitForOperation(good).has_error());
  EXPECT_TRUE(Cancel(good).ok());
  EXPECT_EQ(Find(3).state(), v1::Generation::READY);
  EXPECT_TRUE(Promote("shop.by_item").ok());
}

TEST_F(GenerationsTest, ADriftedFileIsNotOverwrittenByOneThatDoesNotKnowIt) {
  const std::string first = Apply(kShop).hash();
  EXPECT_EQ(Apply(InCents(kShop), true).base_hash(), first);
  Apply(InCents(kShop));
  v1::ApplyDomainRequest request;
  v1::ApplyDomainResponse response;
  request.set_file(absl::StrCat(kShop, "# mine\n"));
  request.set_base_hash(first);
  const auto status =
      daemon_.Admin()->ApplyDomain(Within(absl::Seconds(60)).get(), request, &response);
  EXPECT_EQ(Reason(status), "DEFINITION_DRIFTED");
  EXPECT_THAT(status.error_message(), HasSubstr("revision 2 of ann"));
  v1::ListDomainRevisionsRequest list;
  v1::ListDomainRevisionsResponse revisions;
  list.set_name("shop");
  ASSERT_TRUE(
      daemon_.Admin()->ListDomainRevisions(Within(absl::Seconds(60)).get(), list, &revisions).ok());
  ASSERT_EQ(revisions.revisions_size(), 2);
  EXPECT_EQ(revisions.revisions(1).hash(), first);
  v1::GetDomainRequest get;
  v1::Domain old;
  get.set_name("shop");
  get.set_revision(1);
  ASSERT_TRUE(daemon_.Admin()->GetDomain(Within(absl::Seconds(60)).get(), get, &old).ok());
  EXPECT_EQ(old.file(), kShop);
}

TEST_F(GenerationsTest, OnlyTheEditedSliceIsRebuiltAndADeletedOneLeavesNoFiles) {
  Apply(kShop);
  Answer(end_);
  const auto edited = Apply(InCents(kShop));
  EXPECT_EQ(KindOf(edited, "by_item"), v1::SliceChange::REBUILD);
  EXPECT_EQ(KindOf(edited, "items"), v1::SliceChange::UNCHANGED);
  EXPECT_EQ(History("shop.items").generations_size(), 1);
  const std::string files = absl::StrCat(daemon_.data_directory(), "/domains/shop/snapshots/items");
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(files); }, absl::Seconds(60)));
  const std::string without = InCents(kShop).substr(0, InCents(kShop).find("  items:"));
  EXPECT_EQ(KindOf(Apply(without), "items"), v1::SliceChange::DELETE);
  EXPECT_TRUE(Eventually([&] { return !std::filesystem::exists(files); }, absl::Seconds(60)));
}

}  // namespace
}  // namespace icepie::testing
