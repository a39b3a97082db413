#include "core/merkle/leaf_entry.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "core/base/status.h"
#include "core/merkle/merkle_tree.h"
#include "tests/core/merkle/rfc_verifier.h"

namespace icepie {
namespace {

NewRecord FullRecord() {
  NewRecord record;
  record.payload = R"({"amount":12})";
  record.key = "customer 7";
  record.event_time_us = -5;
  return record;
}

RecordView ViewOfRecord(const NewRecord& record, absl::string_view headers) {
  RecordView view;
  view.position = 0x0102030405;
  view.offset = 7;
  view.ingest_time_us = 1'700'000'000'000'000;
  view.event_time_us = record.event_time_us;
  if (record.key) view.key = *record.key;
  view.payload = record.payload;
  view.headers = headers;
  return view;
}

// Byte by byte as core/README.md says.
TEST(LeafEntryTest, BytesAreAsDocumented) {
  const NewRecord record = FullRecord();
  const std::string headers = "\x01h\x01v";
  const std::string bytes =
      EncodeLeafEntry(LeafEntryOf(258, Sha256("transfers"), ViewOfRecord(record, headers)));
  ASSERT_EQ(bytes.size(), kLeafEntryBytes);
  EXPECT_EQ(absl::BytesToHexString(bytes.substr(0, 8)), "0107000002010000");
  EXPECT_EQ(bytes.substr(8, 32), rfc::Sha256("transfers"));
  EXPECT_EQ(bytes.substr(40, 32), rfc::Sha256(record.payload));
  EXPECT_EQ(bytes.substr(72, 32), rfc::Sha256("customer 7"));
  EXPECT_EQ(bytes.substr(104, 32), rfc::Sha256(headers));
  EXPECT_EQ(absl::BytesToHexString(bytes.substr(136)),
            "0d00000000000000"    // payload length
            "fbffffffffffffff"    // event time
            "00401e18240a0600"    // ingest time
            "0700000000000000"    // offset
            "0504030201000000");  // position
}

TEST(LeafEntryTest, WhatARecordDoesNotHaveIsZero) {
  NewRecord record;
  record.payload = "";
  const std::string bytes = EncodeLeafEntry(LeafEntryOf(1, Sha256("s"), ViewOfRecord(record, "")));
  EXPECT_EQ(bytes[1], 0);
  EXPECT_EQ(bytes.substr(72, 64), std::string(64, '\0'));
  EXPECT_EQ(bytes.substr(40, 32), rfc::Sha256(""));
  record.key = "";  // an empty key is a key
  EXPECT_NE(EncodeLeafEntry(LeafEntryOf(1, Sha256("s"), ViewOfRecord(record, ""))), bytes);
}

TEST(LeafEntryTest, DecodesWhatItEncodes) {
  const std::string bytes =
      EncodeLeafEntry(LeafEntryOf(9, Sha256("s"), ViewOfRecord(FullRecord(), "xx")));
  const auto entry = DecodeLeafEntry(bytes);
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(entry->stream_id, 9u);
  EXPECT_EQ(entry->position, 0x0102030405);
  EXPECT_EQ(entry->event_time_us, -5);
  EXPECT_EQ(EncodeLeafEntry(*entry), bytes);
}

TEST(LeafEntryTest, RefusesOtherBytes) {
  NewRecord plain;
  plain.payload = "p";
  const std::string bytes = EncodeLeafEntry(LeafEntryOf(9, Sha256("s"), ViewOfRecord(plain, "")));
  EXPECT_FALSE(DecodeLeafEntry("").ok());
  EXPECT_FALSE(DecodeLeafEntry(bytes + "x").ok());
  EXPECT_FALSE(DecodeLeafEntry(bytes.substr(1)).ok());
  // Version, flags, reserved bytes; key, headers and event time of a record that has none.
  for (const size_t at : {0, 2, 3, 72, 104, 144}) {
    std::string changed = bytes;
    changed[at] ^= 8;
    EXPECT_EQ(ErrorReason(DecodeLeafEntry(changed).status()), "PROOF_DAMAGED") << at;
  }
  std::string flags = bytes;
  flags[1] = 8;
  EXPECT_FALSE(DecodeLeafEntry(flags).ok());
}

TEST(LeafEntryTest, APreparedLeafIsTheStoredRecordsLeaf) {
  NewRecord bare;
  bare.payload = std::string(5000, 'x');
  for (const NewRecord& record : {FullRecord(), bare}) {
    for (const std::string headers : {"", "\x01h\x01v"}) {
      const RecordView view = ViewOfRecord(record, headers);
      const PreparedLeaf leaf(3, Sha256("transfers"), record, headers);
      EXPECT_EQ(leaf.Hash(view.ingest_time_us, view.offset, view.position),
                LeafHash(EncodeLeafEntry(LeafEntryOf(3, Sha256("transfers"), view))));
    }
  }
}

}  // namespace
}  // namespace icepie
