#include "cli/consistency_options.h"

#include "cli/whole_number.h"
#include "core/base/status.h"
#include "server/query/as_of.h"
#include "server/query/staleness.h"

namespace icepie::cli {

void AddConsistencyOptions(CLI::App* command, ConsistencyOptions& options) {
  command
      ->add_option("--min-position", options.min_position,
                   "wait until every slice read shows all records below it")
      ->check(WholeNumberFrom(0));
  command->add_option("--as-of", options.as_of,
                      "answer from a snapshot: a position, a time such as 2026-11-22T02:58:41Z, or "
                      "a snapshot's name");
  CLI::Option* const max_staleness = command->add_option(
      "--max-staleness", options.max_staleness,
      "what has been stale for longer, such as 30s, is waited for, or no answer (--on-stale)");
  command->add_option("--on-stale", options.on_stale, "wait (for 5s), fail or serve")
      ->default_val("fail")
      ->needs(max_staleness);
}

absl::Status SetConsistency(const ConsistencyOptions& options, icepie::v1::QueryRequest* request) {
  if (options.min_position) {
    request->mutable_consistency()->set_min_position(*options.min_position);
  }
  if (!options.as_of.empty()) {
    ICEPIE_RETURN_IF_ERROR(server::SetAsOf(options.as_of, request->mutable_consistency()));
  }
  if (options.max_staleness.empty()) return absl::OkStatus();
  ICEPIE_RETURN_IF_ERROR(
      server::SetMaxStaleness(options.max_staleness, request->mutable_consistency()));
  return server::SetOnStale(options.on_stale, request->mutable_consistency());
}

}  // namespace icepie::cli
