// Is text UTF-8? A message with other text in a string field is made without complaint, and fails
// only where it is read.
#ifndef ICEPIE_CORE_BASE_UTF8_H_
#define ICEPIE_CORE_BASE_UTF8_H_

#include <cstddef>

#include "absl/strings/string_view.h"

namespace icepie {

// Unicode, table 3-7: no overlong forms, no surrogates, none past U+10FFFF.
bool IsUtf8(absl::string_view text);

// The longest beginning of UTF-8 text that has at most `bytes_max` bytes and ends with a whole
// character.
absl::string_view CutUtf8(absl::string_view text, size_t bytes_max);

}  // namespace icepie

#endif  // ICEPIE_CORE_BASE_UTF8_H_
