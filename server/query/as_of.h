// Which moment of the past a question is about.
#ifndef ICEPIE_SERVER_QUERY_AS_OF_H_
#define ICEPIE_SERVER_QUERY_AS_OF_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::server {

// "81204113": a position; "2026-11-22T02:58:41Z" (or with another offset): a time; anything else:
// the name of a snapshot, which begins with a letter. INVALID_ARGUMENT/PARAMETER_INVALID.
absl::Status SetAsOf(absl::string_view text, icepie::v1::Consistency* consistency);

// Whether the question is about the past.
bool IsAsOf(const icepie::v1::Consistency& consistency);

// INVALID_ARGUMENT/PARAMETER_INVALID for what cannot be meant; OUT_OF_RANGE/POSITION_AHEAD_OF_CORE
// for a position beyond the core's `head`. OK when the question is not about the past.
absl::Status CheckAsOf(const icepie::v1::Consistency& consistency, int64_t head);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_AS_OF_H_
