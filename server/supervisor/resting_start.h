// How a domain that may hibernate is at rest from the daemon's start on, so that the start of a
// daemon with a thousand domains starts workers only where there is something to do, and these in
// turns (wake_queue.h).
#ifndef ICEPIE_SERVER_SUPERVISOR_RESTING_START_H_
#define ICEPIE_SERVER_SUPERVISOR_RESTING_START_H_

#include <memory>
#include <string>

#include "icepie/worker/v1/worker.pb.h"
#include "server/domain/slice_facts.h"

namespace icepie::server {

struct RestingStart {
  // What the domain's live worker would have reported last, had it gone to rest with what stands in
  // `directory`: of those slices that have a snapshot of the generation that serves. Null when the
  // domain has no slices.
  std::shared_ptr<const icepie::worker::v1::WorkerReport> report;
  // It has to run: a slice has no such snapshot, or records beyond it, or is suspended, held back
  // or has records in quarantine; or more generations than those that serve are kept up to date.
  bool has_work = false;
};

// Only manifests are read. A snapshot that turns out to be damaged is passed over by the standby
// that is asked first, and Hibernation then wakes the live worker.
RestingStart ReadRestingStart(const DomainFacts& facts, const std::string& directory);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_RESTING_START_H_
