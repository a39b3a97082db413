// Domains that are deleted and brought back, on the real programs, and changes that are asked for
// again after the daemon was killed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kShop = R"yaml(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  by_item:
    sql: SELECT item, count(*) AS sales, sum(amount) AS total FROM sales GROUP BY ALL
    key: [item]
    on_bad_record: {budget: {records: 1}}
  items:
    sql: SELECT count(DISTINCT item) AS items FROM sales
)yaml";

std::string Sale(const std::string& item, int amount) {
  return absl::StrCat(R"({"item":")", item, R"(","amount":)", amount, "}");
}

std::string Reason(const grpc::Status& status) {
  return ErrorReason(server::FromGrpcStatus(status));
}

class DomainDeletionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("sales").ok());
    end_ = daemon_.Append("sales", {Sale("apple", 2), Sale("pear", 7)}).value_or(-1);
    v1::ApplyDomainResponse applied;
    ASSERT_TRUE(daemon_.Apply(kShop, &applied).ok());
    Total("pear", end_, 7);
    for (const char* slice : {"shop.by_item", "shop.items"}) {
      EXPECT_TRUE(Eventually([&] { return daemon_.GetSlice(slice).snapshot_position() >= end_; },
                             absl::Seconds(60)));
    }
  }

  void Total(const std::string& item, int64_t position, int64_t total) {
    v1::QueryResponse response;
    const std::string sql = absl::StrCat("SELECT total FROM by_item WHERE item = '", item, "'");
    EXPECT_TRUE(Eventually(
        [&] {
          return daemon_.Query("shop", sql, position, &response).ok() &&
                 response.body() == absl::StrCat("[{\"total\":", total, "}]");
        },
        absl::Seconds(60)))
        << response.ShortDebugString();
  }

  grpc::Status Delete(v1::Domain* domain, absl::Duration keep = absl::Hours(1),
                      const std::string& request_id = "") {
    v1::DeleteDomainRequest request;
    request.set_name("shop");
    request.set_reason("INC-1");
    request.set_actor("ann");
    request.set_request_id(request_id);
    request.mutable_keep()->set_seconds(absl::ToInt64Seconds(keep));
    return daemon_.Admin()->DeleteDomain(Within(absl::Seconds(60)).get(), request, domain);
  }

  grpc::Status Undelete(v1::Domain* domain) {
    v1::UndeleteDomainRequest request;
    request.set_name("shop");
    request.set_actor("ben");
    return daemon_.Admin()->UndeleteDomain(Within(absl::Seconds(60)).get(), request, domain);
  }

  std::vector<v1::Domain> Domains(bool show_deleted) {
    v1::ListDomainsRequest request;
    v1::ListDomainsResponse response;
    request.set_show_deleted(show_deleted);
    EXPECT_TRUE(
        daemon_.Admin()->ListDomains(Within(absl::Seconds(60)).get(), request, &response).ok());
    return {response.domains().begin(), response.domains().end()};
  }

  bool HasWorkers() {
    v1::ServerStatus status;
    daemon_.Admin()->GetServerStatus(Within(absl::Seconds(60)).get(), {}, &status);
    return status.workers_size() > 0;
  }

  // The last three states that events tell of.
  std::string LastStates(const std::string& slice) {
    v1::ListEventsRequest request;
    v1::ListEventsResponse response;
    request.set_name(slice);
    request.set_newest(true);
    daemon_.Admin()->ListEvents(Within(absl::Seconds(60)).get(), request, &response);
    std::vector<std::string> states;
    for (const v1::Event& event : response.events()) {
      if (event.kind() == v1::Event::SLICE) states.push_back(event.to());
    }
    states.erase(states.begin(), states.end() - std::min<size_t>(states.size(), 3));
    return absl::StrJoin(states, " ");
  }

  grpc::Status Query(const std::string& sql) {
    v1::QueryResponse response;
    return daemon_.Query("shop", sql, -1, &response);
  }

  grpc::Status Freeze(const std::string& slice, const std::string& request_id, v1::Slice* frozen) {
    v1::FreezeSliceRequest request;
    request.set_name(slice);
    request.set_reason("audit");
    request.set_request_id(request_id);
    return daemon_.Admin()->FreezeSlice(Within(absl::Seconds(60)).get(), request, frozen);
  }

  grpc::Status ClearError(const std::string& slice) {
    v1::ClearSliceErrorRequest request;
    request.set_name(slice);
    v1::Slice cleared;
    return daemon_.Admin()->ClearSliceError(Within(absl::Seconds(60)).get(), request, &cleared);
  }

  std::string Files() const { return absl::StrCat(daemon_.data_directory(), "/domains/shop"); }

  DaemonFixture daemon_;
  int64_t end_ = 0;
};

