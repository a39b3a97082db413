// What an operator asks of slices that run: freeze, thaw, suspend, resume, restart, refresh; of one
// or of all of a domain. What is wanted is stored first and then told to the workers, so it works
// in every state, also with the workers down and while the core takes no change, and holds whatever
// happens to the daemon after the answer.
#ifndef ICEPIE_SERVER_SLICE_CONTROL_H_
#define ICEPIE_SERVER_SLICE_CONTROL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/core.h"
#include "icepie/v1/admin.pb.h"
#include "server/admin_log.h"
#include "server/catalog.h"
#include "server/domain_manager.h"
#include "server/event_log.h"
#include "server/supervisor.h"

namespace icepie::server {

enum class SliceAction { kFreeze, kThaw, kSuspend, kResume, kRestart };

// Threads: any; every method blocks its caller until the change is stored and (for a bounded time)
//   until the live worker has taken it on.
// Errors: those of Admin. What fails has changed nothing.
class SliceControl {
 public:
  SliceControl(Core& core, Catalog& catalog, Supervisor& supervisor, DomainManager& manager,
               EventLog& events);

  // `request` is a FreezeSliceRequest or one of its like: name, reason and actor.
  template <typename Request>
  absl::StatusOr<icepie::v1::Slice> Change(SliceAction action, const Request& request) {
    return ChangeSlice({action, request.actor(), request.reason()}, request.name(), request);
  }
  absl::StatusOr<icepie::v1::ListSlicesResponse> ChangeDomain(
      SliceAction action, const icepie::v1::ChangeDomainRequest& request);

  // Returns when the new rows are published. SAFE_MODE; WORKER_LOST while the live worker is down.
  absl::StatusOr<icepie::v1::Slice> Refresh(const icepie::v1::RefreshSliceRequest& request,
                                            absl::Duration timeout);
  absl::StatusOr<icepie::v1::ListSlicesResponse> RefreshDomain(
      const icepie::v1::ChangeDomainRequest& request, absl::Duration timeout);

  // Starts the domain's workers anew, with the program that is there now: the standby, and when
  // that is ready the live one. ROLL_FAILED says which did not come back; the other goes on.
  absl::StatusOr<icepie::v1::RollWorkersResponse> RollDomain(const std::string& domain);
  // Writes down who rolls what; the domains to roll, by name.
  absl::StatusOr<std::vector<std::string>> BeginRoll(const icepie::v1::RollWorkersRequest& request);

  // Live workers and builds start.
  absl::Status LeaveSafeMode(const icepie::v1::LeaveSafeModeRequest& request);

 private:
  struct Asked {
    SliceAction action;
    std::string actor;
    std::string reason;
  };
  using SliceNames = std::vector<std::string>;

  absl::StatusOr<icepie::v1::Slice> ChangeSlice(const Asked& asked, const std::string& name,
                                                const google::protobuf::Message& request);
  void Log(const std::string& action, const std::string& actor,
           const google::protobuf::Message& request);
  // Stores what is wanted of these slices and tells the workers; the epoch of that.
  absl::StatusOr<int64_t> Store(const Asked& asked, const std::string& domain,
                                const SliceNames& slices);
  void WaitUntilTaken(const Asked& asked, const std::string& domain, const SliceNames& slices,
                      int64_t epoch);
  bool IsTaken(SliceAction action, const DomainView& view, const SliceNames& slices,
               int64_t epoch) const;
  void RestartProcesses(const std::string& domain, int64_t epoch);
  absl::Status RollWorker(const std::string& domain, const std::string& role);
  absl::Status RefreshSlices(const std::string& domain, const SliceNames& slices,
                             absl::Duration timeout);

  Catalog& catalog_;
  Supervisor& supervisor_;
  DomainManager& manager_;
  const DomainReader& reader_;
  AdminLog log_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SLICE_CONTROL_H_
