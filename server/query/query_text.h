// The texts of a question are UTF-8. A worker cannot read a request with any other, and would look
// as if it were lost.
#ifndef ICEPIE_SERVER_QUERY_QUERY_TEXT_H_
#define ICEPIE_SERVER_QUERY_QUERY_TEXT_H_

#include "absl/status/status.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::server {

// INVALID_ARGUMENT/PARAMETER_INVALID with the field whose text is not UTF-8.
absl::Status CheckText(const icepie::v1::QueryRequest& request);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_QUERY_TEXT_H_
