// Every stored form, byte for byte as core/README.md has it: what another version has written is
// read for ever, so encoder and decoder must not change together either. Bytes that are in no other
// field show which one is where.
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <xxhash.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_replace.h"
#include "core/append/catalog_changes.h"
#include "core/append/request_log.h"
#include "core/append/stream_registry.h"
#include "core/base/file.h"
#include "core/block/block.h"
#include "core/byte_order.h"
#include "core/log/high_water_mark.h"
#include "core/log/log_store.h"
#include "core/log/read_only_guard.h"
#include "core/segment/segment.h"
#include "core/segment/segment_set.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

// Little-endian they are the bytes from 10, 20, … on.
constexpr int64_t k10 = 0x1716151413121110;
constexpr int64_t k20 = 0x2726252423222120;
constexpr int64_t k30 = 0x3736353433323130;
constexpr int64_t k40 = 0x4746454443424140;
constexpr int64_t k50 = 0x5756555453525150;
constexpr uint32_t k0a = 0x0d0c0b0a;
constexpr uint32_t k60 = 0x63626160;

std::string Bytes(const std::string& hex) {
  return absl::HexStringToBytes(absl::StrReplaceAll(hex, {{" ", ""}}));
}

std::string Hex(absl::string_view bytes) { return absl::BytesToHexString(bytes); }

// With the XXH3 of all of it behind it.
std::string Sealed(const std::string& hex) {
  std::string bytes = Bytes(hex);
  PutLittleEndian(bytes, static_cast<uint64_t>(XXH3_64bits(bytes.data(), bytes.size())));
  return bytes;
}

NewRecord Payload(std::string payload) {
  NewRecord record;
  record.payload = std::move(payload);
  return record;
}

TEST(GoldenFormTest, Block) {
  NewRecord first = Payload("p");
  first.key = "k";
  first.event_time_us = 1;
  first.headers = {{"n", "v"}};
  NewRecord second = Payload("q");
  second.event_time_us = -1;
  const NewRecord third = Payload("r");
  const std::string one_commit = EncodeBlock({k0a, k20, k10, 0, k30}, {&first, &second});
  EXPECT_EQ(Hex(one_commit),
            Hex(Sealed("4950424b 01 00 0000 0a0b0c0d 02000000 2021222324252627 1011121314151617"
                       "3031323334353637 0f000000 0f000000"
                       "07 016b 02 04016e0176 0170  02 03 0171")));
  std::vector<DecodedBlock> blocks;
  blocks.push_back(*DecodedBlock::Decode(one_commit));
  blocks.push_back(
      *DecodedBlock::Decode(EncodeBlock({k0a, k20 + 2, k10 + 2, 0, k30 + 300}, {&third})));
  EXPECT_EQ(Hex(MergeBlocks(blocks)),
            Hex(Sealed("4950424b 02 00 0000 0a0b0c0d 03000000 2021222324252627 1011121314151617"
                       "3031323334353637 18000000 18000000 5c32323334353637"
                       "02 02 00 01 ac02"
                       "07 016b 02 04016e0176 0170  02 03 0171  00 0172")));
}

TEST(GoldenFormTest, Segment) {
  EXPECT_EQ(Hex(EncodeSegmentHeader(k20)),
            Hex(Sealed("49505347 01000000 2021222324252627 0000000000000000")));
  SegmentIndex index;
  index.streams = {{k0a, "ab", k10, k40}};
  index.blocks = {{{k0a, k20, k10, k60, k30, k50}, 0x7776757473727170, 0x83828180}};
  EXPECT_EQ(Hex(EncodeSegmentIndex(index)),
            Hex(Bytes("01000000 01000000"
                      "0a0b0c0d 02000000 1011121314151617 4041424344454647 6162"
                      "0a0b0c0d 60616263 2021222324252627 1011121314151617 3031323334353637"
                      "5051525354555657 7071727374757677 80818283 00000000")));
  SegmentFooter footer{k20, k40, 0x7776757473727170, 0x8786858483828180, 0x9796959493929190,
                       k30, 0};
  EXPECT_EQ(Hex(EncodeSegmentFooter(footer)),
            Hex(Sealed("49505346 01000000 2021222324252627 4041424344454647 7071727374757677"
                       "8081828384858687 9091929394959697 3031323334353637 0000000000000000")));
  EXPECT_EQ(SegmentFileName(12, 345), "00000000000000000012-00000000000000000345.segment");
}

TEST(GoldenFormTest, SegmentInTheCatalog) {
  SegmentEntry entry;
  entry.first_position = k20;
  entry.end_position = k40;
  entry.file_bytes = k10;
  entry.checksum = 0x9796959493929190;
  entry.last_ingest_time_us = k30;
  entry.stream_ends = {{k0a, k50}, {k60, 1}};
  const auto [key, value] = RegistrationOf(entry);
  EXPECT_EQ(Hex(key), Hex(Bytes("67 2726252423222120")));
  EXPECT_EQ(Hex(*value),
            Hex(Bytes("01 2021222324252627 4041424344454647 1011121314151617 9091929394959697"
                      "3031323334353637 02000000 0a0b0c0d 5051525354555657"
                      "60616263 0100000000000000")));
}

