// Builds of new generations: one operation each, at most a few at once, the others wait. An
// operation's start and end are in the catalog, its progress is not: after the end of its process,
// or of the daemon, an unfinished build is started again, and goes on from what it has saved on its
// way. A build is compared with a snapshot of the generation that serves: where one is about to be
// made, it waits for that.
#ifndef ICEPIE_SERVER_DOMAIN_BUILDS_H_
#define ICEPIE_SERVER_DOMAIN_BUILDS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "google/longrunning/operations.pb.h"
#include "icepie/v1/admin.pb.h"
#include "server/base/event_loop.h"
#include "server/domain/catalog.h"
#include "server/domain/plan_estimate.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

// "operations/op-71", and back (0 for any other text).
std::string OperationName(int64_t number);
int64_t OperationNumber(const std::string& name);

// Marks an operation as ended without a result.
void EndCancelled(Catalog::Operation& operation, const std::string& why);

// Threads: any.
class Builds {
 public:
  Builds(Catalog& catalog, Supervisor& supervisor, int running_max = 2,
         absl::Duration pace_judged_after = kPaceJudgedAfter);
  ~Builds();

  // Is told of every generation that has become READY, from the builds' thread. Before Resume().
  using ReadyListener =
      std::function<void(const std::string& domain, const std::string& slice, int64_t generation)>;
  void SetReadyListener(ReadyListener listener) { on_ready_ = std::move(listener); }

  // Is told how an operation ends that nobody has cancelled, before that is stored: again when the
  // daemon ended in between. From the builds' thread. Before Resume().
  using EndListener =
      std::function<void(const Catalog::Operation& operation, const absl::Status& outcome)>;
  void SetEndListener(EndListener listener) { on_end_ = std::move(listener); }

  // Starts what the catalog says is unfinished. Once, at the daemon's start.
  void Resume();
  // While they are held, none starts.
  void SetHeld(bool held);
  // The operation is in the catalog; its build starts when there is room.
  void Enqueue(int64_t number);
  // The catalog has already ended the operation: its process and files go.
  void Drop(int64_t number);

  // Ends the operation as cancelled and removes what it made. OK when it is done already.
  // NOT_FOUND/OPERATION_NOT_FOUND.
  absl::Status Cancel(int64_t number);
  absl::StatusOr<google::longrunning::Operation> Describe(int64_t number) const;
  // Newest first. A page has 200 unless told, at most 1,000; its token is the name of its last.
  // INVALID_ARGUMENT/PARAMETER_INVALID: no such token.
  absl::StatusOr<google::longrunning::ListOperationsResponse> List(
      const google::longrunning::ListOperationsRequest& request) const;

  // Calls `done` once: when the operation is done, or after `timeout`.
  void WhenDone(int64_t number, absl::Duration timeout, const std::function<void()>& done);

  // No build starts or ends any more, and nobody waits.
  void Stop();

 private:
  struct Progress {
    icepie::worker::v1::BuildReport report;
    int64_t incarnation = 0;                            // of the process that builds
    absl::Time start_time = absl::InfiniteFuture();     // of this process, or its turn to come
    absl::Time store_again = absl::InfinitePast();      // its end, which could not be stored
    absl::Time process_start = absl::InfiniteFuture();  // by the clock that is not set
  };

  void StartNext();
  int64_t TakeNextInLine();
  bool AwaitsBase(const Catalog::Operation& operation);
  absl::Status Start(const Catalog::Operation& operation);
  void OnView(int64_t number, const WorkerView& view);
  void OnReport(int64_t number, const WorkerView& view);
  std::string WhyTooSlow(const Catalog::Operation& operation, const WorkerView& view);
  void Finish(int64_t number, const icepie::worker::v1::BuildReport* ready,
              const icepie::v1::SliceError& error);
  void Remove(int64_t number);
  void NotifyDone(int64_t number);
  google::longrunning::Operation ToOperation(const Catalog::Operation& entry) const;
  icepie::v1::ResliceMetadata Metadata(const Catalog::Operation& entry) const;

  Catalog& catalog_;
  Supervisor& supervisor_;
  const size_t running_max_;
  const absl::Duration pace_judged_after_;
  ReadyListener on_ready_;
  EndListener on_end_;
  // The loop's own.
  std::deque<int64_t> waiting_;
  bool held_ = false;
  mutable Mutex mutex_;
  std::map<int64_t, Progress> running_ ABSL_GUARDED_BY(mutex_);
  // Builds that wait for something to be compared with, and since when.
  std::map<int64_t, absl::Time> awaiting_base_ ABSL_GUARDED_BY(mutex_);
  struct Waiter {
    int64_t number;
    std::function<void()> done;
  };
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t last_waiter_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int64_t, Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
  EventLoop loop_;  // last: its thread ends first
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_BUILDS_H_
