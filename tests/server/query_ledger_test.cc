#include "server/query/query_ledger.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/query/query_fingerprint.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'000'000);

TEST(QueryLedgerTest, TwoDeathsThatItIsToBlameForAreEnough) {
  QueryLedger ledger;
  EXPECT_FALSE(ledger.OnDeath("killer", true, kNow));
  EXPECT_FALSE(ledger.BlockedUntil("killer", kNow).has_value());
  EXPECT_TRUE(ledger.OnDeath("killer", true, kNow));
  EXPECT_EQ(ledger.BlockedUntil("killer", kNow), kNow + QueryLedger::kBlockFor);
  EXPECT_FALSE(ledger.BlockedUntil("other", kNow).has_value());
  const absl::Time later = kNow + QueryLedger::kBlockFor;
  EXPECT_FALSE(ledger.BlockedUntil("killer", later).has_value());
  // Once more is enough then, and for longer.
  EXPECT_TRUE(ledger.OnDeath("killer", true, later));
  EXPECT_EQ(ledger.BlockedUntil("killer", later), later + 2 * QueryLedger::kBlockFor);
}

TEST(QueryLedgerTest, WhoIsThereAtEveryDeathAndAnsweredInBetweenIsInnocent) {
  QueryLedger ledger;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(ledger.OnDeath("dashboard", false, kNow));
    ledger.OnAnswered("dashboard");
  }
  for (int i = 1; i < QueryLedger::kPointsToBlock; ++i) {
    EXPECT_FALSE(ledger.OnDeath("slow", false, kNow));
  }
  EXPECT_TRUE(ledger.OnDeath("slow", false, kNow));
}

TEST(QueryLedgerTest, AHarmlessOneOfTheSameFormDoesNotExcuseADeadlyOne) {
  QueryLedger ledger;
  EXPECT_FALSE(ledger.OnDeath("form", true, kNow));
  ledger.OnAnswered("form");  // with other constants
  EXPECT_TRUE(ledger.OnDeath("form", true, kNow));
  ledger.OnAnswered("form");  // one that was under way
  EXPECT_TRUE(ledger.BlockedUntil("form", kNow).has_value());
  // What was long ago is forgiven, the first time.
  EXPECT_FALSE(ledger.OnDeath("other", true, kNow));
  EXPECT_FALSE(ledger.OnDeath("other", true, kNow + absl::Hours(2)));
}

TEST(QueryLedgerTest, WhatAQueryIsToBlameForOutlastsTheDaemon) {
  const TempDirectory directory;
  const std::string file = directory.path() + "/refused_queries";
  {
    QueryLedger ledger(file);
    ledger.OnDeath("killer", true, kNow);
    ledger.OnDeath("killer", true, kNow);
    ledger.OnDeath("once", true, kNow);
    ledger.OnDeath("there", false, kNow);
    ledger.OnDeath("a b", true, kNow);  // which no query has
  }
  QueryLedger ledger(file);
  EXPECT_EQ(ledger.BlockedUntil("killer", kNow), kNow + QueryLedger::kBlockFor);
  EXPECT_FALSE(ledger.BlockedUntil("once", kNow).has_value());
  EXPECT_TRUE(ledger.OnDeath("once", true, kNow));
  for (int i = 1; i < QueryLedger::kPointsToBlock; ++i) {
    EXPECT_FALSE(ledger.OnDeath("there", false, kNow));
  }
  // The next refusal is the longer one.
  const absl::Time later = kNow + QueryLedger::kBlockFor;
  EXPECT_TRUE(ledger.OnDeath("killer", true, later));
  EXPECT_EQ(QueryLedger(file).BlockedUntil("killer", later), later + 2 * QueryLedger::kBlockFor);
}

TEST(QueryLedgerTest, NoRefusalLastsLongerBecauseTheClockWasSetBack) {
  const absl::Time earlier = kNow - absl::Hours(100);
  QueryLedger ledger;
  ledger.OnDeath("killer", true, kNow);
  EXPECT_TRUE(ledger.OnDeath("killer", true, kNow));
  EXPECT_FALSE(ledger.BlockedUntil("killer", earlier).has_value());
  // It has one chance, as when a refusal is over.
  EXPECT_TRUE(ledger.OnDeath("killer", true, earlier));
  EXPECT_EQ(ledger.BlockedUntil("killer", earlier), earlier + 2 * QueryLedger::kBlockFor);
}

TEST(QueryLedgerTest, ItsSizeIsBounded) {
  QueryLedger ledger;
  ledger.OnDeath("old", true, kNow);
  for (size_t i = 0; i < QueryLedger::kEntriesMax; ++i) {
    ledger.OnDeath(absl::StrCat(i), true, kNow + absl::Seconds(1));
  }
  EXPECT_FALSE(ledger.OnDeath("old", true, kNow)) << "it was forgotten";
}

TEST(QueryFingerprintTest, ConstantsSpacesCommentsAndCaseDoNotCount) {
  EXPECT_EQ(NormalizedSql("SELECT a, 'it''s' FROM \"T\" WHERE x > 1.5e3 -- why\n AND y=.5"),
            "select a , ? from \"t\" where x > ? and y = ?");
  EXPECT_EQ(NormalizedSql("select  A,/* no */'b' from \"T\" where X>2 and y=$$z$$"),
            "select a , ? from \"t\" where x > ? and y = ?");
  EXPECT_EQ(NormalizedSql("t1.c2 + 0x1F"), "t1 . c2 + ?");
  EXPECT_NE(NormalizedSql("SELECT a FROM t"), NormalizedSql("SELECT b FROM t"));
  for (const char* broken : {"'never ends", "/* neither", "\"nor this", "$$", "--", "", "."}) {
    NormalizedSql(broken);
  }
}

TEST(QueryFingerprintTest, DomainsAndSelectionsDiffer) {
  icepie::v1::QueryRequest request;
  request.set_domain("shop");
  request.set_sql("SELECT 1");
  const std::string sql = QueryFingerprint(request);
  EXPECT_EQ(sql.size(), 32U);
  request.set_domain("bank");
  EXPECT_NE(QueryFingerprint(request), sql);
  request.mutable_select()->set_slice("a");
  const std::string whole = QueryFingerprint(request);
  auto* filter = request.mutable_select()->add_filters();
  filter->set_column("b");
  filter->add_values()->set_integer(1);
  const std::string filtered = QueryFingerprint(request);
  EXPECT_NE(filtered, whole);
  filter->mutable_values(0)->set_integer(2);
  EXPECT_EQ(QueryFingerprint(request), filtered);
}

}  // namespace
}  // namespace icepie::server
