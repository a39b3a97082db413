#include "server/record/shared_blocks.h"

#include <grpcpp/support/byte_buffer.h>
#include <gtest/gtest.h>

#include <deque>

#include "icepie/v1/core.pb.h"
#include "server/record/shared_slice.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

class SharedBlocksTest : public testing::Test {
 protected:
  SharedBlocksTest() : core_(OpenCore(directory_.path())) {
    for (const char* stream : {"a", "b"}) {
      EXPECT_TRUE(core_->CreateStream(stream, PayloadFormat::kJson).ok());
    }
  }

  void Append(const std::string& stream, int64_t first, int64_t count) {
    ASSERT_TRUE(core_->AppendAndWait(NumberedBatch(stream, first, count)).ok());
  }

  static std::shared_ptr<const SharedBlocks::Range> Read(SharedBlocks& blocks,
                                                         const std::vector<std::string>& streams,
                                                         int64_t from, int64_t end) {
    auto range = blocks.Read(streams, from, end);
    EXPECT_TRUE(range.ok()) << range.status();
    return range.ok() ? *range : std::make_shared<SharedBlocks::Range>();
  }

  TempDirectory directory_;
  const std::unique_ptr<Core> core_;
};

TEST_F(SharedBlocksTest, WhatIsReadOnceIsSharedByAll) {
  Append("a", 0, 10);
  Append("b", 0, 5);
  SharedBlocks blocks(core_.get(), 1 << 20);
  const auto all = Read(blocks, {}, 0, 15);
  ASSERT_EQ(all->blocks.size(), 2U);
  EXPECT_EQ(all->complete_position, 15);
  EXPECT_EQ(Read(blocks, {}, 0, 15), all);
  EXPECT_EQ(Read(blocks, {}, 12, 15), all);  // from its middle
  const auto only_b = Read(blocks, {"b"}, 0, 15);
  ASSERT_EQ(only_b->blocks.size(), 1U);
  EXPECT_EQ(only_b->blocks[0], all->blocks[1]);  // another range, the same block
  Append("a", 10, 1);
  const auto next = Read(blocks, {}, 15, 16);
  ASSERT_EQ(next->blocks.size(), 1U);
  EXPECT_EQ(next->blocks[0]->first_offset(), 10);
  EXPECT_EQ(Read(blocks, {}, 14, 16), all);
  EXPECT_FALSE(blocks.Read({}, 17, 18).ok());
}

TEST_F(SharedBlocksTest, ItsBytesAreAMessagesRecords) {
  AppendBatch batch;
  for (int i = 0; i < 300; ++i) {
    NewRecord record = MakeRecord("a", "{\"text\":\"" + std::string(i, 'x') + "\"}");
    if (i % 2 == 1) record.key = "key " + std::to_string(i);
    if (i % 3 == 0) record.headers.push_back({"name", "value"});
    batch.records.push_back(std::move(record));
  }
  const std::vector<NewRecord> records = batch.records;
  ASSERT_TRUE(core_->AppendAndWait(std::move(batch)).ok());
  SharedBlocks blocks(core_.get(), 1 << 20);
  const auto range = Read(blocks, {"a"}, 0, 300);
  ASSERT_EQ(range->blocks.size(), 1U);
  const EncodedBlock& block = *range->blocks[0];
  ASSERT_EQ(block.size(), records.size());
  icepie::v1::ReadRecordsResponse message;
  ASSERT_TRUE(message.ParseFromString(
      block.bytes().substr(block.begin_of(100), block.end_of(199) - block.begin_of(100))));
  ASSERT_EQ(message.records_size(), 100);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(message.records(i).payload(), records[100 + i].payload);
    EXPECT_EQ(message.records(i).offset(), 100 + i);
    EXPECT_EQ(message.records(i).headers_size(), (100 + i) % 3 == 0 ? 1 : 0);
    const auto key = block.KeyOf(100 + i);
    ASSERT_EQ(key.has_value(), records[100 + i].key.has_value());
    if (key) EXPECT_EQ(*key, *records[100 + i].key);
  }
}

