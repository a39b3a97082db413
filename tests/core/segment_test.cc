// Segment files as bytes: written, read back, damaged.
#include <gmock/gmock.h>
#include <xxhash.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/byte_order.h"
#include "core/segment/segment_reader.h"
#include "core/segment/segment_writer.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int64_t kFirst = 1000;

// Blocks of streams a (id 1) and b (id 2) as commits make them, one after the other.
class Blocks {
 public:
  std::string Next(uint32_t stream, int count, const std::string& payload) {
    std::vector<NewRecord> records(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) {
      records[static_cast<size_t>(i)].payload = payload + std::to_string(position_ + i);
    }
    std::vector<const NewRecord*> pointers;
    for (const NewRecord& record : records) pointers.push_back(&record);
    const BlockHeader header{stream, position_, offsets_[stream], 0, ingest_time_us_};
    position_ += count;
    offsets_[stream] += count;
    ingest_time_us_ += 10;
    return EncodeBlock(header, pointers);
  }

 private:
  int64_t position_ = kFirst;
  int64_t offsets_[3] = {0, 700, 300};
  int64_t ingest_time_us_ = 5000;
};

std::string NameOf(uint32_t stream) { return stream == 1 ? "a" : "b"; }

class SegmentTest : public testing::Test {
 protected:
  // Streams and numbers of records of the blocks in it.
  using Shape = std::vector<std::pair<uint32_t, int>>;

  SegmentFooter Write(const Shape& shape, const std::string& payload = "payload ") {
    fs::remove(path_);
    Blocks blocks;
    auto writer = SegmentWriter::Create(path_, kFirst);
    EXPECT_TRUE(writer.ok()) << writer.status();
    for (const auto& [stream, count] : shape) {
      const absl::Status added =
          (*writer)->Add(NameOf(stream), blocks.Next(stream, count, payload));
      EXPECT_TRUE(added.ok()) << added;
    }
    const auto footer = (*writer)->Finish();
    EXPECT_TRUE(footer.ok()) << footer.status();
    return *footer;
  }

  std::vector<int64_t> PositionsOf(const std::set<std::string>& streams, int64_t from,
                                   int64_t end) {
    const auto reader = SegmentReader::Open(path_);
    EXPECT_TRUE(reader.ok()) << reader.status();
    std::vector<int64_t> positions;
    for (const auto& [stream, chunk] : (*reader)->Chunks(streams, from, end)) {
      const auto block = chunk->Decode(kAllColumns);
      EXPECT_TRUE(block.ok()) << block.status();
      EXPECT_EQ(block->header().first_position, chunk->header().first_position);
      for (const RecordView& record : block->records()) {
        EXPECT_EQ(record.payload, "payload " + std::to_string(record.position));
        positions.push_back(record.position);
      }
    }
    return positions;
  }

  TempDirectory directory_;
  const std::string path_ = directory_.path() + "/s.segment";
};

std::vector<int64_t> Range(int64_t from, int64_t end) {
  std::vector<int64_t> numbers;
  for (int64_t n = from; n < end; ++n) numbers.push_back(n);
  return numbers;
}

TEST_F(SegmentTest, RecordsComeBackByPositionAndStream) {
  const SegmentFooter footer = Write({{1, 5}, {2, 3}, {1, 4}});
  EXPECT_EQ(footer.first_position, kFirst);
  EXPECT_EQ(footer.end_position, kFirst + 12);
  EXPECT_EQ(footer.last_ingest_time_us, 5020);
  EXPECT_EQ(ReadSegmentFooter(path_)->checksum, footer.checksum);
  const auto reader = SegmentReader::Open(path_);
  ASSERT_EQ((*reader)->streams().size(), 2u);
  EXPECT_EQ((*reader)->streams()[0].name, "a");
  EXPECT_EQ((*reader)->streams()[0].first_offset, 700);
  EXPECT_EQ((*reader)->streams()[0].end_offset(), 709);
  EXPECT_EQ((*reader)->streams()[1].record_count, 3);
  EXPECT_EQ(PositionsOf({}, 0, INT64_MAX), Range(kFirst, kFirst + 12));
  EXPECT_EQ(PositionsOf({"b"}, 0, INT64_MAX), Range(kFirst + 5, kFirst + 8));
  EXPECT_EQ(PositionsOf({"a"}, kFirst + 6, INT64_MAX), Range(kFirst + 8, kFirst + 12));
  EXPECT_EQ(PositionsOf({"a"}, kFirst + 2, kFirst + 6), Range(kFirst, kFirst + 5));
  EXPECT_TRUE(PositionsOf({"c"}, 0, INT64_MAX).empty());
  EXPECT_TRUE(PositionsOf({}, kFirst + 12, INT64_MAX).empty());
}

