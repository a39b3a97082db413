// What an operator does about a slice's expectations and bad records: each remedy has an actor and
// a reason, is written to the admin log first, then kept in the catalog, then told to the workers.
#ifndef ICEPIE_SERVER_ADMIN_SLICE_REMEDIES_H_
#define ICEPIE_SERVER_ADMIN_SLICE_REMEDIES_H_

#include <string>

#include "absl/status/statusor.h"
#include "core/core.h"
#include "icepie/v1/admin.pb.h"
#include "server/admin/admin_action.h"
#include "server/admin/event_log.h"
#include "server/domain/catalog.h"
#include "server/domain/domain_manager.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

// Threads: any; every method blocks its caller until the remedy is stored and (for a bounded time)
//   until the live worker has taken it on.
// Errors: those of Admin. What fails has changed nothing.
class SliceRemedies {
 public:
  SliceRemedies(Catalog& catalog, Supervisor& supervisor, DomainManager& manager,
                SliceMemory& memory);

  absl::StatusOr<icepie::v1::ListExpectationResultsResponse> ExpectationResults(
      const icepie::v1::ListExpectationResultsRequest& request) const;
  // Forgets the last error; FAILED_PRECONDITION/STILL_FAILING while it stops the slice.
  absl::StatusOr<icepie::v1::Slice> ClearError(const icepie::v1::ClearSliceErrorRequest& request,
                                               AdminAction& action);
  absl::StatusOr<icepie::v1::Slice> Waive(const icepie::v1::WaiveExpectationRequest& request,
                                          AdminAction& action);

 private:
  // The workers hear of it; returns when the live one has and the slice is not held any more, or
  // after a few seconds.
  absl::StatusOr<icepie::v1::Slice> TellWorkers(const SliceName& name);

  Catalog& catalog_;
  Supervisor& supervisor_;
  DomainManager& manager_;
  const DomainReader& reader_;
  SliceMemory& memory_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_SLICE_REMEDIES_H_
