// The etag of an answer: equal etags mean equal bytes and an equal state, so that a client that is
// told "not modified" shows neither old rows nor an old "stale: false".
//
//   W/"<question>-<answerer>-<state>-on_time.g7.c93110+city.g1.c4"
//
// question: hash of the SQL or selection, its parameters and limits. answerer: the live worker's
// incarnation (content versions of different processes do not compare), or the standby. state: hash
// of every slice's state and staleness.
#ifndef ICEPIE_SERVER_QUERY_ETAG_H_
#define ICEPIE_SERVER_QUERY_ETAG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "icepie/v1/slices.pb.h"
#include "icepie/worker/v1/worker.pb.h"

namespace icepie::server {

// Hash of everything in the request that decides which rows it asks for.
std::string QuestionHash(const icepie::v1::QueryRequest& request);

// `incarnation` is the live worker's; 0 for the standby.
std::string MakeEtag(const std::string& question_hash, int64_t incarnation,
                     const icepie::v1::Meta& meta);

// The versions in an etag for the same question from the same live worker; nullopt for any other.
std::optional<std::vector<icepie::worker::v1::SliceVersion>> KnownVersions(
    const std::string& etag, const std::string& question_hash, int64_t incarnation);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_ETAG_H_
