// The first build of slices that were just created: from all records that there are.
#ifndef ICEPIE_CLI_FIRST_BUILD_H_
#define ICEPIE_CLI_FIRST_BUILD_H_

#include <set>
#include <string>

#include "absl/status/status.h"
#include "cli/context.h"

namespace icepie::cli {

// Shows progress until none of `slices` (domain.slice) is STARTING or BACKFILLING any more, then
// where each stands. UNKNOWN names the first that cannot go on without a change. Ctrl-C leaves the
// builds running.
absl::Status WaitForFirstBuilds(Context& context, const std::set<std::string>& slices);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_FIRST_BUILD_H_
