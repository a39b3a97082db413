// Integers as bytes: little-endian inside values, big-endian inside keys (so that RocksDB's byte
// order is the numbers' order), and LEB128 variable-length ones inside records.
#ifndef ICEPIE_CORE_BYTE_ORDER_H_
#define ICEPIE_CORE_BYTE_ORDER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

#include "absl/strings/string_view.h"

namespace icepie {

template <typename Integer>
void PutLittleEndian(std::string& out, Integer value) {
  const auto bits = static_cast<std::make_unsigned_t<Integer>>(value);
  for (size_t i = 0; i < sizeof(bits); ++i) out.push_back(static_cast<char>(bits >> (8 * i)));
}

template <typename Integer>
void PutBigEndian(std::string& out, Integer value) {
  const auto bits = static_cast<std::make_unsigned_t<Integer>>(value);
  for (size_t i = sizeof(bits); i-- > 0;) out.push_back(static_cast<char>(bits >> (8 * i)));
}

// The caller has checked that sizeof(Integer) bytes are there.
template <typename Integer>
Integer GetLittleEndian(const char* in) {
  std::make_unsigned_t<Integer> bits = 0;
  for (size_t i = 0; i < sizeof(bits); ++i) {
    bits |= static_cast<std::make_unsigned_t<Integer>>(static_cast<unsigned char>(in[i]))
            << (8 * i);
  }
  return static_cast<Integer>(bits);
}

template <typename Integer>
Integer GetBigEndian(const char* in) {
  std::make_unsigned_t<Integer> bits = 0;
  for (size_t i = 0; i < sizeof(bits); ++i) {
    bits =
        static_cast<std::make_unsigned_t<Integer>>(bits << 8) | static_cast<unsigned char>(in[i]);
  }
  return static_cast<Integer>(bits);
}

inline void PutVarint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

// Takes a number off the front of `in`; nullopt when it is cut off or longer than 64 bits.
inline std::optional<uint64_t> TakeVarint(absl::string_view& in) {
  uint64_t value = 0;
  for (size_t i = 0; i < in.size() && i < 10; ++i) {
    const auto byte = static_cast<unsigned char>(in[i]);
    if (i == 9 && byte > 1) return std::nullopt;
    value |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
    if (byte < 0x80) {
      in.remove_prefix(i + 1);
      return value;
    }
  }
  return std::nullopt;
}

// A length and as many bytes; nullopt when `in` holds fewer.
inline std::optional<absl::string_view> TakeBytes(absl::string_view& in) {
  absl::string_view rest = in;
  const std::optional<uint64_t> size = TakeVarint(rest);
  if (!size || *size > rest.size()) return std::nullopt;
  const absl::string_view bytes = rest.substr(0, static_cast<size_t>(*size));
  rest.remove_prefix(bytes.size());
  in = rest;
  return bytes;
}

inline void PutBytes(std::string& out, absl::string_view bytes) {
  PutVarint(out, bytes.size());
  out.append(bytes.data(), bytes.size());
}

// Small magnitudes of either sign become small numbers.
inline uint64_t ZigZag(uint64_t difference) { return (difference << 1) ^ (0 - (difference >> 63)); }
inline uint64_t UnZigZag(uint64_t encoded) { return (encoded >> 1) ^ (0 - (encoded & 1)); }

}  // namespace icepie

#endif  // ICEPIE_CORE_BYTE_ORDER_H_
