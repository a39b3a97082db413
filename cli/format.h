// Figures as people read them.
#ifndef ICEPIE_CLI_FORMAT_H_
#define ICEPIE_CLI_FORMAT_H_

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace icepie::cli {

// 3000000 → "3,000,000".
std::string FormatCount(int64_t count);

// "1 row", "226 rows".
std::string FormatCounted(int64_t count, absl::string_view noun);

// 63412000 → "63.4 M"; below 10,000 as FormatCount.
std::string FormatShortCount(double count);

// "740 k/s".
std::string FormatRate(double per_second);

// "870 B", "1.2 GB", in powers of 1,000.
std::string FormatBytes(int64_t bytes);

// Two units at most: "850 ms", "24 s", "4m 12s", "3h 5m", "2d 4h".
std::string FormatElapsed(absl::Duration duration);

// "2026-11-22 02:58:41Z"; "-" when the field was never set.
std::string FormatTime(const google::protobuf::Timestamp& time);

absl::Time ToTime(const google::protobuf::Timestamp& time);
absl::Duration ToDuration(const google::protobuf::Duration& duration);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_FORMAT_H_
