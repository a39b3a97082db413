// What building a slice is expected to cost, from what earlier builds of the domain have cost, and
// whether a build costs far more than that.
#ifndef ICEPIE_SERVER_DOMAIN_PLAN_ESTIMATE_H_
#define ICEPIE_SERVER_DOMAIN_PLAN_ESTIMATE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "icepie/v1/admin.pb.h"
#include "icepie/worker/v1/worker.pb.h"
#include "server/domain/catalog.h"

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

// What a build of the slice that has `total_records` to read may be expected to take: what its own
// last one from the first record on took that came to its end, for as many more as there are by
// now. Zero: there was none.
absl::Duration ExpectedTime(const std::vector<Catalog::Operation>& operations,
                            const icepie::catalog::v1::SliceEntry& slice, int64_t total_records);

constexpr absl::Duration kPaceJudgedAfter = absl::Minutes(10);

// Why a build's process that has worked for `worked` is not worth waiting for: it has taken more
// than ten times what was expected of the whole. Empty: it is, or nobody knows: nothing is
// `expected`, or it has not worked for `judged_after`. The rate on the way tells nothing: where a
// stream has few records, a build passes over millions of positions at once.
std::string TooSlow(absl::Duration worked, absl::Duration expected,
                    absl::Duration judged_after = kPaceJudgedAfter);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_PLAN_ESTIMATE_H_
