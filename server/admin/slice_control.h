// What an operator asks of slices that run: freeze, thaw, suspend, resume, restart, refresh; of one
// or of all of a domain. What is wanted is stored first and then told to the workers, so it works
// in every state, also with the workers down and while the core takes no change, and holds whatever
// happens to the daemon after the answer.
#ifndef ICEPIE_SERVER_ADMIN_SLICE_CONTROL_H_
#define ICEPIE_SERVER_ADMIN_SLICE_CONTROL_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "icepie/v1/admin.pb.h"
#include "server/admin/admin_action.h"
#include "server/domain/catalog.h"
#include "server/domain/desired_change.h"
#include "server/domain/domain_manager.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

// Threads: any; every method blocks its caller until the change is stored and (for a bounded time)
//   until the live worker has taken it on. Each says of its AdminAction when it begins, and goes on
//   when that cannot be recorded: these are the emergency brake.
// Errors: those of Admin. What fails has changed nothing.
class SliceControl {
 public:
  SliceControl(Core& core, Catalog& catalog, Supervisor& supervisor, DomainManager& manager);

  // What the slice showed last is saved when it returns, unless saving fails or takes long: a
  // frozen slice shows the same after any restart.
  absl::StatusOr<icepie::v1::Slice> Freeze(const icepie::v1::FreezeSliceRequest& request,
                                           AdminAction& action);
  // The other verbs. `request` is a ThawSliceRequest or one of its like: name, reason and actor.
  template <typename Request>
  absl::StatusOr<icepie::v1::Slice> Change(SliceAction change, const Request& request,
                                           AdminAction& action) {
    return ChangeSlice({change, request.actor(), request.reason(), {}}, request.name(), action);
  }
  absl::StatusOr<icepie::v1::ListSlicesResponse> ChangeDomain(
      SliceAction change, const icepie::v1::ChangeDomainRequest& request, AdminAction& action);

  // Returns when the new rows are published. SAFE_MODE; WORKER_LOST while the live worker is down.
  absl::StatusOr<icepie::v1::Slice> Refresh(const icepie::v1::RefreshSliceRequest& request,
                                            AdminAction& action, absl::Duration timeout);
  absl::StatusOr<icepie::v1::ListSlicesResponse> RefreshDomain(
      const icepie::v1::ChangeDomainRequest& request, AdminAction& action, absl::Duration timeout);

  // Starts the domain's workers anew, with the program that is there now: the standby, and when
  // that is ready the live one. ROLL_FAILED says which did not come back, and the other goes on; or
  // which slice is HELD or FAULTED now that was not before.
  absl::StatusOr<icepie::v1::RollWorkersResponse> RollDomain(const std::string& domain);
  // The domains to roll, by name.
  absl::StatusOr<std::vector<std::string>> BeginRoll(const icepie::v1::RollWorkersRequest& request,
                                                     AdminAction& action);

  // Live workers and builds start.
  absl::Status LeaveSafeMode(AdminAction& action);

 private:
  using SliceNames = std::vector<std::string>;

  absl::StatusOr<icepie::v1::Slice> ChangeSlice(const SliceVerb& verb, const std::string& name,
                                                AdminAction& action);
  // Stores what is wanted of these slices and tells the workers; the epoch of that.
  absl::StatusOr<int64_t> Store(const SliceVerb& verb, const std::string& domain,
                                const SliceNames& slices);
  void WaitUntilTaken(const SliceVerb& verb, const std::string& domain, const SliceNames& changed,
                      int64_t epoch);
  void WaitUntilSaved(const std::string& domain, const SliceNames& slices, int64_t epoch);
  void RestartProcesses(const std::string& domain, int64_t epoch);
  absl::Status RollBoth(const std::string& domain);
  absl::Status RollWorker(const std::string& domain, const std::string& role);
  absl::Status RefreshSlices(const std::string& domain, const SliceNames& slices,
                             absl::Duration timeout);

  Core& core_;
  Catalog& catalog_;
  Supervisor& supervisor_;
  DomainManager& manager_;
  const DomainReader& reader_;
  Mutex rolling_mutex_;
  std::set<std::string> rolling_ ABSL_GUARDED_BY(rolling_mutex_);  // domains
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_SLICE_CONTROL_H_
