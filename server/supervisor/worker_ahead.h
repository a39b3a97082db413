// Keeps one worker process started ahead of whose it will be (server/worker/ahead.h), so that a
// domain that wakes for a question does not wait for its exec, its linking and what else every
// start costs. The next one is started a while after the last start of a worker from here: when
// many wake at once, none waits for that either.
#ifndef ICEPIE_SERVER_SUPERVISOR_WORKER_AHEAD_H_
#define ICEPIE_SERVER_SUPERVISOR_WORKER_AHEAD_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/base/event_loop.h"
#include "server/supervisor/worker_process.h"

namespace icepie::server {

// Threads: the loop's only.
// Lifetime: Stop, or the loop's, before it goes.
class WorkerAhead {
 public:
  // `options`: the program, and what the process has while it waits.
  WorkerAhead(EventLoop& loop, WorkerProcessOptions options);
  WorkerAhead(const WorkerAhead&) = delete;
  WorkerAhead& operator=(const WorkerAhead&) = delete;

  // From now on there shall be one.
  void Prepare();
  // As WorkerProcess::Spawn; by the process that waits when it is ready and of the program that is
  // there now.
  absl::StatusOr<std::unique_ptr<WorkerProcess>> Start(const WorkerProcessOptions& options);
  // Another one: what it runs may be another program than there is now, whatever that can be seen
  // by.
  void Renew();
  // Ends it; none is started any more.
  void Stop();

  // After the last start from here.
  static constexpr absl::Duration kDelay = absl::Milliseconds(500);

 private:
  // Of which file the program was, as it changes when another is put in its place.
  struct Program {
    uint64_t device = 0;
    uint64_t inode = 0;
    int64_t size = 0;
    absl::Time modified;
    bool operator==(const Program& other) const;
  };
  Program ProgramNow() const;
  bool IsOfThisProgram() const;  // the process
  void StartLater();
  void StartOne();
  void OnExit();
  std::unique_ptr<WorkerProcess> Take();

  EventLoop& loop_;
  const WorkerProcessOptions options_;
  bool wanted_ = false;
  bool stopped_ = false;
  EventLoop::TimerId timer_ = 0;
  Program program_;  // of the process
  std::unique_ptr<WorkerProcess> process_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_WORKER_AHEAD_H_
