// Appending over HTTP: POST /v1/streams/{stream}:append. Each line of the body is the payload of a
// record, byte for byte (application/x-ndjson; lines may end with CR LF, empty ones are passed
// over); a body of application/json is one record. A batch is stored whole or not at all, within
// the limits of every append; the header Idempotency-Key is its request_id.
//
//   200 {"first_position":7,"end_position":9,"replayed":false,"ingest_time":"2026-11-22T02:58:41Z",
//        "streams":[{"stream":"orders","first_offset":3,"end_offset":5}]}
#ifndef ICEPIE_SERVER_HTTP_APPEND_BODY_H_
#define ICEPIE_SERVER_HTTP_APPEND_BODY_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "icepie/v1/core.pb.h"
#include "server/http/http_message.h"

namespace icepie::server {

// Appends, and calls the function once, at once or later and from any thread.
using AppendDone = std::function<void(absl::StatusOr<icepie::v1::AppendRecordsResponse>)>;
using AppendSink = std::function<void(icepie::v1::AppendRecordsRequest, AppendDone)>;

// Whether bodies of this type are records. Pages of other sites cannot post them without asking the
// browser, as they can text and forms.
bool IsAppendType(const std::string& content_type);

// The body as records of `stream`. Whether they can be taken is the core's to say.
icepie::v1::AppendRecordsRequest ParseAppend(const std::string& stream, const HttpRequest& request);

HttpAnswer AppendAnswer(const icepie::v1::AppendRecordsResponse& response);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_HTTP_APPEND_BODY_H_
