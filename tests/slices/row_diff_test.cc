#include "slices/reading/row_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::slices {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class RowDiffTest : public ::testing::Test {
 protected:
  void SetUp() override {
    database_ = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
    connection_ = DuckConnection::Connect(*database_).value();
  }

  // Makes `__result` of the database `name`.
  void Result(const std::string& name, const std::string& sql) {
    const absl::Status status = connection_->Run(
        absl::StrCat("ATTACH ':memory:' AS ", name, "; CREATE TABLE ", name, ".__data AS ", sql,
                     "; CREATE VIEW ", name, ".__result AS FROM ", name, ".__data"));
    ASSERT_TRUE(status.ok()) << status;
  }

  RowDiff Diff(const std::vector<std::string>& key,
               const std::map<std::string, double>& tolerance = {}) {
    auto diff = DiffResults(*connection_, "g1", "g2", key, tolerance);
    EXPECT_TRUE(diff.ok()) << diff.status();
    return diff.ok() ? *std::move(diff) : RowDiff();
  }

  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
};

std::string Counts(const RowDiff& diff) {
  return absl::StrCat(diff.base_rows, "->", diff.rows, " +", diff.added, " -", diff.removed, " ~",
                      diff.changed);
}

TEST_F(RowDiffTest, ComparesByKeyWithNulls) {
  Result("g1",
         "SELECT * FROM (VALUES (1, 'a', 10), (2, NULL, 20), (3, 'c', NULL), (5, 'e', 50)) "
         "AS t(id, name, v)");
  Result("g2",
         "SELECT * FROM (VALUES (1, 'a', 10), (2, NULL, 21), (3, 'c', 30), (4, 'd', 40)) "
         "AS t(id, name, v)");
  const RowDiff diff = Diff({"id", "name"});
  EXPECT_EQ(Counts(diff), "4->4 +1 -1 ~2");
  EXPECT_EQ(diff.not_by_key, "");
  EXPECT_THAT(
      diff.samples,
      ElementsAre(
          R"({"change":"changed","before":{"id":2,"name":null,"v":20},"after":{"id":2,"name":null,"v":21}})",
          R"({"change":"changed","before":{"id":3,"name":"c","v":null},"after":{"id":3,"name":"c","v":30}})",
          R"({"change":"added","before":null,"after":{"id":4,"name":"d","v":40}})",
          R"({"change":"removed","before":{"id":5,"name":"e","v":50},"after":null})"));
  EXPECT_FALSE(diff.empty());
}

TEST_F(RowDiffTest, ListsAndStructsAreComparedByTheirParts) {
  const std::string rows =
      "SELECT * FROM (VALUES (1, [{'k': 'gas', 'v': 1.50::DECIMAL(4,2)}]), (2, []), (3, NULL), (4, "
      "[NULL])) AS t(id, fees)";
  Result("g1", rows);
  Result("g2", absl::StrCat("SELECT id, CASE id WHEN 1 THEN [{'k': 'gas', 'v': "
                            "1.51::DECIMAL(4,2)}] WHEN 3 THEN [] ELSE fees END AS fees FROM (",
                            rows, ")"));
  const RowDiff diff = Diff({"id"});
  EXPECT_EQ(Counts(diff), "4->4 +0 -0 ~2");
  EXPECT_THAT(
      diff.samples,
      ElementsAre(
          R"({"change":"changed","before":{"id":1,"fees":[{"k":"gas","v":1.50}]},"after":{"id":1,"fees":[{"k":"gas","v":1.51}]}})",
          R"({"change":"changed","before":{"id":3,"fees":null},"after":{"id":3,"fees":[]}})"));
}

TEST_F(RowDiffTest, EqualResultsDoNotDiffer) {
  Result("g1", "SELECT i AS id, i / 7 AS v FROM range(10000) AS r(i)");
  Result("g2", "SELECT i AS id, i / 7 AS v FROM range(10000) AS r(i) ORDER BY i DESC");
  for (const std::vector<std::string>& key : {std::vector<std::string>{"id"}, {}}) {
    const RowDiff diff = Diff(key);
    EXPECT_EQ(Counts(diff), "10000->10000 +0 -0 ~0");
    EXPECT_TRUE(diff.empty());
    EXPECT_THAT(diff.samples, IsEmpty());
  }
}

TEST_F(RowDiffTest, DoublesMayDifferByTheirTolerance) {
  Result("g1",
         "SELECT * FROM (VALUES (1, 1e10::DOUBLE, 100::BIGINT), (2, 1::DOUBLE, 100), "
         "(3, 'nan'::DOUBLE, 0), (4, 'inf'::DOUBLE, 0), (5, 0::DOUBLE, 0), (6, 1::DOUBLE, 0)) "
         "AS t(id, v, n)");
  Result("g2",
         "SELECT * FROM (VALUES (1, 1e10::DOUBLE + 1, 100::BIGINT), (2, 1.000001::DOUBLE, 101), "
         "(3, 'nan'::DOUBLE, 0), (4, 1::DOUBLE, 0), (5, -0.0::DOUBLE, 0), (6, NULL, 0)) "
         "AS t(id, v, n)");
  EXPECT_EQ(Counts(Diff({"id"})), "6->6 +0 -0 ~3");  // 2, 4 and 6
  EXPECT_EQ(Counts(Diff({"id"}, {{"v", 1e-3}, {"n", 0.02}})), "6->6 +0 -0 ~2");
  EXPECT_EQ(Counts(Diff({"id"}, {{"v", 0}})), "6->6 +0 -0 ~4");
}

