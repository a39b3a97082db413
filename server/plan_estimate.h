// What building a slice is expected to cost, from what earlier builds of the domain have cost, and
// whether a build costs far more than that.
#ifndef ICEPIE_SERVER_PLAN_ESTIMATE_H_
#define ICEPIE_SERVER_PLAN_ESTIMATE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "icepie/v1/admin.pb.h"
#include "icepie/worker/v1/worker.pb.h"
#include "server/catalog.h"

namespace icepie::server {

struct EstimateFacts {
  std::map<std::string, int64_t> stream_records;
  int64_t head_position = 0;
  double positions_per_second = 0;  // of an earlier build; 0: there was none
  int64_t state_bytes = 0;          // of the serving generation's newest snapshot; 0: none
  int64_t memory_limit_bytes = 0;   // the daemon's default
};

icepie::v1::SliceEstimate EstimateBuild(const icepie::worker::v1::PlannedSlice& planned,
                                        const EstimateFacts& facts);

// How fast the last build of the slice went that came to its end, else the last of its domain.
// `operations`: newest first. 0: there was none.
double MeasuredRate(const std::vector<Catalog::Operation>& operations, const std::string& domain,
                    const std::string& slice);

// Of the slice's own last build that came to its end and took a second at least; 0: there was none.
double LastRate(const std::vector<Catalog::Operation>& operations, const std::string& domain,
                const std::string& slice);

// How a build's process has come along.
struct BuildPace {
  int64_t done_records = 0;
  int64_t total_records = 0;
  absl::Duration elapsed;
  absl::Duration cpu_time;
};

constexpr absl::Duration kPaceJudgedAfter = absl::Minutes(1);

// Why the build is not worth waiting for: it goes at under a tenth of `last_rate`. Empty: it is, or
// nobody knows yet: it has not worked for `judged_after`, or has nothing to show. Time in which it
// did not get the processor does not count: a busy machine is nobody's SQL.
std::string TooSlow(const BuildPace& pace, double last_rate,
                    absl::Duration judged_after = kPaceJudgedAfter);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_PLAN_ESTIMATE_H_
