// Holds the promises against the full record of calls and answers. It knows nothing of the daemon,
// so that tests can show it wrong records.
#ifndef ICEPIE_TESTS_FAULT_CHECKER_H_
#define ICEPIE_TESTS_FAULT_CHECKER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/fault/call_record.h"

namespace icepie::fault {

struct CheckOptions {
  // An answer that says it is fresh has every record that was acknowledged so long before it was
  // asked for.
  absl::Duration fresh_within = absl::Seconds(10);
  // A daemon that was killed is given so long, after it is back, for its clients to find it.
  absl::Duration down_margin = absl::Seconds(1);
  // Answers that are computed again: all of the standby's and this many of the others, chosen by
  // `seed`.
  int64_t recomputed_max = 20000;
  uint32_t seed = 0;
};

struct Breach {
  std::string promise;  // P1 …, of the design
  std::string what;
  absl::Time time;
};

struct Verdict {
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
};

// An error is the reference's own.
absl::StatusOr<Verdict> Check(const CallRecord& record, const CheckOptions& options);

// "fault 17 kill_live payments (signal 9)", the newest that had begun by then.
std::string FaultAt(const CallRecord& record, absl::Time time);

// Milliseconds of calls, apart by what went on meanwhile.
struct Latencies {
  std::vector<double> calm;       // no fault anywhere
  std::vector<double> own;        // a fault of this domain, or of the whole daemon
  std::vector<double> neighbour;  // a fault of another domain only
};
Latencies ReadLatencies(const CallRecord& record);
Latencies AppendLatencies(const CallRecord& record);

// The value below which `share` of them are; 0 without any.
double Percentile(std::vector<double> values, double share);

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_CHECKER_H_