TEST_F(RowDiffTest, SaysWhichColumnsAreNotCompared) {
  Result("g1", "SELECT 1 AS id, 2 AS gone, 3 AS retyped, 4 AS v");
  Result("g2", "SELECT 1 AS id, 'x' AS fresh, '3' AS retyped, 5 AS v");
  const RowDiff diff = Diff({"id"});
  EXPECT_EQ(Counts(diff), "1->1 +0 -0 ~1");
  ASSERT_THAT(diff.columns, SizeIs(3));
  EXPECT_EQ(diff.columns[0].name, "gone");
  EXPECT_EQ(diff.columns[0].new_type, "");
  EXPECT_EQ(diff.columns[1].name, "retyped");
  EXPECT_EQ(diff.columns[1].base_type, "INTEGER");
  EXPECT_EQ(diff.columns[1].new_type, "VARCHAR");
  EXPECT_EQ(diff.columns[2].name, "fresh");
  EXPECT_EQ(diff.columns[2].base_type, "");
  EXPECT_THAT(diff.samples,
              ElementsAre(R"({"change":"changed","before":{"id":1,"gone":2,"retyped":3,"v":4},)"
                          R"("after":{"id":1,"fresh":"x","retyped":"3","v":5}})"));
}

TEST_F(RowDiffTest, WithoutAKeyDoublesAreComparedExactlyAndThatIsSaid) {
  Result("g1", "SELECT 'a' AS k, 0.1::DOUBLE + 0.2::DOUBLE AS v");
  Result("g2", "SELECT 'a' AS k, 0.3::DOUBLE AS v");
  const RowDiff whole = Diff({});
  EXPECT_EQ(Counts(whole), "1->1 +1 -1 ~0");
  EXPECT_EQ(whole.not_by_key,
            "the slice has no key; without one, DOUBLE columns must be equal to the last digit");
  EXPECT_EQ(Counts(Diff({"k"})), "1->1 +0 -0 ~0");
}

TEST_F(RowDiffTest, WithoutAKeyRowsAreMultisets) {
  Result("g1", "SELECT * FROM (VALUES (1, NULL), (1, NULL), (1, NULL), (2, 'b')) AS t(a, b)");
  Result("g2", "SELECT * FROM (VALUES (1, NULL), (2, 'b'), (2, 'b'), (3, 'c')) AS t(a, b)");
  const RowDiff diff = Diff({});
  EXPECT_EQ(Counts(diff), "4->4 +2 -2 ~0");
  EXPECT_EQ(diff.not_by_key, "the slice has no key");
  EXPECT_THAT(diff.samples,
              ElementsAre(R"({"change":"removed","before":{"a":1,"b":null},"after":null})",
                          R"({"change":"added","before":null,"after":{"a":2,"b":"b"}})",
                          R"({"change":"added","before":null,"after":{"a":3,"b":"c"}})"));
}

TEST_F(RowDiffTest, AKeyThatIsNotUniqueIsNone) {
  Result("g1", "SELECT * FROM (VALUES (1, 1), (2, 2)) AS t(id, v)");
  Result("g2", "SELECT * FROM (VALUES (1, 1), (1, 2), (2, 2)) AS t(id, v)");
  const RowDiff diff = Diff({"id"});
  EXPECT_EQ(Counts(diff), "2->3 +1 -0 ~0");
  EXPECT_THAT(diff.not_by_key, HasSubstr("(id) is not unique in the new generation: 1 keys"));
}

TEST_F(RowDiffTest, AKeyColumnOfOneSideIsNone) {
  Result("g1", "SELECT 1 AS id, 2 AS v");
  Result("g2", "SELECT '1' AS id, 2 AS v");
  const RowDiff diff = Diff({"id"});
  EXPECT_EQ(Counts(diff), "1->1 +0 -0 ~0");
  EXPECT_EQ(diff.not_by_key, "key column id is not the same in both");
  EXPECT_FALSE(diff.empty());
}

TEST_F(RowDiffTest, NothingInCommonIsAllRemovedAndAdded) {
  Result("g1", "SELECT i AS a FROM range(3) AS r(i)");
  Result("g2", "SELECT i AS b FROM range(2) AS r(i)");
  EXPECT_EQ(Counts(Diff({"a"})), "3->2 +2 -3 ~0");
}

