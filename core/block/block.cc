#include "core/block/block.h"

#include <xxhash.h>
#include <zstd.h>

#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status.h"
#include "core/byte_order.h"

namespace icepie {
namespace {

constexpr absl::string_view kMagic = "IPBK";
constexpr uint8_t kOneCommit = 1;    // format version: all records have the header's ingest time
constexpr uint8_t kManyCommits = 2;  // format version: the ingest times stand before the records
constexpr size_t kHeaderBytes = 48;  // of version 1, and what both have in common
constexpr size_t kMergedHeaderBytes = 56;
constexpr size_t kRawBytesPlace = 40;
constexpr size_t kChecksumBytes = 8;

// Level 1 packs JSON records about 3.4 times smaller at several times the disk's speed; higher
// levels cost more time than the bytes they save.
constexpr int kZstdLevel = 1;
enum Codec : uint8_t { kStoredAsIs = 0, kZstd = 1 };

enum RecordFlag : uint8_t { kHasKey = 1, kHasEventTime = 2, kHasHeaders = 4 };
constexpr uint8_t kKnownFlags = kHasKey | kHasEventTime | kHasHeaders;
constexpr size_t kRecordBytesMin = 2;  // flags and the length of an empty payload

// What stands in the header beside BlockHeader.
struct Layout {
  BlockHeader header;
  uint8_t version = kOneCommit;
  uint8_t codec = 0;
  uint32_t raw_bytes = 0;
  uint32_t stored_bytes = 0;
  size_t header_bytes() const {
    return version == kManyCommits ? kMergedHeaderBytes : kHeaderBytes;
  }
};

absl::Status Damaged(absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, absl::StrCat("damaged block: ", what),
                   "RECORD_DAMAGED");
}

absl::Status DamagedAt(const BlockHeader& header, absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("damaged block of stream ", header.stream_id, " at position ",
                                header.first_position, ": ", what),
                   "RECORD_DAMAGED", {{"position", absl::StrCat(header.first_position)}});
}

// Event times are stored as the difference to the one before: records come nearly in time order.
template <typename Record>
void PutRecord(std::string& out, const Record& record, absl::string_view headers,
               uint64_t& previous_time) {
  const bool has_headers = !headers.empty();
  out.push_back(static_cast<char>((record.key ? kHasKey : 0) |
                                  (record.event_time_us ? kHasEventTime : 0) |
                                  (has_headers ? kHasHeaders : 0)));
  if (record.key) PutBytes(out, *record.key);
  if (record.event_time_us) {
    const auto time = static_cast<uint64_t>(*record.event_time_us);
    PutVarint(out, ZigZag(time - previous_time));
    previous_time = time;
  }
  if (has_headers) PutBytes(out, headers);
  PutBytes(out, record.payload);
}

// One a thread: making a context costs more than compressing a small block.
ZSTD_CCtx* CompressionContext() {
  thread_local std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                            &ZSTD_freeCCtx);
  ICEPIE_CHECK(context != nullptr);
  return context.get();
}

ZSTD_DCtx* DecompressionContext() {
  thread_local std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                            &ZSTD_freeDCtx);
  ICEPIE_CHECK(context != nullptr);
  return context.get();
}

// False when compression does not make `raw` smaller.
bool Compress(absl::string_view raw, std::string& out) {
  thread_local std::string buffer;
  buffer.resize(ZSTD_compressBound(raw.size()));
  const size_t size = ZSTD_compressCCtx(CompressionContext(), buffer.data(), buffer.size(),
                                        raw.data(), raw.size(), kZstdLevel);
  if (ZSTD_isError(size) != 0 || size >= raw.size()) return false;
  out.assign(buffer, 0, size);
  return true;
}

absl::Status CheckLayout(const Layout& layout, absl::string_view block) {
  const BlockHeader& header = layout.header;
  constexpr int64_t kEndMax = std::numeric_limits<int64_t>::max() / 2;
  if (header.first_position < 0 || header.first_position > kEndMax || header.first_offset < 0 ||
      header.first_offset > header.first_position) {
    return Damaged("positions out of range");
  }
  if (layout.raw_bytes > kBlockRawBytesMax) return DamagedAt(header, "larger than allowed");
  if (header.last_ingest_time_us < header.ingest_time_us) {
    return DamagedAt(header, "ingest times go back");
  }
  if (header.record_count == 0 || header.record_count > kBlockRecordsMax ||
      header.record_count > layout.raw_bytes / kRecordBytesMin) {
    return DamagedAt(header, "impossible number of records");
  }
  if (layout.stored_bytes > block.size() ||
      block.size() != layout.header_bytes() + layout.stored_bytes + kChecksumBytes) {
    return DamagedAt(header, "wrong length");
  }
  if (layout.codec != kZstd &&
      (layout.codec != kStoredAsIs || layout.raw_bytes != layout.stored_bytes)) {
    return DamagedAt(header, "unknown codec");
  }
  return absl::OkStatus();
}

