#include "server/base/process_usage.h"

#include <sys/types.h>
#include <unistd.h>

#include <ctime>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace icepie::server {

// The clock is exact; the times in /proc/PID/stat are counted in ticks of 10 ms.
std::optional<absl::Duration> CpuTimeOf(int64_t pid) {
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(static_cast<pid_t>(pid), &clock) != 0) return std::nullopt;
  if (clock_gettime(clock, &time) != 0) return std::nullopt;
  return absl::DurationFromTimespec(time);
}

std::optional<ProcessUsage> UsageOf(int64_t pid) {
  const auto cpu_time = CpuTimeOf(pid);
  std::ifstream file(absl::StrCat("/proc/", pid, "/statm"));
  int64_t size_pages = 0;
  int64_t resident_pages = 0;
  if (!cpu_time || !(file >> size_pages >> resident_pages)) return std::nullopt;
  return ProcessUsage{resident_pages * sysconf(_SC_PAGESIZE), *cpu_time};
}

}  // namespace icepie::server
