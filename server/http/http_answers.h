// Answers as HTTP shows them: rows with their meta, and problems.
#ifndef ICEPIE_SERVER_HTTP_HTTP_ANSWERS_H_
#define ICEPIE_SERVER_HTTP_HTTP_ANSWERS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "icepie/v1/slices.pb.h"
#include "server/http/http_message.h"

namespace icepie::server {

// The rows' bytes as they came in `format`: as JSON in {"meta":…,"columns":[…],"rows":[…]}, as
// NDJSON with {"end":{"rows":2}} in a last line, as CSV alone; 304 without a body when
// `if_none_match` (the header, "" for none) holds the answer's ETag. ETag, IcePie-* and caching
// headers are on both, and where the body has no meta, IcePie-Meta has it.
HttpAnswer RowsAnswer(const icepie::v1::QueryResponse& response, icepie::v1::RowFormat format,
                      absl::string_view if_none_match);

// application/problem+json of a failed request; Retry-After with 429 and 503.
HttpAnswer ProblemAnswer(const absl::Status& status);

// The same for errors that only HTTP knows, as in 405 or 415.
HttpAnswer ProblemAnswer(int http_status, absl::string_view reason, absl::string_view detail);

HttpAnswer TextAnswer(int http_status, absl::string_view text);

// The one entity tag in an If-None-Match header, without W/ and quotes; "" when there are several
// or none.
std::string SingleEntityTag(absl::string_view if_none_match);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_HTTP_HTTP_ANSWERS_H_