TEST(GoldenFormTest, HighWaterMark) {
  const TempDirectory directory;
  const std::string path = directory.path() + "/mark";
  Digest root;
  for (size_t i = 0; i < root.size(); ++i) root[i] = static_cast<char>(0x80 + i);
  const std::string slot = Sealed(
      "49504857 03000000 2021222324252627"
      "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f 3031323334353637");
  ASSERT_TRUE(HighWaterMark::Reset(path, {k20, root, k30}).ok());
  EXPECT_EQ(Hex(*ReadFile(path)), Hex(slot + std::string(512 - 64, '\0') + slot));
  const std::string without_root =
      Sealed("49504857 03000000 2021222324252627" + std::string(64, '0') + "3031323334353637");
  ASSERT_TRUE(HighWaterMark::Reset(path, {k20, std::nullopt, k30}).ok());
  EXPECT_EQ(Hex(*ReadFile(path)), Hex(without_root + std::string(512 - 64, '\0') + without_root));
  EXPECT_FALSE(HighWaterMark::Read(path)->root.has_value());
}

// What older versions have written is read.
TEST(GoldenFormTest, OlderHighWaterMarks) {
  const TempDirectory directory;
  const std::string path = directory.path() + "/mark";
  const std::string root = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f";
  for (const std::string& form : {Sealed("49504857 02000000 2021222324252627" + root),
                                  Sealed("49504857 01000000 2021222324252627")}) {
    std::string slot = form;
    slot.resize(56, '\0');
    ASSERT_TRUE(WriteFileAtomically(path, slot + std::string(512 - 56, '\0') + slot).ok());
    const auto mark = HighWaterMark::Read(path);
    ASSERT_TRUE(mark.ok()) << mark.status();
    EXPECT_EQ(mark->position, k20);
    EXPECT_EQ(mark->changes, 0);
    EXPECT_EQ(mark->root.has_value(), form.size() == 56);
    if (mark->root) EXPECT_EQ(Hex(std::string(ViewOf(*mark->root))), Hex(Bytes(root)));
    ASSERT_TRUE((*HighWaterMark::Open(path, {}))->WriteChanges(1).ok());
    EXPECT_EQ(HighWaterMark::Read(path)->position, k20);
    EXPECT_EQ(HighWaterMark::Read(path)->changes, 1);
  }
}

// What is stored in RocksDB, under which keys.
class GoldenStoreTest : public testing::Test {
 protected:
  GoldenStoreTest() { store_ = *LogStore::Open({path_, LogStore::Mode::kReadWrite, nullptr}); }

  std::string Catalog(const std::string& key) {
    const auto value = store_->ReadCatalog(key);
    EXPECT_TRUE(value.ok() && *value) << key;
    return value.ok() ? value->value_or("") : "";
  }

