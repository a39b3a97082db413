// Changes that are asked for again under the same request_id get the first answer, and are not made
// again. Answers are kept for a day, the newest kReplaysMax of them, also over restarts: in the
// core's catalog, under "request/" and the SHA-256 of the id. They grow old by the steady clock
// alone: what was just done must not be done again because the wall clock jumps by a day. While the
// daemon is down, nothing grows older.
#ifndef ICEPIE_SERVER_ADMIN_REQUEST_REPLAY_H_
#define ICEPIE_SERVER_ADMIN_REQUEST_REPLAY_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/base/steady_clock.h"
#include "core/core.h"

namespace icepie::server {

inline constexpr size_t kReplaysMax = 4096;
inline constexpr size_t kReplayBytesMax = 32 << 20;         // of answers
inline constexpr size_t kStoredAnswerBytesMax = 256 << 10;  // a longer one is kept in memory only
inline constexpr absl::Duration kReplayAge = absl::Hours(24);

// Threads: any.
// Errors: what cannot be stored is kept in memory only, with a warning: a change that was made is
//   not undone by that.
// Lifetime: the core outlives it.
class RequestReplay {
 public:
  using Answer = absl::StatusOr<std::string>;  // a serialized message
  using Done = std::function<void(const Answer&)>;

  using Clock = std::function<absl::Time()>;

  // Reads what is stored; without a core nothing is. `clock` is one that nobody sets.
  explicit RequestReplay(Core* core, Clock clock = SteadyNow);

  // True for the first who comes with `request_id`, who makes the change and calls Finish(); `done`
  // is not called then. Otherwise `done` is called with the first one's answer, now or when it is
  // there: from Finish() then. ALREADY_EXISTS/REQUEST_ID_REUSED when the first asked for something
  // else; INVALID_ARGUMENT/PARAMETER_INVALID for an id that is too long.
  bool Begin(const std::string& request_id, absl::string_view request, Done done);

  // What fails has changed nothing: who waits gets the error, and the next one is a first again.
  void Finish(const std::string& request_id, const Answer& answer);

 private:
  struct Entry {
    std::string digest;  // of the request
    bool finished = false;
    bool stored = false;
    std::string answer;
    absl::Time time;  // Now() of its end
    std::vector<Done> waiting;
  };
  void Load();
  // How long answers have been kept, counted on from the newest that was stored.
  absl::Time Now() const { return loaded_time_ + (clock_() - begin_); }
  bool Store(const std::string& request_id, const std::string& answer, absl::Time time);
  void Keep(const std::string& request_id, Entry entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Core* const core_;
  const Clock clock_;
  const absl::Time begin_;
  absl::Time loaded_time_ = absl::UnixEpoch();  // settled when it is made
  Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> finished_ ABSL_GUARDED_BY(mutex_);  // oldest first
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> forgotten_ ABSL_GUARDED_BY(mutex_);  // but still stored
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_REQUEST_REPLAY_H_
