// Tests of domain files: how they are read, and what a run finds.
#include "slices/role/domain_test_run.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "slices/definition/definition.h"
#include "spdlog/spdlog.h"

namespace icepie::slices {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kShop[] = R"yaml(domain: shop
sources:
  orders:
    stream: ledger
    where: {$.type: order}
    columns: {city: {type: VARCHAR, required: true}, amount: {type: "DECIMAL(18,2)"}, share: DOUBLE}
slices:
  by_city:
    sql: SELECT city, count(*) AS n, sum(amount) AS total, avg(share) AS share FROM orders GROUP BY ALL
    key: [city]
  shapes:
    sql: |
      SELECT city, list(amount ORDER BY _position) AS amounts, {'k': max(_key)} AS last,
             max(_event_time) AS event, max(_time) AS stored FROM orders GROUP BY city
    key: [city]
  nightly:
    sql: SELECT count(*) AS n FROM by_city
    refresh: {cron: "0 2 * * *"}
tests:
)yaml";

// The file with these lines as its tests.
std::string WithTests(const std::string& tests) { return absl::StrCat(kShop, tests); }

class DomainTestRunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    spdlog::set_level(spdlog::level::off);
    std::string pattern = testing::TempDir() + "icepie_domain_test_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::vector<TestResult> Run(const std::string& file) {
    TestRunOptions options;
    options.file_name = "shop.yaml";
    options.directory = directory_;
    options.timeout = absl::Seconds(60);
    options.on_fatal = [](const std::string& why) { FAIL() << why; };
    std::vector<TestResult> results;
    const absl::Status ran = RunDomainTests(
        file, options, [](const std::string&) { return true; },
        [&](const TestResult& result) { results.push_back(result); });
    EXPECT_TRUE(ran.ok()) << ran;
    return results;
  }

  // The only failure of the only case.
  TestFailure FailureOf(const std::string& tests) {
    const auto results = Run(WithTests(tests));
    if (results.size() != 1 || results[0].failures.empty()) {
      ADD_FAILURE() << "it did not fail";
      return {};
    }
    EXPECT_THAT(results[0].failures, SizeIs(1)) << results[0].failures[1].what;
    return results[0].failures[0];
  }

  static std::string ErrorOf(const std::string& tests) {
    return std::string(ParseDomain(WithTests(tests), "shop.yaml").status().message());
  }

  std::string directory_;
};

TEST_F(DomainTestRunTest, AllKindsOfRecordsAndValuesPass) {
  const auto results = Run(WithTests(R"(  - name: one
    given:
      orders:
        - {type: order, city: Bern, amount: "1.50", share: 0.1}
        - {payload: {type: order, city: Bern, amount: 2.25, share: 0.2}, key: k1, event_time: "2020-01-01T01:00:00+01:00"}
        - {type: other}
        - {raw: '{"type":"order"'}
    expect:
      by_city: {rows: [{city: Bern, n: 2, total: 3.75, share: 0.15}], quarantined: [3], filtered: [2]}
      shapes:
        rows: [{city: Bern, amounts: [1.50, 2.25], last: {k: k1}, event: "2020-01-01T00:00:00Z", stored: "2000-01-01T00:00:01Z"}]
        quarantined: [3]
      nightly: {rows: [{n: 1}]}
)"));
  ASSERT_THAT(results, SizeIs(1));
  for (const TestFailure& failure : results[0].failures) ADD_FAILURE() << failure.what;
  EXPECT_THAT(std::filesystem::directory_iterator(directory_),
              ::testing::Eq(std::filesystem::directory_iterator()))
      << "a run leaves nothing behind";
}

TEST_F(DomainTestRunTest, AMissingRowAndAnUnexpectedOneAreShownWithTheColumnsThatDiffer) {
  const TestFailure failure = FailureOf(R"(  - name: two
    given: {ledger: [{type: order, city: Bern, amount: 2}, {type: order, city: Thun}]}
    expect: {by_city: {rows: [{city: Thun, n: 1, total: null}, {city: Bern, n: 2, total: 2}]}}
)");
  EXPECT_EQ(failure.run, "") << "both runs went wrong alike";
  EXPECT_EQ(failure.slice, "by_city");
  EXPECT_EQ(failure.place.line, 22);
  EXPECT_THAT(failure.missing, ElementsAre("{city: Bern, n: 2, total: 2.00}"));
  EXPECT_THAT(failure.unexpected, ElementsAre("{city: Bern, n: 1, total: 2.00}"));
  EXPECT_THAT(failure.differences, ElementsAre("Bern: n expected 2, got 1"));
}

TEST_F(DomainTestRunTest, ARecordThatIsQuarantinedUnexpectedlyIsNamedWithItsError) {
  const TestFailure failure = FailureOf(R"(  - name: three
    given: {orders: [{type: order, city: Bern, amount: "1,5"}]}
    expect: {by_city: {rows: []}}
)");
  EXPECT_EQ(failure.what, "expected quarantined records [], got [0]");
  ASSERT_THAT(failure.differences, SizeIs(1));
  EXPECT_THAT(failure.differences[0], HasSubstr("amount"));
}

TEST_F(DomainTestRunTest, AValueThatItsTypeCannotHoldIsRefusedWithItsPlace) {
  const TestFailure failure = FailureOf(R"(  - name: four
    given: {orders: []}
    expect: {by_city: {rows: [{city: Bern, n: 1.5}]}}
)");
  EXPECT_THAT(failure.what, HasSubstr("1.5 is no BIGINT"));
  EXPECT_EQ(failure.place.line, 22);
  EXPECT_EQ(failure.place.column, 47);
}

TEST_F(DomainTestRunTest, AColumnThatTheSliceDoesNotHaveIsRefused) {
  EXPECT_THAT(FailureOf(R"(  - name: five
    given: {orders: []}
    expect: {by_city: {rows: [{citi: Bern}]}}
)")
                  .what,
              HasSubstr("has no column `citi` (did you mean \"city\"?"));
}

TEST_F(DomainTestRunTest, ToleranceIsRelativeAndOnlyAsWideAsSaid) {
  const std::string tests = R"(  - name: six
    given: {orders: [{type: order, city: Bern, share: 1}]}
    expect: {by_city: {rows: [{city: Bern, share: 1.001}], tolerance: {share: 0.01}}}
)";
  EXPECT_THAT(Run(WithTests(tests))[0].failures, IsEmpty());
  EXPECT_THAT(FailureOf(absl::StrReplaceAll(tests, {{"share: 0.01", "share: 0.0001"}})).differences,
              ElementsAre("Bern: share expected 1.001, got 1.0"));
}

