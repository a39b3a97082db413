// A request's target taken apart: path segments and parameters, percent-decoded.
#ifndef ICEPIE_SERVER_HTTP_HTTP_TARGET_H_
#define ICEPIE_SERVER_HTTP_HTTP_TARGET_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace icepie::server {

struct HttpTarget {
  std::vector<std::string> segments;  // "/v1/domains" → {"v1", "domains"}
  std::vector<std::pair<std::string, std::string>> parameters;  // in their order, repeats kept
};

// INVALID_ARGUMENT/TARGET_INVALID for a target that is no path, a broken percent escape, or
// text that is not UTF-8.
absl::StatusOr<HttpTarget> ParseTarget(absl::string_view target);

// Whether a browser on this machine may be the asker: localhost, 127.0.0.1 or [::1], with or
// without a port. Any other name means that a web page had it resolved to this machine.
bool IsAllowedHost(absl::string_view host);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_HTTP_HTTP_TARGET_H_
