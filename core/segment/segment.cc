#include "core/segment/segment.h"

#include <xxhash.h>

#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/check.h"
#include "core/base/status.h"
#include "core/byte_order.h"

namespace icepie {
namespace {

constexpr absl::string_view kHeaderMagic = "IPSG";
constexpr absl::string_view kFooterMagic = "IPSF";
constexpr uint32_t kFormatVersion = 1;
constexpr size_t kStreamFixedBytes = 24;  // id, length of the name, first offset, record count
constexpr size_t kBlockEntryBytes = 56;
constexpr size_t kStreamNameBytesMax = 255;
constexpr uint32_t kBlockBytesMin = 57;  // the smallest block's size

absl::Status Damaged(absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss, absl::StrCat("damaged segment: ", what),
                   "RECORD_DAMAGED");
}

absl::Status DamagedAt(int64_t position, absl::string_view what) {
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("damaged segment: at position ", position, " ", what),
                   "RECORD_DAMAGED", {{"position", absl::StrCat(position)}});
}

void PutChecksum(std::string& bytes) {
  PutLittleEndian(bytes, static_cast<uint64_t>(XXH3_64bits(bytes.data(), bytes.size())));
}

bool ChecksumHolds(absl::string_view bytes) {
  const size_t covered = bytes.size() - sizeof(uint64_t);
  return GetLittleEndian<uint64_t>(bytes.data() + covered) == XXH3_64bits(bytes.data(), covered);
}

SegmentBlock DecodeBlockEntry(const char* in) {
  SegmentBlock block;
  block.header.stream_id = GetLittleEndian<uint32_t>(in);
  block.header.record_count = GetLittleEndian<uint32_t>(in + 4);
  block.header.first_position = GetLittleEndian<int64_t>(in + 8);
  block.header.first_offset = GetLittleEndian<int64_t>(in + 16);
  block.header.ingest_time_us = GetLittleEndian<int64_t>(in + 24);
  block.header.last_ingest_time_us = GetLittleEndian<int64_t>(in + 32);
  block.place = GetLittleEndian<uint64_t>(in + 40);
  block.bytes = GetLittleEndian<uint32_t>(in + 48);
  return block;
}

// Takes one entry of the stream table off the front of `in`; nullopt when it is cut off.
std::optional<SegmentStream> TakeStream(absl::string_view& in) {
  if (in.size() < kStreamFixedBytes) return std::nullopt;
  SegmentStream stream;
  stream.id = GetLittleEndian<uint32_t>(in.data());
  const auto name_bytes = GetLittleEndian<uint32_t>(in.data() + 4);
  stream.first_offset = GetLittleEndian<int64_t>(in.data() + 8);
  stream.record_count = GetLittleEndian<int64_t>(in.data() + 16);
  in.remove_prefix(kStreamFixedBytes);
  if (name_bytes > kStreamNameBytesMax || name_bytes > in.size()) return std::nullopt;
  stream.name = std::string(in.substr(0, name_bytes));
  in.remove_prefix(name_bytes);
  return stream;
}

