// A daemon that starts on damaged entries of its catalog: what they held answers from its
// snapshots, is frozen, deleted and applied again, and nobody else notices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/core/core_testing.h"
#include "tests/e2e/shop_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr const char* kThreePears = R"([{"item":"pear","total":3}])";
constexpr const char* kFile = R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  by_item: {sql: "SELECT item, sum(amount) AS total FROM sales GROUP BY ALL", key: [item]}
)";

class HeldDomainTest : public ShopTest {
 protected:
  // Three pears, saved in domains `shop` and `other`; then the daemon starts on the damage.
  void StartDamaged(const std::string& key) {
    StartShop();
    v1::ApplyDomainResponse applied;
    ASSERT_TRUE(daemon_.Apply(absl::StrReplaceAll(kFile, {{"shop", "other"}}), &applied).ok());
    Append("pear", 3);
    for (const char* slice : {"shop.by_item", "other.by_item"}) {
      ASSERT_TRUE(
          Eventually([&] { return daemon_.GetSlice(slice).standby_position() >= end_; }, kLong));
    }
    Damage(key);
  }

  void Damage(const std::string& key) {
    daemon_.Stop();
    {
      const auto core = OpenCore(daemon_.data_directory() + "/core");
      ASSERT_TRUE(core->ChangeCatalog({{key, "\xff damaged"}}).ok());
    }
    std::filesystem::remove_all(daemon_.data_directory() + "/catalog");  // else it is healed
    daemon_.Start();
  }

  void ExpectHeldButAnswering() {
    v1::QueryResponse first;  // asked in the first moment
    const auto asked = daemon_.Query("shop", "SELECT * FROM by_item", -1, &first);
    EXPECT_TRUE(asked.ok()) << asked.error_message();
    EXPECT_EQ(first.body(), kThreePears);
    v1::QueryRequest select;
    select.set_domain("shop");
    select.mutable_select()->set_slice("by_item");
    v1::QueryResponse answer;
    const auto status = daemon_.Slices()->Query(Within(kLong).get(), select, &answer);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(answer.body(), kThreePears);
    EXPECT_EQ(answer.meta().slices(0).state(), v1::HELD);
    EXPECT_EQ(answer.meta().slices(0).stale_reason(), v1::SLICE_HELD);
    EXPECT_EQ(daemon_.GetSlice("shop.by_item").state(), v1::HELD);
    EXPECT_EQ(daemon_.GetSlice("shop.by_item").last_error().reason(), "CATALOG_DAMAGED");
    // The neighbour is fresh.
    ASSERT_TRUE(daemon_.Query("other", "SELECT total FROM by_item", end_, &answer).ok());
    EXPECT_FALSE(answer.meta().stale());
  }

  void ApplyAgain() {
    v1::ApplyDomainResponse applied;
    const auto status = daemon_.Apply(kFile, &applied);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  void Freeze() {
    v1::FreezeSliceRequest freeze;
    freeze.set_name("shop.by_item");
    freeze.set_reason("INC-7");
    v1::Slice slice;
    const auto frozen = daemon_.Admin()->FreezeSlice(Within(kLong).get(), freeze, &slice);
    EXPECT_TRUE(frozen.ok()) << frozen.error_message();
    EXPECT_EQ(slice.desired().mode(), v1::DesiredState::FREEZE);
  }

  void Thaw() {
    v1::ThawSliceRequest thaw;
    thaw.set_name("shop.by_item");
    v1::Slice slice;
    const auto thawed = daemon_.Admin()->ThawSlice(Within(kLong).get(), thaw, &slice);
    EXPECT_TRUE(thawed.ok()) << thawed.error_message();
  }

  bool WaitForState(v1::SliceState state) {
    return Eventually([&] { return daemon_.GetSlice("shop.by_item").state() == state; }, kLong);
  }
};

TEST_F(HeldDomainTest, ADomainWhoseEntryIsDamagedAnswersAndIsFrozenAndAppliedAgain) {
  StartDamaged("domain/shop");
  ExpectHeldButAnswering();
  Freeze();
  daemon_.Kill();
  daemon_.Start();
  ExpectHeldButAnswering();
  ApplyAgain();
  EXPECT_TRUE(WaitForState(v1::FROZEN));
  EXPECT_EQ(daemon_.GetSlice("shop.by_item").desired().reason(), "INC-7");
  Thaw();
  Append("pear", 1);
  EXPECT_EQ(Rows(daemon_, end_), R"([{"item":"pear","total":4}])");
}

TEST_F(HeldDomainTest, ASliceWhoseEntryIsDamagedAnswersAndIsFrozenAppliedAgainOrDeleted) {
  StartDamaged("slice/shop/by_item");
  ExpectHeldButAnswering();
  Freeze();
  daemon_.Kill();
  daemon_.Start();
  EXPECT_EQ(daemon_.GetSlice("shop.by_item").desired().reason(), "INC-7");
  ExpectHeldButAnswering();
  ApplyAgain();
  EXPECT_TRUE(WaitForState(v1::FROZEN));
  EXPECT_EQ(daemon_.GetSlice("shop.by_item").desired().reason(), "INC-7");
  Append("pear", 1);
  // Frozen, it goes on with what it has shown, in both workers.
  EXPECT_TRUE(Eventually(
      [&] { return daemon_.GetSlice("shop.by_item").meta().source() == v1::LIVE; }, kLong));
  EXPECT_EQ(Rows(daemon_, -1), kThreePears);
  Thaw();
  EXPECT_TRUE(WaitForState(v1::RUNNING));
  EXPECT_EQ(Rows(daemon_, end_), R"([{"item":"pear","total":4}])");
  Damage("domain/shop");
  EXPECT_TRUE(WaitForState(v1::HELD));
  v1::DeleteDomainRequest remove;
  remove.set_name("shop");
  remove.set_reason("INC-8");
  v1::Domain removed;
  const auto deleted = daemon_.Admin()->DeleteDomain(Within(kLong).get(), remove, &removed);
  EXPECT_TRUE(deleted.ok()) << deleted.error_message();
  v1::QueryResponse answer;
  EXPECT_EQ(daemon_.Query("shop", "SELECT 1", -1, &answer).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

// In each manifest below the directory.
void ReplaceInManifests(const std::string& directory, const std::string& from,
                        const std::string& to) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.path().extension() != ".json") continue;
    std::ostringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    std::ofstream(entry.path()) << absl::StrReplaceAll(text.str(), {{from, to}});
  }
}

