#include "slices/reading/timestamp_text.h"

namespace icepie::slices {
namespace {

constexpr int kDateSize = 10;
constexpr int kTimeSize = 8;

// `count` digits at `at`, or -1.
int Digits(const char* at, int count) {
  int value = 0;
  for (int i = 0; i < count; ++i) {
    const int digit = at[i] - '0';
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

bool IsLeap(int year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

int DaysOfMonth(int year, int month) {
  constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return month == 2 && IsLeap(year) ? 29 : kDays[month - 1];
}

// Days of the date in the first ten characters.
std::optional<int64_t> ReadDate(const char* at) {
  if (at[4] != '-' || at[7] != '-') return std::nullopt;
  const int year = Digits(at, 4);
  const int month = Digits(at + 5, 2);
  const int day = Digits(at + 8, 2);
  if (year < 1 || month < 1 || month > 12 || day < 1 || day > DaysOfMonth(year, month)) {
    return std::nullopt;
  }
  return DaysFromCivil(year, month, day);
}

// Microseconds of `HH:MM:SS` in eight characters.
std::optional<int64_t> ReadClock(const char* at) {
  if (at[2] != ':' || at[5] != ':') return std::nullopt;
  const int hour = Digits(at, 2);
  const int minute = Digits(at + 3, 2);
  const int second = Digits(at + 6, 2);
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) {
    return std::nullopt;
  }
  return ((hour * 60 + minute) * 60 + second) * kMicrosPerSecond;
}

// Takes `.ffffff` off the front.
std::optional<int64_t> TakeFraction(absl::string_view& text) {
  if (text.empty() || text.front() != '.') return 0;
  text.remove_prefix(1);
  int64_t micros = 0;
  int64_t unit = kMicrosPerSecond;
  size_t count = 0;
  for (; count < text.size() && text[count] >= '0' && text[count] <= '9'; ++count) {
    unit /= 10;
    if (unit == 0 && text[count] != '0') return std::nullopt;
    micros += unit * (text[count] - '0');
  }
  if (count == 0) return std::nullopt;
  text.remove_prefix(count);
  return micros;
}

// All of `text`: `Z`, `+HH`, `+HHMM` or `+HH:MM`.
std::optional<int64_t> ReadOffset(absl::string_view text) {
  if (text == "Z") return 0;
  if (text.size() < 3 || (text[0] != '+' && text[0] != '-')) return std::nullopt;
  const int hours = Digits(text.data() + 1, 2);
  int minutes = 0;
  if (text.size() == 5) {
    minutes = Digits(text.data() + 3, 2);
  } else if (text.size() == 6 && text[3] == ':') {
    minutes = Digits(text.data() + 4, 2);
  } else if (text.size() != 3) {
    return std::nullopt;
  }
  if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return std::nullopt;
  const int64_t micros = (int64_t{hours} * 60 + minutes) * 60 * kMicrosPerSecond;
  return text[0] == '-' ? -micros : micros;
}

}  // namespace

// Both after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
int64_t DaysFromCivil(int64_t year, int month, int day) {
  year -= month <= 2 ? 1 : 0;
  const int64_t era = (year >= 0 ? year : year - 399) / 400;
  const int64_t year_of_era = year - era * 400;
  const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  const int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146'097 + day_of_era - 719'468;
}

CivilDay CivilFromDays(int64_t days) {
  days += 719'468;
  const int64_t era = (days >= 0 ? days : days - 146'096) / 146'097;
  const int64_t day_of_era = days - era * 146'097;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1'460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  const int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t shifted_month = (5 * day_of_year + 2) / 153;
  CivilDay civil;
  civil.day = static_cast<int>(day_of_year - (153 * shifted_month + 2) / 5 + 1);
  civil.month = static_cast<int>(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
  civil.year = year_of_era + era * 400 + (civil.month <= 2 ? 1 : 0);
  return civil;
}

std::optional<int64_t> ParseDateDays(absl::string_view text) {
  if (text.size() != kDateSize) return std::nullopt;
  return ReadDate(text.data());
}

std::optional<int64_t> ParseClockMicros(absl::string_view text) {
  if (text.size() < kTimeSize) return std::nullopt;
  const std::optional<int64_t> clock = ReadClock(text.data());
  text.remove_prefix(kTimeSize);
  const std::optional<int64_t> fraction = TakeFraction(text);
  if (!clock || !fraction || !text.empty()) return std::nullopt;
  return *clock + *fraction;
}

std::optional<TimeText> ParseTimeText(absl::string_view text) {
  if (text.size() < kDateSize + 1 + kTimeSize) return std::nullopt;
  if (text[kDateSize] != 'T' && text[kDateSize] != ' ') return std::nullopt;
  const std::optional<int64_t> days = ReadDate(text.data());
  const std::optional<int64_t> clock = ReadClock(text.data() + kDateSize + 1);
  text.remove_prefix(kDateSize + 1 + kTimeSize);
  const std::optional<int64_t> fraction = TakeFraction(text);
  if (!days || !clock || !fraction) return std::nullopt;
  TimeText time;
  time.micros = *days * kMicrosPerDay + *clock + *fraction;
  if (text.empty()) return time;
  time.offset_micros = ReadOffset(text);
  if (!time.offset_micros) return std::nullopt;
  return time;
}

}  // namespace icepie::slices
