#include "core/block/block.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <limits>
#include <random>

#include "core/base/status.h"
#include "core/byte_order.h"

namespace icepie {
namespace {

constexpr size_t kHeaderBytes = 48;
constexpr size_t kChecksumBytes = 8;

NewRecord Payload(std::string payload) {
  NewRecord record;
  record.payload = std::move(payload);
  return record;
}

std::string Encode(const std::vector<NewRecord>& records, const BlockHeader& header) {
  std::vector<const NewRecord*> pointers;
  for (const NewRecord& record : records) pointers.push_back(&record);
  return EncodeBlock(header, pointers);
}

// Records of every kind, and a block of them.
std::vector<NewRecord> MixedRecords() {
  std::vector<NewRecord> records(4);
  records[0].payload = R"({"a":1})";
  records[0].event_time_us = std::numeric_limits<int64_t>::max();
  records[1].key = std::string("k\0y", 3);
  records[1].event_time_us = std::numeric_limits<int64_t>::min();
  records[2].headers = {{"n", "v"}, {"", ""}};
  records[2].event_time_us = -1;
  records[3].key = "";
  records[3].payload = std::string(300, '\0');
  return records;
}

BlockHeader MixedHeader() { return {7, 1000, 10, 0, 1234567890123456}; }

// The checksum made right again, as somebody who writes hostile blocks would.
std::string Resealed(std::string block) {
  block.resize(block.size() - kChecksumBytes);
  PutLittleEndian(block, static_cast<uint64_t>(XXH3_64bits(block.data(), block.size())));
  return block;
}

template <typename Integer>
void Overwrite(std::string& block, size_t place, Integer value) {
  std::string bytes;
  PutLittleEndian(bytes, value);
  block.replace(place, bytes.size(), bytes);
}

TEST(BlockTest, RecordsComeBackAsTheyWere) {
  const std::vector<NewRecord> records = MixedRecords();
  const auto block = DecodedBlock::Decode(Encode(records, MixedHeader()));
  ASSERT_TRUE(block.ok()) << block.status();
  EXPECT_EQ(block->header().stream_id, 7u);
  EXPECT_EQ(block->header().record_count, 4u);
  EXPECT_EQ(block->header().end_position(), 1004);
  ASSERT_EQ(block->records().size(), 4u);
  for (size_t i = 0; i < records.size(); ++i) {
    const RecordView& view = block->records()[i];
    EXPECT_EQ(view.position, 1000 + int64_t(i));
    EXPECT_EQ(view.offset, 10 + int64_t(i));
    EXPECT_EQ(view.ingest_time_us, 1234567890123456);
    EXPECT_EQ(view.payload, records[i].payload);
    EXPECT_EQ(view.event_time_us, records[i].event_time_us);
    EXPECT_EQ(view.key.has_value(), records[i].key.has_value());
    if (view.key) EXPECT_EQ(*view.key, *records[i].key);
  }
  const auto headers = DecodeHeaders(block->records()[2].headers);
  ASSERT_TRUE(headers.ok());
  ASSERT_EQ(headers->size(), 2u);
  EXPECT_EQ((*headers)[0].name, "n");
  EXPECT_EQ((*headers)[0].value, "v");
}

TEST(BlockTest, TheHeaderIsReadWithoutTheRecords) {
  const auto header = ReadBlockHeader(Encode(MixedRecords(), MixedHeader()));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->first_position, 1000);
  EXPECT_EQ(header->first_offset, 10);
  EXPECT_EQ(header->record_count, 4u);
  EXPECT_EQ(header->ingest_time_us, 1234567890123456);
}

TEST(BlockTest, MovesKeepTheRecords) {
  auto block = DecodedBlock::Decode(Encode(MixedRecords(), MixedHeader()));
  ASSERT_TRUE(block.ok());
  const char* payload = block->records()[0].payload.data();
  const DecodedBlock moved = std::move(block).value();
  EXPECT_EQ(moved.records()[0].payload.data(), payload);
  EXPECT_EQ(moved.records()[0].payload, R"({"a":1})");
}

TEST(BlockTest, CompressibleRecordsBecomeSmall) {
  std::vector<NewRecord> records(1000, Payload(R"({"date":"2001-01-01T00:05:00","delay":-3})"));
  EXPECT_LT(Encode(records, {1, 0, 0, 0, 0}).size(), 3000u);
}

TEST(BlockTest, IncompressibleRecordsAreStoredAsTheyAre) {
  std::mt19937_64 random(42);
  std::string noise(5000, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  const std::string encoded = Encode({Payload(noise)}, {1, 0, 0, 0, 0});
  EXPECT_LE(encoded.size(), noise.size() + kHeaderBytes + kChecksumBytes + 8);
  const auto block = DecodedBlock::Decode(encoded);
  ASSERT_TRUE(block.ok()) << block.status();
  EXPECT_EQ(block->records()[0].payload, noise);
}

// Three blocks of different commits; two of them have one ingest time.
std::string MergedBlock() {
  std::vector<DecodedBlock> blocks;
  BlockHeader header = MixedHeader();
  for (const int64_t later : {0, 0, 5000000}) {
    header.ingest_time_us += later;
    blocks.push_back(*DecodedBlock::Decode(Encode(MixedRecords(), header)));
    header.first_position += 4;
    header.first_offset += 4;
  }
  return MergeBlocks(blocks);
}

TEST(BlockTest, MergedRecordsKeepEverythingAlsoTheirIngestTimes) {
  const std::string merged = MergedBlock();
  const auto header = CheckBlock(merged);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->record_count, 12u);
  EXPECT_EQ(header->ingest_time_us, 1234567890123456);
  EXPECT_EQ(header->last_ingest_time_us, 1234567895123456);
  auto block = DecodedBlock::Decode(merged);
  ASSERT_TRUE(block.ok()) << block.status();
  const std::vector<NewRecord> records = MixedRecords();
  for (size_t i = 0; i < 12; ++i) {
    const RecordView& view = block->records()[i];
    EXPECT_EQ(view.position, 1000 + int64_t(i));
    EXPECT_EQ(view.offset, 10 + int64_t(i));
    EXPECT_EQ(view.ingest_time_us, i < 8 ? 1234567890123456 : 1234567895123456);
    EXPECT_EQ(view.event_time_us, records[i % 4].event_time_us);
    EXPECT_EQ(view.payload, records[i % 4].payload);
    EXPECT_EQ(view.key.has_value(), records[i % 4].key.has_value());
    EXPECT_EQ(DecodeHeaders(view.headers)->size(), records[i % 4].headers.size());
  }
  // What is merged may be merged again.
  std::vector<DecodedBlock> once;
  once.push_back(*std::move(block));
  EXPECT_EQ(MergeBlocks(once), merged);
}

TEST(BlockTest, ABlockOfOneCommitHasOneIngestTime) {
  const auto header = CheckBlock(Encode(MixedRecords(), MixedHeader()));
  EXPECT_EQ(header->last_ingest_time_us, header->ingest_time_us);
}

TEST(BlockTest, AMergedBlockThatIsCutOffOrFlippedIsDamaged) {
  const std::string encoded = MergedBlock();
  for (size_t size = 0; size < encoded.size(); ++size) {
    EXPECT_FALSE(DecodedBlock::Decode(encoded.substr(0, size)).ok()) << size;
  }
  for (size_t bit = 0; bit < encoded.size() * 8; ++bit) {
    std::string flipped = encoded;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(ErrorReason(CheckBlock(flipped).status()), "RECORD_DAMAGED") << "bit " << bit;
  }
}

// Whoever merges what is read relies on it.
TEST(BlockTest, IngestTimesThatGoBackInBetweenAreDamaged) {
  for (const int64_t back : {0, -5}) {
    std::string raw;
    PutVarint(raw, 3);  // commits
    for (const int64_t later : {int64_t{0}, back, int64_t{10}}) {
      PutVarint(raw, 1);  // record
      PutVarint(raw, static_cast<uint64_t>(later));
    }
    raw.append(3 * 2, '\0');  // records without anything
    std::string block = Encode(MixedRecords(), MixedHeader()).substr(0, kHeaderBytes);
    block[4] = 2;  // version
    block[5] = 0;  // codec
    Overwrite(block, 12, uint32_t{3});
    for (const size_t bytes_place : {40, 44}) {
      Overwrite(block, bytes_place, static_cast<uint32_t>(raw.size()));
    }
    PutLittleEndian(block, MixedHeader().ingest_time_us + back + 10);
    block = Resealed(block + raw + std::string(kChecksumBytes, '\0'));
    EXPECT_EQ(DecodedBlock::Decode(block).ok(), back == 0);
  }
}

TEST(BlockTest, ABlockCutOffAnywhereIsDamaged) {
  const std::string encoded = Encode(MixedRecords(), MixedHeader());
  for (size_t size = 0; size < encoded.size(); ++size) {
    const auto block = DecodedBlock::Decode(encoded.substr(0, size));
    EXPECT_EQ(block.status().code(), absl::StatusCode::kDataLoss) << size;
    EXPECT_FALSE(ReadBlockHeader(encoded.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(DecodedBlock::Decode(encoded + "x").ok());
}

TEST(BlockTest, EveryFlippedBitIsFound) {
  const std::string encoded = Encode(MixedRecords(), MixedHeader());
  for (size_t bit = 0; bit < encoded.size() * 8; ++bit) {
    std::string flipped = encoded;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const auto block = DecodedBlock::Decode(flipped);
    EXPECT_EQ(block.status().code(), absl::StatusCode::kDataLoss) << "bit " << bit;
    EXPECT_EQ(ErrorReason(block.status()), "RECORD_DAMAGED");
  }
}

// Whoever can write a checksum can write anything: it must be an error or records, never more.
TEST(BlockTest, HostileBytesWithARightChecksumAreSafe) {
  std::mt19937_64 random(7);
  std::vector<NewRecord> incompressible = MixedRecords();
  incompressible.pop_back();
  for (const std::string& encoded : {Encode(incompressible, MixedHeader()),
                                     Encode(MixedRecords(), MixedHeader()), MergedBlock()}) {
    for (int round = 0; round < 20000; ++round) {
      std::string hostile = encoded;
      for (int i = 0; i < 1 + round % 3; ++i) {
        hostile[random() % (hostile.size() - kChecksumBytes)] = static_cast<char>(random());
      }
      const auto block = DecodedBlock::Decode(Resealed(hostile));
      if (!block.ok()) continue;
      size_t bytes = 0;
      for (const RecordView& record : block->records()) {
        bytes += record.payload.size() + record.headers.size();
        (void)DecodeHeaders(record.headers).ok();
      }
      EXPECT_LE(bytes, size_t(kBlockRawBytesMax));
    }
  }
}

TEST(BlockTest, ClaimsBeyondTheBoundsAreRefusedBeforeAnyAllocation) {
  const std::string encoded = Encode(MixedRecords(), MixedHeader());
  std::string large = encoded;
  Overwrite(large, 40, uint32_t{0xFFFFFFFF});  // raw size
  EXPECT_FALSE(DecodedBlock::Decode(Resealed(large)).ok());
  std::string many = encoded;
  Overwrite(many, 12, uint32_t{0xFFFFFFFF});  // record count
  EXPECT_FALSE(DecodedBlock::Decode(Resealed(many)).ok());
  std::string negative = encoded;
  Overwrite(negative, 16, int64_t{-1});  // first position
  EXPECT_FALSE(DecodedBlock::Decode(Resealed(negative)).ok());
  std::string version = encoded;
  version[4] = 3;
  EXPECT_FALSE(DecodedBlock::Decode(Resealed(version)).ok());
  std::string bomb = encoded;
  Overwrite(bomb, 40, uint32_t{4});  // says 4 bytes, decompresses to hundreds
  EXPECT_FALSE(DecodedBlock::Decode(Resealed(bomb)).ok());
}

TEST(BlockTest, DamagedHeadersOfARecordAreRefused) {
  EXPECT_TRUE(DecodeHeaders("")->empty());
  EXPECT_FALSE(DecodeHeaders("\x01").ok());
  EXPECT_FALSE(
      DecodeHeaders(std::string("\x01n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12)).ok());
  EXPECT_FALSE(DecodeHeaders(std::string(11, '\xff')).ok());
}

TEST(ByteOrderTest, VarintsComeBack) {
  for (const uint64_t value : {uint64_t{0}, uint64_t{127}, uint64_t{128}, uint64_t{1} << 63,
                               std::numeric_limits<uint64_t>::max()}) {
    std::string bytes;
    PutVarint(bytes, value);
    absl::string_view in = bytes;
    EXPECT_EQ(TakeVarint(in), value);
    EXPECT_TRUE(in.empty());
    EXPECT_EQ(UnZigZag(ZigZag(value)), value);
  }
  absl::string_view overlong("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10);
  EXPECT_FALSE(TakeVarint(overlong).has_value());
}

}  // namespace
}  // namespace icepie
