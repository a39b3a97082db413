// That an operator has accepted a loss, kept in a file until it stands in the log: what is done
// about a loss cannot be undone, and the process may end before somebody has written it down.
#ifndef ICEPIE_CORE_LOG_ACCEPTED_LOSS_H_
#define ICEPIE_CORE_LOG_ACCEPTED_LOSS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace icepie {

inline constexpr absl::string_view kAcceptedLossFile = "accepted_loss";  // in the core's directory

// Before anything is done about it; synced. Beside what is kept already, once.
absl::Status KeepAcceptedLoss(const std::string& core_directory, absl::string_view loss);

// Empty when there is none.
absl::StatusOr<std::string> ReadAcceptedLoss(const std::string& core_directory);

absl::Status ForgetAcceptedLoss(const std::string& core_directory);

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_ACCEPTED_LOSS_H_
