// What icepie export writes.
//
//   jsonl     one payload a line, byte for byte as stored
//   envelope  one line of cli/record_envelope.h for each record
//   parquet   _position, _offset, _time, _event_time, _key (BLOB), _payload (VARCHAR of a stream of
//             format json, else BLOB), _headers (JSON, NULL when there are none)
#ifndef ICEPIE_CLI_EXPORT_FILE_H_
#define ICEPIE_CLI_EXPORT_FILE_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "cli/record_feed.h"

namespace icepie::cli {

struct LineForm {
  bool envelope = false;
  bool json_payload = true;  // the stream's format
};

// Takes every record of `feed`. FAILED_PRECONDITION names the first record whose payload cannot
// stand on a line by itself, and what can hold it.
absl::Status WriteLines(RecordFeed& feed, const LineForm& form, std::ostream& out);

// The same as a Parquet file at `path`, which is replaced; it is not synced.
absl::Status WriteParquet(RecordFeed& feed, bool json_payload, const std::string& path);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_EXPORT_FILE_H_
