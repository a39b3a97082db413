#include "server/record/shared_blocks.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>

#include "core/base/status.h"
#include "core/block/block.h"
#include "icepie/v1/core.pb.h"
#include "server/record/record_convert.h"

namespace icepie::server {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;

// Compressed.
constexpr int64_t kFetchBytes = int64_t{256} << 10;
// Encoded, up to the block that reaches it: what compresses a thousandfold is not held by a reader
// that takes no messages.
constexpr int64_t kRangeBytes = int64_t{2} << 20;
// What a range and a record cost beside their bytes, so that many small ones are bounded as well.
constexpr int64_t kRangeOverheadBytes = 512;
constexpr int64_t kRecordOverheadBytes = sizeof(uint32_t);
constexpr size_t kSweepMin = 1024;

constexpr uint32_t LengthDelimited(int field) {
  return WireFormatLite::MakeTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
}
constexpr uint32_t kRecordsTag =
    LengthDelimited(icepie::v1::ReadRecordsResponse::kRecordsFieldNumber);
static_assert(kRecordsTag < 128, "the tag is written as one byte");

void AppendRecord(const icepie::v1::Record& record, std::string& bytes) {
  const auto size = static_cast<uint32_t>(record.ByteSizeLong());
  uint8_t prefix[6] = {static_cast<uint8_t>(kRecordsTag)};
  const uint8_t* end = CodedOutputStream::WriteVarint32ToArray(size, prefix + 1);
  bytes.append(reinterpret_cast<const char*>(prefix), static_cast<size_t>(end - prefix));
  record.AppendToString(&bytes);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const EncodedBlock>> EncodedBlock::Make(
    const StoredBlock& stored, std::shared_ptr<std::atomic<int64_t>> live_bytes) {
  ICEPIE_ASSIGN_OR_RETURN(const DecodedBlock decoded, DecodedBlock::Decode(stored.data));
  std::shared_ptr<EncodedBlock> block(new EncodedBlock);
  block->first_position_ = decoded.header().first_position;
  block->first_offset_ = decoded.header().first_offset;
  block->ends_.reserve(decoded.records().size());
  icepie::v1::Record record;
  for (const RecordView& view : decoded.records()) {
    record.Clear();
    ICEPIE_RETURN_IF_ERROR(SetRecord(stored.stream, view, record));
    AppendRecord(record, block->bytes_);
    block->ends_.push_back(static_cast<uint32_t>(block->bytes_.size()));
  }
  block->bytes_.shrink_to_fit();
  block->live_bytes_ = std::move(live_bytes);
  *block->live_bytes_ += static_cast<int64_t>(block->bytes_.size());
  return block;
}

EncodedBlock::~EncodedBlock() {
  if (live_bytes_ != nullptr) *live_bytes_ -= static_cast<int64_t>(bytes_.size());
}

std::optional<absl::string_view> EncodedBlock::KeyOf(size_t i) const {
  const size_t begin = begin_of(i);
  CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes_.data()) + begin,
                      static_cast<int>(end_of(i) - begin));
  uint32_t size = 0;
  // The record's own tag and length, then its fields in the order of their numbers.
  if (in.ReadTag() != kRecordsTag || !in.ReadVarint32(&size)) return std::nullopt;
  while (const uint32_t tag = in.ReadTag()) {
    const bool is_key = tag == LengthDelimited(icepie::v1::Record::kKeyFieldNumber);
    const bool is_stream = tag == LengthDelimited(icepie::v1::Record::kStreamFieldNumber);
    if ((!is_key && !is_stream) || !in.ReadVarint32(&size)) return std::nullopt;
    const size_t at = begin + static_cast<size_t>(in.CurrentPosition());
    if (is_key) return absl::string_view(bytes_).substr(at, size);
    in.Skip(static_cast<int>(size));
  }
  return std::nullopt;
}

SharedBlocks::SharedBlocks(const Core* core, int64_t bytes_max)
    : core_(core),
      bytes_max_(bytes_max),
      live_bytes_(std::make_shared<std::atomic<int64_t>>(0)),
      sweep_size_(kSweepMin) {}

