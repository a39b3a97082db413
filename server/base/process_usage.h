// What a process uses.
#ifndef ICEPIE_SERVER_BASE_PROCESS_USAGE_H_
#define ICEPIE_SERVER_BASE_PROCESS_USAGE_H_

#include <cstdint>
#include <optional>

#include "absl/time/time.h"

namespace icepie::server {

struct ProcessUsage {
  int64_t resident_bytes = 0;
  absl::Duration cpu_time;  // of all its threads, since it started
};

// Both: nullopt when there is no such process any more.
// Threads: any.
std::optional<ProcessUsage> UsageOf(int64_t pid);
std::optional<absl::Duration> CpuTimeOf(int64_t pid);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_PROCESS_USAGE_H_
