// What a domain may use, and who says so: its file, the daemon's settings, or nobody, for the
// people who look.
#ifndef ICEPIE_SERVER_DOMAIN_DOMAIN_LIMITS_H_
#define ICEPIE_SERVER_DOMAIN_DOMAIN_LIMITS_H_

#include <cstdint>
#include <string>

#include "google/protobuf/repeated_field.h"
#include "icepie/catalog/v1/catalog.pb.h"
#include "icepie/v1/admin.pb.h"
#include "icepie/worker/v1/worker.pb.h"
#include "server/supervisor/managed_worker.h"

namespace icepie::server {

using LimitList = google::protobuf::RepeatedPtrField<icepie::v1::DomainLimit>;

// What a domain may have of the disk by the setting workers.disk_bytes, 0 for no limit. Below 0 it
// is half of the file system that has `path`, so that none fills it alone, and 1 GiB at least.
int64_t DiskBytesByDefault(int64_t setting, const std::string& path);

// Those in force for a domain whose current revision is `entry`.
LimitList DescribeLimits(const icepie::catalog::v1::DomainEntry& entry,
                         const WorkerSettings& settings);

// Keeps what the planned file states, and nothing else: the rest follows the settings.
void KeepLimits(const icepie::worker::v1::PlanDomainResponse& plan,
                icepie::catalog::v1::DomainEntry& entry);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_DOMAIN_LIMITS_H_