TEST_F(DomainDeletionTest, NoErrorIsClearedOfASliceThatIsBeingDeleted) {
  const pid_t live = daemon_.SignalWorker("shop", "live", SIGSTOP);  // it takes its time to end
  v1::Domain deleted;
  ASSERT_TRUE(Delete(&deleted).ok());
  EXPECT_EQ(Reason(ClearError("shop.by_item")), "DOMAIN_NOT_FOUND");
  ::kill(live, SIGCONT);
}

TEST_F(DomainDeletionTest, ADeletedDomainIsGoneAndComesBackAsItWas) {
  v1::Slice frozen;
  ASSERT_TRUE(Freeze("shop.items", "", &frozen).ok());
  v1::Domain deleted;
  ASSERT_TRUE(Delete(&deleted).ok());
  EXPECT_EQ(deleted.deletion().actor(), "ann");
  EXPECT_EQ(deleted.deletion().reason(), "INC-1");
  const auto asked = Query("SELECT * FROM by_item");
  EXPECT_EQ(Reason(asked), "DOMAIN_NOT_FOUND");
  v1::Domain found;
  v1::GetDomainRequest get;
  get.set_name("shop");
  const auto got = daemon_.Admin()->GetDomain(Within(absl::Seconds(60)).get(), get, &found);
  EXPECT_EQ(Reason(got), "DOMAIN_NOT_FOUND");
  EXPECT_THAT(got.error_message(), HasSubstr("icepie domain undelete shop"));
  EXPECT_TRUE(Domains(false).empty());
  ASSERT_EQ(Domains(true).size(), 1u);
  EXPECT_TRUE(Eventually([&] { return !HasWorkers(); }, absl::Seconds(60)));
  EXPECT_TRUE(Eventually([&] { return LastStates("shop.items") == "FROZEN DELETING REMOVED"; },
                         absl::Seconds(60)))
      << LastStates("shop.items");
  v1::Slice slice;
  v1::GetSliceRequest get_slice;
  get_slice.set_name("shop.items");
  const auto described =
      daemon_.Slices()->GetSlice(Within(absl::Seconds(60)).get(), get_slice, &slice);
  EXPECT_EQ(Reason(described), "DOMAIN_NOT_FOUND");
  v1::ApplyDomainResponse applied;
  EXPECT_EQ(Reason(daemon_.Apply(kShop, &applied)), "DOMAIN_DELETED");

  daemon_.Kill();
  daemon_.Start();
  EXPECT_TRUE(Domains(false).empty());
  EXPECT_EQ(Domains(true).at(0).deletion().reason(), "INC-1");
  EXPECT_FALSE(HasWorkers());
  const int64_t later = daemon_.Append("sales", {Sale("pear", 3)}).value_or(-1);

  v1::Domain back;
  const auto undeleted = Undelete(&back);
  ASSERT_TRUE(undeleted.ok()) << undeleted.error_message();
  EXPECT_EQ(back.revision(), 1);
  EXPECT_EQ(back.file(), kShop);
  EXPECT_FALSE(back.has_deletion());
  Total("pear", later, 10);
  EXPECT_EQ(daemon_.GetSlice("shop.items").desired().mode(), v1::DesiredState::FREEZE);
  EXPECT_EQ(daemon_.GetSlice("shop.by_item").generations_size(), 1);
  google::longrunning::ListOperationsResponse operations;
  EXPECT_TRUE(
      daemon_.Operations()->ListOperations(Within(absl::Seconds(60)).get(), {}, &operations).ok());
  EXPECT_EQ(operations.operations_size(), 0) << "nothing was built again";
  EXPECT_EQ(Reason(Undelete(&back)), "DOMAIN_NOT_DELETED");
}

TEST_F(DomainDeletionTest, EveryStateCanBeDeletedAlsoWithTheWorkersDead) {
  // Over its budget: FAULTED.
  ASSERT_TRUE(daemon_.Append("sales", {R"({"amount":"x"})", R"({"amount":"y"})"}).ok());
  ASSERT_TRUE(Eventually([&] { return daemon_.GetSlice("shop.by_item").state() == v1::FAULTED; },
                         absl::Seconds(60)));
  const auto saved = daemon_.GetSlice("shop.by_item");
  for (const char* role : {"live", "standby"}) {
    const int64_t pid = daemon_.Worker("shop", role).pid();
    if (pid > 0) kill(static_cast<pid_t>(pid), SIGKILL);
  }
  v1::Domain deleted;
  ASSERT_TRUE(Delete(&deleted, absl::Hours(1), "d-1").ok());
  daemon_.Kill();
  daemon_.Start();
  v1::Domain again;
  ASSERT_TRUE(Delete(&again, absl::Hours(1), "d-1").ok());
  EXPECT_EQ(again.SerializeAsString(), deleted.SerializeAsString()) << "the first answer";
  ASSERT_TRUE(Undelete(&again).ok());
  EXPECT_TRUE(Eventually(
      [&] {
        const auto slice = daemon_.GetSlice("shop.by_item");
        return slice.state() == v1::FAULTED &&
               slice.last_error().reason() == saved.last_error().reason();
      },
      absl::Seconds(60)))
      << daemon_.GetSlice("shop.by_item").ShortDebugString();
  Total("pear", -1, 7);
}

