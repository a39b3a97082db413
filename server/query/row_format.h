// How HTTP writes the rows of an answer.
#ifndef ICEPIE_SERVER_QUERY_ROW_FORMAT_H_
#define ICEPIE_SERVER_QUERY_ROW_FORMAT_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::server {

// "json", "ndjson", "csv". INVALID_ARGUMENT/PARAMETER_INVALID.
absl::Status SetFormat(absl::string_view text, icepie::v1::QueryRequest* query);
// "number", or "string" for what a double may not hold (QueryRequest.exact_as_text).
// INVALID_ARGUMENT/PARAMETER_INVALID.
absl::Status SetNumbers(absl::string_view text, icepie::v1::QueryRequest* query);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_ROW_FORMAT_H_
