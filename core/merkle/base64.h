// Base64 of RFC 4648, section 4, as C2SP's formats require it.
#ifndef ICEPIE_CORE_MERKLE_BASE64_H_
#define ICEPIE_CORE_MERKLE_BASE64_H_

#include <optional>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"

namespace icepie {

// nullopt for everything but the one way in which bytes are encoded: Abseil alone passes over
// spaces, missing padding and stray bits, so that one proof would have many texts.
inline std::optional<std::string> DecodeBase64(absl::string_view text) {
  std::string bytes;
  if (!absl::Base64Unescape(text, &bytes) || absl::Base64Escape(bytes) != text) return std::nullopt;
  return bytes;
}

}  // namespace icepie

#endif  // ICEPIE_CORE_MERKLE_BASE64_H_
