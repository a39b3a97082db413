// Finds workers that stand still long before their heartbeat's timeout: a question that waits for
// one has a deadline of its own, and the domain's other worker would have answered it.
//
// While questions are with a worker, one that has waited for a quarter of its time (a second at
// most) has the worker asked whether it is there. A worker that is merely busy says so at once. One
// that does not, or says that it answers no questions, not even its own, is silent until it says
// otherwise or reports: new questions go to the other worker first, and those that are with it are
// called off, so that the other gets them, each when the silence has lasted as long as that
// question could wait. A short one costs nobody the work that is done.
#ifndef ICEPIE_SERVER_SUPERVISOR_SILENCE_WATCH_H_
#define ICEPIE_SERVER_SUPERVISOR_SILENCE_WATCH_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/base/event_loop.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

// Threads: any; `call_off` and the functions of the constructor are called on the loop's.
// Lifetime: Stop before the loop goes.
class SilenceWatch {
 public:
  using Views = std::function<DomainView(const std::string& domain)>;
  // `silent` hears of a domain one of whose workers has just been found silent; may be null.
  using Silent = std::function<void(const std::string& domain, int64_t incarnation)>;
  SilenceWatch(EventLoop& loop, Views views, Silent silent);

  // A question that is with a worker from now on.
  struct Waiting {
    std::string domain;
    WorkerView worker;  // as it was when the question was asked
    absl::Time deadline;
    // Ends the question's call if another worker can take it; perhaps more than once.
    std::function<void()> call_off;
  };
  void Add(int64_t question, Waiting waiting);
  // It has been answered, or called off.
  void Remove(int64_t question);
  // A worker of the domain has come or gone: the one that a silent one's questions need, say. On
  // the loop.
  void OnWorkerChange(const std::string& domain);

  // It did not answer lately, and has not reported since.
  bool IsSilent(const WorkerView& worker) const;

  // Waits for the workers that are being asked.
  void Stop();

 private:
  struct Entry {
    Waiting waiting;
    absl::Time since;  // of its call, or when its worker last said that it is there
    absl::Duration patience;
  };
  using Report = std::shared_ptr<const icepie::worker::v1::WorkerReport>;

  void Look();
  WorkerView Find(const std::string& domain, int64_t incarnation) const;
  void AskWhetherThere(const std::string& domain, const WorkerView& worker, absl::Duration timeout);
  // Silence of a worker that has not reported since.
  struct Silence {
    std::string domain;
    Report last;
    absl::Time since;  // the first question of ours that it did not answer
  };
  void OnThere(int64_t incarnation);
  void OnSilent(int64_t incarnation, const Silence& silence);
  void CallOff(int64_t incarnation);

  EventLoop& loop_;
  const Views views_;
  const Silent silent_;
  mutable Mutex mutex_;
  CondVar idle_;
  bool looking_ ABSL_GUARDED_BY(mutex_) = false;  // the next look is scheduled
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<int64_t, Entry> waiting_ ABSL_GUARDED_BY(mutex_);
  std::set<int64_t> asked_ ABSL_GUARDED_BY(mutex_);              // incarnations
  std::map<int64_t, Silence> silences_ ABSL_GUARDED_BY(mutex_);  // by incarnation
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_SILENCE_WATCH_H_
