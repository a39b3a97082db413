// Dates and times from ISO 8601 text, within the years 0001 to 9999, without any time zone
// database: what stands in the text is what counts.
#ifndef ICEPIE_SLICES_READING_TIMESTAMP_TEXT_H_
#define ICEPIE_SLICES_READING_TIMESTAMP_TEXT_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace icepie::slices {

inline constexpr int64_t kMicrosPerSecond = 1'000'000;
inline constexpr int64_t kMicrosPerDay = 86'400 * kMicrosPerSecond;

// 0001-01-01T00:00:00 and 9999-12-31T23:59:59.999999, in microseconds since 1970.
inline constexpr int64_t kTimeMicrosMin = -62'135'596'800 * kMicrosPerSecond;
inline constexpr int64_t kTimeMicrosMax = 253'402'300'800 * kMicrosPerSecond - 1;

// Days since 1970-01-01 in the proleptic Gregorian calendar, and back.
int64_t DaysFromCivil(int64_t year, int month, int day);
struct CivilDay {
  int64_t year = 0;
  int month = 0;
  int day = 0;
};
CivilDay CivilFromDays(int64_t days);

// `2001-01-01`, nothing else.
std::optional<int64_t> ParseDateDays(absl::string_view text);

// `00:05:00[.ffffff]` in microseconds of the day.
std::optional<int64_t> ParseClockMicros(absl::string_view text);

struct TimeText {
  int64_t micros = 0;                    // of the local time, since 1970
  std::optional<int64_t> offset_micros;  // `Z` is 0
};

// `2001-01-01T00:05:00[.ffffff][Z|±HH[[:]MM]]`, with a space or T in the middle. More than six
// digits of a fraction must be zeros: they would be lost.
std::optional<TimeText> ParseTimeText(absl::string_view text);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_TIMESTAMP_TEXT_H_
