// What is sealed is dropped as ranges, and stays below them in the tables until a compaction comes
// by. It is not seen, and a disk that cannot read a table ends no process and hides nothing else.
#include <rocksdb/db.h>
#include <rocksdb/options.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/block/block.h"
#include "core/log/log_store.h"
#include "core/record.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/failing_file_system.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

using testing::ElementsAreArray;

constexpr uint32_t kStream = 7;
constexpr int64_t kMoved = 600;    // of those before it the blocks are in the lowest level
constexpr int64_t kEnd = 1200;     // of the log
constexpr int64_t kDropped = 850;  // what comes before it is dropped

// Every block has one record, so its place in its stream is its position.
LogEntry EntryAt(int64_t position, size_t bytes) {
  std::string payload;
  uint32_t state = static_cast<uint32_t>(position) + 1;
  while (payload.size() < bytes) {  // hardly compresses
    state = state * 1664525 + 1013904223;
    payload += static_cast<char>('a' + (state >> 24) % 26);
  }
  const NewRecord record = {"a", {}, payload, {}, {}};
  const NewRecord* const records[] = {&record};
  BlockHeader header;
  header.stream_id = kStream;
  header.first_position = position;
  header.first_offset = position;
  return {{position, kStream, position, 1, 0}, EncodeBlock(header, records)};
}

// The size of the records: whether a block is dropped is found out in another way for large ones.
class DroppedRangesTest : public testing::TestWithParam<size_t> {
 protected:
  DroppedRangesTest() : env_(rocksdb::NewCompositeEnv(file_system_)) {}

  void SetUp() override {
    Change([](LogStore& store) { Commit(store, 0, kMoved); });
    Merge(6);
    Change([](LogStore& store) {
      Commit(store, kMoved, kEnd);
      for (int64_t i = 0; i < 700; i += 100) Drop(store, i, i + 100);
    });
    Merge(1);
    Change([this](LogStore& store) {
      Drop(store, 700, 750);
      ASSERT_TRUE(store.CopyTo(directory_.path() + "/copy1").ok());  // flushes
      Drop(store, 750, 800);
      ASSERT_TRUE(store.CopyTo(directory_.path() + "/copy2").ok());
      Drop(store, 800, kDropped);
    });
    store_ = *LogStore::Open({log_, LogStore::Mode::kReadOnly, env_.get()});
  }

  void Change(const std::function<void(LogStore&)>& change) const {
    change(**LogStore::Open({log_, LogStore::Mode::kReadWrite}));
  }

  static void Commit(LogStore& store, int64_t from, int64_t end) {
    std::vector<LogEntry> entries;
    for (int64_t i = from; i < end; ++i) entries.push_back(EntryAt(i, GetParam()));
    ASSERT_TRUE(store.Commit(entries, {}, {}).ok());
  }

  static void Drop(LogStore& store, int64_t from, int64_t end) {
    ASSERT_TRUE(store.DropSealed({{"g", "s"}, from, end, {{kStream, from, end}}}).ok());
  }

