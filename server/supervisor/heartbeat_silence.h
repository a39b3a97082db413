// How long a worker has been silent, by its answers to heartbeats, as far as that is its own fault:
// a daemon that stands still neither asks nor hears an answer.
#ifndef ICEPIE_SERVER_SUPERVISOR_HEARTBEAT_SILENCE_H_
#define ICEPIE_SERVER_SUPERVISOR_HEARTBEAT_SILENCE_H_

#include "absl/time/time.h"

namespace icepie::server {

// A heartbeat, or the answer to one, that the daemon is late for itself, by more than an interval
// and a second, excuses the worker's silence until then. A daemon that is late again and again does
// not hear of a worker that hangs, so that this is no excuse for ever.
//
// Threads: none; the caller's. It never looks at a clock: times are passed in.
class HeartbeatSilence {
 public:
  static constexpr int kExcusesMax = 10;  // between two answers; one pause may take two

  // A heartbeat is asked every `interval` and fails after `timeout`.
  HeartbeatSilence(absl::Duration interval, absl::Duration timeout);

  // It has answered, or its process begins.
  void OnAnswer(absl::Time now);
  // The next heartbeat is due then.
  void Expect(absl::Time due) { due_ = due; }
  // It is asked, which fails by itself after the timeout.
  void OnAsk(absl::Time now);
  // A heartbeat has failed. True: it has been silent for the timeout.
  bool OnFailure(absl::Time now);

  absl::Time last_answer() const { return last_answer_; }  // or excuse

 private:
  bool Excuse(absl::Time now);

  const absl::Duration interval_;
  const absl::Duration timeout_;
  absl::Time last_answer_ = absl::InfinitePast();
  absl::Time due_ = absl::InfiniteFuture();  // the next heartbeat, or the end of one
  int excuses_ = 0;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_HEARTBEAT_SILENCE_H_
