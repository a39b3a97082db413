// The form of small files that must be whole or count for nothing: pairs of strings and a number,
// under a checksum.
//
//   magic (4 bytes), format version u32 LE = 1, number i64 LE, bytes of the body u32 LE,
//   body: each pair's two strings, each as u32 LE length + bytes,
//   SHA-256 of everything before it in hexadecimal
#ifndef ICEPIE_SERVER_BASE_NUMBERED_PAIRS_H_
#define ICEPIE_SERVER_BASE_NUMBERED_PAIRS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace icepie::server {

struct NumberedPairs {
  int64_t number = 0;
  std::map<std::string, std::string> pairs;
};

std::string EncodePairs(absl::string_view magic, const NumberedPairs& pairs);

// What EncodePairs has made; nothing when `bytes` do not begin with that as a whole. What follows
// is not looked at.
std::optional<NumberedPairs> DecodePairs(absl::string_view magic, absl::string_view bytes);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_NUMBERED_PAIRS_H_
