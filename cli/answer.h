// A query's answer as people and programs read it.
#ifndef ICEPIE_CLI_ANSWER_H_
#define ICEPIE_CLI_ANSWER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/context.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::cli {

// A value as it was typed: null, true and false, whole numbers, numbers with a fraction as
// decimals, everything else as text.
icepie::v1::Value ValueOf(const std::string& text);

// Asks by StreamQuery: an answer of any size, whole. DATA_LOSS when its end did not come.
absl::StatusOr<icepie::v1::QueryResponse> Ask(Context& context,
                                              const icepie::v1::QueryRequest& request);

// Asks and prints the rows, then where they stand:
//   226 rows · as of position 3,000,000 (0 behind) · generation 1 · 4 ms
// and a line for each stale slice with the reason and its remedy-giver's words.
absl::StatusOr<int> AskAndPrint(Context& context, const icepie::v1::QueryRequest& request);

// The line below an answer, without its stale slices.
std::string AnswerLine(const icepie::v1::Meta& meta, int64_t row_count, absl::Duration took);

// "STALE since 2026-11-22 02:58:41Z payments.volume (SLICE_FROZEN: INC-4711)".
std::string StaleLine(const icepie::v1::SliceMeta& slice, const std::string& why);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_ANSWER_H_
