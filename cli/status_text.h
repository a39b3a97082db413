// What `icepie status`, `icepie top` and `icepie slice describe` say in the same words.
#ifndef ICEPIE_CLI_STATUS_TEXT_H_
#define ICEPIE_CLI_STATUS_TEXT_H_

#include <string>

#include "icepie/v1/admin.pb.h"

namespace icepie::cli {

// It does what it promises; the others are shown one by one.
bool IsHealthy(const icepie::v1::Slice& slice);

// Its last error is why it is in its state, and not over.
bool IsStoppedByError(const icepie::v1::Slice& slice);

// Nobody froze it: the daemon was started so.
bool IsInSafeMode(const icepie::v1::Slice& slice);

bool IsCoreWell(const icepie::v1::ServerStatus& status);

// "OK", "READ ONLY (…)", "DISK FULL (…)".
std::string CoreText(const icepie::v1::ServerStatus& status);

// "41 fresh, 1 FAULTED".
std::string StatesText(const icepie::v1::ServerStatus& status);

// "meant to last 2h 0m more" or "2h 5m longer than meant"; "" when nobody said how long.
std::string ReminderText(const icepie::v1::DesiredState& desired);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_STATUS_TEXT_H_
