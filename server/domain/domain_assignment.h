// From desired state to what a domain's workers are told to hold.
#ifndef ICEPIE_SERVER_DOMAIN_DOMAIN_ASSIGNMENT_H_
#define ICEPIE_SERVER_DOMAIN_DOMAIN_ASSIGNMENT_H_

#include <string>

#include "absl/time/time.h"
#include "icepie/worker/v1/worker.pb.h"
#include "server/domain/catalog.h"

namespace icepie::server {

// What is acknowledged of the slice's quarantine.
icepie::worker::v1::PositionRanges AcknowledgedOf(const icepie::catalog::v1::SliceEntry& slice);

// The serving generation of every slice, and beside it those that are warm at `now`.
icepie::worker::v1::Assignment MakeAssignment(const CatalogDomain& domain, absl::Time now);

// Beside it, for what is held because its entry is damaged: the last snapshots alone, which say
// what they are. `directory` is the domain's.
void AddHeld(const CatalogDomain& domain, const std::string& directory,
             icepie::worker::v1::Assignment& assignment);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_DOMAIN_ASSIGNMENT_H_
