// Which processes are at work in a domain's tmp/: each locks a file of its own there, so that what
// one left behind that was killed is told from what another is making. Nobody can ask for the
// process itself: the sandbox refuses that, and its number may be another one's by now.
//   process-PID           the locked file
//   snapshot-PID-….…      copies of states under way
//   spill-PID/            what its queries and slices spill
#ifndef ICEPIE_SLICES_ROLE_PROCESS_MARK_H_
#define ICEPIE_SLICES_ROLE_PROCESS_MARK_H_

#include <string>

#include "absl/status/status.h"

namespace icepie::slices {

// Before this process makes anything in `tmp`, which exists: locks its file there until it ends.
// The first time what an earlier process of the same number left is removed. Threads: any.
absl::Status MarkProcess(const std::string& tmp);

// Removes what processes that have ended left in `tmp`. Threads: any.
void RemoveLeftovers(const std::string& tmp);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROLE_PROCESS_MARK_H_
