// The composition root of icepie-worker: limits, engine of the role, gRPC service, signals.
#ifndef ICEPIE_SERVER_WORKER_WORKER_H_
#define ICEPIE_SERVER_WORKER_WORKER_H_

#include "absl/status/status.h"
#include "server/worker/worker_options.h"

namespace icepie::server {

// Serves until SIGTERM or SIGINT, then saves what has changed. Must be called from the main thread
// before any other exists. FAILED_PRECONDITION/SANDBOX_INCOMPLETE: it did not start;
// ABORTED/STATES_NOT_SAVED: not all could be saved.
absl::Status RunWorker(const WorkerOptions& options);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_WORKER_H_