absl::StatusOr<std::shared_ptr<const SharedBlocks::Range>> SharedBlocks::Read(
    const std::vector<std::string>& streams, int64_t from, int64_t end) {
  const Key key(streams, from);
  {
    const MutexLock lock(mutex_);
    while (true) {
      if (auto found = Find(key)) return found;
      if (loading_.insert(key).second) break;
      loaded_.Wait(mutex_);
    }
  }
  absl::StatusOr<std::shared_ptr<const Range>> range = Load(key, end);
  {
    const MutexLock lock(mutex_);
    loading_.erase(key);
    if (range.ok() && (*range)->complete_position > from) Insert(key, *range);
  }
  loaded_.SignalAll();
  return range;
}

std::shared_ptr<const SharedBlocks::Range> SharedBlocks::Find(const Key& key) {
  auto found = by_key_.upper_bound(key);
  if (found == by_key_.begin()) return nullptr;
  --found;
  const bool holds =
      found->first.first == key.first && found->second->range->complete_position > key.second;
  if (!holds) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->range;
}

absl::StatusOr<std::shared_ptr<const SharedBlocks::Range>> SharedBlocks::Load(const Key& key,
                                                                              int64_t end) {
  const auto& [streams, from] = key;
  ICEPIE_ASSIGN_OR_RETURN(const BlockRange stored,
                          core_->ReadBlocks(streams, from, end, kFetchBytes));
  auto range = std::make_shared<Range>();
  range->from = from;
  range->complete_position = stored.complete_position;
  range->bytes = kRangeOverheadBytes;
  for (const StoredBlock& block : stored.blocks) {
    if (range->bytes >= kRangeBytes) {
      range->complete_position = range->blocks.back()->end_position();
      return range;
    }
    auto encoded = Encode(block);
    if (!encoded.ok() && !range->blocks.empty()) {
      // What is whole before the damage is read; the next call, from there, says what is wrong.
      range->complete_position = range->blocks.back()->end_position();
      return range;
    }
    ICEPIE_RETURN_IF_ERROR(encoded.status());
    range->bytes += static_cast<int64_t>((*encoded)->bytes().size()) +
                    static_cast<int64_t>((*encoded)->size()) * kRecordOverheadBytes;
    range->blocks.push_back(*std::move(encoded));
  }
  return range;
}

absl::StatusOr<std::shared_ptr<const EncodedBlock>> SharedBlocks::Encode(
    const StoredBlock& stored) {
  ICEPIE_ASSIGN_OR_RETURN(const BlockHeader header, CheckBlock(stored.data));
  {
    const MutexLock lock(mutex_);
    const auto known = blocks_.find(header.first_position);
    auto block = known == blocks_.end() ? nullptr : known->second.lock();
    // Sealing joins small blocks: one that begins there may be longer now.
    if (block != nullptr && block->end_position() == header.end_position()) return block;
  }
  ICEPIE_ASSIGN_OR_RETURN(auto block, EncodedBlock::Make(stored, live_bytes_));
  const MutexLock lock(mutex_);
  blocks_[header.first_position] = block;
  return block;
}

void SharedBlocks::Insert(const Key& key, std::shared_ptr<const Range> range) {
  const auto old = by_key_.find(key);
  if (old != by_key_.end()) {
    bytes_ -= old->second->range->bytes;
    entries_.erase(old->second);
    by_key_.erase(old);
  }
  bytes_ += range->bytes;
  entries_.push_front({key, std::move(range)});
  by_key_[key] = entries_.begin();
  while (!entries_.empty() && bytes_ > bytes_max_) {
    bytes_ -= entries_.back().range->bytes;
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  ForgetBlocks();
}

void SharedBlocks::ForgetBlocks() {
  if (blocks_.size() < sweep_size_) return;
  for (auto block = blocks_.begin(); block != blocks_.end();) {
    block = block->second.expired() ? blocks_.erase(block) : std::next(block);
  }
  sweep_size_ = std::max(kSweepMin, 2 * blocks_.size());
}

}  // namespace icepie::server