TEST_F(DomainDeletionTest, WhatIsNotKeptGoesWithItsFiles) {
  const auto file = absl::StrReplaceAll(kShop, {{"sum(amount)", "max(amount)"}});
  v1::ApplyDomainResponse applied;
  ASSERT_TRUE(daemon_.Apply(file, &applied).ok()) << "a build is under way";
  v1::Domain domain;
  ASSERT_TRUE(Delete(&domain).ok());
  ASSERT_TRUE(Delete(&domain, absl::ZeroDuration()).ok()) << "thought better of it";
  EXPECT_TRUE(Eventually([&] { return Domains(true).empty(); }, absl::Seconds(90)));
  EXPECT_FALSE(std::filesystem::exists(Files()));
  EXPECT_EQ(Reason(Undelete(&domain)), "DOMAIN_NOT_FOUND");
  EXPECT_EQ(Reason(Delete(&domain)), "DOMAIN_NOT_FOUND");
  ASSERT_TRUE(daemon_.Apply(kShop, &applied).ok());
  EXPECT_EQ(applied.revision(), 1) << "it begins anew";
  Total("pear", end_, 7);
  daemon_.Kill();
  daemon_.Start();
  Total("pear", end_, 7);
}

// FAULTS 53, over a kill of the daemon.
TEST_F(DomainDeletionTest, FirstAnswersAreGivenAgainAfterAKilledDaemon) {
  v1::Slice first;
  ASSERT_TRUE(Freeze("shop.items", "r-1", &first).ok());
  v1::CreateStreamRequest create;
  create.set_name("returns");
  create.set_request_id("r-2");
  v1::Stream stream;
  ASSERT_TRUE(daemon_.Core()->CreateStream(Within(absl::Seconds(60)).get(), create, &stream).ok());
  daemon_.Kill();
  daemon_.Start();
  v1::ThawSliceRequest thaw;
  thaw.set_name("shop.items");
  v1::Slice thawed;
  ASSERT_TRUE(daemon_.Admin()->ThawSlice(Within(absl::Seconds(60)).get(), thaw, &thawed).ok());
  v1::Slice again;
  ASSERT_TRUE(Freeze("shop.items", "r-1", &again).ok());
  EXPECT_EQ(again.SerializeAsString(), first.SerializeAsString());
  EXPECT_EQ(daemon_.GetSlice("shop.items").desired().mode(), v1::DesiredState::RUN);
  EXPECT_EQ(Reason(Freeze("shop.by_item", "r-1", &again)), "REQUEST_ID_REUSED");
  v1::Stream same;
  ASSERT_TRUE(daemon_.Core()->CreateStream(Within(absl::Seconds(60)).get(), create, &same).ok());
  EXPECT_EQ(same.SerializeAsString(), stream.SerializeAsString());
  create.set_key_path("$.id");
  EXPECT_EQ(Reason(daemon_.Core()->CreateStream(Within(absl::Seconds(60)).get(), create, &same)),
            "REQUEST_ID_REUSED");
}

TEST_F(DomainDeletionTest, ARollWithARequestIdIsMadeOnce) {
  const auto roll = [&] {
    v1::RollWorkersRequest request;
    request.set_request_id("roll-1");
    const auto context = Within(absl::Seconds(120));
    const auto reader = daemon_.Admin()->RollWorkers(context.get(), request);
    std::vector<std::string> rolled;
    v1::RollWorkersResponse response;
    while (reader->Read(&response)) rolled.push_back(response.SerializeAsString());
    const auto status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return rolled;
  };
  const auto first = roll();
  ASSERT_EQ(first.size(), 1u);
  const int64_t pid = daemon_.Worker("shop", "live").pid();
  EXPECT_EQ(roll(), first);
  EXPECT_EQ(daemon_.Worker("shop", "live").pid(), pid);
}

}  // namespace
}  // namespace icepie::testing
