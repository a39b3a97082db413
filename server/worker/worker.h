// The composition root of icepie-worker: limits, engine of the role, gRPC service, signals.
#ifndef ICEPIE_SERVER_WORKER_WORKER_H_
#define ICEPIE_SERVER_WORKER_WORKER_H_

#include "absl/status/status.h"
#include "server/worker/worker_options.h"

namespace icepie::server {

// Exit codes beside 0 and 1.
inline constexpr int kExitBroken = 4;  // DuckDB broken, or a query that does not listen

// Serves until SIGTERM or SIGINT, then saves what has changed. Must be called from the main thread
// before any other exists.
absl::Status RunWorker(const WorkerOptions& options);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_WORKER_H_
