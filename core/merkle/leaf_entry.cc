#include "core/merkle/leaf_entry.h"

#include <algorithm>
#include <type_traits>

#include "core/base/status.h"
#include "core/byte_order.h"

namespace icepie {
namespace {

constexpr uint8_t kVersion = 1;
enum Flag : uint8_t { kHasKey = 1, kHasEventTime = 2, kHasHeaders = 4 };
constexpr size_t kStreamIdAt = 4;
constexpr size_t kStreamNameAt = 8;
constexpr size_t kPayloadAt = 40;
constexpr size_t kKeyAt = 72;
constexpr size_t kHeadersAt = 104;
constexpr size_t kPayloadBytesAt = 136;
constexpr size_t kEventTimeAt = 144;
constexpr size_t kIngestTimeAt = 152;
constexpr size_t kOffsetAt = 160;
constexpr size_t kPositionAt = 168;

// A leaf's message is one tag byte and the entry; two blocks of it do not depend on the position.
constexpr size_t kPreparedBytes = 2 * kSha256BlockBytes;
constexpr size_t kPreparedEntryBytes = kPreparedBytes - 1;

template <typename Integer>
void StoreLittleEndian(char* out, Integer value) {
  const auto bits = static_cast<std::make_unsigned_t<Integer>>(value);
  for (size_t i = 0; i < sizeof(bits); ++i) out[i] = static_cast<char>(bits >> (8 * i));
}

// `out` has kLeafEntryBytes, all 0.
void EncodeInto(const LeafEntry& entry, char* out) {
  out[0] = static_cast<char>(kVersion);
  out[1] = static_cast<char>((entry.key ? kHasKey : 0) | (entry.event_time_us ? kHasEventTime : 0) |
                             (entry.headers ? kHasHeaders : 0));
  StoreLittleEndian(out + kStreamIdAt, entry.stream_id);
  std::copy(entry.stream_name.begin(), entry.stream_name.end(), out + kStreamNameAt);
  std::copy(entry.payload.begin(), entry.payload.end(), out + kPayloadAt);
  if (entry.key) std::copy(entry.key->begin(), entry.key->end(), out + kKeyAt);
  if (entry.headers) std::copy(entry.headers->begin(), entry.headers->end(), out + kHeadersAt);
  StoreLittleEndian(out + kPayloadBytesAt, entry.payload_bytes);
  StoreLittleEndian(out + kEventTimeAt, entry.event_time_us.value_or(0));
  StoreLittleEndian(out + kIngestTimeAt, entry.ingest_time_us);
  StoreLittleEndian(out + kOffsetAt, entry.offset);
  StoreLittleEndian(out + kPositionAt, entry.position);
}

std::optional<Digest> OptionalDigest(bool present, absl::string_view bytes) {
  return present ? std::optional(DigestFrom(bytes)) : std::nullopt;
}

}  // namespace

std::string EncodeLeafEntry(const LeafEntry& entry) {
  std::string bytes(kLeafEntryBytes, '\0');
  EncodeInto(entry, bytes.data());
  return bytes;
}

absl::StatusOr<LeafEntry> DecodeLeafEntry(absl::string_view bytes) {
  if (bytes.size() != kLeafEntryBytes || static_cast<uint8_t>(bytes[0]) != kVersion) {
    return MakeError(absl::StatusCode::kDataLoss, "not a leaf entry of version 1", "PROOF_DAMAGED");
  }
  const auto flags = static_cast<uint8_t>(bytes[1]);
  LeafEntry entry;
  entry.stream_id = GetLittleEndian<uint32_t>(bytes.data() + kStreamIdAt);
  entry.stream_name = DigestFrom(bytes.substr(kStreamNameAt, 32));
  entry.payload = DigestFrom(bytes.substr(kPayloadAt, 32));
  entry.key = OptionalDigest((flags & kHasKey) != 0, bytes.substr(kKeyAt, 32));
  entry.headers = OptionalDigest((flags & kHasHeaders) != 0, bytes.substr(kHeadersAt, 32));
  entry.payload_bytes = GetLittleEndian<uint64_t>(bytes.data() + kPayloadBytesAt);
  if ((flags & kHasEventTime) != 0) {
    entry.event_time_us = GetLittleEndian<int64_t>(bytes.data() + kEventTimeAt);
  }
  entry.ingest_time_us = GetLittleEndian<int64_t>(bytes.data() + kIngestTimeAt);
  entry.offset = GetLittleEndian<int64_t>(bytes.data() + kOffsetAt);
  entry.position = GetLittleEndian<int64_t>(bytes.data() + kPositionAt);
  // One record has one entry: unknown flags and bytes in fields that are not there are refused.
  if (EncodeLeafEntry(entry) != bytes) {
    return MakeError(absl::StatusCode::kDataLoss, "the leaf entry uses reserved bytes",
                     "PROOF_DAMAGED");
  }
  return entry;
}

LeafEntry LeafEntryOf(uint32_t stream_id, const Digest& stream_name, const RecordView& record) {
  LeafEntry entry;
  entry.stream_id = stream_id;
  entry.stream_name = stream_name;
  entry.payload = Sha256(record.payload);
  if (record.key) entry.key = Sha256(*record.key);
  if (!record.headers.empty()) entry.headers = Sha256(record.headers);
  entry.payload_bytes = record.payload.size();
  entry.event_time_us = record.event_time_us;
  entry.ingest_time_us = record.ingest_time_us;
  entry.offset = record.offset;
  entry.position = record.position;
  return entry;
}

PreparedLeaf::PreparedLeaf(uint32_t stream_id, const Digest& stream_name, const NewRecord& record,
                           absl::string_view headers) {
  RecordView view;
  view.payload = record.payload;
  if (record.key) view.key = *record.key;
  view.headers = headers;
  view.event_time_us = record.event_time_us;
  std::array<char, 1 + kLeafEntryBytes> message{};  // the leaf's tag is 0
  EncodeInto(LeafEntryOf(stream_id, stream_name, view), message.data() + 1);
  state_ = Sha256OfBlocks({message.data(), kPreparedBytes});
  static_assert(kPreparedBytes + sizeof(rest_) == sizeof(message));
  std::copy(message.begin() + kPreparedBytes, message.end(), rest_.begin());
}

Digest PreparedLeaf::Hash(int64_t ingest_time_us, int64_t offset, int64_t position) const {
  std::array<char, sizeof(rest_)> rest = rest_;
  StoreLittleEndian(rest.data() + kIngestTimeAt - kPreparedEntryBytes, ingest_time_us);
  StoreLittleEndian(rest.data() + kOffsetAt - kPreparedEntryBytes, offset);
  StoreLittleEndian(rest.data() + kPositionAt - kPreparedEntryBytes, position);
  return FinishSha256(state_, kPreparedBytes, {rest.data(), rest.size()});
}

}  // namespace icepie
