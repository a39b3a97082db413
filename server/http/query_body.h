// The JSON body of POST /v1/domains/{domain}:query.
#ifndef ICEPIE_SERVER_HTTP_QUERY_BODY_H_
#define ICEPIE_SERVER_HTTP_QUERY_BODY_H_

#include <string>

#include "absl/status/statusor.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::server {

// {"sql": "SELECT …", "parameters": {"name": value}, "min_position": 7, "max_staleness": "30s",
// "on_stale": "fail", "format": "csv", "numbers": "string"}; values are null, booleans, numbers and
// texts. INVALID_ARGUMENT/BODY_INVALID names an unknown or mistyped field.
absl::StatusOr<icepie::v1::QueryRequest> ParseQueryBody(const std::string& body);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_HTTP_QUERY_BODY_H_
