// The etag of an answer: equal etags mean equal bytes and an equal state, so that a client that is
// told "not modified" shows neither old rows nor an old "stale: false".
//
//   W/"<question>-<state>-on_time.g7.c93110+city.g1.c4"
//
// question: hash of the SQL or selection, its parameters and limits. state: hash of every slice's
// state, staleness and source. Content versions are positions of records, and rows are a function
// of them: equal versions of a generation are equal rows, also in another process. An answer that
// shows something else besides (now(), random()) has no etag.
#ifndef ICEPIE_SERVER_QUERY_QUERY_ETAG_H_
#define ICEPIE_SERVER_QUERY_QUERY_ETAG_H_

#include <optional>
#include <string>
#include <vector>

#include "icepie/v1/slices.pb.h"
#include "icepie/worker/v1/worker.pb.h"

namespace icepie::server {

// Hash of everything in the request that decides which rows it asks for.
std::string QuestionHash(const icepie::v1::QueryRequest& request);

std::string MakeEtag(const std::string& question_hash, const icepie::v1::Meta& meta);

// The versions in an etag of the same question; nullopt for any other text.
std::optional<std::vector<icepie::worker::v1::SliceVersion>> KnownVersions(
    const std::string& etag, const std::string& question_hash);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_QUERY_ETAG_H_
