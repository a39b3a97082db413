// Is a payload one well-formed JSON value (RFC 8259) in UTF-8? Numbers may have any size and
// precision: the raw core keeps their characters, and slices decide what they can read.
#ifndef ICEPIE_CORE_APPEND_JSON_VALIDATION_H_
#define ICEPIE_CORE_APPEND_JSON_VALIDATION_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace icepie {

// Deeper nesting is refused: nobody means it, and readers recurse.
inline constexpr int kJsonDepthMax = 1024;

struct JsonDefect {
  size_t place = 0;  // byte offset in the text
  std::string what;  // e.g. "expected a value"
};

// The first defect of `text`; nullopt when it is well-formed.
std::optional<JsonDefect> FindJsonDefect(absl::string_view text);

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_JSON_VALIDATION_H_
