#include "core/background_priority.h"

#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace icepie {

void LowerPriority() {
  const auto thread = static_cast<id_t>(::syscall(SYS_gettid));
  constexpr int kWhoProcess = 1;
  constexpr int kIdleClass = 3 << 13;
  // Not every disk's scheduler knows the classes.
  if (::setpriority(PRIO_PROCESS, thread, 19) != 0 ||
      ::syscall(SYS_ioprio_set, kWhoProcess, thread, kIdleClass) != 0) {
    spdlog::debug("core: background work runs at normal priority: errno {}", errno);
  }
}

}  // namespace icepie
