#include "slices/duckdb/freed_memory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "slices/duckdb/duckdb.h"

namespace icepie::slices {
namespace {

int64_t PrivateKib() {
  std::ifstream file("/proc/self/smaps_rollup");
  std::string word;
  int64_t kib = -1;
  while (file >> word) {
    if (word == "Private_Dirty:" && file >> kib) break;
  }
  return kib;
}

TEST(FreedMemoryTest, WhatATableHadIsReturned) {
  constexpr int64_t kTableKib = int64_t{16} << 10;
  const auto database = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
  const auto connection = DuckConnection::Connect(*database).value();
  // Closed again, as that of a plan: it ends what DuckDB may do about this by itself.
  ASSERT_TRUE(DuckDatabase::OpenInMemory({{"threads", "1"}}).ok());
  ASSERT_TRUE(connection->Run("CREATE TABLE t AS SELECT range AS a FROM range(3000000)").ok());
  const int64_t full = PrivateKib();
  ASSERT_GT(full, kTableKib);
  ASSERT_TRUE(connection->Run("DROP TABLE t").ok());
  ReturnFreedMemory();
  EXPECT_LT(PrivateKib(), full - kTableKib);
}

}  // namespace
}  // namespace icepie::slices
