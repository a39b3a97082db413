// How generations of a slice take one another's place: what keeps one from being promoted, where a
// roll back leads, and the edits of the catalog. Pure.
//
// At most one replaced generation of a slice is warm: it goes on applying in the live worker until
// its time is over, so that returning to it is a swap. So is a ready one that is about to serve.
#ifndef ICEPIE_SERVER_DOMAIN_PROMOTION_H_
#define ICEPIE_SERVER_DOMAIN_PROMOTION_H_

#include <cstdint>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "icepie/v1/slices.pb.h"
#include "server/domain/catalog.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

// FAILED_PRECONDITION/PROMOTE_GATE_FAILED.
absl::Status GateError(const std::string& slice, int64_t generation, const std::string& gate,
                       const std::string& why);
// NOT_FOUND/GENERATION_NOT_FOUND.
absl::Status GenerationNotFound(const std::string& slice, int64_t generation);

// The definition that the domain's file has for the slice; null when it has none.
const icepie::catalog::v1::SliceDefinition* FindDefinition(const CatalogDomain& domain,
                                                           const std::string& slice);

// It does not serve, but the live worker applies to it.
bool IsWarm(const icepie::v1::Generation& generation, absl::Time now);

// The live worker applies to a generation of it that is to be promoted.
bool HasPromotion(const CatalogDomain& domain, absl::Time now);

// The generations whose files are still wanted: the serving one, warm ones and a pending one.
std::set<int64_t> GenerationsWithState(const icepie::catalog::v1::SliceEntry& slice,
                                       absl::Time now);

// Drops all but the newest entries of generations that have ended.
void DropHistory(icepie::catalog::v1::SliceEntry& slice, absl::Time now);

// Whether the file limits what may change, so that a row diff is needed.
bool HasLimits(const icepie::v1::PromotePolicy& policy);

// Of a promotion by itself. Gate "columns": none is gone or of another type. Gate "limits": the row
// diff, without what comes of records that the serving generation has in
// quarantine, and the number quarantined now against `promote: {unless: …}`.
absl::Status CheckLimits(const std::string& slice, const icepie::v1::PromotePolicy& policy,
                         const icepie::v1::Generation& generation);

// The generation that is to be promoted (0: the newest READY one), which is READY and was compared
// with the serving one (unless `force`). Gates "ready", and unless `force` "expectations" and
// "base".
absl::StatusOr<int64_t> CheckPromotable(const std::string& slice_name,
                                        const icepie::catalog::v1::SliceEntry& slice,
                                        int64_t requested, bool force);

// ABORTED/ETAG_MISMATCH when another generation serves than the caller saw; 0: not compared.
absl::Status CheckServing(const std::string& slice_name,
                          const icepie::catalog::v1::SliceEntry& slice, int64_t seen);

// Where a roll back leads: `requested`, else the generation that the serving one replaced.
// FAILED_PRECONDITION/ALREADY_SERVING, ROLLBACK_REFUSED for one that has never served, and
// GENERATION_NOT_FOUND when there is none to return to; NOT_FOUND/GENERATION_NOT_FOUND.
absl::StatusOr<int64_t> RollbackTarget(const std::string& slice_name,
                                       const icepie::catalog::v1::SliceEntry& slice,
                                       int64_t requested);

// Who changes what serves, and why.
struct ServeChange {
  std::string actor;
  std::string reason;
  absl::Time now;
  bool rollback = false;
  std::string request_id;
};

// Makes `number` the serving generation. The one before is RETIRED and warm. When the file has
// another definition than a generation that was rolled back to, the slice says so.
void Serve(const CatalogDomain& domain, const ServeChange& change, int64_t number,
           icepie::catalog::v1::SliceEntry& slice);

// What the live worker says of a generation; null when it does not hold it.
const icepie::worker::v1::SliceReport* FindGenerationReport(
    const icepie::worker::v1::WorkerReport* report, const std::string& slice, int64_t generation);

// A generation that stands at `position` is as new as the serving one at `serving`.
bool IsCaughtUp(int64_t position, int64_t serving);

// The live worker's state of `generation` is as new as that of the serving one.
bool HasCaughtUp(const DomainView& view, const std::string& slice, int64_t generation);

// Whether a generation of this definition serves as soon as it is ready.
bool PromotesByItself(icepie::v1::ApplyDomainRequest::Promote asked,
                      const icepie::catalog::v1::SliceDefinition& definition);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_PROMOTION_H_
