// When a worker that ended is started again.
#ifndef ICEPIE_SERVER_SUPERVISOR_RESTART_POLICY_H_
#define ICEPIE_SERVER_SUPERVISOR_RESTART_POLICY_H_

#include <cstdint>
#include <deque>
#include <functional>

#include "absl/time/time.h"

namespace icepie::server {

struct RestartPolicyOptions {
  absl::Duration first_backoff = absl::Seconds(1);  // of the second failure; the first has none
  absl::Duration backoff_max = absl::Seconds(60);
  double jitter = 0.2;                               // a wait is made longer by up to this share
  absl::Duration healthy_after = absl::Seconds(60);  // a run so long forgets the failures before it
  int failures_max = 10;                             // within `window`: suspended
  absl::Duration window = absl::Minutes(10);
  absl::Duration suspension = absl::Minutes(5);
};

// Of a standby: the last good answers wait for it when the live worker is down, and a client's
// deadline is not a minute. It waits 5 s at most and is never suspended; it applies nothing, so
// that a poison record cannot keep it from starting.
RestartPolicyOptions StandbyRestart(RestartPolicyOptions options);

// Waits 0 s, 1 s, 2 s … 60 s between failures in a row. Ten failures in ten minutes suspend the
// worker for five minutes or until Reset.
//
// Threads: none; the caller's. It never looks at a clock: times are passed in.
class RestartPolicy {
 public:
  // `random` returns numbers in [0, 1).
  RestartPolicy(RestartPolicyOptions options, std::function<double()> random);

  void OnStart(absl::Time now);

  struct Decision {
    absl::Duration delay;  // until the next start
    bool suspended = false;
    bool first = false;  // of those in a row: it had run well
  };
  // The worker ended, could not be started or was killed for not answering.
  Decision OnFailure(absl::Time now);

  // Somebody thawed or changed the domain: the history is forgotten.
  void Reset();

  // Since the daemon's start, and those that were counted before.
  int64_t failures() const { return failures_; }
  void SetFailures(int64_t failures) { failures_ = failures; }

 private:
  absl::Duration Backoff() const;

  RestartPolicyOptions options_;
  std::function<double()> random_;
  std::deque<absl::Time> recent_;  // failures within the window
  absl::Time started_ = absl::InfinitePast();
  int in_a_row_ = 0;
  int64_t failures_ = 0;
};

// The starts after failures of all workers together. When many fail at once, it is rather the host
// than each of them, and starting them all again at once would make it worse for those that are
// well: beyond `burst` starts, one each `interval`. Those that had run well have a line of their
// own: they do not wait for others' crash loops, which may last for days.
//
// Threads: none; the caller's. It never looks at a clock: times are passed in.
class RestartPacer {
 public:
  explicit RestartPacer(int burst = 8, absl::Duration interval = absl::Milliseconds(250))
      : slack_(burst * interval), interval_(interval) {}

  // How long the next start waits; `first` as in RestartPolicy::Decision.
  absl::Duration Next(absl::Time now, bool first);

 private:
  const absl::Duration slack_;
  const absl::Duration interval_;
  // When all starts so far are paid for.
  absl::Time first_ = absl::InfinitePast();
  absl::Time again_ = absl::InfinitePast();
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_RESTART_POLICY_H_
