// What building a slice is expected to cost, from what earlier builds of the domain have cost.
#ifndef ICEPIE_SERVER_PLAN_ESTIMATE_H_
#define ICEPIE_SERVER_PLAN_ESTIMATE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

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

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_PLAN_ESTIMATE_H_
