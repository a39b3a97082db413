#include "cli/status_text.h"

#include <algorithm>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "cli/format.h"

namespace icepie::cli {

using icepie::v1::ServerStatus;
using icepie::v1::Slice;

bool IsHealthy(const Slice& slice) {
  return !slice.meta().stale() && slice.state() == icepie::v1::RUNNING;
}

bool IsStoppedByError(const Slice& slice) {
  const bool suspended = slice.state() == icepie::v1::SUSPENDED &&
                         slice.desired().mode() != icepie::v1::DesiredState::SUSPEND;
  return slice.state() == icepie::v1::FAULTED || slice.state() == icepie::v1::HELD ||
         slice.state() == icepie::v1::BLOCKED || suspended;
}

bool IsInSafeMode(const Slice& slice) {
  const auto& conditions = slice.conditions();
  return std::any_of(conditions.begin(), conditions.end(),
                     [](const auto& condition) { return condition.type() == "SAFE_MODE"; });
}

std::string ReminderText(const icepie::v1::DesiredState& desired) {
  if (!desired.has_remind_time()) return "";
  const absl::Duration left = ToTime(desired.remind_time()) - absl::Now();
  if (left > absl::ZeroDuration()) {
    return absl::StrCat("meant to last ", FormatElapsed(left), " more");
  }
  return absl::StrCat(FormatElapsed(-left), " longer than meant");
}

bool IsCoreWell(const ServerStatus& status) {
  return !status.core_read_only() && !status.core_disk_full() &&
         status.core_scrub().finding_count() == 0;
}

std::string CoreText(const ServerStatus& status) {
  if (status.core_read_only()) {
    return absl::StrCat("READ ONLY (", status.core_read_only_cause(), ")");
  }
  if (const int64_t count = status.core_scrub().finding_count(); count > 0) {
    return absl::StrCat("DAMAGED (", FormatCounted(count, "place"), ")");
  }
  if (!status.core_disk_full()) return "OK";
  return absl::StrCat("DISK FULL (", status.core_disk_free_bytes() >> 20,
                      " MiB free; appends are refused until there is space)");
}

std::string StatesText(const ServerStatus& status) {
  int healthy = 0;
  std::map<std::string, int> others;
  for (const Slice& slice : status.slices()) {
    if (IsHealthy(slice)) {
      ++healthy;
    } else {
      ++others[icepie::v1::SliceState_Name(slice.state())];
    }
  }
  std::vector<std::string> texts = {absl::StrCat(healthy, " fresh")};
  for (const auto& [state, count] : others) texts.push_back(absl::StrCat(count, " ", state));
  return absl::StrJoin(texts, ", ");
}

}  // namespace icepie::cli