TEST_F(RowDiffTest, SamplesAreFewAndInKeyOrder) {
  Result("g1", "SELECT i AS id FROM range(0) AS r(i)");
  Result("g2", "SELECT 5000 - i AS id, repeat('x', 100) AS t FROM range(5000) AS r(i)");
  const RowDiff diff = Diff({"id"});
  EXPECT_EQ(diff.added, 5000);
  ASSERT_THAT(diff.samples, SizeIs(kDiffSamplesMax));
  EXPECT_THAT(diff.samples.front(), HasSubstr("\"id\":1,"));
  EXPECT_THAT(diff.samples.back(), HasSubstr("\"id\":20,"));
}

TEST_F(RowDiffTest, LargeRowsMakeFewerSamples) {
  Result("g1", "SELECT 1::BIGINT AS id, '' AS t LIMIT 0");
  Result("g2", "SELECT i AS id, repeat('x', 100000) AS t FROM range(10) AS r(i)");
  EXPECT_THAT(Diff({"id"}).samples, SizeIs(2));
}

// "+1 -0 ~2 besides"
std::string Besides(const RowDiff& diff) {
  if (!diff.besides) return "none";
  return absl::StrCat("+", diff.besides->added, " -", diff.besides->removed, " ~",
                      diff.besides->changed);
}

class KnownDifferencesTest : public RowDiffTest {
 protected:
  // g1 to g2, besides where g1 and `between` already differ.
  RowDiff DiffBesides(const std::vector<std::string>& key) {
    const auto known = NoteDifferences(*connection_, "g1", "between", key, {}, "__known");
    EXPECT_TRUE(known.ok()) << known.status();
    auto diff = DiffResults(*connection_, "g1", "g2", key, {}, *known);
    EXPECT_TRUE(diff.ok()) << diff.status();
    return *std::move(diff);
  }
};

TEST_F(KnownDifferencesTest, OfKeysAreCountedApart) {
  Result("g1", "SELECT * FROM (VALUES (1, 10), (2, 20), (3, 30), (4, 40), (NULL, 0)) AS t(id, v)");
  Result("between", "SELECT * FROM (VALUES (1, 10), (2, 21), (3, 30), (NULL, 0)) AS t(id, v)");
  // Of 2 another value again, 4 came back, 3 is gone, 1 and NULL are others now, 5 is new.
  Result("g2", "SELECT * FROM (VALUES (1, 11), (2, 22), (4, 41), (5, 50), (NULL, 1)) AS t(id, v)");
  const RowDiff diff = DiffBesides({"id"});
  EXPECT_EQ(Counts(diff), "5->5 +1 -1 ~4");
  EXPECT_EQ(Besides(diff), "+1 -1 ~2");
  ASSERT_THAT(diff.samples, SizeIs(6));
  EXPECT_EQ(diff.samples[0],
            R"({"change":"changed","before":{"id":2,"v":20},"after":{"id":2,"v":22},)"
            R"("from_quarantine":false})");
  EXPECT_THAT(diff.samples[1], HasSubstr(R"("id":4,"v":41},"from_quarantine":false)"));
  EXPECT_THAT(diff.samples[2], HasSubstr(R"("id":1,"v":11},"from_quarantine":true)"));
}

TEST_F(KnownDifferencesTest, OfWholeRowsAreCountedApart) {
  Result("g1", "SELECT * FROM (VALUES (1, [1]), (1, [1]), (2, NULL), (3, [3])) AS t(a, b)");
  Result("between", "SELECT * FROM (VALUES (1, [1]), (2, NULL), (3, [3])) AS t(a, b)");
  Result("g2", "SELECT * FROM (VALUES (2, NULL), (2, NULL), (2, NULL), (4, [4])) AS t(a, b)");
  const RowDiff diff = DiffBesides({});
  EXPECT_EQ(Counts(diff), "4->4 +3 -3 ~0");
  EXPECT_EQ(Besides(diff), "+3 -1 ~0");
}

TEST_F(KnownDifferencesTest, ThatWereFoundInAnotherWaySayNothing) {
  Result("g1", "SELECT 1 AS id, 1 AS v");
  Result("between", "SELECT 1 AS id, 2 AS v UNION ALL SELECT 1, 3");
  Result("g2", "SELECT 1 AS id, 4 AS v");
  const RowDiff diff = DiffBesides({"id"});
  EXPECT_EQ(Counts(diff), "1->1 +0 -0 ~1");
  EXPECT_EQ(Besides(diff), "none");
  EXPECT_FALSE(NoteDifferences(*connection_, "g1", "g2", {}, {}, "__known")->by_key);
}

TEST_F(RowDiffTest, NamesNeedNoCare) {
  Result("g1", "SELECT 1 AS \"a\"\"b\", [1.5] AS \"it's\"");
  Result("g2", "SELECT 1 AS \"a\"\"b\", [2.5] AS \"it's\"");
  const RowDiff diff = Diff({"a\"b"});
  EXPECT_EQ(Counts(diff), "1->1 +0 -0 ~1");
  EXPECT_THAT(diff.samples[0], HasSubstr(R"("it's":[1.5])"));
}

}  // namespace
}  // namespace icepie::slices
