// What the checks hold against, and what they find.
#ifndef ICEPIE_TESTS_FAULT_VERDICT_H_
#define ICEPIE_TESTS_FAULT_VERDICT_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace icepie::fault {

struct CheckOptions {
  // Other programs are at work: what depends on the machine's speed is counted, and is no breach.
  bool shared_machine = false;
  // An answer that says it is fresh has every record that was acknowledged so long before it was
  // asked for.
  absl::Duration fresh_within = absl::Seconds(10);
  // A daemon that was killed is given so long, after it is back, for its clients to find it.
  absl::Duration down_margin = absl::Seconds(1);
  // Answers that are computed again: all of the standby's and this many of the others, chosen by
  // `seed`.
  int64_t recomputed_max = 20000;
  uint32_t seed = 0;
  // A read that asked for no position takes no longer than this, or than `slow_medians` times the
  // p50 of reads in calm if that is more: the machine is slow then.
  absl::Duration slow_read = absl::Seconds(5);
  double slow_medians = 200;
  // Reads while another domain has a fault, beside those in calm of the same run:
  // `neighbour_factor` times what calm brings is normal, and so is that much beyond it. The slower
  // the machine, the greater is the p50 of calm.
  double neighbour_factor = 3;
  double neighbour_share = 0.002;  // of the answers: stale, or not the live worker's
  int64_t neighbour_count = 5;     // the same, in a short run
  double latency_factor = 1.5;     // of the p99, and
  double latency_medians = 10;     // so many p50 of calm beyond it
  int64_t latency_samples = 500;   // fewer say nothing of a p99
  int64_t neighbour_least = 100;   // reads, and appends: fewer say nothing of neighbours
  // Answers that are back at the standby after the live worker had answered again: so many in a
  // hundred faults.
  double flaps_percent = 5;
  // A run of so many faults of domains must have heard some of their neighbours; a long one must
  // have measured them.
  int heard_faults = 3;
  int measured_faults = 100;
  // From a daemon's start to its first answer.
  absl::Duration restart_p99 = absl::Seconds(2);
};

struct Breach {
  std::string promise;  // P1 …, of the design
  std::string what;
  absl::Time time;
};

struct Verdict {
  void Break(const std::string& promise, std::string what, absl::Time time) {
    breaches.push_back({promise, std::move(what), time});
  }

  std::vector<Breach> breaches;
  int64_t acknowledged = 0;  // records
  int64_t lost = 0;
  int64_t doubled = 0;
  int64_t reads = 0;
  int64_t failed_reads = 0;
  int64_t refused_while_down = 0;  // the daemon itself was not there
  int64_t unreachable = 0;         // min_position that a slice could not reach and said so
  int64_t recomputed = 0;
  int64_t wrong_answers = 0;
  int64_t unmarked_stale = 0;
  int64_t stale_answers = 0;
  int64_t slow_reads = 0;
  int64_t unsent = 0;     // records of the load's streams that nobody sent
  int64_t went_back = 0;  // answers older than what their reader had been shown
  int64_t flaps = 0;      // back to the standby after the live worker had answered again
  int64_t calm_reads = 0;
  int64_t calm_disturbed = 0;   // of these: stale, or not the live worker's
  int64_t neighbour_reads = 0;  // while another domain only had a fault
  int64_t neighbour_stale = 0;
  int64_t neighbour_not_live = 0;
  int64_t neighbour_disturbed = 0;  // one of both
  int64_t neighbour_appends = 0;
  bool neighbours_measured = false;  // enough of both, outside of the machine's stalls
  int64_t neighbour_restarts = 0;    // of workers whose domain had no fault
  int64_t neighbour_silences = 0;    // the same, while the machine had no time for anybody
};

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_VERDICT_H_
