// What tests/core/append_child.cc appends, and who looks for it afterwards.
#ifndef ICEPIE_TESTS_CORE_APPEND_BATCHES_H_
#define ICEPIE_TESTS_CORE_APPEND_BATCHES_H_

#include <cstdint>
#include <string>
#include <utility>

#include "core/core.h"

namespace icepie {

inline constexpr int64_t kCrashBatchRecords = 5;

// The batch of `thread` whose first record in its own stream has the offset `first`.
inline AppendBatch CrashBatch(int thread, int64_t first) {
  AppendBatch batch;
  for (int64_t n = first; n < first + kCrashBatchRecords; ++n) {
    NewRecord record;
    record.stream = "own" + std::to_string(thread);
    record.payload = "{\"n\":" + std::to_string(n) + "}";
    batch.records.push_back(std::move(record));
  }
  NewRecord shared;
  shared.stream = "shared";
  shared.payload = "{\"t\":" + std::to_string(thread) +
                   ",\"n\":" + std::to_string(first / kCrashBatchRecords) + "}";
  batch.records.push_back(std::move(shared));
  if (thread == 0) batch.conditions.push_back({batch.records[0].stream, first});
  if (thread == 1) batch.identity = AppendIdentity{"batch-" + std::to_string(first), "", 0, 0};
  if (thread == 2) batch.identity = AppendIdentity{"", "thread-2", 0, first / kCrashBatchRecords};
  return batch;
}

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_APPEND_BATCHES_H_
