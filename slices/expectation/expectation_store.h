// Results of expectations on disk: in the manifests of snapshots, and in the hold file that keeps a
// slice HELD over restarts,
//   snapshots/<slice>/g<generation>-held.json   {"position","time_us","expectations"}
// which is there from the check that failed until one passes.
#ifndef ICEPIE_SLICES_EXPECTATION_EXPECTATION_STORE_H_
#define ICEPIE_SLICES_EXPECTATION_EXPECTATION_STORE_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "slices/expectation/expectation.h"

namespace icepie::slices {

nlohmann::json ExpectationsToJson(const std::vector<ExpectationResult>& results);
// Throws nlohmann::json::exception, as the readers of manifests do.
std::vector<ExpectationResult> ExpectationsFromJson(const nlohmann::json& json);

struct ExpectationHold {
  int64_t position = 0;  // of the rows that failed
  absl::Time time;
  std::vector<ExpectationResult> results;
};

// The domain directory's hold file of a generation.
std::string HoldPath(const std::string& directory, const std::string& slice, int64_t generation);
absl::Status WriteHold(const std::string& path, const ExpectationHold& hold);
// nullopt: there is none. A file that cannot be read holds too, with no results.
std::optional<ExpectationHold> ReadHold(const std::string& path);
void RemoveHold(const std::string& path);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_EXPECTATION_EXPECTATION_STORE_H_