  // Of one column family, in hexadecimal; closes the store.
  std::map<std::string, std::string> Entries(const std::string& family) {
    store_.reset();
    std::vector<std::string> names;
    EXPECT_TRUE(rocksdb::DB::ListColumnFamilies({}, path_, &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const std::string& name : names) {
      families.emplace_back(name, rocksdb::ColumnFamilyOptions());
    }
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* opened = nullptr;
    EXPECT_TRUE(rocksdb::DB::OpenForReadOnly({}, path_, families, &handles, &opened).ok());
    const std::unique_ptr<rocksdb::DB> db(opened);
    std::map<std::string, std::string> entries;
    for (size_t i = 0; i < handles.size(); ++i) {
      if (names[i] == family) {
        const std::unique_ptr<rocksdb::Iterator> entry(db->NewIterator({}, handles[i]));
        for (entry->SeekToFirst(); entry->Valid(); entry->Next()) {
          entries[Hex(entry->key().ToString())] = Hex(entry->value().ToString());
        }
      }
      EXPECT_TRUE(db->DestroyColumnFamilyHandle(handles[i]).ok());
    }
    return entries;
  }

  using Entry = std::map<std::string, std::string>;

  const TempDirectory directory_;
  const std::string path_ = directory_.path() + "/log";
  std::unique_ptr<LogStore> store_;
};

TEST_F(GoldenStoreTest, LogIndexAndTree) {
  const LogEntry entry{{k20, k0a, k10, k60, 0}, "block"};
  const std::string hashes(32, 'h');
  TileChanges tree;
  tree.put.push_back({2, k20, hashes});
  ASSERT_TRUE(store_->Commit({&entry, 1}, tree, {}).ok());
  EXPECT_EQ(Entries("log"), (Entry{{Hex(Bytes("0d0c0b0a 1716151413121110")), Hex("block")}}));
  EXPECT_EQ(Entries("index"), (Entry{{Hex(Bytes("2726252423222120")),
                                      Hex(Bytes("0a0b0c0d 60616263 1011121314151617 05000000"))}}));
  EXPECT_EQ(Entries("tree"), (Entry{{Hex(Bytes("02 2726252423222120")), Hex(hashes)}}));
}

TEST_F(GoldenStoreTest, Streams) {
  StreamRegistry streams;
  ReadOnlyGuard guard;
  const auto mark = *HighWaterMark::Open(directory_.path() + "/mark", {});
  CatalogChanges catalog({store_.get(), mark.get(), &guard}, 0x0f);
  const auto schema = std::make_shared<StreamSchema>(StreamSchema{"set", "m.M"});
  const auto create = [&](const std::string& name, PayloadFormat format, const StreamPaths& paths,
                          std::shared_ptr<const StreamSchema> with) {
    const auto stream = streams.Create(catalog, name, format, paths, std::move(with), false);
    EXPECT_TRUE(stream.ok()) << stream.status();
    std::string time;
    PutLittleEndian(time, static_cast<int64_t>(absl::ToUnixMicros((*stream)->create_time)));
    return Hex(time);
  };
  std::string time = create("a", PayloadFormat::kBytes, {}, nullptr);
  EXPECT_EQ(Hex(Catalog("sa")), Hex(Bytes("01 01 01000000" + time)));
  time = create("b", PayloadFormat::kJson, {"$.k", "$.time"}, nullptr);
  EXPECT_EQ(Hex(Catalog("sb")), Hex(Bytes("02 00 02000000" + time + "03242e6b 06242e74696d65")));
  time = create("c", PayloadFormat::kProtobuf, {}, schema);
  EXPECT_EQ(Hex(Catalog("sc")), Hex(Bytes("03 02 03000000" + time + "00 00 03736574 036d2e4d")));
  EXPECT_EQ(Hex(Catalog("c")), Hex(Bytes("1200000000000000"))) << "three more";
}

TEST_F(GoldenStoreTest, Identities) {
  absl::Time now = absl::UnixEpoch();
  const auto log = *RequestLog::Load(*store_, {}, [&now] { return now; });
  now += absl::Microseconds(0x04030201);  // the age of the log
  const std::string fingerprint = "0123456789abcdef";
  AppendResult result;
  result.first_position = k20;
  result.end_position = k40;
  result.ingest_time_us = k30;
  result.streams = {{"a", 5, 300}, {"bc", 0, 1}};
  log->Add({"", "pump", k10, k50}, fingerprint, result);
  result.first_position = k20 + 1;
  log->Add({"x", "", 0, 0}, fingerprint, result);
  std::map<std::string, std::string> stored;
  const auto changes = *log->TakeChanges();
  for (const auto& [key, value] : changes) stored[Hex(key)] = Hex(value.value());
  const std::string streams = "0161 05 ac02  026263 00 01";
  const std::string produced = "72 73 70756d70 00 1716151413121110 5756555453525150";
  const std::string age = "0102030400000000";
  const Entry expected = {
      {Hex(Bytes(produced)),
       Hex(Bytes("01" + Hex(fingerprint) + "2021222324252627 4041424344454647 3031323334353637" +
                 streams))},
      {Hex(Bytes("72 69 78")),
       Hex(Bytes("01" + Hex(fingerprint) + "2121222324252627 4041424344454647 3031323334353637" +
                 streams))},
      {Hex(Bytes("6f 2726252423222120")), Hex(Bytes(age + produced))},
      {Hex(Bytes("6f 2726252423222121")), Hex(Bytes(age + "72 69 78"))},
      {Hex(Bytes("70 70756d70")), Hex(Bytes("01 1011121314151617 5051525354555657" + age))}};
  EXPECT_EQ(stored, expected);
}

// By which a retry is known to be equal.
TEST(GoldenFormTest, Fingerprint) {
  AppendBatch batch;
  batch.records.push_back(Payload("p"));
  batch.records[0].stream = "st";
  batch.records.push_back(batch.records[0]);
  batch.records[1].key = "k";
  batch.records[1].event_time_us = k10;
  batch.records[1].headers = {{"n", "v"}};
  batch.conditions.push_back({"c", k20, AppendCondition::Kind::kPresent});
  const std::string one = "0100000000000000";
  const std::string none = "0000000000000000";
  const std::string stream = "0200000000000000 7374";
  const std::string payload = one + "70";
  const std::string hashed =
      Bytes(stream + none + payload + none + none + none +  // the first record
            stream + one + one + "6b" + payload + one + "1011121314151617" + one +  // the second
            one + "6e" + one + "76" +                                               // its header
            one + "63" + "0200000000000000" + "2021222324252627");                  // the condition
  const XXH128_hash_t hash = XXH3_128bits(hashed.data(), hashed.size());
  std::string expected;
  PutLittleEndian(expected, static_cast<uint64_t>(hash.low64));
  PutLittleEndian(expected, static_cast<uint64_t>(hash.high64));
  EXPECT_EQ(Hex(FingerprintOf(batch)), Hex(expected));
}

}  // namespace
}  // namespace icepie
