// Puts the workers of idle domains to rest, so that many domains fit on one machine, and wakes them
// when they are wanted.
//
// A domain is idle when for `idle_after` nobody has asked it anything and no record has come that
// concerns one of its slices. Then both workers save and stop; the slices have the condition
// HIBERNATING, and stay RUNNING as long as their snapshots hold all that concerns them.
//   a question                starts the standby, which answers from the snapshots
//   a record that concerns it starts the live worker in its turn; for a slice with a schedule not
//                             before it is due
//   a snapshot by a schedule  starts the live worker in its turn, shortly before it is due
//   a change by an admin      starts both (Supervisor::SetDomain)
// When the daemon starts, a domain that may rest does so from the beginning, and is woken in its
// turn if its snapshots do not hold all that concerns it (resting_start.h).
// A domain with a slice that is neither RUNNING nor FROZEN or cannot be saved, or with a build or a
// promotion under way, is left alone. A live worker that ends at its rest before it has saved what
// it held is started again, and rests once that is saved. Where no live worker runs by itself (safe
// mode, all suspended, too many failures), the standby rests when it is not asked.
//
// Turns: only `awake_max` of the domains that may rest are awake for their records; the others wait
// in line, and say so (AWAITS_TURN; LAGGING when it takes long). For them those that are awake rest
// sooner: when they have had nothing to do for half a second, or, with records, after their turn
// (wake_queue.h). Questions and changes by an admin never wait: what they wake takes a place of the
// turns from then on. Beside the live workers as many standbys may be awake at rest; beyond that
// those that were not asked lately rest.
//
// With standbys on demand a running domain has its live worker alone; the standby is started when
// that is lost, or a question cannot be answered, and rests again later.
#ifndef ICEPIE_SERVER_SUPERVISOR_HIBERNATION_H_
#define ICEPIE_SERVER_SUPERVISOR_HIBERNATION_H_

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/base/event_loop.h"
#include "server/domain/catalog.h"
#include "server/domain/slice_facts.h"
#include "server/supervisor/supervisor.h"
#include "server/supervisor/wake_queue.h"

namespace icepie::server {

struct HibernationOptions {
  // For domains whose file says nothing; zero: never.
  absl::Duration idle_after = absl::ZeroDuration();
  bool standby_on_demand = false;
  int awake_max = 0;                        // of the domains that may rest; 0: no limit
  absl::Duration turn = absl::Seconds(30);  // of one that always has records, while others wait
  absl::Duration look_interval = absl::Milliseconds(200);
  // A standby that was started on demand runs for at least so long.
  absl::Duration standby_rest_after = absl::Seconds(30);
};

// Threads: any.
// Lifetime: Stop before the supervisor goes.
class Hibernation {
 public:
  using FactsSource = std::function<DomainFacts(const CatalogDomain&)>;

  Hibernation(const Catalog& catalog, Supervisor& supervisor, FactsSource facts,
              HibernationOptions options);
  ~Hibernation();

  void Start();
  void Stop();

  // A question has come.
  void OnQuestion(const std::string& domain);
  // It cannot be answered now; `standby_is_not_enough`: the standby has been asked already.
  void OnUnanswered(const std::string& domain, bool standby_is_not_enough);
  // A worker of the domain has come, gone or reported.
  void OnWorkerChange(const std::string& domain);

 private:
  // What was seen of a domain, and since when it has been so; by SteadyNow().
  struct Seen {
    int64_t live = 0;  // incarnations
    int64_t standby = 0;
    absl::Time applied = absl::InfinitePast();  // ingest time of the newest record in its slices
    absl::Time since = absl::InfinitePast();
    absl::Time live_since = absl::InfinitePast();
    bool asleep = false;
    absl::Time asleep_since = absl::InfinitePast();  // or awake
    absl::Time standby_since = absl::InfinitePast();
    std::optional<absl::Time> next_named;  // by the wall clock; read when it has gone to sleep
    absl::Time awake_named;                // likewise; of one that is awake, read lately
    absl::Time awake_named_until = absl::InfinitePast();  // then it is read again
  };

  void Look();
  void TakeTurns();
  void RestStandbys();
  void Wake(const std::string& domain, bool with_standby);
  void LookAt(const CatalogDomain& domain);
  bool LookAtAwake(const DomainFacts& facts, const Seen& seen, absl::Duration idle_after);
  Seen& NoteSeen(const DomainFacts& facts);
  void LookAtSuspended(const DomainFacts& facts, const Seen& seen, absl::Duration idle_after);
  void LookAtSleeping(const DomainFacts& facts, Seen& seen, absl::Duration idle_after);
  // True: it was asked lately enough to stay awake, also alone.
  bool IsStandbyAsked(const DomainFacts& facts, const Seen& seen, absl::Duration idle_after);
  // `with_unseen`: although records that concern it wait.
  bool CanSleep(const DomainFacts& facts, bool with_unseen);
  bool HasBuild(const std::string& domain);
  // When the next snapshot of a schedule is due.
  absl::Time NextNamed(const CatalogDomain& domain) const;
  absl::Time NextNamedOfAwake(const DomainFacts& facts);
  absl::Duration IdleAfter(const CatalogDomain& domain) const;
  absl::Time LastQuestion(const std::string& domain) const;

  const Catalog& catalog_;
  Supervisor& supervisor_;
  const FactsSource facts_;
  const HibernationOptions options_;
  // The clock's own, as all up to the mutex.
  std::map<std::string, Seen> seen_;
  WakeQueue queue_;
  // Of this look:
  std::vector<std::pair<absl::Time, std::string>> answering_;  // standbys alone; last asked
  std::optional<std::set<std::string>> builds_;                // domains with one under way
  mutable Mutex mutex_;
  std::map<std::string, absl::Time> last_question_ ABSL_GUARDED_BY(mutex_);
  EventLoop clock_;  // last: its thread ends first
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_HIBERNATION_H_
