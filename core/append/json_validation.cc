#include "core/append/json_validation.h"

#include <simdjson.h>

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace icepie {
namespace {

// Finds the exact place of a defect, and is the judge of what simdjson refuses: simdjson's numbers
// end at 64 bits and at the range of a double, JSON's do not.
class JsonChecker {
 public:
  explicit JsonChecker(absl::string_view text) : text_(text) {}

  std::optional<JsonDefect> Check() {
    SkipSpace();
    bool ok = Value();
    while (ok && !open_.empty()) ok = Member();
    if (ok && at_ < text_.size()) ok = Fail("text behind the value");
    if (ok) return std::nullopt;
    return defect_;
  }

 private:
  bool Fail(absl::string_view what) {
    defect_ = {at_,
               at_ >= text_.size() ? absl::StrCat("ends too early, ", what) : std::string(what)};
    return false;
  }

  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool Take(char wanted) {
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  void SkipSpace() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) {
      ++at_;
    }
  }

  // A scalar, an empty container, or the opening of a container up to its first value.
  bool Value() {
    switch (Peek()) {
      case '{':
      case '[':
        return Open();
      case '"':
        return String() && After();
      case 't':
        return Word("true") && After();
      case 'f':
        return Word("false") && After();
      case 'n':
        return Word("null") && After();
      default:
        return Number() && After();
    }
  }

  bool After() {
    SkipSpace();
    return true;
  }

  bool Open() {
    if (open_.size() >= kJsonDepthMax) return Fail("nested too deeply");
    open_.push_back(text_[at_++]);
    SkipSpace();
    if (Take(Closing())) return Close();
    return Element();
  }

  char Closing() const { return open_.back() == '{' ? '}' : ']'; }

  bool Close() {
    open_.pop_back();
    return After();
  }

  // What follows a value inside a container: its end, or a comma and the next value.
  bool Member() {
    if (Take(Closing())) return Close();
    if (!Take(',')) return Fail(absl::StrCat("expected , or ", std::string(1, Closing())));
    SkipSpace();
    return Element();
  }

  bool Element() {
    if (open_.back() == '{' && !Name()) return false;
    // Recurses at most kJsonDepthMax times; what follows the value is for Check's loop.
    return Value();
  }

  bool Name() {
    if (Peek() != '"') return Fail("expected a member's name in double quotes");
    if (!String()) return false;
    SkipSpace();
    if (!Take(':')) return Fail("expected :");
    SkipSpace();
    return true;
  }

  bool Word(absl::string_view word) {
    if (text_.substr(at_, word.size()) != word) return Fail("expected a value");
    at_ += word.size();
    return true;
  }

  bool Digits() {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) return Fail("expected a digit");
    while (absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) ++at_;
    return true;
  }

  bool Number() {
    const bool minus = Take('-');
    if (!minus && !absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) {
      return Fail("expected a value");
    }
    if (!Take('0') && !Digits()) return false;
    if (Take('.') && !Digits()) return false;
    if (Take('e') || Take('E')) {
      if (!Take('+')) Take('-');
      return Digits();
    }
    return true;
  }

  bool String() {
    ++at_;
    while (at_ < text_.size()) {
      const auto byte = static_cast<unsigned char>(text_[at_]);
      if (byte == '"') return Take('"');
      if (byte < 0x20) return Fail("control character in a string");
      if (byte == '\\' ? !Escape() : !Character(byte)) return false;
    }
    return Fail("expected the string's end");
  }

  bool Escape() {
    ++at_;
    if (!Take('u')) {
      if (Peek() == '\0' || absl::string_view("\"\\/bfnrt").find(Peek()) == absl::string_view::npos)
        return Fail("unknown escape in a string");
      ++at_;
      return true;
    }
    const std::optional<unsigned> unit = Hex();
    if (!unit) return false;
    if (*unit >= 0xDC00 && *unit < 0xE000) return Fail("second half of a surrogate pair alone");
    if (*unit < 0xD800 || *unit >= 0xDC00) return true;
    if (!Take('\\') || !Take('u')) return Fail("first half of a surrogate pair alone");
    const std::optional<unsigned> second = Hex();
    if (!second) return false;
    if (*second < 0xDC00 || *second >= 0xE000) return Fail("first half of a surrogate pair alone");
    return true;
  }

  std::optional<unsigned> Hex() {
    unsigned value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const auto digit = static_cast<unsigned char>(Peek());
      if (!absl::ascii_isxdigit(digit)) {
        Fail("expected four hexadecimal digits");
        return std::nullopt;
      }
      value = value * 16 + (absl::ascii_isdigit(digit)
                                ? digit - unsigned{'0'}
                                : absl::ascii_tolower(digit) - unsigned{'a'} + 10);
    }
    return value;
  }

  // One UTF-8 character (Unicode, table 3-7: no overlong forms, no surrogates, none past U+10FFFF).
  bool Character(unsigned char lead) {
    if (lead < 0x80) {
      ++at_;
      return true;
    }
    const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    if (lead < 0xC2 || lead > 0xF4) return Fail("not UTF-8");
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
    for (int i = 1; i <= more; ++i) {
      const size_t place = at_ + static_cast<size_t>(i);
      const auto byte = place < text_.size() ? static_cast<unsigned char>(text_[place]) : 0;
      if (byte < low || byte > high) return Fail("not UTF-8");
      low = 0x80;
      high = 0xBF;
    }
    at_ += static_cast<size_t>(more) + 1;
    return true;
  }

  absl::string_view text_;
  size_t at_ = 0;
  std::vector<char> open_;  // the containers around the place
  JsonDefect defect_;
};

}  // namespace

std::optional<JsonDefect> FindJsonDefect(absl::string_view text) {
  // The DOM parser reads everything (On-Demand would not see errors in what it does not read).
  thread_local simdjson::dom::parser parser;
  if (parser.parse(text.data(), text.size(), /*realloc_if_needed=*/true).error() ==
      simdjson::SUCCESS) {
    return std::nullopt;
  }
  return JsonChecker(text).Check();
}

}  // namespace icepie
