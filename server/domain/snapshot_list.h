// The snapshots of a slice as they are on disk, for lists: read from their manifests, so that it
// works while every worker is down. The files themselves are not opened.
#ifndef ICEPIE_SERVER_DOMAIN_SNAPSHOT_LIST_H_
#define ICEPIE_SERVER_DOMAIN_SNAPSHOT_LIST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "icepie/v1/admin.pb.h"

namespace icepie::server {

// Named ones first, then the automatic ones of `generation`, each part newest first. Without the
// domain in their names. A manifest that cannot be read is left out.
std::vector<icepie::v1::Snapshot> ListSnapshots(const std::string& domain_directory,
                                                const std::string& slice, int64_t generation);

// Removes a named one. NOT_FOUND/SNAPSHOT_NOT_FOUND, naming those that there are.
absl::Status DeleteSnapshot(const std::string& domain_directory, const std::string& slice,
                            const std::string& name);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_SNAPSHOT_LIST_H_
