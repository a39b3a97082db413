// icepie test
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/cli/program_fixture.h"

namespace icepie::cli {
namespace {

using ::testing::HasSubstr;

constexpr char kShop[] = R"(domain: shop
sources: {orders: {columns: {city: VARCHAR}}}
slices: {by_city: {sql: "SELECT city, count(*) AS n FROM orders GROUP BY ALL", key: [city]}}
tests:
  - {name: right, given: {orders: [{city: Bern}]}, expect: {by_city: {rows: [{city: Bern, n: 1}]}}}
  - {name: wrong, given: {orders: [{city: Bern}]}, expect: {by_city: {rows: [{city: Bern, n: 2}]}}}
)";

class TestCommandTest : public ProgramFixture {};

TEST_F(TestCommandTest, SaysWhichTestsPassAndHowTheOthersFail) {
  const Outcome outcome = Run({"test", "-f", Write("shop.yaml", kShop)});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.out, HasSubstr("  ok    right"));
  EXPECT_THAT(outcome.out, HasSubstr("  FAIL  wrong\n"));
  EXPECT_THAT(outcome.out, HasSubstr("shop.yaml:6:61: by_city rows: expected 1, got 1;"));
  EXPECT_THAT(outcome.out, HasSubstr("      - {city: Bern, n: 2}\n      + {city: Bern, n: 1}\n"));
  EXPECT_THAT(outcome.out, HasSubstr("2 tests: 1 passed, 1 failed\n"));
}

TEST_F(TestCommandTest, OneTestCanBeAskedForAndAnswersAsJson) {
  const std::string file = Write("shop.yaml", kShop);
  const Outcome outcome = Run({"--json", "test", "-f", file, "--only", "right"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto answer = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(answer["passed"], 1);
  EXPECT_EQ(answer["failed"], 0);
  EXPECT_EQ(answer["files"][0]["tests"][0]["name"], "right");
  const Outcome none = Run({"test", "-f", file, "--only", "nothing"});
  EXPECT_EQ(none.code, 1);
  EXPECT_THAT(none.err, HasSubstr("no test has the name \"nothing\""));
}

}  // namespace
}  // namespace icepie::cli
