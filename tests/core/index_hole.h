// A damage to the index: some of its entries are gone.
#ifndef ICEPIE_TESTS_CORE_INDEX_HOLE_H_
#define ICEPIE_TESTS_CORE_INDEX_HOLE_H_

#include <rocksdb/db.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/byte_order.h"
#include "gtest/gtest.h"

namespace icepie {

// Takes the entries of [from, end) out of the index of the closed log in `directory`.
inline void MakeIndexHole(const std::string& directory, int64_t from, int64_t end) {
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const char* name : {"default", "log", "index", "catalog", "tree"}) {
    rocksdb::ColumnFamilyOptions family;
    family.compression = rocksdb::kNoCompression;
    families.emplace_back(name, family);
  }
  rocksdb::DB* opened = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  ASSERT_TRUE(rocksdb::DB::Open({}, directory, families, &handles, &opened).ok());
  const std::unique_ptr<rocksdb::DB> db(opened);
  for (int64_t position = from; position < end; ++position) {
    std::string key;
    PutBigEndian(key, position);
    EXPECT_TRUE(db->Delete({}, handles[2], key).ok());
  }
  for (rocksdb::ColumnFamilyHandle* handle : handles) {
    EXPECT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
  }
}

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_INDEX_HOLE_H_
