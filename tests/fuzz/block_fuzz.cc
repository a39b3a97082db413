// Hostile blocks: the checksum is put right, so that the fuzzer gets behind it. What is accepted is
// encoded again as the same records, and refused with anything in it that means nothing.
#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/base/check.h"
#include "core/block/block.h"
#include "core/byte_order.h"

namespace {

constexpr size_t kChecksumBytes = 8;
constexpr size_t kHeaderBytes = 48;        // of version 1
constexpr int64_t kRawBytesMax = 1 << 20;  // that are encoded again

void PutRightChecksum(std::string& block) {
  block.resize(block.size() - kChecksumBytes);
  icepie::PutLittleEndian(block, static_cast<uint64_t>(XXH3_64bits(block.data(), block.size())));
}

void AddOne(std::string& block, size_t place) {
  std::string number;
  icepie::PutLittleEndian(number,
                          icepie::GetLittleEndian<uint32_t>(block.data() + place) + uint32_t{1});
  block.replace(place, number.size(), number);
}

bool Same(const icepie::RecordView& a, const icepie::RecordView& b) {
  return a.position == b.position && a.offset == b.offset && a.ingest_time_us == b.ingest_time_us &&
         a.event_time_us == b.event_time_us && a.key == b.key && a.headers == b.headers &&
         a.payload == b.payload;
}

void CheckEncodedAgain(const icepie::DecodedBlock& block) {
  const auto again = icepie::DecodedBlock::Decode(icepie::MergeBlocks({&block, 1}));
  ICEPIE_CHECK(again.ok() && again->records().size() == block.records().size());
  for (size_t i = 0; i < block.records().size(); ++i) {
    ICEPIE_CHECK(Same(block.records()[i], again->records()[i]));
  }
}

void CheckRefused(std::string block) {
  PutRightChecksum(block);
  ICEPIE_CHECK(!icepie::DecodedBlock::Decode(block).ok());
}

void CheckNothingIsPassedOver(const std::string& block) {
  std::string other = block;
  other[6] = 1;  // reserved
  CheckRefused(other);
  const bool is_plain = block[4] == 1 && block[5] == 0;  // version 1, not compressed
  if (!is_plain) return;
  other = block;
  other[kHeaderBytes] = static_cast<char>(other[kHeaderBytes] | 8);  // an unknown flag
  CheckRefused(other);
  other = block;
  other.insert(other.size() - kChecksumBytes, 1, '\0');  // behind the last record
  for (const size_t bytes_place : {40, 44}) AddOne(other, bytes_place);
  CheckRefused(other);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string block(reinterpret_cast<const char*>(data), size);
  icepie::DecodedBlock::Decode(block).status().IgnoreError();
  if (size < kChecksumBytes) return 0;
  PutRightChecksum(block);
  const auto decoded = icepie::DecodedBlock::Decode(block);
  if (!decoded.ok()) return 0;
  ICEPIE_CHECK(decoded->records().size() == decoded->header().record_count);
  size_t bytes = 0;
  for (const icepie::RecordView& record : decoded->records()) {
    for (const char c : record.payload) bytes += static_cast<unsigned char>(c);
    if (record.key) bytes += record.key->size();
    icepie::DecodeHeaders(record.headers).status().IgnoreError();
  }
  CheckNothingIsPassedOver(block);
  if (icepie::RawBytesOf(block) <= kRawBytesMax) CheckEncodedAgain(*decoded);
  return bytes == SIZE_MAX ? 1 : 0;
}
