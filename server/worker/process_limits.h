// What a worker may take from its host. Applied before DuckDB or gRPC have threads.
#ifndef ICEPIE_SERVER_WORKER_PROCESS_LIMITS_H_
#define ICEPIE_SERVER_WORKER_PROCESS_LIMITS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "server/worker/worker_options.h"

namespace icepie::server {

constexpr int kPlannerProcessorSeconds = 10;

// The process dies with its parent, has no more address space than four times its memory (at least
// 2 GiB), leaves no core file, gains no privileges, and has the nice of its role: standby 0, live
// and planner 5, build 10 (and SCHED_BATCH and idle I/O). A planner ends by SIGXCPU when it has had
// the processor for kPlannerProcessorSeconds. FAILED_PRECONDITION when the parent is another one
// than expected: it has died already.
absl::Status ApplyProcessLimits(const WorkerOptions& options);

// Of it the first and the third alone.
absl::Status DieWithParent(int64_t parent_pid);
absl::Status LeaveNoCore();

// The control group's directory; empty: none. Returns whether the process is in it.
bool JoinGroup(const std::string& group);

// Resident memory of this process; 0 when unknown.
int64_t ResidentBytes();

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_PROCESS_LIMITS_H_