// Of a record that is not asked for whole: its place and the columns that are asked for.
TEST_F(SegmentTest, ColumnsAreHandedOutSinglyAndTogether) {
  NewRecord record;
  record.payload = "payload";
  record.key = "key";
  record.event_time_us = 77;
  record.headers = {{"name", "value"}};
  auto writer = SegmentWriter::Create(path_, kFirst);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Add("a", EncodeBlock({1, kFirst, 700, 0, 5000}, {&record})).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  const auto chunks = (*SegmentReader::Open(path_))->Chunks({}, 0, INT64_MAX);
  ASSERT_EQ(chunks.size(), 1u);
  for (RecordColumns columns = 0; columns <= kAllColumns; ++columns) {
    const auto block = chunks[0].chunk->Decode(columns);
    ASSERT_TRUE(block.ok()) << block.status();
    const RecordView& read = block->records()[0];
    EXPECT_EQ(read.position, kFirst);
    EXPECT_EQ(read.offset, 700);
    EXPECT_EQ(read.ingest_time_us, 5000);
    EXPECT_EQ(read.payload, (columns & kPayloadColumn) != 0 ? "payload" : "");
    EXPECT_EQ(read.key.value_or("none"), (columns & kKeyColumn) != 0 ? "key" : "none");
    EXPECT_EQ(read.event_time_us.value_or(0), (columns & kEventTimeColumn) != 0 ? 77 : 0);
    EXPECT_EQ(DecodeHeaders(read.headers)->size(), (columns & kHeadersColumn) != 0 ? 1u : 0u);
  }
}

TEST_F(SegmentTest, SmallNeighboursShareABlockAndKeepTheirTimes) {
  Write({{1, 1}, {1, 1}, {1, 1}, {2, 1}, {1, 1}});
  const auto reader = SegmentReader::Open(path_);
  ASSERT_EQ((*reader)->blocks().size(), 3u);
  const auto block = DecodedBlock::Decode(*(*reader)->ReadBlock((*reader)->blocks()[0]));
  ASSERT_EQ(block->records().size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(block->records()[static_cast<size_t>(i)].ingest_time_us, 5000 + 10 * i);
  }
  EXPECT_EQ(PositionsOf({}, 0, INT64_MAX), Range(kFirst, kFirst + 5));
}

TEST_F(SegmentTest, BlocksThatAreLargeAloneStayAsTheyWere) {
  const std::string payload(400 << 10, 'x');
  Write({{1, 2}, {1, 2}, {1, 1}}, payload);
  Blocks blocks;
  const auto reader = SegmentReader::Open(path_);
  ASSERT_EQ((*reader)->blocks().size(), 3u);
  for (const SegmentBlock& block : (*reader)->blocks()) {
    const int count = static_cast<int>(block.header.record_count);
    EXPECT_EQ(*(*reader)->ReadBlock(block), blocks.Next(1, count, payload));
  }
}

TEST_F(SegmentTest, ManyRecordsAppendedAloneBecomeManyTimesSmaller) {
  int64_t alone = 0;
  Blocks blocks;
  for (int i = 0; i < 1000; ++i)
    alone += static_cast<int64_t>(blocks.Next(1, 1, "payload ").size());
  Write(Shape(1000, {1, 1}));
  EXPECT_LT(static_cast<int64_t>(fs::file_size(path_)), alone / 10);
}

TEST_F(SegmentTest, WhatDoesNotFollowIsRefused) {
  Blocks blocks;
  const std::string first = blocks.Next(1, 5, "p");
  const std::string second = blocks.Next(1, 5, "p");
  auto writer = SegmentWriter::Create(path_, kFirst);
  EXPECT_FALSE(SegmentWriter::Create(path_, kFirst).ok()) << "an existing file is not overwritten";
  EXPECT_EQ(ErrorReason((*writer)->Add("a", second)), "RECORD_DAMAGED");
  writer->reset();
  EXPECT_FALSE(fs::exists(path_)) << "what is not finished leaves nothing";
}

