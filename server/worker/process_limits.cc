#include "server/worker/process_limits.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/thread_priority.h"
#include "server/worker/log_sink.h"
#include "slices/definition/built_in_limits.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

// Who answers while others cannot comes first, who builds last. Somebody waits for a plan.
int NiceOf(const std::string& role) { return role == "standby" ? 0 : role == "build" ? 10 : 5; }

// Definitions are SQL that nobody has looked at, and planning does not listen to an interrupt. Who
// plans on a busy machine is not to blame for that: the limit is of the processor's time.
absl::Status LimitProcessor() {
  constexpr rlim_t kKilledAfter = kPlannerProcessorSeconds + 2;  // if the signal does not end it
  const rlimit limit = {kPlannerProcessorSeconds, kKilledAfter};
  return ::setrlimit(RLIMIT_CPU, &limit) == 0 ? absl::OkStatus() : ErrnoError(errno, "RLIMIT_CPU");
}

absl::Status LimitAddressSpace(int64_t memory_bytes) {
#if defined(__SANITIZE_ADDRESS__) || (defined(__has_feature) && __has_feature(address_sanitizer))
  (void)memory_bytes;  // the sanitizer maps terabytes of shadow memory
#else
  const auto bytes = static_cast<rlim_t>(slices::AddressSpaceLimit(memory_bytes));
  const rlimit limit = {bytes, bytes};
  if (::setrlimit(RLIMIT_AS, &limit) != 0) return ErrnoError(errno, "RLIMIT_AS");
#endif
  return absl::OkStatus();
}

// No file takes more than the domain's part of the disk; a log may always be as long as it gets.
absl::Status LimitFiles(int64_t disk_bytes) {
  if (disk_bytes <= 0) return absl::OkStatus();
  rlimit limit = {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0) return ErrnoError(errno, "RLIMIT_FSIZE");
  const int64_t bytes = std::max(disk_bytes, 2 * LogSink::kFileBytesMax);
  limit.rlim_max = std::min(limit.rlim_max, static_cast<rlim_t>(bytes));
  limit.rlim_cur = std::min(limit.rlim_cur, limit.rlim_max);
  return ::setrlimit(RLIMIT_FSIZE, &limit) == 0 ? absl::OkStatus()
                                                : ErrnoError(errno, "RLIMIT_FSIZE");
}

}  // namespace

absl::Status DieWithParent(int64_t parent_pid) {
  if (parent_pid == 0) return absl::OkStatus();
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return ErrnoError(errno, "PR_SET_PDEATHSIG");
  // It may have died before the line above.
  if (::getppid() == parent_pid) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the parent is process ", ::getppid(), ", not ", parent_pid));
}

// One that crashes again and again would fill the disk with images of its memory.
absl::Status LeaveNoCore() {
  const rlimit none = {0, 0};
  return ::setrlimit(RLIMIT_CORE, &none) == 0 ? absl::OkStatus() : ErrnoError(errno, "RLIMIT_CORE");
}

// Here and not by the daemon, whose loop would stand meanwhile: the kernel takes up to 20 ms for
// it. What a worker does before is little. Returns whether it is there.
bool JoinGroup(const std::string& group) {
  if (group.empty()) return false;
  const std::string path = group + "/cgroup.procs";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool joined = fd >= 0 && ::write(fd, "0", 1) == 1;  // this process
  if (!joined) spdlog::warn("{}", ErrnoError(errno, "joining " + path).ToString());
  if (fd >= 0) ::close(fd);
  return joined;
}

absl::Status ApplyProcessLimits(const WorkerOptions& options) {
  ICEPIE_RETURN_IF_ERROR(DieWithParent(options.parent_pid));
  ICEPIE_RETURN_IF_ERROR(LimitAddressSpace(options.memory_bytes));
  ICEPIE_RETURN_IF_ERROR(LimitFiles(options.disk_bytes));
  ICEPIE_RETURN_IF_ERROR(LeaveNoCore());
  if (options.role == "planner") ICEPIE_RETURN_IF_ERROR(LimitProcessor());
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return ErrnoError(errno, "no_new_privs");
  std::signal(SIGXFSZ, SIG_IGN);  // what would make a file too large fails
  std::signal(SIGPIPE, SIG_IGN);
  // Politeness only: a container may forbid it.
  (void)::setpriority(PRIO_PROCESS, 0, NiceOf(options.role));
  if (options.role == "build") {
    const sched_param none = {};
    (void)::sched_setscheduler(0, SCHED_BATCH, &none);
    (void)UseIdleDiskOnly();
  } else {
    (void)AskForShortSlices();
  }
  return absl::OkStatus();
}

int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  statm >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace icepie::server
