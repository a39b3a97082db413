// Answers questions over a ServingSet: a bounded queue, a few threads with a connection each, and a
// watch that interrupts what takes too long. Live and standby workers answer with the same code.
//
// A question that takes longer than a moment is bulk work: from then on its thread gives way to
// others, and another thread takes its place afterwards.
//
// Of all threads one is kept for what is quick: a question that becomes bulk work while the others
// have such work already is put off until one of them has ended (TOO_MANY_QUERIES when none does in
// its time).
//
// Once a second it asks itself where a slice stands, one slice after the other, on the way that
// all questions go but from a place of its own, so that it waits for none of them: when it gets no
// answer, nobody would.
//
// The engine's memory is everybody's. A question that lacked some while bulk work went on is tried
// again after that, alone among its kind: only one that is hungry itself gets QUERY_MEMORY_LIMIT.
#ifndef ICEPIE_SLICES_QUERY_QUERY_SERVICE_H_
#define ICEPIE_SLICES_QUERY_QUERY_SERVICE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/apply/engine_types.h"
#include "slices/definition/built_in_limits.h"
#include "slices/duckdb/duckdb.h"
#include "slices/query/query_heartbeat.h"
#include "slices/query/served_slice.h"
#include "slices/query/serving_set.h"

namespace icepie::slices {

struct QueryOptions {
  std::string domain;
  int threads = kQueriesAtOnce;
  size_t queue_max = kQueriesQueuedMax;
  absl::Duration timeout = absl::Seconds(10);
  // Between the interrupt and on_stuck, of which it has to have had half the processor's time: who
  // has not run cannot listen.
  absl::Duration grace = absl::Seconds(2);
  absl::Duration bulk_after = absl::Milliseconds(30);
  // Between two questions that it asks itself; infinite: it asks none.
  absl::Duration heartbeat_interval = absl::Seconds(1);
  int64_t result_bytes_max = kResultBytesMax;
  // The slice of `serving` as it was (past_snapshots.h); null: there is no past.
  std::function<absl::StatusOr<std::shared_ptr<ServedSlice>>(
      const GenerationInfo& serving, const AsOf& as_of, absl::Time deadline)>
      state_at;
  // A statement does not listen to its interrupt: the process must end. `what` names the query.
  std::function<void(const std::string& what)> on_stuck;
  // DuckDB is unusable.
  std::function<void(const absl::Status&)> on_broken;
};

struct ResolvedSlice;

// Threads: any. `done` is called once, from one of the service's threads or from the caller's.
// Errors: SLICE_NOT_FOUND, NO_SNAPSHOT_YET, POSITION_UNREACHABLE, TOO_MANY_QUERIES,
//   QUERY_TIME_LIMIT, QUERY_MEMORY_LIMIT, DOMAIN_DISK_FULL (it had to spill), RESULT_TOO_LARGE,
//   PARAMETER_INVALID, those of PastSnapshots and the gate's.
class QueryService {
 public:
  using Done = std::function<void(absl::StatusOr<Answer>)>;

  static absl::StatusOr<std::unique_ptr<QueryService>> Start(DuckDatabase& instance,
                                                             const ServingSet& slices,
                                                             QueryOptions options);
  // Questions that wait get UNAVAILABLE; running ones are interrupted.
  ~QueryService();

  void Ask(Question question, Done done);

  // Looks again at the questions that wait for a position.
  void PositionsMoved();

  // The domain's own limit, known once its file is.
  void SetTimeout(absl::Duration timeout);

  // For how long it has not answered itself, in time that the process could use; it is about the
  // interval as long as all is well. Never waits.
  absl::Duration HeartbeatAge();

 private:
  struct Task;
  struct Runner;
  struct Prepared;

  QueryService(DuckDatabase& instance, const ServingSet& slices, QueryOptions options);
  void StartThreads();
  void EndRunners();
  void StartRunner(Runner& runner) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunnerLoop(Runner& runner);
  std::shared_ptr<Task> NextTask(Runner& runner);
  bool EndTask(Runner& runner);
  void WatchLoop();
  void YieldWhenLong(Runner& runner, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeWaiting(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  enum class Late { kNo, kUnanswered, kStuck };
  Late InterruptLate(Runner& runner, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HeartbeatLoop();
  bool WaitForHeartbeat(absl::Duration rest);
  void AskItself(std::string& slice);
  void CleanUp(Runner& runner);
  void RunNoted(Runner& runner, const std::shared_ptr<Task>& task);
  void Process(Runner& runner, const std::shared_ptr<Task>& task);
  void Finish(Task& task, absl::StatusOr<Answer> answer);

  absl::StatusOr<Prepared> Resolve(Runner& runner, const Task& task) const;
  absl::StatusOr<Prepared> ResolveSql(Runner& runner, const Task& task) const;
  absl::StatusOr<Prepared> ResolveSelect(const SelectQuestion& select, const Task& task) const;
  absl::Status AddSlice(const std::string& name, const Task& task, Prepared& prepared) const;
  absl::StatusOr<ResolvedSlice> StateFor(const std::shared_ptr<ServedSlice>& served,
                                         const Task& task) const;
  absl::Status NotFound(absl::string_view name) const;
  // OK: all there; UNAVAILABLE: not yet; anything else: never.
  bool Wait(const std::shared_ptr<Task>& task, std::function<bool()> over);
  void NotResolved(Runner& runner, const std::shared_ptr<Task>& task, const absl::Status& why);
  // Of a runner other than `except`.
  bool AnyBulk(const Runner* except, absl::Time now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool LackedMemoryOfOthers(Runner& runner, const std::shared_ptr<Task>& task);
  void WakeHungry(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasBulkPlace(const Runner* except, absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool PutOff(Runner& runner, const std::shared_ptr<Task>& task);
  // Takes out those whose time is over.
  std::vector<std::shared_ptr<Task>> WakePutOff(absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsCurrent(const Prepared& prepared) const;
  static absl::Status CheckPosition(const Prepared& prepared, const Question& question);
  absl::StatusOr<Answer> Execute(Runner& runner, const Prepared& prepared,
                                 const Question& question) const;
  absl::StatusOr<Answer> ExecuteInTransaction(
      Runner& runner, const Prepared& prepared, const Question& question,
      const std::vector<ServedSlice::Standing>& standings) const;
  absl::Status Explain(const absl::Status& error, const Prepared& prepared) const;

  DuckDatabase& instance_;
  const ServingSet& slices_;
  const QueryOptions options_;
  Mutex mutex_;
  CondVar changed_;
  CondVar watch_changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration timeout_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Task>> queue_ ABSL_GUARDED_BY(mutex_);
  std::list<std::shared_ptr<Task>> waiting_ ABSL_GUARDED_BY(mutex_);   // for a position
  std::deque<std::shared_ptr<Task>> hungry_ ABSL_GUARDED_BY(mutex_);   // until others have ended
  std::deque<std::shared_ptr<Task>> put_off_ ABSL_GUARDED_BY(mutex_);  // until a bulk place is free
  absl::Time last_bulk_end_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::vector<std::unique_ptr<Runner>> runners_;
  int running_threads_ ABSL_GUARDED_BY(mutex_) = 0;  // of the runners: they are not joined
  std::thread watch_;
  QueryHeartbeat heartbeat_;
  std::unique_ptr<Runner> own_runner_;  // of the questions that it asks itself
  CondVar heartbeat_changed_;
  std::thread heartbeat_thread_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_QUERY_QUERY_SERVICE_H_
