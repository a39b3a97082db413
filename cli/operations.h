// Builds of slices as operations: follow them with a progress bar until they end.
#ifndef ICEPIE_CLI_OPERATIONS_H_
#define ICEPIE_CLI_OPERATIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/context.h"

namespace icepie::cli {

// "op-71" and "operations/op-71" name the same operation.
std::string OperationName(const std::string& name);
std::string ShortOperationName(const std::string& name);

// Shows the progress of each until all have ended, and says how each did. The error of the first
// that failed. Ctrl-C leaves the builds running.
absl::Status FollowOperations(Context& context, const std::vector<std::string>& names);

// The type and figures of one operation's metadata, for lists and progress.
icepie::v1::ResliceMetadata MetadataOf(const google::longrunning::Operation& operation);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_OPERATIONS_H_
