#include "core/log/wal_order.h"

#include <rocksdb/write_batch.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/byte_order.h"
#include "core/log/wal_check.h"

namespace icepie {

rocksdb::WalFilter::WalProcessingOption WalOrder::LogRecordFound(unsigned long long /*number*/,
                                                                 const std::string& path,
                                                                 const rocksdb::WriteBatch& batch,
                                                                 rocksdb::WriteBatch* /*new_batch*/,
                                                                 bool* /*changed*/) {
  // A batch begins with its sequence number; RocksDB has seen that it is there.
  const auto sequence = GetLittleEndian<uint64_t>(batch.Data().data());
  if (next_ && sequence != *next_) {
    if (gap_.empty()) {
      gap_ = absl::StrCat("write-ahead log ", path, " does not go on where ", last_path_,
                          " ends (at entry ", *next_, ", and it begins at ", sequence, "): ",
                          HasTornEnd(last_path_)
                              ? "that one ends within a record, so it has lost its end"
                              : "that one has lost its end, or one between them is missing");
    }
    return WalProcessingOption::kCorruptedRecord;
  }
  next_ = sequence + static_cast<uint64_t>(batch.Count());
  last_path_ = path;
  return WalProcessingOption::kContinueProcessing;
}

void WalOrder::ColumnFamilyLogNumberMap(const std::map<uint32_t, uint64_t>& first_needed,
                                        const std::map<std::string, uint32_t>& /*ids*/) {
  first_needed_ = UINT64_MAX;
  for (const auto& [family, number] : first_needed) {
    first_needed_ = std::min(first_needed_, number);
  }
}

}  // namespace icepie
