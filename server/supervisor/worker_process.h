// A child process that is watched through a pidfd.
#ifndef ICEPIE_SERVER_SUPERVISOR_WORKER_PROCESS_H_
#define ICEPIE_SERVER_SUPERVISOR_WORKER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/worker/ahead.h"

namespace icepie::server {

// Where the child finds what `life_fd` is.
constexpr int kLifeFd = kGivenFd;

struct WorkerProcessOptions {
  std::string program;
  std::vector<std::string> arguments;        // without the program's name
  std::string log_file;                      // standard output and error are appended to it
  int64_t log_bytes_max = int64_t{8} << 20;  // a longer one is renamed to FILE.1 first
  int nice = 0;
  bool batch = false;       // SCHED_BATCH: gives way to everything that answers
  int oom_score_adj = 500;  // the kernel's first choice when memory is short
  int life_fd = -1;         // the child's kLifeFd (life_watch.h); -1: none
};

// Tells a child that was started ahead what to go on with (server/worker/ahead.h), by its socket.
// False: it has gone, or that is too much.
bool SendStart(int socket, const std::vector<std::string>& arguments, const std::vector<int>& fds);

// Threads: one. Spawn from a thread that lives as long as the daemon: workers end with it
//   (PR_SET_PDEATHSIG).
// Lifetime: the destructor kills and reaps a child that still runs.
class WorkerProcess {
 public:
  // Starts the child with nothing inherited but standard input (empty), output and error (the log
  // file) and kLifeFd, no blocked signals, TZ=UTC and MALLOC_ARENA_MAX=2. NOT_FOUND or
  // PERMISSION_DENIED names the program.
  static absl::StatusOr<std::unique_ptr<WorkerProcess>> Spawn(const WorkerProcessOptions& options);
  // Starts a child that waits to be told what it is for (server/worker/ahead.h). Errors as above.
  static absl::StatusOr<std::unique_ptr<WorkerProcess>> SpawnAhead(WorkerProcessOptions options);
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  // Of one that was started ahead: it goes on as one that is spawned with `options` begins. Its
  // program stays the one that it is. False: it is not ready yet, or cannot be told.
  bool GoOn(const WorkerProcessOptions& options);

  pid_t pid() const { return pid_; }
  // Readable once the child has ended.
  int pidfd() const { return pidfd_; }
  // Does nothing after Reap.
  void Signal(int signal);
  // Why it is ending, in Reap's words; empty while that is not known.
  std::string Cause() const;
  // Waits for the end and says what it was: "exit code 1", "signal 9 (Killed)".
  std::string Reap();
  // Of one that is reaped: it had done all that it should, or was asked to end before it began.
  bool ended_in_order() const { return ended_in_order_; }

 private:
  WorkerProcess(pid_t pid, int pidfd) : pid_(pid), pidfd_(pidfd) {}

  pid_t pid_;
  int pidfd_;
  int ahead_ = -1;      // socket to one that waits
  bool ready_ = false;  // it has said so
  bool reaped_ = false;
  bool ended_in_order_ = false;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_WORKER_PROCESS_H_