  // Everything in memory and in level 0 becomes tables of `level`, small ones if it is not the
  // last.
  void Merge(int level) const {
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const char* name : {"default", "log", "index", "catalog", "tree"}) {
      rocksdb::ColumnFamilyOptions family;
      family.compression = rocksdb::kNoCompression;
      family.disable_auto_compactions = true;
      families.emplace_back(name, family);
    }
    rocksdb::DB* opened = nullptr;
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    ASSERT_TRUE(rocksdb::DB::Open({}, log_, families, &handles, &opened).ok());
    const auto db = absl::WrapUnique(opened);
    for (rocksdb::ColumnFamilyHandle* handle : handles) {
      EXPECT_TRUE(db->Flush({}, handle).ok());
      rocksdb::ColumnFamilyMetaData meta;
      db->GetColumnFamilyMetaData(handle, &meta);
      std::vector<std::string> names;
      for (const auto& file : meta.levels[0].files) names.push_back(file.name);
      rocksdb::CompactionOptions options;
      options.compression = rocksdb::kNoCompression;
      if (level == 1) options.output_file_size_limit = 8192;
      EXPECT_TRUE(names.empty() || db->CompactFiles(options, handle, names, level).ok());
      if (level == 1 && handle->GetName() == "log") {
        db->GetColumnFamilyMetaData(handle, &meta);
        EXPECT_GT(meta.levels[1].files.size(), 2U);
        EXPECT_FALSE(meta.levels[6].files.empty());
      }
    }
    for (rocksdb::ColumnFamilyHandle* handle : handles) {
      EXPECT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
    }
  }

  // Each way of reading; nothing but DATA_LOSS or all that there is.
  std::vector<std::function<void()>> Reads() const {
    std::vector<std::function<void()>> reads;
    reads.emplace_back([this] {
      const auto last = store_->LastPlace();
      if (!Failed(last.status())) EXPECT_EQ(last->value().first_position, kEnd - 1);
    });
    reads.emplace_back([this] {
      const auto block = store_->LastBlock(kStream);
      if (!Failed(block.status())) EXPECT_EQ(block->value(), EntryAt(kEnd - 1, GetParam()).block);
    });
    reads.emplace_back([this] {
      const auto block = store_->BlockAtOffset(kStream, kDropped);
      if (!Failed(block.status())) EXPECT_EQ(block->value(), EntryAt(kDropped, GetParam()).block);
    });
    for (const int64_t offset : {int64_t{0}, kMoved, int64_t{720}, kDropped - 1}) {
      reads.emplace_back([this, offset] {
        const auto block = store_->BlockAtOffset(kStream, offset);
        if (!Failed(block.status())) EXPECT_EQ(*block, std::nullopt);
      });
    }
    for (const int64_t from :
         {int64_t{0}, int64_t{650}, int64_t{720}, kDropped - 1, kDropped + 9}) {
      reads.emplace_back([this, from] {
        std::vector<int64_t> seen;
        const absl::Status status = store_->VisitPlaces(from, kEnd, Collect(seen));
        if (!Failed(status)) EXPECT_THAT(seen, ElementsAreArray(From(std::max(from, kDropped))));
      });
    }
    reads.emplace_back([this] {
      std::vector<int64_t> seen;
      const absl::Status status = store_->VisitStreamBackwards(kStream, Collect(seen));
      std::reverse(seen.begin(), seen.end());
      if (!Failed(status)) EXPECT_THAT(seen, ElementsAreArray(From(kDropped)));
    });
    reads.emplace_back([this] {
      int64_t dropped = 0;
      store_->SalvagePlaces([&](const BlockPlace& place) {
        if (place.first_position < kDropped) ++dropped;
      });
      EXPECT_EQ(dropped, 0);
    });
    return reads;
  }

  static LogStore::Visitor Collect(std::vector<int64_t>& seen) {
    return [&seen](const BlockPlace& place) {
      seen.push_back(place.first_position);
      return true;
    };
  }

  static std::vector<int64_t> From(int64_t first) {
    std::vector<int64_t> positions;
    for (int64_t i = first; i < kEnd; ++i) positions.push_back(i);
    return positions;
  }

  bool Failed(const absl::Status& status) const {
    if (status.ok()) return false;
    EXPECT_TRUE(file_system_->failed());
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    return true;
  }

  const TempDirectory directory_;
  const std::string log_ = directory_.path() + "/log";
  const std::shared_ptr<FailingFileSystem> file_system_ = std::make_shared<FailingFileSystem>();
  const std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<LogStore> store_;
};

TEST_P(DroppedRangesTest, WhatIsDroppedIsNotSeen) {
  for (const auto& read : Reads()) read();
}

TEST_P(DroppedRangesTest, ATableThatCannotBeReadEndsNoProcessAndHidesNothing) {
  int failures = 0;
  for (const auto& read : Reads()) {
    bool failed = true;
    for (int k = 1; failed; ++k) {
      store_->DropCache();
      file_system_->FailKind("read .sst", k, /*full=*/false);
      file_system_->KeepFailing();
      read();
      failed = file_system_->failed();
      failures += failed ? 1 : 0;
    }
  }
  EXPECT_GT(failures, 20);
}

INSTANTIATE_TEST_SUITE_P(Records, DroppedRangesTest, testing::Values(200, 40'000));

}  // namespace
}  // namespace icepie