absl::StatusOr<Layout> ReadLayout(absl::string_view block) {
  if (block.size() < kHeaderBytes + kChecksumBytes) return Damaged("cut off");
  if (block.substr(0, kMagic.size()) != kMagic) return Damaged("not a block");
  const char* in = block.data();
  Layout layout;
  layout.version = static_cast<uint8_t>(in[4]);
  if (layout.version != kOneCommit && layout.version != kManyCommits) {
    return Damaged(absl::StrCat("format version ", static_cast<int>(in[4]), " is unknown"));
  }
  if (in[6] != 0 || in[7] != 0) return Damaged("reserved bytes are used");
  if (block.size() < layout.header_bytes() + kChecksumBytes) return Damaged("cut off");
  layout.codec = static_cast<uint8_t>(in[5]);
  layout.header.stream_id = GetLittleEndian<uint32_t>(in + 8);
  layout.header.record_count = GetLittleEndian<uint32_t>(in + 12);
  layout.header.first_position = GetLittleEndian<int64_t>(in + 16);
  layout.header.first_offset = GetLittleEndian<int64_t>(in + 24);
  layout.header.ingest_time_us = GetLittleEndian<int64_t>(in + 32);
  layout.raw_bytes = GetLittleEndian<uint32_t>(in + kRawBytesPlace);
  layout.stored_bytes = GetLittleEndian<uint32_t>(in + 44);
  layout.header.last_ingest_time_us = layout.version == kManyCommits
                                          ? GetLittleEndian<int64_t>(in + kHeaderBytes)
                                          : layout.header.ingest_time_us;
  ICEPIE_RETURN_IF_ERROR(CheckLayout(layout, block));
  return layout;
}

absl::StatusOr<Layout> ReadChecked(absl::string_view block) {
  ICEPIE_ASSIGN_OR_RETURN(const Layout layout, ReadLayout(block));
  const size_t covered = block.size() - kChecksumBytes;
  if (GetLittleEndian<uint64_t>(block.data() + covered) != XXH3_64bits(block.data(), covered)) {
    return DamagedAt(layout.header, "wrong checksum");
  }
  return layout;
}

absl::Status Unpack(const Layout& layout, absl::string_view stored, char* out) {
  if (layout.codec == kStoredAsIs) {
    std::memcpy(out, stored.data(), stored.size());
    return absl::OkStatus();
  }
  const size_t size = ZSTD_decompressDCtx(DecompressionContext(), out, layout.raw_bytes,
                                          stored.data(), stored.size());
  if (ZSTD_isError(size) != 0 || size != layout.raw_bytes) {
    return DamagedAt(layout.header, "does not decompress");
  }
  return absl::OkStatus();
}

// Takes one framed record off the front of `in`; false when the framing is broken.
bool TakeRecord(absl::string_view& in, RecordColumns columns, uint64_t& previous_time,
                RecordView& record) {
  if (in.empty()) return false;
  const auto flags = static_cast<uint8_t>(in.front());
  in.remove_prefix(1);
  if ((flags & ~kKnownFlags) != 0) return false;
  if ((flags & kHasKey) != 0) {
    const std::optional<absl::string_view> key = TakeBytes(in);
    if (!key) return false;
    if ((columns & kKeyColumn) != 0) record.key = key;
  }
  if ((flags & kHasEventTime) != 0) {
    const std::optional<uint64_t> difference = TakeVarint(in);
    if (!difference) return false;
    previous_time += UnZigZag(*difference);
    if ((columns & kEventTimeColumn) != 0) {
      record.event_time_us = static_cast<int64_t>(previous_time);
    }
  }
  if ((flags & kHasHeaders) != 0) {
    const std::optional<absl::string_view> headers = TakeBytes(in);
    if (!headers) return false;
    if ((columns & kHeadersColumn) != 0) record.headers = *headers;
  }
  const std::optional<absl::string_view> payload = TakeBytes(in);
  if (!payload) return false;
  if ((columns & kPayloadColumn) != 0) record.payload = *payload;
  return true;
}

