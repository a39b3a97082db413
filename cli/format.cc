#include "cli/format.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace icepie::cli {
namespace {

std::string TwoUnits(int64_t first, const char* first_unit, int64_t second,
                     const char* second_unit) {
  if (second == 0) return absl::StrCat(first, first_unit);
  return absl::StrCat(first, first_unit, " ", second, second_unit);
}

}  // namespace

std::string FormatCount(int64_t count) {
  std::string digits = absl::StrCat(count);
  const size_t first_digit = count < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first_digit + 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string FormatCounted(int64_t count, absl::string_view noun) {
  return absl::StrCat(FormatCount(count), " ", noun, count == 1 ? "" : "s");
}

std::string FormatShortCount(double count) {
  if (std::abs(count) < 10'000) return FormatCount(std::llround(count));
  if (std::abs(count) < 999'500) return absl::StrFormat("%.0f k", count / 1e3);
  if (std::abs(count) < 999.95e6) return absl::StrFormat("%.1f M", count / 1e6);
  return absl::StrFormat("%.2f G", count / 1e9);
}

std::string FormatRate(double per_second) { return FormatShortCount(per_second) + "/s"; }

std::string FormatBytes(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes < 1000) return absl::StrCat(bytes, " B");
  if (value < 999.5e3) return absl::StrFormat("%.0f kB", value / 1e3);
  if (value < 999.95e6) return absl::StrFormat("%.1f MB", value / 1e6);
  return absl::StrFormat("%.1f GB", value / 1e9);
}

std::string FormatElapsed(absl::Duration duration) {
  if (duration < absl::ZeroDuration()) duration = absl::ZeroDuration();
  if (duration < absl::Seconds(1)) {
    return absl::StrCat(absl::ToInt64Milliseconds(duration), " ms");
  }
  const int64_t seconds = absl::ToInt64Seconds(duration);
  if (seconds < 60) return absl::StrCat(seconds, " s");
  if (seconds < 3600) return TwoUnits(seconds / 60, "m", seconds % 60, "s");
  if (seconds < 86400) return TwoUnits(seconds / 3600, "h", seconds % 3600 / 60, "m");
  return TwoUnits(seconds / 86400, "d", seconds % 86400 / 3600, "h");
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

std::string FormatTime(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0 && time.nanos() == 0) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M:%SZ", ToTime(time), absl::UTCTimeZone());
}

}  // namespace icepie::cli
