// A record with everything that belongs to it as one line of JSON, for icepie export and import:
//
//   {"stream":"a","position":7,"offset":3,"time":"2026-11-22T02:58:41.5Z","event_time":"…",
//    "key":"k","headers":[{"name":"n","value":"v"}],"payload":{"amount":1.50}}
//
// A JSON payload stands there byte for byte. Bytes that a line of JSON cannot hold as they are (a
// payload of a stream of format bytes or with line ends, a key or a header's value that is not
// UTF-8) are base64 in payload_base64, key_base64, value_base64 instead.
#ifndef ICEPIE_CLI_RECORD_ENVELOPE_H_
#define ICEPIE_CLI_RECORD_ENVELOPE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "icepie/v1/core.pb.h"
#include "slices/reading/json_scan.h"

namespace icepie::cli {

// The line without its end. `json_payload`: the stream's payloads are JSON.
std::string EnvelopeLine(const icepie::v1::Record& record, bool json_payload);

// Its headers as a JSON array, as in the line.
std::string HeadersJson(const icepie::v1::Record& record);

// Reads such lines back. Threads: one at a time.
class EnvelopeReader {
 public:
  EnvelopeReader();

  // Sets payload, key, headers and event time; what the core sets itself is passed over.
  // INVALID_ARGUMENT says which member is wrong.
  absl::Status Read(absl::string_view line, icepie::v1::Record* record);

 private:
  absl::Status ReadBytes(int plain, int base64, const char* name, std::string* out);
  absl::Status ReadPayload(icepie::v1::Record* record);
  absl::Status ReadEventTime(icepie::v1::Record* record) const;

  slices::JsonScanner scanner_;
  const int payload_;
  const int payload_base64_;
  const int key_;
  const int key_base64_;
  const int event_time_;
  const int headers_;
};

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_RECORD_ENVELOPE_H_
