// The one place where errors change shape: absl::Status with its ErrorDetail ↔ gRPC status with
// google.rpc details ↔ HTTP status.
#ifndef ICEPIE_SERVER_BASE_RPC_STATUS_H_
#define ICEPIE_SERVER_BASE_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace icepie::server {

// The same code and message; reason, variables, violations and retry time become ErrorInfo,
// BadRequest and RetryInfo. Message and details are cut to 4 KB together (a status beyond about
// 8 KB hides the real code from clients).
grpc::Status ToGrpcStatus(const absl::Status& status);

// The reverse; unknown details are dropped.
absl::Status FromGrpcStatus(const grpc::Status& status);

// API.md's table: 400, 404, 409, 429, 500, 503, 507 … by code and reason.
int HttpStatusOf(const absl::Status& status);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_RPC_STATUS_H_
