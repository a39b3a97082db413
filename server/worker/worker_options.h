// The arguments of icepie-worker, as the daemon gives them.
#ifndef ICEPIE_SERVER_WORKER_WORKER_OPTIONS_H_
#define ICEPIE_SERVER_WORKER_WORKER_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace icepie::server {

struct WorkerOptions {
  std::string role;  // live, standby, build or planner
  std::string domain;
  std::string directory;       // the domain's
  std::string socket;          // where this worker serves
  std::string host_socket;     // where the daemon serves Host
  std::string core_directory;  // of the daemon's core, whose segments are read; empty: are not
  std::string flight_record;   // file that says what it was doing when it ended; empty: none
  std::string assignment;  // file with the first assignment (icepie.worker.v1); empty: it is told
  int64_t parent_pid = 0;
  std::string cgroup;    // directory of the control group that it runs in; empty: the daemon's
  int life_fd = -1;      // of the page that says that it lives (life.h); -1: none
  int ahead_fd = -1;     // where it waits to be told all others (ahead.h); -1: it has been
  std::string waits_in;  // control group that it is in meanwhile; empty: the daemon's
  std::string else_in;   // control group when it is not in `cgroup`; empty: where it is
  int64_t memory_bytes = int64_t{512} << 20;
  int64_t query_timeout_ms = 10000;
  int64_t apply_timeout_ms = 600000;
  int64_t hang_timeout_ms = 10000;  // without an answer to a question of its own
  int64_t snapshot_interval_ms = 10000;
  int64_t snapshots_kept = 3;
  int64_t snapshots_kept_ms = 0;
  int64_t snapshot_bytes_max = 0;
  int64_t disk_bytes = 0;              // of the directory; 0: no limit
  int64_t write_bytes_per_second = 0;  // of snapshots; 0: no limit
  bool require_sandbox = false;        // end rather than run outside of it
  std::string log_level = "info";
  std::string log_file;  // that standard error goes to, taken turns when long; empty: is left alone
};

// INVALID_ARGUMENT naming the argument. `--help` prints the arguments and ends the process. Of a
// process that was started ahead it waits for the arguments, which then stand in `argv`, too, as
// far as there is room: who lists the processes sees whose it is. AwaitStart's errors.
absl::StatusOr<WorkerOptions> ParseWorkerOptions(int argc, char** argv);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_WORKER_OPTIONS_H_
