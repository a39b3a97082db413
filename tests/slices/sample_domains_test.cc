// The sample domains and their repaired versions plan as the README and the quickstart say.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "slices/definition/definition.h"
#include "slices/plan/plan.h"

namespace icepie::slices {
namespace {

DomainPlan PlanFile(const std::string& path) {
  const auto text = ReadFile(absl::StrCat(std::getenv("ICEPIE_SOURCE"), "/", path));
  EXPECT_TRUE(text.ok()) << text.status();
  auto definition = ParseDomain(*text, path);
  EXPECT_TRUE(definition.ok()) << definition.status();
  auto plan = PlanDomain(*definition);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

std::map<std::string, std::string> Strategies(const DomainPlan& plan) {
  std::map<std::string, std::string> strategies;
  for (const SlicePlan& slice : plan.slices) {
    strategies[slice.slice] = StrategyName(slice.strategy);
  }
  return strategies;
}

const std::map<std::string, std::string> kOperations = {
    {"on_time", "aggregate"}, {"delay_buckets", "aggregate"}, {"city_delay", "keys"}};

TEST(SampleDomainsTest, OperationsFoldsItsAggregates) {
  EXPECT_EQ(Strategies(PlanFile("config/domains/operations.yaml")), kOperations);
}

TEST(SampleDomainsTest, NetworkFoldsRoutesAndRecomputesTheRestFromThem) {
  const DomainPlan plan = PlanFile("config/domains/network.yaml");
  EXPECT_EQ(Strategies(plan),
            (std::map<std::string, std::string>{{"routes", "aggregate"},
                                                {"busiest_routes", "recompute"},
                                                {"top_destinations", "keys"},
                                                {"airport_clusters", "recompute"}}));
  EXPECT_EQ(plan.Find("airport_clusters")->upstream, std::vector<std::string>{"routes"});
  EXPECT_TRUE(plan.Find("airport_clusters")->sources.empty());
}

TEST(SampleDomainsTest, PunctualityIsRecomputedOnItsSchedule) {
  EXPECT_EQ(Strategies(PlanFile("config/domains/punctuality.yaml")),
            (std::map<std::string, std::string>{{"monthly_kpi", "recompute"}}));
}

TEST(SampleDomainsTest, TheRepairRebuildsWhatReadsTheDelayAndWhatReadsThat) {
  const DomainPlan before = PlanFile("config/domains/operations.yaml");
  const DomainPlan after = PlanFile("deploy/quickstart/fixed/operations.yaml");
  EXPECT_EQ(Strategies(after), kOperations);
  for (const SlicePlan& slice : before.slices) {
    const SlicePlan& repaired = *after.Find(slice.slice);
    EXPECT_NE(slice.definition_hash, repaired.definition_hash) << slice.slice;
    ASSERT_EQ(slice.columns.size(), repaired.columns.size());
    for (size_t i = 0; i < slice.columns.size(); ++i) {  // the repair breaks no reader
      EXPECT_EQ(slice.columns[i].name, repaired.columns[i].name);
      EXPECT_EQ(slice.columns[i].type, repaired.columns[i].type);
    }
  }
}

}  // namespace
}  // namespace icepie::slices
