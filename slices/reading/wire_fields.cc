#include "slices/reading/wire_fields.h"

namespace icepie::slices {
namespace {

constexpr int kVarintBytesMax = 10;
constexpr int kGroupDepthMax = 100;  // of groups, as libprotobuf has it

}  // namespace

bool TakeVarint(absl::string_view& bytes, uint64_t& value) {
  value = 0;
  for (int i = 0; i < kVarintBytesMax && i < static_cast<int>(bytes.size()); ++i) {
    const auto byte = static_cast<uint8_t>(bytes[static_cast<size_t>(i)]);
    value |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
    if ((byte & 0x80) == 0) {
      bytes.remove_prefix(static_cast<size_t>(i) + 1);
      return true;
    }
  }
  return false;
}

bool TakeFixed(absl::string_view& bytes, int count, uint64_t& value) {
  if (bytes.size() < static_cast<size_t>(count)) return false;
  value = 0;
  for (int i = count; i-- > 0;) {
    value = value << 8 | static_cast<uint8_t>(bytes[static_cast<size_t>(i)]);
  }
  bytes.remove_prefix(static_cast<size_t>(count));
  return true;
}

bool WireFields::Next(WireField& field) {
  if (rest_.empty() || broken_) return false;
  broken_ = !ReadTag(field) || field.type == WireType::kEndGroup || !ReadValue(field, 0);
  return !broken_;
}

bool WireFields::ReadTag(WireField& field) {
  constexpr uint64_t kNumberMax = (uint64_t{1} << 29) - 1;
  uint64_t tag = 0;
  if (!TakeVarint(rest_, tag) || (tag & 7) > 5) return false;
  field.type = static_cast<WireType>(tag & 7);
  if ((tag >> 3) < 1 || (tag >> 3) > kNumberMax) return false;
  field.number = static_cast<int>(tag >> 3);
  return true;
}

bool WireFields::ReadValue(WireField& field, int depth) {
  field.bytes = {};
  switch (field.type) {
    case WireType::kVarint:
      return TakeVarint(rest_, field.value);
    case WireType::kFixed64:
      return TakeFixed(rest_, 8, field.value);
    case WireType::kFixed32:
      return TakeFixed(rest_, 4, field.value);
    case WireType::kBytes:
      if (!TakeVarint(rest_, field.value) || field.value > rest_.size()) return false;
      field.bytes = rest_.substr(0, field.value);
      rest_.remove_prefix(field.value);
      return true;
    case WireType::kGroup:
      return ReadGroup(field, depth);
    case WireType::kEndGroup:
      return false;
  }
  return false;
}

// Up to the tag that ends it.
bool WireFields::ReadGroup(WireField& field, int depth) {
  if (depth >= kGroupDepthMax) return false;
  const absl::string_view from = rest_;
  while (true) {
    const size_t length = from.size() - rest_.size();
    WireField inner;
    if (!ReadTag(inner)) return false;
    if (inner.type == WireType::kEndGroup) {
      field.bytes = from.substr(0, length);
      return inner.number == field.number;
    }
    if (!ReadValue(inner, depth + 1)) return false;
  }
}

}  // namespace icepie::slices