// A hundred readers at the head: what gRPC holds for each are the same bytes, and they are in
// memory once.
TEST_F(SharedBlocksTest, MessagesOfManyReadersAreTheSameBytes) {
  constexpr int kReaders = 100;
  Append("a", 0, 1000);
  SharedBlocks blocks(core_.get(), 0);  // nobody keeps them but messages
  std::vector<grpc::ByteBuffer> messages;
  int64_t bytes_of_one = 0;
  {
    const auto range = Read(blocks, {"a"}, 0, 1000);
    const std::shared_ptr<const EncodedBlock> block = range->blocks.at(0);
    bytes_of_one = blocks.live_bytes();
    EXPECT_EQ(bytes_of_one, static_cast<int64_t>(block->bytes().size()));
    for (int i = 0; i < kReaders; ++i) {
      const grpc::Slice slice = SharedSlice(block, block->begin_of(10), block->end_of(999));
      messages.emplace_back(&slice, 1);
    }
    for (const grpc::ByteBuffer& message : messages) {
      std::vector<grpc::Slice> slices;
      ASSERT_TRUE(message.Dump(&slices).ok());
      ASSERT_EQ(slices.size(), 1U);
      EXPECT_EQ(static_cast<const void*>(slices[0].begin()),
                static_cast<const void*>(block->bytes().data() + block->begin_of(10)));
      EXPECT_EQ(slices[0].size(), block->end_of(999) - block->begin_of(10));
    }
  }
  EXPECT_EQ(blocks.live_bytes(), bytes_of_one) << "kept by what is still to be sent, once";
  messages.clear();
  EXPECT_EQ(blocks.live_bytes(), 0);
}

// Exactly those that fit, and what somebody still holds.
TEST_F(SharedBlocksTest, OnlyTheNewestAreKept) {
  constexpr int64_t kBytesMax = 100000;
  SharedBlocks blocks(core_.get(), kBytesMax);
  std::deque<std::pair<int64_t, int64_t>> kept;  // a range's bytes, and its encoded ones
  int64_t kept_bytes = 0;
  int64_t live_bytes = 0;
  const auto keep = [&](const SharedBlocks::Range& range) {
    kept.emplace_back(range.bytes, static_cast<int64_t>(range.blocks.at(0)->bytes().size()));
    kept_bytes += kept.back().first;
    live_bytes += kept.back().second;
    for (; kept_bytes > kBytesMax; kept.pop_front()) {
      kept_bytes -= kept.front().first;
      live_bytes -= kept.front().second;
    }
  };
  std::shared_ptr<const SharedBlocks::Range> held;
  for (int64_t first = 0; first < 5000; first += 100) {
    Append("a", first, 100);
    const auto range = Read(blocks, {"a"}, first, first + 100);
    if (first == 0) held = range;
    keep(*range);
    const bool is_held_alone = static_cast<int64_t>(kept.size()) * 100 < first + 100;
    const auto held_bytes = static_cast<int64_t>(held->blocks.at(0)->bytes().size());
    EXPECT_EQ(blocks.live_bytes(), live_bytes + (is_held_alone ? held_bytes : 0)) << first;
  }
  EXPECT_LT(kept.size(), 50u);
  const auto again = Read(blocks, {"a"}, 0, 100);
  EXPECT_NE(again, held) << "forgotten, and read again";
  EXPECT_EQ(again->blocks, held->blocks) << "the block is there as long as somebody holds it";
  keep(*again);
  held.reset();
  EXPECT_EQ(blocks.live_bytes(), live_bytes);
}

TEST_F(SharedBlocksTest, NothingIsKeptWithoutRoom) {
  Append("a", 0, 10);
  SharedBlocks blocks(core_.get(), 0);
  EXPECT_EQ(Read(blocks, {"a"}, 0, 10)->blocks.size(), 1U);
  EXPECT_EQ(blocks.live_bytes(), 0);
}

}  // namespace
}  // namespace icepie::server
