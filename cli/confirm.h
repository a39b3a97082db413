// Asking before something that is hard to take back.
#ifndef ICEPIE_CLI_CONFIRM_H_
#define ICEPIE_CLI_CONFIRM_H_

#include <string>

#include "absl/status/status.h"
#include "cli/context.h"

namespace icepie::cli {

// Says `standing` and asks on the terminal. FAILED_PRECONDITION when the answer is no, and where
// nobody can be asked: then --yes, `to` do it, has to be said.
absl::Status Confirm(Context& context, const std::string& standing, const std::string& to);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_CONFIRM_H_
