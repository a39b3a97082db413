// From desired state to what a domain's workers are told to hold.
#ifndef ICEPIE_SERVER_DOMAIN_ASSIGNMENT_H_
#define ICEPIE_SERVER_DOMAIN_ASSIGNMENT_H_

#include <cstdint>
#include <map>
#include <string>

#include "icepie/worker/v1/worker.pb.h"
#include "server/catalog.h"

namespace icepie::server {

// Slices that are being promoted: slice → the generation that answers until the new one does.
using Replaced = std::map<std::string, int64_t>;

// The serving generation of every slice, and beside it those that are being replaced.
icepie::worker::v1::Assignment MakeAssignment(const CatalogDomain& domain,
                                              const Replaced& replaced);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_ASSIGNMENT_H_
