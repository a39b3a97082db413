// icepie-worker with a function that users may not call, because it ends the process on deeply
// nested JSON: what tests of poison and of deadly queries need. With ICEPIE_HIDE_LANDLOCK in its
// environment the kernel seems to lack Landlock.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iterator>

#include "core/base/status.h"
#include "server/worker/exit_codes.h"
#include "server/worker/worker.h"
#include "server/worker/worker_options.h"
#include "slices/function_list.h"

namespace {

void HideLandlock() {
  sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program = {std::size(filter), filter};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) std::perror("seccomp");
}

}  // namespace

int main(int argc, char** argv) {
  if (std::getenv("ICEPIE_HIDE_LANDLOCK") != nullptr) HideLandlock();
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
