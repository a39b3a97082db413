// icepie-worker: applies records to the slices of one domain and answers queries over them.
#include <cstdio>
#include <string>

#include "core/base/status.h"
#include "server/worker/exit_codes.h"
#include "server/worker/worker.h"
#include "server/worker/worker_options.h"

int main(int argc, char** argv) {
  const auto options = icepie::server::ParseWorkerOptions(argc, argv);
  if (!options.ok()) {
    std::fprintf(stderr, "%s\n", std::string(options.status().message()).c_str());
    return 1;
  }
  const absl::Status status = icepie::server::RunWorker(*options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "icepie-worker: %s\n", status.ToString().c_str());
  const std::string reason = icepie::ErrorReason(status);
  if (reason == "SANDBOX_INCOMPLETE") return icepie::server::kExitUnboxed;
  return reason == "STATES_NOT_SAVED" ? icepie::server::kExitUnsaved : 1;
}
