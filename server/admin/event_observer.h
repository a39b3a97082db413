// Compares what is known about slices, workers and the core with what was known before, and writes
// down the changes.
#ifndef ICEPIE_SERVER_ADMIN_EVENT_OBSERVER_H_
#define ICEPIE_SERVER_ADMIN_EVENT_OBSERVER_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "icepie/v1/admin.pb.h"
#include "server/admin/event_log.h"
#include "server/domain/domain_reader.h"

namespace icepie::server {

// Says in the slice's event why it is in its state.
void ExplainState(const icepie::v1::Slice& slice, icepie::v1::Event& event);

// Threads: any.
class EventObserver {
 public:
  // All must outlive it.
  EventObserver(EventLog& log, const DomainReader& reader, const Core& core)
      : log_(log), reader_(reader), core_(core) {}

  // Something about the domain may have changed.
  void LookAtDomain(const std::string& domain);
  void LookAtCore();
  // Once for each freeze that has lasted longer than it was meant to, also while nothing else is
  // heard of its domain; after a start of the daemon once more.
  void LookAtFreezes(const std::vector<std::shared_ptr<const CatalogDomain>>& domains,
                     absl::Time now);

 private:
  struct Seen {
    std::string state;
    std::string reason;
    bool operator==(const Seen& other) const {
      return state == other.state && reason == other.reason;
    }
  };

  void Note(const icepie::v1::Slice& slice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remind(const std::string& slice, const icepie::v1::DesiredState& desired)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Note(const icepie::v1::WorkerStatus& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  EventLog& log_;
  const DomainReader& reader_;
  const Core& core_;
  Mutex mutex_;
  std::map<std::string, std::map<std::string, Seen>> slices_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<std::string, std::string>, Seen> workers_ ABSL_GUARDED_BY(mutex_);
  // By slice: the reminder that has been given.
  std::map<std::string, absl::Time> reminded_ ABSL_GUARDED_BY(mutex_);
  Seen core_seen_ ABSL_GUARDED_BY(mutex_) = {"OK", ""};
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_EVENT_OBSERVER_H_
