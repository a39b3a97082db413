// Decimal numbers from their own characters, never through a double.
#ifndef ICEPIE_SLICES_READING_DECIMAL_TEXT_H_
#define ICEPIE_SLICES_READING_DECIMAL_TEXT_H_

#include "absl/numeric/int128.h"
#include "absl/strings/string_view.h"
#include "slices/definition/definition.h"

namespace icepie::slices {

enum class DecimalOutcome {
  kOk,
  kNotANumber,     // not `-?digits[.digits][e[+-]digits]`
  kTooManyDigits,  // more digits before the point than width - scale
  kTooFineDigits,  // digits other than 0 behind the scale, and rounding is refused
};

// `text` as DECIMAL(width, scale), width at most 38: `value` is the number times 10^scale. Rounding
// half_up takes halves away from zero, as DuckDB's round() does.
DecimalOutcome ParseDecimal(absl::string_view text, int width, int scale, Rounding rounding,
                            absl::int128& value);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_DECIMAL_TEXT_H_
