// Five-field cron schedules in a time zone: minute hour day-of-month month day-of-week. Fields are
// *, numbers, ranges, lists and steps (0-59/15); names of months and days are taken in English. 7
// is Sunday too. When day-of-month and day-of-week are both restricted either one is enough, as in
// cron(8).
#ifndef ICEPIE_SLICES_DEFINITION_CRON_H_
#define ICEPIE_SLICES_DEFINITION_CRON_H_

#include <bitset>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace icepie::slices {

class CronSchedule {
 public:
  // INVALID_ARGUMENT naming the field and what it may be, or the unknown zone. An empty zone is
  // UTC.
  static absl::StatusOr<CronSchedule> Parse(absl::string_view text, absl::string_view time_zone);

  // The first time after `time`; InfiniteFuture when there is none (31 February). A local time that
  // a change of the clocks skips happens at the moment of the change, one that it repeats happens
  // once, the first time.
  absl::Time Next(absl::Time time) const;

 private:
  bool DayMatches(absl::CivilDay day) const;

  absl::TimeZone zone_;
  std::bitset<60> minutes_;
  std::bitset<24> hours_;
  std::bitset<32> days_;
  std::bitset<13> months_;
  std::bitset<8> weekdays_;  // 0 = Sunday
  bool any_day_ = false;
  bool any_weekday_ = false;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_CRON_H_
