// Hostile blocks: the checksum is put right, so that the fuzzer gets behind it.
#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/base/check.h"
#include "core/block.h"
#include "core/byte_order.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string block(reinterpret_cast<const char*>(data), size);
  icepie::DecodedBlock::Decode(block).status().IgnoreError();
  if (size < 8) return 0;
  block.resize(size - 8);
  icepie::PutLittleEndian(block, static_cast<uint64_t>(XXH3_64bits(block.data(), block.size())));
  const auto decoded = icepie::DecodedBlock::Decode(block);
  if (!decoded.ok()) return 0;
  ICEPIE_CHECK(decoded->records().size() == decoded->header().record_count);
  size_t bytes = 0;
  for (const icepie::RecordView& record : decoded->records()) {
    for (const char c : record.payload) bytes += static_cast<unsigned char>(c);
    if (record.key) bytes += record.key->size();
    icepie::DecodeHeaders(record.headers).status().IgnoreError();
  }
  return bytes == SIZE_MAX ? 1 : 0;
}
