// The daemon's settings: config/icepie.yaml parsed strictly into one protobuf message.
#ifndef ICEPIE_CONFIG_SETTINGS_H_
#define ICEPIE_CONFIG_SETTINGS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "icepie/config/v1/settings.pb.h"

namespace icepie::config {

// Every field with its default: loopback addresses, ports 7420 (gRPC) and 7421 (HTTP),
// data_directory "data".
icepie::config::v1::Settings DefaultSettings();

// Defaults overlaid by `yaml`. INVALID_ARGUMENT naming file, line, column, field, value and what is
// allowed, for an unknown, duplicate, mistyped or out-of-range field.
absl::StatusOr<icepie::config::v1::Settings> ParseSettings(absl::string_view yaml,
                                                           absl::string_view file_name);

// ParseSettings of a file; NOT_FOUND names the path.
absl::StatusOr<icepie::config::v1::Settings> LoadSettings(const std::string& path);

}  // namespace icepie::config

#endif  // ICEPIE_CONFIG_SETTINGS_H_
