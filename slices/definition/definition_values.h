// Single values of a domain file: durations, sizes, cron lines, JSON paths, names.
#ifndef ICEPIE_SLICES_DEFINITION_DEFINITION_VALUES_H_
#define ICEPIE_SLICES_DEFINITION_DEFINITION_VALUES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "slices/definition/yaml_tree.h"

namespace icepie::slices {

// Errors of all: INVALID_ARGUMENT whose message names the value and the remedy.

// Domains, sources and slices: [a-z][a-z0-9_]{0,62}.
absl::Status CheckName(absl::string_view name);
// Columns may have capitals, as JSON fields do.
absl::Status CheckColumnName(absl::string_view name);

// "30s", "1h30m", "500ms"; more than zero.
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);

// The same, and whole days: "400d".
absl::StatusOr<absl::Duration> ParseAge(absl::string_view text);

// "512MB", "4GB", "1GiB": bytes.
absl::StatusOr<int64_t> ParseByteSize(absl::string_view text);

// "$.amount.value" → {"amount", "value"}.
absl::StatusOr<std::vector<std::string>> ParseJsonPath(absl::string_view text);

// A snapshot's name: letters, digits and . _ -, beginning with a letter, at most 63 characters.
absl::Status CheckSnapshotName(absl::string_view name);

// A pattern whose names are good and differ from day to day.
absl::Status CheckSnapshotPattern(const std::string& pattern);

// Five fields (minute, hour, day, month, weekday) of numbers, *, ranges, lists and steps.
absl::Status CheckCron(absl::string_view text);

// An IANA name that the machine's time zone database knows.
absl::Status CheckTimeZone(absl::string_view name);

// A plain YAML scalar as JSON: numbers, true, false and null as such, anything else (and all that
// is quoted) as a string.
std::string ScalarAsJson(const YamlNode& node);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_DEFINITION_VALUES_H_