TEST_F(SegmentTest, ADamagedBlockIsNotSealed) {
  Blocks blocks;
  std::string block = blocks.Next(1, 5, "p");
  block[60] = static_cast<char>(block[60] ^ 1);
  auto writer = SegmentWriter::Create(path_, kFirst);
  const absl::Status status = (*writer)->Add("a", block);
  EXPECT_EQ(ErrorReason(status), "RECORD_DAMAGED");
  EXPECT_THAT(std::string(status.message()), HasSubstr("position 1000"));
}

// Every bit of the file is covered by some checksum: it does not open, or a block is damaged and
// named, with its position.
TEST_F(SegmentTest, EveryFlippedBitIsFoundAndNamed) {
  Write({{1, 2}, {2, 1}});
  const std::string bytes = *ReadFile(path_);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    // In place: replacing the content would make some file systems write it out each time.
    std::fstream(path_, std::ios::binary | std::ios::in | std::ios::out) << flipped;
    const auto reader = SegmentReader::Open(path_);
    absl::Status found = reader.status();
    for (size_t i = 0; found.ok() && i < (*reader)->blocks().size(); ++i) {
      const SegmentBlock& block = (*reader)->blocks()[i];
      found = (*reader)->ReadBlock(block).status();
      if (found.ok()) continue;
      EXPECT_EQ(GetErrorDetail(found)->metadata.at("position"),
                std::to_string(block.header.first_position));
    }
    ASSERT_EQ(ErrorReason(found), "RECORD_DAMAGED") << "bit " << bit << " " << found;
    ASSERT_THAT(std::string(found.message()), HasSubstr(path_));
  }
}

TEST_F(SegmentTest, AFileCutOffAnywhereDoesNotOpen) {
  Write({{1, 2}, {2, 1}});
  const auto size = fs::file_size(path_);
  for (uint64_t left = size; left-- > 0;) {
    fs::resize_file(path_, left);
    ASSERT_FALSE(SegmentReader::Open(path_).ok()) << left;
  }
  EXPECT_TRUE(absl::IsNotFound(SegmentReader::Open(path_ + "x").status()));
}

TEST_F(SegmentTest, AFileCutOffWhileItIsReadIsDamaged) {
  Write({{1, 2}, {2, 1}});
  const auto reader = SegmentReader::Open(path_);
  fs::resize_file(path_, kSegmentHeaderBytes + 3);
  const auto block = (*reader)->ReadBlock((*reader)->blocks()[0]);
  EXPECT_EQ(ErrorReason(block.status()), "RECORD_DAMAGED");
  EXPECT_EQ(GetErrorDetail(block.status())->metadata.at("position"), "1000");
}

TEST_F(SegmentTest, AnOpenReaderKeepsARemovedFile) {
  Write({{1, 2}, {2, 1}});
  const auto chunks = (*SegmentReader::Open(path_))->Chunks({}, 0, INT64_MAX);
  fs::remove(path_);
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_TRUE(chunks[0].chunk->Decode(kAllColumns).ok());
}

// Whoever can write checksums can write anything: an error or an index within the bounds.
TEST_F(SegmentTest, AHostileIndexIsSafe) {
  std::mt19937_64 random(11);
  SegmentFooter footer = Write({{1, 2}, {2, 1}, {1, 1}});
  const std::string bytes = *ReadFile(path_);
  const std::string index = bytes.substr(footer.index_place, footer.index_bytes);
  for (int round = 0; round < 20000; ++round) {
    std::string hostile = index;
    for (int i = 0; i < 1 + round % 3; ++i) {
      hostile[random() % hostile.size()] = static_cast<char>(random());
    }
    footer.index_checksum = XXH3_64bits(hostile.data(), hostile.size());
    const auto decoded = DecodeSegmentIndex(hostile, footer);
    if (!decoded.ok()) continue;
    int64_t position = kFirst;
    for (const SegmentBlock& block : decoded->blocks) {
      ASSERT_EQ(block.header.first_position, position);
      position = block.header.end_position();
      ASSERT_LE(block.place + block.bytes, footer.index_place);
    }
    ASSERT_EQ(position, footer.end_position);
  }
}

}  // namespace
}  // namespace icepie