// The catalog and the snapshots have the hashes that another version's planner made.
TEST_F(ShopTest, AnotherVersionsHashesBuildNothingAnew) {
  StartShop();
  Append("pear", 3);
  ASSERT_TRUE(Eventually(
      [&] { return daemon_.GetSlice("shop.by_item").standby_position() >= end_; }, kLong));
  const std::string now = daemon_.GetSlice("shop.by_item").generations(0).definition_hash();
  ASSERT_FALSE(now.empty());
  const std::string then(now.size(), 'f');
  daemon_.Kill();
  {
    const auto core = OpenCore(daemon_.data_directory() + "/core");
    auto pairs = core->ScanCatalog("");
    ASSERT_TRUE(pairs.ok()) << pairs.status();
    std::vector<Core::CatalogChange> changes;
    for (auto& [key, value] : *pairs) {
      if (absl::StrReplaceAll({{now, then}}, &value) > 0) changes.push_back({key, value});
    }
    ASSERT_TRUE(core->ChangeCatalog(changes).ok());
  }
  std::filesystem::remove_all(daemon_.data_directory() + "/catalog");
  ReplaceInManifests(daemon_.data_directory(), now, then);
  daemon_.Start();
  v1::ApplyDomainResponse applied;
  const std::string file = absl::StrCat(kFile, "  names: {sql: SELECT item FROM sales}\n");
  const auto status = daemon_.Apply(file, &applied);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(applied.changes_size(), 2);
  EXPECT_EQ(applied.changes(0).kind(), v1::SliceChange::UNCHANGED);
  EXPECT_EQ(applied.changes(1).kind(), v1::SliceChange::CREATE);
  EXPECT_EQ(Rows(daemon_, end_), kThreePears);
  Append("pear", 1);
  EXPECT_EQ(Rows(daemon_, end_), R"([{"item":"pear","total":4}])");
  const v1::Slice slice = daemon_.GetSlice("shop.by_item");
  ASSERT_EQ(slice.generations_size(), 1);
  EXPECT_EQ(slice.generations(0).definition_hash(), then);
  google::longrunning::ListOperationsResponse operations;
  EXPECT_TRUE(daemon_.Operations()->ListOperations(Within(kLong).get(), {}, &operations).ok());
  EXPECT_EQ(operations.operations_size(), 0) << "nothing was built";
  EXPECT_EQ(daemon_.Log().find("of another definition"), std::string::npos) << "from raw";
  // The same source, read otherwise.
  const auto other = daemon_.Apply(absl::StrReplaceAll(file, {{"INTEGER", "BIGINT"}}), &applied);
  ASSERT_TRUE(other.ok()) << other.error_message();
  EXPECT_EQ(applied.changes(0).kind(), v1::SliceChange::REBUILD);
}

}  // namespace
}  // namespace icepie::testing
