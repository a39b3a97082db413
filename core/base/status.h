// Errors as every class boundary passes them: an absl::Status with a canonical code, a message that
// names the thing, the value and the remedy, and (for errors that clients tell apart) one reason
// with variables, the shape of google.rpc.ErrorInfo. server/base/rpc_status.cc turns them into gRPC
// and HTTP errors.
#ifndef ICEPIE_CORE_BASE_STATUS_H_
#define ICEPIE_CORE_BASE_STATUS_H_

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace icepie {

// One bad field of a request, as in google.rpc.BadRequest.
struct FieldViolation {
  std::string field;  // e.g. "records[17].payload" or "slices.on_time.sql"
  std::string description;
};

// What a client may branch on. `reason` is UPPER_SNAKE_CASE, from API.md's table, and never
// changes; `metadata` holds the variables of the message.
struct ErrorDetail {
  std::string reason;
  std::map<std::string, std::string> metadata;
  std::vector<FieldViolation> violations;
  std::optional<int64_t> retry_after_ms;
};

// A status that carries `detail`.
absl::Status MakeError(absl::StatusCode code, absl::string_view message, const ErrorDetail& detail);

// Shorthand for an error with a reason and variables only.
absl::Status MakeError(absl::StatusCode code, absl::string_view message, absl::string_view reason,
                       std::map<std::string, std::string> metadata = {});

// The detail of `status`; nullopt when it has none.
std::optional<ErrorDetail> GetErrorDetail(const absl::Status& status);

// The reason of `status`, or "" when it has none.
std::string ErrorReason(const absl::Status& status);

// `status` with `context` and ": " put before its message; code and detail are kept. OK stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view context);

}  // namespace icepie

#define ICEPIE_RETURN_IF_ERROR(expression)                                  \
  do {                                                                      \
    if (absl::Status icepie_status_ = (expression); !icepie_status_.ok()) { \
      return icepie_status_;                                                \
    }                                                                       \
  } while (false)

#define ICEPIE_CONCAT_INNER_(a, b) a##b
#define ICEPIE_CONCAT_(a, b) ICEPIE_CONCAT_INNER_(a, b)

// ICEPIE_ASSIGN_OR_RETURN(auto value, Function()); returns the error from the enclosing function.
#define ICEPIE_ASSIGN_OR_RETURN(lhs, expression) \
  ICEPIE_ASSIGN_OR_RETURN_(ICEPIE_CONCAT_(icepie_status_or_, __LINE__), lhs, expression)
#define ICEPIE_ASSIGN_OR_RETURN_(status_or, lhs, expression) \
  auto status_or = (expression);                             \
  if (!status_or.ok()) return status_or.status();            \
  lhs = std::move(status_or).value()

#endif  // ICEPIE_CORE_BASE_STATUS_H_