// Gives each record its ingest time, from the table before the records, which is taken off `raw`:
// for each commit its number of records and the time since the one before.
absl::Status TakeIngestTimes(const BlockHeader& header, absl::string_view& raw,
                             std::vector<RecordView>& records) {
  const std::optional<uint64_t> commits = TakeVarint(raw);
  auto time = static_cast<uint64_t>(header.ingest_time_us);
  size_t next = 0;
  for (uint64_t i = 0; commits && i < *commits; ++i) {
    const std::optional<uint64_t> count = TakeVarint(raw);
    const std::optional<uint64_t> later = TakeVarint(raw);
    if (!count || !later || *count == 0 || *count > records.size() - next) break;
    if (i == 0 && *later != 0) break;  // the header has the first one's
    const auto before = static_cast<int64_t>(time);
    time += *later;
    if (static_cast<int64_t>(time) < before) break;
    for (uint64_t end = next + *count; next < end; ++next) {
      records[next].ingest_time_us = static_cast<int64_t>(time);
    }
  }
  if (next != records.size() || static_cast<int64_t>(time) != header.last_ingest_time_us) {
    return DamagedAt(header, "the ingest times are not framed properly");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RecordView>> Unframe(const Layout& layout, absl::string_view raw,
                                                RecordColumns columns) {
  const BlockHeader& header = layout.header;
  std::vector<RecordView> records(header.record_count);
  for (RecordView& record : records) record.ingest_time_us = header.ingest_time_us;
  if (layout.version == kManyCommits) {
    ICEPIE_RETURN_IF_ERROR(TakeIngestTimes(header, raw, records));
  }
  uint64_t previous_time = 0;
  for (uint32_t i = 0; i < header.record_count; ++i) {
    RecordView& record = records[i];
    record.position = header.first_position + i;
    record.offset = header.first_offset + i;
    if (!TakeRecord(raw, columns, previous_time, record)) {
      return DamagedAt(header, absl::StrCat("record ", i, " is not framed properly"));
    }
  }
  if (!raw.empty()) return DamagedAt(header, "bytes behind the last record");
  return records;
}

BlockBody MakeBody(const std::string& raw, size_t record_count) {
  ICEPIE_CHECK(raw.size() <= kBlockRawBytesMax);
  BlockBody body;
  body.record_count = static_cast<uint32_t>(record_count);
  body.raw_bytes = static_cast<uint32_t>(raw.size());
  if (Compress(raw, body.stored)) {
    body.codec = kZstd;
  } else {
    body.codec = kStoredAsIs;
    body.stored = raw;
  }
  return body;
}

std::string Assemble(uint8_t version, const BlockHeader& header, const BlockBody& body) {
  std::string block;
  block.reserve(kMergedHeaderBytes + body.stored.size() + kChecksumBytes);
  absl::StrAppend(&block, kMagic);
  block.push_back(static_cast<char>(version));
  block.push_back(static_cast<char>(body.codec));
  block.append(2, '\0');
  PutLittleEndian(block, header.stream_id);
  PutLittleEndian(block, body.record_count);
  PutLittleEndian(block, header.first_position);
  PutLittleEndian(block, header.first_offset);
  PutLittleEndian(block, header.ingest_time_us);
  PutLittleEndian(block, body.raw_bytes);
  PutLittleEndian(block, static_cast<uint32_t>(body.stored.size()));
  ICEPIE_CHECK(block.size() == kHeaderBytes);
  if (version == kManyCommits) PutLittleEndian(block, header.last_ingest_time_us);
  block += body.stored;
  PutLittleEndian(block, static_cast<uint64_t>(XXH3_64bits(block.data(), block.size())));
  return block;
}

// Runs of records with one ingest time; a block that was merged before may have several.
void PutIngestTimes(std::string& out, absl::Span<const DecodedBlock> blocks) {
  std::vector<std::pair<int64_t, uint64_t>> runs;
  for (const DecodedBlock& block : blocks) {
    for (const RecordView& record : block.records()) {
      if (runs.empty() || runs.back().first != record.ingest_time_us) {
        runs.emplace_back(record.ingest_time_us, 0);
      }
      ++runs.back().second;
    }
  }
  PutVarint(out, runs.size());
  int64_t previous = runs.front().first;
  for (const auto& [time, count] : runs) {
    ICEPIE_CHECK(time >= previous);
    PutVarint(out, count);
    PutVarint(out, static_cast<uint64_t>(time) - static_cast<uint64_t>(previous));
    previous = time;
  }
}

}  // namespace

int64_t FramedBytesMax(const NewRecord& record) {
  constexpr int64_t kLengthBytes = 5;  // of a length below 4 GiB
  int64_t bytes = 1 + 10 + 3 * kLengthBytes + static_cast<int64_t>(record.payload.size());
  if (record.key) bytes += static_cast<int64_t>(record.key->size());
  for (const RecordHeader& header : record.headers) {
    bytes += 2 * kLengthBytes + static_cast<int64_t>(header.name.size() + header.value.size());
  }
  return bytes;
}

BlockBody EncodeBlockBody(absl::Span<const NewRecord* const> records) {
  ICEPIE_CHECK(!records.empty() && records.size() <= kBlockRecordsMax);
  thread_local std::string raw;
  raw.clear();
  uint64_t previous_time = 0;
  for (const NewRecord* record : records) {
    PutRecord(raw, *record, EncodeHeaders(record->headers), previous_time);
  }
  return MakeBody(raw, records.size());
}

std::string SealBlock(const BlockHeader& header, const BlockBody& body) {
  return Assemble(kOneCommit, header, body);
}

std::string MergeBlocks(absl::Span<const DecodedBlock> blocks) {
  ICEPIE_CHECK(!blocks.empty());
  BlockHeader header = blocks.front().header();
  std::string raw;
  PutIngestTimes(raw, blocks);
  uint64_t previous_time = 0;
  size_t count = 0;
  for (const DecodedBlock& block : blocks) {
    ICEPIE_CHECK(block.header().first_position ==
                 header.first_position + static_cast<int64_t>(count));
    for (const RecordView& record : block.records()) {
      PutRecord(raw, record, record.headers, previous_time);
    }
    count += block.records().size();
  }
  ICEPIE_CHECK(count <= kBlockRecordsMax);
  header.last_ingest_time_us = blocks.back().header().last_ingest_time_us;
  return Assemble(kManyCommits, header, MakeBody(raw, count));
}

std::string EncodeBlock(const BlockHeader& header, absl::Span<const NewRecord* const> records) {
  return SealBlock(header, EncodeBlockBody(records));
}

absl::StatusOr<BlockHeader> ReadBlockHeader(absl::string_view block) {
  ICEPIE_ASSIGN_OR_RETURN(const Layout layout, ReadLayout(block));
  return layout.header;
}

absl::StatusOr<BlockHeader> CheckBlock(absl::string_view block) {
  ICEPIE_ASSIGN_OR_RETURN(const Layout layout, ReadChecked(block));
  return layout.header;
}

int64_t RawBytesOf(absl::string_view block) {
  return GetLittleEndian<uint32_t>(block.data() + kRawBytesPlace);
}

absl::StatusOr<DecodedBlock> DecodedBlock::Decode(absl::string_view block, RecordColumns columns) {
  ICEPIE_ASSIGN_OR_RETURN(const Layout layout, ReadChecked(block));
  DecodedBlock decoded;
  decoded.header_ = layout.header;
  decoded.data_ = std::make_unique_for_overwrite<char[]>(layout.raw_bytes);
  ICEPIE_RETURN_IF_ERROR(Unpack(layout, block.substr(layout.header_bytes(), layout.stored_bytes),
                                decoded.data_.get()));
  ICEPIE_ASSIGN_OR_RETURN(
      decoded.records_,
      Unframe(layout, absl::string_view(decoded.data_.get(), layout.raw_bytes), columns));
  return decoded;
}

std::string EncodeHeaders(const std::vector<RecordHeader>& headers) {
  std::string encoded;
  for (const RecordHeader& header : headers) {
    PutBytes(encoded, header.name);
    PutBytes(encoded, header.value);
  }
  return encoded;
}

absl::StatusOr<std::vector<RecordHeader>> DecodeHeaders(absl::string_view encoded) {
  std::vector<RecordHeader> headers;
  while (!encoded.empty()) {
    const std::optional<absl::string_view> name = TakeBytes(encoded);
    if (!name) return Damaged("headers are not framed properly");
    const std::optional<absl::string_view> value = TakeBytes(encoded);
    if (!value) return Damaged("headers are not framed properly");
    headers.push_back({std::string(*name), std::string(*value)});
  }
  return headers;
}

}  // namespace icepie
