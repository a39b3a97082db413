#include "server/domain/domain_limits.h"

#include <gtest/gtest.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <string>

namespace icepie::server {
namespace {

using icepie::v1::DomainLimit;

DomainLimit Find(const LimitList& limits, const std::string& name) {
  for (const DomainLimit& limit : limits) {
    if (limit.name() == name) return limit;
  }
  ADD_FAILURE() << "no limit " << name;
  return {};
}

TEST(DomainLimitsTest, WhatTheFileDoesNotStateFollowsTheSettings) {
  WorkerSettings settings;
  settings.memory_bytes = int64_t{1} << 30;
  settings.query_timeout_ms = 20000;
  icepie::catalog::v1::DomainEntry entry;
  KeepLimits({}, entry);
  LimitList limits = DescribeLimits(entry, settings);
  EXPECT_EQ(Find(limits, "memory").value(), int64_t{1} << 30);
  EXPECT_EQ(Find(limits, "memory").source(), DomainLimit::SETTINGS);
  EXPECT_EQ(Find(limits, "address_space").value(), int64_t{4} << 30);
  EXPECT_EQ(Find(limits, "query_timeout").value(), 20000);
  EXPECT_EQ(Find(limits, "recompute_time").value(), 120000);
  EXPECT_FALSE(Find(limits, "disk").has_value());
  EXPECT_FALSE(Find(limits, "idle_after").has_value());
  EXPECT_EQ(Find(limits, "max_result_rows").source(), DomainLimit::BUILT_IN);
  // The daemon starts with other settings: the same entry follows them.
  settings.memory_bytes = int64_t{256} << 20;
  settings.disk_bytes = 1000;
  settings.idle_after_ms = 60000;
  limits = DescribeLimits(entry, settings);
  EXPECT_EQ(Find(limits, "memory").value(), int64_t{256} << 20);
  EXPECT_EQ(Find(limits, "address_space").value(), int64_t{2} << 30);
  EXPECT_EQ(Find(limits, "disk").value(), 1000);
  EXPECT_EQ(Find(limits, "idle_after").value(), 60000);
  EXPECT_EQ(Find(limits, "idle_after").source(), DomainLimit::SETTINGS);
}

TEST(DomainLimitsTest, ADomainHasAPartOfTheDiskWithoutAskingForOne) {
  EXPECT_EQ(DiskBytesByDefault(0, "/"), 0) << "no limit, on purpose";
  EXPECT_EQ(DiskBytesByDefault(5000, "/"), 5000);
  struct statvfs disk {};
  ASSERT_EQ(::statvfs("/", &disk), 0);
  const auto half = static_cast<int64_t>(disk.f_blocks * disk.f_frsize) / 2;
  EXPECT_EQ(DiskBytesByDefault(-1, "/"), std::max(half, int64_t{1} << 30));
  EXPECT_EQ(DiskBytesByDefault(-1, "/proc"), 0) << "of which nobody knows the size";
}

TEST(DomainLimitsTest, WhatTheFileStatesStaysUntilItStatesNothingMore) {
  icepie::worker::v1::PlanDomainResponse plan;
  plan.set_memory_limit_bytes(int64_t{64} << 20);
  plan.set_disk_limit_bytes(5000);
  plan.set_query_timeout_ms(5000);
  plan.set_max_result_rows(100000);  // what is also built in
  plan.set_kept_rows(0);
  plan.set_idle_after_ms(0);  // never
  icepie::catalog::v1::DomainEntry entry;
  KeepLimits(plan, entry);
  WorkerSettings settings;
  settings.idle_after_ms = 60000;
  LimitList limits = DescribeLimits(entry, settings);
  for (const char* name :
       {"memory", "disk", "query_timeout", "max_result_rows", "kept_rows", "idle_after"}) {
    EXPECT_EQ(Find(limits, name).source(), DomainLimit::FILE) << name;
  }
  EXPECT_EQ(Find(limits, "memory").value(), int64_t{64} << 20);
  EXPECT_EQ(Find(limits, "recompute_time").value(), 60000);
  EXPECT_TRUE(Find(limits, "kept_rows").has_value());
  EXPECT_EQ(Find(limits, "kept_rows").value(), 0);
  EXPECT_FALSE(Find(limits, "idle_after").has_value());
  KeepLimits({}, entry);
  limits = DescribeLimits(entry, settings);
  EXPECT_NE(Find(limits, "memory").source(), DomainLimit::FILE);
  EXPECT_NE(Find(limits, "kept_rows").source(), DomainLimit::FILE);
  EXPECT_EQ(Find(limits, "idle_after").value(), 60000);
}

}  // namespace
}  // namespace icepie::server