// Blocks must follow each other in the file, in positions and in their streams' offsets.
absl::Status CheckBlocks(const SegmentIndex& index, const SegmentFooter& footer) {
  std::map<uint32_t, int64_t> next_offsets;
  for (const SegmentStream& stream : index.streams) next_offsets[stream.id] = stream.first_offset;
  int64_t position = footer.first_position;
  uint64_t place = kSegmentHeaderBytes;
  for (const SegmentBlock& block : index.blocks) {
    const BlockHeader& header = block.header;
    const auto next_offset = next_offsets.find(header.stream_id);
    if (header.first_position != position || block.place != place || block.bytes < kBlockBytesMin ||
        header.record_count == 0 || header.record_count > kBlockRecordsMax ||
        next_offset == next_offsets.end() || next_offset->second != header.first_offset ||
        header.last_ingest_time_us < header.ingest_time_us ||
        header.last_ingest_time_us > footer.last_ingest_time_us) {
      return DamagedAt(position, "the index is inconsistent");
    }
    next_offset->second += header.record_count;
    position = header.end_position();
    place += block.bytes;
  }
  if (position != footer.end_position || place != footer.index_place) {
    return DamagedAt(position, "the index ends too early");
  }
  for (const SegmentStream& stream : index.streams) {
    if (next_offsets[stream.id] != stream.end_offset() || stream.record_count < 1) {
      return Damaged(absl::StrCat("the index of stream ", stream.name, " is inconsistent"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string SegmentFileName(int64_t first_position, int64_t end_position) {
  return absl::StrFormat("%020d-%020d.segment", first_position, end_position);
}

std::string EncodeSegmentHeader(int64_t first_position) {
  std::string bytes(kHeaderMagic);
  PutLittleEndian(bytes, kFormatVersion);
  PutLittleEndian(bytes, first_position);
  bytes.append(8, '\0');
  PutChecksum(bytes);
  ICEPIE_CHECK(bytes.size() == kSegmentHeaderBytes);
  return bytes;
}

std::string EncodeSegmentIndex(const SegmentIndex& index) {
  std::string bytes;
  PutLittleEndian(bytes, static_cast<uint32_t>(index.streams.size()));
  PutLittleEndian(bytes, static_cast<uint32_t>(index.blocks.size()));
  for (const SegmentStream& stream : index.streams) {
    PutLittleEndian(bytes, stream.id);
    PutLittleEndian(bytes, static_cast<uint32_t>(stream.name.size()));
    PutLittleEndian(bytes, stream.first_offset);
    PutLittleEndian(bytes, stream.record_count);
    bytes += stream.name;
  }
  for (const SegmentBlock& block : index.blocks) {
    PutLittleEndian(bytes, block.header.stream_id);
    PutLittleEndian(bytes, block.header.record_count);
    PutLittleEndian(bytes, block.header.first_position);
    PutLittleEndian(bytes, block.header.first_offset);
    PutLittleEndian(bytes, block.header.ingest_time_us);
    PutLittleEndian(bytes, block.header.last_ingest_time_us);
    PutLittleEndian(bytes, block.place);
    PutLittleEndian(bytes, block.bytes);
    PutLittleEndian(bytes, uint32_t{0});
  }
  return bytes;
}

std::string EncodeSegmentFooter(SegmentFooter& footer) {
  std::string bytes(kFooterMagic);
  PutLittleEndian(bytes, kFormatVersion);
  PutLittleEndian(bytes, footer.first_position);
  PutLittleEndian(bytes, footer.end_position);
  PutLittleEndian(bytes, footer.index_place);
  PutLittleEndian(bytes, footer.index_bytes);
  PutLittleEndian(bytes, footer.index_checksum);
  PutLittleEndian(bytes, footer.last_ingest_time_us);
  bytes.append(8, '\0');
  PutChecksum(bytes);
  ICEPIE_CHECK(bytes.size() == kSegmentFooterBytes);
  footer.checksum = GetLittleEndian<uint64_t>(bytes.data() + kSegmentFooterBytes - 8);
  return bytes;
}

absl::Status CheckSegmentHeader(absl::string_view bytes, int64_t first_position) {
  if (bytes.size() != kSegmentHeaderBytes || bytes.substr(0, 4) != kHeaderMagic) {
    return Damaged("not a segment");
  }
  if (const auto version = GetLittleEndian<uint32_t>(bytes.data() + 4); version != kFormatVersion) {
    return Damaged(absl::StrCat("format version ", version, " is unknown"));
  }
  if (!ChecksumHolds(bytes) || GetLittleEndian<int64_t>(bytes.data() + 8) != first_position) {
    return Damaged("the header is not this file's");
  }
  return absl::OkStatus();
}

absl::StatusOr<SegmentFooter> DecodeSegmentFooter(absl::string_view bytes, uint64_t file_bytes) {
  if (bytes.size() != kSegmentFooterBytes || bytes.substr(0, 4) != kFooterMagic) {
    return Damaged("it has no footer: cut off?");
  }
  if (const auto version = GetLittleEndian<uint32_t>(bytes.data() + 4); version != kFormatVersion) {
    return Damaged(absl::StrCat("format version ", version, " is unknown"));
  }
  if (!ChecksumHolds(bytes)) return Damaged("the footer has a wrong checksum");
  const char* in = bytes.data();
  SegmentFooter footer;
  footer.first_position = GetLittleEndian<int64_t>(in + 8);
  footer.end_position = GetLittleEndian<int64_t>(in + 16);
  footer.index_place = GetLittleEndian<uint64_t>(in + 24);
  footer.index_bytes = GetLittleEndian<uint64_t>(in + 32);
  footer.index_checksum = GetLittleEndian<uint64_t>(in + 40);
  footer.last_ingest_time_us = GetLittleEndian<int64_t>(in + 48);
  footer.checksum = GetLittleEndian<uint64_t>(in + kSegmentFooterBytes - 8);
  if (footer.first_position < 0 || footer.end_position <= footer.first_position) {
    return Damaged("it holds no positions");
  }
  constexpr uint64_t kIndexBytesMax =
      8 + kSegmentBlocksMax * (kBlockEntryBytes + kStreamFixedBytes + kStreamNameBytesMax);
  if (footer.index_place > file_bytes || footer.index_bytes > kIndexBytesMax ||
      footer.index_place + footer.index_bytes + kSegmentFooterBytes != file_bytes) {
    return Damaged("its length is not what the footer says");
  }
  return footer;
}

absl::StatusOr<SegmentIndex> DecodeSegmentIndex(absl::string_view bytes,
                                                const SegmentFooter& footer) {
  if (bytes.size() != footer.index_bytes ||
      XXH3_64bits(bytes.data(), bytes.size()) != footer.index_checksum) {
    return Damaged("the index has a wrong checksum");
  }
  if (bytes.size() < 8) return Damaged("the index is cut off");
  const auto stream_count = GetLittleEndian<uint32_t>(bytes.data());
  const auto block_count = GetLittleEndian<uint32_t>(bytes.data() + 4);
  bytes.remove_prefix(8);
  SegmentIndex index;
  for (uint32_t i = 0; i < stream_count; ++i) {
    std::optional<SegmentStream> stream = TakeStream(bytes);
    if (!stream) return Damaged("the index of streams is cut off");
    index.streams.push_back(std::move(*stream));
  }
  if (block_count > kSegmentBlocksMax || bytes.size() != block_count * kBlockEntryBytes) {
    return Damaged("the index of blocks is cut off");
  }
  index.blocks.reserve(block_count);
  for (; !bytes.empty(); bytes.remove_prefix(kBlockEntryBytes)) {
    index.blocks.push_back(DecodeBlockEntry(bytes.data()));
  }
  ICEPIE_RETURN_IF_ERROR(CheckBlocks(index, footer));
  return index;
}

}  // namespace icepie
