// The fields of a protobuf message as they lie in its bytes
// (https://protobuf.dev/programming-guides/encoding), without knowing its type.
#ifndef ICEPIE_SLICES_READING_WIRE_FIELDS_H_
#define ICEPIE_SLICES_READING_WIRE_FIELDS_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace icepie::slices {

// As the encoding numbers them.
enum class WireType {
  kVarint = 0,
  kFixed64 = 1,
  kBytes = 2,
  kGroup = 3,
  kEndGroup = 4,
  kFixed32 = 5
};

struct WireField {
  int number = 0;
  WireType type = WireType::kVarint;
  uint64_t value = 0;       // kVarint, kFixed64, kFixed32
  absl::string_view bytes;  // kBytes, kGroup: what is in it
};

// Threads: one at a time. Lifetime: fields point into `message`.
class WireFields {
 public:
  explicit WireFields(absl::string_view message) : rest_(message) {}

  // False at the end, and when the bytes are no message: then broken().
  bool Next(WireField& field);
  bool broken() const { return broken_; }

 private:
  bool ReadTag(WireField& field);
  bool ReadValue(WireField& field, int depth);
  bool ReadGroup(WireField& field, int depth);

  absl::string_view rest_;
  bool broken_ = false;
};

// Takes a varint off the front of `bytes`; false when there is none.
bool TakeVarint(absl::string_view& bytes, uint64_t& value);
// Takes so many bytes of a little-endian number.
bool TakeFixed(absl::string_view& bytes, int count, uint64_t& value);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_WIRE_FIELDS_H_
