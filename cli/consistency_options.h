// How fresh, or of which moment, the answer to a query has to be: the options of every command that
// asks one.
#ifndef ICEPIE_CLI_CONSISTENCY_OPTIONS_H_
#define ICEPIE_CLI_CONSISTENCY_OPTIONS_H_

#include <CLI/App.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::cli {

struct ConsistencyOptions {
  std::optional<int64_t> min_position;
  std::string as_of;
  std::string max_staleness;
  std::string on_stale;
};

// Lifetime: `options` outlives the command.
void AddConsistencyOptions(CLI::App* command, ConsistencyOptions& options);

// INVALID_ARGUMENT/PARAMETER_INVALID; nothing is set when no option was given.
absl::Status SetConsistency(const ConsistencyOptions& options, icepie::v1::QueryRequest* request);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_CONSISTENCY_OPTIONS_H_
