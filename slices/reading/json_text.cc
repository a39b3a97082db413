#include "slices/reading/json_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "slices/reading/timestamp_text.h"

namespace icepie::slices {
namespace {

constexpr size_t kNumberBytesMax = 48;
constexpr int64_t kNanosPerSecond = 1'000'000'000;
constexpr int64_t kSecondsPerDay = 86'400;

// What stands for a byte in a JSON string: 0: itself, 'u': \u00XX, else \ and this.
char EscapeOf(char c) {
  switch (c) {
    case '"':
    case '\\':
      return c;
    case '\b':
      return 'b';
    case '\f':
      return 'f';
    case '\n':
      return 'n';
    case '\r':
      return 'r';
    case '\t':
      return 't';
    default:
      return static_cast<unsigned char>(c) < 0x20 ? 'u' : '\0';
  }
}

char* WriteEscape(char* to, char c, char escape) {
  constexpr char kHex[] = "0123456789abcdef";
  *to++ = '\\';
  *to++ = escape;
  if (escape != 'u') return to;
  *to++ = '0';
  *to++ = '0';
  *to++ = kHex[c >> 4];
  *to++ = kHex[c & 15];
  return to;
}

// Copies eight bytes at a time while none needs an escape; returns how many.
size_t CopyPlain(char* to, const char* from, size_t size) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  constexpr uint64_t kHighs = 0x8080808080808080;
  size_t done = 0;
  for (; size - done >= 8; done += 8) {
    uint64_t word = 0;
    std::memcpy(&word, from + done, 8);
    const uint64_t quote = word ^ (kOnes * '"');
    const uint64_t backslash = word ^ (kOnes * '\\');
    const uint64_t special = ((word - kOnes * 0x20) & ~word) | ((quote - kOnes) & ~quote) |
                             ((backslash - kOnes) & ~backslash);
    if ((special & kHighs) != 0) break;
    std::memcpy(to + done, &word, 8);
  }
  return done;
}

int64_t FloorDivide(int64_t value, int64_t by) { return value / by - (value % by < 0 ? 1 : 0); }

}  // namespace

std::string JsonText::Take() && {
  buffer_.resize(size_);
  return std::move(buffer_);
}

char* JsonText::Grow(size_t more) {
  if (buffer_.size() - size_ < more) {
    constexpr size_t kFirst = 4096;
    buffer_.resize(std::max({kFirst, size_ + more, buffer_.size() * 2}));
  }
  return buffer_.data() + size_;
}

void JsonText::Add(absl::string_view text) {
  std::memcpy(Grow(text.size()), text.data(), text.size());
  size_ += text.size();
}

void JsonText::AddString(absl::string_view utf8) {
  if (utf8.size() > bytes_max_) return Refuse();
  constexpr size_t kEscapedMax = 6;
  char* to = Grow(utf8.size() * kEscapedMax + 2);
  *to++ = '"';
  const char* from = utf8.data();
  const char* const end = from + utf8.size();
  while (from != end) {
    const size_t plain = CopyPlain(to, from, static_cast<size_t>(end - from));
    to += plain;
    from += plain;
    // The rest of a word, or up to seven bytes before the end.
    const char* const stop = from + std::min<ptrdiff_t>(end - from, 8);
    for (; from != stop; ++from) {
      const char escape = EscapeOf(*from);
      if (escape == '\0') {
        *to++ = *from;
      } else {
        to = WriteEscape(to, *from, escape);
      }
    }
  }
  *to++ = '"';
  size_ = static_cast<size_t>(to - buffer_.data());
}

template <typename Integer>
void JsonText::AddDigits(Integer value) {
  char* const to = Grow(kNumberBytesMax);
  size_ += static_cast<size_t>(std::to_chars(to, to + kNumberBytesMax, value).ptr - to);
}

void JsonText::AddInteger(int64_t value) { AddDigits(value); }
void JsonText::AddUnsigned(uint64_t value) { AddDigits(value); }

void JsonText::AddUnsigned128(absl::uint128 value) {
  constexpr uint64_t kChunk = 10'000'000'000'000'000'000U;
  constexpr size_t kChunkDigits = 19;
  if (absl::Uint128High64(value) == 0) return AddUnsigned(absl::Uint128Low64(value));
  AddUnsigned128(value / kChunk);
  char digits[kNumberBytesMax];
  const uint64_t low = absl::Uint128Low64(value % kChunk);
  const char* const end = std::to_chars(digits, digits + kNumberBytesMax, low).ptr;
  const auto count = static_cast<size_t>(end - digits);
  for (size_t i = count; i < kChunkDigits; ++i) Add('0');
  Add(absl::string_view(digits, count));
}

