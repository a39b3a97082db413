// How stale an answer may be for who asks (Consistency.max_staleness), and for a slice's file.
#ifndef ICEPIE_SERVER_QUERY_STALENESS_H_
#define ICEPIE_SERVER_QUERY_STALENESS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::server {

// "30s", "0". INVALID_ARGUMENT/PARAMETER_INVALID.
absl::Status SetMaxStaleness(absl::string_view text, icepie::v1::Consistency* consistency);
// "serve", "wait", "fail". INVALID_ARGUMENT/PARAMETER_INVALID.
absl::Status SetOnStale(absl::string_view text, icepie::v1::Consistency* consistency);

// INVALID_ARGUMENT/PARAMETER_INVALID for what cannot be meant.
absl::Status CheckStaleness(const icepie::v1::Consistency& consistency);

// FAILED_PRECONDITION/STALENESS_EXCEEDED when the slice has been stale for longer than `allowed`,
// which is called `limit`.
absl::Status CheckStaleFor(const icepie::v1::SliceMeta& slice, absl::Duration allowed,
                           absl::string_view limit, absl::Time now);

// The same for all slices of an answer and what its question allows.
absl::Status CheckStaleFor(const icepie::v1::Meta& answer,
                           const icepie::v1::Consistency& consistency, absl::Time now);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_STALENESS_H_
