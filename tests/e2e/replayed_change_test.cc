// The daemon is killed between a change and the answer to it; who sends the same request again, to
// the next daemon, is told what was made, and nothing is made twice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr const char* kFile = R"yaml(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  by_item:
    sql: SELECT item, sum(amount) AS total FROM sales GROUP BY ALL
    key: [item]
    expect: [{name: few, sql: "SELECT * FROM slice WHERE total > 1000", severity: warn}]
)yaml";

class ReplayedChangeTest : public ::testing::Test {
 protected:
  template <typename Request, typename Response>
  using Method = grpc::Status (v1::Admin::Stub::*)(grpc::ClientContext*, const Request&, Response*);

  // Every change here waits for the live worker to take it on, which stands still meanwhile: the
  // change is made, as `made` sees, and nobody has been told so when the daemon is killed. The
  // answer is the next daemon's to the same request.
  template <typename Request, typename Response>
  Response SendTwice(Method<Request, Response> method, Request request,
                     const std::function<bool()>& made) {
    request.set_request_id(absl::StrCat("change-", ++changes_));
    request.set_actor("ann");
    request.set_reason("INC-1");
    EXPECT_TRUE(Eventually([&] { return daemon_.Worker("shop", "live").state() == "running"; }));
    daemon_.SignalWorker("shop", "live", SIGSTOP);
    grpc::Status first;
    Response response;
    std::thread caller([&, admin = daemon_.Admin()] {
      first = (*admin.*method)(Within(kLong).get(), request, &response);
    });
    EXPECT_TRUE(Eventually(made)) << "change " << changes_;
    daemon_.Kill();
    caller.join();
    EXPECT_EQ(first.error_code(), grpc::StatusCode::UNAVAILABLE) << "it was answered before";
    daemon_.Start();
    EXPECT_TRUE(Eventually(made)) << "change " << changes_ << " is lost";
    response.Clear();
    const auto admin = daemon_.Admin();
    const grpc::Status again = (*admin.*method)(Within(kLong).get(), request, &response);
    EXPECT_TRUE(again.ok()) << "change " << changes_ << ": " << again.error_message();
    return response;
  }

  int64_t Serving() {
    v1::ListGenerationsRequest request;
    v1::ListGenerationsResponse response;
    request.set_name("shop.by_item");
    daemon_.Admin()->ListGenerations(Within(kLong).get(), request, &response);
    return response.serving_generation();
  }

  int64_t Revision() {
    v1::GetDomainRequest request;
    v1::Domain domain;
    request.set_name("shop");
    daemon_.Admin()->GetDomain(Within(kLong).get(), request, &domain);
    return domain.revision();
  }

  v1::ExpectationWaiver Waiver() {
    const v1::Slice slice = daemon_.GetSlice("shop.by_item");
    return slice.expectations().empty() ? v1::ExpectationWaiver() : slice.expectations(0).waiver();
  }

  // How often the daemons have recorded that such a change begins.
  int Recorded(const std::string& action) {
    v1::ReadRecordsRequest request;
    request.add_streams("_admin");
    const auto context = Within(kLong);
    const auto core = daemon_.Core();
    const auto reader = core->ReadRecords(context.get(), request);
    v1::ReadRecordsResponse part;
    int found = 0;
    while (reader->Read(&part)) {
      for (const auto& record : part.records()) {
        const bool begins = record.payload().find("\"request\"") != std::string::npos;
        found += begins && record.payload().find(action) != std::string::npos ? 1 : 0;
      }
    }
    EXPECT_TRUE(reader->Finish().ok());
    return found;
  }

  DaemonFixture daemon_;
  int changes_ = 0;
};

TEST_F(ReplayedChangeTest, NoneIsMadeTwiceThoughTheDaemonIsKilledBeforeItsAnswer) {
  daemon_.Start();
  ASSERT_TRUE(daemon_.CreateStream("sales").ok());
  ASSERT_TRUE(daemon_.Append("sales", {R"({"item":"pear","amount":7})"}).ok());
  v1::ApplyDomainResponse applied;
  ASSERT_TRUE(daemon_.Apply(kFile, &applied).ok());
  ASSERT_TRUE(Eventually([&] { return daemon_.GetSlice("shop.by_item").snapshot_position() > 0; }));

  v1::ApplyDomainRequest apply;
  apply.set_file(absl::StrReplaceAll(kFile, {{"sum(amount)", "sum(amount * 100)"}}));
  applied = SendTwice(&v1::Admin::Stub::ApplyDomain, apply, [&] { return Revision() == 2; });
  EXPECT_TRUE(applied.changed());
  EXPECT_EQ(applied.revision(), 2);
  ASSERT_EQ(applied.changes_size(), 1);
  EXPECT_EQ(applied.changes(0).kind(), v1::SliceChange::REBUILD);
  EXPECT_NE(applied.changes(0).operation(), "");
  google::longrunning::GetOperationRequest get;
  get.set_name(applied.changes(0).operation());
  google::longrunning::Operation operation;
  ASSERT_TRUE(Eventually([&] {
    daemon_.Operations()->GetOperation(Within(kLong).get(), get, &operation);
    return operation.done();
  }));
  ASSERT_FALSE(operation.has_error()) << operation.ShortDebugString();

  v1::FreezeSliceRequest
      freeze;  // it is promoted where it stands: only that it serves is waited for
  freeze.set_name("shop.by_item");
  v1::Slice slice;
  ASSERT_TRUE(daemon_.Admin()->FreezeSlice(Within(kLong).get(), freeze, &slice).ok());
  v1::PromoteGenerationRequest promote;
  promote.set_name("shop.by_item");
  SendTwice(&v1::Admin::Stub::PromoteGeneration, promote, [&] { return Serving() == 2; });
  EXPECT_EQ(Serving(), 2);

  v1::RollbackSliceRequest rollback;
  rollback.set_name("shop.by_item");
  const auto rolled_back =
      SendTwice(&v1::Admin::Stub::RollbackSlice, rollback, [&] { return Serving() == 1; });
  EXPECT_EQ(rolled_back.generation(), 1);
  EXPECT_EQ(Serving(), 1);

  v1::WaiveExpectationRequest waive;
  waive.set_name("shop.by_item");
  waive.set_expectation("few");
  v1::ExpectationWaiver before;
  SendTwice(&v1::Admin::Stub::WaiveExpectation, waive, [&] {
    const v1::ExpectationWaiver now = Waiver();
    if (before.reason().empty()) before = now;
    return !now.reason().empty();
  });
  EXPECT_TRUE(Eventually([&] { return !Waiver().reason().empty(); }));
  EXPECT_EQ(Waiver().SerializeAsString(), before.SerializeAsString());
  waive.set_end(true);
  SendTwice(&v1::Admin::Stub::WaiveExpectation, waive, [&] { return Waiver().reason().empty(); });

  EXPECT_EQ(Recorded("\"ApplyDomain\""), 2);
  EXPECT_EQ(Recorded("\"PromoteGeneration\""), 1);
  EXPECT_EQ(Recorded("\"RollbackSlice\""), 1);
  EXPECT_EQ(Recorded("\"WaiveExpectation\""), 2);
}

}  // namespace
}  // namespace icepie::testing
