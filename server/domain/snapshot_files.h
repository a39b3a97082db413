// The snapshot files of a domain, as far as the daemon deals with them: it never opens one, it
// counts generations, keeps a build's base from vanishing and removes what no generation needs.
//
//   <domain directory>/snapshots/<slice>/g<generation>-p<position, 20 digits>.duckdb (+ .json)
#ifndef ICEPIE_SERVER_DOMAIN_SNAPSHOT_FILES_H_
#define ICEPIE_SERVER_DOMAIN_SNAPSHOT_FILES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace icepie::server {

// The highest generation that has a file, also one that its build has saved on its way; 0 when
// there is none. A new slice that has the name of a deleted one must not take over its snapshots.
int64_t HighestGenerationOnDisk(const std::string& domain_directory, const std::string& slice);

// The generation whose newest snapshot stands furthest, of several the lowest; 0 when there is
// none. Who has lost the note of what serves answers from it: a build that nobody has promoted yet
// does not get ahead of what it is to replace.
int64_t FurthestGenerationOnDisk(const std::string& domain_directory, const std::string& slice);
// The same, if that snapshot is one of this definition; else 0.
int64_t FurthestGenerationOnDisk(const std::string& domain_directory, const std::string& slice,
                                 const std::string& definition_hash);

// Removes the files of the generations that `unwanted` says; missing ones are fine.
void RemoveGenerations(const std::string& domain_directory, const std::string& slice,
                       const std::function<bool(int64_t)>& unwanted);

// The same of what their builds have saved on their way:
//   <domain directory>/unfinished/<slice>/g<generation>/…
void RemoveUnfinished(const std::string& domain_directory, const std::string& slice,
                      const std::function<bool(int64_t)>& unwanted);

// Slices that have a directory, also those that were deleted; and the end of one.
std::vector<std::string> SlicesOnDisk(const std::string& domain_directory);
void RemoveSlice(const std::string& domain_directory, const std::string& slice);

// A renamed slice: gives `to` what `from` has saved, the same files under a second name, unless it
// has something already or there is nothing. All of it appears at once, or nothing: nothing, too,
// where `from` cannot be read as a whole.
absl::Status AdoptSlice(const std::string& domain_directory, const std::string& from,
                        const std::string& to);

// The newest snapshot of a generation, relative to the domain's directory; "" when there is none.
std::string NewestSnapshot(const std::string& domain_directory, const std::string& slice,
                           int64_t generation);

// Keeps a snapshot (its file and manifest) by a second name that nobody cleans up; the path of that
// name, relative to the domain's directory, or "" when the snapshot has gone.
//   <domain directory>/builds/<pin>/<file name>
std::string PinSnapshot(const std::string& domain_directory, const std::string& path,
                        const std::string& pin);
// Names under which snapshots are kept; and the end of one.
std::vector<std::string> PinsOnDisk(const std::string& domain_directory);
void UnpinSnapshot(const std::string& domain_directory, const std::string& pin);

// After a loss of records was accepted: every domain's snapshots of positions beyond `head` hold
// what the core no longer has, and would mix it with what takes its place. They go to
// <domain directory>/beyond_core/<slice>/, where no slice looks; those that builds have saved on
// their way are removed. Returns how many were set aside.
int64_t SetAsideSnapshotsBeyond(const std::string& domains_directory, int64_t head);

// The position in a snapshot's name; -1 when the name is not one.
int64_t SnapshotPosition(const std::string& path);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_SNAPSHOT_FILES_H_