void JsonText::AddInteger128(absl::int128 value) {
  if (value >= 0) return AddUnsigned128(static_cast<absl::uint128>(value));
  Add('-');
  AddUnsigned128(-static_cast<absl::uint128>(value));
}

void JsonText::AddDecimal(absl::int128 digits, int scale) {
  if (digits < 0) {
    Add('-');
    digits = -digits;
  }
  const size_t begin = size_;
  AddUnsigned128(static_cast<absl::uint128>(digits));
  if (scale == 0) return;
  const auto places = static_cast<size_t>(scale);
  const size_t count = size_ - begin;
  const size_t zeros = count > places ? 0 : places + 1 - count;  // 5 at scale 2 is 0.05
  Grow(zeros + 1);
  char* const text = buffer_.data() + begin;
  std::memmove(text + zeros, text, count);
  std::memset(text, '0', zeros);
  char* const point = text + zeros + count - places;
  std::memmove(point + 1, point, places);
  *point = '.';
  size_ += zeros + 1;
}

template <typename Real>
void JsonText::AddAnyReal(Real value) {
  if (!std::isfinite(value)) return Add("null");
  constexpr Real kPlainMin = static_cast<Real>(1e-5);
  constexpr Real kPlainMax = static_cast<Real>(1e15);
  const Real size = std::abs(value);
  const bool plain = size == 0 || (size >= kPlainMin && size < kPlainMax);
  const auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  char* const to = Grow(kNumberBytesMax);
  char* const end = std::to_chars(to, to + kNumberBytesMax, value, format).ptr;
  const auto count = static_cast<size_t>(end - to);
  size_ += count;
  if (plain && std::memchr(to, '.', count) == nullptr) Add(".0");
}

void JsonText::AddReal(double value) { AddAnyReal(value); }
void JsonText::AddReal(float value) { AddAnyReal(value); }

void JsonText::AddBase64(absl::string_view bytes) {
  if (bytes.size() > bytes_max_) return Refuse();
  Add('"');
  Add(absl::Base64Escape(bytes));
  Add('"');
}

void JsonText::AddTwo(int64_t value) {
  char* const to = Grow(2);
  to[0] = static_cast<char>('0' + value / 10);
  to[1] = static_cast<char>('0' + value % 10);
  size_ += 2;
}

void JsonText::AddYear(int64_t year) {
  constexpr int64_t kFourDigits = 10'000;
  if (year >= 0 && year < kFourDigits) {
    AddTwo(year / 100);
    return AddTwo(year % 100);
  }
  Add(year < 0 ? '-' : '+');
  const int64_t size = std::abs(year);
  if (size < kFourDigits) {
    AddTwo(size / 100);
    return AddTwo(size % 100);
  }
  AddInteger(size);
}

void JsonText::AddCivilDay(int64_t days) {
  const CivilDay civil = CivilFromDays(days);
  AddYear(civil.year);
  Add('-');
  AddTwo(civil.month);
  Add('-');
  AddTwo(civil.day);
}

void JsonText::AddClock(int64_t seconds_of_day, int64_t nanos) {
  AddTwo(seconds_of_day / 3600);
  Add(':');
  AddTwo(seconds_of_day / 60 % 60);
  Add(':');
  AddTwo(seconds_of_day % 60);
  if (nanos == 0) return;
  Add('.');
  int digits = 9;
  while (digits > 3 && nanos % 1000 == 0) {
    nanos /= 1000;
    digits -= 3;
  }
  char* const to = Grow(kNumberBytesMax);
  for (int i = digits - 1; i >= 0; --i, nanos /= 10) to[i] = static_cast<char>('0' + nanos % 10);
  size_ += static_cast<size_t>(digits);
}

void JsonText::AddDate(int64_t days) {
  Add('"');
  AddCivilDay(days);
  Add('"');
}

void JsonText::AddTime(int64_t nanos_of_day, absl::string_view zone) {
  Add('"');
  AddClock(nanos_of_day / kNanosPerSecond, nanos_of_day % kNanosPerSecond);
  Add(zone);
  Add('"');
}

void JsonText::AddTimestamp(int64_t parts, int64_t parts_per_second, absl::string_view zone) {
  const int64_t seconds = FloorDivide(parts, parts_per_second);
  const int64_t days = FloorDivide(seconds, kSecondsPerDay);
  const int64_t rest = parts - seconds * parts_per_second;
  Add('"');
  AddCivilDay(days);
  Add('T');
  AddClock(seconds - days * kSecondsPerDay, rest * (kNanosPerSecond / parts_per_second));
  Add(zone);
  Add('"');
}

}  // namespace icepie::slices
