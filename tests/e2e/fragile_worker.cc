// icepie-worker with a function that users may not call, because it ends the process on deeply
// nested JSON: what tests of poison and of deadly queries need. With ICEPIE_HIDE_LANDLOCK in its
// environment the kernel seems to lack Landlock. While there is a file of this name in a domain's
// directory, its live worker stands still, without computing,
//   hold_queries      at the end of each query, its own included; the rest of it goes on
//   hold_recomputes   in the midst of each recompute
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>

#include "core/base/status.h"
#include "duckdb.h"
#include "server/worker/exit_codes.h"
#include "server/worker/worker.h"
#include "server/worker/worker_options.h"
#include "slices/plan/function_list.h"

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

std::string& HoldDirectory() {
  static auto* directory = new std::string();  // empty: this worker is not held
  return *directory;
}

void WaitWhileHeld(const char* name) {
  if (HoldDirectory().empty()) return;
  const std::string file = HoldDirectory() + "/" + name;
  while (access(file.c_str(), F_OK) == 0) usleep(10 * 1000);
}

}  // namespace

// The linker takes these in place of DuckDB's (--wrap).
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier)
duckdb_state __real_duckdb_query(duckdb_connection connection, const char* sql,
                                 duckdb_result* result);
duckdb_state __wrap_duckdb_query(duckdb_connection connection, const char* sql,
                                 duckdb_result* result) {
  if (std::strcmp(sql, "ROLLBACK") == 0) WaitWhileHeld("hold_queries");
  if (std::strcmp(sql, "DELETE FROM __quarantine") == 0) WaitWhileHeld("hold_recomputes");
  return __real_duckdb_query(connection, sql, result);
}
// NOLINTEND(bugprone-reserved-identifier)
}

int main(int argc, char** argv) {
  if (std::getenv("ICEPIE_HIDE_LANDLOCK") != nullptr) HideLandlock();
  using icepie::slices::FunctionKind;
  using icepie::slices::FunctionUse;
  icepie::slices::AllowForTests({"json_contains", FunctionKind::kScalar, FunctionUse::kStable});
  const auto options = icepie::server::ParseWorkerOptions(argc, argv);
  if (options.ok() && options->role == "live") HoldDirectory() = options->directory;
  const absl::Status status = options.ok() ? icepie::server::RunWorker(*options) : options.status();
  if (status.ok()) return 0;
  std::fprintf(stderr, "fragile worker: %s\n", status.ToString().c_str());
  const bool unboxed = icepie::ErrorReason(status) == "SANDBOX_INCOMPLETE";
  return unboxed ? icepie::server::kExitUnboxed : 1;
}
