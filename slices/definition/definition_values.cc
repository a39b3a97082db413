#include "slices/definition/definition_values.h"

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace icepie::slices {
namespace {

constexpr size_t kNameLengthMax = 63;

bool IsNameText(absl::string_view name, bool capitals) {
  if (name.empty() || name.size() > kNameLengthMax) return false;
  if (!absl::ascii_islower(name[0]) && !(capitals && absl::ascii_isupper(name[0]))) return false;
  for (const char c : name) {
    const bool plain = absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_';
    if (!plain && !(capitals && absl::ascii_isupper(c))) return false;
  }
  return true;
}

struct CronField {
  const char* name;
  int min;
  int max;
};
constexpr CronField kCronFields[] = {
    {"minute", 0, 59}, {"hour", 0, 23}, {"day", 1, 31}, {"month", 1, 12}, {"weekday", 0, 7}};

bool InRange(absl::string_view text, const CronField& field, int& value) {
  return absl::SimpleAtoi(text, &value) && value >= field.min && value <= field.max;
}

// One element of a list: *, 5, 1-5, each perhaps with /step.
bool IsCronElement(absl::string_view element, const CronField& field) {
  const std::vector<absl::string_view> parts = absl::StrSplit(element, '/');
  int step = 1;
  if (parts.size() > 2) return false;
  if (parts.size() == 2 && (!absl::SimpleAtoi(parts[1], &step) || step < 1)) return false;
  if (parts[0] == "*") return true;
  const std::vector<absl::string_view> bounds = absl::StrSplit(parts[0], '-');
  int low = 0;
  int high = 0;
  if (!InRange(bounds[0], field, low)) return false;
  if (bounds.size() == 1) return parts.size() == 1;
  return bounds.size() == 2 && InRange(bounds[1], field, high) && low <= high;
}

// JSON's own number grammar; YAML's .inf, 0x1f and 1_000 stay text.
bool IsJsonNumber(absl::string_view text) {
  const auto value = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  return value.is_number();
}

}  // namespace

absl::Status CheckName(absl::string_view name) {
  if (IsNameText(name, /*capitals=*/false)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("bad name `", name,
                   "`: use lower-case letters, digits and _, begin with a letter, "
                   "at most ",
                   kNameLengthMax, " characters"));
}

absl::Status CheckColumnName(absl::string_view name) {
  if (IsNameText(name, /*capitals=*/true)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("bad column name `", name,
                   "`: use letters, digits and _, begin with a letter, at "
                   "most ",
                   kNameLengthMax, " characters; other field names go into `path`"));
}

absl::Status CheckSnapshotName(absl::string_view name) {
  const bool good = !name.empty() && name.size() <= kNameLengthMax &&
                    absl::ascii_isalpha(name[0]) &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
                    });
  // What stands behind the name is told from it by its ending.
  if (good && !absl::EndsWith(name, ".about")) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("bad snapshot name `", name,
                   "`: use letters, digits and . _ -, begin with a letter, at most ",
                   kNameLengthMax, " characters, not .about at the end"));
}

absl::Status CheckSnapshotPattern(const std::string& pattern) {
  const absl::TimeZone utc = absl::UTCTimeZone();
  const absl::Time time = absl::FromCivil(absl::CivilDay(2001, 1, 31), utc);
  const std::string name = absl::FormatTime(pattern, time, utc);
  const absl::Status good = CheckSnapshotName(name);
  if (!good.ok()) return good;
  // A year and a month and a day on, to the second.
  const absl::Time later = absl::FromCivil(absl::CivilSecond(2002, 2, 3, 4, 5, 6), utc);
  if (name != absl::FormatTime(pattern, later, utc)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("`", pattern,
                   "` gives the same name every time: put a time in, e.g. "
                   "month-%Y-%m or day-%Y-%m-%d"));
}

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text) {
  absl::Duration duration;
  if (absl::ParseDuration(text, &duration) && duration > absl::ZeroDuration() &&
      duration < absl::InfiniteDuration()) {
    return duration;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("`", text, "` is no duration: write e.g. 500ms, 30s, 5m or 1h30m"));
}

absl::StatusOr<absl::Duration> ParseAge(absl::string_view text) {
  constexpr int64_t kDaysMax = 100'000;
  int64_t days = 0;
  absl::string_view number = text;
  if (absl::ConsumeSuffix(&number, "d") && absl::SimpleAtoi(number, &days) && days > 0 &&
      days <= kDaysMax) {
    return absl::Hours(24 * days);
  }
  return ParseDuration(text);
}

absl::StatusOr<int64_t> ParseByteSize(absl::string_view text) {
  static constexpr std::pair<const char*, int64_t> kUnits[] = {
      {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
      {"KB", 1000},     {"MB", 1000000},  {"GB", 1000000000}};
  for (const auto& [unit, factor] : kUnits) {
    if (!absl::EndsWith(text, unit)) continue;
    const absl::string_view number = text.substr(0, text.size() - absl::string_view(unit).size());
    int64_t count = 0;
    if (absl::SimpleAtoi(number, &count) && count > 0 &&
        count < std::numeric_limits<int64_t>::max() / factor) {
      return count * factor;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("`", text, "` is no size: write e.g. 512MB, 4GB or 1GiB"));
}

absl::StatusOr<std::vector<std::string>> ParseJsonPath(absl::string_view text) {
  const auto bad = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("`", text, "` is no path: write e.g. $.amount.value (field names, no lists)"));
  };
  if (!absl::StartsWith(text, "$.")) return bad();
  std::vector<std::string> path = absl::StrSplit(text.substr(2), '.');
  if (path.size() > 16) return bad();
  for (const std::string& field : path) {
    if (field.empty() || field.find_first_of("[]\"'*$ ") != std::string::npos) return bad();
  }
  return path;
}

absl::Status CheckCron(absl::string_view text) {
  const std::vector<absl::string_view> fields =
      absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (fields.size() != std::size(kCronFields)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cron `", text, "` has ", fields.size(),
                     " fields, not five (minute hour day month weekday), e.g. \"0 2 * * *\""));
  }
  for (size_t i = 0; i < fields.size(); ++i) {
    for (const absl::string_view element : absl::StrSplit(fields[i], ',')) {
      if (IsCronElement(element, kCronFields[i])) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("cron `", text, "`: ", kCronFields[i].name, " `", element, "` must be *, a ",
                       "number from ", kCronFields[i].min, " to ", kCronFields[i].max,
                       ", a range or a step, e.g. 1-5 or */10"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTimeZone(absl::string_view name) {
  absl::TimeZone zone;
  // "localtime" and file names would differ from machine to machine.
  const bool portable = !name.empty() && absl::ascii_isupper(name[0]);
  if (portable && absl::LoadTimeZone(name, &zone)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("unknown time zone `", name, "`: use an IANA name, e.g. Europe/Zurich or UTC"));
}

std::string ScalarAsJson(const YamlNode& node) {
  if (node.kind == YamlNode::Kind::kNull) return "null";
  const std::string& text = node.text;
  const bool literal = text == "true" || text == "false" || text == "null";
  if (!node.quoted && (literal || IsJsonNumber(text))) return text;
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace icepie::slices
