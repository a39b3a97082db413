// icepie-worker with a function that users may not call, because it ends the process on deeply
// nested JSON: what tests of poison and of deadly queries need.
#include <cstdio>

#include "core/base/status.h"
#include "server/worker/exit_codes.h"
#include "server/worker/worker.h"
#include "server/worker/worker_options.h"
#include "slices/function_list.h"

int main(int argc, char** argv) {
  using icepie::slices::FunctionKind;
  using icepie::slices::FunctionUse;
  icepie::slices::AllowForTests({"json_contains", FunctionKind::kScalar, FunctionUse::kStable});
  const auto options = icepie::server::ParseWorkerOptions(argc, argv);
  const absl::Status status = options.ok() ? icepie::server::RunWorker(*options) : options.status();
  if (status.ok()) return 0;
  std::fprintf(stderr, "fragile worker: %s\n", status.ToString().c_str());
  const bool unboxed = icepie::ErrorReason(status) == "SANDBOX_INCOMPLETE";
  return unboxed ? icepie::server::kExitUnboxed : 1;
}
