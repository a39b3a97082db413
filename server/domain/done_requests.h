// Which changes of a slice have been made, by the requests that asked for them. The daemon may end
// between a change and the answer to it (server/admin/request_replay.h), so this is kept in the
// change itself: who asks again is told how things stand, and nothing is done twice.
#ifndef ICEPIE_SERVER_DOMAIN_DONE_REQUESTS_H_
#define ICEPIE_SERVER_DOMAIN_DONE_REQUESTS_H_

#include <string>

#include "absl/time/time.h"
#include "icepie/catalog/v1/catalog.pb.h"

namespace icepie::server {

inline constexpr int kDoneRequestsMax = 64;  // of a slice: the newest

// `digest` is AdminAction::RequestDigest(); one that is empty is never done.
bool IsDone(const icepie::catalog::v1::SliceEntry& slice, const std::string& digest,
            absl::Time now);
void NoteDone(const std::string& digest, absl::Time now, icepie::catalog::v1::SliceEntry& slice);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_DONE_REQUESTS_H_
