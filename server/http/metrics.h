// The daemon's status as Prometheus reads it.
#ifndef ICEPIE_SERVER_HTTP_METRICS_H_
#define ICEPIE_SERVER_HTTP_METRICS_H_

#include <string>

#include "absl/time/time.h"
#include "icepie/v1/admin.pb.h"

namespace icepie::server {

// Prometheus' text format 0.0.4. Ages are measured against `now`.
std::string MetricsText(const icepie::v1::ServerStatus& status, absl::Time now);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_HTTP_METRICS_H_
