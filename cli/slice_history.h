// slice history and slice rollback: the generations of a slice, and the way back to one of them.
#ifndef ICEPIE_CLI_SLICE_HISTORY_H_
#define ICEPIE_CLI_SLICE_HISTORY_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "cli/context.h"

namespace icepie::cli {

// Prints every generation that is still known, newest first.
absl::StatusOr<int> PrintHistory(Context& context, const std::string& slice);

struct RollbackArguments {
  std::string slice;
  int64_t generation = 0;  // 0: the one that the serving generation replaced
  std::string reason;
  bool yes = false;      // do not ask
  bool no_wait = false;  // do not follow a build
};

// Says where the older generation stands, asks on a terminal, and returns to it.
// FAILED_PRECONDITION without --yes where nobody can be asked. One that is no longer kept fresh is
// built again first.
absl::StatusOr<int> Rollback(Context& context, const RollbackArguments& arguments);

// Waits until a generation that is to be promoted by itself serves. FAILED_PRECONDITION with the
// gate that kept it from that.
absl::Status WaitForPromotion(Context& context, const std::string& slice, int64_t generation);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_SLICE_HISTORY_H_
