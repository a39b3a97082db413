#include "server/http/http_target.h"

#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/status.h"
#include "core/base/utf8.h"

namespace icepie::server {
namespace {

std::optional<std::string> Decode(absl::string_view text, bool plus_is_space) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      decoded += ' ';
    } else if (text[i] != '%') {
      decoded += text[i];
    } else if (i + 2 < text.size() && absl::ascii_isxdigit(text[i + 1]) &&
               absl::ascii_isxdigit(text[i + 2])) {
      decoded += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else {
      return std::nullopt;
    }
  }
  return decoded;
}

absl::Status Invalid(absl::string_view what) {
  return MakeError(absl::StatusCode::kInvalidArgument, what, "TARGET_INVALID");
}

// Of one part of the target, percent-decoded.
absl::StatusOr<std::string> DecodeText(absl::string_view text, bool plus_is_space) {
  std::optional<std::string> decoded = Decode(text, plus_is_space);
  if (!decoded) {
    return Invalid(absl::StrCat("\"", text, "\" holds a % that is no escape; write % as %25"));
  }
  if (!IsUtf8(*decoded)) {
    return Invalid(absl::StrCat("\"", text, "\" is not UTF-8 when it is percent-decoded"));
  }
  return *std::move(decoded);
}

}  // namespace

absl::StatusOr<HttpTarget> ParseTarget(absl::string_view target) {
  if (!absl::StartsWith(target, "/")) return Invalid("the target must be a path, as in /healthz");
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(target.substr(0, target.find('#')), absl::MaxSplits('?', 1));
  HttpTarget parsed;
  for (const absl::string_view segment : absl::StrSplit(parts.first.substr(1), '/')) {
    ICEPIE_ASSIGN_OR_RETURN(parsed.segments.emplace_back(), DecodeText(segment, false));
  }
  for (const absl::string_view parameter : absl::StrSplit(parts.second, '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(parameter, absl::MaxSplits('=', 1));
    auto& [name, value] = parsed.parameters.emplace_back();
    ICEPIE_ASSIGN_OR_RETURN(name, DecodeText(pair.first, true));
    ICEPIE_ASSIGN_OR_RETURN(value, DecodeText(pair.second, true));
  }
  return parsed;
}

bool IsAllowedHost(absl::string_view host) {
  for (const absl::string_view name : {"localhost", "127.0.0.1", "[::1]"}) {
    absl::string_view rest = host;
    if (!absl::StartsWithIgnoreCase(host, name)) continue;
    rest.remove_prefix(name.size());
    if (rest.empty()) return true;
    if (absl::ConsumePrefix(&rest, ":") && !rest.empty() &&
        rest.find_first_not_of("0123456789") == absl::string_view::npos) {
      return true;
    }
  }
  return false;
}

}  // namespace icepie::server
