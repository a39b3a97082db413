// icepie test
#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

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

constexpr char kOutside[] = R"(domain: shop
sources: {orders: {columns: {city: VARCHAR}}}
slices:
  by_city:
    sql_file: sql/by_city.sql  # theirs
    key: [city]
  cities:
    sql_file: 'sql/cities.sql'
tests:
  - {name: wrong, given: {orders: [{city: Bern}]}, expect: {by_city: {rows: [{city: Bern, n: 2}]}}}
)";

TEST_F(TestCommandTest, SqlMayStandInAFileOfItsOwn) {
  const std::string file = Write("shop.yaml", kOutside);
  std::filesystem::create_directory(directory_ + "/sql");
  Write("sql/by_city.sql",
        "  -- per city\r\nSELECT city,\r\n\r\n  count(*) AS n\r\nFROM orders GROUP BY ALL\r\n\r\n");
  Write("sql/cities.sql", "SELECT\n  count(*) AS n FROM by_city");
  const Outcome outcome = Run({"test", "-f", file});
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("shop.yaml:10:61: by_city rows: expected 1, got 1;"));
  // What is wrong has its place in the file that it stands in.
  Write("sql/cities.sql", "SELECT\n  count(*) AS n,\n  m FROM by_city");
  EXPECT_THAT(Run({"test", "-f", file}).err, HasSubstr("/sql/cities.sql:3:3: "));
  Write("sql/cities.sql", "SELECT\n  count(*) AS n FROM by_city");
  std::string other = kOutside;
  other.replace(other.find("key: [city]"), 11, "kee: [city]");
  EXPECT_THAT(Run({"test", "-f", Write("other.yaml", other)}).err,
              HasSubstr("other.yaml:6:5: unknown key `kee`"));
}

TEST_F(TestCommandTest, AnOverlayIsPutInAndItsFaultsHaveTheirPlace) {
  const std::string file =
      Write("shop.yaml",
            "domain: shop\nsources: {s: {columns: {a: INTEGER}}}\n"
            "slices:\n  x: {sql: SELECT a FROM s}\n"
            "tests: [{name: t, given: {s: [{a: 1}]}, expect: {x: {rows: [{a: 1}]}}}]");
  const std::string overlay = Write("prod.yaml",
                                    "# the large machine\nlimits: {memory: 4GB}\n\n"
                                    "slices: {x: {refresh: {every: 30s}}}\n");
  const Outcome outcome = Run({"test", "-f", file, "--overlay", overlay});
  EXPECT_EQ(outcome.code, 0) << outcome.err << outcome.out;
  Write("prod.yaml", "limits: {memory: 4GB}\nslices:\n  x: {sql: SELECT 1}\n");
  EXPECT_THAT(Run({"test", "-f", file, "--overlay", overlay}).err,
              HasSubstr("/prod.yaml:3:7: unknown key `sql`"));
  Write("prod.yaml", "\n");
  EXPECT_THAT(Run({"test", "-f", file, "--overlay", overlay}).err, HasSubstr("prod.yaml is empty"));
  Write("more.yaml", "domain: more\nsources: {}\nslices: {}\n");
  EXPECT_THAT(Run({"test", "-f", directory_, "--overlay", overlay}).err,
              HasSubstr("--overlay belongs to one domain's file"));
}

TEST_F(TestCommandTest, AnSqlFileThatCannotBePutInHasItsPlace) {
  const auto error = [this](const std::string& slice) {
    return Run({"test", "-f",
                Write("d.yaml",
                      "domain: d\nsources: {s: {columns: {a: INTEGER}}}\n"
                      "slices:\n" +
                          slice)})
        .err;
  };
  EXPECT_THAT(error("  x:\n    sql_file: none.sql\n"), HasSubstr("d.yaml:5:15: "));
  EXPECT_THAT(error("  x: {sql_file: none.sql}\n"),
              HasSubstr("d.yaml:4:7: sql_file must stand on a line of its own"));
  EXPECT_THAT(error("  x:\n    sql_file: [a]\n"),
              HasSubstr("d.yaml:5:5: sql_file must be the path of a file"));
  Write("empty.sql", "\n \n");
  EXPECT_THAT(error("  x:\n    sql_file: empty.sql\n"), HasSubstr("empty.sql is empty"));
  Write("a.sql", "SELECT a FROM s");
  EXPECT_THAT(error("  x:\n    sql_file: a.sql\n    sql: SELECT a FROM s\n"),
              HasSubstr("`sql` is there twice"));
}

}  // namespace
}  // namespace icepie::cli
