// The events of icepie.v1.Event: the newest in memory, and in two files that take turns, one JSON
// object a line, for who looks later or without a daemon.
//
// Where there is no room for all, the domain that has the most loses its oldest: one whose workers
// die all day takes nobody else's history away. A file begins with what is kept of those before it.
//
// Events explain; they decide nothing. So they are written without a sync, and an event that could
// not be written (full disk) is still in memory.
#ifndef ICEPIE_SERVER_ADMIN_EVENT_LOG_H_
#define ICEPIE_SERVER_ADMIN_EVENT_LOG_H_

#include <google/protobuf/message.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "icepie/v1/events.pb.h"

namespace icepie::server {

// Which events somebody wants.
struct EventFilter {
  std::string domain;  // empty: all
  std::string slice;   // "domain.slice"; empty: all of the domain
  absl::Time since = absl::InfinitePast();

  bool Takes(const icepie::v1::Event& event) const;
};

// "payments" or "payments.volume"; "" takes everything.
EventFilter FilterFor(const std::string& name);

// Threads: any.
class EventLog {
 public:
  static constexpr size_t kKept = 10000;
  static constexpr int64_t kFileBytesMax = int64_t{8} << 20;

  // Reads what an earlier daemon left in `path` and `path`.1; damaged lines are skipped.
  explicit EventLog(std::string path, size_t kept = kKept, int64_t file_bytes_max = kFileBytesMax);
  ~EventLog();
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  // Gives it its number and the time.
  void Add(icepie::v1::Event event);
  // An admin action; domain, slice and reason are those of the request, `domain` when it has none.
  void AddAction(const std::string& action, const std::string& actor, const std::string& domain,
                 const google::protobuf::Message& request);

  // At most `count_max` events behind `after`, oldest first.
  std::vector<icepie::v1::Event> List(const EventFilter& filter, int64_t after,
                                      size_t count_max) const;
  // The newest `count_max` of them, oldest first.
  std::vector<icepie::v1::Event> ListNewest(const EventFilter& filter, size_t count_max) const;
  int64_t last_number() const;

  // `on_event` is called after every event, by its thread, and must not block or call back.
  int64_t Subscribe(std::function<void()> on_event);
  // `on_event` is not running any more when it returns.
  void Unsubscribe(int64_t id);

  // The daemon stops: who follows has nothing to wait for. Calls every `on_event` once more.
  void EndWatches();
  bool watches_end() const { return watches_end_; }

 private:
  void Load(const std::string& path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Keep(icepie::v1::Event event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write(const icepie::v1::Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteLine(const std::string& line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TurnFile() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string CarriedOver() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool ReplaceFile(const std::string& content) const;
  void OpenFile() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Complain(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const size_t kept_;
  const int64_t file_bytes_max_;
  mutable Mutex mutex_;
  int64_t last_number_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int64_t, icepie::v1::Event> events_ ABSL_GUARDED_BY(mutex_);  // by number
  std::map<std::string, std::deque<int64_t>> by_domain_ ABSL_GUARDED_BY(mutex_);
  int64_t file_begin_ ABSL_GUARDED_BY(mutex_) = 0;  // the first number that was new in the file
  int fd_ ABSL_GUARDED_BY(mutex_) = -1;
  int64_t file_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool complained_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> watches_end_{false};
  Mutex listeners_mutex_;  // held while they are called
  int64_t last_listener_ ABSL_GUARDED_BY(listeners_mutex_) = 0;
  std::map<int64_t, std::function<void()>> listeners_ ABSL_GUARDED_BY(listeners_mutex_);
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_EVENT_LOG_H_