TEST_F(DomainTestRunTest, NamesThatAreNotThereAreRefusedWhileReading) {
  EXPECT_THAT(ErrorOf("  - {name: a, given: {order: []}, expect: {by_city: {rows: []}}}\n"),
              HasSubstr("shop.yaml:20:23: there is no source `order` (did you mean \"orders\"?"));
  EXPECT_THAT(ErrorOf("  - {name: a, given: {orders: []}, expect: {by_cit: {rows: []}}}\n"),
              HasSubstr("shop.yaml:20:45: there is no slice `by_cit` (did you mean \"by_city\"?"));
  EXPECT_THAT(ErrorOf("  - {name: a, given: {orders: []}, expect: {by_city: {row: []}}}\n"),
              HasSubstr("unknown key `row`"));
}

TEST_F(DomainTestRunTest, WhatCannotBeMeantIsRefusedWhileReading) {
  EXPECT_THAT(
      ErrorOf("  - {name: a, given: {orders: []}, expect: {by_city: {quarantined: [0]}}}\n"),
      HasSubstr("a place must be a number from 0 to -1"));
  EXPECT_THAT(ErrorOf("  - {name: a, given: {orders: [3]}, expect: {by_city: {rows: []}}}\n"),
              HasSubstr("a record must be a map"));
  EXPECT_THAT(ErrorOf("  - {given: {orders: []}, expect: {by_city: {rows: []}}}\n"),
              HasSubstr("the test has no `name`"));
  EXPECT_THAT(ErrorOf("  - {name: a, given: {orders: []}, expect: {}}\n"),
              HasSubstr("the test expects nothing"));
  EXPECT_THAT(
      ErrorOf("  - {name: a, given: {orders: []}, expect: {by_city: {rows: [{n: 1}, {m: 1}]}}}\n"),
      HasSubstr("all rows name the same"));
  EXPECT_THAT(ErrorOf("  - {name: a, given: {orders: [{raw: '', payload: {}}]}, expect: {by_city: "
                      "{rows: []}}}\n"),
              HasSubstr("raw or payload, not both"));
  EXPECT_THAT(ErrorOf("  - {name: a, given: {orders: [{raw: '', event_time: noon}]}, expect: "
                      "{by_city: {rows: []}}}\n"),
              HasSubstr("must be a time with its offset"));
  EXPECT_THAT(ErrorOf("  - {name: a, given: {orders: [], ledger: []}, expect: {by_city: "
                      "{quarantined: [0]}}}\n"),
              HasSubstr("say whose records"));
}

}  // namespace
}  // namespace icepie::slices
