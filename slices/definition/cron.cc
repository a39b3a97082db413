#include "slices/definition/cron.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"

namespace icepie::slices {
namespace {

constexpr int kYearsSearched = 30;  // 29 February on a given weekday comes at least every 28 years

struct Field {
  const char* name;
  int low;
  int high;
  std::vector<std::string> names;  // of values from `low` on
};

const Field& MinuteField() {
  static const auto* const kField = new Field{"minute", 0, 59, {}};
  return *kField;
}
const Field& HourField() {
  static const auto* const kField = new Field{"hour", 0, 23, {}};
  return *kField;
}
const Field& DayField() {
  static const auto* const kField = new Field{"day of month", 1, 31, {}};
  return *kField;
}
const Field& MonthField() {
  static const auto* const kField = new Field{
      "month",
      1,
      12,
      {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}};
  return *kField;
}
const Field& WeekdayField() {
  static const auto* const kField =
      new Field{"day of week", 0, 7, {"sun", "mon", "tue", "wed", "thu", "fri", "sat"}};
  return *kField;
}

absl::Status FieldError(const Field& field, absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat("cron: ", field.name, " \"", text,
                                                 "\" is not *, or numbers from ", field.low, " to ",
                                                 field.high, ", like 5, 1-5, 1,3 or */15"));
}

bool ParseNumber(const Field& field, absl::string_view text, int& value) {
  const std::string lower = absl::AsciiStrToLower(text);
  const auto named = std::find(field.names.begin(), field.names.end(), lower);
  if (named != field.names.end()) {
    value = field.low + static_cast<int>(named - field.names.begin());
    return true;
  }
  return absl::SimpleAtoi(text, &value) && value >= field.low && value <= field.high;
}

// One part of a list: *, 5, 1-5, each with an optional /step.
template <size_t kSize>
absl::Status ParsePart(const Field& field, absl::string_view text, std::bitset<kSize>& bits) {
  const std::vector<absl::string_view> stepped = absl::StrSplit(text, '/');
  int step = 1;
  if (stepped.size() > 2 ||
      (stepped.size() == 2 && (!absl::SimpleAtoi(stepped[1], &step) || step < 1))) {
    return FieldError(field, text);
  }
  int low = field.low;
  int high = field.high;
  if (stepped[0] != "*") {
    const std::vector<absl::string_view> ends = absl::StrSplit(stepped[0], '-');
    if (ends.size() > 2 || !ParseNumber(field, ends[0], low)) return FieldError(field, text);
    if (stepped.size() == 1) high = low;
    if (ends.size() == 2 && (!ParseNumber(field, ends[1], high) || high < low)) {
      return FieldError(field, text);
    }
  }
  for (int value = low; value <= high; value += step) bits.set(static_cast<size_t>(value));
  return absl::OkStatus();
}

template <size_t kSize>
absl::Status ParseField(const Field& field, absl::string_view text, std::bitset<kSize>& bits) {
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    ICEPIE_RETURN_IF_ERROR(ParsePart(field, part, bits));
  }
  return absl::OkStatus();
}

size_t CronWeekday(absl::CivilDay day) {
  // absl counts from Monday.
  return (static_cast<size_t>(absl::GetWeekday(day)) + 1) % 7;
}

}  // namespace

absl::StatusOr<CronSchedule> CronSchedule::Parse(absl::string_view text,
                                                 absl::string_view time_zone) {
  const std::vector<std::string> fields =
      absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (fields.size() != 5) {
    return absl::InvalidArgumentError(
        absl::StrCat("cron: \"", text, "\" has ", fields.size(),
                     " fields; it takes five: minute hour day-of-month month day-of-week"));
  }
  CronSchedule cron;
  const std::string zone = time_zone.empty() ? "UTC" : std::string(time_zone);
  if (!absl::LoadTimeZone(zone, &cron.zone_)) {
    return absl::InvalidArgumentError(
        absl::StrCat("time zone \"", zone, "\" is unknown; it takes a name like Europe/Zurich"));
  }
  ICEPIE_RETURN_IF_ERROR(ParseField(MinuteField(), fields[0], cron.minutes_));
  ICEPIE_RETURN_IF_ERROR(ParseField(HourField(), fields[1], cron.hours_));
  ICEPIE_RETURN_IF_ERROR(ParseField(DayField(), fields[2], cron.days_));
  ICEPIE_RETURN_IF_ERROR(ParseField(MonthField(), fields[3], cron.months_));
  ICEPIE_RETURN_IF_ERROR(ParseField(WeekdayField(), fields[4], cron.weekdays_));
  if (cron.weekdays_.test(7)) cron.weekdays_.set(0);
  cron.any_day_ = fields[2] == "*";
  cron.any_weekday_ = fields[4] == "*";
  return cron;
}

bool CronSchedule::DayMatches(absl::CivilDay day) const {
  if (!months_.test(static_cast<size_t>(day.month()))) return false;
  const bool by_day = days_.test(static_cast<size_t>(day.day()));
  const bool by_weekday = weekdays_.test(CronWeekday(day));
  if (any_day_ || any_weekday_) return by_day && by_weekday;
  return by_day || by_weekday;
}

absl::Time CronSchedule::Next(absl::Time time) const {
  const absl::CivilDay first(absl::ToCivilMinute(time, zone_));
  const absl::CivilDay last(first.year() + kYearsSearched, first.month(), first.day());
  for (absl::CivilDay day = first; day < last; ++day) {
    if (!DayMatches(day)) continue;
    for (int hour = 0; hour < 24; ++hour) {
      if (!hours_.test(static_cast<size_t>(hour))) continue;
      for (int minute = 0; minute < 60; ++minute) {
        if (!minutes_.test(static_cast<size_t>(minute))) continue;
        const absl::TimeZone::TimeInfo at =
            zone_.At(absl::CivilSecond(day.year(), day.month(), day.day(), hour, minute));
        const bool skipped = at.kind == absl::TimeZone::TimeInfo::SKIPPED;
        const absl::Time candidate = skipped ? at.trans : at.pre;
        if (candidate > time) return candidate;
      }
    }
  }
  return absl::InfiniteFuture();
}

}  // namespace icepie::slices
