#include "slices/reading/decimal_text.h"

#include <algorithm>
#include <cstdint>

namespace icepie::slices {
namespace {

constexpr int kDigitsMax = 38;

// The digits of a number and where its point stands: 0.d1d2d3… × 10^exponent.
struct DecimalParts {
  bool negative = false;
  absl::string_view whole;
  absl::string_view fraction;
  int64_t exponent = 0;
};

absl::string_view TakeDigits(absl::string_view& text) {
  size_t count = 0;
  while (count < text.size() && text[count] >= '0' && text[count] <= '9') ++count;
  const absl::string_view digits = text.substr(0, count);
  text.remove_prefix(count);
  return digits;
}

bool TakeSign(absl::string_view& text, bool plus_allowed) {
  if (text.empty() || (text.front() != '-' && !(plus_allowed && text.front() == '+'))) return false;
  const bool negative = text.front() == '-';
  text.remove_prefix(1);
  return negative;
}

bool TakeExponent(absl::string_view& text, int64_t& exponent) {
  text.remove_prefix(1);
  const bool negative = TakeSign(text, true);
  const absl::string_view digits = TakeDigits(text);
  if (digits.empty()) return false;
  // Beyond a record's size the value no longer matters: it is zero or too large.
  constexpr int64_t kEnough = 1'000'000'000;
  for (const char digit : digits) exponent = std::min(exponent * 10 + (digit - '0'), kEnough);
  if (negative) exponent = -exponent;
  return true;
}

bool Split(absl::string_view text, DecimalParts& parts) {
  parts.negative = TakeSign(text, false);
  parts.whole = TakeDigits(text);
  if (parts.whole.empty()) return false;
  if (!text.empty() && text.front() == '.') {
    text.remove_prefix(1);
    parts.fraction = TakeDigits(text);
    if (parts.fraction.empty()) return false;
  }
  if (!text.empty() && (text.front() == 'e' || text.front() == 'E') &&
      !TakeExponent(text, parts.exponent)) {
    return false;
  }
  return text.empty();
}

absl::int128 PowerOfTen(int exponent) {
  absl::int128 power = 1;
  for (int i = 0; i < exponent; ++i) power *= 10;
  return power;
}

// Adds `digits` to the number that is kept, as far as they stand before the last place. `place` is
// the power of ten of the next digit, counted in units of the last place.
class Accumulator {
 public:
  explicit Accumulator(int64_t place) : place_(place) {}

  void Add(absl::string_view digits) {
    for (const char digit : digits) AddDigit(digit - '0');
  }

  bool overflow() const { return overflow_; }
  bool inexact() const { return inexact_; }
  absl::int128 Rounded(Rounding rounding) const {
    return rounding == Rounding::kHalfUp && half_ ? value_ + 1 : value_;
  }
  absl::int128 value() const { return value_; }

 private:
  void AddDigit(int digit) {
    if (place_ < 0) {
      inexact_ |= digit != 0;
      half_ |= place_ == -1 && digit >= 5;
    } else if (digit != 0 && place_ >= kDigitsMax) {
      overflow_ = true;
    } else if (digit != 0) {
      value_ += PowerOfTen(static_cast<int>(place_)) * digit;
    }
    --place_;
  }

  int64_t place_;
  absl::int128 value_ = 0;
  bool overflow_ = false;
  bool inexact_ = false;
  bool half_ = false;
};

// Short numbers without an exponent, which are nearly all: plain 64-bit arithmetic.
bool ParseShort(const DecimalParts& parts, int scale, absl::int128& value) {
  const auto fraction_size = static_cast<int>(parts.fraction.size());
  if (parts.exponent != 0 || fraction_size > scale || parts.whole.size() + scale > 18) return false;
  int64_t small = 0;
  for (const char digit : parts.whole) small = small * 10 + (digit - '0');
  for (const char digit : parts.fraction) small = small * 10 + (digit - '0');
  for (int i = fraction_size; i < scale; ++i) small *= 10;
  value = small;
  return true;
}

}  // namespace

DecimalOutcome ParseDecimal(absl::string_view text, int width, int scale, Rounding rounding,
                            absl::int128& value) {
  DecimalParts parts;
  if (!Split(text, parts)) return DecimalOutcome::kNotANumber;
  if (!ParseShort(parts, scale, value)) {
    Accumulator digits(static_cast<int64_t>(parts.whole.size()) - 1 + parts.exponent + scale);
    digits.Add(parts.whole);
    digits.Add(parts.fraction);
    if (digits.overflow()) return DecimalOutcome::kTooManyDigits;
    if (digits.inexact() && rounding == Rounding::kRefuse) return DecimalOutcome::kTooFineDigits;
    value = digits.Rounded(rounding);
  }
  if (value >= PowerOfTen(width)) return DecimalOutcome::kTooManyDigits;
  if (parts.negative) value = -value;
  return DecimalOutcome::kOk;
}

}  // namespace icepie::slices
