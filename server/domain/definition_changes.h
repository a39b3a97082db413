// What applying a domain file would do: the planned slices beside those that serve now.
#ifndef ICEPIE_SERVER_DOMAIN_DEFINITION_CHANGES_H_
#define ICEPIE_SERVER_DOMAIN_DEFINITION_CHANGES_H_

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "icepie/v1/admin.pb.h"
#include "icepie/worker/v1/worker.pb.h"
#include "server/domain/catalog.h"

namespace icepie::server {

// The newest generation that is being built or waits for its promotion; null when there is none.
const icepie::catalog::v1::GenerationEntry* PendingGeneration(
    const icepie::catalog::v1::SliceEntry& slice);

icepie::catalog::v1::SliceDefinition ToDefinition(const icepie::worker::v1::PlannedSlice& planned);

// Makes `change` ROLLED_BACK when the slice was rolled back from this very definition.
void NoteRolledBack(const icepie::catalog::v1::SliceEntry& slice,
                    const icepie::catalog::v1::SliceDefinition& definition,
                    icepie::v1::SliceChange& change);

// FAILED_PRECONDITION/RENAME_REFUSED: a slice that is renamed has another definition, too, or its
// file is not the one that serves. What is built meanwhile would be of the other name.
absl::Status CheckRenames(const CatalogDomain& current,
                          const icepie::worker::v1::PlanDomainResponse& plan);

// Gives the entry of a slice its new name, under which it keeps its generations, desired state,
// waivers and acknowledgements. What is warm beside the serving generation ceases to be so: the
// file that it is built from calls it otherwise.
void Rename(const std::string& to, icepie::catalog::v1::SliceEntry& slice);

// The current file was applied under this request_id, lately: it is asked for again.
bool IsAppliedBy(const CatalogDomain& domain, const std::string& request_id, absl::Time now);

// The file was applied for this very request, and the daemon ended before it had kept the answer;
// then somebody else applied another one, which is not to be lost: ABORTED/ETAG_MISMATCH. OK for a
// request without an id.
absl::Status CheckNotApplied(const CatalogDomain& domain, const std::string& request_id,
                             absl::Time now);

// Hashes are compared as this version's planner makes them: another version may give a definition
// another one though nobody has changed it. The revisions of the domain's file that tell, because
// hashes in `plan` differ from theirs where neither the slice's SQL does nor that of slices that it
// reads.
std::set<int64_t> RevisionsThatTell(const CatalogDomain& current,
                                    const icepie::worker::v1::PlanDomainResponse& plan);

// `earlier`: what the same planner makes of the file of `revision`. Slices of `plan` whose
// definition is the one in that file get the hash that they were applied with.
void KeepHashes(const CatalogDomain& current, int64_t revision,
                const icepie::worker::v1::PlanDomainResponse& earlier,
                icepie::worker::v1::PlanDomainResponse& plan);

// KeepHashes() with each revision that tells, as `plan_file` makes something of its file. A planner
// that did not survive one may have met a machine without memory: it is tried once more. What
// cannot be planned any more tells nothing (the slices are built anew). Other errors are returned.
using FilePlanner = std::function<absl::StatusOr<icepie::worker::v1::PlanDomainResponse>(
    const std::string& file, const std::string& file_name)>;
absl::Status KeepKnownHashes(const CatalogDomain& current, const FilePlanner& plan_file,
                             icepie::worker::v1::PlanDomainResponse& plan);

// One change per slice of the plan, upstream first, then the slices that left the file. A slice
// that was rolled back stays so until the file has another definition for it than the refused one.
// One whose hash stands is UPDATE when nothing else in the file changed either (then the difference
// is in limits, refresh, owner or comments), else UNCHANGED.
std::vector<icepie::v1::SliceChange> CompareDefinitions(
    const CatalogDomain& current, const icepie::worker::v1::PlanDomainResponse& plan,
    const std::string& file);

// How the slice is kept fresh: the strategy, why not a cheaper one, what will run.
void Explain(const icepie::worker::v1::PlannedSlice& planned, icepie::v1::SliceChange& change);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_DEFINITION_CHANGES_H_
