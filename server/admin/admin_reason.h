// What the calls that change something check of a request's fields alike.
#ifndef ICEPIE_SERVER_ADMIN_ADMIN_REASON_H_
#define ICEPIE_SERVER_ADMIN_ADMIN_REASON_H_

#include <string>

#include "absl/status/status.h"

namespace icepie::server {

// INVALID_ARGUMENT/PARAMETER_INVALID naming the field.
absl::Status BadParameter(const std::string& field, const std::string& what);

// Why somebody did it, as it is recorded: 1,000 bytes at most, and some where it is `required`.
absl::Status CheckReason(const std::string& reason, bool required);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_ADMIN_REASON_H_
