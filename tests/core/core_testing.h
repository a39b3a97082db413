// Short ways to make records and to read a whole core, for tests.
#ifndef ICEPIE_TESTS_CORE_CORE_TESTING_H_
#define ICEPIE_TESTS_CORE_CORE_TESTING_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "core/base/check.h"
#include "core/block/block.h"
#include "core/core.h"
#include "gtest/gtest.h"

namespace icepie {

inline NewRecord MakeRecord(const std::string& stream, std::string payload) {
  NewRecord record;
  record.stream = stream;
  record.payload = std::move(payload);
  return record;
}

// `count` records {"n":first}, {"n":first+1}, …
inline AppendBatch NumberedBatch(const std::string& stream, int64_t first, int64_t count) {
  AppendBatch batch;
  for (int64_t n = first; n < first + count; ++n) {
    batch.records.push_back(MakeRecord(stream, "{\"n\":" + std::to_string(n) + "}"));
  }
  return batch;
}

// Sealing as soon as there are 2 KiB of blocks beside the newest 512 bytes. Segments stay as small
// as that makes them.
inline SealingOptions SmallSegments() {
  SealingOptions sealing;
  sealing.segment_bytes = 2 << 10;
  sealing.grows_segments = false;
  sealing.hot_bytes_min = 512;
  sealing.age_min = absl::ZeroDuration();
  sealing.look_interval = absl::Milliseconds(1);
  return sealing;
}

inline std::unique_ptr<Core> OpenCore(const std::string& directory,
                                      const SealingOptions& sealing = {}) {
  CoreOptions options;
  options.directory = directory;
  options.sealing = sealing;
  auto core = Core::Open(options);
  EXPECT_TRUE(core.ok()) << core.status();
  ICEPIE_CHECK(core.ok());
  return std::move(core).value();
}

// Waits for something that a thread of the core does by itself. The sealer and the scrub get what
// time others leave them.
template <typename Condition>
bool EventuallyInCore(const Condition& condition) {
  for (int i = 0; i < 12000; ++i) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return false;
}

struct ReadRecord {
  std::string stream;
  int64_t position;
  int64_t offset;
  std::string payload;
};

// Every record of `streams` (empty: all) from `from` on, in pieces of `bytes_max`.
inline std::vector<ReadRecord> ReadAll(const Core& core,
                                       const std::vector<std::string>& streams = {},
                                       int64_t from = 0, int64_t bytes_max = 1 << 20) {
  std::vector<ReadRecord> records;
  const int64_t head = core.head_position();
  while (from < head) {
    const auto range = core.ReadBlocks(streams, from, head, bytes_max);
    EXPECT_TRUE(range.ok()) << range.status();
    if (!range.ok()) return records;
    for (const StoredBlock& stored : range->blocks) {
      const auto block = DecodedBlock::Decode(stored.data);
      EXPECT_TRUE(block.ok()) << block.status();
      if (!block.ok()) return records;
      for (const RecordView& view : block->records()) {
        if (view.position < from) continue;
        records.push_back({stored.stream, view.position, view.offset, std::string(view.payload)});
      }
    }
    EXPECT_GT(range->complete_position, from);
    if (range->complete_position <= from) return records;
    from = range->complete_position;
  }
  return records;
}

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_CORE_TESTING_H_
